"""Dissimilarities between the activity patterns of conditions, and the noise they are seen in."""

from netphys.core.distance.plain import compute_distances

__all__ = ["compute_distances"]
