"""The Triton kernels of one pass: rows are read once, a block of units and rows per program.

Vectors of units have the shape (bytes, 8), so that neighbours lie in one thread or two: their
raster bits are added up without leaving the warp. Rows of a block are taken one after the other,
the next three on their way; a segment that crosses blocks leaves its parts in `edges`, and
`join_segments` adds them up.
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
def put(base, offset, wide, mask):
    """Store values in the type of the memory; return 1 where a finite one became infinite."""
    stored = wide.to(base.dtype.element_ty)
    tl.store(base + offset, stored, mask=mask)
    if base.dtype.element_ty == tl.float32:
        lost = tl.zeros_like(wide).to(tl.int32)
    else:
        back = stored.to(tl.float32)
        lost = (tl.abs(wide) < float("inf")) & (tl.abs(back) == float("inf")) & mask
        lost = lost.to(tl.int32)
    return lost


@triton.jit
def count_bins(histogram, value, unit, valid, low, bin_scale, n_bins):
    """Add values to the histogram of their unit."""
    place = tl.floor((value - low) * bin_scale) + 1.0
    place = tl.minimum(tl.maximum(place, 0.0), tl.cast(n_bins + 1, tl.float32))
    known = valid & (value == value)
    at = tl.cast(unit, tl.int64) * (n_bins + 2) + tl.where(known, place, 0.0).to(tl.int32)
    one = tl.zeros_like(unit).to(tl.int64) + 1
    tl.atomic_add(histogram + at, one, mask=known)


@triton.jit
def add_up(tally):
    """Return the sum of all elements."""
    return tl.sum(tl.sum(tally, axis=1), axis=0)


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
def store_two(at, distance, one, two, mask):
    """Store two results a distance apart."""
    tl.store(at, one, mask=mask)
    tl.store(at + distance, two, mask=mask)


@triton.jit
def grid_size():
    """Return the number of programs."""
    return tl.num_programs(0) * tl.num_programs(1)


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
    edges,
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
    POOL: tl.constexpr = MEAN or MAX or LAST or SUM
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
    n_odd, n_over = zero.to(tl.int32), zero.to(tl.int32)  # per place, added up at the end
    first = block * ROWS
    stop = tl.minimum(first + ROWS, n_kept)
    if POOL:
        opened = tl.load(ids + first + 1)
        crosses = (tl.load(ids + first) == opened) & (opened >= 0)
    now = take_row(x, stride, rows, first, n_kept, source, valid, ALL_ROWS)
    soon = take_row(x, stride, rows, first + 1, n_kept, source, valid, ALL_ROWS)
    later = take_row(x, stride, rows, first + 2, n_kept, source, valid, ALL_ROWS)
    origin = now.to(tl.float32)
    for i in range(first, stop):
        latest = take_row(x, stride, rows, i + 3, n_kept, source, valid, ALL_ROWS)
        value = now.to(tl.float32)
        to = tl.cast(tl.load(out_rows + i) if SCATTER else i, tl.int64)
        if COUNT:
            n_odd += (((tl.abs(value) < float("inf")) == 0) & valid).to(tl.int32)
        if STORE:
            n_over += put(samples, slot * samples_slot + to * n_units + unit, value, valid)
        if RASTER:
            bits = tl.sum((value > limit).to(tl.int32) << bit, axis=1).to(tl.uint8)
            at = slot * raster_slot + to * n_bytes + byte
            tl.store(raster + at, bits, mask=byte < n_bytes)
        if POOL:
            word = tl.load(ids + i + 1)
            starts = (first == i) | (tl.load(ids + i) != word)
            goes_on = tl.load(ids + i + 2) == word
            closes = (word >= 0) & ((goes_on == 0) | (stop - 1 == i))
            early = crosses & (word == opened)
            there = slot * pool_slot + tl.cast(word, tl.int64) * n_units + unit
            if LAST:
                n_over += put(last, there, value, both(valid, closes & (goes_on == 0)))
            added = tl.where(starts, value, added + value)
            largest = tl.where(starts, value, keep_larger(largest, value))
            if closes & (early | goes_on):  # a part: 0 came from before, 1 goes on
                side = tl.cast(block, tl.int64) * 4 + tl.where(early, 0, 2)
                if MEAN or SUM:
                    tl.store(edges + side * n_units + unit, added, mask=valid)
                if MAX:
                    tl.store(edges + (side + 1) * n_units + unit, largest, mask=valid)
            whole = both(valid, closes & (early == 0) & (goes_on == 0))
            if MEAN:
                share = tl.load(scale + word, mask=word >= 0, other=0.0)
                n_over += put(mean, there, added * share, whole)
            if SUM:
                n_over += put(total, there, added, whole)
            if MAX:
                n_over += put(most, there, largest, whole)
        if MOMENTS:  # Welford about the first row of the block, which the merge adds back
            off = value - origin - centre
            centre += off / tl.cast(i - first + 1, tl.float32)
            squares += off * (value - origin - centre)
        if EXTREMA:
            lowest = tl.where((value < lowest) | (value != value), value, lowest)
            highest = keep_larger(highest, value)
        if HISTOGRAM:
            count_bins(histogram, value, unit, valid, low, bin_scale, n_bins)
        now, soon, later = soon, later, latest
    part = tl.cast(block, tl.int64) * 2 * n_units + unit
    if MOMENTS:
        store_two(moments + part, n_units, centre, squares, valid)
    if EXTREMA:
        store_two(extrema + part, n_units, lowest, highest, valid)
    program = block * tl.num_programs(1) + column
    store_two(counts + program, grid_size(), add_up(n_odd), add_up(n_over), None)


@triton.jit
def join_segments(
    ids,
    ends,
    begins,
    scale,
    edges,
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
    n_over = tl.zeros([BYTES, 8], tl.int32)
    if crosses:
        crosses = tl.load(ends + word) <= first + ROWS
    if crosses:
        slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
        there = slot * pool_slot + tl.cast(word, tl.int64) * n_units + unit
        start = tl.load(begins + word) // ROWS
        part = edges + (tl.cast(start, tl.int64) * 4 + 2) * n_units + unit
        if MEAN or SUM:
            added = tl.load(part, mask=valid, other=0.0)
            for j in range(start + 1, block + 1):
                at = edges + tl.cast(j, tl.int64) * 4 * n_units + unit
                added += tl.load(at, mask=valid, other=0.0)
            if MEAN:
                n_over += put(mean, there, added * tl.load(scale + word), valid)
            if SUM:
                n_over += put(total, there, added, valid)
        if MAX:
            largest = tl.load(part + n_units, mask=valid, other=0.0)
            for j in range(start + 1, block + 1):
                at = edges + (tl.cast(j, tl.int64) * 4 + 1) * n_units + unit
                largest = keep_larger(largest, tl.load(at, mask=valid, other=0.0))
            n_over += put(most, there, largest, valid)
    tl.store(counts + 2 * grid_size() + block * tl.num_programs(1) + column, add_up(n_over))


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
