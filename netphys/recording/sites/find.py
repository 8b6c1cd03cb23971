"""Find the sites of a model: the standard kinds, and whatever a module path or pattern names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from netphys._check import check_type, suggest
from netphys.data.nwb_layout import check_site_name
from netphys.recording.sites.families import FAMILIES, KINDS, TOWERS
from netphys.recording.sites.layout import find_axes

_SIDES = ("in", "pattern", "experts", "out", "logits")


@dataclass(frozen=True)
class Site:
    """One place to record.

    Parameters
    ----------
    name : str
        Module path, with ``@in``, ``@pattern`` or ``@experts`` where it is not the module's output;
        ``@logits`` for what the whole model returns as logits.
    kind : str
        Standard kind, or "module".
    layer : int
        Depth of its block from 0; -1 for what belongs to no block.
    axes : str
        How the value is laid out where it is not trial, position, unit: "time first",
        "channel first" (of a convolution over time), "patch" or "position" (of one of two towers).
    """

    name: str
    kind: str
    layer: int
    axes: str = ""

    @property
    def module(self) -> str:
        """Path of the module; empty for the model itself."""
        return self.name.partition("@")[0]

    @property
    def side(self) -> str:
        """What of the module is recorded: "out", "in", "pattern", "experts" or "logits"."""
        return self.name.partition("@")[2] or "out"


def find_sites(model: torch.nn.Module) -> list[Site]:
    """List the standard sites of a model, in order of its modules.

    Parameters
    ----------
    model : Module
        Any model. All kinds are known for the families of transformers in `FAMILIES`; of every
        other model its convolutions ("conv") and recurrent layers ("resid", and "embed" for what
        enters the first).

    Returns
    -------
    sites : list of Site
        All kinds that this model has.
    """
    config = getattr(model, "config", None)
    family = FAMILIES.get(getattr(config, "model_type", None))
    modules = dict(model.named_modules())
    if family is None:
        found = list(_find_recurrent(modules))
        allowed = None
    else:
        towers = [f"{t}." for t in find_towers(model)] or [""]
        found = [
            site
            for tower in towers
            for kind, places in family.items()
            if kind != "conv"
            for site in _find_kind(kind, places, tower, list(modules))
        ]
        allowed = None
        if "conv" in family:
            allowed = {s.name for s in _find_kind("conv", family["conv"], "", list(modules))}
        if getattr(config, "final_logit_softcapping", None):  # comes after the head
            found = [Site("@logits", "logits", -1) if s.kind == "logits" else s for s in found]
    convolutions = [
        n for n, m in modules.items() if n and isinstance(m, torch.nn.modules.conv._ConvNd)
    ]
    found += [
        Site(name, "conv", i)
        for i, name in enumerate(convolutions)
        if allowed is None or name in allowed
    ]
    unique = {s.name: s for s in reversed(found)}
    return _finish(model, unique.values())


def find_towers(model: torch.nn.Module) -> dict[str, str]:
    """Return the towers of a model that sees several kinds of stimuli at once.

    Parameters
    ----------
    model : Module
        The model.

    Returns
    -------
    towers : dict of str to str
        By the name of its module, what a sample has beside units: "position" or "patch"; empty for
        every other model.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    there = dict(model.named_children())
    towers = {name: axes for name, axes in TOWERS.get(kind, {}).items() if name in there}
    return towers if len(towers) > 1 else {}


def _find_kind(
    kind: str, places: str | tuple[str, ...], tower: str, modules: list[str]
) -> list[Site]:
    """Return the sites of one kind: at the first of its places that the model has."""
    for place in (places,) if isinstance(places, str) else places:
        path, _, side = place.partition("@")
        pattern = re.escape(tower + path).replace(r"\{\}", r"(\d+)").replace(r"\{\-1\}", r"(\d+)")
        rule = re.compile(r"(?:.+\.)?" + pattern)
        hits = [(name, match) for name in modules if (match := rule.fullmatch(name))]
        if "{}" not in path:  # the last one, or the outermost module of that name
            hits = hits[-1:] if "{-1}" in path else hits[:1]
        found = []
        for i, (name, match) in enumerate(hits):
            depth = [int(g) for g in match.groups()]
            layer = depth[0] if len(depth) == 1 else i if depth else -1
            found.append(Site(name + (f"@{side}" if side else ""), kind, layer))
        if found:
            return found
    return []


