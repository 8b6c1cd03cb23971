"""The pass over all batches: what passes a site is reduced once and handed to the writer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from netphys.data.nwb_layout import COUNT_NAMES
from netphys.recording import kernels
from netphys.recording.forms import SCOPES
from netphys.recording.online import BatchInfo
from netphys.recording.plan import TOP, SitePlan
from netphys.recording.prepare import Run
from netphys.recording.rows import TORCH_TYPES
from netphys.recording.segments import list_positions
from netphys.recording.slices import SliceWriter
from netphys.recording.statistics import Tally
from netphys.recording.writer import Block, Writer


@dataclass(frozen=True)
class Batch:
    """One planned batch while it is shown.

    Parameters
    ----------
    number : int
        Its place in the plan.
    rows : list of int
        Its trials.
    n_positions : int
        Positions of each.
    first : dict of str to int
        Per clock the first row of the batch.
    sequence, item : Plan
        Rows and segments of sites with a value per position, and with one per trial.
    sequence_info, item_info : BatchInfo or None
        Which samples these are, for online statistics; None without any.
    """

    number: int
    rows: list[int]
    n_positions: int
    first: dict[str, int]
    sequence: kernels.Plan
    item: kernels.Plan
    sequence_info: BatchInfo | None = None
    item_info: BatchInfo | None = None


class Tap:
    """Takes what passes one site and writes it in every form that is asked for.

    Parameters
    ----------
    plan : SitePlan
        What is stored of the site.
    writer : Writer or SliceWriter
        Where it goes.
    workspace : Workspace
        Scratch memory that all sites share.
    tally : Tally
        Online statistics.
    """

    def __init__(
        self,
        plan: SitePlan,
        writer: Writer | SliceWriter,
        workspace: kernels.Workspace,
        tally: Tally,
    ):
        self._tally = tally if plan.shape.site.name in tally.sites else None
        device = plan.shape.device
        self.plan, self._writer, self._device = plan, writer, device
        self._workspace = workspace
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._reduction = _make_reduction(plan).to(device)
        self._state = kernels.make_state(self._reduction, device=device)
        fused = dataclasses.replace(self._reduction, moments=True, extrema=True)
        kept = self._tally.fuse(plan.shape.site.name, fused) if self._tally else None
        self._counting = (self._reduction, self._state) if kept is None else (fused, kept)
        self._scale = None
        if "samples" in plan.series and plan.series["samples"].dtype == "int8":
            scale = plan.series["samples"].units["scale"].to_numpy()
            self._scale = torch.tensor(scale, device=device)
            self._lost = tally.find_state("int8_error", plan.shape.site.name)

    def take(self, value: torch.Tensor, batch: Batch, n_absent: int | None = None) -> torch.Tensor:
        """Reduce what passed the site in one batch and hand it to the writer.

        Parameters
        ----------
        value : Tensor
            What passed.
        batch : Batch
            The batch.
        n_absent : int, optional
            Keys, summed over the recorded samples, that attention weights lack; as many for each
            sample as the shape says if left out.

        Returns
        -------
        counts : Tensor of int64, shape (n_series, n_counters)
            Its counters, on the device of the value.
        """
        shape = self.plan.shape
        rows = shape.to_rows(value, len(batch.rows), batch.n_positions)
        where = batch.sequence if shape.is_sequence else batch.item
        blocks = self._take_blocks(batch, where)
        targets = {f: self._make_target(f, b, rows.device) for f, b in blocks.items()}
        outputs = self._make_outputs(targets, rows.device)
        info = batch.sequence_info if shape.is_sequence else batch.item_info
        reduction, state = self._counting if info is not None else (self._reduction, self._state)
        kernels.run(reduction, rows, where, outputs, state, workspace=self._workspace)
        counts = self._count(outputs, targets, value, where, n_absent)
        if self._scale is not None:
            clipped = self._quantize(rows, where, targets["samples"], count=info is not None)
            counts[list(self.plan.series).index("samples"), 1] += clipped
        for form, block in blocks.items():
            self._hand_over(block, targets[form])
        if self._tally is not None and info is not None:
            needed = self._tally.needs_rows(shape.site.name)
            kept = self._pick(rows, where) if needed else rows
            self._tally.feed(shape.site.name, kept, info)
        return counts

    def _pick(self, rows: torch.Tensor, where: kernels.Plan) -> torch.Tensor:
        """Return the recorded samples and units of what passed."""
        rows = rows if where.all_rows else rows[where.rows.to(rows.device)]
        return rows if self.plan.units is None else rows[:, self._reduction.units]

    def _take_blocks(self, batch: Batch, where: kernels.Plan) -> dict[str, Block]:
        blocks = {}
        for form, series in self.plan.series.items():
            scope, _, how = form.partition(".")
            pooled = how and form not in TOP
            n_rows = len(where.segments[scope]) if pooled else where.n_kept
            n_columns = series.n_columns // self.plan.shape.n_slices
            dtype = {"bfloat16": "uint16", "bits": "uint8"}.get(series.dtype, series.dtype)
            blocks[form] = self._writer.take(
                series.name, batch.first[series.clock], (n_rows, n_columns), dtype
            )
        return blocks

    def _make_target(self, form: str, block: Block, device: torch.device) -> torch.Tensor:
        """Return the block as a tensor, or memory of its kind beside the model."""
        host = _view(block, TORCH_TYPES[self.plan.series[form].dtype])
        return host if device.type == "cpu" else torch.empty_like(host, device=device)

    def _make_outputs(
        self, targets: dict[str, torch.Tensor], device: torch.device
    ) -> kernels.Outputs:
        plain = self._scale is None
        return kernels.Outputs(
            samples=targets.get("samples") if plain else None,
            raster=targets.get("raster"),
            top_index=targets.get(TOP[0]),
            top_value=targets.get(TOP[1]),
            pooled={p: targets[".".join(p)] for p in self._reduction.pools},
            nonfinite=torch.zeros((), dtype=torch.int64, device=device),
            overflow=torch.zeros((), dtype=torch.int64, device=device),
        )

    def _count(
        self,
        outputs: kernels.Outputs,
        targets: dict[str, torch.Tensor],
        value: torch.Tensor,
        where: kernels.Plan,
        n_absent: int | None,
    ) -> torch.Tensor:
        """Return the counters of every series of the site."""
        shape, nonfinite = self.plan.shape, outputs.nonfinite
        if shape.site.side == "pattern":  # keys that a shorter trial does not have are no fault
            n_keys = shape.unit_shape[-1]
            units = np.arange(shape.n_units) if self.plan.units is None else self.plan.units
            if n_absent is None:
                n_lacking = int((units % n_keys >= value.shape[-1]).sum())
                nonfinite = nonfinite - where.n_kept * n_lacking
            else:
                nonfinite = nonfinite - n_absent * shape.n_units // n_keys
        counts = torch.zeros(
            (len(targets), len(COUNT_NAMES)), dtype=torch.int64, device=value.device
        )
        counts[:, 0] = nonfinite
        floats = [f for f, t in targets.items() if t.is_floating_point() and f not in TOP]
        cast = [list(targets).index(form) for form in floats]
        if len(cast) == 1:
            counts[cast[0], 1] = outputs.overflow
        elif value.device.type != "cpu" or int(outputs.overflow):
            for i in cast:  # which of the forms cannot hold its values
                infinite = torch.isinf(list(targets.values())[i]).sum()
                counts[i, 1] = infinite * (outputs.nonfinite == 0)
        return counts

    def _quantize(
        self, rows: torch.Tensor, where: kernels.Plan, target: torch.Tensor, *, count: bool
    ) -> torch.Tensor:
        """Store samples as whole multiples of each unit's scale; return how many were clipped."""
        values = self._pick(rows, where).float()
        steps = (values / self._scale).round()
        clipped = (steps.abs() > 127).sum(0)
        target.copy_(steps.clamp_(-127, 127))
        if count:
            error = steps.mul_(self._scale).sub_(values).abs_().double()
            self._lost["seen"][0] += len(values)
            self._lost["n"] += len(values)
            self._lost["n_clipped"] += clipped
            self._lost["sum_squares"] += error.square().sum(0)
            torch.maximum(self._lost["max_error"], error.amax(0), out=self._lost["max_error"])
        return clipped.sum()

    def _hand_over(self, block: Block, target: torch.Tensor) -> None:
        if self._copies is None:
            self._writer.put(block)
            return
        host = _view(block, target.dtype)
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            host.copy_(target, non_blocking=True)
            target.record_stream(self._copies)
            arrived = torch.cuda.Event()
            arrived.record(self._copies)
        self._writer.put(block, arrived.synchronize)


