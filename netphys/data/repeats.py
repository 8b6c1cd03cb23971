"""Repeats of stimuli that differ for a stated reason, and the check that repeats do differ.

A network in eval mode answers the same input in the same way, bit for bit. Showing a stimulus twice
therefore measures nothing; a real repeat differs in its context, its wording, its pixels, or in
what the network draws at random.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_positive, check_type, suggest
from netphys.data._augment import Augmentation
from netphys.data._image_files import read_image
from netphys.data._stimulus_checks import check_items, check_table
from netphys.data._stimulus_table import load_table, make_plain_columns
from netphys.data.stimuli import Stimuli

REPEAT_KINDS = ("context", "paraphrase", "augmentation", "dropout", "sampling")
_ADDED = ("repeat", "repeat_of", "variability", "draw_seed")
_SEEDS = 2**31  # draw seeds are below


def make_repeats(
    stimuli: Stimuli,
    *,
    kind: str,
    n: int,
    rng: int | np.random.Generator | None = None,
    contexts: Sequence[str] | pd.DataFrame | str | os.PathLike | None = None,
    paraphrases: pd.DataFrame | str | os.PathLike | None = None,
    shift: int = 0,
    crop: float = 0.0,
    brightness: float = 0.0,
    noise: float = 0.0,
) -> Stimuli:
    """Make repeats of every stimulus that differ for a reason that the session file states.

    Parameters
    ----------
    stimuli : Stimuli
        What is repeated.
    kind : str
        "context": the same text after another context each time; "paraphrase": other words for the
        same; "augmentation": an image or array changed a little; "dropout": the same item while the
        network's dropout is active; "sampling": the same prompt for ``record(..., generate=)``.
    n : int
        Repeats of each stimulus, at least 2.
    rng : int, Generator or None
        What contexts, changes and seeds are drawn with; with None a seed is drawn and stored in the
        name of the set.
    contexts : sequence of str, table or file, optional
        For "context": texts to draw from, or a table with columns stimulus_id and context (the
        first `n` of each stimulus are taken); the other texts of the set if left out.
    paraphrases : table or file, optional
        For "paraphrase": columns stimulus_id and text (and word_spans, word_onsets where these are
        known), the first `n` of each stimulus are taken.
    shift : int
        For "augmentation" of images: most pixels to move along either axis.
    crop : float
        For images: largest part of either side that is cut away before enlarging, from 0 to 1.
    brightness : float
        For images: values are multiplied by 1 - brightness to 1 + brightness.
    noise : float
        For images, arrays, frames and sounds: SD of added Gaussian noise, in units of the values.

    Returns
    -------
    repeats : Stimuli
        `n` rows per stimulus, one after the other, with the columns `repeat_of` (stimulus_id of
        the original), `repeat` (from 0), `variability` (= `kind`), `condition` (the original's, or
        its stimulus_id where it has none), and what was drawn. Items of "augmentation" are held in
        memory.

    Raises
    ------
    TypeError, ValueError
        If the kind does not fit the stimuli, an option belongs to another kind, or there are too
        few contexts or paraphrases; the message names the stimulus.

    Examples
    --------
    >>> stimuli = load_stimuli(["The cat sat.", "A dog ran.", "It rains."])
    >>> repeats = make_repeats(stimuli, kind="context", n=2, rng=0)
    >>> repeats.table[["repeat_of", "repeat", "text"]].values.tolist()[:2]
    [['s1', 0, 'The cat sat.'], ['s1', 1, 'The cat sat.']]
    """
    check_type("stimuli", stimuli, Stimuli, "what load_stimuli returns")
    check_option("kind", kind, REPEAT_KINDS)
    check_positive("n", n)
    if n < 2:
        raise ValueError(f"n={n} makes no repeats. Give at least 2.")
    how = Augmentation(shift, crop, brightness, noise)
    _check_options(kind, contexts, paraphrases, how)
    _check_fresh(stimuli)
    rng, drawn_with = _make_rng(rng)
    table = _repeat_table(stimuli, kind, n)
    arrays = stimuli.arrays and tuple(a for a in stimuli.arrays for _ in range(n))
    if kind == "context":
        table["context"] = _find_contexts(stimuli, contexts, n, rng)
    elif kind == "paraphrase":
        table = _paraphrase(stimuli, table, paraphrases, n)
    elif kind == "augmentation":
        arrays, drawn = _augment(stimuli, how, n, rng)
        table = table.assign(**drawn)
    else:
        table["draw_seed"] = rng.integers(0, _SEEDS, len(table))
    name = f"{stimuli.name}: {n} repeats, {kind}, {drawn_with}"
    made = dataclasses.replace(stimuli, table=table, arrays=arrays, name=name)
    check_table(made.table)
    check_items(made)
    return made


def check_repeats(data: xr.DataArray, *, by: str = "repeat_of") -> None:
    """Raise unless every stimulus was repeated, and its repeats differ.

    Parameters
    ----------
    data : DataArray, dims (trial, ...)
        Activity, arbitrary units, such as ``session.pool(site)`` or ``session.trials(site)``.
    by : str
        Trial coordinate that is the same for the repeats of a stimulus.

    Raises
    ------
    TypeError
        If `data` is no DataArray.
    ValueError
        If a stimulus occurs once, or two of its repeats are identical bit for bit. Where the
        repeats differ by sampling (coordinate `variability`), two may agree by chance; all of a
        stimulus may not.

    Examples
    --------
    >>> import xarray as xr
    >>> data = xr.DataArray([[1.0, 2.0], [1.0, 2.0]], dims=("trial", "unit"))
    >>> check_repeats(data.assign_coords(repeat_of=("trial", ["a", "a"])))
    Traceback (most recent call last):
    ...
    ValueError: repeats 1 and 2 of 'a' (repeat_of) are identical bit for bit, ...
    """
    check_type("data", data, xr.DataArray, "a DataArray with a dim trial: session.pool(site)")
    if "trial" not in data.dims or by not in data.coords or data[by].dims != ("trial",):
        known = [str(c) for c in data.coords if data[c].dims == ("trial",)]
        raise ValueError(
            f"by={by!r} is no coordinate of trials.{suggest(by, known)} "
            f"There are: {', '.join(known) or 'none'}."
        )
    loose = "variability" in data.coords and set(data["variability"].values) == {"sampling"}
    for label, found in _hash_trials(data, by).items():
        if len(found) < 2:
            raise ValueError(
                f"{label!r} ({by}) was shown once: there is no noise to measure. Show every "
                "stimulus several times: make_repeats(stimuli, kind=, n=)."
            )
        first = {digest: i for i, digest in reversed(list(enumerate(found)))}
        if len(first) == len(found) or (loose and len(first) > 1):
            continue
        second = next(i for i, digest in enumerate(found) if first[digest] != i)
        raise ValueError(
            f"repeats {first[found[second]] + 1} and {second + 1} of {label!r} ({by}) are identical"
            " bit for bit, so the noise between them is none. A network answers the same input in "
            "the same way: make real repeats with make_repeats(stimuli, kind=, n=)."
        )


def _hash_trials(data: xr.DataArray, by: str) -> dict[object, list[bytes]]:
    """Return per label the hashes of its trials; NaN equals NaN, and 0 equals -0."""
    values = data.transpose("trial", ...).to_numpy()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values) + 0.0
    values = np.ascontiguousarray(values)
    found: dict[object, list[bytes]] = {}
    for row, label in zip(values, data[by].values.tolist(), strict=True):
        found.setdefault(label, []).append(hashlib.sha256(row.tobytes()).digest())
    return found


def _check_options(kind: str, contexts: object, paraphrases: object, how: Augmentation) -> None:
    """Raise for options that belong to another kind: they would do nothing."""
    given = {
        "context": {"contexts": contexts is not None},
        "paraphrase": {"paraphrases": paraphrases is not None},
        "augmentation": {
            f.name: bool(getattr(how, f.name)) for f in dataclasses.fields(Augmentation)
        },
    }
    for owner, options in given.items():
        for name, is_given in options.items():
            if is_given and owner != kind:
                raise ValueError(f"{name}= is for kind={owner!r}, not {kind!r}. Leave it out.")
    if kind == "paraphrase" and paraphrases is None:
        raise ValueError(
            "kind='paraphrase' needs paraphrases=: a table with the columns stimulus_id and text."
        )


def _check_fresh(stimuli: Stimuli) -> None:
    taken = [c for c in _ADDED if c in stimuli.table]
    if taken:
        raise ValueError(
            f"stimuli has a column {taken[0]!r}, which repeats use. Rename it, or repeat the "
            "original set."
        )
    twice = stimuli.table["stimulus_id"].duplicated()
    if twice.any():
        name = stimuli.table["stimulus_id"][twice].iloc[0]
        raise ValueError(
            f"stimuli shows {name!r} more than once already. Give each stimulus one row."
        )


def _make_rng(rng: int | np.random.Generator | None) -> tuple[np.random.Generator, str]:
    """Return a generator, and what the name of the set says of it."""
    check_type("rng", rng, (int, np.random.Generator, type(None)), "a seed, a Generator, or None")
    if isinstance(rng, np.random.Generator):
        return rng, "rng given"
    if rng is None:
        rng = int(np.random.default_rng().integers(_SEEDS))
    if rng < 0:
        raise ValueError(f"rng={rng} is negative. Give a seed of 0 or more.")
    return np.random.default_rng(rng), f"rng {rng}"


def _repeat_table(stimuli: Stimuli, kind: str, n: int) -> pd.DataFrame:
    table = stimuli.table.loc[stimuli.table.index.repeat(n)].reset_index(drop=True)
    table["repeat_of"] = table["stimulus_id"]
    table["repeat"] = np.tile(np.arange(n), len(stimuli))
    table["variability"] = kind
    if "condition" not in table:
        table["condition"] = table["repeat_of"]
    table["stimulus_id"] = table["repeat_of"] + ".r" + table["repeat"].astype(str)
    return table


def _find_contexts(
    stimuli: Stimuli, contexts: object, n: int, rng: np.random.Generator
) -> list[str]:
    """Return a context for every repeat; those of one stimulus all differ."""
    _check_texts(stimuli, "context")
    if "context" in stimuli.table and (stimuli.table["context"] != "").any():
        raise ValueError("stimuli have contexts already. Give the set without a column context.")
    if isinstance(contexts, (pd.DataFrame, str, os.PathLike)):
        table = _load_companion("contexts", contexts, "context")
        return [
            v for rows in _pick(stimuli, table, "context", n) for v in table["context"].iloc[rows]
        ]
    if contexts is not None:
        check_type("contexts", contexts, Iterable, "texts, or a table")
        contexts = list(contexts)
        for i, text in enumerate(contexts):
            check_type(f"contexts[{i}]", text, str, "texts, or one table")
    source = stimuli.table["text"] if contexts is None else contexts
    texts = list(dict.fromkeys(t for t in source if t.strip()))
    chosen: list[str] = []
    for name, own in zip(stimuli.table["stimulus_id"], stimuli.table["text"], strict=True):
        others = [t for t in texts if t != own]
        if len(others) < n:
            raise ValueError(
                f"n={n} needs as many contexts; for stimulus {name!r} there are {len(others)} that "
                "differ. Give contexts= with more texts, or a smaller n."
            )
        chosen += [others[i] for i in rng.choice(len(others), n, replace=False)]
    return chosen


def _paraphrase(stimuli: Stimuli, table: pd.DataFrame, paraphrases: object, n: int) -> pd.DataFrame:
    """Return the table with the texts of the paraphrases, and words as these give them."""
    _check_texts(stimuli, "paraphrase")
    given = _load_companion("paraphrases", paraphrases, "text")
    rows = [r for found in _pick(stimuli, given, "text", n) for r in found]
    table = table.drop(columns=["word_spans", "word_onsets"], errors="ignore")
    for name in ("text", "word_spans", "word_onsets"):
        if name in given:
            table[name] = given[name].iloc[rows].to_numpy()
    return table


def _check_texts(stimuli: Stimuli, kind: str) -> None:
    if stimuli.kind != "text":
        raise ValueError(
            f"kind={kind!r} is for texts, these stimuli are of kind {stimuli.kind!r}. Choose "
            "'augmentation' for images and arrays, 'dropout' or 'sampling' for token ids."
        )


def _load_companion(name: str, source: object, column: str) -> pd.DataFrame:
    """Read a table of texts that belong to stimuli."""
    check_type(name, source, (pd.DataFrame, str, os.PathLike), "a table or a tab-separated file")
    table = make_plain_columns(load_table(source, None)[0])
    for needed in ("stimulus_id", column):
        if needed not in table:
            listed = ", ".join(map(str, table.columns))
            raise ValueError(f"{name} has no column {needed!r} (columns: {listed}). Add it.")
    return table


def _pick(stimuli: Stimuli, table: pd.DataFrame, column: str, n: int) -> list[list[int]]:
    """Return the first `n` rows of a companion table for every stimulus; all must differ."""
    name = {"text": "paraphrases", "context": "contexts"}[column]
    ids = list(stimuli.table["stimulus_id"])
    stray = [i for i in dict.fromkeys(table["stimulus_id"]) if i not in set(ids)]
    if stray:
        raise ValueError(
            f"{name} names {stray[0]!r}, which is no stimulus.{suggest(stray[0], ids)} "
            "Correct or remove its rows."
        )
    rows = {i: list(found) for i, found in table.groupby("stimulus_id").indices.items()}
    for stimulus in ids:
        found = rows.get(stimulus, [])
        if len(found) < n:
            raise ValueError(
                f"{name} has {len(found)} rows for stimulus {stimulus!r}, n={n} needs as many. "
                "Add some, or give a smaller n."
            )
        if table[column].iloc[found[:n]].duplicated().any():
            raise ValueError(
                f"{name} has the same {column} twice for stimulus {stimulus!r}: such repeats would "
                "be identical. Change one of them."
            )
    return [rows[i][:n] for i in ids]


def _augment(
    stimuli: Stimuli, how: Augmentation, n: int, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, ...], dict[str, list[float]]]:
    if stimuli.kind in ("text", "tokens"):
        raise ValueError(
            f"kind='augmentation' is for images and arrays, these stimuli are of kind "
            f"{stimuli.kind!r}. Choose 'context', 'paraphrase', 'dropout' or 'sampling'."
        )
    how.check(stimuli.kind)
    made, drawn = [], []
    for row, name in enumerate(stimuli.table["stimulus_id"]):
        item = stimuli.item(row)
        item = item if isinstance(item, np.ndarray) else read_image(item)
        if item.dtype.kind == "b":
            raise TypeError(f"stimulus {name!r} is boolean. Give numbers, which can vary a little.")
        for _ in range(n):
            values, facts = how.apply(item, rng)
            made.append(values)
            drawn.append(facts)
    return tuple(made), {key: [d[key] for d in drawn] for key in drawn[0]}
