"""Compare the data of a session with the checksums that were stored when they were recorded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from netphys.data._checksums import BatchSums, compute_bounds, load_rows, overlap, split_rows
from netphys.data._series import Series
from netphys.data.nwb_header import SessionFileError
from netphys.data.nwb_layout import STATE
from netphys.data.online_state import name_table, read_tasks, unpack_checkpoint
from netphys.data.session import Session, open_session

_COLUMNS = ("batch", "site", "expected", "found")
_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Verification:
    """What `verify_session` found.

    Parameters
    ----------
    path : Path
        The file.
    damaged : DataFrame
        One row per damaged block: batch, site (with its form), and the expected and found checksum
        as 16 hexadecimal digits; "unreadable" where a packed block cannot be unpacked. Online
        statistics that are not as they were at the end of the recording have batch -1.
    n_blocks : int
        Blocks that were compared: the rows of one committed batch in one series.
    n_bytes : int
        Their size as recorded.
    n_committed, n_batches : int
        Committed and planned batches; of the others nothing is known yet.
    has_checksums : bool
        False for a file of layout 1, of which nothing but header and tables can be verified.
    """

    path: Path
    damaged: pd.DataFrame
    n_blocks: int
    n_bytes: int
    n_committed: int
    n_batches: int
    has_checksums: bool

    @property
    def intact(self) -> bool | None:
        """Whether every committed batch is as it was recorded; None if that cannot be known."""
        return not len(self.damaged) if self.has_checksums else None

    def summary(self) -> str:
        """Return what was found as text for a terminal.

        Returns
        -------
        text : str
            One line, and one for each of the first damaged blocks.
        """
        batches = f"{self.n_committed} of {self.n_batches} batches"
        if not self.has_checksums:
            return (
                f"{self.path}: header and tables are intact; the data cannot be verified: a file "
                "of layout 1 holds no checksums. Record again to have them."
            )
        size = f"{self.n_blocks} blocks, {self.n_bytes / 1e6:,.1f} MB, {batches}"
        if not len(self.damaged):
            return f"{self.path}: intact ({size})"
        lines = [
            (f"  batch {row.batch}, " if row.batch >= 0 else "  ")
            + f"{row.site}: {row.found} where {row.expected} was recorded"
            for row in self.damaged.head(20).itertuples()
        ]
        more = len(self.damaged) - len(lines)
        lines += [f"  and {more} more"] if more else []
        head = f"{self.path}: DAMAGED in {len(self.damaged)} places ({size})"
        return "\n".join([head, *lines])

    def to_dict(self) -> dict:
        """Return what was found as JSON-ready values.

        Returns
        -------
        content : dict
            All fields; `damaged` as a list of rows.
        """
        return {
            "path": str(self.path),
            "intact": self.intact,
            "damaged": self.damaged.to_dict(orient="records"),
            "n_blocks": self.n_blocks,
            "n_bytes": self.n_bytes,
            "n_committed": self.n_committed,
            "n_batches": self.n_batches,
            "has_checksums": self.has_checksums,
        }


def verify_session(path: str | os.PathLike, *, progress: bool = True) -> Verification:
    """Read all data of a session and compare them with the checksums stored at recording.

    Opening a session verifies its header and tables; this finds wrong bytes inside the data. Only
    committed batches are read, in bounded memory. Packed files hold the checksums of the values as
    they were recorded, and these must still agree.

    Parameters
    ----------
    path : path-like
        Session file, raw or packed; it may still be growing.
    progress : bool
        Show a progress bar.

    Returns
    -------
    verification : Verification
        Which blocks are damaged, and how much was compared.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SessionFileError
        If header or tables are damaged, or the file is no session.

    Examples
    --------
    >>> subject, stimuli = load_subject("builtin:language"), load_stimuli("builtin:stories")
    >>> session = record(subject, stimuli, "a.nwb", sites="embed", progress=False)
    >>> verify_session("a.nwb", progress=False).intact
    True
    """
    session = open_session(path)
    commits, checksums = session.commits, session.checksums
    found: list[tuple] = []
    n_blocks = n_bytes = 0
    if checksums is not None:
        with tqdm(
            total=session.site_table["megabytes"].sum(),
            desc=session.path.name,
            unit="MB",
            disable=not progress,
            bar_format="{desc}: {percentage:3.0f}% {bar} {n:,.0f}/{total:,.0f} MB [{elapsed}]",
        ) as bar:
            for place, name in enumerate(session.sites):
                blocks, size = _check_series(
                    session, name, commits, checksums[:, place], found, bar
                )
                n_blocks, n_bytes = n_blocks + blocks, n_bytes + size
        if commits.all():
            found += _check_online(session)
    return Verification(
        session.path,
        pd.DataFrame(found, columns=_COLUMNS),
        n_blocks,
        n_bytes,
        int(commits.sum()),
        len(commits),
        checksums is not None,
    )


def _add_rows(
    session: Session, series: Series, begin: int, end: int, sums: BatchSums
) -> list[tuple[int, int]]:
    """Read rows and add them to the checksums; return the runs that cannot be unpacked."""
    try:
        sums.add(begin, load_rows(session.path, series, begin, end))
    except SessionFileError:
        step = series.chunk[0]
        if end - begin <= step:
            return [(begin, end)]
        parts = [(low, min(low + step, end)) for low in range(begin, end, step)]
        return [run for part in parts for run in _add_rows(session, series, *part, sums)]
    return []


def _check_series(
    session: Session, name: str, commits: np.ndarray, expected: np.ndarray, found: list, bar: tqdm
) -> tuple[int, int]:
    """Add the damaged blocks of a series to `found`; return how many blocks and bytes were read."""
    series = session._series[name]
    bounds = compute_bounds(session._row_batch(series.clock), len(commits))
    sums, unreadable = BatchSums(bounds), np.zeros(len(commits), bool)
    for begin, end in split_rows(series):
        if commits[overlap(bounds, begin, end)].any():
            for low, high in _add_rows(session, series, begin, end, sums):
                unreadable[overlap(bounds, low, high)] = True
        bar.update((end - begin) * series.megabytes / series.n_rows)
    wrong = commits & ((sums.values != expected) | unreadable)
    for batch in np.flatnonzero(wrong):
        got = _UNREADABLE if unreadable[batch] else f"{sums.values[batch]:016x}"
        found.append((int(batch), name, f"{expected[batch]:016x}", got))
    rows = int(np.diff(bounds)[commits].sum())
    return int(commits.sum()), rows * series.n_columns * series.stored.itemsize


def _check_online(session: Session) -> list[tuple]:
    """Return what is damaged of the online statistics of a complete recording."""
    tasks, found = read_tasks(session.provenance.get("online", ())), []
    if not tasks:
        return found
    with h5py.File(session.path, "r") as file:
        slots = [slot.tobytes() for slot in file[STATE][:]]
        states = [unpack_checkpoint(slot, tasks) for slot in slots]
        for number, (slot, state) in enumerate(zip(slots, states, strict=True)):
            if state is None and any(slot):
                name = f"online statistics, copy {number + 1} of {len(slots)}"
                found.append((-1, name, "a valid state", "damaged"))
        final = [s for s in states if s is not None and s.is_final]
        if not final:
            found.append((-1, "online statistics", "a final state", "none"))
            return found
        for task, state in zip(tasks, final[0].states, strict=True):
            for table in task.statistic.finish(state):
                name = name_table(task, table)
                for column, values in table.columns.items():
                    stored = file[f"processing/online/{name}/{column}"][()]
                    if not np.allclose(stored, values, rtol=1e-9, atol=0, equal_nan=True):
                        found.append((-1, f"{name}, column {column}", "its state", "another"))
    return found
