"""What passes the sites during one batch: handed to the taps, counted, checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from netphys.data.nwb_layout import COUNT_NAMES
from netphys.data.online_state import Checkpoint
from netphys.recording import kernels
from netphys.recording.passes import Batch, Tap
from netphys.recording.prepare import Run
from netphys.recording.sites import Site
from netphys.recording.slices import SliceWriter
from netphys.recording.statistics import Tally
from netphys.recording.writer import Writer


class Receiver:
    """Hands what passes each site to its tap, and keeps the logits that are scored.

    Parameters
    ----------
    run : Run
        What is recorded.
    writer : Writer or SliceWriter
        Where it goes.
    tally : Tally
        Online statistics.
    """

    def __init__(self, run: Run, writer: Writer | SliceWriter, tally: Tally):
        workspace = kernels.Workspace()
        self._run = run
        self._taps = {p.shape.site.name: Tap(p, writer, workspace, tally) for p in run.sites}
        self._scored = None if run.scoring is None else run.scoring.site.name
        self._counts: dict[str, torch.Tensor] = {}
        self._logits: list[torch.Tensor] = []
        self._batch: Batch | None = None

    def start(self, batch: Batch) -> None:
        """Say which batch is shown next.

        Parameters
        ----------
        batch : Batch
            The batch.
        """
        self._batch = batch

    def take(self, site: Site, value: torch.Tensor, n_absent: int | None = None) -> None:
        """Receive what passed a site.

        Parameters
        ----------
        site : Site
            Which.
        value : Tensor
            What passed.
        n_absent : int, optional
            Keys that attention weights lack, see `Tap.take`.
        """
        if site.name == self._scored:
            self._logits.append(value)
        if site.name in self._taps:
            self._counts[site.name] = self._taps[site.name].take(value, self._batch, n_absent)

    def pop_logits(self) -> torch.Tensor:
        """Return the logits of the batch, and forget them.

        Returns
        -------
        logits : Tensor, shape (n_trials, n_positions, n_vocabulary)
            As the model gave them.
        """
        return self._logits.pop()

    def end(self, name: Callable[[], str]) -> np.ndarray:
        """Return the counters of the batch, or refuse values that are not finite.

        Parameters
        ----------
        name : callable
            Says what was shown, for the message.

        Returns
        -------
        counts : ndarray of int64, shape (n_series, n_counters)
            Of every series, in their order.

        Raises
        ------
        ValueError
            If a value is NaN or infinite and the run does not keep such values.
        """
        found = {n: self._counts.pop(n).cpu().numpy() for n in list(self._counts)}
        for site, values in found.items():
            if self._run.nonfinite == "raise" and len(values) and values[0, 0]:
                raise ValueError(
                    f"site={site!r} gave {values[0, 0]} NaN or infinite values for {name()}. Check "
                    "the model or its type (float16 overflows at 65,504), or store them with "
                    "nonfinite='keep'."
                )
        parts = [found[p.shape.site.name] for p in self._run.sites]
        if self._run.scoring is not None and self._run.scoring.series is not None:
            parts.append(np.zeros((1, len(COUNT_NAMES)), np.int64))  # NaN: a word with no context
        return np.concatenate(parts) if parts else np.zeros((0, len(COUNT_NAMES)), np.int64)


def make_tally(run: Run, checkpoint: Checkpoint | None, *, plain: bool) -> Tally:
    """Return the online statistics of a run, as they begin or go on.

    Parameters
    ----------
    run : Run
        What is recorded.
    checkpoint : Checkpoint or None
        States of an interrupted run.
    plain : bool
        Whether no sample is a token that the tokenizer added.

    Returns
    -------
    tally : Tally
        Kept where the values of each site arise.
    """
    devices = {p.shape.site.name: p.shape.device for p in run.sites}
    if run.scoring is not None:
        devices.setdefault(run.scoring.site.name, torch.device("cpu"))
    return Tally(run.tasks, devices, checkpoint, fusable=run.nonfinite == "raise" and plain)
