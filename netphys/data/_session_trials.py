"""A session's samples cut into trials, and pooled over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from netphys.data._pool import pool_samples

if TYPE_CHECKING:
    from netphys.data.session import Session


def cut_trials(session: Session, site: str) -> xr.DataArray:
    """Return one site as (trial, time, unit), NaN-padded."""
    commits = session.commits  # once: the file may be growing
    data = session._get(session._find_one(site), commits)
    clock = data.attrs["clock"]
    table, begin, count = _find_trials(session, data, commits)
    longest = int(count.max(initial=0))
    shape = (len(table), longest, data.sizes["unit"])
    floating = np.issubdtype(data.dtype, np.floating)
    values = np.full(shape, np.nan, data.dtype if floating else np.float32)
    source = data.to_numpy()
    for i, (b, n) in enumerate(zip(begin, count, strict=True)):
        values[i, :n] = source[b : b + n]
    coords = {c: ("trial", table[c].to_numpy()) for c in table.columns}
    coords |= {c: data[c] for c in data.coords if data[c].dims == ("unit",)}
    coords |= {"trial": table["stimulus_index"].to_numpy(), "time": np.arange(longest)}
    attrs = data.attrs | {"time_units": clock}
    dims = ("trial", "time", "unit")
    return xr.DataArray(values, dims=dims, coords=coords, name=data.name, attrs=attrs)


def pool_trials(session: Session, site: str, how: str, units: slice | None) -> xr.DataArray:
    """Return one value per trial and unit."""
    commits = session.commits
    data = session._get(session._find_one(site), commits)
    data = data if units is None else data.isel(unit=units)
    table, begin, count = _find_trials(session, data, commits)
    keep = ~data["special"].to_numpy().astype(bool) if "special" in data.coords else None
    keep = np.ones(data.sizes["sample"], bool) if keep is None else keep
    values = pool_samples(data.to_numpy(), begin, count, keep, how)
    empty = [not keep[b : b + n].any() for b, n in zip(begin, count, strict=True)]
    if any(empty):
        names = ", ".join(map(repr, table["stimulus_id"].to_numpy()[empty][:5]))
        raise ValueError(
            f"{sum(empty)} of {len(table)} trials have no {data.attrs['clock']} but those that "
            f"the tokenizer added: {names}. Leave these stimuli out."
        )
    coords = {c: ("trial", table[c].to_numpy()) for c in table.columns}
    coords |= {c: data[c] for c in data.coords if data[c].dims == ("unit",)}
    coords |= {"trial": table["stimulus_index"].to_numpy(), "site": data.name}
    attrs = data.attrs | {"pool": how}
    return xr.DataArray(values, coords, ("trial", "unit"), name=data.name, attrs=attrs)


def _find_trials(
    session: Session, data: xr.DataArray, commits: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the trials in stimulus order, and where in `data` each begins and how long."""
    clock, table = data.attrs["clock"], session.trial_table
    table = table[commits[table["batch"].to_numpy()]]
    table = table.sort_values("stimulus_index", kind="stable")
    begin = np.searchsorted(data["sample"].to_numpy(), table[f"first_sample_{clock}"])
    return table, begin, table[f"n_samples_{clock}"].to_numpy()
