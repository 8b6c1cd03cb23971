"""A stored series as a dask array in blocks of bounded size."""

from __future__ import annotations

import hashlib

import numpy as np

from netphys._version import explain_missing
from netphys.data._stored import StoredArray


def make_dask(stored: StoredArray, chunk_mb: float):
    """Return a dask array of a series; every task opens the file for itself."""
    try:
        import dask.array as da
    except ModuleNotFoundError as error:
        raise ImportError(explain_missing(error), name=error.name) from error
    name = "netphys-" + hashlib.sha256(stored.describe()).hexdigest()[:32]
    chunks = _choose_blocks(stored, chunk_mb * 1e6)
    meta = np.empty((0, 0), stored.dtype)
    return da.from_array(stored, chunks=chunks, name=name, asarray=False, fancy=False, meta=meta)


def _choose_blocks(stored: StoredArray, limit: float) -> tuple[int, int]:
    """Return rows and units of a block: all units, but where chunks of the file hold a few."""
    (n_rows, n_units), size = stored.shape, stored.dtype.itemsize
    step, width = 1, n_units
    if stored.chunk is not None:  # whole chunks, so that none is unpacked twice
        step, width = stored.chunk
    rows = step * max(1, int(limit / (size * step * n_units)))
    if width >= n_units or rows * n_units * size <= limit:
        return min(rows, max(n_rows, 1)), n_units
    return min(step, max(n_rows, 1)), min(
        n_units, width * max(1, int(limit / (size * step * width)))
    )
