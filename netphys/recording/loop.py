"""The loop over planned batches: show, take, count, commit."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from netphys.data.nwb_layout import FileLayout
from netphys.recording.capture import Capture
from netphys.recording.compiled import compile_model
from netphys.recording.keeper import Keeper
from netphys.recording.opening import OpenFile
from netphys.recording.passes import Batch, is_plain, make_batch
from netphys.recording.prepare import Run, compute_costs
from netphys.recording.progress import Progress
from netphys.recording.ranks import Ranks
from netphys.recording.receiver import Receiver, make_tally
from netphys.recording.show import make_show
from netphys.recording.slices import SliceWriter
from netphys.recording.statistics import Tally
from netphys.recording.variability import show_variability
from netphys.recording.writer import Writer


def record_batches(
    run: Run,
    path: Path,
    opened: OpenFile,
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
    opened : OpenFile
        Where its bytes lie, and what is done.
    writing : dict
        Options of the writer.
    progress : bool
        Show a progress bar.
    ranks : Ranks
        Who else records into the file; this process does its share.
    """
    layout, done, checkpoint = opened
    tally = make_tally(run, checkpoint, plain=is_plain(run))
    begin = np.cumsum([0, *(len(b) for b in run.plan)])
    first_rows = {c: run.clocks.trials[f"first_sample_{c}"].to_numpy() for c in run.clocks.tables}
    share = find_share(run, done, ranks)
    fed = share[: tally.n_done] if run.tasks else share  # what online statistics have seen
    todo = [n for n in share if not done[n] or n not in fed]
    n_trials = {n: len(run.plan[n]) for n in share}
    merged = checkpoint is not None and checkpoint.is_final  # by the run that was interrupted
    with _open_writer(run, path, layout, writing, ranks) as writer:
        receiver = Receiver(run, writer, tally)
        show = make_show(run, receiver.take)
        keeper = Keeper(writer, path, layout, run, tally, writing, ranks)
        with (
            show_variability(run.subject.model, run.draw_seeds) as draw,
            open_capture(run, show.take) as capture,
            Progress(
                writer,
                path.name,
                run.presentation.clock,
                total=sum(n_trials.values()),
                initial=sum(n_trials.values()) - sum(n_trials[n] for n in todo),
                n_ranks=ranks.size,
                shown=progress,
            ) as bar,
        ):
            model = compile_model(run.subject.model, run.compile)  # with the hooks inside
            for number in todo:
                ranks.check()
                rows, feed = run.plan[number], number not in fed
                first = {c: int(r[begin[number]]) for c, r in first_rows.items()}
                batch = make_batch(run, number, first, feed=feed and bool(run.tasks))
                receiver.start(batch)
                draw(functools.partial(show.show, model, rows, capture), rows)
                if run.scoring is not None:
                    _score(run, writer, tally, batch, receiver.pop_logits())
                found = receiver.end(functools.partial(_name_stimuli, run, rows))
                if batch.sequence_info is not None:
                    tally.end_batch(batch.sequence_info)
                if number == todo[-1]:
                    keeper.finish(len(run.plan), merged=merged)
                else:
                    keeper.end_batch()
                writer.commit(number, found)
                bar.update(len(rows), len(rows) * batch.n_positions)
    keeper.tell_first()


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


def open_capture(run: Run, take: Callable) -> Capture:
    """Return the hooks of a recording, to be used as a context manager.

    Parameters
    ----------
    run : Run
        What is recorded.
    take : callable
        Gets site and value.

    Returns
    -------
    capture : Capture
        On every recorded site, and where words are scored.
    """
    return Capture(run.subject.model, run.sites_shown, take, graph=run.compile is not False)


def _name_stimuli(run: Run, rows: list[int]) -> str:
    names = run.spec.trials.set_index("stimulus_index")["stimulus_id"].loc[rows]
    return f"stimuli {', '.join(names.iloc[:3])}{' ...' if len(names) > 3 else ''}"
