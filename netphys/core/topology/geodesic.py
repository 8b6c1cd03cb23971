"""Geodesic dissimilarities: the shortest ways through the graph of near conditions."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from netphys._check import check_option, check_positive, check_type
from netphys.core.topology.transform import (
    check_thresholds,
    join_rdm,
    scale_pairs,
    split_rdm,
    threshold_pairs,
)

GRAPHS = ("threshold", "nearest", "shortest")
UNREACHABLE = ("rank", "max", "nan")


def compute_paths(lengths: np.ndarray, *, edges: np.ndarray) -> np.ndarray:
    """Compute the length of the shortest path between all nodes of undirected graphs.

    Parameters
    ----------
    lengths : ndarray, shape (..., n, n)
        Symmetric lengths of edges, >= 0; an edge of length 0 joins two nodes.
    edges : ndarray of bool, shape (..., n, n)
        Which edges there are, symmetric.

    Returns
    -------
    paths : ndarray, shape (..., n, n)
        0 on the diagonal; infinite where no path leads.

    Raises
    ------
    ValueError
        If an edge has a length that is negative or unknown.

    References
    ----------
    .. [1] Floyd RW (1962). Commun ACM 5:345. doi:10.1145/367766.368168

    Examples
    --------
    >>> lengths = np.array([[0.0, 0, 9], [0, 0, 2], [9, 2, 0]])
    >>> compute_paths(lengths, edges=lengths < 9)[0].tolist()
    [0.0, 0.0, 2.0]
    """
    edges = np.asarray(edges, bool)
    paths = np.where(edges, np.asarray(lengths, np.float64), np.inf)
    nodes = np.arange(paths.shape[-1])
    paths[..., nodes, nodes] = 0.0
    if not (paths >= 0).all():
        raise ValueError(
            "lengths holds edges that are negative or NaN. Give lengths >= 0, or leave the edge "
            "out in edges=."
        )
    for k in nodes:
        np.minimum(paths, paths[..., :, k, None] + paths[..., None, k, :], out=paths)
    return paths


def compute_geodesics(
    rdm: np.ndarray,
    *,
    lower: float,
    upper: float,
    scale: str = "rank",
    graph: str = "threshold",
    n_neighbours: int | None = None,
    fraction: float | None = None,
) -> np.ndarray:
    """Compute path lengths through the graph of near conditions; infinite where none leads.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities.
    lower, upper, scale : float, float, str
        Thresholds, as in `compute_rgtm`, whose values are the lengths of the edges.
    graph : str
        Which edges there are: "threshold" (all of a length below 1), "nearest" (between a condition
        and its `n_neighbours` nearest, seen from either), or "shortest" (the `fraction` of all
        pairs with the smallest dissimilarities).
    n_neighbours : int, optional
        For "nearest".
    fraction : float, optional
        For "shortest", above 0 and up to 1.

    Returns
    -------
    paths : ndarray, shape (..., n_conditions, n_conditions)
        Lengths of shortest paths, unitless; infinite for pairs that no path joins, NaN for pairs
        whose dissimilarity is unknown.

    Raises
    ------
    ValueError
        As `compute_rgtm`; or if an option of a graph is missing, out of range or has no part in
        the graph.

    Notes
    -----
    Pairs at the same dissimilarity are neighbours together or not at all: the order of conditions
    makes no difference. Unknown pairs make no edge.
    """
    pairs, diagonal = split_rdm(rdm)
    check_thresholds(lower, upper, scale)
    _check_graph(graph, n_neighbours, fraction, diagonal.shape[-1])
    weights = threshold_pairs(scale_pairs(pairs, scale), lower, upper, scale)
    known = join_rdm(np.isfinite(weights), np.zeros_like(diagonal)) > 0
    lengths = join_rdm(weights, np.zeros_like(diagonal))
    if graph == "threshold":
        edges = known & (lengths < 1)
    elif graph == "nearest":
        edges = _find_nearest(join_rdm(pairs, diagonal), n_neighbours) & known
    else:
        edges = join_rdm(_find_shortest(pairs, fraction), np.zeros_like(diagonal)) > 0
    paths = compute_paths(lengths, edges=edges & known)
    nodes = np.arange(diagonal.shape[-1])
    known[..., nodes, nodes] = np.isfinite(diagonal)
    return np.where(known, paths, np.nan)


def fill_unreachable(paths: np.ndarray, *, unreachable: str = "rank") -> np.ndarray:
    """Give pairs that no path joins a value.

    Parameters
    ----------
    paths : ndarray, shape (..., n_conditions, n_conditions)
        What `compute_geodesics` returns.
    unreachable : str
        "rank": path lengths become average ranks within the RDM, from 1, and unreachable pairs are
        tied at the last; "max": they get the longest path of the RDM plus 1, the length of an edge
        that was deleted; "nan": they are unknown.

    Returns
    -------
    rgdm : ndarray, shape (..., n_conditions, n_conditions)
        Without infinite values.
    """
    check_option("unreachable", unreachable, UNREACHABLE)
    paths = np.asarray(paths, np.float64)
    lost = np.isinf(paths)
    if unreachable == "nan":
        return np.where(lost, np.nan, paths)
    if unreachable == "max":
        longest = np.where(np.isfinite(paths), paths, 0.0).max(axis=(-2, -1), keepdims=True)
        return np.where(lost, longest + 1, paths)
    n = paths.shape[-1]
    i, j = np.triu_indices(n, 1)
    ranks = _rank_last(paths[..., i, j])
    return join_rdm(ranks, np.diagonal(paths, axis1=-2, axis2=-1))


def compute_rgdm(
    rdm: np.ndarray,
    *,
    lower: float,
    upper: float,
    scale: str = "rank",
    graph: str = "threshold",
    n_neighbours: int | None = None,
    fraction: float | None = None,
    unreachable: str = "rank",
) -> np.ndarray:
    """Compute the representational geodesic dissimilarity matrix of each RDM.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities.
    lower, upper, scale : float, float, str
        Thresholds, as in `compute_rgtm`, whose values are the lengths of the edges.
    graph, n_neighbours, fraction : str, int, float
        Which edges there are, as in `compute_geodesics`.
    unreachable : str
        What pairs get that no path joins: "rank", "max" or "nan", as in `fill_unreachable`.

    Returns
    -------
    rgdm : ndarray, shape (..., n_conditions, n_conditions)
        Ranks of path lengths ("rank"), or path lengths, unitless; diagonal 0.

    Raises
    ------
    ValueError
        As `compute_geodesics`.

    Notes
    -----
    Edges of length 0 are kept: conditions up to `lower` apart are at geodesic distance 0. Graph
    libraries that read 0 as "no edge" lose the very pairs that are closest.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> line = np.abs(np.subtract.outer([0, 1, 3, 7], [0, 1, 3, 7]))
    >>> options = {"lower": 1, "upper": 5, "scale": "value"}
    >>> compute_rgdm(line, **options, unreachable="max")[0].tolist()
    [0.0, 0.0, 0.25, 1.0]
    >>> compute_rgdm(line, **options)[0].tolist()
    [0.0, 1.0, 2.5, 5.5]
    """
    paths = compute_geodesics(
        rdm,
        lower=lower,
        upper=upper,
        scale=scale,
        graph=graph,
        n_neighbours=n_neighbours,
        fraction=fraction,
    )
    return fill_unreachable(paths, unreachable=unreachable)


def _check_graph(graph: str, n_neighbours: object, fraction: object, n: int) -> None:
    check_option("graph", graph, GRAPHS)
    for name, value, owner in (
        ("n_neighbours", n_neighbours, "nearest"),
        ("fraction", fraction, "shortest"),
    ):
        if graph == owner and value is None:
            raise ValueError(f"graph={graph!r} needs {name}=.")
        if graph != owner and value is not None:
            raise ValueError(f"{name}={value} has no part in graph={graph!r}. Use {owner!r}.")
    if graph == "nearest":
        check_positive("n_neighbours", n_neighbours)
        if n_neighbours >= n:
            raise ValueError(
                f"n_neighbours={n_neighbours} is too many: each of {n} conditions has {n - 1} "
                "others."
            )
    if graph == "shortest":
        check_type("fraction", fraction, (float, int), "a number above 0 and up to 1")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction} is out of range. Give above 0 and up to 1.")


def _find_nearest(rdm: np.ndarray, k: int) -> np.ndarray:
    """Return which pairs hold one of the other's `k` nearest; ties at the k-th are in."""
    nodes = np.arange(rdm.shape[-1])
    rdm = np.where(np.isnan(rdm), np.inf, rdm)
    rdm[..., nodes, nodes] = np.inf
    near = rdm <= np.partition(rdm, k - 1, axis=-1)[..., k - 1, None]
    return near | np.swapaxes(near, -1, -2)


def _find_shortest(pairs: np.ndarray, fraction: float) -> np.ndarray:
    """Return the `fraction` of pairs (..., n_pairs) that are smallest; ties at the last are in."""
    count = np.isfinite(pairs).sum(axis=-1, keepdims=True)
    last = np.ceil(fraction * count - 1e-9).astype(int) - 1
    limit = np.take_along_axis(np.sort(pairs, axis=-1), np.maximum(last, 0), axis=-1)
    return pairs <= limit


def _rank_last(pairs: np.ndarray) -> np.ndarray:
    """Return average ranks within each row, from 1; NaN has none.

    Equal sums of edges differ in their last bits with the order of the edges: they are tied again.
    """
    pairs = np.round(pairs, 12)
    ranks = np.full(pairs.shape, np.nan)
    for place in np.ndindex(pairs.shape[:-1]):
        known = ~np.isnan(pairs[place])
        ranks[place][known] = rankdata(pairs[place][known])
    return ranks
