"""What a session says of itself: text for a terminal, HTML for a notebook, values for JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from netphys.data._series import Series

if TYPE_CHECKING:
    from netphys.data.session import Session


def make_site_table(series: Mapping[str, Series]) -> pd.DataFrame:
    """Return one row per stored site, indexed by its name."""
    rows = [
        {
            "site": name,
            "kind": s.kind,
            "clock": s.clock,
            "n_samples": s.n_rows,
            "n_units": s.n_units,
            "dtype": s.dtype,
            "megabytes": s.megabytes,
        }
        for name, s in series.items()
    ]
    columns = ["site", "kind", "clock", "n_samples", "n_units", "dtype", "megabytes"]
    return pd.DataFrame(rows, columns=columns).set_index("site")


def make_text(session: Session) -> str:
    """Return what is in the session as a few lines of text."""
    facts = "\n".join(f"{k:<11}{v}" for k, v in _list_facts(session).items())
    table = session.site_table
    width = max(map(len, session.sites), default=0)
    lines = [
        f"  {name:<{width}}  {row.kind:<8} {row.n_samples:>8} "
        f"{row.clock}s x {row.n_units} units  {row.dtype}"
        for name, row in zip(table.index, table.itertuples(), strict=True)
    ]
    return "\n".join([facts, *lines])


def make_html(session: Session) -> str:
    """Return what is in the session as two HTML tables."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(k)}</th>"
        f"<td style='text-align:left'>{html.escape(v)}</td></tr>"
        for k, v in _list_facts(session).items()
    )
    return f"<table>{rows}</table>{session.site_table.to_html(float_format='%.2f')}"


def make_summary(session: Session) -> dict:
    """Return what is in the session as JSON-ready values."""
    commits = session.commits
    table = session.site_table.reset_index()
    return {
        "path": str(session.path),
        "title": session.title,
        "complete": bool(commits.all()),
        "batches": {"planned": len(commits), "committed": int(commits.sum())},
        "n_trials": len(session.trial_table),
        "stream": session.stream,
        "online": session.online_tables,
        "sites": json.loads(table.to_json(orient="records")),
        "counts": json.loads(session.counts.reset_index().to_json(orient="records")),
        "packing": session.packing,
        "subject": session.provenance["subject"],
        "layout": session.provenance["layout"],
        "versions": session.provenance["versions"],
    }


def _describe_stimuli(session: Session, stream: Mapping[str, int] | None) -> str:
    if stream is not None:
        shown = ", ".join(f"{n:,} {name}" for name, n in stream.items())
        return f"corpus {session.provenance['stimuli']['name']!r}: {shown}"
    clocks = "".join(f", {len(session.samples(c))} {c}s" for c in session.clocks)
    return f"{len(session.trial_table)} trials{clocks}"


def _list_facts(session: Session) -> dict[str, str]:
    commits = session.commits
    state = "complete" if commits.all() else "unfinished (record again to resume)"
    subject, stream, tables = session.provenance["subject"], session.stream, session.online_tables
    facts = {
        "session": str(session.path),
        "subject": f"{subject['name']}, init {subject['init']}"
        + (f" (seed {subject['seed']})" if subject["init"] != "trained" else ""),
        "stimuli": _describe_stimuli(session, stream),
        "recorded": state
        if stream is not None
        else f"{commits.sum()} of {len(commits)} batches, {state}",
        "size": f"{session.site_table.megabytes.sum():.1f} MB at {len(session.sites)} sites",
    }
    if tables:
        facts["online"] = f"{len(tables)} tables: session.online(name)"
    if session.packing is not None:
        ratio = session.site_table.megabytes.sum() * 1e6 / session.path.stat().st_size
        order, level = session.packing["order"], session.packing["level"]
        facts["packed"] = f"{ratio:.2f} to 1 (zstd level {level}, in {order} order)"
    bad = session.counts.sum()
    if bad.any():
        facts["warning"] = ", ".join(f"{n:,} {c} values" for c, n in bad.items() if n)
    return facts
