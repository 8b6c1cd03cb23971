"""From trials to the distances between conditions: averaging, runs, and the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type, suggest
from netphys._options import CROSSVALIDATED, NOISES
from netphys.core.distance import (
    DistanceSums,
    compute_crossnobis,
    compute_distances,
    compute_poisson_cv,
    compute_precision,
    compute_residuals,
)
from netphys.data.repeats import check_repeats

NOISY = ("mahalanobis", "crossnobis")  # metrics that weigh units by their noise
BLOCK_BYTES = 32e6  # of patterns in float64 that are held at a time


def find_labels(x: xr.DataArray, name: str, by: str) -> tuple[np.ndarray, list[str]]:
    """Return a trial coordinate as numbers, and its labels in order of appearance."""
    check_type(name, by, str, "the name of a trial coordinate")
    known = [str(k) for k, v in x.coords.items() if v.dims == ("trial",)]
    if by not in known:
        raise ValueError(
            f"{name}={by!r} is not a trial coordinate of x.{suggest(by, known)} "
            f"It has: {', '.join(known) or 'none'}."
        )
    values = pd.Series(x[by].to_numpy())
    if values.isna().any():
        raise ValueError(
            f"{name}={by!r} has no label for {values.isna().sum()} of {len(values)} trials. Leave "
            "them out: x.isel(trial=keep)."
        )
    codes, labels = pd.factorize(values.astype(str))
    if len(labels) < 2:
        raise ValueError(
            f"{name}={by!r} has {len(labels)} label in {len(values)} trials. At least two are "
            "needed; name a coordinate that tells trials apart, such as 'stimulus_id'."
        )
    return codes, labels.tolist()


def measure_distances(
    x: xr.DataArray,
    codes: np.ndarray,
    *,
    by: str,
    metric: str,
    folds: str | None,
    noise: str | np.ndarray | None,
    prior: tuple[float, float],
) -> tuple[np.ndarray, dict[str, object]]:
    """Return the distances (..., condition, condition) of trials (..., trial, unit), and facts."""
    values = x.to_numpy()
    _check_options(metric, folds, noise)
    if metric in CROSSVALIDATED or isinstance(noise, str):
        check_repeats(x, by=by)
    runs, facts = None, {}
    if metric in CROSSVALIDATED:
        runs, n_folds = _find_folds(x, codes, by, folds)
        facts |= {"folds": folds or "repeats of a condition", "n_folds": n_folds}
    if noise is not None:
        facts["noise"] = noise if isinstance(noise, str) else "given"
    function = _choose(metric, codes, runs, noise, prior)
    lead = values.shape[:-2]
    if not lead:
        return function(values), facts
    flat = values.reshape(-1, *values.shape[-2:])
    return np.stack([function(v) for v in flat]).reshape(*lead, *[codes.max() + 1] * 2), facts


def measure_blocks(blocks: Iterator[np.ndarray], codes: np.ndarray, metric: str) -> np.ndarray:
    """Return the distances between conditions of trials whose units come in blocks."""
    sums = DistanceSums(int(codes.max()) + 1, metric=metric)
    for block in blocks:
        sums.update(average_groups(block, codes))
    return sums.finish()


def average_groups(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the mean over trials of each condition, (condition, unit), in float64."""
    n = int(codes.max()) + 1
    if n == len(codes) and (codes == np.arange(n)).all():
        return np.asarray(values, np.float64)
    counts = np.bincount(codes)
    ordered = np.asarray(values, np.float64)[np.argsort(codes, kind="stable")]
    return np.add.reduceat(ordered, np.cumsum(counts) - counts, axis=0) / counts[:, None]


def check_finite(x: xr.DataArray, codes: np.ndarray, labels: list[str]) -> None:
    """Raise if a trial of (..., trial, unit) holds NaN or infinite values."""
    finite = np.isfinite(x.to_numpy())
    if not finite.all():
        bad = ~finite
        trials = bad.any(axis=-1).reshape(-1, x.sizes["trial"]).any(axis=0)
        name = f" at {x.name!r}" if x.name else ""
        raise ValueError(
            f"x{name} holds {bad.sum()} values that are NaN or infinite, the first in condition "
            f"{labels[codes[trials.argmax()]]!r}. Leave these trials or units out, or pool over "
            "time first: session.pool(site)."
        )


def _check_options(metric: str, folds: str | None, noise: object) -> None:
    if folds is not None and metric not in CROSSVALIDATED:
        raise ValueError(
            f"folds={folds!r} has no part in metric={metric!r}. Leave it out, or use "
            f"{' or '.join(map(repr, CROSSVALIDATED))}."
        )
    if noise is not None and metric not in NOISY:
        raise ValueError(
            f"noise= has no part in metric={metric!r}. Leave it out, or use "
            f"{' or '.join(map(repr, NOISY))}."
        )
    if noise is None and metric == "mahalanobis":
        raise ValueError(
            f"metric='mahalanobis' needs noise=: one of {', '.join(map(repr, NOISES))} to estimate "
            "it from repeats, or a precision matrix."
        )
    if isinstance(noise, str):
        check_option("noise", noise, NOISES)
    elif noise is not None:
        check_type("noise", noise, np.ndarray, "the name of an estimate, or a precision matrix")


def _find_folds(
    x: xr.DataArray, codes: np.ndarray, by: str, folds: str | None
) -> tuple[np.ndarray, int]:
    """Return the fold of each trial; without a coordinate, the n-th repeats make up a fold."""
    if folds is not None:
        runs, labels = find_labels(x, "folds", folds)
        return runs, len(labels)
    counts = np.bincount(codes)
    if counts.min() != counts.max():
        raise ValueError(
            f"folds is missing, and conditions ({by}) have {counts.min()} to {counts.max()} "
            "trials. Name the trial coordinate that holds the run: folds='run'."
        )
    return pd.Series(codes).groupby(codes).cumcount().to_numpy(), int(counts[0])


def _choose(
    metric: str,
    codes: np.ndarray,
    runs: np.ndarray | None,
    noise: str | np.ndarray | None,
    prior: tuple[float, float],
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from (trial, unit) to (condition, condition)."""

    def get_precision(values: np.ndarray) -> np.ndarray | None:
        if not isinstance(noise, str):
            return noise
        residuals, dof = compute_residuals(values, codes, folds=runs)
        return compute_precision(residuals, method=noise, dof=dof)

    def average_folds(values: np.ndarray) -> np.ndarray:
        n = int(codes.max()) + 1
        joint = runs * n + codes
        means = np.full((int(runs.max() + 1) * n, values.shape[-1]), np.nan)
        found, own = np.unique(joint, return_inverse=True)
        means[found] = average_groups(values, own)
        return means.reshape(-1, n, values.shape[-1])

    if metric == "crossnobis":
        return lambda v: compute_crossnobis(average_folds(v), precision=get_precision(v))
    if metric == "poisson-cv":
        return lambda v: compute_poisson_cv(average_folds(v), prior=prior)
    if metric == "mahalanobis":
        return lambda v: compute_distances(
            average_groups(v, codes), metric=metric, precision=get_precision(v)
        )
    if metric == "poisson":
        return lambda v: compute_distances(average_groups(v, codes), metric=metric, prior=prior)
    return lambda v: measure_blocks(iter([v]), codes, metric)


def split_units(n_trials: int, n_units: int) -> list[slice]:
    """Return runs of units whose patterns fit into a block."""
    width = max(1, int(BLOCK_BYTES / (8 * max(n_trials, 1))))
    return [slice(k, min(k + width, n_units)) for k in range(0, n_units, width)]
