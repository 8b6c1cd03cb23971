"""Stimuli made ready for one subject: what it sees, what of it is recorded, and when."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from netphys.recording.subject import Subject


@dataclass(frozen=True)
class Decoding:
    """What was generated: the model is shown prompts at once, then token by token.

    Parameters
    ----------
    n_prompt : ndarray of int64, shape (n_trials,)
        Tokens of each prompt; the positions after these are shown one by one.
    digests : dict of str to str
        Per batch (its trials, joined by spaces) the SHA-256 of the logits that tokens were drawn
        from: showing the same tokens again must give the same.
    columns : dict of str to ndarray
        What the trials table says of each trial, in the order of the stimulus table.
    facts : dict
        For the provenance, JSON-ready.
    """

    n_prompt: np.ndarray
    digests: Mapping[str, str]
    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Presentation:
    """Stimuli made ready for one subject.

    Parameters
    ----------
    clock : str
        Clock of the samples: "token", "frame", "image" or "item".
    keys : list
        One per trial; trials with equal keys can share a batch.
    n_shown : ndarray of int
        Positions that the model sees per trial (1 where there is no sequence).
    recorded : list of ndarray of bool, or None
        Which of these are recorded; None = all.
    tables : list of dict of str to ndarray
        Per trial its columns of the samples table, but for trial and position.
    make_inputs : callable
        ``make_inputs(rows)`` returns positional and keyword arguments of the model for a batch.
    rate : float
        Samples per second where they are evenly spaced in time; 1 otherwise.
    decoding : Decoding or None
        Set where tokens were generated; `make_inputs` then gives prompts and these in one.
    """

    clock: str
    keys: list[Hashable]
    n_shown: np.ndarray
    recorded: list[np.ndarray] | None
    tables: list[dict[str, np.ndarray]]
    make_inputs: Callable[[Sequence[int]], tuple[tuple, dict]]
    rate: float = 1.0
    decoding: Decoding | None = None

    @property
    def is_sequence(self) -> bool:
        """Whether a trial has positions in time."""
        return self.clock in ("token", "frame")

    @property
    def n_recorded(self) -> np.ndarray:
        """Samples per trial."""
        if self.recorded is None:
            return self.n_shown
        return np.array([r.sum() for r in self.recorded])

    def compute_hash(self) -> str:
        """Return the SHA-256 of what every trial shows and which of it is recorded.

        Returns
        -------
        digest : str
            64 hexadecimal digits; it tells apart tokenizers that cut the same text differently.
        """
        digest = hashlib.sha256(f"{self.clock} {list(self.keys)}".encode())
        for row, table in enumerate(self.tables):
            digest.update(np.ascontiguousarray(table.get("token_id", np.zeros(0))).tobytes())
            digest.update(b"" if self.recorded is None else self.recorded[row].tobytes())
        return digest.hexdigest()

    def mask(self, rows: Sequence[int]) -> np.ndarray | None:
        """Return which positions of a batch are recorded.

        Parameters
        ----------
        rows : sequence of int
            Trials of the batch.

        Returns
        -------
        mask : ndarray of bool, shape (trial, position), or None
            None if all are recorded.
        """
        if self.recorded is None:
            return None
        mask = np.stack([self.recorded[r] for r in rows])
        return None if mask.all() else mask


def call_input_fn(subject: Subject, items: list) -> tuple[tuple, dict]:
    """Return what a subject's input function makes of the items of a batch.

    Parameters
    ----------
    subject : Subject
        With an input function.
    items : list
        Arrays, token ids or texts.

    Returns
    -------
    args : tuple
        Positional arguments of the model.
    kwargs : dict
        Keyword arguments.

    Raises
    ------
    TypeError
        If the function returns something else.
    """
    made = subject.input_fn(items)
    if isinstance(made, torch.Tensor):
        return (made,), {}
    if isinstance(made, tuple):
        return made, {}
    if hasattr(made, "items"):
        return (), dict(made)
    raise TypeError(
        f"input_fn returned a {type(made).__name__}. Return a tensor, a tuple of positional or a "
        "dict of keyword arguments."
    )


def make_feeder(
    subject: Subject, ready: Callable[[int], np.ndarray | str]
) -> Callable[[Sequence[int]], tuple[tuple, dict]]:
    """Return the function that makes the model's arguments for a batch of arrays.

    Parameters
    ----------
    subject : Subject
        Whose model is fed.
    ready : callable
        Gives the item of one row.

    Returns
    -------
    make_inputs : callable
        For `Presentation`.
    """

    def make_inputs(rows: Sequence[int]) -> tuple[tuple, dict]:
        items = [ready(r) for r in rows]
        if subject.input_fn is not None:
            return call_input_fn(subject, items)
        batch = torch.from_numpy(np.stack(items))
        batch = batch.to(subject.device, subject.dtype if batch.is_floating_point() else None)
        name = subject.input_name
        return ((), {name: batch}) if name else ((batch,), {})

    return make_inputs
