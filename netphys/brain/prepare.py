"""Bring words and brain responses onto one clock, and filter both alike."""

from __future__ import annotations

import numpy as np
import xarray as xr

from netphys._check import check_type
from netphys.core.hemodynamics import HRF_SPAN, convolve_events, filter_highpass

CUTOFF = 128.0  # seconds


def prepare_responses(responses: xr.DataArray, *, cutoff: float | None = CUTOFF) -> xr.DataArray:
    """High-pass filter responses and write into them how.

    Parameters
    ----------
    responses : DataArray, dims (..., time, ...)
        Attribute `tr` in seconds.
    cutoff : float or None
        Longest period that stays, in seconds; None: only the mean is taken out.

    Returns
    -------
    filtered : DataArray
        Same dims; the attribute `highpass` holds the cut-off.

    Raises
    ------
    ValueError
        If there is no `tr`, it does not fit the times, or the responses were filtered before.
    """
    check_type("responses", responses, xr.DataArray, "a DataArray with dim time")
    if responses.attrs.get("highpass") is not None:
        raise ValueError(
            f"responses were high-pass filtered at {responses.attrs['highpass']} s already. Give "
            "them unfiltered."
        )
    if "tr" not in responses.attrs:
        raise ValueError("responses have no attribute tr. Set it: responses.attrs['tr'] = 2.0.")
    tr, steps = responses.attrs["tr"], np.diff(responses["time"].to_numpy())
    if not np.allclose(steps, tr, rtol=1e-3):
        raise ValueError(
            f"responses.attrs['tr']={tr} does not fit their times, which are {steps.min():g} to "
            f"{steps.max():g} apart. Give both in seconds, one row per volume."
        )
    if cutoff is not None and not cutoff > 2 * tr:
        raise ValueError(
            f"cutoff={cutoff} is not longer than two volumes ({2 * tr} s). Give seconds, such as "
            "128, or None."
        )
    return _filter(responses, responses.attrs["tr"], cutoff)


def align_words(
    features: xr.DataArray,
    onsets: np.ndarray,
    responses: xr.DataArray,
    *,
    centre: bool = True,
) -> xr.DataArray:
    """Turn values of words into what fMRI would see of them, at the volumes of responses.

    Parameters
    ----------
    features : DataArray, dims (trial, ...)
        Values of each word, such as a site's activations.
    onsets : ndarray, shape (n_words,)
        Onsets in seconds on the clock of ``responses["time"]``.
    responses : DataArray, dims (..., time, ...)
        Their volumes and their filter are taken over.
    centre : bool
        Take the mean over words out of each value first. Left in, every feature carries the word
        rate, which alone predicts much of the response.

    Returns
    -------
    aligned : DataArray, dims (time, ...)
        Convolved with the canonical response, read at the middle of each volume, filtered.

    Raises
    ------
    ValueError
        If there is not one onset per word, or none lies within the volumes.
    """
    values = features.transpose("trial", ...)
    if len(onsets) != values.sizes["trial"]:
        raise ValueError(
            f"onsets has {len(onsets)} entries for {values.sizes['trial']} words. Give one each."
        )
    x = values.to_numpy().astype(np.float64)
    times = responses["time"].to_numpy()
    heard = (onsets > times[0] - HRF_SPAN) & (onsets < times[-1])
    if not heard.any():
        raise ValueError(
            f"no onset ({np.min(onsets):g} to {np.max(onsets):g}) lies within the volumes "
            f"({times[0]:g} to {times[-1]:g}). Give onsets in seconds on the clock of responses."
        )
    if centre:
        x = x - x.mean(axis=0)
    coords = {
        name: c for name, c in values.coords.items() if "trial" not in c.dims and name != "time"
    }
    series = xr.DataArray(
        convolve_events(onsets, x, times=times),
        dims=("time", *values.dims[1:]),
        coords={"time": times} | coords,
        name=features.name,
    )
    return _filter(series, responses.attrs["tr"], responses.attrs.get("highpass"))


def align_series(series: xr.DataArray, responses: xr.DataArray) -> xr.DataArray:
    """Filter series that were measured at the volumes, such as motion, as the responses are.

    Parameters
    ----------
    series : DataArray, dims (..., time, ...)
        One value per volume.
    responses : DataArray, dims (..., time, ...)
        Prepared responses.

    Returns
    -------
    aligned : DataArray
        Same dims as `series`.
    """
    return _filter(series, responses.attrs["tr"], responses.attrs.get("highpass"))


def _filter(x: xr.DataArray, tr: float, cutoff: float | None) -> xr.DataArray:
    """Filter along time; the attribute `highpass` says how ("none" if only the mean went)."""
    order = x.transpose("time", ...)
    n = order.sizes["time"]
    longest = 2 * n * tr + 1 if cutoff is None else cutoff  # no cosine is as slow as that
    before = order.to_numpy()
    done = filter_highpass(before, tr=tr, cutoff=longest)
    rounding = done.std(axis=0) < 1e-10 * np.abs(before).max(axis=0)
    done = np.where(rounding, 0.0, done)  # a constant stays one
    attrs = x.attrs | {"highpass": cutoff, "tr": tr}
    return order.copy(data=done).transpose(*x.dims).assign_attrs(attrs)
