"""Similarity of RDMs: by hand, against scipy, and the published value of human and monkey IT."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from netphys._options import METHODS
from netphys.core.compare import (
    compare_moments,
    compare_pairs,
    compute_pairs,
    normalise_pairs,
    whiten_pairs,
)


def test_compute_pairs_reads_above_the_diagonal_row_by_row():
    rdm = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    assert compute_pairs(rdm).tolist() == [1, 2, 3]
    assert compute_pairs(np.stack([rdm, 2 * rdm])).tolist() == [[1, 2, 3], [2, 4, 6]]


def test_compare_pairs_by_hand():
    a, b = [[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 4.0, 3.0]]
    assert compare_pairs(a, b, method="spearman")[0, 0] == pytest.approx(0.8)
    assert compare_pairs(a, b, method="cosine")[0, 0] == pytest.approx(29 / 30)
    # ties: ranks 1.5 1.5 3.5 3.5 against 1 2 3 4 give 4 of 5 in rho-a, 4 / sqrt(20) in Spearman
    assert compare_pairs([[1, 1, 2, 2]], a, method="rho-a")[0, 0] == pytest.approx(0.8)
    assert compare_pairs([[1, 1, 2, 2]], a)[0, 0] == pytest.approx(4 / np.sqrt(20))


@pytest.mark.parametrize(
    ("method", "function"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)]
)
def test_reference_compare_pairs_agrees_with_scipy(method, function):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 45)).round(1), rng.normal(size=(2, 45)).round(1)
    own = compare_pairs(a, b, method=method)
    for i in range(3):
        for j in range(2):
            assert own[i, j] == pytest.approx(function(a[i], b[j])[0], abs=1e-12)


def test_reference_rho_a_is_spearman_over_random_breaking_of_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 30).astype(float), rng.integers(0, 4, 30).astype(float)
    broken = [
        stats.spearmanr(a + 1e-6 * rng.random(30), b + 1e-6 * rng.random(30))[0]
        for _ in range(4000)
    ]
    own = compare_pairs(a, b, method="rho-a")[0, 0]
    assert own == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / np.sqrt(4000))


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (2, 15), elements=st.floats(0, 100)))
def test_property_compare_pairs_is_symmetric_and_bounded(x):
    for method in METHODS:
        s = compare_pairs(x, x, method=method)
        np.testing.assert_array_equal(np.isnan(s), np.isnan(s.T))
        np.testing.assert_allclose(s, s.T, atol=1e-12)
        assert (np.abs(s[np.isfinite(s)]) <= 1).all()


def test_compare_pairs_of_noise_is_centred_and_of_a_copy_is_one():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(60, 300)), rng.normal(size=(60, 300))
    for method in ("pearson", "spearman", "rho-a"):
        assert abs(compare_pairs(a, b, method=method).mean()) < 0.01
        np.testing.assert_allclose(np.diag(compare_pairs(a, a, method=method)), 1, atol=1e-12)


def test_compare_pairs_leaves_out_unknown_pairs_and_says_nan_for_constants():
    a = np.array([[1.0, 2.0, np.nan, 4.0, 7.0]])
    b = np.array([[2.0, 3.0, 100.0, 5.0, 9.0]])
    assert compare_pairs(a, b)[0, 0] == 1.0
    assert np.isnan(compare_pairs([[0.1] * 4], [[1.0, 2.0, 3.0, 4.0]], method="pearson"))


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([[1.0, 2, 3]], [[1.0, 2, 3]], {"method": "kendall"}, "method='kendall' is unknown"),
        ([[1.0, 2, 3]], [[1.0, 2]], {}, "a has 3 pairs, b has 2"),
        ([[1.0, np.nan, 3]], [[1.0, 2, 3]], {}, "2 of 3 pairs are known in all RDMs"),
    ],
)
def test_compare_pairs_refuses(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        compare_pairs(a, b, **options)


@pytest.mark.parametrize(
    ("rdm", "message"),
    [(np.ones((2, 3)), "Give square matrices"), ([[0, 1], [2, 0]], "rdm is not symmetric")],
)
def test_compute_pairs_refuses(rdm, message):
    with pytest.raises(ValueError, match=message):
        compute_pairs(rdm)


# ---------------------------------------------------------------------- whitened, second moments
def make_patterns(n, n_units, seed):
    return np.random.default_rng(seed).normal(size=(n, n_units))


def measure(x):
    """Return the squared Euclidean distances of patterns (condition, unit) as pairs."""
    i, j = np.triu_indices(len(x), 1)
    return ((x[i] - x[j]) ** 2).sum(axis=1)[None]


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 9), st.integers(1, 12), st.integers(0, 2**31))
def test_property_whitened_cosine_of_squared_distances_is_linear_cka(n, n_units, seed):
    x, y = make_patterns(n, n_units, seed), make_patterns(n, 5, seed + 1)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cka = ((x.T @ y) ** 2).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    own = compare_pairs(measure(x), measure(y), method="whitened-cosine")
    assert own[0, 0] == pytest.approx(cka, abs=1e-10)


@pytest.mark.parametrize("noise", ["none", "variances", "covariance"])
def test_whitening_is_the_inverse_of_the_covariance_of_pairs(noise):
    rng = np.random.default_rng(0)
    n, rows = 7, rng.gamma(2, size=(3, 21))
    half = rng.normal(size=(n, n))
    given_noise = {"none": None, "variances": rng.gamma(2, size=n), "covariance": half @ half.T}
    noise = given_noise[noise]
    sigma = np.eye(n) if noise is None else np.diag(noise) if noise.ndim == 1 else noise
    i, j = np.triu_indices(n, 1)
    contrast = np.eye(n)[i] - np.eye(n)[j]
    v = (contrast @ sigma @ contrast.T) ** 2
    own = whiten_pairs(rows, noise=noise)
    np.testing.assert_allclose(own @ own.T, rows @ np.linalg.solve(v, rows.T), rtol=1e-8)
    np.testing.assert_allclose(  # variances and their diagonal covariance are one and the same
        compare_pairs(rows, rows, method="whitened-pearson", noise=np.diag(sigma)),
        compare_pairs(rows, rows, method="whitened-pearson", noise=np.diag(np.diag(sigma))),
        rtol=1e-10,
    )
    if noise is None or noise.ndim == 1:  # pairs may be missing
        rows[:, [2, 9]] = np.nan
        kept = np.isfinite(rows[0])
        own = whiten_pairs(rows, noise=noise)
        known = rows[:, kept]
        expected = known @ np.linalg.solve(v[np.ix_(kept, kept)], known.T)
        np.testing.assert_allclose(own @ own.T, expected, rtol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 8), st.integers(1, 10), st.integers(0, 2**31))
def test_property_bures_is_the_cosine_of_the_procrustes_angle(n, n_units, seed):
    x, y = make_patterns(n, n_units, seed), make_patterns(n, 6, seed + 1)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    aligned = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    own = compare_moments(measure(x), measure(y))[0, 0]
    assert own == pytest.approx(aligned / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-7)
    assert compare_moments(measure(x), measure(3 * x + 1))[0, 0] == pytest.approx(1, abs=1e-7)


def test_riemann_of_scaled_and_noisier_moments_is_zero_and_any_origin_will_do():
    x = make_patterns(6, 20, 0)
    d = measure(x)
    same = compare_moments(2.5 * d, d, method="riemann")[0, 0]
    assert same == pytest.approx(0, abs=1e-5)
    noisier = d + 0.7 * 2  # independent noise adds its variance twice to every squared distance
    assert compare_moments(d, noisier, method="riemann")[0, 0] == pytest.approx(0, abs=1e-5)
    other = measure(make_patterns(6, 20, 1))
    turned = [measure(np.roll(make_patterns(6, 20, s), 2, axis=0)) for s in (0, 1)]
    apart = compare_moments(d, other, method="riemann")[0, 0]
    assert apart < -0.1
    assert compare_moments(*turned, method="riemann")[0, 0] == pytest.approx(apart, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_moments([[1.0, 1, 9]], [[1.0, 1, 1]]), "RDM 0 of a is not embeddable"),
        (lambda: compare_moments([[1.0, 1, 1]], [[1.0, 1]]), "a has 3 pairs, b has 2"),
        (lambda: compare_moments([[1.0, np.nan, 1]], [[1.0, 1, 1]]), "holds NaN"),
        (lambda: compare_moments([[1.0, 1, 1]], [[1.0, 1, 1]], method="nbs"), "method='nbs'"),
        (lambda: compare_moments([[1.0, 1, 1]], [[1.0, 1, 1]], noise=np.ones(3)), "no part in"),
        (
            lambda: compare_moments([[1.0, 1, 1]], [[1.0, 4, 1]], method="riemann"),
            "without an inverse: its 3 patterns span fewer than 2",
        ),
        (
            lambda: compare_pairs([[1.0, 2, 3]], [[1.0, 2, 3]], noise=np.ones(3)),
            "noise= has no part in method='spearman'",
        ),
        (lambda: whiten_pairs(np.ones((1, 4))), "4 pairs are those of no number of conditions"),
        (
            lambda: whiten_pairs(np.array([[1.0, np.nan, 1]]), noise=np.eye(3)),
            "1 pairs are NaN, which a covariance",
        ),
        (lambda: normalise_pairs(np.ones((1, 3)), method="tau-a"), "method='tau-a' is unknown"),
    ],
)
def test_compare_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")
def test_human_and_monkey_it_agree_as_published():
    """Figure 1 of Kriegeskorte 2008: Pearson r of the human and the monkey IT RDM is 0.4912."""
    from scipy.io import loadmat

    folder = Path(os.environ["NETPHYS_DATA"]) / "kriegeskorte2008"
    file = loadmat(folder / "Kriegeskorte_Neuron2008_supplementalData.mat", simplify_cells=True)
    pairs = {str(rdm["name"])[:3]: np.asarray(rdm["RDM"]) for rdm in file["RDMs_mIT_hIT_fig1"]}
    r = compare_pairs(pairs["hIT"], pairs["mIT"], method="pearson")
    assert r[0, 0] == pytest.approx(0.4912, abs=5e-5)
    rho = compare_pairs(pairs["hIT"], pairs["mIT"], method="spearman")
    assert rho[0, 0] == pytest.approx(0.4389, abs=5e-5)
