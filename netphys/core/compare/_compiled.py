"""The compiled loops behind ranks and Kendall's tau."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def sum_concordance(order, a, b, size, pairs, weights):
    """Return concordant less discordant weight for every pair of rows (row of a, row of b).

    Places are visited in the order of `a`, those of equal `a` together: first all of them ask the
    tree how much weight lies below and above their `b`, then all are added to it. Places without
    weight are left out once for a run of pairs with the same row of `a`. Values of `b` are below
    `size`.
    """
    n = order.shape[1]
    out = np.zeros(len(pairs))
    tree, at = np.empty(size + 1), np.empty(size)
    place, stop = np.empty(n, np.int64), np.empty(n, np.int64)
    weight = np.empty(n)
    known, count = -1, 0
    for c in range(len(pairs)):
        left, right = pairs[c]
        if left != known:
            count = 0
            for i in range(n):
                k = order[left, i]
                if weights[k] > 0:
                    place[count] = k
                    weight[count] = weights[k]
                    count += 1
            end = count
            for i in range(count - 1, -1, -1):  # where the group of equal values ends
                if i < count - 1 and a[left, place[i]] != a[left, place[i + 1]]:
                    end = i + 1
                stop[i] = end
            known = left
        tree[:], at[:] = 0.0, 0.0
        seen, total, begin = 0.0, 0.0, 0
        while begin < count:
            end = stop[begin]
            for i in range(begin, end):
                k = b[right, place[i]]
                equal = at[k]
                below = 0.0
                while k > 0:  # weight of smaller values of b
                    below += tree[k]
                    k &= k - 1
                total += weight[i] * (2 * below + equal - seen)
            for i in range(begin, end):
                k = b[right, place[i]]
                at[k] += weight[i]
                k += 1
                seen += weight[i]
                while k <= size:
                    tree[k] += weight[i]
                    k += k & -k
            begin = end
        out[c] = total
    return out


@njit(nogil=True, cache=True)
def rank_sorted(rows, order, weights):
    """Return mid-ranks of weighted values, the weight that shares each value, and dense ranks."""
    n_rows, n = rows.shape
    ranks, tied = np.empty((n_rows, n)), np.empty((n_rows, n))
    dense = np.empty((n_rows, n), np.int64)
    for r in range(n_rows):
        below, level, begin = 0.0, 0, 0
        while begin < n:
            value = rows[r, order[r, begin]]
            mass, end = 0.0, begin
            while end < n and rows[r, order[r, end]] == value:
                mass += weights[order[r, end]]
                end += 1
            middle = below + (mass + 1) / 2
            for i in range(begin, end):
                place = order[r, i]
                ranks[r, place] = middle
                tied[r, place] = mass
                dense[r, place] = level
            below += mass
            level += 1
            begin = end
    return ranks, tied, dense
