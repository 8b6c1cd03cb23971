"""Which netphys this is, and what an installation may lack."""

from __future__ import annotations

_RECORD_EXTRA = {"torch", "transformers", "safetensors", "tokenizers", "PIL"}


def read_version() -> str:
    """Return the installed version of netphys."""
    from importlib import metadata

    try:
        return metadata.version("netphys")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def explain_missing(error: ModuleNotFoundError) -> str:
    """Return what to install when a package is missing."""
    missing = (error.name or "").partition(".")[0]
    if missing not in _RECORD_EXTRA:
        return str(error)
    return (
        f"recording needs {missing!r}, which is not installed. "
        "Install the recording extra: pip install 'netphys[record]'."
    )
