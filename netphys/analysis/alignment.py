"""Comparison of two representations by their activity patterns, with its null.

Where `netphys.analysis.rsa` compares dissimilarities between conditions, `compare_patterns`
compares the patterns themselves: by alignment of kernels, canonical correlations, rotations,
matched units or shared neighbours. Every one of these differs by convention between packages: the
result says which one was used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._align import MIN_CONDITIONS, check_draws, find_order, open_rng
from netphys.analysis._distances import average_groups, check_finite, find_labels
from netphys.core.compare.cca import pair_cca
from netphys.core.compare.cka import pair_cka
from netphys.core.compare.matching import pair_units
from netphys.core.compare.neighbours import pair_neighbours
from netphys.core.compare.shape import pair_shapes
from netphys.core.resample import compute_p, compute_shift_p, make_permutations
from netphys.data.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DRAWS = {
    "iid": "permutations of the pairing of conditions",
    "ordered": "shifts of one side against the other in time",
}
MAX_SHIFTS = 200  # of ordered conditions; each takes the whole comparison
U_STATISTIC = "debiased (U-statistic)"


@dataclass(frozen=True)
class _Measure:
    """A measure, what it takes besides the patterns, and the convention it follows."""

    name: str
    pair: Callable[..., Callable[..., float]]
    range: str
    scaling: str
    citations: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    centring: str = "each unit over conditions"
    correction: str = "none"


def _make_cka(name: str, kernel: str, scaling: str, **facts: object) -> _Measure:
    pair, cited = partial(pair_cka, kernel=kernel), ("kornblith2019", "szekely2014")
    return _Measure(name, pair, "-1 to 1", scaling, cited, correction=U_STATISTIC, **facts)


def _make_cca(name: str, variant: str, scaling: str, cited: tuple, **facts: object) -> _Measure:
    return _Measure(name, partial(pair_cca, variant=variant), "0 to 1", scaling, cited, **facts)


def _make_matching(name: str, matching: str, cited: str) -> _Measure:
    pair = partial(pair_units, matching=matching)
    return _Measure(
        f"mean correlation of {name}", pair, "-1 to 1", "each unit to length 1", (cited,)
    )


MEASURES = {
    "cka": _make_cka("linear CKA", "linear", "none; invariant to one scale per side"),
    "cka-rbf": _make_cka(
        "RBF CKA",
        "rbf",
        "distances over their median",
        options={"bandwidth": 0.8},
        centring="kernel",
    ),
    "cca": _make_cca(
        "mean canonical correlation", "cca", "whitened", ("hotelling1936", "raghu2017")
    ),
    "svcca": _make_cca(
        "SVCCA",
        "svcca",
        "leading components, whitened",
        ("raghu2017",),
        options={"variance": 0.99},
    ),
    "pwcca": _make_cca("PWCCA (weights of a)", "pwcca", "whitened", ("morcos2018",)),
    "shape": _Measure(
        "shape", pair_shapes, "", "", ("williams2021",), {"alpha": 1.0, "score": "angular"}
    ),
    "one-to-one": _make_matching("units matched one to one", "one-to-one", "li2016"),
    "semi-matching": _make_matching("units of a with their best partners", "semi", "li2016"),
    "soft-matching": _make_matching("softly matched units", "soft", "khosla2024"),
    "mutual-knn": _Measure(
        "overlap of nearest neighbours",
        pair_neighbours,
        "0 to 1",
        "none",
        ("huh2024",),
        {"k": 10, "metric": "cosine"},
        centring="none",
    ),
}
SHAPE = {  # score: name, kind, range, scaling
    "angular": ("angular distance", "distance", "0 to pi/2 rad", "overall size to 1"),
    "euclidean": ("distance", "distance", "0 upward, units of the data", "none"),
    "cosine": ("similarity (cosine)", "score", "0 to 1", "overall size to 1"),
}


@dataclass(frozen=True, eq=False, repr=False)
class PatternComparison(Result):
    """Similarity of, or distance between, two sets of activity patterns; `data` is one number.

    In `stats`: `p`, one-sided (a similarity larger, a distance smaller than by chance); `expected`,
    the mean of the draws; `statistic`, what they are compared with: `data` itself, or for ordered
    conditions the same in a window. `null` holds the draws. `params` names the convention: `kind`
    ("score" or "distance"), `range`, `centring`, `scaling`, `correction`.
    """

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        tested = {"iid": ("phipson2010",), "ordered": ("harris2020",)}[self.params["order"]]
        keys = (*super().get_citations(), *MEASURES[self.params["measure"]].citations)
        return keys if self.null is None else (*keys, *tested)

    def summary(self) -> str:
        """Return the comparison with its p-value as text for a terminal.

        Returns
        -------
        text : str
            One line.
        """
        p = self.params
        what = f"{p['name']} over {p['n_conditions']} conditions, {_list_units(p['n_units'])}"
        if self.null is None:
            return f"{what}: {float(self.data):.3f} ({p['null']})"
        statistic, expected, chance = (float(self.stats[k]) for k in ("statistic", "expected", "p"))
        window = f"; in windows of {p['window']} {statistic:.3f}"
        return (
            f"{what}: {float(self.data):.3f}{window if p['order'] == 'ordered' else ''}, by chance "
            f"{expected:.3f}, p = {chance:.3g} ({p['n_draws']} {p['null']})"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the value as a table, with p and its value by chance where there are any.

        Returns
        -------
        table : DataFrame
            One row.
        """
        table = super().to_frame()
        for name in ("statistic", "expected", "p"):
            if name in self.stats:
                table[name] = float(self.stats[name])
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the null as a histogram, and what was observed.

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
            If there is no null.
        """
        from netphys._draw.rdm import draw_null

        if self.null is None:
            raise ValueError(
                f"This comparison has no null to draw: {self.params['null']}. Compare again with "
                "n_permutations=1000."
            )
        title = f"n = {self.params['window']} conditions"
        observed = float(self.stats["statistic"])
        unit = self.data.attrs["units"]
        return draw_null(self.null.to_numpy(), observed, unit=unit, title=title, ax=ax)

    def describe_methods(self) -> str:
        """Return one paragraph on how the patterns were compared.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        cited = ", ".join(f"[{key}]" for key in MEASURES[p["measure"]].citations)
        options = "".join(f", {k} = {v}" for k, v in p["options"].items())
        text = (
            f"Activity patterns of {p['n_conditions']} conditions ({_list_units(p['n_units'])}) "
            f"were compared by {p['name']} {cited}, a {p['kind']} of range {p['range']}{options}. "
            f"Centring: {p['centring']}; scaling: {p['scaling']}; correction for bias: "
            f"{p['correction']}."
        )
        if self.null is None:
            return f"{text} No p-value was computed: {p['null']}."
        if p["order"] == "iid":
            how = "as (1 + hits) / (1 + draws) [phipson2010]"
        else:
            how = (
                f"in windows of {p['window']} conditions [harris2020], by their mean and SD, for "
                "as many draws as their autocorrelation leaves"
            )
        return f"{text} The one-sided p-value comes from {p['n_draws']} {p['null']}, {how}."


