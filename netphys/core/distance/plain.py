"""Dissimilarities between the activity patterns of conditions.

Arrays in, arrays out: numpy or torch, on any device that has float64. Sums are accumulated in
float64, and patterns are centred before squares are expanded, so that a large common mean costs no
digits.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device, is_torch_namespace

from netphys._check import check_option
from netphys._options import METRICS

PLAIN = (*METRICS, "mahalanobis", "poisson")


def compute_distances(
    x: Any,
    *,
    metric: str = "correlation",
    precision: Any = None,
    prior: tuple[float, float] = (1.0, 0.1),
) -> Any:
    """Compute the dissimilarity of every pair of conditions.

    Parameters
    ----------
    x : array, shape (..., n_conditions, n_units)
        Activity patterns, arbitrary units; numpy or torch. Leading axes (time, layer) are kept.
    metric : str
        "correlation": 1 - Pearson's r over units. "euclidean": squared Euclidean distance divided
        by the number of units (as rsatoolbox defines it). "cosine": 1 - cosine of the angle.
        "mahalanobis": squared distance in units of the noise, divided by the number of units.
        "poisson": symmetrised Kullback-Leibler divergence between Poisson rates, per unit.
    precision : array, shape (n_units, n_units) or (n_units,), optional
        For "mahalanobis": inverse covariance of the noise, or inverse variances.
    prior : (float, float)
        For "poisson": rate and weight of the prior, in the units of `x` and in observations.

    Returns
    -------
    distances : array of float64, shape (..., n_conditions, n_conditions)
        Symmetric, zero on the diagonal. NaN where a pattern has no variance ("correlation") or no
        length ("cosine"), or holds NaN.

    Raises
    ------
    ValueError
        If the metric is unknown, there are fewer than two conditions or no units, the precision is
        missing or of another size, or rates are negative ("poisson").

    References
    ----------
    .. [1] Kriegeskorte N, Mur M, Bandettini P (2008). Front Syst Neurosci 2:4.
       doi:10.3389/neuro.06.004.2008
    .. [2] Walther A et al. (2016). NeuroImage 137:188-200. doi:10.1016/j.neuroimage.2015.12.012
    .. [3] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566

    Examples
    --------
    >>> import numpy as np
    >>> compute_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), metric="euclidean")
    array([[ 0. , 12.5],
           [12.5,  0. ]])
    """
    check_option("metric", metric, PLAIN, "For Pearson distance use 'correlation'.")
    xp = array_namespace(x)
    if x.ndim < 2 or x.shape[-2] < 2 or x.shape[-1] < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}. Give (..., conditions, units) with at least two "
            "conditions and one unit."
        )
    x = to_float64(xp, x)
    if metric in ("correlation", "cosine"):
        distances = _compute_angles(xp, x, metric)
    else:
        distances = _compute_squares(xp, x, metric, precision, prior)
        distances /= x.shape[-1]
    distances = xp.clip(distances, 0, None)  # rounding
    diagonal = xp.linalg.diagonal(distances)
    every = range(x.shape[-2])
    distances[..., every, every] = xp.where(xp.isnan(diagonal), diagonal, 0.0)
    return distances


def expand_square(xp: Any, product: Any) -> Any:
    """Return |a|^2 + |b|^2 - ab - ba from products (..., n_conditions, n_conditions).

    Parameters
    ----------
    xp : namespace
        Of the array.
    product : array
        Products of every pattern with every other; need not be symmetric.

    Returns
    -------
    distances : array
        Of the same shape.
    """
    square = xp.linalg.diagonal(product)
    distances = square[..., :, None] + square[..., None, :]
    distances -= product + xp.matrix_transpose(product)
    return distances


def to_float64(xp: Any, x: Any) -> Any:
    """Return `x` in float64, refusing devices that have none by name.

    Parameters
    ----------
    xp : namespace
        Of the array.
    x : array
        Any dtype.

    Returns
    -------
    x : array of float64
        On the same device; the array itself if it is float64 already.

    Raises
    ------
    ValueError
        On the device "mps".
    """
    if is_torch_namespace(xp) and device(x).type == "mps":
        raise ValueError("x is on the device 'mps', which has no float64. Move it: x.cpu().")
    return xp.astype(x, xp.float64, copy=False)


def apply_precision(xp: Any, x: Any, precision: Any) -> Any:
    """Multiply patterns (..., n_conditions, n_units) by a precision, full or diagonal.

    Parameters
    ----------
    xp : namespace
        Of the arrays.
    x : array
        Patterns in float64.
    precision : array or None
        Shape (n_units, n_units) or (n_units,); None: the identity.

    Returns
    -------
    product : array
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If sizes differ.
    """
    if precision is None:
        return x
    precision = to_float64(xp, xp.asarray(precision))
    n = x.shape[-1]
    if tuple(precision.shape) not in ((n,), (n, n)):
        raise ValueError(
            f"precision has shape {tuple(precision.shape)} for {n} units. Give ({n}, {n}), or "
            f"({n},) for one inverse variance per unit."
        )
    return x * precision if precision.ndim == 1 else x @ precision


def add_prior(xp: Any, x: Any, prior: tuple[float, float]) -> Any:
    """Return rates drawn towards a prior, as the Poisson dissimilarities take them.

    Parameters
    ----------
    xp : namespace
        Of the array.
    x : array
        Rates or counts.
    prior : (float, float)
        Rate, and weight in observations.

    Returns
    -------
    rates : array
        Positive.

    Raises
    ------
    ValueError
        If a rate is negative, or the prior is not positive.
    """
    rate, weight = prior
    if not (rate > 0 and weight > 0):
        raise ValueError(f"prior={prior!r} must be a rate and a weight above 0, such as (1, 0.1).")
    if bool(xp.any(x < 0)):
        raise ValueError(
            "x holds negative values, which no Poisson rate has. Use 'euclidean', or give counts."
        )
    return (x + rate * weight) / (1 + weight)


def _compute_angles(xp: Any, x: Any, metric: str) -> Any:
    if metric == "correlation":
        x = _centre(xp, x)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    nan = xp.full_like(length, float("nan"))
    x = x / xp.where(length > 0, length, nan)
    product = x @ xp.matrix_transpose(x)
    return 1 - (product + xp.matrix_transpose(product)) / 2


def _compute_squares(xp: Any, x: Any, metric: str, precision: Any, prior: tuple) -> Any:
    if metric == "mahalanobis" and precision is None:
        raise ValueError(
            "metric='mahalanobis' needs precision=, the inverse covariance of the noise: "
            "compute_precision(residuals). Without one it is 'euclidean'."
        )
    if metric == "poisson":
        rates = add_prior(xp, x, prior)
        return expand_square(xp, rates @ xp.matrix_transpose(xp.log(rates)))
    x = x - xp.mean(x, axis=-2, keepdims=True)  # the same for all: differences stay
    other = apply_precision(xp, x, precision) if metric == "mahalanobis" else x
    return expand_square(xp, other @ xp.matrix_transpose(x))


def _centre(xp: Any, x: Any) -> Any:
    """Subtract each pattern's mean; a pattern without variance becomes exactly 0."""
    mean = xp.mean(x, axis=-1, keepdims=True)
    flat = xp.max(x, axis=-1, keepdims=True) == xp.min(x, axis=-1, keepdims=True)
    return xp.where(flat, xp.zeros_like(x), x - mean)
