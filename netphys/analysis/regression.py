"""Regression and partial RSA: what each model RDM explains of data beyond the other models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._align import (
    align_rdms,
    check_draws,
    compute_chance_p,
    describe_draws,
    find_order,
    open_rng,
    remove_lags,
    stack_pairs,
    try_orders,
)
from netphys.analysis._candidates import name_models
from netphys.analysis._partial import Design, find_collinear
from netphys.analysis.rdm import RDM
from netphys.core.compare import normalise_pairs
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("spearman", "pearson")
MAX_ROWS = 40  # of the table that a summary prints


@dataclass(frozen=True, eq=False, repr=False)
class RDMRegression(Result):
    """Weights of model RDMs; `data` has dims (model, participant, ...), those that were fitted.

    In `stats`: `partial`, the correlation of each model with the data given the other models;
    `unique`, the variance that no other model explains; `r2` of all models together; `vif`, the
    variance inflation of each weight; with draws `statistic` (the mean of `partial` over
    participants; less the mean of each lag for ordered conditions), its one-sided `p`, and `p_max`,
    corrected over the models by the maximum.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "lichstein2007")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        drawn = self.null is not None
        more = (
            ("freedman1983", drawn),
            ("legendre2000", drawn),
            ("phipson2010", drawn and self.params["order"] == "iid"),
        )
        return (*super().get_citations(), *(key for key, used in more if used))

    @property
    def extra_dims(self) -> tuple[str, ...]:
        """Dims besides model and participant."""
        return tuple(str(d) for d in self.data.dims if d not in ("model", "participant"))

    def to_table(self) -> pd.DataFrame:
        """Return means over participants, one row per model and label of a kept dim.

        Returns
        -------
        table : DataFrame
            Indexed by model and kept dims: weight, partial, unique, vif, and p and p_max where
            there are any.
        """
        dims = ["model", *self.extra_dims]
        people = [d for d in ("participant",) if d in self.data.dims]
        parts = {"weight": self.data} | {k: self.stats[k] for k in ("partial", "unique")}
        parts = {k: v.mean(people) for k, v in parts.items()}
        parts["vif"] = self.stats["vif"].broadcast_like(parts["weight"])
        parts |= {k: self.stats[k] for k in ("p", "p_max") if k in self.stats}
        plain = {k: v.transpose(*dims).to_numpy().reshape(-1) for k, v in parts.items()}
        labels = [self.data[d].to_numpy() for d in dims]
        index = pd.MultiIndex.from_product(labels, names=dims)
        return pd.DataFrame(plain, index=index if len(dims) > 1 else index.get_level_values(0))

    def to_frame(self) -> pd.DataFrame:
        """Return all values as a table.

        Returns
        -------
        table : DataFrame
            One row per model, participant and label of a kept dim: weight, partial, unique, r2.
        """
        table = super().to_frame()
        for name in ("partial", "unique", "r2"):
            values = self.stats[name].broadcast_like(self.data).transpose(*self.data.dims)
            table[name] = values.to_numpy().reshape(-1)
        return table

    def summary(self) -> str:
        """Return the result as text for a terminal.

        Returns
        -------
        text : str
            What was fitted, and a table of the models.
        """
        p = self.params
        how = p["null"] if self.null is None else f"{p['n_draws']} {describe_draws(p['order'])}"
        people = f" of {p['n_participants']} participants" if p["n_participants"] else ""
        lines = [
            f"{len(p['models'])} models{' (weights >= 0)' * p['nonnegative']} fitted to "
            f"{'ranks of ' * (p['method'] == 'spearman')}{p['n_pairs']} dissimilarities "
            f"({p['n_conditions']} conditions){people}: R2 {float(self.stats['r2'].mean()):.3f}",
            f"p of partial correlations: {how}",
        ]
        if p["not_tested"]:
            lines.append(
                f"Not tested, being nothing but distance in time: {', '.join(p['not_tested'])}."
            )
        if p["left_out"]:
            lines.append(
                f"{len(p['left_out'])} conditions were left out, unknown in a model or the data: "
                f"{', '.join(p['left_out'][:5])}."
            )
        table = self.to_table()
        if len(table) > MAX_ROWS:
            sizes = " x ".join(f"{self.data.sizes[d]} {d}" for d in self.extra_dims)
            return "\n".join([*lines, f"{sizes}; all values: to_table()."])
        exact = {c: "{:.2g}".format for c in table if c.startswith("p") and c != "partial"}
        return "\n".join([*lines, "", table.to_string(float_format="%.3f", formatters=exact)])

    def describe_methods(self) -> str:
        """Return one paragraph on how the models were fitted and tested.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        people = f" of {p['n_participants']} participants" if p["n_participants"] else ""
        text = [
            f"Representational dissimilarity matrices{people} over {p['n_conditions']} conditions "
            f"[kriegeskorte2008rsa] were regressed on those of {len(p['models'])} models "
            f"({', '.join(p['models'])}) over their {p['n_pairs']} pairs of conditions, "
            f"{'ranked and ' * (p['method'] == 'spearman')}z-scored"
            f"{', with weights of at least 0' * p['nonnegative']} [lichstein2007].",
            "The unique variance of a model is what the fit loses without it.",
        ]
        if self.null is None:
            return " ".join([*text, f"No p-values were computed: {p['null']}."])
        mean = ", averaged over participants," if p["n_participants"] else ""
        cited = " [phipson2010]" if p["order"] == "iid" else ""
        text.append(
            f"One-sided p-values of the partial correlation of each model with the data given the "
            f"other models{mean} come from {p['n_draws']} {describe_draws(p['order'])}{cited}, "
            "applied to what the other models leave of the data [freedman1983, legendre2000]; they "
            "were corrected over models by the maximum statistic."
        )
        return " ".join(text)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the weights with participants; along one kept dim as curves.

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
            If there is more than one kept dim.
        """
        from netphys._draw.regression import draw_weight_curves, draw_weights

        p, extra = self.params, self.extra_dims
        if len(extra) > 1:
            raise ValueError(
                f"This regression has the dims {', '.join(extra)} besides models and participants. "
                f"Draw at most one: fit_rdms(models, data.select({extra[0]}=...))."
            )
        data = (
            self.data if "participant" in self.data.dims else self.data.expand_dims("participant")
        )
        values = data.transpose("model", "participant", ...).to_numpy()
        people = f", {p['n_participants']} participants" if p["n_participants"] else ""
        options = {
            "p": self.stats["p_max"].transpose("model", ...).to_numpy()
            if "p_max" in self.stats
            else None,
            "unit": str(self.data.attrs["units"]),
            "title": f"n = {p['n_conditions']} conditions{people}",
            "ax": ax,
        }
        if not extra:
            return draw_weights(p["models"], values, **options)
        at = self.data[extra[0]]
        axis = str(at.attrs.get("units", extra[0]))
        return draw_weight_curves(at.to_numpy(), p["models"], values, axis=axis, **options)


