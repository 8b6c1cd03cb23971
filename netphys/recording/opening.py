"""The file of a recording: made whole before the first sample, or opened where a run was cut."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netphys.data._files import FileLock, sync_folder
from netphys.data._session_online import read_checkpoints
from netphys.data.nwb_header import is_session
from netphys.data.nwb_layout import (
    FileLayout,
    SessionSpec,
    compute_data_bytes,
    load_layout,
    save_structure,
)
from netphys.data.online_state import Checkpoint
from netphys.data.session import open_session
from netphys.recording.provenance import check_same
from netphys.recording.ranks import Ranks


class OpenFile(NamedTuple):
    """A session file that a run writes.

    Parameters
    ----------
    layout : FileLayout
        Where its bytes lie.
    done : ndarray of bool, shape (n_batches,)
        Batches that are committed.
    checkpoint : Checkpoint or None
        States of the online statistics of an interrupted run.
    """

    layout: FileLayout
    done: np.ndarray
    checkpoint: Checkpoint | None


def check_target(path: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a path that must not be written.

    Parameters
    ----------
    path : Path
        File to make.
    resume, overwrite : bool
        As for `record`.

    Raises
    ------
    IsADirectoryError, FileExistsError
        With what to do instead.
    """
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder. Give a file name in it.")
    if overwrite and path.exists() and not is_session(path):
        raise FileExistsError(
            f"path={str(path)!r} is no netphys session and is not overwritten. "
            "Choose another path, or remove the file yourself."
        )
    if path.exists() and not (resume or overwrite):
        raise FileExistsError(
            f"path={str(path)!r} exists. Choose another path, go on with resume=True, or replace "
            "it with overwrite=True."
        )


def open_together(
    path: Path, spec: SessionSpec, ranks: Ranks, resume: bool, overwrite: bool
) -> OpenFile:
    """Make or open the file in the first rank, then open it in the others.

    Parameters
    ----------
    path : Path
        The file.
    spec : SessionSpec
        What it is to hold.
    ranks : Ranks
        Who writes it; keeps a lock until all have left.
    resume, overwrite : bool
        As for `record`.

    Returns
    -------
    opened : OpenFile
        For this rank.

    Raises
    ------
    BlockingIOError
        If another process is writing this file.
    ValueError
        If the file to resume was made in another way.
    OSError
        If the disk is full or read-only.
    """
    if ranks.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = ranks.kept.enter_context(FileLock(path))
        found = _open_file(path, spec, resume, overwrite)
        if ranks.size > 1:
            lock.share()
    ranks.wait("made")
    if not ranks.is_first:
        ranks.kept.enter_context(FileLock(path, shared=True))
        found = _open_again(path, spec, ranks.rank)
    ranks.wait("opened")  # nobody commits before all have read which batches are done
    return found


def _open_file(path: Path, spec: SessionSpec, resume: bool, overwrite: bool) -> OpenFile:
    """Make the file, or find out what an unfinished one still lacks."""
    check_target(path, resume, overwrite)  # again, now that nobody else can write
    if resume and path.exists():
        return _open_again(path, spec, 0)
    need, free = compute_data_bytes(spec), shutil.disk_usage(path.parent).free
    if need > free:
        raise OSError(
            errno.ENOSPC,
            f"path={str(path)!r}: the recording takes {need / 1e6:,.1f} MB, the disk has "
            f"{free / 1e6:,.1f} MB. Free some space, choose fewer sites, or store dtype='float16'.",
        )
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # left by a run that was killed while making it
    try:
        layout = save_structure(fresh, spec)
        os.replace(fresh, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and "errno = 28" in str(error):  # as HDF5 puts it
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise
    return OpenFile(layout, np.zeros(spec.n_batches, bool), None)


def _open_again(path: Path, spec: SessionSpec, rank: int) -> OpenFile:
    """Find out what a file lacks that was made in just this way, now or before."""
    session = open_session(path)
    check_same(session, spec)
    if session.complete:  # whatever its layout: nothing will be written
        return OpenFile(FileLayout({}, -1, -1, -1), session.commits, None)
    states = read_checkpoints(path, session.provenance)
    return OpenFile(load_layout(path), session.commits, states[rank] if states else None)
