"""What a network draws at random while it is shown a batch: dropout, reproducible by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from netphys.recording.twins import run_seeded


@contextmanager
def show_variability(
    model: torch.nn.Module, seeds: np.ndarray | None
) -> Iterator[Callable[[Callable[[], object], Sequence[int]], object]]:
    """Switch on the dropout of a model, and put everything back afterwards.

    Parameters
    ----------
    model : Module
        In eval mode.
    seeds : ndarray of int64, shape (n_trials,), or None
        Draw seed of each trial, in the order of the stimulus table; with None nothing is switched
        on and nothing is drawn.

    Yields
    ------
    run : callable
        ``run(function, rows)`` calls a function with torch's generators seeded for these trials;
        the seed depends on all of them and on their order, so the same batch is answered alike and
        an interrupted recording can go on.

    Raises
    ------
    ValueError
        If the model has no dropout with a probability above 0.

    Notes
    -----
    Active are dropout modules, and the dropout that modules of attention, recurrent and other
    layers apply themselves (their own `training` flag). Batch normalisation stays in eval mode;
    whole layers are not dropped.
    """
    if seeds is None:
        yield lambda function, rows: function()
        return
    active = find_dropout(model)
    if not active:
        raise ValueError(
            f"variability 'dropout': {type(model).__name__} has no active dropout (p = 0), so its "
            "answers would not differ. Make the repeats in another way, or give a model with "
            "dropout in its configuration."
        )
    modes = [module.training for module in active]
    try:
        for module in active:
            module.training = True
        yield lambda function, rows: run_seeded(function, join_seeds(seeds[list(rows)]))
    finally:
        for module, mode in zip(active, modes, strict=True):
            module.training = mode


def find_dropout(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules whose `training` flag switches dropout on.

    Parameters
    ----------
    model : Module
        Any model.

    Returns
    -------
    modules : list of Module
        Dropout modules with p > 0, the modules that directly hold one, and those with a number
        of their own that is called dropout; not those that would also drop whole layers.
    """
    return [module for module in model.modules() if _drops(module) and not _drops_layers(module)]


def _drops(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    held = any(
        isinstance(child, torch.nn.modules.dropout._DropoutNd) and child.p > 0
        for child in module.children()
    )
    own = any(
        isinstance(value, float) and 0 < value <= 1 and ("dropout" in name or "pdrop" in name)
        for name, value in vars(module).items()
    )
    return held or own


def _drops_layers(module: torch.nn.Module) -> bool:
    """Whether training mode would skip whole layers: the module's own flag then stays off."""
    config = getattr(module, "config", None)
    holders = (module, config) if any(_is_stack(c) for c in module.children()) else (module,)
    names = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
    return any((getattr(h, n, 0) or 0) > 0 for h in holders for n in names)


def _is_stack(module: torch.nn.Module) -> bool:
    return isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential))


def join_seeds(seeds: Sequence[int]) -> int:
    """Return one seed for a batch of trials.

    Parameters
    ----------
    seeds : sequence of int
        Draw seeds of its trials, in order.

    Returns
    -------
    seed : int
        From 0 to 2**63 - 1: the beginning of the SHA-256 of all of them.
    """
    text = " ".join(str(int(s)) for s in seeds)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def find_draw_seeds(table: pd.DataFrame, kind: str) -> np.ndarray | None:
    """Return the draw seeds of stimuli that vary in one way.

    Parameters
    ----------
    table : DataFrame
        Of the stimuli.
    kind : str
        "dropout" or "sampling".

    Returns
    -------
    seeds : ndarray of int64, shape (n_trials,), or None
        None where the stimuli do not vary in this way.

    Raises
    ------
    ValueError
        If only some trials do, or the seeds are missing.
    """
    if "variability" not in table or not (table["variability"] == kind).any():
        return None
    if (table["variability"] != kind).any():
        other = next(v for v in table["variability"] if v != kind)
        raise ValueError(
            f"variability is {kind!r} for some trials and {other!r} for others. Record them in two "
            "sessions."
        )
    seeds = table.get("draw_seed")
    if seeds is None or seeds.dtype.kind not in "iu":
        raise ValueError(
            f"variability={kind!r} needs a column draw_seed of whole numbers. Make the repeats "
            f"with make_repeats(stimuli, kind={kind!r}, n=)."
        )
    return seeds.to_numpy(np.int64)
