"""Mean RDMs of participants that a noise ceiling compares with each of them."""

from __future__ import annotations

import numpy as np


class Pools:
    """Which mean RDMs are compared with which participants in a sample.

    Parameters
    ----------
    weights : ndarray, shape (n_samples, n_pools, n_data)
        How often each participant's RDM goes into a pool.
    tests : ndarray, shape (n_samples, n_pools, n_data)
        With what weight the pool is compared with each participant.

    Notes
    -----
    A method that compares by cosine pools RDMs divided by their root mean square, one that compares
    by correlation RDMs divided by their standard deviation, a rank method ranks.
    """

    def __init__(self, weights: np.ndarray, tests: np.ndarray):
        self.weights, self.tests = weights, tests

    @classmethod
    def make_ceiling(cls, people: np.ndarray) -> Pools:
        """Return the pools of a noise ceiling: all for all, then without each participant for it.

        Parameters
        ----------
        people : ndarray, shape (n_samples, n_draws, n_data)
            How often each participant was drawn; any number of draws per sample.

        Returns
        -------
        pools : Pools
            For each draw n_data + 1 pools one after another.
        """
        n = people.shape[-1]
        rest = people[..., None, :] * (1 - np.eye(n))
        alone = people[..., None, :] * np.eye(n)
        weights = np.concatenate([people[..., None, :], rest], axis=-2)
        tests = np.concatenate([people[..., None, :], alone], axis=-2)
        tests = np.where(weights.sum(axis=-1, keepdims=True) > 0, tests, 0.0)
        lead = (len(people), -1, n)
        return cls(weights.reshape(lead), tests.reshape(lead))

    def find_bounds(self, similarity: np.ndarray) -> np.ndarray:
        """Return (..., n_draws, lower and upper) from the similarities of ceiling pools.

        Parameters
        ----------
        similarity : ndarray, shape (n_samples, n_pools)
            Of pools that `make_ceiling` made, each the mean over those it was compared with.

        Returns
        -------
        bounds : ndarray, shape (n_samples, n_draws, 2)
            Means over the participants drawn.
        """
        n = self.weights.shape[-1]
        lead = (len(similarity), -1, n + 1)
        each = similarity.reshape(lead)[..., 1:]
        people = self.weights[:, :: n + 1].reshape(*each.shape[:2], n)
        drawn = people > 0
        lower = np.where(drawn, people * np.where(drawn, each, 0.0), 0.0).sum(axis=-1)
        lower /= people.sum(axis=-1)
        lower = np.where((drawn.sum(axis=-1) > 1), lower, np.nan)
        return np.stack([lower, similarity.reshape(lead)[..., 0]], axis=-1)


def average_tests(each: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Average similarities over the data by weight.

    Parameters
    ----------
    each : ndarray, shape (..., n_data)
        Similarities of a pool with each participant.
    tests : ndarray, shape (..., n_data)
        With what weight it is compared with each.

    Returns
    -------
    mean : ndarray, shape (...)
        NaN where a pool is not tested.
    """
    total = tests.sum(axis=-1)
    found = np.where(tests > 0, tests * np.clip(each, -1, 1), 0.0).sum(axis=-1)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), np.nan)
