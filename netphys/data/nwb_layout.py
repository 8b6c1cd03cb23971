"""Make the complete structure of a session file before the first sample is recorded.

pynwb writes a valid NWB file with one-value placeholders; the placeholders of everything that a
recording fills in are then replaced by contiguous, early-allocated, never-filled datasets of the
full size on 4,096-byte boundaries. After that the bytes have fixed offsets, and a writer needs no
HDF5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from netphys.data._files import reserve_space
from netphys.data.nwb_header import BLOCK, compute_block_size, save_header

COMMIT = "scratch/netphys_commit"
PROVENANCE = "scratch/netphys_provenance"
COUNTS = "scratch/netphys_counts"
CHECKSUMS = "scratch/netphys_checksum"
STATE = "scratch/netphys_online_state"
PACKED = "scratch/netphys_packed"
COUNT_NAMES = ("nonfinite", "overflow")
STORED_DTYPES = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "int32": 4,
    "bits": 1,
}


@dataclass(frozen=True)
class SeriesSpec:
    """What the file holds of one site in one form.

    Parameters
    ----------
    name : str
        Name of the site, with ``#`` and the form where it is not every sample's value.
    kind : str
        Standard kind ("resid", "mlp", ...) or "module".
    clock : str
        Name of the samples table that its rows follow.
    dtype : str
        Stored type: one of STORED_DTYPES; "bits" holds eight units in a byte.
    units : DataFrame
        One row per unit: layer, index, label and what locates it (head, key, channel, y, x).
    """

    name: str
    kind: str
    clock: str
    dtype: str
    units: pd.DataFrame

    @property
    def site(self) -> str:
        """Name of the site."""
        return self.name.partition("#")[0]

    @property
    def form(self) -> str:
        """In which form its values are stored: "samples", "word.mean", "raster", ..."""
        return self.name.partition("#")[2] or "samples"

    @property
    def n_columns(self) -> int:
        """Number of stored values in a row."""
        return -(-len(self.units) // 8) if self.dtype == "bits" else len(self.units)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.n_columns * STORED_DTYPES[self.dtype]


@dataclass(frozen=True)
class TableSpec:
    """An online statistic's table: its place is made before the first sample, filled at the end.

    Parameters
    ----------
    name : str
        Name of the site, ``#`` and the name of the statistic.
    description : str
        What it is, for people.
    columns : dict of str to (tuple of int, str)
        Shape (rows first) and numpy type of each column.
    """

    name: str
    description: str
    columns: Mapping[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class SessionSpec:
    """Everything that is known of a session before its first sample.

    Parameters
    ----------
    series : tuple of SeriesSpec
        What is stored of the recorded sites.
    trials : DataFrame
        One row per trial in order of recording, with start_time and stop_time in seconds.
    samples : dict of str to DataFrame
        One table per clock, a row per sample in order of recording.
    times : dict of str to float or ndarray
        Per clock its rate in samples per second, or the time stamp of every sample in seconds.
    n_batches : int
        Number of planned batches.
    provenance : dict
        JSON-ready record of how the session is made.
    title, subject, subject_description : str
        Free text for the NWB header.
    descriptions : dict of str to str
        What the columns of the tables mean.
    tables : tuple of TableSpec
        Tables of the online statistics.
    state : (int, int)
        Number and bytes of the slots for the states of online statistics; (0, 0) without any.
    units : dict of str to DataFrame
        Units of the sites of which no series holds every sample.
    """

    series: tuple[SeriesSpec, ...]
    trials: pd.DataFrame
    samples: Mapping[str, pd.DataFrame]
    times: Mapping[str, float | np.ndarray]
    n_batches: int
    provenance: Mapping
    title: str
    subject: str
    subject_description: str
    descriptions: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[TableSpec, ...] = ()
    state: tuple[int, int] = (0, 0)
    units: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class FileLayout:
    """Where a writer puts the bytes of a session.

    Parameters
    ----------
    series : dict of str to int
        Offset of the first byte of each series' data.
    commit : int
        Offset of the commit bytes.
    counts : int
        Offset of the counters: int64, (batch, series, counter).
    checksums : int
        Offset of the checksums: uint64, (batch, series).
    state : int
        Offset of the states of online statistics: uint8, (slot, byte); -1 without any.
    tables : dict of str to dict of str to int
        Per table of an online statistic the offset of each column.
    """

    series: Mapping[str, int]
    commit: int
    counts: int
    checksums: int
    state: int = -1
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def check_site_name(name: str) -> None:
    """Refuse a site name that NWB tools could not read back.

    Parameters
    ----------
    name : str
        Site name.

    Raises
    ------
    ValueError
        If it is empty or holds ``/`` or ``:``, which are illegal in NWB object names.
    """
    if not name or "/" in name or ":" in name:
        raise ValueError(
            f"site={name!r} cannot name an NWB object: '/' and ':' are illegal there. "
            "Rename the module of the model (a name without these characters)."
        )


def save_structure(
    path: Path,
    spec: SessionSpec,
    *,
    sources: Mapping[str, Sequence[tuple[str, int, int]]] | None = None,
) -> FileLayout:
    """Write the finished structure of a session to a new file, with its space reserved.

    Parameters
    ----------
    path : Path
        File to make; it must not exist.
    spec : SessionSpec
        What the session will hold.
    sources : dict of str to sequence of (str, int, int), optional
        Other sessions that hold the data, per series: the file, relative to the folder of this one,
        its first row here and the row after its last. No space is taken for the data then.

    Returns
    -------
    layout : FileLayout
        Offsets for the writer; of series with space of their own.

    Raises
    ------
    OSError
        If the disk is full or read-only.
    """
    for series in spec.series:
        check_site_name(series.name)
    n_columns = sum(len(t.columns) for t in spec.tables)
    block = compute_block_size(len(spec.series) + n_columns + 4)
    aligned = {"alignment_threshold": BLOCK, "alignment_interval": BLOCK}
    with h5py.File(path, "x", userblock_size=block, **aligned) as file:
        _write_nwb(file, spec)
    with h5py.File(path, "r+", alignment_threshold=1, alignment_interval=BLOCK) as file:
        data = {}
        for series in spec.series:
            if sources is None:
                data[series.name] = _allocate_series(file, spec, series)
            else:
                _refer(file, spec, series, sources[series.name])
        other = {path: _allocate(file, path, *what) for path, what in _list_mutable(spec).items()}
    with open(path, "r+b") as file:
        reserve_space(file.fileno(), os.fstat(file.fileno()).st_size)
        for offset, length in other.values():  # allocated bytes may hold anything: start from 0
            file.seek(offset)
            file.write(bytes(length))
    save_header(path, block, [*data.values(), *other.values()], other[COMMIT])
    return _make_layout({n: r[0] for n, r in data.items()}, {p: r[0] for p, r in other.items()})


def _list_mutable(spec: SessionSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of everything that a recording fills in beside the activations."""
    n, k = spec.n_batches, len(spec.series)
    found: dict[str, tuple[tuple[int, ...], str]] = {
        COMMIT: ((n,), "uint8"),
        COUNTS: ((n, k, len(COUNT_NAMES)), "int64"),
        CHECKSUMS: ((n, k), "uint64"),
    }
    if spec.state[0]:
        found[STATE] = (spec.state, "uint8")
    for table in spec.tables:
        for column, what in table.columns.items():
            found[f"processing/online/{table.name}/{column}"] = what
    return found


