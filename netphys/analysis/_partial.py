"""Multiple regression of many data vectors on one design, and its null by relabelled residuals."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from netphys.core.compare.permuted import relabel_products

TINY = 1e-8  # smallest eigenvalue of the models' correlations that counts as independent
BLOCK_VALUES = 2_000_000  # products of draws that are held at a time


class Design:
    """Models as rows of pairs with mean 0 and length 1; decomposed once.

    Parameters
    ----------
    rows : ndarray, shape (n_models, n_pairs)
        Not collinear.
    """

    def __init__(self, rows: np.ndarray):
        q, r = np.linalg.qr(rows.T)
        self.rows, self.basis, self.r = rows, q.T, r
        self.inverse = np.linalg.inv(r)
        self.spread = (self.inverse**2).sum(axis=1)  # diagonal of the inverse correlations

    @property
    def vif(self) -> np.ndarray:
        """Variance inflation of each weight by the other models (model,)."""
        return self.spread * (self.rows**2).sum(axis=1)

    def fit(self, data: np.ndarray) -> dict[str, np.ndarray]:
        """Return weights, partial correlations, unique variance and R2 of data of length 1.

        Parameters
        ----------
        data : ndarray, shape (n_data, n_pairs)
            Mean 0, length 1.

        Returns
        -------
        fit : dict
            "weight", "partial" and "unique" (model, data), "r2" (data,).
        """
        inside = self.basis @ data.T
        part, partial = self._find_partial(inside, np.ones(len(data)))
        r2 = (inside**2).sum(axis=0)
        return {"weight": self.inverse @ inside, "partial": partial, "unique": part**2, "r2": r2}

    def fit_nonnegative(self, data: np.ndarray) -> dict[str, np.ndarray]:
        """Return weights of at least 0, the variance they explain, and that of each model alone."""
        inside = self.basis @ data.T
        weight, r2 = _solve_nonnegative(self.r, inside)
        unique = np.empty_like(weight)
        for k in range(len(weight)):
            others = np.delete(self.r, k, axis=1)
            unique[k] = r2 - _solve_nonnegative(others, inside)[1]
        return {"weight": weight, "unique": np.maximum(unique, 0.0), "r2": r2}

    def draw(self, data: np.ndarray, orders: np.ndarray, n_groups: int) -> np.ndarray:
        """Return mean partial correlations (draw, model, group) of relabelled residuals.

        For each model, what the other models leave of the data is relabelled, and fitted again.

        Parameters
        ----------
        data : ndarray, shape (n_members * n_groups, n_pairs)
            Members of a group stand `n_groups` apart; the statistic is their mean.
        orders : ndarray of int, shape (n_draws, n_conditions)
            Relabellings.
        n_groups : int
            Number of groups.
        """
        null = np.empty((len(orders), len(self.rows), n_groups))
        for k in range(len(self.rows)):
            others = np.linalg.qr(np.delete(self.rows, k, axis=0).T)[0].T
            left = data - (data @ others.T) @ others
            size = (left**2).sum(axis=1)
            step = max(1, BLOCK_VALUES // (len(data) * len(self.rows)))
            for start in range(0, len(orders), step):
                drawn = relabel_products(self.basis, left, orders[start : start + step])
                part = np.einsum("m,dmn->dn", self.inverse[k], drawn) / np.sqrt(self.spread[k])
                rest = size - (drawn**2).sum(axis=1) + part**2
                found = part / np.sqrt(np.maximum(rest, 1e-300))
                null[start : start + step, k] = found.reshape(len(drawn), -1, n_groups).mean(axis=1)
        return null

    def _find_partial(self, inside: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return semipartial and partial correlations (model, data) from products with the basis.

        `part` is the product of the data with what a model has beyond the others; what the others
        leave of the data has the squared length ``size - r2 + part**2``.
        """
        part = (self.inverse @ inside) / np.sqrt(self.spread)[:, None]
        rest = size - (inside**2).sum(axis=0) + part**2
        return part, np.clip(part / np.sqrt(np.maximum(rest, 1e-300)), -1, 1)


def find_collinear(rows: np.ndarray) -> np.ndarray:
    """Return which models (rows of length 1) make up a combination that is nearly 0."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    if values[0] >= TINY:
        return np.zeros(len(rows), bool)
    return np.abs(vectors[:, 0]) > 1e-3


def _solve_nonnegative(r: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (model, data) and explained variance in the basis of the whole design."""
    weight = np.zeros((r.shape[1], inside.shape[1]))
    if r.shape[1]:
        weight = np.stack([nnls(r, column)[0] for column in inside.T], axis=1)
    left = inside - r @ weight
    return weight, (inside**2).sum(axis=0) - (left**2).sum(axis=0)
