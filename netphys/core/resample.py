"""Resampling: permutations, circular shifts, bootstrap weights, and what follows from the draws."""

from __future__ import annotations

import numpy as np
from scipy import stats

from netphys._check import check_option, check_positive

ALTERNATIVES = ("greater", "less", "two-sided")
CORRECTIONS = ("bh", "by")
MIN_PARTICIPANTS, MIN_STIMULI, MIN_SEEDS = 6, 20, 5  # below these nothing is said of others


def make_permutations(n: int, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw orders of `n` exchangeable things.

    Parameters
    ----------
    n : int
        How many things.
    n_draws : int
        How many orders.
    rng : Generator
        Source of randomness.

    Returns
    -------
    orders : ndarray of int, shape (n_draws, n)
        Each row a permutation; draws are independent, so the identity may occur.
    """
    check_positive("n", n)
    check_positive("n_draws", n_draws)
    return rng.permuted(np.broadcast_to(np.arange(n), (n_draws, n)), axis=1)


def make_shifts(n: int, *, min_shift: int) -> np.ndarray:
    """List all circular shifts of `n` ordered samples that move them far enough.

    Parameters
    ----------
    n : int
        How many samples.
    min_shift : int
        Smallest distance, in samples and in either direction, from no shift at all. Take at least
        the lag at which the data's autocorrelation has died away.

    Returns
    -------
    shifts : ndarray of int, shape (n_shifts,)
        ``min_shift ... n - min_shift``; ``np.roll(x, shift)`` applies one.

    Raises
    ------
    ValueError
        If fewer than 39 shifts are left: p could not come near 0.025.

    Notes
    -----
    Shifts keep the autocorrelation that a permutation of ordered samples destroys.
    """
    check_positive("min_shift", min_shift)
    shifts = np.arange(min_shift, n - min_shift + 1)
    if len(shifts) < 39:
        raise ValueError(
            f"min_shift={min_shift} leaves {len(shifts)} circular shifts of {n} samples. At least "
            "39 are needed; use more samples or a smaller min_shift."
        )
    return shifts


def make_weights(n: int, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw bootstrap samples as how often each of `n` things was drawn.

    Parameters
    ----------
    n : int
        How many things, all of them drawn from with replacement, `n` times.
    n_draws : int
        How many samples.
    rng : Generator
        Source of randomness.

    Returns
    -------
    weights : ndarray of int, shape (n_draws, n)
        Each row sums to `n`.
    """
    check_positive("n", n)
    check_positive("n_draws", n_draws)
    return rng.multinomial(n, np.full(n, 1 / n), size=n_draws)


def compute_p(
    observed: np.ndarray, null: np.ndarray, *, alternative: str = "greater"
) -> np.ndarray:
    """Compute p-values from draws under the null hypothesis: (1 + hits) / (1 + draws).

    Parameters
    ----------
    observed : ndarray, shape (...)
        Observed statistic.
    null : ndarray, shape (n_draws, ...)
        The same statistic under the null hypothesis.
    alternative : str
        "greater", "less", or "two-sided" (about the mean of the draws).

    Returns
    -------
    p : ndarray, shape (...)
        Never 0. NaN where the statistic is unknown, also in any draw.

    References
    ----------
    .. [1] Phipson B, Smyth GK (2010). Stat Appl Genet Mol Biol 9:39. doi:10.2202/1544-6115.1585
    """
    check_option("alternative", alternative, ALTERNATIVES)
    observed, null = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    if alternative == "two-sided":
        centre = null.mean(axis=0)
        observed, null = np.abs(observed - centre), np.abs(null - centre)
    elif alternative == "less":
        observed, null = -observed, -null
    slack = 1e-12 * np.maximum(1, np.abs(observed))  # equal draws count, whatever the rounding
    p = (1 + (null >= observed - slack).sum(axis=0)) / (1 + len(null))
    known = np.isfinite(observed) & np.isfinite(null).all(axis=0)
    return np.where(known, p, np.nan)


def compute_shift_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Compute one-sided p-values from circular shifts, which are fewer draws than they seem.

    Neighbouring shifts of a slow series give nearly the same value, so that counting them
    overstates how rare the observed one is: two independent smooth series were significant in up to
    17 % of cases. Here the statistic is standardised by the mean and SD over shifts, and compared
    with Student's t for as many draws as the shifts are worth.

    Parameters
    ----------
    observed : ndarray, shape (...)
        Statistic without a shift.
    null : ndarray, shape (n_shifts, ...)
        The same statistic for all shifts, in their order.

    Returns
    -------
    p : ndarray, shape (...)
        NaN where the statistic is unknown, also for any shift, or never changes.

    Notes
    -----
    The shifts are worth n / (1 + 2 r_1 + 2 r_2 + ...) draws, with r their autocorrelation up to
    where it first falls to 0 [1]_.

    References
    ----------
    .. [1] Bartlett MS (1946). Suppl J R Stat Soc 8:27-41. doi:10.2307/2983611
    """
    observed, null = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    flat = null.reshape(len(null), -1)
    mean = flat.mean(axis=0)
    centred = flat - mean
    square = (centred**2).sum(axis=0)
    r = np.array([(centred[k:] * centred[: len(flat) - k]).sum(axis=0) for k in range(len(flat))])
    with np.errstate(divide="ignore", invalid="ignore"):
        r /= square
        positive = np.logical_and.accumulate(r > 0, axis=0)
        worth = len(flat) / (2 * np.where(positive, r, 0.0).sum(axis=0) - 1)
        worth = np.clip(worth, 2, len(flat))
        deviation = np.sqrt(square / len(flat) * worth / (worth - 1) * (1 + 1 / worth))
        t = (observed.reshape(-1) - mean) / deviation
    p = stats.t.sf(t, worth - 1)
    return np.where(np.isfinite(t), p, np.nan).reshape(observed.shape)


def adjust_p(p: np.ndarray, *, method: str = "bh") -> np.ndarray:
    """Correct p-values of a family of tests for their number (false discovery rate).

    Parameters
    ----------
    p : ndarray, shape (...)
        All of them one family; NaN is left out and stays NaN.
    method : str
        "bh" (Benjamini-Hochberg) or "by" (Benjamini-Yekutieli, any dependence).

    Returns
    -------
    adjusted : ndarray, shape (...)
        Adjusted p-values.

    References
    ----------
    .. [1] Benjamini Y, Hochberg Y (1995). J R Stat Soc B 57:289-300.
       doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> adjust_p([0.01, 0.04, 0.03, float("nan")]).round(3)
    array([0.03, 0.04, 0.04,  nan])
    """
    check_option("method", method, CORRECTIONS)
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known], method=method)
    return adjusted


def combine_variances(
    first: np.ndarray, second: np.ndarray, both: np.ndarray, *, sizes: tuple[int, int]
) -> np.ndarray:
    """Combine bootstrap variances of two crossed factors (stimuli or blocks, and participants).

    Resampling both factors at once counts the measurement noise three times; the correction takes
    it out again and never leaves the bounds that the single factors set.

    Parameters
    ----------
    first, second : ndarray, shape (...)
        Variance of the statistic over draws of one factor alone.
    both : ndarray, shape (...)
        Variance when both are drawn together.
    sizes : tuple of int
        How many things each factor has; a bootstrap variance is too small by (n - 1) / n.

    Returns
    -------
    variance : ndarray, shape (...)
        With a and b the factors n / (n - 1): a first + b second - a b (both - first - second), at
        least the larger of a first and b second, and at most `both`.

    References
    ----------
    .. [1] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566
    """
    a, b = (n / (n - 1) for n in sizes)
    first, second, both = (np.asarray(v, np.float64) for v in (first, second, both))
    noise = a * b * (both - first - second)
    lower = np.maximum(a * first, b * second)
    return np.clip(a * first + b * second - noise, lower, np.maximum(both, lower))


def make_interval(
    estimate: np.ndarray, variance: np.ndarray, *, n: int | np.ndarray, level: float = 0.95
) -> np.ndarray:
    """Return a t interval around an estimate from its bootstrap variance.

    Parameters
    ----------
    estimate, variance : ndarray, shape (...)
        Statistic and its variance.
    n : int or ndarray
        Size of the smallest factor that was resampled; degrees of freedom are n - 1.
    level : float
        Coverage.

    Returns
    -------
    interval : ndarray, shape (..., 2)
        Lower and upper bound.
    """
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.sqrt(variance)
    return np.stack([estimate - half, estimate + half], axis=-1)
