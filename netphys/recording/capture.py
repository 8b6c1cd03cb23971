"""Hooks that take what passes each site during a forward pass, and leave the model as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from netphys.recording.compiled import add_receiver, remove_receiver
from netphys.recording.sites import Site
from netphys.recording.sites.layout import CaptureError, unpack


@contextmanager
def hold_still(model: torch.nn.Module, *, eager: bool = False) -> Iterator[None]:
    """Run a model in eval mode without gradients, and put everything back afterwards.

    Parameters
    ----------
    model : Module
        The model.
    eager : bool
        Use eager attention meanwhile: the fused kinds do not return attention weights.

    Yields
    ------
    None
    """
    modes = {module: module.training for module in model.modules()}
    kinds = _find_attention(model) if eager else []
    try:
        for module in model.modules():
            if kinds and hasattr(module, "set_attn_implementation"):
                module.set_attn_implementation("eager")
        model.eval()
        with torch.no_grad():  # inference mode would leave its tensors in a model's caches
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for config, kind in kinds:  # outer ones first: they set the inner ones too
            config._attn_implementation = kind


def _find_attention(model: torch.nn.Module) -> list[tuple[object, str]]:
    """Return every configuration whose attention is not eager, with its kind, outer ones first."""
    found = {}
    for module in model.modules():
        kind = getattr(getattr(module, "config", None), "_attn_implementation", None)
        if kind is not None and hasattr(module, "set_attn_implementation"):
            found.setdefault(id(module.config), (module.config, kind))
    return list(found.values()) if any(k != "eager" for _, k in found.values()) else []


class Capture:
    """Hooks on the sites of a model; a context manager that always removes them.

    Parameters
    ----------
    model : Module
        The model.
    sites : sequence of Site
        Where to record.
    take : callable
        Called as ``take(site, tensor)`` when the value of a site is computed.
    strict : bool
        Raise for a module that gives no tensor to record, instead of passing over it.
    graph : bool
        Set hooks that become part of a graph when the model is compiled.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        sites: Sequence[Site],
        take: Callable[[Site, torch.Tensor], None],
        *,
        strict: bool = True,
        graph: bool = False,
    ):
        self._graph, self._number, self._calls = (
            graph,
            -1,
            torch.zeros(len(sites), dtype=torch.int64),
        )
        self._model, self._sites, self._take, self._strict = model, sites, take, strict
        self._handles: list = []
        self._fired: dict[str, int] = {}
        self._error: BaseException | None = None

    def __enter__(self) -> Capture:
        modules = dict(self._model.named_modules())
        if self._graph:
            self._number = add_receiver(lambda i, value: self._receive(self._sites[i], value))
        try:
            for site in self._sites:
                module = modules[site.module]
                if site.side == "in":
                    hook = module.register_forward_pre_hook(
                        self._make_in(site, module), with_kwargs=True
                    )
                else:
                    hook = module.register_forward_hook(self._make_out(site))
                self._handles.append(hook)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        remove_receiver(self._number)

    def start(self) -> None:
        """Forget the counts of the last forward pass."""
        self._fired = dict.fromkeys((s.name for s in self._sites), 0)
        self._calls.zero_()
        self._error = None

    def check(self) -> None:
        """Raise unless every site gave exactly one value since `start`.

        Raises
        ------
        CaptureError
            With the name of the site and what to do.
        """
        if self._error is not None:  # the model has caught it, we have not
            raise self._error
        if self._graph:
            self._fired = dict(zip(self._fired, self._calls.tolist(), strict=True))
        for name, n in self._fired.items():
            if n == 0:
                raise CaptureError(
                    f"site={name!r} gave nothing in a forward pass: the model does not run this "
                    "module for these stimuli. Leave it out."
                )
            if n > 1:
                raise CaptureError(
                    f"site={name!r} ran {n} times in one forward pass (a shared or recurrent "
                    "module). Choose the module that calls it."
                )

    def _make_out(self, site: Site) -> Callable:
        take = self._make_taker(site, _FINDERS.get(site.side, find_tensor))

        def hook(module, inputs, output):
            take(output)

        return hook

    def _make_in(self, site: Site, module: torch.nn.Module) -> Callable:
        order = list(inspect.signature(module.forward).parameters)
        take = self._make_taker(site, find_tensor)

        def hook(module, inputs, keywords):
            names = [n for n in order if n in keywords]
            rest = [n for n in keywords if n not in names]
            ordered = (*inputs, *(keywords[n] for n in (*names, *rest)))
            take(ordered)

        return hook

    def _make_taker(self, site: Site, find: Callable) -> Callable[[object], None]:
        """Return what a hook does with what passes it."""
        if not self._graph:
            return lambda value: self._hand_over(site, find, value)
        name, calls = site.name, self._calls  # plain values: the compiler follows these lines
        number, place = self._number, self._sites.index(site)

        def take(value: object) -> None:
            torch.ops.netphys.take(find(value, name).detach(), number, place, calls)

        return take

    def _hand_over(self, site: Site, find: Callable, value: object) -> None:
        try:
            tensor = find_local(find(unpack(value, site), site.name).detach(), site.name)
        except CaptureError as error:
            if self._strict:
                self._error = self._error or error
                raise
            return
        self._receive(site, tensor)

    def _receive(self, site: Site, tensor: torch.Tensor) -> None:
        self._fired[site.name] += 1
        if self._fired[site.name] > 1:
            return
        try:
            self._take(site, tensor)
        except BaseException as error:
            self._error = self._error or error
            raise


