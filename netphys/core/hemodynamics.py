"""From events to what fMRI sees of them: canonical response, convolution, high-pass filter."""

from __future__ import annotations

import numpy as np
from scipy import stats

HRF_SPAN = 32.0  # seconds after an event until nothing is left of its response
HRF_SETTLED = 20.0  # seconds until what is left stays below 5 % of the peak
_HRF_GRID = np.arange(0, HRF_SPAN, 0.01)


def compute_hrf(t: np.ndarray) -> np.ndarray:
    """Compute the canonical hemodynamic response, a difference of two gamma densities.

    Parameters
    ----------
    t : ndarray, shape (...)
        Seconds after an event.

    Returns
    -------
    response : ndarray, shape (...)
        Largest value 1; 0 before the event and from 32 s on.

    Notes
    -----
    Peak at 5 s, undershoot at 15 s, ratio 1/6 (the parameters of SPM).

    References
    ----------
    .. [1] Glover GH (1999). NeuroImage 9:416-429. doi:10.1006/nimg.1998.0419

    Examples
    --------
    >>> compute_hrf(np.array([-1.0, 5.0, 32.0])).round(2)
    array([0., 1., 0.])
    """
    t = np.asarray(t, np.float64)
    return np.where((t > 0) & (t < HRF_SPAN), _double_gamma(t) / _PEAK, 0.0)


def _double_gamma(t: np.ndarray) -> np.ndarray:
    return stats.gamma.pdf(t, 6) - stats.gamma.pdf(t, 16) / 6


_PEAK = _double_gamma(_HRF_GRID).max()


def convolve_events(onsets: np.ndarray, values: np.ndarray, *, times: np.ndarray) -> np.ndarray:
    """Convolve events with the canonical response and read it off at given times.

    Parameters
    ----------
    onsets : ndarray, shape (n_events,)
        Seconds.
    values : ndarray, shape (n_events, ...)
        Height of each event, such as a feature of each word.
    times : ndarray, shape (n_times,)
        Seconds on the same clock, such as the middle of every volume.

    Returns
    -------
    series : ndarray, shape (n_times, ...)
        Sum of the responses; exact, nothing is put on a grid.

    Raises
    ------
    ValueError
        If there is not one value per onset, or one is not finite.
    """
    onsets, values = np.asarray(onsets, np.float64), np.asarray(values, np.float64)
    if len(onsets) != len(values):
        raise ValueError(
            f"onsets has {len(onsets)} events, values has {len(values)}. Give one value per onset."
        )
    if not (np.isfinite(onsets).all() and np.isfinite(values).all()):
        raise ValueError("onsets or values are not all finite. Leave such events out.")
    response = compute_hrf(np.asarray(times)[:, None] - onsets)
    return np.tensordot(response, values, axes=1)


def make_drift(n: int, *, tr: float, cutoff: float = 128.0) -> np.ndarray:
    """Make the cosine regressors of slow drift that a high-pass filter takes out.

    Parameters
    ----------
    n : int
        Number of volumes.
    tr : float
        Seconds from volume to volume.
    cutoff : float
        Periods longer than this, in seconds, are drift.

    Returns
    -------
    drift : ndarray, shape (n, n_drift)
        Orthonormal columns, the constant first.

    References
    ----------
    .. [1] Friston KJ et al. (1995). NeuroImage 2:45-53. doi:10.1006/nimg.1995.1007
    """
    order = int(np.floor(2 * n * tr / cutoff))
    angle = np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(order + 1) / n
    drift = np.cos(angle) * np.sqrt(2 / n)
    drift[:, 0] = 1 / np.sqrt(n)
    return drift


def filter_highpass(x: np.ndarray, *, tr: float, cutoff: float = 128.0) -> np.ndarray:
    """Take slow drift and the mean out of time series.

    Parameters
    ----------
    x : ndarray, shape (n_volumes, ...)
        Series along the first axis: responses and features alike.
    tr : float
        Seconds from volume to volume.
    cutoff : float
        Periods longer than this, in seconds, are taken out.

    Returns
    -------
    filtered : ndarray, shape (n_volumes, ...)
        What is left.
    """
    x = np.asarray(x, np.float64)
    drift = make_drift(len(x), tr=tr, cutoff=cutoff)
    return x - np.tensordot(drift, np.tensordot(drift.T, x, axes=1), axes=1)
