"""Persistent homology of RDMs: pieces, loops and voids, as results with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.topology import persistence
from netphys.core.topology.persistence import FILTRATIONS, scale_filtration
from netphys.data.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCALE_WORDS = {
    "density": "fraction of pairs joined",
    "max": "fraction of the largest dissimilarity",
}
DEGREE_WORDS = ("pieces", "loops", "voids")


class _Homology(Result):
    """What results of persistent homology share."""

    citations: ClassVar[tuple[str, ...]] = ("edelsbrunner2002",)

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite."""
        keys = super().get_citations()
        keys += ("bauer2021ripser", "tralie2018") if self.params["max_dim"] else ()
        return keys + (("giusti2015",) if self.params["scale"] == "density" else ())

    def describe_methods(self) -> str:
        """Return one paragraph on how homology was computed."""
        p = self.params
        words = {
            "density": "the fraction of pairs that are at most as far apart [giusti2015]",
            "max": "fractions of the largest",
            "value": "they are",
        }
        holes = [*DEGREE_WORDS, *(f"H{k}" for k in range(3, 99))][: p["max_dim"] + 1]
        *first, last = map(str, range(p["max_dim"] + 1))
        text = (
            f"Vietoris-Rips filtrations of the dissimilarities between {p['n_conditions']} "
            f"conditions, taken as {words[p['scale']]}, gave persistent homology of degree "
            f"{', '.join(first)}{' and ' if first else ''}{last} ({', '.join(holes)}) "
            "[edelsbrunner2002]; degree 0 was read from the minimum spanning tree"
        )
        text += ", the rest computed with Ripser [bauer2021ripser, tralie2018]" * bool(p["max_dim"])
        if p["threshold"] is not None:
            text += f". Pairs beyond {p['threshold']:g} were never joined"
        return f"{text}."


@dataclass(frozen=True, eq=False, repr=False)
class Persistence(_Homology):
    """Births and deaths; `data` has dims (degree, hole, bound, ...), padded with NaN.

    In `stats`, for each degree: `n_holes`, `total` (sum of finite lifetimes), `longest` (the
    longest finite one) and `entropy` (nats). What never dies has an infinite death.
    """

    def summary(self) -> str:
        """Return numbers of holes and lifetimes as text for a terminal.

        Returns
        -------
        text : str
            A line, and a table.
        """
        p = self.params
        table = self.stats.to_dataframe().reset_index()
        head = f"persistent homology of {p['n_conditions']} conditions, unit: {_name_unit(self)}"
        return f"{head}\n{table.to_string(index=False, float_format='%.3f')}"

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per hole.

        Returns
        -------
        table : DataFrame
            Columns of the dims, birth and death.
        """
        sides = self.data.to_dataset("bound").to_dataframe().reset_index()
        return sides[sides["birth"].notna()].reset_index(drop=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the persistence diagram of one RDM.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If there are several RDMs.
        """
        from netphys._draw.topology import draw_diagram

        extra = [d for d in self.data.dims if d not in ("degree", "hole", "bound")]
        if several := [d for d in extra if self.data.sizes[d] > 1]:
            raise ValueError(
                f"This result has {self.data.sizes[several[0]]} diagrams along {several[0]!r}. "
                f"Draw one: compute it from rdm.select({several[0]}=...)."
            )
        values = self.data.squeeze(extra).transpose("degree", "hole", "bound").to_numpy()
        diagrams = [d[~np.isnan(d[:, 0])] for d in values]
        title = f"n = {self.params['n_conditions']} conditions"
        return draw_diagram(diagrams, unit=_name_unit(self), title=title, ax=ax)


