"""Dissimilarities between the activity patterns of conditions, and the noise they are seen in."""

from netphys.core.distance.blocks import DistanceSums
from netphys.core.distance.crossvalidated import compute_crossnobis, compute_poisson_cv
from netphys.core.distance.noise import (
    compute_noise_covariance,
    compute_precision,
    compute_residuals,
)
from netphys.core.distance.plain import compute_distances

__all__ = [
    "DistanceSums",
    "compute_crossnobis",
    "compute_distances",
    "compute_noise_covariance",
    "compute_poisson_cv",
    "compute_precision",
    "compute_residuals",
]
