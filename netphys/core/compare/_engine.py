"""What engines that compare RDMs in bootstrap samples have in common."""

from __future__ import annotations

import numpy as np

from netphys.core.square import count_conditions


class Engine:
    """Knows which two conditions each pair has."""

    def __init__(self, models: np.ndarray, data: np.ndarray, method: str):
        self.method, self.n_data = method, len(data)
        self.n_conditions = count_conditions(data.shape[1])
        self.first, self.second = np.triu_indices(self.n_conditions, 1)

    def weigh_pairs(self, weights: np.ndarray) -> np.ndarray:
        """Return how often each pair was drawn, (n_samples, n_pairs).

        Parameters
        ----------
        weights : ndarray, shape (n_samples, n_conditions)
            How often each condition was.

        Returns
        -------
        pairs : ndarray
            Products.
        """
        weights = np.asarray(weights, np.float64)
        return weights[:, self.first] * weights[:, self.second]
