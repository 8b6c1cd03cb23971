"""Multidimensional scaling: places in a plane whose distances resemble dissimilarities."""

from __future__ import annotations

import numpy as np

from netphys._check import check_positive

MAX_STEPS, SMALLEST_GAIN = 1000, 1e-9


def compute_mds(rdm: np.ndarray, *, n_components: int = 2) -> tuple[np.ndarray, float]:
    """Find places with the least stress, from those of classical scaling.

    Parameters
    ----------
    rdm : ndarray, shape (n_conditions, n_conditions)
        Dissimilarities, symmetric; negative ones count as 0, pairs that are NaN not at all.
    n_components : int
        Dimensions of the places.

    Returns
    -------
    places : ndarray, shape (n_conditions, n_components)
        Centred, along their principal axes; the first place with a large share on an axis is on its
        positive side, so that equal data give equal pictures.
    stress : float
        Stress-1: root of the squared errors over the squared distances; below .1 is good, above .2
        poor.

    Raises
    ------
    ValueError
        If there are fewer than three conditions, all are alike, or a condition is known with none.

    Notes
    -----
    Majorisation (SMACOF) with weights of 0 for unknown pairs; it stops where a step gains less than
    1e-9 of the stress. No random start is used.

    References
    ----------
    .. [1] de Leeuw J, Mair P (2009). J Stat Softw 31(3):1-30. doi:10.18637/jss.v031.i03
    .. [2] Torgerson WS (1952). Psychometrika 17:401-419. doi:10.1007/BF02288916

    Examples
    --------
    >>> places, stress = compute_mds(np.abs(np.subtract.outer([0.0, 1, 3], [0.0, 1, 3])))
    >>> np.abs(np.subtract.outer(places[:, 0], places[:, 0])).round(6)[0], round(stress, 6)
    (array([0., 1., 3.]), 0.0)
    """
    check_positive("n_components", n_components)
    rdm = np.asarray(rdm, np.float64)
    n = len(rdm)
    if rdm.ndim != 2 or n < 3 or rdm.shape != (n, n):
        raise ValueError(f"rdm has shape {rdm.shape}. Give a square matrix of three or more.")
    known = np.isfinite(rdm) & ~np.eye(n, dtype=bool)
    if not known.any(axis=1).all():
        where = int(np.argmin(known.any(axis=1)))
        raise ValueError(f"rdm knows no dissimilarity of condition {where}. Leave it out.")
    target = np.where(known, np.maximum(np.nan_to_num(rdm), 0), 0.0)
    if not target.any():
        raise ValueError("rdm is 0 throughout: all conditions are in one place.")
    places = _start(np.where(known, target, target[known].mean()) * ~np.eye(n, dtype=bool))
    places = np.pad(places, ((0, 0), (0, n_components)))[:, :n_components]
    weights = known.astype(np.float64)
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights)
    error = np.inf
    for _ in range(MAX_STEPS):
        distances = _measure(places)
        now = (weights * (distances - target) ** 2).sum()
        if error - now <= SMALLEST_GAIN * now:
            break
        error = now
        ratio = weights * target / np.where(distances > 0, distances, np.inf)
        places = inverse @ ((np.diag(ratio.sum(axis=1)) - ratio) @ places)
    places = _turn(places)
    distances = _measure(places)
    total = (weights * distances**2).sum()
    stress = np.sqrt((weights * (distances - target) ** 2).sum() / total)
    return places, float(stress)


def _start(rdm: np.ndarray) -> np.ndarray:
    """Return the places of classical scaling, all dimensions, the largest first."""
    g = -(rdm**2) / 2
    g -= g.mean(axis=0)
    g -= g.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(g)
    return (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1]


def _measure(places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(places[:, None] - places, axis=-1)


def _turn(places: np.ndarray) -> np.ndarray:
    """Return places along their principal axes, with a sign that data decide."""
    places = places - places.mean(axis=0)
    axes = np.linalg.svd(places, full_matrices=False)[2]
    places = places @ axes.T
    far = np.abs(places) > 0.5 * np.abs(places).max(axis=0)
    first = places[far.argmax(axis=0), np.arange(places.shape[1])]
    return places * np.where(first < 0, -1.0, 1.0)
