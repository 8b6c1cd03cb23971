"""Similarity of representational dissimilarity matrices (RDMs), from their pairs of conditions."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from netphys._check import check_option
from netphys._options import METHODS, RANKED, TAUS, WHITENED
from netphys.core.compare.ranks import RankTable, count_concordance
from netphys.core.compare.whitened import whiten_pairs

HINT = "'corr' is 'pearson' here, 'cosine_cov' is 'whitened-cosine'."


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


def compare_pairs(
    a: np.ndarray, b: np.ndarray, *, method: str = "spearman", noise: np.ndarray | None = None
) -> np.ndarray:
    """Compare every RDM of one set with every RDM of another.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Dissimilarities of the same pairs of conditions in the same order. Pairs that are NaN in any
        RDM are left out of all.
    method : str
        "pearson", "cosine"; "spearman" (tie-corrected); "rho-a" and "tau-a" (expected Spearman and
        Kendall under random breaking of ties, which do not favour models that predict ties);
        "tau-b"; "whitened-pearson" and "whitened-cosine" (in the metric of the dissimilarities'
        covariance, for squared distances).
    noise : ndarray, shape (n_conditions,) or (n_conditions, n_conditions), optional
        For whitened methods: variance of the noise of each condition's pattern, or their
        covariance; left out: equal variances.

    Returns
    -------
    similarity : ndarray, shape (n_a, n_b)
        -1 to 1; NaN where an RDM is constant ("cosine": zero).

    Raises
    ------
    ValueError
        If the method is unknown, lengths differ, fewer than three pairs are left, or `noise` has no
        part in the method.

    Notes
    -----
    "whitened-pearson" takes the plain mean out of each RDM first. With equal variances,
    "whitened-cosine" of squared Euclidean distances is linear CKA of the patterns.

    References
    ----------
    .. [1] Nili H et al. (2014). PLoS Comput Biol 10:e1003553. doi:10.1371/journal.pcbi.1003553
    .. [2] Schütt HH et al. (2023). eLife 12:e82566. doi:10.7554/eLife.82566
    .. [3] Diedrichsen J et al. (2021). Neurons Behav Data Anal Theory 5(3). doi:10.51628/001c.27664

    Examples
    --------
    >>> compare_pairs([[1.0, 2.0, 4.0]], [[1.0, 3.0, 9.0], [3.0, 2.0, 1.0]])
    array([[ 1., -1.]])
    """
    check_option("method", method, METHODS, HINT)
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
    if method in WHITENED:
        a, b = np.where(known, a, np.nan), np.where(known, b, np.nan)
    else:
        a, b = a[:, known], b[:, known]
    if method in TAUS:
        return _compare_order(a, b, method)
    ours, theirs = (normalise_pairs(x, method=method, noise=noise) for x in (a, b))
    return np.clip(ours @ theirs.T, -1, 1)


def normalise_pairs(
    rows: np.ndarray, *, method: str = "spearman", noise: np.ndarray | None = None
) -> np.ndarray:
    """Return vectors whose dot product is the similarity of RDMs.

    Parameters
    ----------
    rows : ndarray, shape (n_rdms, n_pairs)
        Dissimilarities; for whitened methods pairs that are NaN take no part.
    method : str
        As in `compare_pairs`, but for Kendall's tau, which is no product.
    noise : ndarray, optional
        As in `compare_pairs`.

    Returns
    -------
    vectors : ndarray, shape (n_rdms, n)
        One per RDM; NaN for an RDM that is constant ("cosine": zero) or, but for whitened methods,
        holds NaN.

    Raises
    ------
    ValueError
        If the method has no such vectors, or `noise` has no part in it.
    """
    check_option("method", method, [m for m in METHODS if m not in TAUS], HINT)
    rows = np.asarray(rows, np.float64)
    if noise is not None and method not in WHITENED:
        raise ValueError(
            f"noise= has no part in method={method!r}. Leave it out, or use "
            f"{' or '.join(map(repr, WHITENED))}."
        )
    whitened = method in WHITENED
    known = np.isfinite(rows)
    usable = np.ones((len(rows), 1), bool) if whitened else known.all(axis=1, keepdims=True)
    rows = np.where(known, rows, 0.0)
    if method in RANKED:
        rows = rankdata(rows, axis=1)
    if "cosine" not in method:
        rows = _centre(rows, known if whitened else np.ones_like(known))
    if whitened:
        rows = whiten_pairs(np.where(known, rows, np.nan), noise=noise)
    n = rows.shape[1]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scale = np.full_like(length, np.sqrt((n**3 - n) / 12)) if method == "rho-a" else length
    return rows / np.where(usable & (length > 0), scale, np.nan)


def _centre(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Subtract the mean of what is known of each row; a constant row becomes exactly 0."""
    low = np.where(known, x, np.inf).min(axis=1, keepdims=True)
    high = np.where(known, x, -np.inf).max(axis=1, keepdims=True)
    mean = np.where(known, x, 0.0).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True)
    return np.where(low == high, 0.0, x - mean)


def _compare_order(a: np.ndarray, b: np.ndarray, method: str) -> np.ndarray:
    """Return Kendall's tau-a or tau-b of rows with rows."""
    left, right = RankTable(a), RankTable(b)
    n = a.shape[1]
    weights, every = np.ones(n), np.arange(n)
    pairs = np.argwhere(np.ones((len(a), len(b))))
    found = count_concordance(left, right.dense, pairs, weights).reshape(len(a), len(b))
    tied = [table.rank(weights, every)[1].sum(axis=1) for table in (left, right)]
    constant = [t == n * n for t in tied]
    if method == "tau-a":
        tied = [np.full(len(t), n) for t in tied]
    size = [
        np.sqrt(np.where(c, np.nan, (n * n - t) / 2)) for t, c in zip(tied, constant, strict=True)
    ]
    return np.clip(found / (size[0][:, None] * size[1]), -1, 1)
