"""What is evaluated: fixed candidates, fitted mixtures, and untrained twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._candidates import Rows, name_models, name_twins, stack_models
from netphys.analysis._scoring import Mixture
from netphys.analysis.rdm import RDM
from netphys.core.compare.flexible import RULES

UNTRAINED = " (untrained)"  # ends the names of twins


@dataclass
class Entries:
    """Models by what is done with them; `stack` fills in the rows of their pairs."""

    rdms: dict[str, RDM]
    names: dict[str, str]  # of the models, by the names of `rdms`
    rules: dict[str, str]
    labels: list[str] = field(default_factory=list)
    coords: dict[str, object] = field(default_factory=dict)
    fixed: Rows | None = None
    components: np.ndarray | None = None
    mixtures: list[Mixture] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    def stack(self, aligned: Mapping[str, xr.DataArray]) -> None:
        """Take in the RDMs over the same conditions."""
        fixed = {n: aligned[k] for k, n in self.names.items() if n not in self.rules}
        mixed = {n: aligned[k] for k, n in self.names.items() if n in self.rules}
        n_pairs = aligned["data"].sizes["condition"]
        n_pairs = n_pairs * (n_pairs - 1) // 2
        sites = []
        self.fixed = Rows(np.zeros((0, n_pairs)), np.zeros(0, int))
        if fixed:
            table, self.fixed = stack_models(fixed)
            alone = {m: table.models.count(m) == 1 for m in table.models}
            self.labels = [
                m if alone[m] else f"{m}: {s}"
                for m, s in zip(table.models, table.sites, strict=True)
            ]
            self.owners, sites = list(table.models), list(table.sites)
        blocks, start = [], 0
        for name, data in mixed.items():
            _, rows = stack_models({name: data})
            if rows.counts.max() > 1:
                raise ValueError(
                    f"flexible names {name!r}, which has {rows.counts.max()} seeds. Fit one of "
                    "them: rdm.select(seed=...)."
                )
            if len(rows.values) < 2:
                raise ValueError(
                    f"flexible names {name!r}, which has one RDM: there is nothing to fit. Give it "
                    "a dim 'layer'."
                )
            dead = ~np.isfinite(rows.values).all(axis=1) | (np.ptp(rows.values, axis=1) == 0)
            if dead.any():
                raise ValueError(
                    f"flexible names {name!r}, of which {int(dead.sum())} layers are constant or "
                    "missing. Leave them out: rdm.select(layer=[...])."
                )
            index = np.arange(start, start + len(rows.values))
            self.mixtures.append(Mixture(index, self.rules[name]))
            blocks.append(rows.values)
            start += len(rows.values)
            self.labels.append(name)
            self.owners.append(name)
            sites.append(self.rules[name])
        self.components = np.concatenate(blocks) if blocks else np.zeros((0, n_pairs))
        seeds = [*self.fixed.counts.tolist(), *[1] * len(self.mixtures)]
        self.coords = {
            "model": self.labels,
            "network": ("model", self.owners),
            "site": ("model", sites),
            "seed_n": ("model", seeds),
        }

    @property
    def seeds(self) -> list[int]:
        """Numbers of seeds of the candidates that have several."""
        return [int(n) for n in self.fixed.counts if n > 1]

    def measure_seeds(self, each: np.ndarray) -> np.ndarray:
        """Return the covariance of entries over their seeds, from the mean score of each row.

        Candidates of one network have their seeds in common.
        """
        n = len(self.labels)
        out = np.zeros((n, n))
        starts = np.cumsum(self.fixed.counts) - self.fixed.counts
        runs = [each[s : s + c] for s, c in zip(starts, self.fixed.counts, strict=True)]
        for i, a in enumerate(runs):
            for j, b in enumerate(runs):
                if len(a) > 1 and len(a) == len(b) and self.owners[i] == self.owners[j]:
                    out[i, j] = np.cov(a, b)[0, 1] / len(a)
        return out


def make_entries(
    models: Mapping[str, RDM] | RDM,
    twin: Mapping[str, RDM] | RDM | None,
    flexible: Mapping[str, str] | None,
) -> Entries:
    """Name what is to be evaluated, and check that the options fit the models."""
    named = name_models(models)
    rules = dict(flexible or {})
    check_type("flexible", flexible or {}, Mapping, "a mapping of names of models to rules")
    for name, rule in rules.items():
        check_option("flexible", name, named)
        check_option(f"flexible[{name!r}]", rule, RULES)
    twins = name_twins(twin, named)
    rdms = {f"models[{k!r}]": v for k, v in named.items()}
    names = {f"models[{k!r}]": k for k in named}
    for name, rdm in twins.items():
        rdms[f"twin[{name!r}]"] = rdm
        names[f"twin[{name!r}]"] = name + UNTRAINED
        if name in rules:
            rules[name + UNTRAINED] = rules[name]
    return Entries(rdms, names, rules)
