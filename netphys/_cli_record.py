"""The command `record`: one subject, one session file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from netphys._protocol_file import parse_value

_MEGA = 1 << 20


def add_record(commands: argparse._SubParsersAction, epilog: str, subject_help: str) -> None:
    """Add `record` to the commands of a parser."""
    record = commands.add_parser("record", help="record one subject into one file", epilog=epilog)
    record.add_argument("subject", help=subject_help)
    record.add_argument(
        "stimuli", help="tab-separated file, or builtin:sentences; with --window a text file"
    )
    record.add_argument("file", help="session file to make (.nwb)")
    record.add_argument(
        "--sites", nargs="+", default=["resid"], help="kinds or module paths (resid)"
    )
    record.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="trials at a time (8)"
    )
    _add_subject(record)
    _add_forms(record)
    _add_shown(record)
    _add_resources(record)
    record.add_argument("--resume", action="store_true", help="go on with an unfinished recording")
    record.add_argument("--overwrite", action="store_true", help="replace an existing file")
    record.add_argument("--quiet", action="store_true", help="no progress bar")
    record.set_defaults(function=run_record)


def _add_subject(record: argparse.ArgumentParser) -> None:
    group = record.add_argument_group("the subject")
    group.add_argument("--init", default="trained", help="trained, random or shuffled")
    group.add_argument("--seed", type=int, default=0, help="seed of an untrained twin (0)")
    group.add_argument("--revision", help="commit, tag or branch on the Hugging Face hub")
    group.add_argument("--device", default="cpu", help="cpu, cuda or mps (cpu)")
    group.add_argument(
        "--device-map", metavar="auto", help="spread a model that no card holds over all devices"
    )
    group.add_argument(
        "--tp-plan", metavar="auto", help="under torchrun: divide the model among the processes"
    )
    group.add_argument(
        "--compile", action="store_true", help="compile the model with the hooks inside"
    )


def _add_forms(record: argparse.ArgumentParser) -> None:
    group = record.add_argument_group("what is stored")
    group.add_argument(
        "--store",
        nargs="+",
        metavar="FORM",
        help="samples, word.mean, trial.max, ..., raster, top, surprisal, or none (samples)",
    )
    group.add_argument(
        "--dtype", default="native", help="native, float32, float16, bfloat16 or int8 (native)"
    )
    group.add_argument(
        "--threshold",
        nargs="+",
        metavar="X",
        help="what a unit exceeds in a raster: a number, or SITE=NUMBER ...",
    )
    group.add_argument("--top-k", type=int, default=32, metavar="N", help="units in top (32)")
    group.add_argument(
        "--online",
        nargs="+",
        default=[],
        metavar="STATISTIC",
        help="statistics of every site, kept while samples go by: moments, sparsity, ..., or with "
        "options '{name = \"moments\", order = 4}'",
    )
    group.add_argument("--nonfinite", default="raise", help="raise or keep NaN and infinite values")


def _add_shown(record: argparse.ArgumentParser) -> None:
    group = record.add_argument_group("what is shown")
    group.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="show the lines of a text file of any size, N tokens at once at most; nothing but "
        "statistics (--online) is kept",
    )
    group.add_argument(
        "--generate",
        nargs="+",
        metavar="KEY=VALUE",
        help="let the subject go on from every prompt: max_new_tokens=32 greedy=true ...",
    )


def _add_resources(record: argparse.ArgumentParser) -> None:
    group = record.add_argument_group("memory, disk and processes")
    group.add_argument(
        "--max-memory", type=int, metavar="MB", help="megabytes beside the model (256)"
    )
    group.add_argument(
        "--commit-seconds", type=float, metavar="S", help="make batches safe this often (2)"
    )
    group.add_argument("--commit-batches", type=int, metavar="N", help="or after so many")
    group.add_argument(
        "--files",
        default="one",
        help="under torchrun: one file for all processes, or per-rank (one)",
    )


def run_record(args: argparse.Namespace) -> int:
    """Record, and say what is in the file."""
    from netphys.recording.record import record
    from netphys.recording.subject import load_subject

    store = ["samples"] if args.store is None and args.window is None else args.store
    chosen = {"max_memory": args.max_memory, "commit_seconds": args.commit_seconds}
    chosen = {k: v for k, v in chosen.items() if v is not None}
    if "max_memory" in chosen:
        chosen["max_memory"] *= _MEGA
    session = record(
        load_subject(
            args.subject,
            init=args.init,
            seed=args.seed,
            device=args.device,
            revision=args.revision,
            device_map=args.device_map,
            tp_plan=args.tp_plan,
        ),
        _load_shown(args),
        args.file,
        sites=args.sites,
        store=None if store in (None, ["none"]) else store,
        threshold=_read_threshold(args.threshold),
        top_k=args.top_k,
        dtype=args.dtype,
        batch_size=args.batch_size,
        commit_batches=args.commit_batches,
        compile=args.compile,
        online=[_read_statistic(text) for text in args.online],
        generate=None if args.generate is None else _read_pairs("--generate", args.generate),
        files=args.files,
        nonfinite=args.nonfinite,
        resume=args.resume,
        overwrite=args.overwrite,
        progress=not args.quiet,
        **chosen,
    )
    if is_first_rank():
        print(session.summary())
        print(f"\nOutput: {session.path.resolve()}")
        print(_explain_parts(args), end="")
    return 0


def _load_shown(args: argparse.Namespace) -> object:
    if args.window is not None:
        from netphys.recording.corpus import Corpus

        return Corpus(args.stimuli, window=args.window, name=Path(args.stimuli).stem)
    from netphys.data.stimuli import load_stimuli

    return load_stimuli(args.stimuli)


def _read_statistic(text: str) -> object:
    """Return a name, or what a table in braces says."""
    if not text.startswith("{"):
        return text
    return _read_value("--online", text, "a name, or a table such as '{name = \"moments\"}'")


def _read_threshold(given: Sequence[str] | None) -> object:
    if given is None:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return _read_value("--threshold", given[0], "a number, or SITE=NUMBER")
    return _read_pairs("--threshold", given)


def _read_pairs(option: str, given: Sequence[str]) -> dict[str, object]:
    """Return KEY=VALUE arguments as a dict; values are read as in a protocol."""
    found = {}
    for text in given:
        key, _, value = text.partition("=")
        found[key] = _read_value(option, value if key else "", "KEY=VALUE, such as a=1", text)
    return found


def _read_value(option: str, value: str, allowed: str, given: str | None = None) -> object:
    """Return a value; `given` is the argument that it is part of."""
    try:
        return parse_value(value)
    except (ValueError, RecursionError):
        text = value if given is None else given
        raise ValueError(f"{option} {text!r} is not understood. Give {allowed}.") from None


def is_first_rank() -> bool:
    """Whether this process speaks for all that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _explain_parts(args: argparse.Namespace) -> str:
    """Return how the files of several ranks become one session; nothing for one file."""
    if args.files == "one":
        return ""
    path = Path(args.file)
    parts = f"{path.stem}.rank*{path.suffix}"
    return f"Join the files of all ranks with: netphys join {path} {path.with_name(parts)}\n"
