"""Similarity of RDMs as second moments of patterns: Bures, and Riemannian distance."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from scipy.optimize import minimize

from netphys._check import check_option
from netphys._options import MOMENTS
from netphys.core.compare.whitened import check_noise
from netphys.core.square import make_square

NEGATIVE = 1e-8  # an eigenvalue below minus this share of the largest is no rounding


def compare_moments(
    a: np.ndarray, b: np.ndarray, *, method: str = "bures", noise: np.ndarray | None = None
) -> np.ndarray:
    """Compare every RDM of one set with every RDM of another by their second moments.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Squared Euclidean distances between the same conditions, all known.
    method : str
        "bures": normalised Bures similarity, 0 to 1, the cosine of the angular Procrustes distance
        between the patterns. "riemann": minus the affine-invariant Riemannian distance, <= 0, after
        the best scaling of `a` and the best amount of noise added to it.
    noise : ndarray, shape (n_conditions,) or (n_conditions, n_conditions), optional
        For "riemann": noise that `a` may be given; left out: equal variances.

    Returns
    -------
    similarity : ndarray, shape (n_a, n_b)
        Larger is more similar. NaN where an RDM is zero.

    Raises
    ------
    ValueError
        If an RDM holds NaN or is not embeddable: no patterns have such squared distances. For
        "riemann" also where the second moment of a `b` has no inverse.

    Notes
    -----
    "riemann" takes the first condition as origin, as its definition does; the distance does not
    depend on which it is.

    References
    ----------
    .. [1] Harvey SE et al. (2023). arXiv:2311.11436
       doi:10.48550/arXiv.2311.11436
    .. [2] Shahbazi M et al. (2021). NeuroImage 239:118271. doi:10.1016/j.neuroimage.2021.118271

    Examples
    --------
    >>> compare_moments([[1.0, 4.0, 1.0]], [[2.0, 8.0, 2.0]]).round(6)
    array([[1.]])
    """
    check_option("method", method, MOMENTS)
    a, b = (np.atleast_2d(np.asarray(x, np.float64)) for x in (a, b))
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a has {a.shape[1]} pairs, b has {b.shape[1]}. Give RDMs over the same conditions."
        )
    if method == "bures":
        if noise is not None:
            raise ValueError("noise= has no part in method='bures'. Leave it out.")
        halves = [
            [_factorise(g, name, k) for k, g in enumerate(_centre(x))]
            for x, name in ((a, "a"), (b, "b"))
        ]
        return np.array([[_compare_factors(x, y) for y in halves[1]] for x in halves[0]])
    return _compare_riemann(a, b, noise)


def _to_square(rows: np.ndarray) -> np.ndarray:
    if not np.isfinite(rows).all():
        raise ValueError("an RDM holds NaN. Leave out the conditions or the RDM concerned.")
    return make_square(rows)


def _centre(rows: np.ndarray) -> np.ndarray:
    """Return the second moments (n_rdms, n, n) of centred patterns."""
    g = -_to_square(rows) / 2
    mean = g.mean(axis=1, keepdims=True)
    return g - mean - mean.transpose(0, 2, 1) + mean.mean(axis=2, keepdims=True)


def _factorise(moment: np.ndarray, name: str, k: int) -> np.ndarray:
    """Return patterns that have this second moment (condition, dimension)."""
    values, vectors = np.linalg.eigh(moment)
    _check_embeddable(values, name, k)
    return vectors * np.sqrt(np.maximum(values, 0))


def _check_embeddable(values: np.ndarray, name: str, k: int) -> None:
    if values[0] < -NEGATIVE * max(values[-1], 0) or values[-1] < 0:
        raise ValueError(
            f"RDM {k} of {name} is not embeddable: the smallest eigenvalue of its second moment is "
            f"{values[0]:.3g}, the largest {values[-1]:.3g}, so no patterns have such squared "
            "distances. Use 'cosine' or 'whitened-cosine', which need none."
        )


def _compare_factors(x: np.ndarray, y: np.ndarray) -> float:
    size = np.sqrt((x * x).sum() * (y * y).sum())
    if not size > 0:
        return np.nan
    return float(min(np.linalg.svd(x.T @ y, compute_uv=False).sum() / size, 1.0))


def _compare_riemann(a: np.ndarray, b: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    ours, theirs = (_take_origin(x) for x in (a, b))
    n = ours.shape[1] + 1
    noise = check_noise(noise, n)
    noise = np.eye(n) if noise is None else np.diag(noise) if noise.ndim == 1 else noise
    contrast = np.hstack([-np.ones((n - 1, 1)), np.eye(n - 1)])
    added = contrast @ noise @ contrast.T
    out = np.empty((len(ours), len(theirs)))
    for k, moment in enumerate(ours):
        _check_embeddable(np.linalg.eigvalsh(moment), "a", k)
    for k, target in enumerate(theirs):
        values = np.linalg.eigvalsh(target)
        _check_embeddable(values, "b", k)
        if values[0] <= NEGATIVE * values[-1]:
            raise ValueError(
                f"RDM {k} of b has a second moment without an inverse: its {n} patterns span fewer "
                f"than {n - 1} dimensions. Use 'bures', or RDMs of noisy data."
            )
        half = np.linalg.inv(np.linalg.cholesky(target))
        white = half @ added @ half.T
        for m, moment in enumerate(ours):
            out[m, k] = -_fit_riemann(half @ moment @ half.T, white)
    return out


def _take_origin(rows: np.ndarray) -> np.ndarray:
    """Return second moments about the first condition (n_rdms, n - 1, n - 1)."""
    d = _to_square(rows)
    return (d[:, 1:, :1] + d[:, :1, 1:] - d[:, 1:, 1:]) / 2


def _fit_riemann(moment: np.ndarray, added: np.ndarray) -> float:
    """Return the smallest distance of ``e^s moment + e^t added`` from the identity."""

    def measure(theta: np.ndarray) -> float:
        values = linalg.eigvalsh(np.exp(theta[0]) * moment + np.exp(theta[1]) * added)
        return float(np.sqrt((np.log(np.maximum(values, 1e-300)) ** 2).sum()))

    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 2000}
    return float(minimize(measure, (0.0, 0.0), method="Nelder-Mead", options=options).fun)
