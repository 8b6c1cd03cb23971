"""Similarity of RDMs whose conditions are relabelled."""

from __future__ import annotations

import numpy as np

from netphys._options import MOMENTS, TAUS, WHITENED
from netphys.core.compare.moments import compare_moments
from netphys.core.compare.pairs import normalise_pairs
from netphys.core.compare.ranks import RankTable, count_concordance


def compare_relabelled(
    a: np.ndarray,
    b: np.ndarray,
    orders: np.ndarray,
    *,
    method: str,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """Compare RDMs while the conditions of one set are relabelled.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Dissimilarities, finite; those of `b` are relabelled.
    orders : ndarray of int, shape (n_draws, n_conditions)
        Which condition stands in the place of each.
    method : str
        As in `compare_pairs`, or "bures" or "riemann".
    noise : ndarray, optional
        As there.

    Returns
    -------
    similarity : ndarray, shape (n_draws, n_a, n_b)
        NaN for RDMs that are constant.
    """
    tables = index_pairs(orders)
    out = np.empty((len(orders), len(a), len(b)))
    if method in MOMENTS:
        for draw, table in zip(out, tables, strict=True):
            draw[:] = compare_moments(a, b[:, table], method=method, noise=noise)
        return out
    if method in TAUS:
        return _relabel_order(a, b, tables, method, out)
    ours = normalise_pairs(a, method=method, noise=noise)
    if method in WHITENED:
        for draw, table in zip(out, tables, strict=True):
            draw[:] = ours @ normalise_pairs(b[:, table], method=method, noise=noise).T
        return out
    return relabel_products(ours, normalise_pairs(b, method=method), orders)


def relabel_products(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return products (draw, a, b) of rows of pairs with the conditions of `b` relabelled.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Rows, as `normalise_pairs` gives them.
    orders : ndarray of int, shape (n_draws, n_conditions)
        Which condition stands in the place of each.

    Returns
    -------
    products : ndarray, shape (n_draws, n_a, n_b)
        Dot products.
    """
    out = np.empty((len(orders), len(a), len(b)))
    small, large = (b, a) if len(b) <= len(a) else (a, b)
    if small is a:  # relabel the smaller set, the other way round
        orders = np.argsort(orders, axis=1)
    for draw, table in zip(out, index_pairs(orders), strict=True):
        product = large @ small[:, table].T
        draw[:] = product if small is b else product.T
    return out


def index_pairs(orders: np.ndarray) -> np.ndarray:
    """Return which pair stands in the place of each when conditions are relabelled.

    Parameters
    ----------
    orders : ndarray of int, shape (n_draws, n_conditions)
        Which condition stands in the place of each.

    Returns
    -------
    tables : ndarray of int, shape (n_draws, n_pairs)
        Indices into pairs.
    """
    n = orders.shape[1]
    i, j = np.triu_indices(n, 1)
    place = np.zeros((n, n), np.intp)
    place[i, j] = place[j, i] = np.arange(len(i))
    return place[orders[:, i], orders[:, j]]


def _relabel_order(
    a: np.ndarray, b: np.ndarray, tables: np.ndarray, method: str, out: np.ndarray
) -> np.ndarray:
    left, right = RankTable(a), RankTable(b)
    n = a.shape[1]
    weights, every = np.ones(n), np.arange(n)
    pairs = np.argwhere(np.ones((len(a), len(b))))
    size = []
    for table in (left, right):
        ties = table.rank(weights, every)[1].sum(axis=1)
        square = (n * n - (ties if method == "tau-b" else n)) / 2
        size.append(np.sqrt(np.where(ties < n * n, square, np.nan)))
    scale = size[0][:, None] * size[1]
    for draw, table in zip(out, tables, strict=True):
        found = count_concordance(left, np.ascontiguousarray(right.dense[:, table]), pairs, weights)
        draw[:] = found.reshape(scale.shape) / scale
    return out
