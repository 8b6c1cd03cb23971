"""Tools on RDMs: average, merge, sort and transform them, and RDMs of categories.

Each takes RDMs and returns a new one; labels and their order stay, other dims are kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from netphys._check import check_option, check_type, suggest
from netphys.analysis._merge import bring_to, merge_coords, merge_params, name_rdms
from netphys.analysis._rescale import RESCALES, SCALE_WORDS, average, measure_rms, rescale_rdms
from netphys.analysis.rdm import PAIR, RDM

TRANSFORMS = ("rank", "sqrt", "positive", "minmax")
STEP_WORDS = {
    "rank": "replaced by their ranks (the mean rank where they tie)",
    "sqrt": "replaced by their square roots",
    "positive": "set to 0 where they were negative",
    "minmax": "scaled to run from 0 to 1",
}


def average_rdms(
    rdm: RDM,
    *,
    dim: str = "participant",
    weights: Sequence[float] | None = None,
    rescale: str | None = None,
) -> RDM:
    """Average RDMs over a dim, pair by pair over those that know the pair.

    Parameters
    ----------
    rdm : RDM
        With the dim `dim`; other dims are kept.
    dim : str
        What to average over, such as "participant", "seed" or "fold".
    weights : sequence of float, optional
        One per label of `dim`, at least 0; left out: all alike.
    rescale : str, optional
        For partial RDMs on different scales, such as arrangements of subsets on a screen: bring
        them to a common scale first, "rms" (then every RDM counts alike), "setsize" (weighted by 1
        over the number of pairs it knows) or "evidence" (every dissimilarity weighted by its
        square before scaling: large ones were placed with the smaller relative error).

    Returns
    -------
    rdm : RDM
        Without `dim`. ``stats["n_known"]`` counts the RDMs that know each pair; pairs that none
        knows are NaN. Rescaled ones have a root mean square of 1 over their known pairs.

    Raises
    ------
    ValueError
        If the dim does not exist, weights do not fit, or with `rescale` an RDM is 0 everywhere or
        shares no pair with the others, not even through a third.

    Notes
    -----
    Each round of `rescale` gives every RDM the root mean square that the current estimate has over
    the pairs it knows, and takes the weighted mean of the RDMs as the next estimate, until no pair
    changes by more than 1e-12 of the estimate's length. For non-negative dissimilarities that share
    pairs there is one solution. Evidence is at least that of a fifth of the RDM's largest
    dissimilarity.

    References
    ----------
    .. [1] Kriegeskorte N, Mur M (2012). Front Psychol 3:245. doi:10.3389/fpsyg.2012.00245

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> pairs = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
    >>> people = to_rdm(pairs, conditions=list("abc"), dims=["participant"])
    >>> average_rdms(people).to_frame()["dissimilarity"].tolist()
    [2.0, 3.0, 5.0]
    """
    _check_dim(rdm, dim)
    if rescale is not None:
        check_option("rescale", rescale, RESCALES)
    n = rdm.data.sizes[dim]
    given = _check_weights(weights, n, dim)
    data = rdm.data.transpose(dim, ..., *PAIR)
    values, labels = data.to_numpy(), data[dim].to_numpy().tolist()
    known = np.isfinite(values) & (given > 0).reshape(-1, *[1] * (values.ndim - 1))
    each = np.broadcast_to(given.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    if rescale is not None:
        values, each = rescale_rdms(values, given, rescale, f"{dim}=", labels)
    mean = average(values, np.where(known, each, 0.0))
    attrs = dict(data.attrs)
    if rescale is not None:
        mean /= measure_rms(mean)
        attrs["units"] = "dissimilarity (root mean square 1)"
    kept = {k: v for k, v in data.coords.items() if dim not in v.dims}
    dims = data.dims[1:]
    made = xr.DataArray(mean, kept, dims, name=data.name, attrs=attrs)
    counts = xr.DataArray(known.sum(axis=0), kept, dims)
    others = [d for d in rdm.data.dims if d != dim]
    stats = rdm.stats.drop_vars([k for k, v in rdm.stats.variables.items() if dim in v.dims])
    stats = stats.assign(n_known=counts.transpose(*others))
    how = "" if weights is None else " with given weights"
    how += "" if rescale is None else f" after rescaling to a common scale, {SCALE_WORDS[rescale]}"
    facts = {"dim": dim, "n": n, "weights": given.tolist(), "rescale": rescale}
    step = f"averaged over {n} labels of {dim}{how}"
    params = _add_step(rdm.params | {"average": facts}, step)
    return RDM(made.transpose(*others), stats, None, params, rdm.provenance)


def merge_rdms(rdms: Mapping[str, RDM] | Sequence[RDM], *, dim: str = "participant") -> RDM:
    """Put RDMs over different, overlapping sets of conditions into one over the union.

    Parameters
    ----------
    rdms : mapping of str to RDM, or sequence of RDM
        A mapping names each RDM, which has no dim `dim` yet; those of a sequence have it, with
        labels that differ. Other dims are the same in all.
    dim : str
        Dim along which the RDMs stand in the result.

    Returns
    -------
    rdm : RDM
        Conditions in the order of first appearance; pairs that an RDM does not know are NaN.

    Raises
    ------
    ValueError
        If dims or their labels do not fit, labels of `dim` occur twice, the dissimilarities are
        not of the same kind, or conditions that are ordered in time come in conflicting orders.

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> early = to_rdm(np.array([1.0, 2.0, 3.0]), conditions=["a", "b", "c"])
    >>> late = to_rdm(np.array([4.0, 5.0, 6.0]), conditions=["b", "c", "d"])
    >>> both = merge_rdms({"early": early, "late": late}, dim="repetition")
    >>> both.conditions, int(np.isnan(both.data.sel(repetition="early", condition="d")).sum())
    (['a', 'b', 'c', 'd'], 4)
    """
    named = name_rdms(rdms, dim)
    first, *_ = named.values()
    labels = list(dict.fromkeys(c for r in named.values() for c in r.conditions))
    arrays = [bring_to(first, r, name, dim, labels) for name, r in named.items()]
    coords = merge_coords(arrays, dim)
    dims = arrays[0].dims
    values = np.concatenate([a.to_numpy() for a in arrays], axis=dims.index(dim))
    data = xr.DataArray(values, coords, dims, name=first.data.name, attrs=first.data.attrs)
    sizes = sorted(len(r.conditions) for r in named.values())
    step = (
        f"put together from {len(named)} sets of {sizes[0]} to {sizes[-1]} of the {len(labels)} "
        "conditions"
    )
    origin = {"members": {name: dict(r.provenance) for name, r in named.items()}}
    ordered = [r for r in named.values() if r.provenance.get("order") == "ordered"]
    for r in ordered:
        place = [labels.index(c) for c in r.conditions]
        if place != sorted(place):
            raise ValueError(
                "rdms hold conditions that are ordered in time, in conflicting orders. List the "
                "RDM with the earliest conditions first."
            )
    origin |= {"order": "ordered"} if ordered else {}
    params = _add_step(merge_params([r.params for r in named.values()]), step)
    return RDM(data.transpose(*PAIR, ...), xr.Dataset(), None, params, origin)


def sort_rdm(rdm: RDM, *, by: Sequence[str] | Mapping[str, Hashable]) -> RDM:
    """Put the conditions into another order, which names each of them exactly once.

    Parameters
    ----------
    rdm : RDM
        Any dims.
    by : sequence of str, or mapping of str to label
        All conditions in the new order; or the group of each: groups stand in the order in which
        the mapping first names them, conditions of a group in the order that they have in `rdm`.

    Returns
    -------
    rdm : RDM
        The same values under the same labels.

    Raises
    ------
    ValueError
        If a condition is missing, unknown or named twice, or conditions are ordered in time.

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.arange(6.0), conditions=["cat", "car", "dog", "bus"])
    >>> sort_rdm(rdm, by={"bus": "thing", "car": "thing", "dog": "animal", "cat": "animal"}
    ... ).conditions
    ['car', 'bus', 'cat', 'dog']
    """
    check_type("rdm", rdm, RDM, "an RDM")
    if rdm.provenance.get("order") == "ordered":
        raise ValueError(
            "rdm holds conditions that are ordered in time: in another order circular shifts would "
            "test nothing. For a picture only, sort to_rdm(rdm.data)."
        )
    if isinstance(by, str):
        raise TypeError(f"by={by!r} is a str. Give a list of all conditions, or their groups.")
    named = list(by)
    have = rdm.conditions
    unknown = [c for c in named if c not in set(have)]
    missing = [c for c in have if c not in set(named)]
    twice = next((c for k, c in enumerate(named) if c in named[:k]), None)
    if unknown:
        raise ValueError(
            f"by names {unknown[0]!r}, which is not a condition of rdm.{suggest(unknown[0], have)}"
        )
    if twice is not None:
        raise ValueError(f"by names {twice!r} twice. Name each condition once.")
    if missing:
        raise ValueError(
            f"by leaves out {len(missing)} of {len(have)} conditions: "
            f"{', '.join(map(repr, missing[:5]))}{', ...' if len(missing) > 5 else ''}. Name all, "
            "or pick some with rdm.select(condition=[...])."
        )
    if isinstance(by, Mapping):
        groups = list(dict.fromkeys(by.values()))
        named = sorted(have, key=lambda c: groups.index(by[c]))  # stable
    picks = dict.fromkeys(PAIR, named)
    stats = rdm.stats.sel({d: v for d, v in picks.items() if d in rdm.stats.dims})
    return RDM(rdm.data.sel(picks), stats, None, rdm.params, rdm.provenance)


def transform_rdm(rdm: RDM, *, how: str) -> RDM:
    """Transform the dissimilarities of each matrix by itself.

    Parameters
    ----------
    rdm : RDM
        Any dims; each matrix is transformed by itself.
    how : str
        "rank" (from 1, mean ranks for ties), "sqrt" (square root: distances from squared ones),
        "positive" (negative ones become 0), or "minmax" (the smallest becomes 0, the largest 1).

    Returns
    -------
    rdm : RDM
        The same labels; pairs that are NaN stay so, the diagonal stays as it is.

    Raises
    ------
    ValueError
        If `how` is unknown, there are negative dissimilarities for "sqrt", or a matrix is constant
        for "minmax".

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([4.0, 9.0, 9.0]), conditions=["a", "b", "c"])
    >>> transform_rdm(rdm, how="rank").to_frame()["dissimilarity"].tolist()
    [1.0, 2.5, 2.5]
    """
    check_type("rdm", rdm, RDM, "an RDM")
    check_option("how", how, TRANSFORMS)
    dims = (*rdm.extra_dims, *PAIR)
    square = rdm.data.transpose(*dims).to_numpy().copy()
    i, j = np.triu_indices(square.shape[-1], 1)
    pairs = square[..., i, j]
    if how == "rank":
        changed = rankdata(pairs, axis=-1, nan_policy="omit")
    elif how == "sqrt":
        if (low := np.nanmin(pairs, initial=0.0)) < 0:
            raise ValueError(
                f"rdm holds negative dissimilarities, down to {low:.3g}, which have no square "
                "root. Apply how='positive' first if they are to count as 0."
            )
        changed = np.sqrt(pairs)
    elif how == "positive":
        changed = np.maximum(pairs, 0.0)
    else:
        changed = _scale_range(pairs)
    square[..., i, j] = square[..., j, i] = changed
    units = str(rdm.data.attrs.get("units", "dissimilarity"))
    units = {
        "rank": f"rank of {units}",
        "sqrt": f"square root of {units}",
        "positive": units,
        "minmax": "dissimilarity (from 0 to 1)",
    }[how]
    data = rdm.data.transpose(*dims).copy(data=square).transpose(*rdm.data.dims)
    data.attrs |= {"units": units}
    steps = [*rdm.params.get("transforms", ()), how]
    params = _add_step(rdm.params | {"transforms": steps}, STEP_WORDS[how])
    return RDM(data, rdm.stats, None, params, rdm.provenance)


def make_category_rdm(labels: Mapping[str, Hashable]) -> RDM:
    """Make the model RDM of categories: 0 within a category, 1 between.

    Parameters
    ----------
    labels : mapping of str to label
        Category of each condition.

    Returns
    -------
    rdm : RDM
        Conditions in the order of the mapping.

    Raises
    ------
    ValueError
        If there is one category only, or each condition is a category of its own.

    Examples
    --------
    >>> make_category_rdm({"cat": "animal", "bus": "thing", "dog": "animal"}).data.to_numpy()
    array([[0., 1., 0.],
           [1., 0., 1.],
           [0., 1., 0.]])
    """
    check_type("labels", labels, Mapping, "a mapping of conditions to their categories")
    names = [str(c) for c in labels]
    categories = [str(v) for v in labels.values()]
    if len(set(names)) < len(names):
        twice = next(c for c in names if names.count(c) > 1)
        raise ValueError(f"labels names {twice!r} twice. Give each condition its own label.")
    n = len(set(categories))
    if n < 2 or n == len(names):
        raise ValueError(
            f"labels has {n} {'category' if n == 1 else 'categories'} for {len(names)} conditions: "
            "all pairs would be alike. Give at least two categories, one of them with two members."
        )
    codes = np.array([categories.index(c) for c in categories])
    values = (codes[:, None] != codes).astype(np.float64)
    attrs = {"units": "different category (0 or 1)", "metric": "category"}
    data = xr.DataArray(values, dict.fromkeys(PAIR, names), PAIR, name="dissimilarity", attrs=attrs)
    groups = dict(zip(names, categories, strict=True))
    return RDM(data, params={"metric": "category", "source": "stored", "categories": groups})


# ---------------------------------------------------------------------- parts
def _add_step(params: Mapping, text: str) -> dict[str, object]:
    return {**params, "steps": [*params.get("steps", ()), text]}


def _check_dim(rdm: RDM, dim: str) -> None:
    check_type("rdm", rdm, RDM, "an RDM")
    if dim not in rdm.extra_dims:
        raise ValueError(
            f"dim={dim!r} is not a dim of rdm besides the conditions."
            f"{suggest(dim, rdm.extra_dims)} It has: {', '.join(rdm.extra_dims) or 'none'}."
        )


def _check_weights(weights: Sequence[float] | None, n: int, dim: str) -> np.ndarray:
    if weights is None:
        return np.ones(n)
    given = np.asarray(weights, np.float64)
    if given.shape != (n,):
        raise ValueError(
            f"weights has shape {given.shape}. Give one number for each of the {n} labels of "
            f"{dim!r}."
        )
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError(
            f"weights={given.tolist()} holds numbers that are negative or not finite, or only 0. "
            "Give weights of at least 0, one of them above."
        )
    return given


def _scale_range(pairs: np.ndarray) -> np.ndarray:
    known = np.isfinite(pairs)
    low = np.where(known, pairs, np.inf).min(axis=-1, keepdims=True)
    high = np.where(known, pairs, -np.inf).max(axis=-1, keepdims=True)
    if (low == high).any():
        raise ValueError(
            "rdm holds a matrix whose dissimilarities are all alike: it has no range to scale. "
            "Leave that matrix out with rdm.select(...)."
        )
    return (pairs - low) / np.where(high > low, high - low, 1.0)  # no pair known: stays NaN
