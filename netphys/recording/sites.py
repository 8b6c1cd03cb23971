"""Sites: where an electrode goes in a model, and the standard kinds that mean the same in each.

A site is ``<module path>`` (the module's output), ``<module path>@in`` (its input) or
``<module path>@pattern`` (the attention weights that an attention module returns beside its
output).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from netphys._check import check_type, suggest
from netphys.data.nwb_layout import check_site_name

KINDS = (
    "embed",
    "resid",
    "attn_out",
    "head",
    "pattern",
    "mlp",
    "mlp_out",
    "conv",
    "logits",
)

# Per model family the place of each kind; {} is the layer. `embed` is what enters the first block,
# `head` the per-head values before the output projection, `mlp` the input of the down projection.
_GPT2 = {
    "embed": "h.0@in",
    "resid": "h.{}",
    "attn_out": "h.{}.attn",
    "head": "h.{}.attn.c_proj@in",
    "pattern": "h.{}.attn@pattern",
    "mlp": "h.{}.mlp.c_proj@in",
    "mlp_out": "h.{}.mlp",
    "logits": "lm_head",
}
_LLAMA = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.self_attn",
    "head": "layers.{}.self_attn.o_proj@in",
    "pattern": "layers.{}.self_attn@pattern",
    "mlp": "layers.{}.mlp.down_proj@in",
    "mlp_out": "layers.{}.mlp",
    "logits": "lm_head",
}
_BERT = {
    "embed": "encoder.layer.0@in",
    "resid": "encoder.layer.{}",
    "attn_out": "encoder.layer.{}.attention.output.dense",
    "head": "encoder.layer.{}.attention.output.dense@in",
    "pattern": "encoder.layer.{}.attention.self@pattern",
    "mlp": "encoder.layer.{}.output.dense@in",
    "mlp_out": "encoder.layer.{}.output.dense",
    "logits": "cls",
}
_T5 = {
    "embed": "encoder.block.0@in",
    "resid": "encoder.block.{}",
    "attn_out": "encoder.block.{}.layer.0.SelfAttention",
    "head": "encoder.block.{}.layer.0.SelfAttention.o@in",
    "pattern": "encoder.block.{}.layer.0.SelfAttention@pattern",
    "mlp": "encoder.block.{}.layer.1.DenseReluDense.wo@in",
    "mlp_out": "encoder.block.{}.layer.1.DenseReluDense",
}
_VIT = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.attention",
    "head": "layers.{}.attention.o_proj@in",
    "pattern": "layers.{}.attention@pattern",
    "mlp": "layers.{}.mlp.fc2@in",
    "mlp_out": "layers.{}.mlp",
    "logits": "classifier",
}
_RESNET = {"embed": "embedder", "resid": "stages.{}.layers.{}", "logits": "classifier"}
_FAMILIES = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "bert": _BERT,
    "t5": _T5,
    "vit": _VIT,
    "resnet": _RESNET,
}
_SIDES = ("in", "pattern", "out")


@dataclass(frozen=True)
class Site:
    """One place to record.

    Parameters
    ----------
    name : str
        Module path, with ``@in`` or ``@pattern`` where it is not the module's output.
    kind : str
        Standard kind, or "module".
    layer : int
        Depth of its block from 0; -1 for what belongs to no block.
    """

    name: str
    kind: str
    layer: int

    @property
    def module(self) -> str:
        """Path of the module."""
        return self.name.partition("@")[0]

    @property
    def side(self) -> str:
        """What of the module is recorded: "out", "in" or "pattern"."""
        return self.name.partition("@")[2] or "out"


def find_sites(model: torch.nn.Module) -> list[Site]:
    """List the standard sites of a model, in order of its modules.

    Parameters
    ----------
    model : Module
        Any model; kinds other than "conv" are known for the families GPT-2, Llama, BERT, T5
        encoder, ViT and ResNet of transformers.

    Returns
    -------
    sites : list of Site
        All kinds that this model has.
    """
    family = _FAMILIES.get(getattr(getattr(model, "config", None), "model_type", None), {})
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    found: list[Site] = []
    for kind, place in family.items():
        path, _, side = place.partition("@")
        rule = re.compile(r"(?:.+\.)?" + re.escape(path).replace(r"\{\}", r"(\d+)"))
        hits = [(name, match) for name in order if (match := rule.fullmatch(name))]
        hits = hits if "{}" in path else hits[:1]  # the outermost module of that name
        for i, (name, match) in enumerate(hits):
            depth = [int(g) for g in match.groups()]
            layer = depth[0] if len(depth) == 1 else i if depth else -1
            found.append(Site(name + (f"@{side}" if side else ""), kind, layer))
    found += [
        Site(name, "conv", i)
        for i, name in enumerate(
            n
            for n, m in model.named_modules()
            if n and isinstance(m, torch.nn.modules.conv._ConvNd)
        )
    ]
    taken: set[str] = set()
    unique = [s for s in found if not (s.name in taken or taken.add(s.name))]
    return sorted(unique, key=lambda s: (order[s.module], _SIDES.index(s.side)))


def select_sites(model: torch.nn.Module, patterns: list[str] | tuple[str, ...] | str) -> list[Site]:
    """Return the sites that kinds, site names or patterns name.

    Parameters
    ----------
    model : Module
        The model.
    patterns : sequence of str
        Kinds ("resid"), module paths ("transformer.h.3.mlp"), or paths with ``*``, never crossing a
        dot; with ``@in`` for a module's input and ``@pattern`` for attention weights.

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
            path, _, side = pattern.partition("@")
            if side not in ("", "in", "pattern"):
                raise ValueError(f"sites: {pattern!r} ends in @{side}. Allowed: @in, @pattern.")
            rule = re.compile(re.escape(path).replace(r"\*", "[^.]*"))
            end = f"@{side}" if side else ""
            names = [n + end for n in modules if rule.fullmatch(n)]
            hits = [known.get(n, Site(n, "module", _guess_layer(n))) for n in names]
        if not hits:
            raise ValueError(_explain_unknown(pattern, standard, modules))
        chosen |= {s.name: s for s in hits}
    for name in chosen:
        check_site_name(name)
    order = {name: i for i, name in enumerate(modules)}
    return sorted(chosen.values(), key=lambda s: (order[s.module], _SIDES.index(s.side)))


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