def find_tensor(value: object, name: str) -> torch.Tensor:
    """Return the first floating-point tensor of what a module takes or gives.

    Parameters
    ----------
    value : tensor, tuple, list or dict
        Input or output of a module.
    name : str
        Site, for the message.

    Returns
    -------
    tensor : Tensor
        The value to record.
    """
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            return value
        raise CaptureError(
            f"site={name!r} holds {value.dtype} values. Record floating-point sites."
        )
    parts = value.values() if hasattr(value, "values") else value
    if isinstance(value, (tuple, list)) or hasattr(value, "values"):
        for part in parts:
            if isinstance(part, torch.Tensor) and part.is_floating_point():
                return part
    raise CaptureError(
        f"site={name!r} holds no floating-point tensor (it is a {type(value).__name__}). "
        "Choose a module inside or around it."
    )


def find_local(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Return what this process holds of a tensor that is distributed over several.

    Parameters
    ----------
    tensor : Tensor
        Plain or distributed.
    name : str
        Site, for the message.

    Returns
    -------
    tensor : Tensor
        Plain: all of it, or a slice along units.

    Raises
    ------
    CaptureError
        If it is divided in another way.
    """
    if not hasattr(tensor, "placements"):
        return tensor
    if all(p.is_replicate() or p.is_shard(tensor.ndim - 1) for p in tensor.placements):
        return tensor.to_local()
    raise CaptureError(
        f"site={name!r} is distributed as {tensor.placements}: neither whole nor a slice of the "
        "units in each process. Choose the module behind it."
    )


def find_pattern(value: object, name: str) -> torch.Tensor:
    """Return the attention weights (batch, head, query, key) that a module gives beside its output.

    Parameters
    ----------
    value : tuple
        Output of an attention module.
    name : str
        Site, for the message.

    Returns
    -------
    weights : Tensor
        The last of what it gives.
    """
    if isinstance(value, (tuple, list)) and value:
        last = value[-1]  # before it T5 gives a position bias of the same shape
        if isinstance(last, torch.Tensor) and last.ndim == 4:
            return last
    raise CaptureError(
        f"site={name!r}: this module gives no attention weights. Use the kind 'pattern', which "
        "finds the modules that do."
    )


def find_experts(value: object, name: str) -> torch.Tensor:
    """Return what a router gives each expert: its weight in the sum, 0 where it is not chosen.

    Parameters
    ----------
    value : tuple
        Output of a router: logits (token, expert), weights (token, rank) and numbers (token, rank)
        of the experts that it chose.
    name : str
        Site, for the message.

    Returns
    -------
    weights : Tensor, shape (n_tokens, n_experts)
        In the type of the router's weights.
    """
    parts = [v for v in value if isinstance(v, torch.Tensor)] if isinstance(value, tuple) else []
    floats = [v for v in parts if v.is_floating_point() and v.ndim == 2]
    chosen = [v for v in parts if v.dtype in (torch.int64, torch.int32) and v.ndim == 2]
    weights = [v for v in floats[1:] if chosen and v.shape == chosen[0].shape]
    if len(chosen) != 1 or len(weights) != 1 or floats[0].shape[0] != chosen[0].shape[0]:
        raise CaptureError(
            f"site={name!r}: this module does not choose among experts. Use the kind 'experts', "
            "which finds the modules that do."
        )
    every = torch.zeros(floats[0].shape, dtype=weights[0].dtype, device=weights[0].device)
    return every.scatter_(1, chosen[0].long(), weights[0])


def find_logits(value: object, name: str) -> torch.Tensor:
    """Return the logits among what a whole model returns.

    Parameters
    ----------
    value : object
        Output of the model.
    name : str
        Site, for the message.

    Returns
    -------
    logits : Tensor
        Its field `logits`.
    """
    logits = getattr(value, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    raise CaptureError(
        f"site={name!r}: this model returns no logits. Record the output of one of its modules."
    )


_FINDERS = {"pattern": find_pattern, "experts": find_experts, "logits": find_logits}
