"""Adaptive geo-topological dependence of RDMs, with its null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._align import (
    align_rdms,
    check_draws,
    compute_chance_p,
    describe_draws,
    find_order,
    open_rng,
    try_orders,
)
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.topology.dependence import (
    WEIGHTINGS,
    compute_surface,
    draw_surfaces,
    make_cells,
    weigh_surfaces,
)
from netphys.core.topology.transform import check_grid
from netphys.data.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

UNITS = {
    "none": "distance correlation",
    "mean": "distance correlation / mean under the null",
    "sd": "distance correlation (SD of the null)",
}
PLACES = ("lower_a", "upper_a", "lower_b", "upper_b")


@dataclass(frozen=True, eq=False, repr=False)
class Dependence(Result):
    """Largest distance correlation over thresholds; `data` has the extra dims of both RDMs.

    In `stats`: `p`, one-sided, and `p_max`, corrected over the RDMs of the first set by their
    maximum; `expected`, the mean under the null, without which the statistic means nothing; the
    thresholds of the maximum (`lower_a` to `upper_b`); and `surface`, the largest value at each
    pair of thresholds of the first set, over those of the second. `null` holds the draws.
    """

    citations: ClassVar[tuple[str, ...]] = ("lin2018dependence", "szekely2007")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        counted = self.null is not None and self.params["order"] == "iid"
        return (*super().get_citations(), *(("phipson2010",) if counted else ()))

    def summary(self) -> str:
        """Return the statistics with their p-values as text for a terminal.

        Returns
        -------
        text : str
            A line, or a line and a table.
        """
        p = self.params
        head = f"adaptive dependence over {p['n_conditions']} conditions"
        how = p["null"] if self.null is None else f"{p['n_draws']} {describe_draws(p['order'])}"
        if self.data.dims:
            return f"{head} ({how})\n{self.to_frame().to_string(index=False, float_format='%.3f')}"
        tested = ""
        if self.null is not None:
            expected, chance = float(self.stats["expected"]), float(self.stats["p"])
            tested = f", by chance {expected:.3f}, p = {chance:.3g}"
        at = [float(self.stats[k]) for k in PLACES]
        return (
            f"{head}: {float(self.data):.3f}{tested} ({how})\n"
            f"largest at thresholds {at[0]:g} to {at[1]:g} of a, {at[2]:g} to {at[3]:g} of b"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table with the statistics, p-values and thresholds.

        Returns
        -------
        table : DataFrame
            One row per pair of RDMs.
        """
        table = super().to_frame()
        for name in ("expected", "p", "p_max", *PLACES):
            if name in self.stats:
                table[name] = self.stats[name].transpose(*self.data.dims).to_numpy().reshape(-1)
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the statistic over the thresholds of the first RDM, its maximum marked.

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
            If there are several pairs of RDMs.
        """
        from netphys._draw.topology import draw_grid

        if self.data.dims:
            raise ValueError(
                f"This dependence has dims {self.data.dims}. Draw one: compare one RDM of each "
                "dim, rdm.select(layer=...)."
            )
        p, surface = self.params, self.stats["surface"]
        tested = "" if self.null is None else f", p = {float(self.stats['p']):.3g}"
        return draw_grid(
            surface.transpose("grid_lower", "grid_upper").to_numpy(),
            surface["grid_lower"].to_numpy(),
            surface["grid_upper"].to_numpy(),
            chosen=np.array([[float(self.stats["lower_a"]), float(self.stats["upper_a"])]]),
            chosen_label="largest",
            unit=f"{UNITS[p['weighting']]},\nlargest over the thresholds of b",
            scale=p["scale"],
            title=f"largest: {float(self.data):.2f}{tested}\nn = {p['n_conditions']} conditions",
            ax=ax,
        )

    def describe_methods(self) -> str:
        """Return one paragraph on how dependence was tested.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        weighted = {
            "none": "",
            "mean": ", each divided by its mean over draws of the null",
            "sd": ", each in standard deviations of the draws of the null from their mean",
        }[p["weighting"]]
        beyond = ", the mean of each lag taken out," if p["order"] == "ordered" else ""
        text = (
            f"Dependence between dissimilarities of {p['n_conditions']} conditions was measured "
            "by the adaptive geo-topological statistic: the largest distance correlation "
            f"[szekely2007]{beyond} over {len(p['grid'])} pairs of thresholds ({p['scale']}) on "
            f"either side{weighted} [lin2018dependence]."
        )
        if self.null is None:
            return f"{text} No p-values were computed: {p['null']}."
        how = (
            "as (1 + hits) / (1 + draws) [phipson2010]"
            if p["order"] == "iid"
            else "by Student's t for as many draws as the shifts are worth"
        )
        return (
            f"{text} One-sided p-values come from {p['n_draws']} {describe_draws(p['order'])}, "
            f"the maximum taken anew in each, {how}."
        )


