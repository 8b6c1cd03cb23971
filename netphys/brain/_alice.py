"""Alice in Wonderland: regions of 28 people who listen to chapter 1 (Brennan et al. 2016)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type
from netphys.brain._registry import Entry
from netphys.brain._textgrid import decode_textgrid, join_words, parse_textgrid
from netphys.brain.responses import find_flaws

Read = Callable[[Iterable[str]], dict[str, bytes]]

REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
MOTION = ("x", "y", "z", "pitch", "roll", "yaw")
TR, START, N_DISCARDED = 2.0, 20.0, 10  # seconds, seconds, volumes
TEXTGRID = "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
PREDICTORS = "alice_data_shared/sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
_AT_START = "sampled by the authors at the beginning of each TR, 1 s before `time`"


def load_responses(entry: Entry, read: Read, *, radius: int = 6) -> tuple[xr.Dataset, list[str]]:
    """Return responses, motion and the authors' predictors, and which files they came from."""
    check_option("radius", radius, (6, 10), "It is the radius of the regions in mm.")
    paths = [PREDICTORS]
    paths += [f.path for f in entry.files if f.path.startswith(f"alice_data_shared/{radius}mm/")]
    paths += [f.path for f in entry.files if re.search(r"/s\d+-(rp_.*|rate|sndpwr)\.txt$", f.path)]
    arrays = {path: np.loadtxt(io.BytesIO(content)) for path, content in read(paths).items()}
    people = [re.search(r"/(s\d+)-timecourses", p) for p in paths]
    names = sorted(found.group(1) for found in people if found)
    find = {name: _select(arrays, name, radius) for name in names}
    excluded = {name: why for name in names if (why := _find_reason(find[name]))}
    kept = [name for name in names if name not in excluded]
    first, n = find[kept[0]], len(find[kept[0]]["responses"])
    data = {
        "responses": _stack(find, kept, "responses", "region", units="a.u."),
        "motion": _stack(find, kept, "motion", "component", units="mm (x, y, z), rad (others)"),
        "sound_power": _share(first["sndpwr"], "a.u. (convolved with a response function)"),
        "word_rate": _share(first["rate"], "a.u. (convolved with a response function)"),
        "rate_conv": _share(arrays[PREDICTORS][N_DISCARDED:, 0], "a.u. (convolved)"),
    }
    coords = {
        "participant": kept,
        "time": START + TR * np.arange(n) + TR / 2,
        "region": list(REGIONS),
        "component": list(MOTION),
    }
    dataset = xr.Dataset(data, coords)
    dataset["time"].attrs = {"units": "s", "long_name": "middle of each TR, stimulus clock"}
    dataset.attrs |= {"tr": TR, "radius_mm": radius, "excluded": json.dumps(excluded)}
    return dataset, paths


def _select(arrays: dict[str, np.ndarray], name: str, radius: int) -> dict[str, np.ndarray]:
    """Return one person's arrays: responses, motion without the discarded volumes, predictors."""
    motion = next(a for p, a in arrays.items() if p.startswith(f"alice_data_shared/{name}-rp_"))
    return {
        "responses": arrays[f"alice_data_shared/{radius}mm/{name}-timecourses.txt"],
        "motion": motion[N_DISCARDED:],
        "rate": arrays[f"alice_data_shared/{name}-rate.txt"],
        "sndpwr": arrays[f"alice_data_shared/{name}-sndpwr.txt"],
    }


def _find_reason(person: dict[str, np.ndarray]) -> str:
    """Return why a person cannot be used, or an empty string."""
    flaws = find_flaws(person["responses"])
    reasons = [
        f"{', '.join(REGIONS[i] for i in flaws if flaws[i] == why)}: {why}"
        for why in dict.fromkeys(flaws.values())
    ]
    n, n_motion = len(person["responses"]), len(person["motion"])
    if n_motion != n:
        reasons.append(f"motion has {n_motion} volumes, the responses {n}")
    return "; ".join(reasons)


def _stack(find: dict, names: list[str], key: str, dim: str, *, units: str) -> xr.DataArray:
    values = np.stack([find[name][key] for name in names])
    return xr.DataArray(values, dims=("participant", "time", dim), attrs={"units": units})


def _share(values: np.ndarray, units: str) -> xr.DataArray:
    return xr.DataArray(values, dims="time", attrs={"units": units, "comment": _AT_START})


def make_stimuli_table(read: Read, *, context_words: int = 40) -> pd.DataFrame:
    """Return one row per word in its context, or per word form if there is to be no context."""
    check_type("context_words", context_words, int, "how many words to show before each")
    if context_words < 0:
        raise ValueError(f"context_words={context_words!r} is negative. Give 0 or more.")
    (tier,) = parse_textgrid(decode_textgrid(read([TEXTGRID])[TEXTGRID])).values()
    begin, end, words = zip(*join_words(tier), strict=True)
    table = pd.DataFrame({"text": words, "word_form": words})
    table["n_characters"] = [len(word) for word in words]
    if context_words == 0:
        table = table.drop_duplicates("word_form", ignore_index=True)
        table.insert(0, "stimulus_id", _number("f", len(table)))
        return table
    table.insert(0, "stimulus_id", _number("w", len(table)))
    table["context"] = [" ".join(words[max(0, i - context_words) : i]) for i in range(len(words))]
    table["onset"] = begin
    table["duration"] = np.subtract(end, begin)
    return table


def _number(letter: str, n: int) -> list[str]:
    return [f"{letter}{i + 1:04d}" for i in range(n)]
