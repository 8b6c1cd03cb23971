"""The arithmetic behind `fit_encoding`: one person's fits, then the group's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from netphys.brain.encoding_result import Encoding
from netphys.core.folds import Folds
from netphys.core.linear import cross_validate_ridge, predict_linear
from netphys.core.resample import (
    MIN_PARTICIPANTS,
    adjust_p,
    combine_variances,
    compute_p,
    make_interval,
    make_weights,
)
from netphys.core.scores import (
    bootstrap_fold_scores,
    compute_concatenated_score,
    compute_fold_scores,
    make_block_sums,
    make_block_weights,
)

MIN_BLOCK = 10  # samples; shorter blocks would cut the autocorrelation of fMRI


@dataclass(frozen=True)
class Ladder:
    """What is fitted to every person: models, feature sets to choose from, folds, null orders."""

    models: tuple[str, ...]  # the nuisance first
    rungs: tuple[list[np.ndarray], ...]  # of all models but the first
    scale: tuple[bool, ...]
    folds: Folds
    n_inner: int
    gap: int
    groups: np.ndarray | None
    alphas: tuple[float, ...]
    orders: np.ndarray
    drift: np.ndarray | None = None  # cosines that a high-pass filter took out of everything


class PersonFit(NamedTuple):
    """Fits of one person: arrays start with (model, ...) in the order of the ladder."""

    prediction: np.ndarray  # (model, sample, region)
    null: np.ndarray  # (draw, model, region): score above the nuisance's
    alpha: np.ndarray  # (model, fold, region)
    candidate: np.ndarray  # (model, fold, region)


def fit_person(ladder: Ladder, y: np.ndarray, nuisance: np.ndarray | None) -> PersonFit:
    """Fit every model to one person's responses and to their reordered residuals.

    All draws are further targets of the same decompositions: what the nuisance explains is kept in
    place, what it leaves is reordered. The observed residuals are orthogonal to nuisance and drift;
    so are the drawn ones, else they would share less with the features than chance allows.
    """
    n, n_regions = y.shape
    every = np.arange(n)
    explained = predict_linear(nuisance, y, train=every, test=every)
    left = (y - explained)[ladder.orders]  # (draw, sample, region)
    known = [z for z in (nuisance, ladder.drift) if z is not None]
    left = left.transpose(1, 0, 2).reshape(n, -1)
    left -= predict_linear(np.hstack(known) if known else None, left, train=every, test=every)
    drawn = np.tile(explained, len(ladder.orders)) + left
    targets = np.hstack([y, drawn])
    baseline = np.full_like(targets, np.nan)
    for train, test in ladder.folds:
        baseline[test] = predict_linear(
            nuisance, targets, train=train, test=test, drift=ladder.drift
        )
    floor = _mean_score(targets, baseline, ladder.folds)
    shape = (len(ladder.models), len(ladder.folds), n_regions)
    alpha, candidate = np.full(shape, -1), np.full(shape, -1)
    prediction, null = [baseline[:, :n_regions]], [np.zeros((len(ladder.orders), n_regions))]
    for m, (sets, scale) in enumerate(zip(ladder.rungs, ladder.scale, strict=True), start=1):
        fit = cross_validate_ridge(
            sets,
            targets,
            folds=ladder.folds,
            n_inner=ladder.n_inner,
            gap=ladder.gap,
            groups=ladder.groups,
            alphas=ladder.alphas,
            nuisance=nuisance,
            drift=ladder.drift,
            scale=scale,
        )
        gain = _mean_score(targets, fit.prediction, ladder.folds) - floor
        null.append(gain[n_regions:].reshape(-1, n_regions))
        prediction.append(fit.prediction[:, :n_regions])
        alpha[m], candidate[m] = fit.alpha[:, :n_regions], fit.candidate[:, :n_regions]
    return PersonFit(np.stack(prediction), np.stack(null, axis=1), alpha, candidate)


def _mean_score(y: np.ndarray, prediction: np.ndarray, folds: Folds) -> np.ndarray:
    """Return the mean over folds of the within-fold r; a constant prediction scores 0."""
    return np.nan_to_num(compute_fold_scores(y, prediction, folds=folds)).mean(axis=0)


class Units(NamedTuple):
    """How many things the bootstrap draws from."""

    blocks: int
    per_fold: int  # the least number of blocks in a test set: they are drawn within it
    people: int
    folds: int

    @property
    def free(self) -> int:
        """Blocks less one mean per test set; degrees of freedom are one less than this."""
        return self.blocks - self.folds + 1


class Draws(NamedTuple):
    """Bootstrap draws of the group's mean score, (draw, model, region + their mean)."""

    blocks: np.ndarray
    people: np.ndarray
    both: np.ndarray


