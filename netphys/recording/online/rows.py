"""Rows of a batch in float64, a few at a time, and which of their values are finite."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

CHUNK_BYTES = {"cpu": 2**20, "cuda": 2**27}  # of float64 at a time: the cache, a share of the card
TensorState = dict[str, torch.Tensor]


def split_rows(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield rows in float64, few enough at a time that they stay near the processor.

    Parameters
    ----------
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.

    Yields
    ------
    part : Tensor
        float64; a copy unless `rows` is float64.
    """
    room = CHUNK_BYTES.get(rows.device.type, CHUNK_BYTES["cuda"])
    n = max(1, room // max(8 * rows.shape[1], 1))
    for begin in range(0, len(rows), n):
        yield rows[begin : begin + n].to(torch.float64)


def mark_finite(rows: torch.Tensor) -> torch.Tensor | None:
    """Return which values are finite, or None if all are.

    Parameters
    ----------
    rows : Tensor
        Any floating type and shape.

    Returns
    -------
    finite : Tensor of bool, or None
        None for the price of one sum.
    """
    if torch.isfinite(rows.sum(dtype=torch.float32)):  # NaN and inf both survive a sum
        return None
    finite = torch.isfinite(rows)
    return None if finite.all() else finite


def keep_finite_rows(rows: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
    """Leave out rows with a value that is not finite.

    Parameters
    ----------
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.

    Returns
    -------
    rows : Tensor
        Those that are left.
    kept : ndarray of bool, shape (n_samples,), or None
        Which these are; None: all.
    """
    finite = mark_finite(rows)
    if finite is None:
        return rows, None
    kept = finite.all(1)
    return rows[kept], kept.cpu().numpy()
