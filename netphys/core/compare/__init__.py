"""Similarity of representations: of their RDMs, and of the activity patterns themselves."""

from netphys.core.compare.moments import compare_moments
from netphys.core.compare.pairs import compare_pairs, compute_pairs, normalise_pairs
from netphys.core.compare.whitened import whiten_pairs

__all__ = [
    "compare_moments",
    "compare_pairs",
    "compute_pairs",
    "normalise_pairs",
    "whiten_pairs",
]
