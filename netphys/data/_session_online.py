"""Online statistics as a session gives them back: from the newest states in its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import xarray as xr

from netphys._check import suggest
from netphys.core.online import OnlineTable
from netphys.data.nwb_header import SessionFileError
from netphys.data.nwb_layout import STATE
from netphys.data.online_state import (
    SLOTS,
    Checkpoint,
    Task,
    find_checkpoint,
    merge_checkpoints,
    name_table,
    read_tasks,
    to_dataset,
)
from netphys.data.stream_position import StreamPosition

if TYPE_CHECKING:
    from netphys.data.session import Session


def list_tables(provenance: Mapping) -> list[str]:
    """Return the names of all tables of online statistics that a file has."""
    return [
        name_table(task, table)
        for task in read_tasks(provenance.get("online", ()))
        for table in task.statistic.finish(task.statistic.make_state(*task.n_units))
    ]


def read_checkpoints(path: Path, provenance: Mapping) -> list[Checkpoint | None]:
    """Return the newest states of each rank; empty without online statistics."""
    tasks = read_tasks(provenance.get("online", ()))
    if not tasks:
        return []
    with h5py.File(path, "r") as file:
        offset, (n, size) = file[STATE].id.get_offset(), file[STATE].shape
    with open(path, "rb") as file:
        file.seek(offset)
        slots = [file.read(size) for _ in range(n)]
    return [find_checkpoint(slots[i : i + SLOTS], tasks) for i in range(0, n, SLOTS)]


def read_checkpoint(path: Path, provenance: Mapping) -> Checkpoint | None:
    """Return the newest states of all ranks together; None before the first."""
    found = [c for c in read_checkpoints(path, provenance) if c is not None]
    final = [c for c in found if c.is_final]
    if final:  # the first rank has put together what all of them saw
        return final[0]
    tasks = read_tasks(provenance.get("online", ()))
    return merge_checkpoints(found, tasks) if found else None


def read_position(path: Path, provenance: Mapping) -> StreamPosition:
    """Return how far a corpus was shown; its beginning before the first states are written."""
    checkpoint = read_checkpoint(path, provenance)
    return StreamPosition() if checkpoint is None else StreamPosition.unpack(checkpoint.position)


def read_stream(session: Session) -> dict[str, int] | None:
    """Return how much of a corpus was shown; None for a recording of stimuli."""
    if session.provenance["stimuli"]["kind"] != "corpus":
        return None
    position = read_position(session.path, session.provenance)
    return {"items": position.n_items, "windows": position.n_windows}


def read_table(session: Session, name: str) -> xr.Dataset:
    """Return one table of an online statistic, as far as it is known."""
    tasks = read_tasks(session.provenance.get("online", ()))
    known = list_tables(session.provenance)
    if name not in known:
        raise KeyError(
            f"name={name!r} is no online statistic of {session.path.name}.{suggest(name, known)} "
            f"It has: {', '.join(known) or 'none'}."
        )
    checkpoint = read_checkpoint(session.path, session.provenance)
    if checkpoint is None and session.complete:
        raise SessionFileError(
            f"{session.path}: the states of its online statistics are damaged. Copy it again from "
            "the origin, or record it again."
        )
    if checkpoint is None:
        raise KeyError(f"{session.path.name} has no online statistics yet. Wait for a commit.")
    for task, state in zip(tasks, checkpoint.states, strict=True):
        for table in task.statistic.finish(state):
            if name == name_table(task, table):
                return to_dataset(table, _find_units(session, task, table))
    raise KeyError(name)


def _find_units(session: Session, task: Task, table: OnlineTable) -> dict[str, np.ndarray]:
    """Return the columns that describe the rows of a table, where they are a site's units."""
    second = table.name.endswith(".other")
    if table.axis != "unit" or table.axis in table.coords:
        return {}
    if second and getattr(task.statistic, "other", None) is not None:
        return {}  # units of a subject that is in no file
    units = session.units(task.sites[1 if second else 0])
    return {c: units[c].to_numpy() for c in units}
