"""Pairs of conditions and the matrices they stand for."""

from __future__ import annotations

import numpy as np


def count_conditions(n_pairs: int) -> int:
    """Return the number of conditions that have so many pairs.

    Parameters
    ----------
    n_pairs : int
        Length of an RDM's vector.

    Returns
    -------
    n : int
        Number of conditions.

    Raises
    ------
    ValueError
        If no number of conditions has so many pairs.
    """
    n = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"{n_pairs} pairs are those of no number of conditions. Give all pairs of each RDM, "
            "NaN where one is unknown."
        )
    return n


def make_square(pairs: np.ndarray) -> np.ndarray:
    """Return symmetric matrices with a diagonal of 0 from their upper triangles.

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        Values of the pairs (0, 1), (0, 2), ..., (1, 2), ...

    Returns
    -------
    square : ndarray, shape (..., n_conditions, n_conditions)
        Of the dtype of `pairs`.

    Raises
    ------
    ValueError
        If no number of conditions has so many pairs.

    Examples
    --------
    >>> make_square(np.array([1, 2, 3]))
    array([[0, 1, 2],
           [1, 0, 3],
           [2, 3, 0]])
    """
    pairs = np.asarray(pairs)
    n = count_conditions(pairs.shape[-1])
    i, j = np.triu_indices(n, 1)
    square = np.zeros((*pairs.shape[:-1], n, n), pairs.dtype)
    square[..., i, j] = square[..., j, i] = pairs
    return square
