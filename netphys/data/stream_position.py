"""A place in a stream of texts, as a session file keeps it."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass

_PACKED = struct.Struct("<qqqq32s")
POSITION = _PACKED.size  # bytes
START = bytes(POSITION)  # packed: nothing is read yet


@dataclass(frozen=True)
class StreamPosition:
    """A place between two batches of a stream, from which it can go on.

    Parameters
    ----------
    n_items : int
        Items of the source before the block that is being shown.
    n_batches : int
        Batches of this block that are done.
    n_read : int
        Items of the source up to the end of the block.
    n_windows : int
        Windows before the block.
    digest : str
        SHA-256 of the first `n_read` items.
    plan : str
        The options that decide which windows share a batch.
    """

    n_items: int = 0
    n_batches: int = 0
    n_read: int = 0
    n_windows: int = 0
    digest: str = ""
    plan: str = ""

    def to_dict(self) -> dict:
        """Return all fields, JSON-ready.

        Returns
        -------
        fields : dict
            ``StreamPosition(**fields)`` makes it again.
        """
        return asdict(self)

    def pack(self) -> bytes:
        """Return all but `plan` as 64 bytes, for a checkpoint.

        Returns
        -------
        data : bytes
            `unpack` takes it.
        """
        counts = self.n_items, self.n_batches, self.n_read, self.n_windows
        return _PACKED.pack(*counts, bytes.fromhex(self.digest))

    @classmethod
    def unpack(cls, data: bytes) -> StreamPosition:
        """Read what `pack` gave.

        Parameters
        ----------
        data : bytes
            64 bytes; zeros are the beginning.

        Returns
        -------
        position : StreamPosition
            Without its `plan`, which is then not compared.
        """
        *counts, digest = _PACKED.unpack(data)
        return cls(*counts, digest.hex() if counts[2] else "")
