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

    def estimate(value: np.ndarray, contrast: np.ndarray) -> _Estimate:
        own = contrast[..., :n]
        of_seeds = np.einsum("...i,ij,...j->...", own, seeds, own)
        if spread is None:
            return _Estimate(value, of_seeds, np.full(of_seeds.shape, dof))
        free = np.where(of_seeds > 0, dof, spread.dof)  # seeds count where there are several
        return _Estimate(value, spread.get_variance(contrast) + of_seeds, free)

    score = estimate(mean, single)
    found["interval"], found["p_zero"] = score.interval, score.test(level[:n], sides=1)
    pairs = estimate(found["difference"], pair)
    found["difference_interval"], found["difference_p"] = pairs.interval, pairs.test()
    found["difference_p_bh"] = _adjust_pairs(found["difference_p"])
    if spread is None:
        return found
    found["difference_p_max"] = _compare_largest(pairs, spread, n)
    ceiling = estimate(bounds, np.stack([low, high]))
    found["ceiling_interval"] = ceiling.interval
    found["ceiling_p"] = ceiling.test(level[n], sides=1)[0]
    found["p_ceiling"] = estimate(mean - bounds[0], single - low).test()
    return found


class _Estimate:
    """A value with its variance and degrees of freedom; NaN follows where nothing varies."""

    def __init__(self, value: np.ndarray, variance: np.ndarray, dof: np.ndarray):
        self.value, self.dof = value, dof
        self.variance = np.where(variance > 0, variance, np.nan)

    @property
    def interval(self) -> np.ndarray:
        return make_interval(self.value, self.variance, n=self.dof + 1, level=LEVEL)

    def test(self, level: np.ndarray | float = 0.0, *, sides: int = 2) -> np.ndarray:
        """Return p-values of a t test against `level`."""
        t = (self.value - level) / np.sqrt(self.variance)
        return sides * stats.t.sf(np.abs(t) if sides == 2 else t, self.dof)


def _adjust_pairs(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of all pairs of entries for their number, each pair once."""
    i, j = np.triu_indices(len(p), 1)
    out = np.full(p.shape, np.nan)
    out[i, j] = out[j, i] = adjust_p(p[i, j])
    return out


def _compare_largest(pairs: _Estimate, spread: Spread, n: int) -> np.ndarray:
    """Return p-values of pairs by the largest standardised difference of each draw."""
    draws = spread.main[:, :n]
    drawn = draws[:, :, None] - draws[:, None]
    i, j = np.triu_indices(n, 1)
    out = np.full(pairs.value.shape, np.nan)
    drawn = drawn[:, i, j]
    drawn = drawn[np.isfinite(drawn).any(axis=1)] if len(i) else drawn
    if not len(i) or len(drawn) < 2:
        return out
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (drawn - np.nanmean(drawn, axis=0)) / np.nanstd(drawn, axis=0, ddof=1)
        observed = np.abs(pairs.value[i, j]) / np.sqrt(pairs.variance[i, j])
    largest = np.nan_to_num(np.abs(z)).max(axis=1)
    p = (1 + (largest[:, None] >= observed).sum(axis=0)) / (1 + len(largest))
    out[i, j] = out[j, i] = np.where(np.isfinite(observed), p, np.nan)
    return out
