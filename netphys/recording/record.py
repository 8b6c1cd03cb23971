"""Record a subject: plan, probe, make the file, then one pass over the stimuli."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from netphys._check import check_option, check_positive, check_type
from netphys._options import NONFINITE, STORE_DTYPES
from netphys.data._files import FileLock, sync_folder
from netphys.data.nwb_header import is_session
from netphys.data.nwb_layout import (
    COUNT_NAMES,
    FileLayout,
    SeriesSpec,
    SessionSpec,
    compute_data_bytes,
    load_layout,
    save_structure,
)
from netphys.data.session import Session, open_session
from netphys.data.stimuli import Stimuli
from netphys.recording.capture import Capture, hold_still
from netphys.recording.present import (
    Presentation,
    hash_inputs,
    make_plan,
    make_sample_table,
    present,
)
from netphys.recording.provenance import check_same, make_provenance
from netphys.recording.rows import SiteShape, cast_into, find_shape, make_unit_table
from netphys.recording.sites import Site, select_sites
from netphys.recording.subject import Subject
from netphys.recording.writer import Writer, explain_disk_error

_DESCRIPTIONS = {
    "stimulus_id": "name of the stimulus",
    "stimulus_index": "row of the stimulus table, from 0",
    "batch": "planned batch in which the trial was shown",
    "variability": "why repeats of a stimulus differ; none: the subject answers alike every time",
    "trial": "row of the stimulus table (stimulus_index of the trials table)",
    "position": "place in the sequence that was shown, from 0",
    "onset": "seconds from the start of the stimulus, where known",
    "token_id": "number of the token in the subject's vocabulary",
    "text": "text of the token, or of the stimulus",
    "word": "number of the word in the text; -1: none",
    "char_begin": "first character in the text; -1: none",
    "char_end": "character after the last in the text; -1: none",
    "special": "whether the tokenizer added it",
    "layer": "depth of the block from 0; -1: none",
    "index": "number of the unit within its site",
    "label": "name of the unit",
}


@dataclass(frozen=True)
class _Run:
    """All that is settled before the first sample."""

    subject: Subject
    presentation: Presentation
    plan: list[list[int]]
    shapes: list[SiteShape]
    spec: SessionSpec
    nonfinite: str


def record(
    subject: Subject,
    stimuli: Stimuli,
    path: str | os.PathLike,
    *,
    sites: Sequence[str] | str = ("resid",),
    dtype: str | None = None,
    batch_size: int = 8,
    nonfinite: str = "raise",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    protocol: Mapping | None = None,
) -> Session:
    """Show stimuli to a subject and record its activations into a session file.

    The stored values are those of a plain forward pass on the same batches of equal length (nothing
    is padded), bit for bit. The file is complete in structure before the first sample; an
    interruption at any moment loses at most the batches that were not committed, and `resume` goes
    on from there.

    Parameters
    ----------
    subject : Subject
        Who is recorded; left exactly as it was.
    stimuli : Stimuli
        What is shown.
    path : path-like
        File to make, by custom ending in ``.nwb``.
    sites : sequence of str
        Kinds ("resid", "mlp", ...), module paths, or paths with ``*``.
    dtype : str, optional
        Type to store: "float32", "float16" or "bfloat16"; the model's own ("native") if left out.
    batch_size : int
        Most trials in one forward pass.
    nonfinite : str
        "raise": stop at a NaN or infinite activation; "keep": store and count them.
    resume : bool
        Go on with an unfinished recording of exactly this kind; a finished one is returned as it
        is.
    overwrite : bool
        Replace an existing file.
    progress : bool
        Show a progress bar.
    protocol : dict, optional
        Resolved protocol, kept in the provenance.

    Returns
    -------
    session : Session
        Read view on the finished file.

    Raises
    ------
    FileExistsError
        If the file exists and neither `resume` nor `overwrite` is set.
    BlockingIOError
        If another process is writing this file.
    ValueError
        If a site is unknown, a text is too long, a value is not finite, or the file to resume was
        made in another way.
    OSError
        If the disk is full or read-only.

    Examples
    --------
    >>> subject = load_subject("builtin:language")
    >>> stimuli = load_stimuli(["The dog barked.", "Two cats slept on the chair."])
    >>> session = record(subject, stimuli, "a.nwb", sites="resid", progress=False)
    >>> session.trials("transformer.h.0").sizes["trial"]
    2
    """
    check_type("subject", subject, Subject, "what load_subject returns")
    check_type("stimuli", stimuli, Stimuli, "what load_stimuli returns")
    check_type("path", path, (str, os.PathLike), "a file name")
    check_option("dtype", dtype or "native", STORE_DTYPES)
    check_option("nonfinite", nonfinite, NONFINITE)
    check_positive("batch_size", batch_size)
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other. Give one of them.")
    path = Path(path).expanduser()
    _check_target(path, resume, overwrite)
    chosen = select_sites(subject.model, sites)
    eager = any(s.side == "pattern" for s in chosen)
    with hold_still(subject.model, eager=eager):
        options = {
            "dtype": dtype or "native",
            "batch_size": batch_size,
            "nonfinite": nonfinite,
            "eager": eager,
        }
        run = _prepare(subject, stimuli, chosen, options, protocol)
        with contextlib.ExitStack() as stack:
            try:  # what the disk says is explained; what the model or the stimuli raise is not ours
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(path))
                layout, done = _open_file(path, run.spec, resume, overwrite)
            except OSError as error:
                raise explain_disk_error(error, path) from error
            if not all(done):
                _record_batches(run, path, layout, done, progress)
    return open_session(path)


def _check_target(path: Path, resume: bool, overwrite: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder. Give a file name in it.")
    if overwrite and path.exists() and not is_session(path):
        raise FileExistsError(
            f"path={str(path)!r} is no netphys session and is not overwritten. "
            "Choose another path, or remove the file yourself."
        )
    if path.exists() and not (resume or overwrite):
        raise FileExistsError(
            f"path={str(path)!r} exists. Choose another path, go on with resume=True, or replace "
            "it with overwrite=True."
        )


def _prepare(
    subject: Subject,
    stimuli: Stimuli,
    sites: list[Site],
    options: dict,
    protocol: Mapping | None,
) -> _Run:
    """Plan the batches, probe the sites, and describe the file."""
    presentation = present(subject, stimuli)
    plan = make_plan(presentation.keys, options["batch_size"])
    shapes, inputs_hash = _probe(subject, presentation, plan, sites, options["dtype"])
    provenance = make_provenance(
        subject, stimuli, presentation, plan, shapes, options, inputs_hash, protocol
    )
    spec = _make_spec(subject, stimuli, presentation, plan, shapes, provenance)
    return _Run(subject, presentation, plan, shapes, spec, options["nonfinite"])


def _probe(
    subject: Subject,
    presentation: Presentation,
    plan: list[list[int]],
    sites: list[Site],
    dtype: str,
) -> tuple[list[SiteShape], str]:
    """Run one batch, and one of another length, keep the shapes and throw the values away.

    The hash of the first batch's inputs tells processors and input functions apart.
    """
    lengths = presentation.n_shown
    rows = max(plan, key=lambda b: (lengths[b[0]] > 1, len(b) * lengths[b[0]]))
    if presentation.is_sequence and len(rows) == lengths[rows[0]] > 1:
        rows = rows[:-1]  # as many trials as positions would not tell the two axes apart
    other = next((b for b in plan if presentation.keys[b[0]] != presentation.keys[rows[0]]), None)
    found: dict[str, SiteShape] = {}

    def take(site: Site, value: torch.Tensor) -> None:
        size = len(rows), int(lengths[rows[0]])
        if site.name not in found:
            longest, sequence = int(lengths.max()), presentation.is_sequence
            found[site.name] = find_shape(
                site, value, *size, sequence=sequence, n_keys=longest, dtype=dtype
            )
        found[site.name].to_rows(value, *size, None)

    with Capture(subject.model, sites, take) as capture:
        for batch in [rows] if other is None else [rows, other]:
            rows = batch
            capture.start()
            args, kwargs = presentation.make_inputs(rows)
            subject.model(*args, **kwargs)
            capture.check()
    args, kwargs = presentation.make_inputs(plan[0])
    return list(found.values()), hash_inputs((*args, *kwargs.values()))


def _make_spec(
    subject: Subject,
    stimuli: Stimuli,
    presentation: Presentation,
    plan: list[list[int]],
    shapes: list[SiteShape],
    provenance: dict,
) -> SessionSpec:
    order = [row for batch in plan for row in batch]
    counts = presentation.n_recorded[order]
    clock, rate = presentation.clock, stimuli.rate if presentation.clock == "frame" else 1.0
    first = np.cumsum(counts) - counts
    # a column that knows nothing (onsets of texts without times) is left out
    samples = {clock: make_sample_table(presentation, order).dropna(axis=1, how="all")}
    times: dict[str, float | np.ndarray] = {clock: rate}
    trials = pd.DataFrame(
        {
            "start_time": first / rate,
            "stop_time": (first + counts - 0.5) / rate,
            "stimulus_index": np.array(order, np.int64),
            "batch": np.repeat(np.arange(len(plan)), [len(b) for b in plan]),
            f"first_sample_{clock}": first,
            f"n_samples_{clock}": counts,
        }
    )
    if presentation.is_sequence and not all(s.is_sequence for s in shapes):
        # sites with one value per trial follow a clock of their own, stamped at the trial's start
        trials["first_sample_item"], trials["n_samples_item"] = np.arange(len(order)), 1
        samples["item"] = pd.DataFrame({"trial": np.array(order, np.int64), "position": 0})
        times["item"] = trials["start_time"].to_numpy()
    if "variability" not in stimuli.table:
        trials["variability"] = "none"
    columns = stimuli.table.iloc[order].reset_index(drop=True)
    series = tuple(
        SeriesSpec(
            name=s.site.name,
            kind=s.site.kind,
            clock=clock if s.is_sequence or not presentation.is_sequence else "item",
            dtype=s.stored,
            units=make_unit_table(s, subject, image=clock == "image"),
        )
        for s in shapes
    )
    return SessionSpec(
        series=series,
        trials=pd.concat([trials, columns], axis=1),
        samples=samples,
        times=times,
        n_batches=len(plan),
        provenance=provenance,
        title=f"{subject.name} ({subject.init}) on {stimuli.name}",
        subject=subject.name.replace("/", "--"),
        subject_description=f"{provenance['subject']['class']}, init {subject.init}",
        descriptions=_DESCRIPTIONS,
    )


def _open_file(
    path: Path, spec: SessionSpec, resume: bool, overwrite: bool
) -> tuple[FileLayout, np.ndarray]:
    """Make the file, or find out what an unfinished one still lacks."""
    _check_target(path, resume, overwrite)  # again, now that nobody else can write
    if resume and path.exists():
        session = open_session(path)
        check_same(session, spec)
        return load_layout(path), session.commits
    need, free = compute_data_bytes(spec), shutil.disk_usage(path.parent).free
    if need > free:
        raise OSError(
            errno.ENOSPC,
            f"path={str(path)!r}: the recording takes {need / 1e6:,.1f} MB, the disk has "
            f"{free / 1e6:,.1f} MB. Free some space, choose fewer sites, or store dtype='float16'.",
        )
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # left by a run that was killed while making it
    try:
        layout = save_structure(fresh, spec)
        os.replace(fresh, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and "errno = 28" in str(error):  # as HDF5 puts it
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise
    return layout, np.zeros(spec.n_batches, bool)


def _record_batches(
    run: _Run, path: Path, layout: FileLayout, done: np.ndarray, progress: bool
) -> None:
    shapes = {s.site.name: s for s in run.shapes}
    place = {name: i for i, name in enumerate(shapes)}
    first = {c: run.spec.trials[f"first_sample_{c}"].to_numpy() for c in run.spec.samples}
    clocks = {s.name: s.clock for s in run.spec.series}
    begin = np.cumsum([0, *(len(b) for b in run.plan)])
    row_bytes = {s.name: s.row_bytes for s in run.spec.series}
    counts = np.zeros((len(shapes), len(COUNT_NAMES)), np.int64)
    batch, rows, mask = 0, run.plan[0], None

    def take(site: Site, value: torch.Tensor) -> None:
        shape = shapes[site.name]
        flat = shape.to_rows(value, len(rows), int(run.presentation.n_shown[rows[0]]), mask)
        first_row = int(first[clocks[site.name]][begin[batch]])
        block = writer.take(site.name, first_row, tuple(flat.shape), shape.numpy_dtype)
        counts[place[site.name]] = _cast_checked(run, shape, value, flat, block.values, rows)
        writer.put(block)

    with (
        Writer(path, layout, row_bytes) as writer,
        Capture(run.subject.model, [s.site for s in run.shapes], take) as capture,
        tqdm(
            total=len(run.spec.trials),
            initial=sum(len(b) for b, d in zip(run.plan, done, strict=True) if d),
            desc=path.name,
            unit="trial",
            disable=not progress,
        ) as bar,
    ):
        for batch, rows in enumerate(run.plan):
            if done[batch]:
                continue
            mask = run.presentation.mask(rows)
            args, kwargs = run.presentation.make_inputs(rows)
            capture.start()
            run.subject.model(*args, **kwargs)
            capture.check()
            writer.commit(batch, counts)
            bar.update(len(rows))
            bar.set_postfix_str(
                f"{writer.n_bytes / 1e6:.0f} MB, stall {writer.stall_seconds:.1f} s"
            )


def _cast_checked(
    run: _Run,
    shape: SiteShape,
    value: torch.Tensor,
    flat: torch.Tensor,
    target: np.ndarray,
    rows: list[int],
) -> tuple[int, int]:
    """Cast rows into their place and return their counts, or refuse what is not finite."""
    n_nonfinite, n_overflow = cast_into(target, flat, shape.stored)
    if shape.site.side == "pattern" and n_nonfinite:  # keys that a shorter trial does not have
        absent = shape.unit_shape[-1] - value.shape[-1]
        n_nonfinite -= absent * len(flat) * shape.n_units // shape.unit_shape[-1]
    if n_nonfinite and run.nonfinite == "raise":
        names = run.spec.trials.set_index("stimulus_index")["stimulus_id"].loc[rows]
        raise ValueError(
            f"site={shape.site.name!r} gave {n_nonfinite} NaN or infinite values for stimuli "
            f"{', '.join(names.iloc[:3])}{' ...' if len(names) > 3 else ''}. Check the model or "
            "its type (float16 overflows at 65,504), or store them with nonfinite='keep'."
        )
    return n_nonfinite, n_overflow
