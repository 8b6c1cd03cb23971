"""A map of the conditions: places whose distances resemble their dissimilarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from netphys._check import check_type
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.mds import compute_mds
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class ConditionMap(Result):
    """Places of conditions; `data` has dims (condition, component, ...), `stats` the `stress`."""

    citations: ClassVar[tuple[str, ...]] = ("deleeuw2009",)

    def summary(self) -> str:
        """Return how well the map fits as text for a terminal.

        Returns
        -------
        text : str
            Size and stress.
        """
        stress = np.atleast_1d(self.stats["stress"].to_numpy())
        low, high = stress.min(), stress.max()
        span = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        n, k = self.data.sizes["condition"], self.data.sizes["component"]
        return f"Map of {n} conditions in {k} dimensions, stress {span} (below .1: good)."

    def describe_methods(self) -> str:
        """Return one paragraph on how the map was made.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        return (
            f"{self.data.sizes['condition']} conditions were placed in "
            f"{self.data.sizes['component']} dimensions by metric multidimensional scaling "
            "(stress majorisation from a classical start) [deleeuw2009]. "
            f"{self.summary().rpartition(', ')[2].capitalize()}"
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
        groups: Mapping[str, str] | None = None,
        images: Sequence[np.ndarray] | None = None,
    ) -> Axes:
        """Draw the first two dimensions.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.
        groups : mapping of str to str, optional
            Group of each condition: a colour each.
        images : sequence of ndarray, optional
            A picture per condition, in their order, drawn in its place.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If there are several maps, or groups or images do not fit the conditions.
        """
        from netphys._draw.icons import check_groups, check_images
        from netphys._draw.mds import draw_map

        several = [str(d) for d in self.data.dims if d not in ("condition", "component")]
        if several:
            label = self.data[several[0]].to_numpy().tolist()[0]
            raise ValueError(
                f"There is a map for each {several[0]!r}. Make one of a single RDM: "
                f"rdm.select({several[0]}={label!r})."
            )
        labels = [str(c) for c in self.data["condition"].to_numpy()]
        places = self.data.transpose("condition", "component").to_numpy()[:, :2]
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
        return draw_map(
            places,
            labels,
            groups=check_groups(groups, labels),
            images=check_images(images, labels),
            title=f"n = {len(labels)} conditions, stress {float(self.stats['stress']):.3f}",
            ax=ax,
        )


def compute_map(rdm: RDM, *, n_components: int = 2) -> ConditionMap:
    """Place conditions so that their distances resemble their dissimilarities.

    Parameters
    ----------
    rdm : RDM
        Dissimilarities; other dims are kept, with a map each.
    n_components : int
        Dimensions of the map.

    Returns
    -------
    map : ConditionMap
        `data` has dims (condition, component, ...), in the units of the dissimilarities.

    Raises
    ------
    ValueError
        If there are fewer than three conditions, or one has no known dissimilarity.

    Notes
    -----
    Squared distances are mapped as they are; take their root first for a map of distances.

    References
    ----------
    .. [1] de Leeuw J, Mair P (2009). J Stat Softw 31(3):1-30. doi:10.18637/jss.v031.i03

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> compute_map(to_rdm(np.array([3.0, 4.0, 5.0]), conditions=["a", "b", "c"]))
    Map of 3 conditions in 2 dimensions, stress 0.000 (below .1: good).
    """
    check_type("rdm", rdm, RDM, "an RDM, such as compute_rdm(patterns)")
    extra = list(rdm.extra_dims)
    matrices = rdm.data.transpose(*extra, *PAIR).to_numpy()
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    found = [compute_mds(m, n_components=n_components) for m in flat]
    shape = matrices.shape[:-2]
    places = np.stack([f[0] for f in found]).reshape((*shape, -1, n_components))
    stress = np.array([f[1] for f in found]).reshape(shape)
    kept = {k: v for k, v in rdm.data.coords.items() if not set(PAIR) & set(v.dims)}
    data = xr.DataArray(
        places,
        {**kept, "condition": rdm.conditions},
        (*extra, "condition", "component"),
        name="place",
        attrs={"units": str(rdm.data.attrs.get("units", "dissimilarity"))},
    )
    return ConditionMap(
        data.transpose("condition", "component", ...),
        xr.Dataset({"stress": (extra, stress)}, kept),
        params={"n_components": n_components, "metric": rdm.params.get("metric", "")},
        provenance=dict(rdm.provenance),
    )
