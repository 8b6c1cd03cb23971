"""Distances between patterns: by hand, against scipy, and under conditions that cost digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist, squareform

from netphys._options import METRICS, NOISES
from netphys.core.distance import (
    DistanceSums,
    compute_crossnobis,
    compute_distances,
    compute_noise_covariance,
    compute_poisson_cv,
    compute_precision,
    compute_residuals,
)

SCIPY = {"correlation": "correlation", "cosine": "cosine", "euclidean": "sqeuclidean"}


def test_compute_distances_by_hand():
    x = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    euclidean = [[0, 2.5, 2], [2.5, 0, 6.5], [2, 6.5, 0]]
    np.testing.assert_allclose(compute_distances(x, metric="euclidean"), euclidean)
    np.testing.assert_allclose(
        compute_distances(x, metric="cosine"), [[0, 1, 0], [1, 0, 1], [0, 1, 0]], atol=1e-15
    )
    np.testing.assert_allclose(compute_distances(x), [[0, 2, 0], [2, 0, 2], [0, 2, 0]], atol=1e-15)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_reference_compute_distances_agrees_with_scipy(metric, dtype):
    x = np.random.default_rng(0).normal(size=(12, 40)).astype(dtype)
    expected = squareform(pdist(x.astype(np.float64), SCIPY[metric]))
    expected = expected / (40 if metric == "euclidean" else 1)
    np.testing.assert_allclose(
        compute_distances(x, metric=metric), expected, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("metric", METRICS)
def test_compute_distances_is_the_same_in_torch_and_keeps_leading_axes(metric):
    x = np.random.default_rng(1).normal(size=(3, 2, 7, 20)).astype(np.float32)
    own = compute_distances(x, metric=metric)
    assert own.shape == (3, 2, 7, 7)
    np.testing.assert_allclose(own[2, 1], compute_distances(x[2, 1], metric=metric), atol=1e-13)
    other = compute_distances(torch.from_numpy(x), metric=metric)
    assert isinstance(other, torch.Tensor) and other.dtype == torch.float64
    np.testing.assert_allclose(other.numpy(), own, atol=1e-13)


def test_compute_distances_keeps_digits_beside_a_large_mean():
    """float32 patterns around 1,000: expanding squares without centring loses all of it."""
    x = (np.random.default_rng(2).normal(size=(6, 50)) + 1000).astype(np.float32)
    expected = squareform(pdist(x.astype(np.float64), "sqeuclidean")) / 50
    np.testing.assert_allclose(compute_distances(x, metric="euclidean"), expected, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (5, 6), elements=st.floats(-1e3, 1e3)),
    st.floats(0.1, 50),
    st.permutations(range(5)),
)
def test_property_compute_distances_invariances(x, scale, order):
    for metric in METRICS:
        d = compute_distances(x, metric=metric)
        np.testing.assert_array_equal(d, d.T)
        assert np.nanmin(d, initial=0) >= 0
        moved = compute_distances(x[list(order)], metric=metric)
        np.testing.assert_allclose(moved, d[np.ix_(order, order)], rtol=1e-6, atol=1e-6)
    spread = x.std(axis=1) > 1e-3
    same = compute_distances(scale * x + 3.0)[np.ix_(spread, spread)]
    np.testing.assert_allclose(same, compute_distances(x)[np.ix_(spread, spread)], atol=1e-6)


def test_compute_distances_says_nan_where_nothing_is_defined():
    x = np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [2.0, 1.0, 5.0]])
    d = compute_distances(x)
    assert np.isnan(d[0]).all() and np.isnan(d[2]).all() and np.isfinite(d[1, 3])
    assert np.isnan(compute_distances(x, metric="cosine")[2]).all()
    assert np.isfinite(compute_distances(x, metric="euclidean")).all()


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (
            np.ones((3, 2)),
            {"metric": "pearson"},
            "metric='pearson' is unknown. .* use 'correlation'",
        ),
        (np.ones((1, 2)), {}, r"x has shape \(1, 2\)\. Give"),
        (np.ones(3), {}, r"x has shape \(3,\)"),
        (np.ones((3, 0)), {}, "at least two conditions and one unit"),
    ],
)
def test_compute_distances_refuses(x, options, message):
    with pytest.raises(ValueError, match=message):
        compute_distances(x, **options)


# ---------------------------------------------------------------------- noise and folds
def make_runs(n_runs=4, n_conditions=5, n_units=6, seed=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_conditions, n_units)) + rng.normal(
        size=(n_runs, n_conditions, n_units)
    )


def make_precision(n_units, seed):
    half = np.random.default_rng(seed).normal(size=(n_units, n_units))
    return half @ half.T + np.eye(n_units)


def leave_one_out(runs, precision):
    """Crossnobis as its definition says, by loops."""
    n, k, p = runs.shape
    d = np.zeros((k, k))
    for m in range(n):
        a, b = np.delete(runs, m, axis=0).mean(axis=0), runs[m]
        for i in range(k):
            for j in range(k):
                d[i, j] += (a[i] - a[j]) @ precision @ (b[i] - b[j]) / p
    return d / n


def test_mahalanobis_by_hand():
    x = np.array([[0.0, 0.0], [1.0, 2.0]])
    full = np.array([[2.0, 0.5], [0.5, 1.0]])
    d = compute_distances(x, metric="mahalanobis", precision=full)
    assert d[0, 1] == pytest.approx((2 * 1 + 1 * 4 + 2 * 0.5 * 2) / 2)
    diagonal = compute_distances(x, metric="mahalanobis", precision=np.array([2.0, 1.0]))
    assert diagonal[0, 1] == pytest.approx(3.0)
    same = compute_distances(x, metric="mahalanobis", precision=np.eye(2))
    np.testing.assert_allclose(same, compute_distances(x, metric="euclidean"))


def test_poisson_by_hand():
    d = compute_distances(np.array([[1.0], [3.0]]), metric="poisson", prior=(1.0, 1.0))
    assert d[0, 1] == pytest.approx((2 - 1) * np.log(2))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_property_crossnobis_of_pairs_is_leave_one_out(n_runs, n_conditions, n_units, seed):
    runs = make_runs(n_runs, n_conditions, n_units, seed)
    precision = make_precision(n_units, seed)
    expected = leave_one_out(runs, precision)
    for scheme in ("pairs", "leave-one-out"):
        d = compute_crossnobis(runs, precision=precision, scheme=scheme)
        np.testing.assert_allclose(d, expected, rtol=1e-9, atol=1e-9)
        own = compute_crossnobis(runs, precision=np.stack([precision] * n_runs), scheme=scheme)
        np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-6)


def test_crossnobis_of_missing_conditions_uses_the_runs_that_have_both():
    runs = make_runs(4, 4, 3)
    runs[0, 1] = runs[2, 3] = np.nan
    runs[1:, 0] = np.nan
    d = compute_crossnobis(runs)
    expected = leave_one_out(runs[[1, 3]][:, [1, 2, 3]], np.eye(3))[0, 2]  # 1 and 3: runs 1 and 3
    assert d[1, 3] == pytest.approx(expected)
    assert np.isnan(d[0, 1:]).all() and (np.diagonal(d) == 0).all()
    own = compute_crossnobis(runs, precision=np.stack([np.eye(3)] * 4))
    np.testing.assert_allclose(own, d, rtol=1e-12)
    np.testing.assert_allclose(
        compute_crossnobis(runs, precision=np.stack([np.eye(3)] * 4), scheme="leave-one-out"), d
    )


def test_crossnobis_is_blind_to_what_a_run_adds_to_all_its_patterns():
    runs = make_runs()
    runs[1, 2] = np.nan
    offset = 1e3 * np.random.default_rng(0).normal(size=(4, 1, 6))
    np.testing.assert_allclose(compute_crossnobis(runs + offset), compute_crossnobis(runs), 1e-8)


def test_crossnobis_per_run_precisions_average_the_covariances_of_two_runs():
    runs, precisions = make_runs(2), np.stack([make_precision(6, s) for s in (1, 2)])
    shared = np.linalg.inv((np.linalg.inv(precisions[0]) + np.linalg.inv(precisions[1])) / 2)
    expected = compute_crossnobis(runs, precision=shared)
    for scheme in ("pairs", "leave-one-out"):
        own = compute_crossnobis(runs, precision=precisions, scheme=scheme)
        np.testing.assert_allclose(own, expected, rtol=1e-8)


def test_crossnobis_of_noise_is_zero_on_average_and_of_a_signal_its_distance():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(400, 3, 2, 20))
    signal = np.zeros((2, 20))
    signal[1] = 1.0
    nothing, something = compute_crossnobis(noise), compute_crossnobis(noise + signal)
    error = nothing[:, 0, 1].std() / 20
    assert abs(nothing[:, 0, 1].mean()) < 3 * error
    assert abs(something[:, 0, 1].mean() - 1) < 4 * error
    biased = compute_distances((noise + signal).mean(axis=1), metric="euclidean")[:, 0, 1].mean()
    assert biased > 1.5


def test_poisson_cv_is_the_mean_over_all_folds():
    runs = np.random.default_rng(0).poisson(5, size=(3, 4, 6)).astype(float)
    rates = (runs + 0.1) / 1.1
    expected = np.zeros((4, 4))
    for m in range(3):
        train = (np.delete(runs, m, axis=0).mean(axis=0) + 0.1) / 1.1
        for i, j in np.ndindex(4, 4):
            logs = np.log(rates[m, i]) - np.log(rates[m, j])
            expected[i, j] += (train[i] - train[j]) @ logs / 6 / 3
    np.testing.assert_allclose(compute_poisson_cv(runs), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "missing", "own", "poisson"])
def test_crossvalidated_distances_are_the_same_in_torch_and_keep_leading_axes(name):
    runs = np.abs(np.stack([make_runs(seed=s) for s in range(2)]))
    options = {}
    if name == "missing":
        runs[:, 1, 2] = np.nan
    if name == "own":
        options["precision"] = np.stack([make_precision(6, s) for s in range(4)])
    function = compute_poisson_cv if name == "poisson" else compute_crossnobis
    own = function(runs, **options)
    np.testing.assert_allclose(own[1], function(runs[1], **options))
    moved = {k: torch.from_numpy(v) for k, v in options.items()}
    other = function(torch.from_numpy(runs), **moved)
    assert isinstance(other, torch.Tensor)
    np.testing.assert_allclose(other.numpy(), own, atol=1e-10)


def test_residuals_have_the_degrees_of_freedom_of_trials_less_conditions():
    x = np.array([[1.0], [3.0], [10.0], [10.0], [13.0], [5.0]])
    residuals, dof = compute_residuals(x, np.array([0, 0, 1, 1, 1, 2]))
    np.testing.assert_allclose(residuals[:, 0], [-1, 1, -1, -1, 2, 0])
    assert dof == 3
    assert compute_noise_covariance(residuals, method="full", dof=dof).item() == pytest.approx(
        8 / 3
    )


@pytest.mark.parametrize("method", NOISES)
def test_noise_covariance_is_unbiased_and_close(method):
    """6 conditions x 4 repeats: the variance is that of the noise, not .9 of it."""
    rng = np.random.default_rng(0)
    truth = np.diag([1.0, 4.0, 2.0])
    groups = np.repeat(np.arange(6), 4)
    estimates = []
    for _ in range(300):
        x = rng.normal(size=(24, 3)) @ np.sqrt(truth) + rng.normal(size=(6, 3))[groups]
        residuals, dof = compute_residuals(x, groups)
        estimates.append(compute_noise_covariance(residuals, method=method, dof=dof))
    mean = np.mean(estimates, axis=0)
    if method == "shrink-identity":  # pulls variances together, and keeps their sum
        assert np.trace(mean) == pytest.approx(7, rel=0.04)
    else:
        np.testing.assert_allclose(mean, truth, atol=0.2)


@pytest.mark.parametrize("method", NOISES)
def test_noise_is_the_same_in_torch(method):
    r = np.random.default_rng(0).normal(size=(40, 5))
    own = compute_precision(r, method=method)
    other = compute_precision(torch.from_numpy(r), method=method)
    np.testing.assert_allclose(other.numpy(), own, atol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [1, 7, 64])
def test_distance_sums_over_blocks_equal_distances_at_once(metric, width):
    x = (np.random.default_rng(4).normal(size=(700, 30)) + 100).astype(np.float32)
    x[3] = 1.5
    sums = DistanceSums(700, metric=metric)
    for k in range(0, 30, width):
        sums.update(x[:, k : k + width])
    d = sums.finish()
    np.testing.assert_allclose(d, compute_distances(x, metric=metric), rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(d, d.T)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_distances(np.ones((2, 3)), metric="mahalanobis"), "needs precision="),
        (
            lambda: compute_distances(
                np.ones((2, 3)), metric="mahalanobis", precision=np.ones((2, 2))
            ),
            r"precision has shape \(2, 2\) for 3 units",
        ),
        (lambda: compute_distances(-np.ones((2, 3)), metric="poisson"), "negative values"),
        (lambda: compute_distances(np.ones((2, 3)), metric="poisson", prior=(0, 1)), "prior="),
        (lambda: compute_crossnobis(np.ones((1, 2, 3))), "at least two folds"),
        (lambda: compute_crossnobis(np.ones((2, 3))), r"patterns has shape \(2, 3\)"),
        (lambda: compute_crossnobis(np.ones((2, 2, 3)), scheme="loo"), "scheme='loo' is unknown"),
        (
            lambda: compute_crossnobis(np.ones((2, 2, 3)), precision=np.ones((3, 3, 3))),
            "3 matrices for 2 folds",
        ),
        (lambda: compute_poisson_cv(np.full((2, 2, 3), np.nan)), "missing in a fold"),
        (lambda: compute_residuals(np.ones((3, 2)), np.arange(3)), "has one trial"),
        (lambda: compute_noise_covariance(np.ones((1, 2))), "at least two samples"),
        (lambda: compute_noise_covariance(np.full((3, 2), np.inf)), "NaN or infinite"),
        (lambda: compute_noise_covariance(np.ones((3, 2)), dof=0), "dof=0"),
        (lambda: compute_noise_covariance(np.ones((3, 2)), method="ledoit"), "method='ledoit'"),
        (
            lambda: compute_precision(np.random.default_rng(0).normal(size=(4, 9)), method="full"),
            "covariance of 9 units is singular",
        ),
        (lambda: compute_precision(np.zeros((4, 2))), "2 units have no variance"),
        (lambda: DistanceSums(1), "n_conditions=1"),
        (lambda: DistanceSums(3).update(np.ones((2, 2))), r"block has shape \(2, 2\)"),
        (lambda: DistanceSums(3).finish(), "no unit was taken in"),
    ],
)
def test_distance_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
