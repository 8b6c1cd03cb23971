"""Engine of RDM inference: pair vectors, permuted and reweighted without building RDMs anew.

The similarities used here are dot products of normalised pair vectors, so the mean over
participants is one product with their mean vector. A permutation of conditions reorders the pairs
of one vector; a bootstrap of conditions weights each pair by the product of how often its two
conditions were drawn, where a condition is never paired with itself.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from netphys.core.resample import make_permutations, make_shifts

RANKED = ("spearman", "rho-a")


def normalise(rows: np.ndarray, method: str) -> np.ndarray:
    """Return rows (n, n_pairs) whose dot product is the similarity; NaN for constant rows."""
    rows = np.asarray(rows, np.float64)
    known = np.isfinite(rows).all(axis=1, keepdims=True)
    rows = np.where(known, rows, 0.0)
    if method in RANKED:
        rows = rankdata(rows, axis=1)
    if method != "cosine":
        constant = (rows == rows[:, :1]).all(axis=1, keepdims=True)
        rows = np.where(constant, 0.0, rows - rows.mean(axis=1, keepdims=True))
    n = rows.shape[1]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scale = np.full_like(length, np.sqrt((n**3 - n) / 12)) if method == "rho-a" else length
    return rows / np.where(known & (length > 0), scale, np.nan)


def make_orders(n: int, order: str, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Return relabellings of `n` conditions: permutations ("iid"), or circular shifts ("ordered").

    Shifts stay a tenth of the conditions away from no shift, so that neighbours do not count as
    chance; all that are left are used.
    """
    if order == "iid":
        return make_permutations(n, n_draws, rng=rng)
    shifts = make_shifts(n, min_shift=max(1, n // 10))
    return (np.arange(n) + shifts[:, None]) % n


def remove_lags(rows: np.ndarray, n: int) -> np.ndarray:
    """Return normalised rows without the mean of each lag, normalised again.

    Conditions in time are the more alike the closer they stand, in any slow series: what two RDMs
    share through that alone is no match.
    """
    i, j = np.triu_indices(n, 1)
    count = np.bincount(j - i, minlength=n)
    count[0] = 1  # no condition stands at lag 0 from another
    means = np.stack([np.bincount(j - i, weights=row, minlength=n) / count for row in rows])
    rows = rows - means[:, j - i]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-12, length, np.nan)


def compute_null(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return similarities (draw, a, b) of normalised rows with the conditions of `b` relabelled."""
    n = orders.shape[1]
    i, j = np.triu_indices(n, 1)
    table = np.zeros((n, n), np.intp)  # where the pair of two conditions stands
    table[i, j] = table[j, i] = np.arange(len(i))
    null = np.empty((len(orders), len(a), len(b)))
    for draw, order in zip(null, orders, strict=True):
        draw[:] = a @ b[:, table[order[i], order[j]]].T
    return null


class Reweighted:
    """Rows of pairs, normalised anew for every bootstrap sample of conditions.

    Rank methods need one sort per row: the rank of a pair in a sample is the number of pairs drawn
    below it plus the middle of those drawn with its value.
    """

    def __init__(self, rows: np.ndarray, method: str):
        self.method = method
        self.rows = np.asarray(rows, np.float64)
        self.known = np.isfinite(self.rows).all(axis=1, keepdims=True)
        self.rows = np.where(self.known, self.rows, 0.0)
        if method not in RANKED:
            return
        n_rows, n = self.rows.shape
        self.order = np.argsort(self.rows, axis=1, kind="stable")
        begin, end = np.empty((2, n_rows, n), np.intp)
        for row, order, b, e in zip(self.rows, self.order, begin, end, strict=True):
            value = row[order]
            b[order] = np.searchsorted(value, value, side="left")
            e[order] = np.searchsorted(value, value, side="right")
        offset = np.arange(n_rows)[:, None] * (n + 1)  # into the flat table of sums
        self.begin, self.end = begin + offset, end + offset

    def normalise(self, weights: np.ndarray) -> np.ndarray:
        """Return rows whose dot product is the similarity when pairs count `weights` times."""
        drawn = np.flatnonzero(weights)
        rows = self._rank(weights, drawn) if self.method in RANKED else self.rows[:, drawn]
        weights = weights[drawn]
        total = weights.sum()
        size = np.abs(rows).max(axis=1, keepdims=True)
        if self.method != "cosine":
            rows = rows - (rows @ weights / total)[:, None]
        rows *= np.sqrt(weights)
        length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        constant = length <= 1e-12 * np.sqrt(total) * size
        if self.method == "rho-a":
            length[:] = np.sqrt((total**3 - total) / 12)
        rows /= np.where(self.known & ~constant, length, np.nan)
        return rows

    def _rank(self, weights: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(self.rows), self.rows.shape[1] + 1))
        np.cumsum(weights[self.order], axis=1, out=sums[:, 1:])
        flat = sums.reshape(-1)
        return (flat[self.begin[:, drawn]] + flat[self.end[:, drawn]] + 1) / 2


def weigh_pairs(weights: np.ndarray) -> np.ndarray:
    """Return how often each pair was drawn, from how often each condition was (n_conditions,)."""
    i, j = np.triu_indices(len(weights), 1)
    return (weights[i] * weights[j]).astype(np.float64)
