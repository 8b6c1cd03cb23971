"""Online statistics: what is kept of a stream of samples, as states that merge (numpy only)."""

from netphys.core.online.base import (
    SEEN,
    OnlineTable,
    StateArray,
    Statistic,
    list_statistics,
    make_statistic,
)
from netphys.core.online.counts import PositionCounts, TokenCounts
from netphys.core.online.histogram import Histogram, Quantiles
from netphys.core.online.moments import Moments, Sparsity, Surprisal, merge_moments
from netphys.core.online.products import (
    ConditionRDM,
    CrossCovariance,
    Gram,
    compute_linear_cka,
    merge_products,
)
from netphys.core.online.rounding import Int8Error
from netphys.core.online.tags import TagCoefficients

__all__ = [
    "SEEN",
    "ConditionRDM",
    "CrossCovariance",
    "Gram",
    "Histogram",
    "Int8Error",
    "Moments",
    "OnlineTable",
    "PositionCounts",
    "Quantiles",
    "Sparsity",
    "StateArray",
    "Statistic",
    "Surprisal",
    "TagCoefficients",
    "TokenCounts",
    "compute_linear_cka",
    "list_statistics",
    "make_statistic",
    "merge_moments",
    "merge_products",
]
