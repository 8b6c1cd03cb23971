"""Canonical correlations: by hand, against scikit-learn, planted answers and noise."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA

from netphys.core.compare.cca import (
    compare_cca,
    compare_pwcca,
    compare_svcca,
    compute_canonical_correlations,
    pair_cca,
)


def make_noise(n=40, p=4, q=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q))


# ---------------------------------------------------------------- by hand
def test_canonical_correlation_of_single_units_is_the_size_of_pearsons_r():
    a, b = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[4.0], [2.0], [3.0], [1.0]])
    np.testing.assert_allclose(compute_canonical_correlations(a, b), [0.8], rtol=1e-14)


def test_cca_by_hand():
    # in the plane of the first two of three orthogonal contrasts of four samples, and that of the
    # first and a mixture of the second and third: correlations 1 and 0.6
    c = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).T / 2
    a = np.kron(c, np.ones((2, 1)))[:, :2]
    b = np.kron(np.stack([c[:, 0], 0.6 * c[:, 1] + 0.8 * c[:, 2]], axis=1), np.ones((2, 1)))
    np.testing.assert_allclose(compute_canonical_correlations(a, b), [1, 0.6], atol=1e-14)
    assert compare_cca(a, b) == pytest.approx(0.8)
    # the first unit of a three times as large: its variate weighs 3 to 1
    assert compare_pwcca(a * [3, 1], b) == pytest.approx((3 * 1 + 1 * 0.6) / 4)
    assert compare_pwcca(a, b * [3, 1]) == pytest.approx(0.8)


def test_svcca_leaves_out_small_components():
    a, b = make_noise()
    q = np.linalg.qr(a - a.mean(axis=0))[0]
    x = q * [10, 5, 1e-3, 1e-4]  # shares of the variance: 0.8, 0.2, next to none
    one = b[:, :1]
    assert compare_svcca(x, one) == pytest.approx(compare_cca(x[:, :2], one), abs=1e-6)
    alone = compare_cca(x[:, :1], one)
    assert compare_svcca(x, one, variance=0.79) == pytest.approx(alone, abs=1e-6)
    assert compare_svcca(a, b, variance=1.0) == pytest.approx(compare_cca(a, b), abs=1e-12)


def test_mean_square_of_canonical_correlations_over_all_pairings():
    a, b = make_noise(6, 2, 1)
    squares = [
        (compute_canonical_correlations(a, b[list(o)]) ** 2).mean() for o in permutations(range(6))
    ]
    assert np.mean(squares) == pytest.approx(2 / 5)


# ---------------------------------------------------------------- references
def test_reference_canonical_correlations_agree_with_scikit_learn():
    a, b = make_noise()
    b[:, :2] += a[:, :2]
    model = CCA(n_components=4, max_iter=20000, tol=1e-12).fit(a, b)
    x, y = model.transform(a, b)
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(compute_canonical_correlations(a, b), expected, atol=1e-7)
    assert compare_cca(a, b) == pytest.approx(np.mean(expected), abs=1e-7)


@pytest.mark.parametrize(("p", "q"), [(4, 6), (6, 4)])
def test_reference_pwcca_agrees_with_its_definition_on_variates_of_scikit_learn(p, q):
    a, b = make_noise(40, p, q)
    b[:, :3] += a[:, :3]
    model = CCA(n_components=4, max_iter=20000, tol=1e-12, scale=False).fit(a, b)
    x, y = model.transform(a, b)
    weights, rho = np.zeros(4), np.zeros(4)
    for i in range(4):
        h = x[:, i] / np.linalg.norm(x[:, i])
        rho[i] = np.corrcoef(h, y[:, i])[0, 1]
        weights[i] = sum(abs(h @ (z - z.mean())) for z in a.T)
    expected = (weights * rho).sum() / weights.sum()
    assert compare_pwcca(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("function", [compare_cca, compare_svcca, compare_pwcca])
def test_cca_of_torch_agrees_with_numpy(function):
    a, b = make_noise()
    own = function(torch.from_numpy(a).requires_grad_(), torch.from_numpy(b))
    assert isinstance(own, float) and own == pytest.approx(function(a, b), abs=1e-12)


# ---------------------------------------------------------------- planted and noise
@pytest.mark.parametrize("function", [compare_cca, compare_svcca, compare_pwcca])
def test_cca_of_a_linear_map_is_one_and_of_noise_is_not(function):
    a, b = make_noise(200, 5, 5)
    mixing = np.random.default_rng(3).normal(size=(5, 5))
    assert function(a, a @ mixing + 2) == pytest.approx(1, abs=1e-12)
    assert function(a, b) < 0.25
    shared = np.concatenate([a[:, :2], b[:, 2:]], axis=1)
    assert 0.35 < function(a, shared) < 0.6  # two of five dimensions


def test_cca_of_noise_grows_with_the_units_and_says_so_where_it_must_be_one():
    few, many = (compare_cca(*make_noise(40, p, p)) for p in (2, 30))
    assert few < 0.3 < 0.75 < many


@pytest.mark.parametrize("variant", ["cca", "svcca", "pwcca"])
def test_pair_cca_reorders_the_samples_of_b(variant):
    a, b = make_noise()
    order = np.random.default_rng(2).permutation(40)
    function = {"cca": compare_cca, "svcca": compare_svcca, "pwcca": compare_pwcca}[variant]
    compare = pair_cca(a, b, variant=variant)
    assert compare(order) == pytest.approx(function(a, b[order]), abs=1e-12)
    assert compare() == function(a, b) != compare(order)


# ---------------------------------------------------------------- properties
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5))
def test_property_cca_is_symmetric_bounded_and_invariant_to_linear_maps(seed, p, q):
    a, b = make_noise(12, p, q, seed)
    rng = np.random.default_rng(seed)
    rho = compute_canonical_correlations(a, b)
    assert len(rho) == min(p, q) and (rho >= 0).all() and (rho <= 1).all()
    assert (np.diff(rho) <= 0).all()
    own = compare_cca(a, b)
    assert compare_cca(b, a) == pytest.approx(own, abs=1e-10)
    order = rng.permutation(12)
    mixed = a @ (np.eye(p) + 0.5 * rng.uniform(-1 / p, 1 / p, (p, p)))
    assert compare_cca((mixed - 4)[order], 1e-6 * b[order]) == pytest.approx(own, abs=1e-9)
    assert 0 <= compare_pwcca(a, b) <= 1 and 0 <= compare_svcca(a, b) <= 1
    assert compare_pwcca(a[order] * 3, b[order]) == pytest.approx(compare_pwcca(a, b), abs=1e-9)


# ---------------------------------------------------------------- errors
A, B = make_noise(12, 3, 3)


@pytest.mark.parametrize("function", [compare_cca, compare_pwcca, compute_canonical_correlations])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (*make_noise(6, 3, 5), "b has 5 units for 6 samples: centred, they span .* compare_svcca"),
        (*make_noise(6, 9, 2), "a has 9 units for 6 samples.*SVD.*compare_cka or .*Procrustes"),
        (np.c_[A, np.ones(12)], B, "a has 4 units of rank 3: the others are constant or"),
        (A, np.c_[B, B[:, 0] + B[:, 1]], "b has 4 units of rank 3"),
        (A, B[:5], "a has 12 samples, b has 5"),
        (A, np.where(B > 1, np.nan, B), "NaN or infinite"),
        (A[:2], B[:2], "2 samples. At least 3 are needed"),
        (A, np.ones((12, 2)), "b is the same in all samples"),
    ],
)
def test_cca_refuses(function, a, b, message):
    with pytest.raises(ValueError, match=message):
        function(a, b)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variance": 0.0}, ValueError, "variance=0.0 is out of range. Give a share above 0"),
        ({"variance": 1.5}, ValueError, "variance=1.5 is out of range"),
        ({"variance": "all"}, TypeError, "variance='all' is a str"),
        ({"variant": "sqcca"}, ValueError, "variant='sqcca' is unknown.* Did you mean 'svcca'"),
    ],
)
def test_pair_cca_refuses(options, error, message):
    with pytest.raises(error, match=message):
        pair_cca(A, B, **options)


def test_svcca_takes_more_units_than_samples_unless_as_many_components_are_left():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 100))
    assert 0 <= compare_svcca(wide, B) <= 1
    with pytest.raises(ValueError, match=r"a has 11 components of 0.99 of the variance for 12"):
        compare_svcca(rng.normal(size=(12, 100)), B)
