"""How stimuli reach a subject: tokens, clocks, model inputs, the plan of equal-length batches."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
import torch

from netphys.data.stimuli import Stimuli
from netphys.recording.audio import present_audio
from netphys.recording.images import ImageLoader
from netphys.recording.presentation import Presentation, call_input_fn, make_feeder
from netphys.recording.sites import find_towers
from netphys.recording.subject import Subject, add_tensor

_KINDS = {
    "input_ids": ("text", "tokens"),
    "pixel_values": ("image",),
    "input_values": ("audio", "array"),
    "input_features": ("audio", "array"),
}
CONTEXT_RULE = (
    "context and text are joined by one space unless the context ends in white space; all of it is "
    "shown in one forward pass; recorded is from the first token that begins in the text (white "
    "space not counted) to the end"
)


def present(subject: Subject, stimuli: Stimuli) -> Presentation:
    """Tokenize or otherwise prepare stimuli for a subject.

    Parameters
    ----------
    subject : Subject
        Who is shown them.
    stimuli : Stimuli
        What is shown.

    Returns
    -------
    presentation : Presentation
        In the order of the stimulus table.

    Raises
    ------
    ValueError
        If the subject cannot take this kind, a text is longer than its context, or a token is
        unknown.
    """
    takes = subject.input_name
    kind = stimuli.kind
    fits = _KINDS.get(takes)
    if subject.input_fn is None and fits is not None and kind not in fits:
        raise ValueError(
            f"stimuli of kind {kind!r} do not fit {subject.name!r}, which takes "
            f"{' or '.join(fits)}. Give other stimuli, or load the subject with input_fn=."
        )
    if subject.input_fn is None and find_towers(subject.model):
        raise ValueError(
            f"{subject.name!r} sees texts and images together. Load it with input_fn=, which "
            "returns input_ids and pixel_values, or load one of its towers."
        )
    if kind == "text" and subject.tokenizer is not None:
        return _present_text(subject, stimuli)
    if kind == "text" and subject.input_fn is None:
        raise ValueError(
            f"{subject.name!r} has no tokenizer. Give load_subject(..., tokenizer=), an input_fn, "
            "or stimuli with token_ids."
        )
    if kind == "tokens":
        return _present_tokens(subject, stimuli)
    if kind == "audio":
        return present_audio(subject, stimuli)
    return _present_items(subject, stimuli)


def make_plan(keys: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Divide trials into batches of equal length, so that nothing is ever padded.

    Parameters
    ----------
    keys : sequence
        One per trial; equal keys may share a batch.
    batch_size : int
        Most trials in one batch.

    Returns
    -------
    plan : list of list of int
        Trials of each batch; lengths in order of first appearance, trials in their own order.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return [
        rows[i : i + batch_size]
        for rows in groups.values()
        for i in range(0, len(rows), batch_size)
    ]


def hash_inputs(values: Sequence[object]) -> str:
    """Return the SHA-256 of the tensors that a model is given.

    Parameters
    ----------
    values : sequence
        Its arguments; what is no tensor counts by its text.

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            add_tensor(digest, value)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _present_text(subject: Subject, stimuli: Stimuli) -> Presentation:
    tokenizer = subject.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"the tokenizer of {subject.name!r} gives no character offsets. Give a fast tokenizer: "
            "load_subject(..., tokenizer=)."
        )
    ids, recorded, tables = [], [], []
    onsets = stimuli.table.get("word_onsets")
    for row in range(len(stimuli)):
        text, context = stimuli.item(row), stimuli.context(row)
        lead = context + ("" if not context or context[-1].isspace() else " ")
        coded = tokenizer(
            lead + text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
        )
        token_ids = np.array(coded["input_ids"], np.int64)
        _check_length(subject, stimuli, row, len(token_ids))
        times = onsets.iloc[row] if onsets is not None else ""
        words = stimuli.words(row)
        table = _describe_tokens(tokenizer, coded, lead + text, len(lead), words, times)
        keep = table.pop("own")
        if not keep.any():
            raise ValueError(
                f"stimulus {stimuli.table['stimulus_id'].iloc[row]!r} has no token of its own."
            )
        ids.append(token_ids)
        recorded.append(keep)
        tables.append({"token_id": token_ids[keep], **{k: v[keep] for k, v in table.items()}})
    return _make_sequence(subject, "token", ids, recorded, tables)


