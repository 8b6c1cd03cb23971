"""Distances between patterns: by hand, against scipy, and under conditions that cost digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist, squareform

from netphys._options import METRICS
from netphys.core.distance import compute_distances

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
