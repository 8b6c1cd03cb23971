"""Updates of statistics that count and sum: per token, position and condition, bins, trials."""

from __future__ import annotations

import math

import numpy as np
import torch

from netphys.core.online import (
    ConditionRDM,
    Histogram,
    PositionCounts,
    Quantiles,
    TagCoefficients,
    TokenCounts,
)
from netphys.recording.online.batch import BatchInfo
from netphys.recording.online.rows import TensorState, keep_finite_rows, mark_finite, split_rows

_EPS = 2.0**-48  # relative to the largest value: what of a coefficient is rounding


def update_token_counts(
    statistic: TokenCounts, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `TokenCounts`.

    Parameters
    ----------
    statistic : TokenCounts
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        With token ids.

    Raises
    ------
    ValueError
        If there are none.
    """
    if batch.token_id is None:
        raise ValueError(
            "online: token_counts needs token ids, which these stimuli and this site do not have. "
            "Leave it out, or choose a site with one sample per token."
        )
    ids = statistic.ids
    order = np.argsort(ids)
    place = np.searchsorted(ids[order], batch.token_id).clip(max=len(ids) - 1)
    slots = order[place]
    _add_groups(state, np.where(ids[slots] == batch.token_id, slots, -1), rows)


def update_position_counts(
    statistic: PositionCounts, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `PositionCounts`.

    Parameters
    ----------
    statistic : PositionCounts
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        With positions.
    """
    inside = batch.position < statistic.max_position
    _add_groups(state, np.where(inside, batch.position, -1), rows)


def update_rdm(
    statistic: ConditionRDM, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `ConditionRDM`.

    Parameters
    ----------
    statistic : ConditionRDM
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        With the codes of the column.

    Raises
    ------
    ValueError
        If there are none.
    """
    if statistic.by not in batch.codes:
        raise ValueError(
            f"by={statistic.by!r} is no column of these stimuli. Columns: "
            f"{', '.join(batch.codes) or 'none'}."
        )
    _add_groups(state, batch.codes[statistic.by], rows)


def _add_groups(state: TensorState, slots: np.ndarray, rows: torch.Tensor) -> None:
    """Add each row to the sum of its group; -1 is none."""
    rows, kept = keep_finite_rows(rows)
    slots = slots if kept is None else slots[kept]
    state["n_nonfinite"] += 0 if kept is None else int((~kept).sum())
    state["n_elsewhere"] += int((slots < 0).sum())
    inside = slots >= 0
    if not inside.all():
        rows, slots = rows[torch.from_numpy(inside).to(rows.device)], slots[inside]
    at = torch.from_numpy(np.ascontiguousarray(slots, np.int64)).to(rows.device)
    state["n"].index_add_(0, at, torch.ones_like(at))
    begin = 0
    for x in split_rows(rows):
        state["sum"].index_add_(0, at[begin : begin + len(x)], x)
        begin += len(x)


def update_histogram(
    statistic: Histogram, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `Histogram`.

    Parameters
    ----------
    statistic : Histogram
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        Not needed.
    """
    edges = torch.tensor(statistic.edges, dtype=torch.float64, device=rows.device)
    for x in split_rows(rows):
        bins = torch.bucketize(x, edges, right=True)
        bins = torch.where(x == edges[-1], len(edges) - 1, bins)
        nan = torch.isnan(x)
        _count_bins(state["counts"], bins, None if not nan.any() else ~nan)
        state["n_nonfinite"] += nan.sum(0)


def update_quantiles(
    statistic: Quantiles, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `Quantiles`.

    Parameters
    ----------
    statistic : Quantiles
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        Not needed.
    """
    for x in split_rows(rows):
        finite = mark_finite(x)
        low = high = x
        if finite is not None:
            inf = torch.full_like(x, torch.inf)
            low, high = torch.where(finite, x, inf), torch.where(finite, x, -inf)
            x = torch.where(finite, x, torch.zeros_like(x))
            state["n_nonfinite"] += (~finite).sum(0)
        state["min"].copy_(torch.minimum(state["min"], low.amin(0)))
        state["max"].copy_(torch.maximum(state["max"], high.amax(0)))
        _count_bins(state["counts"], statistic.find_bins(x), finite)


def _count_bins(counts: torch.Tensor, bins: torch.Tensor, valid: torch.Tensor | None) -> None:
    """Add one to the bin of every value; counts (unit, bin), bins (sample, unit)."""
    start = torch.arange(counts.shape[0], device=counts.device) * counts.shape[1]
    flat = bins + start
    flat = flat.reshape(-1) if valid is None else flat[valid]
    counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))


def update_tag_coefficients(
    statistic: TagCoefficients, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `TagCoefficients`.

    Parameters
    ----------
    statistic : TagCoefficients
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        With trials and positions.
    """
    bounds = batch.find_trials()
    lengths = np.diff(bounds)
    cycles = np.outer(batch.position / statistic.rate, statistic.frequencies) % 1.0
    basis = np.exp(-2j * math.pi * cycles) / np.repeat(lengths, lengths)[:, None]
    parts = torch.from_numpy(np.stack([basis.real, basis.imag], 2)).to(rows.device)
    parts = parts.reshape(len(rows), -1)
    begin = 0
    while begin < len(lengths):  # neighbours of equal length at once
        end = begin + 1
        room = max(1, 2**22 // max(int(lengths[begin]) * rows.shape[1], 1))
        while end < min(len(lengths), begin + room) and lengths[end] == lengths[begin]:
            end += 1
        span = slice(int(bounds[begin]), int(bounds[end]))
        shape = (end - begin, int(lengths[begin]), -1)
        _add_trials(state, rows[span].double().reshape(shape), parts[span].reshape(shape))
        begin = end


def _add_trials(state: TensorState, x: torch.Tensor, basis: torch.Tensor) -> None:
    """Add trials (trial, sample, unit) with their basis (trial, sample, freq * 2)."""
    finite = mark_finite(x)
    good = torch.ones((x.shape[0], x.shape[2]), dtype=torch.bool, device=x.device)
    if finite is not None:
        good = finite.all(1)
        x = torch.where(finite, x, torch.zeros_like(x))
        state["n_nonfinite"] += (~good).sum(0)
    found = torch.bmm(x.transpose(1, 2), basis)  # (trial, unit, freq * 2)
    found = found.reshape(*found.shape[:2], -1, 2) * good[..., None, None]
    size = torch.linalg.vector_norm(found, dim=-1)
    noise = _EPS * x.abs().amax(1)[..., None]  # a constant unit has no phase
    clear = size > noise
    unit = torch.where(clear[..., None], found / torch.where(clear, size, 1.0)[..., None], 0.0)
    state["n"] += good.sum(0)
    state["n_phase"] += clear.sum(0)
    state["real"] += found[..., 0].sum(0)
    state["imag"] += found[..., 1].sum(0)
    state["power"] += (found**2).sum((0, 3))
    state["phase_real"] += unit[..., 0].sum(0)
    state["phase_imag"] += unit[..., 1].sum(0)
