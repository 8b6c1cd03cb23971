"""Write a session's bytes at their offsets, from one thread, in an order that survives a kill.

The forward pass hands over rows; the writer copies them once into a page-aligned block and a thread
puts the block on disk: whole pages with ``O_DIRECT`` (the kernel's copy would compete with the
model for the cores), the rest of a page buffered. No page is written both ways, and no byte outside
the rows is touched. A batch is committed after its data: data, sync, commit byte, sync.
"""

from __future__ import annotations

import errno
import mmap
import os
import queue
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from netphys.data._files import open_direct, sync_data, write_at
from netphys.data.nwb_header import BLOCK
from netphys.data.nwb_layout import FileLayout

_DIRECT_FROM = 16 * BLOCK  # below this a buffered write is cheaper than waiting for the device
_COMMIT_BYTES = 64 << 20  # data on the way that triggers a commit
_COMMIT_SECONDS = 2.0


class Writer:
    """Positioned writes and commits of one session file.

    Parameters
    ----------
    path : Path
        File made by `save_structure`.
    layout : FileLayout
        Offsets of its datasets.
    row_bytes : dict of str to int
        Bytes of one sample of each site.
    max_pending : int
        Bytes of memory for what waits for the disk; beyond that `put` stalls (samples are never
        dropped). One block may be larger.
    """

    def __init__(
        self,
        path: Path,
        layout: FileLayout,
        row_bytes: dict[str, int],
        *,
        max_pending: int = 256 << 20,
    ):
        self._path, self._layout, self._row_bytes = path, layout, row_bytes
        self._max_pending = max_pending
        self.stall_seconds = 0.0
        self.n_bytes = 0
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._direct = open_direct(path)
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)
        self._room = threading.Condition()
        self._pending = self._allocated = 0
        self._error: BaseException | None = None
        self._told = False
        self._thread = threading.Thread(target=self._work, name="netphys-writer", daemon=True)
        self._thread.start()

    def put(self, site: str, row: int, values: np.ndarray) -> None:
        """Hand over rows of one site; they are copied before this returns.

        Parameters
        ----------
        site : str
            Site name.
        row : int
            First row in the site's dataset.
        values : ndarray, shape (n_samples, n_units)
            Values in the stored type (bfloat16 as uint16).
        """
        offset = self._layout.sites[site] + row * self._row_bytes[site]
        lead = offset % BLOCK  # memory and file share their place within a page
        block = self._take(lead + values.nbytes)
        target = np.frombuffer(block, values.dtype, values.size, lead).reshape(values.shape)
        np.copyto(target, values)
        self.n_bytes += values.nbytes
        self._jobs.put(("data", block, lead, values.nbytes, offset))

    def commit(self, batch: int, counts: np.ndarray) -> None:
        """Mark a batch as complete once everything handed over so far is on disk.

        Parameters
        ----------
        batch : int
            Number of the planned batch.
        counts : ndarray of int64, shape (n_sites, n_counters)
            Its counters.
        """
        self._raise()
        self._jobs.put(("commit", batch, np.array(counts, np.int64)))

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

    def _take(self, n_bytes: int) -> mmap.mmap:
        """Return a page-aligned block, waiting while too much is on its way to the disk."""
        self._raise()
        size = 1 << max(n_bytes - 1, BLOCK - 1).bit_length()
        began = time.perf_counter()
        with self._room:
            while self._pending and self._pending + size > self._max_pending:
                self._room.wait(0.5)
                self._raise()
            self._pending += size
            block = self._free[size].pop() if self._free[size] else None
            if block is None:
                self._make_room(size)
                self._allocated += size
        self.stall_seconds += time.perf_counter() - began
        return block if block is not None else mmap.mmap(-1, size)

    def _make_room(self, size: int) -> None:
        """Give back free blocks of other sizes until a new one fits into the memory allowed."""
        for blocks in self._free.values():
            while blocks and self._allocated + size > self._max_pending:
                self._allocated -= len(blocks.pop())

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise explain_disk_error(self._error, self._path) from self._error

    def _work(self) -> None:
        ready: list[tuple[int, np.ndarray]] = []  # finished batches, not yet committed
        since, unsynced = time.monotonic(), 0
        while True:
            try:
                kind, *job = self._jobs.get(timeout=_COMMIT_SECONDS if ready else None)
            except queue.Empty:
                kind, job = "idle", []
            try:
                if self._error is None:
                    if kind == "data":
                        self._write_or_commit(job, ready)
                        unsynced += job[2]
                    elif kind == "commit":
                        ready.append(tuple(job))
                    late = time.monotonic() - since > _COMMIT_SECONDS
                    if ready and (kind == "stop" or late or unsynced >= _COMMIT_BYTES):
                        self._sync(ready)
                        ready, since, unsynced = [], time.monotonic(), 0
            except BaseException as error:  # handed to the caller at its next call
                self._error, ready = error, []
            if kind == "data":
                with self._room:
                    self._free[len(job[0])].append(job[0])
                    self._pending -= len(job[0])
                    self._room.notify()
            if kind == "stop":
                return

    def _write_or_commit(self, job: list, ready: list[tuple[int, np.ndarray]]) -> None:
        """Write rows; if that fails, commit the batches whose rows are written already.

        Only a failed write is answered so. After a failed sync nothing is committed: the system
        reports a lost page once, and the next sync would succeed without it.
        """
        try:
            self._write(*job)
        except OSError:
            self._sync(ready)
            raise

    def _write(self, block: mmap.mmap, lead: int, n_bytes: int, offset: int) -> None:
        view = memoryview(block)
        begin, end = lead, lead + n_bytes
        first, last = -(-begin // BLOCK) * BLOCK, end // BLOCK * BLOCK  # whole pages in between
        base = offset - lead
        if self._direct is None or last - first < _DIRECT_FROM:
            write_at(self._fd, view[begin:end], offset)
            return
        if not self._write_direct(view[first:last], base + first):
            write_at(self._fd, view[first:last], base + first)
        write_at(self._fd, view[begin:first], offset)
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

    def _sync(self, ready: list[tuple[int, np.ndarray]]) -> None:
        for batch, counts in ready:
            write_at(
                self._fd, memoryview(counts.tobytes()), self._layout.counts + batch * counts.nbytes
            )
        sync_data(self._fd)
        for batch, _ in ready:
            write_at(self._fd, memoryview(b"\1"), self._layout.commit + batch)
        sync_data(self._fd)


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
