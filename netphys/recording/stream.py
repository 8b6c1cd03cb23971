"""Corpora of any size as batches of equal length: nothing is padded, little is held in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from netphys._check import check_option, check_positive, check_type
from netphys.data.stream_position import StreamPosition
from netphys.recording.corpus import SPLITS, Item, SourceDigest, read_items
from netphys.recording.online.batch import BatchInfo
from netphys.recording.present import make_plan
from netphys.recording.presentation import call_input_fn
from netphys.recording.subject import Subject


@dataclass(frozen=True)
class StreamBatch:
    """Windows of equal length, shown together.

    Parameters
    ----------
    ids : ndarray of int64, shape (n_trials, n_positions)
        Tokens.
    trial : ndarray of int64, shape (n_trials,)
        Number of each window in the stream, in order of being shown.
    document : ndarray of int64, shape (n_trials,)
        Item of the source that it is from.
    window : ndarray of int64, shape (n_trials,)
        Number of the window in its document.
    first : ndarray of int64, shape (n_trials,)
        Place of its first own token in the document.
    word : ndarray of int64, shape (n_trials, n_positions)
        Word of each token in its document; -1: none, or a word that the window's edge cuts.
    special : ndarray of bool, shape (n_trials, n_positions)
        Tokens that the tokenizer adds to every window.
    after : StreamPosition
        Where the stream goes on after this batch.
    """

    ids: np.ndarray
    trial: np.ndarray
    document: np.ndarray
    window: np.ndarray
    first: np.ndarray
    word: np.ndarray
    special: np.ndarray
    after: StreamPosition

    def make_inputs(self, subject: Subject) -> tuple[tuple, dict]:
        """Return positional and keyword arguments of the model.

        Parameters
        ----------
        subject : Subject
            Who is shown the batch.

        Returns
        -------
        args, kwargs : tuple, dict
            On the subject's device.
        """
        if subject.input_fn is not None:
            return call_input_fn(subject, self.ids.tolist())
        ids = torch.from_numpy(self.ids).to(subject.device)
        return ((), {"input_ids": ids}) if subject.config is not None else ((ids,), {})

    def describe_rows(self, inputs: tuple[tuple, dict] | None = None) -> BatchInfo:
        """Return what online statistics may know of the samples, trial after trial.

        Parameters
        ----------
        inputs : (tuple, dict), optional
            What `make_inputs` gave, for statistics that show it to a second subject.

        Returns
        -------
        batch : BatchInfo
            One row per token.
        """
        n, length = self.ids.shape
        return BatchInfo(
            trial=np.repeat(self.trial, length),
            position=np.tile(np.arange(length), n),
            token_id=self.ids.reshape(-1),
            word=self.word.reshape(-1),
            special=self.special.reshape(-1),
            inputs=inputs,
            n_trials=n,
            n_positions=length,
        )


@dataclass(frozen=True)
class _Window:
    """A window before it is put into a batch."""

    ids: np.ndarray
    document: int
    window: int
    first: int
    word: np.ndarray
    special: np.ndarray


def stream_batches(
    subject: Subject,
    source: object,
    *,
    window: int,
    batch_size: int = 8,
    look_ahead: int = 256,
    column: str = "text",
    split: str = "line",
    start: StreamPosition | None = None,
) -> BatchStream:
    """Turn a corpus into batches of windows of equal length.

    Parameters
    ----------
    subject : Subject
        Who is shown them; its tokenizer cuts texts.
    source : path-like, or iterable of str, token ids, dicts or path-like
        A text file, or what gives items one after the other: texts, sequences of token ids, rows of
        a data set (dicts with `column`, or with "input_ids"), paths of text files.
    window : int
        Most tokens of one window, special tokens included. Longer items are cut.
    batch_size : int
        Most windows in one batch.
    look_ahead : int
        Items that are read before windows of equal length are put together. Memory holds so many
        items, or the first that make up ``look_ahead * window`` tokens and up to 15 more, which are
        tokenized together.
    column : str
        Where rows that are dicts have their text.
    split : str
        Of text files: "line": every line that is not blank is an item; "piece": pieces of about
        65,536 characters, cut at white space.
    start : StreamPosition, optional
        Go on after the batch whose `after` this is. The source must give the same items again from
        its beginning; those before are read, not tokenized.

    Returns
    -------
    batches : BatchStream
        Iterator of StreamBatch, in an order that depends on the arguments alone.

    Raises
    ------
    ValueError
        If an item cannot be read, the source is empty, or with `start` its items are not the same.
    FileNotFoundError
        If a text file does not exist.

    Notes
    -----
    Every window is shown on its own, with the special tokens that the tokenizer adds to a text
    (token ids are taken as they are). A word that a window's edge cuts in two belongs to no word.

    Examples
    --------
    >>> from netphys.recording.stream import stream_batches
    >>> subject = load_subject("builtin:language")
    >>> texts = ("The dog barked." for _ in range(5))
    >>> [b.ids.shape for b in stream_batches(subject, texts, window=16, batch_size=4)]
    [(4, 4), (1, 4)]
    """
    check_type("subject", subject, Subject, "what load_subject returns")
    for name, value in (("batch_size", batch_size), ("look_ahead", look_ahead)):
        check_positive(name, value)
    check_type("column", column, str, "the name of a column")
    check_option("split", split, SPLITS)
    if start is not None:
        check_type("start", start, StreamPosition, "the `after` of a batch")
    plan = f"window={window} batch_size={batch_size} look_ahead={look_ahead}"
    if start is not None and start.plan not in ("", plan):
        raise ValueError(
            f"start was made with {start.plan}, now given are {plan}. Give the same options."
        )
    items = read_items(source, column=column, split=split)
    after = replace(start or StreamPosition(), plan=plan)
    return BatchStream(_Cutter(subject, window), items, after, (window, batch_size, look_ahead))


class BatchStream(Iterator[StreamBatch]):
    """Batches of a corpus, one after the other; `stream_batches` makes it.

    Attributes
    ----------
    end : StreamPosition or None
        Where the source has ended; None as long as there are batches.
    """

    def __init__(
        self,
        cutter: _Cutter,
        items: Iterator[Item],
        after: StreamPosition,
        options: tuple[int, int, int],
    ):
        self.end: StreamPosition | None = None
        self._batches = self._run(cutter, items, after, *options)

    def __next__(self) -> StreamBatch:
        return next(self._batches)

    def _run(
        self,
        cutter: _Cutter,
        items: Iterator[Item],
        after: StreamPosition,
        window: int,
        batch_size: int,
        look_ahead: int,
    ) -> Iterator[StreamBatch]:
        digest, shown = SourceDigest(), after.n_read > 0
        digest.skip(items, after.n_items)
        while True:
            windows, n_read = _read_block(cutter, items, digest, window * look_ahead, look_ahead)
            if after.n_read > after.n_items:  # in the middle of a block that was read before
                _check_same(after, digest)
            block = replace(after, n_read=digest.n_items, digest=digest.value)
            first = after.n_windows
            for i, rows in enumerate(make_plan([len(w.ids) for w in windows], batch_size)):
                if i >= after.n_batches:
                    shown = True
                    chosen = [windows[r] for r in rows]
                    yield _make_batch(chosen, first, replace(block, n_batches=i + 1))
                first += len(rows)
            after = replace(block, n_items=digest.n_items, n_batches=0, n_windows=first)
            if n_read == 0:
                break
        if not shown:
            raise ValueError("source holds no text. Give at least one item with tokens.")
        self.end = after


def _read_block(
    cutter: _Cutter, items: Iterator[Item], digest: SourceDigest, n_tokens: int, look_ahead: int
) -> tuple[list[_Window], int]:
    """Read items until there are enough, and cut them into windows."""
    windows: list[_Window] = []
    n_read = total = 0
    while n_read < look_ahead and total < n_tokens:
        group: list[tuple[int, Item]] = []
        for item in items:
            group.append((digest.n_items, item))
            digest.add(item)
            n_read += 1
            if len(group) == 16 or n_read == look_ahead:  # tokenized together
                break
        if not group:
            break
        for part in cutter.cut(group):
            windows.append(part)
            total += len(part.ids)
    return windows, n_read


def _check_same(before: StreamPosition, digest: SourceDigest) -> None:
    if (before.n_read, before.digest) != (digest.n_items, digest.value):
        raise ValueError(
            f"source: its first {before.n_read} items are not those that were shown before. Give "
            "the same corpus in the same order, or start anew."
        )


def _make_batch(windows: list[_Window], first: int, after: StreamPosition) -> StreamBatch:
    return StreamBatch(
        ids=np.stack([w.ids for w in windows]),
        trial=np.arange(first, first + len(windows)),
        document=np.array([w.document for w in windows], np.int64),
        window=np.array([w.window for w in windows], np.int64),
        first=np.array([w.first for w in windows], np.int64),
        word=np.stack([w.word for w in windows]),
        special=np.stack([w.special for w in windows]),
        after=after,
    )


class _Cutter:
    """Tokenizes items and cuts them into windows."""

    def __init__(self, subject: Subject, window: int):
        check_positive("window", window)
        limit = subject.max_length
        if limit is not None and window > limit:
            raise ValueError(
                f"window={window!r} is too long: {subject.name!r} takes at most {limit} tokens."
            )
        self._subject, self._window = subject, window
        self._size = getattr(subject.config, "vocab_size", None)
        self._ends: tuple[np.ndarray, np.ndarray] | None = None

    def cut(self, items: list[tuple[int, Item]]) -> Iterator[_Window]:
        """Yield the windows of some items, in order."""
        texts = [item for _, item in items if isinstance(item, str)]
        coded = iter(self._tokenize(texts)) if texts else iter(())
        empty = np.zeros(0, np.int64)
        for number, item in items:
            if isinstance(item, str):
                ids, words = next(coded)
                yield from self._cut_one(number, ids, words, self._find_ends())
            else:
                self._check_ids(number, item)
                yield from self._cut_one(number, item, np.full(len(item), -1), (empty, empty))

    def _cut_one(
        self,
        document: int,
        ids: np.ndarray,
        words: np.ndarray,
        ends: tuple[np.ndarray, np.ndarray],
    ) -> Iterator[_Window]:
        room = self._window - len(ends[0]) - len(ends[1])
        for i, begin in enumerate(range(0, len(ids), room)):
            end = min(begin + room, len(ids))
            word = words[begin:end].copy()
            for inside, outside in ((begin, begin - 1), (end - 1, end)):
                if 0 <= outside < len(ids) and words[inside] == words[outside]:
                    word[words[begin:end] == words[inside]] = -1
            own = np.zeros(end - begin, bool)
            yield _Window(
                np.concatenate([ends[0], ids[begin:end], ends[1]]),
                document,
                i,
                begin,
                np.pad(word, (len(ends[0]), len(ends[1])), constant_values=-1),
                np.pad(own, (len(ends[0]), len(ends[1])), constant_values=True),
            )

    def _tokenize(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        tokenizer = self._subject.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"source gives texts, and {self._subject.name!r} has no fast tokenizer. Give "
                "load_subject(..., tokenizer=), or token ids."
            )
        coded = tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        pairs = zip(texts, coded["input_ids"], coded["offset_mapping"], strict=True)
        return [(np.array(ids, np.int64), find_words(text, at)) for text, ids, at in pairs]

    def _find_ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the special tokens of a window, or say that there is no room for them."""
        if self._ends is None:
            before, after = find_added_tokens(self._subject)
            if len(before) + len(after) >= self._window:
                raise ValueError(
                    f"window={self._window!r} has no room beside the special tokens of "
                    f"{self._subject.name!r}. Give at least {len(before) + len(after) + 1}."
                )
            self._ends = before, after
        return self._ends

    def _check_ids(self, number: int, ids: np.ndarray) -> None:
        low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
        if low < 0 or (self._size is not None and high >= self._size):
            wrong = low if low < 0 else high
            raise ValueError(
                f"source: item {number} has the token id {wrong}, which {self._subject.name!r} "
                f"does not know. Allowed: 0 to {(self._size or 2**63) - 1}."
            )


