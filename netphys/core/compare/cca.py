"""Canonical correlations of activity patterns, and the similarities made of them.

Patterns are numpy or torch arrays (n_samples, n_units), on any device that has float64. Everything
follows from orthonormal bases of the centred patterns (SVD); covariances are never inverted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netphys._check import check_option, check_type
from netphys.core.compare.cka import check_patterns

VARIANTS = ("cca", "svcca", "pwcca")
OTHERS = (
    "Reduce them first to their leading components (SVD), or use compare_svcca, compare_cka or "
    "compare_shapes with alpha=1 (Procrustes)."
)


def compute_canonical_correlations(a: Any, b: Any) -> Any:
    """Compute the canonical correlations of activity patterns.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.

    Returns
    -------
    correlations : array, shape (min(n_units_a, n_units_b),)
        0 to 1, in descending order.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, there are too few samples for the units, values are NaN or infinite,
        or units are constant or combinations of others.

    Notes
    -----
    Units are centred. Where the units of both together outnumber the samples (less one), some
    correlations are 1 whatever the data. The mean square of those of independent patterns is
    max(n_units_a, n_units_b) / (n_samples - 1) over all pairings of the samples.

    References
    ----------
    .. [1] Hotelling H (1936). Biometrika 28:321-377. doi:10.1093/biomet/28.3-4.321

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> compute_canonical_correlations(a, np.array([[1.0], [3.0], [2.0], [4.0]])).round(3)
    array([0.8])
    """
    xp, a, b = check_patterns(a, b)
    return _correlate(xp, _make_basis(xp, a, "a"), _make_basis(xp, b, "b"))


def compare_cca(a: Any, b: Any) -> float:
    """Compare activity patterns by the mean of their canonical correlations.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.

    Returns
    -------
    similarity : float
        0 to 1; the mean correlation, not squared, over as many as the smaller has units. Invariant
        to any invertible linear map of the units.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compute_canonical_correlations`.

    Notes
    -----
    Far above 0 for independent patterns unless samples outnumber units many times over: read it
    next to its value for permuted samples, never alone.

    References
    ----------
    .. [1] Raghu M et al. (2017). NeurIPS 30:6076-6085. doi:10.48550/arXiv.1706.05806
    """
    return pair_cca(a, b, variant="cca")()


def compare_svcca(a: Any, b: Any, *, variance: float = 0.99) -> float:
    """Compare activity patterns by the mean canonical correlation of their leading components.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    variance : float
        Share of the variance that the singular vectors kept on either side have, at least; above 0,
        at most 1.

    Returns
    -------
    similarity : float
        0 to 1; the mean over as many correlations as the smaller has components.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, values are NaN or infinite, nothing varies, or as many components are
        kept as samples allow.

    Notes
    -----
    Units are centred and not scaled; constant ones count for nothing. What is said of chance in
    `compare_cca` holds here for the number of components.

    References
    ----------
    .. [1] Raghu M et al. (2017). NeurIPS 30:6076-6085. doi:10.48550/arXiv.1706.05806
    """
    return pair_cca(a, b, variant="svcca", variance=variance)()


def compare_pwcca(a: Any, b: Any) -> float:
    """Compare activity patterns by projection-weighted canonical correlations.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch. The weights
        are those of `a`: swapping them changes the result.

    Returns
    -------
    similarity : float
        0 to 1.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compute_canonical_correlations`.

    Notes
    -----
    The weight of the i-th correlation is the sum over the units z_j of `a` of |h_i . z_j|, with h_i
    the i-th canonical variate of `a`, of unit length, and units centred; weights are divided by
    their sum over as many as the smaller has units. This is the definition of the paper; its
    authors' code takes the side with fewer units for `a` and makes the variates orthogonal once
    more. Weights depend on the scales and axes of the units.

    References
    ----------
    .. [1] Morcos AS, Raghu M, Bengio S (2018). NeurIPS 31. doi:10.48550/arXiv.1806.05759
    """
    return pair_cca(a, b, variant="pwcca")()


def pair_cca(
    a: Any, b: Any, *, variant: str = "cca", variance: float = 0.99
) -> Callable[..., float]:
    """Prepare similarities by canonical correlations for many pairings of the samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        As in `compare_cca`.
    variant : str
        "cca", "svcca" or "pwcca".
    variance : float
        For "svcca": share of the variance kept.

    Returns
    -------
    compare : callable
        ``compare()`` is what `compare_cca`, `compare_svcca` or `compare_pwcca` gives;
        ``compare(order)`` the same with the samples of `b` in another order, an array of their
        numbers.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in these.

    References
    ----------
    .. [1] Raghu M et al. (2017). NeurIPS 30:6076-6085. doi:10.48550/arXiv.1706.05806
    .. [2] Morcos AS, Raghu M, Bengio S (2018). NeurIPS 31. doi:10.48550/arXiv.1806.05759
    """
    check_option("variant", variant, VARIANTS)
    check_type("variance", variance, (int, float), "a share of the variance")
    if not 0 < variance <= 1:
        raise ValueError(
            f"variance={variance!r} is out of range. Give a share above 0 and at most 1."
        )
    xp, a, b = check_patterns(a, b)
    if variant == "svcca":
        x, y = (_reduce(xp, x, name, variance) for x, name in ((a, "a"), (b, "b")))
    else:
        x, y = (_make_basis(xp, x, name) for x, name in ((a, "a"), (b, "b")))
    if variant != "pwcca":
        return lambda order=None: float(xp.mean(_correlate(xp, x, y, order)))
    units = xp.matrix_transpose(x) @ a  # of `a` in its basis

    def compare(order: Any = None) -> float:
        rotated = xp.matrix_transpose(x) @ (y if order is None else y[order])
        u, s, _ = xp.linalg.svd(rotated, full_matrices=False)
        weights = xp.sum(xp.abs(xp.matrix_transpose(u) @ units), axis=1)
        return min(float(xp.sum(weights * s) / xp.sum(weights)), 1.0)

    return compare


def check_spread(n_units: int, n_samples: int, name: str, *, what: str = "units") -> None:
    """Raise where so many units span all that samples can differ in.

    Parameters
    ----------
    n_units, n_samples : int
        Numbers of them.
    name : str
        Of the argument.
    what : str
        What the units are called.

    Raises
    ------
    ValueError
        If units are as many as samples less one, or more.
    """
    if n_units >= n_samples - 1:
        raise ValueError(
            f"{name} has {n_units} {what} for {n_samples} samples: centred, they span all that the "
            f"samples can differ in, and correlations are 1 whatever the data. {OTHERS}"
        )


def check_rank(xp: Any, values: Any, n_samples: int, name: str) -> None:
    """Raise where singular values say that units are constant or combinations of others.

    Parameters
    ----------
    xp : namespace
        Of the array.
    values : array, shape (n_units,)
        Singular values of centred patterns, in descending order.
    n_samples : int
        Number of samples.
    name : str
        Of the argument.

    Raises
    ------
    ValueError
        If the rank is lower than the number of units.
    """
    lowest = 2.2e-16 * max(n_samples, values.shape[0]) * values[0]
    rank = int(xp.sum(xp.astype(values > lowest, xp.int64)))
    if rank < values.shape[0]:
        raise ValueError(
            f"{name} has {values.shape[0]} units of rank {rank}: the others are constant or "
            f"combinations of these. Leave them out. {OTHERS}"
        )


def _make_basis(xp: Any, x: Any, name: str) -> Any:
    """Return an orthonormal basis (n_samples, n_units) of centred patterns of full rank."""
    check_spread(x.shape[1], x.shape[0], name)
    length = xp.sqrt(xp.sum(x * x, axis=0, keepdims=True))
    u, s, _ = xp.linalg.svd(x / xp.where(length > 0, length, 1.0), full_matrices=False)
    check_rank(xp, s, x.shape[0], name)
    return u


def _reduce(xp: Any, x: Any, name: str, variance: float) -> Any:
    """Return the leading singular vectors that have a share of the variance."""
    u, s, _ = xp.linalg.svd(x, full_matrices=False)
    share = xp.cumulative_sum(s * s) / xp.sum(s * s)
    n = min(1 + int(xp.sum(xp.astype(share < variance - 1e-12, xp.int64))), s.shape[0])
    check_spread(n, x.shape[0], name, what=f"components of {variance:g} of the variance")
    return u[:, :n]


def _correlate(xp: Any, x: Any, y: Any, order: Any = None) -> Any:
    s = xp.linalg.svdvals(xp.matrix_transpose(x) @ (y if order is None else y[order]))
    return xp.where(s > 1, xp.ones_like(s), s)
