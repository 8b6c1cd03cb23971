"""Match of models to a brain: which layers have the geometry of its responses, and how surely.

Scores are similarities of RDMs, per participant. Each comes with its null (stimuli relabelled), an
interval (stimuli, or stimuli and participants, resampled), the noise ceiling of the same brain
data, and the paired difference to an untrained twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys._options import FACTORS, METHODS
from netphys.analysis._align import (
    NAMES,
    Chance,
    align_rdms,
    check_draws,
    compare_any,
    compute_chance_p,
    find_order,
    open_rng,
    try_orders,
)
from netphys.analysis._candidates import Rows, name_models, name_twins, stack_models, stack_twins
from netphys.analysis.rsa import RDM, compute_rsa_ceiling, to_rdm
from netphys.brain._findings import Findings, draw_scores
from netphys.brain.match_result import RSAMatch
from netphys.core.resample import MIN_PARTICIPANTS, MIN_STIMULI


def match_rdms(
    models: Mapping[str, RDM] | RDM,
    brain: RDM,
    *,
    twin: Mapping[str, RDM] | RDM | None = None,
    method: str = "spearman",
    order: str | None = None,
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    generalize: Sequence[str] = ("stimuli",),
    rng: int | np.random.Generator | None = None,
) -> RSAMatch:
    """Match the layers of models to the RDMs of a brain.

    Parameters
    ----------
    models : mapping of str to RDM, or RDM
        Models by name, each with a dim `layer`, and `seed` where there are several; an RDM without
        `layer` is one candidate.
    brain : RDM
        Over the same conditions, with dims `participant` and `region` where there are several.
    twin : mapping of str to RDM, or RDM, optional
        The same models with random weights, with the same layers; a single one where there is one
        model.
    method : str
        "spearman", "pearson", "cosine", "rho-a" or "tau-a" (which do not favour models that predict
        ties), "tau-b", "whitened-pearson" or "whitened-cosine".
    order : str, optional
        How the stimuli were sampled: "iid", or "ordered" in time. Left out: what the brain data
        say, else "iid".
    n_permutations, n_bootstraps : int
        Draws of the null and of the intervals; 0: none.
    generalize : sequence of str
        What the intervals resample: "stimuli", or "stimuli" and "participants".
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    match : RSAMatch
        `data` has dims (layer, participant), and region where the brain has it; `stats` holds
        means, intervals, p-values, the ceiling and the twin; ``params["holds_for"]`` says in words
        how far the result reaches.

    Raises
    ------
    ValueError
        If conditions differ or are too few, brain patterns are constant, a twin has other layers,
        ordered stimuli are declared iid, or participants are to be generalised to from fewer than 6
        of them or fewer than 20 stimuli.

    Notes
    -----
    `p` and `p_max` are one-sided and concern the mean over participants; `p_max` compares with the
    best candidate of each draw and so holds for a layer chosen by its score. Intervals are t
    intervals from the bootstrap variance; with two factors it is corrected for counting the noise
    of measurement more than once [2]_. A stimulus drawn twice is not paired with itself.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [2] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566
    """
    check_type("brain", brain, RDM, "an RDM, such as compute_rdm(responses)")
    check_option("method", method, METHODS)
    check_draws("n_permutations", n_permutations)
    check_draws("n_bootstraps", n_bootstraps)
    named = name_models(models)
    order, generalize = find_order(order, brain, *named.values()), _check_factors(generalize)
    twins = name_twins(twin, named)
    aligned, left_out = align_rdms(
        {
            "brain": brain,
            **{f"models[{k!r}]": v for k, v in named.items()},
            **{f"twin[{k!r}]": v for k, v in twins.items()},
        }
    )
    table, rows = stack_models({k: aligned[f"models[{k!r}]"] for k in named})
    twin_rows = stack_twins({k: aligned[f"twin[{k!r}]"] for k in twins}, table) if twins else None
    target = _stack_brain(aligned["brain"])
    n, shape = aligned["brain"].sizes["condition"], target.shape[:2]
    refused = _check_sampling(generalize, order, n, shape[0], n_bootstraps)
    generator, seed = open_rng(rng)

    each = _compare(rows.values, target, method)
    score = rows.average(each)
    found = Findings(score.mean(axis=1))
    null, why = _test(found, rows, target, n, method, order, n_permutations, generator)
    found.measure_seeds(rows, each.mean(axis=1))
    if twin_rows is not None:
        twin_each = _compare(twin_rows.values, target, method)
        found.add_twin(twin_rows.average(twin_each).mean(axis=1))
    if refused is None:
        parts = [rows, *([twin_rows] if twin_rows is not None else [])]
        draws = draw_scores(
            parts, target, n, method, n_bootstraps, "participants" in generalize, generator
        )
        full = [score, *([twin_rows.average(twin_each)] if twin_rows is not None else [])]
        found.add_intervals(full, draws, n)
    ceiling, no_ceiling = _measure_ceiling(aligned["brain"], method)
    params = {
        "method": method,
        "order": order,
        "generalize": generalize,
        "n_conditions": n,
        "n_pairs": target.shape[-1],
        "n_participants": shape[0],
        "left_out": left_out,
        "n_draws": 0 if null is None else len(null),
        "null": why,
        "n_bootstraps": 0 if refused else n_bootstraps,
        "interval": refused or f"95 % t interval, bootstrap of {' and '.join(generalize)}",
        "ceiling": no_ceiling or "leave-one-participant-out",
        "twin": "given" if twins else "left out: no untrained twin was given",
        "holds_for": _say_holds_for(generalize if refused is None else [], n, shape[0]),
        "rng": seed,
    }
    origin = {
        "models": {k: dict(v.provenance) for k, v in named.items()},
        "brain": dict(brain.provenance),
    }
    return _label_match(score, found, null, ceiling, table, aligned["brain"], params, origin)


# ---------------------------------------------------------------------- what may be claimed
def _check_factors(generalize: Sequence[str]) -> list[str]:
    factors = [generalize] if isinstance(generalize, str) else list(generalize)
    for factor in factors:
        hint = "Seeds are reported as mean and SD." if factor == "seeds" else ""
        check_option("generalize", factor, FACTORS, hint)
    if factors == ["participants"]:
        raise ValueError(
            "generalize=('participants',) would treat these stimuli as all there are. Give "
            "('stimuli', 'participants')."
        )
    return [f for f in FACTORS if f in factors]


def _check_sampling(factors: list[str], order: str, n: int, n_people: int, n_draws: int):
    """Return why there are no intervals, or None; raise where participants cannot be sampled."""
    if "participants" in factors and (n_people < MIN_PARTICIPANTS or n < MIN_STIMULI):
        raise ValueError(
            f"generalize names participants, with {n_people} of them and {n} stimuli. At least "
            f"{MIN_PARTICIPANTS} participants and {MIN_STIMULI} stimuli are needed to speak of "
            "others; give generalize=('stimuli',) and show each participant."
        )
    if not factors:
        return "left out (generalize is empty)"
    if n_draws == 0:
        return "left out (n_bootstraps=0)"
    if order == "ordered":
        return "left out: single stimuli of an ordered series cannot be resampled"
    if n < MIN_STIMULI:
        return f"left out: {n} stimuli are fewer than {MIN_STIMULI}"
    return None


def _say_holds_for(factors: list[str], n: int, n_people: int) -> str:
    people = f"{n_people} participant" + ("s" if n_people > 1 else "")
    if "participants" in factors:
        return f"participants like these {n_people} and stimuli like these {n} (both sampled)"
    these = "this" if n_people == 1 else "these"
    if "stimuli" in factors:
        return f"{these} {people}, and stimuli like these {n} (stimuli sampled)"
    return f"{these} {people} and these {n} stimuli (nothing sampled)"


# ---------------------------------------------------------------------- the brain
def _stack_brain(brain: xr.DataArray) -> np.ndarray:
    """Return pairs (participant, region, pair), and refuse what has no pattern."""
    i, j = np.triu_indices(brain.sizes["condition"], 1)
    dims = [d for d in ("participant", "region") if d in brain.dims]
    pairs = brain.transpose(*dims, "condition", "condition_2").to_numpy()[..., i, j]
    for axis, dim in enumerate(("participant", "region")):
        pairs = pairs if dim in dims else np.expand_dims(pairs, axis)
    dead = np.argwhere(~np.isfinite(pairs).all(axis=-1) | (np.ptp(pairs, axis=-1) == 0))
    if len(dead):
        where = dict(zip(("participant", "region"), dead[0], strict=True))
        labels = ", ".join(f"{d} {brain[d].to_numpy()[where[d]]!s}" for d in dims)
        raise ValueError(
            f"brain has constant patterns or dissimilarities for {labels or 'its only RDM'}"
            f" ({len(dead)} such). Leave {'it' if len(dead) == 1 else 'them'} out: "
            "rdm.select(participant=[...])."
        )
    return pairs


def _compare(rows: np.ndarray, target: np.ndarray, method: str) -> np.ndarray:
    """Return similarities (row, participant, region) with (participant, region, pair)."""
    flat = compare_any(rows, target.reshape(-1, target.shape[-1]), method=method)
    return flat.reshape(-1, *target.shape[:2])


def _test(
    found: Findings,
    rows: Rows,
    target: np.ndarray,
    n: int,
    method: str,
    order: str,
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray | None, str]:
    """Add p-values of the mean over participants; return the draws, or why there are none."""
    n_people, n_regions = target.shape[:2]
    groups = np.tile(np.arange(n_regions), n_people)
    people = target.reshape(-1, target.shape[-1])
    chance = Chance(rows.values, people, n, method=method, order=order, groups=groups)
    orders, why = try_orders(n, order, n_draws, rng=rng)
    if orders is None:
        return None, why
    chance.draw(orders)
    null = rows.average(chance.null.swapaxes(0, 1)).swapaxes(0, 1)
    found.by_layer["p"], found.by_layer["p_max"] = compute_chance_p(
        rows.average(chance.statistic), null, order
    )
    return null, why


def _measure_ceiling(brain: xr.DataArray, method: str) -> tuple[xr.DataArray | None, str]:
    if brain.sizes.get("participant", 1) < 2:
        return None, "left out: it needs at least two participants"
    labels = brain["condition"].to_numpy().tolist()
    return compute_rsa_ceiling(to_rdm(brain, conditions=labels), method=method), ""


def _label_match(score, found, null, ceiling, table, brain, params, origin) -> RSAMatch:
    """Put labels on everything."""
    several = "region" in brain.dims
    labels = {
        "layer": table.labels,
        "model": ("layer", table.models),
        "site": ("layer", table.sites),
        "seed_n": ("layer", table.seeds),
    }
    regions = {"region": brain["region"].to_numpy()} if several else {}
    people = brain["participant"].to_numpy() if "participant" in brain.coords else None
    people = list(range(score.shape[1])) if people is None else people

    def pick(values: np.ndarray, axis: int) -> np.ndarray:
        return values if several else np.take(values, 0, axis=axis)

    dims = ("layer", "region") if several else ("layer",)
    stats = {}
    for name, values in found.by_layer.items():
        bound = values.ndim == 3
        stats[name] = ((*dims, "bound") if bound else dims, pick(values, 1))
    best = np.array(table.labels)[found.best]
    stats["best"] = (("region",), best) if several else ((), best[0])
    coords = labels | regions | {"bound": ["lower", "upper"]}
    dataset = xr.Dataset(stats, coords)
    if ceiling is not None:
        dataset["ceiling"] = ceiling.reset_coords(drop=True)
    data = xr.DataArray(
        pick(score, 2),
        labels | regions | {"participant": people},
        ("layer", "participant", "region")[: 3 if several else 2],
        name="score",
        attrs={"units": NAMES[params["method"]], "method": params["method"]},
    )
    if null is not None:
        null = xr.DataArray(pick(null, 2), labels | regions, ("draw", *dims), name="null")
    return RSAMatch(data, dataset, null, params, origin)
