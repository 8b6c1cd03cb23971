"""One series of a session file: where its bytes lie and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

_BITS = "bits"


@dataclass(frozen=True)
class Series:
    """What is stored of one site in one form.

    Parameters
    ----------
    name : str
        Site, with ``#`` and the form where it is not every sample's value.
    kind, clock : str
        Standard kind, and the samples table that its rows follow.
    dtype : str
        Stored type; "bits" holds eight units in a byte.
    n_rows, n_units : int
        Size as it is read.
    offset : int
        First byte in the file.
    """

    name: str
    kind: str
    clock: str
    dtype: str
    n_rows: int
    n_units: int
    offset: int

    @property
    def site(self) -> str:
        """Name of the site."""
        return self.name.partition("#")[0]

    @property
    def form(self) -> str:
        """Form of its values: "samples", "word.mean", "raster", ..."""
        return self.name.partition("#")[2] or "samples"

    @property
    def n_columns(self) -> int:
        """Stored values in a row."""
        return -(-self.n_units // 8) if self.dtype == _BITS else self.n_units

    @property
    def megabytes(self) -> float:
        """Size of its data in the file."""
        return self.n_rows * self.n_columns * self.stored.itemsize / 1e6

    @property
    def stored(self) -> np.dtype:
        """Numpy type of the bytes in the file."""
        return np.dtype({"bfloat16": "<u2", _BITS: "u1"}.get(self.dtype, self.dtype))

    def map(self, path: Path) -> np.memmap:
        """Return the stored values as a memory map, (row, column)."""
        return np.memmap(path, self.stored, "r", self.offset, (self.n_rows, self.n_columns))

    def decode(self, values: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        """Return stored rows as activations: as they are, or as the numbers that they stand for.

        Parameters
        ----------
        values : ndarray, shape (n_rows, n_columns)
            In the stored type.
        scale : ndarray, shape (n_units,), or None
            What one step of an int8 series stands for.

        Returns
        -------
        values : ndarray, shape (n_rows, n_units)
            bfloat16 and int8 as float32, bits as bool.
        """
        if self.dtype == "bfloat16":
            wide = values.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        if self.dtype == _BITS:
            bits = np.unpackbits(values, axis=1, count=self.n_units, bitorder="little")
            return bits.view(bool)
        if self.dtype == "int8":
            return values * scale.astype(np.float32)
        return values


def read_series(name: str, group: h5py.Group) -> Series:
    """Read what an NWB time series of a session says of itself.

    Parameters
    ----------
    name : str
        Its name.
    group : Group
        ``/acquisition/<name>``.

    Returns
    -------
    series : Series
        With its place in the file.
    """
    data, attributes = group["data"], group.attrs
    dtype = data.dtype.name
    if data.id.get_type().get_size() == 2 and data.dtype.itemsize == 4:
        dtype = "bfloat16"
    if dtype == "uint8":
        dtype = _BITS
    rows, columns = data.shape
    n_units = int(attributes.get("n_units", columns))  # layout 1 has one column per unit
    offset = data.id.get_offset()
    return Series(name, attributes["kind"], attributes["clock"], dtype, rows, n_units, offset)
