"""Record a subject: plan, probe, make the file, then one pass over the stimuli."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from netphys._check import check_option, check_positive, check_type
from netphys._options import FILES, NONFINITE
from netphys.core.online import Statistic
from netphys.data._session_online import read_position
from netphys.data.session import Session, open_session
from netphys.data.stimuli import Stimuli
from netphys.recording.capture import hold_still
from netphys.recording.compiled import check_not_compiled
from netphys.recording.corpus import Corpus
from netphys.recording.forms import Forms, make_forms
from netphys.recording.generate import Generation, check_variability, make_generation
from netphys.recording.loop import record_batches
from netphys.recording.memory import DEFAULT_MEMORY, check_memory
from netphys.recording.online import make_accumulators
from netphys.recording.opening import OpenFile, check_target, open_together
from netphys.recording.prepare import Run, prepare
from netphys.recording.present import present
from netphys.recording.presentation import Presentation
from netphys.recording.prompts import present_sampled
from netphys.recording.ranks import Ranks, join_ranks, name_part
from netphys.recording.sites import select_sites
from netphys.recording.slices import check_slices
from netphys.recording.stream_run import check_same_corpus, prepare_stream, record_stream
from netphys.recording.subject import Subject
from netphys.recording.tokens import find_log
from netphys.recording.writer import COMMIT_SECONDS, explain_disk_error


def record(
    subject: Subject,
    stimuli: Stimuli | Corpus,
    path: str | os.PathLike,
    *,
    sites: Sequence[str] | str = ("resid",),
    units: Mapping[str, Sequence[int]] | None = None,
    store: Sequence[str] | str | None = "samples",
    threshold: float | Mapping[str, object] | None = None,
    top_k: int = 32,
    dtype: str | None = None,
    batch_size: int = 8,
    max_memory: int = DEFAULT_MEMORY,
    commit_seconds: float = COMMIT_SECONDS,
    commit_batches: int | None = None,
    compile: bool | Mapping[str, object] = False,
    online: Sequence[str | Statistic | Mapping] | str | Statistic = (),
    generate: Mapping[str, object] | None = None,
    files: str = "one",
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
    stimuli : Stimuli or Corpus
        What is shown; a corpus goes by and is not held in memory, so that nothing but statistics
        (`online`, with ``store=None``) is kept of it.
    path : path-like
        File to make, by custom ending in ``.nwb``.
    sites : sequence of str
        Kinds ("resid", "mlp", ...), module paths, or paths with ``*``.
    units : dict of str to list of int, optional
        Units to record of a site, kind or pattern, ascending; all of them if left out.
    store : sequence of str or None
        In which forms: "samples" (every sample); "word.mean", "trial.max", ... (mean, max, last or
        sum over the tokens of a word, or the samples of a trial, as float32); "raster" (one bit:
        above `threshold`); "top" (the `top_k` largest units of each sample).
    threshold : float or dict of str to float or list of float
        What a unit exceeds in a raster, a.u.: one number, or one (or one per recorded unit) for
        each site, kind or pattern.
    top_k : int
        Units that "top" keeps of each sample.
    dtype : str, optional
        Type to store: "float32", "float16", "bfloat16", or "int8" (whole multiples of a scale per
        unit, found on a few batches before; what lies beyond is clipped and counted); the model's
        own ("native") if left out.
    batch_size : int
        Most trials in one forward pass.
    max_memory : int
        Bytes of memory that the recording may take beside the model.
    commit_seconds : float
        Finished batches are made safe at least this often, in seconds.
    commit_batches : int, optional
        Make finished batches safe as soon as there are this many.
    compile : bool or dict
        Compile the model as one graph with the hooks inside (True, or options of
        ``torch.compile``). Values are then those of the compiled model. What else this process has
        compiled is compiled anew when it is next called.
    online : sequence of str or Statistic
        Statistics to keep of every site while samples go by ("moments", "sparsity", ...; see
        `netphys.core.online`); with ``store=None`` no activation is stored.
    generate : dict, optional
        Let the subject go on from every prompt and record it meanwhile: "max_new_tokens" (needed),
        "greedy", "temperature", "top_k", "top_p", "eos" (tokens that end a trial) and "seed"; see
        `netphys.recording.generate.Generation`. Samples then have a `phase`, trials their text.
    files : str
        Of several processes that torchrun started, each records a share of the batches: into "one"
        file that all of them see, or "per-rank" into its own, where they share no file system or
        one that is not coherent between machines (NFS):
        ``a.nwb`` becomes ``a.rank0.nwb``, ``a.rank1.nwb``, ... (`netphys.data.join` joins them).
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
        Read view on the finished file; of "per-rank" files that of this process.

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
    RankError
        If another of several processes has failed.

    Examples
    --------
    >>> subject = load_subject("builtin:language")
    >>> stimuli = load_stimuli(["The dog barked.", "Two cats slept on the chair."])
    >>> session = record(subject, stimuli, "a.nwb", sites="resid", progress=False)
    >>> session.trials("transformer.h.0").sizes["trial"]
    2
    """
    check_type("subject", subject, Subject, "what load_subject returns")
    check_type("stimuli", stimuli, (Stimuli, Corpus), "what load_stimuli returns, or a Corpus")
    check_type("path", path, (str, os.PathLike), "a file name")
    forms, statistics = choose_kept(
        store=store, dtype=dtype, units=units, threshold=threshold, top_k=top_k, online=online
    )
    check_option("nonfinite", nonfinite, NONFINITE)
    check_option("files", files, FILES)
    check_positive("batch_size", batch_size)
    check_positive("max_memory", max_memory)
    _check_commits(commit_seconds, commit_batches)
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other. Give one of them.")
    check_type("compile", compile, (bool, Mapping), "True, False, or options of torch.compile")
    check_not_compiled(subject.model)
    generation = make_generation(generate)
    streamed = isinstance(stimuli, Corpus)
    if streamed:
        _check_stream(forms, generation, files, subject)
    else:
        check_variability(stimuli.table, generation, compile)
    path = Path(path).expanduser()
    chosen = select_sites(subject.model, sites)
    eager = any(s.side == "pattern" for s in chosen)
    with join_ranks() as ranks, hold_still(subject.model, eager=eager):
        writers, parts = (ranks, None) if files == "one" else (ranks.alone(), ranks)
        path = path if parts is None else name_part(path, ranks.rank)
        if subject.n_slices > 1:
            ranks.by_units = True
            given = {"online": statistics, "files": files, "compiled": compile is not False}
            check_slices(subject, ranks, forms, **given)
        if writers.is_first:
            check_target(path, resume, overwrite)
        options = {
            "dtype": forms.dtype,
            "batch_size": batch_size,
            "nonfinite": nonfinite,
            "eager": eager,
            "forms": forms.to_dict(),
            "compile": dict(compile) if isinstance(compile, Mapping) else compile,
        }
        about = (forms, statistics, options, protocol)
        if streamed:
            run = prepare_stream(subject, stimuli, chosen, *about, n_ranks=writers.size)
        else:
            presentation = _present(
                subject, stimuli, generation, path, ranks, batch_size, resume, progress
            )
            run = prepare(
                subject,
                stimuli,
                presentation,
                chosen,
                *about,
                n_ranks=writers.size,
                parts=parts,
                slices=ranks if ranks.by_units else None,
            )
        writing = {
            "max_pending": check_memory(run, max_memory),
            "commit_seconds": commit_seconds,
            "commit_batches": commit_batches,
        }
        try:  # what the disk says is explained; what the model or the stimuli raise is not ours
            opened = open_together(path, run.spec, writers, resume, overwrite)
        except OSError as error:
            raise explain_disk_error(error, path) from error
        if writers.is_first:
            find_log(path).unlink(missing_ok=True)  # the tokens are in the file now
        _show_rest(run, path, opened, writing, progress and ranks.is_first, writers)
        ranks.wait("end")
    return open_session(path)


