"""Moments and sparseness from running counts, means and central moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace

from netphys._check import check_option, check_type
from netphys.core.online.base import OnlineTable, State, StateArray, Statistic


@dataclass(frozen=True)
class Moments(Statistic):
    """Count, mean, variance and extrema of every unit; with order 4 skewness and kurtosis too.

    Parameters
    ----------
    order : int
        2, or 4 for skewness and kurtosis.

    Notes
    -----
    Central moments are merged as in [1]_ and [2]_ in float64, so a mean that is large against the
    standard deviation costs no digits. NaN and infinite values are left out unit by unit and
    counted in `n_nonfinite`. The variance divides by n (`std` is its root); skewness and kurtosis
    are m3 / m2 ** 1.5 and m4 / m2 ** 2 - 3, NaN for a unit that is constant.

    References
    ----------
    .. [1] Chan TF, Golub GH, LeVeque RJ (1983). Am Stat 37:242-247.
       doi:10.1080/00031305.1983.10483115
    .. [2] Pébay P et al. (2016). Comput Stat 31:1305-1325. doi:10.1007/s00180-015-0637-z
    """

    name: ClassVar[str] = "moments"
    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("order", self.order, (2, 4))

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        shape = (n_units,)
        return {
            "n": StateArray(shape, "int64"),
            "n_nonfinite": StateArray(shape, "int64"),
            **{k: StateArray(shape) for k in ("mean", *(f"m{p}" for p in self.powers))},
            "min": StateArray(shape, fill=np.inf),
            "max": StateArray(shape, fill=-np.inf),
        }

    @property
    def powers(self) -> tuple[int, ...]:
        """Powers of the central sums in the state."""
        return tuple(range(2, self.order + 1))

    def _merge(self, state: State, other: State) -> None:
        xp = array_namespace(state["mean"])
        state["min"][...] = xp.minimum(state["min"], other["min"])
        state["max"][...] = xp.maximum(state["max"], other["max"])
        merge_moments(state, other)
        state["n_nonfinite"] += other["n_nonfinite"]

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = np.where(state["n"] > 0, state["n"], np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = state["m2"] / n
            columns = {
                "n": state["n"],
                "n_nonfinite": state["n_nonfinite"],
                "mean": np.where(state["n"] > 0, state["mean"], np.nan),
                "variance": variance,
                "std": np.sqrt(variance),
            }
            if self.order == 4:
                columns["skewness"] = state["m3"] / n / variance**1.5
                columns["kurtosis"] = state["m4"] / n / variance**2 - 3
        columns["min"] = np.where(state["n"] > 0, state["min"], np.nan)
        columns["max"] = np.where(state["n"] > 0, state["max"], np.nan)
        return (self._table(state, "unit", {k: ((), v) for k, v in columns.items()}),)


@dataclass(frozen=True)
class Sparsity(Statistic):
    """How rarely units respond: zeros, events, dead units, lifetime and population sparseness.

    Parameters
    ----------
    threshold : float
        A unit has an event where its activation is above it; units without any are dead.
    tolerance : float
        Activations of at most this size (either sign) are near zero.

    Notes
    -----
    With r the activation, negative ones counted as 0 (a rate has no sign), a = mean(r)**2 /
    mean(r**2) as in [1]_, and the sparseness is (1 - a) / (1 - 1/n) as in [2]_: 0 where all
    responses are equal, 1 where one alone is above 0, NaN without any response or with n < 2.
    `lifetime` takes the means over the n samples of a unit; population sparseness takes them over
    the n units of a sample, and its mean and standard deviation over samples are among what was
    seen (samples without any response or with a value that is not finite are left out). NaN and
    infinite values are left out unit by unit and counted in `n_nonfinite`.

    References
    ----------
    .. [1] Treves A, Rolls ET (1991). Network 2:371-397. doi:10.1088/0954-898X_2_4_004
    .. [2] Vinje WE, Gallant JL (2000). Science 287:1273-1276. doi:10.1126/science.287.5456.1273
    """

    name: ClassVar[str] = "sparsity"
    threshold: float = 0.0
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("threshold", self.threshold, (int, float), "a number")
        check_type("tolerance", self.tolerance, (int, float), "a number of at least 0")
        if not np.isfinite(self.threshold):
            raise ValueError(f"threshold={self.threshold!r} is not finite. Give a number.")
        if not 0 <= self.tolerance < np.inf:
            raise ValueError(
                f"tolerance={self.tolerance!r} is out of range. Give a number of at least 0."
            )

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        counts = ("n", "n_nonfinite", "n_zero", "n_near_zero", "n_events")
        return {
            **{k: StateArray((n_units,), "int64") for k in counts},
            "mean": StateArray((n_units,)),
            "m2": StateArray((n_units,)),
            "population_n": StateArray((1,), "int64"),
            "population_mean": StateArray((1,)),
            "population_m2": StateArray((1,)),
        }

    def _merge(self, state: State, other: State) -> None:
        merge_moments(state, other)
        merge_moments(state, other, prefix="population_")
        for key in ("n_nonfinite", "n_zero", "n_near_zero", "n_events"):
            state[key] += other[key]

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = np.where(state["n"] > 0, state["n"], np.nan)
        variance = state["m2"] / n
        with np.errstate(invalid="ignore", divide="ignore"):
            # 1 - a, without the difference of two numbers near 1
            share = variance / (variance + state["mean"] ** 2)
            lifetime = np.where(n > 1, share / (1 - 1 / n), np.nan)
        columns = {
            "n": state["n"],
            "n_nonfinite": state["n_nonfinite"],
            "n_events": state["n_events"],
            "dead": (state["n_events"] == 0) & (state["n"] > 0),
            "zero": state["n_zero"] / n,
            "near_zero": state["n_near_zero"] / n,
            "active": state["n_events"] / n,
            "lifetime": lifetime,
        }
        count = int(state["population_n"][0])
        spread = float(np.sqrt(state["population_m2"][0] / count)) if count else None
        table = self._table(
            state,
            "unit",
            {k: ((), v) for k, v in columns.items()},
            n_dead=int(columns["dead"].sum()),
            population_n=count,
            population_mean=float(state["population_mean"][0]) if count else None,
            population_std=spread,
        )
        return (table,)


@dataclass(frozen=True)
class Surprisal(Statistic):
    """Moments of surprisal, entropy and rank over all words, when they are not stored.

    Notes
    -----
    The "units" are surprisal and entropy in bits, and rank. Words without a value (the first of a
    text that nothing precedes) are left out and counted in `n_nonfinite`.
    """

    name: ClassVar[str] = "surprisal"
    scope: ClassVar[str] = "logits"

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return Moments()._layout(3, 0)

    def _merge(self, state: State, other: State) -> None:
        Moments()._merge(state, other)

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        columns = Moments().finish(state)[0].columns
        coords = {"unit": np.array(["surprisal", "entropy", "rank"], object)}
        return (
            self._table(state, "unit", {k: ((), v) for k, v in columns.items()}, coords=coords),
        )


def merge_moments(state: State, other: Mapping[str, Any], *, prefix: str = "") -> None:
    """Merge count, mean and the central sums that are there (m2, or m2 to m4).

    Parameters
    ----------
    state : dict of str to array
        Changed in place; numpy or torch.
    other : dict of str to array
        Same names and shapes.
    prefix : str
        Before each name.
    """
    n, mean, m2, m3, m4 = (prefix + k for k in ("n", "mean", "m2", "m3", "m4"))
    xp = array_namespace(state[mean])
    a, b = (xp.astype(s[n], xp.float64) for s in (state, other))
    total = xp.where(a + b > 0, a + b, xp.ones_like(a))
    delta = other[mean] - state[mean]
    step = delta / total
    if m4 in state:
        state[m4] += (
            other[m4]
            + delta * step**3 * a * b * (a * a - a * b + b * b)
            + 6 * step**2 * (a * a * other[m2] + b * b * state[m2])
            + 4 * step * (a * other[m3] - b * state[m3])
        )
        state[m3] += (
            other[m3]
            + delta * step**2 * a * b * (a - b)
            + 3 * step * (a * other[m2] - b * state[m2])
        )
    state[m2] += other[m2] + delta * step * a * b
    state[mean] += step * b
    state[n] += other[n]
