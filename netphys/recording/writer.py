"""Write a session's bytes at their offsets, from one thread, in an order that survives a kill.

The forward pass fills page-aligned blocks in place; a thread puts each block on disk: whole pages
with ``O_DIRECT`` (the kernel's copy would compete with the model for the cores), the rest of a page
buffered. No page is written both ways, and no byte outside the rows is touched. A batch is
committed after its data: data, sync, commit byte, sync; so are the states of online statistics.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from netphys.data._files import open_direct, sync_data, write_at
from netphys.data.nwb_header import BLOCK
from netphys.data.nwb_layout import FileLayout

_DIRECT_FROM = 16 * BLOCK  # below this a buffered write is cheaper than waiting for the device
COMMIT_SECONDS = 2.0
_HUGE = 2 << 20
_LARGE = 1 << 20  # from here on another thread takes the checksum meanwhile
_STALL = 0.1  # seconds; shorter ones are the rhythm of a disk
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """Memory for consecutive rows of one series, laid out as they will lie in the file.

    Parameters
    ----------
    values : ndarray, shape (n_rows, n_columns)
        What the caller fills, in the stored type.
    series : str
        Name of the series.
    offset : int
        Place of the first byte in the file.
    """

    values: np.ndarray
    series: str
    offset: int
    _memory: np.ndarray | None
    _lead: int


class Writer:
    """Positioned writes and commits of one session file.

    Parameters
    ----------
    path : Path
        File made by `save_structure`.
    layout : FileLayout
        Offsets of its datasets.
    row_bytes : dict of str to int
        Bytes of one sample of each series, in the order of the counters.
    max_pending : int
        Bytes of memory for blocks; beyond that `take` stalls (samples are never dropped).
        One block may be larger.
    commit_seconds : float
        Commit finished batches at least this often.
    commit_batches : int, optional
        Commit as soon as this many batches are finished.
    allocate : callable, optional
        ``allocate(n_bytes)`` returns page-aligned memory as a uint8 array (pinned memory for
        copies from a GPU); anonymous pages if left out.
    """

    def __init__(
        self,
        path: Path,
        layout: FileLayout,
        row_bytes: Mapping[str, int],
        *,
        max_pending: int = 128 << 20,
        commit_seconds: float | None = None,
        commit_batches: int | None = None,
        allocate: Callable[[int], np.ndarray] | None = None,
    ):
        self._path, self._layout, self._row_bytes = path, layout, row_bytes
        self._max_pending = max_pending
        self._seconds = COMMIT_SECONDS if commit_seconds is None else commit_seconds
        self._batches = commit_batches
        self._allocate = allocate or _allocate_pages
        self.stall_seconds = 0.0
        self.n_bytes = 0
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._direct = open_direct(path)
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._free: dict[int, list[np.ndarray]] = defaultdict(list)
        self._room = threading.Condition()
        self._pending = self._allocated = 0
        self._error: BaseException | None = None
        self._told = False
        self._place = {name: i for i, name in enumerate(row_bytes)}
        self._sums: dict[int, xxhash.xxh3_64] = {}  # of the batch whose rows are arriving
        self._hasher = ThreadPoolExecutor(1, "netphys-checksums")  # while the disk is busy
        self._thread = threading.Thread(target=self._run, name="netphys-writer", daemon=True)
        self._thread.start()

    def take(self, series: str, row: int, shape: tuple[int, int], dtype: str) -> Block:
        """Return memory for rows of one series, waiting while too much is on its way to the disk.

        Parameters
        ----------
        series : str
            Name of the series.
        row : int
            First row in its dataset.
        shape : (int, int)
            Rows and columns.
        dtype : str
            Stored type as numpy spells it (bfloat16 as "uint16").

        Returns
        -------
        block : Block
            To fill and hand back with `put`; what it holds before is arbitrary.
        """
        offset = self._layout.series[series] + row * self._row_bytes[series]
        n_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
        if not n_bytes:
            return Block(np.empty(shape, dtype), series, offset, None, 0)
        lead = offset % BLOCK  # memory and file share their place within a page
        memory = self._take(lead + n_bytes)
        values = memory[lead : lead + n_bytes].view(dtype).reshape(shape)
        return Block(values, series, offset, memory, lead)

    def put(self, block: Block, wait: Callable[[], None] | None = None) -> None:
        """Hand over a filled block; the caller does not touch it again.

        Parameters
        ----------
        block : Block
            From `take`.
        wait : callable, optional
            Called in the writer's thread before the bytes are read: returns when a copy from a
            device has arrived.
        """
        self.n_bytes += block.values.nbytes
        if block._memory is not None:
            self._jobs.put(("data", block, wait))

    def commit(self, batch: int, counts: np.ndarray) -> None:
        """Mark a batch as complete once everything handed over so far is on disk.

        Parameters
        ----------
        batch : int
            Number of the planned batch.
        counts : ndarray of int64, shape (n_series, n_counters)
            Its counters.
        """
        self._raise()
        self._jobs.put(("commit", batch, np.array(counts, np.int64)))

    def save_state(self, state: bytes, offset: int) -> None:
        """Write bytes at an offset after everything handed over so far is on disk and committed.

        Parameters
        ----------
        state : bytes
            What to write.
        offset : int
            Where in the file.
        """
        self._raise()
        self._jobs.put(("state", state, offset))

    def close(self) -> None:
        """Finish what was handed over, commit it, and close the file."""
        self._jobs.put(("stop",))
        interrupted = None
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt as error:  # nobody may go on before the thread has finished
                interrupted = error
        for fd in (self._fd, self._direct):
            if fd is not None:
                os.close(fd)
        self._hasher.shutdown()
        self._free.clear()
        if interrupted is not None:
            raise interrupted
        if not self._told:
            self._raise()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self.close()
            return
        try:  # the batches that were finished stay; the first error is the one to report
            self.close()
        except Exception as second:
            error.add_note(f"netphys: while closing {self._path}: {second}")

    def _take(self, n_bytes: int) -> np.ndarray:
        """Return a page-aligned block, waiting while too much is on its way to the disk."""
        self._raise()
        size = 1 << max(n_bytes - 1, BLOCK - 1).bit_length()
        began = time.perf_counter()
        with self._room:
            while self._pending and self._pending + size > self._max_pending:
                self._room.wait(0.5)
                self._raise()
            self._pending += size
            memory = self._free[size].pop() if self._free[size] else None
            if memory is None:
                self._make_room(size)
                self._allocated += size
        waited = time.perf_counter() - began
        self.stall_seconds += waited
        if waited > _STALL:
            _log.info("%s: waited %.2f s for the disk", self._path.name, waited)
        return memory if memory is not None else self._allocate(size)

    def _make_room(self, size: int) -> None:
        """Give back free blocks of other sizes until a new one fits into the memory allowed."""
        for blocks in self._free.values():
            while blocks and self._allocated + size > self._max_pending:
                self._allocated -= len(blocks.pop())

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise explain_disk_error(self._error, self._path) from self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # nothing that is expected: whoever waits must not hang
            with self._room:
                self._error = self._error or error
                self._room.notify_all()

    def _work(self) -> None:
        ready: list[tuple] = []  # finished batches, not yet committed
        since = time.monotonic()
        while True:
            try:
                kind, *job = self._jobs.get(timeout=self._seconds if ready else None)
            except queue.Empty:
                kind, job = "idle", []
            try:
                if self._error is None:
                    if kind == "data":
                        self._write_or_commit(*job, ready)
                    elif kind == "commit":
                        ready.append((*job, self._end_batch()))
                    elif kind == "state":
                        self._sync(ready)
                        ready, since = [], time.monotonic()
                        self._write_state(*job)
                    if ready and (kind in ("stop", "idle") or self._is_due(since, len(ready))):
                        self._sync(ready)
                        ready, since = [], time.monotonic()
            except BaseException as error:  # handed to the caller at its next call
                self._error, ready = error, []
            if kind == "data":
                self._give_back(job[0]._memory)
            if kind == "stop":
                return

    def _is_due(self, since: float, n_ready: int) -> bool:
        enough = self._batches is not None and n_ready >= self._batches
        return enough or time.monotonic() - since > self._seconds

    def _give_back(self, memory: np.ndarray) -> None:
        with self._room:
            self._free[len(memory)].append(memory)
            self._pending -= len(memory)
            self._room.notify()

    def _end_batch(self) -> np.ndarray:
        """Return the checksum of every series' rows in the batch that has ended."""
        empty = xxhash.xxh3_64_intdigest(b"")
        sums = [
            self._sums[i].intdigest() if i in self._sums else empty for i in range(len(self._place))
        ]
        self._sums = {}
        return np.array(sums, np.uint64)

    def _write_or_commit(self, block: Block, wait: Callable | None, ready: list[tuple]) -> None:
        """Write rows; if that fails, commit the batches whose rows are written already.

        Only a failed write is answered so. After a failed sync nothing is committed: the system
        reports a lost page once, and the next sync would succeed without it.
        """
        if wait is not None:
            wait()
        try:
            self._write(block)
        except OSError:
            self._sync(ready)
            raise

    def _write(self, block: Block) -> None:
        begin, end = block._lead, block._lead + block.values.nbytes
        view = memoryview(block._memory)
        total = self._sums.setdefault(self._place[block.series], xxhash.xxh3_64())
        if end - begin < _LARGE:
            total.update(view[begin:end])
            self._write_rows(block, view, begin, end)
            return
        summed = self._hasher.submit(total.update, view[begin:end])
        try:
            self._write_rows(block, view, begin, end)
        finally:
            summed.result()  # nobody may fill the block before

    def _write_rows(self, block: Block, view: memoryview, begin: int, end: int) -> None:
        first, last = -(-begin // BLOCK) * BLOCK, end // BLOCK * BLOCK  # whole pages in between
        base = block.offset - block._lead
        if self._direct is None or last - first < _DIRECT_FROM:
            write_at(self._fd, view[begin:end], block.offset)
            return
        if not self._write_direct(view[first:last], base + first):
            write_at(self._fd, view[first:last], base + first)
        write_at(self._fd, view[begin:first], block.offset)
        write_at(self._fd, view[last:end], base + last)

    def _write_direct(self, pages: memoryview, offset: int) -> bool:
        """Write whole pages past the page cache; False where the file system refuses that."""
        try:
            write_at(self._direct, pages, offset)
            return True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self._direct)
            self._direct = None
            return False

    def _sync(self, ready: list[tuple]) -> None:
        for batch, counts, sums in ready:
            self._write_row(self._layout.counts, batch, counts)
            self._write_row(self._layout.checksums, batch, sums)
        sync_data(self._fd)
        for batch, *_ in ready:
            write_at(self._fd, memoryview(b"\1"), self._layout.commit + batch)
        sync_data(self._fd)

    def _write_row(self, offset: int, batch: int, values: np.ndarray) -> None:
        write_at(self._fd, memoryview(values.tobytes()), offset + batch * values.nbytes)

    def _write_state(self, state: bytes, offset: int) -> None:
        write_at(self._fd, memoryview(state), offset)
        sync_data(self._fd)


