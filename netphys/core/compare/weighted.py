"""Similarity of RDMs in many bootstrap samples at once, without making a single sample.

A bootstrap of conditions weighs each pair by the product of how often its two conditions were
drawn; a condition drawn twice is not paired with itself. For similarities that are quotients of
quadratic forms, everything (scores, and both bounds of the noise ceiling) follows from the weighted
products of the RDMs; rank methods need one sort per RDM, and sums along it per sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netphys._check import check_option
from netphys._options import METHODS, RANKED, TAUS, WHITENED
from netphys.core.compare.ranks import RankTable, count_concordance
from netphys.core.compare.whitened import check_noise, count_conditions
from netphys.core.parallel import map_threads

CHUNK_BYTES = 48e6  # of weighted products that are held at a time
_FLAT = 1e-12  # a variance below this share of the mean square is rounding


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


def open_engine(
    models: np.ndarray, data: np.ndarray, *, method: str, noise: np.ndarray | None = None
) -> Quadratic | Ranked:
    """Prepare RDMs for being compared in many samples.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Dissimilarities, finite.
    data : ndarray, shape (n_data, n_pairs)
        Those they are compared with, one row per participant.
    method : str
        A method of `METHODS`.
    noise : ndarray, shape (n_conditions,), optional
        For whitened methods: variance of the noise of each condition.

    Returns
    -------
    engine : Quadratic or Ranked
        With a method `compare`.

    Raises
    ------
    ValueError
        If the method is unknown, sizes differ or a value is not finite.
    """
    check_option("method", method, METHODS)
    models, data = (np.atleast_2d(np.asarray(x, np.float64)) for x in (models, data))
    if models.shape[1] != data.shape[1]:
        raise ValueError(
            f"models have {models.shape[1]} pairs, data {data.shape[1]}. Give RDMs over the same "
            "conditions."
        )
    if not (np.isfinite(models).all() and np.isfinite(data).all()):
        raise ValueError("models or data hold NaN. Leave out the conditions or RDMs concerned.")
    if method in (*RANKED, *TAUS):
        return Ranked(models, data, method)
    return Quadratic(models, data, method, noise)


class Samples(NamedTuple):
    """What RDMs of models and participants have in common in each bootstrap sample."""

    scores: np.ndarray  # (n_samples, n_models, n_data)
    pooled: np.ndarray | None  # (n_samples, n_pools): means over what each pool was tested on


def compare_samples(
    engine: Quadratic | Ranked, weights: np.ndarray, *, pools: Pools | None = None
) -> Samples:
    """Compare all RDMs in bootstrap samples, on all cores that the process may use.

    Parameters
    ----------
    engine : Quadratic or Ranked
        Of `open_engine`.
    weights : ndarray, shape (n_samples, n_conditions)
        How often each condition was drawn.
    pools : Pools, optional
        Mean RDMs to be compared with the data.

    Returns
    -------
    samples : Samples
        Similarities, those of the pools None where there are none.
    """
    step = max(1, min(64, -(-len(weights) // 8)))

    def compare(k: int) -> tuple[np.ndarray, np.ndarray | None]:
        part = slice(k, k + step)
        own = None if pools is None else Pools(pools.weights[part], pools.tests[part])
        return engine.compare(weights[part], own)

    scores, pooled = zip(*map_threads(compare, range(0, len(weights), step)), strict=True)
    return Samples(np.concatenate(scores), None if pools is None else np.concatenate(pooled))


def measure_ceiling(
    data: np.ndarray, *, method: str, noise: np.ndarray | None = None
) -> tuple[float, float]:
    """Return how well one RDM could at best fit those of all participants.

    Parameters
    ----------
    data : ndarray, shape (n_data, n_pairs)
        Dissimilarities of each participant.
    method : str
        A method of `METHODS`.
    noise : ndarray, optional
        Variance of the noise of each condition.

    Returns
    -------
    lower, upper : float
        Mean similarity with the pool of the others, and with the pool of all. `lower` is NaN for
        one participant.
    """
    engine = open_engine(data[:1], data, method=method, noise=noise)
    pools = Pools.make_ceiling(np.ones((1, 1, len(data))))
    _, pooled = engine.compare(np.ones((1, engine.n_conditions)), pools)
    lower, upper = pools.find_bounds(pooled)[0, 0]
    return float(lower), float(upper)


class _Engine:
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


class Quadratic(_Engine):
    """Cosine and correlation, plain or whitened: all from weighted products of the RDMs.

    Parameters
    ----------
    models, data : ndarray, shape (n, n_pairs)
        Dissimilarities.
    method : str
        "cosine", "pearson", "whitened-cosine" or "whitened-pearson".
    noise : ndarray, shape (n_conditions,), optional
        Variances, for whitened methods.
    """

    def __init__(
        self, models: np.ndarray, data: np.ndarray, method: str, noise: np.ndarray | None = None
    ):
        super().__init__(models, data, method)
        n = self.n_conditions
        noise = check_noise(noise, n)
        if noise is not None and noise.ndim == 2:
            raise ValueError(
                "noise is a covariance of conditions, which says nothing of a condition drawn "
                "twice. Give its diagonal, or resample participants only."
            )
        self.precision = np.ones(n) if noise is None else 1 / noise
        self.centred, self.whitened = "pearson" in method, method in WHITENED
        rows = np.concatenate([data, models])
        if self.centred:  # a constant has no part; so it may go before it costs digits
            rows = rows - rows.mean(axis=1, keepdims=True)
        self.rows = np.concatenate([rows, np.ones((1, rows.shape[1]))])
        self.left = np.r_[: self.n_data, len(rows)]  # data and the constant
        products = self.rows[self.left][:, None] * self.rows
        self.products = products.reshape(-1, rows.shape[1])
        self.squares = self.rows**2
        if self.whitened:
            square = np.zeros((len(self.rows), n, n))
            square[:, self.first, self.second] = square[:, self.second, self.first] = -self.rows / 2
            self.halves = square.reshape(-1, n)

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
        n_rows = len(self.rows)
        step = max(1, int(CHUNK_BYTES / 8 / (n_rows * (len(self.left) + self.n_conditions))))
        scores, pooled = [], []
        for k in range(0, len(weights), step):
            part = slice(k, k + step)
            cross, square, scale = self._measure(weights[part])
            scores.append(self._score(cross, square))
            if pools is not None:
                own = Pools(pools.weights[part], pools.tests[part])
                pooled.append(self._pool(cross, square, scale, own))
        return np.concatenate(scores), np.concatenate(pooled) if pools is not None else None

    def _measure(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inner products of the data with all rows, squared lengths, and scales to pool."""
        mass = np.asarray(weights, np.float64)
        pairs = self.weigh_pairs(mass)
        n, n_left, n_rows = len(mass), len(self.left), len(self.rows)
        total = pairs.sum(axis=1)[:, None]
        cross = (pairs @ self.products.T).reshape(n, n_left, n_rows)
        square = pairs @ self.squares.T
        mean = cross[:, -1] / total
        variance = square / total - (mean**2 if self.centred else 0)
        variance = np.where(variance > _FLAT * square / total, variance, np.nan)
        if self.whitened:
            cross, square = self._whiten(mass, cross, square)
        if self.centred:
            ones = cross[:, -1].copy()
            cross = cross - mean[:, self.left, None] * ones[:, None]
            cross -= (ones[:, self.left, None] - mean[:, self.left, None] * ones[:, -1:, None]) * (
                mean[:, None]
            )
            square = square - 2 * mean * ones + mean**2 * ones[:, -1:]
        square = np.where(np.isnan(variance) | ~(square > 0), np.nan, square)
        return cross[:, :-1], square, np.sqrt(variance[:, : self.n_data])

    def _whiten(
        self, weights: np.ndarray, cross: np.ndarray, square: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn products of pairs into those of whitened RDMs.

        What a shift of each condition explains of -D/2 is taken out by least squares, whose normal
        equations are a diagonal and a matrix of rank one. With noise, a condition weighs as much as
        its precision, and so do pairs.
        """
        if not (self.precision == 1).all():
            raise_weights = weights * self.precision
            pairs = self.weigh_pairs(raise_weights)
            cross = (pairs @ self.products.T).reshape(cross.shape)
            square = pairs @ self.squares.T
            weights = raise_weights
        n, k, n_rows = len(weights), self.n_conditions, len(self.rows)
        sums = (self.halves @ weights.T).reshape(n_rows, k, n).transpose(2, 0, 1)
        bend = 2 * self.precision + weights.sum(axis=1, keepdims=True) - 2 * weights
        inverse = weights / bend
        shared = (sums @ inverse[:, :, None])[..., 0] / (1 + inverse.sum(axis=1, keepdims=True))
        shift = (sums - shared[..., None]) * inverse[:, None]
        cross = cross / 2 - 2 * (shift[:, self.left] @ sums.transpose(0, 2, 1))
        return cross, square / 2 - 2 * np.einsum("nri,nri->nr", shift, sums)

    def _score(self, cross: np.ndarray, square: np.ndarray) -> np.ndarray:
        length = np.sqrt(square)
        data, models = length[:, : self.n_data], length[:, self.n_data : -1]
        scores = cross[:, :, self.n_data : -1].transpose(0, 2, 1)
        return np.clip(scores / (models[:, :, None] * data[:, None]), -1, 1)

    def _pool(
        self, cross: np.ndarray, square: np.ndarray, scale: np.ndarray, pools: Pools
    ) -> np.ndarray:
        inner = cross[:, :, : self.n_data]
        weights = pools.weights / scale[:, None]
        each = weights @ inner
        square = np.sqrt(square[:, None, : self.n_data])
        length = np.einsum("nqd,nqd->nq", each, weights)[..., None]
        each /= square * np.sqrt(np.where(length > 0, length, np.nan))  # an empty pool has none
        return _average(each, pools.tests)


class Ranked(_Engine):
    """Spearman's rho, rho-a, and Kendall's tau-a and tau-b: RDMs are ranked in every sample.

    Parameters
    ----------
    models, data : ndarray, shape (n, n_pairs)
        Dissimilarities.
    method : str
        "spearman", "rho-a", "tau-a" or "tau-b".
    """

    def __init__(self, models: np.ndarray, data: np.ndarray, method: str):
        super().__init__(models, data, method)
        self.table = RankTable(np.concatenate([data, models]))
        n = self.n_data
        self.pairs = np.argwhere(np.ones((n, len(models)))) + [0, n]  # of a data row with a model

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
        """Rank mean ranks again, and compare them with the data they are tested on."""
        used = np.flatnonzero(tests.any(axis=1))
        out = np.full(len(pools), np.nan)
        if not len(used):
            return out
        table, tests = RankTable(pools[used]), tests[used]
        own, tied = table.rank(weights, np.arange(len(drawn)))
        own_size = self._measure(own, tied, weights)
        if self.method in TAUS:
            pairs = np.argwhere(tests > 0)
            dense = self.table.dense[: self.n_data, drawn]
            each = np.zeros(tests.shape)
            each[tuple(pairs.T)] = count_concordance(table, dense, pairs, weights)
            each /= own_size[:, None] * size[: self.n_data]
        else:
            rows = self._normalise(ranks[: self.n_data], weights, size[: self.n_data])
            each = self._normalise(own, weights, own_size) @ rows.T
        out[used] = _average(each, tests)
        return out


def _average(each: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Return the mean over the data (last axis) by weight; NaN where a pool is not tested."""
    total = tests.sum(axis=-1)
    found = np.where(tests > 0, tests * np.clip(each, -1, 1), 0.0).sum(axis=-1)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), np.nan)
