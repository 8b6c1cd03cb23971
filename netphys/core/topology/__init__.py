"""Topology of representations: which conditions are neighbours, whatever the exact distances."""

from netphys.core.topology.dependence import compute_dependence, compute_distance_correlation
from netphys.core.topology.geodesic import (
    compute_geodesics,
    compute_paths,
    compute_rgdm,
    fill_unreachable,
)
from netphys.core.topology.persistence import (
    compute_betti,
    compute_entropy,
    compute_persistence,
    compute_total_persistence,
    compute_tree,
    scale_filtration,
)
from netphys.core.topology.transform import compute_rgtm, make_grid

__all__ = [
    "compute_betti",
    "compute_dependence",
    "compute_distance_correlation",
    "compute_entropy",
    "compute_geodesics",
    "compute_paths",
    "compute_persistence",
    "compute_rgdm",
    "compute_rgtm",
    "compute_total_persistence",
    "compute_tree",
    "fill_unreachable",
    "make_grid",
    "scale_filtration",
]
