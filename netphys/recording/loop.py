"""The loop over planned batches: show, take, commit, keep the states of online statistics."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from netphys.data.nwb_layout import FileLayout
from netphys.data.online_state import FINAL, Checkpoint
from netphys.recording import kernels
from netphys.recording.capture import Capture
from netphys.recording.compiled import compile_model
from netphys.recording.passes import Tap, is_plain, make_batch
from netphys.recording.prepare import Run
from netphys.recording.show import make_show
from netphys.recording.sites import Site
from netphys.recording.statistics import Tally, make_tables
from netphys.recording.variability import show_variability
from netphys.recording.writer import Writer

_SHARE = 20  # a checkpoint is taken at most in this part of the time


def record_batches(
    run: Run,
    path: Path,
    layout: FileLayout,
    done: np.ndarray,
    checkpoint: Checkpoint | None,
    writing: Mapping,
    progress: bool,
) -> None:
    """Show every batch that is not done and write what the sites give.

    Parameters
    ----------
    run : Run
        What is recorded.
    path : Path
        The file, made.
    layout : FileLayout
        Where its bytes lie.
    done : ndarray of bool, shape (n_batches,)
        Batches that are committed.
    checkpoint : Checkpoint or None
        States of the online statistics of an interrupted run.
    writing : dict
        Options of the writer.
    progress : bool
        Show a progress bar.
    """
    tally = Tally(
        run.tasks,
        run.subject.device,
        checkpoint,
        fusable=run.nonfinite == "raise" and is_plain(run),
    )
    begin = np.cumsum([0, *(len(b) for b in run.plan)])
    first_rows = {c: run.clocks.trials[f"first_sample_{c}"].to_numpy() for c in run.clocks.tables}
    row_bytes = {s.name: s.row_bytes for s in run.spec.series}
    fed = tally.n_done if run.tasks else len(done)  # batches that online statistics have seen
    todo = [n for n in range(len(done)) if not done[n] or n >= fed]
    counts: dict[str, torch.Tensor] = {}
    sites = [p.shape.site for p in run.sites]

    def take(site: Site, value: torch.Tensor, n_absent: int | None = None) -> None:
        counts[site.name] = taps[site.name].take(value, batch, n_absent)

    show = make_show(run, take)
    with (
        Writer(path, layout, row_bytes, **writing) as writer,
        show_variability(run.subject.model, run.draw_seeds) as draw,
        Capture(run.subject.model, sites, show.take, graph=run.compile is not False) as capture,
        tqdm(
            total=len(run.spec.trials),
            initial=len(run.spec.trials) - sum(len(run.plan[n]) for n in todo),
            desc=path.name,
            unit="trial",
            disable=not progress,
        ) as bar,
    ):
        keeper = _Keeper(writer, layout, run, tally, writing)
        model = compile_model(run.subject.model, run.compile)  # with the hooks inside
        workspace, device = kernels.Workspace(), run.subject.device
        taps = {p.shape.site.name: Tap(p, writer, device, workspace, tally) for p in run.sites}
        for number in todo:
            rows, feed = run.plan[number], number >= fed
            first = {c: int(r[begin[number]]) for c, r in first_rows.items()}
            batch = make_batch(run, number, first, feed=feed and bool(run.tasks))
            draw(functools.partial(show.show, model, rows, capture), rows)
            found = _check_counts(run, counts, rows)
            if batch.sequence_info is not None:
                tally.end_batch(batch.sequence_info)
            keeper.end_batch(last=number == todo[-1])
            writer.commit(number, found)
            bar.update(len(rows))
            bar.set_postfix_str(
                f"{writer.n_bytes / 1e6:.0f} MB, stall {writer.stall_seconds:.1f} s"
            )


class _Keeper:
    """Decides when the states of online statistics are written, and writes the final tables."""

    def __init__(
        self, writer: Writer, layout: FileLayout, run: Run, tally: Tally, writing: Mapping
    ):
        self._writer, self._layout, self._tally = writer, layout, tally
        self._slots, self._size = run.spec.state
        self._seconds, self._batches = writing["commit_seconds"], writing["commit_batches"]
        self._since, self._cost, self._n = time.monotonic(), 0.0, 0

    def end_batch(self, *, last: bool) -> None:
        """Write a checkpoint if one is due; after the last batch the final one and the tables.

        The last batch is committed after that: a file whose batches are all committed is complete.
        """
        if not self._slots:
            return
        self._n += 1
        elapsed = time.monotonic() - self._since
        many = self._batches is not None and self._n >= self._batches
        if last:
            self._finish()
        elif elapsed > _SHARE * self._cost and (many or elapsed > self._seconds):
            began = time.monotonic()
            checkpoint = self._tally.take_checkpoint()
            self._save(checkpoint, checkpoint.sequence % self._slots)
            self._since, self._n = time.monotonic(), 0
            self._cost = self._since - began

    def _save(self, checkpoint: Checkpoint, slot: int) -> None:
        self._writer.save_state(checkpoint.pack(), self._layout.state + slot * self._size)

    def _finish(self) -> None:
        made = self._tally.take_checkpoint()
        final = Checkpoint(FINAL, made.n_done, made.n_items, made.digest, made.states)
        for slot in range(self._slots):  # the same bytes, however often the run was interrupted
            self._save(final, slot)
        for table, columns in make_tables(self._tally.tasks, final.states).items():
            for column, values in columns.items():
                self._writer.save_state(values.tobytes(), self._layout.tables[table][column])


def _check_counts(run: Run, counts: dict[str, torch.Tensor], rows: list[int]) -> np.ndarray:
    """Return the counters of a batch, or refuse values that are not finite."""
    found = {name: counts.pop(name).cpu().numpy() for name in list(counts)}
    for name, values in found.items():
        if run.nonfinite == "raise" and len(values) and values[0, 0]:
            names = run.spec.trials.set_index("stimulus_index")["stimulus_id"].loc[rows]
            raise ValueError(
                f"site={name!r} gave {values[0, 0]} NaN or infinite values for stimuli "
                f"{', '.join(names.iloc[:3])}{' ...' if len(names) > 3 else ''}. Check the model "
                "or its type (float16 overflows at 65,504), or store them with nonfinite='keep'."
            )
    parts = [found[p.shape.site.name] for p in run.sites]
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
