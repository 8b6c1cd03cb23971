"""Engine of identification: nearest centroids from inner products, for any labels.

All distances to centroids follow from the inner products of descriptors, so neither leaving
subjects out nor permuting labels within subjects touches the descriptors again.
"""

from __future__ import annotations

import numpy as np

from netphys.core.topology.geodesic import compute_rgdm
from netphys.core.topology.transform import (
    join_rdm,
    rank_pairs,
    scale_pairs,
    threshold_pairs,
)

DESCRIPTORS = ("rdm", "ranked", "rgtm", "rgdm")
BLOCK = 400_000  # inner products worked on at once, so that they stay in the cache
ADAPTIVE = ("rgtm", "rgdm")  # descriptors with thresholds to choose


def sort_grid(grid: np.ndarray) -> np.ndarray:
    """Return thresholds with the widest interval first: the choice among equally good ones."""
    width = np.round(grid[:, 1] - grid[:, 0], 9)
    return grid[np.lexsort((grid[:, 0], -width))]


def describe_pairs(
    pairs: np.ndarray,
    n: int,
    descriptor: str,
    *,
    thresholds: tuple[float, float],
    scale: str,
    unreachable: str,
) -> np.ndarray:
    """Return descriptors (..., n_pairs) of RDMs given as pairs (..., n_pairs)."""
    if descriptor == "rdm":
        return pairs
    if descriptor == "ranked":
        return rank_pairs(pairs)
    if descriptor == "rgtm":
        return threshold_pairs(scale_pairs(pairs, scale), *thresholds, scale)
    lower, upper = thresholds
    if unreachable == "rank" and lower < upper and scale != "quantile":
        return _rank_geodesics(scale_pairs(pairs, scale), n, lower, upper)
    square = join_rdm(pairs, np.zeros((*pairs.shape[:-1], n)))
    square = compute_rgdm(square, lower=lower, upper=upper, scale=scale, unreachable=unreachable)
    return square[..., *np.triu_indices(n, 1)]


def _rank_geodesics(pairs: np.ndarray, n: int, lower: float, upper: float) -> np.ndarray:
    """Return ranks of geodesics, as `compute_rgdm` gives them, compiled; NaN for unknown RDMs."""
    from netphys.core.topology._compiled import rank_paths

    flat = pairs.reshape(-1, pairs.shape[-1])
    unknown = np.isnan(flat).any(axis=1, keepdims=True)
    ranks = rank_paths(np.where(unknown, 0.0, flat), lower, upper, n)
    return np.where(unknown, np.nan, ranks).reshape(pairs.shape)


def compute_gram(rows: np.ndarray) -> np.ndarray:
    """Return inner products (row, row) of rows (subject, label, pair), subjects outermost."""
    flat = rows.reshape(-1, rows.shape[-1])
    flat = flat - flat.mean(axis=0)  # distances stay, rounding errors shrink
    return flat @ flat.T


def make_grams(
    pairs: np.ndarray,
    n: int,
    descriptor: str,
    cells: np.ndarray,
    *,
    scale: str,
    unreachable: str,
) -> np.ndarray:
    """Return inner products (cell, row, row) of a descriptor of pairs (subject, label, pair).

    An RDM without differences has no ranks: its descriptor is the same throughout.
    """
    rows = pairs.shape[0] * pairs.shape[1]
    grams = np.empty((len(cells), rows, rows))
    options = {"scale": scale, "unreachable": unreachable}
    for gram, cell in zip(grams, cells.tolist(), strict=True):
        found = describe_pairs(pairs, n, descriptor, thresholds=tuple(cell), **options)
        gram[:] = compute_gram(np.nan_to_num(found, nan=0.5))
    return grams


def arrange_grams(grams: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return inner products (cell, label, subject, subject, label) under new labels.

    `orders` (subject, label) names, for each subject, which row takes which label. Labels of
    centroids come first, so that the smallest distance over them is found side by side.
    """
    n, m = orders.shape
    index = np.arange(n)[:, None] * m + orders
    places = index.T.ravel()[:, None] * (n * m) + index.ravel()
    return grams.reshape(len(grams), -1).take(places, axis=1).reshape(-1, m, n, n, m)


def _sum_up(grams: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what distances are made of: between equal labels, to others, with itself."""
    alike = np.einsum("cmstm->cmst", grams)  # (cell, label, subject, subject)
    own = np.einsum("cmssl->cmsl", grams)  # (cell, label, subject, label)
    return alike, grams.sum(axis=2) - own, np.einsum("cmss->cms", alike)


def _find_slack(itself: np.ndarray) -> np.ndarray:
    """Return up to which difference (cell, 1, 1, 1) distances are equal, but for rounding."""
    return 1e-10 * itself.max(axis=(1, 2))[:, None, None, None]


def predict(grams: np.ndarray) -> np.ndarray:
    """Return the nearest centroid of the other subjects (cell, subject, label); ties: the first."""
    n = grams.shape[2]
    alike, others, itself = _sum_up(grams)
    size = alike.sum(axis=(2, 3))[..., None] - 2 * alike.sum(axis=3) + itself
    near = size[..., None] / (n - 1) ** 2 - 2 * others / (n - 1)
    least = near.min(axis=1, keepdims=True) + _find_slack(itself)
    return (near <= least).argmax(axis=1)


def score_inside(grams: np.ndarray) -> np.ndarray:
    """Return, for each subject left out, the accuracy (cell, subject) in the rest.

    Within the rest each subject is tested on the centroids of its others; a tie is no hit.
    """
    n, m = grams.shape[2], grams.shape[1]
    alike, others, itself = _sum_up(grams)
    sums = alike.sum(axis=3) - itself / 2
    size = sums.sum(axis=2)[..., None, None] + itself.sum(axis=2)[..., None, None] / 2
    size = size - 2 * (sums[..., :, None] + sums[..., None, :]) + 2 * alike
    # squared distance, less what all centroids share, times (n - 2) / 2
    near = grams - others[:, :, None]
    near += (size / (2 * (n - 2)))[..., None]
    right = np.einsum("cmstm->cmst", near).transpose(0, 2, 3, 1).copy()
    k = np.arange(m)
    near[:, k, :, :, k] = np.inf
    hits = (right < near.min(axis=1) - _find_slack(itself)).mean(
        axis=-1
    )  # (cell, left out, tested)
    hits[:, np.arange(n), np.arange(n)] = 0.0
    return hits.sum(axis=2) / (n - 1)


def evaluate_grams(
    grams: np.ndarray, orders: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions (subject, label), the chosen cell (subject,), and all predictions.

    The cell is chosen for each subject on the others; with one cell there is nothing to choose.
    """
    step = max(1, BLOCK // grams[0].size)
    every, inside = [], []
    for begin in range(0, len(grams), step):
        part = arrange_grams(grams[begin : begin + step], orders)
        every.append(predict(part))
        if len(grams) > 1:
            inside.append(score_inside(part))
    every = np.concatenate(every)
    n = len(orders)
    # scores are counts: rounding must not decide between equal ones
    chosen = np.concatenate(inside).round(9).argmax(axis=0) if inside else np.zeros(n, np.intp)
    return every[chosen, np.arange(n)], chosen, every


def draw_accuracy(
    grams: np.ndarray, shape: tuple[int, int], n_draws: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Return mean accuracies (draw,) with labels permuted within subjects, selection included."""
    n, m = shape
    null = np.empty(n_draws)
    for draw in range(n_draws):
        orders = rng.permuted(np.tile(np.arange(m), (n, 1)), axis=1)
        null[draw] = (evaluate_grams(grams, orders)[0] == np.arange(m)).mean()
    return null
