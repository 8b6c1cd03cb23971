"""What one pass over one site does: options, outputs, running state; the same on any device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch

from netphys._check import check_option, check_type

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
POOLS = ("mean", "max", "last", "sum")


@dataclass(frozen=True, eq=False)
class Reduction:
    """What one pass over one site does; it stays the same during a run.

    Parameters
    ----------
    n_units_in : int
        Number of units that pass the site.
    dtype : torch.dtype
        Type of the values that pass: float32, float16, bfloat16 or float64.
    units : Tensor of int64, shape (n_units,), or None
        Increasing indices of the units to take before everything else; None takes all.
    store : torch.dtype or None
        Type in which the samples are stored; None stores no samples.
    pools : tuple of (str, str)
        Pairs of a segment set and a form, such as ``("word", "mean")``; forms are mean, max, last
        and sum.
    pool_dtype : torch.dtype or None
        Type of the pooled values; None is float32, or float64 where `dtype` is float64.
    threshold : Tensor of float32, shape (n_units,), or None
        A bit of the raster is set where a value is above it, so never for NaN; None makes no
        raster.
    top_k : int
        Number of largest units to find per sample; 0 finds none.
    moments : bool
        Keep the mean of each unit and its sum of squared deviations.
    extrema : bool
        Keep the smallest and the largest value of each unit.
    histogram : tuple of (float, float, int) or None
        Lower edge, upper edge and number of bins of a histogram per unit.
    gram : bool
        Keep the sum over samples of the outer product of the units.
    n_tags : int
        Number of frequencies whose coefficients are kept; a basis then comes with each call.

    Raises
    ------
    TypeError, ValueError
        If an option is not of its kind.
    """

    n_units_in: int
    dtype: torch.dtype = torch.float32
    units: torch.Tensor | None = None
    store: torch.dtype | None = None
    pools: tuple[tuple[str, str], ...] = ()
    pool_dtype: torch.dtype | None = None
    threshold: torch.Tensor | None = None
    top_k: int = 0
    moments: bool = False
    extrema: bool = False
    histogram: tuple[float, float, int] | None = None
    gram: bool = False
    n_tags: int = 0

    def __post_init__(self):
        check_option("dtype", self.dtype, FLOATS)
        check_option("store", self.store, (None, *FLOATS))
        check_option("pool_dtype", self.pool_dtype, (None, *FLOATS))
        for _, form in self.pools:
            check_option("pools", form, POOLS)
        _check_units(self.units, self.n_units_in)
        _check_threshold(self.threshold, self.n_units)
        check_type("top_k", self.top_k, int, "a whole number from 0 to the number of units")
        if not 0 <= self.top_k <= self.n_units:
            raise ValueError(
                f"top_k={self.top_k} is out of range. Give a whole number from 0 to the number of "
                f"units, {self.n_units}."
            )
        if self.histogram is not None:
            low, high, n_bins = self.histogram
            if not (low < high and n_bins >= 1):
                raise ValueError(
                    f"histogram={self.histogram!r} is empty. Give (low, high, n_bins) with low "
                    "below high and at least one bin."
                )

    @property
    def n_units(self) -> int:
        """Number of units after the selection."""
        return self.n_units_in if self.units is None else len(self.units)

    @property
    def n_bytes(self) -> int:
        """Bytes of one sample in the raster."""
        return -(-self.n_units // 8)

    @property
    def wide(self) -> torch.dtype:
        """Type of the arithmetic: float32, or float64 where the values are."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def segment_sets(self) -> tuple[str, ...]:
        """Names of the segment sets that are pooled, in order of first appearance."""
        return tuple(dict.fromkeys(name for name, _ in self.pools))

    def forms(self, name: str) -> tuple[str, ...]:
        """Return the forms in which a segment set is pooled.

        Parameters
        ----------
        name : str
            Segment set.

        Returns
        -------
        forms : tuple of str
            Among mean, max, last and sum.
        """
        return tuple(form for given, form in self.pools if given == name)

    def to(self, device: torch.device | str) -> Reduction:
        """Return the same reduction with its tensors on a device.

        Parameters
        ----------
        device : device or str
            Where the samples are.

        Returns
        -------
        reduction : Reduction
            A copy, or itself where nothing moves.
        """
        moved = {
            name: value.to(device)
            for name in ("units", "threshold")
            if (value := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **moved) if moved else self


def _check_units(units: torch.Tensor | None, n_units_in: int) -> None:
    if units is None:
        return
    check_type("units", units, torch.Tensor, "an int64 tensor of increasing indices")
    good = units.dtype == torch.int64 and units.ndim == 1 and len(units) > 0
    if not good or bool((units.diff() <= 0).any()) or units[0] < 0 or units[-1] >= n_units_in:
        raise ValueError(
            f"units of shape {tuple(units.shape)} and type {units.dtype} do not select units. Give "
            f"increasing int64 indices from 0 to {n_units_in - 1}, at least one."
        )


def _check_threshold(threshold: torch.Tensor | None, n_units: int) -> None:
    if threshold is None:
        return
    check_type("threshold", threshold, torch.Tensor, "a float32 tensor with a value per unit")
    if threshold.dtype != torch.float32 or tuple(threshold.shape) != (n_units,):
        raise ValueError(
            f"threshold of shape {tuple(threshold.shape)} and type {threshold.dtype} does not fit. "
            f"Give one float32 value for each of the {n_units} selected units."
        )


@dataclass
class Outputs:
    """Memory into which one call writes; it is reused between batches.

    Rows beyond those of a call keep what they held. Any tensor may be a view of memory given by the
    caller, such as a block of a file. In a ring every tensor has a leading axis of slots.

    Parameters
    ----------
    samples : Tensor or None
        Shape (n_rows, n_units), type `Reduction.store`.
    raster : Tensor of uint8, or None
        Shape (n_rows, n_bytes): unit u is bit ``u % 8`` of byte ``u // 8``; spare bits are 0.
    top_index : Tensor of int32, or None
        Shape (n_rows, top_k): selected units in descending order of value, ties by lower index.
    top_value : Tensor or None
        Shape (n_rows, top_k): their values, float32 or float64.
    pooled : dict
        For each pair of `Reduction.pools`, shape (n_segments, n_units).
    nonfinite, overflow : Tensor of int64, shape ()
        Values of the call that are NaN or infinite; finite samples that became infinite in the
        stored type.
    cursor : Tensor of int64, shape (), or None
        In a ring: number of calls so far, on the device; the slot is its remainder.
    """

    samples: torch.Tensor | None = None
    raster: torch.Tensor | None = None
    top_index: torch.Tensor | None = None
    top_value: torch.Tensor | None = None
    pooled: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)
    nonfinite: torch.Tensor | None = None
    overflow: torch.Tensor | None = None
    cursor: torch.Tensor | None = None

    def items(self) -> dict[str, torch.Tensor]:
        """Return all tensors that hold results, by name; pooled ones as ``word.mean``.

        Returns
        -------
        tensors : dict
            Views, no copies.
        """
        names = ("samples", "raster", "top_index", "top_value", "nonfinite", "overflow")
        found = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        return {**found, **{".".join(pair): value for pair, value in self.pooled.items()}}

    def at(self, slot: int) -> Outputs:
        """Return one slot of a ring.

        Parameters
        ----------
        slot : int
            Which one.

        Returns
        -------
        outputs : Outputs
            Views without the axis of slots.
        """
        names = ("samples", "raster", "top_index", "top_value", "nonfinite", "overflow")
        kept = {n: getattr(self, n) for n in names}
        kept = {n: None if value is None else value[slot] for n, value in kept.items()}
        return Outputs(**kept, pooled={pair: value[slot] for pair, value in self.pooled.items()})


