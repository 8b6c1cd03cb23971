"""How much memory a recording takes beside the model: an estimate before it, a bound during it."""

from __future__ import annotations

from netphys.recording.prepare import Run

DEFAULT_MEMORY = 256 << 20
_PENDING = 96 << 20  # what waits for the disk: more only helps where writing comes in bursts


def check_memory(run: Run, max_memory: int) -> int:
    """Return how many bytes may wait for the disk, or refuse a recording that does not fit.

    Parameters
    ----------
    run : Run
        What will be recorded.
    max_memory : int
        Bytes that the recording may take beside the model.

    Returns
    -------
    max_pending : int
        For the writer.

    Raises
    ------
    MemoryError
        If one batch of one site takes more; the message says what would fit.
    """
    states = 3 * run.spec.state[1]  # the states, and two copies on their way to the file
    if states > max_memory:
        raise MemoryError(
            f"max_memory={max_memory / 1e6:,.0f} MB is too little: the online statistics take "
            f"{states / 1e6:,.1f} MB. Give more, or fewer statistics, sites or units=."
        )
    max_memory -= states
    held = compute_held_bytes(run)
    if held > max_memory:
        raise MemoryError(
            f"max_memory={max_memory / 1e6:,.0f} MB is too little: while tokens are generated one "
            f"batch of all sites is kept, {held / 1e6:,.1f} MB. Give more, a smaller batch_size= "
            "or max_new_tokens, or fewer sites."
        )
    max_memory -= held
    sizes = [(compute_block_bytes(run, s.name), s.name) for s in run.spec.series]
    largest, name = max(sizes, default=(0, ""))
    need = 2 * largest  # one that is filled while one is written
    if need > max_memory:
        raise MemoryError(
            f"max_memory={max_memory / 1e6:,.0f} MB is too little: one batch of {name!r} takes "
            f"{largest / 1e6:,.1f} MB, and two are needed at a time. Give at least "
            f"{need / 1e6:,.0f} MB, a smaller batch_size=, or store less of it."
        )
    return min(max_memory, max(need, _PENDING))


def compute_held_bytes(run: Run) -> int:
    """Return the most bytes that are kept of a batch until it has been shown.

    Parameters
    ----------
    run : Run
        What will be recorded.

    Returns
    -------
    n_bytes : int
        0 where a batch is one forward pass; all sites, and one of them twice, where its tokens are
        shown one by one.
    """
    shown = run.presentation
    if shown.decoding is None:
        return 0
    n_rows = max(len(rows) * int(shown.n_shown[rows[0]]) for rows in run.plan)
    sizes = [n_rows * p.shape.n_units * p.shape.dtype.itemsize for p in run.sites]
    return sum(sizes) + max(sizes, default=0)


def compute_block_bytes(run: Run, name: str) -> int:
    """Return the most bytes that one batch of a series takes in memory.

    Parameters
    ----------
    run : Run
        What will be recorded.
    name : str
        Name of the series.

    Returns
    -------
    n_bytes : int
        Rounded up as the writer does: to a power of two.
    """
    series = next(s for s in run.spec.series if s.name == name)
    rows = run.clocks.trials.groupby("batch")[f"n_samples_{series.clock}"].sum().max()
    return 1 << (int(rows) * series.row_bytes + 4095).bit_length()