def fit_rdms(
    models: Mapping[str, RDM] | RDM,
    data: RDM,
    *,
    method: str = "spearman",
    nonnegative: bool = False,
    order: str | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> RDMRegression:
    """Fit several model RDMs to data at once, and test what each explains beyond the others.

    Parameters
    ----------
    models : mapping of str to RDM, or RDM
        One matrix each, over the conditions of the data in any order; or an RDM whose dim `model`
        names them.
    data : RDM
        With a dim `participant` or without; other dims (time, region) are kept and fitted one by
        one.
    method : str
        "spearman" (dissimilarities are ranked first) or "pearson".
    nonnegative : bool
        Fit weights of at least 0; `unique` and `r2` are then those of such fits. Partial
        correlations and their tests are the same either way.
    order : str
        How conditions were sampled: "iid" or "ordered" (in time, as `data` lists them), as in
        `compare_rdms`. Left out: what the RDMs say of themselves, else "iid".
    n_permutations : int
        Draws under the null hypothesis; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    regression : RDMRegression
        `data` holds standardised weights: all RDMs are z-scored over pairs, so that the intercept
        is 0. `stats` holds the rest, `null` the draws of the statistic.

    Raises
    ------
    ValueError
        If conditions differ, an RDM is constant or lacks pairs, models are collinear, or there are
        fewer pairs than two more than models.

    Notes
    -----
    Under the null hypothesis for a model, what the other models leave of the data is relabelled
    (residuals of the reduced model) [2]_ [3]_ and fitted again. Relabelling the data themselves
    would be too careful wherever participants share what the other models explain (in simulations
    of 8 to 20 people 0 to 2 % false positives at .05, and less power). Ranks remove another model's
    share as far as it is linear in ranks: beside a strong model with which a weak one correlates,
    prefer "pearson" for dissimilarities that add up, such as squared distances.

    Kept dims (time, region) are tested one by one: `p_max` is corrected over models alone.

    For ordered conditions the mean of each lag is taken out of data and models before the test, as
    in `compare_rdms`; a model that is nothing but distance in time then has no test.

    References
    ----------
    .. [1] Lichstein JW (2007). Plant Ecol 188:117-131. doi:10.1007/s11258-006-9126-3
    .. [2] Freedman D, Lane D (1983). J Bus Econ Stat 1:292-298. doi:10.2307/1391660
    .. [3] Legendre P (2000). J Stat Comput Simul 67:37-73. doi:10.1080/00949650008812035

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> a, b, noise = np.random.default_rng(0).normal(size=(3, 45))
    >>> names = [f"c{k}" for k in range(10)]
    >>> models = {"a": to_rdm(a, conditions=names), "b": to_rdm(b, conditions=names)}
    >>> data = to_rdm(a + noise, conditions=names)
    >>> found = fit_rdms(models, data, method="pearson", n_permutations=199, rng=0)
    >>> found.to_table()["p_max"].round(3).tolist()
    [0.005, 0.205]
    """
    check_type("data", data, RDM, "an RDM")
    check_type("nonnegative", nonnegative, bool, "True or False")
    check_option("method", method, METHODS)
    check_draws("n_permutations", n_permutations)
    named = _check_models(models, data)
    order = find_order(order, data, *named.values())
    aligned, left_out = align_rdms({"data": data} | {f"models[{k!r}]": m for k, m in named.items()})
    own, *others = aligned.values()
    lead = [d for d in ("participant",) if d in own.dims]
    rows, dims, coords = stack_pairs(own.transpose(*lead, ...))
    shape = [own.sizes[d] for d in dims]
    y = normalise_pairs(rows, method=method)
    x = normalise_pairs(np.concatenate([stack_pairs(m)[0] for m in others]), method=method)
    names = list(named)
    _check_rows(x, y, names, dims, shape, coords)
    design = Design(x)
    fit = design.fit(y)
    if nonnegative:
        fit |= design.fit_nonnegative(y)
    generator, seed = open_rng(rng)
    n, n_people = own.sizes["condition"], own.sizes.get("participant", 0)
    orders, why = try_orders(n, order, n_permutations, rng=generator)
    test = _test(x, y, names, order, orders, n, max(n_people, 1))
    params = {
        "models": names,
        "method": method,
        "nonnegative": nonnegative,
        "order": order,
        "n_conditions": n,
        "n_pairs": y.shape[1],
        "n_participants": n_people,
        "left_out": left_out,
        "not_tested": test.pop("not_tested"),
        "null": why,
        "n_draws": 0 if orders is None else len(orders),
        "rng": seed,
    }
    fit["vif"] = design.vif
    weights, stats, null = _label(fit, test, dims, shape, coords | {"model": names})
    weights.attrs |= {"units": "standardised weight" + " of ranks" * (method == "spearman")}
    origin = {"data": dict(data.provenance)}
    origin["models"] = {k: dict(m.provenance) for k, m in named.items()}
    return RDMRegression(weights, stats, null, params, origin)


def _label(
    fit: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray | None],
    dims: tuple[str, ...],
    shape: list[int],
    coords: dict[str, object],
) -> tuple[xr.DataArray, xr.Dataset, xr.DataArray | None]:
    """Return weights, what belongs to them, and draws, with dims and labels."""
    parts = ("weight", "partial", "unique")
    full = {k: (("model", *dims), fit[k].reshape(-1, *shape)) for k in parts}
    lead = int("participant" in dims)
    kept, sizes = dims[lead:], shape[lead:]
    weights = xr.DataArray(full.pop("weight")[1], coords, ("model", *dims), name="weight")
    full |= {"r2": (dims, fit["r2"].reshape(shape)), "vif": ("model", fit["vif"])}
    drawn = test["null"]
    full |= {k: (("model", *kept), v.reshape(-1, *sizes)) for k, v in test.items() if k != "null"}
    null = None
    if drawn is not None:
        known = {k: v for k, v in coords.items() if k == "model" or set(v.dims) <= set(kept)}
        values = drawn.reshape(*drawn.shape[:2], *sizes)
        null = xr.DataArray(values, known, ("draw", "model", *kept), name="null")
    return weights, xr.Dataset(full, coords), null


