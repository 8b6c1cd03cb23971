"""Comparison of activity patterns unit by unit: which unit of one is most like which of the other.

Correlations are worked out where the arrays are (numpy or torch); assignments on the CPU by scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm, sqrt
from typing import Any

import numpy as np
from array_api_compat import to_device
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from netphys._check import check_option
from netphys.core.compare.cka import check_patterns

MATCHINGS = ("one-to-one", "semi", "soft")


def align_units(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair units one to one so that the sum of their correlations is largest.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.

    Returns
    -------
    units_a, units_b : ndarray of int, shape (min(n_units_a, n_units_b),)
        Numbers of the units that are pairs, in ascending order of those of `a`. Units of the larger
        that have no partner are missing.
    correlations : ndarray, shape (min(n_units_a, n_units_b),)
        Pearson's r of each pair over samples, -1 to 1.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, there are fewer than three samples, values are NaN or infinite, or
        units are constant.

    References
    ----------
    .. [1] Li Y et al. (2016). ICLR 4. doi:10.48550/arXiv.1511.07543
    .. [2] Kuhn HW (1955). Nav Res Logist Q 2:83-97. doi:10.1002/nav.3800020109

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(9, 3))
    >>> align_units(x, 2 * x[:, [2, 0, 1]])[1]
    array([1, 2, 0])
    """
    r = _correlate(*_normalise(a, b))
    rows, columns = linear_sum_assignment(r, maximize=True)
    return rows, columns, r[rows, columns]


def compare_units(a: Any, b: Any, *, matching: str = "one-to-one") -> float:
    """Compare activity patterns by the mean correlation of matched units.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    matching : str
        "one-to-one": the assignment with the largest sum; with unequal numbers, units of the larger
        are left over, which flatters it. "semi": each unit of `a` with its best partner in `b`,
        which may be that of several; swapping `a` and `b` changes it. "soft": the transport plan
        with the largest sum that gives every unit of a side the same weight; with equal numbers the
        same as "one-to-one".

    Returns
    -------
    similarity : float
        -1 to 1; 1 for the same units in any order, whatever their positive scales.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `align_units`.

    Notes
    -----
    Correlations are signed: a unit is no match for its mirror image. The best of many correlations
    is above 0 for independent units: read it next to its value for permuted samples.

    "soft" is exact. Where the least common multiple of the numbers of units is at most 256, or four
    times their geometric mean, it is the assignment of copies of units; else a linear programme
    (HiGHS) with n_units_a x n_units_b unknowns: a second for 200 and 301 units, three for 300 and
    401, long for thousands.

    References
    ----------
    .. [1] Li Y et al. (2016). ICLR 4. doi:10.48550/arXiv.1511.07543
    .. [2] Khosla M, Williams AH (2024). UniReps 243:326-341. doi:10.48550/arXiv.2311.09466
    """
    return pair_units(a, b, matching=matching)()


def compute_soft_matching_distance(a: Any, b: Any, *, normalise: bool = True) -> float:
    """Compute the soft matching distance: optimal transport between the units of two networks.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    normalise : bool
        Bring every unit, centred, to length 1 first. Otherwise units are centred alone, and keep
        the scale of the data.

    Returns
    -------
    distance : float
        Root of the least mean squared distance between matched units, every unit of a side having
        the same weight; a metric. Normalised: sqrt(2 - 2 s) with s the "soft" `compare_units`.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `align_units`; constant units are refused where they are normalised.

    Notes
    -----
    With equal numbers of units, the distance after the best permutation over the root of their
    number. How it is solved: see `compare_units`.

    References
    ----------
    .. [1] Khosla M, Williams AH (2024). UniReps 243:326-341. doi:10.48550/arXiv.2311.09466

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> compute_soft_matching_distance(a, b, normalise=False)
    1.0
    """
    if normalise:
        xp, x, y = _normalise(a, b)
    else:
        xp, x, y = check_patterns(a, b)
    products = _correlate(xp, x, y)
    squares = [_to_numpy(xp.sum(z * z, axis=0)) for z in (x, y)]
    return sqrt(max(float(sum(s.mean() for s in squares)) - 2 * _transport(products), 0.0))


def pair_units(a: Any, b: Any, *, matching: str = "one-to-one") -> Callable[..., float]:
    """Prepare the comparison of units for many pairings of the samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        As in `compare_units`.
    matching : str
        "one-to-one", "semi" or "soft".

    Returns
    -------
    compare : callable
        ``compare()`` is what `compare_units` gives; ``compare(order)`` the same with the samples of
        `b` in another order, an array of their numbers.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compare_units`.

    References
    ----------
    .. [1] Li Y et al. (2016). ICLR 4. doi:10.48550/arXiv.1511.07543
    """
    check_option("matching", matching, MATCHINGS)
    xp, x, y = _normalise(a, b)

    def compare(order: Any = None) -> float:
        r = _correlate(xp, x, y if order is None else y[order])
        if matching == "semi":
            score = r.max(axis=1).mean()
        elif matching == "soft":
            score = _transport(r)
        else:
            score = r[linear_sum_assignment(r, maximize=True)].mean()
        return float(np.clip(score, -1, 1))

    return compare


def _normalise(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return centred patterns with every unit of length 1, refusing constant units."""
    xp, *sides = check_patterns(a, b)
    scaled = []
    for name, x in zip("ab", sides, strict=True):
        length = xp.sqrt(xp.sum(x * x, axis=0, keepdims=True))
        if n := int(xp.sum(xp.astype(length == 0, xp.int64))):
            raise ValueError(
                f"{name} has {n} constant units of {x.shape[1]}, which correlate with nothing. "
                "Leave them out."
            )
        scaled.append(x / length)
    return xp, *scaled


def _correlate(xp: Any, x: Any, y: Any) -> np.ndarray:
    return _to_numpy(xp.matrix_transpose(x) @ y)


def _to_numpy(x: Any) -> np.ndarray:
    return np.asarray(to_device(x, "cpu"))


def _transport(gain: np.ndarray) -> float:
    """Return the largest mean gain (n_a, n_b) over plans that weigh all units of a side alike."""
    p, q = gain.shape
    n = lcm(p, q)
    if n <= 256 or n**2 <= 16 * p * q:
        copies = gain.repeat(n // p, axis=0).repeat(n // q, axis=1)
        return float(copies[linear_sum_assignment(copies, maximize=True)].mean())
    sums = [
        sparse.kron(sparse.eye(p), np.ones((1, q))),
        sparse.kron(np.ones((1, p)), sparse.eye(q)),
    ]
    weights = np.repeat([n // p, n // q], [p, q])  # whole numbers, so that the plan is exact
    found = linprog(-gain.ravel(), A_eq=sparse.vstack(sums).tocsr(), b_eq=weights, method="highs")
    if not found.success:
        raise ValueError(
            f"a and b have {p} and {q} units, for which no transport plan was found "
            f"({found.message}). Leave out units, or use matching='one-to-one'."
        )
    return float(-found.fun / n)