def _make_layout(series: dict[str, int], other: dict[str, int]) -> FileLayout:
    tables: dict[str, dict[str, int]] = {}
    for path, offset in other.items():
        if path.startswith("processing/online/"):
            _, _, table, column = path.split("/")
            tables.setdefault(table, {})[column] = offset
    return FileLayout(
        series, other[COMMIT], other[COUNTS], other[CHECKSUMS], other.get(STATE, -1), tables
    )


def _allocate_series(file: h5py.File, spec: SessionSpec, series: SeriesSpec) -> tuple[int, int]:
    dtype = "uint8" if series.dtype == "bits" else series.dtype
    path = f"acquisition/{series.name}/data"
    place = _allocate(file, path, _shape(spec, series), dtype)
    _describe_series(file, series)
    return place


def _refer(
    file: h5py.File,
    spec: SessionSpec,
    series: SeriesSpec,
    sources: Sequence[tuple[str, int, int]],
) -> None:
    """Make the data of a series a view on other files; what one of them lacks is NaN."""
    (n_rows, n_columns), path = _shape(spec, series), f"acquisition/{series.name}/data"
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for name, begin, end in sources:
        here = h5py.h5s.create_simple((n_rows, n_columns))
        here.select_hyperslab((begin, 0), (end - begin, n_columns))
        there = h5py.h5s.create_simple((end - begin, n_columns))
        if end > begin:
            plist.set_virtual(here, name.encode(), f"/{path}".encode(), there)
    if "float" in series.dtype:
        plist.set_fill_value(np.array(np.nan, np.float32))
    dtype = "uint8" if series.dtype == "bits" else series.dtype
    _replace(file, path, (n_rows, n_columns), dtype, plist)
    _describe_series(file, series)


