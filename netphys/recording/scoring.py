"""Surprisal, entropy and rank of every word while a language model is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from netphys.core.online import Statistic
from netphys.data.nwb_layout import SeriesSpec
from netphys.recording.forms import Forms
from netphys.recording.meter import UNITS, SurprisalMeter
from netphys.recording.online import BatchInfo
from netphys.recording.presentation import Presentation
from netphys.recording.segments import find_words
from netphys.recording.sites import Site, select_sites
from netphys.recording.slices import SliceWriter
from netphys.recording.subject import Subject
from netphys.recording.surprisal import find_punctuation
from netphys.recording.writer import Writer

FORM = "surprisal"


@dataclass(frozen=True)
class Scoring:
    """How the words of a recording are scored.

    Parameters
    ----------
    site : Site
        Where the logits pass.
    meter : SurprisalMeter
        Computes the numbers.
    series : SeriesSpec or None
        What the file holds of them; None if only statistics are kept.
    """

    site: Site
    meter: SurprisalMeter
    series: SeriesSpec | None

    def score(
        self, presentation: Presentation, rows: Sequence[int], logits: torch.Tensor
    ) -> tuple[np.ndarray, BatchInfo]:
        """Score the words of a batch.

        Parameters
        ----------
        presentation : Presentation
            What is shown.
        rows : sequence of int
            Trials of the batch.
        logits : Tensor, shape (n_trials, n_positions, n_vocabulary)
            What the model gave.

        Returns
        -------
        values : ndarray of float64, shape (n_words, 3)
            Surprisal and entropy in bits, and rank; NaN for a word that nothing precedes.
        batch : BatchInfo
            Which words these are.
        """
        scores = self.meter.score_batch(presentation, rows, logits)
        trial = np.array(rows, np.int64)[scores.trial]
        return scores.values, BatchInfo(trial, scores.position, word=scores.word)

    def write(
        self, writer: Writer | SliceWriter, values: np.ndarray, first: int, n_words: int
    ) -> None:
        """Write the scores of a batch, if they are stored.

        Parameters
        ----------
        writer : Writer or SliceWriter
            Where they go.
        values : ndarray, shape (n_words, 3)
            What `score` gave.
        first : int
            Their first row.
        n_words : int
            Words that the samples table has for this batch.
        """
        if self.series is None:
            return
        if len(values) != n_words:
            raise ValueError(
                f"store='surprisal': {len(values)} words were scored where the stimuli have "
                f"{n_words}: tokens of one word are apart. Give the words as word_spans."
            )
        block = writer.take(self.series.name, first, values.shape, "float64")
        block.values[:] = values
        writer.put(block)


def plan_scoring(
    subject: Subject,
    presentation: Presentation,
    forms: Forms,
    online: Sequence[Statistic],
    *,
    batch_size: int,
) -> Scoring | None:
    """Decide whether and how words are scored.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    presentation : Presentation
        What is shown.
    forms : Forms
        What is stored.
    online : sequence of Statistic
        Statistics; those of the scope "logits" need the scores too.
    batch_size : int
        Most sequences in an extra pass of a masked model.

    Returns
    -------
    scoring : Scoring or None
        None if nobody asks for it.

    Raises
    ------
    ValueError
        If the subject gives no logits over tokens, the stimuli have no words, or the text is
        generated while it is recorded.
    """
    stored = FORM in forms.store
    if not stored and not any(s.scope == "logits" for s in online):
        return None
    if presentation.decoding is not None:
        raise ValueError(
            "surprisal of text that is generated meanwhile is not to be had: it has no words yet. "
            "Record its generated_text as stimuli of its own."
        )
    find_words(presentation)  # or say that there are none
    return make_scoring(
        subject, punctuation=find_punctuation(presentation), stored=stored, batch_size=batch_size
    )


def make_scoring(subject: Subject, *, punctuation: str, stored: bool, batch_size: int) -> Scoring:
    """Return how the words that a subject sees are scored.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    punctuation : str
        "attached" or "separate": whether signs belong to the words that they touch.
    stored : bool
        Whether the file holds the scores.
    batch_size : int
        Most sequences in an extra pass of a masked model.

    Returns
    -------
    scoring : Scoring
        With the site of the logits.

    Raises
    ------
    ValueError
        If the subject gives no logits over tokens.
    """
    try:
        site = select_sites(subject.model, ["logits"])[-1]
    except ValueError as error:
        raise ValueError(
            f"{subject.name!r} has no site of the kind 'logits', which surprisal needs. Load the "
            "model with its language-modelling head."
        ) from error
    meter = SurprisalMeter(subject, punctuation=punctuation, batch_size=batch_size)
    series = None
    if stored:
        labels = pd.DataFrame({"layer": -1, "index": np.arange(len(UNITS)), "label": UNITS})
        series = SeriesSpec(f"{site.name}#{FORM}", site.kind, "word", "float64", labels)
    return Scoring(site, meter, series)
