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
from netphys.core.compare import compare_pairs, compute_pairs


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