def _test(
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    order: str,
    orders: np.ndarray | None,
    n: int,
    n_people: int,
) -> dict[str, object]:
    """Return the statistic (model, group), its draws and p-values, and what has no test."""
    if orders is None:
        return {"null": None, "not_tested": []}
    tested = np.ones(len(x), bool)
    if order == "ordered":
        x, y = remove_lags(x, n), remove_lags(y, n)
        tested = np.isfinite(x).all(axis=1)
        if not np.isfinite(y).all():
            raise ValueError(
                "data holds an RDM that is nothing but distance in time. Leave it out, or pass "
                "n_permutations=0."
            )
        _check_collinear(x[tested], [k for k, on in zip(names, tested, strict=True) if on])
    shape = (len(x), len(y) // n_people)
    found = {k: np.full(shape, np.nan) for k in ("statistic", "p", "p_max")}
    found["null"] = np.full((len(orders), *shape), np.nan)
    if tested.any():
        design = Design(x[tested])
        statistic = design.fit(y)["partial"].reshape(-1, n_people, shape[1]).mean(axis=1)
        null = design.draw(y, orders, shape[1])
        found["statistic"][tested], found["null"][:, tested] = statistic, null
        found["p"][tested], found["p_max"][tested] = compute_chance_p(statistic, null, order)
    left_out = [k for k, on in zip(names, tested, strict=True) if not on]
    return found | {"not_tested": left_out}


def _check_models(models: Mapping[str, RDM] | RDM, data: RDM) -> dict[str, RDM]:
    named = name_models(models)
    for name, rdm in named.items():
        for dim in rdm.extra_dims:
            label = rdm.data[dim].to_numpy().tolist()[0]
            raise ValueError(
                f"models[{name!r}] has the dim {dim!r}. Give one matrix per model, such as "
                f"rdm.select({dim}={label!r}), or average them: average_rdms(rdm, dim={dim!r})."
            )
    if "model" in data.data.dims:
        raise ValueError(
            "data has the dim 'model', which names what is fitted. Pick one label: "
            "data.select(model=...)."
        )
    return named


def _check_rows(
    x: np.ndarray, y: np.ndarray, names: list[str], dims: tuple, shape: list, coords: Mapping
) -> None:
    """Raise unless models (model, pair) and data (data, pair) can be fitted."""
    constant = ~np.isfinite(x).all(axis=1)
    if constant.any():
        raise ValueError(
            f"models[{names[int(constant.argmax())]!r}] is constant over the pairs of conditions "
            "that are left, and explains nothing. Leave it out."
        )
    dead = ~np.isfinite(y).all(axis=1)
    if dead.any():
        at = np.unravel_index(int(dead.argmax()), shape) if shape else ()
        labels = [
            coords[d].to_numpy()[k] if d in coords else k for d, k in zip(dims, at, strict=True)
        ]
        place = ", ".join(f"{d} {v}" for d, v in zip(dims, labels, strict=True))
        raise ValueError(
            f"data is constant or missing{f' for {place}' if place else ''}. Leave it out: "
            "data.select(...)."
        )
    m, n_pairs = x.shape
    if n_pairs < m + 2:
        raise ValueError(
            f"{m} models cannot be fitted to {n_pairs} pairs of conditions: at least {m + 2} are "
            "needed. Leave models out, or use more conditions."
        )
    _check_collinear(x, names)


def _check_collinear(x: np.ndarray, names: list[str]) -> None:
    if len(x) and (alike := find_collinear(x)).any():
        listed = ", ".join(repr(k) for k, on in zip(names, alike, strict=True) if on)
        raise ValueError(
            f"models {listed} are collinear: one of them is a combination of the others, so that "
            "their shares cannot be told apart. Leave one out."
        )