def _describe_series(file: h5py.File, series: SeriesSpec) -> None:
    group = file[f"acquisition/{series.name}"]
    group.attrs["kind"] = series.kind
    group.attrs["module"] = series.site.partition("@")[0]
    group.attrs["clock"] = series.clock
    group.attrs["site"], group.attrs["form"] = series.site, series.form
    group.attrs["n_units"] = len(series.units)


def load_layout(path: Path) -> FileLayout:
    """Read the offsets of a session file that exists.

    Parameters
    ----------
    path : Path
        A verified session of the current layout.

    Returns
    -------
    layout : FileLayout
        Offsets for the writer.
    """
    with h5py.File(path, "r") as file:
        series = {n: g["data"].id.get_offset() for n, g in file.get("acquisition", {}).items()}
        other = {p: file[p].id.get_offset() for p in (COMMIT, COUNTS, CHECKSUMS)}
        if STATE in file:
            other[STATE] = file[STATE].id.get_offset()
        for name, table in file.get("processing/online", {}).items():
            for column in table.attrs["colnames"]:
                path = f"processing/online/{name}/{column}"
                other[path] = file[path].id.get_offset()
    return _make_layout(series, other)


def compute_data_bytes(spec: SessionSpec) -> int:
    """Return the bytes that a session's activations and online statistics will take.

    Parameters
    ----------
    spec : SessionSpec
        What the session will hold.

    Returns
    -------
    n_bytes : int
        Everything that a recording fills in.
    """
    data = sum(len(spec.samples[s.clock]) * s.row_bytes for s in spec.series)
    tables = [np.prod(shape) * np.dtype(t).itemsize for shape, t in _list_mutable(spec).values()]
    return data + int(sum(tables))


def _shape(spec: SessionSpec, series: SeriesSpec) -> tuple[int, int]:
    return len(spec.samples[series.clock]), series.n_columns


