"""Scores of models against people, in the whole sample and in draws, with and without folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netphys.analysis._bootstrap import Weights
from netphys.analysis._candidates import Rows
from netphys.core.compare.flexible import compare_mixture, fit_mixture, select_component
from netphys.core.compare.pools import Pools
from netphys.core.compare.weighted import compare_samples, open_engine

MIN_FOLD = 3  # different stimuli in each fold: fewer have no geometry


@dataclass(frozen=True)
class Mixture:
    """A model that is fitted: which of the component rows it mixes, and how."""

    index: np.ndarray
    rule: str


@dataclass(frozen=True)
class Folds:
    """Parts that stimuli and participants are split into, and how often; 1 part: no split."""

    stimuli: int = 1
    people: int = 1
    repeats: int = 1


class Scorer:
    """Compares fixed candidates and fitted mixtures with the RDMs of one target.

    Entries are the candidates of `fixed`, then the mixtures.
    """

    def __init__(
        self,
        fixed: Rows,
        components: np.ndarray,
        mixtures: Sequence[Mixture],
        data: np.ndarray,
        *,
        method: str,
        noise: np.ndarray | None,
        folds: Folds,
    ):
        self.fixed, self.mixtures, self.folds = fixed, mixtures, folds
        n = len(fixed.values)
        rows = np.nan_to_num(np.concatenate([fixed.values, components]))  # dead ones: constant
        mixed = range(n, n + len(components))
        self.engine = open_engine(rows, data, method=method, noise=noise, components=mixed)
        self.n_people = len(data)
        self.n_entries = len(fixed.counts) + len(mixtures)

    def score(self, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (entry, participant) of the whole sample, and the ceiling's bounds.

        Where models are fitted they are means over 10 assignments to folds.
        """
        every = np.ones((1, self.engine.n_conditions))
        people = np.ones((1, 1, self.n_people))
        n_repeats = 10 if self.mixtures else 1
        parts = [self._run(every, people, rng) for _ in range(n_repeats)]
        scores, bounds = (np.mean(p, axis=0)[0, 0] for p in zip(*parts, strict=True))
        return scores, bounds

    def compare_seeds(self) -> np.ndarray:
        """Return scores (row, participant) of every seed of every candidate."""
        every = np.ones((1, self.engine.n_conditions))
        return self.engine.compare(every)[0][0, : len(self.fixed.values)]

    def draw(
        self, weights: Weights, factors: Sequence[str], *, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return draws (draw, repeat, entry + bounds) per factor, and of both together."""
        every = np.ones((len(weights.stimuli), self.n_people))
        found: dict[str, list] = {}
        for _ in range(self.folds.repeats if self.mixtures else 1):
            if "stimuli" in factors:
                drawn = {"stimuli": every}
                drawn |= {"both": weights.people} if "participants" in factors else {}
                people = np.stack([*drawn.values()], axis=1)
                scores, bounds = self._run(weights.stimuli, people, rng)
                for k, (name, own) in enumerate(drawn.items()):
                    found.setdefault(name, []).append(_join(scores[:, k], bounds[:, k], own))
            if "participants" in factors:
                whole = np.ones((1, self.engine.n_conditions))
                scores, bounds = self._run(whole, weights.people[None], rng)
                own = _join(scores[0], bounds[0], weights.people)
                found.setdefault("participants", []).append(own)
        return {k: np.stack(v, axis=1) for k, v in found.items()}

    def _run(
        self, weights: np.ndarray, people: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (sample, draw of people, entry, participant) and bounds (.., .., 2)."""
        if self.mixtures:
            return self._cross(weights, people, rng)
        pools = Pools.make_ceiling(people)
        scores, pooled = compare_samples(self.engine, weights, pools=pools)
        fixed = self._average(scores)[:, None]
        shape = (*people.shape[:2], *fixed.shape[2:])
        return np.broadcast_to(fixed, shape), pools.find_bounds(pooled)

    def _average(self, scores: np.ndarray) -> np.ndarray:
        fixed = scores[:, : len(self.fixed.values)].swapaxes(0, 1)
        return self.fixed.average(fixed).swapaxes(0, 1)

    # ------------------------------------------------------------------ folds
    def refit(self, *, rng: np.random.Generator) -> np.ndarray:
        """Return scores (mixture, participant) of one assignment to folds."""
        every = np.ones((1, self.engine.n_conditions))
        people = np.ones((1, 1, self.n_people))
        scores, _ = self._cross(every, people, rng, ceiling=False)
        return scores[0, 0, len(self.fixed.counts) :]

    def _cross(
        self,
        weights: np.ndarray,
        people: np.ndarray,
        rng: np.random.Generator,
        *,
        ceiling: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit on some stimuli and participants, score on the others; means over all test sets."""
        n_parts, n_groups = self.folds.stimuli, self.folds.people
        places = _split(weights, n_parts, rng=rng)
        persons = _split(np.ones((1, self.n_people)), n_groups, rng=rng)[0]
        n_fixed = len(self.fixed.counts)
        total = np.zeros((*people.shape[:2], self.n_entries, self.n_people))
        bounds = np.zeros((*people.shape[:2], 2))
        pools = _make_pools(people, persons, n_groups) if ceiling else None
        for part in range(n_parts):
            test = np.where(places == part, weights, 0)
            train = weights if n_parts == 1 else weights - test
            scores, pooled = compare_samples(self.engine, test, pools=pools)
            few = (test > 0).sum(axis=1) < MIN_FOLD
            scores[few] = np.nan
            if n_fixed:
                total[:, :, :n_fixed] += self._average(scores)[:, None]
            if pooled is not None:
                pooled[few] = np.nan
                bounds += _read_bounds(pooled, people, persons, n_groups)
            mixed = self._mix(train, test, scores, people, persons, n_groups)
            mixed[few] = np.nan
            total[:, :, n_fixed:] += mixed
        return total / n_parts, bounds / n_parts

    def _mix(
        self,
        train: np.ndarray,
        test: np.ndarray,
        scores: np.ndarray,
        people: np.ndarray,
        persons: np.ndarray,
        n_groups: int,
    ) -> np.ndarray:
        """Return scores (sample, draw of people, mixture, participant), each fitted on others.

        `scores` are those of all rows on the test set.
        """
        groups = persons == np.arange(n_groups)[:, None]
        shown = ~groups if n_groups > 1 else groups
        fitted = people[:, :, None] * shown  # (sample, draw, group, participant)
        flat = fitted.reshape(len(people), -1, self.n_people).astype(np.float64)
        found, trained = [], None
        for mixture in self.mixtures:
            index = mixture.index
            if mixture.rule == "selected":
                rows = self.engine.mixed[index]
                trained = compare_samples(self.engine, train).scores if trained is None else trained
                theta = select_component(trained[:, rows], flat)
                each = np.take_along_axis(scores[:, rows], theta.argmax(axis=-1)[..., None], axis=1)
                each[np.isnan(theta).any(axis=-1)] = np.nan
            else:
                theta = fit_mixture(self.engine, train, flat, index, rule=mixture.rule)
                each = compare_mixture(self.engine, test, index, theta)
            each = each.reshape(fitted.shape)
            found.append(np.where(groups, each, 0.0).sum(axis=2))
        return np.stack(found, axis=2)


def choose_folds(n: int, n_people: int, given: tuple[int, int] | None, *, drawn: bool) -> Folds:
    """Return the folds of fitted models; fewer where a bootstrap draws from few."""
    if given is not None:
        return Folds(*given, repeats=2)
    share = 1 - 1 / np.e if drawn else 1.0  # a sample holds so many different ones
    stimuli = next(f for limit, f in ((12, 2), (24, 3), (40, 4), (np.inf, 5)) if n * share < limit)
    people = 1
    if n_people >= 2:
        steps = ((6, 2), (12, 3), (20, 4), (np.inf, 5))
        people = next(f for limit, f in steps if n_people * share < limit)
    return Folds(stimuli, people, repeats=2)


def _split(weights: np.ndarray, n_parts: int, *, rng: np.random.Generator) -> np.ndarray:
    """Assign things to parts at random (sample, thing), those that were drawn evenly."""
    key = rng.random(weights.shape) - (weights > 0)
    return np.argsort(np.argsort(key, axis=1), axis=1) % n_parts


def _make_pools(people: np.ndarray, persons: np.ndarray, n_parts: int) -> Pools:
    """Return pools of a ceiling over folds: all, and the others of each fold, for its people.

    With one part the ceiling is that of leaving out each participant.
    """
    if n_parts == 1:
        return Pools.make_ceiling(people)
    own = persons == np.arange(n_parts)[:, None]  # (part, person)
    tests = people[:, :, None] * own
    rest = people[:, :, None] * ~own
    every = np.broadcast_to(people[:, :, None], tests.shape)
    weights, tests = np.concatenate([rest, every], axis=2), np.concatenate([tests, tests], axis=2)
    tests = np.where(weights.sum(axis=-1, keepdims=True) > 0, tests, 0.0)
    shape = (len(people), -1, people.shape[-1])
    return Pools(weights.reshape(shape), tests.reshape(shape))


def _read_bounds(
    pooled: np.ndarray, people: np.ndarray, persons: np.ndarray, n_parts: int
) -> np.ndarray:
    if n_parts == 1:
        return Pools.make_ceiling(people).find_bounds(pooled)
    own = persons == np.arange(n_parts)[:, None]
    share = (people[:, :, None] * own).sum(axis=-1)  # (sample, draw, part)
    each = pooled.reshape(*people.shape[:2], 2, n_parts)
    weight = share[:, :, None]
    known = np.where(weight > 0, weight * np.where(weight > 0, each, 0), 0).sum(axis=-1)
    return known / share.sum(axis=-1)[..., None]


def _join(scores: np.ndarray, bounds: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return the means over the people drawn, and the bounds (draw, entry + 2)."""
    mean = np.einsum("nep,np->ne", scores, people / people.sum(axis=1, keepdims=True))
    return np.concatenate([mean, bounds], axis=1)
