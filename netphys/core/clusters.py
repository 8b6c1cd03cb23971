"""Clusters in time: runs of a statistic above a threshold, and how large chance makes them."""

from __future__ import annotations

import numpy as np


def compute_cluster_p(
    statistic: np.ndarray, null: np.ndarray, *, threshold: np.ndarray
) -> np.ndarray:
    """Compute p-values of the runs of time in which a statistic exceeds a threshold.

    Parameters
    ----------
    statistic : ndarray, shape (n_times,)
        Observed; NaN ends a run.
    null : ndarray, shape (n_draws, n_times)
        The same under the null hypothesis, drawn for all times at once.
    threshold : ndarray, shape (n_times,)
        What the statistic must exceed, such as the 95th percentile of the null at each time.

    Returns
    -------
    p : ndarray, shape (n_times,)
        That of the run each time belongs to, (1 + hits) / (1 + draws) over the largest run of each
        draw; 1 outside all runs.

    Notes
    -----
    The mass of a run is the sum of what exceeds the threshold. A significant cluster says that
    there is an effect somewhere, not where it begins and ends.

    References
    ----------
    .. [1] Maris E, Oostenveld R (2007). J Neurosci Methods 164:177-190.
       doi:10.1016/j.jneumeth.2007.03.024

    Examples
    --------
    >>> compute_cluster_p(np.array([0.0, 2, 3, 0]), np.zeros((99, 4)), threshold=np.ones(4))
    array([1.  , 0.01, 0.01, 1.  ])
    """
    mass, run = _sum_runs(np.asarray(statistic, np.float64)[None] - threshold)
    largest = _sum_runs(np.asarray(null, np.float64) - threshold)[0].max(axis=1)
    slack = 1e-12 * np.maximum(1, np.abs(mass[0]))
    hits = (largest[:, None] >= mass[0] - slack).sum(axis=0)
    return np.where(run[0], (1 + hits) / (1 + len(largest)), 1.0)


def _sum_runs(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each place the sum over its run of positive values, and whether it is in one."""
    above = np.nan_to_num(excess, nan=-1.0) > 0
    padded = np.pad(above, ((0, 0), (1, 1)))
    begin = padded[:, 1:-1] & ~padded[:, :-2]
    label = np.cumsum(begin.reshape(-1)).reshape(above.shape) * above
    sums = np.bincount(label.reshape(-1), np.where(above, excess, 0.0).reshape(-1))
    sums[0] = 0.0
    return sums[label], above
