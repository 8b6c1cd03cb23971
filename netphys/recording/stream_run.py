"""Recording of a corpus that is not held in memory: statistics alone, window after window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from netphys.core.online import Statistic
from netphys.data.stimuli import load_stimuli
from netphys.data.stream_position import StreamPosition
from netphys.recording import kernels
from netphys.recording.compiled import compile_model
from netphys.recording.corpus import Corpus
from netphys.recording.forms import Forms
from netphys.recording.keeper import Keeper
from netphys.recording.loop import open_capture
from netphys.recording.online import BatchInfo
from netphys.recording.opening import OpenFile
from netphys.recording.passes import Batch
from netphys.recording.plan import Clocks, plan_site
from netphys.recording.prepare import Run, describe_file, describe_sample, probe_sites
from netphys.recording.present import make_plan, present
from netphys.recording.progress import Progress
from netphys.recording.provenance import describe_corpus, make_provenance
from netphys.recording.ranks import Ranks
from netphys.recording.receiver import Receiver, make_tally
from netphys.recording.scoring import Scoring, make_scoring
from netphys.recording.sites import Site
from netphys.recording.statistics import Tally, plan_tasks
from netphys.recording.stream import (
    BatchStream,
    StreamBatch,
    find_added_tokens,
    stream_batches,
)
from netphys.recording.subject import Subject
from netphys.recording.writer import Writer


def prepare_stream(
    subject: Subject,
    corpus: Corpus,
    sites: list[Site],
    forms: Forms,
    online: Sequence[Statistic],
    options: Mapping,
    protocol: Mapping | None,
    *,
    n_ranks: int,
) -> Run:
    """Probe the sites with windows of made-up tokens, and describe the file.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    corpus : Corpus
        What is shown; nothing of it is read here.
    sites : list of Site
        Where to record.
    forms : Forms
        Which units; nothing is stored.
    online : sequence of Statistic
        Online statistics.
    options : dict
        batch_size, nonfinite, eager, and what else the provenance keeps.
    protocol : dict or None
        Resolved protocol.
    n_ranks : int
        Number of processes that record into the file.

    Returns
    -------
    run : Run
        Nothing is written yet.
    """
    short, long = [0] * min(3, corpus.window), [0] * corpus.window
    rows = [" ".join(map(str, ids)) for ids in (short, short, long)]
    made_up = load_stimuli(pd.DataFrame({"stimulus_id": list("abc"), "token_ids": rows}))
    presentation = present(subject, made_up)
    plan = make_plan(presentation.keys, options["batch_size"])
    shapes, _ = probe_sites(subject, presentation, plan, sites, forms.dtype, None)
    planned = [plan_site(s, forms, subject, presentation, None) for s in shapes]
    scoring = None
    if any(s.scope == "logits" for s in online):
        size = options["batch_size"]
        scoring = make_scoring(subject, punctuation="attached", stored=False, batch_size=size)
    tasks = plan_tasks(
        [s.resolve({}) for s in online],
        planned,
        subject=subject,
        sample=describe_sample(presentation, plan[0]),
        logits=None if scoring is None else scoring.site.name,
    )
    options = {**options, "online": [t.to_dict() for t in tasks], "ranks": n_ranks}
    if scoring is not None:
        options["surprisal"] = scoring.meter.describe()
    shown = describe_corpus(corpus, subject, options["batch_size"])
    provenance = make_provenance(subject, shown, planned, options, protocol)
    return Run(
        subject,
        presentation,
        plan,
        planned,
        Clocks({}, {}, pd.DataFrame(), {}),
        describe_file(subject, corpus.name, planned, tasks, provenance, n_ranks),
        nonfinite=options["nonfinite"],
        compile=options["compile"],
        tasks=tasks,
        codes={},
        scoring=scoring,
        corpus=corpus,
    )


def record_stream(
    run: Run,
    path: Path,
    opened: OpenFile,
    writing: Mapping,
    progress: bool,
    ranks: Ranks,
) -> None:
    """Show a corpus to its end, and write what the statistics found.

    Parameters
    ----------
    run : Run
        What is recorded.
    path : Path
        The file, made.
    opened : OpenFile
        Where its bytes lie, and where an interrupted run was.
    writing : dict
        Options of the writer.
    progress : bool
        Show a progress bar.
    ranks : Ranks
        Who else records into the file. Rank r of n shows every n-th batch from the r-th on; all
        read the whole corpus.

    Raises
    ------
    ValueError
        If the corpus is not the one of the interrupted run.
    """
    layout, _, checkpoint = opened
    tally = make_tally(run, checkpoint, plain=not any(map(len, find_added_tokens(run.subject))))
    merged = checkpoint is not None and checkpoint.is_final
    position = None if checkpoint is None else StreamPosition.unpack(checkpoint.position)
    with Writer(path, layout, {}, **writing) as writer:
        keeper = Keeper(writer, path, layout, run, tally, writing, ranks)
        if merged:
            check_same_corpus(run.corpus, position)
            n_batches, end = tally.n_done, position
        else:
            receiver = Receiver(run, writer, tally)
            with (
                open_capture(run, receiver.take) as capture,
                Progress(
                    writer,
                    path.name,
                    "token",
                    total=None,
                    unit="window",
                    n_ranks=ranks.size,
                    shown=progress,
                ) as bar,
            ):
                model = compile_model(run.subject.model, run.compile)
                stream = _open_stream(run, position)
                share = _Share(stream, ranks, tally.n_done)
                for batch in share:
                    ranks.check()
                    inputs = batch.make_inputs(run.subject)
                    made = _describe(batch, inputs if run.needs_inputs else None)
                    receiver.start(made)
                    capture.start()
                    model(*inputs[0], **inputs[1])
                    capture.check()
                    if run.scoring is not None:
                        _score(run.scoring, tally, batch, receiver.pop_logits())
                    receiver.end(lambda b=batch: f"items {b.document.min()} to {b.document.max()}")
                    tally.end_batch(made.sequence_info)
                    keeper.end_batch(batch.after.pack())
                    bar.update(len(made.rows), batch.ids.size)
            n_batches, end = share.n_seen, stream.end
        keeper.finish(n_batches, merged=merged, position=end.pack())
        if ranks.is_first:
            writer.commit(0, np.zeros((0, 2), np.int64))
    keeper.tell_first()


def check_same_corpus(corpus: Corpus, position: StreamPosition) -> None:
    """Read a corpus and refuse one that is not what a finished run has seen.

    Parameters
    ----------
    corpus : Corpus
        What is given now.
    position : StreamPosition
        Where the run ended.

    Raises
    ------
    ValueError
        If its items are others, or their number is.
    """
    found = corpus.compute_digest(position.n_read)
    if found != (position.n_read, position.digest):
        raise ValueError(
            f"source: the recording is finished and has seen {position.n_read} items, which are "
            f"not those of {corpus.name!r}. Give the same corpus in the same order, record to "
            "another path, or replace it with overwrite=True."
        )


class _Share(Iterator[StreamBatch]):
    """The batches of one rank, and how many there are of all ranks."""

    def __init__(self, stream: BatchStream, ranks: Ranks, n_done: int):
        self._stream, self._ranks = stream, ranks
        # a position lies after the last batch of this rank, not before its next one
        self.n_seen = ranks.rank + ranks.size * (n_done - 1) + 1 if n_done else 0

    def __next__(self) -> StreamBatch:
        while True:
            batch = next(self._stream)
            self.n_seen += 1
            if (self.n_seen - 1) % self._ranks.size == self._ranks.rank:
                return batch


def _open_stream(run: Run, position: StreamPosition | None) -> BatchStream:
    corpus, size = run.corpus, run.spec.provenance["plan"]["batch_size"]
    options = corpus.describe()
    return stream_batches(run.subject, corpus.source, **options, batch_size=size, start=position)


def _describe(batch: StreamBatch, inputs: tuple[tuple, dict] | None) -> Batch:
    """Return where the rows of a batch lie, and which samples they are."""
    n, length = batch.ids.shape
    return Batch(
        number=0,
        rows=list(range(n)),
        n_positions=length,
        first={},
        sequence=kernels.make_plan(n * length),
        item=kernels.make_plan(n),
        sequence_info=batch.describe_rows(inputs),
        item_info=BatchInfo(batch.trial, np.zeros_like(batch.trial)),
    )


def _score(scoring: Scoring, tally: Tally, batch: StreamBatch, logits) -> None:
    """Feed the scores of a batch's words."""
    if tally.n_done == 0 and not (batch.word >= 0).any():
        raise ValueError(
            "online: surprisal is that of words, and the source gives token ids, or windows "
            "shorter than a word. Give texts, or a longer window."
        )
    scores = scoring.meter.score(batch.ids, batch.word, logits)
    info = BatchInfo(batch.trial[scores.trial], scores.position, word=scores.word)
    tally.feed_scores(scores.values, info)
