"""Resampling: by hand, against scipy, and the error rates that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from netphys.core.resample import (
    adjust_p,
    combine_variances,
    compute_p,
    compute_shift_p,
    make_interval,
    make_permutations,
    make_shifts,
    make_weights,
)


def test_make_permutations_are_permutations_and_differ():
    orders = make_permutations(6, 500, rng=np.random.default_rng(0))
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) > 300
    np.testing.assert_allclose(orders.mean(axis=0), 2.5, atol=0.3)


def test_make_shifts_by_hand():
    assert make_shifts(50, min_shift=5).tolist() == list(range(5, 46))


def test_make_weights_counts_draws_with_replacement():
    weights = make_weights(10, 2000, rng=np.random.default_rng(0))
    assert (weights.sum(axis=1) == 10).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose((weights == 0).mean(), 0.9**10, atol=0.01)


def test_compute_p_by_hand():
    null = np.arange(9.0)[:, None]
    assert compute_p([8.5], null) == 0.1  # never 0
    assert compute_p([7.0], null) == 0.3  # 7 and 8 reach it
    assert compute_p([-1.0], null, alternative="less") == 0.1
    assert compute_p([8.5], null, alternative="two-sided") == 0.1
    assert compute_p([0.0], null, alternative="two-sided") == 0.3
    assert np.isnan(compute_p([np.nan, 1.0], np.ones((9, 2)))).tolist() == [True, False]


def test_compute_p_counts_equal_draws_whatever_the_rounding():
    assert compute_p([0.1 + 0.2], np.full((9, 1), 0.3)) == 1.0


def test_compute_p_of_a_true_null_is_uniform():
    rng = np.random.default_rng(0)
    p = compute_p(rng.normal(size=4000), rng.normal(size=(199, 4000)))
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.012)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_reference_adjust_p_agrees_with_scipy():
    p = np.random.default_rng(0).random(20)
    for method in ("bh", "by"):
        theirs = stats.false_discovery_control(p, method=method)
        np.testing.assert_allclose(adjust_p(p, method=method), theirs)


def test_adjust_p_leaves_out_what_is_unknown():
    assert np.isnan(adjust_p([np.nan, np.nan])).all()
    assert adjust_p([[0.02, np.nan], [0.04, 0.9]])[0, 0] == pytest.approx(0.06)


def test_combine_variances_by_hand():
    many = (10**9, 10**9)  # n / (n - 1) = 1: 2 (first + second) - both
    assert combine_variances(1.0, 2.0, 3.5, sizes=many) == pytest.approx(2.5)
    assert combine_variances(1.0, 2.0, 5.5, sizes=many) == pytest.approx(2.0)  # the larger one
    assert combine_variances(3.0, 3.0, 4.0, sizes=many) == pytest.approx(4.0)  # both together
    # a = 2, b = 1.5: 2 + 3 - 3 (3.5 - 3) = 3.5
    assert combine_variances(1.0, 2.0, 3.5, sizes=(2, 3)) == pytest.approx(3.5)


def test_make_interval_is_students():
    low, high = make_interval(1.0, 0.04, n=10)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 9, loc=1.0, scale=0.2))


def test_combined_interval_covers_when_both_factors_vary():
    """Mean of a crossed table with effects of rows, columns and cells: 95 % intervals."""
    rng, hits, n_rows, n_columns = np.random.default_rng(0), 0, 20, 15
    for _ in range(300):
        table = rng.normal(size=(n_rows, 1)) + rng.normal(size=n_columns)
        table = table + 2 * rng.normal(size=(n_rows, n_columns))
        rows = make_weights(n_rows, 400, rng=rng) / n_rows
        columns = make_weights(n_columns, 400, rng=rng) / n_columns
        first, second = rows @ table.mean(axis=1), columns @ table.mean(axis=0)
        both = np.einsum("dr,dc,rc->d", rows, columns, table)
        sizes = (n_rows, n_columns)
        variance = combine_variances(first.var(), second.var(), both.var(), sizes=sizes)
        low, high = make_interval(table.mean(), variance, n=min(n_rows, n_columns))
        hits += low <= 0 <= high
    assert hits / 300 > 0.93


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_shifts(50, min_shift=20), "min_shift=20 leaves 11 circular shifts of 50"),
        (lambda: compute_p([1.0], [[1.0]], alternative="up"), "alternative='up' is unknown"),
        (lambda: adjust_p([0.1], method="bonferroni"), "method='bonferroni' is unknown"),
    ],
)
def test_resample_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shifts_count_as_many_draws_as_they_are_worth():
    """Independent shifts: Student's t; slow ones are worth few, and one that never changes none."""
    rng = np.random.default_rng(0)
    null = rng.normal(size=(400, 500))
    p = compute_shift_p(rng.normal(size=500), null)
    assert 0.03 < (p <= 0.05).mean() < 0.07
    slow = gaussian_filter1d(rng.normal(size=(100, 3000)), 6, axis=0)
    p = compute_shift_p(gaussian_filter1d(rng.normal(size=(100, 3000)), 6, axis=0)[50], slow)
    assert 0.03 < (p <= 0.05).mean() < 0.08
    counted = compute_p(gaussian_filter1d(rng.normal(size=(100, 3000)), 6, axis=0)[50], slow)
    assert (counted <= 0.05).mean() > 0.08
    assert np.isnan(compute_shift_p(np.ones(1), np.ones((50, 1)))).all()
    assert compute_shift_p(np.array(9.0), null[:, 0]) < 1e-6
