"""Similarity between RDMs, with its null, and how similar the RDMs of people can be at best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys._options import MOMENTS, WHITENED
from netphys.analysis._align import (
    ALL_METHODS,
    NAMES,
    Chance,
    align_rdms,
    check_draws,
    compare_any,
    describe_draws,
    describe_p,
    find_order,
    open_rng,
    stack_pairs,
    try_orders,
)
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.compare import compare_moments
from netphys.core.compare.pairs import HINT
from netphys.core.compare.weighted import measure_ceiling
from netphys.data.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Similarity of RDMs; `data` has the extra dims of the one, then those of the other.

    In `stats`: `p` of each similarity, one-sided, and `p_max`, corrected over the RDMs of the first
    set by their maximum; `null` holds the draws, and `statistic` what they are compared with (the
    similarity itself, but for ordered conditions).
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "nili2014")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        more = (
            ("phipson2010", self.null is not None and self.params["order"] == "iid"),
            ("diedrichsen2021", "whitened" in self.params["method"]),
            ("harvey2023", self.params["method"] == "bures"),
            ("shahbazi2021", self.params["method"] == "riemann"),
        )
        return (*super().get_citations(), *(key for key, used in more if used))

    def summary(self) -> str:
        """Return the similarities with their p-values as text for a terminal.

        Returns
        -------
        text : str
            One line, or a line and a table.
        """
        p, name = self.params, NAMES[self.params["method"]]
        head = f"{name} over {p['n_conditions']} conditions"
        how = p["null"] if self.null is None else f"{p['n_draws']} {describe_draws(p['order'])}"
        if not self.data.dims:
            tested = "" if self.null is None else f", p = {float(self.stats['p']):.3g}"
            return f"{head}: {float(self.data):.3f}{tested} ({how})"
        return f"{head} ({how})\n{self.to_frame().to_string(index=False, float_format='%.3f')}"

    def to_frame(self) -> pd.DataFrame:
        """Return the similarities as a table, with p-values where there are any.

        Returns
        -------
        table : DataFrame
            One row per pair of RDMs.
        """
        table = super().to_frame()
        for name in ("p", "p_max"):
            if name in self.stats:
                table[name] = self.stats[name].transpose(*self.data.dims).to_numpy().reshape(-1)
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the similarities as a heat map; a single one with its null as a histogram.

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
            If there are more than two dims.
        """
        from netphys._draw.rdm import draw_null, draw_similarity

        unit = NAMES[self.params["method"]]
        title = f"n = {self.params['n_conditions']} conditions"
        if self.data.ndim > 2:
            raise ValueError(
                f"This comparison has dims {self.data.dims}. Draw at most two: compare one RDM of "
                "each dim, rdm.select(layer=...)."
            )
        if not self.data.dims and self.null is not None:
            observed = float(self.stats["statistic"])
            return draw_null(self.null.to_numpy(), observed, unit=unit, title=title, ax=ax)
        labels = [[str(v) for v in self.data[d].to_numpy()] for d in self.data.dims]
        labels += [[""]] * (2 - len(labels))
        matrix = self.data.to_numpy().reshape([len(label) for label in labels])
        return draw_similarity(matrix, *labels, unit=unit, title=title, ax=ax)

    def describe_methods(self) -> str:
        """Return one paragraph on how the RDMs were compared.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        text = (
            f"Representational dissimilarity matrices of {p['n_conditions']} conditions were "
            f"compared by {NAMES[p['method']]} over their {p['n_pairs']} pairs of conditions "
            "[nili2014]."
        )
        if self.null is None:
            return f"{text} No p-values were computed: {p['null']}."
        return (
            f"{text} One-sided p-values come from {p['n_draws']} {describe_draws(p['order'])} "
            f"{describe_p(p['order'])}; they were corrected over the RDMs of the first set by the "
            "maximum of the standardised statistic."
        )


def compute_rsa_ceiling(rdm: RDM, *, method: str = "spearman") -> xr.DataArray:
    """Compute how well one RDM could at best fit those of all participants.

    Parameters
    ----------
    rdm : RDM
        With a dim `participant`; other dims are kept.
    method : str
        As in `compare_rdms`.

    Returns
    -------
    ceiling : DataArray, dims (bound, ...)
        "lower": each participant against the pool of the others; "upper": against the pool of all,
        their own data included. Means over participants; attributes say of what.

    Raises
    ------
    ValueError
        If there is no dim `participant`, or fewer than two participants.

    Notes
    -----
    Pool: mean of the RDMs after ranking (rank methods), z-scoring ("pearson"), division by their
    root mean square ("cosine") or by their mean ("bures"), or as they are ("riemann").
    Dissimilarities that are unknown in any participant are left out, but for whitened methods,
    which have no ceiling then.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    """
    check_type("rdm", rdm, RDM, "an RDM with a dim 'participant'")
    check_option("method", method, ALL_METHODS, HINT)
    n = rdm.data.sizes.get("participant", 0)
    if n < 2:
        raise ValueError(
            f"rdm has {n or 'no'} participants (dims {rdm.data.dims}). A ceiling needs at least "
            "two."
        )
    extra = [d for d in rdm.extra_dims if d != "participant"]
    i, j = np.triu_indices(len(rdm.conditions), 1)
    pairs = rdm.data.transpose(*extra, "participant", *PAIR).to_numpy()[..., i, j]
    shape = pairs.shape[:-2]
    flat = pairs.reshape(-1, *pairs.shape[-2:])
    bounds = np.array([_compute_ceiling(p, method) for p in flat]).T.reshape(2, *shape)
    coords = {k: v for k, v in rdm.data.coords.items() if v.dims and set(v.dims) <= set(extra)}
    attrs = {
        "kind": "rsa leave-one-out",
        "target": "participant",
        "units": NAMES[method],
        "n": n,
    }
    coords |= {"bound": ["lower", "upper"]}
    return xr.DataArray(bounds, coords, ("bound", *extra), name="ceiling", attrs=attrs)


def compare_rdms(
    a: RDM,
    b: RDM,
    *,
    method: str = "spearman",
    noise: np.ndarray | None = None,
    order: str | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> Comparison:
    """Compare every RDM of one set with every RDM of another, and test each similarity.

    Parameters
    ----------
    a, b : RDM
        Over the same conditions, in any order; their other dims must have different names.
    method : str
        "pearson", "spearman", "cosine"; "rho-a" or "tau-a", which do not favour models that predict
        ties; "tau-b"; "whitened-pearson" or "whitened-cosine"; "bures" or "riemann", for squared
        distances between patterns.
    noise : ndarray, shape (condition,) or (condition, condition), optional
        For whitened methods and "riemann": noise of the patterns, in the order of `a`.
    order : str
        How conditions were sampled: "iid" (labels are permuted for the null) or "ordered" (in time,
        as `a` lists them: labels are shifted circularly, since permuting them makes any two slow
        series significant). Left out: what the RDMs say of themselves, else "iid".
    n_permutations : int
        Draws under the null hypothesis; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    comparison : Comparison
        `data` has the extra dims of `a` and `b`; `stats` p-values; `null` the draws.

    Raises
    ------
    ValueError
        If conditions differ, fewer than four are left, both RDMs have a dim of the same name, or
        ordered ones are declared iid.

    Notes
    -----
    The test of ordered conditions concerns what two RDMs share beyond distance in time: the mean
    of each lag is taken out of both first, and shifts count as many draws as they are worth
    (unrelated series of 100 samples, smoothed by 1, 2, 4 and 8: 6, 5, 7 and 8 % false positives at
    .05, of 400 each; nearly all if labels are permuted). It takes Spearman's statistic for rank
    methods, Pearson's for whitened ones and second moments. Filter out trends from beginning to end
    before.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [2] Phipson B, Smyth GK (2010). Stat Appl Genet Mol Biol 9:39. doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> from netphys.analysis.rsa import compare_rdms, to_rdm
    >>> a = to_rdm(np.arange(15.0), conditions=list("abcdef"))
    >>> result = compare_rdms(a, a, n_permutations=99, rng=0)
    >>> float(result.data), float(result.stats["p"])
    (1.0, 0.01)
    """
    check_type("a", a, RDM, "an RDM")
    check_type("b", b, RDM, "an RDM")
    check_option("method", method, ALL_METHODS, HINT)
    order = find_order(order, a, b)
    check_draws("n_permutations", n_permutations)
    if shared := set(a.extra_dims) & set(b.extra_dims):
        raise ValueError(
            f"a and b both have {', '.join(map(repr, sorted(shared)))}. Pick one label in one of "
            "them with rdm.select(...)."
        )
    aligned, left_out = align_rdms({"a": a, "b": b})
    rows, dims, coords = zip(*(stack_pairs(d) for d in aligned.values()), strict=True)
    shape = [d.sizes[k] for d, names in zip(aligned.values(), dims, strict=True) for k in names]
    dims, coords = dims[0] + dims[1], {**coords[0], **coords[1]}
    observed = compare_any(*rows, method=method, noise=noise)
    n = aligned["a"].sizes["condition"]
    generator, seed = open_rng(rng)
    params = {
        "method": method,
        "order": order,
        "n_conditions": n,
        "n_pairs": rows[0].shape[1],
        "left_out": left_out,
        "rng": seed,
    }
    chance = Chance(*rows, n, method=method, order=order, noise=noise)
    orders, why = try_orders(n, order, n_permutations, rng=generator)
    if orders is not None:
        chance.draw(orders)
    null = chance.null
    params |= {"null": why, "n_draws": 0 if null is None else len(null)}
    stats = {}
    if null is not None:
        p, highest = chance.compute_p()
        stats["statistic"] = (dims, chance.statistic.reshape(shape))
        stats["p"] = (dims, p.reshape(shape))
        stats["p_max"] = (dims, highest.reshape(shape))
        null = xr.DataArray(null.reshape(-1, *shape), coords, ("draw", *dims), name="null")
    attrs = {"units": NAMES[method], "method": method}
    data = xr.DataArray(observed.reshape(shape), coords, dims, name="similarity", attrs=attrs)
    origin = {"a": dict(a.provenance), "b": dict(b.provenance)}
    return Comparison(data, xr.Dataset(stats, coords), null, params, origin)


def _compute_ceiling(pairs: np.ndarray, method: str) -> tuple[float, float]:
    """Return the lower and upper bound for (participant, pair)."""
    pairs = pairs if method in WHITENED else pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] < 3 or not np.isfinite(pairs).all():
        return np.nan, np.nan
    if method in MOMENTS:
        scale = pairs.mean(axis=1, keepdims=True) if method == "bures" else 1.0
        scaled, n = pairs / scale, len(pairs)
        others = (scaled.sum(axis=0) - scaled) / (n - 1)
        lower = np.diagonal(compare_moments(others, pairs, method=method)).mean()
        upper = compare_moments(scaled.mean(axis=0)[None], pairs, method=method).mean()
        return float(lower), float(upper)
    return measure_ceiling(pairs, method=method)
