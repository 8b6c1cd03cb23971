"""The Triton kernels of one pass: rows are read once, a block of units and rows per program.

Vectors of units have the shape (bytes, 8), so that eight neighbours lie in one thread: their raster
bits are added up without leaving it. Rows of a block are taken one after the other, the next two on
their way; a segment that crosses blocks leaves its part in `head` or `tail`, and `join` adds up.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def keep_larger(old, new):
    """Return the larger value, NaN if either is."""
    return tl.where((new > old) | (new != new), new, old)


@triton.jit
def both(mask, flag):
    """Return a mask where a scalar flag holds; compared, as the interpreter spreads it as int32."""
    return (mask & flag) != 0


@triton.jit
def count_infinite(wide, stored, mask):
    """Return how many finite values became infinite in the stored type."""
    back = stored.to(tl.float32)
    lost = (tl.abs(wide) < float("inf")) & (tl.abs(back) == float("inf")) & mask
    return tl.sum(tl.sum(lost.to(tl.int32), axis=1), axis=0)


@triton.jit
def take_row(x, stride, rows, i, n_kept, source, valid, ALL_ROWS: tl.constexpr):
    """Load the selected units of kept row `i`, in the type of the values."""
    inside = i < n_kept
    if ALL_ROWS:
        row = i
    else:
        row = tl.load(rows + i, mask=inside, other=0)
    at = x + tl.cast(row, tl.int64) * stride
    return tl.load(at + source, mask=both(valid, inside), other=0)


@triton.jit
def reduce_rows(
    x,
    stride,
    rows,
    out_rows,
    units,
    threshold,
    ids,
    scale,
    samples,
    raster,
    mean,
    most,
    last,
    total,
    moments,
    extrema,
    histogram,
    heads,
    tails,
    counts,
    cursor,
    n_slots,
    samples_slot,
    raster_slot,
    pool_slot,
    n_kept,
    n_units,
    n_bytes,
    low,
    bin_scale,
    n_bins,
    ALL_ROWS: tl.constexpr,
    SCATTER: tl.constexpr,
    GATHER: tl.constexpr,
    RING: tl.constexpr,
    STORE: tl.constexpr,
    RASTER: tl.constexpr,
    MEAN: tl.constexpr,
    MAX: tl.constexpr,
    LAST: tl.constexpr,
    SUM: tl.constexpr,
    MOMENTS: tl.constexpr,
    EXTREMA: tl.constexpr,
    HISTOGRAM: tl.constexpr,
    COUNT: tl.constexpr,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Do everything that needs each value once."""
    block, column = tl.program_id(0), tl.program_id(1)
    byte = column * BYTES + tl.arange(0, BYTES)
    bit = tl.arange(0, 8)[None, :]
    unit = byte[:, None] * 8 + bit
    valid = unit < n_units
    source = tl.load(units + unit, mask=valid, other=0) if GATHER else unit
    slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
    if RASTER:
        limit = tl.load(threshold + unit, mask=valid, other=float("inf"))
    zero = tl.zeros([BYTES, 8], tl.float32)
    added, largest, centre, squares = zero, zero, zero, zero
    lowest, highest = zero + float("inf"), zero - float("inf")
    n_odd, n_over = tl.cast(0, tl.int32), tl.cast(0, tl.int32)
    first = block * ROWS
    stop = tl.minimum(first + ROWS, n_kept)
    n_programs = tl.num_programs(0) * tl.num_programs(1)
    if MEAN or MAX or LAST or SUM:
        opened = tl.load(ids + first + 1)
        crosses = (tl.load(ids + first) == opened) & (opened >= 0)
    now = take_row(x, stride, rows, first, n_kept, source, valid, ALL_ROWS)
    soon = take_row(x, stride, rows, first + 1, n_kept, source, valid, ALL_ROWS)
    if MOMENTS:
        origin = now.to(tl.float32)
    for i in range(first, stop):
        later = take_row(x, stride, rows, i + 2, n_kept, source, valid, ALL_ROWS)
        value = now.to(tl.float32)
        to = tl.cast(tl.load(out_rows + i) if SCATTER else i, tl.int64)
        if COUNT:
            odd = (tl.abs(value) < float("inf")) == 0
            n_odd += tl.sum(tl.sum((odd & valid).to(tl.int32), axis=1), axis=0)
        if STORE:
            stored = now.to(samples.dtype.element_ty)
            tl.store(samples + slot * samples_slot + to * n_units + unit, stored, mask=valid)
            if samples.dtype.element_ty != tl.float32:
                n_over += count_infinite(value, stored, valid)
        if RASTER:
            bits = tl.sum((value > limit).to(tl.int32) << bit, axis=1).to(tl.uint8)
            at = raster + slot * raster_slot + to * n_bytes + byte
            tl.store(at, bits, mask=byte < n_bytes)
        if MEAN or MAX or LAST or SUM:
            word = tl.load(ids + i + 1)
            starts = (first == i) | (tl.load(ids + i) != word)
            goes_on = tl.load(ids + i + 2) == word
            inside = word >= 0
            closes = inside & ((goes_on == 0) | (stop - 1 == i))
            early = crosses & (word == opened)
            away = closes & (early == 0) & goes_on
            whole = closes & (early == 0) & (goes_on == 0)
            there = slot * pool_slot + tl.cast(word, tl.int64) * n_units + unit
            part = tl.cast(block, tl.int64) * 2 * n_units + unit
            if MEAN or SUM:
                added = tl.where(starts, value, added + value)
                tl.store(heads + part, added, mask=both(valid, closes & early))
                tl.store(tails + part, added, mask=both(valid, away))
            if MAX:
                largest = tl.where(starts, value, keep_larger(largest, value))
                tl.store(heads + part + n_units, largest, mask=both(valid, closes & early))
                tl.store(tails + part + n_units, largest, mask=both(valid, away))
            if MEAN:
                share = tl.load(scale + word, mask=inside, other=0.0)
                stored = (added * share).to(mean.dtype.element_ty)
                tl.store(mean + there, stored, mask=both(valid, whole))
                if mean.dtype.element_ty != tl.float32:
                    n_over += count_infinite(added * share, stored, both(valid, whole))
            if SUM:
                stored = added.to(total.dtype.element_ty)
                tl.store(total + there, stored, mask=both(valid, whole))
                if total.dtype.element_ty != tl.float32:
                    n_over += count_infinite(added, stored, both(valid, whole))
            if MAX:
                stored = largest.to(most.dtype.element_ty)
                tl.store(most + there, stored, mask=both(valid, whole))
                if most.dtype.element_ty != tl.float32:
                    n_over += count_infinite(largest, stored, both(valid, whole))
            if LAST:
                stored = value.to(last.dtype.element_ty)
                ends = both(valid, inside & (goes_on == 0))
                tl.store(last + there, stored, mask=ends)
                if last.dtype.element_ty != tl.float32:
                    n_over += count_infinite(value, stored, ends)
        if MOMENTS:  # Welford about the first row of the block, which the merge adds back
            off = value - origin - centre
            centre += off / tl.cast(i - first + 1, tl.float32)
            squares += off * (value - origin - centre)
        if EXTREMA:
            lowest = tl.where((value < lowest) | (value != value), value, lowest)
            highest = keep_larger(highest, value)
        if HISTOGRAM:
            place = tl.floor((value - low) * bin_scale) + 1.0
            place = tl.minimum(tl.maximum(place, 0.0), tl.cast(n_bins + 1, tl.float32))
            known = valid & (value == value)
            at = tl.cast(unit, tl.int64) * (n_bins + 2) + tl.where(known, place, 0.0).to(tl.int32)
            tl.atomic_add(histogram + at, tl.full([BYTES, 8], 1, tl.int64), mask=known)
        now = soon
        soon = later
    part = tl.cast(block, tl.int64) * 2 * n_units + unit
    if MOMENTS:
        tl.store(moments + part, centre, mask=valid)
        tl.store(moments + part + n_units, squares, mask=valid)
    if EXTREMA:
        tl.store(extrema + part, lowest, mask=valid)
        tl.store(extrema + part + n_units, highest, mask=valid)
    program = block * tl.num_programs(1) + column
    tl.store(counts + program, n_odd)
    tl.store(counts + n_programs + program, n_over)


