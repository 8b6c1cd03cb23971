"""The live view of a recording: how far, how fast, how many bytes, how long it waited."""

from __future__ import annotations

import logging
import time

from tqdm.auto import tqdm

from netphys.recording.slices import SliceWriter
from netphys.recording.writer import Writer

_log = logging.getLogger(__name__)
_MUCH = 0.1  # part of the time that waiting for the disk may take before it is said
_LONG = 1.0  # seconds of it, too


class Progress:
    """A progress bar with samples per second, megabytes and the time lost to a slow disk.

    Use it as a context manager.

    Parameters
    ----------
    writer : Writer or SliceWriter
        Knows bytes and waiting times.
    name : str
        What is recorded.
    clock : str
        What a sample is: "token", "image", ...
    total : int or None
        Trials; None if nobody knows.
    initial : int
        Trials that are done.
    unit : str
        What is counted.
    n_ranks : int
        Processes that record into the file, of which this is the first.
    shown : bool
        Whether anything is shown; what a slow disk costs is logged in any case.
    """

    def __init__(
        self,
        writer: Writer | SliceWriter,
        name: str,
        clock: str,
        *,
        total: int | None,
        initial: int = 0,
        unit: str = "trial",
        n_ranks: int,
        shown: bool,
    ):
        self._writer, self._name, self._clock = writer, name, clock
        self._began, self._n_samples = time.monotonic(), 0
        desc = name if n_ranks == 1 else f"{name} (first of {n_ranks} ranks)"
        options = {"total": total, "initial": initial, "desc": desc, "unit": unit}
        self._bar = tqdm(**options, disable=not shown)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
        seconds, stalled = time.monotonic() - self._began, self._writer.stall_seconds
        if stalled > max(_LONG, _MUCH * seconds):
            _log.warning(
                "%s: the model waited %.1f of %.1f s for the disk. A faster disk, or storing less "
                "(fewer sites, dtype='float16', words instead of samples), would shorten it.",
                self._name,
                stalled,
                seconds,
            )

    def update(self, n_trials: int, n_samples: int) -> None:
        """Show that a batch is done.

        Parameters
        ----------
        n_trials : int
            Its trials.
        n_samples : int
            Its samples.
        """
        self._n_samples += n_samples
        if self._bar.disable:
            return
        rate = self._n_samples / max(time.monotonic() - self._began, 1e-9)
        self._bar.set_postfix_str(
            f"{rate:,.0f} {self._clock}s/s, {self._writer.n_bytes / 1e6:,.0f} MB, "
            f"stall {self._writer.stall_seconds:.1f} s",
            refresh=False,
        )
        self._bar.update(n_trials)
