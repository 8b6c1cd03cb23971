"""What is refused of a stimulus set, before anything is shown."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from netphys._check import check_type
from netphys.data._sounds import SUFFIX
from netphys.data._stimulus_table import find_column

if TYPE_CHECKING:
    from netphys.data.stimuli import Stimuli

_IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# names that the session file, NWB tables or the labels of a recording use themselves
_TABLE = "start_time stop_time batch stimulus_index id tags timeseries name description columns"
_NWB = "colnames object_id parent fields namespace neurodata_type data_type children modified"
_LABELS = "trial time sample unit layer index label head query key channel y x patch position"
RESERVED = frozenset(f"{_TABLE} {_NWB} {_LABELS}".split())


def check_rate(rate: float, kind: str) -> None:
    """Raise unless `rate` is a positive number, given for sounds, and 1 where there is no time."""
    check_type("rate", rate, (int, float), "frames or samples per second")
    if kind not in ("frames", "audio") and rate != 1:
        raise ValueError(
            f"rate={rate!r} is for frames and sounds, these are of kind {kind!r}. Leave it out."
        )
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(
            f"rate={rate!r} is not possible. Give frames or samples per second, above 0."
        )
    if kind == "audio" and rate == 1:
        raise ValueError("rate= is missing. Give the samples per second of the sounds (16000).")


def check_unnamed(table: pd.DataFrame) -> None:
    """Raise if two rows without a stimulus_id are alike: a slip, or repeats that want names."""
    twice = table.index[table.duplicated()] if len(table.columns) else []
    if len(twice):
        raise ValueError(
            f"row {twice[0] + 1} repeats an earlier stimulus. Remove it, or give every row a "
            "stimulus_id if it is meant."
        )


def check_table(table: pd.DataFrame) -> None:
    """Raise for columns that cannot be stored, and for stimuli that are not told apart."""
    taken = [
        c for c in table.columns if c in RESERVED or c.startswith(("first_sample_", "n_samples_"))
    ]
    odd = [c for c in table.columns if not re.fullmatch(r"[A-Za-z_][\w.-]*", c)]
    if taken or odd:
        raise ValueError(
            f"column {(taken or odd)[0]!r} cannot be used: "
            + ("a session uses that name itself. " if taken else "")
            + "Rename it (letters, digits, '_', '.', '-')."
        )
    for column in (c for c in table if not pd.api.types.is_numeric_dtype(table[c])):
        for row, value in enumerate(table[column]):
            _check_text(value, f"column {column!r}, row {row + 1}")
    empty = table.index[table["stimulus_id"].str.strip() == ""]
    if len(empty):
        raise ValueError(f"row {empty[0] + 1} has no stimulus_id. Name it, or drop the column.")
    key = ["stimulus_id"] + (["repetition"] if "repetition" in table else [])
    twice = table[table.duplicated(key)]
    if len(twice):
        raise ValueError(
            f"stimulus_id={twice['stimulus_id'].iloc[0]!r} occurs more than once "
            f"(row {twice.index[0] + 1}). Give every row its own stimulus_id, or number the "
            "presentations of one stimulus in a column 'repetition'."
        )
    for column in ("onset", "duration"):
        if column in table and not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(f"column {column!r} holds text. Give seconds, or n/a where unknown.")


def _check_text(value: str, where: str) -> None:
    try:
        value.encode()
        fine = "\0" not in value
    except UnicodeEncodeError:
        fine = False
    if not fine:
        raise ValueError(f"{where}: {value!r} holds a NUL or half a character. Clean it first.")


def check_items(stimuli: Stimuli) -> None:
    """Raise for the first item that cannot be shown."""
    for row, name in enumerate(stimuli.table["stimulus_id"]):
        where = f"stimulus {name!r} (row {row + 1})"
        if stimuli.arrays is not None:
            _check_array(stimuli.arrays[row], stimuli.kind, where)
            continue
        value = stimuli.table[find_column(stimuli.kind)].iloc[row]
        if not value.strip():
            raise ValueError(f"{where} is empty. Fill it or remove its row.")
        if stimuli.kind == "tokens" and not re.fullmatch(r"\s*\d+(\s+\d+)*\s*", value):
            raise ValueError(f"{where}: token_ids={value!r}. Give numbers separated by spaces.")
        if stimuli.kind == "tokens" and max(map(int, value.split())) >= 2**31:
            raise ValueError(f"{where}: token_ids={value!r} holds an impossible number.")
        if stimuli.kind in ("image", "audio"):
            _check_file(stimuli.folder / value, where)
        if stimuli.kind == "text":
            _check_words(stimuli, row, where)


def _check_array(array: np.ndarray, kind: str, where: str) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{where} has dtype {array.dtype}. Give an array of numbers.")
    if array.size == 0:
        raise ValueError(f"{where} is empty: its shape is {array.shape}. Remove it.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{where} holds NaN or infinite values. Clean it first.")
    need = {"image": (3,), "frames": (1, 2, 3, 4), "audio": (1, 2)}.get(kind)
    if need and array.ndim not in need:
        dims = f"{need[0]} to {need[-1]}" if len(need) > 1 else need[0]
        raise ValueError(f"{where} has shape {array.shape}; kind {kind!r} has {dims} dims.")
    if kind == "audio" and array.dtype.kind != "f":
        raise TypeError(
            f"{where} has dtype {array.dtype}; sounds are floating-point. Divide 16-bit samples "
            "by 32768."
        )


def _check_file(path: Path, where: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{where}: stim_file={str(path)!r} does not exist.")
    if path.suffix.lower() not in (*_IMAGE_FILES, ".npy", SUFFIX):
        raise ValueError(
            f"{where}: stim_file={path.name!r} is of an unknown kind. "
            f"Allowed: .npy, {', '.join(_IMAGE_FILES)}, or {SUFFIX} in all rows."
        )


def _check_words(stimuli: Stimuli, row: int, where: str) -> None:
    table, n_characters = stimuli.table, len(stimuli.table["text"].iloc[row])
    given = table["word_spans"].iloc[row] if "word_spans" in table else ""
    if given and not re.fullmatch(r"\s*\d+:\d+(\s+\d+:\d+)*\s*", given):
        raise ValueError(f"{where}: word_spans={given!r}. Give begin:end pairs, such as '0:3 4:9'.")
    spans = stimuli.words(row)
    flat = [edge for span in spans for edge in span]
    if flat != sorted(flat) or (flat and flat[-1] > n_characters) or any(a == b for a, b in spans):
        raise ValueError(
            f"{where}: word_spans={given!r} do not fit its text of {n_characters} characters. "
            "Give ascending, non-empty spans inside the text."
        )
    onsets = table["word_onsets"].iloc[row] if "word_onsets" in table else ""
    try:
        seconds = [float(t) for t in onsets.split()]
    except ValueError:
        seconds = [math.nan]
    fit = len(seconds) == len(spans) and seconds == sorted(seconds) and np.isfinite(seconds).all()
    if onsets and not fit:
        raise ValueError(
            f"{where}: word_onsets={onsets!r} do not fit its {len(spans)} words. "
            "Give one ascending number of seconds per word."
        )
