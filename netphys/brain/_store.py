"""Where the files of a data set are on this machine, and that they are what they must be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from netphys._shipped import shipped_path
from netphys.brain._registry import DataFile, Entry

VARIABLE = "NETPHYS_DATA"


def import_pooch() -> ModuleType:
    """Return pooch, or raise an ImportError that names the extra."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ImportError(
            f"data sets are fetched and found with {error.name!r}, which is not installed. Install "
            f"the brain extra: pip install 'netphys[brain]'; or let {VARIABLE} name a folder that "
            "holds them.",
            name=error.name,
        ) from error
    return pooch


def find_cache() -> Path:
    """Return the folder in which fetched data sets are kept."""
    return Path(import_pooch().os_cache("netphys"))


def find_folder(entry: Entry) -> Path:
    """Return the folder of a data set; FileNotFoundError says how to get it."""
    if entry.shipped:
        return shipped_path("brains")
    given = os.environ.get(VARIABLE)
    if given:
        if not Path(given).expanduser().is_dir():
            raise FileNotFoundError(
                f"{VARIABLE}={given!r} is no folder. Let it name the folder that holds data sets "
                "(each in a folder of its name), or unset it."
            )
        folder = Path(given).expanduser() / entry.name
        if folder.is_dir():
            return folder
    folder = find_cache() / entry.name
    if not folder.is_dir():
        places = f"{folder}, nor in {VARIABLE}={given}" if given else str(folder)
        raise FileNotFoundError(_explain_missing(entry, f"is not on this machine ({places})"))
    return folder


def read_files(entry: Entry, folder: Path, paths: Iterable[str] | None = None) -> dict[str, bytes]:
    """Return the content of files of a data set, all of them verified."""
    wanted = None if paths is None else set(paths)
    files = [f for f in entry.files if wanted is None or f.path in wanted]
    return {file.path: _read(entry, folder, file) for file in files}


def is_intact(path: Path, file: DataFile) -> bool:
    """Return whether a file is there and holds what it must hold."""
    return path.is_file() and _matches(path.read_bytes(), file)


def compute_digest(entry: Entry, paths: Iterable[str]) -> str:
    """Return one SHA-256 for a choice of files: that of the lines ``<sha256>  <path>``."""
    wanted = set(paths)
    lines = [f"{f.sha256}  {f.path}\n" for f in entry.files if f.path in wanted]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read(entry: Entry, folder: Path, file: DataFile) -> bytes:
    path = folder / file.path
    if not path.is_file():
        given = os.environ.get(VARIABLE)
        into = given if given and folder == Path(given).expanduser() / entry.name else None
        raise FileNotFoundError(_explain_missing(entry, f"is incomplete: {path} is missing", into))
    content = path.read_bytes()
    if not _matches(content, file):
        again = (
            "Install netphys again"
            if entry.shipped
            else f"Delete it, run `netphys fetch {entry.name}` and unset {VARIABLE} if it is set"
        )
        raise ValueError(
            f"{path} is not the file of the data set {entry.name!r}: its SHA-256 is "
            f"{hashlib.sha256(content).hexdigest()[:12]}..., expected {file.sha256[:12]}.... "
            f"{again}."
        )
    return content


def _matches(content: bytes, file: DataFile) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256


def _explain_missing(entry: Entry, what: str, into: str | None = None) -> str:
    if entry.shipped:
        return f"data set {entry.name!r} {what}. Install netphys again."
    folder = f" --folder {into}" if into else ""
    return (
        f"data set {entry.name!r} {what}. To download it ({entry.n_bytes / 1e6:.1f} MB): netphys "
        f"fetch {entry.name}{folder}. Licence: {entry.licence}."
    )
