"""Topological representational similarity analysis (tRSA) of RDMs.

`compute_rgtm` and `compute_rgdm` turn RDMs into descriptors between geometry and topology,
`identify` asks whether descriptors tell regions or layers apart in new subjects,
`compute_dependence` tests whether two RDMs share anything at any thresholds, and
`compute_persistence` and `compute_betti` describe an RDM by its pieces and loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import xarray as xr

from netphys._check import check_type
from netphys.analysis.dependence import Dependence, compute_dependence
from netphys.analysis.identification import Identification, identify
from netphys.analysis.persistence import (
    BettiCurves,
    Persistence,
    compute_betti,
    compute_persistence,
)
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.topology import geodesic, transform
from netphys.core.topology.transform import make_grid

__all__ = [
    "BettiCurves",
    "Dependence",
    "Identification",
    "Persistence",
    "TransformedRDM",
    "compute_betti",
    "compute_dependence",
    "compute_persistence",
    "compute_rgdm",
    "compute_rgtm",
    "identify",
    "make_grid",
]

SCALE_WORDS = {
    "rank": "ranks within each RDM, scaled from 0 to 1",
    "quantile": "quantiles of each RDM",
    "value": "the unit of the dissimilarities",
}
GRAPH_WORDS = {
    "threshold": "edges below the upper threshold",
    "nearest": "edges between each condition and its {n_neighbours} nearest",
    "shortest": "the {fraction:.0%} shortest edges",
}
UNREACHABLE_WORDS = {
    "rank": "path lengths were ranked, pairs without a path last",
    "max": "pairs without a path got the longest path plus 1",
    "nan": "pairs without a path were unknown",
}


@dataclass(frozen=True, eq=False, repr=False)
class TransformedRDM(RDM):
    """RDM that was transformed; ``params["transforms"]`` lists what was done, in order."""

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "lin2024trsa")

    def select(self, **labels: object) -> Self:
        """Return part of the matrices, by label.

        Parameters
        ----------
        **labels : str or list of str
            As in `RDM.select`.

        Returns
        -------
        rdm : TransformedRDM
            With what was picked.
        """
        rdm = super().select(**labels)
        return type(self)(rdm.data, rdm.stats, None, rdm.params, rdm.provenance)

    def summary(self) -> str:
        """Return what the matrices hold as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        lines = [super().summary()]
        if "n_unreachable" in self.stats and (n := int(self.stats["n_unreachable"].sum())):
            lines.append(f"{n} pairs have no path between them")
        return "\n".join(lines)

    def describe_methods(self) -> str:
        """Return one paragraph on how the matrices were made.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        done = " ".join(_describe_transform(t) for t in self.params["transforms"])
        return f"{super().describe_methods()} {done}"


def compute_rgtm(rdm: RDM, *, lower: float, upper: float, scale: str = "rank") -> TransformedRDM:
    """Compute representational geo-topological matrices: RDMs between two thresholds.

    Parameters
    ----------
    rdm : RDM
        Dissimilarities; each matrix is transformed by itself, other dims are kept.
    lower, upper : float
        Thresholds l <= u: dissimilarities up to l become 0, from u on 1, and (d - l) / (u - l) in
        between; l = u makes the graph of neighbours (0 up to l, 1 above).
    scale : str
        What thresholds and values refer to: "rank" (ranks within the RDM, scaled from 0 to 1),
        "quantile" (dissimilarities, thresholds at quantiles of the RDM) or "value".

    Returns
    -------
    rgtm : TransformedRDM
        From 0 to 1, unitless; the RDM that was given stays as it is.

    Raises
    ------
    ValueError
        If l > u, or thresholds of ranks or quantiles leave 0 to 1.

    Notes
    -----
    Unknown (NaN) dissimilarities stay NaN.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([1.0, 2.0, 3.0]), conditions=["a", "b", "c"])
    >>> compute_rgtm(rdm, lower=1, upper=2, scale="value").data.to_numpy()
    array([[0., 0., 1.],
           [0., 0., 1.],
           [1., 1., 0.]])
    """
    check_type("rdm", rdm, RDM, "an RDM, as compute_rdm returns")
    values = transform.compute_rgtm(_stack(rdm), lower=lower, upper=upper, scale=scale)
    facts = {"kind": "rgtm", "lower": float(lower), "upper": float(upper), "scale": scale}
    return _wrap(rdm, values, facts, units="geo-topological dissimilarity (0 to 1)")


def compute_rgdm(
    rdm: RDM,
    *,
    lower: float,
    upper: float,
    scale: str = "rank",
    graph: str = "threshold",
    n_neighbours: int | None = None,
    fraction: float | None = None,
    unreachable: str = "rank",
) -> TransformedRDM:
    """Compute representational geodesic dissimilarity matrices: paths through near conditions.

    Parameters
    ----------
    rdm : RDM
        Dissimilarities; each matrix is transformed by itself, other dims are kept.
    lower, upper, scale : float, float, str
        As in `compute_rgtm`, whose values are the lengths of the edges.
    graph : str
        Which edges there are: "threshold" (all of a length below 1), "nearest" (between a condition
        and its `n_neighbours` nearest, seen from either), or "shortest" (the `fraction` of all
        pairs with the smallest dissimilarities).
    n_neighbours : int, optional
        For "nearest".
    fraction : float, optional
        For "shortest", above 0 and up to 1.
    unreachable : str
        What pairs get that no path joins: "rank" (path lengths become ranks, unreachable pairs are
        tied at the last), "max" (the longest path plus 1), or "nan".

    Returns
    -------
    rgdm : TransformedRDM
        Ranks of path lengths, or path lengths; ``stats["n_unreachable"]`` counts pairs without a
        path.

    Raises
    ------
    ValueError
        As `compute_rgtm`; or if an option of a graph is missing, out of range or has no part in
        the graph.

    Notes
    -----
    Edges of length 0 are kept: pairs up to `lower` apart are at distance 0. Pairs of equal
    dissimilarity are neighbours together or not at all. Unknown (NaN) pairs make no edge and stay
    NaN.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([1.0, 3.0, 2.0]), conditions=["a", "b", "c"])
    >>> options = {"lower": 0, "upper": 3, "scale": "value", "unreachable": "max"}
    >>> compute_rgdm(rdm, **options).data.round(2).to_numpy()[0]
    array([0.  , 0.33, 1.  ])
    """
    check_type("rdm", rdm, RDM, "an RDM, as compute_rdm returns")
    options = {"graph": graph, "n_neighbours": n_neighbours, "fraction": fraction}
    paths = geodesic.compute_geodesics(
        _stack(rdm), lower=lower, upper=upper, scale=scale, **options
    )
    values = geodesic.fill_unreachable(paths, unreachable=unreachable)
    facts = {"kind": "rgdm", "lower": float(lower), "upper": float(upper), "scale": scale}
    facts |= {k: v for k, v in options.items() if v is not None}
    facts["unreachable"] = unreachable
    units = "rank of path length" if unreachable == "rank" else "path length"
    lost = np.isinf(paths).sum(axis=(-2, -1)) // 2
    return _wrap(rdm, values, facts, units=units, n_unreachable=(rdm.extra_dims, lost))


def _stack(rdm: RDM) -> np.ndarray:
    """Return matrices (..., condition, condition)."""
    return rdm.data.transpose(*rdm.extra_dims, *PAIR).to_numpy()


def _wrap(
    rdm: RDM, values: np.ndarray, facts: dict, *, units: str, **stats: object
) -> TransformedRDM:
    """Return transformed matrices with the labels and the history of `rdm`."""
    source = rdm.data.transpose(*rdm.extra_dims, *PAIR)
    attrs = {**rdm.data.attrs, "units": units}
    data = xr.DataArray(values, source.coords, source.dims, name="dissimilarity", attrs=attrs)
    labels = {k: v for k, v in source.coords.items() if not set(v.dims) & set(PAIR)}
    kept = rdm.stats.drop_vars("n_unreachable", errors="ignore").assign(stats)
    kept = kept.assign_coords(labels)
    params = dict(rdm.params)
    params["transforms"] = [*params.get("transforms", []), facts]
    return TransformedRDM(data.transpose(*rdm.data.dims), kept, None, params, rdm.provenance)


def _describe_transform(facts: dict) -> str:
    between = (
        f"the thresholds {facts['lower']:g} and {facts['upper']:g} ({SCALE_WORDS[facts['scale']]})"
    )
    if facts["kind"] == "rgtm":
        return (
            "They were transformed into representational geo-topological matrices between "
            f"{between} [lin2024trsa]."
        )
    edges = GRAPH_WORDS[facts["graph"]].format(**facts)
    return (
        "They were transformed into representational geodesic dissimilarity matrices: shortest "
        f"paths over {edges}, with lengths between {between}; "
        f"{UNREACHABLE_WORDS[facts['unreachable']]} [lin2024trsa]."
    )