def compare_patterns(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    measure: str = "cka",
    by: str = "stimulus_id",
    bandwidth: float | None = None,
    variance: float | None = None,
    alpha: float | None = None,
    score: str | None = None,
    k: int | None = None,
    metric: str | None = None,
    order: str | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> PatternComparison:
    """Compare the activity patterns of two networks, or of a network and a brain, and test it.

    Parameters
    ----------
    a, b : DataArray, dims (trial, unit)
        Activity, arbitrary units, such as ``session.pool(site)``; over the same conditions, in any
        order. Units may differ in number and mean nothing to each other.
    measure : str
        Similarities: "cka" (linear) and "cka-rbf", debiased; "cca" (mean canonical correlation),
        "svcca", "pwcca" (weights of `a`); "one-to-one", "semi-matching" (units of `a` with their
        best partners in `b`) and "soft-matching", mean correlations of units; "mutual-knn".
        "shape": Procrustes distance and its relatives.
    by : str
        Trial coordinate that names the condition; trials of a condition are averaged.
    bandwidth : float, optional
        Of "cka-rbf": fraction of the median distance; 0.8.
    variance : float, optional
        Of "svcca": share of the variance that is kept; 0.99.
    alpha : float, optional
        Of "shape": 1 (Procrustes) to 0 (whitened, as in CCA); 1.
    score : str, optional
        Of "shape": "angular", "euclidean" or "cosine" (a similarity); "angular".
    k : int, optional
        Of "mutual-knn": number of neighbours; 10.
    metric : str, optional
        Of "mutual-knn": "cosine", "euclidean" or "correlation"; "cosine".
    order : str
        How conditions were sampled: "iid" (their pairing is permuted for the null) or "ordered" (in
        time, as `a` lists them: one side is shifted). Left out: what the attribute `order` of the
        data says, else "iid".
    n_permutations : int
        Draws under the null hypothesis; 0: none. Ordered conditions have their own number of
        shifts, at most 200.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    comparison : PatternComparison
        `data` is the similarity or distance, without dims; `stats` has `p`, `expected`, its mean by
        chance, and `statistic`, what was tested; `null` the draws.

    Raises
    ------
    TypeError
        If `a` or `b` is no DataArray.
    ValueError
        If dims or conditions do not fit, there are fewer than four conditions, values are NaN or
        infinite, an option has no part in the measure, ordered conditions are declared iid, or the
        measure refuses the patterns (see its function in `netphys.core.compare`).

    Notes
    -----
    Only the debiased alignments are near 0 by chance; read every other one next to
    ``stats["expected"]``. A draw takes milliseconds, but for "soft-matching" of hundreds of units
    in unequal numbers, which takes seconds: lower `n_permutations`.

    Ordered conditions are compared in windows of about two thirds of them, which are as far apart
    in time on the two sides as a tenth to a third of all conditions, and this with the window that
    both have in the middle. Shifted in a circle, smooth series would match worse than they do by
    chance, since one has a break where its end meets its beginning. Of unrelated series of 60 to
    150 samples, smoothed by up to 4 samples (SD), 2 to 9 % are significant. One side at least must
    be stationary: slow drifts on both match. Canonical correlations of many smooth units are near 1
    by chance, and their p-values can be far too small.

    References
    ----------
    .. [1] Kornblith S et al. (2019). ICML 97:3519-3529. doi:10.48550/arXiv.1905.00414
    .. [2] Raghu M et al. (2017). NeurIPS 30:6076-6085. doi:10.48550/arXiv.1706.05806
    .. [3] Morcos AS, Raghu M, Bengio S (2018). NeurIPS 31. doi:10.48550/arXiv.1806.05759
    .. [4] Williams AH, Kunz E, Kornblith S, Linderman SW (2021). NeurIPS 34:4738-4750.
       doi:10.48550/arXiv.2110.14739
    .. [5] Li Y et al. (2016). ICLR 4. doi:10.48550/arXiv.1511.07543
    .. [6] Khosla M, Williams AH (2024). UniReps 243:326-341. doi:10.48550/arXiv.2311.09466
    .. [7] Huh M, Cheung B, Wang T, Isola P (2024). ICML 41:20617-20642.
       doi:10.48550/arXiv.2405.07987
    .. [8] Harris KD (2020). bioRxiv. doi:10.1101/2020.11.29.402719

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> values = np.random.default_rng(0).normal(size=(20, 6))
    >>> coords = {"stimulus_id": ("trial", [f"s{i}" for i in range(20)])}
    >>> a = xr.DataArray(values, coords, ("trial", "unit"))
    >>> result = compare_patterns(a, a[::-1], n_permutations=99, rng=0)
    >>> round(float(result.data), 6), float(result.stats["p"])
    (1.0, 0.01)
    """
    check_option("measure", measure, MEASURES, "Procrustes distance is 'shape' with alpha=1.")
    given = {"bandwidth": bandwidth, "variance": variance, "alpha": alpha, "score": score}
    options = _take_options(measure, given | {"k": k, "metric": metric})
    sides = {"a": _average(a, "a", by), "b": _average(b, "b", by)}
    order = find_order(order, *sides.values())
    check_draws("n_permutations", n_permutations)
    x, y = _align(**sides)
    n = len(x)
    if n < MIN_CONDITIONS:
        raise ValueError(
            f"a and b have {n} conditions by {by!r}. At least {MIN_CONDITIONS} are needed."
        )
    generator, seed = open_rng(rng)
    pair = partial(MEASURES[measure].pair, **options)
    compare = pair(x, y)
    observed, convention = compare(), _describe_measure(measure, options)
    if n_permutations == 0:
        chance = _Chance("left out (n_permutations=0)", n)
    elif order == "ordered":
        chance = _shift_windows(pair, x, y)
    else:
        orders = make_permutations(n, n_permutations, rng=generator)
        draws = np.array([compare(drawn) for drawn in orders])
        chance = _Chance(DRAWS["iid"], n, observed, draws)
    null, stats = None, {}
    if chance.draws is not None:
        stats = {"p": _compute_p(chance, order, convention["kind"])}
        stats |= {"statistic": chance.statistic, "expected": chance.draws.mean()}
        null = xr.DataArray(chance.draws, dims="draw", name="null")
    params = {"measure": measure, **convention, "options": options, "by": by, "order": order}
    params |= {"n_conditions": n, "n_units": [x.shape[1], y.shape[1]]}
    params |= {"n_trials": [side.n_trials for side in sides.values()]}
    params |= {"null": chance.what, "n_draws": 0 if null is None else len(null), "rng": seed}
    params |= {"window": chance.window}
    name = "similarity" if convention["kind"] == "score" else "distance"
    attrs = {"units": convention["name"], "kind": convention["kind"]}
    data = xr.DataArray(observed, name=name, attrs=attrs)
    origin = {key: dict(side.provenance) for key, side in sides.items()}
    return PatternComparison(data, xr.Dataset(stats), null, params, origin)


@dataclass(frozen=True)
class _Patterns:
    """Mean patterns (condition, unit) with their labels, and what the data say of themselves."""

    values: np.ndarray
    labels: list[str]
    n_trials: list[int]  # fewest and most per condition
    provenance: dict[str, str]


def _average(x: xr.DataArray, name: str, by: str) -> _Patterns:
    """Return the mean pattern of each condition."""
    what = "a DataArray with dims (trial, unit), such as session.pool(site)"
    check_type(name, x, xr.DataArray, what)
    if set(x.dims) != {"trial", "unit"}:
        extra = [str(d) for d in x.dims if d not in ("trial", "unit")]
        pick = f" Pick one label of {extra[0]!r}: x.sel({extra[0]}=...)." if extra else ""
        raise ValueError(f"{name} has dims {x.dims}. Give {what}.{pick}")
    x = x.transpose("trial", "unit")
    try:
        codes, labels = find_labels(x, "by", by)
        check_finite(x, codes, labels)
    except ValueError as error:
        raise ValueError(f"{name} cannot be averaged: {error}") from error
    trials = np.bincount(codes)
    facts = {k: v for k, v in x.attrs.items() if isinstance(v, str)}
    counts = [int(trials.min()), int(trials.max())]
    return _Patterns(average_groups(x.to_numpy(), codes), labels, counts, facts)


def _align(a: _Patterns, b: _Patterns) -> tuple[np.ndarray, np.ndarray]:
    """Return the patterns of both in the order of the conditions of `a`."""
    rows = {label: i for i, label in enumerate(b.labels)}
    only = {"a": [c for c in a.labels if c not in rows], "b": sorted(set(rows) - set(a.labels))}
    if any(only.values()):
        lists = [
            f" Only in {k}: {', '.join(map(repr, v[:5]))}{' ...' if len(v) > 5 else ''}."
            for k, v in only.items()
            if v
        ]
        raise ValueError(
            f"a and b have different conditions.{''.join(lists)} Keep the trials of those of both: "
            "x.isel(trial=keep)."
        )
    return a.values, b.values[[rows[c] for c in a.labels]]


def _take_options(measure: str, given: dict[str, object]) -> dict[str, object]:
    """Return the options of a measure, refusing those that have no part in it."""
    options = dict(MEASURES[measure].options)
    for name, value in given.items():
        if value is None:
            continue
        if name not in options:
            takes = ", ".join(options) or "none"
            raise ValueError(
                f"{name}={value!r} has no part in measure={measure!r}, whose options are: {takes}. "
                "Leave it out."
            )
        options[name] = value
    return options


def _describe_measure(measure: str, options: Mapping[str, object]) -> dict[str, str]:
    """Return the convention that a measure follows, in words."""
    m = MEASURES[measure]
    facts = {"name": m.name, "kind": "score", "range": m.range}
    facts |= {"centring": m.centring, "scaling": m.scaling, "correction": m.correction}
    if measure != "shape":
        return facts
    alpha = options["alpha"]
    name, kind, span, scaling = SHAPE[options["score"]]
    family = "Procrustes" if alpha == 1 else f"shape (alpha = {alpha:g})"
    facts |= {"name": f"{family} {name}", "kind": kind, "range": span, "scaling": scaling}
    if alpha < 1:
        whitened = "whitened" if alpha == 0 else "partly whitened"
        facts["scaling"] = whitened + ("" if scaling == "none" else f", then {scaling}")
    return facts


@dataclass(frozen=True)
class _Chance:
    """What was tested in how many conditions, and what it is by chance; or why it was not."""

    what: str
    window: int
    statistic: float | None = None
    draws: np.ndarray | None = None


def _shift_windows(pair: Callable, a: np.ndarray, b: np.ndarray) -> _Chance:
    """Compare a window that both have with windows that are apart in time, without wrapping."""
    n = len(a)
    near = max(1, n // 10)
    far = max(n // 3, near + 19)  # at least 40 lags
    if far > n // 2:
        return _Chance(f"{n} ordered conditions are too few for a test by shifts", n)
    lags = np.concatenate([np.arange(-far, 1 - near), np.arange(near, far + 1)])
    lags = lags[:: -(-len(lags) // MAX_SHIFTS)]
    starts = [(max(-lag, 0), max(lag, 0)) for lag in lags]
    width, middle = n - far, far // 2
    try:
        values = [pair(a[i : i + width], b[j : j + width])() for i, j in starts]
        statistic = pair(a[middle : middle + width], b[middle : middle + width])()
    except ValueError as error:
        return _Chance(f"windows of {width} conditions cannot be compared: {error}", width)
    return _Chance(DRAWS["ordered"], width, statistic, np.array(values))


def _compute_p(chance: _Chance, order: str, kind: str) -> float:
    """Return the one-sided p-value of a score that is large, or a distance that is small."""
    sign = 1 if kind == "score" else -1
    test = compute_p if order == "iid" else compute_shift_p
    return float(test(np.float64(sign * chance.statistic), sign * chance.draws))


def _list_units(counts: list[int]) -> str:
    return f"{counts[0]} and {counts[1]} units"
