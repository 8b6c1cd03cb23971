"""How a session was made, as its file tells it, and whether it may be gone on with."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata

import torch

from netphys.data.nwb_header import LAYOUT_VERSION
from netphys.data.nwb_layout import SessionSpec
from netphys.data.session import Session
from netphys.data.stimuli import Stimuli
from netphys.recording.corpus import Corpus
from netphys.recording.plan import SitePlan
from netphys.recording.present import CONTEXT_RULE, Presentation
from netphys.recording.subject import Subject

_PACKAGES = ("netphys", "torch", "transformers", "tokenizers", "numpy", "h5py", "pynwb", "hdmf")


def make_provenance(
    subject: Subject,
    shown: Mapping,
    sites: Sequence[SitePlan],
    options: Mapping,
    protocol: Mapping | None,
) -> dict:
    """Describe a recording that is about to begin.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    shown : dict
        What is shown, and how: from `describe_stimuli` or `describe_corpus`.
    sites : sequence of SitePlan
        What is recorded.
    options : dict
        dtype, nonfinite, whether attention is eager, the forms that are stored, compile, online,
        ranks and share.
    protocol : dict or None
        Resolved protocol.

    Returns
    -------
    provenance : dict
        JSON-ready.
    """
    return {
        "layout": LAYOUT_VERSION,
        "subject": subject.describe(),
        "share": options.get("share"),
        **shown,
        "sites": [p.shape.site.name for p in sites],
        "series": [s.name for p in sites for s in p.series.values()],
        **options["forms"],
        "compile": options["compile"],
        "online": options["online"],
        "surprisal": options.get("surprisal"),
        "ranks": options["ranks"],
        "dtype": options["dtype"],
        "nonfinite": options["nonfinite"],
        "attention": "eager"
        if options["eager"]
        else getattr(subject.config, "_attn_implementation", None),
        "threads": torch.get_num_threads(),
        "machine": {
            "processor": torch.backends.cpu.get_cpu_capability(),
            "device": _get_device_name(subject),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        },
        "shapes": {p.shape.site.name: [*p.shape.whole.unit_shape, p.shape.stored] for p in sites},
        "versions": {p: _get_version(p) for p in _PACKAGES},
        "created": datetime.now(UTC).isoformat(),
        "identifier": str(uuid.uuid4()),
        "protocol": protocol,
    }


def describe_stimuli(
    stimuli: Stimuli,
    presentation: Presentation,
    plan: list[list[int]],
    batch_size: int,
    inputs_hash: str,
) -> dict:
    """Return what a provenance says of the stimuli.

    Parameters
    ----------
    stimuli : Stimuli
        What is shown.
    presentation : Presentation
        How it is shown.
    plan : list of list of int
        Trials of each batch.
    batch_size : int
        Most trials in one.
    inputs_hash : str
        Hash of the first batch's inputs.

    Returns
    -------
    shown : dict
        JSON-ready.
    """
    return {
        "stimuli": {
            "name": stimuli.name,
            "kind": stimuli.kind,
            "n": len(stimuli),
            "sha256": stimuli.compute_hash(),
            "rate": stimuli.rate,
        },
        "presentation": {
            "clock": presentation.clock,
            "sha256": presentation.compute_hash(),
            "first_batch_sha256": inputs_hash,
        },
        "context_rule": CONTEXT_RULE if "context" in stimuli.table else None,
        "generate": None if presentation.decoding is None else dict(presentation.decoding.facts),
        "plan": {
            "batch_size": batch_size,
            "n_batches": len(plan),
            "rule": "trials of equal length, no padding; column `batch` of the trials table",
            "sha256": hash_plan(plan),
        },
    }


def describe_corpus(corpus: Corpus, subject: Subject, batch_size: int) -> dict:
    """Return what a provenance says of a corpus, before it has been read.

    Parameters
    ----------
    corpus : Corpus
        What is shown.
    subject : Subject
        Whose tokenizer cuts it.
    batch_size : int
        Most windows in one batch.

    Returns
    -------
    shown : dict
        JSON-ready; number and hash of the items stand with the states of the statistics.
    """
    tokenizer = getattr(subject.tokenizer, "backend_tokenizer", None)
    cut = b"" if tokenizer is None else tokenizer.to_str().encode()
    return {
        "stimuli": {"name": corpus.name, "kind": "corpus", **corpus.describe()},
        "presentation": {"clock": "token", "sha256": hashlib.sha256(cut).hexdigest()},
        "context_rule": None,
        "generate": None,
        "plan": {
            "batch_size": batch_size,
            "n_batches": 1,
            "rule": "windows of equal length out of `look_ahead` items, no padding",
        },
    }


def hash_plan(plan: list[list[int]]) -> str:
    """Return the SHA-256 of a batch plan.

    Parameters
    ----------
    plan : list of list of int
        Trials of each batch.

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def check_same(session: Session, spec: SessionSpec) -> None:
    """Refuse to go on with a recording that was made in another way.

    Parameters
    ----------
    session : Session
        What is there.
    spec : SessionSpec
        What would be recorded now.

    Raises
    ------
    ValueError
        With the first thing that differs.
    """
    old, new = _strip_names(session.provenance), _strip_names(spec.provenance)
    loose = ("created", "identifier", "protocol")
    if session.complete or not spec.tables:  # the states of online statistics belong to ranks
        loose += ("ranks",)
    if session.complete:  # nothing will be recorded: only what the values are must agree
        loose += ("versions", "threads", "machine", "layout")
    for key in new:
        was, now = old.get(key, 1 if key == "ranks" else None), new[key]
        if key not in loose and was != now:
            if isinstance(was, Mapping) and isinstance(now, Mapping):
                part = next(k for k in {**now, **was} if was.get(k) != now.get(k))
                key, was, now = f"{key}.{part}", was.get(part), now.get(part)
            if key == "ranks":
                raise ValueError(
                    f"path={str(session.path)!r} cannot be resumed: {was} ranks keep its online "
                    f"statistics, now there are {now}. Start {was} (torchrun --nproc-per-node "
                    f"{was}), record to another path, or replace it with overwrite=True."
                )
            raise ValueError(
                f"path={str(session.path)!r} cannot be resumed: {key} was {_short(was)} and is now "
                f"{_short(now)}. Record to another path, or replace it with overwrite=True."
            )


def _strip_names(provenance: Mapping) -> dict:
    """Return a provenance by content: without what things are called and what does not count."""
    subject = {k: v for k, v in provenance["subject"].items() if k not in ("name", "config")}
    if subject["init"] == "trained":
        subject.pop("seed")
    config = provenance["subject"].get("config", {})
    subject["config"] = {k: v for k, v in config.items() if k != "transformers_version"}
    stimuli = {k: v for k, v in provenance["stimuli"].items() if k != "name"}
    return {**provenance, "subject": subject, "stimuli": stimuli}


def _get_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _get_device_name(subject: Subject) -> str:
    kind = subject.device.type
    return torch.cuda.get_device_name(subject.device) if kind == "cuda" else kind


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
