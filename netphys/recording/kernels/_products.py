"""Triton kernels for what needs whole rows: the largest units, and products of units."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_largest(
    x,
    stride,
    rows,
    out_rows,
    units,
    index,
    value,
    cursor,
    n_slots,
    slot_stride,
    n_units,
    K: tl.constexpr,
    ALL_ROWS: tl.constexpr,
    SCATTER: tl.constexpr,
    GATHER: tl.constexpr,
    RING: tl.constexpr,
    UNITS: tl.constexpr,
):
    """Take the largest key of a row, K times; a key is the rank of a value, then its unit."""
    i = tl.program_id(0)
    row = i if ALL_ROWS else tl.load(rows + i)
    to = tl.cast(tl.load(out_rows + i) if SCATTER else i, tl.int64)
    slot = tl.load(cursor) % n_slots if RING else tl.cast(0, tl.int64)
    unit = tl.arange(0, UNITS)
    valid = unit < n_units
    source = tl.load(units + unit, mask=valid, other=0) if GATHER else unit
    found = tl.load(x + tl.cast(row, tl.int64) * stride + source, mask=valid, other=0)
    found = found.to(tl.float32) + 0.0
    found = tl.where(found == 0.0, 0.0, found)
    bits = found.to(tl.int32, bitcast=True)
    rank = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    rank = tl.where(found != found, 0x7FC00000, rank).to(tl.int64)
    least = tl.full([UNITS], -0x7FFFFFFFFFFFFFFF, tl.int64)
    key = tl.where(valid, rank * 4294967296 + (4294967295 - unit.to(tl.int64)), least)
    for k in range(K):
        top = tl.max(key, axis=0)
        which = 4294967295 - (top & 4294967295)
        code = (top >> 32).to(tl.int32)
        code = tl.where(code < 0, code ^ 0x7FFFFFFF, code)
        at = slot * slot_stride + to * K + k
        tl.store(index + at, which.to(tl.int32))
        tl.store(value + at, code.to(tl.float32, bitcast=True))
        key = tl.where(key == top, least, key)


@triton.jit
def add_products(
    a,
    a_stride,
    a_units,
    b,
    b_stride,
    b_units,
    rows,
    out,
    row_stride,
    n_kept,
    n_a,
    n_b,
    ALL_ROWS: tl.constexpr,
    GATHER_A: tl.constexpr,
    GATHER_B: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
):
    """Add the sum over rows of the product of each column of `a` and of `b` to float64 sums."""
    left = tl.program_id(0) * A + tl.arange(0, A)
    right = tl.program_id(1) * B + tl.arange(0, B)
    here, there = left < n_a, right < n_b
    at_a = tl.load(a_units + left, mask=here, other=0) if GATHER_A else left
    at_b = tl.load(b_units + right, mask=there, other=0) if GATHER_B else right
    total = tl.zeros([A, B], tl.float32)
    for start in range(0, n_kept, ROWS):
        i = start + tl.arange(0, ROWS)
        inside = i < n_kept
        row = (i if ALL_ROWS else tl.load(rows + i, mask=inside, other=0)).to(tl.int64)
        one = a + row[None, :] * a_stride + at_a[:, None]
        two = b + row[:, None] * b_stride + at_b[None, :]
        one = tl.load(one, mask=here[:, None] & inside[None, :], other=0)
        two = tl.load(two, mask=inside[:, None] & there[None, :], other=0)
        if WIDE:
            one = one.to(tl.float32)
            two = two.to(tl.float32)
        total = tl.dot(one, two, total, input_precision="ieee")
    at = out + left[:, None].to(tl.int64) * row_stride + right[None, :]
    mask = here[:, None] & there[None, :]
    tl.store(at, tl.load(at, mask=mask, other=0.0) + total.to(tl.float64), mask=mask)
