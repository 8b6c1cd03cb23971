"""RDMs as rows of pairs with a label per dim, and back; long tables of text as RDMs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from netphys._check import suggest
from netphys.analysis.rdm import PAIR, RDM

DIMS = ("site", "layer", "participant", "region", "lag", "delay", "repetition", "seed", "model")
DIMS += ("time", "state", "freq", "component", "fold", "sample", "trial", "unit")
FIXED = ("metric", "units", "order")  # columns with one value in the whole table
NEEDED = (*PAIR, "dissimilarity")


@dataclass(frozen=True)
class Long:
    """What a long table holds: matrices (*dims, condition, condition_2) and their labels."""

    square: np.ndarray
    unknown: np.ndarray  # (*dims, condition): NaN on the diagonal
    labels: list[str]
    dims: list[str]
    coords: dict[str, tuple]
    fixed: dict[str, str | None]


def flatten_rdm(rdm: RDM) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Return rows (rdm, pair), the labels and coordinates of each row, and dims of coordinates."""
    dims = rdm.extra_dims
    data = rdm.data.transpose(*dims, *PAIR)
    i, j = np.triu_indices(len(rdm.conditions), 1)
    rows = data.to_numpy()[..., i, j].reshape(-1, len(i))
    sizes = [data.sizes[d] for d in dims]
    place = dict(zip(dims, np.unravel_index(np.arange(len(rows)), sizes or (1,)), strict=False))
    columns = {d: data[d].to_numpy()[place[d]] for d in dims}
    owners = {}
    for name, values in data.coords.items():
        if name in dims or not set(values.dims) <= set(dims):
            continue
        at = tuple(place[d] for d in values.dims)
        found = values.to_numpy()
        columns[str(name)] = found[at] if at else np.full(len(rows), found[()])
        owners[str(name)] = tuple(map(str, values.dims))
    return rows, columns, owners


def unflatten_rdm(
    rows: np.ndarray,
    n_conditions: int,
    columns: Mapping[str, np.ndarray],
    dims: Sequence[str],
    owners: Mapping[str, Sequence[str]],
) -> tuple[np.ndarray, dict[str, tuple]]:
    """Return square matrices (*dims, condition, condition_2) and coordinates."""
    codes, coords, sizes = {}, {}, []
    for dim in dims:
        codes[dim], labels = pd.factorize(columns[dim])
        coords[dim] = ((dim,), np.asarray(labels))
        sizes.append(len(labels))
    n = int(np.prod(sizes))
    place = (
        np.ravel_multi_index([codes[d] for d in dims], sizes) if dims else np.zeros(len(rows), int)
    )
    if len(rows) != n or len(np.unique(place)) != n:
        listed = " and ".join(dims) or "one RDM"
        raise ValueError(
            f"rdms holds {len(rows)} RDMs, which are not every combination of {listed} once. Pick "
            "such RDMs, or delete rdms.descriptors['netphys'] and rename descriptors whose labels "
            "repeat, to read a plain stack."
        )
    for name, own in owners.items():
        coords[name] = (tuple(own), spread(columns[name], name, own, codes, coords))
    i, j = np.triu_indices(n_conditions, 1)
    square = np.zeros((n, n_conditions, n_conditions))
    square[place[:, None], i, j] = square[place[:, None], j, i] = rows
    return square.reshape(*sizes, n_conditions, n_conditions), coords


def find_place(codes: list[np.ndarray], sizes: list[int], n: int) -> np.ndarray:
    """Return which combination of labels each of `n` rows has."""
    return np.ravel_multi_index(codes, sizes) if codes else np.zeros(n, np.intp)


def spread(
    values: np.ndarray,
    name: str,
    own: Sequence[str],
    codes: Mapping[str, np.ndarray],
    coords: Mapping[str, tuple],
) -> np.ndarray:
    """Return a coordinate over its dims from its value in each row."""
    sizes = [len(coords[d][1]) for d in own]
    at = find_place([codes[d] for d in own], sizes, len(values))
    first = pd.Series(at).drop_duplicates()
    out = np.empty(max(int(np.prod(sizes)), 1), dtype=np.asarray(values).dtype)
    out[first.to_numpy()] = values[first.index.to_numpy()]
    if (out[at] != values).any():
        k = int((out[at] != values).argmax())
        raise ValueError(
            f"{name} has the values {out[at[k]]!r} and {values[k]!r} for the same "
            f"{' and '.join(own) or 'RDM'}. Give it one."
        )
    return out.reshape(sizes)


def read_long(
    table: pd.DataFrame, name: str, *, dims: Sequence[str] | None, text: Sequence[str]
) -> Long:
    """Return what a table of texts holds, one row per pair and matrix."""
    found, owners = _sort_columns(list(table.columns), name, dims)
    fixed = {k: _read_fixed(table, k, name) for k in FIXED}
    values = _read_numbers(table["dissimilarity"], name)
    labels = list(dict.fromkeys(table[list(PAIR)].to_numpy().reshape(-1).tolist()))
    for column in (*PAIR, *found):
        if (empty := (table[column].str.strip() == "").to_numpy()).any():
            line = int(empty.argmax()) + 2
            raise ValueError(
                f"{name}, line {line}: {column} is empty. Every row has a label there."
            )
    codes, coords = {}, {}
    for dim in found:
        codes[dim], unique = pd.factorize(table[dim])
        coords[dim] = ((dim,), _read_labels(np.asarray(unique, dtype=object), dim in text))
    for column, own in owners.items():
        title = column.rpartition(".")[2]
        made = spread(table[column].to_numpy(), f"{name}: {column}", own, codes, coords)
        read = _read_labels(made.reshape(-1).astype(object), title in text)
        coords[title] = (own, read.reshape(made.shape))
    sizes = [len(coords[d][1]) for d in found]
    n, k = int(np.prod(sizes)), len(labels)
    which = find_place([codes[d] for d in found], sizes, len(table))
    ends = [pd.Categorical(table[c], categories=labels).codes.astype(np.intp) for c in PAIR]
    low, high = np.minimum(*ends), np.maximum(*ends)
    _check_rows(which, low, high, values, (n, k), lambda r: _describe(table, r, found), name)
    _check_complete(which, low, high, (n, labels), coords, found, name)
    square, unknown = np.zeros((n, k, k)), np.zeros((n, k), bool)
    off = low != high
    square[which[off], low[off], high[off]] = square[which[off], high[off], low[off]] = values[off]
    unknown[which[~off], low[~off]] = np.isnan(values[~off])
    return Long(
        square.reshape(*sizes, k, k), unknown.reshape(*sizes, k), labels, found, coords, fixed
    )


