"""Parts of merging RDMs over different sets of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netphys._check import check_type
from netphys.analysis.rdm import PAIR, RDM


def name_rdms(rdms: Mapping[str, RDM] | Sequence[RDM], dim: str) -> dict[str, RDM]:
    """Return the RDMs by name, each with the dim along which they are merged."""
    check_type(
        "rdms", rdms, (Mapping, list, tuple), "a mapping of names to RDMs, or a list of RDMs"
    )
    given = isinstance(rdms, Mapping)
    named = {str(k): r for k, r in (rdms.items() if given else enumerate(rdms))}
    if not named:
        raise ValueError("rdms is empty. Give at least one RDM.")
    for name, rdm in named.items():
        check_type(f"rdms[{name!r}]", rdm, RDM, "an RDM")
        if given and dim in rdm.data.dims:
            raise ValueError(
                f"rdms[{name!r}] has the dim {dim!r} already. Give a list of RDMs to keep its "
                "labels, or another dim=."
            )
        if not given and dim not in rdm.extra_dims:
            raise ValueError(
                f"rdms[{name}] has no dim {dim!r}. Give a mapping that names the RDMs: "
                "{'first': rdm, ...}."
            )
    if given:
        return {
            k: RDM(r.data.expand_dims({dim: [k]}, -1), r.stats, None, r.params, r.provenance)
            for k, r in named.items()
        }
    return named


def bring_to(first: RDM, rdm: RDM, name: str, dim: str, labels: list[str]) -> xr.DataArray:
    """Return the data of `rdm` over all labels, in the dims of `first`."""
    for what in ("metric", "units", "steps"):
        have = [
            r.params.get("steps", []) if what == "steps" else r.data.attrs.get(what)
            for r in (first, rdm)
        ]
        if have[0] != have[1]:
            raise ValueError(
                f"rdms[{name!r}] has {what} {have[1]!r}, the first {have[0]!r}. Compute all RDMs "
                "alike, or bring them to one scale and declare it: to_rdm(rdm.data, metric=...)."
            )
    if set(rdm.extra_dims) != set(first.extra_dims):
        raise ValueError(
            f"rdms[{name!r}] has dims {rdm.extra_dims}, the first {first.extra_dims}. Pick one "
            "label of a dim that is not in all: rdm.select(...)."
        )
    picks = {}
    for d in first.extra_dims:
        if d == dim:
            continue
        ours, theirs = (r.data[d].to_numpy().tolist() for r in (first, rdm))
        if set(ours) != set(theirs) or len(ours) != len(theirs):
            odd = sorted(map(str, set(ours) ^ set(theirs)))
            raise ValueError(
                f"rdms[{name!r}] has other labels of {d!r} than the first: {', '.join(odd[:5])}. "
                f"Pick those of all: rdm.select({d}=[...])."
            )
        if d in rdm.data.indexes and d in first.data.indexes:
            picks[d] = ours
    found = rdm.data.sel(picks).transpose(*first.data.dims)
    return found.reindex(dict.fromkeys(PAIR, labels))


def merge_coords(arrays: list[xr.DataArray], dim: str) -> dict[str, object]:
    """Return the coordinates that all arrays share, those along `dim` one after another."""
    coords = {}
    for name, first in arrays[0].coords.items():
        if not all(name in a.coords for a in arrays):
            continue
        if dim in first.dims:
            axis = first.dims.index(dim)
            values = np.concatenate([a[name].to_numpy() for a in arrays], axis=axis)
            coords[name] = (first.dims, values)
        elif all(a[name].equals(first) for a in arrays):
            coords[name] = first.variable
    if dim in coords:
        labels = coords[dim][1].tolist()
        if twice := [v for k, v in enumerate(labels) if v in labels[:k]]:
            raise ValueError(
                f"{dim}={twice[0]!r} occurs in two of the RDMs. Give each its own label: "
                f"rdm.data.assign_coords({dim}=[...])."
            )
    return coords


def merge_params(params: list[Mapping]) -> dict[str, object]:
    """Return what all RDMs have in common; how they were made where that is the same."""
    first = params[0]
    same = {k: v for k, v in first.items() if all(p.get(k) == v for p in params)}
    if "n_trials" in first and all("n_trials" in p for p in params):
        ranges = np.array([p["n_trials"] for p in params])
        same["n_trials"] = [int(ranges[:, 0].min()), int(ranges[:, 1].max())]
    if not {"by", "n_trials"} <= set(same):
        same["source"] = "stored"
    return same
