"""Which netphys this is, and what an installation may lack."""

from __future__ import annotations

_EXTRAS = {  # package: what needs it, and the extra that brings it
    **dict.fromkeys(
        ("torch", "transformers", "safetensors", "tokenizers", "PIL"), ("recording", "record")
    ),
    **dict.fromkeys(("hdf5plugin", "zstandard"), ("a packed session", "pack")),
    "ripser": ("persistent homology beyond degree 0", "topology"),
    "rsatoolbox": ("exchange with rsatoolbox", "rsatoolbox"),
    "accelerate": ("device_map=", "sharded"),
    **dict.fromkeys(("dask", "distributed"), ("Session.to_dask", "dask")),
}


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
    if missing not in _EXTRAS:
        return str(error)
    what, extra = _EXTRAS[missing]
    return (
        f"{what} needs {missing!r}, which is not installed. "
        f"Install the extra {extra!r}: pip install 'netphys[{extra}]'."
    )
