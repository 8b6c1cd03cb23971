"""``python -m netphys``: the same as the command ``netphys``."""

from __future__ import annotations

import sys

from netphys.cli import main

if __name__ == "__main__":
    sys.exit(main())
