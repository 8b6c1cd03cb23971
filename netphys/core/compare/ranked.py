"""RDMs in bootstrap samples: by their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from netphys._options import TAUS
from netphys.core.compare._engine import Engine
from netphys.core.compare.pools import Pools, average_tests
from netphys.core.compare.quadratic import Quadratic
from netphys.core.compare.ranks import RankTable, count_concordance, rank_rows


class Ranked(Engine):
    """Spearman's rho, rho-a, and Kendall's tau-a and tau-b: RDMs are ranked in every sample.

    Parameters
    ----------
    models, data : ndarray, shape (n, n_pairs)
        Dissimilarities.
    method : str
        "spearman", "rho-a", "tau-a" or "tau-b".
    components : sequence of int
        Which models can be mixed.
    """

    def __init__(
        self, models: np.ndarray, data: np.ndarray, method: str, components: Sequence[int] = ()
    ):
        super().__init__(models, data, method)
        self.data, self.models = data, models
        self.mixed = np.asarray(components, np.intp)
        self.table = RankTable(np.concatenate([data, models]))
        n = self.n_data
        self.pairs = np.argwhere(np.ones((n, len(models)))) + [0, n]  # of a data row with a model

    @cached_property
    def fitted(self) -> Quadratic:
        """Engine of the mixtures: they are fitted to ranks, by least squares."""
        ranks, every = rankdata(self.data, axis=1), range(len(self.mixed))
        return Quadratic(self.models[self.mixed], ranks, "pearson", None, every)

    def compare(
        self, weights: np.ndarray, pools: Pools | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Compare all RDMs in bootstrap samples of the conditions.

        Parameters
        ----------
        weights : ndarray, shape (n_samples, n_conditions)
            How often each condition was drawn.
        pools : Pools, optional
            Mean RDMs to be compared with the data.

        Returns
        -------
        scores : ndarray, shape (n_samples, n_models, n_data)
            Similarities.
        pooled : ndarray, shape (n_samples, n_pools) or None
            Mean similarity of each pool with those it is tested on.
        """
        pairs = self.weigh_pairs(weights)
        n_models = len(self.table.order) - self.n_data
        scores = np.full((len(pairs), n_models, self.n_data), np.nan)
        pooled = None if pools is None else np.full(pools.weights.shape[:2], np.nan)
        for k, weight in enumerate(pairs):
            drawn = np.flatnonzero(weight)
            if len(drawn) == 0:
                continue
            ranks, tied = self.table.rank(weight, drawn)
            shown = weight[drawn]
            size = self._measure(ranks, tied, shown)
            if self.method in TAUS:
                found = count_concordance(self.table, self.table.dense, self.pairs, weight)
                own = found.reshape(self.n_data, n_models).T
                scores[k] = own / (size[self.n_data :, None] * size[: self.n_data])
            else:
                rows = self._normalise(ranks, shown, size)
                scores[k] = rows[self.n_data :] @ rows[: self.n_data].T
            if pools is not None:
                own = pools.weights[k] @ ranks[: self.n_data]
                pooled[k] = self._pool(own, pools.tests[k], drawn, ranks, size, shown)
        return np.clip(scores, -1, 1), pooled

    def _measure(self, ranks: np.ndarray, tied: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the length of each row, of which the similarity is divided by two."""
        n = weights.sum()
        if self.method in TAUS:
            ties = tied @ weights
            ties = np.full_like(ties, n) if self.method == "tau-a" else ties
            square = (n * n - ties) / 2
        elif self.method == "rho-a":
            square = np.full(len(ranks), (n**3 - n) / 12)
        else:
            square = ((ranks - (n + 1) / 2) ** 2) @ weights
        flat = (tied >= n).any(axis=1)  # all that was drawn has one value
        return np.sqrt(np.where(flat | (square <= 0), np.nan, square))

    def compare_rows(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Compare further RDMs of each sample with the data.

        Parameters
        ----------
        rows : ndarray, shape (n_samples, n_rows, n_pairs)
            Dissimilarities.
        weights : ndarray, shape (n_samples, n_conditions)
            How often each condition was drawn.

        Returns
        -------
        similarity : ndarray, shape (n_samples, n_rows, n_data)
            NaN where an RDM is constant or unknown.
        """
        out = np.full((*rows.shape[:2], self.n_data), np.nan)
        for k, weight in enumerate(self.weigh_pairs(weights)):
            drawn = np.flatnonzero(weight)
            known = np.flatnonzero(np.isfinite(rows[k]).all(axis=1))
            if len(drawn) and len(known):
                shown = weight[drawn]
                ranks, tied = self.table.rank(weight, drawn)
                size = self._measure(ranks, tied, shown)
                every = np.ones((len(known), self.n_data))
                own = rows[k][np.ix_(known, drawn)]
                out[k, known] = self._compare_again(own, every, drawn, ranks, size, shown)
        return np.clip(out, -1, 1)

    @staticmethod
    def _normalise(ranks: np.ndarray, weights: np.ndarray, size: np.ndarray) -> np.ndarray:
        rows = ranks - (weights.sum() + 1) / 2
        rows *= np.sqrt(weights)
        rows /= size[:, None]
        return rows

    def _pool(
        self,
        pools: np.ndarray,
        tests: np.ndarray,
        drawn: np.ndarray,
        ranks: np.ndarray,
        size: np.ndarray,
        weights: np.ndarray,
    ) -> np.ndarray:
        """Compare mean ranks with the data they are tested on."""
        used = np.flatnonzero(tests.any(axis=1))
        out = np.full(len(pools), np.nan)
        if len(used):
            tests = tests[used]
            each = self._compare_again(pools[used], tests, drawn, ranks, size, weights)
            out[used] = average_tests(each, tests)
        return out

    def _compare_again(
        self,
        rows: np.ndarray,
        tests: np.ndarray,
        drawn: np.ndarray,
        ranks: np.ndarray,
        size: np.ndarray,
        weights: np.ndarray,
    ) -> np.ndarray:
        """Rank further rows of the pairs drawn, and compare them with the data (row, data)."""
        table = rank_rows(rows, weights)
        own_size = self._measure(table.ranks, table.tied, weights)
        if self.method in TAUS:
            pairs = np.argwhere(tests > 0)
            dense = np.ascontiguousarray(self.table.dense[: self.n_data, drawn])
            each = np.zeros(tests.shape)
            each[tuple(pairs.T)] = count_concordance(table, dense, pairs, weights)
            return each / (own_size[:, None] * size[: self.n_data])
        data = self._normalise(ranks[: self.n_data], weights, size[: self.n_data])
        return self._normalise(table.ranks, weights, own_size) @ data.T
