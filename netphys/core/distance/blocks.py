"""Distances over units that come in blocks, so that memory does not grow with their number."""

from __future__ import annotations

import numpy as np

from netphys._check import check_option
from netphys._options import METRICS

STRIPE = 512  # rows of the finished matrix that are worked on at a time


class DistanceSums:
    """Accumulates the products of patterns over blocks of units.

    Parameters
    ----------
    n_conditions : int
        Number of patterns.
    metric : str
        "correlation", "euclidean" or "cosine", as in `compute_distances`.

    Notes
    -----
    Memory is one matrix (n_conditions, n_conditions) of float64 and the block at hand. Patterns are
    shifted before they are multiplied: for "euclidean" by the mean of all conditions, for
    "correlation" by each pattern's mean in the first block, which `finish` corrects for.
    """

    def __init__(self, n_conditions: int, *, metric: str = "correlation"):
        check_option("metric", metric, METRICS)
        if n_conditions < 2:
            raise ValueError(
                f"n_conditions={n_conditions!r} is too small. At least two are needed."
            )
        self.metric, self.n_units = metric, 0
        self._product = np.zeros((n_conditions, n_conditions))
        self._shift: np.ndarray | None = None
        self._sum = np.zeros(n_conditions)
        self._low = np.full(n_conditions, np.inf)
        self._high = np.full(n_conditions, -np.inf)

    def update(self, block: np.ndarray) -> None:
        """Take in more units.

        Parameters
        ----------
        block : ndarray, shape (n_conditions, n_units)
            Patterns over further units, arbitrary units.

        Raises
        ------
        ValueError
            If the number of conditions differs.
        """
        if block.ndim != 2 or len(block) != len(self._product):
            raise ValueError(f"block has shape {block.shape}. Give ({len(self._product)}, units).")
        x = np.asarray(block)
        if x.dtype not in (np.float32, np.float64):
            x = x.astype(np.float64)
        if self.metric == "euclidean":  # the same for all patterns, so it need not be exact
            shift = np.full(len(x), 1 / len(x), x.dtype) @ x
            x = np.subtract(x, shift, dtype=np.float64)
        elif self.metric == "correlation":
            if self._shift is None:
                self._shift = x.mean(axis=1, dtype=np.float64)
            np.minimum(self._low, x.min(axis=1), out=self._low)
            np.maximum(self._high, x.max(axis=1), out=self._high)
            x = np.subtract(x, self._shift[:, None], dtype=np.float64)
            self._sum += x.sum(axis=1)
        else:
            x = x.astype(np.float64, copy=False)
        self._product += x @ x.T
        self.n_units += x.shape[1]

    def finish(self) -> np.ndarray:
        """Return the distances; the sums are used up.

        Returns
        -------
        distances : ndarray, shape (n_conditions, n_conditions)
            As `compute_distances` gives them, to rounding.

        Raises
        ------
        ValueError
            If no unit was taken in.
        """
        if self.n_units == 0:
            raise ValueError("no unit was taken in. Call update(block) first.")
        d = self._product
        square = np.diagonal(d).copy()
        mean = self._sum / self.n_units
        if self.metric == "euclidean":
            for rows in self._stripes():
                d[rows] *= -2
                d[rows] += square[rows, None] + square
                d[rows] /= self.n_units
        else:
            square -= self.n_units * mean**2
            if self.metric == "correlation":
                square[self._low == self._high] = 0.0
            length = np.sqrt(np.where(square > 0, square, np.nan))
            for rows in self._stripes():
                d[rows] -= self.n_units * (mean[rows, None] * mean)
                d[rows] /= length[rows, None] * length
                np.subtract(1, d[rows], out=d[rows])
        for rows in self._stripes():
            np.maximum(d[rows], 0, out=d[rows])  # rounding
        diagonal = np.einsum("ii->i", d)
        diagonal[~np.isnan(diagonal)] = 0.0
        del self._product
        return d

    def _stripes(self) -> list[slice]:
        n = len(self._product)
        return [slice(k, min(k + STRIPE, n)) for k in range(0, n, STRIPE)]
