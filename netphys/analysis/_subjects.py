"""RDMs of labels in subjects, as identification takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from netphys._check import check_option
from netphys.analysis._align import align_rdms
from netphys.analysis.rdm import PAIR, RDM


def check_subjects(rdm: RDM, across: str, label: str, needed: int, why: str) -> None:
    """Raise unless both dims are there, with enough subjects and at least two labels."""
    for name, value in (("across", across), ("label", label)):
        check_option(name, value, rdm.extra_dims, "Stack the RDMs of subjects and labels first.")
    if across == label:
        raise ValueError(f"across and label are both {across!r}. Name two dims.")
    n_subjects, n_labels = rdm.data.sizes[across], rdm.data.sizes[label]
    if n_labels < 2:
        raise ValueError(f"rdm has {n_labels} {label}. At least two are needed to tell apart.")
    if n_subjects < needed:
        raise ValueError(f"rdm has {n_subjects} {across}s. At least {needed} {why}")


def stack_subjects(rdm: RDM, dims: Sequence[str]) -> tuple[xr.DataArray, np.ndarray]:
    """Return matrices (*dims, condition, condition_2) and their pairs; refuse unknown ones."""
    data = align_rdms({"rdm": rdm})[0]["rdm"].transpose(*dims, *PAIR)
    pairs = data.to_numpy()[..., *np.triu_indices(data.sizes["condition"], 1)]
    if unknown := int(np.isnan(pairs).any(axis=-1).sum()):
        across, label = dims[-2:]
        raise ValueError(
            f"rdm has {unknown} matrices that are unknown. Every {across} needs every {label}: "
            "pick those with rdm.select(...)."
        )
    return data, pairs