def choose_kept(
    *,
    store: Sequence[str] | str | None,
    dtype: str | None,
    units: Mapping[str, Sequence[int]] | None,
    threshold: float | Mapping[str, object] | None,
    top_k: int,
    online: Sequence[str | Statistic | Mapping] | str | Statistic,
) -> tuple[Forms, list[Statistic]]:
    """Check what a recording is asked to keep.

    Parameters
    ----------
    store, dtype, units, threshold, top_k, online
        As for `record`.

    Returns
    -------
    forms : Forms
        What is stored.
    statistics : list of Statistic
        What is counted meanwhile.

    Raises
    ------
    ValueError
        If an option is wrong, or nothing is kept at all.
    """
    forms = make_forms(store=store, dtype=dtype, units=units, threshold=threshold, top_k=top_k)
    statistics = [a.statistic for a in make_accumulators(online)]
    if not forms.store and not statistics:
        raise ValueError("store=None without online= records nothing. Give one of the two.")
    return forms, statistics


def _check_commits(commit_seconds: float, commit_batches: int | None) -> None:
    check_type("commit_seconds", commit_seconds, (int, float), "seconds, 0 or more")
    if not 0 <= commit_seconds < float("inf"):
        raise ValueError(f"commit_seconds={commit_seconds} must be 0 or more. Leave it out: 2.")
    if commit_batches is not None:
        check_positive("commit_batches", commit_batches)


def _check_stream(
    forms: Forms, generation: Generation | None, files: str, subject: Subject
) -> None:
    """Refuse what does not go with a corpus that goes by."""
    if forms.store:
        raise ValueError(
            f"store={list(forms.store)}: of a Corpus nothing but statistics is kept. Give "
            "store=None and online=, or load what is to be stored with load_stimuli."
        )
    wrong = {
        "generate=": generation is not None,
        "files='per-rank'": files != "one",
        "a subject in slices (tp_plan)": subject.n_slices > 1,
    }
    for name, given in wrong.items():
        if given:
            raise ValueError(f"{name} does not go with a Corpus. Leave it out, or give stimuli.")


def _present(
    subject: Subject,
    stimuli: Stimuli,
    generation: Generation | None,
    path: Path,
    ranks: Ranks,
    batch_size: int,
    resume: bool,
    progress: bool,
) -> Presentation:
    """Prepare the stimuli for the subject; first let it go on from them, if that is asked for."""
    if generation is None:
        return present(subject, stimuli)
    if ranks.size > 1:
        raise ValueError(
            f"generate= is for one process, and torchrun has started {ranks.size}. Record each "
            "part of the prompts into a file of its own, without torchrun."
        )
    return present_sampled(
        subject, stimuli, generation, path, batch_size=batch_size, resume=resume, progress=progress
    )


def _show_rest(
    run: Run, path: Path, opened: OpenFile, writing: Mapping, progress: bool, ranks: Ranks
) -> None:
    """Show what the file does not have yet; of a corpus that was read to its end, compare it."""
    if not all(opened.done):
        show = record_batches if run.corpus is None else record_stream
        show(run, path, opened, writing, progress, ranks)
    elif run.corpus is not None and ranks.is_first:
        check_same_corpus(run.corpus, read_position(path, run.spec.provenance))