def _write_nwb(file: h5py.File, spec: SessionSpec) -> None:
    """Write tables and one-value placeholders with pynwb (imported here: it takes a second)."""
    from hdmf.common import DynamicTable, VectorData
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.epoch import TimeIntervals
    from pynwb.file import Subject

    made = datetime.fromisoformat(spec.provenance["created"])
    nwb = NWBFile(
        session_description=spec.title,
        identifier=spec.provenance["identifier"],
        session_start_time=made.astimezone(UTC),
        experiment_description="Activations of a neural network, recorded with netphys.",
        keywords=["artificial neural network", "activations"],
        notes="Times are in units of the stimulus clock; see the attribute `clock` of each series.",
    )
    nwb.subject = Subject(
        subject_id=spec.subject,
        description=spec.subject_description,
        species="artificial neural network",
        sex="O",  # sex and age have no meaning for a network; NWB tools ask for both
        age="P0D",
    )
    for series in spec.series:
        nwb.add_acquisition(_make_series(TimeSeries, series, spec))

    def make_table(name: str, about: str, frame: pd.DataFrame, kind: type = DynamicTable):
        columns = [
            VectorData(name=c, description=spec.descriptions.get(c, c), data=_plain(frame[c]))
            for c in frame.columns
        ]
        return kind(name=name, description=about, columns=columns)

    if len(spec.trials):
        nwb.trials = make_table("trials", "one row per presentation", spec.trials, TimeIntervals)
    samples = nwb.create_processing_module("samples", "One row per sample of each clock.")
    for clock, frame in spec.samples.items():
        samples.add(make_table(clock, f"samples of the {clock} clock", frame))
    units = nwb.create_processing_module("units", "One row per recorded unit of each site.")
    tables = {s.name: s.units for s in spec.series} | dict(spec.units)
    for name, frame in tables.items():
        units.add(make_table(name, f"units of {name}", frame))
    if spec.tables:
        online = nwb.create_processing_module("online", "Statistics of samples that went by.")
        for table in spec.tables:
            online.add(_make_online(DynamicTable, VectorData, table, spec.descriptions))
    text = json.dumps(spec.provenance, sort_keys=True)
    nwb.add_scratch(text, name="netphys_provenance", description="JSON: how it was made")
    for path, about in _SCRATCH.items():
        if path != STATE or spec.state[0]:
            name = path.partition("/")[2]
            nwb.add_scratch(np.zeros((1,), np.uint8), name=name, description=about)
    with NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwb)


_SCRATCH = {
    COMMIT: "1 where a planned batch is on disk",
    COUNTS: "counts per batch, series and kind: " + ", ".join(COUNT_NAMES),
    CHECKSUMS: "xxh3_64 of each batch's bytes in each series",
    STATE: "states of the online statistics: where a recording goes on after an interruption",
}


def _make_online(dynamic_table, vector_data, table: TableSpec, descriptions: Mapping[str, str]):
    columns = [
        vector_data(name=name, description=descriptions.get(name, name), data=np.zeros(shape[0]))
        for name, (shape, _) in table.columns.items()
    ]
    return dynamic_table(name=table.name, description=table.description, columns=columns)


def _make_series(time_series, series: SeriesSpec, spec: SessionSpec):
    times = spec.times[series.clock]
    n_rows = 1
    if isinstance(times, np.ndarray):
        clock, n_rows = {"timestamps": times}, len(times)
    else:
        clock = {"rate": float(times), "starting_time": 0.0}
    about = "activations" if series.form == "samples" else _FORMS.get(series.dtype, series.form)
    return time_series(
        name=series.name,
        data=np.zeros((n_rows, 1), np.float32),
        unit="a.u.",
        description=f"{series.kind}: {about} of {series.site}, one row per {series.clock}",
        **clock,
    )


_FORMS = {"bits": "events (above the unit's threshold; bit u % 8 of byte u // 8 is unit u)"}


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as numbers, or as a plain object array of str."""
    if pd.api.types.is_numeric_dtype(column):  # booleans too
        return column.to_numpy()
    return column.astype(object).to_numpy()


def _allocate(file: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Replace a placeholder by an allocated dataset of full size; return its offset and bytes."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    made = _replace(file, path, shape, dtype, plist)
    return made.get_offset(), made.get_storage_size()


def _replace(
    file: h5py.File, path: str, shape: tuple[int, ...], dtype: str, plist: h5py.h5p.PropDCID
) -> h5py.h5d.DatasetID:
    """Replace a placeholder by another dataset with the same attributes."""
    attributes = dict(file[path].attrs)
    del file[path]
    parent, _, name = path.rpartition("/")
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(file[parent].id, name.encode(), _make_type(dtype), space, plist)
    for key, value in attributes.items():
        h5py.Dataset(made).attrs[key] = value
    return made


def _make_type(dtype: str) -> h5py.h5t.TypeID:
    """Return the little-endian HDF5 type; bfloat16 is the upper half of a float32."""
    if dtype != "bfloat16":
        return h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))
    bf16 = h5py.h5t.IEEE_F32LE.copy()
    bf16.set_fields(15, 7, 8, 0, 7)  # sign, exponent from bit 7 (8 bits), mantissa from 0 (7 bits)
    bf16.set_size(2)
    bf16.set_ebias(127)
    return bf16
