"""Encoding models: predict brain responses from features, rung by rung, with their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr

from netphys._check import check_option, check_positive, check_type
from netphys._options import TARGETS
from netphys.analysis._align import open_rng
from netphys.brain._ladder import Ladder, fit_person, summarise
from netphys.brain.ceiling import compute_ceiling
from netphys.brain.encoding_result import Encoding
from netphys.brain.oasm import SIGMAS, make_oasm
from netphys.brain.responses import check_responses
from netphys.brain.splits import choose_folds
from netphys.core.hemodynamics import filter_highpass, make_drift
from netphys.core.linear import ALPHAS
from netphys.core.parallel import map_threads
from netphys.core.resample import make_permutations, make_shifts

NUISANCE, OASM = "nuisance", "OASM"


@dataclass(frozen=True)
class _Data:
    """Checked arrays: responses (participant, sample, region), nuisance per participant."""

    y: np.ndarray
    nuisance: list[np.ndarray | None]
    participants: list[str]
    regions: list[str]


def fit_encoding(
    features: Mapping[str, xr.DataArray],
    responses: xr.DataArray,
    *,
    nuisance: Mapping[str, xr.DataArray] | None = None,
    contrasts: Sequence[tuple[str, str]] | None = None,
    target: str = "participant",
    split: str | None = None,
    n_folds: int = 5,
    gap: int | None = None,
    groups: np.ndarray | None = None,
    allow_leakage: bool = False,
    n_inner: int = 4,
    oasm: bool = True,
    alphas: Sequence[float] = ALPHAS,
    n_null: int | None = None,
    n_bootstraps: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress: bool = True,
) -> Encoding:
    """Predict brain responses by ridge regression, from nuisance alone to the features of interest.

    Every feature set is fitted jointly with the nuisance, which is not penalised. Penalty and
    layer are chosen per participant and region in nested folds. A model without content (OASM) is
    fitted beside them.

    Parameters
    ----------
    features : mapping of str to DataArray, dims (time, unit) or (layer, time, unit)
        The rungs of the ladder, from control to claim; of several layers the inner folds choose.
        For iid responses `trial` takes the place of `time`.
    responses : DataArray, dims (participant, time, region)
        Attribute `order`: "ordered" or "iid"; `tr` in seconds for fMRI.
    nuisance : mapping of str to DataArray, dims (time,), (..., component), (participant, ...)
        Regressors that every model has, such as word rate and motion.
    contrasts : sequence of (str, str), optional
        Pairs of models whose difference is of interest; each rung and the one before it if left
        out.
    target : str
        Predict each "participant", or the mean of the "group".
    split, n_folds, gap, groups, allow_leakage
        As in `netphys.brain.splits.choose_folds`. Ordered data are never split at random.
    n_inner : int
        Nested folds within each training set, contiguous with the same gap.
    oasm : bool
        Fit the model without content beside the others.
    alphas : sequence of float
        Penalties in units of the kernel's mean eigenvalue.
    n_null : int, optional
        Draws under the null hypothesis: circular shifts for ordered data (all that are far enough
        if left out), permutations for iid data (999 if left out). 0: no null.
    n_bootstraps : int
        Draws of blocks of time and of participants, for the intervals.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    encoding : Encoding
        ``encoding.data`` has dims (model, participant, region): mean over folds of the within-fold
        correlation.

    Raises
    ------
    ValueError
        If times do not agree, responses are constant or unknown, features and responses are
        filtered differently, or ordered data would be split at random.

    Notes
    -----
    The null hypothesis of a rung is that it adds nothing to the nuisance: what the nuisance leaves
    of the responses is shifted in time against everything else (the same shift for all people,
    who share the stimulus), added back to the nuisance's fit, and everything is fitted again,
    choices included.

    References
    ----------
    .. [1] Freedman D, Lane D (1983). J Bus Econ Stat 1:292-298. doi:10.2307/1391660
    .. [2] Hadidi N, Feghhi E et al. (2026). Nat Commun. doi:10.1038/s41467-026-72253-7
    """
    _check_options(features, target, n_bootstraps, alphas)
    generator, seed = open_rng(rng)
    dim, nuisance = _find_dim(responses), nuisance or {}
    _check_flaws(responses, groups)
    data = _check_data(responses, nuisance, dim)
    folds, rule = choose_folds(
        responses,
        split=split,
        n_folds=n_folds,
        gap=gap,
        groups=groups,
        allow_leakage=allow_leakage,
        rng=generator,
    )
    ceiling = None
    if dim == "time" and len(data.participants) >= 3:
        ceiling = compute_ceiling(responses, target=target, folds=folds)
    if target == "group":
        data = _average(data)
    n = data.y.shape[1]
    rungs = {OASM: _make_oasm_sets(responses, n, groups)} if oasm else {}
    rungs |= {name: _check_features(name, x, responses, dim) for name, x in features.items()}
    layers = {OASM: [f"sigma {s}" for s in SIGMAS]} if oasm else {}
    layers |= {name: _get_layers(name, x) for name, x in features.items()}
    group_size = _find_group_size(responses, groups)
    ladder = Ladder(
        models=(NUISANCE, *rungs),
        rungs=tuple(rungs.values()),
        scale=tuple(name != OASM for name in rungs),
        folds=folds,
        n_inner=n_inner,
        gap=rule["gap"],
        groups=groups,
        alphas=tuple(alphas),
        orders=_make_orders(n, rule, n_null, group_size, responses, generator),
        drift=_find_drift(responses, n),
    )
    people = list(zip(data.y, data.nuisance, strict=True))
    fits = map_threads(
        lambda one: fit_person(ladder, *one), people, label="participants", progress=progress
    )
    params = {
        **rule,
        "order": responses.attrs["order"],
        "target": target,
        "n_inner": n_inner,
        "alphas": list(alphas),
        "n_bootstraps": n_bootstraps,
        "seed": seed,
        "nuisance": list(nuisance),
        "highpass": responses.attrs.get("highpass"),
        "tr": responses.attrs.get("tr"),
        "n_samples": n,
        "n_people": responses.sizes["participant"],
        "group_size": group_size,
        "personal": [k for k, z in nuisance.items() if "participant" in z.dims],
        "contrasts": [list(c) for c in _check_contrasts(contrasts, ladder.models)],
        "dataset": responses.attrs.get("dataset", ""),
    }
    return summarise(
        ladder, fits, data.y, ceiling, layers, params, data.participants, data.regions, generator
    )


def _check_options(
    features: Mapping[str, xr.DataArray], target: str, n_bootstraps: int, alphas: Sequence[float]
) -> None:
    check_option("target", target, TARGETS)
    check_positive("n_bootstraps", n_bootstraps)
    if n_bootstraps < 2:
        raise ValueError(f"n_bootstraps={n_bootstraps} gives no variance. Give at least 2.")
    if not len(alphas) or not min(alphas) > 0:
        raise ValueError(f"alphas={list(alphas)} must be one or more numbers above 0.")
    check_type("features", features, Mapping, "a mapping of names to DataArrays")
    if not features:
        raise ValueError("features is empty. Give at least one model: {'model': DataArray}.")


def _check_flaws(responses: xr.DataArray, groups: np.ndarray | None) -> None:
    """Raise if a series is constant or not all known."""
    flaws = check_responses(responses, groups=groups)
    if flaws:
        where, why = next(iter(flaws.items()))
        raise ValueError(
            f"responses of {where} cannot be used: {why} ({len(flaws)} such series). Leave them "
            "out, for example responses.drop_sel(participant=[...]) or (region=[...])."
        )


def _find_dim(responses: xr.DataArray) -> str:
    check_type("responses", responses, xr.DataArray, "a DataArray (participant, time, region)")
    dim = "trial" if "trial" in responses.dims else "time"
    missing = {"participant", dim, "region"} ^ set(responses.dims)
    if missing:
        raise ValueError(
            f"responses has dims {responses.dims}. Give (participant, time, region), or trial in "
            "the place of time; a single participant or region is a dim of size 1 "
            "(responses.expand_dims)."
        )
    return dim


def _check_data(responses: xr.DataArray, nuisance: Mapping[str, xr.DataArray], dim: str) -> _Data:
    for name in ("participant", "region"):
        labels = responses[name].to_numpy().tolist()
        if len(set(labels)) < len(labels):
            raise ValueError(f"responses have {name} labels twice: {labels}. Make them different.")
    y = responses.transpose("participant", dim, "region").to_numpy().astype(np.float64)
    participants = [str(p) for p in responses["participant"].to_numpy()]
    regions = [str(r) for r in responses["region"].to_numpy()]
    y = (y - y.mean(axis=1, keepdims=True)) / y.std(axis=1, keepdims=True)
    columns: list[list[np.ndarray]] = [[] for _ in participants]
    for name, z in nuisance.items():
        _check_aligned(f"nuisance[{name!r}]", z, responses, dim)
        if "participant" in z.dims:
            if "participant" not in z.coords:
                raise ValueError(
                    f"nuisance[{name!r}] has a dim participant without labels, so whose it is "
                    "cannot be known. Give the labels of responses: assign_coords(participant=...)."
                )
            z = z.sel(participant=responses["participant"])
        for p, own in enumerate(columns):
            one = z.isel(participant=p) if "participant" in z.dims else z
            own.append(one.transpose(dim, ...).to_numpy().reshape(y.shape[1], -1))
    joined = [np.hstack(own) if own else None for own in columns]
    return _Data(y, joined, participants, regions)


def _average(data: _Data) -> _Data:
    known = [z for z in data.nuisance if z is not None]
    mean = np.mean(known, axis=0) if known else None
    return _Data(data.y.mean(axis=0, keepdims=True), [mean], ["group mean"], data.regions)


def _check_aligned(name: str, x: xr.DataArray, responses: xr.DataArray, dim: str) -> None:
    """Raise unless `x` has the samples and the filter of the responses."""
    check_type(name, x, xr.DataArray, f"a DataArray with dim {dim}")
    n = responses.sizes[dim]
    if dim not in x.dims or x.sizes[dim] != n:
        has = f"{x.sizes[dim]} samples" if dim in x.dims else f"dims {x.dims}"
        raise ValueError(f"{name} has {has}, responses have {n} along {dim}. Align them first.")
    theirs, ours = (a[dim].to_numpy() if dim in a.coords else np.arange(n) for a in (responses, x))
    if not np.array_equal(theirs, ours):
        first = int(np.argmax(theirs != ours))
        raise ValueError(
            f"{name} and responses are not the same samples: {dim} {ours[first]} against "
            f"{theirs[first]} at position {first}. Align them first."
        )
    filters = [a.attrs.get("highpass") for a in (responses, x)]
    if filters[0] != filters[1]:
        raise ValueError(
            f"responses are high-pass filtered at {filters[0]} s, {name} at {filters[1]} s. Filter "
            "both alike: netphys.brain.prepare."
        )
    if not np.isfinite(x.to_numpy()).all():
        raise ValueError(f"{name} holds NaN or infinite values. Fill or leave out those samples.")


def _check_features(
    name: str, x: xr.DataArray, responses: xr.DataArray, dim: str
) -> list[np.ndarray]:
    """Return the feature sets of one rung, one array (sample, unit) per layer."""
    if name in (NUISANCE, OASM):
        raise ValueError(f"features: {name!r} is the name of a control. Choose another.")
    _check_aligned(f"features[{name!r}]", x, responses, dim)
    if "layer" not in x.dims:
        x = x.expand_dims("layer")
    extra = set(x.dims) ^ {"layer", dim, "unit"}
    if extra or not x.sizes["layer"] or not x.sizes["unit"]:
        raise ValueError(
            f"features[{name!r}] has dims {dict(x.sizes)}. Give ({dim}, unit) or (layer, {dim}, "
            "unit), none of them empty."
        )
    labels = _get_layers(name, x)
    if len(set(labels)) < len(labels):
        raise ValueError(f"features[{name!r}] has layer labels twice: {labels}.")
    return list(x.transpose("layer", dim, "unit").to_numpy())


def _get_layers(name: str, x: xr.DataArray) -> list[str]:
    if "layer" in x.coords:
        return [str(v) for v in np.atleast_1d(x["layer"].to_numpy())]
    n = x.sizes.get("layer", 1)
    return [name] if n == 1 else [f"{name} {k}" for k in range(n)]


def _check_contrasts(
    contrasts: Sequence[tuple[str, str]] | None, models: tuple[str, ...]
) -> list[tuple[str, str]]:
    if contrasts is None:
        rungs = [m for m in models if m != OASM]
        return [(b, a) for a, b in pairwise(rungs)]
    for pair in contrasts:
        for name in pair:
            check_option("contrasts", name, models)
    return [tuple(pair) for pair in contrasts]


def _find_drift(responses: xr.DataArray, n: int) -> np.ndarray | None:
    """Return what the responses' high-pass filter took out; None if they were not filtered."""
    cutoff = responses.attrs.get("highpass")
    return None if cutoff is None else make_drift(n, tr=responses.attrs["tr"], cutoff=cutoff)[:, 1:]


