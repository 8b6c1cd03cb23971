"""Record the same stimuli over seeds, checkpoints or models into a family of files."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from netphys._check import check_option, check_type, suggest
from netphys.data._cohort_file import (
    MANIFEST,
    Manifest,
    Member,
    check_labels,
    is_finished,
    load_manifest,
)
from netphys.data._files import FileLock
from netphys.data.cohort import FACTORS, Cohort, open_cohort
from netphys.data.stimuli import Stimuli
from netphys.recording.record import record
from netphys.recording.sites import select_sites
from netphys.recording.subject import Subject, load_subject

_OWN = ("resume", "overwrite", "progress")  # of record, decided for the cohort as a whole
_UNTRAINED = ("random", "shuffled")


@dataclass(frozen=True)
class _Entry:
    """A member before it is recorded; `subject` is set where it is in memory anyway."""

    label: str
    source: dict
    load: Callable[[], Subject]
    subject: Subject | None = None


def record_cohort(
    subjects: Mapping[str, object] | str | os.PathLike | torch.nn.Module,
    stimuli: Stimuli,
    folder: str | os.PathLike,
    *,
    seeds: Sequence[int] | None = None,
    init: str = "random",
    revisions: Sequence[str] | None = None,
    factor: str | None = None,
    load: Mapping[str, object] | None = None,
    resume: bool = False,
    progress: bool = True,
    **options: object,
) -> Cohort:
    """Record the same stimuli over seeds, checkpoints or models, one file each.

    Parameters
    ----------
    subjects : mapping, str, path-like or Module
        Label to subject, name or folder of a model, or a function without arguments that returns a
        subject; these are loaded one at a time, and let go before the next. Or one model, with
        `seeds` or `revisions`.
    stimuli : Stimuli
        What every member is shown.
    folder : path-like
        Where the files go: ``<label>.nwb`` each, and ``cohort.json``.
    seeds : sequence of int, optional
        Untrained twins of one model, labels "seed0", "seed1", ...
    init : str
        With `seeds`: "random" or "shuffled".
    revisions : sequence of str, optional
        Checkpoints of one model on the Hugging Face hub; these are the labels.
    factor : str, optional
        What varies in a mapping: "model" (if left out), "checkpoint" or "seed".
    load : dict, optional
        Options of `load_subject` for what is loaded here, such as dtype and device.
    resume : bool
        Go on with a cohort: finished members are kept as they are, an unfinished one goes on, new
        ones are added.
    progress : bool
        Show a progress bar over members.
    **options : object
        Options of `record`.

    Returns
    -------
    cohort : Cohort
        As `open_cohort` gives it.

    Raises
    ------
    FileExistsError
        If the folder has a cohort or a file of a member, and `resume` is not set.
    BlockingIOError
        If another process is recording into this folder.
    ValueError
        If a label is unsafe, a member has other sites than the first (seeds and checkpoints), or
        what is to be resumed was recorded with other stimuli or options.

    Examples
    --------
    >>> stimuli = load_stimuli(["The dog barked.", "Two cats slept."])
    >>> seeds = [0, 1]
    >>> cohort = record_cohort("builtin:language", stimuli, "c", seeds=seeds, progress=False)
    >>> cohort.pool("transformer.h.0").dims
    ('seed', 'trial', 'unit')
    """
    check_type("stimuli", stimuli, Stimuli, "what load_stimuli returns")
    check_type("folder", folder, (str, os.PathLike), "a folder")
    _check_options(options)
    entries, varies = _list_entries(subjects, seeds, init, revisions, dict(load or {}))
    factor = _decide_factor(factor, varies, isinstance(subjects, Mapping))
    check_labels(e.label for e in entries)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / MANIFEST):
        manifest = _plan(entries, stimuli, folder, factor, options, resume)
        manifest.save(folder)
        with tqdm(entries, desc=folder.name, unit="member", disable=not progress) as bar:
            for entry in bar:
                bar.set_postfix_str(entry.label)
                try:
                    manifest = _record_member(entry, manifest, stimuli, folder, options, resume)
                except BaseException as error:
                    error.add_note(f"netphys: while recording {entry.label!r} of the cohort")
                    raise
                manifest.save(folder)
                gc.collect()  # a model and its caches may hold each other
    return open_cohort(folder)


def _check_options(options: Mapping[str, object]) -> None:
    known = [
        name
        for name, p in inspect.signature(record).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in _OWN
    ]
    for name in options:
        if name not in known:
            raise TypeError(
                f"{name}= is no option of record_cohort.{suggest(name, known)} "
                "Options of record can be given, but overwrite=: remove the folder yourself."
            )


def _list_entries(
    subjects: object,
    seeds: Sequence[int] | None,
    init: str,
    revisions: Sequence[str] | None,
    load: dict,
) -> tuple[list[_Entry], str]:
    """Return the members in order, and what varies between them."""
    if isinstance(subjects, Mapping):
        if seeds is not None or revisions is not None:
            raise ValueError(
                "seeds= and revisions= are for one model, subjects is a mapping. Give one of them."
            )
        if not subjects:
            raise ValueError("subjects is empty. Give at least one: {'a': subject}.")
        return [_make_entry(label, s, load) for label, s in subjects.items()], "model"
    kinds = (str, os.PathLike, torch.nn.Module)
    check_type("subjects", subjects, kinds, "a mapping of labels to subjects, or one model")
    if (seeds is None) == (revisions is None):
        raise ValueError("subjects is one model. Give seeds= or revisions= (one of the two).")
    if seeds is not None:
        check_option("init", init, _UNTRAINED)
        return [_make_seed(subjects, s, init, load) for s in _check_seeds(seeds)], "seed"
    check_type("revisions", revisions, (list, tuple), "a list of names of revisions")
    if not revisions or isinstance(subjects, torch.nn.Module):
        raise ValueError("revisions= needs the name of a model, and at least one revision.")
    return [_make_entry(r, subjects, load | {"revision": r}) for r in revisions], "checkpoint"


def _check_seeds(seeds: Sequence[int]) -> list[int]:
    check_type("seeds", seeds, (list, tuple, range), "a list of whole numbers")
    for seed in seeds:
        check_type("seeds", seed, int, "whole numbers")
    if not len(seeds) or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds={list(seeds)} must be different numbers of 0 or more.")
    return list(seeds)


def _make_seed(model: object, seed: int, init: str, load: dict) -> _Entry:
    options = load | {"init": init, "seed": seed}
    source = {"model": _name(model), **_plain(options)}
    return _Entry(f"seed{seed}", source, lambda: load_subject(model, **options))


def _make_entry(label: str, subject: object, load: dict) -> _Entry:
    if isinstance(subject, Subject):
        return _Entry(label, {"model": subject.name}, lambda: subject, subject)
    if isinstance(subject, (str, os.PathLike, torch.nn.Module)):
        source = {"model": _name(subject), **_plain(load)}
        return _Entry(label, source, lambda: load_subject(subject, **load))
    if not callable(subject):
        raise TypeError(
            f"subjects[{label!r}]={subject!r} is a {type(subject).__name__}. Give a subject, the "
            "name of a model, or a function without arguments that returns a subject."
        )
    return _Entry(label, {"model": "function"}, lambda: _call(label, subject))


def _call(label: str, function: Callable[[], object]) -> Subject:
    made = function()
    check_type(f"what subjects[{label!r}]() returned", made, Subject, "what load_subject returns")
    return made


def _name(model: object) -> str:
    if isinstance(model, torch.nn.Module):
        return f"module {type(model).__name__}"
    return os.fspath(model)


def _decide_factor(factor: str | None, varies: str, is_mapping: bool) -> str:
    if factor is None:
        return varies
    check_option("factor", factor, FACTORS)
    if not is_mapping and factor != varies:
        raise ValueError(f"factor={factor!r}: what is given varies by {varies!r}. Leave it out.")
    return factor


def _plan(
    entries: list[_Entry],
    stimuli: Stimuli,
    folder: Path,
    factor: str,
    options: Mapping[str, object],
    resume: bool,
) -> Manifest:
    """Return the list of members, with what an earlier call has finished."""
    shown = {"name": stimuli.name, "sha256": stimuli.compute_hash()}
    members = tuple(Member(e.label, e.source) for e in entries)
    planned = Manifest(factor, shown, _plain(options), members)
    there = [p for m in members if (p := folder / m.file).exists()]
    if (folder / MANIFEST).exists():
        if not resume:
            raise FileExistsError(
                f"folder={str(folder)!r} holds a cohort. Go on with resume=True, or choose another "
                "folder."
            )
        return _continue(planned, load_manifest(folder), folder)
    if there:
        raise FileExistsError(
            f"folder={str(folder)!r} has a file {there[0].name!r} that belongs to no cohort. "
            "Choose another folder, or move it away."
        )
    return planned


def _continue(planned: Manifest, old: Manifest, folder: Path) -> Manifest:
    """Refuse to go on with a cohort that was begun in another way."""
    now = {m.label: m for m in planned.members}
    pairs = [("factor", old.factor, planned.factor)]
    pairs += [("stimuli", old.stimuli["sha256"], planned.stimuli["sha256"])]
    names = dict.fromkeys([*old.options, *planned.options])
    pairs += [(n, old.options.get(n), planned.options.get(n)) for n in names]
    for member in old.members:
        if member.label not in now:
            raise ValueError(
                f"folder={str(folder)!r} has a member {member.label!r} that is not given now. "
                "Give all of its members (new ones may be added), or choose another folder."
            )
        pairs.append((f"subjects[{member.label!r}]", member.source, now[member.label].source))
    for name, was, given in pairs:
        if was != given:
            raise ValueError(
                f"folder={str(folder)!r} cannot be resumed: {name} was {was!r} and is now "
                f"{given!r}. Give what was given before, or choose another folder."
            )
    kept = {m.label: m for m in old.members}
    members = tuple(kept.get(m.label, m) for m in planned.members)
    return dataclasses.replace(planned, members=members, sites=old.sites)


def _record_member(
    entry: _Entry,
    manifest: Manifest,
    stimuli: Stimuli,
    folder: Path,
    options: Mapping[str, object],
    resume: bool,
) -> Manifest:
    """Record one member, unless it is finished; return the list with it."""
    member = next(m for m in manifest.members if m.label == entry.label)
    if is_finished(member, folder) and entry.subject is None:
        return manifest  # without loading the model; one in memory is compared with its file
    subject = entry.load()
    manifest = _check_sites(manifest, entry.label, subject, options.get("sites", ("resid",)))
    record(subject, stimuli, folder / member.file, resume=resume, progress=False, **options)
    return manifest.finish(entry.label, folder)


def _check_sites(
    manifest: Manifest, label: str, subject: Subject, sites: Sequence[str] | str
) -> Manifest:
    """Refuse a seed or checkpoint with other sites than the first; models may differ."""
    if manifest.factor == "model":
        return manifest
    found = [s.name for s in select_sites(subject.model, sites)]
    if manifest.sites is None:
        return dataclasses.replace(manifest, sites=found)
    odd = sorted(set(found) ^ set(manifest.sites))
    if odd:
        raise ValueError(
            f"{label!r} has other sites than the first member: {', '.join(odd[:6])}. Members that "
            f"differ by {manifest.factor} have one architecture; for others use factor='model'."
        )
    return manifest


def _plain(value: object) -> object:
    """Return options as JSON would give them back; what it cannot hold, by its name."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple, range)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