@dataclass(frozen=True, eq=False, repr=False)
class BettiCurves(_Homology):
    """Numbers of holes at each threshold; `data` has dims (degree, threshold, ...)."""

    def summary(self) -> str:
        """Return the largest Betti numbers as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        p = self.params
        lines = [
            f"Betti curves of {p['n_conditions']} conditions at {self.data.sizes['threshold']} "
            f"thresholds ({_name_unit(self)})"
        ]
        for degree in self.data["degree"].to_numpy().tolist():
            found = self.data.sel(degree=degree)
            lines.append(f"degree {degree}: up to {int(found.max())}")
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curves, a colour per RDM and a line style per degree.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If RDMs have more than one other dim.
        """
        from netphys._draw.topology import draw_betti

        extra = [d for d in self.data.dims if d not in ("degree", "threshold")]
        several = [d for d in extra if self.data.sizes[d] > 1]
        if len(several) > 1:
            raise ValueError(
                f"These curves have dims {tuple(several)}. Draw them along one: compute them from "
                f"rdm.select({several[0]}=...)."
            )
        data = self.data.squeeze([d for d in extra if d not in several])
        data = data.transpose("degree", *several, "threshold")
        curves = data.to_numpy().reshape(data.sizes["degree"], -1, data.sizes["threshold"])
        labels = [f"{v}" for v in data[several[0]].to_numpy()] if several else [""]
        return draw_betti(
            data["threshold"].to_numpy(),
            curves,
            labels=labels,
            degrees=data["degree"].to_numpy().tolist(),
            unit=_name_unit(self),
            title=f"n = {self.params['n_conditions']} conditions",
            ax=ax,
        )


def compute_persistence(
    rdm: RDM, *, max_dim: int = 1, scale: str = "density", threshold: float | None = None
) -> Persistence:
    """Compute when pieces, loops and voids of each RDM are born and die.

    Parameters
    ----------
    rdm : RDM
        Dissimilarities, all of them known; negative ones count as 0. Other dims are kept.
    max_dim : int
        Highest degree: 0 (pieces), 1 (loops; needs the extra `topology`), 2 (voids).
    scale : str
        Unit of births and deaths: "density" (fraction of pairs at most as far apart), "max"
        (fraction of the largest dissimilarity) or "value" (that of the RDM).
    threshold : float, optional
        Where the filtration ends, in that unit: what is alive there never dies.

    Returns
    -------
    persistence : Persistence
        Births and deaths, and for each degree their total, longest and entropy.

    Raises
    ------
    ValueError
        If dissimilarities are unknown, or there are too many conditions for the degree (500 for 1,
        200 for 2) without a threshold.
    ImportError
        If ripser is missing and `max_dim` is above 0.

    Notes
    -----
    A description, not a test: how many loops noise alone makes is for a null to say, such as RDMs
    of shuffled activity or of an untrained twin.

    References
    ----------
    .. [1] Edelsbrunner H, Letscher D, Zomorodian A (2002). Discrete Comput Geom 28:511-533.
       doi:10.1007/s00454-002-2885-2
    .. [2] Bauer U (2021). J Appl Comput Topol 5:391-423. doi:10.1007/s41468-021-00071-5

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([1.0, 3.0, 2.0]), conditions=["a", "b", "c"])
    >>> result = compute_persistence(rdm, max_dim=0, scale="value")
    >>> result.data.sel(degree=0, bound="death").to_numpy()
    array([ 1.,  2., inf])
    """
    found, dims, shape, coords, params = _compute_diagrams(rdm, max_dim, scale, threshold)
    most = max(len(diagram) for diagrams in found for diagram in diagrams)
    padded = np.full((len(found), max_dim + 1, most, 2), np.nan)
    stats = {k: np.zeros((max_dim + 1, len(found))) for k in ("total", "longest", "entropy")}
    stats["n_holes"] = np.zeros((max_dim + 1, len(found)), int)
    for k, diagrams in enumerate(found):
        for degree, diagram in enumerate(diagrams):
            padded[k, degree, : len(diagram)] = diagram
            life = np.diff(diagram, axis=1)
            stats["longest"][degree, k] = max(life[np.isfinite(life)], default=0.0)
            stats["total"][degree, k] = persistence.compute_total_persistence(diagram)
            stats["entropy"][degree, k] = persistence.compute_entropy(diagram)
            stats["n_holes"][degree, k] = len(diagram)
    coords = {"degree": np.arange(max_dim + 1), **coords}
    stats = {k: (("degree", *dims), v.reshape(-1, *shape)) for k, v in stats.items()}
    values = padded.reshape(*shape, max_dim + 1, most, 2)
    data = xr.DataArray(
        values,
        {**coords, "bound": ["birth", "death"]},
        (*dims, "degree", "hole", "bound"),
        name="persistence",
        attrs={"units": params["units"]},
    ).transpose("degree", "hole", "bound", *dims)
    return Persistence(data, xr.Dataset(stats, coords), None, params, dict(rdm.provenance))


