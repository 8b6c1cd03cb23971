"""Persistent homology of RDMs: pieces (H0), loops (H1) and voids (H2) as conditions are joined."""

from __future__ import annotations

import numpy as np

from netphys._check import check_option, check_type
from netphys._version import explain_missing
from netphys.core.topology.transform import join_rdm, split_rdm

FILTRATIONS = ("density", "max", "value")
LIMITS = {1: 500, 2: 200}  # more conditions take minutes and gigabytes; beyond H2 60 do


def scale_filtration(rdm: np.ndarray, *, scale: str = "density") -> np.ndarray:
    """Scale dissimilarities so that filtrations of different systems can be compared.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities; negative ones (of cross-validated distances) count as 0.
    scale : str
        "density": the fraction of pairs that are at most as far apart; "max": divided by the
        largest; "value": as they are.

    Returns
    -------
    scaled : ndarray, shape (..., n_conditions, n_conditions)
        From 0 to 1, but for "value"; diagonal 0.

    Raises
    ------
    ValueError
        If dissimilarities are unknown (NaN) or infinite.

    References
    ----------
    .. [1] Giusti C, Pastalkova E, Curto C, Itskov V (2015). PNAS 112:13455-13460.
       doi:10.1073/pnas.1506407112

    Examples
    --------
    >>> line = np.abs(np.subtract.outer([0, 1, 3], [0, 1, 3]))
    >>> scale_filtration(line, scale="max")[0].round(2).tolist()
    [0.0, 0.33, 1.0]
    """
    check_option("scale", scale, FILTRATIONS)
    pairs, diagonal = split_rdm(rdm)
    if unknown := int(np.isnan(pairs).sum()):
        raise ValueError(
            f"rdm holds {unknown} unknown (NaN) pairs. A filtration needs all of them: leave out "
            "the conditions concerned."
        )
    pairs = np.maximum(pairs, 0.0)
    if scale == "max":
        largest = pairs.max(axis=-1, keepdims=True)
        pairs = pairs / np.where(largest > 0, largest, 1.0)
    elif scale == "density":
        count = np.empty(pairs.shape)
        for place in np.ndindex(pairs.shape[:-1]):
            row = pairs[place]
            count[place] = np.searchsorted(np.sort(row), row, side="right")
        pairs = count / pairs.shape[-1]
    return join_rdm(pairs, np.zeros_like(diagonal))


def compute_tree(rdm: np.ndarray) -> np.ndarray:
    """Compute the edges of the minimum spanning tree: where pieces (H0) merge.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities; negative ones count as 0.

    Returns
    -------
    deaths : ndarray, shape (..., n_conditions - 1)
        Lengths of the edges, ascending, in the unit of the dissimilarities; an edge of length 0
        counts.

    Raises
    ------
    ValueError
        If dissimilarities are unknown (NaN) or infinite.

    References
    ----------
    .. [1] Prim RC (1957). Bell Syst Tech J 36:1389-1401. doi:10.1002/j.1538-7305.1957.tb01515.x

    Examples
    --------
    >>> compute_tree(np.abs(np.subtract.outer([0, 1, 3, 7], [0, 1, 3, 7]))).tolist()
    [1.0, 2.0, 4.0]
    """
    rdm = scale_filtration(rdm, scale="value")
    n, shape = rdm.shape[-1], rdm.shape[:-2]
    rows = rdm.reshape(-1, n, n)
    every = np.arange(len(rows))
    far = rows[:, 0].copy()  # from each condition to the tree, which begins with the first
    far[:, 0] = np.inf
    deaths = np.empty((len(rows), n - 1))
    inside = np.zeros((len(rows), n), bool)
    inside[:, 0] = True
    for step in range(n - 1):
        nearest = far.argmin(axis=1)
        deaths[:, step] = far[every, nearest]
        inside[every, nearest] = True
        far = np.where(inside, np.inf, np.minimum(far, rows[every, nearest]))
    return np.sort(deaths, axis=1).reshape(*shape, n - 1)


