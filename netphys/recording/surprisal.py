"""Surprisal, entropy and rank of the words and tokens that a language model is shown, in bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from netphys._check import check_positive, check_type
from netphys.data.stimuli import Stimuli
from netphys.recording.capture import hold_still
from netphys.recording.meter import UNITS, SurprisalMeter, WordScores
from netphys.recording.present import make_plan, present
from netphys.recording.presentation import Presentation
from netphys.recording.subject import Subject

NOTHING_BEFORE = "nothing precedes the first token"
SPECIAL = "special token"
NOT_FINITE = "the logits are not finite"


def compute_surprisal(
    subject: Subject,
    stimuli: Stimuli,
    *,
    per: str = "word",
    batch_size: int = 8,
    kind: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Compute how surprising each word of some texts is to a language model, in bits.

    Parameters
    ----------
    subject : Subject
        A causal or masked language model with its output layer; left exactly as it was.
    stimuli : Stimuli
        Texts; token ids with ``per="token"``.
    per : str
        "word": one row per word, its sub-tokens summed; "token": one row per token.
    batch_size : int
        Most sequences in one forward pass.
    kind : str, optional
        "causal" or "masked"; by custom from the model's class.
    progress : bool
        Show a progress bar.

    Returns
    -------
    table : DataFrame
        stimulus_id, word (from 0), text, position (of the first token in what was shown), n_tokens,
        surprisal (bits), entropy (bits), rank (1: most probable), measure and reason. In the order
        of the stimuli. ``table.attrs["surprisal"]`` says how words are told apart.

    Raises
    ------
    ValueError
        If the subject gives no logits over tokens, or the stimuli are not texts.

    Notes
    -----
    *Surprisal* is -log2 p(word | all before it). Where a token carries the space before it, the
    product over a word's tokens is the probability of a word that begins so, not of the word: the
    mass of all word-initial tokens (and the end of the text) after it belongs to it, and the same
    mass before it was known already [1]_ [2]_. Only with this correction do the probabilities of
    all words sum to one. A text's first word that no space precedes is conditioned on there being
    none. Words are cut as the stimuli say; where these leave signs out of words, a sign ends a word
    too. Seams without a space (a word cut into two by the stimuli) are not corrected.

    *Entropy* is that of the distribution over the next token before the word's first token; *rank*
    is that first token's place in it, 1 plus the number of tokens that are more probable (tokens
    that are equally probable share the better rank).

    The first token of what is shown has no probability unless the tokenizer puts a special token
    before it: NaN, and `reason` says so. A masked model has no probabilities of words: `measure` is
    then "pseudo-likelihood", the sum over a word's tokens with that token and the later ones of its
    word masked and everything else seen, both sides [3]_; one extra pass per token.

    References
    ----------
    .. [1] Pimentel T, Meister C (2024). EMNLP 18358-18375. doi:10.48550/arXiv.2406.14561
    .. [2] Oh BD, Schuler W (2024). EMNLP 3464-3472. doi:10.18653/v1/2024.emnlp-main.202
    .. [3] Kauf C, Ivanova A (2023). ACL 2 925-935. doi:10.18653/v1/2023.acl-short.80

    Examples
    --------
    >>> from netphys.recording.surprisal import compute_surprisal
    >>> subject = load_subject("builtin:language")
    >>> table = compute_surprisal(subject, load_stimuli(["The dog barked."]), progress=False)
    >>> list(table["text"])
    ['The', 'dog', 'barked.']
    """
    check_type("stimuli", stimuli, Stimuli, "what load_stimuli returns")
    check_positive("batch_size", batch_size)
    presentation = present(subject, stimuli)
    signs = find_punctuation(presentation)
    meter = SurprisalMeter(subject, per=per, punctuation=signs, batch_size=batch_size, kind=kind)
    plan = make_plan(presentation.keys, batch_size)
    parts = []
    with (
        hold_still(subject.model),
        tqdm(total=len(stimuli), desc="surprisal", unit="trial", disable=not progress) as bar,
    ):
        for rows in plan:
            logits = None
            if not meter.masked:
                args, kwargs = presentation.make_inputs(rows)
                output = subject.model(*args, **kwargs)
                logits = getattr(output, "logits", output)
            scores = meter.score_batch(presentation, rows, logits)
            parts.append(_make_table(stimuli, presentation, rows, scores, per))
            bar.update(len(rows))
    table = pd.concat(parts).sort_values(["trial", "position"], kind="stable", ignore_index=True)
    table["measure"] = meter.measure
    missing = np.where(table["position"] == 0, NOTHING_BEFORE, NOT_FINITE)
    if meter.masked:
        missing = np.where(table["word"] < 0, SPECIAL, NOT_FINITE)
    table["reason"] = np.where(table["surprisal"].isna(), missing, "")
    table = table.drop(columns="trial")
    table.attrs["surprisal"] = meter.describe()
    return table


def find_punctuation(presentation: Presentation) -> str:
    """Return whether the words of the stimuli hold the signs that touch them.

    Parameters
    ----------
    presentation : Presentation
        Texts made ready.

    Returns
    -------
    punctuation : str
        "separate" if any token that is not special and not white space belongs to no word.
    """
    for table in presentation.tables:
        if "word" not in table:
            continue
        loose = (table["word"] < 0) & ~table["special"]
        if any(str(t).strip("Ġ▁Ċ \n\t") for t in table["text"][loose]):
            return "separate"
    return "attached"


def _make_table(
    stimuli: Stimuli,
    presentation: Presentation,
    rows: Sequence[int],
    scores: WordScores,
    per: str,
) -> pd.DataFrame:
    trial = np.array(rows, np.int64)[scores.trial]
    table = pd.DataFrame(
        {
            "trial": trial,
            "stimulus_id": stimuli.table["stimulus_id"].to_numpy()[trial],
            "word": scores.word,
            "text": _find_texts(stimuli, presentation, trial, scores, per),
            "position": scores.position,
            "n_tokens": scores.n_tokens,
        }
    )
    for i, unit in enumerate(UNITS):
        table[unit] = scores.values[:, i]
    return table


def _find_texts(
    stimuli: Stimuli, presentation: Presentation, trial: np.ndarray, scores: WordScores, per: str
) -> np.ndarray:
    """Return the words, or the texts of the tokens."""
    texts = []
    for row, word, position in zip(trial.tolist(), scores.word, scores.position, strict=True):
        if per == "word":
            begin, end = stimuli.words(row)[word]
            texts.append(stimuli.item(row)[begin:end])
            continue
        kept = presentation.recorded
        at = position if kept is None else kept[row][:position].sum()
        names = presentation.tables[row].get("text")
        texts.append("" if names is None else names[at])
    return np.array(texts, object)
