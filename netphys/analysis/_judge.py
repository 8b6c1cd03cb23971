"""Statistics of an evaluation of one target: tests, intervals, ceiling, differences."""

from __future__ import annotations

import numpy as np
from scipy import stats

from netphys.analysis._bootstrap import Spread
from netphys.core.resample import adjust_p, make_interval

LEVEL = 0.95


def judge(
    mean: np.ndarray,
    bounds: np.ndarray,
    spread: Spread | None,
    seeds: np.ndarray,
    dof: int,
    level: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return intervals and p-values by name, for entries (entry,), pairs and bounds.

    `seeds` is the covariance that a draw of seeds adds to the entries; `dof` its degrees of freedom
    together with those of the other factors. `level` is what each entry scores by chance, then the
    ceiling; NaN where that is not known.
    """
    n = len(mean)
    found = {"mean": mean, "ceiling": bounds, "difference": mean[:, None] - mean}
    eye = np.eye(n + 2)
    single, low, high = eye[:n], eye[n], eye[n + 1]
    pair = single[:, None] - single
    if spread is None and not seeds.any():
        return found

    def measure(contrast: np.ndarray) -> np.ndarray:
        value = 0.0 if spread is None else spread.get_variance(contrast)
        return value + np.einsum("...i,ij,...j->...", contrast[..., :n], seeds, contrast[..., :n])

    variance = measure(single)
    found["interval"] = make_interval(mean, variance, n=dof + 1, level=LEVEL)
    found["p_zero"] = _test(mean - level[:n], variance, dof, sides=1)
    difference = found["difference"]
    variance = measure(pair)
    found["difference_interval"] = make_interval(difference, variance, n=dof + 1, level=LEVEL)
    p = _test(difference, variance, dof)
    np.fill_diagonal(p, np.nan)
    found["difference_p"] = p
    found["difference_p_bh"] = _adjust_pairs(p)
    if spread is None:
        return found
    found["difference_p_max"] = _compare_largest(difference, variance, spread, n)
    variance = measure(np.stack([low, high]))
    found["ceiling_interval"] = make_interval(bounds, variance, n=dof + 1, level=LEVEL)
    found["ceiling_p"] = _test(bounds[0] - level[n], variance[0], dof, sides=1)
    found["p_ceiling"] = _test(mean - bounds[0], measure(single - low), dof)
    return found


def _test(value: np.ndarray, variance: np.ndarray, dof: int, *, sides: int = 2) -> np.ndarray:
    """Return p-values of a t test against 0; NaN where nothing varies."""
    sd = np.sqrt(np.where(variance > 0, variance, np.nan))
    t = value / sd
    return sides * stats.t.sf(np.abs(t) if sides == 2 else t, dof)


def _adjust_pairs(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of all pairs of entries for their number, each pair once."""
    i, j = np.triu_indices(len(p), 1)
    out = np.full(p.shape, np.nan)
    out[i, j] = out[j, i] = adjust_p(p[i, j])
    return out


def _compare_largest(
    difference: np.ndarray, variance: np.ndarray, spread: Spread, n: int
) -> np.ndarray:
    """Return p-values of pairs by the largest standardised difference of each draw."""
    draws = spread.main[:, :n]
    drawn = draws[:, :, None] - draws[:, None]
    i, j = np.triu_indices(n, 1)
    out = np.full(difference.shape, np.nan)
    drawn = drawn[:, i, j]
    drawn = drawn[np.isfinite(drawn).any(axis=1)] if len(i) else drawn
    if not len(i) or len(drawn) < 2:
        return out
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (drawn - np.nanmean(drawn, axis=0)) / np.nanstd(drawn, axis=0, ddof=1)
        observed = np.abs(difference[i, j]) / np.sqrt(variance[i, j])
    largest = np.nan_to_num(np.abs(z)).max(axis=1)
    p = (1 + (largest[:, None] >= observed).sum(axis=0)) / (1 + len(largest))
    out[i, j] = out[j, i] = np.where(np.isfinite(observed), p, np.nan)
    return out
