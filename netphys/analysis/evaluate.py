"""Inference on RDMs: how well models do, how surely, against chance, ceiling, and each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from netphys._check import check_option, check_type
from netphys._options import METHODS
from netphys.analysis._align import (
    NAMES,
    Chance,
    align_rdms,
    check_draws,
    compute_chance_p,
    find_order,
    open_rng,
    try_orders,
)
from netphys.analysis._bootstrap import Spread, Weights
from netphys.analysis._entries import Entries, make_entries
from netphys.analysis._judge import judge
from netphys.analysis._sampling import Sampling, find_sampling
from netphys.analysis._scoring import Folds, Scorer, choose_folds
from netphys.analysis.evaluation import Evaluation
from netphys.analysis.rdm import RDM
from netphys.core.clusters import compute_cluster_p
from netphys.core.compare.pairs import HINT
from netphys.core.compare.permuted import index_pairs
from netphys.core.parallel import map_threads

THRESHOLD = 0.95  # percentile of the null that a cluster must exceed


def evaluate(
    models: Mapping[str, RDM] | RDM,
    data: RDM,
    *,
    method: str = "rho-a",
    noise: np.ndarray | None = None,
    flexible: Mapping[str, str] | None = None,
    twin: Mapping[str, RDM] | RDM | None = None,
    generalize: Sequence[str] | None = None,
    folds: tuple[int, int] | None = None,
    order: str | None = None,
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate models on the RDMs of participants, with every test that belongs to it.

    Parameters
    ----------
    models : mapping of str to RDM, or RDM
        Models by name. Each layer of a model with a dim `layer` is a candidate of its own, unless
        the model is `flexible`; scores are averaged over a dim `seed`.
    data : RDM
        Over the same conditions, in any order; its dim `participant` holds what is resampled, other
        dims (time, region) are kept and evaluated one by one.
    method : str
        "rho-a" or "tau-a", which do not favour models that predict ties; "spearman", "tau-b",
        "pearson", "cosine"; "whitened-pearson" or "whitened-cosine", for squared distances.
    noise : ndarray, shape (condition,), optional
        For whitened methods: variance of the noise of each condition, in the order of `data`.
    flexible : mapping of str to str, optional
        Models whose layers are fitted and then tested on other stimuli and participants:
        "selected" (the best layer of the training data), "weighted" (a non-negative mixture of
        all) or "interpolated" (of two neighbouring layers).
    twin : mapping of str to RDM, or RDM, optional
        Untrained networks of the same names; each is evaluated beside its model.
    generalize : sequence of str, optional
        Of what the data are a sample: "stimuli", "participants", "seeds". Left out: all that there
        are enough of (20 stimuli, 6 participants, 5 seeds).
    folds : (int, int), optional
        Parts that stimuli and participants are split into where a model is flexible, 1: not split.
        Left out: 2 to 5, as many as the bootstrap samples carry.
    order : str, optional
        How stimuli were sampled: "iid", or "ordered" in time. Left out: what the data say, else
        "iid".
    n_permutations, n_bootstraps : int
        Draws of the null and of the intervals; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.
    progress : bool
        Show a bar over what is kept (time, region).

    Returns
    -------
    evaluation : Evaluation
        `data` has dims (model, participant, ...); `stats` holds means, intervals, tests, ceiling
        and differences; `null` the draws under relabelled conditions.

    Raises
    ------
    ValueError
        If conditions differ or are too few, data are constant or missing, a factor is named that
        there is too little of, ordered stimuli are declared iid, or an option has no part.

    Notes
    -----
    `p` comes from relabelled conditions: permutations, or circular shifts of ordered ones. All
    other p-values are t tests with the bootstrap variance. With stimuli and participants it is
    corrected for counting the noise of measurement three times [1]_; ordered stimuli are drawn in
    blocks; a stimulus drawn twice is not paired with itself; seeds add the variance of their means.
    Cosines are above 0 by chance, so `p_zero` tests against their mean under relabelled conditions,
    and their ceiling is not tested.
    The ceiling's lower bound compares each participant with the pool of the others, the upper with
    the pool of all. The null of flexible models is fitted anew in each draw.

    References
    ----------
    .. [1] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566
    .. [2] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [3] Maris E, Oostenveld R (2007). J Neurosci Methods 164:177-190.
       doi:10.1016/j.jneumeth.2007.03.024

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(300)
    >>> names = [f"c{k}" for k in range(25)]
    >>> people = to_rdm(truth + rng.random((7, 300)), conditions=names, dims=["participant"])
    >>> models = {"true": to_rdm(truth, conditions=names)}
    >>> models["wrong"] = to_rdm(rng.random(300), conditions=names)
    >>> result = evaluate(models, people, n_permutations=99, n_bootstraps=100, rng=0)
    >>> (result.stats["difference_p"] < 0.001).sel(model="true", model_2="wrong").item()
    True
    """
    check_type("data", data, RDM, "an RDM, such as compute_rdm(responses)")
    check_option("method", method, METHODS, HINT)
    check_draws("n_permutations", n_permutations)
    check_draws("n_bootstraps", n_bootstraps)
    entries = make_entries(models, twin, flexible)
    order = find_order(order, data, *entries.rdms.values())
    aligned, left_out = align_rdms({"data": data, **entries.rdms})
    entries.stack(aligned)
    target, labels = _stack_data(aligned["data"])
    sampling = find_sampling(generalize, target, entries.seeds, order, n_bootstraps)
    chosen = _choose(entries, folds, target, sampling)
    generator, seed = open_rng(rng)
    work = _Work(entries, method, noise, order, sampling, chosen, n_permutations, generator)
    flat = target.reshape(-1, *target.shape[-2:])
    found = [work.run(people) for people in tqdm(flat, desc="evaluate", disable=not progress)]
    params = {
        "method": method,
        "order": order,
        "n_conditions": aligned["data"].sizes["condition"],
        "n_participants": target.shape[-2],
        "left_out": left_out,
        "flexible": dict(flexible or {}),
        "folds": [chosen.stimuli, chosen.people] if entries.mixtures else None,
        "n_draws": work.n_draws,
        "null": work.why,
        "n_bootstraps": n_bootstraps if sampling.factors else 0,
        **sampling.describe(),
        "twin": "given" if twin is not None else "left out: no untrained twin was given",
        "rng": seed,
    }
    origin = {name: dict(rdm.provenance) for name, rdm in entries.rdms.items()}
    return _label(
        found, entries, labels, target.shape[:-2], params, {**origin, "data": dict(data.provenance)}
    )


