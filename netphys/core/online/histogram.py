"""Histograms of every unit: with bins that are given, and with bins that need no range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace

from netphys._check import check_type
from netphys.core.online.base import OnlineTable, State, StateArray, Statistic


@dataclass(frozen=True)
class Histogram(Statistic):
    """Counts of every unit in bins that are the same for all units.

    Parameters
    ----------
    edges : tuple of float
        Ascending; n + 1 edges make n bins.

    Notes
    -----
    A bin holds its lower and not its upper edge; the last one holds both, as in numpy. What lies
    outside is counted in the columns `n_below` and `n_above` (infinities too); NaN in
    `n_nonfinite`. Counts do not depend on the order of samples or on how they are divided.
    """

    name: ClassVar[str] = "histogram"
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.edges, (Sequence, np.ndarray)) or isinstance(self.edges, str):
            raise TypeError(f"edges={self.edges!r} is no sequence. Give ascending bin edges.")
        edges = tuple(float(e) for e in self.edges)
        good = len(edges) > 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        if not good:
            raise ValueError(
                f"edges={edges!r}: give at least two finite numbers, each larger than the last."
            )
        object.__setattr__(self, "edges", edges)

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return {
            "counts": StateArray((n_units, len(self.edges) + 1), "int64"),
            "n_nonfinite": StateArray((n_units,), "int64"),
        }

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        counts = state["counts"]
        columns = {
            "counts": (("bin",), counts[:, 1:-1]),
            "n": ((), counts.sum(1)),
            "n_below": ((), counts[:, 0]),
            "n_above": ((), counts[:, -1]),
            "n_nonfinite": ((), state["n_nonfinite"]),
        }
        coords = {"bin": np.array(self.edges[:-1])}
        return (self._table(state, "unit", columns, coords=coords),)


@dataclass(frozen=True)
class Quantiles(Statistic):
    """Quantiles of every unit, each between bounds that are certain.

    Parameters
    ----------
    q : tuple of float
        Probabilities from 0 to 1.
    bits : int
        Bins per factor of two: ``2 ** bits``. Each of the two samples that a quantile lies between
        is known to ``2 ** -(bits + 1)`` of its size (3.1 % with 4 bits).
    exponents : tuple of int
        (a, b): magnitudes from ``2 ** a`` to ``2 ** b`` are told apart. Below, the error is at most
        ``2 ** a``; above, the bounds reach to the extremum.

    Notes
    -----
    Bins are cut by the leading bits of the floating-point number, as in a histogram of high dynamic
    range, so they need no range beforehand and their counts are the same in any order and division
    of the samples. Columns `quantile`, `low` and `high` have one value for each probability:
    ``numpy.quantile(x, q)`` with its usual interpolation lies within [low, high]. NaN and infinite
    values are left out and counted in `n_nonfinite`. The state takes ``8 * (2 * (b - a) * 2 **
    bits + 3)`` bytes per unit (8 kB with the defaults).

    References
    ----------
    .. [1] Masson C, Rim JE, Lee HK (2019). DDSketch. Proc VLDB Endow 12:2195-2205.
       doi:10.14778/3352063.3352135
    """

    name: ClassVar[str] = "quantiles"
    q: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    bits: int = 4
    exponents: tuple[int, int] = (-16, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        values = (self.q,) if isinstance(self.q, (int, float)) else tuple(self.q)
        values = tuple(float(v) for v in values)
        if not values or not all(0 <= v <= 1 for v in values):
            raise ValueError(f"q={self.q!r}: give at least one probability, each from 0 to 1.")
        object.__setattr__(self, "q", values)
        check_type("bits", self.bits, int, "a whole number from 0 to 12")
        if not 0 <= self.bits <= 12:
            raise ValueError(f"bits={self.bits!r} is out of range. Give 0 to 12.")
        low, high = self.exponents
        if not (isinstance(low, int) and isinstance(high, int) and -1022 <= low < high <= 1023):
            raise ValueError(
                f"exponents={self.exponents!r}: give two whole numbers, the lower first, between "
                "-1022 and 1023."
            )
        object.__setattr__(self, "exponents", (low, high))

    @property
    def n_steps(self) -> int:
        """Bins of one sign, but for the one around zero and the one beyond."""
        return (self.exponents[1] - self.exponents[0]) << self.bits

    def find_bins(self, x: Any) -> Any:
        """Return the bin of each value.

        Parameters
        ----------
        x : array of float64
            Finite; numpy or torch.

        Returns
        -------
        bins : array of int64
            0 (below all) ... `n_steps` + 1 (around zero) ... 2 `n_steps` + 2 (above all).
        """
        xp = array_namespace(x)
        cut = 52 - self.bits  # what is left: exponent, then the leading bits of the mantissa
        size = abs(x).view(xp.int64) >> cut
        step = size - ((1023 + self.exponents[0]) << self.bits) + 1
        step = xp.where(step < 0, xp.zeros_like(step), step)
        top = xp.full_like(step, self.n_steps + 1)
        step = xp.where(step > top, top, step)
        return xp.where(x < 0, -step, step) + self.n_steps + 1

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return {
            "counts": StateArray((n_units, 2 * self.n_steps + 3), "int64"),
            "n_nonfinite": StateArray((n_units,), "int64"),
            "min": StateArray((n_units,), fill=np.inf),
            "max": StateArray((n_units,), fill=-np.inf),
        }

    def _merge(self, state: State, other: State) -> None:
        xp = array_namespace(state["min"])
        state["min"][...] = xp.minimum(state["min"], other["min"])
        state["max"][...] = xp.maximum(state["max"], other["max"])
        state["counts"] += other["counts"]
        state["n_nonfinite"] += other["n_nonfinite"]

    def compute_edges(self) -> np.ndarray:
        """Return where bins begin and the last one ends.

        Returns
        -------
        edges : ndarray, shape (n_bins + 1,)
            From minus infinity to infinity.
        """
        step = np.arange(self.n_steps + 1)
        power = self.exponents[0] + (step >> self.bits)
        fraction = 1 + (step & ((1 << self.bits) - 1)) / (1 << self.bits)
        size = np.append(np.ldexp(fraction, power), np.inf)
        return np.concatenate([-size[::-1], size])

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        edges, n_units = self.compute_edges(), len(state["min"])
        found = np.full((3, n_units, len(self.q)), np.nan)
        total = state["counts"].sum(1)
        for unit in np.flatnonzero(total):
            rank = np.array(self.q) * (total[unit] - 1)
            first = np.floor(rank).astype(np.int64)
            last = np.minimum(first + 1, total[unit] - 1)
            part = rank - first
            below = np.cumsum(state["counts"][unit])
            ends = []
            for at in (first, last):
                place = np.searchsorted(below, at, side="right")
                least, most = state["min"][unit], state["max"][unit]
                low = np.where(at == total[unit] - 1, most, np.clip(edges[place], least, most))
                high = np.where(at == 0, least, np.clip(edges[place + 1], least, most))
                ends.append(np.stack([low / 2 + high / 2, low, high]))
            found[:, unit] = ends[0] + part * (ends[1] - ends[0])
        names = ("quantile", "low", "high")
        columns = {k: (("quantile",), v) for k, v in zip(names, found, strict=True)}
        columns = {"n": ((), total), "n_nonfinite": ((), state["n_nonfinite"]), **columns}
        return (self._table(state, "unit", columns, coords={"quantile": np.array(self.q)}),)