@dataclass
class State:
    """What runs on over the calls for one site; statistics over all samples seen.

    Parameters
    ----------
    count : Tensor of int64, shape ()
        Number of samples.
    fired : Tensor of int64, shape ()
        Number of calls.
    mean, m2 : Tensor of float64, shape (n_units,), or None
        Mean and sum of squared deviations from it; NaN once a value was not finite.
    low, high : Tensor, shape (n_units,), or None
        Smallest and largest value, float32 or float64; infinite before the first sample, NaN once
        a value was NaN.
    histogram : Tensor of int64, shape (n_units, n_bins + 2), or None
        Counts: below the lower edge, in the half-open bins, at or above the upper edge. NaN is
        counted nowhere.
    gram : Tensor of float64, shape (n_units, n_units), or None
        Sum over samples of the product of two units.
    tags : Tensor of float64, shape (n_tags, n_units, 2), or None
        Real and imaginary part of the sum over samples of basis times value;
        ``torch.view_as_complex(tags)`` is complex.
    """

    count: torch.Tensor
    fired: torch.Tensor
    mean: torch.Tensor | None = None
    m2: torch.Tensor | None = None
    low: torch.Tensor | None = None
    high: torch.Tensor | None = None
    histogram: torch.Tensor | None = None
    gram: torch.Tensor | None = None
    tags: torch.Tensor | None = None

    def items(self) -> dict[str, torch.Tensor]:
        """Return the tensors that are kept, by name.

        Returns
        -------
        tensors : dict
            Views, no copies.
        """
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if value is not None}