class _Work:
    """What is the same for all targets."""

    def __init__(
        self,
        entries: Entries,
        method: str,
        noise: np.ndarray | None,
        order: str,
        sampling: Sampling,
        folds: Folds,
        n_permutations: int,
        rng: np.random.Generator,
    ):
        self.entries, self.method, self.noise, self.order = entries, method, noise, order
        self.sampling, self.folds, self.rng = sampling, folds, rng
        self.weights = None
        if factors := [f for f in sampling.factors if f != "seeds"]:
            self.weights = Weights.draw(
                sampling.n_stimuli,
                sampling.n_people,
                sampling.n_bootstraps,
                block=sampling.block,
                rng=rng,
            )
        self.factors = factors
        self.orders, self.why = try_orders(sampling.n_stimuli, order, n_permutations, rng=rng)

    @property
    def n_draws(self) -> int:
        return 0 if self.orders is None else len(self.orders)

    def run(self, people: np.ndarray) -> dict[str, np.ndarray]:
        """Return all findings on one target (participant, pair)."""
        entries = self.entries
        scorer = self._open(people)
        scores, bounds = scorer.score(rng=self.rng)
        spread = None
        if self.weights is not None:
            draws = scorer.draw(self.weights, self.factors, rng=self.rng)
            spread = Spread(draws, {f: self.sampling.sizes[f] for f in self.factors})
        seeds = np.zeros((len(scores), len(scores)))
        if "seeds" in self.sampling.factors:
            seeds = entries.measure_seeds(scorer.compare_seeds().mean(axis=1))
        drawn = None
        if self.orders is not None:
            drawn = statistic, null = self._draw_null(scorer, people, scores)
        level = self._find_level(len(scores), drawn)
        found = judge(scores.mean(axis=1), bounds, spread, seeds, self.sampling.dof, level)
        found["score"] = scores
        if drawn is not None:
            found["null"], found["statistic"] = null, statistic
            found["p"], found["p_max"] = compute_chance_p(statistic, null, self.order)
        return found

    def _find_level(self, n: int, drawn: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """Return what each entry scores by chance, then the ceiling: 0, but for cosines.

        Cosines of positive dissimilarities are high by chance: relabelling says how high.
        """
        if "cosine" not in self.method:
            return np.zeros(n + 1)
        level = np.full(n + 1, np.nan)
        if drawn is not None and self.order == "iid":
            level[:n] = drawn[1].mean(axis=0)
        return level

    def _open(self, people: np.ndarray) -> Scorer:
        entries = self.entries
        return Scorer(
            entries.fixed,
            entries.components,
            entries.mixtures,
            people,
            method=self.method,
            noise=self.noise,
            folds=self.folds,
        )

    def _draw_null(
        self, scorer: Scorer, people: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the statistic (entry,) and its draws (draw, entry)."""
        entries, n_fixed = self.entries, len(self.entries.fixed.counts)
        statistic = scores.mean(axis=1)
        null = np.full((len(self.orders), len(statistic)), np.nan)
        if n_fixed:
            chance = Chance(
                entries.fixed.values,
                people,
                self.sampling.n_stimuli,
                method=self.method,
                order=self.order,
                groups=np.zeros(len(people), int),
                noise=self.noise,
            )
            chance.draw(self.orders)
            average = entries.fixed.average
            statistic[:n_fixed] = average(chance.statistic)[:, 0]
            null[:, :n_fixed] = average(chance.null.swapaxes(0, 1))[..., 0].T
        if entries.mixtures and self.order == "iid":
            seeds = self.rng.integers(0, 2**32, len(self.orders))
            tables = index_pairs(self.orders)

            def refit(k: int) -> np.ndarray:
                moved = self._open(people[:, tables[k]])
                return moved.refit(rng=np.random.default_rng(seeds[k])).mean(axis=1)

            null[:, n_fixed:] = map_threads(refit, range(len(self.orders)))
        return statistic, null


def _choose(
    entries: Entries, folds: tuple[int, int] | None, target: np.ndarray, sampling: Sampling
) -> Folds:
    """Return the folds of flexible models, and refuse those that leave nothing to fit."""
    if not entries.mixtures:
        if folds is not None:
            raise ValueError(
                f"folds={folds!r} has no part where no model is fitted. Leave it out, or name a "
                "model in flexible={'name': 'weighted'}."
            )
        return Folds()
    n_people, n = target.shape[-2], sampling.n_stimuli
    chosen = choose_folds(n, n_people, folds, drawn=bool(sampling.factors))
    if min(chosen.stimuli, chosen.people) < 1 or chosen.stimuli * chosen.people == 1:
        raise ValueError(
            f"folds={folds!r} tests a fitted model on what it was fitted to. Split stimuli or "
            "participants into at least two parts."
        )
    if n < 3 * chosen.stimuli or n_people < chosen.people:
        raise ValueError(
            f"folds={chosen.stimuli, chosen.people} of {n} stimuli and {n_people} participants "
            "leave less than 3 stimuli or a participant in some part. Give fewer."
        )
    return chosen


def _stack_data(data: xr.DataArray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return pairs (..., participant, pair) and the labels of their dims; refuse dead ones."""
    i, j = np.triu_indices(data.sizes["condition"], 1)
    if "participant" not in data.dims:
        data = data.expand_dims("participant")
    dims = [str(d) for d in data.dims if d not in ("participant", "condition", "condition_2")]
    for name in dims:
        if name in ("layer", "model", "seed"):
            raise ValueError(
                f"data has the dim {name!r}. Give the RDMs of people here and those of models "
                f"first, or pick one: rdm.select({name}=...)."
            )
    order = (*dims, "participant")
    pairs = data.transpose(*order, "condition", "condition_2").to_numpy()[..., i, j]
    dead = np.argwhere(~np.isfinite(pairs).all(axis=-1) | (np.ptp(pairs, axis=-1) == 0))
    labels = {
        d: data[d].to_numpy() if d in data.coords else np.arange(data.sizes[d]) for d in order
    }
    if len(dead):
        where = ", ".join(f"{d} {labels[d][k]!s}" for d, k in zip(order, dead[0], strict=True))
        raise ValueError(
            f"data is constant or missing for {where} ({len(dead)} such). Leave it out: "
            "rdm.select(participant=[...])."
        )
    return pairs, labels


def _label(
    found: list[dict[str, np.ndarray]],
    entries: Entries,
    labels: dict[str, np.ndarray],
    shape: tuple[int, ...],
    params: dict,
    origin: dict,
) -> Evaluation:
    """Put the findings on all targets together, with labels."""
    kept = [d for d in labels if d != "participant"]
    coords = {d: labels[d] for d in kept} | entries.coords
    dims = {
        "interval": ("model", "side"),
        "ceiling": ("bound",),
        "ceiling_interval": ("bound", "side"),
        "ceiling_p": (),
        "difference_interval": ("model", "model_2", "side"),
    }
    paired = [k for k in found[0] if k.startswith("difference") and k not in dims]
    dims |= dict.fromkeys(paired, ("model", "model_2"))

    def join(name: str) -> np.ndarray:
        return np.stack([f[name] for f in found]).reshape((*shape, *found[0][name].shape))

    stats = xr.Dataset(
        coords={**coords, "model_2": entries.labels, "bound": ["lower", "upper"]}
        | {"side": ["lower", "upper"]}
    )
    for name in found[0]:
        if name not in ("score", "null"):
            own = (*kept, *dims.get(name, ("model",)))
            stats[name] = xr.DataArray(join(name), dims=own).transpose(*own[len(kept) :], *kept)
    null = None
    if "null" in found[0]:
        names = (*kept, "draw", "model")
        null = xr.DataArray(join("null"), coords, names, name="null").transpose(
            "draw", "model", ...
        )
        if "time" in kept:
            stats["cluster_p"] = _find_clusters(stats["statistic"], null)
    attrs = {"units": NAMES[params["method"]], "method": params["method"]}
    data = xr.DataArray(
        join("score"),
        coords | {"participant": labels["participant"]},
        (*kept, "model", "participant"),
        name="score",
        attrs=attrs,
    )
    return Evaluation(data.transpose("model", "participant", ...), stats, null, params, origin)


def _find_clusters(statistic: xr.DataArray, null: xr.DataArray) -> xr.DataArray:
    """Return the p-value of the run of time that each value belongs to."""
    rest = [d for d in statistic.dims if d != "time"]
    observed = statistic.transpose(*rest, "time")
    draws = null.transpose(*rest, "draw", "time").to_numpy()
    p = np.full(observed.shape, np.nan)
    for place in np.ndindex(*observed.shape[:-1]):
        if np.isfinite(draws[place]).all():
            threshold = np.quantile(draws[place], THRESHOLD, axis=0)
            p[place] = compute_cluster_p(
                observed.to_numpy()[place], draws[place], threshold=threshold
            )
    return observed.copy(data=p).transpose(*statistic.dims)
