"""Similarity of representational dissimilarity matrices (RDMs), from their pairs of conditions."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from netphys._check import check_option
from netphys._options import METHODS


def compute_pairs(rdm: np.ndarray) -> np.ndarray:
    """Return the dissimilarities above the diagonal, row by row.

    Parameters
    ----------
    rdm : ndarray, shape (..., n_conditions, n_conditions)
        Symmetric dissimilarities.

    Returns
    -------
    pairs : ndarray, shape (..., n_pairs)
        In the order (0, 1), (0, 2), ..., (1, 2), ...

    Raises
    ------
    ValueError
        If the matrices are not square or not symmetric.
    """
    rdm = np.asarray(rdm, np.float64)
    if rdm.ndim < 2 or rdm.shape[-1] != rdm.shape[-2]:
        raise ValueError(
            f"rdm has shape {rdm.shape}. Give square matrices (..., condition, condition)."
        )
    if not np.allclose(rdm, np.swapaxes(rdm, -1, -2), rtol=1e-6, atol=1e-9, equal_nan=True):
        raise ValueError("rdm is not symmetric. Give dissimilarities, equal in both directions.")
    return rdm[..., *np.triu_indices(rdm.shape[-1], 1)]


def compare_pairs(a: np.ndarray, b: np.ndarray, *, method: str = "spearman") -> np.ndarray:
    """Compare every RDM of one set with every RDM of another.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Dissimilarities of the same pairs of conditions in the same order. Pairs that are NaN in any
        RDM are left out of all.
    method : str
        "pearson", "cosine"; "spearman" (tie-corrected); "rho-a" (expected Spearman under random
        breaking of ties, which does not favour models that predict ties).

    Returns
    -------
    similarity : ndarray, shape (n_a, n_b)
        -1 to 1; NaN where an RDM is constant ("cosine": zero).

    Raises
    ------
    ValueError
        If the method is unknown, lengths differ, or fewer than three pairs are left.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [2] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566

    Examples
    --------
    >>> compare_pairs([[1.0, 2.0, 4.0]], [[1.0, 3.0, 9.0], [3.0, 2.0, 1.0]])
    array([[ 1., -1.]])
    """
    check_option("method", method, METHODS)
    a, b = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"a has {a.shape[-1]} pairs, b has {b.shape[-1]}. Give RDMs over the same conditions."
        )
    known = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    if known.sum() < 3:
        raise ValueError(
            f"{known.sum()} of {known.size} pairs are known in all RDMs. At least three are needed."
        )
    a, b = a[:, known], b[:, known]
    if method in ("spearman", "rho-a"):
        a, b = rankdata(a, axis=1), rankdata(b, axis=1)
    if method != "cosine":
        a, b = _centre(a), _centre(b)
    if method == "rho-a":
        n = a.shape[1]
        return np.clip(12 * (a @ b.T) / (n**3 - n), -1, 1)
    return np.clip(_normalise(a) @ _normalise(b).T, -1, 1)


def _centre(x: np.ndarray) -> np.ndarray:
    """Subtract the mean of each row; a constant row becomes exactly 0."""
    constant = (x == x[:, :1]).all(axis=1, keepdims=True)
    return np.where(constant, 0.0, x - x.mean(axis=1, keepdims=True))


def _normalise(x: np.ndarray) -> np.ndarray:
    """Bring rows to length 1; NaN for a row of length 0."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, np.nan)
