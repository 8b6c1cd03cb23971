"""One pass on the CPU: a tile of rows that fits the cache is read once and used for everything."""

from __future__ import annotations

import math

import numpy as np
import torch

from netphys.recording.kernels.contract import Outputs, Reduction, State, merge_moments
from netphys.recording.kernels.plan import Plan, SegmentSet
from netphys.recording.kernels.top import find_top

TILE_BYTES = 3 << 20  # of the wide type, over all threads: measured flat from 1.5 to 3 MB
STORE_BYTES = 6 << 20  # where a tile is only cast: fewer calls
EXPONENT = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80}  # all set: infinite or NaN
FEW = 16  # with at least so many rows per segment, segments are reduced one by one


class Workspace:
    """Scratch memory that is reused between calls; one per thread that calls."""

    def __init__(self) -> None:
        self._kept: dict[tuple, torch.Tensor] = {}

    def get(self, name: str, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return memory of a shape; what it holds is arbitrary, zeros the first time.

        Parameters
        ----------
        name : str
            Its use.
        *shape : int
            Sizes; the first may vary from call to call.
        dtype : torch.dtype
            Type.

        Returns
        -------
        scratch : Tensor
            Valid until the next call with the same name, type and sizes behind the first.
        """
        key = (name, dtype, *shape[1:])
        kept = self._kept.get(key)
        if kept is None or len(kept) < shape[0]:
            kept = self._kept[key] = torch.zeros(shape, dtype=dtype)
        return kept[: shape[0]]


class Pass:
    """One call on the CPU, tile after tile.

    Parameters
    ----------
    reduction : Reduction
        What to do.
    x : Tensor, shape (n_rows, n_units_in)
        Values that pass the site.
    plan : Plan
        Rows and segments.
    outputs : Outputs
        Written.
    state : State
        Brought forward.
    basis : Tensor of float32 or float64, shape (n_rows, n_tags, 2), or None
        Real and imaginary part for each row and frequency.
    workspace : Workspace
        Scratch memory.
    """

    def __init__(
        self,
        reduction: Reduction,
        x: torch.Tensor,
        plan: Plan,
        outputs: Outputs,
        state: State,
        basis: torch.Tensor | None,
        workspace: Workspace,
    ):
        self.r, self.x, self.plan, self.out, self.state = reduction, x, plan, outputs, state
        self.basis, self.work = basis, workspace
        self.moments = Moments(state, reduction, workspace) if reduction.moments else None
        self.pools = [
            Pool(
                (name, form), plan.segments[name], outputs.pooled[name, form], reduction, workspace
            )
            for name, form in reduction.pools
        ]
        self.gram = None
        if reduction.gram:
            n = reduction.n_units
            self.gram = workspace.get("gram", n, n, dtype=reduction.wide).zero_()
        self.nonfinite = self.overflow = 0

    def run(self, tile_rows: int | None = None) -> None:
        """Do it.

        Parameters
        ----------
        tile_rows : int or None
            Rows of a tile; None takes as many as fit the cache.
        """
        size = self.r.n_units * self.r.wide.itemsize
        step = tile_rows or max(16, (TILE_BYTES if self._reads_again() else STORE_BYTES) // size)
        n = self.plan.n_kept
        for a in range(0, n, step):
            self._do_tile(a, min(a + step, n))
        if self.moments:
            self.moments.flush()
        else:
            self.state.count += n
        for pool in self.pools:
            self.overflow += pool.finish()
        if self.gram is not None:
            self.state.gram += self.gram
        self.state.fired += 1
        self.out.nonfinite.fill_(self.nonfinite)
        self.out.overflow.fill_(self.overflow)

    def _reads_again(self) -> bool:
        """Whether a tile is used for more than its cast."""
        r = self.r
        odd = r.threshold is not None or r.histogram is not None
        return odd or bool(r.pools or r.top_k or r.moments or r.extrema or r.gram or r.n_tags)

    def _do_tile(self, a: int, b: int) -> None:
        raw = self._take(a, b)
        wide = raw
        if raw.dtype != self.r.wide:
            wide = self.work.get("wide", *raw.shape, dtype=self.r.wide).copy_(raw)
        finite = self._store(raw, a, b)
        if self.r.threshold is not None:
            self._make_raster(wide, a, b)
        for pool in self.pools:
            pool.add(wide, a, b)
        if self.moments:
            total = self.moments.add(wide)
            finite = total if finite is None else finite
        self._keep_statistics(wide, a, b)
        if self.r.top_k:
            index, value = find_top(wide, self.r.top_k)
            self._put(self.out.top_index, index, a, b)
            self._put(self.out.top_value, value, a, b)
        if finite is None:
            finite = math.isfinite(wide.sum())
        if not finite:
            self._count_odd(raw, a, b)

    def _take(self, a: int, b: int) -> torch.Tensor:
        """Return kept rows `a` to `b` with the selected units, as a view where possible."""
        rows, n = self.plan.rows, b - a
        first = int(rows[a])
        if self.plan.all_rows or int(rows[b - 1]) - first == n - 1:
            raw = self.x[first : first + n]
        else:
            out = self.work.get("rows", n, self.x.shape[1], dtype=self.x.dtype)
            raw = torch.index_select(self.x, 0, rows[a:b], out=out)
        if self.r.units is None:
            return raw
        out = self.work.get("units", n, self.r.n_units, dtype=self.x.dtype)
        return torch.index_select(raw, 1, self.r.units, out=out)

    def _put(self, target: torch.Tensor, values: torch.Tensor, a: int, b: int) -> torch.Tensor:
        """Write values of kept rows `a` to `b` into an output, cast; return them as written."""
        if self.plan.out_rows is None:
            return target[a:b].copy_(values)
        values = values.to(target.dtype)
        target.index_copy_(0, self.plan.out_rows[a:b], values)
        return values

    def _store(self, raw: torch.Tensor, a: int, b: int) -> bool | None:
        """Store samples; return whether all are finite as stored, or None where none are stored."""
        if self.r.store is None:
            return None
        return is_finite(self._put(self.out.samples, raw, a, b), self.work)

    def _count_odd(self, raw: torch.Tensor, a: int, b: int) -> None:
        finite = raw.isfinite()
        self.nonfinite += finite.numel() - int(finite.sum())
        if self.r.store is not None:
            rows = slice(a, b) if self.plan.out_rows is None else self.plan.out_rows[a:b]
            self.overflow += int((finite & ~self.out.samples[rows].isfinite()).sum())

    def _make_raster(self, wide: torch.Tensor, a: int, b: int) -> None:
        n_bytes = self.r.n_bytes
        above = self.work.get(f"above{self.r.n_units}", b - a, 8 * n_bytes, dtype=torch.bool)
        # numpy compares faster than torch here, which does it value by value
        np.greater(wide.numpy(), self.r.threshold.numpy(), out=above.numpy()[:, : self.r.n_units])
        packed = np.packbits(above.numpy().reshape(-1), bitorder="little")
        self._put(self.out.raster, torch.from_numpy(packed).view(b - a, n_bytes), a, b)

    def _keep_statistics(self, wide: torch.Tensor, a: int, b: int) -> None:
        if self.r.extrema:
            torch.minimum(self.state.low, wide.amin(0), out=self.state.low)
            torch.maximum(self.state.high, wide.amax(0), out=self.state.high)
        if self.r.histogram:
            count_bins(wide, self.r.histogram, self.state.histogram, self.work)
        if self.gram is not None:
            self.gram.addmm_(wide.T, wide)
        if self.r.n_tags:
            basis = self.basis.index_select(0, self.plan.rows[a:b]).to(wide.dtype)
            product = basis.view(b - a, -1).T @ wide
            self.state.tags += product.view(self.r.n_tags, 2, -1).transpose(1, 2)


class Moments:
    """Sums of a call about a shift near the mean, merged into the state before they lose digits.

    The shift is the running mean, or the mean of the first tile; no more rows are summed about it
    than were seen before, so that what rounding loses stays small against the merged total.

    Parameters
    ----------
    state : State
        Brought forward.
    reduction : Reduction
        For sizes and types.
    workspace : Workspace
        Scratch memory.
    """

    def __init__(self, state: State, reduction: Reduction, workspace: Workspace):
        self.state, self.work, self.wide = state, workspace, reduction.wide
        self.sums = workspace.get("sums", 2, reduction.n_units, dtype=torch.float64).zero_()
        self.shift: torch.Tensor | None = None
        self.n = 0

    def add(self, wide: torch.Tensor) -> bool:
        """Add a tile.

        Parameters
        ----------
        wide : Tensor, shape (n, n_units)
            Its values.

        Returns
        -------
        finite : bool
            Whether its sums are finite; if so, its values are.
        """
        n = len(wide)
        if self.n and self.n + n > int(self.state.count):
            self.flush()
        if self.shift is None:
            known = int(self.state.count) >= n
            self.shift = self.state.mean.to(self.wide) if known else wide.mean(0)
        off = torch.sub(wide, self.shift, out=self.work.get("off", *wide.shape, dtype=self.wide))
        self.sums[0] += off.sum(0)
        squares = off.mul_(off).sum(0)
        self.sums[1] += squares
        self.n += n
        return math.isfinite(squares.sum())

    def flush(self) -> None:
        """Merge what was summed into the state, count included."""
        if self.n:
            n = torch.tensor(float(self.n), dtype=torch.float64)
            mean = self.sums[0] / n
            m2 = (self.sums[1] - self.sums[0] * mean).clamp_min_(0)
            merge_moments(self.state, n, mean + self.shift, m2)
            self.state.count += self.n
        self.sums.zero_()
        self.n, self.shift = 0, None


def is_finite(values: torch.Tensor, workspace: Workspace) -> bool:
    """Say whether all values are finite.

    Parameters
    ----------
    values : Tensor, shape (n, n_units)
        Of any floating type; for half precision the exponents are compared, which is faster.
    workspace : Workspace
        Scratch memory.

    Returns
    -------
    answer : bool
        False also where a sum of finite values overflows: a careful count decides then.
    """
    mask = EXPONENT.get(values.dtype)
    if mask is None:
        return math.isfinite(values.sum())
    bits = workspace.get("bits", *values.shape, dtype=torch.int16)
    torch.bitwise_and(values.view(torch.int16), mask, out=bits)
    return int(bits.amax()) != mask


class Pool:
    """One form of one segment set over the tiles of a call.

    Parameters
    ----------
    pair : (str, str)
        Segment set and form.
    segments : SegmentSet
        Runs of kept rows.
    target : Tensor, shape (n_segments or more, n_units)
        Where the result goes; summed in place if its type is wide enough.
    reduction : Reduction
        For sizes and types.
    workspace : Workspace
        Scratch memory.
    """

    def __init__(
        self,
        pair: tuple[str, str],
        segments: SegmentSet,
        target: torch.Tensor,
        reduction: Reduction,
        workspace: Workspace,
    ):
        self.form, self.segments = pair[1], segments
        self.target = self.sum = target[: len(segments)]
        if target.dtype != reduction.wide:
            self.sum = workspace.get(".".join(pair), *self.target.shape, dtype=reduction.wide)
        self.scale = segments.scale.to(reduction.wide)[:, None]
        self.work, self.odd = workspace, False

    def add(self, wide: torch.Tensor, a: int, b: int) -> None:
        """Add kept rows `a` to `b`.

        Parameters
        ----------
        wide : Tensor, shape (b - a, n_units)
            Their values.
        a, b : int
            Which rows.
        """
        begin, end = self.segments.begin, self.segments.end
        first, last = np.searchsorted(end, a, side="right"), np.searchsorted(begin, b)
        if self.form == "last":
            which = np.arange(*np.searchsorted(end, [a, b], side="right"))
            which = which[end[which] > begin[which]]
            rows = wide.index_select(0, torch.from_numpy(end[which] - 1 - a))
            self.sum.index_copy_(0, torch.from_numpy(which), rows)
            self._complete(slice(*np.searchsorted(end, [a, b], side="right")))
            return
        start = float("-inf") if self.form == "max" else 0
        self.sum[slice(*np.searchsorted(begin, [a, b]))] = start
        if (last - first) * FEW <= b - a:
            for n in range(first, last):
                self._add_run(n, wide[max(begin[n] - a, 0) : end[n] - a])
        else:
            self._add_rows(wide, self.segments.ids[a:b])
        self._complete(slice(*np.searchsorted(end, [a, b], side="right")))

    def _complete(self, done: slice) -> None:
        """Divide and cast the segments that have ended, while they are in the cache."""
        if self.form == "mean":
            self.sum[done].mul_(self.scale[done])
        if self.target is not self.sum and done.stop > done.start:
            self.target[done] = self.sum[done]
            self.odd |= not is_finite(self.target[done], self.work)

    def _add_run(self, n: int, rows: torch.Tensor) -> None:
        if len(rows) and self.form == "max":
            torch.maximum(self.sum[n], rows.amax(0), out=self.sum[n])
        elif len(rows):
            self.sum[n] += rows.sum(0)

    def _add_rows(self, wide: torch.Tensor, ids: torch.Tensor) -> None:
        if int(ids.min()) < 0:
            inside = (ids >= 0).nonzero()[:, 0]
            wide, ids = wide.index_select(0, inside), ids[inside]
        if self.form == "max":
            self.sum.scatter_reduce_(0, ids[:, None].expand(-1, wide.shape[1]), wide, "amax")
        else:
            self.sum.index_add_(0, ids, wide)

    def finish(self) -> int:
        """Fill in empty segments and cast.

        Returns
        -------
        overflow : int
            Finite values that became infinite in the type of the target.
        """
        value = 0 if self.form == "sum" else float("nan")
        self.target.index_fill_(0, self.segments.empty, value)
        if not self.odd:
            return 0
        self.sum.index_fill_(0, self.segments.empty, value)
        return int((self.target.isinf() & self.sum.isfinite()).sum())


def count_bins(
    wide: torch.Tensor,
    histogram: tuple[float, float, int],
    counts: torch.Tensor,
    workspace: Workspace,
) -> None:
    """Add the values of a tile to a histogram per unit.

    Parameters
    ----------
    wide : Tensor of float32 or float64, shape (n, n_units)
        Values.
    histogram : tuple of (float, float, int)
        Lower edge, upper edge, number of bins.
    counts : Tensor of int64, shape (n_units, n_bins + 2)
        Changed in place.
    workspace : Workspace
        Scratch memory.

    Notes
    -----
    The bin is ``floor((x - low) * (n_bins / (high - low)))`` in the type of the values, so that
    every device finds the same one.
    """
    low, high, n_bins = histogram
    place = workspace.get("place", *wide.shape, dtype=wide.dtype)
    torch.sub(wide, low, out=place)
    place.mul_(n_bins / (high - low)).floor_().add_(1).clamp_(0, n_bins + 1)
    bins = workspace.get("bins", *wide.shape, dtype=torch.int64)
    bins.copy_(place).add_(torch.arange(counts.shape[0]) * (n_bins + 2))
    odd = wide.isnan()
    flat = bins.masked_select(~odd) if bool(odd.any()) else bins.view(-1)
    counts += torch.bincount(flat, minlength=counts.numel()).view_as(counts)
