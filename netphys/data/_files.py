"""Small functions over the operating system: reserve, positioned write, direct write, lock.

Each hides one difference between Linux, macOS and Windows; the fallbacks are tested by removing the
system call that they replace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from netphys._check import check_type

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_seek_lock = threading.Lock()


@contextlib.contextmanager
def make_whole(path: str | os.PathLike, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Give the path of a file to make, and where to write it: it gets its name when complete."""
    check_type("path", path, (str, os.PathLike), "the path of the file to make")
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or pass overwrite=True.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        yield path, unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def reserve_space(fd: int, size: int) -> None:
    """Reserve `size` bytes for an open file, so that a full disk is an error now and not later."""
    try:
        os.posix_fallocate(fd, 0, size)
        return
    except AttributeError:  # macOS, Windows
        pass
    except OSError as error:  # a file system that cannot reserve
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    stats = os.fstatvfs(fd) if hasattr(os, "fstatvfs") else None
    if stats is not None and stats.f_bavail * stats.f_frsize < size:
        raise OSError(28, "No space left on device")
    os.ftruncate(fd, size)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, whatever the system call takes at once."""
    while len(data):
        if hasattr(os, "pwrite"):
            n = os.pwrite(fd, data, offset)
        else:
            with _seek_lock:
                os.lseek(fd, offset, os.SEEK_SET)
                n = os.write(fd, data)
        data, offset = data[n:], offset + n


def sync_data(fd: int) -> None:
    """Return when what was written to `fd` is on the device."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync stops at the drive's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(path: Path) -> None:
    """Make new names in the folder `path` survive a power loss, where that can be asked."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_direct(path: Path) -> int | None:
    """Open `path` for writes that bypass the page cache; None where that is not to be had."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        return None


class FileLock:
    """Exclusive lock of a session for one writer, on the sidecar ``<file>.lock``.

    The lock is never on the session itself, which stays open to every reader. The sidecar is
    removed with the lock.

    Parameters
    ----------
    path : Path
        The session file, whether it exists yet or not.
    shared : bool
        Join the holder of a lock that was made so with `share`; the first holder removes it.
    """

    def __init__(self, path: Path, *, shared: bool = False):
        self._shared = shared
        path = Path(os.path.realpath(path))  # two names of one file have one lock
        self.path = path
        self.sidecar = path.with_name(path.name + ".lock")
        self._fd: int | None = None

    def __enter__(self) -> FileLock:
        while True:
            fd = os.open(self.sidecar, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(fd, shared=self._shared)
            except OSError as error:
                os.close(fd)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise BlockingIOError(
                    f"path={str(self.path)!r} is being written by another process (lock file "
                    f"{self.sidecar.name}). Wait until that recording ends, or choose another path."
                ) from None
            try:
                same = os.path.samestat(os.fstat(fd), os.stat(self.sidecar))
            except FileNotFoundError:
                same = False
            if same:  # else its former owner removed the name under us: take the new one
                self._fd = fd
                return self
            os.close(fd)

    def share(self) -> None:
        """Let others join with ``shared=True``; whoever wants the lock alone is still refused."""
        if fcntl is not None:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __exit__(self, *exc) -> None:
        if self._shared:
            os.close(self._fd)
        elif os.name == "nt":  # an open file cannot be removed there
            os.close(self._fd)
            self.sidecar.unlink(missing_ok=True)
        else:
            self.sidecar.unlink(missing_ok=True)
            os.close(self._fd)
        self._fd = None


def _lock(fd: int, *, shared: bool = False) -> None:
    if fcntl is not None:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    elif not shared:  # there only the first of several writers has it
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
