"""RDMs in bootstrap samples: as the expanded samples have them, however they are computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata

from netphys._options import METHODS, RANKED, TAUS, WHITENED
from netphys.core.compare import compare_pairs
from netphys.core.compare.permuted import compare_relabelled
from netphys.core.compare.pools import Pools
from netphys.core.compare.ranks import RankTable, count_concordance
from netphys.core.compare.weighted import (
    compare_samples,
    measure_ceiling,
    open_engine,
)

K = 9
FIRST, SECOND = np.triu_indices(K, 1)


def make_rows(n, seed, ties=False):
    rng = np.random.default_rng(seed)
    rows = rng.gamma(2, size=len(FIRST)) + rng.gamma(2, size=(n, len(FIRST)))
    return rows.round(0) if ties else rows


def make_weights(n, size, seed):
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=9 * n)
    return drawn[(drawn > 0).sum(axis=1) >= size // 2][:n]


def expand(rows, weights):
    """Return the RDMs of a sample with every copy as a condition of its own, and its noise's rows.

    A condition is not paired with its copies: NaN.
    """
    drawn = np.repeat(np.arange(K), weights)
    square = np.full((len(rows), K, K), np.nan)
    square[:, FIRST, SECOND] = square[:, SECOND, FIRST] = rows
    i, j = np.triu_indices(len(drawn), 1)
    return square[:, drawn[i], drawn[j]], drawn


def pool(rows, method):
    """Scale RDMs as they are before they are averaged."""
    if method in (*RANKED, *TAUS):
        return np.stack([rankdata(r, nan_policy="omit") for r in rows])
    if "pearson" in method:
        sd = np.nanstd(rows, axis=1, keepdims=True)
        return (rows - np.nanmean(rows, axis=1, keepdims=True)) / np.where(sd > 0, sd, np.nan)
    return rows / np.sqrt(np.nanmean(rows**2, axis=1, keepdims=True))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), ties=st.booleans())
def test_property_samples_are_those_that_are_expanded(method, seed, ties):
    models, data = make_rows(3, seed, ties), make_rows(4, seed + 1, ties)
    weights, people = make_weights(5, K, seed), make_weights(5, 4, seed)
    noise = np.random.default_rng(seed).gamma(5, size=K) if method in WHITENED else None
    engine = open_engine(models, data, method=method, noise=noise)
    pools = Pools.make_ceiling(people[:, None])
    scores, pooled = compare_samples(engine, weights, pools=pools)
    bounds = pools.find_bounds(pooled)[:, 0]
    for k, (w, p) in enumerate(zip(weights, people, strict=True)):
        (a, drawn), (b, _) = expand(models, w), expand(data, w)
        options = {"method": method} | ({} if noise is None else {"noise": noise[drawn]})
        np.testing.assert_allclose(scores[k], compare_pairs(a, b, **options), atol=1e-10)
        scaled, found = pool(b, method), []
        for test in np.flatnonzero(p):
            rest = np.where(np.arange(4) == test, 0, p)
            both = np.stack([rest @ scaled, p @ scaled])
            found.append(compare_pairs(both, b[[test]], **options)[:, 0] * p[test])
        lower, upper = np.sum(found, axis=0) / p.sum()
        assert bounds[k, 1] == pytest.approx(upper, abs=1e-10)
        if (p > 0).sum() > 1:
            assert bounds[k, 0] == pytest.approx(lower, abs=1e-10)
        else:
            assert np.isnan(bounds[k, 0])


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_sample_is_the_plain_comparison_and_dead_rows_are_nan(method):
    models, data = make_rows(3, 0), make_rows(2, 1)
    models[1] = 0.0 if "cosine" in method else 2.5
    engine = open_engine(models, data, method=method)
    scores, pooled = compare_samples(engine, np.ones((1, K)))
    assert pooled is None and np.isnan(scores[0, 1]).all()
    expected = compare_pairs(models[[0, 2]], data, method=method)
    np.testing.assert_allclose(scores[0, [0, 2]], expected, atol=1e-12)


def test_a_sample_of_one_condition_is_unknown():
    for method in METHODS:
        engine = open_engine(make_rows(1, 0), make_rows(2, 1), method=method)
        weights = np.zeros((1, K))
        weights[0, 3] = K
        with np.errstate(all="ignore"):
            assert np.isnan(engine.compare(weights)[0]).all()


def test_ranks_are_those_of_the_expanded_sample():
    values = np.array([[3.0, 1, 3, 2, 5, 3]])
    weights = np.array([2.0, 1, 0, 3, 1, 1])
    drawn = np.repeat(np.arange(6), weights.astype(int))
    expected = rankdata(values[0, drawn])
    kept = np.flatnonzero(weights)
    ranks, tied = RankTable(values).rank(weights, kept)
    assert ranks[0].tolist() == [expected[np.flatnonzero(drawn == k)[0]] for k in kept]
    assert tied[0].tolist() == [3, 1, 3, 1, 3]


def test_concordance_by_hand_and_by_all_pairs():
    a, b = np.array([[1.0, 2, 3, 3]]), np.array([[1.0, 3, 2, 4]])
    found = count_concordance(RankTable(a), RankTable(b).dense, np.array([[0, 0]]), np.ones(4))
    assert found[0] == 4 - 1  # one tie in a; 2 and 3 are the other way round
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 3, 80))
    w = rng.integers(0, 4, 80).astype(float)
    pairs = np.array([[0, 0], [0, 2], [2, 1]])
    found = count_concordance(RankTable(a), RankTable(b).dense, pairs, w)
    for value, (i, j) in zip(found, pairs, strict=True):
        signs = np.sign(a[i][:, None] - a[i]) * np.sign(b[j][:, None] - b[j])
        assert value == (w @ signs @ w) / 2


def test_reference_tau_b_agrees_with_scipy():
    a, b = make_rows(3, 0, ties=True), make_rows(2, 1, ties=True)
    own = compare_pairs(a, b, method="tau-b")
    expected = [[kendalltau(x, y).statistic for y in b] for x in a]
    np.testing.assert_allclose(own, expected, atol=1e-12)
    broken = compare_pairs(a, b, method="tau-a")
    assert (np.abs(broken) < np.abs(own)).all()


@pytest.mark.parametrize("method", [*METHODS, "bures"])
def test_relabelled_rdms_are_those_of_permuted_conditions(method):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2, K, K + 3))
    a, b = (((z[:, FIRST] - z[:, SECOND]) ** 2).sum(axis=-1) for z in (x, y))
    orders = np.stack([rng.permutation(K) for _ in range(3)])
    null = compare_relabelled(a, b[:1], orders, method=method)
    for draw, order in zip(null, orders, strict=True):
        moved = ((y[:1, order][:, FIRST] - y[:1, order][:, SECOND]) ** 2).sum(axis=-1)
        same = compare_relabelled(a, moved, np.arange(K)[None], method=method)[0]
        np.testing.assert_allclose(draw, same, atol=1e-10)
    if method == "spearman":  # whichever set is smaller is relabelled
        other = compare_relabelled(b[:1], a, np.argsort(orders, axis=1), method=method)
        np.testing.assert_allclose(other.transpose(0, 2, 1), null, atol=1e-12)


def test_ceiling_of_copies_is_one_and_of_one_has_no_lower_bound():
    row = make_rows(1, 0)
    lower, upper = measure_ceiling(np.tile(row, (3, 1)), method="tau-b")
    assert lower == pytest.approx(1) and upper == pytest.approx(1)
    lower, upper = measure_ceiling(row, method="whitened-cosine")
    assert np.isnan(lower) and upper == pytest.approx(1)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (np.ones((1, 3)), {"method": "pearson"}, "models have 3 pairs, data 36"),
        (np.full((1, 36), np.nan), {"method": "pearson"}, "hold NaN"),
        (np.ones((1, 36)), {"method": "corr"}, "method='corr' is unknown"),
        (np.ones((1, 36)), {"method": "whitened-cosine", "noise": np.eye(K)}, "is a covariance"),
        (np.ones((1, 36)), {"method": "whitened-cosine", "noise": np.ones(3)}, "for 9 conditions"),
        (np.ones((1, 36)), {"method": "whitened-cosine", "noise": -np.ones(K)}, "must be positive"),
    ],
)
def test_open_engine_refuses(models, options, message):
    with pytest.raises(ValueError, match=message):
        open_engine(models, make_rows(2, 0), **options)
