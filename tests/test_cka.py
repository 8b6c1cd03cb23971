"""Centred kernel alignment: by hand, against scikit-learn's kernels, planted answers and noise."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import ortho_group
from sklearn.metrics.pairwise import rbf_kernel

from netphys.core.compare import compare_pairs
from netphys.core.compare.cka import compare_cka, compute_biased_cka, pair_cka


def make_noise(n=20, p=6, q=9, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q))


def estimate_hsic(k, el):
    """Return the U-statistic of HSIC as Song et al. write it, times n (n - 3)."""
    n = len(k)
    k, el = (m - np.diag(np.diag(m)) for m in (k, el))
    one = np.ones(n)
    last = 2 / (n - 2) * one @ k @ el @ one
    return np.trace(k @ el) + one @ k @ one * (one @ el @ one) / ((n - 1) * (n - 2)) - last


def debias(k, el):
    return estimate_hsic(k, el) / np.sqrt(estimate_hsic(k, k) * estimate_hsic(el, el))


def centre(matrix):
    h = np.eye(len(matrix)) - 1 / len(matrix)
    return h @ matrix @ h


# ---------------------------------------------------------------- by hand
def test_compare_cka_by_hand():
    # U-centred kernels have 4/3 for the two pairs that are alike and -2/3 for the other four:
    # (4 * (4/3) (-2/3) + 2 * (4/9)) / (2 * 16/9 + 4 * 4/9) = -1/2
    a = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    b = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    assert compare_cka(a, b) == pytest.approx(-0.5, abs=1e-14)
    assert compare_cka(a, -5 * a + 2) == pytest.approx(1, abs=1e-14)


def test_compute_biased_cka_by_hand():
    # (-1, 0, 1) and (1, -2, 1) are orthogonal; of one unit each, chance is 1 / (n - 1)
    cka, expected = compute_biased_cka(np.array([[-1.0], [0], [1]]), np.array([[1.0], [-2], [1]]))
    assert cka == pytest.approx(0, abs=1e-15) and expected == pytest.approx(0.5)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_expected_of_biased_cka_is_its_mean_over_all_pairings(kernel):
    a, b = make_noise(5, 2, 8)
    every = [
        compute_biased_cka(a, b[list(order)], kernel=kernel)[0] for order in permutations(range(5))
    ]
    assert compute_biased_cka(a, b, kernel=kernel)[1] == pytest.approx(np.mean(every), rel=1e-12)


# ---------------------------------------------------------------- references
@pytest.mark.parametrize(("p", "q"), [(3, 4), (3, 50), (50, 60)])
def test_reference_linear_cka_agrees_with_the_published_formula(p, q):
    a, b = make_noise(12, p, q)
    assert compare_cka(a, b) == pytest.approx(debias(a @ a.T, b @ b.T), abs=1e-12)


def test_reference_rbf_cka_agrees_with_kernels_of_scikit_learn():
    a, b = make_noise(15)
    kernels = []
    for x in (a, b):
        kernels.append(rbf_kernel(x, gamma=1 / (2 * (0.5 * np.median(pdist(x))) ** 2)))
    own = compare_cka(a, b, kernel="rbf", bandwidth=0.5)
    assert own == pytest.approx(debias(*kernels), abs=1e-12)
    biased = compute_biased_cka(a, b, kernel="rbf", bandwidth=0.5)[0]
    k, el = map(centre, kernels)
    assert biased == pytest.approx((k * el).sum() / np.linalg.norm(k) / np.linalg.norm(el))


def test_reference_biased_cka_is_the_cosine_of_double_centred_distances():
    a, b = make_noise()
    x, y = (centre(squareform(pdist(v, "sqeuclidean"))).ravel() for v in (a, b))
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert compute_biased_cka(a, b)[0] == pytest.approx(cosine, abs=1e-13)


def test_biased_cka_is_the_whitened_cosine_of_squared_distances():
    a, b = make_noise(12, 4, 30)
    pairs = (pdist(x, "sqeuclidean")[None] for x in (a, b))
    whitened = compare_pairs(*pairs, method="whitened-cosine")
    assert compute_biased_cka(a, b)[0] == pytest.approx(float(whitened[0, 0]), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_cka_of_torch_agrees_with_numpy(kernel):
    a, b = make_noise()
    tensors = [torch.from_numpy(x).requires_grad_() for x in (a, b)]
    own = compare_cka(*tensors, kernel=kernel)
    assert isinstance(own, float) and own == pytest.approx(compare_cka(a, b, kernel=kernel))
    biased = compute_biased_cka(*tensors, kernel=kernel)
    assert biased == pytest.approx(compute_biased_cka(a, b, kernel=kernel))


# ---------------------------------------------------------------- planted and noise
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_cka_of_noise_is_zero_where_the_biased_is_near_one(kernel):
    pairs = [make_noise(12, 300, 200, seed) for seed in range(200)]
    values = np.array([compare_cka(*pair, kernel=kernel) for pair in pairs])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    biased, expected = np.mean([compute_biased_cka(*p, kernel=kernel) for p in pairs[:40]], axis=0)
    assert biased > 0.9 and biased == pytest.approx(expected, abs=0.003)


def test_cka_finds_what_is_shared_beside_noise():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(40, 3))
    noise = [rng.normal(size=(40, 100)) for _ in range(2)]
    a, b = (shared @ rng.normal(size=(3, 100)) + x for x in noise)
    assert compare_cka(a, b) > 0.7 and abs(compare_cka(*noise)) < 0.1


def test_rbf_cka_sees_a_curve_that_linear_cka_does_not():
    angle = np.linspace(0, 4 * np.pi, 60, endpoint=False)[:, None]
    a, b = np.cos(angle), np.cos(2 * angle)
    assert abs(compare_cka(a, b)) < 0.05
    assert compare_cka(a, b, kernel="rbf", bandwidth=0.3) > 0.15


@pytest.mark.parametrize(("kernel", "p"), [("linear", 3), ("linear", 80), ("rbf", 5)])
def test_pair_cka_reorders_the_samples_of_b(kernel, p):
    a, b = make_noise(20, p, 4)
    order = np.random.default_rng(2).permutation(20)
    compare = pair_cka(a, b, kernel=kernel)
    assert compare(order) == pytest.approx(compare_cka(a, b[order], kernel=kernel), abs=1e-12)
    assert compare() == compare_cka(a, b, kernel=kernel) != compare(order)


def test_cka_keeps_its_digits_far_from_zero_and_leaves_its_input_alone():
    a, b = make_noise()
    before = a.copy()
    assert compare_cka(a + 1e6, b) == pytest.approx(compare_cka(a, b), abs=1e-8)
    np.testing.assert_array_equal(a, before)
    low = compare_cka(a.astype(np.float32), b.astype(np.float32))
    assert low == pytest.approx(compare_cka(a, b), abs=1e-6)


# ---------------------------------------------------------------- properties
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(4, 12),
    st.integers(1, 15),
    st.integers(1, 15),
    st.sampled_from(["linear", "rbf"]),
)
def test_property_cka_is_symmetric_bounded_and_invariant(seed, n, p, q, kernel):
    a, b = make_noise(n, p, q, seed)
    rng = np.random.default_rng(seed)
    own = compare_cka(a, b, kernel=kernel)
    assert -1 <= own <= 1
    assert compare_cka(b, a, kernel=kernel) == pytest.approx(own, abs=1e-9)
    turned = a @ ortho_group.rvs(p, random_state=rng) if p > 1 else -a
    order = rng.permutation(n)
    changed = compare_cka((3 * turned + 1)[order], b[order] / 7, kernel=kernel)
    assert changed == pytest.approx(own, abs=1e-8)
    assert compare_cka(a, turned, kernel=kernel) == pytest.approx(1, abs=1e-8)
    biased, expected = compute_biased_cka(a, b, kernel=kernel)
    assert 0 <= biased <= 1 and 0 < expected <= 1 + 1e-12


# ---------------------------------------------------------------- errors
X = np.arange(12.0).reshape(6, 2) ** 2
SPIKE = np.eye(6)[:, :1]


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (X.tolist(), X, {}, TypeError, "a is a list. Give a numpy array or a torch tensor"),
        (X, torch.ones(6, 2), {}, TypeError, "b a Tensor. Give both as the same kind"),
        (X[:, 0], X, {}, ValueError, r"a has shape \(6,\). Give \(samples, units\)"),
        (X, X[:, :0], {}, ValueError, r"b has shape \(6, 0\)"),
        (X, X[:5], {}, ValueError, "a has 6 samples, b has 5. Give the same samples"),
        (X[:3], X[:3], {}, ValueError, "3 samples. At least 4 are needed"),
        (X, np.where(X > 80, np.nan, X), {}, ValueError, "b holds 3 values that are NaN or inf"),
        (np.where(X > 80, np.inf, X), X, {}, ValueError, "a holds 3 values that are NaN or inf"),
        (X, np.ones((6, 2)), {}, ValueError, "b is the same in all samples"),
        (SPIKE, X, {}, ValueError, "a has no debiased alignment with itself: its 6 .* but for one"),
        (X, np.diag(np.arange(1.0, 7)), {}, ValueError, "b has no .* all equally far"),
        (X.astype(complex), X, {}, TypeError, "a is of dtype complex128. Give real numbers"),
        (X, X.astype(str), {}, TypeError, "b is of dtype <U32. Give real numbers"),
        (X, X, {"kernel": "gaussian"}, ValueError, "kernel='gaussian' is unknown"),
        (X, X, {"bandwidth": 0.0}, ValueError, "bandwidth=0.0 is out of range"),
        (X, X, {"bandwidth": "wide"}, TypeError, "bandwidth='wide' is a str"),
        (X, SPIKE, {"kernel": "rbf"}, ValueError, "b has a median distance of 0"),
    ],
)
def test_compare_cka_refuses(a, b, options, error, message):
    with pytest.raises(error, match=message):
        compare_cka(a, b, **options)


def test_compute_biased_cka_refuses_two_samples():
    with pytest.raises(ValueError, match=r"2 samples. At least 3 are needed"):
        compute_biased_cka(X[:2], X[:2])
