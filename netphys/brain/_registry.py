"""What is known of every brain data set: what it is, who made it, and each of its files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netphys._check import check_option, check_type

REGISTRY = Path(__file__).with_name("registry.toml")


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: where it stands inside the set's folder, and what it must hold."""

    path: str
    n_bytes: int
    sha256: str
    url: str


@dataclass(frozen=True)
class Entry:
    """One data set of the registry."""

    name: str
    title: str
    version: str
    modality: str
    order: str
    n_participants: int
    doi: str
    citation: str
    licence: str
    licence_text: str
    origin: str
    files: tuple[DataFile, ...]

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    @property
    def shipped(self) -> bool:
        return not any(file.url for file in self.files)

    def describe(self) -> str:
        """Return title, origin, licence and citation as lines of text."""
        lines = {
            "data set": f"{self.name}, version {self.version}: {self.title}",
            "origin": self.origin,
            "licence": f"{self.licence}. {' '.join(self.licence_text.split())}",
            "cite": self.citation + (f" doi:{self.doi}" if self.doi else ""),
        }
        return "\n".join(f"{name + ':':<10}{text}" for name, text in lines.items())


def get_entry(name: str) -> Entry:
    """Return the registry's entry; the message of the error names the others."""
    check_type("name", name, str, "the name of a brain data set")
    entries = read_registry()
    check_option("name", name, entries)
    return entries[name]


@cache
def read_registry() -> dict[str, Entry]:
    """Return all entries by name, in the order of the file."""
    content = tomllib.loads(REGISTRY.read_text(encoding="utf-8"))
    return {name: _make_entry(name, facts) for name, facts in content.items()}


def _make_entry(name: str, facts: dict) -> Entry:
    base = facts.pop("base", "")
    files = tuple(
        DataFile(f["path"], f["bytes"], f["sha256"], f.get("url") or (base and base + f["path"]))
        for f in facts.pop("files")
    )
    return Entry(name=name, files=files, **facts)
