"""Run a protocol: record its subjects, do its study, write the report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from netphys._check import check_type, suggest
from netphys._options import ISOLATED, SEED, SUBJECT
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.data.stimuli import Stimuli, load_stimuli
from netphys.protocol import Protocol
from netphys.recording.record import choose_kept, record
from netphys.recording.subject import Subject, load_subject

DATASET = "dataset:"


class Study(NamedTuple):
    """What running a protocol gives.

    Attributes
    ----------
    sessions : dict of str to Session
        "subject" first, then twins and others by their names.
    results : dict of str to Result
        What the study gave; empty without a table ``[match]`` or ``[topology]``.
    report : Path or None
        The HTML report; None without such a table.
    """

    sessions: dict[str, Session]
    results: dict[str, Result]
    report: Path | None


def run_protocol(
    protocol: Protocol,
    *,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Study:
    """Do what a protocol says: one session file per subject, then results and report.

    Running it again is safe: finished sessions and results are kept as they are, unfinished
    sessions go on where they stopped, and a session that was made in another way raises.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.
    out : path-like, optional
        Folder of the files; ``results/<name of the protocol>`` if left out.
    overwrite : bool
        Do everything anew over what is there.
    progress : bool
        Show progress bars.

    Returns
    -------
    study : Study
        Sessions, results, and where the report is.

    Raises
    ------
    ValueError
        If the protocol names an unknown subject, site, stimulus set or dataset.
    FileNotFoundError
        If a dataset that it needs is not on this machine.
    """
    check_type("protocol", protocol, Protocol, "what load_protocol returns")
    folder = get_folder(protocol, out)
    stimuli = load_shown(protocol)
    _check_dataset(protocol, stimuli)
    sessions = _record_all(protocol, stimuli, folder, overwrite, progress)
    if protocol.analysis is None:
        return Study(sessions, {}, None)
    from netphys.study import find_results, save_report_of

    results = find_results(protocol, sessions, folder, overwrite=overwrite, progress=progress)
    return Study(sessions, results, save_report_of(protocol, sessions, results, folder))


def _record_all(
    protocol: Protocol, stimuli: Stimuli, folder: Path, overwrite: bool, progress: bool
) -> dict[str, Session]:
    """Record every subject of a protocol; each is in memory only while it is recorded."""
    resolved, sessions = json.loads(protocol.to_json()), {}
    own_sites = {name: o.sites for o in protocol.others for name in o.session_names}
    for name, subject in make_subjects(protocol):
        sites = own_sites.get(name) or protocol.record.sites
        find_recorded(protocol, subject, sites)
        shown = {name: stimuli}
        if name == SUBJECT and _needs_isolated(protocol):
            shown[ISOLATED] = _isolate(load_shown(protocol, context_words=0))
        for label, set_shown in shown.items():
            sessions[label] = record(
                subject,
                set_shown,
                folder / f"{label}.nwb",
                sites=sites,
                **protocol.record.to_options(),
                resume=not overwrite,
                overwrite=overwrite,
                progress=progress,
                protocol=resolved,
            )
        del subject  # before the next one is loaded
    return sessions


def load_shown(protocol: Protocol, *, context_words: int | None = None) -> Stimuli:
    """Load the stimuli of a protocol.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.
    context_words : int, optional
        In place of what the protocol says; 0: each word form alone.

    Returns
    -------
    stimuli : Stimuli
        A file's, a shipped set, or those of a brain dataset.
    """
    table = protocol.stimuli
    words = table.context_words if context_words is None else context_words
    options = {} if words is None else {"context_words": words}
    if table.source.startswith(DATASET):
        from netphys.brain.datasets import load_brain_stimuli

        return load_brain_stimuli(table.source.removeprefix(DATASET), **options)
    if options:
        raise ValueError(
            f"stimuli.context_words={words} is for the words of a dataset, not for "
            f"{table.source!r}. Give a column `context` in the table instead."
        )
    return load_stimuli(table.source)


def _isolate(forms: Stimuli) -> Stimuli:
    """Show every word after a space: without one, many tokenizers cut it in other tokens."""
    return replace(forms, table=forms.table.assign(context=" "))


def _needs_isolated(protocol: Protocol) -> bool:
    """Whether the subject is also shown each word alone: the control of an encoding study."""
    match, shown = protocol.match, protocol.stimuli
    words = match is not None and match.analysis == "encoding"
    return words and shown.source.startswith(DATASET) and shown.context_words != 0


def _check_dataset(protocol: Protocol, stimuli: Stimuli) -> None:
    """Raise before anything is recorded if the brain data are not there or do not fit."""
    if protocol.topology is not None:
        from netphys.study.topology import check_networks

        check_networks(protocol)
    if protocol.match is None:
        return
    from netphys.study import check_match

    check_match(protocol, stimuli)


def find_recorded(protocol: Protocol, subject: Subject, patterns: tuple[str, ...]) -> list[str]:
    """Find the sites of a subject that a protocol records, and those to match among them.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.
    subject : Subject
        One of its networks.
    patterns : tuple of str
        Its ``record.sites``, or the sites of one of its ``[[others]]``.

    Returns
    -------
    names : list of str
        Sites in order of depth.

    Raises
    ------
    ValueError
        If a site is unknown, or one that is to be matched is not recorded.
    """
    from netphys.recording.sites import select_sites

    sites = select_sites(subject.model, patterns)
    table, key = protocol.match or protocol.topology, "match" if protocol.match else "topology"
    wanted = table.sites if table and patterns == protocol.record.sites else ()
    for n, pattern in enumerate(wanted):
        rule = re.compile(re.escape(pattern).replace(r"\*", "[^.]*"))
        if not any(pattern == s.kind or rule.fullmatch(s.name) for s in sites):
            known = [*(s.name for s in sites), *(str(s.kind) for s in sites)]
            raise ValueError(
                f"{key}.sites[{n}]={pattern!r} is not among the sites that are recorded "
                f"(record.sites={list(patterns)}).{suggest(pattern, known)} Record it too, or "
                "leave it out."
            )
    return [s.name for s in sites]


def get_folder(protocol: Protocol, out: str | os.PathLike | None) -> Path:
    """Return the folder for the sessions of a protocol.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.
    out : path-like or None
        What the user asked for.

    Returns
    -------
    folder : Path
        Not made yet.
    """
    if out is not None:
        return Path(out).expanduser()
    return Path("results") / (protocol.path.stem if protocol.path else "protocol")


def make_subjects(protocol: Protocol) -> Iterator[tuple[str, Subject]]:
    """Load the subject of a protocol, then its twins and others, one after the other.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.

    Yields
    ------
    name : str
        Name of its session: "subject", a twin's or another's.
    subject : Subject
        Loaded when it is asked for, so that only one is in memory.
    """
    own = protocol.subject
    versions = [(SUBJECT, own.init, own.seed), *((t.name, t.init, t.seed) for t in protocol.twins)]
    for name, init, seed in versions:
        yield (
            name,
            load_subject(
                own.name,
                init=init,
                seed=seed,
                dtype=own.dtype,
                device=own.device,
                revision=own.revision,
                trust_remote_code=own.trust_remote_code,
            ),
        )
    for other in protocol.others:
        for name, seed in other.session_names.items():
            network = other.get_subject(seed)
            yield name, load_subject(network, init=other.init, seed=seed, device=own.device)


def check_protocol(protocol: Protocol) -> tuple[Subject, Stimuli, list[str]]:
    """Load what a protocol names and find its sites, without recording anything.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.

    Returns
    -------
    subject : Subject
        The subject.
    stimuli : Stimuli
        The stimuli, which the subject can take.
    sites : list of str
        Names of the sites that would be recorded.

    Raises
    ------
    ValueError
        If the protocol names an unknown subject, site or stimulus set.
    """
    from netphys.recording.generate import make_generation
    from netphys.recording.present import present

    options = protocol.record.to_options()
    kept = ("store", "dtype", "units", "threshold", "top_k", "online")
    choose_kept(**{name: options[name] for name in kept})
    make_generation(options["generate"])
    stimuli = load_shown(protocol)
    _check_dataset(protocol, stimuli)
    _, subject = next(make_subjects(protocol))
    present(subject, stimuli)
    names = find_recorded(protocol, subject, protocol.record.sites)
    for other in protocol.others:
        seed, device = other.seeds[0], protocol.subject.device
        named = [other.get_subject(s) for s in other.seeds]
        for name in dict.fromkeys(named) if SEED in other.subject else named[:1]:
            network = load_subject(name, init=other.init, seed=seed, device=device)
            present(network, stimuli)
            find_recorded(protocol, network, other.sites or protocol.record.sites)
    return subject, stimuli, names
