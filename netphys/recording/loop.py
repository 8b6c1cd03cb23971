"""The loop over planned batches: show, take, commit, keep the states of online statistics."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from netphys.data._session_online import read_checkpoints
from netphys.data.nwb_layout import COUNT_NAMES, FileLayout
from netphys.data.online_state import FINAL, SLOTS, Checkpoint, make_tables, merge_checkpoints
from netphys.recording import kernels
from netphys.recording.capture import Capture
from netphys.recording.compiled import compile_model
from netphys.recording.passes import Batch, Tap, is_plain, make_batch
from netphys.recording.prepare import Run, compute_costs
from netphys.recording.ranks import RankError, Ranks
from netphys.recording.show import make_show
from netphys.recording.sites import Site
from netphys.recording.slices import SliceWriter
from netphys.recording.statistics import Tally
from netphys.recording.variability import show_variability
from netphys.recording.writer import Writer

_SHARE = 20  # a checkpoint is taken at most in this part of the time
_STATES = "states"  # where all ranks but the first have their states on disk


def record_batches(
    run: Run,
    path: Path,
    layout: FileLayout,
    done: np.ndarray,
    checkpoint: Checkpoint | None,
    writing: Mapping,
    progress: bool,
    ranks: Ranks,
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
    ranks : Ranks
        Who else records into the file; this process does its share.
    """
    devices = {p.shape.site.name: p.shape.device for p in run.sites}
    if run.scoring is not None:
        devices.setdefault(run.scoring.site.name, torch.device("cpu"))
    tally = Tally(
        run.tasks,
        devices,
        checkpoint,
        fusable=run.nonfinite == "raise" and is_plain(run),
    )
    begin = np.cumsum([0, *(len(b) for b in run.plan)])
    first_rows = {c: run.clocks.trials[f"first_sample_{c}"].to_numpy() for c in run.clocks.tables}
    share = find_share(run, done, ranks)
    fed = share[: tally.n_done] if run.tasks else share  # what online statistics have seen
    todo = [n for n in share if not done[n] or n not in fed]
    n_trials = {n: len(run.plan[n]) for n in share}
    counts: dict[str, torch.Tensor] = {}
    logits: list[torch.Tensor] = []

    def take(site: Site, value: torch.Tensor, n_absent: int | None = None) -> None:
        if run.scoring is not None and site.name == run.scoring.site.name:
            logits.append(value)
        if site.name in taps:
            counts[site.name] = taps[site.name].take(value, batch, n_absent)

    show, hooked = make_show(run, take), run.sites_shown
    with (
        _open_writer(run, path, layout, writing, ranks) as writer,
        show_variability(run.subject.model, run.draw_seeds) as draw,
        Capture(run.subject.model, hooked, show.take, graph=run.compile is not False) as capture,
        tqdm(
            total=sum(n_trials.values()),
            initial=sum(n_trials.values()) - sum(n_trials[n] for n in todo),
            desc=path.name if ranks.size == 1 else f"{path.name} (first of {ranks.size} ranks)",
            unit="trial",
            disable=not progress or not ranks.is_first,
        ) as bar,
    ):
        keeper = _Keeper(writer, layout, run, tally, writing, ranks)
        merged = checkpoint is not None and checkpoint.is_final  # by the run that was interrupted
        model = compile_model(run.subject.model, run.compile)  # with the hooks inside
        workspace = kernels.Workspace()
        taps = {p.shape.site.name: Tap(p, writer, workspace, tally) for p in run.sites}
        for number in todo:
            ranks.check()
            rows, feed = run.plan[number], number not in fed
            first = {c: int(r[begin[number]]) for c, r in first_rows.items()}
            batch = make_batch(run, number, first, feed=feed and bool(run.tasks))
            draw(functools.partial(show.show, model, rows, capture), rows)
            if run.scoring is not None:
                _score(run, writer, tally, batch, logits.pop())
            found = _check_counts(run, counts, rows)
            if batch.sequence_info is not None:
                tally.end_batch(batch.sequence_info)
            keeper.end_batch(path, last=number == todo[-1], merged=merged)
            writer.commit(number, found)
            bar.update(len(rows))
            bar.set_postfix_str(
                f"{writer.n_bytes / 1e6:.0f} MB, stall {writer.stall_seconds:.1f} s"
            )
    if run.tasks and not ranks.is_first:
        ranks.wait(_STATES)  # ours are on disk


