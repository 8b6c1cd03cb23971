"""How a batch is shown: in one forward pass, or a prompt at once and then token by token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from netphys.recording.capture import Capture
from netphys.recording.prepare import Run
from netphys.recording.rows import SiteShape
from netphys.recording.sites import Site
from netphys.recording.sites.layout import CaptureError, arrange
from netphys.recording.subject import add_tensor


class Take(Protocol):
    """Gets the value of a site for a whole batch, and how many keys attention weights lack."""

    def __call__(self, site: Site, value: torch.Tensor, n_absent: int | None = None) -> None:
        """Take it."""


class Show:
    """Shows a batch in one forward pass.

    Parameters
    ----------
    run : Run
        What is recorded.
    take : callable
        Gets the value of each site.
    """

    def __init__(self, run: Run, take: Take):
        self._run, self._take = run, take

    def take(self, site: Site, value: torch.Tensor) -> None:
        """Receive what passes a site in one forward pass.

        Parameters
        ----------
        site : Site
            Which.
        value : Tensor
            What passed.
        """
        self._take(site, value)

    def show(self, model: Callable, rows: Sequence[int], capture: Capture) -> None:
        """Show a batch.

        Parameters
        ----------
        model : callable
            The model, or what it was compiled to.
        rows : sequence of int
            Trials of the batch.
        capture : Capture
            The hooks; they hand over to `take`.
        """
        args, kwargs = self._run.presentation.make_inputs(rows)
        capture.start()
        model(*args, **kwargs)
        capture.check()


class StepwiseShow(Show):
    """Shows prompts at once and what was generated token by token, with the model's cache.

    The values of all steps are kept until the batch has ended, and handed over as if they came from
    one forward pass.

    Parameters
    ----------
    run : Run
        What is recorded.
    take : callable
        Gets the value of each site.
    """

    def __init__(self, run: Run, take: Take):
        super().__init__(run, take)
        self._shapes = {p.shape.site.name: p.shape for p in run.sites}
        self._parts: dict[str, list[torch.Tensor]] = {}

    def take(self, site: Site, value: torch.Tensor) -> None:
        """Keep what passes a site in one step.

        Parameters
        ----------
        site : Site
            Which.
        value : Tensor
            What passed.
        """
        value = arrange(value, site.axes, sequence=True)
        self._parts.setdefault(site.name, []).append(value.clone())

    def show(self, model: Callable, rows: Sequence[int], capture: Capture) -> None:
        """Show a batch step by step.

        Parameters
        ----------
        model : callable
            The model.
        rows : sequence of int
            Trials of the batch.
        capture : Capture
            The hooks; they hand over to `take`.
        """
        shown = self._run.presentation
        ids = shown.make_inputs(rows)[1]["input_ids"]
        n_prompt, place = int(shown.decoding.n_prompt[rows[0]]), 0
        self._parts.clear()

        def forward(**inputs):
            capture.start()
            output = model(**inputs)
            capture.check()
            return output

        def choose(logits: torch.Tensor) -> torch.Tensor | None:
            nonlocal place
            place += 1
            begin = n_prompt + place - 1
            return ids[:, begin : begin + 1] if begin < ids.shape[1] else None

        digest = step_through(forward, ids[:, :n_prompt], choose)
        if digest != shown.decoding.digests[name_batch(rows)]:
            raise CaptureError(
                "showing the generated tokens again gave other logits than those that they were "
                "drawn from: this device does not repeat itself bit for bit. Set "
                "torch.use_deterministic_algorithms(True), or generate on the CPU."
            )
        sizes = [n_prompt] + [1] * (ids.shape[1] - n_prompt)
        for name in list(self._parts):
            self._hand_over(self._shapes[name], self._parts.pop(name), rows, sizes)

    def _hand_over(
        self, shape: SiteShape, parts: list[torch.Tensor], rows: Sequence[int], sizes: list[int]
    ) -> None:
        """Put the steps of a site together, and hand them over."""
        n_trials, n_absent = len(rows), None
        if shape.site.side == "pattern":
            n_absent = self._count_absent(shape, parts, rows, sizes)
            ends = np.cumsum(sizes)
            parts = [_pad_keys(p, int(e), int(ends[-1])) for p, e in zip(parts, ends, strict=True)]
            self._take(shape.site, torch.cat(parts, dim=2), n_absent)
            return
        if shape.flat:
            parts = [p.reshape(n_trials, -1, *p.shape[1:]) for p in parts]
        for part, n in zip(parts, sizes, strict=True):
            if tuple(part.shape[:2]) != (n_trials, n):
                raise CaptureError(
                    f"site={shape.site.name!r} gives {tuple(part.shape)} for {n_trials} trials x "
                    f"{n} positions while tokens are generated. Choose another module."
                )
        joined = torch.cat(parts, dim=1)
        parts.clear()
        joined = joined.flatten(0, 1) if shape.flat else joined
        self._take(shape.site, arrange(joined, shape.site.axes, sequence=True))

    def _count_absent(
        self, shape: SiteShape, parts: list[torch.Tensor], rows: Sequence[int], sizes: list[int]
    ) -> int:
        """Return how many keys the recorded samples lack, of as many as the file has."""
        keys = np.repeat([p.shape[-1] for p in parts], sizes)
        mask = self._run.presentation.mask(rows)
        n_kept = np.full(len(keys), len(rows)) if mask is None else mask.sum(axis=0)
        return int(((shape.unit_shape[-1] - keys) * n_kept).sum())


def make_show(run: Run, take: Take) -> Show:
    """Return how the batches of a run are shown.

    Parameters
    ----------
    run : Run
        What is recorded.
    take : callable
        Gets the value of each site for a whole batch.

    Returns
    -------
    show : Show
        Its `take` is for the hooks.
    """
    return (Show if run.presentation.decoding is None else StepwiseShow)(run, take)


def step_through(
    forward: Callable, prompt: torch.Tensor, choose: Callable[[torch.Tensor], torch.Tensor | None]
) -> str:
    """Show prompts at once, then one token after the other, with the model's cache.

    Parameters
    ----------
    forward : callable
        The model, by keyword arguments.
    prompt : Tensor of int64, shape (n_trials, n_tokens)
        Token ids.
    choose : callable
        Gets the logits (n_trials, vocabulary) of the last position, returns the tokens
        (n_trials, 1) to show next, or None to end.

    Returns
    -------
    digest : str
        SHA-256 of all logits that `choose` got.

    Raises
    ------
    ValueError
        If the model keeps no cache.
    """
    digest, cache, tokens, seen = hashlib.sha256(), None, prompt, prompt
    while tokens is not None:
        output = forward(
            input_ids=tokens,
            attention_mask=torch.ones_like(seen),  # all is seen: nothing is padded
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        )
        cache = output.past_key_values
        if cache is None:
            raise ValueError(
                "generate: the model gives no cache of keys and values, so it does not read from "
                "left to right. Give a causal language model."
            )
        logits = output.logits[:, -1]
        add_tensor(digest, logits)
        tokens = choose(logits)
        seen = seen if tokens is None else torch.cat([seen, tokens], dim=1)
    return digest.hexdigest()


def name_batch(rows: Sequence[int]) -> str:
    """Return the key of a batch in `Decoding.digests`.

    Parameters
    ----------
    rows : sequence of int
        Its trials.

    Returns
    -------
    name : str
        Their numbers.
    """
    return " ".join(map(str, rows))


def _pad_keys(weights: torch.Tensor, n_seen: int, n_keys: int) -> torch.Tensor:
    """Put attention weights (trial, head, query, key) at their keys; NaN where there is none.

    A cache that forgets (a sliding window) leaves the newest keys.
    """
    before = n_seen - weights.shape[-1]
    return torch.nn.functional.pad(weights, (before, n_keys - n_seen), value=float("nan"))
