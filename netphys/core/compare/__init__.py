"""Similarity of representations: of their RDMs, and of the activity patterns themselves."""

from netphys.core.compare.cca import (
    compare_cca,
    compare_pwcca,
    compare_svcca,
    compute_canonical_correlations,
)
from netphys.core.compare.cka import compare_cka, compute_biased_cka
from netphys.core.compare.matching import (
    align_units,
    compare_units,
    compute_soft_matching_distance,
)
from netphys.core.compare.moments import compare_moments
from netphys.core.compare.neighbours import compare_neighbours
from netphys.core.compare.pairs import compare_pairs, compute_pairs, normalise_pairs
from netphys.core.compare.shape import compare_shapes
from netphys.core.compare.whitened import whiten_pairs

__all__ = [
    "align_units",
    "compare_cca",
    "compare_cka",
    "compare_moments",
    "compare_neighbours",
    "compare_pairs",
    "compare_pwcca",
    "compare_shapes",
    "compare_svcca",
    "compare_units",
    "compute_biased_cka",
    "compute_canonical_correlations",
    "compute_pairs",
    "compute_soft_matching_distance",
    "normalise_pairs",
    "whiten_pairs",
]
