"""Studies without a protocol file: one session against a dataset, and a folder's report again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from netphys._check import check_type
from netphys._options import SUBJECT
from netphys.brain.datasets import load_brain
from netphys.core.resample import MIN_PARTICIPANTS
from netphys.data.result import Result
from netphys.data.session import Session, open_session
from netphys.protocol import (
    MatchTable,
    Protocol,
    StimuliTable,
    SubjectTable,
    TwinTable,
    make_protocol,
)
from netphys.study import RESULTS, get_identifiers, load_results, save_report_of

UNTRAINED = "untrained"


def compare_session(
    session: str | os.PathLike,
    dataset: str,
    *,
    twin: str | os.PathLike | None = None,
    sites: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Result]:
    """Match one session with brain data.

    Parameters
    ----------
    session : path-like
        Session over the dataset's stimuli.
    dataset : str
        Name of a brain dataset.
    twin : path-like, optional
        Session of the same network untrained, over the same stimuli.
    sites : sequence of str, optional
        Kinds or sites to match; "embed" and "resid" where the session has them, else all.
    seed : int
        Seed of all draws.
    progress : bool
        Show progress bars.

    Returns
    -------
    results : dict of str to Result
        As `netphys run` gives them for this dataset.

    Raises
    ------
    ValueError
        If the session is of other stimuli, or the twin is none.
    """
    check_type("seed", seed, int, "a whole number of at least 0")
    if seed < 0:
        raise ValueError(f"seed={seed} is negative. Give a whole number of at least 0.")
    sessions = {SUBJECT: open_session(session)}
    if twin is not None:
        sessions[UNTRAINED] = open_session(twin)
        _check_twin(sessions[SUBJECT], sessions[UNTRAINED])
    brain = load_brain(dataset)
    timed = "responses" in brain and "time" in brain["responses"].dims
    own = sessions[SUBJECT]
    if sites is None:
        kinds = set(own.site_table["kind"])
        sites = [k for k in ("embed", "resid") if k in kinds] or own.sites
    people = brain.sizes.get("participant", 1)
    protocol = Protocol(
        subject=SubjectTable(name=own.provenance["subject"]["name"]),
        twins=(TwinTable(name=UNTRAINED),) if twin is not None else (),
        stimuli=StimuliTable(source=f"dataset:{dataset}"),
        match=MatchTable(
            dataset=dataset,
            analysis="encoding" if timed else "rsa",
            sites=tuple(sites),
            generalize=("stimuli", "participants") if people >= MIN_PARTICIPANTS else ("stimuli",),
            seed=seed,
        ),
    )
    if timed:
        from netphys.study.prediction import predict_responses

        return predict_responses(protocol, sessions, progress=progress)
    from netphys.study.geometry import match_geometry

    return match_geometry(protocol, sessions)


def _check_twin(session: Session, twin: Session) -> None:
    """Raise unless `twin` is of the same network with weights that learned nothing."""
    own, other = session.provenance["subject"], twin.provenance["subject"]
    if own["name"] != other["name"] or other["init"] == "trained":
        raise ValueError(
            f"twin={str(twin.path)!r} is of {other['name']!r}, init {other['init']}. A twin is the "
            f"same network ({own['name']!r}) with random or shuffled weights."
        )
    if own["weights_sha256"] == other["weights_sha256"]:
        raise ValueError(f"twin={str(twin.path)!r} has the weights of the session itself.")


def renew_report(folder: str | os.PathLike) -> Path:
    """Write the report of a study's folder again from its sessions and results.

    Parameters
    ----------
    folder : path-like
        Folder that `netphys run` made.

    Returns
    -------
    path : Path
        ``report.html`` in that folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it holds no results.
    ValueError
        If its sessions are not those of the results.
    """
    folder = Path(folder).expanduser()
    files = {path.stem: path for path in sorted(folder.glob("*.nwb"))}
    if SUBJECT not in files:
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds no session {SUBJECT}.nwb. Give a folder that "
            "'netphys run' made."
        )
    results = next(filter(None, (load_results(folder, kind) for kind in RESULTS)), {})
    if not results:
        raise FileNotFoundError(
            f"{folder} holds no results to report. Run a protocol with a table [match] or "
            "[topology] first: netphys run PROTOCOL --out FOLDER."
        )
    first = next(iter(results.values()))
    protocol = make_protocol(first.provenance["protocol"])
    known = first.provenance["study"]["sessions"]
    sessions = {name: open_session(folder / f"{name}.nwb") for name in known}
    if get_identifiers(sessions) != known:
        raise ValueError(
            f"{folder}: the sessions were recorded again since the results were made. Run the "
            "protocol once more: netphys run PROTOCOL --out FOLDER."
        )
    return save_report_of(protocol, sessions, results, folder)
