"""What depends on the token and on the position: sums per token and per place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netphys._check import check_positive, check_type
from netphys.core.online.base import OnlineTable, StateArray, Statistic


@dataclass(frozen=True)
class TokenCounts(Statistic):
    """How often each token occurred, and the mean activation of every unit at it.

    Parameters
    ----------
    tokens : int or tuple of int
        Size of the vocabulary, or the token ids that are told apart.

    Notes
    -----
    A sample with a value that is not finite is left out whole and counted in `n_nonfinite`; tokens
    outside the list are counted in `n_elsewhere`. Sums are float64; the state takes 8 bytes for
    each token and unit, so give a list where vocabulary and site are large.
    """

    name: ClassVar[str] = "token_counts"
    tokens: int | tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.tokens, Sequence) and not isinstance(self.tokens, str):
            for token in self.tokens:
                check_type("tokens", token, (int, np.integer), "whole numbers of at least 0")
            ids = tuple(int(t) for t in self.tokens)
            if not ids or min(ids) < 0 or len(set(ids)) < len(ids):
                raise ValueError(
                    f"tokens={self.tokens!r}: give at least one token id, each once and at least 0."
                )
            object.__setattr__(self, "tokens", ids)
        else:
            check_positive("tokens", self.tokens)

    @property
    def ids(self) -> np.ndarray:
        """Token ids in the order of the table."""
        every = isinstance(self.tokens, int)
        return np.arange(self.tokens) if every else np.array(self.tokens, np.int64)

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return _sum_layout(len(self.ids), n_units)

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        columns = {"token_id": ((), self.ids), **_finish_sums(state)}
        elsewhere = int(state["n_elsewhere"][0])
        return (self._table(state, "token", columns, n_elsewhere=elsewhere),)


@dataclass(frozen=True)
class PositionCounts(Statistic):
    """How often each position occurred, and the mean activation of every unit there.

    Parameters
    ----------
    max_position : int
        Positions from 0 to one less are told apart.

    Notes
    -----
    Positions count in what was shown, special tokens and context included. A sample with a value
    that is not finite is left out whole and counted in `n_nonfinite`; later positions are counted
    in `n_elsewhere`. Sums are float64.
    """

    name: ClassVar[str] = "position_counts"
    max_position: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("max_position", self.max_position)

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return _sum_layout(self.max_position, n_units)

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        columns = {"position": ((), np.arange(self.max_position)), **_finish_sums(state)}
        elsewhere = int(state["n_elsewhere"][0])
        return (self._table(state, "position", columns, n_elsewhere=elsewhere),)


def _sum_layout(n_groups: int, n_units: int) -> dict[str, StateArray]:
    return {
        "n": StateArray((n_groups,), "int64"),
        "sum": StateArray((n_groups, n_units)),
        "n_elsewhere": StateArray((1,), "int64"),
        "n_nonfinite": StateArray((1,), "int64"),
    }


def _finish_sums(state: Mapping[str, np.ndarray]) -> dict:
    n = np.where(state["n"] > 0, state["n"], np.nan)
    return {"n": ((), state["n"]), "mean": (("unit",), state["sum"] / n[:, None])}
