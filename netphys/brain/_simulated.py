"""The simulated brain that ships with netphys; data/brains/README.md says how it was made."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr

from netphys.brain._registry import Entry

Read = Callable[[Iterable[str]], dict[str, bytes]]

FILE = "simulated.npz"


def load_responses(entry: Entry, read: Read) -> tuple[xr.Dataset, list[str]]:
    """Return the simulated responses, and which file they came from."""
    with np.load(io.BytesIO(read([FILE])[FILE])) as stored:
        values = stored["responses"].astype(np.float32)
        ids, regions = stored["stimulus_id"], stored["region"]
        layer = str(stored["true_layer"])
    people = [f"p{i + 1:02d}" for i in range(len(values))]
    responses = xr.DataArray(
        values,
        dims=("participant", "region", "trial", "unit"),
        coords={"participant": people, "region": regions, "stimulus_id": ("trial", ids)},
        attrs={"units": "a.u."},
    )
    dataset = responses.to_dataset(name="responses")
    dataset.attrs |= {"true_layer": layer, "true_region": "signal", "excluded": "{}"}
    return dataset, [FILE]
