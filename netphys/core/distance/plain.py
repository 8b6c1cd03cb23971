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


def compute_distances(x: Any, *, metric: str = "correlation") -> Any:
    """Compute the dissimilarity of every pair of conditions.

    Parameters
    ----------
    x : array, shape (..., n_conditions, n_units)
        Activity patterns, arbitrary units; numpy or torch. Leading axes (time, layer) are kept.
    metric : str
        "correlation": 1 - Pearson's r over units. "euclidean": squared Euclidean distance divided
        by the number of units (as rsatoolbox defines it). "cosine": 1 - cosine of the angle.

    Returns
    -------
    distances : array of float64, shape (..., n_conditions, n_conditions)
        Symmetric, zero on the diagonal. NaN where a pattern has no variance ("correlation") or no
        length ("cosine"), or holds NaN.

    Raises
    ------
    ValueError
        If the metric is unknown, or there are fewer than two conditions or no units.

    References
    ----------
    .. [1] Kriegeskorte N, Mur M, Bandettini P (2008). Front Syst Neurosci 2:4.
       doi:10.3389/neuro.06.004.2008

    Examples
    --------
    >>> import numpy as np
    >>> compute_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), metric="euclidean")
    array([[ 0. , 12.5],
           [12.5,  0. ]])
    """
    check_option("metric", metric, METRICS, "For Pearson distance use 'correlation'.")
    xp = array_namespace(x)
    if x.ndim < 2 or x.shape[-2] < 2 or x.shape[-1] < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}. Give (..., conditions, units) with at least two "
            "conditions and one unit."
        )
    x = _to_float64(xp, x)
    if metric == "euclidean":
        x = x - xp.mean(x, axis=-2, keepdims=True)  # the same for all: differences stay
        product = x @ xp.matrix_transpose(x)
        square = xp.linalg.diagonal(product)
        distances = (square[..., :, None] + square[..., None, :] - 2 * product) / x.shape[-1]
    else:
        if metric == "correlation":
            x = _centre(xp, x)
        length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
        nan = xp.full_like(length, float("nan"))
        x = x / xp.where(length > 0, length, nan)
        distances = 1 - x @ xp.matrix_transpose(x)
    distances = (distances + xp.matrix_transpose(distances)) / 2
    distances = xp.where(distances < 0, xp.zeros_like(distances), distances)  # rounding
    same = xp.eye(x.shape[-2], dtype=xp.bool, device=device(x))
    return xp.where(same & ~xp.isnan(distances), xp.zeros_like(distances), distances)


def _to_float64(xp: Any, x: Any) -> Any:
    """Return `x` in float64, refusing devices that have none by name."""
    if is_torch_namespace(xp) and device(x).type == "mps":
        raise ValueError("x is on the device 'mps', which has no float64. Move it: x.cpu().")
    return xp.astype(x, xp.float64)


def _centre(xp: Any, x: Any) -> Any:
    """Subtract each pattern's mean; a pattern without variance becomes exactly 0."""
    mean = xp.mean(x, axis=-1, keepdims=True)
    flat = xp.max(x, axis=-1, keepdims=True) == xp.min(x, axis=-1, keepdims=True)
    return xp.where(flat, xp.zeros_like(x), x - mean)