def summarise(
    ladder: Ladder,
    fits: list[PersonFit],
    y: np.ndarray,
    ceiling: xr.DataArray | None,
    layers: dict[str, list[str]],
    params: dict,
    participants: list[str],
    regions: list[str],
    rng: np.random.Generator,
) -> Encoding:
    """Turn the fits of all persons into a labelled result."""
    prediction = np.stack([f.prediction for f in fits], axis=1)  # (model, person, sample, region)
    prediction, y = prediction.transpose(2, 0, 1, 3), y.transpose(1, 0, 2)[:, None]
    score = _mean_score(y, prediction, ladder.folds)
    joined = compute_concatenated_score(y, prediction, folds=ladder.folds)
    models = list(ladder.models)
    coords = {"model": models, "participant": participants, "region": regions}
    dims = ("model", "participant", "region")
    attrs = {"units": "r", "target": params["target"]}
    data = xr.DataArray(score, dims=dims, coords=coords, name="score", attrs=attrs)
    stats = xr.Dataset(coords={"bound": ["lower", "upper"], "model_2": models})
    # a model that predicts a constant in every test set has the levels of training sets only
    flat = np.isnan(compute_fold_scores(y, prediction, folds=ladder.folds)).all(axis=0)
    stats["concatenated"] = data.copy(data=np.where(flat, 0.0, np.nan_to_num(joined)))
    draws, n_units, block = _bootstrap(y, prediction, score, ladder.folds, params, rng)
    stats = _add_means(stats, score, draws, n_units)
    stats = _add_choices(stats, ladder, fits, layers)
    if ceiling is not None:
        stats["ceiling"] = ceiling
    null = None
    if len(ladder.orders):
        each = np.mean([f.null for f in fits], axis=0)  # (draw, model, region)
        null = xr.DataArray(
            each,
            dims=("draw", "model", "region"),
            coords={"model": models, "region": regions},
            attrs={"units": "r above the nuisance"},
        )
        stats = _add_p(stats, score, each)
    kind = "permutations" if params["order"] == "iid" else "circular shifts"
    params = params | {
        "null": f"{len(ladder.orders)} {kind} with refit" if null is not None else "not asked for",
        "block": block,
        "n_blocks": n_units.blocks,
        "intervals": _describe_intervals(params, len(participants)),
    }
    return Encoding(data, stats, null, params)


def _bootstrap(
    y: np.ndarray,
    prediction: np.ndarray,
    score: np.ndarray,
    folds: Folds,
    params: dict,
    rng: np.random.Generator,
) -> tuple[Draws, Units, int]:
    """Draw blocks of time, people, and both; the same draws for all models, which stay paired."""
    n_draws, n_people = params["n_bootstraps"], score.shape[1]
    block = params["group_size"] if params["order"] == "iid" else max(MIN_BLOCK, params["gap"])
    people = make_weights(n_people, n_draws, rng=rng) / n_people
    weights, of_blocks, of_both = None, [], []
    for m in range(len(score)):
        sums = make_block_sums(
            np.broadcast_to(y[:, 0], prediction[:, m].shape),
            prediction[:, m],
            folds=folds,
            block=block,
        )
        if weights is None:
            counts = np.bincount(sums.fold)
            units = Units(len(sums.fold), int(counts.min()), n_people, len(counts))
            weights = make_block_weights(sums, n_draws, rng=rng)
        drawn = np.nan_to_num(bootstrap_fold_scores(sums, weights))  # (draw, person, region)
        of_blocks.append(drawn.mean(axis=1))
        of_both.append(np.einsum("dp,dpr->dr", people, drawn))
    of_people = np.einsum("dp,mpr->dmr", people, score)
    draws = Draws(np.stack(of_blocks, axis=1), of_people, np.stack(of_both, axis=1))
    return Draws(*(_with_mean(d) for d in draws)), units, block


