"""Praat TextGrids: intervals with a label, and words put together from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Interval = tuple[float, float, str]

CLITICS = frozenset({"'s", "'ll", "n't", "'ve", "'re", "'m", "'d"})
PAUSES = frozenset({"", "sp", "sil"})

# What counts in a TextGrid, long or short: quoted texts, flags, and numbers that stand alone.
_TOKEN = re.compile(r'"(?:[^"]|"")*"|<\w+>|(?<!\S)[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\S)')
_COMMENT = re.compile(r"^\s*!.*$", re.MULTILINE)


def decode_textgrid(content: bytes) -> str:
    """Return the text of a TextGrid file: UTF-8, or UTF-16 with its mark."""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8-sig")


def parse_textgrid(text: str) -> dict[str, list[Interval]]:
    """Return the interval tiers of a TextGrid by name: (begin, end, label) in seconds.

    Labels are stripped of white space at both ends. Point tiers are left out.
    """
    tokens = iter(_TOKEN.findall(_COMMENT.sub("", text)))
    try:
        if [_unquote(next(tokens)) for _ in range(2)] != ["ooTextFile", "TextGrid"]:
            raise ValueError("the file does not begin as a TextGrid")
        _skip(tokens, 2)
        if next(tokens) != "<exists>":
            return {}
        tiers = [_read_tier(tokens) for _ in range(int(next(tokens)))]
    except (StopIteration, ValueError) as error:
        why = "it ends too early" if isinstance(error, StopIteration) else error
        raise ValueError(f"This is no complete TextGrid: {why}.") from None
    return {name: intervals for name, kind, intervals in tiers if kind == "IntervalTier"}


def _read_tier(tokens: Iterator[str]) -> tuple[str, str, list[Interval]]:
    kind, name = _unquote(next(tokens)), _unquote(next(tokens))
    _skip(tokens, 2)
    numbers = 2 if kind == "IntervalTier" else 1
    intervals = []
    for _ in range(int(next(tokens))):
        times = [float(next(tokens)) for _ in range(numbers)]
        intervals.append((times[0], times[-1], _unquote(next(tokens)).strip()))
    return name, kind, intervals


def _skip(tokens: Iterator[str], n: int) -> None:
    for _ in range(n):
        next(tokens)


def _unquote(token: str) -> str:
    if token[0] != '"':
        raise ValueError(f"{token} stands where a text in quotes belongs")
    return token[1:-1].replace('""', '"')


def join_words(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the words among intervals: pauses left out, clitics joined to the word before.

    A word begins with its first part and ends with its last.
    """
    words: list[Interval] = []
    for begin, end, label in intervals:
        if label in PAUSES:
            continue
        if label in CLITICS and words:
            first = words.pop()
            words.append((first[0], end, first[2] + label))
        else:
            words.append((begin, end, label))
    return words
