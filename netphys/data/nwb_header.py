"""The user block in front of a session file: what it says, and the check before HDF5 sees the file.

A session is an HDF5 file whose user block (4,096 bytes or a larger power of two) holds a magic
line, the layout version, the byte ranges that a recording fills in, and the SHA-256 of all other
bytes. The HDF5 library can crash on a damaged header, so a reader verifies this block first and
only then opens the file. The ranges that change during a recording (activations, commit bytes,
counters) are not part of the hash; `commit` bytes say which of them can be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

LAYOUT_VERSION = 2
BLOCK = 4096
_MAGIC = b"netphys session\n"
_FIXED = struct.Struct("<16sII32s")  # magic, layout version, length of the JSON, its SHA-256
_CHUNK = 1 << 22
_DAMAGED = "{} has a damaged header. Copy it again from the origin, or record it again."


class SessionFileError(ValueError):
    """A file that is not a readable netphys session; the message says why and what to do."""


@dataclass(frozen=True)
class Header:
    """What the user block says about a session file.

    Parameters
    ----------
    block : int
        Size of the user block.
    file_bytes : int
        Size of the whole file.
    mutable : tuple of (int, int)
        Offset and length in bytes of each range that a recording writes, ascending; of a packed
        file the runs of chunks.
    commit : tuple of (int, int)
        Offset and length of the commit bytes (one byte per planned batch).
    sha256 : str
        Hash of all bytes behind the user block that lie outside `mutable`.
    """

    block: int
    file_bytes: int
    mutable: tuple[tuple[int, int], ...]
    commit: tuple[int, int]
    sha256: str


def compute_block_size(n_ranges: int) -> int:
    """Return the user-block size that holds `n_ranges` ranges: the next power of two from 4,096.

    Parameters
    ----------
    n_ranges : int
        Number of byte ranges that a recording will write.

    Returns
    -------
    size : int
        Bytes.
    """
    need = 512 + 36 * n_ranges  # two numbers of at most 16 digits and their punctuation
    size = BLOCK
    while size < need:
        size *= 2
    return size


def save_header(
    path: Path, block: int, mutable: list[tuple[int, int]], commit: tuple[int, int]
) -> Header:
    """Hash the fixed bytes of a freshly made file and write its user block.

    Parameters
    ----------
    path : Path
        HDF5 file with an empty user block.
    block : int
        Size of that user block in bytes.
    mutable : list of (int, int)
        Offset and length in bytes of the ranges that will be written later.
    commit : (int, int)
        Offset and length of the commit bytes; one of `mutable`.

    Returns
    -------
    header : Header
        What was written.
    """
    ranges = tuple(sorted((int(a), int(n)) for a, n in mutable))
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        at = (int(commit[0]), int(commit[1]))
        header = Header(block, size, ranges, at, _hash(file, block, ranges))
        text = json.dumps(asdict(header), separators=(",", ":")).encode()
        head = _FIXED.pack(_MAGIC, LAYOUT_VERSION, len(text), hashlib.sha256(text).digest())
        file.seek(0)
        file.write((head + text).ljust(block, b"\0"))
        file.flush()
        os.fsync(file.fileno())
    return header


def is_session(path: str | os.PathLike) -> bool:
    """Say whether a file begins as a session does, whether or not it can be read.

    Parameters
    ----------
    path : path-like
        Any path.

    Returns
    -------
    answer : bool
        False also for what is no regular file.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load_header(path: str | os.PathLike) -> Header:
    """Read and verify the user block of a session file, without the HDF5 library.

    Parameters
    ----------
    path : path-like
        Session file.

    Returns
    -------
    header : Header
        The verified content of the user block.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SessionFileError
        If the file is not a session, was cut short, changed or damaged, or has a newer layout.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"path={str(path)!r}: no such file. Give the path of a session.")
    if os.path.isdir(path):
        raise IsADirectoryError(f"path={str(path)!r} is a folder. Give one session file in it.")
    with open(path, "rb") as file:
        header = _parse(path, file)
        size = os.fstat(file.fileno()).st_size
        if size != header.file_bytes:
            raise SessionFileError(
                f"{path} has {size:,} bytes where its header says {header.file_bytes:,}: it was "
                "cut short or appended to. Copy it again from the origin, or record it again."
            )
        rest = header.block - file.tell()
        if rest < 0 or file.read(rest).strip(b"\0"):
            raise SessionFileError(_DAMAGED.format(path))
        if _hash(file, header.block, header.mutable) != header.sha256:
            raise SessionFileError(
                f"{path} was damaged or changed after it was made: the SHA-256 of its tables does "
                "not match its header. Copy it again from the origin, or record it again."
            )
    return header


def load_digest(path: str | os.PathLike) -> bytes:
    """Read the bytes that tell one session file from every other.

    Parameters
    ----------
    path : path-like
        Session file.

    Returns
    -------
    digest : bytes
        The first bytes of the header, with its checksum.
    """
    with open(path, "rb") as file:
        return file.read(_FIXED.size)


def load_commits(path: str | os.PathLike, header: Header) -> bytes:
    """Read the commit bytes: one per planned batch, 1 where the batch is safely on disk.

    Parameters
    ----------
    path : path-like
        Session file.
    header : Header
        Its verified header.

    Returns
    -------
    commits : bytes
        Length = number of planned batches.
    """
    with open(path, "rb") as file:
        file.seek(header.commit[0])
        return file.read(header.commit[1])


def _parse(path, file) -> Header:
    head = file.read(_FIXED.size)
    if len(head) < _FIXED.size or not head.startswith(_MAGIC):
        raise SessionFileError(
            f"{path} is not a netphys session (its first bytes say something else). "
            "Give a file that `netphys record` or `netphys run` made."
        )
    _, version, length, digest = _FIXED.unpack(head)
    if version > LAYOUT_VERSION and length < 1 << 30:
        raise SessionFileError(
            f"{path} has layout version {version}; this netphys reads up to {LAYOUT_VERSION}. "
            "Update netphys: pip install -U netphys."
        )
    text = file.read(length) if length < 1 << 30 else b""
    if hashlib.sha256(text).digest() != digest or version < 1:
        raise SessionFileError(_DAMAGED.format(path))
    try:
        return _check_fields(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SessionFileError(_DAMAGED.format(path)) from error


def _check_fields(fields: dict) -> Header:
    """Return a header, or raise ValueError if no file can be as it says."""
    ranges, (at, n) = [_read_range(r) for r in fields["mutable"]], _read_range(fields["commit"])
    block, size = _read_whole(fields["block"]), _read_whole(fields["file_bytes"])
    end = block
    for offset, length in [r for r in ranges if r[1]]:
        if offset < end:
            raise ValueError("ranges overlap")
        end = offset + length
    inside = BLOCK <= block <= size and end <= size and block <= at and at + n <= size
    if not inside or block & (block - 1) or not isinstance(fields["sha256"], str):
        raise ValueError("ranges outside the file")
    fields |= {"mutable": tuple(ranges), "commit": (at, n)}
    return Header(**fields)


def _read_range(value: object) -> tuple[int, int]:
    offset, length = value
    return _read_whole(offset), _read_whole(length)


def _read_whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no number of bytes")
    return value


def _hash(file, start: int, skip: tuple[tuple[int, int], ...]) -> str:
    """Return the SHA-256 of the file from `start` on, without the ranges in `skip`."""
    digest = hashlib.sha256()
    position, size = start, os.fstat(file.fileno()).st_size
    for offset, length in (*skip, (size, 0)):
        file.seek(position)
        while position < offset:
            piece = file.read(min(_CHUNK, offset - position))
            if not piece:
                break
            digest.update(piece)
            position += len(piece)
        position = max(position, offset + length)
    return digest.hexdigest()