def _allocate_pages(n_bytes: int) -> np.ndarray:
    memory = mmap.mmap(-1, n_bytes)
    if n_bytes >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a fault for each 2 MB instead of 4 KB
    return np.frombuffer(memory, np.uint8)


def explain_disk_error(error: BaseException, path: Path) -> BaseException:
    """Return an error that names the file and the way out, for what a disk can answer.

    Parameters
    ----------
    error : BaseException
        What was raised.
    path : Path
        File that was being written.

    Returns
    -------
    error : BaseException
        OSError of the same number with a message for the user, or `error` itself.
    """
    if not isinstance(error, OSError):
        return error
    ways = {
        errno.ENOSPC: "the disk is full. Free some space and run again; what is committed is kept.",
        errno.EDQUOT: "the disk quota is used up. Free some space or choose another path.",
        errno.EROFS: "the file system is read-only. Choose another path.",
        errno.EACCES: "writing there is not permitted. Choose another path.",
        errno.EPERM: "writing there is not permitted. Choose another path.",
        errno.ENOENT: "the folder does not exist and could not be made. Choose another path.",
        errno.ENOTDIR: "a part of the path is a file. Choose another path.",
        errno.EEXIST: "a part of the path is a file. Choose another path.",
    }
    if "path=" in str(error.strerror or error):  # explained already
        return error
    way = ways.get(error.errno, f"{error.strerror or error}. Choose another path.")
    return OSError(error.errno, f"path={str(path)!r}: {way}")
