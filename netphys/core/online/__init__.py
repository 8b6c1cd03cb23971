"""Online statistics: what is kept of a stream of samples, as states that merge (numpy only)."""

from netphys.core.online.base import (
    SEEN,
    OnlineTable,
    StateArray,
    Statistic,
    list_statistics,
    make_statistic,
)
from netphys.core.online.moments import Moments, Sparsity, Surprisal, merge_moments

__all__ = [
    "SEEN",
    "Moments",
    "OnlineTable",
    "Sparsity",
    "StateArray",
    "Statistic",
    "Surprisal",
    "list_statistics",
    "make_statistic",
    "merge_moments",
]
