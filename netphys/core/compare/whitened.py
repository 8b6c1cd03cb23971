"""RDMs whitened by the covariance of their dissimilarities, without a matrix of pairs by pairs.

With independent noise of equal variance on the patterns, the covariance of squared distances is
that of ``(u' Z u)`` with Z a symmetric Gaussian matrix; so the quadratic form with its inverse is
the squared length of the double-centred matrix ``-D / 2`` (of length K x K), which is linear CKA.
"""

from __future__ import annotations

import numpy as np

from netphys.core.square import count_conditions, make_square


def whiten_pairs(rows: np.ndarray, *, noise: np.ndarray | None = None) -> np.ndarray:
    """Return vectors whose dot product is that of RDMs in the metric of their noise.

    Parameters
    ----------
    rows : ndarray, shape (n_rdms, n_pairs)
        Dissimilarities of the pairs (0, 1), (0, 2), ...; squared distances. Pairs that are NaN in
        any row take no part.
    noise : ndarray, shape (n_conditions,) or (n_conditions, n_conditions), optional
        Variance of the noise of each condition's pattern, or their covariance; left out: equal
        variances.

    Returns
    -------
    whitened : ndarray, shape (n_rdms, n_conditions ** 2)
        ``a @ b`` is proportional to r_a' V^-1 r_b, with V the covariance of dissimilarities.

    Raises
    ------
    ValueError
        If the noise is of another size or not positive definite, or there is a covariance and a
        pair is NaN.

    References
    ----------
    .. [1] Diedrichsen J et al. (2021). Neurons Behav Data Anal Theory 5(3). arXiv:2007.02789
       doi:10.51628/001c.27664
    """
    rows = np.atleast_2d(np.asarray(rows, np.float64))
    n = count_conditions(rows.shape[1])
    known = np.isfinite(rows).all(axis=0)
    halves = make_square(np.where(known, -rows / 2, 0.0))
    noise = check_noise(noise, n)
    if noise is not None and noise.ndim == 2:
        if not known.all():
            raise ValueError(
                f"{(~known).sum()} pairs are NaN, which a covariance of noise cannot be whitened "
                "without. Leave out their conditions, or give variances."
            )
        return _whiten_by_covariance(halves, noise)
    precision = np.ones(n) if noise is None else 1 / noise
    present = make_square(known.astype(np.float64))
    return _whiten_by_variances(halves, precision, present)


def check_noise(noise: np.ndarray | None, n: int) -> np.ndarray | None:
    """Return the noise of conditions as an array, or raise.

    Parameters
    ----------
    noise : ndarray or None
        Variances or covariance.
    n : int
        How many conditions there are.

    Returns
    -------
    noise : ndarray or None
        In float64.

    Raises
    ------
    ValueError
        If it is of another size or not positive.
    """
    if noise is None:
        return None
    noise = np.asarray(noise, np.float64)
    if noise.shape not in ((n,), (n, n)):
        raise ValueError(
            f"noise has shape {noise.shape} for {n} conditions. Give ({n},) variances of their "
            f"patterns, or a ({n}, {n}) covariance."
        )
    values = noise if noise.ndim == 1 else np.linalg.eigvalsh((noise + noise.T) / 2)
    if not (np.isfinite(values).all() and values.min() > 1e-12 * values.max() > 0):
        raise ValueError("noise must be positive: variances above 0, or a covariance of full rank.")
    return noise


def _whiten_by_variances(
    halves: np.ndarray, precision: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """Take out of -D/2 what a shift of each condition explains, by weighted least squares.

    The diagonal is known to be 0 and counts too.
    """
    shared = present * precision
    normal = present * precision + np.diag(2 * precision + shared.sum(axis=1))
    right = (halves * shared).sum(axis=2)
    shift = np.linalg.solve(normal, right.T).T
    full = present + np.eye(len(precision))
    left = halves - full * (shift[:, :, None] + shift[:, None, :])
    root = np.sqrt(precision)
    left *= root[:, None] * root
    return left.reshape(len(halves), -1)


def _whiten_by_covariance(halves: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Centre -D/2 so that its rows weigh nothing in the inverse of the noise, and whiten it."""
    half = np.linalg.cholesky(noise)
    ones = np.linalg.solve(half, np.ones((len(noise), 1)))
    unit = ones / np.linalg.norm(ones)
    whitener = np.linalg.inv(half)
    whitener -= unit @ (unit.T @ whitener)
    return (whitener @ halves @ whitener.T).reshape(len(halves), -1)
