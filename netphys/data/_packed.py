"""Chunks of a packed series: shuffled and compressed with zstd, read and written outside HDF5.

HDF5 runs its filters one after the other inside one lock. Here chunks are taken from the file as
they are and unpacked on all cores; a damaged one never reaches a filter of the HDF5 library. Every
frame carries its size and a checksum of its content.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from netphys._version import explain_missing
from netphys.data._series import Series
from netphys.data.nwb_header import SessionFileError

ZSTD = 32015  # number of the filter among those registered with the HDF Group
_WHOLE = slice(None)
T, U = TypeVar("T"), TypeVar("U")


def load_zstandard():
    """Return the module zstandard, or say what to install."""
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ImportError(explain_missing(error), name=error.name) from error
    return zstandard


def pack_chunk(values: np.ndarray, level: int) -> bytes:
    """Return a chunk as HDF5's shuffle and zstd filters would store it, with a checksum."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if values.itemsize > 1:
        raw = np.ascontiguousarray(raw.reshape(-1, values.itemsize).T)
    zstandard = load_zstandard()
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw.data)


def unpack_chunk(frame: bytes, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return the values of a chunk; ValueError if it is damaged."""
    zstandard = load_zstandard()
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    try:  # the size that a frame claims is checked before memory is taken for it
        if zstandard.frame_content_size(frame) != n_bytes:
            raise ValueError("a chunk has another size than it should")
        raw = zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    values = np.frombuffer(raw, np.uint8)
    if dtype.itemsize > 1:
        values = np.ascontiguousarray(values.reshape(dtype.itemsize, -1).T)
    return values.reshape(-1).view(dtype).reshape(shape)


def read_packed(
    path: Path, series: Series, rows: slice | np.ndarray = _WHOLE, columns=_WHOLE
) -> np.ndarray:
    """Return stored values of a packed series, (row, column); each key unit-step or an array.

    SessionFileError if a chunk that is needed is damaged.
    """
    row_runs, n_rows = _split(rows, series.n_rows, series.chunk[0])
    column_runs, n_columns = _split(columns, series.n_columns, series.chunk[1])
    out = np.empty((n_rows, n_columns), series.stored)

    def place(job: tuple) -> None:
        (row, take_rows, put_rows), (_, take_columns, put_columns), frame = job
        try:
            chunk = unpack_chunk(frame, series.chunk, series.stored)
        except ValueError as error:
            raise SessionFileError(
                f"{path}: the data of {series.name} are damaged near row {row} ({error}). "
                "`netphys verify` lists what is. Pack the recording again."
            ) from None
        if isinstance(take_rows, slice) and isinstance(take_columns, slice):
            out[put_rows, put_columns] = chunk[take_rows, take_columns]
        else:
            out[np.ix_(_list(put_rows), _list(put_columns))] = chunk[
                np.ix_(_list(take_rows), _list(take_columns))
            ]

    with h5py.File(path, "r") as file:
        data = file[f"acquisition/{series.name}/data"].id

        def read() -> Iterator[tuple]:
            for row_run in row_runs:
                for column_run in column_runs:
                    frame = _read_frame(path, series, data, (row_run[0], column_run[0]))
                    yield row_run, column_run, frame

        for _ in map_ahead(place, read(), len(row_runs) * len(column_runs)):
            pass
    return out


def _read_frame(path: Path, series: Series, data: h5py.h5d.DatasetID, where: tuple) -> bytes:
    """Return a chunk as it lies in the file."""
    try:
        if data.get_chunk_info_by_coord(where).byte_offset is None:
            raise OSError("it was never written")
        return data.read_direct_chunk(where)[1]
    except (OSError, RuntimeError) as error:
        raise SessionFileError(
            f"{path}: a chunk of {series.name} cannot be read ({error}). Copy the file again from "
            "the origin."
        ) from error


def _split(key: slice | np.ndarray, size: int, step: int) -> tuple[list[tuple], int]:
    """Divide a key into parts, one per chunk: its first index, what to take, where to put it."""
    if isinstance(key, slice):
        begin, end, _ = key.indices(size)
        end = max(begin, end)
        runs = []
        for first in range(begin // step * step, end, step):
            low, high = max(begin, first), min(end, first + step)
            runs.append((first, slice(low - first, high - first), slice(low - begin, high - begin)))
        return runs, end - begin
    runs, chunk = [], key // step
    for number in np.unique(chunk):
        put = np.flatnonzero(chunk == number)
        runs.append((int(number) * step, key[put] - number * step, put))
    return runs, len(key)


def _list(key: slice | np.ndarray) -> np.ndarray:
    return np.arange(key.start, key.stop) if isinstance(key, slice) else key


def map_ahead(function: Callable[[T], U], jobs: Iterable[T], n_jobs: int) -> Iterator[U]:
    """Call a function on every job, on all cores, a few jobs ahead; yield results in order."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n == 1 or n_jobs < 2:
        yield from map(function, jobs)
        return
    waiting: deque = deque()
    with ThreadPoolExecutor(n) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > 2 * n:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # Ctrl-C too: what has not begun will not
            pool.shutdown(wait=False, cancel_futures=True)
            raise