def make_batch(run: Run, number: int, first: dict[str, int], *, feed: bool) -> Batch:
    """Work out where the rows of a batch lie.

    Parameters
    ----------
    run : Run
        What is recorded.
    number : int
        Place of the batch in the plan.
    first : dict of str to int
        Per clock the first row of the batch.
    feed : bool
        Whether the batch counts for online statistics.

    Returns
    -------
    batch : Batch
        The same for all sites.
    """
    presentation, rows = run.presentation, run.plan[number]
    n_positions, mask = int(presentation.n_shown[rows[0]]), presentation.mask(rows)
    runs = {name: s.place(rows, n_positions) for name, s in run.clocks.segments.items()}
    keep = None if mask is None else mask.reshape(-1)
    sequence = kernels.make_plan(len(rows) * n_positions, runs, keep=keep)
    infos = describe_rows(run, rows) if feed else (None, None)
    return Batch(number, rows, n_positions, first, sequence, kernels.make_plan(len(rows)), *infos)


def describe_rows(run: Run, rows: list[int]) -> tuple[BatchInfo, BatchInfo]:
    """Return which samples the rows of a batch are, with a value per position and per trial.

    Parameters
    ----------
    run : Run
        What is recorded.
    rows : list of int
        Trials of the batch.

    Returns
    -------
    sequence, item : BatchInfo
        For sites of either kind.
    """
    presentation, trial = run.presentation, np.array(rows, np.int64)
    counts = presentation.n_recorded[rows]
    codes = {name: values[rows] for name, values in run.codes.items()}
    tables = [presentation.tables[r] for r in rows]

    def join(name: str) -> np.ndarray | None:
        return np.concatenate([t[name] for t in tables]) if name in tables[0] else None

    inputs = presentation.make_inputs(rows) if run.needs_inputs else None
    sequence = BatchInfo(
        np.repeat(trial, counts),
        np.concatenate([list_positions(presentation, r) for r in rows]),
        join("token_id"),
        join("word"),
        join("special"),
        {name: np.repeat(values, counts) for name, values in codes.items()},
        inputs=inputs,
        n_trials=len(rows),
        n_positions=int(presentation.n_shown[rows[0]]),
        mask=presentation.mask(rows),
    )
    return sequence, BatchInfo(trial, np.zeros_like(trial), codes=codes)


