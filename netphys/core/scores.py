"""How well predictions of time series agree with the data, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netphys._check import check_positive
from netphys.core.folds import Folds
from netphys.core.resample import make_weights


def compute_fold_scores(y: np.ndarray, prediction: np.ndarray, *, folds: Folds) -> np.ndarray:
    """Correlate prediction and data within each test set.

    Parameters
    ----------
    y, prediction : ndarray, shape (n_samples, ...)
        Data and cross-validated predictions; shapes may broadcast.
    folds : list of (train, test)
        Their test sets are used.

    Returns
    -------
    r : ndarray, shape (n_folds, ...)
        Pearson's r; NaN where either is constant.
    """
    return np.stack([_correlate(y[test], prediction[test]) for _, test in folds])


def compute_concatenated_score(
    y: np.ndarray, prediction: np.ndarray, *, folds: Folds
) -> np.ndarray:
    """Correlate prediction and data over all test sets joined to one series.

    Parameters
    ----------
    y, prediction : ndarray, shape (n_samples, ...)
        Data and cross-validated predictions.
    folds : list of (train, test)
        Their test sets are joined.

    Returns
    -------
    r : ndarray, shape (...)
        Pearson's r. Differences between the folds' means count here and not in the mean of
        within-fold correlations.
    """
    test = np.concatenate([test for _, test in folds])
    return _correlate(y[test], prediction[test])


class BlockSums(NamedTuple):
    """Sums over blocks of time from which any resampling of blocks follows.

    Attributes
    ----------
    sums : ndarray, shape (6, n_blocks, ...)
        Of 1, x, y, x*x, y*y and x*y.
    fold : ndarray of int, shape (n_blocks,)
        Test set that each block is part of.
    """

    sums: np.ndarray
    fold: np.ndarray


def make_block_sums(
    y: np.ndarray, prediction: np.ndarray, *, folds: Folds, block: int
) -> BlockSums:
    """Cut every test set into blocks of time and add up what correlations need.

    Parameters
    ----------
    y, prediction : ndarray, shape (n_samples, ...)
        Data and cross-validated predictions, of equal shape.
    folds : list of (train, test)
        Test sets.
    block : int
        Least number of samples in a block; at least two blocks are made of each test set.

    Returns
    -------
    sums : BlockSums
        Of all blocks.
    """
    check_positive("block", block)
    rows, fold = [], []
    for k, (_, test) in enumerate(folds):
        for piece in np.array_split(test, max(2, len(test) // block)):
            a, b = y[piece], prediction[piece]
            n = np.full(a.shape[1:], float(len(piece)))
            parts = (n, a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), (a * b).sum(0))
            rows.append(np.stack(parts))
            fold.append(k)
    return BlockSums(np.stack(rows, axis=1), np.array(fold))


def bootstrap_fold_scores(blocks: BlockSums, weights: np.ndarray) -> np.ndarray:
    """Compute the mean within-fold correlation of samples of blocks.

    Parameters
    ----------
    blocks : BlockSums
        Of `make_block_sums`.
    weights : ndarray, shape (n_draws, n_blocks)
        How often each block was drawn (`make_block_weights`).

    Returns
    -------
    r : ndarray, shape (n_draws, ...)
        Mean over folds; folds where a draw is constant are left out.
    """
    total, count = 0.0, 0
    for k in range(blocks.fold.max() + 1):
        mine = blocks.fold == k
        n, x, y, xx, yy, xy = (
            np.tensordot(weights[:, mine], part[mine], axes=1) for part in blocks.sums
        )
        n = np.maximum(n, 1)
        r = _divide(xy - x * y / n, xx - x * x / n, xx, yy - y * y / n, yy)
        total = total + np.nan_to_num(r)
        count = count + np.isfinite(r)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def make_block_weights(blocks: BlockSums, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw blocks with replacement, each test set for itself.

    Parameters
    ----------
    blocks : BlockSums
        Of `make_block_sums`.
    n_draws : int
        How many samples of blocks.
    rng : Generator
        Source of randomness.

    Returns
    -------
    weights : ndarray of int, shape (n_draws, n_blocks)
        How often each block was drawn.
    """
    sizes = np.bincount(blocks.fold)
    return np.hstack([make_weights(int(n), n_draws, rng=rng) for n in sizes])


def _correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlate along the first axis; NaN where a series is constant."""
    size_x, size_y = (x * x).sum(axis=0), (y * y).sum(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return _divide((x * y).sum(axis=0), (x * x).sum(axis=0), size_x, (y * y).sum(axis=0), size_y)


def _divide(
    xy: np.ndarray, xx: np.ndarray, size_x: np.ndarray, yy: np.ndarray, size_y: np.ndarray
) -> np.ndarray:
    """Return xy / sqrt(xx yy); NaN where the centred squares are rounding of the raw ones."""
    varies = (xx > 1e-12 * size_x) & (yy > 1e-12 * size_y)
    return xy / np.sqrt(np.where(varies, xx * yy, np.nan))
