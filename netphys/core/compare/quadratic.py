"""RDMs in bootstrap samples: cosines and correlations, plain or whitened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netphys._options import WHITENED
from netphys.core.compare._engine import Engine
from netphys.core.compare.pools import Pools, average_tests
from netphys.core.compare.whitened import check_noise
from netphys.core.square import make_square

CHUNK_BYTES = 48e6  # of weighted products that are held at a time
_FLAT = 1e-12  # a variance below this share of the mean square is rounding


class Quadratic(Engine):
    """Cosine and correlation, plain or whitened: all from weighted products of the RDMs.

    Parameters
    ----------
    models, data : ndarray, shape (n, n_pairs)
        Dissimilarities.
    method : str
        "cosine", "pearson", "whitened-cosine" or "whitened-pearson".
    noise : ndarray, shape (n_conditions,), optional
        Variances, for whitened methods.
    components : sequence of int
        Which models can be mixed.
    """

    def __init__(
        self,
        models: np.ndarray,
        data: np.ndarray,
        method: str,
        noise: np.ndarray | None = None,
        components: Sequence[int] = (),
    ):
        super().__init__(models, data, method)
        n = self.n_conditions
        noise = check_noise(noise, n)
        if noise is not None and noise.ndim == 2:
            raise ValueError(
                "noise is a covariance of conditions, which says nothing of a condition drawn "
                "twice. Give its diagonal."
            )
        self.precision = np.ones(n) if noise is None else 1 / noise
        self.centred, self.whitened = "pearson" in method, method in WHITENED
        rows = np.concatenate([data, models])
        if self.centred:  # a constant has no part; so it may go before it costs digits
            rows = rows - rows.mean(axis=1, keepdims=True)
        self.rows = np.concatenate([rows, np.ones((1, rows.shape[1]))])
        self.mixed = np.asarray(components, np.intp)
        self.components = self.n_data + self.mixed
        self.left = np.r_[: self.n_data, self.components, len(rows)]  # the last is the constant
        products = self.rows[self.left][:, None] * self.rows
        self.products = products.reshape(-1, rows.shape[1])
        self.squares = self.rows**2
        if self.whitened:
            self.halves = make_square(-self.rows / 2).reshape(-1, n)

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
            cross, square, scale = self.measure(weights[part])
            scores.append(self._score(cross, square))
            if pools is not None:
                own = Pools(pools.weights[part], pools.tests[part])
                pooled.append(self._pool(cross, square, scale, own))
        return np.concatenate(scores), np.concatenate(pooled) if pools is not None else None

    def measure(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inner products of RDMs in bootstrap samples, in the metric of the method.

        Parameters
        ----------
        weights : ndarray, shape (n_samples, n_conditions)
            How often each condition was drawn.

        Returns
        -------
        cross : ndarray, shape (n_samples, n_data + n_components, n_data + n_models + 1)
            Of the data and the components with everything; the last is a constant.
        square : ndarray, shape (n_samples, n_data + n_models + 1)
            Squared lengths; NaN for RDMs that are constant in a sample.
        scale : ndarray, shape (n_samples, n_data)
            What the data are divided by before they are pooled.
        """
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
            weights = weights * self.precision
            pairs = self.weigh_pairs(weights)
            cross = (pairs @ self.products.T).reshape(cross.shape)
            square = pairs @ self.squares.T
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
        scores = cross[:, : self.n_data, self.n_data : -1].transpose(0, 2, 1)
        return np.clip(scores / (models[:, :, None] * data[:, None]), -1, 1)

    def _pool(
        self, cross: np.ndarray, square: np.ndarray, scale: np.ndarray, pools: Pools
    ) -> np.ndarray:
        inner = cross[:, : self.n_data, : self.n_data]
        weights = pools.weights / scale[:, None]
        each = weights @ inner
        square = np.sqrt(square[:, None, : self.n_data])
        length = np.einsum("nqd,nqd->nq", each, weights)[..., None]
        each /= square * np.sqrt(np.where(length > 0, length, np.nan))  # an empty pool has none
        return average_tests(each, pools.tests)
