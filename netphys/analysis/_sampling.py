"""Of what the data of an evaluation are a sample, and whether there is enough of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netphys._check import check_option
from netphys.core.resample import MIN_PARTICIPANTS, MIN_SEEDS, MIN_STIMULI
from netphys.core.square import count_conditions

FACTORS = ("stimuli", "participants", "seeds")
MIN_BLOCKS = 10  # of ordered stimuli
PLATEAU = 0.9  # share of the rise of dissimilarity with distance in time that ends a block


@dataclass(frozen=True)
class Sampling:
    """Factors that are sampled, their sizes, and why others are not."""

    factors: tuple[str, ...]
    sizes: dict[str, int]
    n_stimuli: int
    n_people: int
    block: int
    n_bootstraps: int
    reasons: dict[str, str]

    @property
    def dof(self) -> int:
        """Degrees of freedom: those of the smallest factor."""
        return min((self.sizes[f] for f in self.factors), default=2) - 1

    def describe(self) -> dict[str, object]:
        """Return what a result says of it."""
        sampled = {
            "stimuli": f"stimuli like these {self.n_stimuli}",
            "participants": f"participants like these {self.n_people}",
            "seeds": f"other seeds (at least {self.sizes.get('seeds')})",
        }
        fixed = {
            "stimuli": f"these {self.n_stimuli} stimuli",
            "participants": "this participant"
            if self.n_people == 1
            else f"these {self.n_people} participants",
        }
        words = [sampled[f] if f in self.factors else fixed[f] for f in FACTORS[:2]]
        words += [sampled["seeds"]] if "seeds" in self.factors else []
        interval = "left out: nothing is sampled"
        if self.factors:
            interval = f"95 % t interval, {self.dof} degrees of freedom"
        return {
            "generalize": list(self.factors),
            "holds_for": f"{', '.join(words[:-1])} and {words[-1]}",
            "not_sampled": self.reasons,
            "block": self.block,
            "interval": interval,
        }


def find_sampling(
    given: Sequence[str] | None,
    target: np.ndarray,
    seeds: Sequence[int],
    order: str,
    n_bootstraps: int,
) -> Sampling:
    """Return what is sampled; raise where a factor is asked for that there is too little of.

    `target` has axes (..., participant, pair).
    """
    n_people = target.shape[-2]
    n = count_conditions(target.shape[-1])
    block = find_block(target.reshape(-1, target.shape[-1]), n) if order == "ordered" else 1
    n_blocks = -(-n // block)
    sizes = {"stimuli": n_blocks, "participants": n_people, "seeds": min(seeds, default=1)}
    lowest = {"stimuli": MIN_STIMULI, "participants": MIN_PARTICIPANTS, "seeds": MIN_SEEDS}
    units = {"stimuli": "stimuli", "participants": "participants", "seeds": "seeds"}
    if order == "ordered":
        lowest["stimuli"], units["stimuli"] = MIN_BLOCKS, f"blocks of {block} stimuli"
    reasons = {
        f: f"{sizes[f]} {units[f]} are fewer than {lowest[f]}"
        for f in FACTORS
        if sizes[f] < lowest[f]
    }
    if not seeds:
        reasons["seeds"] = "no model has several"
    if n_bootstraps == 0:
        reasons |= {f: "n_bootstraps=0" for f in FACTORS[:2]}
    if given is None:
        factors = tuple(f for f in FACTORS if f not in reasons)
    else:
        given = (given,) if isinstance(given, str) else tuple(given)
        for factor in given:
            check_option("generalize", factor, FACTORS)
            if factor in reasons:
                raise ValueError(
                    f"generalize names {factor!r}: {reasons[factor]}. Leave it out; the result "
                    "then holds for these alone."
                )
        factors = tuple(f for f in FACTORS if f in given)
        reasons |= {f: "not asked for" for f in FACTORS if f not in given and f not in reasons}
    return Sampling(factors, sizes, n, n_people, block, n_bootstraps, reasons)


def find_block(rows: np.ndarray, n: int) -> int:
    """Return how many ordered conditions make up a block of a bootstrap.

    Twice the distance in time at which the mean dissimilarity has risen to 90 % of that between
    conditions far apart.
    """
    i, j = np.triu_indices(n, 1)
    mean = rows.mean(axis=0)
    by_lag = np.bincount(j - i, mean, minlength=n)[1:] / np.arange(n - 1, 0, -1)
    plateau = by_lag[n // 2 :].mean()
    rise = plateau - by_lag[0]
    if not rise > 0:
        return 2
    return min(2 * (1 + int(np.argmax(by_lag >= by_lag[0] + PLATEAU * rise))), n)
