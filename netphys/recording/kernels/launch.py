"""Starts the Triton kernels of one pass; nothing here waits for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from netphys.recording.kernels import _fused, _products
from netphys.recording.kernels.contract import Outputs, Reduction, State
from netphys.recording.kernels.plan import Plan
from netphys.recording.kernels.top import sort_keys

ROWS = 128  # of a block: its moments then cost 3% of the traffic of bfloat16 values
BYTES = 64  # of a block: 512 units, 4 per thread
OPTIONS = {"enable_fp_fusion": True}  # said, as its default changes between versions
WIDEST = 32768  # units of a row that one program holds in registers


@dataclass
class DevicePlan:
    """A plan as the kernels read it, on one device.

    Parameters
    ----------
    rows, out_rows : Tensor of int64
        Kept rows, and where each is stored.
    segments : dict
        For each segment set the padded ids, begins, ends (int32), scale (float32) and empty ones.
    """

    rows: torch.Tensor
    out_rows: torch.Tensor
    segments: dict[str, dict[str, torch.Tensor]]


def move_plan(plan: Plan, device: torch.device) -> DevicePlan:
    """Return the copy of a plan on a device; made once per batch.

    Parameters
    ----------
    plan : Plan
        On the host.
    device : device
        Of the samples.

    Returns
    -------
    moved : DevicePlan
        Kept with the plan.
    """
    if device not in plan._cache:

        def to(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
            values = values.to(dtype)
            values = values.pin_memory() if device.type == "cuda" else values
            return values.to(device, non_blocking=True)

        sets = {}
        for name, s in plan.segments.items():
            sets[name] = {
                "ids": to(torch.nn.functional.pad(s.ids, (1, 1), value=-1), torch.int32),
                "begins": to(torch.from_numpy(s.begin), torch.int32),
                "ends": to(torch.from_numpy(s.end), torch.int32),
                "scale": to(s.scale, torch.float32),
                "empty": to(s.empty, torch.int64),
            }
        out_rows = torch.arange(plan.n_kept) if plan.out_rows is None else plan.out_rows
        rows = to(plan.rows, torch.int64)
        plan._cache[device] = DevicePlan(rows, to(out_rows, torch.int64), sets)
    return plan._cache[device]


@torch.no_grad()
def launch(
    reduction: Reduction,
    x: torch.Tensor,
    plan: Plan,
    outputs: Outputs,
    state: State,
    *,
    basis: torch.Tensor | None = None,
    tile_rows: int | None = None,
    tile_bytes: int | None = None,
) -> None:
    """Do what `run` does through Triton, without waiting for the device.

    Parameters
    ----------
    reduction : Reduction
        What to do; its tensors are on the device.
    x : Tensor, shape (n_rows, n_units_in)
        Values, float32, float16 or bfloat16.
    plan : Plan
        Rows and segments.
    outputs : Outputs
        Contiguous, on the device.
    state : State
        On the device.
    basis : Tensor of float32, shape (n_rows, n_tags, 2), or None
        Fourier basis, on the device.
    tile_rows, tile_bytes : int or None
        Rows, and bytes of the raster, of a block; powers of two.

    Raises
    ------
    ValueError
        If the values are float64, or an output is not contiguous.
    """
    if reduction.dtype == torch.float64:
        raise ValueError(
            "x has the type torch.float64, which the kernels of cards do not take. Run the model "
            "in float32, or on the CPU."
        )
    for name, value in outputs.items().items():
        if not value.is_contiguous():
            raise ValueError(
                f"outputs.{name} has the strides {value.stride()}. Give contiguous memory to a "
                "card, such as make_outputs makes."
            )
    call = Launch(reduction, x, plan, outputs, state, tile_rows or ROWS, tile_bytes or BYTES)
    if plan.n_kept:
        sets = reduction.segment_sets or (None,)
        for n, name in enumerate(sets):
            call.reduce_rows(name, rest=n == 0)
        call.merge()
        call.find_top()
        call.add_products(basis)
    call.fill_empty()
    call.finish()


class Launch:
    """One call: the arguments that its kernels share.

    Parameters
    ----------
    reduction : Reduction
        What to do.
    x : Tensor, shape (n_rows, n_units_in)
        Values.
    plan : Plan
        Rows and segments.
    outputs : Outputs
        Written.
    state : State
        Brought forward.
    rows, n_bytes : int
        Size of a block.
    """

    def __init__(
        self,
        reduction: Reduction,
        x: torch.Tensor,
        plan: Plan,
        outputs: Outputs,
        state: State,
        rows: int,
        n_bytes: int,
    ):
        self.r, self.x, self.plan, self.out, self.state = reduction, x, plan, outputs, state
        self.moved = move_plan(plan, x.device)
        self.rows, self.bytes = rows, n_bytes
        self.n_blocks = triton.cdiv(plan.n_kept, rows)
        self.grid = (self.n_blocks, triton.cdiv(reduction.n_units, 8 * n_bytes))
        n_sets = max(1, len(reduction.segment_sets))
        n = self.grid[0] * self.grid[1]
        self.counts = torch.zeros(n_sets, 3, n, dtype=torch.int32, device=x.device)
        self.ring = outputs.cursor is not None
        self.cursor = outputs.cursor if self.ring else state.count
        self.n_slots = len(outputs.nonfinite) if self.ring else 1
        self.warps = max(1, min(8, n_bytes // 16))
        self.moments = self._make_parts(reduction.moments)
        self.extrema = self._make_parts(reduction.extrema)

    def _make_parts(self, wanted: bool, n: int = 2) -> torch.Tensor:
        if not wanted:
            return self.x
        shape = (self.n_blocks, n, self.r.n_units)
        return torch.empty(shape, dtype=torch.float32, device=self.x.device)

    def _or_x(self, value: torch.Tensor | None) -> torch.Tensor:
        return self.x if value is None else value  # a pointer that is not followed

    def _slot(self, value: torch.Tensor | None) -> int:
        return value.stride(0) if self.ring and value is not None else 0

    def reduce_rows(self, name: str | None, *, rest: bool) -> None:
        """Pool one segment set and, with the first, do everything else that one pass can.

        Parameters
        ----------
        name : str or None
            Segment set.
        rest : bool
            Whether to do everything else.
        """
        r, out, moved = self.r, self.out, self.moved
        forms = r.forms(name) if name else ()
        pools = {form: out.pooled[name, form] for form in forms}
        tables = moved.segments[name] if name else {}
        edges = self._make_parts(bool(forms), 4)
        counts = self.counts[r.segment_sets.index(name) if name else 0]
        low, high, n_bins = r.histogram or (0.0, 1.0, 1)
        pool_slot = self._slot(next(iter(pools.values()), None))
        flags = {form.upper(): form in forms for form in ("mean", "max", "last", "sum")}
        _fused.reduce_rows[self.grid](
            self.x,
            self.x.stride(0),
            moved.rows,
            moved.out_rows,
            self._or_x(r.units),
            self._or_x(r.threshold),
            tables.get("ids", self.x),
            tables.get("scale", self.x),
            self._or_x(out.samples),
            self._or_x(out.raster),
            *(pools.get(form, self.x) for form in ("mean", "max", "last", "sum")),
            self.moments,
            self.extrema,
            self._or_x(self.state.histogram),
            edges,
            counts,
            self.cursor,
            self.n_slots,
            self._slot(out.samples),
            self._slot(out.raster),
            pool_slot,
            self.plan.n_kept,
            r.n_units,
            r.n_bytes,
            float(low),
            n_bins / (high - low),
            n_bins,
            ALL_ROWS=self.plan.all_rows,
            SCATTER=self.plan.out_rows is not None,
            GATHER=r.units is not None,
            RING=self.ring,
            STORE=rest and r.store is not None,
            RASTER=rest and r.threshold is not None,
            MOMENTS=rest and r.moments,
            EXTREMA=rest and r.extrema,
            HISTOGRAM=rest and r.histogram is not None,
            COUNT=rest,
            ROWS=self.rows,
            BYTES=self.bytes,
            num_warps=self.warps,
            **OPTIONS,
            **flags,
        )
        if flags["MEAN"] or flags["MAX"] or flags["SUM"]:
            self._join(pools, tables, edges, counts, pool_slot, flags)

    def _join(self, pools, tables, edges, counts, pool_slot, flags) -> None:
        _fused.join_segments[self.grid](
            tables["ids"],
            tables["ends"],
            tables["begins"],
            tables["scale"],
            edges,
            *(pools.get(form, self.x) for form in ("mean", "max", "sum")),
            counts,
            self.cursor,
            self.n_slots,
            pool_slot,
            self.r.n_units,
            RING=self.ring,
            MEAN=flags["MEAN"],
            MAX=flags["MAX"],
            SUM=flags["SUM"],
            ROWS=self.rows,
            BYTES=self.bytes,
            num_warps=self.warps,
            **OPTIONS,
        )

    def merge(self) -> None:
        """Merge moments and extrema of the blocks into the state."""
        r, s = self.r, self.state
        if not (r.moments or r.extrema):
            return
        n_units = 32
        _fused.merge_blocks[(triton.cdiv(r.n_units, n_units),)](
            self.x,
            self.x.stride(0),
            self.moved.rows,
            self._or_x(r.units),
            self.moments,
            self.extrema,
            s.count,
            self._or_x(s.mean),
            self._or_x(s.m2),
            self._or_x(s.low),
            self._or_x(s.high),
            self.plan.n_kept,
            r.n_units,
            self.n_blocks,
            ALL_ROWS=self.plan.all_rows,
            GATHER=r.units is not None,
            MOMENTS=r.moments,
            EXTREMA=r.extrema,
            ROWS=self.rows,
            BLOCKS=min(64, triton.next_power_of_2(self.n_blocks)),
            UNITS=n_units,
            **OPTIONS,
        )

    def find_top(self) -> None:
        """Find the largest units of each row."""
        r, out = self.r, self.out
        if not r.top_k:
            return
        if r.n_units > WIDEST:
            self._find_top_of_many()
            return
        width = triton.next_power_of_2(r.n_units)
        _products.find_largest[(self.plan.n_kept,)](
            self.x,
            self.x.stride(0),
            self.moved.rows,
            self.moved.out_rows,
            self._or_x(r.units),
            out.top_index,
            out.top_value,
            self.cursor,
            self.n_slots,
            self._slot(out.top_index),
            r.n_units,
            K=r.top_k,
            ALL_ROWS=self.plan.all_rows,
            SCATTER=self.plan.out_rows is not None,
            GATHER=r.units is not None,
            RING=self.ring,
            UNITS=width,
            num_warps=max(1, min(16, width // 1024)),
            **OPTIONS,
        )

    def _find_top_of_many(self) -> None:
        """Rows too long for one program: torch sorts integer keys, also without waiting."""
        r = self.r
        rows = self.x.index_select(0, self.moved.rows).float()
        rows = rows if r.units is None else rows.index_select(1, r.units)
        index = sort_keys(rows, r.top_k)
        for target, found in (
            (self.out.top_index, index),
            (self.out.top_value, rows.gather(1, index)),
        ):
            found = found.to(target.dtype)
            if self.ring:
                slot = (self.cursor % self.n_slots).view(1)
                at = slot * target.shape[1] + self.moved.out_rows
                target.view(-1, r.top_k).index_copy_(0, at, found)
            else:
                target.index_copy_(0, self.moved.out_rows, found)

    def add_products(self, basis: torch.Tensor | None) -> None:
        """Add to the Gram matrix and to the tag coefficients.

        Parameters
        ----------
        basis : Tensor, shape (n_rows, n_tags, 2), or None
            Fourier basis.
        """
        r, n = self.r, self.r.n_units
        if r.gram:
            self._add_product(
                self.x, r.units, n, self.state.gram, wide=self.x.dtype == torch.float32
            )
        if r.n_tags:
            flat = basis.to(torch.float32).reshape(len(basis), -1).contiguous()
            total = torch.zeros(2 * r.n_tags, n, dtype=torch.float64, device=self.x.device)
            self._add_product(flat, None, 2 * r.n_tags, total, wide=True)
            self.state.tags += total.view(r.n_tags, 2, n).transpose(1, 2)

    def _add_product(self, a, a_units, n_a, out, *, wide) -> None:
        r = self.r
        _products.add_products[(triton.cdiv(n_a, 32), triton.cdiv(r.n_units, 32))](
            a,
            a.stride(0),
            self._or_x(a_units),
            self.x,
            self.x.stride(0),
            self._or_x(r.units),
            self.moved.rows,
            out,
            out.stride(0),
            self.plan.n_kept,
            n_a,
            r.n_units,
            ALL_ROWS=self.plan.all_rows,
            GATHER_A=a_units is not None,
            GATHER_B=r.units is not None,
            WIDE=wide,
            ROWS=32,
            A=32,
            B=32,
            **OPTIONS,
        )

    def fill_empty(self) -> None:
        """Write what empty segments hold."""
        for (name, form), target in self.out.pooled.items():
            empty = self.moved.segments[name]["empty"]
            if len(empty):
                _fused.fill_empty[(len(empty), triton.cdiv(self.r.n_units, 512))](
                    target,
                    empty,
                    0.0 if form == "sum" else float("nan"),
                    self.cursor,
                    self.n_slots,
                    self._slot(target),
                    self.r.n_units,
                    RING=self.ring,
                    UNITS=512,
                    **OPTIONS,
                )

    def finish(self) -> None:
        """Add up what was counted and move the cursor on."""
        counts = self.counts.movedim(1, 0).reshape(3, -1).contiguous()
        _fused.finish_call[(1,)](
            counts,
            counts.shape[1],
            self.out.nonfinite,
            self.out.overflow,
            self.cursor,
            self.n_slots,
            self.state.count,
            self.state.fired,
            self.plan.n_kept,
            RING=self.ring,
            BLOCK=1024,
            **OPTIONS,
        )