def compute_dependence(
    a: RDM,
    b: RDM,
    *,
    grid: np.ndarray | None = None,
    scale: str = "quantile",
    weighting: str = "none",
    order: str | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> Dependence:
    """Test whether two sets of RDMs depend on each other at any pair of thresholds.

    Parameters
    ----------
    a, b : RDM
        Over the same conditions, in any order; their other dims must have different names.
    grid : ndarray, shape (n_cells, 2), optional
        Lower and upper thresholds, for either side; left out: steps of 0.2, lower < upper.
    scale : str
        What thresholds refer to: "quantile", "rank" or "value", as in `compute_rgtm`.
    weighting : str
        How cells of the grid are made comparable before the maximum: "none", "mean" (divided by
        their mean under the null) or "sd" (distance from that mean in SDs of the null); for ordered
        conditions "none".
    order : str
        How conditions were sampled: "iid" (labels are permuted for the null) or "ordered" (in time,
        as `a` lists them: labels are shifted circularly). Left out: what the RDMs say of
        themselves, else "iid".
    n_permutations : int
        Draws under the null hypothesis; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    dependence : Dependence
        `data` has the extra dims of `a` and `b`; `stats` p-values and thresholds; `null` the draws.

    Raises
    ------
    ValueError
        If conditions differ, fewer than four are left, both RDMs have a dim of the same name,
        ordered conditions are declared iid, or a weighting is asked for without draws or for
        ordered conditions.

    Notes
    -----
    The distance correlation of few conditions is far above 0 without any dependence, and its
    maximum over thresholds more so: read it next to ``stats["expected"]``, never alone.

    For ordered conditions the statistic is that of centred distances less the mean of each lag: it
    concerns what two RDMs share beyond distance in time, and shifts count as many draws as they are
    worth. False positives of unrelated series smoothed by 1, 2 and 4 samples, at p <= .05: 6, 8 and
    7 % with 100 conditions, 7, 8 and 12 % with 50; nearly all if their labels were permuted, and up
    to a third with a weighting, since the spread of a cell over few and similar shifts is poorly
    known. Filter out trends before.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2018). arXiv:1810.02923. doi:10.48550/arXiv.1810.02923
    .. [2] Székely GJ, Rizzo ML, Bakirov NK (2007). Ann Stat 35:2769-2794.
       doi:10.1214/009053607000000505

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> a = to_rdm(np.arange(1.0, 22.0), conditions=list("abcdefg"))
    >>> result = compute_dependence(a, a, n_permutations=99, rng=0)
    >>> round(float(result.data), 6), float(result.stats["p"])
    (1.0, 0.01)
    """
    check_type("a", a, RDM, "an RDM")
    check_type("b", b, RDM, "an RDM")
    check_option("weighting", weighting, WEIGHTINGS)
    cells = check_grid(grid, scale, default=6)
    order = find_order(order, a, b)
    if order == "ordered" and weighting != "none":
        raise ValueError(
            f"weighting={weighting!r} is not for ordered conditions: circular shifts are too few "
            "and too similar to tell the spread of each cell. Use weighting='none'."
        )
    check_draws("n_permutations", n_permutations)
    if shared := set(a.extra_dims) & set(b.extra_dims):
        raise ValueError(
            f"a and b both have {', '.join(map(repr, sorted(shared)))}. Pick one label in one of "
            "them with rdm.select(...)."
        )
    aligned, left_out = align_rdms({"a": a, "b": b})
    n = aligned["a"].sizes["condition"]
    generator, seed = open_rng(rng)
    params = {"scale": scale, "weighting": weighting, "order": order, "grid": cells.tolist()}
    params |= {"n_conditions": n, "left_out": left_out, "rng": seed}
    orders, params["null"] = try_orders(n, order, n_permutations, rng=generator)
    params["n_draws"] = 0 if orders is None else len(orders)
    if orders is None and weighting != "none":
        raise ValueError(
            f"weighting={weighting!r} needs draws of the null, and there are none: "
            f"{params['null']}. Use weighting='none'."
        )
    sides = [_make_sides(d, cells, scale, order == "ordered") for d in aligned.values()]
    found = [_measure(x, y, cells, orders, weighting) for x in sides[0] for y in sides[1]]
    origin = {"a": dict(a.provenance), "b": dict(b.provenance)}
    return _collect(found, list(aligned.values()), cells, params, origin)


def _make_sides(data: xr.DataArray, cells: np.ndarray, scale: str, lags: bool) -> list[np.ndarray]:
    """Return the transformed cells of every matrix; NaN where a matrix is unknown."""
    n = data.sizes["condition"]
    dims = [d for d in data.dims if d not in PAIR]
    sides = []
    for matrix in data.transpose(*dims, *PAIR).to_numpy().reshape(-1, n, n):
        if np.isnan(matrix[np.triu_indices(n, 1)]).any():
            sides.append(np.full((len(cells), n * (n + 1) // 2), np.nan))
        else:
            sides.append(make_cells(matrix, grid=cells, scale=scale, remove_lags=lags))
    return sides


def _measure(
    a: np.ndarray, b: np.ndarray, cells: np.ndarray, orders: np.ndarray | None, weighting: str
) -> dict[str, np.ndarray]:
    """Return statistic, thresholds, surface over those of `a`, and null of one pair of RDMs."""
    surface = compute_surface(a, b)
    draws = np.empty((0, *surface.shape))
    if orders is not None:
        draws = draw_surfaces(a, b, orders=orders)
        surface, draws = weigh_surfaces(surface, draws, weighting=weighting)
    if np.isnan(surface).any():
        nothing = np.full(len(draws), np.nan)
        at = np.full(4, np.nan)
        return {"data": np.nan, "at": at, "surface": surface[:, 0], "null": nothing}
    i, j = np.unravel_index(surface.argmax(), surface.shape)
    null = draws.max(axis=(1, 2)) if len(draws) else np.empty(0)
    at = np.concatenate([cells[i], cells[j]])
    return {"data": surface[i, j], "at": at, "surface": surface.max(axis=1), "null": null}


def _collect(
    found: list[dict[str, np.ndarray]],
    sides: list[xr.DataArray],
    cells: np.ndarray,
    params: dict,
    provenance: dict,
) -> Dependence:
    """Label what was found for each pair of RDMs."""
    dims, coords, shape = [], {}, []
    for side in sides:
        own = [str(d) for d in side.dims if d not in PAIR]
        dims += own
        shape += [side.sizes[d] for d in own]
        coords |= {k: v for k, v in side.coords.items() if v.dims and set(v.dims) <= set(own)}
    n_first = int(np.prod([s for d, s in zip(dims, shape, strict=True) if d in sides[0].dims]))
    stack = {k: np.array([f[k] for f in found]) for k in found[0]}
    observed = stack["data"].reshape(shape)
    stats = {k: (dims, stack["at"][:, i].reshape(shape)) for i, k in enumerate(PLACES)}
    low, high = np.unique(cells[:, 0]), np.unique(cells[:, 1])
    surface = np.full((len(found), len(low), len(high)), np.nan)
    i, j = np.searchsorted(low, cells[:, 0]), np.searchsorted(high, cells[:, 1])
    surface[:, i, j] = stack["surface"]
    grid = ("grid_lower", "grid_upper")
    stats["surface"] = ((*dims, *grid), surface.reshape(*shape, len(low), len(high)))
    null = None
    if params["n_draws"]:
        draws = stack["null"].T  # (draw, pair of RDMs)
        square = stack["data"].reshape(n_first, -1)
        p, highest = compute_chance_p(
            square, draws.reshape(len(draws), *square.shape), params["order"]
        )
        stats["p"], stats["p_max"] = (dims, p.reshape(shape)), (dims, highest.reshape(shape))
        stats["expected"] = (dims, draws.mean(axis=0).reshape(shape))
        null = xr.DataArray(draws.reshape(-1, *shape), coords, ("draw", *dims), name="null")
    attrs = {"units": UNITS[params["weighting"]]}
    data = xr.DataArray(observed, coords, dims, name="dependence", attrs=attrs)
    stats = xr.Dataset(stats, {**coords, "grid_lower": low, "grid_upper": high})
    return Dependence(data, stats, null, params, provenance)