def _with_mean(x: np.ndarray) -> np.ndarray:
    """Append the mean over regions as one more region."""
    return np.concatenate([x, x.mean(axis=-1, keepdims=True)], axis=-1)


def _add_means(stats: xr.Dataset, score: np.ndarray, draws: Draws, n_units: Units) -> xr.Dataset:
    """Add the group's means and paired differences with intervals, per region and over all."""
    mean = _with_mean(score.mean(axis=1))
    single = mean, *draws
    paired = [x[..., :, None, :] - x[..., None, :, :] for x in single]
    for name, (value, *drawn), dims in (
        ("mean", single, ("model",)),
        ("difference", paired, ("model", "model_2")),
    ):
        blocks, people, both = (d.var(axis=0, ddof=1) for d in drawn)
        if n_units.people < MIN_PARTICIPANTS:
            variance, n = blocks * n_units.per_fold / (n_units.per_fold - 1), n_units.free
        else:
            sizes = (n_units.per_fold, n_units.people)
            variance = combine_variances(blocks, people, both, sizes=sizes)
            n = min(n_units.free, n_units.people)
        interval = make_interval(value, variance, n=n)
        stats[name] = ((*dims, "region"), value[..., :-1])
        stats[f"{name}_interval"] = ((*dims, "region", "bound"), interval[..., :-1, :])
        stats[f"overall_{name}"] = (dims, value[..., -1])
        stats[f"overall_{name}_interval"] = ((*dims, "bound"), interval[..., -1, :])
    return stats


def _add_p(stats: xr.Dataset, score: np.ndarray, null: np.ndarray) -> xr.Dataset:
    """Add p-values of each model's gain over the nuisance; NaN for the nuisance itself."""
    mean = score.mean(axis=1)
    gain = mean - mean[0]
    p = compute_p(_with_mean(gain), _with_mean(null))
    p[0] = np.nan
    stats["p"] = (("model", "region"), p[:, :-1])
    stats["p_fdr"] = (("model", "region"), np.stack([adjust_p(row) for row in p[:, :-1]]))
    stats["overall_p"] = (("model",), p[:, -1])
    return stats


def _add_choices(
    stats: xr.Dataset, ladder: Ladder, fits: list[PersonFit], layers: dict[str, list[str]]
) -> xr.Dataset:
    """Add how often each layer was chosen, and how often the penalty was at the grid's edge."""
    alpha = np.stack([f.alpha for f in fits])  # (person, model, fold, region)
    candidate = np.stack([f.candidate for f in fits])
    names = list(dict.fromkeys(n for own in layers.values() for n in own))
    share = np.full((len(ladder.models), len(names)), np.nan)
    for m, own in enumerate(layers.values(), start=1):
        for k, name in enumerate(own):
            share[m, names.index(name)] = (candidate[:, m] == k).mean()
    stats = stats.assign_coords(layer=names)
    stats["layer_share"] = (("model", "layer"), share)
    for name, edge in (("alpha_lowest", 0), ("alpha_highest", len(ladder.alphas) - 1)):
        at_edge = (alpha == edge).mean(axis=(0, 2, 3))
        at_edge[0] = np.nan
        stats[name] = (("model",), at_edge)
    sizes = [np.nan, *(np.mean([x.shape[1] for x in sets]) for sets in ladder.rungs)]
    stats["n_features"] = (("model",), sizes)
    return stats


def _describe_intervals(params: dict, n_people: int) -> str:
    what = "stimuli" if params["order"] == "iid" else "blocks of time"
    if params["target"] == "group":
        return f"{what} (one group mean, so nothing is said of other people)"
    if n_people < MIN_PARTICIPANTS:
        return f"{what} (with {n_people} people nothing is said of others)"
    return f"{what} and participants"
