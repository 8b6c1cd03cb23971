"""States of online statistics in a session file: two slots per rank, the newest valid one counts.

A slot is a header (sequence number, batches done, checksum, place in a stream) and the arrays of
every state one after the other. Slots are written in turn, each after the data it belongs to is
safe, so one of the two is always whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
import xxhash

from netphys.core.online import OnlineTable, Statistic, make_statistic
from netphys.data.nwb_layout import TableSpec
from netphys.data.stream_position import POSITION

_HEADER = struct.Struct(f"<qqQ{POSITION}s")
SLOTS = 2  # per rank
_SEEN = ("n_samples", "n_trials", "n_special")
FINAL = 2**62  # number of the checkpoint of a finished run


@dataclass(frozen=True)
class Task:
    """One statistic of one site (or of two).

    Parameters
    ----------
    statistic : Statistic
        With all options.
    sites : tuple of str
        Its site, or sites.
    n_units : tuple of int
        Number of units of each.
    """

    statistic: Statistic
    sites: tuple[str, ...]
    n_units: tuple[int, ...]

    @property
    def layout(self) -> Mapping:
        """Name, shape and type of every array of the state."""
        return self.statistic.layout(*self.n_units)

    def to_dict(self) -> dict:
        """Return what the provenance says of it.

        Returns
        -------
        entry : dict
            JSON-ready; `read_tasks` takes a list of these.
        """
        return {
            "statistic": self.statistic.to_dict(),
            "sites": list(self.sites),
            "n_units": list(self.n_units),
        }


def read_tasks(entries: Sequence[Mapping]) -> list[Task]:
    """Return the statistics that a provenance lists.

    Parameters
    ----------
    entries : sequence of dict
        From `Task.to_dict`.

    Returns
    -------
    tasks : list of Task
        In order.
    """
    return [
        Task(make_statistic(e["statistic"]), tuple(e["sites"]), tuple(e["n_units"]))
        for e in entries
    ]


def compute_slot_bytes(tasks: Sequence[Task]) -> int:
    """Return the size of a slot that holds the states of all statistics.

    Parameters
    ----------
    tasks : sequence of Task
        Statistics.

    Returns
    -------
    n_bytes : int
        Header and arrays, each of 8 bytes a value.
    """
    sizes = [math.prod(a.shape) for t in tasks for a in t.layout.values()]
    return _HEADER.size + 8 * sum(sizes)


@dataclass(frozen=True)
class Checkpoint:
    """States of all statistics at the end of a batch.

    Parameters
    ----------
    sequence : int
        Number of the checkpoint; 0: none was written.
    n_done : int
        Batches that are in it, of those that its rank shows.
    position : bytes
        Place in a stream, as a StreamPosition packs it; zeros without one.
    states : list of dict of str to ndarray
        One per statistic.
    """

    sequence: int
    n_done: int
    position: bytes
    states: list[dict[str, np.ndarray]]

    @property
    def is_final(self) -> bool:
        """Whether the run is finished."""
        return self.sequence == FINAL

    def pack(self) -> bytes:
        """Return the checkpoint as a slot holds it.

        Returns
        -------
        data : bytes
            As many as `compute_slot_bytes` says.
        """
        body = b"".join(np.ascontiguousarray(a).tobytes() for s in self.states for a in s.values())
        check = _compute_check(self.sequence, self.n_done, self.position, body)
        return _HEADER.pack(self.sequence, self.n_done, check, self.position) + body


def unpack_checkpoint(data: bytes, tasks: Sequence[Task]) -> Checkpoint | None:
    """Read a slot.

    Parameters
    ----------
    data : bytes
        The slot.
    tasks : sequence of Task
        Statistics whose states it holds.

    Returns
    -------
    checkpoint : Checkpoint or None
        None for a slot that was never written, or not to its end.
    """
    sequence, n_done, check, position = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if sequence < 1 or _compute_check(sequence, n_done, position, body) != check:
        return None
    states, at = [], 0
    for task in tasks:
        state = {}
        for name, array in task.layout.items():
            n = math.prod(array.shape)
            values = np.frombuffer(body, array.dtype, n, at).reshape(array.shape)
            state[name], at = values.copy(), at + 8 * n
        states.append(state)
    return Checkpoint(sequence, n_done, position, states)


def _compute_check(sequence: int, n_done: int, position: bytes, body: bytes | memoryview) -> int:
    """Return the checksum of all that a slot says."""
    whole = xxhash.xxh3_64(_HEADER.pack(sequence, n_done, 0, position))
    whole.update(body)
    return whole.intdigest()


def find_checkpoint(slots: Sequence[bytes], tasks: Sequence[Task]) -> Checkpoint | None:
    """Return the newest valid checkpoint of one rank's slots.

    Parameters
    ----------
    slots : sequence of bytes
        The slots of one rank.
    tasks : sequence of Task
        Statistics.

    Returns
    -------
    checkpoint : Checkpoint or None
        None before the first.
    """
    found = [c for s in slots if (c := unpack_checkpoint(s, tasks)) is not None]
    return max(found, key=lambda c: c.sequence, default=None)


def merge_checkpoints(checkpoints: Sequence[Checkpoint], tasks: Sequence[Task]) -> Checkpoint:
    """Return what all ranks saw together.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        One per rank, in order of rank.
    tasks : sequence of Task
        Statistics.

    Returns
    -------
    checkpoint : Checkpoint
        The states given are left as they are.
    """
    first, *others = checkpoints
    states = [{k: a.copy() for k, a in s.items()} for s in first.states]
    for other in others:
        for task, state, more in zip(tasks, states, other.states, strict=True):
            task.statistic.merge(state, more)
    n_done = sum(c.n_done for c in checkpoints)
    return Checkpoint(first.sequence, n_done, first.position, states)


def name_table(task: Task, table: OnlineTable) -> str:
    """Return the name of a statistic's table in the file: its sites, ``#``, and its own name.

    Parameters
    ----------
    task : Task
        Statistic.
    table : OnlineTable
        One of its tables.

    Returns
    -------
    name : str
        Such as "transformer.h.0#moments".
    """
    return f"{' & '.join(task.sites)}#{table.name}"


def make_tables(tasks: Sequence[Task], states: Sequence[Mapping]) -> dict[str, dict]:
    """Return the columns of every table, as they go into the file.

    Parameters
    ----------
    tasks : sequence of Task
        Statistics.
    states : sequence of dict of str to ndarray
        Their states.

    Returns
    -------
    tables : dict of str to dict of str to ndarray
        Table to column to values, rows first; ``seen_*`` say what the statistic saw.
    """
    found = {}
    for task, state in zip(tasks, states, strict=True):
        for table in task.statistic.finish(state):
            n_rows = len(next(iter(table.columns.values())))
            seen = {f"seen_{n[2:]}": np.full(n_rows, table.saw[n], np.int64) for n in _SEEN}
            columns = {k: np.ascontiguousarray(v) for k, v in table.columns.items()}
            found[name_table(task, table)] = {**columns, **seen}
    return found


def plan_tables(tasks: Sequence[Task]) -> tuple[TableSpec, ...]:
    """Return what the file needs to make room for the tables of statistics.

    Parameters
    ----------
    tasks : sequence of Task
        Statistics.

    Returns
    -------
    specs : tuple of TableSpec
        Shapes and types are those before the first sample: they never change.
    """
    empty = [t.statistic.make_state(*t.n_units) for t in tasks]
    return tuple(
        TableSpec(
            name,
            f"online statistic {name.rpartition('#')[2]} of {name.rpartition('#')[0]}",
            {k: (v.shape, v.dtype.name) for k, v in columns.items()},
        )
        for name, columns in make_tables(tasks, empty).items()
    )


def to_dataset(table: OnlineTable, units: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Return a statistic's table with labelled axes.

    Parameters
    ----------
    table : OnlineTable
        What a statistic found.
    units : dict of str to ndarray
        Columns of the table of units, as coordinates where the rows are units.

    Returns
    -------
    data : Dataset
        One variable per column; attributes say what it saw.
    """
    variables = {k: (table.dims[k], v) for k, v in table.columns.items()}
    coords = {k: (k, v) for k, v in table.coords.items()}
    if table.axis == "unit":
        coords |= {k: ("unit", v) for k, v in units.items() if k not in variables}
    attrs = {k: v for k, v in table.saw.items() if k != "options"}
    return xr.Dataset(variables, coords, attrs | {"statistic": table.name})
