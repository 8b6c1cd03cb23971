"""Shape distances: by hand, against scipy, as identities, planted answers and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from netphys.core.compare import compare_moments
from netphys.core.compare.cca import compute_canonical_correlations
from netphys.core.compare.shape import SCORES, compare_shapes, pair_shapes


def make_noise(n=20, p=5, q=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q))


def centre(x):
    return x - x.mean(axis=0)


# ---------------------------------------------------------------- by hand
def test_compare_shapes_by_hand():
    # (1, 0, -1) and (1, -2, 1) are orthogonal, of squared length 2 and 6
    a, b = np.array([[1.0], [0], [-1]]), np.array([[1.0], [-2], [1]])
    assert compare_shapes(a, b) == pytest.approx(np.pi / 2)
    assert compare_shapes(a, b, score="cosine") == pytest.approx(0, abs=1e-15)
    assert compare_shapes(a, b, score="euclidean") == pytest.approx(np.sqrt(8))
    # mirrored and twice as large: the same angle, and as far as its length
    assert compare_shapes(a, -2 * a) == pytest.approx(0, abs=1e-12)
    assert compare_shapes(a, -2 * a, score="euclidean") == pytest.approx(np.sqrt(2))
    # one of two orthogonal units of equal length: cosine 1 / sqrt(2)
    wide = np.array([[1.0, 1], [0, -2], [-1, 1]]) / [np.sqrt(2), np.sqrt(6)]
    assert compare_shapes(a, wide) == pytest.approx(np.pi / 4)


def test_partly_whitened_shapes_by_hand():
    # two orthogonal units of length 3 and 1, and an alpha of 1/2: lengths 2 and 1
    q = np.linalg.qr(centre(np.random.default_rng(0).normal(size=(9, 2))))[0]
    x, y = q * [3, 1], q * [1, 3]
    assert compare_shapes(x, y, alpha=0.0) == pytest.approx(0, abs=1e-12)
    assert compare_shapes(x, y, alpha=0.5, score="cosine") == pytest.approx((2 + 2) / 5)
    assert compare_shapes(x, y, score="cosine") == pytest.approx((3 + 3) / 10)


# ---------------------------------------------------------------- references
@pytest.mark.parametrize(("p", "q"), [(5, 5), (5, 7), (30, 8), (30, 30)])
def test_reference_procrustes_agrees_with_scipy_on_padded_patterns(p, q):
    a, b = make_noise(20, p, q)
    width = max(p, q)
    x, y = (np.pad(centre(v), [(0, 0), (0, width - v.shape[1])]) for v in (a, b))
    turn, shared = orthogonal_procrustes(y, x)
    expected = np.linalg.norm(x - y @ turn)
    assert compare_shapes(a, b, score="euclidean") == pytest.approx(expected, rel=1e-12)
    cosine = shared / np.linalg.norm(x) / np.linalg.norm(y)
    assert compare_shapes(a, b) == pytest.approx(np.arccos(cosine), rel=1e-12)
    disparity = procrustes(x, y)[2]
    own = compare_shapes(a, b, score="cosine")
    assert 1 - own**2 == pytest.approx(disparity, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_reference_shapes_agree_with_whitening_by_eigenvectors(alpha):
    a, b = make_noise()
    partly = []
    for x in map(centre, (a, b)):
        values, vectors = np.linalg.eigh(x.T @ x)
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        partly.append(x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * root))
    for score in SCORES:
        own = compare_shapes(a, b, alpha=alpha, score=score)
        assert own == pytest.approx(compare_shapes(*partly, score=score), rel=1e-10)


def test_cosine_of_procrustes_is_the_bures_similarity_of_squared_distances():
    a, b = make_noise(10, 4, 30)
    bures = compare_moments(*(pdist(x, "sqeuclidean")[None] for x in (a, b)), method="bures")
    assert compare_shapes(a, b, score="cosine") == pytest.approx(float(bures[0, 0]), abs=1e-8)


def test_whitened_cosine_is_the_sum_of_canonical_correlations():
    a, b = make_noise()
    rho = compute_canonical_correlations(a, b)
    own = compare_shapes(a, b, alpha=0.0, score="cosine")
    assert own == pytest.approx(rho.sum() / np.sqrt(5 * 7), abs=1e-12)


@pytest.mark.parametrize(("alpha", "score"), [(1.0, "angular"), (0.5, "euclidean")])
def test_shapes_of_torch_agree_with_numpy(alpha, score):
    a, b = make_noise()
    own = compare_shapes(torch.from_numpy(a), torch.from_numpy(b), alpha=alpha, score=score)
    assert isinstance(own, float)
    assert own == pytest.approx(compare_shapes(a, b, alpha=alpha, score=score), rel=1e-12)


# ---------------------------------------------------------------- planted and noise
@pytest.mark.parametrize("p", [6, 60])
def test_distance_of_a_turned_copy_is_zero_to_the_last_digits_and_of_noise_is_not(p):
    a, b = make_noise(20, p, p)
    turned = a @ ortho_group.rvs(p, random_state=0)
    assert compare_shapes(a, 5 * turned + 3) < 1e-13
    assert compare_shapes(a, turned, score="euclidean") < 1e-12
    tiny = compare_shapes(a, turned + 1e-9 * b)
    assert 1e-10 < tiny < 1e-8
    assert compare_shapes(a, b) > 0.4


def test_shared_part_brings_shapes_nearer():
    a, b = make_noise(60, 10, 10)
    near, far = (compare_shapes(a, a + s * b) for s in (0.3, 2.0))
    assert 0 < near < far < compare_shapes(a, b)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("score", SCORES)
def test_pair_shapes_reorders_the_samples_of_b(alpha, score):
    a, b = make_noise()
    order = np.random.default_rng(2).permutation(20)
    compare = pair_shapes(a, b, alpha=alpha, score=score)
    again = compare_shapes(a, b[order], alpha=alpha, score=score)
    assert compare(order) == pytest.approx(again, rel=1e-12)
    assert compare() == compare_shapes(a, b, alpha=alpha, score=score) != compare(order)


# ---------------------------------------------------------------- properties
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 0.4, 1.0]))
def test_property_shape_distances_are_metrics(seed, p, q, alpha):
    a, b = make_noise(9, p, q, seed)
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(9, 3))
    for score, largest in (("angular", np.pi / 2), ("euclidean", np.inf)):
        ab, ba, bc, ac = (
            compare_shapes(x, y, alpha=alpha, score=score)
            for x, y in ((a, b), (b, a), (b, c), (a, c))
        )
        assert 0 <= ab <= largest + 1e-12
        assert ab == pytest.approx(ba, abs=1e-9)
        assert ac <= ab + bc + 1e-9
    assert 0 <= compare_shapes(a, b, alpha=alpha, score="cosine") <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.sampled_from([0.0, 0.4, 1.0]))
def test_property_shapes_ignore_rotation_shift_and_order(seed, p, alpha):
    a, b = make_noise(10, p, 3, seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(10)
    turned = (a @ ortho_group.rvs(p, random_state=rng) + 1)[order]
    own = compare_shapes(a, b, alpha=alpha)
    assert compare_shapes(turned, b[order], alpha=alpha) == pytest.approx(own, abs=1e-8)
    if alpha in (0.0, 1.0):  # scale invariance is lost between
        assert compare_shapes(50 * a, b, alpha=alpha) == pytest.approx(own, abs=1e-8)


def test_shapes_between_depend_on_scale_as_documented():
    a, b = make_noise()
    assert abs(compare_shapes(50 * a, b, alpha=0.5) - compare_shapes(a, b, alpha=0.5)) > 0.004


# ---------------------------------------------------------------- errors
A, B = make_noise(12, 3, 3)


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (A, B, {"alpha": 1.5}, ValueError, "alpha=1.5 is out of range. Give a number from 0 to 1"),
        (A, B, {"alpha": None}, TypeError, "alpha=None is a NoneType"),
        (A, B, {"score": "cos"}, ValueError, "score='cos' is unknown.* Did you mean 'cosine'"),
        (*make_noise(6, 3, 5), {"alpha": 0.5}, ValueError, "b has 5 units for 6 samples"),
        (np.c_[A, A[:, 0]], B, {"alpha": 0.0}, ValueError, "a has 4 units of rank 3"),
        (A[:2], B[:2], {}, ValueError, "2 samples. At least 3 are needed"),
        (A, np.where(B > 1, np.inf, B), {}, ValueError, "b holds .* NaN or infinite"),
        (np.ones((12, 2)), B, {}, ValueError, "a is the same in all samples"),
    ],
)
def test_compare_shapes_refuses(a, b, options, error, message):
    with pytest.raises(error, match=message):
        compare_shapes(a, b, **options)


def test_procrustes_takes_constant_units_and_more_units_than_samples():
    a, b = make_noise(6, 3, 50)
    assert compare_shapes(np.c_[a, np.ones(6)], b) == pytest.approx(compare_shapes(a, b))
