"""Published or noted numbers, recomputed as they were made. For reference only: not a method.

The functions here reproduce what others do, or did before its faults were known, so that numbers
can be compared. `fit_encoding` is what netphys recommends.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from netphys._check import check_option
from netphys.brain.datasets import load_brain
from netphys.core.folds import Folds, make_folds

FEATURES = ("oasm", "word rate")
SPLITS = ("shuffled", "contiguous")
SHUFFLE_SEED = 0
_ALPHAS = np.logspace(-4, 6, 11)


def reproduce_alice(features: str, *, split: str) -> dict[str, float]:
    """Predict the mean response of 27 Alice listeners from features without content.

    Reference only. Drift is taken out of the whole series before it is split, penalties are chosen
    by leave-one-out, which trains on the neighbours of every sample it tests, and a shuffled split
    tests on neighbours as well.

    Parameters
    ----------
    features : str
        "oasm": an identity matrix smoothed along time (sigma of 2 volumes), which knows nothing but
        which volumes are neighbours; "word rate": the authors' predictor `rate_conv`.
    split : str
        "shuffled": five random test sets; "contiguous": five blocks with five volumes left out
        beside each.

    Returns
    -------
    r : dict of str to float
        Mean over test sets of the within-fold correlation, by region (6 mm).

    Raises
    ------
    FileNotFoundError
        If the dataset is not on this machine: ``netphys fetch alice2016``.

    Notes
    -----
    Responses: fourth-order Legendre drift taken out per person, standardised, averaged. Features
    are standardised on the training rows. Ridge with an intercept, eleven penalties from 1e-4 to
    1e6, the least squared leave-one-out error per region.

    References
    ----------
    .. [1] Brennan JR et al. (2016). Brain Lang 157-158:81-94. doi:10.1016/j.bandl.2016.04.008
    .. [2] Hadidi N, Feghhi E et al. (2026). Nat Commun. doi:10.1038/s41467-026-72253-7
    """
    check_option("features", features, FEATURES)
    check_option("split", split, SPLITS)
    brain = load_brain("alice2016", radius=6)
    y = brain["responses"].transpose("time", "participant", "region").to_numpy()
    n = len(y)
    drift = np.polynomial.legendre.legvander(np.linspace(-1, 1, n), 4)
    y = y - np.tensordot(drift @ np.linalg.pinv(drift), y, axes=1)
    y = (y / y.std(axis=0)).mean(axis=1)
    if features == "oasm":
        x = gaussian_filter1d(np.eye(n), 2.0, axis=0)
    else:
        x = brain["rate_conv"].to_numpy()[:, None]
    folds = _shuffle(n) if split == "shuffled" else make_folds(n, n_folds=5, gap=5)
    r = np.mean([_score(x, y, train, test) for train, test in folds], axis=0)
    return dict(zip(brain["region"].to_numpy().tolist(), r.tolist(), strict=True))


def _shuffle(n: int) -> Folds:
    """Return five random test sets of sorted rows; the seed is that of the noted numbers."""
    order = np.random.RandomState(SHUFFLE_SEED).permutation(n)
    tests = [np.sort(test) for test in np.array_split(order, 5)]
    return [(np.setdiff1d(np.arange(n), test), test) for test in tests]


def _score(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the correlation of every target with its prediction in one test set."""
    centre, spread = x[train].mean(axis=0), x[train].std(axis=0)
    x = (x - centre) / np.where(spread > 0, spread, 1)
    mean = y[train].mean(axis=0)
    values, vectors = np.linalg.eigh(x[train] @ x[train].T)
    errors, weights = [], []
    for alpha in _ALPHAS:
        inverse = (vectors / (values + alpha)) @ vectors.T
        constant = inverse.sum(axis=0)  # the intercept is not penalised
        inverse = inverse - np.outer(constant, constant) / constant.sum()
        dual = inverse @ (y[train] - mean)
        errors.append(((dual / np.diag(inverse)[:, None]) ** 2).mean(axis=0))
        weights.append(x[train].T @ dual)
    best = np.argmin(errors, axis=0)
    weight = np.stack([weights[b][:, k] for k, b in enumerate(best)], axis=1)
    return np.array(
        [np.corrcoef(a, b)[0, 1] for a, b in zip((x[test] @ weight).T, y[test].T, strict=True)]
    )
