"""Ranks and concordance of pairs that count several times, as a bootstrap sample has them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class RankTable:
    """Rows of values that are ranked anew for every set of weights, at the cost of one sort.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n)
        Finite values.

    Notes
    -----
    The rank of a value in a sample is the number of values drawn below it plus the middle of those
    drawn with its value.
    """

    def __init__(self, rows: np.ndarray):
        rows = np.asarray(rows, np.float64)
        n = rows.shape[1]
        self.order = np.argsort(rows, axis=1)
        ordered = np.take_along_axis(rows, self.order, axis=1)
        new = np.ones(rows.shape, bool)
        new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        place = np.arange(n)
        begin = np.maximum.accumulate(np.where(new, place, 0), axis=1)
        last = np.ones(rows.shape, bool)
        last[:, :-1] = new[:, 1:]
        end = np.where(last, place + 1, n)[:, ::-1]
        end = np.minimum.accumulate(end, axis=1)[:, ::-1]
        offset = np.arange(len(rows))[:, None] * (n + 1)  # into the flat table of sums
        self.begin, self.end, self.dense = np.empty((3, *rows.shape), np.intp)
        np.put_along_axis(self.begin, self.order, begin + offset, axis=1)
        np.put_along_axis(self.end, self.order, end + offset, axis=1)
        np.put_along_axis(self.dense, self.order, np.cumsum(new, axis=1) - 1, axis=1)

    def rank(self, weights: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mid-ranks within a sample, and how much weight shares each value.

        Parameters
        ----------
        weights : ndarray, shape (n,)
            How often each value was drawn.
        drawn : ndarray of int, shape (n_drawn,)
            Which were drawn at all.

        Returns
        -------
        ranks, tied : ndarray, shape (n_rows, n_drawn)
            Ranks count from 1 to the sum of weights.
        """
        sums = np.zeros((len(self.order), self.order.shape[1] + 1))
        np.cumsum(weights[self.order], axis=1, out=sums[:, 1:])
        flat = sums.reshape(-1)
        below, upto = flat[self.begin[:, drawn]], flat[self.end[:, drawn]]
        return (below + upto + 1) / 2, upto - below


class RankedRows(NamedTuple):
    """Rows ranked once: what `RankTable` holds and gives, without what ranks them again."""

    order: np.ndarray
    dense: np.ndarray
    ranks: np.ndarray
    tied: np.ndarray


def rank_rows(rows: np.ndarray, weights: np.ndarray) -> RankedRows:
    """Rank rows of weighted values once.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n)
        Finite values.
    weights : ndarray, shape (n,)
        How often each value counts.

    Returns
    -------
    ranked : RankedRows
        Arrays (n_rows, n): places in order, dense ranks from 0, mid-ranks, and the weight that
        shares each value.
    """
    from netphys.core.compare._compiled import rank_sorted

    order = np.argsort(rows, axis=1)
    ranks, tied, dense = rank_sorted(rows, order, np.asarray(weights, np.float64))
    return RankedRows(order, dense, ranks, tied)


def count_concordance(
    a: RankTable | RankedRows, dense: np.ndarray, pairs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Count concordant less discordant pairs of places for rows of a table and other rows.

    Parameters
    ----------
    a : RankTable or RankedRows
        Rows over the places.
    dense : ndarray of int, shape (n_rows, n_places)
        Rows over the same places, as ranks from 0 without gaps (``RankTable(rows).dense``).
    pairs : ndarray of int, shape (n, 2)
        Which rows are compared: a row of `a` with a row of `dense`.
    weights : ndarray, shape (n_places,)
        How often each place counts.

    Returns
    -------
    difference : ndarray of float64, shape (n,)
        Sum over pairs of places of the product of their weights, times the sign of agreement.

    Notes
    -----
    One pass in the order of `a` over a tree of cumulative weights (Fenwick 1994), compiled when it
    is first called.

    References
    ----------
    .. [1] Fenwick PM (1994). Softw Pract Exp 24:327-336. doi:10.1002/spe.4380240306
    """
    from netphys.core.compare._compiled import sum_concordance

    pairs = np.asarray(pairs, np.intp).reshape(-1, 2)
    weights = np.asarray(weights, np.float64)
    return sum_concordance(a.order, a.dense, dense, int(dense.max()) + 1, pairs, weights)
