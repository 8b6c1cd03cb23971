"""Checksums of batches as rows of a series go by, in any pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xxhash

from netphys.data._packed import read_packed
from netphys.data._parts import read_parts
from netphys.data._series import Series

_PIECE_BYTES = 16 << 20


def compute_bounds(row_batch: np.ndarray, n_batches: int) -> np.ndarray:
    """Return the first row of every batch and the number of rows, from the batch of every row."""
    return np.searchsorted(row_batch, np.arange(n_batches + 1))


class BatchSums:
    """xxh3_64 of each batch's rows; `values` fills as rows are added in order.

    `bounds` gives the first row of every batch, and at its end the number of rows.
    """

    def __init__(self, bounds: np.ndarray):
        self._bounds = bounds
        self._open: dict[int, xxhash.xxh3_64] = {}
        empty = xxhash.xxh3_64_intdigest(b"")
        self.values = np.full(len(bounds) - 1, empty, np.uint64)

    def add(self, row: int, rows: np.ndarray) -> None:
        """Go on with stored rows of which the first is `row`."""
        end = row + len(rows)
        for batch in overlap(self._bounds, row, end):
            low, high = self._bounds[batch], self._bounds[batch + 1]
            part = rows[max(low, row) - row : min(high, end) - row]
            digest = self._open.setdefault(batch, xxhash.xxh3_64())
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
            if end >= high:
                self.values[batch] = self._open.pop(batch).intdigest()


def overlap(bounds: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Return the batches that have rows from `begin` to `end`."""
    return np.flatnonzero((bounds[:-1] < end) & (bounds[1:] > begin) & (bounds[1:] > bounds[:-1]))


def split_rows(series: Series) -> Iterator[tuple[int, int]]:
    """Yield first row and end of pieces that can be read at once, of packed data whole chunks."""
    row_bytes = max(1, series.n_columns * series.stored.itemsize)
    unit = 1 if series.chunk is None else series.chunk[0]
    step = unit * max(1, _PIECE_BYTES // (unit * row_bytes))
    for begin in range(0, series.n_rows, step):
        yield begin, min(begin + step, series.n_rows)


def load_rows(path: Path, series: Series, begin: int, end: int) -> np.ndarray:
    """Read stored rows into memory."""
    if series.chunk is not None:
        return read_packed(path, series, slice(begin, end))
    if series.parts:
        return read_parts(path, series, slice(begin, end), slice(None))
    n = series.n_columns
    at = series.offset + begin * n * series.stored.itemsize
    return np.fromfile(path, series.stored, (end - begin) * n, offset=at).reshape(-1, n)
