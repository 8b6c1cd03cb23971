"""Studies: what a protocol's ``[match]`` or ``[topology]`` asks for, from sessions to report."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import xarray as xr

from netphys._version import read_version
from netphys.analysis.comparison import Comparison
from netphys.analysis.evaluation import Evaluation
from netphys.analysis.rdm import RDM
from netphys.analysis.tolerance import NoiseTolerance
from netphys.brain.datasets import load_brain
from netphys.brain.encoding_result import Encoding
from netphys.brain.match_result import RSAMatch
from netphys.core.resample import MIN_PARTICIPANTS
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.data.stimuli import Stimuli
from netphys.protocol import Protocol
from netphys.study.prediction import WORD_COLUMNS

# The results of each analysis by the names of their files: those that are always there first.
RESULTS: dict[str, dict[str, type[Result]]] = {
    "rsa": {
        "rdms": RDM,
        "match": RSAMatch,
        "evaluation": Evaluation,
        "controls": RSAMatch,
        "monkey": RSAMatch,
        "species": Comparison,
    },
    "encoding": {"participant": Encoding, "group": Encoding},
    "topology": {"layers": RDM, "tolerance": NoiseTolerance, "control": NoiseTolerance},
}

logger = logging.getLogger(__name__)

__all__ = [
    "RESULTS",
    "check_match",
    "find_results",
    "get_identifiers",
    "load_results",
    "save_report_of",
]


def check_match(protocol: Protocol, stimuli: Stimuli) -> None:
    """Raise unless the brain data of a protocol are here and fit its analysis and stimuli.

    Parameters
    ----------
    protocol : Protocol
        With a table ``[match]``.
    stimuli : Stimuli
        What its subjects are shown.

    Raises
    ------
    FileNotFoundError
        If the dataset is not on this machine.
    ValueError
        If it is unknown, damaged, of another kind than the analysis needs, of other stimuli, or of
        too few people for what is asked.
    """
    table = protocol.match
    brain = load_brain(table.dataset)
    timed = "responses" in brain and "time" in brain["responses"].dims
    fits = "encoding" if timed else "rsa"
    if table.analysis != fits:
        raise ValueError(
            f"match.analysis={table.analysis!r} does not fit match.dataset={table.dataset!r}, "
            f"which holds {'time series' if timed else 'one pattern per stimulus'}. Use {fits!r}."
        )
    if timed:
        _check_words(protocol, stimuli)
    else:
        _check_conditions(protocol, stimuli, brain)


def _check_words(protocol: Protocol, stimuli: Stimuli) -> None:
    """Raise unless the stimuli are words in time, and nothing is recorded that goes unused."""
    missing = [c for c in WORD_COLUMNS if c not in stimuli.table]
    if missing:
        words = protocol.stimuli.context_words
        source = f"stimuli.source={protocol.stimuli.source!r}"
        raise ValueError(
            f"{source}{'' if words is None else f' with context_words={words}'} has no column "
            f"{', '.join(missing)}, so these are no words in time. Use those of the dataset: "
            f"stimuli.source='dataset:{protocol.match.dataset}', context_words of at least 1."
        )
    if protocol.others:
        raise ValueError(
            f"others[0].name={protocol.others[0].name!r}: an encoding study compares the subject "
            "with its twins only. Leave others out (others=[]), or run them as subjects."
        )


def _check_conditions(protocol: Protocol, stimuli: Stimuli, brain: xr.Dataset) -> None:
    """Raise unless the stimuli are those of the brain data, and people are enough to sample."""
    table = protocol.match
    theirs = brain["rdm"]["condition"] if "rdm" in brain else brain["responses"]["stimulus_id"]
    differ = set(theirs.to_numpy().tolist()) ^ set(stimuli.table["stimulus_id"])
    if differ:
        raise ValueError(
            f"stimuli.source={protocol.stimuli.source!r} and match.dataset={table.dataset!r} have "
            f"different stimuli ({len(differ)} are in one only, such as {min(differ)!r}). Use "
            f"those of the dataset: stimuli.source='dataset:{table.dataset}'."
        )
    if table.generalize == ("participants",):
        raise ValueError(
            "match.generalize=['participants'] would treat these stimuli as all there are. Give "
            "['stimuli', 'participants']."
        )
    people = brain.sizes["participant"]
    if "participants" in table.generalize and people < MIN_PARTICIPANTS:
        raise ValueError(
            f"match.generalize={list(table.generalize)}: {table.dataset!r} has {people} people; "
            f"at least {MIN_PARTICIPANTS} are needed to speak of others. Give ['stimuli']."
        )


def find_results(
    protocol: Protocol,
    sessions: Mapping[str, Session],
    folder: Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Result]:
    """Return the results of a study: those in its folder if they are of the same, else new ones.

    Parameters
    ----------
    protocol : Protocol
        With a table ``[match]`` or ``[topology]``.
    sessions : mapping of str to Session
        All that were recorded.
    folder : Path
        Where result files are, or will be.
    overwrite : bool
        Compute anew in any case.
    progress : bool
        Show progress bars.

    Returns
    -------
    results : dict of str to Result
        By the names of their files.
    """
    recipe = _make_recipe(protocol, sessions)
    if not overwrite:
        results = _load_valid(folder, protocol.analysis)
        if results and all(r.provenance["study"] == recipe for r in results.values()):
            return _save_all(results, folder, protocol)  # its title may be another
    if protocol.analysis == "rsa":
        from netphys.study.geometry import match_geometry

        results = match_geometry(protocol, sessions)
    elif protocol.analysis == "topology":
        from netphys.study.topology import identify_layers

        results = identify_layers(protocol, sessions, progress=progress)
    else:
        from netphys.study.prediction import predict_responses

        results = predict_responses(protocol, sessions, progress=progress)
    for name in (name for kinds in RESULTS.values() for name in kinds):
        (folder / f"{name}.nc").unlink(missing_ok=True)  # none of another recipe stays
    facts = {"study": recipe, "results": list(results)}
    results = {
        name: replace(r, provenance={**r.provenance, **facts}) for name, r in results.items()
    }
    return _save_all(results, folder, protocol)


def _save_all(results: Mapping[str, Result], folder: Path, protocol: Protocol) -> dict[str, Result]:
    """Save every result that does not carry this protocol yet."""
    content, done = protocol.to_json(), {}
    for name, result in results.items():
        done[name] = result
        if result.provenance.get("protocol") != content:
            done[name] = replace(result, provenance={**result.provenance, "protocol": content})
            done[name].save(folder / f"{name}.nc", overwrite=True)
    return done


def _load_valid(folder: Path, analysis: str) -> dict[str, Result]:
    """Load results; none if a file is damaged, so that they are computed again."""
    try:
        return load_results(folder, analysis)
    except ValueError as error:
        logger.warning("%s It is computed again.", error)
        return {}


def load_results(folder: Path, analysis: str) -> dict[str, Result]:
    """Load the results of an analysis from the folder of a study.

    Parameters
    ----------
    folder : Path
        Where `netphys run` put them.
    analysis : str
        "rsa", "encoding" or "topology".

    Returns
    -------
    results : dict of str to Result
        Empty where there are none, or not all that belong together.
    """
    found = {
        name: kind.load(folder / f"{name}.nc")
        for name, kind in RESULTS[analysis].items()
        if (folder / f"{name}.nc").exists()
    }
    names = next((r.provenance.get("results", []) for r in found.values()), [])
    return {name: found[name] for name in names} if set(names) == set(found) else {}


def save_report_of(
    protocol: Protocol,
    sessions: Mapping[str, Session],
    results: Mapping[str, Result],
    folder: Path,
) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    sessions : mapping of str to Session
        All that were recorded.
    results : mapping of str to Result
        Of `find_results`.
    folder : Path
        Where ``report.html`` goes.

    Returns
    -------
    path : Path
        The report.
    """
    from netphys.study.story import save_story

    return save_story(protocol, sessions, results, folder / "report.html")


def get_identifiers(sessions: Mapping[str, Session]) -> dict[str, str]:
    """Return what tells sessions from others that were recorded alike.

    Parameters
    ----------
    sessions : mapping of str to Session
        By name.

    Returns
    -------
    identifiers : dict of str to str
        By name.
    """
    return {name: session.provenance["identifier"] for name, session in sessions.items()}


def _make_recipe(protocol: Protocol, sessions: Mapping[str, Session]) -> dict:
    """Return what results depend on, as it comes back from JSON."""
    tables = json.loads(protocol.to_json())
    return {
        **{key: tables[key] for key in ("match", "topology") if tables[key] is not None},
        "twins": [twin["name"] for twin in tables["twins"]],
        "others": tables["others"],
        "sessions": get_identifiers(sessions),
        "netphys": read_version(),
    }
