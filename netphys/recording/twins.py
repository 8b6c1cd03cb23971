"""Untrained twins: the same architecture with weights that learned nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def run_seeded(function: Callable[[], T], seed: int) -> T:
    """Call a function with torch's generators seeded, and put their state back afterwards.

    Parameters
    ----------
    function : callable
        Takes nothing.
    seed : int
        Seed.

    Returns
    -------
    result
        What the function returns.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return function()


def make_random(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Copy a module and draw all its weights anew, as at the start of training.

    Parameters
    ----------
    module : Module
        A transformers model, or a module whose parts say how they start (``reset_parameters``, as
        the layers of torch do).
    seed : int
        Seed of the draw.

    Returns
    -------
    twin : Module
        The module given is not changed.

    Raises
    ------
    ValueError
        If a part does not say how it starts.
    """
    if hasattr(module, "init_weights") and hasattr(module, "config"):  # of transformers
        tensor = next(module.parameters())
        twin = run_seeded(lambda: type(module)(copy.deepcopy(module.config)), seed)
        return twin.to(device=tensor.device, dtype=tensor.dtype).train(module.training)
    for name, part in module.named_modules():
        if list(part.parameters(recurse=False)) and _find_reset(part) is None:
            raise ValueError(
                f"init='random': module {name or type(part).__name__!r} has no reset_parameters(). "
                "Add that method, or use init='shuffled'."
            )
    twin = copy.deepcopy(module)

    def reset() -> None:
        for part in twin.modules():
            if (start := _find_reset(part)) is not None:
                start()

    run_seeded(reset, seed)
    return twin


def _find_reset(part: torch.nn.Module) -> Callable[[], None] | None:
    """Return the method that draws a module's weights anew; attention hides it by an underscore."""
    return getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)


def make_shuffled(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Copy a module and permute the entries of each weight tensor within itself.

    The distribution of the values of every tensor stays, their arrangement goes. Buffers, such as
    the running statistics of batch normalisation, stay as they are.

    Parameters
    ----------
    module : Module
        Any module; tied weights stay tied.
    seed : int
        Seed of the permutations.

    Returns
    -------
    twin : Module
        The module given is not changed.
    """
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return twin
