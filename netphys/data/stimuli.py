"""Stimuli: what a subject is shown, one table row per presentation.

A stimulus set is a table in the manner of BIDS events (tab-separated, ``n/a`` for missing) plus
items:
texts with words, token ids, image files, or arrays. The table's other columns travel with every
trial into the session file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from netphys._check import check_option, check_type, suggest
from netphys._shipped import shipped_path

KINDS = ("text", "tokens", "image", "frames", "array")
_ITEM_COLUMNS = {"text": "text", "token_ids": "tokens", "stim_file": "image"}
_IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_TEXTS = dict.fromkeys(
    ("stimulus_id", *_ITEM_COLUMNS, "context", "word_spans", "word_onsets"), str
)  # never read as numbers
RESERVED = ("start_time", "stop_time", "batch", "stimulus_index", "id")


@dataclass(frozen=True, eq=False)
class Stimuli:
    """A checked stimulus set.

    Parameters
    ----------
    table : DataFrame
        One row per presentation; `stimulus_id` first, then the columns of the source in their
        order.
    kind : str
        "text", "tokens", "image", "frames" (a sequence per row) or "array" (one array per row).
    arrays : tuple of ndarray or None
        Items of the kinds "image", "frames" and "array" that were given in memory.
    rate : float
        Frames per second of the kind "frames"; 1 otherwise.
    folder : Path or None
        Where relative file names start.
    name : str
        How the set was named.
    """

    table: pd.DataFrame
    kind: str
    arrays: tuple[np.ndarray, ...] | None
    rate: float
    folder: Path | None
    name: str

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        columns = ", ".join(self.table.columns)
        return f"<Stimuli {self.name!r}: {len(self)} x {self.kind}; columns {columns}>"

    def _repr_html_(self) -> str:
        return f"<p>{len(self)} stimuli, kind {self.kind}</p>{self.table.head(10).to_html()}"

    def words(self, row: int) -> list[tuple[int, int]]:
        """Return the character spans of the words of one text.

        Parameters
        ----------
        row : int
            Row of the table.

        Returns
        -------
        spans : list of (int, int)
            Begin and end in the text: those of the column `word_spans`, else what white space
            separates.
        """
        spans = self.table["word_spans"].iloc[row] if "word_spans" in self.table else None
        if isinstance(spans, str):
            return [tuple(map(int, s.split(":"))) for s in spans.split()]
        return [m.span() for m in re.finditer(r"\S+", self.table["text"].iloc[row])]

    def item(self, row: int) -> np.ndarray | str | list[int] | Path:
        """Return what is shown at one row.

        Parameters
        ----------
        row : int
            Row of the table.

        Returns
        -------
        item : ndarray, str, list of int or Path
            Array or text or token ids; the file's path for an image that is not loaded yet.
        """
        if self.arrays is not None:
            return self.arrays[row]
        value = self.table[_column_of(self.kind)].iloc[row]
        if self.kind == "tokens":
            return [int(t) for t in value.split()]
        return self.folder / value if self.kind == "image" else value

    def context(self, row: int) -> str:
        """Return the text shown before an item, not recorded; empty where there is none.

        Parameters
        ----------
        row : int
            Row of the table.

        Returns
        -------
        context : str
            Text.
        """
        value = self.table["context"].iloc[row] if "context" in self.table else ""
        return value if isinstance(value, str) else ""

    def compute_hash(self) -> str:
        """Return the SHA-256 of the table and of all items: equal stimuli have equal hashes.

        Returns
        -------
        digest : str
            64 hexadecimal digits.
        """
        digest = hashlib.sha256(f"{self.kind} {self.rate}\n".encode())
        digest.update(self.table.to_csv(sep="\t", index=False, lineterminator="\n").encode())
        for row in range(len(self)) if self.kind not in ("text", "tokens") else ():
            item = self.item(row)
            if isinstance(item, np.ndarray):
                digest.update(f"{item.dtype} {item.shape}".encode())
                digest.update(np.ascontiguousarray(item).tobytes())
            else:
                digest.update(item.read_bytes())
        return digest.hexdigest()


def load_stimuli(
    source: str | os.PathLike | pd.DataFrame | Sequence[str] | None = None,
    *,
    arrays: Sequence[np.ndarray] | np.ndarray | None = None,
    kind: str | None = None,
    rate: float = 1.0,
) -> Stimuli:
    """Load a stimulus set and check it.

    Parameters
    ----------
    source : path-like, DataFrame, sequence of str, or None
        Tab-separated file; ``"builtin:<name>"`` for a shipped set; a table; or texts. The table
        has an
        item column (`text`, `token_ids` or `stim_file`) unless `arrays` are given, and may have
        `stimulus_id`, `context` (shown before, not recorded), `word_spans` ("0:3"), `word_onsets`
        (seconds, one per word), `condition`, `repetition`, `onset`, `duration` and any others.
    arrays : sequence of ndarray, optional
        One array per row: images (height, width, 3) or ready pixel values (channel, height, width),
        frames (time, feature), or whatever the model's input function takes.
    kind : str, optional
        Kind of the arrays: "image", "frames" or "array" (default).
    rate : float
        Frames per second, for the kind "frames".

    Returns
    -------
    stimuli : Stimuli
        Rows in the order of the source.

    Raises
    ------
    ValueError
        If the set is empty, stimuli are duplicate, or a column is missing or malformed.
    FileNotFoundError
        If the file, or an image that it names, does not exist.

    Examples
    --------
    >>> load_stimuli(["The cat sat.", "A dog ran."])
    <Stimuli 'texts': 2 x text; columns stimulus_id, text>
    """
    table, folder, name = _load_table(source, arrays)
    if len(table) == 0:
        raise ValueError(f"source={name!r} holds no stimuli. Give at least one row.")
    kind = _find_kind(table, arrays, kind, name)
    if "stimulus_id" not in table:
        width = len(str(len(table)))
        table.insert(0, "stimulus_id", [f"s{i + 1:0{width}d}" for i in range(len(table))])
    table = table[["stimulus_id", *(c for c in table.columns if c != "stimulus_id")]]
    table = table.assign(stimulus_id=table["stimulus_id"].astype(str))
    items = None if arrays is None else tuple(np.asarray(a) for a in arrays)
    stimuli = Stimuli(table, kind, items, float(rate), folder, name)
    _check_table(stimuli)
    _check_items(stimuli)
    return stimuli


def _load_table(source, arrays) -> tuple[pd.DataFrame, Path | None, str]:
    if source is None:
        if arrays is None:
            raise TypeError("source=None: give a table, a file, texts, or arrays=.")
        return pd.DataFrame(index=range(len(arrays))), None, "arrays"
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True).copy(), Path.cwd(), "table"
    if isinstance(source, (str, os.PathLike)):
        path = _find_file(source)
        try:
            table = pd.read_csv(
                path, sep="\t", na_values=["n/a"], keep_default_na=False, quoting=3, dtype=_TEXTS
            )
        except pd.errors.EmptyDataError:
            table = pd.DataFrame()
        except (UnicodeDecodeError, pd.errors.ParserError) as error:
            raise ValueError(
                f"source={str(source)!r} is not a tab-separated UTF-8 table: {error}"
            ) from error
        return table, path.parent, str(source)
    texts = list(source)
    for i, text in enumerate(texts):
        check_type(f"source[{i}]", text, str, "texts; arrays go into arrays=")
    return pd.DataFrame({"text": texts}), None, "texts"


def _find_file(source: str | os.PathLike) -> Path:
    name = str(source)
    if name.startswith("builtin:"):
        folder = shipped_path("stimuli")
        known = sorted(p.stem for p in folder.glob("*.tsv"))
        check_option("source", name, [f"builtin:{k}" for k in known])
        return folder / f"{name.removeprefix('builtin:')}.tsv"
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"source={name!r}: no such file. Give a tab-separated file, a shipped set such as "
            "'builtin:sentences', a DataFrame, or a list of texts."
        )
    return path


def _column_of(kind: str) -> str:
    return next(c for c, k in _ITEM_COLUMNS.items() if k == kind)


def _find_kind(table: pd.DataFrame, arrays, kind: str | None, name: str) -> str:
    if arrays is not None:
        kind = "array" if kind is None else kind
        check_option("kind", kind, ("image", "frames", "array"))
        if len(arrays) != len(table):
            raise ValueError(
                f"arrays has {len(arrays)} items, the table {len(table)} rows. Give one per row."
            )
        return kind
    found = [c for c in _ITEM_COLUMNS if c in table]
    if len(found) == 1:
        if kind is not None:
            check_option("kind", kind, [_ITEM_COLUMNS[found[0]]], "Leave it out to infer it.")
        return _ITEM_COLUMNS[found[0]]
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


def _check_table(stimuli: Stimuli) -> None:
    table = stimuli.table
    taken = [
        c for c in table.columns if c in RESERVED or c.startswith(("first_sample_", "n_samples_"))
    ]
    odd = [c for c in table.columns if not re.fullmatch(r"[A-Za-z_][\w.-]*", str(c))]
    if taken or odd:
        raise ValueError(
            f"column {(taken or odd)[0]!r} cannot be used: "
            + ("the session file has its own column of that name. " if taken else "")
            + "Rename it (letters, digits, '_', '.', '-')."
        )
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


def _check_items(stimuli: Stimuli) -> None:
    for row, name in enumerate(stimuli.table["stimulus_id"]):
        where = f"stimulus {name!r} (row {row + 1})"
        if stimuli.arrays is not None:
            _check_array(stimuli.arrays[row], stimuli.kind, where)
            continue
        value = stimuli.table[_column_of(stimuli.kind)].iloc[row]
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where} is empty (or no text). Fill it or remove its row.")
        if stimuli.kind == "tokens" and not re.fullmatch(r"\s*\d+(\s+\d+)*\s*", value):
            raise ValueError(f"{where}: token_ids={value!r}. Give numbers separated by spaces.")
        if stimuli.kind == "image":
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
    need = {"image": (3,), "frames": (1, 2, 3, 4)}.get(kind)
    if need and array.ndim not in need:
        raise ValueError(
            f"{where} has shape {array.shape}; kind {kind!r} has {need[0]} dims or more."
        )


def _check_file(path: Path, where: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{where}: stim_file={str(path)!r} does not exist.")
    if path.suffix.lower() not in (*_IMAGE_FILES, ".npy"):
        raise ValueError(
            f"{where}: stim_file={path.name!r} is of an unknown kind. "
            f"Allowed: .npy, {', '.join(_IMAGE_FILES)}."
        )


def _check_words(stimuli: Stimuli, row: int, where: str) -> None:
    text = stimuli.table["text"].iloc[row]
    given = stimuli.table["word_spans"].iloc[row] if "word_spans" in stimuli.table else None
    if isinstance(given, str) and not re.fullmatch(r"\s*\d+:\d+(\s+\d+:\d+)*\s*", given):
        raise ValueError(f"{where}: word_spans={given!r}. Give begin:end pairs, such as '0:3 4:9'.")
    spans = stimuli.words(row)
    flat = [edge for span in spans for edge in span]
    if flat != sorted(flat) or (flat and flat[-1] > len(text)) or any(a == b for a, b in spans):
        raise ValueError(
            f"{where}: word_spans={given!r} do not fit its text of {len(text)} characters. "
            "Give ascending, non-empty spans inside the text."
        )
    if "word_onsets" in stimuli.table:
        onsets = stimuli.table["word_onsets"].iloc[row]
        if isinstance(onsets, str):
            try:
                n = len([float(t) for t in onsets.split()])
            except ValueError:
                n = -1
            if n != len(spans):
                raise ValueError(
                    f"{where}: word_onsets={onsets!r} do not fit its {len(spans)} words. "
                    "Give one number of seconds per word."
                )
