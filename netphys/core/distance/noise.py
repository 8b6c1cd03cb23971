"""Noise of patterns: covariance over units of what is left of trials, and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from netphys._check import check_option
from netphys._options import NOISES
from netphys.core.distance.plain import to_float64


def compute_residuals(
    x: Any, groups: np.ndarray, *, folds: np.ndarray | None = None
) -> tuple[Any, int]:
    """Subtract from every trial what its condition, and its run, have in common.

    Parameters
    ----------
    x : array, shape (..., n_trials, n_units)
        Activity patterns, arbitrary units; numpy or torch.
    groups : ndarray of int, shape (n_trials,)
        Condition of each trial.
    folds : ndarray of int, shape (n_trials,), optional
        Run of each trial: what a run adds to all its patterns is no noise either.

    Returns
    -------
    residuals : array of float64, shape (..., n_trials, n_units)
        Of the least-squares fit of a mean per condition, and an offset per run.
    dof : int
        Degrees of freedom: trials less what was fitted.

    Raises
    ------
    ValueError
        If the fit leaves no degree of freedom.
    """
    xp = array_namespace(x)
    x = to_float64(xp, x)
    columns = [np.asarray(c) for c in (groups, folds) if c is not None]
    design = np.hstack([(c[:, None] == np.unique(c)).astype(np.float64) for c in columns])
    u, size, _ = np.linalg.svd(design, full_matrices=False)
    basis = u[:, size > 1e-10 * size[0]]
    dof = len(design) - basis.shape[1]
    if dof < 1:
        raise ValueError(
            "every condition has one trial: there is nothing to estimate noise from. Give a "
            "precision matrix of other data, or show stimuli several times."
        )
    x = x - xp.mean(x, axis=-2, keepdims=True)  # lies in the design: costs no digits
    basis = xp.asarray(basis, device=device(x))
    return x - basis @ (xp.matrix_transpose(basis) @ x), dof


def compute_noise_covariance(
    residuals: Any, *, method: str = "shrink-diagonal", dof: int | None = None
) -> Any:
    """Estimate the covariance of units from residuals.

    Parameters
    ----------
    residuals : array, shape (n_samples, n_units)
        Deviations from the mean of their condition (`compute_residuals`) or from a model; numpy or
        torch.
    method : str
        "full": the sample covariance. "diagonal": its diagonal. "shrink-identity": shrunk towards
        equal variances [1]_. "shrink-diagonal": correlations shrunk towards 0 [2]_.
    dof : int, optional
        Degrees of freedom; left out: samples less one.

    Returns
    -------
    covariance : array of float64, shape (n_units, n_units)
        Arbitrary units squared.

    Raises
    ------
    ValueError
        If the method is unknown, residuals are not finite, or `dof` is below 1.

    References
    ----------
    .. [1] Ledoit O, Wolf M (2004). J Multivar Anal 88:365-411. doi:10.1016/S0047-259X(03)00096-4
    .. [2] Schäfer J, Strimmer K (2005). Stat Appl Genet Mol Biol 4:32. doi:10.2202/1544-6115.1175

    Examples
    --------
    >>> import numpy as np
    >>> compute_noise_covariance(np.array([[1.0, 2.0], [-1.0, -2.0]]), method="full")
    array([[2., 4.],
           [4., 8.]])
    """
    check_option("method", method, NOISES)
    xp = array_namespace(residuals)
    r = to_float64(xp, residuals)
    if r.ndim != 2 or r.shape[0] < 2:
        raise ValueError(
            f"residuals has shape {tuple(r.shape)}. Give (samples, units) with at least two "
            "samples."
        )
    if not bool(xp.all(xp.isfinite(r))):
        raise ValueError("residuals holds NaN or infinite values. Leave these trials or units out.")
    n = r.shape[0]
    dof = n - 1 if dof is None else dof
    if dof < 1:
        raise ValueError(f"dof={dof} leaves no degree of freedom. Use more trials per condition.")
    product = xp.matrix_transpose(r) @ r
    if method == "full":
        return product / dof
    if method == "diagonal":
        return _diagonal(xp, xp.linalg.diagonal(product) / dof)
    shrink = _shrink_to_identity if method == "shrink-identity" else _shrink_to_diagonal
    return shrink(xp, r, product, dof)


def compute_precision(
    residuals: Any, *, method: str = "shrink-diagonal", dof: int | None = None
) -> Any:
    """Estimate the inverse covariance of units from residuals.

    Parameters
    ----------
    residuals : array, shape (n_samples, n_units)
        As for `compute_noise_covariance`.
    method : str
        "full", "diagonal", "shrink-identity" or "shrink-diagonal".
    dof : int, optional
        Degrees of freedom; left out: samples less one.

    Returns
    -------
    precision : array of float64, shape (n_units, n_units)
        Inverse of the covariance.

    Raises
    ------
    ValueError
        If the covariance has no inverse: too few samples for "full", or units without variance.
    """
    covariance = compute_noise_covariance(residuals, method=method, dof=dof)
    return invert_covariance(covariance, hint=f"noise={method!r}")


def invert_covariance(covariance: Any, *, hint: str = "covariance") -> Any:
    """Return the inverse of a covariance, refusing one that has none.

    Parameters
    ----------
    covariance : array, shape (..., n_units, n_units)
        Symmetric, positive definite; numpy or torch.
    hint : str
        What it is called in the message.

    Returns
    -------
    precision : array, shape (..., n_units, n_units)
        Its inverse.

    Raises
    ------
    ValueError
        If it is singular to working precision.
    """
    xp = array_namespace(covariance)
    variance = xp.linalg.diagonal(covariance)
    if not bool(xp.all(variance > 0)):
        count = int(xp.sum(xp.astype(~(variance > 0), xp.int64)))
        raise ValueError(
            f"{hint}: {count} units have no variance over trials, so their noise has no inverse. "
            "Leave these units out."
        )
    values = xp.linalg.eigvalsh(covariance)
    if not bool(xp.all(values[..., 0] > 1e-12 * values[..., -1])):
        raise ValueError(
            f"{hint}: the covariance of {covariance.shape[-1]} units is singular, for want of "
            "trials. Use 'shrink-diagonal', 'shrink-identity' or 'diagonal'."
        )
    return xp.linalg.inv(covariance)


def _diagonal(xp: Any, values: Any) -> Any:
    return xp.eye(values.shape[0], dtype=values.dtype, device=values.device) * values


def _shrink_to_identity(xp: Any, r: Any, product: Any, dof: int) -> Any:
    n, p = r.shape
    s = product / n
    m = xp.linalg.trace(s) / p
    target = _diagonal(xp, xp.zeros_like(s[0]) + m)
    spread = xp.sum((s - target) ** 2)
    # the mean over samples of (r_a r_b)^2, summed over all pairs of units, in one product
    error = (xp.mean(xp.sum(r * r, axis=1) ** 2) - xp.sum(s * s)) / n
    weight = float(error / spread) if float(spread) > 0 else 1.0
    weight = min(max(weight, 0.0), 1.0)
    return (weight * target + (1 - weight) * s) * (n / dof)


def _shrink_to_diagonal(xp: Any, r: Any, product: Any, dof: int) -> Any:
    n = r.shape[0]
    s = product / dof
    sd = xp.sqrt(xp.linalg.diagonal(s))
    safe = xp.where(sd > 0, sd, xp.ones_like(sd))
    z = r / safe
    mean = (xp.matrix_transpose(z) @ z) / (n - 1)
    square = (xp.matrix_transpose(z * z) @ (z * z)) / (n - 1)
    variance = (square - mean**2) * n / dof**2
    off = 1 - _diagonal(xp, xp.ones_like(sd))
    spread = float(xp.sum(off * mean**2))
    weight = float(xp.sum(off * variance)) / spread if spread > 0 else 1.0
    weight = min(max(weight, 0.0), 1.0)
    return s * (1 - weight * off)
