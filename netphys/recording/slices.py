"""Models whose weights are sliced over several processes: who holds which units, and their bytes.

With a tensor-parallel plan all processes see every batch. The output of a column-parallel layer,
and so the input of the row-parallel layer behind it, is sliced along units: each process has a run
of them and writes it into its columns of the rows. Everything else is the same in all processes,
and the first one writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xxhash

from netphys.data._files import sync_data, write_at
from netphys.data.nwb_layout import FileLayout
from netphys.recording.capture import CaptureError
from netphys.recording.forms import Forms
from netphys.recording.ranks import Ranks
from netphys.recording.rows import SiteShape
from netphys.recording.subject import Subject
from netphys.recording.writer import Block


def check_slices(
    subject: Subject,
    ranks: Ranks,
    forms: Forms,
    *,
    online: Sequence,
    files: str,
    compiled: bool,
) -> None:
    """Refuse what cannot be recorded of a model that is sliced over processes.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    ranks : Ranks
        The processes.
    forms : Forms
        What is stored.
    online : sequence
        Online statistics.
    files : str
        "one" or "per-rank".
    compiled : bool
        Whether the model is to be compiled.

    Raises
    ------
    ValueError
        With what to change.
    """
    if subject.n_slices != ranks.size:
        raise ValueError(
            f"{subject.name!r} is divided among {subject.n_slices} processes, and {ranks.size} are "
            "recording. Record in all processes that have loaded it."
        )
    if os.environ.get("LOCAL_WORLD_SIZE", str(ranks.size)) != str(ranks.size):
        raise ValueError(
            "tp_plan: the processes run on several machines, which cannot write parts of the same "
            "rows. Start all of them on one machine."
        )
    odd = [n for n in forms.store if n != "samples" and "." not in n]
    reasons = {
        f"store={odd[:1]}": odd,
        "units=": forms.units,
        "dtype='int8'": forms.dtype == "int8",
        "online=": online,
        "files='per-rank'": files != "one",
        "compile=": compiled,
    }
    for name, given in reasons.items():
        if given:
            raise ValueError(
                f"{name} is not for a model that tp_plan= divides among processes. Record its "
                "'samples' or pooled values, all units, into one file."
            )


def find_slices(
    model: torch.nn.Module,
    shapes: Sequence[SiteShape],
    digests: Mapping[str, str],
    ranks: Ranks,
) -> list[SiteShape]:
    """Find out which sites hold a slice of their units in each process.

    Parameters
    ----------
    model : Module
        The model.
    shapes : sequence of SiteShape
        What passed here.
    digests : dict of str to str
        Hash of what passed each site here.
    ranks : Ranks
        The processes.

    Returns
    -------
    shapes : list of SiteShape
        With the number of slices.

    Raises
    ------
    CaptureError
        If a site differs between processes and its layer does not say how.
    """
    every = [json.loads(text) for text in ranks.exchange("digests", json.dumps(dict(digests)))]
    found = []
    for shape in shapes:
        name = shape.site.name
        n = _count_slices(model, shape, ranks.size)
        if n == 1 and len({digest[name] for digest in every}) > 1:
            raise CaptureError(
                f"site={name!r} differs between the processes, and its module does not say which "
                "units each holds. Choose the input or the output of a linear layer (such as the "
                "kinds 'mlp' and 'head'), or load the model without tp_plan=."
            )
        found.append(replace(shape, n_slices=n))
    return found


def _count_slices(model: torch.nn.Module, shape: SiteShape, size: int) -> int:
    """Return over how many processes the units lie, by the width of a whole linear layer."""
    module = model.get_submodule(shape.site.module)
    if not isinstance(module, torch.nn.Linear) or not hasattr(module.weight, "placements"):
        return 1
    axis = 1 if shape.site.side == "in" else 0
    sliced = any(p.is_shard(axis) for p in module.weight.placements)
    width = module.weight.shape[axis]
    if not sliced or shape.unit_shape == (width,):  # or gathered again
        return 1
    plan = getattr(model, "tp_plan", None) or {}
    path = ".".join("*" if p.isdigit() else p for p in shape.site.module.split("."))
    if shape.unit_shape != (width // size,) or width % size or "packed" in str(plan.get(path, "")):
        raise CaptureError(
            f"site={shape.site.name!r}: {shape.unit_shape} of {width} units are in this of {size} "
            "processes, and not one run of equal length in each. Choose another module."
        )
    return size


class SliceWriter:
    """Writes the columns of one process; stands in for `Writer` where rows are shared.

    Rows are written through the page cache, which all processes of a machine share. When all have
    synced a batch, the first reads its rows back for the checksums and commits it.

    Parameters
    ----------
    path : Path
        File made by `save_structure`.
    layout : FileLayout
        Offsets of its datasets.
    row_bytes : dict of str to int
        Bytes of a whole row of each series, in the order of the counters.
    ranks : Ranks
        The processes.
    sliced : collection of str
        Series of which each process has a run of columns.
    """

    def __init__(
        self,
        path: Path,
        layout: FileLayout,
        row_bytes: Mapping[str, int],
        ranks: Ranks,
        sliced: Collection[str],
    ):
        self._layout, self._row_bytes, self._ranks = layout, row_bytes, ranks
        self._sliced = np.array([name in sliced for name in row_bytes], bool)
        self._names = list(row_bytes)
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._bytes = np.memmap(path, np.uint8, "r+")
        self._rows: dict[str, np.ndarray] = {}  # of the batch that is on its way
        self.stall_seconds = 0.0
        self.n_bytes = 0

    def take(self, series: str, row: int, shape: tuple[int, int], dtype: str) -> Block:
        """Return memory for the rows of one series, columns of this process only.

        Parameters
        ----------
        series : str
            Name of the series.
        row : int
            First row in its dataset.
        shape : (int, int)
            Rows and columns here.
        dtype : str
            Stored type as numpy spells it.

        Returns
        -------
        block : Block
            To fill and hand back with `put`.
        """
        offset = self._layout.series[series] + row * self._row_bytes[series]
        return Block(np.empty(shape, dtype), series, offset, None, 0)

    def put(self, block: Block, wait: Callable[[], None] | None = None) -> None:
        """Write a filled block.

        Parameters
        ----------
        block : Block
            From `take`.
        wait : callable, optional
            Returns when a copy from a device has arrived.
        """
        if wait is not None:
            wait()
        n_rows, width = len(block.values), self._row_bytes[block.series]
        rows = self._bytes[block.offset : block.offset + n_rows * width].reshape(n_rows, width)
        self._rows[block.series] = rows
        values = block.values.view(np.uint8).reshape(n_rows, -1)
        first = 0
        if self._sliced[self._names.index(block.series)]:
            first = self._ranks.rank * values.shape[1]
        elif not self._ranks.is_first:
            return
        rows[:, first : first + values.shape[1]] = values
        self.n_bytes += values.nbytes

    def commit(self, batch: int, counts: np.ndarray) -> None:
        """Mark a batch as complete when all processes have it on disk.

        Parameters
        ----------
        batch : int
            Number of the planned batch.
        counts : ndarray of int64, shape (n_series, n_counters)
            Counters of what passed here.
        """
        self._bytes.flush()
        sync_data(self._fd)
        every = self._ranks.exchange(f"batch {batch}", json.dumps(np.asarray(counts).tolist()))
        if not self._ranks.is_first:
            return
        each = np.array([json.loads(text) for text in every], np.int64)
        total = np.where(self._sliced[:, None], each.sum(axis=0), each[0])
        sums = [
            xxhash.xxh3_64_intdigest(self._rows[n].tobytes() if n in self._rows else b"")
            for n in self._names
        ]
        self._put(self._layout.counts + batch * total.nbytes, total)
        self._put(self._layout.checksums + batch * 8 * len(sums), np.array(sums, np.uint64))
        sync_data(self._fd)
        self._put(self._layout.commit + batch, np.ones(1, np.uint8))
        sync_data(self._fd)

    def _put(self, offset: int, values: np.ndarray) -> None:
        write_at(self._fd, memoryview(values.tobytes()), offset)

    def __enter__(self) -> SliceWriter:
        return self

    def __exit__(self, *exc) -> None:
        self._rows.clear()
        os.close(self._fd)
