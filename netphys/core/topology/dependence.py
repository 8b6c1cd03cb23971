"""Adaptive dependence: distance correlation at whichever thresholds show it best."""

from __future__ import annotations

import numpy as np

from netphys._check import check_option
from netphys.core.topology.transform import (
    check_grid,
    check_thresholds,
    join_rdm,
    scale_pairs,
    split_rdm,
    threshold_pairs,
)

WEIGHTINGS = ("none", "mean", "sd")


def compute_distance_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the distance correlation of two sets of distances between the same conditions.

    Parameters
    ----------
    a, b : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric distances; leading dims broadcast.

    Returns
    -------
    dcor : ndarray, shape (...)
        Unitless, from 0 to 1. NaN where distances are unknown or a side has no differences.

    Notes
    -----
    The classical (biased) statistic: far above 0 for few conditions, also without any dependence;
    only its null tells what it means. Dissimilarities that are no distances of points can have a
    negative product; it counts as 0.

    References
    ----------
    .. [1] Székely GJ, Rizzo ML, Bakirov NK (2007). Ann Stat 35:2769-2794.
       doi:10.1214/009053607000000505

    Examples
    --------
    >>> line = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    >>> round(float(compute_distance_correlation(line, 3 * line)), 6)
    1.0
    """
    left, right = (_normalise(_centre(_scale_to_one(x))) for x in (a, b))
    return np.sqrt(np.maximum((left * right).sum(axis=-1), 0.0))


def make_cells(
    rdm: np.ndarray, *, grid: np.ndarray, scale: str = "quantile", remove_lags: bool = False
) -> np.ndarray:
    """Transform one RDM at every pair of thresholds, as the dependence statistic takes it.

    Parameters
    ----------
    rdm : ndarray, shape (n_conditions, n_conditions)
        Symmetric distances, all of them known.
    grid : ndarray, shape (n_cells, 2)
        Lower and upper thresholds.
    scale : str
        As in `compute_rgtm`.
    remove_lags : bool
        For conditions ordered in time: take the mean of each lag out of the centred distances.

    Returns
    -------
    cells : ndarray, shape (n_cells, n_entries)
        Double-centred and normalised: dot products are squared distance correlations. Rows of zeros
        where the transform leaves no differences.
    """
    pairs, diagonal = split_rdm(rdm)
    if np.isnan(pairs).any():
        raise ValueError(
            f"rdm holds {int(np.isnan(pairs).sum())} unknown (NaN) pairs. Leave out the conditions "
            "concerned."
        )
    pairs = scale_pairs(pairs, scale)
    cells = []
    for lower, upper in np.asarray(grid, np.float64).tolist():
        check_thresholds(lower, upper, scale)
        square = join_rdm(threshold_pairs(pairs, lower, upper, scale), np.zeros_like(diagonal))
        centred = _centre(square)
        cells.append(_normalise(_remove_lags(centred) if remove_lags else centred))
    return np.nan_to_num(np.array(cells), nan=0.0)


def compute_surface(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the distance correlation between all cells of two sides.

    Parameters
    ----------
    a, b : ndarray, shape (..., n_cells, n_entries)
        What `make_cells` returns; leading dims broadcast.

    Returns
    -------
    surface : ndarray, shape (..., n_cells_a, n_cells_b)
        From 0 to 1, unitless.
    """
    return np.sqrt(np.clip(a @ np.swapaxes(b, -1, -2), 0.0, 1.0))


def draw_surfaces(a: np.ndarray, b: np.ndarray, *, orders: np.ndarray) -> np.ndarray:
    """Compute the surfaces with the conditions of one side relabelled.

    Parameters
    ----------
    a, b : ndarray, shape (n_cells, n_entries)
        What `make_cells` returns; `b` is relabelled.
    orders : ndarray of int, shape (n_draws, n_conditions)
        Orders of the conditions.

    Returns
    -------
    surfaces : ndarray, shape (n_draws, n_cells_a, n_cells_b)
        From 0 to 1, unitless.

    Notes
    -----
    Transform and centring do not depend on the order of conditions: they are done once.
    """
    n = orders.shape[1]
    i, j = np.triu_indices(n)
    table = np.zeros((n, n), np.intp)  # where the entry of two conditions stands
    table[i, j] = table[j, i] = np.arange(len(i))
    surfaces = np.empty((len(orders), len(a), len(b)))
    for surface, order in zip(surfaces, orders, strict=True):
        surface[:] = compute_surface(a, b[:, table[order[i], order[j]]])
    return surfaces