def _describe_tokens(
    tokenizer, coded, shown: str, start: int, words: list[tuple[int, int]], times: str
) -> dict[str, np.ndarray]:
    """Return what the samples table says of every token of context and text.

    `start` is where the text begins in what is shown; `own` marks the tokens that are recorded.
    """
    n = len(coded["input_ids"])
    special = np.array(coded["special_tokens_mask"], bool)
    begin, end = np.array(coded["offset_mapping"], np.int64).reshape(n, 2).T
    pieces, word = [], np.full(n, -1, np.int64)
    ends = np.array([b for _, b in words], np.int64)
    names = tokenizer.convert_ids_to_tokens(coded["input_ids"])
    for i in range(n):
        piece = shown[begin[i] : end[i]]
        # some tokenizers count the space before a word to its token, some do not
        begin[i] += len(piece) - len(piece.lstrip())
        pieces.append(piece.strip() or names[i])
        begin[i], end[i] = begin[i] - start, end[i] - start
        if not special[i] and begin[i] >= 0:
            w = int(np.searchsorted(ends, begin[i], side="right"))
            # a lone space has no width: it belongs to the word that follows
            reach = max(end[i], begin[i] + 1)
            word[i] = w if w < len(words) and words[w][0] < reach else -1
    own = ~special & (begin >= 0) & (end > 0)
    if start:  # with a context everything before the first token of the text is only shown
        own[int(np.argmax(own)) if own.any() else n :] = True
    else:
        own[:] = True
    onset = np.full(n, np.nan)
    if times:
        seconds = np.array([float(t) for t in times.split()] + [np.nan])
        onset = seconds[word]
    begin[special], end[special] = -1, -1
    return {
        "onset": onset,
        "text": np.array(pieces, object),
        "word": word,
        "char_begin": begin,
        "char_end": end,
        "special": special,
        "own": own,
    }


def _check_length(subject: Subject, stimuli: Stimuli, row: int, n_tokens: int) -> None:
    limit = subject.max_length
    if limit is not None and n_tokens > limit:
        raise ValueError(
            f"stimulus {stimuli.table['stimulus_id'].iloc[row]!r} (row {row + 1}) has {n_tokens} "
            f"tokens with its context; {subject.name!r} takes at most {limit}. Shorten or split "
            "it."
        )


def _present_tokens(subject: Subject, stimuli: Stimuli) -> Presentation:
    ids, tables = [], []
    size = getattr(subject.config, "vocab_size", None)
    for row in range(len(stimuli)):
        token_ids = np.array(stimuli.item(row), np.int64)
        _check_length(subject, stimuli, row, len(token_ids))
        if size is not None and token_ids.max() >= size:
            raise ValueError(
                f"stimulus {stimuli.table['stimulus_id'].iloc[row]!r}: token id "
                f"{token_ids.max()} is "
                f"unknown to {subject.name!r}. Allowed: 0 to {size - 1}."
            )
        ids.append(token_ids)
        table = {"token_id": token_ids}
        if subject.tokenizer is not None:
            names = subject.tokenizer.convert_ids_to_tokens(token_ids.tolist())
            table["text"] = np.array([str(n) for n in names], object)
        tables.append(table)
    return _make_sequence(subject, "token", ids, None, tables)


def _make_sequence(subject: Subject, clock, ids, recorded, tables) -> Presentation:
    def make_inputs(rows: Sequence[int]) -> tuple[tuple, dict]:
        if subject.input_fn is not None:
            return call_input_fn(subject, [ids[r].tolist() for r in rows])
        batch = torch.from_numpy(np.stack([ids[r] for r in rows])).to(subject.device)
        return ((), {"input_ids": batch}) if subject.config is not None else ((batch,), {})

    lengths = np.array([len(i) for i in ids])
    return Presentation(clock, lengths.tolist(), lengths, recorded, tables, make_inputs)


def _present_items(subject: Subject, stimuli: Stimuli) -> Presentation:
    """Prepare images, frames, arrays, and texts for a model with its own input function."""
    clock = {"image": "image", "frames": "frame"}.get(stimuli.kind, "item")
    ready = ImageLoader(subject, stimuli) if stimuli.kind == "image" else stimuli.item
    shape_of = ready.shape if stimuli.kind == "image" else lambda row: np.shape(stimuli.item(row))
    shapes = [shape_of(r) for r in range(len(stimuli))]
    lengths = np.array([s[0] if clock == "frame" else 1 for s in shapes])
    tables: list[dict[str, np.ndarray]] = [{} for _ in shapes]
    if clock == "frame":
        tables = [{"onset": np.arange(n) / stimuli.rate} for n in lengths]
    feed = make_feeder(subject, ready)
    return Presentation(clock, shapes, lengths, None, tables, feed, stimuli.rate)


def make_sample_table(presentation: Presentation, order: Sequence[int]) -> pd.DataFrame:
    """Return the samples table in order of recording.

    Parameters
    ----------
    presentation : Presentation
        Its trials in the order of the stimulus table.
    order : sequence of int
        Trials in order of recording.

    Returns
    -------
    table : DataFrame
        One row per sample: trial (row of the stimulus table), position, then what is known of it.
    """
    counts = presentation.n_recorded[list(order)]
    columns: dict[str, np.ndarray] = {
        "trial": np.repeat(np.array(order, np.int64), counts),
        "position": np.concatenate([_positions(presentation, r) for r in order]),
    }
    for name in presentation.tables[0]:
        columns[name] = np.concatenate([presentation.tables[r][name] for r in order])
    return pd.DataFrame(columns)


def _positions(presentation: Presentation, row: int) -> np.ndarray:
    """Return the positions of a trial's samples in what was shown, counted from 0."""
    if presentation.recorded is None:
        return np.arange(presentation.n_shown[row])
    return np.flatnonzero(presentation.recorded[row])
