"""Canonical response, convolution and high-pass filter: by hand and against nilearn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct

from netphys.core.hemodynamics import (
    HRF_SETTLED,
    HRF_SPAN,
    compute_hrf,
    convolve_events,
    filter_highpass,
    make_drift,
)


def test_compute_hrf_peaks_at_five_seconds_and_undershoots():
    t = np.arange(0, 40, 0.05)
    hrf = compute_hrf(t)
    assert t[hrf.argmax()] == pytest.approx(5, abs=0.1)
    assert hrf.max() == pytest.approx(1, abs=1e-4)
    assert 13 < t[hrf.argmin()] < 17 and -0.12 < hrf.min() < -0.05
    assert (compute_hrf(np.array([-3.0, 0.0, HRF_SPAN, 50.0])) == 0).all()


def test_reference_compute_hrf_agrees_with_nilearn():
    """spm_hrf(1.0, oversampling=50) of nilearn 0.14.1 at full seconds, scaled to a peak of 1.

    Its time axis starts one step (0.02 s) late.
    """
    nilearn = [0.0, 0.0162, 0.2, 0.5677, 0.8869, 1.0, 0.9172, 0.7281, 0.5166, 0.33, 0.1843, 0.0781]
    np.testing.assert_allclose(compute_hrf(np.arange(12) - 0.02), nilearn, atol=1.5e-3)


def test_hrf_has_settled_when_it_is_said_to():
    late = np.arange(HRF_SETTLED, HRF_SPAN, 0.1)
    assert np.abs(compute_hrf(late)).max() < 0.05


def test_convolve_events_adds_responses_at_the_middle_of_volumes():
    times = np.arange(1.0, 60.0, 2.0)
    values = np.array([[1.0, 0.0], [0.0, 2.0]])
    series = convolve_events([4.0, 10.5], values, times=times)
    np.testing.assert_allclose(series[:, 0], compute_hrf(times - 4.0))
    np.testing.assert_allclose(series[:, 1], 2 * compute_hrf(times - 10.5))


def test_convolve_events_refuses_other_lengths():
    with pytest.raises(ValueError, match="onsets has 2 events, values has 3"):
        convolve_events([0.0, 1.0], np.ones(3), times=np.arange(5.0))


def test_reference_make_drift_is_the_first_columns_of_a_cosine_transform():
    n, tr = 362, 2.0
    drift = make_drift(n, tr=tr)
    assert drift.shape[1] == 12  # floor(2 * 362 * 2 / 128) = 11, and the constant
    np.testing.assert_allclose(drift.T @ drift, np.eye(12), atol=1e-12)
    x = np.random.default_rng(0).normal(size=n)
    np.testing.assert_allclose(drift.T @ x, dct(x, norm="ortho")[:12], atol=1e-10)


def test_filter_highpass_removes_slow_waves_and_leaves_fast_ones():
    n, tr = 400, 2.0
    t = np.arange(n) * tr
    slow = np.cos(np.pi * (np.arange(n) + 0.5) * 5 / n)  # 2.5 cycles in 800 s
    fast = np.sin(2 * np.pi * t / 20)
    both = np.column_stack([slow + fast, 7.0 + 0 * t])
    left = filter_highpass(both, tr=tr)
    assert np.abs(left[:, 1]).max() < 1e-10
    assert np.corrcoef(left[:, 0], fast)[0, 1] > 0.995
    np.testing.assert_allclose(filter_highpass(left, tr=tr), left, atol=1e-10)
