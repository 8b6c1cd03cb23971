"""Averages of partial RDMs, and the common scale that they are brought to."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components

RESCALES = ("rms", "setsize", "evidence")
SCALE_WORDS = {
    "rms": "each RDM counting alike",
    "setsize": "each RDM weighted by 1 over the number of its pairs",
    "evidence": "each dissimilarity weighted by its square before scaling [kriegeskorte2012]",
}
FLOOR = 0.2  # of the largest dissimilarity: below it evidence falls no further
TOLERANCE, MAX_ROUNDS = 1e-12, 10_000


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average over the first axis; NaN where all weights are 0."""
    total = weights.sum(axis=0)
    sums = (np.where(weights > 0, values, 0.0) * weights).sum(axis=0)
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def measure_rms(square: np.ndarray) -> np.ndarray:
    """Return the root mean square of the known pairs of matrices (..., 1, 1)."""
    i, j = np.triu_indices(square.shape[-1], 1)
    pairs = square[..., i, j]
    known = np.isfinite(pairs)
    power = (np.where(known, pairs, 0.0) ** 2).sum(axis=-1)
    return np.sqrt(power / np.maximum(known.sum(axis=-1), 1))[..., None, None]


def rescale_rdms(
    values: np.ndarray, given: np.ndarray, kind: str, what: str, labels: list
) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices (rdm, ..., condition, condition_2) on one scale, and their weights."""
    n, k = len(values), values.shape[-1]
    i, j = np.triu_indices(k, 1)
    flat = values.reshape(n, -1, k, k)
    weights, factors = np.empty_like(flat), np.ones(flat.shape[:2])
    for cell in range(flat.shape[1]):
        square = flat[:, cell]
        rows = np.where((given > 0)[:, None], square[:, i, j], np.nan)
        live = np.isfinite(rows).any(axis=1)
        weight = _weigh(square, kind, np.maximum(np.isfinite(rows).sum(axis=1), 1))
        weights[:, cell] = weight * given[:, None, None]
        if live.any():
            _check_scales(rows[live], what, [c for c, on in zip(labels, live, strict=True) if on])
            factors[live, cell] = _find_factors(rows[live], weights[live, cell][:, i, j])
    scaled = flat * factors[..., None, None]
    return scaled.reshape(values.shape), weights.reshape(values.shape)


def _weigh(square: np.ndarray, kind: str, n_known: np.ndarray) -> np.ndarray:
    """Return the weights of dissimilarities (rdm, condition, condition_2)."""
    if kind == "evidence":
        size = np.abs(np.nan_to_num(square))
        floor = FLOOR * size.max(axis=(1, 2), keepdims=True)
        return np.maximum(size, floor) ** 2
    if kind == "setsize":
        return np.broadcast_to(1 / n_known[:, None, None], square.shape)
    return np.ones_like(square)


def _check_scales(rows: np.ndarray, what: str, labels: list) -> None:
    """Raise unless all rows are joined by pairs that they share."""
    some = np.isfinite(rows) & (np.nan_to_num(rows) != 0)
    if (empty := ~some.any(axis=1)).any():
        label = labels[int(empty.argmax())]
        raise ValueError(
            f"{what}{label!r} is 0 everywhere and has no scale. Leave it out: weights=0 for it."
        )
    n, group = connected_components(some.astype(np.intp) @ some.T.astype(np.intp), directed=False)
    if n > 1:
        other = labels[int((group != group[0]).argmax())]
        raise ValueError(
            f"{what}{labels[0]!r} and {what}{other!r} share no pair of conditions, not even "
            "through other RDMs: their scales cannot be compared. Leave rescale out, or average "
            "RDMs that overlap."
        )


def _find_factors(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return what brings rows to the scale of their common estimate."""
    known = np.isfinite(rows)
    rows, weights = np.where(known, rows, 0.0), np.where(known, weights, 0.0)
    length = np.linalg.norm(rows, axis=1)
    total = weights.sum(axis=0)
    parts = weights * rows / length[:, None] / np.where(total > 0, total, 1.0)
    estimate = parts.sum(axis=0)
    estimate /= np.linalg.norm(estimate)
    for _ in range(MAX_ROUNDS):
        size = np.sqrt(known @ estimate**2)
        after = size @ parts
        after /= np.linalg.norm(after)
        change = np.abs(after - estimate).max()
        estimate = after
        if change <= TOLERANCE:
            return np.sqrt(known @ estimate**2) / length
    raise ValueError(
        f"rescale did not settle in {MAX_ROUNDS} rounds: the RDMs share too few pairs. Leave it "
        "out, or average RDMs that overlap more."
    )
