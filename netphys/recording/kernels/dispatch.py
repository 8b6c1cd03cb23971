"""The door: checks once that everything fits, then one pass on the device of the samples."""

from __future__ import annotations

from collections.abc import Callable

import torch

from netphys.recording.kernels.contract import Outputs, Reduction, State
from netphys.recording.kernels.cpu import Pass, Workspace
from netphys.recording.kernels.plan import Plan


@torch.no_grad()
def run(
    reduction: Reduction,
    x: torch.Tensor,
    plan: Plan,
    outputs: Outputs,
    state: State,
    *,
    basis: torch.Tensor | None = None,
    workspace: Workspace | None = None,
    tile_rows: int | None = None,
) -> None:
    """Reduce what passes one site in one pass: read it once, write all results.

    Parameters
    ----------
    reduction : Reduction
        What to do; its tensors are on the device of `x`.
    x : Tensor, shape (n_rows, n_units_in)
        Values that pass the site; rows may lie anywhere, units of a row lie side by side.
    plan : Plan
        Rows that count, and segments, of this batch.
    outputs : Outputs
        Written in place: rows of the batch, and one row per segment.
    state : State
        Brought forward in place.
    basis : Tensor of float32 or float64, shape (n_rows, n_tags, 2), or None
        Real and imaginary part of the Fourier basis at each row; needed where `n_tags` is set.
    workspace : Workspace or None
        Scratch memory to reuse on the CPU; None allocates it anew.
    tile_rows : int or None
        Rows worked on at a time; None takes what suits the device. Results agree to rounding.

    Raises
    ------
    ValueError
        If something does not fit the reduction, or `x` is neither on the CPU nor on a CUDA device.
    ImportError
        If a card is used and triton is missing.

    Notes
    -----
    Sums run in float32, or in float64 where the values are float64; moments go on in float64. NaN
    propagates into sum, mean, max, last, moments and extrema of its unit, as in torch, and
    compares as larger than all others among the largest units; the raster is 0 there and the
    histogram leaves it out. An empty segment is NaN, or 0 for sums.
    """
    _check(reduction, x, plan, outputs, basis)
    if x.device.type == "cpu":
        if outputs.cursor is not None:
            cursor, outputs = outputs.cursor, outputs.at(int(outputs.cursor) % _slots(outputs))
        else:
            cursor = None
        work = Workspace() if workspace is None else workspace
        Pass(reduction, x, plan, outputs, state, basis, work).run(tile_rows)
        if cursor is not None:
            cursor += 1
        return
    launch = _load_launch()
    launch(reduction, x, plan, outputs, state, basis=basis, tile_rows=tile_rows)


def _load_launch() -> Callable[..., None]:
    try:
        from netphys.recording.kernels.launch import launch
    except ImportError as error:
        raise ImportError(
            "Reducing on a card needs triton, which comes with torch for CUDA: install that, or "
            "pip install 'netphys[gpu-test]'."
        ) from error
    return launch


def _slots(outputs: Outputs) -> int:
    return len(outputs.nonfinite)


def _check(
    r: Reduction, x: torch.Tensor, plan: Plan, outputs: Outputs, basis: torch.Tensor | None
) -> None:
    shape = (plan.n_rows, r.n_units_in)
    if tuple(x.shape) != shape or x.dtype != r.dtype or (x.shape[1] > 1 and x.stride(1) != 1):
        raise ValueError(
            f"x of shape {tuple(x.shape)}, type {x.dtype} and strides {x.stride()} does not fit. "
            f"Give {r.dtype} of shape {shape} with the units of a row side by side."
        )
    if x.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"x is on {str(x.device)!r}, where no pass runs. Move it to the CPU first: x.cpu()."
        )
    for name, value in outputs.items().items():
        if value.device != x.device:
            raise ValueError(
                f"outputs.{name} is on {str(value.device)!r} and x on {str(x.device)!r}. Make both "
                "on one device."
            )
    lead = 0 if outputs.cursor is None else 1
    last = plan.n_out
    for name, value in outputs.items().items():
        if name in ("samples", "raster", "top_index", "top_value") and value.shape[lead] < last:
            raise ValueError(
                f"outputs.{name} has {value.shape[lead]} rows for {last}. Make outputs for the "
                "largest batch."
            )
    for (name, form), value in outputs.pooled.items():
        if name not in plan.segments:
            raise ValueError(
                f"plan has no segments {name!r}, which are pooled. Give them to make_plan; there "
                f"are {sorted(plan.segments)}."
            )
        if value.shape[lead] < len(plan.segments[name]):
            raise ValueError(
                f"outputs.pooled[{name!r}, {form!r}] has {value.shape[lead]} rows for "
                f"{len(plan.segments[name])} segments. Make outputs for the largest batch."
            )
    wanted = (plan.n_rows, r.n_tags, 2)
    if r.n_tags and (basis is None or tuple(basis.shape) != wanted):
        given = None if basis is None else tuple(basis.shape)
        raise ValueError(f"basis has the shape {given}. Give {wanted}: cosine and sine per row.")
