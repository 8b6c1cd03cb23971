"""Noise ceilings of brain responses: how well the best possible model could do, and at what."""

from __future__ import annotations

import numpy as np
import xarray as xr

from netphys._check import check_option
from netphys._options import TARGETS
from netphys.core.folds import Folds
from netphys.core.scores import compute_fold_scores

LOWEST = 0.05  # a ceiling below this cannot carry a normalised score


def compute_ceiling(
    responses: xr.DataArray, *, target: str = "participant", folds: Folds | None = None
) -> xr.DataArray:
    """Compute the noise ceiling of the correlation with responses to one shared stimulus.

    Parameters
    ----------
    responses : DataArray, dims (participant, time, region)
        Responses, filtered as they are when a model predicts them.
    target : str
        What a model predicts: each "participant", or the mean of the "group".
    folds : list of (train, test), optional
        Test sets over which within-fold correlations are averaged, as in the score; the whole
        series if left out.

    Returns
    -------
    ceiling : DataArray, dims (bound, region) or, for participants, (bound, participant, region)
        Correlation, `lower` and `upper`; the attributes name kind, target, units and n.

    Raises
    ------
    ValueError
        If there are fewer than three participants.

    Notes
    -----
    With R the reliability of the mean of k participants, predicted by Spearman-Brown from the mean
    correlation of pairs: a participant's `lower` is the correlation with the mean of all others,
    `upper` is that divided by the square root of R(n - 1), the correlation with what they share
    without noise. For the group mean `lower` is R(n), `upper` its square root. NaN where pairs of
    participants do not correlate positively.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [2] Lage-Castellanos A et al. (2019). PLoS Comput Biol 15:e1006397.
       doi:10.1371/journal.pcbi.1006397
    """
    check_option("target", target, TARGETS)
    y = responses.transpose("time", "participant", "region").to_numpy().astype(np.float64)
    n = y.shape[1]
    if n < 3:
        raise ValueError(f"responses has {n} participants. A ceiling needs at least three.")
    folds = folds or [(np.arange(0), np.arange(len(y)))]
    z = (y - y.mean(axis=0)) / y.std(axis=0)
    pairwise = np.mean([_correlate_pairs(z[test]) for _, test in folds], axis=0)  # (region,)
    pairwise = np.where(pairwise > 0, pairwise, np.nan)
    coords = {"bound": ["lower", "upper"], "region": responses["region"].to_numpy()}
    if target == "group":
        reliability = _predict_reliability(pairwise, n)
        bounds, dims = np.stack([reliability, np.sqrt(reliability)]), ("bound", "region")
        kind = "Spearman-Brown reliability of the group mean"
    else:
        others = (z.sum(axis=1, keepdims=True) - z) / (n - 1)
        lower = np.nanmean(compute_fold_scores(z, others, folds=folds), axis=0)
        upper = lower / np.sqrt(_predict_reliability(pairwise, n - 1))
        bounds, dims = np.stack([lower, upper]), ("bound", "participant", "region")
        coords["participant"] = responses["participant"].to_numpy()
        kind = "leave-one-out inter-subject correlation"
    attrs = {"kind": kind, "target": target, "units": "r", "n_participants": n}
    return xr.DataArray(bounds, dims=dims, coords=coords, name="ceiling", attrs=attrs)


def normalise_score(score: xr.DataArray, ceiling: xr.DataArray) -> xr.DataArray:
    """Divide aggregated scores by the upper bound of the ceiling of the same target.

    Parameters
    ----------
    score : DataArray, dims (..., region)
        Correlations, with the attribute `target`; averaged over participants where there are any.
    ceiling : DataArray
        Of `compute_ceiling`.

    Returns
    -------
    normalised : DataArray, dims (..., region)
        Ratio of means, not clipped; NaN where the ceiling is below 0.05.

    Raises
    ------
    ValueError
        If score and ceiling have different targets.
    """
    ours, theirs = score.attrs.get("target"), ceiling.attrs.get("target")
    if ours != theirs or ours is None:
        raise ValueError(
            f"score has target {ours!r}, ceiling has target {theirs!r}. A person's scores need the "
            "ceiling of persons, those of the group mean the ceiling of the group: "
            "compute_ceiling(responses, target=...)."
        )
    upper = ceiling.sel(bound="upper", drop=True)
    if "participant" in score.dims:
        score = score.mean("participant")
    if "participant" in upper.dims:
        upper = upper.mean("participant")
    return (score / upper.where(upper >= LOWEST)).assign_attrs(target=ours, units="r / ceiling")


def _correlate_pairs(z: np.ndarray) -> np.ndarray:
    """Return the mean correlation of pairs of participants, for (time, participant, region)."""
    z = z - z.mean(axis=0)
    z = z / np.sqrt((z * z).sum(axis=0))
    n = z.shape[1]
    return ((z.sum(axis=1) ** 2).sum(axis=0) - n) / (n * (n - 1))


def _predict_reliability(r: np.ndarray, n: int) -> np.ndarray:
    """Spearman-Brown: reliability of the mean of `n` from the correlation of single ones."""
    return n * r / (1 + (n - 1) * r)
