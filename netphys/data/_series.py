"""One series of a session file: where its bytes lie and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

_BITS = "bits"
_SHUFFLE, _ZSTD = h5py.h5z.FILTER_SHUFFLE, 32015


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
        First byte in the file; -1 where the data are packed.
    chunk : (int, int), optional
        Rows and columns of a chunk of packed data.
    parts : tuple
        Of a joined session, where its rows lie in other files; see `netphys.data._parts`.
    """

    name: str
    kind: str
    clock: str
    dtype: str
    n_rows: int
    n_units: int
    offset: int
    chunk: tuple[int, int] | None = None
    parts: tuple = ()

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


def read_series(name: str, group: h5py.Group, joined: Mapping | None = None) -> Series:
    """Read what an NWB time series of a session says of itself.

    Parameters
    ----------
    name : str
        Its name.
    group : Group
        ``/acquisition/<name>``.
    joined : dict, optional
        What the provenance of a joined session says of its parts.

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
    elsewhere = data.chunks or data.is_virtual
    chunk, offset = data.chunks, -1 if elsewhere else data.id.get_offset()
    if chunk and _list_filters(data) not in ([_ZSTD], [_SHUFFLE, _ZSTD]):
        raise KeyError(f"the data of {name} are compressed in another way than netphys does")
    kind, clock = attributes["kind"], attributes["clock"]
    parts = _list_parts(joined, name, get_text(clock)) if joined and data.is_virtual else ()
    return Series(name, kind, clock, dtype, rows, n_units, offset, chunk, parts)


def _list_parts(manifest: Mapping, name: str, clock: str) -> tuple:
    """Return file, size, digest, first row, end, and offset in the part, of each part's rows."""
    return tuple(
        (p["file"], p["bytes"], p["digest"], *p["rows"][clock], p["offsets"][name])
        for p in manifest["parts"]
    )


def _list_filters(data: h5py.Dataset) -> list[int]:
    made = data.id.get_create_plist()
    return [made.get_filter(i)[0] for i in range(made.get_nfilters())]


def find_scale(units: pd.DataFrame) -> np.ndarray | None:
    """Return what a step of an int8 series stands for, from its table of units."""
    return units["scale"].to_numpy() if "scale" in units else None


def load_table(group: h5py.Group) -> pd.DataFrame:
    """Read a DynamicTable as a DataFrame, columns in their order, without its id column."""
    columns = {}
    for name in group.attrs["colnames"]:
        data = group[get_text(name)]
        columns[get_text(name)] = data.asstr()[:] if data.dtype.kind == "O" else data[:]
    return pd.DataFrame(columns)


def get_text(value: bytes | str) -> str:
    """Return what HDF5 holds as text, which h5py gives in two kinds."""
    return value.decode() if isinstance(value, bytes) else str(value)
