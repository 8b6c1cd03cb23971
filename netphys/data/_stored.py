"""A stored series as an array that reads what it is asked for, when it is asked.

It holds no open file and can be sent to other processes: xarray and dask are given it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from netphys.data._packed import read_packed
from netphys.data._parts import read_parts
from netphys.data._series import Series
from netphys.data.nwb_header import SessionFileError, load_digest


class StoredArray:
    """Activations of one series in a file, (row, unit).

    `rows` picks rows (None: all); `scale` is what a step of an int8 series stands for; `digest`
    tells whether the file is still the one that was opened.
    """

    ndim = 2

    def __init__(
        self,
        path: Path,
        digest: bytes,
        series: Series,
        scale: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ):
        self._path, self._digest, self._series = path, digest, series
        self._scale, self._rows = scale, rows
        self.shape = (series.n_rows if rows is None else len(rows), series.n_units)
        none = np.zeros((0, series.n_columns), series.stored)
        self.dtype = series.decode(none, scale).dtype

    @property
    def chunk(self) -> tuple[int, int] | None:
        """Rows and units of a chunk of packed data."""
        chunk = self._series.chunk
        if chunk is not None and self._series.dtype == "bits":
            return chunk[0], 8 * chunk[1]
        return chunk

    def describe(self) -> bytes:
        """Return bytes that differ for arrays with other values."""
        rows = b"all" if self._rows is None else self._rows.tobytes()
        return b"\0".join(
            [str(self._path).encode(), self._digest, repr(self._series).encode(), rows]
        )

    def __getitem__(self, key: tuple) -> np.ndarray:
        """Read rows and units; each key a number, a slice or an array, taken orthogonally."""
        key = key if isinstance(key, tuple) else (key, slice(None))
        parts = [_simplify(k, n) for k, n in zip(key, self.shape, strict=True)]
        values = self._read(*parts)
        return values[tuple(0 if np.ndim(k) == 0 and _is_number(k) else slice(None) for k in key)]

    def _read(self, rows: slice | np.ndarray, units: slice | np.ndarray) -> np.ndarray:
        if load_digest(self._path) != self._digest:
            raise SessionFileError(
                f"{self._path} was replaced since it was opened. Open it again: open_session(path)."
            )
        if self._rows is not None:
            rows = _shorten(self._rows[rows])
        if self._series.dtype == "bits":
            return self._read_bits(rows, units)
        scale = None if self._scale is None else self._scale[units]
        return self._series.decode(self._load(rows, units), scale)

    def _read_bits(self, rows: slice | np.ndarray, units: slice | np.ndarray) -> np.ndarray:
        """Return events, of bytes that hold a unit asked for."""
        if isinstance(units, slice):
            first = units.start // 8
            values = self._load(rows, slice(first, -(-units.stop // 8)))
            bits = np.unpackbits(values, axis=1, bitorder="little").view(bool)
            return bits[:, units.start - 8 * first : units.stop - 8 * first]
        columns, place = np.unique(units // 8, return_inverse=True)
        values = self._load(rows, columns)[:, place]
        return (values >> (units % 8).astype(np.uint8) & 1).view(bool)

    def _load(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        """Return stored values in memory of their own."""
        series = self._series
        if series.chunk is not None:
            return read_packed(self._path, series, rows, columns)
        if series.parts:
            return read_parts(self._path, series, rows, columns)
        whole = isinstance(columns, slice) and columns == slice(0, series.n_columns)
        if whole and isinstance(rows, slice):
            shape = (rows.stop - rows.start, series.n_columns)
            at = series.offset + rows.start * shape[1] * series.stored.itemsize
            return np.fromfile(self._path, series.stored, shape[0] * shape[1], offset=at).reshape(
                shape
            )
        return np.array(series.map(self._path)[rows][:, columns])


class LazyArray(BackendArray):
    """What xarray is given in place of values, so that it reads only what is used."""

    def __init__(self, stored: StoredArray):
        self._stored = stored
        self.shape, self.dtype = stored.shape, stored.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        """Read what an indexer of xarray selects."""
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(
            key, self.shape, support, self._stored.__getitem__
        )


def make_lazy(stored: StoredArray) -> indexing.LazilyIndexedArray:
    """Return the data of a DataArray that reads its file only when its values are used."""
    return indexing.LazilyIndexedArray(LazyArray(stored))


def _is_number(key: object) -> bool:
    return isinstance(key, int | np.integer)


def _simplify(key: object, size: int) -> slice | np.ndarray:
    """Return a key as a slice of step 1 with both ends, or as an array of indices."""
    if _is_number(key):
        key = int(key) + (size if key < 0 else 0)
        if not 0 <= key < size:
            raise IndexError(f"index {key} is out of range for an axis of {size}.")
        return slice(key, key + 1)
    if isinstance(key, slice):
        begin, end, step = key.indices(size)
        return slice(begin, max(begin, end)) if step == 1 else np.arange(begin, end, step)
    key = np.asarray(key)
    if key.dtype == bool:
        return np.flatnonzero(key)
    return np.where(key < 0, key + size, key)


def _shorten(rows: np.ndarray) -> slice | np.ndarray:
    """Return consecutive rows as a slice."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows if len(rows) else slice(0, 0)