def compute_persistence(
    rdm: np.ndarray, *, max_dim: int = 1, threshold: float | None = None
) -> list[np.ndarray]:
    """Compute when the holes of the Vietoris-Rips filtration of one RDM are born and die.

    Parameters
    ----------
    rdm : ndarray, shape (n_conditions, n_conditions)
        Symmetric dissimilarities; negative ones count as 0. They need not be a metric.
    max_dim : int
        Highest degree: 0 (pieces), 1 (loops; needs the extra `topology`), 2 (voids) ...
    threshold : float, optional
        Largest dissimilarity that joins conditions, in their unit: what is alive there never dies.

    Returns
    -------
    diagrams : list of ndarray, shape (n_classes, 2)
        Birth and death for each degree, in the unit of the dissimilarities, sorted; infinite death
        for what never dies. Degree 0 has a class per condition.

    Raises
    ------
    ValueError
        If dissimilarities are unknown, or there are too many conditions for the degree (500 for 1,
        200 for 2, 60 beyond) without a threshold.
    ImportError
        If ripser is missing and `max_dim` is above 0.

    Notes
    -----
    Degree 0 comes from the minimum spanning tree. Ripser stores values in single precision; here
    it sees the ranks of the dissimilarities, which it stores exactly, so that births and deaths
    are dissimilarities of the RDM bit for bit.

    References
    ----------
    .. [1] Edelsbrunner H, Letscher D, Zomorodian A (2002). Discrete Comput Geom 28:511-533.
       doi:10.1007/s00454-002-2885-2
    .. [2] Bauer U (2021). J Appl Comput Topol 5:391-423. doi:10.1007/s41468-021-00071-5
    .. [3] Tralie C, Saul N, Bar-On R (2018). J Open Source Softw 3:925. doi:10.21105/joss.00925

    Examples
    --------
    >>> square = np.array([[0, 1, 1.5, 1], [1, 0, 1, 1.5], [1.5, 1, 0, 1], [1, 1.5, 1, 0]])
    >>> compute_persistence(square, max_dim=0)[0].tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, inf]]
    """
    check_type("max_dim", max_dim, int, "a whole number, 0 or more")
    if max_dim < 0:
        raise ValueError(f"max_dim={max_dim} is negative. Give 0 (pieces), 1 (loops) or 2 (voids).")
    rdm = np.asarray(rdm, np.float64)
    if rdm.ndim != 2:
        raise ValueError(f"rdm has shape {rdm.shape}. Give one matrix (condition, condition).")
    limit = np.inf if threshold is None else _check_threshold(threshold)
    deaths = np.append(compute_tree(rdm), np.inf)
    deaths[deaths > limit] = np.inf
    pieces = np.stack([np.zeros_like(deaths), deaths], axis=1)
    if max_dim == 0:
        return [pieces]
    check_size(len(rdm), max_dim, threshold)
    return [pieces, *_run_ripser(scale_filtration(rdm, scale="value"), max_dim, limit)]


def compute_betti(diagram: np.ndarray, *, thresholds: np.ndarray) -> np.ndarray:
    """Count the classes that are alive at each threshold: birth <= t < death.

    Parameters
    ----------
    diagram : ndarray, shape (n_classes, 2)
        Births and deaths of one degree; rows of NaN count for nothing.
    thresholds : ndarray, shape (n_thresholds,)
        In the unit of the diagram.

    Returns
    -------
    betti : ndarray of int, shape (n_thresholds,)
        Betti numbers.

    Examples
    --------
    >>> compute_betti(np.array([[0, 1], [0, 2], [0, np.inf]]), thresholds=[0, 1, 2]).tolist()
    [3, 2, 1]
    """
    birth, death = _check_diagram(diagram).T
    t = np.asarray(thresholds, np.float64)[:, None]
    return ((birth <= t) & (t < death)).sum(axis=1)