def _score(
    run: Run, writer: Writer | SliceWriter, tally: Tally, batch: Batch, logits: torch.Tensor
) -> None:
    """Score the words of a batch, write what is stored and feed what is counted."""
    values, words = run.scoring.score(run.presentation, batch.rows, logits)
    n_words = len(values)
    if "word" in run.clocks.segments:
        n_words = int(run.clocks.segments["word"].counts[batch.rows].sum())
    run.scoring.write(writer, values, batch.first.get("word", 0), n_words)
    if batch.sequence_info is not None:
        tally.feed_scores(values, words)


def _open_writer(
    run: Run, path: Path, layout: FileLayout, writing: Mapping, ranks: Ranks
) -> Writer | SliceWriter:
    row_bytes = {s.name: s.row_bytes for s in run.spec.series}
    if not ranks.by_units:
        return Writer(path, layout, row_bytes, **writing)
    sliced = {s.name for p in run.sites if p.shape.n_slices > 1 for s in p.series.values()}
    return SliceWriter(path, layout, row_bytes, ranks, sliced)


def find_share(run: Run, done: np.ndarray, ranks: Ranks) -> Sequence[int]:
    """Return the batches of this rank.

    Parameters
    ----------
    run : Run
        What is recorded.
    done : ndarray of bool, shape (n_batches,)
        Batches that are committed.
    ranks : Ranks
        Who records.

    Returns
    -------
    share : sequence of int
        Of all batches where online statistics are kept, since the states of a rank belong to its
        batches; else of those not done, with any number of ranks.
    """
    numbers = range(len(done)) if run.tasks else np.flatnonzero(~done)
    share = ranks.share(compute_costs(run.presentation, [run.plan[n] for n in numbers]))
    if ranks.is_first and not ranks.by_units and len(numbers) < ranks.size:
        warnings.warn(
            f"{ranks.size} ranks share {len(numbers)} batches: {ranks.size - len(numbers)} of them "
            "have nothing to do. Start fewer, or give a smaller batch_size.",
            stacklevel=4,
        )
    return [int(n) for n in numbers[share.start : share.stop]]


class _Keeper:
    """Decides when the states of online statistics are written, and writes the final tables."""

    def __init__(
        self,
        writer: Writer,
        layout: FileLayout,
        run: Run,
        tally: Tally,
        writing: Mapping,
        ranks: Ranks,
    ):
        self._ranks, self._provenance = ranks, run.spec.provenance
        self._n_batches = len(run.plan)
        self._writer, self._layout, self._tally = writer, layout, tally
        self._slots, self._size = run.spec.state
        self._seconds, self._batches = writing["commit_seconds"], writing["commit_batches"]
        self._since, self._cost, self._n = time.monotonic(), 0.0, 0

    def end_batch(self, path: Path, *, last: bool, merged: bool) -> None:
        """Write a checkpoint if one is due; after the last batch the final one and the tables.

        The last batch is committed after that: a file whose batches are all committed is complete.
        Of several ranks the first does so, when the others have finished.
        """
        if not self._slots:
            return
        self._n += 1
        elapsed = time.monotonic() - self._since
        many = self._batches is not None and self._n >= self._batches
        if last and self._ranks.is_first:
            self._finish(path, merged)
        elif last:
            self._save_next()
        elif elapsed > _SHARE * self._cost and (many or elapsed > self._seconds):
            began = time.monotonic()
            self._save_next()
            self._since, self._n = time.monotonic(), 0
            self._cost = self._since - began

    def _save_next(self) -> None:
        checkpoint = self._tally.take_checkpoint()
        self._save(checkpoint, SLOTS * self._ranks.rank + checkpoint.sequence % SLOTS)

    def _save(self, checkpoint: Checkpoint, slot: int) -> None:
        self._writer.save_state(checkpoint.pack(), self._layout.state + slot * self._size)

    def _finish(self, path: Path, merged: bool) -> None:
        made = self._tally.take_checkpoint()
        if self._ranks.size > 1:
            self._ranks.wait(_STATES)
        if self._ranks.size > 1 and not merged:
            others = [c for c in read_checkpoints(path, self._provenance)[1:] if c is not None]
            made = merge_checkpoints([made, *others], self._tally.tasks)
            if made.n_done != self._n_batches:
                raise RankError(
                    f"the ranks have states of {made.n_done} of {self._n_batches} batches: the "
                    "file system does not show one process what another has written. Record with "
                    "files='per-rank'."
                )
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
    if run.scoring is not None and run.scoring.series is not None:
        parts.append(np.zeros((1, len(COUNT_NAMES)), np.int64))  # NaN is a word without a context
    return np.concatenate(parts) if parts else np.zeros((0, len(COUNT_NAMES)), np.int64)