def find_added_tokens(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return the special tokens that a subject's tokenizer puts around a text.

    Parameters
    ----------
    subject : Subject
        Without a tokenizer there are none.

    Returns
    -------
    before, after : ndarray of int64
        Their ids.
    """
    if subject.tokenizer is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    coded = subject.tokenizer("a", return_special_tokens_mask=True)
    ids, special = (np.array(coded[k], np.int64) for k in ("input_ids", "special_tokens_mask"))
    own = np.flatnonzero(special == 0)
    return ids[: own[0]], ids[own[-1] + 1 :]


def find_words(text: str, offsets: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return the word of each token: what white space separates.

    Parameters
    ----------
    text : str
        As it was tokenized.
    offsets : iterable of (int, int)
        First character of each token and the one after its last.

    Returns
    -------
    word : ndarray of int64, shape (n_tokens,)
        From 0; a token of white space belongs to the word that follows at once; -1: none.
    """
    begin, end = np.array(list(offsets), np.int64).reshape(-1, 2).T
    spans = np.array([m.span() for m in re.finditer(r"\S+", text)], np.int64).reshape(-1, 2)
    if not len(spans):
        return np.full(len(begin), -1, np.int64)
    word = np.searchsorted(spans[:, 1], begin, side="right")
    near = word.clip(max=len(spans) - 1)
    inked = np.where(word < len(spans), np.maximum(spans[near, 0], begin), len(text))
    begin = np.minimum(inked, end)  # the space before a word does not count
    word = np.searchsorted(spans[:, 1], begin, side="right")
    near = word.clip(max=len(spans) - 1)
    inside = (word < len(spans)) & (spans[near, 0] < np.maximum(end, begin + 1))
    return np.where(inside, word, -1)
