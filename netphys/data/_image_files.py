"""Read one image file as an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_image(path: Path) -> np.ndarray:
    """Return a .npy file as it is, any other image as uint8 (height, width, 3)."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        from PIL import Image

        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, EOFError, ValueError) as error:  # PIL's own errors are among these
        raise ValueError(f"stim_file={str(path)!r} is not a readable image ({error}).") from error
