"""Download a data set from its origin: verified file by file, never half-written."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from netphys.brain._registry import DataFile, Entry
from netphys.brain._store import import_pooch, is_intact

TIMEOUT = 30.0  # seconds without an answer
STALE = 3600.0  # seconds after which an unfinished download is no longer anybody's
NOTE = "ORIGIN.txt"
PART = ".part-"
logger = logging.getLogger(__name__)


def fetch_files(entry: Entry, folder: Path, *, progress: bool) -> None:
    """Bring every file of a data set into `folder`; files that are there already are kept."""
    pooch = import_pooch()
    logger.info("%s", entry.describe())
    missing = [file for file in entry.files if not is_intact(folder / file.path, file)]
    folder.mkdir(parents=True, exist_ok=True)
    from tqdm.auto import tqdm

    total = sum(file.n_bytes for file in missing)
    show = progress and bool(missing)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc=entry.name, disable=not show)
    try:
        with bar, _staging(folder) as stage, _quiet(pooch):
            for file in missing:
                arrived, target = _download(pooch, file, stage), folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(arrived, target)
                _write_note(entry, folder, stage)
                bar.update(file.n_bytes)
    finally:
        with contextlib.suppress(OSError):  # not empty: something has arrived
            folder.rmdir()
    logger.info("%d files fetched, all %d are in %s.", len(missing), len(entry.files), folder)


def _download(pooch: ModuleType, file: DataFile, stage: Path) -> Path:
    """Return one downloaded and verified file in the staging folder."""
    from requests import exceptions

    again = "What has arrived is kept, and fetching again goes on from there."
    try:
        path = pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=Path(file.path).name,
            path=stage,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT, chunk_size=1 << 16),
        )
    except exceptions.HTTPError as error:
        raise ConnectionError(
            f"{file.url} could not be downloaded: the server answers "
            f"{error.response.status_code} {error.response.reason}. {again}"
        ) from error
    except (exceptions.ConnectionError, exceptions.Timeout) as error:
        raise ConnectionError(
            f"{file.url} could not be reached. Check the network and any proxy, then try again. "
            f"{again}"
        ) from error
    except exceptions.RequestException as error:
        raise ConnectionError(
            f"{file.url} could not be downloaded ({type(error).__name__}). {again}"
        ) from error
    except ValueError as error:  # what arrived is not what the registry names
        raise ValueError(
            f"{file.url} is not the file it was: its SHA-256 differs from {file.sha256[:12]}.... "
            "Nothing of it was kept. Try again; if that does not help, the origin has changed: "
            "report it to netphys."
        ) from error
    return Path(path)


def _write_note(entry: Entry, folder: Path, stage: Path) -> None:
    """Write where the files come from beside them."""
    files = "\n".join(f"{f.sha256}  {f.path}  {f.url}" for f in entry.files)
    text = f"{entry.describe()}\n\nSHA-256, file and address of each file:\n{files}\n"
    (stage / NOTE).write_text(text, encoding="utf-8")
    os.replace(stage / NOTE, folder / NOTE)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give a folder on the same disk for unfinished downloads, and leave none behind."""
    for old in folder.glob(f"{PART}*"):
        if time.time() - old.stat().st_mtime > STALE:  # of a download that was killed
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PART) as stage:
        yield Path(stage)


@contextlib.contextmanager
def _quiet(pooch: ModuleType) -> Iterator[None]:
    """Keep pooch from writing a line per file meanwhile."""
    level = pooch.get_logger().level
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        yield
    finally:
        pooch.get_logger().setLevel(level)