def compute_total_persistence(diagram: np.ndarray, *, power: float = 1.0) -> float:
    """Sum the lifetimes of all classes that die, each to a power.

    Parameters
    ----------
    diagram : ndarray, shape (n_classes, 2)
        Births and deaths of one degree; rows of NaN count for nothing.
    power : float
        Above 0; higher ones weigh long-lived classes more.

    Returns
    -------
    total : float
        In the unit of the diagram, to that power.

    Raises
    ------
    ValueError
        If the power is not above 0.

    References
    ----------
    .. [1] Cohen-Steiner D, Edelsbrunner H, Harer J, Mileyko Y (2010). Found Comput Math 10:127-139.
       doi:10.1007/s10208-010-9060-6

    Examples
    --------
    >>> compute_total_persistence(np.array([[0, 1], [1, 3], [0, np.inf]]), power=2)
    5.0
    """
    check_type("power", power, (float, int), "a number above 0")
    if not power > 0:
        raise ValueError(f"power={power} is out of range. Give a number above 0.")
    return float((_find_lifetimes(diagram) ** power).sum())


def compute_entropy(diagram: np.ndarray) -> float:
    """Compute the persistence entropy: how evenly lifetimes are spread over classes.

    Parameters
    ----------
    diagram : ndarray, shape (n_classes, 2)
        Births and deaths of one degree; classes that never die have no part in it.

    Returns
    -------
    entropy : float
        In nats: 0 for one class, log(n) for n equal ones; NaN where no class lives and dies.

    References
    ----------
    .. [1] Chintakunta H, Gentimis T, Gonzalez-Diaz R, Jimenez MJ, Krim H (2015). Pattern Recognit
       48:391-401. doi:10.1016/j.patcog.2014.06.023

    Examples
    --------
    >>> round(compute_entropy(np.array([[0, 1], [1, 2]])), 3)
    0.693
    """
    share = _find_lifetimes(diagram)
    share = share[share > 0]
    if not len(share):
        return float("nan")
    share = share / share.sum()
    return float(max(0.0, -(share * np.log(share)).sum()))


def check_size(n: int, max_dim: int, threshold: float | None) -> None:
    """Raise if homology of that many conditions would take minutes or all memory.

    Parameters
    ----------
    n : int
        Conditions.
    max_dim : int
        Highest degree.
    threshold : float or None
        With one, nothing is refused.
    """
    most = LIMITS.get(max_dim, 60)
    if max_dim > 0 and threshold is None and n > most:
        raise ValueError(
            f"rdm has {n} conditions: up to {most} are computed for max_dim={max_dim} without a "
            "threshold. Give threshold=, a smaller max_dim, or fewer conditions."
        )


def _check_threshold(threshold: object) -> float:
    check_type("threshold", threshold, (float, int), "a dissimilarity, or None")
    if not threshold > 0:
        raise ValueError(f"threshold={threshold} joins nothing. Give a number above 0.")
    return float(threshold)


def _check_diagram(diagram: np.ndarray) -> np.ndarray:
    diagram = np.asarray(diagram, np.float64)
    if diagram.ndim != 2 or diagram.shape[1] != 2:
        raise ValueError(f"diagram has shape {diagram.shape}. Give births and deaths (n, 2).")
    return diagram


def _find_lifetimes(diagram: np.ndarray) -> np.ndarray:
    """Return the finite lifetimes."""
    lifetime = np.diff(_check_diagram(diagram), axis=1)[:, 0]
    return lifetime[np.isfinite(lifetime)]


def _run_ripser(rdm: np.ndarray, max_dim: int, limit: float) -> list[np.ndarray]:
    """Return the diagrams of degree 1 and up, through the ranks of the dissimilarities."""
    try:
        from ripser import ripser
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{explain_missing(error)} max_dim=0 needs nothing.", name=error.name
        ) from error
    values, ranks = np.unique(rdm, return_inverse=True)
    ranks = ranks.reshape(rdm.shape).astype(np.float64)
    within = np.searchsorted(values, limit, side="right") - 1
    highest = np.inf if within == len(values) - 1 else float(within)
    found = ripser(ranks, maxdim=max_dim, distance_matrix=True, thresh=highest)["dgms"][1:]
    values = np.append(values, np.inf)
    diagrams = []
    for diagram in found:
        index = np.where(np.isfinite(diagram), diagram, len(values) - 1).astype(np.intp)
        exact = values[index].reshape(-1, 2)
        diagrams.append(exact[np.lexsort((exact[:, 1], exact[:, 0]))])
    return diagrams
