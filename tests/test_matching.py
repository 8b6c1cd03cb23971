"""Matched units, shared neighbours: by hand, against scipy and scikit-learn, planted and noise."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors

from netphys.core.compare.matching import (
    MATCHINGS,
    align_units,
    compare_units,
    compute_soft_matching_distance,
    pair_units,
)
from netphys.core.compare.neighbours import compare_neighbours, pair_neighbours


def make_noise(n=20, p=6, q=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q))


def correlate(a, b):
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


# ---------------------------------------------------------------- units, by hand
# contrasts of four samples, orthogonal and centred: correlations are products of coefficients
C = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).T / 2


def test_compare_units_by_hand():
    a = C[:, :2]
    b = np.stack([0.8 * C[:, 0] + 0.6 * C[:, 1], C[:, 0]], axis=1)
    # correlations [[.8, 1], [.6, 0]]: best together .6 + 1, best alone 1 and .6, of b .8 and 1
    assert compare_units(a, b) == pytest.approx(0.8)
    assert compare_units(a, b, matching="semi") == pytest.approx(0.8)
    assert compare_units(b, a, matching="semi") == pytest.approx(0.9)
    assert compare_units(a, b, matching="soft") == pytest.approx(0.8)
    rows, columns, r = align_units(a, b)
    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]
    np.testing.assert_allclose(r, [1, 0.6])


def test_unequal_numbers_of_units_by_hand():
    a, b = C[:, :1], np.stack([C[:, 0], -C[:, 0]], axis=1)
    assert compare_units(a, b) == pytest.approx(1)  # the mirror image is left over
    assert compare_units(b, a, matching="semi") == pytest.approx(0)
    assert compare_units(a, b, matching="soft") == pytest.approx(0)
    # three units against two: of thirds, two go where they fit and one must be split
    three, two = C, C[:, :2]
    assert compare_units(three, two, matching="soft") == pytest.approx(2 / 3)
    assert compare_units(three, two) == pytest.approx(1)


def test_soft_matching_distance_by_hand():
    a, b = C[:, :1], np.stack([3 * C[:, 0], C[:, 0]], axis=1)
    distance = compute_soft_matching_distance(a, b, normalise=False)
    assert distance == pytest.approx(np.sqrt((2**2 + 0) / 2))
    assert compute_soft_matching_distance(a, b) == pytest.approx(0, abs=1e-7)


# ---------------------------------------------------------------- units, references
def test_reference_one_to_one_is_the_best_of_all_permutations():
    a, b = make_noise(12, 5, 5)
    r = correlate(a, b)
    best = max(np.mean([r[i, j] for i, j in enumerate(o)]) for o in permutations(range(5)))
    assert compare_units(a, b) == pytest.approx(best, abs=1e-12)
    assert align_units(a, b)[2].mean() == pytest.approx(best, abs=1e-12)
    best = min(np.linalg.norm(a - b[:, o] - (a - b[:, o]).mean(0)) for o in permutations(range(5)))
    distance = compute_soft_matching_distance(a, b, normalise=False)
    assert distance == pytest.approx(best / np.sqrt(5), abs=1e-12)


@pytest.mark.parametrize(("p", "q"), [(4, 6), (3, 9), (17, 20), (20, 24)])
def test_reference_soft_matching_agrees_with_scipy_on_copies_of_units(p, q):
    a, b = make_noise(12, p, q)  # 17 x 20 is solved as a linear programme, the others are not
    n = np.lcm(p, q)
    r = np.repeat(np.repeat(correlate(a, b), n // p, axis=0), n // q, axis=1)
    expected = r[linear_sum_assignment(r, maximize=True)].mean()
    assert compare_units(a, b, matching="soft") == pytest.approx(expected, abs=1e-10)
    assert compare_units(b, a, matching="soft") == pytest.approx(expected, abs=1e-10)


def test_reference_semi_matching_is_the_mean_of_the_largest_correlations():
    a, b = make_noise(12, 5, 9)
    expected = correlate(a, b).max(axis=1).mean()
    assert compare_units(a, b, matching="semi") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_units_of_torch_agree_with_numpy(matching):
    a, b = make_noise(12, 5, 9)
    own = compare_units(
        torch.from_numpy(a).requires_grad_(), torch.from_numpy(b), matching=matching
    )
    assert isinstance(own, float)
    assert own == pytest.approx(compare_units(a, b, matching=matching), abs=1e-12)


# ---------------------------------------------------------------- units, planted and noise
@pytest.mark.parametrize("matching", MATCHINGS)
def test_permuted_units_match_and_turned_ones_do_not(matching):
    a, b = make_noise(100, 30, 30)
    rng = np.random.default_rng(1)
    order, scale = rng.permutation(30), rng.uniform(0.1, 10, 30)
    assert compare_units(a, a[:, order] * scale + 1, matching=matching) == pytest.approx(1)
    np.testing.assert_array_equal(align_units(a, a[:, order])[1], np.argsort(order))
    turned = a @ np.linalg.qr(rng.normal(size=(30, 30)))[0]
    assert compare_units(a, turned, matching=matching) < 0.6
    assert 0 < compare_units(a, b, matching=matching) < 0.25


@pytest.mark.parametrize("matching", MATCHINGS)
def test_pair_units_reorders_the_samples_of_b(matching):
    a, b = make_noise(12, 5, 9)
    order = np.random.default_rng(2).permutation(12)
    compare = pair_units(a, b, matching=matching)
    again = compare_units(a, b[order], matching=matching)
    assert compare(order) == pytest.approx(again, abs=1e-12)
    assert compare() == compare_units(a, b, matching=matching) != compare(order)


# ---------------------------------------------------------------- units, properties
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5))
def test_property_matching_is_bounded_ordered_and_invariant(seed, p, q):
    a, b = make_noise(8, p, q, seed)
    rng = np.random.default_rng(seed)
    order, units = rng.permutation(8), rng.permutation(q)
    scores = {m: compare_units(a, b, matching=m) for m in MATCHINGS}
    for matching, own in scores.items():
        assert -1 <= own <= 1
        changed = compare_units(3 * a[order] - 1, b[order][:, units], matching=matching)
        assert changed == pytest.approx(own, abs=1e-9)
    assert scores["soft"] <= scores["semi"] + 1e-9  # each unit at its best is the most there is
    for matching in ("one-to-one", "soft"):
        swapped = compare_units(b, a, matching=matching)
        assert swapped == pytest.approx(scores[matching], abs=1e-9)
    if p == q:
        assert scores["soft"] == pytest.approx(scores["one-to-one"], abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_property_soft_matching_distance_is_a_metric(seed, p, q, normalise):
    a, b = make_noise(8, p, q, seed)
    c = np.random.default_rng(seed + 1).normal(size=(8, 3))
    ab, bc, ac = (
        compute_soft_matching_distance(x, y, normalise=normalise)
        for x, y in ((a, b), (b, c), (a, c))
    )
    assert ac <= ab + bc + 1e-9
    assert compute_soft_matching_distance(b, a, normalise=normalise) == pytest.approx(ab, abs=1e-9)
    if normalise:
        score = compare_units(a, b, matching="soft")
        assert ab == pytest.approx(np.sqrt(2 - 2 * score), abs=1e-9)


# ---------------------------------------------------------------- units, errors
A, B = make_noise(12, 3, 4)


@pytest.mark.parametrize("function", [compare_units, align_units, compute_soft_matching_distance])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.c_[A, np.ones(12)], B, "a has 1 constant units of 4, which correlate with nothing"),
        (A, np.c_[np.ones((12, 2)), B], "b has 2 constant units of 6"),
        (A[:2], B[:2], "2 samples. At least 3 are needed"),
        (A, np.where(B > 1, np.nan, B), "b holds .* NaN or infinite"),
        (A, B[:7], "a has 12 samples, b has 7"),
    ],
)
def test_matching_refuses(function, a, b, message):
    with pytest.raises(ValueError, match=message):
        function(a, b)


def test_compare_units_refuses_other_matchings():
    with pytest.raises(ValueError, match=r"matching='hungarian' is unknown. Choose one of"):
        compare_units(A, B, matching="hungarian")


def test_soft_matching_says_when_no_plan_is_found(monkeypatch):
    class Failed:
        success, message = False, "time limit"

    monkeypatch.setattr("netphys.core.compare.matching.linprog", lambda *_, **__: Failed)
    with pytest.raises(ValueError, match=r"17 and 20 units, for which no .*time limit"):
        compare_units(*make_noise(12, 17, 20), matching="soft")


# ---------------------------------------------------------------- neighbours
def test_compare_neighbours_by_hand():
    a = np.array([[0.0], [1.0], [3.0], [7.0], [20.0]])
    b = np.array([[0.0], [9.0], [3.0], [7.0], [20.0]])
    # nearest in a: 1 0 1 2 3; in b: 2 3 0 1 1
    overlap, expected = compare_neighbours(a, b, k=1, metric="euclidean")
    assert overlap == 0 and expected == 0.25
    # nearest two in a: 12 02 10 21 32; in b: 23 32 03 12 13: shared 1 1 1 2 1 of two
    assert compare_neighbours(a, b, k=2, metric="euclidean")[0] == pytest.approx(6 / 10)


def test_ties_are_broken_in_all_ways():
    # three equal samples and a far pair: the nearest of the three is one of two
    a = np.array([[1.0], [1.0], [1.0], [5.0], [6.0]])
    b = np.array([[1.0], [1.1], [1.3], [5.0], [6.0]])
    # in b the nearest are 1 0 1 4 3: half, half, half, one, one
    for order in (np.arange(5), np.array([4, 2, 0, 1, 3])):
        own = compare_neighbours(a[order], b[order], k=1, metric="euclidean")[0]
        assert own == pytest.approx(3.5 / 5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "correlation"])
def test_reference_neighbours_agree_with_scikit_learn(metric):
    a, b = make_noise(25, 6, 9)
    near = []
    for x in (a, b):
        model = NearestNeighbors(n_neighbors=4, metric=metric, algorithm="brute").fit(x)
        near.append(model.kneighbors(return_distance=False))
    expected = np.mean([len(set(i) & set(j)) / 4 for i, j in zip(*near, strict=True)])
    own, chance = compare_neighbours(a, b, k=4, metric=metric)
    assert own == pytest.approx(expected, abs=1e-12) and chance == pytest.approx(4 / 24)
    tensors = [torch.from_numpy(x).requires_grad_() for x in (a, b)]
    assert compare_neighbours(*tensors, k=4, metric=metric)[0] == pytest.approx(own)


def test_expected_overlap_is_its_mean_over_all_pairings():
    a, b = make_noise(6, 3, 3)
    compare = pair_neighbours(a, b, k=2)
    every = [compare(np.array(order)) for order in permutations(range(6))]
    assert np.mean(every) == pytest.approx(2 / 5, abs=1e-12)
    order = np.array([3, 1, 0, 5, 4, 2])
    assert compare(order) == pytest.approx(compare_neighbours(a, b[order], k=2)[0])


def test_neighbours_of_noise_are_shared_by_chance_and_of_a_turned_copy_always():
    pairs = [make_noise(30, 8, 8, seed) for seed in range(200)]
    values = np.array([compare_neighbours(*pair, k=5)[0] for pair in pairs])
    assert abs(values.mean() - 5 / 29) < 4 * values.std() / np.sqrt(len(values))
    a, b = pairs[0]
    turned = a @ np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    assert compare_neighbours(a, 3 * turned, k=5)[0] == 1
    assert 0.25 < compare_neighbours(a, a + 0.5 * b, k=5)[0] < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 10), st.integers(2, 5))
def test_property_neighbours_are_symmetric_bounded_and_invariant(seed, n, p):
    a, b = make_noise(n, p, 4, seed)
    order = np.random.default_rng(seed).permutation(n)
    own, expected = compare_neighbours(a, b, k=1)
    assert 0 <= own <= 1 and expected == 1 / (n - 1)
    assert compare_neighbours(b, a, k=1)[0] == pytest.approx(own)
    assert compare_neighbours(2 * a[order], b[order], k=1)[0] == pytest.approx(own)


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (A, B, {"k": 11}, ValueError, "k=11 is too large for 12 samples.* Give at most 10"),
        (A, B, {"k": 0}, ValueError, "k=0 is too small"),
        (A, B, {"k": 2.0}, TypeError, "k=2.0 is a float"),
        (A, B, {"metric": "manhattan"}, ValueError, "metric='manhattan' is unknown"),
        (A * (A > 0).all(1)[:, None], B, {}, ValueError, "a has .* patterns of length 0"),
        (A, np.where(B > 1, np.nan, B), {}, ValueError, "b holds .* NaN or infinite"),
        (A, np.ones((12, 2)), {}, ValueError, "b is the same in all samples"),
        (A, np.arange(1.0, 13)[:, None], {}, ValueError, "b has all .* equally far .*'cosine'"),
        (np.eye(12), A, {"metric": "euclidean"}, ValueError, "a has all .* equally far"),
    ],
)
def test_compare_neighbours_refuses(a, b, options, error, message):
    with pytest.raises(error, match=message):
        compare_neighbours(a, b, **{"k": 3, **options})


def test_compare_neighbours_refuses_flat_patterns_by_correlation():
    flat = np.tile(np.arange(12.0)[:, None], 3)
    with pytest.raises(ValueError, match=r"a has 12 patterns constant over units.*'euclidean'"):
        compare_neighbours(flat, B, k=3, metric="correlation")
