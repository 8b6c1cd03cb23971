"""Centred kernel alignment of activity patterns; and the check that all comparisons of them share.

Patterns are numpy or torch arrays (n_samples, n_units), on any device that has float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj, is_torch_namespace

from netphys._check import check_option, check_type
from netphys.core.distance.plain import expand_square, to_float64

KERNELS = ("linear", "rbf")


def compare_cka(a: Any, b: Any, *, kernel: str = "linear", bandwidth: float = 0.8) -> float:
    """Compare activity patterns by centred kernel alignment, debiased.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    kernel : str
        "linear" (dot product) or "rbf" (exp(-distance^2 / 2 s^2)).
    bandwidth : float
        For "rbf": s as a fraction of the median distance between samples, on either side.

    Returns
    -------
    cka : float
        -1 to 1; 1: the same up to rotation and one scale; independent representations are near 0,
        whatever their numbers of units.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        If shapes do not fit, there are fewer than four samples, values are NaN or infinite, or the
        samples of a side are all alike but for one, or all equally far from each other.

    Notes
    -----
    Units are centred over samples, and not scaled. Alignment is the ratio of the unbiased
    estimates of HSIC (the U-statistic, equal to the inner product of U-centred kernels); as a ratio
    it is nearly, not exactly, unbiased. For the biased estimate see `compute_biased_cka`. A linear
    kernel is worked out over pairs of units or of samples, whichever are fewer.

    References
    ----------
    .. [1] Kornblith S et al. (2019). ICML 97:3519-3529. doi:10.48550/arXiv.1905.00414
    .. [2] Székely GJ, Rizzo ML (2014). Ann Stat 42:2382-2412. doi:10.1214/14-AOS1255
    .. [3] Song L et al. (2007). ICML 24:823-830. doi:10.1145/1273496.1273600

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(compare_cka(x, 3 * x[:, ::-1] + 1), 12)
    1.0
    """
    return pair_cka(a, b, kernel=kernel, bandwidth=bandwidth)()


def compute_biased_cka(
    a: Any, b: Any, *, kernel: str = "linear", bandwidth: float = 0.8
) -> tuple[float, float]:
    """Compute the biased centred kernel alignment, and what it would be by chance.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity of the same samples in the same order, arbitrary units; numpy or torch.
    kernel : str
        "linear" or "rbf".
    bandwidth : float
        For "rbf": fraction of the median distance between samples.

    Returns
    -------
    cka : float
        0 to 1.
    expected : float
        Its exact mean over all pairings of the samples of `a` with those of `b`. It approaches 1
        as units outnumber samples: the value itself means nothing without it.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compare_cka`; three samples are enough.

    Notes
    -----
    With centred kernels K and L: cka = <K, L> / |K| |L|, and expected = tr K tr L / (n - 1) |K|
    |L|. The linear one is the cosine of double-centred squared Euclidean distances.

    References
    ----------
    .. [1] Kornblith S et al. (2019). ICML 97:3519-3529. doi:10.48550/arXiv.1905.00414

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).normal(size=(2, 20, 2000))
    >>> [round(value, 2) for value in compute_biased_cka(a, b)]
    [0.99, 0.99]
    """
    xp, x, y = _make_kernels(a, b, kernel, bandwidth, min_samples=3)
    length = xp.sqrt(x.cross(x)) * xp.sqrt(y.cross(y))
    expected = x.trace * y.trace / ((x.n - 1) * length)
    return min(float(x.cross(y) / length), 1.0), float(expected)


def pair_cka(
    a: Any, b: Any, *, kernel: str = "linear", bandwidth: float = 0.8
) -> Callable[..., float]:
    """Prepare debiased centred kernel alignment for many pairings of the samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        As in `compare_cka`.
    kernel : str
        "linear" or "rbf".
    bandwidth : float
        For "rbf": fraction of the median distance between samples.

    Returns
    -------
    compare : callable
        ``compare()`` is what `compare_cka` gives; ``compare(order)`` the same with the samples of
        `b` in another order, an array of their numbers.

    Raises
    ------
    TypeError
        If they are not arrays of one kind.
    ValueError
        As in `compare_cka`.

    References
    ----------
    .. [1] Kornblith S et al. (2019). ICML 97:3519-3529. doi:10.48550/arXiv.1905.00414
    """
    xp, x, y = _make_kernels(a, b, kernel, bandwidth, min_samples=4)
    own = {name: float(_debias(xp, k, k)) for name, k in (("a", x), ("b", y))}
    for (name, value), k in zip(own.items(), (x, y), strict=True):
        if not value > 1e-10 * float(k.cross(k)):
            raise ValueError(
                f"{name} has no debiased alignment with itself: its {x.n} samples are all equally "
                "far from each other, or alike but for one. Give samples that differ in more ways."
            )
    length = (own["a"] * own["b"]) ** 0.5

    def compare(order: Any = None) -> float:
        return max(-1.0, min(1.0, float(_debias(xp, x, y, order)) / length))

    return compare


def check_patterns(a: Any, b: Any, *, min_samples: int = 3) -> tuple[Any, Any, Any]:
    """Check two sets of patterns, and centre their units over samples.

    Parameters
    ----------
    a, b : array, shape (n_samples, n_units_a) and (n_samples, n_units_b)
        Activity, arbitrary units; numpy or torch.
    min_samples : int
        How many samples are needed.

    Returns
    -------
    xp : namespace
        Of the arrays.
    a, b : array of float64
        Centred; constant units are exactly 0.

    Raises
    ------
    TypeError
        If they are not arrays of one kind, or not of real numbers.
    ValueError
        If shapes do not fit, samples are too few, values are NaN or infinite, a device has no
        float64, or nothing varies.
    """
    for name, x in (("a", a), ("b", b)):
        if not is_array_api_obj(x):
            raise TypeError(
                f"{name} is a {type(x).__name__}. Give a numpy array or a torch tensor."
            )
        if x.ndim != 2 or x.shape[1] < 1:
            raise ValueError(f"{name} has shape {tuple(x.shape)}. Give (samples, units).")
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"a has {a.shape[0]} samples, b has {b.shape[0]}. Give the same samples in the same "
            "order."
        )
    if a.shape[0] < min_samples:
        raise ValueError(f"a and b have {a.shape[0]} samples. At least {min_samples} are needed.")
    try:
        xp = array_namespace(a, b)
    except TypeError as error:
        raise TypeError(
            f"a is a {type(a).__name__}, b a {type(b).__name__}. Give both as the same kind of "
            "array."
        ) from error
    return xp, _centre(xp, a, "a"), _centre(xp, b, "b")


def _centre(xp: Any, x: Any, name: str) -> Any:
    """Return float64 values less the mean of each unit, exactly 0 for constant units."""
    if not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        raise TypeError(f"{name} is of dtype {x.dtype}. Give real numbers.")
    x = to_float64(xp, x.detach() if is_torch_namespace(xp) else x)
    if bad := int(xp.sum(xp.astype(~xp.isfinite(x), xp.int64))):
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite. Leave these samples or units out."
        )
    flat = xp.max(x, axis=0, keepdims=True) == xp.min(x, axis=0, keepdims=True)
    if bool(xp.all(flat)):
        raise ValueError(f"{name} is the same in all samples. Give patterns that vary.")
    return xp.where(flat, xp.zeros_like(x), x - xp.mean(x, axis=0, keepdims=True))


class _Kernel:
    """Centred kernel between samples, by its features where it has few, else as a matrix."""

    def __init__(self, xp: Any, features: Any = None, matrix: Any = None):
        self.xp, self.features, self._matrix = xp, features, matrix
        self.n = (matrix if features is None else features).shape[0]
        if features is None:
            self.diagonal = xp.linalg.diagonal(matrix)
        else:
            self.diagonal = xp.sum(features * features, axis=1)
        self.trace = xp.sum(self.diagonal)

    @cached_property
    def matrix(self) -> Any:
        if self._matrix is not None:
            return self._matrix
        return self.features @ self.xp.matrix_transpose(self.features)

    def cross(self, other: _Kernel, order: Any = None) -> Any:
        """Return the inner product with another kernel, whose samples are reordered."""
        xp, x, y = self.xp, self.features, other.features
        if x is not None and y is not None and x.shape[1] * y.shape[1] <= self.n**2:
            y = y if order is None else y[order]
            product = xp.matrix_transpose(x) @ y
            return xp.sum(product * product)
        matrix = other.matrix if order is None else other.matrix[order][:, order]
        return xp.sum(self.matrix * matrix)


def _debias(xp: Any, x: _Kernel, y: _Kernel, order: Any = None) -> Any:
    """Return the unbiased HSIC of centred kernels, times n (n - 3).

    Rows of a centred kernel sum to 0, so that those of the kernel without its diagonal sum to minus
    the diagonal: the general formula becomes one of the diagonals.
    """
    n = x.n
    diagonal = y.diagonal if order is None else y.diagonal[order]
    paired = (1 + 2 / (n - 2)) * xp.sum(x.diagonal * diagonal)
    return x.cross(y, order) - paired + x.trace * y.trace / ((n - 1) * (n - 2))


def _make_kernels(
    a: Any, b: Any, kernel: str, bandwidth: float, min_samples: int
) -> tuple[Any, _Kernel, _Kernel]:
    check_option("kernel", kernel, KERNELS)
    check_type("bandwidth", bandwidth, (int, float), "a fraction of the median distance")
    if not 0 < bandwidth < float("inf"):
        raise ValueError(f"bandwidth={bandwidth!r} is out of range. Give a number above 0.")
    xp, a, b = check_patterns(a, b, min_samples=min_samples)
    if kernel == "linear":
        return xp, _Kernel(xp, a), _Kernel(xp, b)
    x, y = (_make_rbf(xp, x, bandwidth, name) for x, name in ((a, "a"), (b, "b")))
    return xp, x, y


def _make_rbf(xp: Any, x: Any, bandwidth: float, name: str) -> _Kernel:
    n = x.shape[0]
    square = expand_square(xp, x @ xp.matrix_transpose(x))
    square = xp.where(square < 0, xp.zeros_like(square), square)  # rounding
    ordered = xp.sort(xp.reshape(square, (-1,)))[n:]  # each pair twice, without the diagonal
    half = n * (n - 1) // 2
    median = (xp.sqrt(ordered[half - 1]) + xp.sqrt(ordered[half])) / 2
    if not float(median) ** 2 > 1e-12 * float(ordered[-1]):
        raise ValueError(
            f"{name} has a median distance of 0 between samples: most are equal. Use "
            "kernel='linear'."
        )
    values = xp.exp(-square / (2 * (bandwidth * median) ** 2))
    values = values - xp.mean(values, axis=0, keepdims=True)
    return _Kernel(xp, matrix=values - xp.mean(values, axis=1, keepdims=True))
