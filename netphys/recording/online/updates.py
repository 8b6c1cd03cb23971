"""How each statistic takes in rows: the state of the rows alone, merged into the running one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from netphys.core.online import Moments, Sparsity, Statistic, Surprisal
from netphys.recording.online.batch import BatchInfo

CHUNK_BYTES = {"cpu": 2**20, "cuda": 2**27}  # of float64 at a time: the cache, a share of the card


def update_moments(
    statistic: Moments, state: dict[str, torch.Tensor], rows: torch.Tensor, batch: BatchInfo
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
    for x in split_rows(rows):
        x, finite, n_bad = mark_finite(x)
        part = compute_central(x, finite, n_bad, statistic.powers)
        if finite is None:
            low, high = x.amin(0), x.amax(0)
        else:
            inf = torch.full_like(x, torch.inf)
            low, high = torch.where(finite, x, inf).amin(0), torch.where(finite, x, -inf).amax(0)
        statistic.merge(
            state,
            {"seen": torch.zeros_like(state["seen"]), **part, "min": low, "max": high},
        )


def update_sparsity(
    statistic: Sparsity, state: dict[str, torch.Tensor], rows: torch.Tensor, batch: BatchInfo
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
    for x in split_rows(rows):
        x, finite, n_bad = mark_finite(x)
        n_bad_zero = n_bad  # what is not finite stands in x as 0
        rate = x.clamp(min=0)
        part = compute_central(rate, finite, n_bad, (2,))
        events = x > statistic.threshold
        if finite is not None:
            events &= finite
        population = _compute_population(rate, finite)
        part |= {
            "n_zero": (x == 0).sum(0) - n_bad_zero,
            "n_near_zero": (x.abs() <= statistic.tolerance).sum(0) - n_bad_zero,
            "n_events": events.sum(0),
            **{f"population_{k}": v for k, v in population.items()},
        }
        statistic.merge(state, {"seen": torch.zeros_like(state["seen"]), **part})


def _compute_population(rate: torch.Tensor, finite: torch.Tensor | None) -> dict:
    """Return count, mean and central sum of the population sparseness of each sample."""
    n = rate.shape[1]
    mean = rate.mean(1)
    variance = ((rate - mean[:, None]) ** 2).mean(1)
    square = variance + mean**2
    good = (square > 0) & (n > 1)
    if finite is not None:
        good &= finite.all(1)
    share = torch.where(good, variance / torch.where(good, square, 1.0), 0.0) / (1 - 1 / max(n, 2))
    count = good.sum()
    centre = share.sum() / count.clamp(min=1)
    spread = (torch.where(good, share - centre, 0.0) ** 2).sum()
    return {"n": count[None], "mean": centre[None], "m2": spread[None]}


def update_surprisal(
    statistic: Surprisal, state: dict[str, torch.Tensor], rows: torch.Tensor, batch: BatchInfo
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


def mark_finite(
    x: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | int]:
    """Replace what is not finite by 0.

    Parameters
    ----------
    x : Tensor, shape (n_samples, n_units)
        float64.

    Returns
    -------
    x : Tensor
        Finite.
    finite : Tensor of bool, or None
        Which values were finite; None if all were.
    n_bad : Tensor of int64, shape (n_units,), or 0
        Per unit the number that were not.
    """
    if torch.isfinite(x.sum()):  # NaN and inf both survive a sum
        return x, None, 0
    finite = torch.isfinite(x)
    return torch.where(finite, x, 0.0), finite, (~finite).sum(0)


def compute_central(
    x: torch.Tensor,
    finite: torch.Tensor | None,
    n_bad: torch.Tensor | int,
    powers: tuple[int, ...],
) -> dict[str, torch.Tensor]:
    """Return count, mean and central sums of a few rows.

    Parameters
    ----------
    x : Tensor, shape (n_samples, n_units)
        float64, finite.
    finite : Tensor of bool or None
        Which values count; None: all.
    n_bad : Tensor of int64 or 0
        Per unit the number that do not count.
    powers : tuple of int
        2, or 2 to 4.

    Returns
    -------
    part : dict of str to Tensor, shape (n_units,)
        n, n_nonfinite, mean, m2 ...
    """
    bad = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device) + n_bad
    n = len(x) - bad
    mean = x.sum(0) / n.clamp(min=1)
    d = x - mean
    if finite is not None:
        d = torch.where(finite, d, 0.0)
    part = {"n": n, "n_nonfinite": bad, "mean": mean}
    part["m2"] = (d * d).sum(0)
    for power in powers[1:]:
        part[f"m{power}"] = (d**power).sum(0)
    return part


UPDATES: dict[str, Callable[[Statistic, dict, torch.Tensor, BatchInfo], None]] = {
    "moments": update_moments,
    "sparsity": update_sparsity,
    "surprisal": update_surprisal,
}
