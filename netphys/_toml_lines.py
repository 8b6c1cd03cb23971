"""The line on which each key of a TOML file stands, which tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:\\.|[^"\\\n])*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:\\.|[^\\])*?"""(?:"{0,2})', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) on which each table, key and array item of `text` first stands.

    `text` must be TOML that tomllib reads. Paths are tuples such as ``("record", "dtype")``; items
    of arrays and arrays of tables are numbered from 0, as in ``("twins", 1, "name")``.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.lines: dict[KeyPath, int] = {}
        self.last: dict[KeyPath, int] = {}  # array of tables -> number of its newest table

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.skip(_BLANK).at < len(self.text):
            if not self.ahead("["):
                self.pair(table)
                continue
            line, double = self.line(), self.ahead("[[")
            self.at += 1 + double
            table = self.enter(self.key(), new=double)
            self.at += 1 + double
            for n in range(1, len(table) + 1):
                self.lines.setdefault(table[:n], line)
        return self.lines

    def enter(self, key: tuple[str, ...], *, new: bool) -> KeyPath:
        path: KeyPath = ()
        for n, part in enumerate(key):
            path = (*path, part)
            if new and n == len(key) - 1:
                self.last[path] = self.last.get(path, -1) + 1
            if path in self.last:
                path = (*path, self.last[path])
        return path

    def key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self.skip(_SPACE)
            if self.ahead('"') or self.ahead("'"):
                quoted = self.take(_BASIC if self.ahead('"') else _LITERAL)
                parts.append(tomllib.loads(f"key = {quoted}")["key"])
            else:
                parts.append(self.take(_BARE_KEY))
            self.skip(_SPACE)
            if not self.ahead("."):
                return tuple(parts)
            self.at += 1

    def pair(self, table: KeyPath) -> None:
        line = self.line()
        path = table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self.value(path)

    def value(self, path: KeyPath) -> None:
        self.skip(_SPACE)
        if self.ahead("[") or self.ahead("{"):
            self.container(path, closing="]" if self.ahead("[") else "}")
        elif self.ahead('"""'):
            self.take(_LONG_BASIC)
        elif self.ahead("'''"):
            self.take(_LONG_LITERAL)
        elif self.ahead('"'):
            self.take(_BASIC)
        elif self.ahead("'"):
            self.take(_LITERAL)
        else:
            self.take(_SCALAR)

    def container(self, path: KeyPath, *, closing: str) -> None:
        self.at += 1
        n = 0
        while not self.skip(_BLANK).ahead(closing):
            if self.ahead(","):
                self.at += 1
            elif closing == "}":
                self.pair(path)
            else:
                self.lines.setdefault((*path, n), self.line())
                self.value((*path, n))
                n += 1
        self.at += 1

    def ahead(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def skip(self, pattern: re.Pattern[str]) -> _Scanner:
        self.take(pattern)
        return self

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"Line {self.line()} is not TOML: {self.text[self.at :][:20]!r}.")
        self.at = found.end()
        return found.group()

    def line(self) -> int:
        return bisect_right(self.starts, self.at)
