"""Where the files shipped with netphys are: in the installed package or in a source checkout."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from netphys._check import suggest


def _package_folder(package: str, checkout_name: str) -> Path:
    try:
        where = import_module(package).__file__
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        where = None
    folders = [Path(__file__).resolve().parent.parent / checkout_name]
    if where is not None:
        folders.insert(0, Path(where).parent)
    for folder in folders:
        if (folder / "__init__.py").is_file():
            return folder
    raise FileNotFoundError(
        f"The files of {package} are missing (looked in {folders[-1]}). Install netphys again: "
        "pip install --force-reinstall --no-deps netphys, or run it from a complete checkout."
    )


def shipped_path(*parts: str) -> Path:
    """Return the path of a shipped data file or folder; FileNotFoundError if there is none.

    ``shipped_path("stimuli", "sentences.tsv")`` is ``data/stimuli/sentences.tsv`` of the checkout
    and the same file under ``netphys.shipped`` once installed.
    """
    folder = _package_folder("netphys.shipped", "data")
    path = folder.joinpath(*parts)
    if path.exists():
        return path
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise FileNotFoundError(
        f"{'/'.join(parts)!r} is not among the files shipped with netphys "
        f"(in {folder}).{suggest(path.name, beside)}"
    )


def list_protocols() -> list[str]:
    """Return the names of the shipped protocols, sorted."""
    folder = _package_folder("netphys.protocols", "protocols")
    return sorted(path.stem for path in folder.glob("*.toml"))


def protocol_path(name: str) -> Path:
    """Return the path of the shipped protocol `name`; FileNotFoundError names the others."""
    names = list_protocols()
    if name not in names:
        raise FileNotFoundError(
            f"{name!r} is not a shipped protocol.{suggest(name, names)} "
            f"Shipped protocols: {', '.join(names) or 'none'}. "
            "For a file of your own give its path, which ends in .toml."
        )
    return _package_folder("netphys.protocols", "protocols") / f"{name}.toml"
