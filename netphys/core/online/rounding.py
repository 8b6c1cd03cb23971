"""What is lost where activations are stored as int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace

from netphys.core.online.base import OnlineTable, State, StateArray, Statistic


@dataclass(frozen=True)
class Int8Error(Statistic):
    """Error of every unit that is stored as int8; kept by ``record(dtype="int8")`` itself.

    Notes
    -----
    `rms_error` and `max_error` are in activation units, over stored minus true values; `n_clipped`
    counts values beyond 127 steps. Rounding alone gives at most half a step.
    """

    name: ClassVar[str] = "int8_error"
    scope: ClassVar[str] = "int8"

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return {
            "n": StateArray((1,), "int64"),
            "n_clipped": StateArray((n_units,), "int64"),
            "sum_squares": StateArray((n_units,)),
            "max_error": StateArray((n_units,)),
        }

    def _merge(self, state: State, other: State) -> None:
        xp = array_namespace(state["max_error"])
        state["max_error"][...] = xp.maximum(state["max_error"], other["max_error"])
        for key in ("n", "n_clipped", "sum_squares"):
            state[key] += other[key]

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = np.where(state["n"] > 0, state["n"], np.nan)
        columns: dict[str, tuple[tuple[str, ...], Any]] = {
            "rms_error": ((), np.sqrt(state["sum_squares"] / n)),
            "max_error": ((), state["max_error"].copy()),
            "n_clipped": ((), state["n_clipped"].copy()),
        }
        return (self._table(state, "unit", columns),)
