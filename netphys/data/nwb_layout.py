"""Make the complete structure of a session file before the first sample is recorded.

pynwb writes a valid NWB file with one-value placeholders; the placeholders of everything that a
recording fills in are then replaced by contiguous, early-allocated, never-filled datasets of the
full size on 4,096-byte boundaries. After that the bytes have fixed offsets, and a writer needs no
HDF5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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
COUNT_NAMES = ("nonfinite", "overflow")
STORED_DTYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class SiteSpec:
    """What the file holds of one site.

    Parameters
    ----------
    name : str
        Site name: module path, with ``@in`` for its input or ``@pattern`` for attention weights.
    kind : str
        Standard kind ("resid", "mlp", ...) or "module".
    clock : str
        Name of the samples table that its rows follow.
    dtype : str
        Stored type: "float16", "bfloat16", "float32" or "float64".
    units : DataFrame
        One row per unit: layer, index, label and what locates it (head, key, channel, y, x).
    """

    name: str
    kind: str
    clock: str
    dtype: str
    units: pd.DataFrame


@dataclass(frozen=True)
class SessionSpec:
    """Everything that is known of a session before its first sample.

    Parameters
    ----------
    sites : tuple of SiteSpec
        The recorded sites.
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
    """

    sites: tuple[SiteSpec, ...]
    trials: pd.DataFrame
    samples: Mapping[str, pd.DataFrame]
    times: Mapping[str, float | np.ndarray]
    n_batches: int
    provenance: Mapping
    title: str
    subject: str
    subject_description: str
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileLayout:
    """Where a writer puts the bytes of a session.

    Parameters
    ----------
    sites : dict of str to int
        Offset of the first byte of each site's data.
    commit : int
        Offset of the commit bytes.
    counts : int
        Offset of the counters: int64, (batch, site, counter).
    """

    sites: Mapping[str, int]
    commit: int
    counts: int


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


def save_structure(path: Path, spec: SessionSpec) -> FileLayout:
    """Write the finished structure of a session to a new file, with its space reserved.

    Parameters
    ----------
    path : Path
        File to make; it must not exist.
    spec : SessionSpec
        What the session will hold.

    Returns
    -------
    layout : FileLayout
        Offsets for the writer.

    Raises
    ------
    OSError
        If the disk is full or read-only.
    """
    for site in spec.sites:
        check_site_name(site.name)
    block = compute_block_size(len(spec.sites) + 2)
    aligned = {"alignment_threshold": BLOCK, "alignment_interval": BLOCK}
    with h5py.File(path, "x", userblock_size=block, **aligned) as file:
        _write_nwb(file, spec)
    with h5py.File(path, "r+", alignment_threshold=1, alignment_interval=BLOCK) as file:
        ranges = {
            site.name: _allocate(
                file, f"acquisition/{site.name}/data", _shape(spec, site), site.dtype
            )
            for site in spec.sites
        }
        commit = _allocate(file, COMMIT, (spec.n_batches,), "uint8")
        shape = (spec.n_batches, len(spec.sites), len(COUNT_NAMES))
        counts = _allocate(file, COUNTS, shape, "int64")
        for site in spec.sites:
            series = file[f"acquisition/{site.name}"]
            series.attrs["kind"] = site.kind
            series.attrs["module"] = site.name.partition("@")[0]
            series.attrs["clock"] = site.clock
    with open(path, "r+b") as file:
        reserve_space(file.fileno(), os.fstat(file.fileno()).st_size)
        for offset, length in (commit, counts):  # allocated bytes may hold anything: start from 0
            file.seek(offset)
            file.write(bytes(length))
    save_header(path, block, [*ranges.values(), commit, counts], commit)
    return FileLayout({name: r[0] for name, r in ranges.items()}, commit[0], counts[0])


def load_layout(path: Path) -> FileLayout:
    """Read the offsets of a session file that exists.

    Parameters
    ----------
    path : Path
        A verified session.

    Returns
    -------
    layout : FileLayout
        Offsets for the writer.
    """
    with h5py.File(path, "r") as file:
        sites = {n: g["data"].id.get_offset() for n, g in file["acquisition"].items()}
        return FileLayout(sites, file[COMMIT].id.get_offset(), file[COUNTS].id.get_offset())


def compute_data_bytes(spec: SessionSpec) -> int:
    """Return the bytes that the activations of a session will take.

    Parameters
    ----------
    spec : SessionSpec
        What the session will hold.

    Returns
    -------
    n_bytes : int
        Sum over sites of samples x units x bytes per value.
    """
    return sum(int(np.prod(_shape(spec, s))) * STORED_DTYPES[s.dtype] for s in spec.sites)


def _shape(spec: SessionSpec, site: SiteSpec) -> tuple[int, int]:
    return len(spec.samples[site.clock]), len(site.units)


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
    for site in spec.sites:
        nwb.add_acquisition(_make_series(TimeSeries, site, spec))

    def make_table(name: str, about: str, frame: pd.DataFrame, kind: type = DynamicTable):
        columns = [
            VectorData(name=c, description=spec.descriptions.get(c, c), data=_plain(frame[c]))
            for c in frame.columns
        ]
        return kind(name=name, description=about, columns=columns)

    nwb.trials = make_table("trials", "one row per presentation", spec.trials, TimeIntervals)
    samples = nwb.create_processing_module("samples", "One row per sample of each clock.")
    for clock, frame in spec.samples.items():
        samples.add(make_table(clock, f"samples of the {clock} clock", frame))
    units = nwb.create_processing_module("units", "One row per recorded unit of each site.")
    for site in spec.sites:
        units.add(make_table(site.name, f"units of {site.name}", site.units))
    text = json.dumps(spec.provenance, sort_keys=True)
    nwb.add_scratch(text, name="netphys_provenance", description="JSON: how it was made")
    one = np.zeros(1, np.uint8)
    nwb.add_scratch(one, name="netphys_commit", description="1 where a planned batch is on disk")
    about = "counts per batch, site and kind: " + ", ".join(COUNT_NAMES)
    nwb.add_scratch(np.zeros((1, 1, 1), np.int64), name="netphys_counts", description=about)
    with NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwb)


def _make_series(time_series, site: SiteSpec, spec: SessionSpec):
    times = spec.times[site.clock]
    n_rows = 1
    if isinstance(times, np.ndarray):
        clock, n_rows = {"timestamps": times}, len(times)
    else:
        clock = {"rate": float(times), "starting_time": 0.0}
    return time_series(
        name=site.name,
        data=np.zeros((n_rows, 1), np.float32),
        unit="a.u.",
        description=f"{site.kind}: activations of {site.name}, one row per {site.clock}",
        **clock,
    )


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as numbers, or as a plain object array of str."""
    if pd.api.types.is_numeric_dtype(column):  # booleans too
        return column.to_numpy()
    return column.astype(object).to_numpy()


def _allocate(file: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Replace a placeholder by an allocated dataset of full size; return its offset and bytes."""
    attributes = dict(file[path].attrs)
    del file[path]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    parent, _, name = path.rpartition("/")
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(file[parent].id, name.encode(), _make_type(dtype), space, plist)
    for key, value in attributes.items():
        h5py.Dataset(made).attrs[key] = value
    return made.get_offset(), made.get_storage_size()


def _make_type(dtype: str) -> h5py.h5t.TypeID:
    """Return the little-endian HDF5 type; bfloat16 is the upper half of a float32."""
    if dtype != "bfloat16":
        return h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))
    bf16 = h5py.h5t.IEEE_F32LE.copy()
    bf16.set_fields(15, 7, 8, 0, 7)  # sign, exponent from bit 7 (8 bits), mantissa from 0 (7 bits)
    bf16.set_size(2)
    bf16.set_ebias(127)
    return bf16