def _find_recurrent(modules: dict[str, torch.nn.Module]) -> Iterator[Site]:
    """Yield the recurrent layers of a model of one's own: each is a block."""
    names = [n for n, m in modules.items() if n and isinstance(m, torch.nn.RNNBase)]
    if names:
        yield Site(f"{names[0]}@in", "embed", -1)
    yield from (Site(name, "resid", i) for i, name in enumerate(names))


def _finish(model: torch.nn.Module, sites) -> list[Site]:
    """Return sites in the order of the model's modules, with the layout of their values."""
    modules = dict(model.named_modules())
    order = {name: i for i, name in enumerate(modules)} | {"": len(modules)}
    towers = find_towers(model)
    done = [
        Site(s.name, s.kind, s.layer, find_axes(modules[s.module], s.module, towers)) for s in sites
    ]
    return sorted(done, key=lambda s: (order[s.module], _SIDES.index(s.side)))


def select_sites(model: torch.nn.Module, patterns: list[str] | tuple[str, ...] | str) -> list[Site]:
    """Return the sites that kinds, site names or patterns name.

    Parameters
    ----------
    model : Module
        The model.
    patterns : sequence of str
        Kinds ("resid"), module paths ("transformer.h.3.mlp"), or paths with ``*``, never crossing a
        dot; with ``@in`` for a module's input, ``@pattern`` for attention weights, ``@experts`` for
        what a router gives each expert; ``@logits`` for the logits of the whole model.

    Returns
    -------
    sites : list of Site
        Without repeats, in the order of the model's modules.

    Raises
    ------
    ValueError
        If a pattern names nothing in this model; the message has the nearest names.
    """
    check_type("sites", patterns, (str, list, tuple), "kinds or module paths")
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise ValueError("sites=[] names nothing. Give kinds such as 'resid', or module paths.")
    standard = find_sites(model)
    known = {s.name: s for s in standard}
    modules = [name for name, _ in model.named_modules() if name]
    chosen: dict[str, Site] = {}
    for pattern in patterns:
        check_type("sites", pattern, str, "names (str)")
        hits = [s for s in standard if s.kind == pattern and pattern not in modules]
        if not hits:
            hits = [
                known.get(name, Site(name, "module", _guess_layer(name)))
                for name in _match_modules(pattern, modules)
            ]
        if not hits:
            raise ValueError(_explain_unknown(pattern, standard, modules))
        chosen |= {s.name: s for s in hits}
    for name in chosen:
        check_site_name(name)
    return _finish(model, chosen.values())


def _match_modules(pattern: str, modules: list[str]) -> list[str]:
    """Return the names of the sites that a path, maybe with ``*``, means."""
    path, _, side = pattern.partition("@")
    if side not in ("", "in", "pattern", "experts", "logits") or (path and side == "logits"):
        raise ValueError(
            f"sites: {pattern!r} ends in @{side}. Allowed: @in, @pattern, @experts; or '@logits' "
            "alone."
        )
    if side == "logits":
        return [pattern]
    rule = re.compile(re.escape(path).replace(r"\*", "[^.]*"))
    return [n + (f"@{side}" if side else "") for n in modules if rule.fullmatch(n)]


def _guess_layer(name: str) -> int:
    """Return the first number in a module path as its depth; -1 if it has none."""
    number = re.search(r"(?:^|\.)(\d+)(?=[.@]|$)", name)
    return int(number[1]) if number else -1


def _explain_unknown(pattern: str, standard: list[Site], modules: list[str]) -> str:
    kinds = list(dict.fromkeys(s.kind for s in standard))
    if pattern in KINDS:
        return (
            f"sites: the kind {pattern!r} is not known for this model"
            + (f" (known: {', '.join(kinds)})" if kinds else "")
            + ". Name module paths instead; subject.sites(all_modules=True) lists them."
        )
    near = suggest(pattern, [*kinds, *(s.name for s in standard), *modules])
    return (
        f"sites: {pattern!r} names no module of this model.{near} "
        f"Kinds here: {', '.join(kinds) or 'none'}; '*' stands for one part of a path; "
        "subject.sites(all_modules=True) lists every module."
    )
