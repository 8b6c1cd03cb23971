"""Several processes that record into one file: who they are, what each does, how they wait.

Processes started by ``torchrun`` find each other through the key-value store that it runs; nothing
else is needed, because the ranks share bytes of a file and never tensors. Waiting is polling that
store: a collective operation of a process group would hang until its timeout when a rank is gone,
whereas here every rank is told which one has failed. Each rank gives a sign of life twice a second.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist

_BEAT = 0.5  # seconds between signs of life
_SILENCE = 60.0  # seconds without one after which a rank counts as dead
_JOIN = 1800.0  # seconds to wait for a rank that has not begun: it may be loading its model
_POLL = 0.02
_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class RankError(RuntimeError):
    """Another rank has failed, so this one stops; the message names it."""


class Ranks:
    """The processes that record together, seen from one of them; a context manager.

    Leaving it tells the others of an error and closes `kept` once all have left.

    Parameters
    ----------
    rank : int
        Number of this process.
    size : int
        Number of processes.
    store : Store, optional
        Of torch.distributed, where they leave word for each other; None for one process.

    Attributes
    ----------
    kept : ExitStack
        What must last until all ranks are done, such as a lock.
    by_units : bool
        Whether every rank sees all batches and records the units that it holds.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: dist.Store | None = None):
        self.rank, self.size, self._store = rank, size, store
        self.kept = contextlib.ExitStack()
        self.by_units = False
        self._failure: str | None = None
        self._stop = threading.Event()
        self._seen: dict[int, tuple[int, float]] = {}
        self._thread: threading.Thread | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which makes the file and speaks to the user."""
        return self.rank == 0

    def __enter__(self) -> Ranks:
        if self._store is not None:
            now = time.monotonic()
            watched = range(1, self.size) if self.is_first else (0,)
            self._seen = {r: (0, now) for r in watched}
            self._store.add(f"alive/{self.rank}", 1)
            self._thread = threading.Thread(target=self._watch, name="netphys-ranks", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        with self.kept:
            if self._store is None:
                return
            with contextlib.suppress(RuntimeError):  # the store is gone: so is who would listen
                if error is not None and not isinstance(error, RankError):
                    text = str(error).strip() or "interrupted"
                    self._tell(f"rank {self.rank} stopped: {type(error).__name__}: {text}")
                self._store.set(f"left/{self.rank}", "1")
                # the store may be ours, the lock is: the others go first; unless they wait for our
                # slice of a layer, until this process has ended
                if self.is_first and (error is None or not self.by_units):
                    self._wait_until_left()
            self._stop.set()
            self._thread.join()

    def alone(self) -> Ranks:
        """Return this process as one that records by itself.

        Returns
        -------
        ranks : Ranks
            Of size 1; what it keeps lasts as long as here.
        """
        alone = Ranks()
        alone.kept = self.kept
        return alone

    def check(self) -> None:
        """Raise if another rank has failed.

        Raises
        ------
        RankError
            With the name of that rank and what happened to it.
        """
        if self._failure is not None:
            raise RankError(
                f"{self._failure} (this is rank {self.rank} of {self.size}). What is committed is "
                "kept; run again with resume=True."
            )

    def wait(self, name: str) -> None:
        """Return when all ranks have come to this point.

        Parameters
        ----------
        name : str
            Name of the point; each is passed once.

        Raises
        ------
        RankError
            If another rank has failed.
        """
        self.exchange(name, "1")

    def exchange(self, name: str, text: str) -> list[str]:
        """Wait until all ranks have come to this point, and return what each has brought.

        Parameters
        ----------
        name : str
            Name of the point; each is passed once.
        text : str
            What this rank brings.

        Returns
        -------
        texts : list of str
            In order of rank.

        Raises
        ------
        RankError
            If another rank has failed.
        """
        if self._store is None:
            return [text]
        keys = [f"at/{name}/{r}" for r in range(self.size)]
        try:
            self._store.set(keys[self.rank], text)
            while not self._store.check(keys):
                self.check()
                time.sleep(_POLL)
            return [self._store.get(k).decode() for k in keys]
        except dist.DistError as error:
            self._failure = self._failure or _explain_lost(error)
            self.check()
            raise

    def share(self, costs: Sequence[float]) -> range:
        """Return which of consecutive pieces of work this rank does.

        Each rank has one run of them: two runs share at most one page of a series in the file, the
        pages of a run are written in order, and costs even out as well as in turns. No rank goes
        without while another has two.

        Parameters
        ----------
        costs : sequence of float
            Cost of each piece, 0 or more.

        Returns
        -------
        share : range
            Numbers of the pieces; empty for the last ranks if there are more ranks than pieces;
            all where ranks hold units.
        """
        n, size = len(costs), min(self.size, len(costs))
        if self.by_units:
            return range(n)
        if self.rank >= size:
            return range(n, n)
        total = np.cumsum(costs)
        ends = [0]
        for k in range(1, size):
            middle = int(np.searchsorted(total - np.asarray(costs) / 2, total[-1] * k / size))
            ends.append(min(max(middle, ends[-1] + 1), n - size + k))
        ends.append(n)
        return range(ends[self.rank], ends[self.rank + 1])

    def _tell(self, text: str) -> None:
        """Leave word of a failure, unless there is word of an earlier one."""
        if self._store.add("n_failed", 1) == 1:
            self._store.set("failed", text)

    def _wait_until_left(self) -> None:
        while not all(self._store.check([f"left/{r}"]) or self._is_dead(r) for r in self._seen):
            time.sleep(_POLL)

    def _is_dead(self, rank: int) -> bool:
        count, since = self._seen[rank]
        return time.monotonic() - since > (_SILENCE if count or self._failure else _JOIN)

    def _watch(self) -> None:
        """Give signs of life and look for those of others; rank 0 looks at all, they at rank 0."""
        while not self._stop.wait(_BEAT):
            try:
                self._store.add(f"alive/{self.rank}", 1)
                for rank, (before, _) in self._seen.items():
                    count = self._store.add(f"alive/{rank}", 0)
                    if count != before:
                        self._seen[rank] = count, time.monotonic()
                    elif self._is_dead(rank) and not self._store.check([f"left/{rank}"]):
                        self._tell(f"rank {rank} has given no sign of life and must have died")
                if self._store.check(["failed"]):
                    self._failure = self._failure or self._store.get("failed").decode()
            except RuntimeError as error:
                self._failure = self._failure or _explain_lost(error)
                return


def _explain_lost(error: BaseException) -> str:
    return f"the store of rank 0 does not answer, it must have died: {str(error).splitlines()[0]}"


def join_ranks(environment: Mapping[str, str] | None = None) -> Ranks:
    """Find out which processes record together.

    Parameters
    ----------
    environment : dict of str to str, optional
        Where ``torchrun`` says it: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; that of this
        process if left out.

    Returns
    -------
    ranks : Ranks
        One process without these variables.

    Raises
    ------
    ValueError
        If the variables are incomplete or make no sense.
    """
    found = os.environ if environment is None else environment
    if "RANK" not in found and "WORLD_SIZE" not in found:
        return Ranks()
    missing = [n for n in _NAMES if n not in found]
    numbers = [n for n in _NAMES if n in found and n != "MASTER_ADDR" and not found[n].isdigit()]
    if found.get("WORLD_SIZE") == "1" and "RANK" in found and not numbers:
        return Ranks()
    if missing or numbers or int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        given = ", ".join(f"{n}={found[n]}" for n in _NAMES if n in found)
        raise ValueError(
            f"the environment has {given}, which does not describe one of several processes: "
            f"{', '.join(_NAMES)} are needed. Start them with torchrun, or unset these variables."
        )
    rank, size = int(found["RANK"]), int(found["WORLD_SIZE"])
    store = _connect(found["MASTER_ADDR"], int(found["MASTER_PORT"]), rank, size)
    number = store.add(f"netphys/calls/{rank}", 1)  # every rank makes the same calls in one order
    return Ranks(rank, size, dist.PrefixStore(f"netphys/{number}", store))


@functools.cache
def _connect(address: str, port: int, rank: int, size: int) -> dist.Store:
    """Return the store that all ranks see: that of torchrun, or one in rank 0."""
    url = f"tcp://{address}:{port}?rank={rank}&world_size={size}"
    store, *_ = next(dist.rendezvous(url, timeout=timedelta(seconds=_JOIN)))
    return store


def name_part(path: Path, rank: int) -> Path:
    """Return the name of the file that one of several ranks makes.

    Parameters
    ----------
    path : Path
        Name that was given, such as ``a.nwb``.
    rank : int
        Number of the process.

    Returns
    -------
    part : Path
        Such as ``a.rank0.nwb``.
    """
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def get_local_rank() -> int:
    """Return the number of this process on its machine, which picks its card; 0 for one process.

    Returns
    -------
    number : int
        LOCAL_RANK of ``torchrun``.
    """
    number = os.environ.get("LOCAL_RANK", "")
    return int(number) if number.isdigit() else 0
