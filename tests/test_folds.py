"""Folds: by hand, nested, grouped, and the gap that ordered data need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys.core.folds import (
    compute_autocorrelation,
    find_gap,
    make_folds,
    make_random_folds,
)


def test_make_folds_by_hand():
    folds = make_folds(6, n_folds=3)
    assert [test.tolist() for _, test in folds] == [[0, 1], [2, 3], [4, 5]]
    assert folds[1][0].tolist() == [0, 1, 4, 5]
    assert make_folds(6, n_folds=3, gap=1)[1][0].tolist() == [0, 5]


def test_nested_folds_measure_the_gap_in_time_not_in_rows():
    """Positions 4 and 10 are neighbours in the training set, and six samples apart in time."""
    train = np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 14])
    inner = make_folds(train, n_folds=2, gap=2)
    assert inner[0][1].tolist() == [0, 1, 2, 3, 4]
    assert inner[0][0].tolist() == [10, 11, 12, 13, 14]
    assert make_folds(train, n_folds=2, gap=6)[0][0].tolist() == [11, 12, 13, 14]


def test_grouped_folds_keep_groups_whole():
    groups = np.array(list("aaabbbcccd"))
    folds = make_folds(10, n_folds=2, groups=groups)
    assert [sorted(set(groups[test])) for _, test in folds] == [["a", "b"], ["c", "d"]]
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 10
    assert make_folds(10, n_folds=2, gap=1, groups=groups)[1][0].tolist() == [0, 1, 2, 3, 4]


def test_grouped_folds_are_never_empty():
    groups = np.array(list("a" * 97 + "bcd"))
    folds = make_folds(100, n_folds=4, groups=groups)
    assert [len(test) for _, test in folds] == [97, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 80), st.integers(2, 6), st.integers(0, 4))
def test_property_folds_test_every_sample_once_and_keep_away(n, n_folds, gap):
    folds = make_folds(n, n_folds=n_folds, gap=gap)
    assert np.concatenate([test for _, test in folds]).tolist() == list(range(n))
    for train, test in folds:
        assert np.abs(train[:, None] - test).min() > gap
        for inner_train, inner_test in make_folds(train, n_folds=2, gap=gap):
            assert np.isin(np.concatenate([inner_train, inner_test]), train).all()
            assert np.abs(inner_train[:, None] - inner_test).min() > gap


def test_random_folds_test_every_sample_once():
    folds = make_random_folds(23, n_folds=5, rng=np.random.default_rng(0))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(23))
    assert all(not np.isin(train, test).any() for train, test in folds)


def test_find_gap_is_the_lag_at_which_autocorrelation_is_gone():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(2000, 3))
    smooth = np.stack([np.convolve(w, np.ones(6), "same") for w in white.T], axis=1)
    np.testing.assert_allclose(
        compute_autocorrelation(smooth, max_lag=6), 1 - np.arange(7) / 6, atol=0.06
    )
    assert find_gap(white) == 1
    assert find_gap(smooth) in (5, 6)
    assert find_gap(smooth, span=10) == 10


def test_compute_autocorrelation_by_hand():
    assert compute_autocorrelation([1.0, -1.0, 1.0, -1.0], max_lag=1).tolist() == [1.0, -0.75]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_folds(10, n_folds=1), "n_folds=1 leaves nothing to train on"),
        (lambda: make_folds(3, n_folds=5), "n_folds=5 is more than the 3 samples"),
        (lambda: make_folds(10, gap=-1), "gap=-1 is negative"),
        (lambda: make_folds(10, n_folds=2, gap=8), "gap=8 with n_folds=2 leaves 0 of 10"),
        (lambda: make_folds(4, n_folds=3, groups=list("aabb")), "more than the 2 groups"),
        (lambda: make_folds(4, n_folds=2, groups=list("ab")), "groups has 2 entries"),
        (
            lambda: make_random_folds(3, n_folds=5, rng=np.random.default_rng(0)),
            "n_folds=5 is more than the 3 samples",
        ),
    ],
)
def test_folds_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
