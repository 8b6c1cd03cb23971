"""One value per trial and unit: what a trial's samples come down to."""

from __future__ import annotations

import numpy as np

POOLS = ("mean", "max", "last")


def pool_samples(
    values: np.ndarray, begin: np.ndarray, count: np.ndarray, keep: np.ndarray, how: str
) -> np.ndarray:
    """Pool runs of samples, in float64; NaN for a run of which nothing is kept.

    `values` has shape (n_samples, n_units), `begin` and `count` give the run of each trial, `keep`
    says which samples take part.
    """
    pooled = np.full((len(begin), values.shape[1]), np.nan)
    for i, (b, n) in enumerate(zip(begin, count, strict=True)):
        kept = b + np.flatnonzero(keep[b : b + n])
        if len(kept) == 0:
            continue
        if how == "last":
            pooled[i] = values[kept[-1]]
            continue
        run = slice(kept[0], kept[-1] + 1) if np.ptp(kept) == len(kept) - 1 else kept
        run = np.asarray(values[run], np.float64)
        pooled[i] = run.mean(axis=0) if how == "mean" else run.max(axis=0)
    return pooled
