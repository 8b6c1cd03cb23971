"""Studies: what a protocol's table ``[match]`` asks for, from sessions to results and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from netphys._version import read_version
from netphys.analysis.comparison import Comparison
from netphys.analysis.rdm import RDM
from netphys.brain.datasets import load_brain
from netphys.brain.encoding_result import Encoding
from netphys.brain.match_result import RSAMatch
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.protocol import Protocol

# The results of each analysis by the names of their files: those that are always there first.
RESULTS: dict[str, dict[str, type[Result]]] = {
    "rsa": {
        "rdms": RDM,
        "match": RSAMatch,
        "controls": RSAMatch,
        "monkey": RSAMatch,
        "species": Comparison,
    },
    "encoding": {"participant": Encoding, "group": Encoding},
}

__all__ = ["RESULTS", "check_match", "find_results", "load_results", "save_report_of"]


def check_match(protocol: Protocol) -> None:
    """Raise unless the brain data of a protocol are here and fit its analysis.

    Parameters
    ----------
    protocol : Protocol
        With a table ``[match]``.

    Raises
    ------
    FileNotFoundError
        If the dataset is not on this machine.
    ValueError
        If it is unknown, damaged, or of another kind than the analysis needs.
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
        With a table ``[match]``.
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
        results = load_results(folder, protocol.match.analysis)
        if results and all(r.provenance.get("study") == recipe for r in results.values()):
            return results
    if protocol.match.analysis == "rsa":
        from netphys.study.geometry import match_geometry

        results = match_geometry(protocol, sessions)
    else:
        from netphys.study.prediction import predict_responses

        results = predict_responses(protocol, sessions, progress=progress)
    for name in RESULTS[protocol.match.analysis]:
        (folder / f"{name}.nc").unlink(missing_ok=True)  # none of another recipe stays
    done = {}
    for name, result in results.items():
        origin = {**result.provenance, "study": recipe, "protocol": protocol.to_json()}
        done[name] = replace(result, provenance=origin)
        done[name].save(folder / f"{name}.nc", overwrite=True)
    return done


def load_results(folder: Path, analysis: str) -> dict[str, Result]:
    """Load the results of an analysis from the folder of a study.

    Parameters
    ----------
    folder : Path
        Where `netphys run` put them.
    analysis : str
        "rsa" or "encoding".

    Returns
    -------
    results : dict of str to Result
        Empty where there are none.
    """
    kinds = RESULTS[analysis]
    return {
        name: kind.load(folder / f"{name}.nc")
        for name, kind in kinds.items()
        if (folder / f"{name}.nc").exists()
    }


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


def _make_recipe(protocol: Protocol, sessions: Mapping[str, Session]) -> dict:
    """Return what results depend on, as it comes back from JSON."""
    table = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(protocol.match).items()}
    identifiers = {name: s.provenance["identifier"] for name, s in sessions.items()}
    return {"match": table, "sessions": identifiers, "netphys": read_version()}