# ---------------------------------------------------------------------- parts
def _sort_columns(
    columns: list[str], name: str, dims: Sequence[str] | None
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return which columns are dims, and the dims of those that are coordinates."""
    for needed in NEEDED:
        if needed not in columns:
            raise ValueError(
                f"{name} has no column {needed!r}.{suggest(needed, columns)} It has: "
                f"{', '.join(columns)}."
            )
    if dims is not None:
        for dim in dims:
            if dim not in columns or dim in (*NEEDED, *FIXED):
                raise ValueError(
                    f"dims names {dim!r}, which is not such a column of {name}."
                    f"{suggest(dim, columns)} It has: {', '.join(columns)}."
                )
    others = [c for c in columns if c not in (*NEEDED, *FIXED)]
    found = [c for c in others if c in (DIMS if dims is None else dims)]
    owners = {c: tuple(c.split(".")[:-1]) for c in others if "." in c and c not in found}
    owners = {c: own if own != ("",) else () for c, own in owners.items()}
    for column in others:
        if column not in found and not (column in owners and set(owners[column]) <= set(found)):
            raise ValueError(
                f"{name} has the column {column!r}, which is unknown.{suggest(column, DIMS)} Name "
                f"it in dims=[...] if it is a dim, call it '<dim>.{column.rpartition('.')[2]}' if "
                "it describes the labels of a dim, or leave it out."
            )
    return found, owners


def _read_fixed(table: pd.DataFrame, column: str, name: str) -> str | None:
    if column not in table or not len(table):
        return None
    values = table[column].unique().tolist()
    if len(values) > 1:
        raise ValueError(
            f"{name} has {len(values)} values of {column}: {', '.join(map(repr, values[:3]))}. "
            "Write one file for each."
        )
    return values[0] or None


def _read_numbers(texts: pd.Series, name: str) -> np.ndarray:
    """Return texts as numbers, exactly; empty ones and NaN are unknown."""
    values = np.empty(len(texts))
    for k, text in enumerate(texts):
        try:
            values[k] = float(text) if text.strip() else np.nan
        except ValueError:
            raise ValueError(
                f"{name}, line {k + 2}: dissimilarity {text!r} is not a number. Write NaN where it "
                "is unknown, and a point before decimals."
            ) from None
    return values


def _read_labels(texts: np.ndarray, as_text: bool) -> np.ndarray:
    """Return labels as whole numbers or numbers where all are written as such, else as text."""
    if not as_text:
        for kind in (int, float):
            try:
                read = [kind(t) for t in texts]
            except ValueError:
                continue
            if [str(v) for v in read] == texts.tolist():
                return np.array(read)
    return texts.astype(str)


def _describe(table: pd.DataFrame, row: int, dims: list[str]) -> str:
    at = ", ".join(f"{d}={table[d].iloc[row]!r}" for d in dims)
    pair = " and ".join(repr(table[c].iloc[row]) for c in PAIR)
    return f"{pair}{f' at {at}' if at else ''}"


def _check_rows(
    which: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    describe: Callable[[int], str],
    name: str,
) -> None:
    """Raise if a pair is there twice, or a condition differs from itself."""
    wrong = (low == high) & (values != 0) & ~np.isnan(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}, line {row + 2}: {describe(row)} have the dissimilarity {values[row]:g}. A "
            "condition differs by 0 from itself: these look like similarities."
        )
    key = np.ravel_multi_index([which, low, high], (shape[0], shape[1], shape[1]))
    twice = pd.Series(key).duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        earlier = int((key == key[row]).argmax())
        raise ValueError(
            f"{name} has the pair {describe(row)} twice, in lines {earlier + 2} and {row + 2}. "
            "Each pair stands in one row, in either direction."
        )


def _check_complete(
    which: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    size: tuple[int, list[str]],
    coords: Mapping[str, tuple],
    dims: list[str],
    name: str,
) -> None:
    """Raise unless every pair of every matrix is there."""
    n, labels = size
    k = len(labels)
    if k < 2:
        raise ValueError(
            f"{name} has {k} condition{'' if k == 1 else 's'}. At least two are needed."
        )
    there = np.zeros((n, k, k), bool)
    there[which, low, high] = True
    i, j = np.triu_indices(k, 1)
    missing = np.argwhere(~there[:, i, j])
    if len(missing):
        rdm, pair = missing[0]
        sizes = [len(coords[d][1]) for d in dims]
        at = np.unravel_index(rdm, sizes) if dims else ()
        place = ", ".join(f"{d}={coords[d][1][a].item()!r}" for d, a in zip(dims, at, strict=True))
        raise ValueError(
            f"{name} lacks {len(missing)} of {n * len(i)} pairs, the first "
            f"{labels[i[pair]]!r} and {labels[j[pair]]!r}{f' at {place}' if place else ''}. Write "
            "unknown dissimilarities as NaN, one row for each pair and matrix."
        )
