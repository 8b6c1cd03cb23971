"""Representational similarity analysis: dissimilarities between conditions, and their comparison.

An `RDM` holds the dissimilarities of every pair of conditions, for as many layers, people or
regions as the data have. `compare_rdms` and `netphys.brain.match` relate RDMs to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys._options import METRICS, RDM_METRICS
from netphys.analysis._distances import (
    check_finite,
    find_labels,
    measure_blocks,
    measure_distances,
    split_units,
)
from netphys.analysis.comparison import Comparison, compare_rdms, compute_rsa_ceiling
from netphys.analysis.rdm import PAIR, RDM
from netphys.analysis.rdm_tools import (
    average_rdms,
    make_category_rdm,
    merge_rdms,
    sort_rdm,
    transform_rdm,
)
from netphys.core.compare import compute_pairs
from netphys.core.square import make_square
from netphys.data.cohort import Cohort
from netphys.data.session import Session

__all__ = [
    "RDM",
    "Comparison",
    "average_rdms",
    "compare_rdms",
    "compute_layer_rdms",
    "compute_rdm",
    "compute_rsa_ceiling",
    "make_category_rdm",
    "merge_rdms",
    "sort_rdm",
    "to_rdm",
    "transform_rdm",
]

UNITS = {
    "correlation": "dissimilarity (1 - r)",
    "euclidean": "squared distance per unit (a.u.²)",
    "cosine": "dissimilarity (1 - cosine)",
    "mahalanobis": "squared distance per unit (noise SD²)",
    "crossnobis": "cross-validated squared distance per unit",
    "poisson": "divergence per unit (nats)",
    "poisson-cv": "cross-validated divergence per unit (nats)",
}
DEFAULT_SITES = ("embed", "resid")


def compute_rdm(
    x: xr.DataArray,
    *,
    by: str = "stimulus_id",
    metric: str = "correlation",
    folds: str | None = None,
    noise: str | np.ndarray | None = None,
    prior: tuple[float, float] = (1.0, 0.1),
) -> RDM:
    """Compute the dissimilarities between the activity patterns of conditions.

    Parameters
    ----------
    x : DataArray, dims (trial, unit, ...)
        Activity, arbitrary units, such as ``session.pool(site)``; other dims are kept.
    by : str
        Trial coordinate that names the condition; trials of a condition are averaged.
    metric : str
        "correlation" (1 - Pearson's r over units), "euclidean" (squared, divided by the number of
        units), "cosine" (1 - cosine), "mahalanobis" (squared, in units of the noise), "poisson"
        (symmetrised Kullback-Leibler divergence of rates); "crossnobis" and "poisson-cv" are
        cross-validated over `folds`, so that noise adds nothing on average.
    folds : str, optional
        For cross-validated metrics: trial coordinate that names the run. Left out: the n-th
        repeats of all conditions are the n-th fold.
    noise : str or ndarray, optional
        For "mahalanobis" and "crossnobis": how the noise is estimated from repeats ("full",
        "diagonal", "shrink-identity", "shrink-diagonal"); or its inverse covariance, (unit, unit)
        or (fold, unit, unit). "crossnobis" without it is the cross-validated Euclidean distance.
    prior : (float, float)
        For the Poisson metrics: rate, and weight in observations, of the prior.

    Returns
    -------
    rdm : RDM
        ``rdm.data`` has dims (condition, condition_2, ...), conditions in the order of first
        appearance; >= 0, but for cross-validated metrics.

    Raises
    ------
    ValueError
        If dims are missing, `by` is no trial coordinate or has missing labels, there are fewer than
        two conditions, `x` holds NaN or infinite values, an option has no part in the metric, or
        repeats are needed and are missing or identical bit for bit.

    Notes
    -----
    A pattern without variance has no correlation with any other: its pairs are NaN, and
    ``rdm.stats["n_constant"]`` counts such patterns. Cross-validated distances of conditions that
    never occur together in two folds are NaN.

    References
    ----------
    .. [1] Kriegeskorte N, Mur M, Bandettini P (2008). Front Syst Neurosci 2:4.
       doi:10.3389/neuro.06.004.2008
    .. [2] Walther A et al. (2016). NeuroImage 137:188-200. doi:10.1016/j.neuroimage.2015.12.012

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> x = xr.DataArray(
    ...     np.array([[1.0, 2.0, 4.0], [2.0, 4.0, 8.0], [4.0, 2.0, 1.0]]),
    ...     dims=("trial", "unit"), coords={"stimulus_id": ("trial", ["a", "b", "c"])},
    ... )
    >>> compute_rdm(x).data.round(2).to_numpy()
    array([[0.  , 0.  , 1.93],
           [0.  , 0.  , 1.93],
           [1.93, 1.93, 0.  ]])
    """
    what = "a DataArray with dims (trial, unit), such as session.pool(site)"
    check_type("x", x, xr.DataArray, what)
    check_option("metric", metric, RDM_METRICS, "For Pearson distance use 'correlation'.")
    if missing := {"trial", "unit"} - set(x.dims):
        raise ValueError(f"x has dims {x.dims}, without {' and '.join(missing)}. Give {what}.")
    _check_width(metric, x.sizes["unit"])
    codes, labels = find_labels(x, "by", by)
    extra = [d for d in x.dims if d not in ("trial", "unit")]
    x = x.transpose(*extra, "trial", "unit")
    if metric not in METRICS:
        check_finite(x, codes, labels)
    with np.errstate(invalid="ignore"):
        distances, facts = measure_distances(
            x, codes, by=by, metric=metric, folds=folds, noise=noise, prior=prior
        )
    if metric in METRICS and not np.isfinite(distances).all():  # else nothing can be hidden
        check_finite(x, codes, labels)
    constant = np.isnan(np.diagonal(distances, axis1=-2, axis2=-1)).sum(axis=-1)
    kept = {k: v for k, v in x.coords.items() if not {"trial", "unit"} & set(v.dims)}
    params = _describe_trials(x, by, metric, codes) | facts
    origin = {k: v for k, v in x.attrs.items() if isinstance(v, str) and k not in ("units", "pool")}
    return RDM(
        _label(distances, labels, extra, kept, metric),
        xr.Dataset({"n_constant": (extra, constant)}, kept),
        params=params,
        provenance=origin,
    )


def compute_layer_rdms(
    session: Session | Cohort,
    *,
    sites: Sequence[str] | str | None = None,
    by: str = "stimulus_id",
    metric: str = "correlation",
    how: str = "mean",
    folds: str | None = None,
    noise: str | None = None,
    prior: tuple[float, float] = (1.0, 0.1),
) -> RDM:
    """Compute the RDM of every layer of a recorded model, or of each member of a cohort.

    "correlation", "euclidean" and "cosine" are summed over blocks of units as they are read:
    memory is that of the RDM, whatever the number of units.

    Parameters
    ----------
    session : Session or Cohort
        What was recorded.
    sites : sequence of str, optional
        Sites, kinds or patterns. Left out: those of the kinds "embed" and "resid", or all where the
        recording has neither.
    by : str
        Trial coordinate that names the condition; trials of a condition are averaged.
    metric : str
        As in `compute_rdm`.
    how : str
        How the samples of a trial are pooled: "mean", "max" or "last".
    folds, noise, prior : optional
        As in `compute_rdm`; the noise of each site is estimated by itself.

    Returns
    -------
    rdm : RDM
        Dims (condition, condition_2, layer), and seed for a cohort; `layer` holds the names of the
        sites in the order in which the model computes them.

    Raises
    ------
    KeyError
        If a pattern matches no site.
    """
    check_type("session", session, (Session, Cohort), "what open_session returns, or a Cohort")
    check_option("metric", metric, RDM_METRICS, "For Pearson distance use 'correlation'.")
    options = {"by": by, "metric": metric, "how": how}
    options |= {"folds": folds, "noise": noise, "prior": prior}
    if isinstance(session, Cohort):
        return _compute_cohort(session, sites=sites, **options)
    names = _find_sites(session, sites)
    rdms = [_compute_site(session, name, **options) for name in names]
    values = np.stack([r.data.to_numpy() for r in rdms])
    kinds = session.site_table.loc[names, "kind"].tolist()
    coords = {"layer": names, "kind": ("layer", kinds)}
    counts = [int(r.stats["n_constant"]) for r in rdms]
    params = {**rdms[0].params, "sites": names}
    params["n_units"] = [r.params["n_units"] for r in rdms]
    return RDM(
        _label(values, rdms[0].conditions, ["layer"], coords, metric),
        xr.Dataset({"n_constant": ("layer", counts)}, coords),
        params=params,
        provenance=_describe(session),
    )


def to_rdm(
    values: xr.DataArray | np.ndarray,
    *,
    conditions: Sequence[str] | None = None,
    dims: Sequence[str] = (),
    coords: Mapping[str, Sequence] | None = None,
    metric: str = "as stored",
    units: str = "dissimilarity",
) -> RDM:
    """Make an RDM of stored dissimilarities.

    Parameters
    ----------
    values : DataArray or ndarray
        A DataArray with dims (condition, condition_2, ...), whose attribute `order` ("iid" or
        "ordered") is kept; or an array (*dims, condition,
        condition_2) of square matrices or (*dims, pair) of their upper triangles, row by row.
    conditions : sequence of str, optional
        Labels of the conditions; for a DataArray left out: its coordinate `condition`.
    dims : sequence of str
        Names of an array's leading dims, such as ("participant",).
    coords : mapping, optional
        Labels along those dims.
    metric : str
        What the dissimilarity is, for the methods text.
    units : str
        Text of the colour bar.

    Returns
    -------
    rdm : RDM
        Dims (condition, condition_2, ...).

    Raises
    ------
    ValueError
        If shapes and labels do not fit, matrices are not symmetric, the diagonal is not zero, or
        labels are not unique.

    Examples
    --------
    >>> to_rdm(np.array([1.0, 2.0, 3.0]), conditions=["a", "b", "c"]).data.to_numpy()
    array([[0., 1., 2.],
           [1., 0., 3.],
           [2., 3., 0.]])
    """
    if isinstance(values, xr.DataArray):
        if missing := [d for d in PAIR if d not in values.dims]:
            raise ValueError(f"values has dims {values.dims}, without {' and '.join(missing)}.")
        dims = [str(d) for d in values.dims if d not in PAIR]
        if conditions is None and "condition" in values.coords:
            conditions = values["condition"].to_numpy().tolist()
        kept = {k: v for k, v in values.coords.items() if not set(PAIR) & set(v.dims)}
        array = values.transpose(*dims, *PAIR).to_numpy()
    else:
        array = np.asarray(values, np.float64)
        kept = {k: list(v) for k, v in (coords or {}).items()}
    if conditions is None:
        raise ValueError("conditions is missing. Give a label per row of the matrix.")
    labels = [str(c) for c in conditions]
    matrices = _make_square(np.asarray(array, np.float64), labels, len(dims))
    facts = {"metric": metric, "source": "stored"}
    order = values.attrs.get("order") if isinstance(values, xr.DataArray) else None
    data = _label(matrices, labels, list(dims), kept, metric)
    data.attrs["units"] = units
    return RDM(data, params=facts, provenance={"order": order} if order else {})


# ---------------------------------------------------------------------- parts
def _compute_site(
    session: Session,
    site: str,
    *,
    by: str,
    metric: str,
    how: str,
    **options: object,
) -> RDM:
    """Compute the RDM of one site, in blocks of units where the metric is a sum over units."""
    if metric not in METRICS or any(options[k] is not None for k in ("folds", "noise")):
        return compute_rdm(session.pool(site, how=how), by=by, metric=metric, **options)
    n_units = len(session.units(site))
    _check_width(metric, n_units)
    parts = split_units(len(session.trial_table), n_units)
    first = session.pool(site, how=how, units=parts[0])
    codes, labels = find_labels(first, "by", by)

    def read() -> Iterator[np.ndarray]:
        for part in parts:
            block = first if part is parts[0] else session.pool(site, how=how, units=part)
            check_finite(block, codes, labels)
            yield block.to_numpy()

    distances = measure_blocks(read(), codes, metric)
    constant = int(np.isnan(np.diagonal(distances)).sum())
    params = _describe_trials(first, by, metric, codes) | {"n_units": n_units}
    return RDM(
        _label(distances, labels, [], {}, metric),
        xr.Dataset({"n_constant": constant}),
        None,
        params,
    )


def _check_width(metric: str, n_units: int) -> None:
    if metric in ("correlation", "cosine") and n_units < 2:
        raise ValueError(
            f"metric={metric!r} needs patterns over at least 2 units; x has "
            f"{n_units}. Use 'euclidean', or a site with more units."
        )


def _describe_trials(x: xr.DataArray, by: str, metric: str, codes: np.ndarray) -> dict[str, object]:
    trials = np.bincount(codes)
    params = {"by": by, "metric": metric, "n_units": x.sizes["unit"]}
    params["n_trials"] = [int(trials.min()), int(trials.max())]
    return params | ({"how": x.attrs["pool"]} if "pool" in x.attrs else {})


def _label(
    values: np.ndarray, labels: list[str], dims: list[str], coords: Mapping, metric: str
) -> xr.DataArray:
    """Return matrices (*dims, condition, condition_2) as a DataArray, conditions first."""
    attrs = {"units": UNITS.get(metric, "dissimilarity"), "metric": metric}
    coords = {**coords, "condition": labels, "condition_2": labels}
    data = xr.DataArray(values, coords, (*dims, *PAIR), name="dissimilarity", attrs=attrs)
    return data.transpose(*PAIR, *dims)


def _find_sites(session: Session, sites: Sequence[str] | str | None) -> list[str]:
    """Return the names of the sites that are meant, in order of depth."""
    if sites is None:
        kinds = session.site_table["kind"]
        names = set(kinds.index[kinds.isin(DEFAULT_SITES)]) or set(session.sites)
    else:
        patterns = [sites] if isinstance(sites, str) else sites
        names = {name for pattern in patterns for name in session.select(pattern)}
    return [name for name in session.sites if name in names]


def _compute_cohort(cohort: Cohort, **options) -> RDM:
    rdms = [compute_layer_rdms(session, **options) for session in cohort]
    layers = [r.params["sites"] for r in rdms]
    for label, found in zip(cohort.labels, layers, strict=True):
        if found != layers[0]:
            odd = sorted(set(found) ^ set(layers[0]))
            raise ValueError(
                f"{label!r} has other sites than {cohort.labels[0]!r}: {', '.join(odd[:6])}. "
                "Compute the RDMs of models with different layers one by one."
            )
    first = rdms[0]
    values = np.stack([r.data.to_numpy() for r in rdms], axis=-1)
    dims, coords = (*first.data.dims, cohort.dim), dict(first.data.coords) | cohort.coords
    data = xr.DataArray(values, coords, dims, name=first.data.name, attrs=first.data.attrs)
    counts = np.stack([r.stats["n_constant"].to_numpy() for r in rdms], axis=-1)
    kept = {k: v for k, v in coords.items() if k not in PAIR}
    stats = xr.Dataset({"n_constant": (("layer", cohort.dim), counts)}, kept)
    origin = {"members": dict(zip(cohort.labels, (r.provenance for r in rdms), strict=True))}
    return RDM(data, stats, params=first.params, provenance=origin)


def _describe(session: Session) -> dict:
    """Return where a session's values came from, without the model's whole configuration."""
    origin = session.provenance
    subject = {k: v for k, v in origin["subject"].items() if k != "config"}
    return {
        "session": session.path.name,
        "subject": subject,
        "stimuli": origin["stimuli"],
        "versions": origin["versions"],
    }


def _make_square(array: np.ndarray, labels: list[str], n_dims: int) -> np.ndarray:
    """Return checked square matrices from square ones or from pairs."""
    n = len(labels)
    if len(set(labels)) < n:
        twice = next(c for c in labels if labels.count(c) > 1)
        raise ValueError(f"conditions holds {twice!r} twice. Give each condition its own label.")
    if n < 2:
        raise ValueError(f"conditions has {n} label. At least two are needed.")
    if array.ndim == n_dims + 1:
        if array.shape[-1] != n * (n - 1) // 2:
            raise ValueError(
                f"values has {array.shape[-1]} pairs; {n} conditions have {n * (n - 1) // 2}."
            )
        return make_square(array)
    if array.ndim != n_dims + 2 or array.shape[-2:] != (n, n):
        raise ValueError(
            f"values has shape {array.shape}. Give (*dims, {n}, {n}) or (*dims, "
            f"{n * (n - 1) // 2}) for {n} conditions and {n_dims} other dims."
        )
    compute_pairs(array)  # raises where not symmetric
    diagonal = np.diagonal(array, axis1=-2, axis2=-1)
    if (np.abs(np.nan_to_num(diagonal)) > 1e-6).any():
        raise ValueError(
            "values has a diagonal that is not zero: these look like similarities. Give "
            "dissimilarities, such as 1 - r."
        )
    square = array.copy()
    square[..., range(n), range(n)] = 0.0
    return square
