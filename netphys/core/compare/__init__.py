"""Similarity of representations: of their RDMs, and of the activity patterns themselves."""

from netphys.core.compare.pairs import compare_pairs, compute_pairs

__all__ = ["compare_pairs", "compute_pairs"]
