"""Put the files of several ranks together: one session whose data stay in its parts, or a copy."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from netphys._check import check_type
from netphys.data._checksums import BatchSums, compute_bounds, load_rows, split_rows
from netphys.data._files import FileLock, sync_folder, write_at
from netphys.data._series import get_text
from netphys.data._session_online import read_checkpoint
from netphys.data.nwb_header import SessionFileError, is_session, load_digest
from netphys.data.nwb_layout import FileLayout, SeriesSpec, SessionSpec, save_structure
from netphys.data.online_state import (
    SLOTS,
    compute_slot_bytes,
    make_tables,
    merge_checkpoints,
    plan_tables,
    read_tasks,
)
from netphys.data.session import Session, open_session

_LOOSE = ("created", "identifier", "protocol", "machine", "share", "plan")


def join_sessions(
    files: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    copy: bool = False,
    overwrite: bool = False,
) -> Session:
    """Make one session of the files that ranks have recorded with ``files="per-rank"``.

    Trials, samples and batches come in the order of the batch plan, so that every row is where one
    process would have put it. The data stay where they are: series are HDF5 virtual datasets with
    paths relative to `out`, and netphys checks size and header of every part whenever the file is
    opened or read. Parts are joined as they are; keep them beside the joined file.

    Parameters
    ----------
    files : sequence of path-like
        The files of all ranks, in any order; each complete.
    out : path-like
        File to make, by custom ending in ``.nwb``.
    copy : bool
        Copy the data, compared with their checksums, so that the file needs its parts no more.
    overwrite : bool
        Replace an existing session at `out`.

    Returns
    -------
    session : Session
        Read view on the joined file.

    Raises
    ------
    FileExistsError
        If `out` exists and `overwrite` is not set, or is one of the files.
    ValueError
        If a part is missing, unfinished, packed, or of another recording.
    SessionFileError
        If the data to copy do not agree with their checksums.
    """
    check_type("files", files, Sequence, "a list of session files")
    check_type("out", out, (str, os.PathLike), "a file name")
    out = Path(out).expanduser()
    parts = _open_parts([files] if isinstance(files, str) else files)
    with FileLock(out):
        _check_target(parts, out, overwrite)
        fresh = out.with_name(f".{out.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            spec = _make_spec(parts, out, copy)
            sources = None if copy else _list_sources(spec)
            layout = save_structure(fresh, spec, sources=sources)
            _fill(fresh, layout, spec, parts, copy)
            os.replace(fresh, out)
            sync_folder(out.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
    return open_session(out)


def _open_parts(files: Sequence[str | os.PathLike]) -> list[Session]:
    """Open all parts and put them in the order of the batch plan."""
    parts = [open_session(f) for f in files]
    for part in parts:
        share = part.provenance.get("share")
        if share is None or part.provenance.get("joined"):
            raise ValueError(
                f"files: {str(part.path)!r} was not recorded with files='per-rank' and is no part "
                "of anything. Leave it out."
            )
        if not part.complete:
            raise ValueError(
                f"files: {str(part.path)!r} is unfinished ({part.commits.sum()} of "
                f"{len(part.commits)} batches). Record it to its end (resume=True), then join."
            )
        if part.packing is not None:
            raise ValueError(f"files: {str(part.path)!r} is packed. Give the original.")
    parts.sort(key=lambda p: p.provenance["share"]["rank"])
    ranks = [p.provenance["share"]["rank"] for p in parts]
    expected = list(range(parts[0].provenance["share"]["ranks"])) if parts else [0]
    for part in parts[1:]:
        _check_same(parts[0], part)
    if ranks != expected:
        raise ValueError(
            f"files: there are parts of the ranks {ranks}, needed is each of {expected} once. Give "
            "the files of all ranks of one recording."
        )
    return parts


def _check_same(first: Session, other: Session) -> None:
    """Refuse parts of different recordings."""
    one, two = ({**p.provenance, **p.provenance["share"]} for p in (first, other))
    for key in dict.fromkeys([*one, *two]):
        if key not in (*_LOOSE, "rank", "first_batch") and one.get(key) != two.get(key):
            raise ValueError(
                f"files: {str(first.path)!r} and {str(other.path)!r} are not of one recording: "
                f"they differ in {key!r}. Give the files of all ranks of one recording."
            )


def _check_target(parts: list[Session], out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise IsADirectoryError(f"out={str(out)!r} is a folder. Give a file name in it.")
    if not out.exists():
        return
    if any(os.path.samefile(p.path, out) for p in parts):
        raise FileExistsError(
            f"out={str(out)!r} is one of the files, which are never replaced. Choose another name."
        )
    if not overwrite or not is_session(out):
        way = "or replace it with overwrite=True" if is_session(out) else "it is no netphys session"
        raise FileExistsError(f"out={str(out)!r} exists. Choose another name, {way}.")


# ---------------------------------------------------------------- what the joined file says
def _make_spec(parts: list[Session], out: Path, copy: bool) -> SessionSpec:
    first = parts[0]
    with h5py.File(first.path, "r") as file:
        about = {n: get_text(file[f"general/subject/{n}"][()]) for n in _SUBJECT}
        names = list(file["processing/units"])
        descriptions = _read_descriptions(file)
    series = tuple(
        SeriesSpec(name, s.kind, s.clock, s.dtype, first.units(name))
        for name, s in first._series.items()
    )
    tasks = read_tasks(first.provenance.get("online", ()))
    clock = first.provenance["presentation"]["clock"]
    samples = {
        c: pd.concat([p._sample_tables[c] for p in parts], ignore_index=True) for c in first.clocks
    }
    rates = _read_rates(first, clock)
    trials = _join_trials(parts, clock, rates)
    return SessionSpec(
        series=series,
        trials=trials,
        samples=samples,
        times={c: _join_times(parts, c, clock, rates) for c in {s.clock for s in series}},
        n_batches=sum(len(p.commits) for p in parts),
        provenance=_make_provenance(parts, out, copy),
        title=first.title,
        subject=about["subject_id"],
        subject_description=about["description"],
        descriptions=descriptions,
        tables=plan_tables(tasks),
        state=(SLOTS, compute_slot_bytes(tasks)) if tasks else (0, 0),
        units={n: first.units(n) for n in names if n not in first.sites},
    )


_SUBJECT = ("subject_id", "description")


def _read_descriptions(file: h5py.File) -> dict[str, str]:
    """Return what the columns of all tables mean."""
    found: dict[str, str] = {}

    def visit(name: str, thing: h5py.HLObject) -> None:
        column = name.rpartition("/")[2]
        if isinstance(thing, h5py.Dataset) and "description" in thing.attrs:
            found.setdefault(column, get_text(thing.attrs["description"]))

    for group in ("processing", "intervals"):
        if group in file:
            file[group].visititems(visit)
    return found


def _read_rates(session: Session, clock: str) -> float:
    """Return the samples per second of the main clock, from the times of the first trial."""
    table = session.trial_table
    lasting = table["stop_time"] - table["start_time"]
    counts = table[f"n_samples_{clock}"].to_numpy()
    return float((counts[0] - 0.5) / lasting.iloc[0])


def _count_before(parts: list[Session], clock: str) -> np.ndarray:
    """Return how many samples of a clock are in the parts before each, and at the end of all."""
    counts = [int(p.trial_table[f"n_samples_{clock}"].sum()) for p in parts]
    return np.cumsum([0, *counts])


def _join_trials(parts: list[Session], clock: str, rate: float) -> pd.DataFrame:
    before = {c: _count_before(parts, c) for c in parts[0].clocks}
    batches = np.cumsum([0, *(len(p.commits) for p in parts)])
    tables = []
    for i, part in enumerate(parts):
        table = part.trial_table.copy()
        table["batch"] += batches[i]
        for c, counts in before.items():
            table[f"first_sample_{c}"] += counts[i]
        tables.append(table)
    trials = pd.concat(tables, ignore_index=True)
    begin, counts = trials[f"first_sample_{clock}"], trials[f"n_samples_{clock}"]
    trials["start_time"], trials["stop_time"] = begin / rate, (begin + counts - 0.5) / rate
    return trials


def _join_times(parts: list[Session], clock: str, main: str, rate: float) -> float | np.ndarray:
    """Return the rate of a clock, or the time stamp of each sample, counted from the first part."""
    if clock == main:
        return rate
    before, stamps = _count_before(parts, main), []
    for i, part in enumerate(parts):
        name = next(n for n, s in part._series.items() if s.clock == clock)
        with h5py.File(part.path, "r") as file:
            own = file[f"acquisition/{name}/timestamps"][:]
        stamps.append((np.round(own * rate) + before[i]) / rate)  # stamps are those of samples
    return np.concatenate(stamps)


def _make_provenance(parts: list[Session], out: Path, copy: bool) -> dict:
    first, folder = parts[0].provenance, out.parent.resolve()
    entries = [
        {
            "file": os.path.relpath(part.path.resolve(), folder),
            "bytes": part.path.stat().st_size,
            "digest": load_digest(part.path).hex(),
            "identifier": part.provenance["identifier"],
            "machine": part.provenance["machine"],
            "offsets": {name: s.offset for name, s in part._series.items()},
            "rows": {},
        }
        for part in parts
    ]
    for clock in parts[0].clocks:
        before = _count_before(parts, clock).tolist()
        for i, entry in enumerate(entries):
            entry["rows"][clock] = before[i : i + 2]
    n_batches = sum(len(p.commits) for p in parts)
    return {
        **first,
        "created": datetime.now(UTC).isoformat(),
        "identifier": str(uuid.uuid4()),
        "plan": {
            **first["plan"],
            "n_batches": n_batches,
            "sha256": first["share"]["plan_sha256"],
        },
        "share": None,
        "joined": {"copy": copy, "parts": entries},
    }


def _list_sources(spec: SessionSpec) -> dict[str, list[tuple[str, int, int]]]:
    """Return per series the file of each part, its first row and its end."""
    parts = spec.provenance["joined"]["parts"]
    return {s.name: [(p["file"], *p["rows"][s.clock]) for p in parts] for s in spec.series}


# ---------------------------------------------------------------- what the joined file holds
def _fill(
    path: Path, layout: FileLayout, spec: SessionSpec, parts: list[Session], copy: bool
) -> None:
    """Write counters, checksums, statistics, the data if they are copied, and last the commits."""
    fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        _put(fd, layout.counts, np.concatenate([p._read_counts() for p in parts]))
        _put(fd, layout.checksums, np.concatenate([p.checksums for p in parts]))
        if copy:
            for part, entry in zip(parts, spec.provenance["joined"]["parts"], strict=True):
                _copy_data(fd, layout, part, entry)
        tasks = read_tasks(spec.provenance.get("online", ()))
        if tasks:
            states = [read_checkpoint(p.path, p.provenance) for p in parts]
            merged = merge_checkpoints(states, tasks)
            for slot in range(SLOTS):
                at = layout.state + slot * spec.state[1]
                _put(fd, at, np.frombuffer(merged.pack(), np.uint8))
            for table, columns in make_tables(tasks, merged.states).items():
                for column, values in columns.items():
                    _put(fd, layout.tables[table][column], values)
        os.fsync(fd)
        _put(fd, layout.commit, np.ones(spec.n_batches, np.uint8))
        os.fsync(fd)
    finally:
        os.close(fd)


def _put(fd: int, offset: int, values: np.ndarray) -> None:
    write_at(fd, memoryview(np.ascontiguousarray(values).tobytes()), offset)


def _copy_data(fd: int, layout: FileLayout, part: Session, entry: Mapping) -> None:
    """Copy the data of a part, and compare them with their checksums."""
    for place, series in enumerate(part._series.values()):
        sums = BatchSums(compute_bounds(part._row_batch(series.clock), len(part.commits)))
        row_bytes = series.n_columns * series.stored.itemsize
        first = layout.series[series.name] + entry["rows"][series.clock][0] * row_bytes
        for begin, end in split_rows(series):
            rows = load_rows(part.path, series, begin, end)
            sums.add(begin, rows)
            _put(fd, first + begin * row_bytes, rows)
        wrong = np.flatnonzero(sums.values != part.checksums[:, place])
        if wrong.size:
            raise SessionFileError(
                f"{part.path}: the data of {series.name} are damaged in batch {wrong[0]}; nothing "
                "was joined. `netphys verify` lists all. Copy the file again from the origin, or "
                "record it again."
            )
