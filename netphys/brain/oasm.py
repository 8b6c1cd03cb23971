"""A model without content: what autocorrelation alone would score (OASM)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

SIGMAS = (0.5, 1.0, 2.0, 4.0)


def make_oasm(n: int, *, sigma: float, groups: np.ndarray | None = None) -> np.ndarray:
    """Make features that know nothing but which samples are neighbours in time.

    Parameters
    ----------
    n : int
        Number of samples.
    sigma : float
        Standard deviation of the Gaussian that smooths the identity matrix, in samples.
    groups : ndarray, shape (n,), optional
        Run, story or passage of each sample; nothing is smoothed across them.

    Returns
    -------
    features : ndarray, shape (n, n)
        One feature per sample.

    References
    ----------
    .. [1] Hadidi N, Feghhi E et al. (2026). Nat Commun. doi:10.1038/s41467-026-72253-7

    Examples
    --------
    >>> make_oasm(3, sigma=0.5).round(2)
    array([[0.89, 0.11, 0.  ],
           [0.11, 0.79, 0.11],
           [0.  , 0.11, 0.89]])
    """
    if groups is None:
        return gaussian_filter1d(np.eye(n), sigma, axis=0)
    features = np.zeros((n, n))
    for name in dict.fromkeys(np.asarray(groups).tolist()):
        mine = np.flatnonzero(np.asarray(groups) == name)
        features[np.ix_(mine, mine)] = make_oasm(len(mine), sigma=sigma)
    return features
