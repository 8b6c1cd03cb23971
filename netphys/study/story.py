"""The report of a study: what was asked, shown, recorded and found, and what it is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from netphys._options import ISOLATED, SUBJECT
from netphys._version import read_version
from netphys.data.citations import get_bibtex
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.protocol import Protocol
from netphys.report import Section, save_report
from netphys.study.parts import Findings

_TOKENS = "; tokens of a stimulus were averaged, special tokens left out"
_POOLED = {"text": _TOKENS, "tokens": _TOKENS, "frames": "; frames of a stimulus were averaged"}
_CONTROLS = (
    "In the same way, every layer of the subject was compared with the best layer of each other "
    "network as a paired difference; to take the best one is in favour of the other network."
)


def save_story(
    protocol: Protocol, sessions: Mapping[str, Session], results: Mapping[str, Result], path: Path
) -> Path:
    """Write the HTML report of a study.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    sessions : mapping of str to Session
        All that were recorded.
    results : mapping of str to Result
        What came out.
    path : Path
        File to make.

    Returns
    -------
    path : Path
        The file.
    """
    if protocol.analysis == "rsa":
        from netphys.study.story_rsa import find_findings
    elif protocol.analysis == "topology":
        from netphys.study.story_topology import find_findings
    else:
        from netphys.study.story_encoding import find_findings
    findings = find_findings(protocol, results)
    sections = [
        _ask(protocol),
        _introduce(sessions),
        _show(sessions[SUBJECT], results),
        _record(sessions),
        Section("Results", findings.results.text, findings.results.pictures),
        Section(
            findings.heading, findings.match.text, findings.match.pictures, findings.match.tables
        ),
        Section(
            "Controls", findings.controls.text, findings.controls.pictures, findings.controls.tables
        ),
        Section("What it holds for", findings.holds_for),
        _tell_methods(results, sessions),
        _trace(protocol, sessions, results),
    ]
    dataset = _get_dataset(results)
    brain = {"Brain": dataset.get("title", protocol.match.dataset)} if protocol.match else {}
    return save_report(
        path,
        sections,
        title=protocol.title or "Study",
        subtitle=protocol.description,
        headline=findings.headline,
        control=findings.control,
        facts={
            "Subject": sessions[SUBJECT].provenance["subject"]["name"],
            "Stimuli": f"{len(sessions[SUBJECT].trial_table):,}",
            **brain,
            "netphys": read_version(),
        },
    )


def _ask(protocol: Protocol) -> Section:
    question = protocol.question or protocol.description or "No question was written down."
    return Section("Question", (question,))


def _introduce(sessions: Mapping[str, Session]) -> Section:
    rows = []
    for name, session in sessions.items():
        subject = session.provenance["subject"]
        rows.append(
            {
                "session": name,
                "network": subject["name"],
                "class": subject["class"],
                "weights": _describe_weights(subject),
                "parameters": subject["n_parameters"],
            }
        )
    text = "Every network is an experimental subject with fixed weights."
    if any(s.provenance["subject"]["init"] != "trained" for s in sessions.values()):
        text += " Those with random or shuffled weights are controls: they have learned nothing."
    return Section("Subject", (text,), tables={"Networks": pd.DataFrame(rows)})


def _describe_weights(subject: Mapping) -> str:
    if subject["n_parameters"] == 0:
        return "none"
    seed = f", seed {subject['seed']}" if subject["init"] != "trained" else ""
    return subject["init"] + seed


def _show(session: Session, results: Mapping[str, Result]) -> Section:
    table = session.trial_table.sort_values("stimulus_index", kind="stable")
    facts = session.provenance["stimuli"]
    text = [f"{len(table):,} stimuli of the kind {facts['kind']!r} ({facts['name']})."]
    if session.provenance.get("context_rule"):
        n_words = table["context"].str.split().str.len()
        text.append(
            f"Each is shown after its context of up to {n_words.max()} words, which is not "
            f"recorded. Rule: {session.provenance['context_rule']}."
        )
    hidden = ("start_time", "stop_time", "batch", "stimulus_index", "variability", "context")
    shown = [
        c for c in table if c not in hidden and not c.startswith(("first_sample", "n_samples"))
    ]
    first = table[shown[:8]].head(6).reset_index(drop=True)
    return Section("Stimuli", tuple(text), tables={"The first stimuli": first})


def _record(sessions: Mapping[str, Session]) -> Section:
    rows = []
    for name, session in sessions.items():
        table = session.site_table
        rows.append(
            {
                "session": name,
                "file": session.path.name,
                "sites": len(table),
                "units": int(table["n_units"].sum()),
                "samples": ", ".join(
                    f"{n:,} {clock}s"
                    for clock, n in table.groupby("clock")["n_samples"].max().items()
                ),
                "stored as": ", ".join(dict.fromkeys(table["dtype"])),
                "MB": table["megabytes"].sum(),
                "not finite": int(session.counts["nonfinite"].sum()),
                "overflowed": int(session.counts["overflow"].sum()),
            }
        )
    text = (
        "Activations were stored as the networks computed them, on batches of stimuli of equal "
        "length without padding, in NWB files that pynwb, pynapple and MatNWB open."
    )
    if ISOLATED in sessions:
        text += " The session 'isolated' holds the same network on each word form alone."
    return Section("Recording", (text,), tables={"Sessions": pd.DataFrame(rows)})


def _tell_methods(results: Mapping[str, Result], sessions: Mapping[str, Session]) -> Section:
    subject = sessions[SUBJECT].provenance
    recorded = (
        f"Activations of {subject['subject']['name']} ({subject['subject']['n_parameters']:,} "
        f"parameters) were recorded with netphys {read_version()}"
        f"{_POOLED.get(subject['stimuli']['kind'], '')}."
    )
    paragraphs = [recorded]
    keys: list[str] = []
    for name, result in results.items():
        paragraphs.append(_CONTROLS if name == "controls" else result.describe_methods())
        keys += result.get_citations()
    keys += Findings.cite(_get_dataset(results).get("name", ""))
    keys = list(dict.fromkeys(keys))
    return Section(
        "Methods", tuple(dict.fromkeys(paragraphs)), code={"References": get_bibtex(*keys)}
    )


def _trace(
    protocol: Protocol, sessions: Mapping[str, Session], results: Mapping[str, Result]
) -> Section:
    dataset = _get_dataset(results)
    text = ["Everything that is needed to do it again."]
    if dataset:
        text.append(
            f"Brain data: {dataset['title']}, version {dataset['version']}. Licence: "
            f"{dataset['licence']}. {dataset['citation']}"
            + (f" doi:{dataset['doi']}" if dataset["doi"] else "")
        )
    left_out = next(
        (r.params["excluded"] for r in results.values() if "excluded" in r.params), "{}"
    )
    if people := json.loads(left_out):
        text.append("Left out: " + "; ".join(f"{who} ({why})" for who, why in people.items()) + ".")
    kept = ("subject", "stimuli", "versions", "threads", "machine", "created", "identifier")
    of_sessions = {
        name: {k: session.provenance[k] for k in kept} for name, session in sessions.items()
    }
    of_results = {
        name: {"params": dict(r.params), "provenance": dict(r.provenance)}
        for name, r in results.items()
    }
    return Section(
        "Provenance",
        tuple(text),
        code={
            "Protocol": protocol.to_json(),
            "Sessions": json.dumps(of_sessions, indent=1),
            "Results": json.dumps(of_results, indent=1, default=str),
        },
    )


def _get_dataset(results: Mapping[str, Result]) -> dict:
    return next(
        (r.provenance["dataset"] for r in results.values() if "dataset" in r.provenance), {}
    )
