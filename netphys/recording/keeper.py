"""When the states of online statistics are written, and what is written at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

from netphys.data._session_online import read_checkpoints
from netphys.data.nwb_layout import FileLayout
from netphys.data.online_state import FINAL, SLOTS, Checkpoint, make_tables, merge_checkpoints
from netphys.data.stream_position import START
from netphys.recording.prepare import Run
from netphys.recording.ranks import RankError, Ranks
from netphys.recording.slices import SliceWriter
from netphys.recording.statistics import Tally
from netphys.recording.writer import Writer

_SHARE = 20  # a checkpoint is taken at most in this part of the time
_STATES = "states"  # where all ranks but the first have their states on disk


class Keeper:
    """Writes checkpoints of the online statistics, and their tables at the end.

    Parameters
    ----------
    writer : Writer or SliceWriter
        Writes them after what was handed over before is safe.
    path : Path
        The file, where other ranks leave theirs.
    layout : FileLayout
        Where in the file they lie.
    run : Run
        What is recorded.
    tally : Tally
        The statistics.
    writing : dict
        Options of the writer; a checkpoint is due when a commit is.
    ranks : Ranks
        Who else records into the file.
    """

    def __init__(
        self,
        writer: Writer | SliceWriter,
        path: Path,
        layout: FileLayout,
        run: Run,
        tally: Tally,
        writing: Mapping,
        ranks: Ranks,
    ):
        self._ranks, self._provenance, self._path = ranks, run.spec.provenance, path
        self._writer, self._layout, self._tally = writer, layout, tally
        self._slots, self._size = run.spec.state
        self._seconds, self._batches = writing["commit_seconds"], writing["commit_batches"]
        self._since, self._cost, self._n = time.monotonic(), 0.0, 0

    def end_batch(self, position: bytes = START) -> None:
        """Write a checkpoint if one is due.

        Parameters
        ----------
        position : bytes
            Where a stream goes on.
        """
        if not self._slots:
            return
        self._n += 1
        elapsed = time.monotonic() - self._since
        many = self._batches is not None and self._n >= self._batches
        if elapsed > _SHARE * self._cost and (many or elapsed > self._seconds):
            began = time.monotonic()
            self._save_next(position)
            self._since, self._n = time.monotonic(), 0
            self._cost = self._since - began

    def finish(self, n_batches: int, *, merged: bool, position: bytes = START) -> None:
        """Write the last checkpoint; of several ranks the first then merges all, and the tables.

        The last batch is committed after that: a file whose batches are all committed is complete.

        Parameters
        ----------
        n_batches : int
            Batches that all ranks have shown together.
        merged : bool
            The states are those of all ranks already, by the run that was interrupted.
        position : bytes
            Where a stream has ended.
        """
        if not self._slots:
            return
        if not self._ranks.is_first:
            self._save_next(position)
            return
        made = self._tally.take_checkpoint(position)
        if self._ranks.size > 1:
            self._ranks.wait(_STATES)
        if self._ranks.size > 1 and not merged:
            others = [c for c in read_checkpoints(self._path, self._provenance)[1:] if c]
            made = merge_checkpoints([made, *others], self._tally.tasks)
            if made.n_done != n_batches:
                raise RankError(
                    f"the ranks have states of {made.n_done} of {n_batches} batches: the file "
                    "system does not show one process what another has written. Record with "
                    "files='per-rank'."
                )
        final = dataclasses.replace(made, sequence=FINAL)
        for slot in range(self._slots):  # the same bytes, however often the run was interrupted
            self._save(final, slot)
        for table, columns in make_tables(self._tally.tasks, final.states).items():
            for column, values in columns.items():
                self._writer.save_state(values.tobytes(), self._layout.tables[table][column])

    def tell_first(self) -> None:
        """Let the first rank read the states of this one; call it when the writer is closed."""
        if self._slots and not self._ranks.is_first:
            self._ranks.wait(_STATES)

    def _save_next(self, position: bytes) -> None:
        checkpoint = self._tally.take_checkpoint(position)
        self._save(checkpoint, SLOTS * self._ranks.rank + checkpoint.sequence % SLOTS)

    def _save(self, checkpoint: Checkpoint, slot: int) -> None:
        self._writer.save_state(checkpoint.pack(), self._layout.state + slot * self._size)
