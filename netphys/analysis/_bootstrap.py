"""Bootstrap of an evaluation: stimuli, participants, or both, and the covariance that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netphys.core.resample import combine_variances, make_weights

MAX_UNKNOWN = 0.1  # share of draws that may be unknown before a variance is


@dataclass(frozen=True)
class Weights:
    """How often each stimulus and each participant was drawn."""

    stimuli: np.ndarray  # (n_draws, n_stimuli)
    people: np.ndarray  # (n_draws, n_people)

    @classmethod
    def draw(
        cls, n: int, n_people: int, n_draws: int, *, block: int, rng: np.random.Generator
    ) -> Weights:
        """Draw stimuli, in blocks of neighbours where their order is one of time, and people."""
        n_blocks = -(-n // block)
        drawn = make_weights(n_blocks, n_draws, rng=rng)
        stimuli = np.repeat(drawn, block, axis=1)[:, :n]
        return cls(stimuli, make_weights(n_people, n_draws, rng=rng))


class Spread:
    """Covariance of scores and ceiling over draws, per factor that was drawn.

    `draws` has axes (factor, draw, repeat, entry): entries are models, then the lower and the upper
    bound. Factors are stimuli, participants, and both; repeats are assignments to folds.
    """

    def __init__(self, draws: dict[str, np.ndarray], sizes: dict[str, int]):
        self.sizes = sizes
        self.covariance, self.known = {}, np.ones(next(iter(draws.values())).shape[-1], bool)
        for values in draws.values():
            self.known &= np.isfinite(values).all(axis=1).mean(axis=0) >= 1 - MAX_UNKNOWN
        for name, values in draws.items():
            self.covariance[name] = self._compute(values)
        self.draws = {k: v.mean(axis=1) for k, v in draws.items()}

    def _compute(self, values: np.ndarray) -> np.ndarray:
        """Return the covariance of entries, freed of what assignments to folds add to it."""
        n_entries = values.shape[-1]
        out = np.full((n_entries, n_entries), np.nan)
        usable = np.isfinite(values[..., self.known]).all(axis=(1, 2))
        values = values[usable][..., self.known]
        if len(values) < 2 or not self.known.any():
            return out
        mean = np.atleast_2d(np.cov(values.mean(axis=1), rowvar=False))
        c = values.shape[1]
        if c > 1:
            single = np.mean([np.cov(values[:, k], rowvar=False) for k in range(c)], axis=0)
            mean = (c * mean - np.atleast_2d(single)) / (c - 1)
        out[np.ix_(self.known, self.known)] = mean
        return out

    def get_variance(self, contrast: np.ndarray) -> np.ndarray:
        """Return the variance of contrasts (..., entry) of scores and ceiling."""
        parts = {}
        for name, covariance in self.covariance.items():
            used = contrast != 0
            filled = np.nan_to_num(covariance)
            value = np.einsum("...i,ij,...j->...", contrast, filled, contrast)
            unknown = (used & ~self.known).any(axis=-1)
            parts[name] = np.where(unknown, np.nan, np.maximum(value, 0))
        if len(parts) == 1:
            ((name, value),) = parts.items()
            return value * self.sizes[name] / (self.sizes[name] - 1)
        sizes = (self.sizes["stimuli"], self.sizes["participants"])
        return combine_variances(
            parts["stimuli"], parts["participants"], parts["both"], sizes=sizes
        )

    @property
    def dof(self) -> int:
        """Degrees of freedom: those of the smallest factor."""
        return min(self.sizes.values()) - 1

    @property
    def main(self) -> np.ndarray:
        """Draws (draw, entry) of all factors together."""
        return self.draws.get("both", next(iter(self.draws.values())))
