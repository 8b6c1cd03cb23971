"""Distances between the shapes of activity patterns: Procrustes, and what lies between it and CCA.

Patterns are numpy or torch arrays (n_samples, n_units), on any device that has float64.
"""

from __future__ import annotations

from collections.abc import Callable
from math import asin, sqrt
from typing import Any

from netphys._check import check_option, check_type
from netphys.core.compare.cca import check_rank, check_spread
from netphys.core.compare.cka import check_patterns

SCORES = ("angular", "euclidean", "cosine")


def compare_shapes(a: Any, b: Any, *, alpha: float = 1.0, score: str = "angular") -> float:
    """Compare activity patterns after the best rotation or reflection of their units.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch. The one
        with fewer units counts as padded with zeros.
    alpha : float
        0 to 1. 1: patterns as they are (Procrustes). 0: whitened, so that any linear map of the
        units counts as the same (as in CCA). Between: partly whitened.
    score : str
        "angular": distance in radians, 0 to pi / 2, after division by the overall size.
        "euclidean": distance without that division, in the units of the data. "cosine": cosine of
        the angle, a similarity of 0 to 1.

    Returns
    -------
    score : float
        "angular" and "euclidean" are metrics: symmetric, 0 for equal shapes, and the way over a
        third is never shorter.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, there are fewer than three samples, values are NaN or infinite,
        nothing varies, or alpha < 1 and units are too many for the samples, constant or
        combinations of others.

    Notes
    -----
    Units are centred. Patterns X become X (alpha I + (1 - alpha) (X' X)^(-1/2)), as published: with
    alpha between 0 and 1 the result depends on the scale of the units and on the number of samples.
    With alpha=1, "cosine" is the similarity of Bures of the Gram matrices (normalised Bures
    similarity), "euclidean" the Procrustes distance, and 1 - cosine^2 scipy's disparity. With
    alpha=0, "cosine" is the sum of canonical correlations over the geometric mean of the numbers
    of units. Scores of independent patterns are far from the ends of the scale.

    References
    ----------
    .. [1] Williams AH, Kunz E, Kornblith S, Linderman SW (2021). NeurIPS 34:4738-4750.
       doi:10.48550/arXiv.2110.14739
    .. [2] Schönemann PH (1966). Psychometrika 31:1-10. doi:10.1007/BF02289451

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(9, 2))
    >>> turned = x @ np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> round(compare_shapes(x, turned, score="euclidean"), 12)
    0.0
    """
    return pair_shapes(a, b, alpha=alpha, score=score)()


def pair_shapes(
    a: Any, b: Any, *, alpha: float = 1.0, score: str = "angular"
) -> Callable[..., float]:
    """Prepare distances between shapes for many pairings of the samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        As in `compare_shapes`.
    alpha : float
        0 to 1.
    score : str
        "angular", "euclidean" or "cosine".

    Returns
    -------
    compare : callable
        ``compare()`` is what `compare_shapes` gives; ``compare(order)`` the same with the samples
        of `b` in another order, an array of their numbers.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compare_shapes`.

    References
    ----------
    .. [1] Williams AH, Kunz E, Kornblith S, Linderman SW (2021). NeurIPS 34:4738-4750.
       doi:10.48550/arXiv.2110.14739
    """
    check_option("score", score, SCORES)
    check_type("alpha", alpha, (int, float), "a number from 0 to 1")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r} is out of range. Give a number from 0 to 1.")
    xp, a, b = check_patterns(a, b)
    x, y = (_make_factor(xp, x, alpha, name) for x, name in ((a, "a"), (b, "b")))
    size = tuple(float(xp.sqrt(xp.sum(f * f))) for f in (x, y))
    if score != "euclidean":
        x, y, size = x / size[0], y / size[1], (1.0, 1.0)

    def compare(order: Any = None) -> float:
        return _score(xp, x, y if order is None else y[order], size, score)

    return compare


def _make_factor(xp: Any, x: Any, alpha: float, name: str) -> Any:
    """Return partly whitened patterns up to a rotation, as few columns as they span."""
    if alpha < 1:
        check_spread(x.shape[1], x.shape[0], name)
    u, s, _ = xp.linalg.svd(x, full_matrices=False)
    if alpha < 1:
        check_rank(xp, s, x.shape[0], name)
        s = alpha * s + (1 - alpha)
    return u * s


def _score(xp: Any, x: Any, y: Any, size: tuple[float, float], score: str) -> float:
    product = xp.matrix_transpose(x) @ y
    shared = float(xp.sum(xp.linalg.svdvals(product)))
    if score == "cosine":
        return min(shared, 1.0)
    square = max(size[0] ** 2 + size[1] ** 2 - 2 * shared, 0.0)
    if square < 1e-6 * size[0] * size[1]:  # the difference has lost its digits: fit, and measure
        square = float(_measure_residual(xp, x, y, product))
    return sqrt(square) if score == "euclidean" else 2 * asin(sqrt(square) / 2)


def _measure_residual(xp: Any, x: Any, y: Any, product: Any) -> Any:
    """Return the sum of squares that the best rotation of `y` leaves of `x`."""
    u, _, v = xp.linalg.svd(product, full_matrices=True)
    x, y = x @ u, y @ xp.matrix_transpose(v)
    n = min(x.shape[1], y.shape[1])
    rest = xp.sum(x[:, n:] ** 2) + xp.sum(y[:, n:] ** 2)  # beside the zeros of the padding
    return xp.sum((x[:, :n] - y[:, :n]) ** 2) + rest
