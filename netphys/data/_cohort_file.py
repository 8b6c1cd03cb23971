"""The list of a cohort's members: ``cohort.json`` beside their session files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from netphys._check import check_type
from netphys.data._files import sync_folder
from netphys.data.nwb_header import SessionFileError, load_digest

MANIFEST = "cohort.json"
_VERSION = 1
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_ALLOWED = re.compile(r"[A-Za-z0-9_](?:[\w .+=-]{0,98}[\w+=-])?", re.ASCII)


@dataclass(frozen=True)
class Member:
    """One session of a cohort.

    Parameters
    ----------
    label : str
        Its name; the file is ``<label>.nwb``.
    source : dict
        What was loaded, as far as it can be said in JSON.
    header : str or None
        Digest of the finished file's header; None while it is not finished.
    """

    label: str
    source: Mapping
    header: str | None = None

    @property
    def file(self) -> str:
        """Name of the session file."""
        return f"{self.label}.nwb"


@dataclass(frozen=True)
class Manifest:
    """What a cohort's folder holds.

    Parameters
    ----------
    factor : str
        "seed", "checkpoint" or "model".
    stimuli : dict
        Name and SHA-256 of the stimuli.
    options : dict
        Options of the recordings.
    members : tuple of Member
        In order.
    sites : list of str or None
        Sites that every member must have; None before the first is loaded, or where they may
        differ.
    """

    factor: str
    stimuli: Mapping
    options: Mapping
    members: tuple[Member, ...]
    sites: list[str] | None = None

    def save(self, folder: Path) -> None:
        """Replace the file of a folder in one step."""
        path, fresh = folder / MANIFEST, folder / f".{MANIFEST}.new"
        members = [{**dataclasses.asdict(m), "file": m.file} for m in self.members]
        fields = {"netphys_cohort": _VERSION, **dataclasses.asdict(self), "members": members}
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(fields, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        sync_folder(folder)

    def finish(self, label: str, folder: Path) -> Manifest:
        """Return the list with one member finished."""
        members = tuple(
            dataclasses.replace(m, header=load_digest(folder / m.file).hex())
            if m.label == label
            else m
            for m in self.members
        )
        return dataclasses.replace(self, members=members)


def load_manifest(folder: Path) -> Manifest:
    """Read the list of a folder's members; SessionFileError if it is none, or damaged."""
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields.pop("netphys_cohort")
        members = [Member(m["label"], m["source"], m["header"]) for m in fields.pop("members")]
        manifest = Manifest(members=tuple(members), **fields)
        check_labels(m.label for m in members)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SessionFileError(
            f"{path} is not the list of a cohort ({error}). Record the cohort again, or open its "
            "files one by one: open_session(path)."
        ) from error
    if version != _VERSION:
        raise SessionFileError(
            f"{path} has version {version}; this netphys reads {_VERSION}. "
            "Update netphys: pip install -U netphys."
        )
    return manifest


def is_finished(member: Member, folder: Path) -> bool:
    """Whether a member was finished, and its file is still the same."""
    path = folder / member.file
    return member.header is not None and path.exists() and load_digest(path).hex() == member.header


def check_labels(labels: Iterable[object]) -> None:
    """Raise for a label that cannot name a file everywhere, or that comes twice."""
    seen: dict[str, str] = {}
    for label in labels:
        check_type("label", label, str, "a text for each member")
        if not _ALLOWED.fullmatch(label) or _RESERVED.fullmatch(label):
            raise ValueError(
                f"label={label!r} cannot name a file on every system. Use up to 100 letters, "
                "digits, '_', '-', '+', '=', '.' and spaces, with a letter, digit or '_' in front."
            )
        twin = seen.setdefault(label.casefold(), label)
        if twin is not label:
            raise ValueError(
                f"label={label!r} and {twin!r} would name one file where upper and lower case are "
                "not told apart. Rename one of them."
            )
