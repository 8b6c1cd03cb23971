"""Fourier coefficients of every trial at frequencies of interest, averaged over trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netphys._check import check_type
from netphys.core.online.base import OnlineTable, StateArray, Statistic


@dataclass(frozen=True)
class TagCoefficients(Statistic):
    """Evoked and induced power and phase consistency at given frequencies of the position clock.

    Parameters
    ----------
    frequencies : tuple of float
        In cycles per time unit; with the usual rate of 1 in cycles per position, so that a rhythm
        of one word in four positions is 0.25. From 0 to half the rate.
    rate : float
        Positions per time unit.

    Notes
    -----
    The coefficient of a trial of n samples x at positions p is ``sum(x * exp(-2j pi f p / rate)) /
    n``: for a trial shown and recorded whole, f = k rate / n, it is ``numpy.fft.fft(x)[k] / n``.
    Phases refer to position 0 of what was shown. With m trials: `evoked` is ``|mean(c)| ** 2``,
    `total` is ``mean(|c| ** 2)``, `induced` their difference, `itpc` is ``|mean(c / |c|)|``; noise
    alone gives an evoked power of about total / m and an itpc of about ``sqrt(pi / 4 / m)``, so
    compare with neighbouring frequencies, also given here, or other controls. Trials of different
    length have different spectral leakage. A trial with a value that is not finite is left out
    for that unit and counted in `n_nonfinite`; every other trial counts once whatever its length.
    """

    name: ClassVar[str] = "tag_coefficients"
    frequencies: tuple[float, ...]
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("rate", self.rate, (int, float), "a positive number")
        if not 0 < self.rate < np.inf:
            raise ValueError(f"rate={self.rate!r} is out of range. Give a positive number.")
        given = self.frequencies
        many = isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str)
        values = tuple(float(f) for f in given) if many else (given,)
        for value in values:
            check_type("frequencies", value, (int, float), "numbers")
        if not values or not all(0 <= f <= self.rate / 2 for f in values):
            raise ValueError(
                f"frequencies={given!r}: give at least one, each from 0 to half of "
                f"rate={self.rate!r}."
            )
        object.__setattr__(self, "frequencies", values)

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        shape = (n_units, len(self.frequencies))
        sums = ("real", "imag", "power", "phase_real", "phase_imag")
        return {
            "n": StateArray((n_units,), "int64"),
            "n_nonfinite": StateArray((n_units,), "int64"),
            "n_phase": StateArray(shape, "int64"),
            **{k: StateArray(shape) for k in sums},
        }

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = np.where(state["n"] > 0, state["n"], np.nan)[:, None]
        n_phase = np.where(state["n_phase"] > 0, state["n_phase"], np.nan)
        real, imag, total = (state[k] / n for k in ("real", "imag", "power"))
        evoked = real**2 + imag**2
        columns = {
            "real": real,
            "imag": imag,
            "evoked": evoked,
            "induced": np.maximum(total - evoked, 0),
            "total": total,
            "itpc": np.hypot(state["phase_real"], state["phase_imag"]) / n_phase,
        }
        table = self._table(
            state,
            "unit",
            {
                "n": ((), state["n"]),
                "n_nonfinite": ((), state["n_nonfinite"]),
                **{k: (("freq",), v) for k, v in columns.items()},
            },
            coords={"freq": np.array(self.frequencies)},
        )
        return (table,)