def weigh_surfaces(
    observed: np.ndarray, draws: np.ndarray, *, weighting: str = "none"
) -> tuple[np.ndarray, np.ndarray]:
    """Bring the cells of surfaces to a common footing before their maximum is taken.

    Parameters
    ----------
    observed : ndarray, shape (n_cells_a, n_cells_b)
        Surface of the data.
    draws : ndarray, shape (n_draws, n_cells_a, n_cells_b)
        Surfaces under the null hypothesis.
    weighting : str
        "none"; "mean": each cell divided by its mean over draws; "sd": as its distance from that
        mean in standard deviations of the draws.

    Returns
    -------
    observed : ndarray, shape (n_cells_a, n_cells_b)
        Of the data.
    draws : ndarray, shape (n_draws, n_cells_a, n_cells_b)
        Under the null hypothesis.

    Notes
    -----
    The data count as one more draw in means and standard deviations: a test by permutations is
    exact only if the data are treated like every draw.
    """
    check_option("weighting", weighting, WEIGHTINGS)
    if weighting == "none":
        return observed, draws
    n = len(draws) + 1
    mean = (draws.sum(axis=0) + observed) / n
    if weighting == "mean":
        scale = np.where(mean > 0, mean, np.inf)
        return observed / scale, draws / scale
    square = ((draws - mean) ** 2).sum(axis=0) + (observed - mean) ** 2
    scale = np.where(square > 1e-24 * n, np.sqrt(square / n), np.inf)
    return (observed - mean) / scale, (draws - mean) / scale


def compute_dependence(
    a: np.ndarray,
    b: np.ndarray,
    *,
    orders: np.ndarray,
    grid: np.ndarray | None = None,
    scale: str = "quantile",
    weighting: str = "none",
) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the adaptive geo-topological dependence of two RDMs, and its null.

    Parameters
    ----------
    a, b : ndarray, shape (n_conditions, n_conditions)
        Symmetric distances between the same conditions.
    orders : ndarray of int, shape (n_draws, n_conditions)
        Relabellings of the conditions for the null.
    grid : ndarray, shape (n_cells, 2), optional
        Thresholds for either side; left out: steps of 0.2.
    scale : str
        As in `compute_rgtm`.
    weighting : str
        As in `weigh_surfaces`.

    Returns
    -------
    statistic : float
        Largest distance correlation over all thresholds of both sides, weighted.
    thresholds : ndarray, shape (4,)
        Where it stands: lower and upper of `a`, lower and upper of `b`.
    null : ndarray, shape (n_draws,)
        Largest value of each draw, at whichever thresholds.

    Notes
    -----
    The original takes the absolute value of a negative product of centred matrices, and quantiles
    of the whole square with its diagonal of zeros; here a negative product is no sign of
    dependence, and quantiles are those of the pairs.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2018). arXiv:1810.02923. doi:10.48550/arXiv.1810.02923
    """
    grid = check_grid(grid, scale, default=6)
    left, right = (make_cells(x, grid=grid, scale=scale) for x in (a, b))
    observed = compute_surface(left, right)
    draws = draw_surfaces(left, right, orders=np.asarray(orders))
    observed, draws = weigh_surfaces(observed, draws, weighting=weighting)
    i, j = np.unravel_index(observed.argmax(), observed.shape)
    null = draws.reshape(len(draws), -1).max(axis=1)
    return float(observed[i, j]), np.concatenate([grid[i], grid[j]]), null


def _scale_to_one(rdm: np.ndarray) -> np.ndarray:
    pairs, diagonal = split_rdm(rdm)
    largest = np.abs(pairs).max(axis=-1, keepdims=True)
    return join_rdm(pairs / np.where(largest > 0, largest, 1.0), diagonal)


def _centre(square: np.ndarray) -> np.ndarray:
    rows = square.mean(axis=-1, keepdims=True)
    columns = square.mean(axis=-2, keepdims=True)
    return square - rows - columns + square.mean(axis=(-2, -1), keepdims=True)


def _remove_lags(square: np.ndarray) -> np.ndarray:
    """Return a matrix (n, n) less the mean of each lag."""
    n = len(square)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    total = np.bincount(lag.ravel(), weights=square.ravel(), minlength=n)
    return square - (total / np.bincount(lag.ravel(), minlength=n))[lag]


def _normalise(square: np.ndarray) -> np.ndarray:
    """Return entries (..., n_entries) of length 1 over the whole square; NaN if all are 0."""
    i, j = np.triu_indices(square.shape[-1])
    entries = square[..., i, j] * np.where(i == j, 1.0, np.sqrt(2))
    length = np.linalg.norm(entries, axis=-1, keepdims=True)
    return entries / np.where(length > 1e-12, length, np.nan)
