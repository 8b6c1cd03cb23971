"""Read a stimulus table, find out what it shows, and bring its columns to plain types."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd

from netphys._check import check_option, check_type, suggest
from netphys._shipped import shipped_path
from netphys.data._sounds import SUFFIX

_ITEM_COLUMNS = {"text": "text", "token_ids": "tokens", "stim_file": "image"}
_NAMES = ("stimulus_id", "condition")  # labels: text, also where they look like numbers
_TEXTS = ("text", "stim_file", "context", "word_spans", "word_onsets")


def load_table(source: object, arrays: object) -> tuple[pd.DataFrame, Path | None, str]:
    """Return the table of any kind of source, the folder of its files, and its name."""
    if source is None:
        if arrays is None:
            raise TypeError("source=None: give a table, a file, texts, or arrays=.")
        return pd.DataFrame(index=range(len(arrays))), None, "arrays"
    if isinstance(source, pd.DataFrame):
        for column in source.columns:
            check_type("a column name of source", column, str, "names (str)")
        return source.reset_index(drop=True).copy(), Path.cwd(), "table"
    if isinstance(source, (str, os.PathLike)):
        path = _find_file(source)
        return _read_table(path), path.parent, str(source)
    check_type("source", source, (list, tuple, np.ndarray, pd.Series), "a file, a table or texts")
    texts = list(source)
    for i, text in enumerate(texts):
        check_type(f"source[{i}]", text, str, "texts; arrays go into arrays=")
    return pd.DataFrame({"text": texts}), None, "texts"


def _read_table(path: Path) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"source={str(path)!r} is no UTF-8 table: {error}") from error
    lines = text.split("\n")
    header = lines[0].split("\t")
    if not text.strip():
        return pd.DataFrame()
    for number, line in enumerate(lines[1:], start=2):
        n_fields = line.count("\t") + 1
        if line and (n_fields != len(header) or "\r" in line):
            inside = " and a carriage return inside" if "\r" in line else ""
            raise ValueError(
                f"source={str(path)!r}, line {number} has {n_fields} fields{inside}, the header "
                f"{len(header)}. Separate fields by one tab, with none at the end; write n/a for "
                "what is missing."
            )
    _check_names(header, str(path))
    texts = dict.fromkeys((*_NAMES, *_TEXTS, "token_ids"), str)
    options = {"sep": "\t", "na_values": ["n/a"], "keep_default_na": False, "quoting": 3}
    return pd.read_csv(io.StringIO(text), dtype=texts, index_col=False, **options)


def _check_names(names: list[str], where: str) -> None:
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise ValueError(f"source={where!r} has the column {twice[0]!r} twice. Rename one of them.")


def _find_file(source: str | os.PathLike) -> Path:
    name = str(source)
    if name.startswith("builtin:"):
        folder = shipped_path("stimuli")
        known = sorted(p.stem for p in folder.glob("*.tsv"))
        check_option("source", name, [f"builtin:{k}" for k in known])
        return folder / f"{name.removeprefix('builtin:')}.tsv"
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"source={name!r}: no such file. Give a tab-separated file, a shipped set such as "
            "'builtin:sentences', a DataFrame, or a list of texts."
        )
    return path


def find_column(kind: str) -> str:
    """Return the column that holds the items of a kind."""
    kind = "image" if kind == "audio" else kind  # both are files
    return next(c for c, k in _ITEM_COLUMNS.items() if k == kind)


def find_kind(table: pd.DataFrame, arrays: object, kind: str | None, name: str) -> str:
    """Return the kind of the items: as given for arrays, else by the item column."""
    _check_names(list(table.columns), name)
    if arrays is not None:
        kind = "array" if kind is None else kind
        check_option("kind", kind, ("image", "frames", "audio", "array"))
        if len(arrays) != len(table):
            raise ValueError(
                f"arrays has {len(arrays)} items, the table {len(table)} rows. Give one per row."
            )
        return kind
    found = [c for c in _ITEM_COLUMNS if c in table]
    if len(found) == 1:
        there = _ITEM_COLUMNS[found[0]]
        files = table[found[0]].dropna().map(str) if there == "image" else pd.Series(dtype=str)
        if len(files) and files.str.lower().str.endswith(SUFFIX).all():
            there = "audio"
        if kind is not None:
            check_option("kind", kind, [there], "Leave it out to infer it.")
        return there
    listed = ", ".join(table.columns)
    if not found:
        near = "".join(suggest(c, _ITEM_COLUMNS) for c in table.columns)
        raise ValueError(
            f"source={name!r} has no item column (columns: {listed}).{near} "
            "Name one column text, token_ids or stim_file, or give arrays=."
        )
    raise ValueError(
        f"source={name!r} has several item columns: {', '.join(found)}. Keep one of them."
    )


def make_plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with numbers as numpy numbers (NaN for missing) and all else as text."""
    return pd.DataFrame({name: _make_plain(table[name]) for name in table.columns}, table.index)


def _make_plain(column: pd.Series) -> pd.Series:
    name, missing = column.name, column.isna()
    if name == "token_ids":
        column = column.map(_join_ids)
    elif name in _TEXTS:
        for row, value in enumerate(column[~missing]):
            check_type(f"{name} (row {row + 1})", value, str, "text")
    elif name not in _NAMES and pd.api.types.is_numeric_dtype(column.dtype):
        if isinstance(column.dtype, np.dtype):
            return column
        if not missing.any():
            return column.astype(column.dtype.numpy_dtype)
        return pd.Series(column.to_numpy("float64", na_value=np.nan), column.index)
    return column.astype(object).where(missing, column.map(str)).where(~missing, "")


def _join_ids(value: object) -> object:
    """Return a list of token ids as the text that a file would have."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(str(v) for v in value)
    return value
