"""Which rows of a batch count, and which segment each belongs to: worked out once for all sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike


@dataclass
class SegmentSet:
    """Words or trials of a batch, as runs of kept rows.

    Parameters
    ----------
    begin, end : ndarray of int64, shape (n_segments,)
        First kept row and the one after the last, counted among the kept rows.
    ids : Tensor of int64, shape (n_kept,)
        Segment of each kept row, -1 where there is none.
    scale : Tensor of float64, shape (n_segments,)
        One over the number of rows, NaN for empty segments.
    empty : Tensor of int64, shape (n_empty,)
        Segments without a kept row.
    """

    begin: np.ndarray
    end: np.ndarray
    ids: torch.Tensor
    scale: torch.Tensor
    empty: torch.Tensor

    def __len__(self) -> int:
        return len(self.begin)


@dataclass
class Plan:
    """Rows and segments of one batch; the same for all sites that see the batch.

    Parameters
    ----------
    n_rows : int
        Rows that pass a site.
    rows : Tensor of int64, shape (n_kept,)
        Those that count, increasing.
    all_rows : bool
        Whether all rows count.
    out_rows : Tensor of int64, shape (n_kept,), or None
        Where each is stored; None stores them one after the other from row 0.
    segments : dict of str to SegmentSet
        By name.
    """

    n_rows: int
    rows: torch.Tensor
    all_rows: bool
    out_rows: torch.Tensor | None = None
    segments: dict[str, SegmentSet] = field(default_factory=dict)
    _cache: dict = field(default_factory=dict, repr=False)

    @property
    def n_kept(self) -> int:
        """Number of rows that count."""
        return len(self.rows)

    @property
    def n_out(self) -> int:
        """Number of rows of the outputs that a call may touch, from row 0 on."""
        if self.out_rows is None:
            return self.n_kept
        return int(self.out_rows.max()) + 1 if len(self.out_rows) else 0


def make_plan(
    n_rows: int,
    segments: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    *,
    keep: ArrayLike | None = None,
    out_rows: ArrayLike | None = None,
) -> Plan:
    """Work out which rows of a batch count and which segment each belongs to.

    Parameters
    ----------
    n_rows : int
        Rows that pass a site.
    segments : mapping of str to (array, array), or None
        For each segment set the first row of each segment and the row after its last, in ascending
        order without overlap; gaps and empty segments are fine.
    keep : array of bool, shape (n_rows,), or None
        Rows with False are as if absent: neither stored, nor pooled, nor counted.
    out_rows : array of int, shape (n_kept,), or None
        Row of the outputs in which each kept row is stored; None stores them from row 0 on.

    Returns
    -------
    plan : Plan
        On the host; a card gets its copy at the first call.

    Raises
    ------
    ValueError
        If the lengths differ, or segments overlap, are not in order or leave the rows.
    """
    all_rows = keep is None
    if keep is None:
        kept = np.arange(n_rows)
        position = np.arange(n_rows + 1)
    else:
        keep = _to_numpy(keep).astype(bool)
        if keep.shape != (n_rows,):
            raise ValueError(
                f"keep has the shape {keep.shape}. Give one value for each of the {n_rows} rows."
            )
        kept = np.flatnonzero(keep)
        position = np.concatenate([[0], np.cumsum(keep)])
        all_rows = len(kept) == n_rows
    if out_rows is not None:
        out_rows = torch.from_numpy(_to_numpy(out_rows).astype(np.int64))
        if len(out_rows) != len(kept):
            raise ValueError(
                f"out_rows has {len(out_rows)} values. Give one for each of the {len(kept)} kept "
                "rows."
            )
    sets = {
        name: _make_segments(name, begin, end, position)
        for name, (begin, end) in (segments or {}).items()
    }
    return Plan(n_rows, torch.from_numpy(kept), all_rows, out_rows, sets)


def _make_segments(name: str, begin: ArrayLike, end: ArrayLike, position: np.ndarray) -> SegmentSet:
    begin, end = _to_numpy(begin).astype(np.int64), _to_numpy(end).astype(np.int64)
    n_rows, n_kept = len(position) - 1, int(position[-1])
    good = begin.ndim == 1 and begin.shape == end.shape
    good = good and bool((begin <= end).all() and (begin[1:] >= end[:-1]).all())
    if not good or (len(begin) and (begin[0] < 0 or end[-1] > n_rows)):
        raise ValueError(
            f"segments={name!r} are no runs of rows in order. Give begin and end of equal length, "
            f"ascending, without overlap, from 0 to the {n_rows} rows of the batch."
        )
    begin, end = position[begin], position[end]
    count = end - begin
    ids = np.full(n_kept, -1, np.int64)
    inside = np.repeat(np.arange(len(begin)), count)
    if len(inside):
        ids[np.arange(len(inside)) + np.repeat(begin - (np.cumsum(count) - count), count)] = inside
    scale = np.full(len(begin), np.nan)
    np.divide(1.0, count, out=scale, where=count > 0)
    empty = np.flatnonzero(count == 0)
    return SegmentSet(
        begin, end, torch.from_numpy(ids), torch.from_numpy(scale), torch.from_numpy(empty)
    )


def _to_numpy(values: ArrayLike) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
