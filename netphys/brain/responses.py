"""Brain responses as netphys takes them: labelled, with their order declared, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type

ORDERS = ("iid", "ordered")
AXES = ("time", "trial")


def make_responses(
    values: np.ndarray,
    *,
    dims: Sequence[str],
    order: str,
    coords: Mapping[str, object] | None = None,
    tr: float | None = None,
    units: str = "a.u.",
) -> xr.DataArray:
    """Make labelled responses from an array of your own.

    Parameters
    ----------
    values : ndarray
        Responses, one axis of `dims` each.
    dims : sequence of str
        Names of the axes. One is "trial" or "time"; others are "participant", "region", "unit".
    order : str
        "ordered": neighbouring samples are alike, as in a time series or a story; "iid": every
        sample is a presentation of its own, in an order that means nothing.
    coords : mapping, optional
        Labels of the axes as xarray takes them, such as `time` in seconds of the stimulus clock,
        ``"stimulus_id": ("trial", ids)``, or ``"run": ("time", runs)``.
    tr : float, optional
        Seconds from volume to volume, for fMRI.
    units : str
        Physical unit of the values.

    Returns
    -------
    responses : DataArray
        With attributes order, units and, where given, tr.

    Raises
    ------
    ValueError
        If names, labels and values do not fit, or ordered samples have no time.

    Examples
    --------
    >>> x = make_responses([[1.0, 2.0, 4.0]], dims=("region", "trial"), order="iid")
    >>> x.attrs["order"], x.sizes["trial"]
    ('iid', 3)
    """
    check_option("order", order, ORDERS)
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"values has dtype {values.dtype}. Give an array of numbers.")
    if values.ndim != len(dims):
        raise ValueError(
            f"values has {values.ndim} axes, dims names {len(dims)} {tuple(dims)}. Name each once."
        )
    attrs = {"order": order, "units": units}
    if tr is not None:
        check_type("tr", tr, (int, float), "seconds from volume to volume")
        if not tr > 0:
            raise ValueError(f"tr={tr!r} is not possible. Give seconds, above 0.")
        attrs["tr"] = float(tr)
    try:
        responses = xr.DataArray(values, dims=tuple(dims), coords=coords, attrs=attrs)
    except ValueError as error:
        raise ValueError(f"coords do not fit values of shape {values.shape}: {error}.") from error
    find_axis(responses)
    return responses


def check_responses(
    responses: xr.DataArray, *, groups: Sequence[object] | np.ndarray | None = None
) -> dict[str, str]:
    """Check that responses say what an analysis must know, and find series that say nothing.

    Parameters
    ----------
    responses : DataArray, dims (..., trial or time, ...)
        Brain data with the attribute `order`; `load_brain` and `make_responses` give it.
    groups : sequence, optional
        Run, story or passage of each sample.

    Returns
    -------
    flawed : dict of str to str
        For every series that cannot be used its labels, such as "participant=s33, region=LATL",
        and the reason.

    Raises
    ------
    ValueError
        If `order` is not declared, there is no trial or time, ordered samples have neither times
        nor groups, or groups do not fit.
    """
    check_type("responses", responses, xr.DataArray, "a DataArray; see make_responses")
    if "order" not in responses.attrs:
        raise ValueError(
            "responses.attrs['order'] is missing. Say 'ordered' (a time series or a story) or "
            "'iid' (separate presentations), or make them with make_responses(..., order=...)."
        )
    order = responses.attrs["order"]
    check_option("responses.attrs['order']", order, ORDERS)
    axis = find_axis(responses)
    n = responses.sizes[axis]
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups has {len(groups)} labels for {n} samples. Give one per {axis}.")
    if order == "ordered" and groups is None and "time" not in {axis, *responses.coords}:
        raise ValueError(
            "responses are ordered trials with neither times nor groups, so that no split could "
            "keep neighbours together. Add a coordinate 'time' (seconds), or give groups (run, "
            "story or passage of each sample)."
        )
    others = [d for d in responses.dims if d != axis]
    series = responses.transpose(axis, *others)
    flaws = find_flaws(series.to_numpy().reshape(n, -1))
    shape = tuple(responses.sizes[d] for d in others)
    return {_label(series, others, np.unravel_index(i, shape)): why for i, why in flaws.items()}


def find_axis(responses: xr.DataArray) -> str:
    """Return the dim along which samples follow each other.

    Parameters
    ----------
    responses : DataArray
        Brain data.

    Returns
    -------
    axis : str
        "time" or "trial".

    Raises
    ------
    ValueError
        If there is neither or both.
    """
    found = [d for d in AXES if d in responses.dims]
    if len(found) != 1:
        raise ValueError(
            f"responses have dims {tuple(responses.dims)}. Exactly one of them must be 'trial' "
            "(presentations) or 'time' (a time series)."
        )
    return found[0]


def find_flaws(series: np.ndarray) -> dict[int, str]:
    """Find series that no analysis can use.

    Parameters
    ----------
    series : ndarray, shape (n_samples, n_series)
        Responses.

    Returns
    -------
    flaws : dict of int to str
        Column and reason: values that are not finite, or all the same.
    """
    bad = np.count_nonzero(~np.isfinite(series), axis=0)
    constant = (series == series[:1]).all(axis=0)
    flaws = {}
    for i in np.flatnonzero((bad > 0) | constant):
        flaws[int(i)] = f"{bad[i]} values are not finite" if bad[i] else "constant"
    return flaws


def _label(series: xr.DataArray, dims: Sequence[str], index: Sequence[int]) -> str:
    names = [
        f"{d}={series[d].to_numpy()[i] if d in series.coords else i}"
        for d, i in zip(dims, index, strict=True)
    ]
    return ", ".join(names) or "all samples"
