"""The compiled loop behind geodesic descriptors of many RDMs."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def rank_paths(pairs, lower, upper, n):
    """Return average ranks (row, pair) of shortest paths between `n` nodes; without a path: last.

    `pairs` (row, pair) are upper triangles, row by row, without NaN. Their lengths are as between
    two thresholds lower < upper; those of length 1 are no edge. Lengths of paths are tied where
    they agree in 12 decimals: sums of equal edges differ in their last bits with the order.
    """
    m = pairs.shape[1]
    out = np.empty(pairs.shape)
    paths, flat = np.empty((n, n)), np.empty(m)
    span = upper - lower
    for row in range(pairs.shape[0]):
        at = 0
        for i in range(n):
            paths[i, i] = 0.0
            for j in range(i + 1, n):
                length = max((pairs[row, at] - lower) / span, 0.0)
                paths[i, j] = paths[j, i] = length if length < 1.0 else np.inf
                at += 1
        for k in range(n):
            for i in range(n):
                first = paths[i, k]
                if first == np.inf:
                    continue
                for j in range(n):
                    whole = first + paths[k, j]
                    known = paths[i, j]
                    paths[i, j] = whole if whole < known else known
        at = 0
        for i in range(n):
            for j in range(i + 1, n):
                flat[at] = np.rint(paths[i, j] * 1e12)
                at += 1
        order = np.argsort(flat)
        begin = 0
        while begin < m:
            end = begin + 1
            while end < m and flat[order[end]] == flat[order[begin]]:
                end += 1
            for k in range(begin, end):
                out[row, order[k]] = (begin + end + 1) / 2
            begin = end
    return out
