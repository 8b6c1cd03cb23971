"""What a match finds: tests, intervals from bootstrap draws, and the twin's place beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from netphys.analysis._candidates import Rows
from netphys.core.compare.weighted import compare_samples, open_engine
from netphys.core.resample import (
    adjust_p,
    combine_variances,
    make_interval,
    make_weights,
)

LEVEL = 0.95


class Findings:
    """Collects statistics with axes (layer, region) and, for intervals, (lower, upper)."""

    def __init__(self, mean: np.ndarray):
        self.by_layer: dict[str, np.ndarray] = {"mean": mean}
        if not np.isfinite(mean).any(axis=0).all():
            raise ValueError(
                "no candidate could be scored: the dissimilarities of every layer are constant. "
                "Check the recorded activations."
            )
        self.best = np.argmax(np.where(np.isfinite(mean), mean, -np.inf), axis=0)

    def measure_seeds(self, rows: Rows, each: np.ndarray) -> None:
        """Add the SD over seeds of the score; `each` has axes (row, region)."""
        if rows.counts.max() < 2:
            return
        starts = np.cumsum(rows.counts) - rows.counts
        runs = [each[s : s + n] for s, n in zip(starts, rows.counts, strict=True)]
        nothing = np.full(each.shape[1:], np.nan)
        self.by_layer["seed_sd"] = np.stack(
            [r.std(axis=0, ddof=1) if len(r) > 1 else nothing for r in runs]
        )

    def add_twin(self, score: np.ndarray) -> None:
        """Add the twin's score and the paired difference."""
        self.by_layer["twin_score"] = score
        self.by_layer["twin_difference"] = self.by_layer["mean"] - score

    def add_intervals(self, full: Sequence[np.ndarray], draws: Draws, n: int) -> None:
        """Add intervals of the mean and of the difference, and how often each was best.

        `full` holds the scores (layer, participant, region) of the models and, where there is one,
        of the twin.
        """
        found = self.by_layer
        size = min(n, full[0].shape[1]) if draws.both is not None else n
        variance = _get_variance(full[0], draws, lambda x: x[0], n)
        found["interval"] = make_interval(found["mean"], variance, n=size, level=LEVEL)
        drawn = (draws.both if draws.both is not None else draws.stimuli)[0]
        winner = np.argmax(np.where(np.isfinite(drawn), drawn, -np.inf), axis=1)
        layers = np.arange(drawn.shape[1])
        found["best_share"] = (winner[:, None, :] == layers[:, None]).mean(axis=0)
        if len(full) > 1:
            variance = _get_variance(full[0] - full[1], draws, lambda x: x[0] - x[1], n)
            difference = found["twin_difference"]
            found["twin_interval"] = make_interval(difference, variance, n=size, level=LEVEL)
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.abs(difference) / np.sqrt(variance)
            found["twin_p"] = 2 * stats.t.sf(t, size - 1)
            found["twin_p_bh"] = np.stack([adjust_p(p) for p in found["twin_p"].T], axis=1)


class Draws:
    """Bootstrap draws of the mean score (draw, layer, region), for the models and the twin."""

    def __init__(self, n_parts: int, shape: tuple[int, ...], *, both: bool):
        self.stimuli = np.empty((n_parts, *shape))
        self.both = np.empty((n_parts, *shape)) if both else None
        self.people: np.ndarray | None = None  # how often each participant was drawn, as shares


def draw_scores(
    parts: Sequence[Rows],
    target: np.ndarray,
    n: int,
    method: str,
    n_draws: int,
    people: bool,
    rng: np.random.Generator,
) -> Draws:
    """Resample stimuli, and participants too if asked, and score every draw.

    `target` has axes (participant, region, pair).
    """
    shape = (n_draws, len(parts[0].counts), target.shape[1])
    draws = Draws(len(parts), shape, both=people)
    weights = make_weights(n, n_draws, rng=rng)
    if people:
        drawn = make_weights(len(target), n_draws, rng=rng)
        draws.people = drawn / len(target)
    rows = np.nan_to_num(np.concatenate([p.values for p in parts]))  # a dead layer is constant
    ends = np.cumsum([len(p.values) for p in parts])[:-1]
    for region in range(target.shape[1]):
        engine = open_engine(rows, target[:, region], method=method)
        each = compare_samples(engine, weights).scores
        for i, values in enumerate(np.split(each.swapaxes(0, 1), ends)):
            score = parts[i].average(values)  # (layer, draw, participant)
            draws.stimuli[i, ..., region] = score.mean(axis=2).T
            if people:
                draws.both[i, ..., region] = np.einsum("ldp,dp->dl", score, draws.people)
    return draws


def _get_variance(full: np.ndarray, draws: Draws, pick: Callable, n: int) -> np.ndarray:
    """Return the variance (layer, region) of the mean over participants of `full`.

    A bootstrap variance is too small by (n - 1) / n.
    """
    stimuli = _compute_variance(pick(draws.stimuli))
    if draws.both is None:
        return stimuli * n / (n - 1)
    people = _compute_variance(np.einsum("lpr,dp->dlr", full, draws.people))
    both = _compute_variance(pick(draws.both))
    return combine_variances(stimuli, people, both, sizes=(n, full.shape[1]))


def _compute_variance(x: np.ndarray) -> np.ndarray:
    """Return the variance over draws, NaN where more than a tenth of them are unknown."""
    known = np.isfinite(x)
    count = known.sum(axis=0)
    x = np.where(known, x, 0.0)
    mean = x.sum(axis=0) / np.maximum(count, 1)
    square = np.where(known, (x - mean) ** 2, 0.0).sum(axis=0)
    return np.where(count >= 0.9 * len(x), square / np.maximum(count - 1, 1), np.nan)