def _make_reduction(plan: SitePlan) -> kernels.Reduction:
    """Return what one pass over the site does."""
    series, shape = plan.series, plan.shape
    pools = tuple(
        (scope, how)
        for scope, _, how in (form.partition(".") for form in series)
        if how and scope in SCOPES
    )
    pooled = [TORCH_TYPES[series[".".join(p)].dtype] for p in pools]
    stored = series["samples"].dtype if "samples" in series else "int8"
    return kernels.Reduction(
        shape.n_units,
        shape.dtype,
        units=None if plan.units is None else torch.tensor(plan.units),
        store=None if stored == "int8" else TORCH_TYPES[stored],
        pools=pools,
        pool_dtype=pooled[0] if pooled else None,
        threshold=None if plan.threshold is None else torch.tensor(plan.threshold),
        top_k=len(series[TOP[0]].units) if TOP[0] in series else 0,
    )


def _view(block: Block, dtype: torch.dtype) -> torch.Tensor:
    """Return a block's memory as a tensor of the stored type."""
    return torch.from_numpy(block.values).view(dtype)


def is_plain(run: Run) -> bool:
    """Say whether no recorded sample is a token that the tokenizer added.

    Parameters
    ----------
    run : Run
        What is recorded.

    Returns
    -------
    answer : bool
        Then statistics with and without such tokens are the same.
    """
    return not any(t["special"].any() for t in run.presentation.tables if "special" in t)
