"""92 object images, and their dissimilarities in IT of people and monkeys (Kriegeskorte 2008)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr
from scipy.io import loadmat
from scipy.spatial.distance import squareform

from netphys.brain._registry import Entry

Read = Callable[[Iterable[str]], dict[str, bytes]]

PEOPLE, MODELS = "92_brainRDMs.mat", "92_modelRDMs.mat"
SUPPLEMENT = "Kriegeskorte_Neuron2008_supplementalData.mat"
FLAGS = ("human", "face", "animal", "natural")
_PAIR = ("condition", "condition_2")


def load_responses(entry: Entry, read: Read) -> tuple[xr.Dataset, list[str]]:
    """Return the RDMs of people, monkeys and stored models, and which files they came from."""
    paths = [PEOPLE, MODELS, SUPPLEMENT]
    files = {path: _load(content) for path, content in read(paths).items()}
    sessions = files[PEOPLE]["RDMs"]
    names = [re.split(r"\s*\|\s*", str(person[0]["name"]))[1] for person in sessions]
    rdms = [np.mean([_to_square(s["RDM"]) for s in person], axis=0) for person in sessions]
    models = files[MODELS]["Models"]
    monkey, group = files[SUPPLEMENT]["RDMs_mIT_hIT_fig1"]
    ids = _make_ids(len(rdms[0]))
    data = {
        "rdm": ((*_PAIR, "participant"), np.stack(rdms, axis=-1)),
        "monkey_rdm": (_PAIR, _to_square(monkey["RDM"])),
        "group_rdm": (_PAIR, _to_square(group["RDM"])),
        "model_rdm": ((*_PAIR, "model"), np.stack([_to_square(m["RDM"]) for m in models], -1)),
    }
    coords = {"condition": ids, "condition_2": ids, "participant": names}
    dataset = xr.Dataset(data, coords | {"model": [str(m["name"]) for m in models]})
    for name in ("rdm", "monkey_rdm", "group_rdm"):
        dataset[name].attrs["units"] = "1 - r"
    dataset["model_rdm"].attrs["units"] = "a.u. (each model its own)"
    dataset.attrs["excluded"] = "{}"
    return dataset, paths


def load_images(read: Read) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return the table of the images, in the order of the RDMs, and the images."""
    stimuli = _load(read([SUPPLEMENT])[SUPPLEMENT])["stimuli_92objs"]
    table = pd.DataFrame({"stimulus_id": _make_ids(len(stimuli))})
    table["category"] = [str(s["category"]) for s in stimuli]
    for flag in FLAGS:
        table[flag] = [int(s[flag]) for s in stimuli]
    return table, [np.ascontiguousarray(s["image"]) for s in stimuli]


def _load(content: bytes) -> dict:
    return loadmat(io.BytesIO(content), squeeze_me=True)


def _to_square(rdm: np.ndarray) -> np.ndarray:
    rdm = np.asarray(rdm, np.float64)
    return squareform(rdm) if rdm.ndim == 1 else rdm


def _make_ids(n: int) -> list[str]:
    return [f"obj{i + 1:02d}" for i in range(n)]
