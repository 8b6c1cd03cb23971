"""Run a protocol: record its subject and its twins on the same stimuli."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from netphys._check import check_type
from netphys._options import SUBJECT
from netphys.data.session import Session
from netphys.data.stimuli import Stimuli, load_stimuli
from netphys.protocol import Protocol
from netphys.recording.record import record
from netphys.recording.subject import Subject, load_subject


def run_protocol(
    protocol: Protocol,
    *,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Session]:
    """Record what a protocol says, one session file per subject.

    Running it again is safe: finished sessions are kept as they are, unfinished ones go on where
    they stopped, and a session that was made in another way raises.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.
    out : path-like, optional
        Folder of the sessions; ``results/<name of the protocol>`` if left out.
    overwrite : bool
        Record anew over existing sessions.
    progress : bool
        Show progress bars.

    Returns
    -------
    sessions : dict of str to Session
        "subject" first, then every twin by its name.

    Raises
    ------
    ValueError
        If the protocol names an unknown subject, site or stimulus set.
    """
    check_type("protocol", protocol, Protocol, "what load_protocol returns")
    folder = get_folder(protocol, out)
    stimuli = load_stimuli(protocol.stimuli.source)
    resolved = json.loads(protocol.to_json())
    sessions = {}
    for name, subject in make_subjects(protocol):
        sessions[name] = record(
            subject,
            stimuli,
            folder / f"{name}.nwb",
            sites=protocol.record.sites,
            dtype=protocol.record.dtype,
            batch_size=protocol.record.batch_size,
            nonfinite=protocol.record.nonfinite,
            resume=not overwrite,
            overwrite=overwrite,
            progress=progress,
            protocol=resolved,
        )
        del subject  # before the next one is loaded
    return sessions


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
        return Path(out)
    return Path("results") / (protocol.path.stem if protocol.path else "protocol")


def make_subjects(protocol: Protocol) -> Iterator[tuple[str, Subject]]:
    """Load the subject of a protocol, then its twins, one after the other.

    Parameters
    ----------
    protocol : Protocol
        From `load_protocol`.

    Yields
    ------
    name : str
        "subject", or the name of the twin.
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
    from netphys.recording.present import present
    from netphys.recording.sites import select_sites

    stimuli = load_stimuli(protocol.stimuli.source)
    _, subject = next(make_subjects(protocol))
    present(subject, stimuli)
    return subject, stimuli, [s.name for s in select_sites(subject.model, protocol.record.sites)]
