"""The geo-topological transform: dissimilarities between two thresholds, and no others, count."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from netphys._check import check_option, check_positive, check_type
from netphys.core.compare.pairs import compute_pairs
from netphys.core.square import make_square

SCALES = ("rank", "quantile", "value")


def make_grid(n_levels: int = 11, *, equal: bool = False) -> np.ndarray:
    """Make the pairs of thresholds of a regular grid from 0 to 1.

    Parameters
    ----------
    n_levels : int
        How many levels, 0 and 1 included; 11 are steps of 0.1.
    equal : bool
        With the pairs of equal thresholds, which keep nothing but who is whose neighbour.

    Returns
    -------
    grid : ndarray, shape (n_cells, 2)
        Lower and upper threshold, lower < upper (lower <= upper with `equal`).

    Examples
    --------
    >>> make_grid(3).tolist()
    [[0.0, 0.5], [0.0, 1.0], [0.5, 1.0]]
    """
    check_positive("n_levels", n_levels)
    if n_levels < 2:
        raise ValueError(f"n_levels={n_levels} makes no pair of thresholds. Give at least 2.")
    levels = np.round(np.linspace(0, 1, n_levels), 12)
    i, j = np.triu_indices(n_levels, 0 if equal else 1)
    return np.stack([levels[i], levels[j]], axis=1)


def compute_rgtm(rdm: np.ndarray, *, lower: float, upper: float, scale: str = "rank") -> np.ndarray:
    """Compute the representational geo-topological matrix of each RDM.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities; the diagonal has no part in it.
    lower, upper : float
        Thresholds l <= u. Dissimilarities up to l become 0 (the same place), from u on 1 (far),
        and (d - l) / (u - l) in between. With l = u they become 0 up to l and 1 above: the graph of
        neighbours, topology alone.
    scale : str
        What the thresholds, and the values between them, refer to: "rank" (average ranks within
        the RDM, scaled from 0 to 1), "quantile" (dissimilarities; thresholds are quantile levels of
        the RDM's own pairs), or "value" (dissimilarities and thresholds as they are).

    Returns
    -------
    rgtm : ndarray, shape (..., n_conditions, n_conditions)
        From 0 to 1, diagonal 0, unitless.

    Raises
    ------
    ValueError
        If matrices are not square, symmetric and free of infinite values, l > u, or thresholds of
        ranks or quantiles leave 0 to 1.

    Notes
    -----
    Every RDM is scaled by itself. Unknown (NaN) dissimilarities stay NaN and have no rank. With
    "rank", an RDM without any differences has no ranks: its pairs are NaN.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> line = np.abs(np.subtract.outer([0, 1, 3, 7], [0, 1, 3, 7]))
    >>> compute_rgtm(line, lower=2, upper=6, scale="value")[0].tolist()
    [0.0, 0.0, 0.25, 1.0]
    """
    pairs, diagonal = split_rdm(rdm)
    check_thresholds(lower, upper, scale)
    return join_rdm(threshold_pairs(scale_pairs(pairs, scale), lower, upper, scale), diagonal)


# ------------------------------------------------------- parts, for pairs instead of matrices
def split_rdm(rdm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs (..., n_pairs) of checked matrices, and which conditions are unknown.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities.

    Returns
    -------
    pairs : ndarray, shape (..., n_pairs)
        The upper triangle, row by row.
    diagonal : ndarray, shape (..., n_conditions)
        0, or NaN where the diagonal is NaN.
    """
    pairs = compute_pairs(rdm)
    if np.isinf(pairs).any():
        raise ValueError(
            f"rdm holds {int(np.isinf(pairs).sum())} pairs that are infinite. Set pairs without a "
            "dissimilarity to NaN."
        )
    diagonal = np.diagonal(np.asarray(rdm, np.float64), axis1=-2, axis2=-1)
    return pairs, np.where(np.isnan(diagonal), np.nan, 0.0)


def join_rdm(pairs: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Return pairs (..., n_pairs) and a diagonal (..., n_conditions) as square matrices.

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        The upper triangle, row by row.
    diagonal : ndarray, shape (..., n_conditions)
        The diagonal.

    Returns
    -------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric.
    """
    n = diagonal.shape[-1]
    square = make_square(np.asarray(pairs, np.float64))
    square[..., np.arange(n), np.arange(n)] = diagonal
    return square


def rank_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return average ranks within each row, scaled from 0 to 1.

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        NaN has no rank and stays NaN.

    Returns
    -------
    ranks : ndarray, shape (..., n_pairs)
        NaN throughout where a row has no differences.
    """
    rows = pairs.reshape(-1, pairs.shape[-1])
    ranks = np.full(rows.shape, np.nan)
    for row, rank in zip(rows, ranks, strict=True):
        known = ~np.isnan(row)
        if len(found := rankdata(row[known])) and (span := np.ptp(found)) > 0:
            rank[known] = (found - found.min()) / span
    return ranks.reshape(pairs.shape)


def scale_pairs(pairs: np.ndarray, scale: str) -> np.ndarray:
    """Return pairs as the thresholds of `scale` refer to them.

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        Dissimilarities.
    scale : str
        "rank", "quantile" or "value".

    Returns
    -------
    scaled : ndarray, shape (..., n_pairs)
        Ranks from 0 to 1, or the dissimilarities.
    """
    return rank_pairs(pairs) if scale == "rank" else pairs


def threshold_pairs(pairs: np.ndarray, lower: float, upper: float, scale: str) -> np.ndarray:
    """Apply two thresholds to scaled pairs.

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        As `scale_pairs` gives them.
    lower, upper : float
        Thresholds.
    scale : str
        "rank", "quantile" or "value".

    Returns
    -------
    transformed : ndarray, shape (..., n_pairs)
        From 0 to 1; NaN stays.
    """
    low, high = np.float64(lower), np.float64(upper)
    if scale == "quantile":
        low, high = _find_quantiles(pairs, [lower, upper])
    span = high - low
    between = np.clip((pairs - low) / np.where(span > 0, span, 1.0), 0.0, 1.0)
    step = np.where(np.isnan(pairs), np.nan, pairs > low)
    return np.where(span > 0, between, step)


def check_thresholds(lower: float, upper: float, scale: str) -> None:
    """Raise unless lower <= upper, both of them possible for `scale`.

    Parameters
    ----------
    lower, upper : float
        Thresholds.
    scale : str
        "rank", "quantile" or "value".
    """
    check_option("scale", scale, SCALES)
    for name, value in (("lower", lower), ("upper", upper)):
        check_type(name, value, (float, int, np.floating, np.integer), "a number")
        if not np.isfinite(value):
            raise ValueError(f"{name}={value} is no threshold. Give a finite number.")
        if scale != "value" and not 0 <= value <= 1:
            raise ValueError(
                f"{name}={value} is not between 0 and 1, where scale={scale!r} has its thresholds. "
                "For thresholds in the unit of the dissimilarities use scale='value'."
            )
    if lower > upper:
        raise ValueError(
            f"lower={lower} is above upper={upper}. Give lower <= upper; equal thresholds make the "
            "graph of neighbours."
        )


def check_grid(grid: np.ndarray | None, scale: str, *, default: int) -> np.ndarray:
    """Return a checked grid of thresholds, or the regular one where none is given.

    Parameters
    ----------
    grid : ndarray, shape (n_cells, 2), or None
        Lower and upper thresholds.
    scale : str
        "rank", "quantile" or "value".
    default : int
        Levels of the regular grid.

    Returns
    -------
    grid : ndarray, shape (n_cells, 2)
        Lower and upper thresholds.
    """
    check_option("scale", scale, SCALES)
    if grid is None:
        if scale == "value":
            raise ValueError(
                "grid is missing: scale='value' has thresholds in the unit of the dissimilarities. "
                "Give pairs [[lower, upper], ...], or use scale='rank'."
            )
        return make_grid(default)
    grid = np.array(grid, np.float64)
    if grid.ndim != 2 or grid.shape[1] != 2 or not len(grid):
        raise ValueError(
            f"grid has shape {grid.shape}. Give pairs of thresholds (n_cells, 2), as make_grid "
            "does."
        )
    for lower, upper in grid.tolist():
        check_thresholds(lower, upper, scale)
    if len(np.unique(grid, axis=0)) < len(grid):
        raise ValueError("grid holds a pair of thresholds twice. Give each once.")
    return grid


def _find_quantiles(pairs: np.ndarray, levels: list[float]) -> np.ndarray:
    """Return quantiles (level, ..., 1) of the known pairs of each row; NaN where there are none."""
    found = np.full((2, *pairs.shape[:-1], 1), np.nan)
    for place in np.ndindex(pairs.shape[:-1]):
        known = pairs[place][~np.isnan(pairs[place])]
        if len(known):
            found[:, *place, 0] = np.quantile(known, levels)
    return found
