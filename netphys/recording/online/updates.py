"""How each statistic takes in rows: the state of the rows alone, merged into the running one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from netphys.core.online import Moments, Sparsity, Statistic, Surprisal
from netphys.recording.online import pairs, sums
from netphys.recording.online.batch import BatchInfo
from netphys.recording.online.rows import TensorState, mark_finite, split_rows


def update_moments(
    statistic: Moments, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `Moments`.

    Parameters
    ----------
    statistic : Moments
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        Not needed.
    """
    finite = mark_finite(rows)
    part = compute_central(rows, finite, statistic.powers)
    if finite is None:
        part |= {"min": rows.amin(0), "max": rows.amax(0)}
    else:
        inf = rows.new_full((), torch.inf)
        part["min"] = torch.where(finite, rows, inf).amin(0)
        part["max"] = torch.where(finite, rows, -inf).amax(0)
    merge_part(statistic, state, part)


def update_sparsity(
    statistic: Sparsity, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add rows to `Sparsity`.

    Parameters
    ----------
    statistic : Sparsity
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        Not needed.
    """
    finite = mark_finite(rows)
    if finite is not None:
        rows = torch.where(finite, rows, torch.zeros_like(rows))
    rates = rows.clamp(min=0)
    part = compute_central(rates, finite, (2,))
    n_bad = part["n_nonfinite"]  # these stand in rows as 0
    events = _exceeds(rows, statistic.threshold)
    part |= {
        "n_zero": (rows == 0).sum(0) - n_bad,
        "n_near_zero": (~_exceeds(rows.abs(), statistic.tolerance)).sum(0) - n_bad,
        "n_events": (events if finite is None else events & finite).sum(0),
    }
    shares = _compute_population(rates, finite)
    part |= {f"population_{k}": v for k, v in compute_central(shares, None, (2,)).items()}
    del part["population_n_nonfinite"]
    merge_part(statistic, state, part)


def _exceeds(values: torch.Tensor, threshold: float) -> torch.Tensor:
    """Compare in float64, so that a threshold is not rounded to the type of the values."""
    if values.dtype == torch.float64:
        return values > threshold
    low = torch.tensor(threshold, dtype=torch.float64).to(values.dtype)
    if float(low) > threshold:  # above the largest value of this type that does not exceed it
        low = torch.nextafter(low, torch.tensor(-torch.inf, dtype=values.dtype))
    return values > low.to(values.device)


def _compute_population(rates: torch.Tensor, finite: torch.Tensor | None) -> torch.Tensor:
    """Return the sparseness of each sample over units, (n, 1), where it exists."""
    n = rates.shape[1]
    mean = torch.cat([x.mean(1) for x in split_rows(rates)])
    begin, variance = 0, []
    for x in split_rows(rates):
        variance.append(((x - mean[begin : begin + len(x), None]) ** 2).mean(1))
        begin += len(x)
    spread = torch.cat(variance)
    good = mean > 0
    if finite is not None:
        good &= finite.all(1)
    if n < 2:
        good[:] = False
    spread, mean = spread[good], mean[good]
    return (spread / (spread + mean**2) / (1 - 1 / max(n, 2)))[:, None]


def update_surprisal(
    statistic: Surprisal, state: TensorState, rows: torch.Tensor, batch: BatchInfo
) -> None:
    """Add words to `Surprisal`.

    Parameters
    ----------
    statistic : Surprisal
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_words, 3)
        Surprisal, entropy and rank; NaN where there is none.
    batch : BatchInfo
        Not needed.
    """
    update_moments(Moments(), state, rows, batch)


def merge_part(statistic: Statistic, state: TensorState, part: TensorState) -> None:
    """Merge the state of a few rows into the running one.

    Parameters
    ----------
    statistic : Statistic
        Whose state it is.
    state : dict of str to Tensor
        Changed in place.
    part : dict of str to Tensor
        Of the same layout but for "seen".
    """
    part = {k: v.to(state[k].dtype) for k, v in part.items()}
    statistic.merge(state, {"seen": torch.zeros_like(state["seen"]), **part})


def compute_central(
    rows: torch.Tensor, finite: torch.Tensor | None, powers: tuple[int, ...]
) -> TensorState:
    """Return count, mean and central sums of a few rows.

    Parameters
    ----------
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    finite : Tensor of bool or None
        Which values count; None: all.
    powers : tuple of int
        2, or 2 to 4.

    Returns
    -------
    part : dict of str to Tensor, shape (n_units,)
        n, n_nonfinite, mean, m2 ...
    """
    bad = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
    if finite is not None:
        bad = (~finite).sum(0)
        rows = torch.where(finite, rows, torch.zeros_like(rows))
    n = len(rows) - bad
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for x in split_rows(rows):
        total += x.sum(0)
    mean = total / n.clamp(min=1)
    part = {"n": n, "n_nonfinite": bad, "mean": mean}
    part |= {f"m{p}": torch.zeros_like(total) for p in powers}
    begin = 0
    for x in split_rows(rows):
        d = x - mean
        if finite is not None:
            d *= finite[begin : begin + len(x)]
            begin += len(x)
        product = d
        for power in powers:
            product = product * d
            part[f"m{power}"] += product.sum(0)
    return part


UPDATES: dict[str, Callable[..., None]] = {
    "cross_covariance": pairs.update_cross_covariance,
    "gram": pairs.update_gram,
    "histogram": sums.update_histogram,
    "moments": update_moments,
    "position_counts": sums.update_position_counts,
    "quantiles": sums.update_quantiles,
    "rdm": sums.update_rdm,
    "sparsity": update_sparsity,
    "surprisal": update_surprisal,
    "tag_coefficients": sums.update_tag_coefficients,
    "token_counts": sums.update_token_counts,
}