def make_outputs(
    reduction: Reduction,
    n_rows: int,
    n_segments: dict[str, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    n_slots: int | None = None,
    pin: bool = False,
) -> Outputs:
    """Make memory for the results of one call.

    Parameters
    ----------
    reduction : Reduction
        What a call does.
    n_rows : int
        Largest number of samples in a call.
    n_segments : dict of str to int, or None
        Largest number of segments in a call, for each segment set.
    device : device or str
        Where the samples are.
    n_slots : int or None
        Make a ring with this many slots: a leading axis and a cursor.
    pin : bool
        Pin the memory, for fast copies from a card.

    Returns
    -------
    outputs : Outputs
        Zeros.

    Raises
    ------
    ValueError
        If a segment set that is pooled has no size.
    """
    n_segments = n_segments or {}
    for name in reduction.segment_sets:
        if name not in n_segments:
            raise ValueError(
                f"n_segments={n_segments!r} has no {name!r}, which is pooled. Give the largest "
                "number of its segments in a call."
            )
    lead = () if n_slots is None else (n_slots,)

    def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros((*lead, *shape), dtype=dtype, device=device, pin_memory=pin)

    r, k = reduction, reduction.top_k
    return Outputs(
        samples=None if r.store is None else zeros(n_rows, r.n_units, dtype=r.store),
        raster=None if r.threshold is None else zeros(n_rows, r.n_bytes, dtype=torch.uint8),
        top_index=zeros(n_rows, k, dtype=torch.int32) if k else None,
        top_value=zeros(n_rows, k, dtype=r.wide) if k else None,
        pooled={
            pair: zeros(n_segments[pair[0]], r.n_units, dtype=r.pool_dtype or r.wide)
            for pair in r.pools
        },
        nonfinite=zeros(dtype=torch.int64),
        overflow=zeros(dtype=torch.int64),
        cursor=None if n_slots is None else torch.zeros((), dtype=torch.int64, device=device),
    )


def make_state(reduction: Reduction, *, device: torch.device | str = "cpu") -> State:
    """Make the state of a site before its first sample.

    Parameters
    ----------
    reduction : Reduction
        What a call does.
    device : device or str
        Where the samples are.

    Returns
    -------
    state : State
        Counts of 0, extrema infinite.
    """
    r, n = reduction, reduction.n_units

    def full(*shape: int, value: float = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.full(shape, value, dtype=dtype, device=device)

    n_bins = r.histogram[2] if r.histogram else 0
    return State(
        count=full(dtype=torch.int64),
        fired=full(dtype=torch.int64),
        mean=full(n) if r.moments else None,
        m2=full(n) if r.moments else None,
        low=full(n, value=float("inf"), dtype=r.wide) if r.extrema else None,
        high=full(n, value=float("-inf"), dtype=r.wide) if r.extrema else None,
        histogram=full(n, n_bins + 2, dtype=torch.int64) if r.histogram else None,
        gram=full(n, n) if r.gram else None,
        tags=full(r.n_tags, n, 2) if r.n_tags else None,
    )


def merge_state(state: State, other: State) -> None:
    """Add the samples of another state to a state, in place.

    Parameters
    ----------
    state : State
        What is changed.
    other : State
        Of the same reduction, over other samples; not changed.
    """
    if state.mean is not None:
        n = other.count.double()
        merge_moments(state, n, other.mean, other.m2)
    state.count += other.count
    state.fired += other.fired
    if state.low is not None:
        torch.minimum(state.low, other.low, out=state.low)
        torch.maximum(state.high, other.high, out=state.high)
    for name in ("histogram", "gram", "tags"):
        if getattr(state, name) is not None:
            getattr(state, name).add_(getattr(other, name))


def merge_moments(state: State, n: torch.Tensor, mean: torch.Tensor, m2: torch.Tensor) -> None:
    """Merge the mean and squared deviations of `n` samples into a state whose count lacks them.

    Parameters
    ----------
    state : State
        Its mean and m2 are changed, its count is not.
    n : Tensor of float64, shape ()
        Number of samples.
    mean, m2 : Tensor of float64, shape (n_units,)
        Of these samples.

    References
    ----------
    .. [1] Chan, Golub & LeVeque (1983). The American Statistician 37:242.
       doi:10.1080/00031305.1983.10483115
    """
    total = (state.count + n).clamp_min(1)
    delta = mean - state.mean
    state.m2 += m2 + delta.square() * (state.count * n / total)
    state.mean += delta * (n / total)