@triton.jit
def join_segments(
    ids,
    ends,
    begins,
    scale,
    heads,
    tails,
    mean,
    most,
    total,
    counts,
    cursor,
    n_slots,
    pool_slot,
    n_units,
    RING: tl.constexpr,
    MEAN: tl.constexpr,
    MAX: tl.constexpr,
    SUM: tl.constexpr,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Put together the segment that comes from an earlier block and ends in this one."""
    block, column = tl.program_id(0), tl.program_id(1)
    unit = column * BYTES * 8 + tl.arange(0, BYTES)[:, None] * 8 + tl.arange(0, 8)[None, :]
    valid = unit < n_units
    first = block * ROWS
    word = tl.load(ids + first + 1)
    crosses = (tl.load(ids + first) == word) & (word >= 0)
    n_over = tl.cast(0, tl.int32)
    if crosses:
        crosses = tl.load(ends + word) <= first + ROWS
    if crosses:
        slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
        there = slot * pool_slot + tl.cast(word, tl.int64) * n_units + unit
        start = tl.load(begins + word) // ROWS
        part = tl.cast(start, tl.int64) * 2 * n_units + unit
        if MEAN or SUM:
            added = tl.load(tails + part, mask=valid, other=0.0)
            for j in range(start + 1, block + 1):
                at = heads + tl.cast(j, tl.int64) * 2 * n_units + unit
                added += tl.load(at, mask=valid, other=0.0)
            if MEAN:
                value = added * tl.load(scale + word)
                stored = value.to(mean.dtype.element_ty)
                tl.store(mean + there, stored, mask=valid)
                n_over += count_infinite(value, stored, valid)
            if SUM:
                stored = added.to(total.dtype.element_ty)
                tl.store(total + there, stored, mask=valid)
                n_over += count_infinite(added, stored, valid)
        if MAX:
            largest = tl.load(tails + part + n_units, mask=valid, other=0.0)
            for j in range(start + 1, block + 1):
                at = heads + (tl.cast(j, tl.int64) * 2 + 1) * n_units + unit
                largest = keep_larger(largest, tl.load(at, mask=valid, other=0.0))
            stored = largest.to(most.dtype.element_ty)
            tl.store(most + there, stored, mask=valid)
            n_over += count_infinite(largest, stored, valid)
    n_programs = tl.num_programs(0) * tl.num_programs(1)
    tl.store(counts + 2 * n_programs + block * tl.num_programs(1) + column, n_over)


@triton.jit
def fill_empty(
    target,
    empty,
    value,
    cursor,
    n_slots,
    pool_slot,
    n_units,
    RING: tl.constexpr,
    UNITS: tl.constexpr,
):
    """Write one value into the rows of empty segments."""
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
    row = tl.load(empty + tl.program_id(0))
    filled = tl.zeros([UNITS], tl.float32) + value
    at = target + slot * pool_slot + row * n_units + unit
    tl.store(at, filled.to(target.dtype.element_ty), mask=unit < n_units)


@triton.jit
def load_means(
    x,
    stride,
    rows,
    source,
    moments,
    start,
    n_kept,
    n_units,
    n_blocks,
    unit,
    ALL_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Return for some blocks their means in float64, their numbers of rows, and the mask."""
    block = start + tl.arange(0, BLOCKS)
    here = (block < n_blocks)[:, None] & (unit < n_units)[None, :]
    n = tl.minimum(tl.maximum(n_kept - block * ROWS, 0), ROWS).to(tl.float64)
    if ALL_ROWS:
        row = block * ROWS
    else:
        row = tl.load(rows + block * ROWS, mask=block < n_blocks, other=0)
    at = x + row[:, None].to(tl.int64) * stride + source[None, :]
    origin = tl.load(at, mask=here, other=0).to(tl.float32).to(tl.float64)
    at = moments + block[:, None].to(tl.int64) * 2 * n_units + unit[None, :]
    return origin + tl.load(at, mask=here, other=0.0).to(tl.float64), n[:, None], here


@triton.jit
def merge_blocks(
    x,
    stride,
    rows,
    units,
    moments,
    extrema,
    count,
    mean,
    m2,
    low,
    high,
    n_kept,
    n_units,
    n_blocks,
    ALL_ROWS: tl.constexpr,
    GATHER: tl.constexpr,
    MOMENTS: tl.constexpr,
    EXTREMA: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """Merge the parts of all blocks into the state, moments by Chan in float64."""
    unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    valid = unit < n_units
    source = tl.load(units + unit, mask=valid, other=0) if GATHER else unit
    if MOMENTS:
        n = tl.cast(n_kept, tl.float64)
        centre = tl.zeros([UNITS], tl.float64)
        for start in range(0, n_blocks, BLOCKS):
            part, n_here, here = load_means(
                x,
                stride,
                rows,
                source,
                moments,
                start,
                n_kept,
                n_units,
                n_blocks,
                unit,
                ALL_ROWS,
                ROWS,
                BLOCKS,
            )
            centre += tl.sum(part * n_here, axis=0)
        centre = centre / n
        squares = tl.zeros([UNITS], tl.float64)
        for start in range(0, n_blocks, BLOCKS):
            part, n_here, here = load_means(
                x,
                stride,
                rows,
                source,
                moments,
                start,
                n_kept,
                n_units,
                n_blocks,
                unit,
                ALL_ROWS,
                ROWS,
                BLOCKS,
            )
            off = tl.where(here, part - centre[None, :], 0.0)
            block = start + tl.arange(0, BLOCKS)
            at = moments + (block[:, None].to(tl.int64) * 2 + 1) * n_units + unit[None, :]
            inner = tl.load(at, mask=here, other=0.0).to(tl.float64)
            squares += tl.sum(inner + off * off * n_here, axis=0)
        seen = tl.load(count).to(tl.float64)
        before = tl.load(mean + unit, mask=valid, other=0.0)
        delta = centre - before
        squares += tl.load(m2 + unit, mask=valid, other=0.0)
        squares += delta * delta * (seen * n / (seen + n))
        tl.store(mean + unit, before + delta * (n / (seen + n)), mask=valid)
        tl.store(m2 + unit, squares, mask=valid)
    if EXTREMA:
        lowest = tl.load(low + unit, mask=valid, other=0.0)
        highest = tl.load(high + unit, mask=valid, other=0.0)
        for start in range(0, n_blocks, BLOCKS):
            block = start + tl.arange(0, BLOCKS)
            at = extrema + block[:, None].to(tl.int64) * 2 * n_units + unit[None, :]
            here = (block < n_blocks)[:, None] & valid[None, :]
            small = tl.load(at, mask=here, other=float("inf"))
            large = tl.load(at + n_units, mask=here, other=float("-inf"))
            odd = tl.max((small != small).to(tl.int32), axis=0) > 0
            least = tl.min(tl.where(small == small, small, float("inf")), axis=0)
            greatest = tl.max(tl.where(large == large, large, float("-inf")), axis=0)
            least = tl.where(odd, float("nan"), least)
            greatest = tl.where(odd, float("nan"), greatest)
            lowest = tl.where((least < lowest) | (least != least), least, lowest)
            highest = keep_larger(highest, greatest)
        tl.store(low + unit, lowest, mask=valid)
        tl.store(high + unit, highest, mask=valid)


@triton.jit
def finish_call(
    counts,
    n_counts,
    nonfinite,
    overflow,
    cursor,
    n_slots,
    count,
    fired,
    n_kept,
    RING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add up what was counted, then move the counters and the cursor on."""
    slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
    odd = tl.zeros([BLOCK], tl.int64)
    over = tl.zeros([BLOCK], tl.int64)
    for start in range(0, n_counts, BLOCK):
        at = start + tl.arange(0, BLOCK)
        here = at < n_counts
        odd += tl.load(counts + at, mask=here, other=0).to(tl.int64)
        over += tl.load(counts + n_counts + at, mask=here, other=0).to(tl.int64)
        over += tl.load(counts + 2 * n_counts + at, mask=here, other=0).to(tl.int64)
    tl.store(nonfinite + slot, tl.sum(odd, axis=0))
    tl.store(overflow + slot, tl.sum(over, axis=0))
    tl.store(count, tl.load(count) + n_kept)
    tl.store(fired, tl.load(fired) + 1)
    if RING:
        tl.store(cursor, tl.load(cursor) + 1)