def _make_oasm_sets(responses: xr.DataArray, n: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """Return the feature sets of the model without content, filtered as the responses are."""
    sets = [make_oasm(n, sigma=s, groups=groups) for s in SIGMAS]
    cutoff = responses.attrs.get("highpass")
    if cutoff is None:
        return sets
    return [filter_highpass(x, tr=responses.attrs["tr"], cutoff=cutoff) for x in sets]


def _find_group_size(responses: xr.DataArray, groups: np.ndarray | None) -> int:
    """Return how many iid trials belong together and are moved together, 1 without groups."""
    if groups is None or responses.attrs["order"] != "iid":
        return 1
    labels = np.asarray(groups)
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    sizes = np.diff(np.append(first, len(labels)))
    if len(set(sizes.tolist())) > 1 or len(sizes) != len(set(labels.tolist())):
        raise ValueError(
            "groups of iid responses must be of equal size and each in one place, so that whole "
            "groups can be permuted. Sort by group, or average within groups."
        )
    return int(sizes[0])


def _make_orders(
    n: int,
    rule: dict,
    n_null: int | None,
    group_size: int,
    responses: xr.DataArray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return orders of the samples under the null hypothesis, (n_draws, n)."""
    check_type("n_null", n_null, (int, type(None)), "a number of draws, or None")
    if n_null is not None and n_null < 0:
        raise ValueError(f"n_null={n_null} is negative. Give a number of draws, 0 or None.")
    if n_null == 0:
        return np.empty((0, n), int)
    if responses.attrs["order"] == "iid":
        whole = make_permutations(n // group_size, n_null or 999, rng=rng)
        return (whole[:, :, None] * group_size + np.arange(group_size)).reshape(len(whole), n)
    shifts = make_shifts(n, min_shift=max(1, rule["gap"]))
    if n_null is not None and n_null < len(shifts):
        shifts = shifts[np.linspace(0, len(shifts) - 1, n_null).round().astype(int)]
    return (np.arange(n) - shifts[:, None]) % n
