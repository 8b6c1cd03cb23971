"""Candidates of a match: the layers of all models as rows of pairs, seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from netphys._check import check_type
from netphys.analysis.rsa import RDM

_DIMS = ("layer", "seed")


@dataclass(frozen=True)
class Table:
    """What the candidates are called: one entry per layer of a model."""

    labels: list[str]
    models: list[str]
    sites: list[str]
    seeds: list[int]


@dataclass(frozen=True)
class Rows:
    """Pair vectors, one per seed; those of a candidate stand together."""

    values: np.ndarray  # (n_rows, n_pairs)
    counts: np.ndarray  # rows of each candidate, 0 where it has none

    def average(self, values: np.ndarray) -> np.ndarray:
        """Average (row, ...) over the rows of each candidate; NaN where it has none."""
        some = np.flatnonzero(self.counts)
        counts = self.counts[some]
        sums = np.add.reduceat(values, np.cumsum(counts) - counts, axis=0)
        out = np.full((len(self.counts), *values.shape[1:]), np.nan)
        out[some] = sums / counts.reshape(-1, *[1] * (values.ndim - 1))
        return out


def name_models(models: Mapping[str, RDM] | RDM) -> dict[str, RDM]:
    """Return models by name; a dim `model` becomes one model each."""
    if isinstance(models, RDM):
        subject = models.provenance.get("subject")
        name = subject.get("name") if isinstance(subject, Mapping) else subject
        models = {str(name or "model"): models}
    check_type("models", models, Mapping, "an RDM, or a mapping of names to RDMs")
    if not models:
        raise ValueError("models is empty. Give at least one RDM.")
    named = {}
    for name, rdm in models.items():
        check_type(f"models[{name!r}]", rdm, RDM, "an RDM, such as compute_layer_rdms(session)")
        if "model" in rdm.data.dims:
            each = rdm.data["model"].to_numpy().tolist()
            prefix = f"{name} " if len(models) > 1 else ""
            named |= {f"{prefix}{m}": rdm.select(model=m) for m in each}
        else:
            named[str(name)] = rdm
    for name, rdm in named.items():
        if other := [d for d in rdm.extra_dims if d not in _DIMS]:
            raise ValueError(
                f"models[{name!r}] has the dim {other[0]!r}. A model may have layers and seeds; "
                f"pick one with rdm.select({other[0]}=...)."
            )
    return named


def name_twins(twin: Mapping[str, RDM] | RDM | None, named: Mapping[str, RDM]) -> dict[str, RDM]:
    """Return the twins by the name of their model."""
    if twin is None:
        return {}
    if isinstance(twin, RDM):
        if len(named) > 1:
            raise ValueError(
                f"twin is one RDM for {len(named)} models. Give a mapping: {{'{next(iter(named))}'"
                ": rdm}."
            )
        return {next(iter(named)): twin}
    check_type("twin", twin, Mapping, "an RDM, or a mapping of names of models to RDMs")
    for name, rdm in twin.items():
        check_type(f"twin[{name!r}]", rdm, RDM, "an RDM, such as compute_layer_rdms(session)")
        if name not in named:
            raise ValueError(
                f"twin names {name!r}, which is not one of the models: "
                f"{', '.join(map(repr, named))}."
            )
    return dict(twin)


def stack_models(aligned: Mapping[str, xr.DataArray]) -> tuple[Table, Rows]:
    """Return the candidates of all models and their pairs."""
    labels, models, sites, counts, blocks = [], [], [], [], []
    for name, data in aligned.items():
        found, pairs = _get_pairs(data)
        several = "layer" in data.dims
        prefix = f"{name}: " if len(aligned) > 1 else ""
        labels += [f"{prefix}{site}" for site in found] if several else [name]
        sites += found if several else [found[0] or name]
        models += [name] * len(found)
        counts += [pairs.shape[1]] * len(found)
        blocks.append(pairs.reshape(-1, pairs.shape[-1]))
    return Table(labels, models, sites, counts), Rows(np.concatenate(blocks), np.array(counts))


def stack_twins(aligned: Mapping[str, xr.DataArray], table: Table) -> Rows:
    """Return the pairs of the twins in the order of the candidates."""
    counts = np.zeros(len(table.labels), int)
    blocks = []
    pairs = {name: _get_pairs(data) for name, data in aligned.items()}
    for name, (found, _) in pairs.items():
        own = [s for s, m in zip(table.sites, table.models, strict=True) if m == name]
        if "layer" in aligned[name].dims and set(found) != set(own):
            odd = sorted(set(found) ^ set(own))
            raise ValueError(
                f"twin[{name!r}] has other layers than the model: {', '.join(odd[:6])}. Record the "
                "same sites in both."
            )
        if "layer" not in aligned[name].dims and len(own) > 1:
            raise ValueError(f"twin[{name!r}] has one layer, the model {len(own)}.")
    for i, (model, site) in enumerate(zip(table.models, table.sites, strict=True)):
        if model in pairs:
            found, values = pairs[model]
            rows = values[found.index(site) if len(found) > 1 else 0]
            counts[i] = len(rows)
            blocks.append(rows)
    return Rows(np.concatenate(blocks), counts)


def _get_pairs(data: xr.DataArray) -> tuple[list[str], np.ndarray]:
    """Return the sites of a model and its pairs (layer, seed, pair)."""
    i, j = np.triu_indices(data.sizes["condition"], 1)
    named = "layer" in data.dims or "layer" in data.coords
    data = data.expand_dims([d for d in _DIMS if d not in data.dims])
    pairs = data.transpose(*_DIMS, "condition", "condition_2").to_numpy()[..., i, j]
    return [str(s) for s in data["layer"].to_numpy()] if named else [""], pairs
