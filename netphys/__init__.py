"""netphys: record trained neural networks the way a neuroscientist records a brain.

The names below are loaded when they are first used, so that ``import netphys`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from netphys._version import explain_missing, read_version

if TYPE_CHECKING:
    from netphys.analysis.rsa import compute_rdm
    from netphys.data.session import Session, open_session
    from netphys.data.stimuli import Stimuli, load_stimuli
    from netphys.protocol import Protocol, load_protocol
    from netphys.recording.corpus import Corpus
    from netphys.recording.record import record
    from netphys.recording.subject import Subject, load_subject
    from netphys.run import run_protocol

__all__ = [
    "Corpus",
    "Protocol",
    "Session",
    "Stimuli",
    "Subject",
    "compute_rdm",
    "load_protocol",
    "load_stimuli",
    "load_subject",
    "open_session",
    "record",
    "run_protocol",
]

_HOMES = {
    "Corpus": "netphys.recording.corpus",
    "Protocol": "netphys.protocol",
    "Session": "netphys.data.session",
    "Stimuli": "netphys.data.stimuli",
    "Subject": "netphys.recording.subject",
    "compute_rdm": "netphys.analysis.rsa",
    "load_protocol": "netphys.protocol",
    "load_stimuli": "netphys.data.stimuli",
    "load_subject": "netphys.recording.subject",
    "open_session": "netphys.data.session",
    "record": "netphys.recording.record",
    "run_protocol": "netphys.run",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = read_version()
    elif name in _HOMES:
        try:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            raise ImportError(explain_missing(error), name=error.name) from error
    else:
        raise AttributeError(f"module 'netphys' has no attribute {name!r}.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
