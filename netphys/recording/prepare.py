"""What is settled before the first sample: shapes, series, clocks, the file's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from netphys.core.online import Statistic
from netphys.data.nwb_layout import SeriesSpec, SessionSpec
from netphys.data.online_state import SLOTS, Task, compute_slot_bytes, plan_tables
from netphys.data.stimuli import Stimuli
from netphys.recording.capture import Capture
from netphys.recording.corpus import Corpus
from netphys.recording.forms import Forms, check_patterns
from netphys.recording.online import BatchInfo
from netphys.recording.plan import Clocks, SitePlan, make_clocks, plan_site
from netphys.recording.present import Presentation, hash_inputs, make_plan
from netphys.recording.provenance import describe_stimuli, hash_plan, make_provenance
from netphys.recording.ranks import Ranks
from netphys.recording.rows import SiteShape, find_shape
from netphys.recording.scales import find_scales
from netphys.recording.scoring import Scoring, plan_scoring
from netphys.recording.sites import Site
from netphys.recording.slices import find_slices
from netphys.recording.statistics import plan_tasks
from netphys.recording.subject import Subject
from netphys.recording.variability import find_draw_seeds, show_variability

_DESCRIPTIONS = {
    "stimulus_id": "name of the stimulus",
    "stimulus_index": "row of the stimulus table, from 0",
    "batch": "planned batch in which the trial was shown",
    "variability": "why repeats of a stimulus differ; none: the subject answers alike every time",
    "trial": "row of the stimulus table (stimulus_index of the trials table)",
    "position": "place in the sequence that was shown, from 0",
    "onset": "seconds from the start of the stimulus, where known",
    "token_id": "number of the token in the subject's vocabulary",
    "text": "text of the token, or of the stimulus",
    "word": "number of the word in the text; -1: none",
    "char_begin": "first character in the text; -1: none",
    "char_end": "character after the last in the text; -1: none",
    "special": "whether the tokenizer added it",
    "layer": "depth of the block from 0; -1: none",
    "index": "number of the unit within its site",
    "label": "name of the unit",
    "n_tokens": "tokens of the word",
    "threshold": "what the unit exceeds where the raster is 1, a.u.",
    "repeat": "number of the repeat of a stimulus, from 0",
    "repeat_of": "stimulus_id of the stimulus that is repeated",
    "draw_seed": "with those of its batch, seeds what the subject draws at random in the trial",
    "phase": "prefill: shown with the whole prompt; decode: generated, shown alone",
    "n_prompt_tokens": "tokens of the prompt, with its context",
    "n_generated_tokens": "tokens that were generated; the last one is not shown to the subject",
    "stop_reason": "eos: the subject ended it; limit: max_new_tokens did",
    "generated_token_ids": "numbers of the generated tokens",
    "generated_text": "text of the generated tokens, without special ones",
    "scale": "what one step of the stored int8 values stands for, a.u.",
}


@dataclass(frozen=True)
class Run:
    """All that is settled before the first sample.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    presentation : Presentation
        What is shown.
    plan : list of list of int
        Trials of each batch.
    sites : list of SitePlan
        What is stored of each site.
    clocks : Clocks
        Where the rows of each batch lie.
    spec : SessionSpec
        What the file will hold.
    nonfinite : str
        "raise" or "keep".
    compile : bool or dict
        Whether the model is compiled, or how.
    tasks : list of Task
        Online statistics and their sites.
    codes : dict of str to ndarray of int64
        Of columns of labels the number of each trial's label, in the order of the stimulus table.
    draw_seeds : ndarray of int64 or None
        Where dropout is active: the seed of each trial, in the order of the stimulus table.
    scoring : Scoring or None
        How words are scored.
    corpus : Corpus or None
        What is shown in place of the presentation, which then stands for its shapes only.
    """

    subject: Subject
    presentation: Presentation
    plan: list[list[int]]
    sites: list[SitePlan]
    clocks: Clocks
    spec: SessionSpec
    nonfinite: str
    compile: bool | Mapping[str, object]
    tasks: list[Task]
    codes: Mapping[str, np.ndarray]
    draw_seeds: np.ndarray | None = None
    scoring: Scoring | None = None
    corpus: Corpus | None = None

    @property
    def sites_shown(self) -> list[Site]:
        """Where hooks are set: the recorded sites, and the logits where words are scored."""
        sites = [p.shape.site for p in self.sites]
        if self.scoring is not None and self.scoring.site.name not in [s.name for s in sites]:
            sites.append(self.scoring.site)
        return sites

    @property
    def needs_inputs(self) -> bool:
        """Whether a statistic shows the same inputs to a second subject."""
        return any(getattr(t.statistic, "other", None) is not None for t in self.tasks)


def prepare(
    subject: Subject,
    stimuli: Stimuli,
    presentation: Presentation,
    sites: list[Site],
    forms: Forms,
    online: Sequence[Statistic],
    options: Mapping,
    protocol: Mapping | None,
    *,
    n_ranks: int = 1,
    parts: Ranks | None = None,
    slices: Ranks | None = None,
) -> Run:
    """Plan the batches, probe the sites, and describe the file.

    Parameters
    ----------
    subject, stimuli
        Who is shown what.
    presentation : Presentation
        The stimuli, made ready for the subject.
    sites : list of Site
        Where to record.
    forms : Forms
        What to store.
    online : sequence of Statistic
        Online statistics.
    options : dict
        batch_size, nonfinite, eager, and what else the provenance keeps.
    protocol : dict or None
        Resolved protocol.
    n_ranks : int
        Number of processes that record into the file.
    parts : Ranks, optional
        The processes that each record their batches into a file of their own.
    slices : Ranks, optional
        The processes that hold a slice of the model each.

    Returns
    -------
    run : Run
        Nothing is written yet.
    """
    check_patterns(forms, sites)
    plan = make_plan(presentation.keys, options["batch_size"])
    draw_seeds = find_draw_seeds(stimuli.table, "dropout")
    scales, digests = {}, {} if slices is not None else None
    with show_variability(subject.model, draw_seeds) as draw:
        shapes, inputs_hash = draw(
            lambda: probe_sites(subject, presentation, plan, sites, forms.dtype, digests), [0]
        )
        if forms.dtype == "int8":
            scales = draw(lambda: find_scales(subject, presentation, plan, shapes), [0])
    if slices is not None:
        shapes = find_slices(subject.model, shapes, digests, slices)
    share = None
    if parts is not None:
        plan, share = _take_share(presentation, plan, parts)
    planned = [plan_site(s, forms, subject, presentation, scales.get(s.site.name)) for s in shapes]
    clocks = make_clocks(presentation, plan, forms, planned)
    labels, codes = _number_labels(stimuli)
    scoring = plan_scoring(subject, presentation, forms, online, batch_size=options["batch_size"])
    tasks = plan_tasks(
        [s.resolve(labels) for s in online],
        planned,
        subject=subject,
        sample=describe_sample(presentation, plan[0]),
        logits=None if scoring is None else scoring.site.name,
    )
    options = {**options, "online": [t.to_dict() for t in tasks], "ranks": n_ranks, "share": share}
    if scoring is not None:
        options["surprisal"] = scoring.meter.describe()
    shown = describe_stimuli(stimuli, presentation, plan, options["batch_size"], inputs_hash)
    provenance = make_provenance(subject, shown, planned, options, protocol)
    extra = (scoring.series,) if scoring is not None and scoring.series is not None else ()
    provenance["series"] += [s.name for s in extra]
    spec = _make_spec(
        stimuli,
        presentation,
        clocks,
        extra,
        describe_file(subject, stimuli.name, planned, tasks, provenance, n_ranks),
    )
    return Run(
        subject,
        presentation,
        plan,
        planned,
        clocks,
        spec,
        nonfinite=options["nonfinite"],
        compile=options["compile"],
        tasks=tasks,
        codes=codes,
        draw_seeds=draw_seeds,
        scoring=scoring,
    )


def describe_sample(presentation: Presentation, rows: list[int]) -> BatchInfo:
    """Return a batch with its inputs, as a second subject needs to be shown it.

    Parameters
    ----------
    presentation : Presentation
        What is shown.
    rows : list of int
        Trials of the batch.

    Returns
    -------
    batch : BatchInfo
        Of trials without numbers.
    """
    mask, n_positions = presentation.mask(rows), int(presentation.n_shown[rows[0]])
    n = len(rows) * n_positions if mask is None else int(mask.sum())
    return BatchInfo(
        np.zeros(n, np.int64),
        np.arange(n),
        inputs=presentation.make_inputs(rows),
        n_trials=len(rows),
        n_positions=n_positions,
        mask=mask,
    )


def probe_sites(
    subject: Subject,
    presentation: Presentation,
    plan: list[list[int]],
    sites: list[Site],
    dtype: str,
    digests: dict[str, str] | None,
) -> tuple[list[SiteShape], str]:
    """Run one batch, and one of another length, keep the shapes and throw the values away.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    presentation : Presentation
        What is shown.
    plan : list of list of int
        Trials of each batch.
    sites : list of Site
        Where to record.
    dtype : str
        What is asked for.
    digests : dict or None
        Takes the hash of what passed each site.

    Returns
    -------
    shapes : list of SiteShape
        In the order in which the model computes them.
    digest : str
        Hash of the first batch's inputs: it tells processors and input functions apart.
    """
    lengths = presentation.n_shown
    rows = max(plan, key=lambda b: (lengths[b[0]] > 1, len(b) * lengths[b[0]]))
    if presentation.is_sequence and len(rows) == lengths[rows[0]] > 1:
        rows = rows[:-1]  # as many trials as positions would not tell the two axes apart
    other = next((b for b in plan if presentation.keys[b[0]] != presentation.keys[rows[0]]), None)
    found: dict[str, SiteShape] = {}

    def take(site: Site, value: torch.Tensor) -> None:
        size = len(rows), int(lengths[rows[0]])
        if site.name not in found:
            longest, sequence = int(lengths.max()), presentation.is_sequence
            found[site.name] = find_shape(
                site, value, *size, sequence=sequence, n_keys=longest, dtype=dtype
            )
        found[site.name].to_rows(value, *size)
        if digests is not None:
            digests.setdefault(site.name, hash_inputs([value]))

    with Capture(subject.model, sites, take) as capture:
        for batch in [rows] if other is None else [rows, other]:
            rows = batch
            capture.start()
            args, kwargs = presentation.make_inputs(rows)
            subject.model(*args, **kwargs)
            capture.check()
    args, kwargs = presentation.make_inputs(plan[0])
    return list(found.values()), hash_inputs((*args, *kwargs.values()))


def _take_share(
    presentation: Presentation, plan: list[list[int]], ranks: Ranks
) -> tuple[list[list[int]], dict]:
    """Return the batches of this rank, and which they are."""
    if len(plan) < ranks.size:
        raise ValueError(
            f"files='per-rank': {ranks.size} ranks cannot share {len(plan)} batches. Start fewer, "
            "or give a smaller batch_size."
        )
    share = ranks.share(compute_costs(presentation, plan))
    about = {
        "rank": ranks.rank,
        "ranks": ranks.size,
        "first_batch": share.start,
        "plan_sha256": hash_plan(plan),
    }
    return plan[share.start : share.stop], about


def compute_costs(presentation: Presentation, plan: Sequence[Sequence[int]]) -> list[int]:
    """Return how many samples each batch shows.

    Parameters
    ----------
    presentation : Presentation
        What is shown.
    plan : sequence of sequence of int
        Trials of each batch.

    Returns
    -------
    costs : list of int
        Trials times positions.
    """
    return [len(rows) * int(presentation.n_shown[rows[0]]) for rows in plan]


def _make_spec(
    stimuli: Stimuli,
    presentation: Presentation,
    clocks: Clocks,
    extra: tuple[SeriesSpec, ...],
    about: SessionSpec,
) -> SessionSpec:
    """Add the trials, their samples, and the series of scores to what is known of a file."""
    order, decoding = clocks.trials["stimulus_index"].to_numpy(), presentation.decoding
    columns = stimuli.table.iloc[order].reset_index(drop=True)
    made = {} if decoding is None else {k: v[order] for k, v in decoding.columns.items()}
    trials = pd.concat([clocks.trials, columns.drop(columns=made, errors="ignore")], axis=1)
    trials = trials.assign(**made)
    if "variability" not in trials:
        trials.insert(len(clocks.trials.columns), "variability", "none")
    return replace(
        about,
        series=(*about.series, *extra),
        trials=trials,
        samples=clocks.tables,
        times=clocks.times,
        n_batches=int(clocks.trials["batch"].iloc[-1]) + 1,
    )


def describe_file(
    subject: Subject,
    shown: str,
    sites: Sequence[SitePlan],
    tasks: Sequence[Task],
    provenance: dict,
    n_ranks: int,
) -> SessionSpec:
    """Return what a file is to hold, but for the trials: one batch, of which nothing is stored.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    shown : str
        Name of what is shown.
    sites : sequence of SitePlan
        What is stored of each site.
    tasks : sequence of Task
        Online statistics.
    provenance : dict
        How it is made.
    n_ranks : int
        Number of processes that record into the file.

    Returns
    -------
    spec : SessionSpec
        Without trials and samples.
    """
    return SessionSpec(
        series=tuple(s for p in sites for s in p.series.values()),
        trials=pd.DataFrame(),
        samples={},
        times={},
        n_batches=1,
        provenance=provenance,
        title=f"{subject.name} ({subject.init}) on {shown}",
        subject=subject.name.replace("/", "--"),
        subject_description=f"{provenance['subject']['class']}, init {subject.init}",
        descriptions=_DESCRIPTIONS,
        tables=plan_tables(tasks),
        state=(SLOTS * n_ranks, compute_slot_bytes(tasks)) if tasks else (0, 0),
        units={p.shape.site.name: p.units_table for p in sites if "samples" not in p.series},
    )


def _number_labels(stimuli: Stimuli) -> tuple[dict[str, list], dict[str, np.ndarray]]:
    """Return the labels of every column of texts, and the number of each trial's label."""
    labels, codes = {}, {}
    for name, column in stimuli.table.items():
        if not pd.api.types.is_numeric_dtype(column):
            numbers, names = pd.factorize(column.astype(str))
            labels[str(name)], codes[str(name)] = list(names), numbers.astype(np.int64)
    return labels, codes
