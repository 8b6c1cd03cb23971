"""Items of a corpus one after the other, from whatever holds them, and their running hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netphys._check import check_option, check_positive, check_type

Item = str | np.ndarray
SPLITS = ("line", "piece")
_PIECE = 65_536  # characters


@dataclass(frozen=True)
class Corpus:
    """Texts of any number, shown window by window without being held in memory.

    Parameters
    ----------
    source : path-like, or iterable of str, token ids, dicts or path-like
        A text file, or what gives items one after the other: texts, sequences of token ids, rows of
        a data set (dicts with `column`, or with "input_ids"), paths of text files.
    window : int
        Most tokens that are shown at once, special tokens included. Longer items are cut.
    look_ahead : int
        Items that are read before windows of equal length are put together into batches.
    column : str
        Where rows that are dicts have their text.
    split : str
        Of text files: "line": every line that is not blank is an item; "piece": pieces of about
        65,536 characters, cut at white space.
    name : str
        What it is called.

    Examples
    --------
    >>> from netphys import Corpus
    >>> subject = load_subject("builtin:language")
    >>> corpus = Corpus(["The dog barked.", "Two cats slept on the chair."], window=16)
    >>> session = record(subject, corpus, "c.nwb", store=None, online="moments", progress=False)
    >>> session.online("transformer.h.0#moments").attrs["n_samples"]
    12
    """

    source: object
    window: int
    look_ahead: int = 256
    column: str = "text"
    split: str = "line"
    name: str = "corpus"

    def __post_init__(self) -> None:
        for name in ("window", "look_ahead"):
            check_positive(name, getattr(self, name))
        for name in ("column", "name"):
            check_type(name, getattr(self, name), str, "text")
        check_option("split", self.split, SPLITS)
        check_source(self.source)

    def describe(self) -> dict:
        """Return the options that decide what is shown together.

        Returns
        -------
        options : dict
            JSON-ready; arguments of `stream_batches`.
        """
        names = ("window", "look_ahead", "column", "split")
        return {name: getattr(self, name) for name in names}

    def compute_digest(self, n_items: int | None = None) -> tuple[int, str]:
        """Read the corpus from its beginning and hash it.

        Parameters
        ----------
        n_items : int, optional
            Read one item more than these at most; all if left out.

        Returns
        -------
        n : int
            Items read.
        digest : str
            SHA-256 of the first `n_items`, or of all.
        """
        digest, n = SourceDigest(), 0
        for item in read_items(self.source, column=self.column, split=self.split):
            n += 1
            if n_items is not None and n > n_items:
                break
            digest.add(item)
        return n, digest.value


def read_items(source: object, *, column: str, split: str) -> Iterator[Item]:
    """Yield texts (str) and token ids (ndarray of int64) of a source.

    Parameters
    ----------
    source : path-like, or iterable of str, token ids, dicts or path-like
        A str alone is the path of a text file; within an iterable it is a text.
    column : str
        Where dicts have their text.
    split : str
        "line" or "piece", for text files.

    Returns
    -------
    items : iterator of str or ndarray of int64
        In the order of the source.

    Raises
    ------
    TypeError
        If the source or one of its items is of no such kind.
    ValueError
        If a dict has neither `column` nor "input_ids", or a file is not UTF-8.
    """
    check_source(source)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source).expanduser(), split)
    return _read_each(source, column, split)


def check_source(source: object) -> None:
    """Raise unless something can hold a corpus.

    Parameters
    ----------
    source : object
        What is given.

    Raises
    ------
    TypeError
        If it is neither a path nor an iterable of items.
    FileNotFoundError
        If it is the path of no file.
    """
    if isinstance(source, (str, os.PathLike)):
        _find_file(Path(source).expanduser())
    elif not isinstance(source, Iterable) or isinstance(source, (bytes, Mapping)):
        raise TypeError(
            f"source={source!r} is no corpus. Give the path of a text file, or an iterable of "
            "texts, token ids, dicts or paths."
        )


def _read_each(source: Iterable, column: str, split: str) -> Iterator[Item]:
    for number, item in enumerate(source):
        if isinstance(item, os.PathLike):
            yield from _read_file(Path(item).expanduser(), split)
            continue
        if isinstance(item, Mapping):
            name = column if column in item else "input_ids"
            if name not in item:
                raise ValueError(
                    f"source: item {number} is a dict with the keys {', '.join(map(str, item))}. "
                    f"It needs {column!r} or 'input_ids'; say column= for another name."
                )
            item = item[name]
        if isinstance(item, str):
            yield item
            continue
        ids = np.asarray(item) if isinstance(item, (Sequence, np.ndarray)) else None
        if ids is None or ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise TypeError(
                f"source: item {number} is {type(item).__name__} {item!r:.60}. Give texts, one "
                "row of token ids each, dicts or paths."
            )
        yield ids.astype(np.int64)


def _find_file(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"source={str(path)!r}: no such file. Give a text file.")
    return path


def _read_file(path: Path, split: str) -> Iterator[str]:
    path = _find_file(path)
    return _read_lines(path) if split == "line" else _read_pieces(path)


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise _explain_encoding(path) from error


def _read_pieces(path: Path) -> Iterator[str]:
    """Yield pieces that begin where the last one ended, at white space if there is any."""
    rest = ""
    try:
        with path.open(encoding="utf-8") as file:
            while read := file.read(_PIECE):
                text = rest + read
                cut = max(text.rfind(" "), text.rfind("\n"))
                cut = cut if cut > 0 else len(text)
                if text[:cut].strip():
                    yield text[:cut]
                rest = text[cut:]
    except UnicodeDecodeError as error:
        raise _explain_encoding(path) from error
    if rest.strip():
        yield rest


def _explain_encoding(path: Path) -> ValueError:
    return ValueError(f"source={str(path)!r} is not UTF-8. Convert it, or give texts.")


class SourceDigest:
    """Running SHA-256 over the items of a corpus."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.n_items = 0

    @property
    def value(self) -> str:
        """64 hexadecimal digits over all items so far."""
        return self._hash.hexdigest()

    def add(self, item: Item) -> None:
        """Take in an item.

        Parameters
        ----------
        item : str or ndarray of int64
            Texts and token ids count as different.
        """
        kind, data = ("t", item.encode("utf-8", "surrogatepass")) if isinstance(item, str) else (
            "i", item.astype("<i8").tobytes()
        )  # fmt: skip
        self._hash.update(f"{kind}{len(data)} ".encode())
        self._hash.update(data)
        self.n_items += 1

    def skip(self, items: Iterator[Item], n: int) -> None:
        """Take in the next items and pass over them.

        Parameters
        ----------
        items : iterator of str or ndarray
            Moved on.
        n : int
            How many.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        for i in range(n):
            item = next(items, None)
            if item is None:
                raise ValueError(
                    f"source ends after {i} items; {n} were read before. Give the same corpus."
                )
            self.add(item)