def compute_betti(
    rdm: RDM,
    *,
    max_dim: int = 0,
    scale: str = "density",
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> BettiCurves:
    """Count pieces, loops and voids of each RDM at each threshold.

    Parameters
    ----------
    rdm : RDM
        Dissimilarities, all of them known; negative ones count as 0. Other dims are kept.
    max_dim : int
        Highest degree: 0 (pieces, from the minimum spanning tree), 1 (loops; needs the extra
        `topology`), 2 (voids).
    scale : str
        Unit of the thresholds: "density" (fraction of pairs joined), "max" (fraction of the
        largest dissimilarity) or "value" (that of the RDM).
    thresholds : sequence of float, optional
        Ascending, in that unit. Left out: 101 from 0 to the largest dissimilarity.

    Returns
    -------
    betti : BettiCurves
        Whole numbers, dims (degree, threshold, ...).

    Raises
    ------
    ValueError
        As `compute_persistence`, or if thresholds do not ascend.
    ImportError
        If ripser is missing and `max_dim` is above 0.

    References
    ----------
    .. [1] Giusti C, Pastalkova E, Curto C, Itskov V (2015). PNAS 112:13455-13460.
       doi:10.1073/pnas.1506407112

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([1.0, 3.0, 2.0]), conditions=["a", "b", "c"])
    >>> compute_betti(rdm, scale="value", thresholds=[0, 1, 2]).data.to_numpy()
    array([[3, 2, 1]])
    """
    if thresholds is not None:
        thresholds = np.asarray(thresholds, np.float64)
        if thresholds.ndim != 1 or not len(thresholds) or not (np.diff(thresholds) > 0).all():
            raise ValueError(
                f"thresholds has shape {thresholds.shape} or does not ascend. Give one ascending "
                "list of numbers."
            )
    found, dims, shape, coords, params = _compute_diagrams(rdm, max_dim, scale, None)
    if thresholds is None:
        largest = float(np.nanmax(rdm.data)) if scale == "value" else 1.0
        thresholds = np.linspace(0, max(largest, 0.0), 101)
    curves = np.array(
        [[persistence.compute_betti(d, thresholds=thresholds) for d in ds] for ds in found]
    ).reshape(*shape, max_dim + 1, len(thresholds))
    attrs = {"units": "number of holes"}
    coords = {"degree": np.arange(max_dim + 1), "threshold": thresholds, **coords}
    data = xr.DataArray(curves, coords, (*dims, "degree", "threshold"), name="betti", attrs=attrs)
    data = data.transpose("degree", "threshold", *dims)
    return BettiCurves(data, xr.Dataset(), None, params, dict(rdm.provenance))


def _compute_diagrams(
    rdm: RDM, max_dim: int, scale: str, threshold: float | None
) -> tuple[list[list[np.ndarray]], list[str], list[int], dict, dict]:
    """Return the diagrams of every RDM, its other dims with sizes and labels, and parameters."""
    check_type("rdm", rdm, RDM, "an RDM, as compute_rdm returns")
    check_option("scale", scale, FILTRATIONS)
    dims = list(rdm.extra_dims)
    shape = [rdm.data.sizes[d] for d in dims]
    n = len(rdm.conditions)
    matrices = rdm.data.transpose(*dims, *PAIR).to_numpy()
    negative = int((matrices < 0).sum()) // 2
    scaled = scale_filtration(matrices, scale=scale).reshape(-1, n, n)
    options = {"max_dim": max_dim, "threshold": threshold}
    found = [persistence.compute_persistence(m, **options) for m in scaled]
    coords = {k: v for k, v in rdm.data.coords.items() if v.dims and set(v.dims) <= set(dims)}
    units = SCALE_WORDS.get(scale, str(rdm.data.attrs.get("units", "dissimilarity")))
    params = {**options, "scale": scale, "units": units}
    params |= {"n_conditions": n, "n_negative": negative}
    return found, dims, shape, coords, params


def _name_unit(result: Result) -> str:
    return str(result.params["units"])
