"""Series whose data lie in other session files: the parts of a joined session.

HDF5 reads a virtual dataset whose source is missing as fill values, without an error. So the parts
are compared with the joined file's manifest before anything is read, and netphys reads them itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from netphys.data._series import Series
from netphys.data.nwb_header import SessionFileError, load_digest


def check_parts(path: Path, manifest: Mapping) -> None:
    """Raise SessionFileError naming the first part that is missing, or is not the one joined."""
    for part in manifest["parts"]:
        _check_part(path, part["file"], part["bytes"], bytes.fromhex(part["digest"]))


def _check_part(path: Path, name: str, n_bytes: int, digest: bytes) -> Path:
    """Return where a part is."""
    where = path.parent / name
    if not where.is_file():
        raise SessionFileError(
            f"{path} has its data in {name!r}, which is not there ({where}). Put it back beside "
            "the joined file, or join its parts again: netphys join."
        )
    if os.path.getsize(where) != n_bytes or load_digest(where) != digest:
        raise SessionFileError(
            f"{path} has its data in {name!r}, but {where} was changed or replaced since they were "
            "joined. Restore it, or join its parts again: netphys join."
        )
    return where


def read_parts(
    path: Path, series: Series, rows: slice | np.ndarray, columns: slice | np.ndarray
) -> np.ndarray:
    """Return stored values of a joined series, (row, column); each key unit-step or an array."""
    path, whole = Path(path), np.arange(series.n_columns)
    index = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    out = np.empty((len(index), len(whole[columns])), series.stored)
    for name, n_bytes, digest, begin, end, offset in series.parts:
        mine = (index >= begin) & (index < end)
        if not mine.any():
            continue
        where = _check_part(path, name, n_bytes, bytes.fromhex(digest))
        shape = (end - begin, series.n_columns)
        stored = np.memmap(where, series.stored, "r", offset, shape)
        if isinstance(rows, slice):
            low, high = max(rows.start, begin) - begin, min(rows.stop, end) - begin
            out[mine] = stored[low:high, columns]
        else:
            out[mine] = stored[index[mine] - begin][:, columns]
    return out
