"""Recording a model under torch.compile: hooks that stay inside one graph.

A hook that was set before the model is compiled becomes part of the graph. What it does there is
one custom operator, which the compiler keeps as it is and calls at every run with the activation;
it counts its calls in a tensor, so that a site that silently gives nothing is found out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping

import torch

_numbers = itertools.count()
_receivers: dict[int, Callable[[int, torch.Tensor], None]] = {}


@torch.library.custom_op("netphys::take", mutates_args=("fired",))
def take(value: torch.Tensor, receiver: int, site: int, fired: torch.Tensor) -> None:
    """Hand an activation to whoever records.

    Parameters
    ----------
    value : Tensor
        What passed the site.
    receiver : int
        Number that `add_receiver` gave.
    site : int
        Number of the site.
    fired : Tensor of int64, shape (n_sites,)
        Counts calls; changed in place.
    """
    fired[site] += 1
    _receivers[receiver](site, value)


@take.register_fake
def _(value: torch.Tensor, receiver: int, site: int, fired: torch.Tensor) -> None:
    """While a graph is traced nothing is taken."""


def add_receiver(function: Callable[[int, torch.Tensor], None]) -> int:
    """Register who gets what the operator takes.

    Parameters
    ----------
    function : callable
        Called as ``function(site_number, tensor)``.

    Returns
    -------
    number : int
        For the operator, and for `remove_receiver`.
    """
    number = next(_numbers)
    _receivers[number] = function
    return number


def remove_receiver(number: int) -> None:
    """Forget a receiver.

    Parameters
    ----------
    number : int
        From `add_receiver`.
    """
    _receivers.pop(number, None)


def check_not_compiled(model: torch.nn.Module) -> None:
    """Refuse a model that is compiled already: hooks set now would silently never run.

    Parameters
    ----------
    model : Module
        The model.

    Raises
    ------
    ValueError
        With the compiled part, and what to do.
    """
    for name, module in model.named_modules():
        wrapped = isinstance(module, torch._dynamo.OptimizedModule)
        if wrapped or getattr(module, "_compiled_call_impl", None) is not None:
            where = f"its module {name!r}" if name else type(model).__name__
            raise ValueError(
                f"{where} is compiled already, and hooks that are set after that never run. Give "
                "the model as it was before (model._orig_mod of what torch.compile returned), and "
                "let record(..., compile=True) compile it."
            )


def compile_model(
    model: torch.nn.Module, options: bool | Mapping[str, object]
) -> Callable[..., object]:
    """Return the model as it is called during a recording: compiled as one graph, or plain.

    Parameters
    ----------
    model : Module
        With hooks set.
    options : bool or dict
        False: plain; True, or options of ``torch.compile`` such as ``{"backend": ...}``.

    Returns
    -------
    call : callable
        In place of the model.

    Raises
    ------
    ValueError
        If the options ask for CUDA graphs, whose replays run no hooks; when it is called, if the
        model cannot be compiled as one graph, or needs too many of them.
    """
    if options is False:
        return model
    given = {} if options is True else dict(options)
    if given.get("mode") in ("reduce-overhead", "max-autotune"):
        raise ValueError(
            f"compile: mode={given['mode']!r} uses CUDA graphs, and their replays record nothing. "
            "Leave mode out, or use 'max-autotune-no-cudagraphs'."
        )
    # graphs of earlier recordings of a model count towards the limit, and none fits these hooks
    torch._dynamo.reset()
    compiled = torch.compile(model, **{"fullgraph": True, **given})

    @functools.wraps(model.forward)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return compiled(*args, **kwargs)
        except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
            raise ValueError(_explain(error, type(model).__name__)) from error

    return call


def _explain(error: Exception, name: str) -> str:
    """Return why a model is not one graph, and what to do."""
    if isinstance(error, torch._dynamo.exc.FailOnRecompileLimitHit):
        return (
            f"compile: {name} needed more than {torch._dynamo.config.recompile_limit} graphs, one "
            "for each shape that it is shown. Give compile={'dynamic': True}, stimuli of fewer "
            "different lengths, or compile=False."
        )
    why = str(error).strip().splitlines()[0].rstrip(".")
    return f"compile: {name} cannot be made one graph ({why}). Record it with compile=False."
