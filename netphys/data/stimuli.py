"""Stimuli: what a subject is shown, one table row per presentation.

A stimulus set is a table in the manner of BIDS events (tab-separated, ``n/a`` for missing) plus
items: texts with words, token ids, image files, or arrays. The table's other columns travel with
every trial into the session file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from netphys.data._sounds import find_rate, load_sound
from netphys.data._stimulus_checks import check_items, check_rate, check_table, check_unnamed
from netphys.data._stimulus_table import find_column, find_kind, load_table, make_plain_columns


@dataclass(frozen=True, eq=False)
class Stimuli:
    """A checked stimulus set.

    Parameters
    ----------
    table : DataFrame
        One row per presentation; `stimulus_id` first, then the columns of the source in their
        order.
    kind : str
        "text", "tokens", "image", "frames" (a sequence per row), "audio" (a sound per row) or
        "array" (one array per row).
    arrays : tuple of ndarray or None
        Items of the kinds "image", "frames", "audio" and "array" that were given in memory.
    rate : float
        Frames per second of the kind "frames", samples per second of "audio"; 1 otherwise.
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
        spans = self.table["word_spans"].iloc[row] if "word_spans" in self.table else ""
        if spans:
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
            Array or text or token ids; the file's path for an image that is not loaded yet; the
            samples of a sound.
        """
        if self.arrays is not None:
            return self.arrays[row]
        value = self.table[find_column(self.kind)].iloc[row]
        if self.kind == "tokens":
            return [int(t) for t in value.split()]
        if self.kind == "audio":
            return load_sound(self.folder / value)
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
        return self.table["context"].iloc[row] if "context" in self.table else ""

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
        Tab-separated file; ``"builtin:<name>"`` for a shipped set; a table; or texts. The table has
        an item column unless `arrays` are given (`text`, `token_ids`, or `stim_file` for images and
        for sounds in WAV), and may have `stimulus_id`, `context` (shown before, not recorded),
        `word_spans` ("0:3 4:9"), `word_onsets` ("0.0 0.31", seconds), `condition`, `repetition`,
        `onset`, `duration` and any others.
    arrays : sequence of ndarray, optional
        One array per row: images (height, width, 3) or ready pixel values (channel, height, width),
        frames (time, feature), sounds (waveforms (time,), or features (feature, time) of models
        that take these), or whatever the model's input function takes.
    kind : str, optional
        Kind of the arrays: "image", "frames", "audio" or "array" (default).
    rate : float
        Frames per second, for the kind "frames"; samples per second, for "audio" (files say it
        themselves).

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
    table, folder, name = load_table(source, arrays)
    if len(table) == 0:
        raise ValueError(f"source={name!r} holds no stimuli. Give at least one row.")
    kind = find_kind(table, arrays, kind, name)
    from_files = kind == "audio" and arrays is None
    if not (from_files and rate == 1):
        check_rate(rate, kind)
    table = make_plain_columns(table)
    if "stimulus_id" not in table:
        check_unnamed(table)
        width = len(str(len(table)))
        table.insert(0, "stimulus_id", [f"s{i + 1:0{width}d}" for i in range(len(table))])
    table = table[["stimulus_id", *(c for c in table.columns if c != "stimulus_id")]]
    items = None if arrays is None else tuple(np.asarray(a) for a in arrays)
    stimuli = Stimuli(table, kind, items, float(rate), folder, name)
    check_table(table)
    check_items(stimuli)
    if from_files:
        return replace(stimuli, rate=find_rate([folder / f for f in table["stim_file"]], rate))
    return stimuli
