"""Comparison of activity patterns by which samples are neighbours of which (numpy or torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import device, is_torch_namespace

from netphys._check import check_option, check_positive
from netphys._options import METRICS
from netphys.core.compare.cka import check_patterns
from netphys.core.distance import compute_distances


def compare_neighbours(
    a: Any, b: Any, *, k: int = 10, metric: str = "cosine"
) -> tuple[float, float]:
    """Compare activity patterns by the nearest neighbours that samples have in both.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    k : int
        Number of neighbours; at most n_samples - 2.
    metric : str
        What is near: "cosine" (as published), "euclidean" or "correlation".

    Returns
    -------
    overlap : float
        0 to 1: mean share of the k nearest neighbours of a sample in `a` that are among its k
        nearest in `b`.
    expected : float
        k / (n_samples - 1): exactly its mean over all pairings of the samples.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, there are too few samples for `k`, values are NaN or infinite, the
        metric is unknown, a pattern has no distance (of length 0, or constant over units), or all
        samples are equally far from each other.

    Notes
    -----
    Units are not centred: with "cosine" a mean shared by all samples matters. Where samples are
    equally far, the places that are left are shared between them: the overlap is the mean over
    ways to break such ties on either side, and below 1 for equal patterns.

    References
    ----------
    .. [1] Huh M, Cheung B, Wang T, Isola P (2024). ICML 41:20617-20642.
       doi:10.48550/arXiv.2405.07987

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(11, 4))
    >>> compare_neighbours(x, 2 * x, k=2)
    (1.0, 0.2)
    """
    return pair_neighbours(a, b, k=k, metric=metric)(), k / (a.shape[0] - 1)


def pair_neighbours(a: Any, b: Any, *, k: int = 10, metric: str = "cosine") -> Callable[..., float]:
    """Prepare the overlap of neighbours for many pairings of the samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        As in `compare_neighbours`.
    k : int
        Number of neighbours.
    metric : str
        "cosine", "euclidean" or "correlation".

    Returns
    -------
    compare : callable
        ``compare()`` is the overlap that `compare_neighbours` gives; ``compare(order)`` the same
        with the samples of `b` in another order, an array of their numbers.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compare_neighbours`.

    References
    ----------
    .. [1] Huh M, Cheung B, Wang T, Isola P (2024). ICML 41:20617-20642.
       doi:10.48550/arXiv.2405.07987
    """
    check_option("metric", metric, METRICS)
    check_positive("k", k)
    xp, *_ = check_patterns(a, b)
    if k > a.shape[0] - 2:
        raise ValueError(
            f"k={k} is too large for {a.shape[0]} samples: nearly all would be neighbours. Give at "
            f"most {a.shape[0] - 2}."
        )
    x, y = (_find_neighbours(xp, x, k, metric, name) for x, name in ((a, "a"), (b, "b")))

    def compare(order: Any = None) -> float:
        other = y if order is None else y[order][:, order]
        return min(float(xp.sum(x * other)) / (k * x.shape[0]), 1.0)

    return compare


def _find_neighbours(xp: Any, x: Any, k: int, metric: str, name: str) -> Any:
    """Return 1 where a sample (column) is a neighbour of another (row); less where it is a tie."""
    x = x.detach() if is_torch_namespace(xp) else x
    distances = compute_distances(x, metric=metric)
    known = xp.isfinite(distances)
    if not bool(xp.all(known)):
        n = int(xp.sum(xp.astype(~xp.any(known, axis=1), xp.int64)))
        what = "of length 0" if metric == "cosine" else "constant over units"
        raise ValueError(
            f"{name} has {n} patterns {what}, which have no distance by metric={metric!r}. Leave "
            "them out, or use 'euclidean'."
        )
    slack = 1e-12 * xp.max(distances) + (0.0 if metric == "euclidean" else 1e-14)  # rounding
    itself = xp.eye(x.shape[0], dtype=xp.bool, device=device(x))
    distances = xp.where(itself, xp.full_like(distances, float("inf")), distances)
    last = xp.sort(distances, axis=1)[:, k - 1, None]
    near = xp.astype(distances < last - slack, xp.float64)
    tied = xp.astype(xp.abs(distances - last) <= slack, xp.float64)
    if bool(xp.all(xp.sum(tied, axis=1) == x.shape[0] - 1)):
        raise ValueError(
            f"{name} has all its samples equally far from each other by metric={metric!r}: none "
            "has neighbours. Use another metric, or give samples that differ in more ways."
        )
    left = k - xp.sum(near, axis=1, keepdims=True)
    return near + tied * left / xp.sum(tied, axis=1, keepdims=True)
