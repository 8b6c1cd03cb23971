"""Cross-validation folds: contiguous or grouped, nested, with a gap; random ones for iid data."""

from __future__ import annotations

import numpy as np

from netphys._check import check_positive, check_type

Folds = list[tuple[np.ndarray, np.ndarray]]


def make_folds(
    samples: int | np.ndarray,
    *,
    n_folds: int = 5,
    gap: int = 0,
    groups: np.ndarray | None = None,
) -> Folds:
    """Cut ordered samples into contiguous test sets, with what is far enough from each to train on.

    Parameters
    ----------
    samples : int or ndarray of int
        Number of samples, or their positions in time in ascending order: a training set is cut
        again into nested folds by giving its positions.
    n_folds : int
        How many test sets; every sample is tested once.
    gap : int
        Samples at this distance or less from the test set, in positions, are not trained on.
    groups : ndarray, shape (n_positions,), optional
        Run, story or passage of every sample. Test sets are then whole groups; the gap is kept to
        the groups beside them as well.

    Returns
    -------
    folds : list of (train, test)
        Positions, ascending.

    Raises
    ------
    ValueError
        If there are fewer samples or groups than folds, or a gap leaves nothing to train on.

    Examples
    --------
    >>> train, test = make_folds(10, n_folds=5, gap=1)[1]
    >>> train.tolist(), test.tolist()
    ([0, 5, 6, 7, 8, 9], [2, 3])
    """
    positions = np.arange(samples) if isinstance(samples, int | np.integer) else np.asarray(samples)
    check_type("n_folds", n_folds, int, "a whole number of at least 2")
    check_type("gap", gap, int, "a whole number of samples of at least 0")
    if n_folds < 2:
        raise ValueError(f"n_folds={n_folds} leaves nothing to train on. Give at least 2.")
    if gap < 0:
        raise ValueError(f"gap={gap} is negative. Give a number of samples of at least 0.")
    if groups is None:
        _check_enough(len(positions), n_folds, "samples")
        tests = np.array_split(positions, n_folds)
    else:
        tests = _split_groups(positions, np.asarray(groups), n_folds)
    folds = [(_keep_away(positions, test, gap), test) for test in tests]
    smallest = min(len(train) for train, _ in folds)
    if smallest < 2:
        raise ValueError(
            f"gap={gap} with n_folds={n_folds} leaves {smallest} of {len(positions)} samples to "
            "train on. Use a smaller gap or fewer folds."
        )
    return folds


def make_random_folds(n: int, *, n_folds: int = 5, rng: np.random.Generator) -> Folds:
    """Cut exchangeable samples into random test sets.

    Parameters
    ----------
    n : int
        Number of samples. They must be exchangeable (iid): in ordered data neighbours of a test
        sample are in the training set, and their autocorrelation is taken for prediction.
    n_folds : int
        How many test sets.
    rng : Generator
        Source of randomness.

    Returns
    -------
    folds : list of (train, test)
        Positions, ascending.
    """
    check_positive("n_folds", n_folds)
    _check_enough(n, n_folds, "samples")
    tests = np.array_split(rng.permutation(n), n_folds)
    return [(np.setdiff1d(np.arange(n), test), np.sort(test)) for test in tests]


def compute_autocorrelation(x: np.ndarray, *, max_lag: int) -> np.ndarray:
    """Compute the mean autocorrelation of several series.

    Parameters
    ----------
    x : ndarray, shape (n_samples, ...)
        Series along the first axis.
    max_lag : int
        Largest lag.

    Returns
    -------
    autocorrelation : ndarray, shape (max_lag + 1,)
        Of lags 0 to `max_lag`; biased estimate (divided by the variance of the whole series).
    """
    check_positive("max_lag", max_lag)
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    x = x - x.mean(axis=0)
    power = (x * x).sum(axis=0)
    x = x[:, power > 0]
    lags = range(min(max_lag, len(x) - 1) + 1)
    each = [(x[: len(x) - k] * x[k:]).sum(axis=0) / power[power > 0] for k in lags]
    return np.mean(each, axis=1)


def find_gap(x: np.ndarray, *, span: int = 0) -> int:
    """Find how far apart training and test samples of ordered data must be.

    Parameters
    ----------
    x : ndarray, shape (n_samples, ...)
        Series along the first axis.
    span : int
        Samples over which the features are smeared, such as the length of a hemodynamic response.

    Returns
    -------
    gap : int
        The larger of `span` and the first lag with a mean autocorrelation below 0.05.
    """
    autocorrelation = compute_autocorrelation(x, max_lag=len(x) // 4)
    below = np.flatnonzero(autocorrelation < 0.05)
    return max(span, int(below[0]) if len(below) else len(x) // 4)


def _check_enough(n: int, n_folds: int, what: str) -> None:
    if n < n_folds:
        raise ValueError(f"n_folds={n_folds} is more than the {n} {what}. Use fewer folds.")


def _split_groups(positions: np.ndarray, groups: np.ndarray, n_folds: int) -> list[np.ndarray]:
    """Return test sets of whole groups, in order of appearance, as equal in size as that allows."""
    if len(groups) <= positions.max(initial=-1):
        raise ValueError(
            f"groups has {len(groups)} entries for positions up to {positions.max()}. Give one "
            "group per sample."
        )
    here = groups[positions]
    names = list(dict.fromkeys(here.tolist()))
    _check_enough(len(names), n_folds, "groups")
    sizes = np.array([(here == name).sum() for name in names])
    middle = np.cumsum(sizes) - sizes / 2
    fold = np.minimum((middle / len(here) * n_folds).astype(int), n_folds - 1)
    for k in range(n_folds):  # no fold stays empty, however unequal the groups are
        if not (fold == k).any():
            fold = np.minimum(np.arange(len(names)) * n_folds // len(names), n_folds - 1)
            break
    return [
        positions[np.isin(here, [n for n, f in zip(names, fold, strict=True) if f == k])]
        for k in range(n_folds)
    ]


def _keep_away(positions: np.ndarray, test: np.ndarray, gap: int) -> np.ndarray:
    """Return the positions that are neither tested nor within `gap` of what is."""
    edge = np.searchsorted(test, positions)
    before = np.abs(positions - test[np.maximum(edge - 1, 0)])
    after = np.abs(test[np.minimum(edge, len(test) - 1)] - positions)
    return positions[np.minimum(before, after) > gap]
