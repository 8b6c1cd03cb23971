"""The same pass written plainly, one sample and one unit after the other: what tests compare to."""

from __future__ import annotations

import torch

from netphys.recording.kernels.contract import Outputs, Reduction, State
from netphys.recording.kernels.plan import Plan


@torch.no_grad()
def run_reference(
    reduction: Reduction,
    x: torch.Tensor,
    plan: Plan,
    outputs: Outputs,
    state: State,
    *,
    basis: torch.Tensor | None = None,
) -> None:
    """Do in float64, slowly and plainly, what `run` does.

    Parameters
    ----------
    reduction : Reduction
        What to do.
    x : Tensor, shape (n_rows, n_units_in)
        Values that pass the site.
    plan : Plan
        Rows and segments.
    outputs : Outputs
        Written in place, on the CPU.
    state : State
        Brought forward in place, on the CPU.
    basis : Tensor, shape (n_rows, n_tags, 2), or None
        Fourier basis.
    """
    r = reduction
    raw = x.cpu()[plan.rows]
    raw = raw if r.units is None else raw[:, r.units.cpu()]
    exact = raw.double()
    where = range(len(raw)) if plan.out_rows is None else plan.out_rows.tolist()
    outputs.nonfinite.fill_(int((~raw.isfinite()).sum()))
    overflow = 0
    for i, row in enumerate(where):
        if r.store is not None:
            outputs.samples[row] = raw[i].to(r.store)
            overflow += int((raw[i].isfinite() & ~raw[i].to(r.store).isfinite()).sum())
        if r.threshold is not None:
            outputs.raster[row] = _pack((exact[i] > r.threshold.cpu()).tolist())
        if r.top_k:
            index = _find_top(exact[i].tolist(), r.top_k)
            outputs.top_index[row] = torch.tensor(index)
            outputs.top_value[row] = exact[i][index].to(r.wide)
    for (name, form), target in outputs.pooled.items():
        segments = plan.segments[name]
        for n in range(len(segments)):
            rows = exact[segments.begin[n] : segments.end[n]]
            pooled = _pool(rows, form)
            target[n] = pooled.to(target.dtype)
            overflow += int((pooled.isfinite() & ~target[n].isfinite()).sum())
    outputs.overflow.fill_(overflow)
    _update(r, exact, raw, state, None if basis is None else basis.cpu()[plan.rows].double())


def _pack(bits: list[bool]) -> torch.Tensor:
    packed = [0] * -(-len(bits) // 8)
    for unit, bit in enumerate(bits):
        packed[unit // 8] |= int(bit) << (unit % 8)
    return torch.tensor(packed, dtype=torch.uint8)


def _find_top(values: list[float], k: int) -> list[int]:
    def order(unit: int) -> tuple[bool, float, int]:
        value = values[unit]
        return (value == value, -value if value == value else 0.0, unit)

    return sorted(range(len(values)), key=order)[:k]


def _pool(rows: torch.Tensor, form: str) -> torch.Tensor:
    if form == "sum":
        return rows.sum(0)
    if len(rows) == 0:
        return torch.full(rows.shape[1:], torch.nan, dtype=rows.dtype)
    return {"mean": rows.mean(0), "max": rows.amax(0), "last": rows[-1]}[form]


def _update(
    r: Reduction,
    exact: torch.Tensor,
    raw: torch.Tensor,
    state: State,
    basis: torch.Tensor | None,
) -> None:
    for sample in exact:
        state.count += 1
        if r.moments:  # Welford, one sample after the other
            delta = sample - state.mean
            state.mean += delta / state.count
            state.m2 += delta * (sample - state.mean)
    state.fired += 1
    if r.extrema and len(exact):
        state.low.copy_(torch.minimum(state.low.double(), exact.amin(0)))
        state.high.copy_(torch.maximum(state.high.double(), exact.amax(0)))
    if r.histogram:
        _count(r, raw.to(r.wide), state.histogram)
    if r.gram:
        state.gram += torch.einsum("su,sv->uv", exact, exact)
    if r.n_tags:
        state.tags += torch.einsum("sfc,su->fuc", basis, exact)


def _count(r: Reduction, values: torch.Tensor, counts: torch.Tensor) -> None:
    low, high, n_bins = r.histogram
    scale = torch.tensor(n_bins / (high - low), dtype=r.wide)
    place = ((values - torch.tensor(low, dtype=r.wide)) * scale).floor()
    for sample in place.tolist():
        for unit, value in enumerate(sample):
            if value == value:
                counts[unit, int(min(max(value + 1, 0), n_bins + 1))] += 1
