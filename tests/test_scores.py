"""Scores of predicted time series: by hand, and bootstrap against resampled data."""

from __future__ import annotations

import numpy as np
import pytest

from netphys.core.folds import make_folds
from netphys.core.scores import (
    bootstrap_fold_scores,
    compute_concatenated_score,
    compute_fold_scores,
    make_block_sums,
    make_block_weights,
)


def test_fold_scores_by_hand():
    folds = make_folds(6, n_folds=2)
    y = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 4.0])
    guess = np.array([2.0, 4.0, 6.0, -1.0, -2.0, -4.0])
    np.testing.assert_allclose(compute_fold_scores(y, guess, folds=folds), [1, -1])


def test_fold_scores_of_a_constant_are_unknown():
    folds = make_folds(6, n_folds=2)
    y = np.random.default_rng(0).normal(size=6)
    guess = np.array([0.1, 0.1, 0.1, 1.0, 2.0, 3.0])
    assert np.isnan(compute_fold_scores(y, guess, folds=folds)).tolist() == [True, False]
    assert np.isnan(compute_fold_scores(y, guess + 1e6, folds=folds))[0]


def test_concatenated_score_counts_what_lies_between_folds():
    """Within both folds prediction and data agree; the folds' means are opposite."""
    folds = make_folds(20, n_folds=2)
    wave = np.tile([0.0, 1.0], 10)
    step = np.repeat([0.0, 5.0], 10)
    y, guess = wave + step, wave - step
    np.testing.assert_allclose(compute_fold_scores(y, guess, folds=folds), 1)
    joined = compute_concatenated_score(y, guess, folds=folds)
    assert joined == pytest.approx(np.corrcoef(y, guess)[0, 1]) and joined < -0.9


def test_bootstrap_of_all_blocks_once_is_the_score():
    rng = np.random.default_rng(0)
    y, guess = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    folds = make_folds(60, n_folds=3)
    blocks = make_block_sums(y, guess, folds=folds, block=5)
    assert blocks.fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    once = bootstrap_fold_scores(blocks, np.ones((1, 12)))
    np.testing.assert_allclose(once[0], compute_fold_scores(y, guess, folds=folds).mean(axis=0))


def test_reference_bootstrap_is_the_score_of_the_resampled_series():
    rng = np.random.default_rng(1)
    y, guess = rng.normal(size=40), rng.normal(size=40)
    folds = make_folds(40, n_folds=2)
    blocks = make_block_sums(y, guess, folds=folds, block=5)
    weights = make_block_weights(blocks, 3, rng=rng)
    pieces = np.array_split(np.arange(40), 8)
    for own, counts in zip(bootstrap_fold_scores(blocks, weights), weights, strict=True):
        r = []
        for fold in (range(4), range(4, 8)):
            rows = np.concatenate([np.tile(pieces[b], counts[b]) for b in fold]).astype(int)
            r.append(np.corrcoef(y[rows], guess[rows])[0, 1])
        assert own == pytest.approx(np.mean(r))
    assert (weights[:, :4].sum(axis=1) == 4).all()


def test_make_block_sums_refuses_an_empty_block():
    with pytest.raises(ValueError, match="block=0 is too small"):
        make_block_sums(np.ones(9), np.ones(9), folds=make_folds(9, n_folds=3), block=0)
