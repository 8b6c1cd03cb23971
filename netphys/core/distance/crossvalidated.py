"""Dissimilarities over runs: their noise is independent, so that none of it adds to distances."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from netphys._check import check_option
from netphys.core.distance.noise import invert_covariance
from netphys.core.distance.plain import (
    add_prior,
    apply_precision,
    expand_square,
    to_float64,
)

SCHEMES = ("leave-one-out", "pairs")


def compute_crossnobis(patterns: Any, *, precision: Any = None, scheme: str = "pairs") -> Any:
    """Compute cross-validated squared Mahalanobis distances.

    Parameters
    ----------
    patterns : array, shape (..., n_folds, n_conditions, n_units)
        Mean pattern of each condition in each fold (run), arbitrary units; a row of NaN where a
        condition does not occur in a fold. Numpy or torch.
    precision : array, optional
        Inverse covariance of the noise: (n_units, n_units), or (n_units,) if diagonal, for all
        folds; (n_folds, n_units, n_units) for one each. Left out: the identity.
    scheme : str
        "pairs": mean over all pairs of folds. "leave-one-out": mean over folds of that fold with
        the mean of the others. The two are one and the same unless each fold has its own
        precision.

    Returns
    -------
    distances : array of float64, shape (..., n_conditions, n_conditions)
        Divided by the number of units; negative values occur, the mean of noise being 0. NaN for
        two conditions that do not occur together in two folds.

    Raises
    ------
    ValueError
        If there are fewer than two folds or conditions, or the precision is of another size.

    Notes
    -----
    Differences are taken within a fold, so that what a fold adds to all its patterns has no part,
    also where conditions are missing. With one precision per fold, two folds share the inverse of
    the mean of their covariances.

    References
    ----------
    .. [1] Walther A et al. (2016). NeuroImage 137:188-200. doi:10.1016/j.neuroimage.2015.12.012

    Examples
    --------
    >>> import numpy as np
    >>> compute_crossnobis(np.array([[[0.0], [2.0]], [[1.0], [4.0]]]))
    array([[0., 6.],
           [6., 0.]])
    """
    check_option("scheme", scheme, SCHEMES)
    xp, x = _open(patterns)
    n_units = x.shape[-1]
    missing = xp.any(xp.isnan(x), axis=-1)
    several = precision is not None and getattr(precision, "ndim", 2) == 3
    if several:
        precision = to_float64(xp, xp.asarray(precision))
        if precision.shape[0] != x.shape[-3]:
            raise ValueError(
                f"precision has {precision.shape[0]} matrices for {x.shape[-3]} folds. Give one "
                "for all, or one per fold."
            )
    known = xp.astype(~missing, xp.float64)
    x = xp.where(missing[..., None], xp.zeros_like(x), x)
    count = xp.sum(known, axis=-1, keepdims=True)
    mean = xp.sum(x, axis=-2, keepdims=True) / xp.where(count > 0, count, 1.0)[..., None]
    x = (x - mean) * known[..., None]
    if several:
        total, weight = _sum_own(xp, x, known, precision, scheme)
    elif bool(xp.any(missing)):
        total, weight = _sum_missing(xp, x, known, apply_precision(xp, x, precision))
    else:
        total, weight = _sum_all(xp, x, apply_precision(xp, x, precision))
    nan = xp.full_like(total, float("nan"))
    distances = xp.where(weight > 0, total / xp.where(weight > 0, weight, 1.0), nan) / n_units
    return _clear_diagonal(xp, distances)


def compute_poisson_cv(patterns: Any, *, prior: tuple[float, float] = (1.0, 0.1)) -> Any:
    """Compute cross-validated symmetrised Kullback-Leibler divergences of Poisson rates.

    Parameters
    ----------
    patterns : array, shape (..., n_folds, n_conditions, n_units)
        Mean rate or count of each condition in each fold; numpy or torch.
    prior : (float, float)
        Rate and weight of the prior, in the units of `patterns` and in observations.

    Returns
    -------
    distances : array of float64, shape (..., n_conditions, n_conditions)
        Mean over folds of (rate - rate') of the other folds times (log rate - log rate') of the
        fold, divided by the number of units.

    Raises
    ------
    ValueError
        If there are fewer than two folds or conditions, a condition is missing in a fold, or rates
        are negative.

    References
    ----------
    .. [1] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566
    """
    xp, x = _open(patterns)
    if bool(xp.any(xp.isnan(x))):
        raise ValueError(
            "patterns holds NaN: a condition is missing in a fold. Merge folds, or leave the "
            "condition out."
        )
    n = x.shape[-3]
    others = (xp.sum(x, axis=-3, keepdims=True) - x) / (n - 1)
    product = add_prior(xp, others, prior) @ xp.matrix_transpose(xp.log(add_prior(xp, x, prior)))
    distances = xp.mean(expand_square(xp, product), axis=-3) / x.shape[-1]
    return _clear_diagonal(xp, distances)


def _open(patterns: Any) -> tuple[Any, Any]:
    xp = array_namespace(patterns)
    if patterns.ndim < 3 or min(patterns.shape[-3:-1]) < 2 or patterns.shape[-1] < 1:
        raise ValueError(
            f"patterns has shape {tuple(patterns.shape)}. Give (..., folds, conditions, units) "
            "with at least two folds and two conditions."
        )
    return xp, to_float64(xp, patterns)


def _sum_all(xp: Any, x: Any, other: Any) -> tuple[Any, Any]:
    """Sum over ordered pairs of folds: the product of sums less the products within folds."""
    n = x.shape[-3]
    rest = xp.sum(x, axis=-3, keepdims=True) - x
    product = xp.sum(other @ xp.matrix_transpose(rest), axis=-3)
    total = expand_square(xp, product)
    return total, xp.full_like(total, float(n * (n - 1)))


def _sum_missing(xp: Any, x: Any, known: Any, other: Any) -> tuple[Any, Any]:
    """Sum over pairs of folds in which both conditions of a pair occur."""
    both = known[..., :, None] * known[..., None, :]
    total, weight = xp.zeros_like(both[..., 0, :, :]), xp.zeros_like(both[..., 0, :, :])
    for m in range(x.shape[-3]):
        for n in range(m + 1, x.shape[-3]):
            product = other[..., m, :, :] @ xp.matrix_transpose(x[..., n, :, :])
            shared = both[..., m, :, :] * both[..., n, :, :]
            total = total + shared * expand_square(xp, product)
            weight = weight + shared
    return total, weight


def _sum_own(xp: Any, x: Any, known: Any, precision: Any, scheme: str) -> tuple[Any, Any]:
    """Sum over pairs of folds, or over folds with the mean of the others, each with its noise."""
    covariance = xp.linalg.inv(precision)
    both = known[..., :, None] * known[..., None, :]
    total, weight = xp.zeros_like(both[..., 0, :, :]), xp.zeros_like(both[..., 0, :, :])
    folds = range(x.shape[-3])
    for m in folds:
        rest = [n for n in folds if n != m]
        groups = [rest] if scheme == "leave-one-out" else [[n] for n in rest if n > m]
        for group in groups:
            noise = (covariance[m] + sum(covariance[n] for n in group) / len(group)) / 2
            left = x[..., m, :, :] @ invert_covariance(noise, hint="precision")
            partial, count = 0.0, 0.0
            for n in group:
                product = left @ xp.matrix_transpose(x[..., n, :, :])
                shared = both[..., m, :, :] * both[..., n, :, :]
                partial = partial + shared * expand_square(xp, product)
                count = count + shared
            usable = xp.where(count > 0, 1.0, 0.0)
            total = total + partial / xp.where(count > 0, count, 1.0)
            weight = weight + usable
    return total, weight


def _clear_diagonal(xp: Any, distances: Any) -> Any:
    """Return symmetric distances with an exact 0 on the diagonal."""
    distances = (distances + xp.matrix_transpose(distances)) / 2
    same = xp.eye(distances.shape[-1], dtype=xp.bool, device=device(distances))
    return xp.where(same, xp.zeros_like(distances), distances)
