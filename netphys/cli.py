"""The command line: results on stdout, everything else on stderr; exit codes 0, 1 and 2."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
from collections.abc import Iterator, Sequence

from netphys import _cli_files, _cli_record
from netphys._version import explain_missing, read_version

SUBJECT_HELP = "Hugging Face id, folder, or builtin: and a name, such as builtin:language"
EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong command line or protocol."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process if left out.

    Returns
    -------
    code : int
        0: done; 1: failed; 2: wrong command line or protocol.
    """
    args = _make_parser().parse_args(argv)
    from netphys.protocol import ProtocolError

    try:
        with _stop_on_sigterm():
            return args.function(args) or 0
    except ProtocolError as error:
        _say(f"netphys: error: {error}")
        return 2
    except KeyboardInterrupt:
        _say(f"\nnetphys: interrupted.{_explain_again(args)}")
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone, there is nothing left to say
        return 1
    except Exception as error:
        if args.debug:
            raise
        _say(f"netphys: error: {_get_text(error)}")
        return 1


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM, with which schedulers end a job, as Ctrl-C meanwhile."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: nothing to set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netphys",
        description="Record trained networks as a neuroscientist records a brain, and match them.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_recording(commands)
    _add_matching(commands)
    _add_looking(commands)
    _cli_files.add_commands(commands, EPILOG)
    return parser


def _add_recording(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run a protocol", epilog=EPILOG)
    run.add_argument("protocol", help="a TOML file, or the name of a shipped protocol")
    run.add_argument("--out", metavar="DIR", help="folder for all files (results/<protocol>)")
    run.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one key of the protocol",
    )
    run.add_argument("--overwrite", action="store_true", help="do all anew over existing files")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    run.add_argument("--json", action="store_true", help="results as JSON")
    run.set_defaults(function=_run)

    _cli_record.add_record(commands, EPILOG, SUBJECT_HELP)


def _add_looking(commands: argparse._SubParsersAction) -> None:
    sites = commands.add_parser("sites", help="list where a subject can be recorded", epilog=EPILOG)
    sites.add_argument("subject", help=SUBJECT_HELP)
    sites.add_argument("--init", default="trained", help="trained, random or shuffled")
    sites.add_argument("--seed", type=int, default=0, help="seed of an untrained twin (0)")
    sites.add_argument("--all", action="store_true", help="every module, not only standard sites")
    sites.add_argument("--json", action="store_true", help="as JSON")
    sites.set_defaults(function=_sites)

    info = commands.add_parser("info", help="say what is in a session file", epilog=EPILOG)
    info.add_argument("file", nargs="+", help="session files")
    info.add_argument("--json", action="store_true", help="as JSON, one object per line")
    info.set_defaults(function=_info)

    check = commands.add_parser(
        "check", help="check a protocol without running it, or a session file", epilog=EPILOG
    )
    check.add_argument("target", help="a protocol (.toml or shipped name) or a session file (.nwb)")
    check.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="as for run")
    check.set_defaults(function=_check)


def _add_matching(commands: argparse._SubParsersAction) -> None:
    fetch = commands.add_parser(
        "fetch", help="download a brain dataset from its origin, verified", epilog=EPILOG
    )
    fetch.add_argument("dataset", nargs="?", help="its name; left out: list all datasets")
    fetch.add_argument("--folder", metavar="DIR", help="where to put it (the user's cache)")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch.set_defaults(function=_fetch)

    compare = commands.add_parser(
        "compare", help="match one session with brain data", epilog=EPILOG
    )
    compare.add_argument("session", help="session file over the dataset's stimuli (.nwb)")
    compare.add_argument("dataset", help="name of a brain dataset")
    compare.add_argument("--twin", metavar="FILE", help="session of the untrained twin")
    compare.add_argument("--sites", nargs="+", help="kinds or sites to match (embed resid, or all)")
    compare.add_argument("--seed", type=int, default=0, help="seed of all draws (0)")
    compare.add_argument("--quiet", action="store_true", help="no progress bar")
    compare.add_argument("--json", action="store_true", help="as JSON")
    compare.set_defaults(function=_compare)

    report = commands.add_parser(
        "report", help="write the report of a folder that run made once more", epilog=EPILOG
    )
    report.add_argument("folder", help="folder with sessions and results")
    report.set_defaults(function=_report)


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(f"netphys {read_version()}")
        parser.exit(0)


def _run(args: argparse.Namespace) -> int:
    from netphys.protocol import load_protocol

    protocol = load_protocol(args.protocol, overrides=args.set)
    from netphys.run import get_folder, run_protocol

    study = run_protocol(protocol, out=args.out, overwrite=args.overwrite, progress=not args.quiet)
    folder = get_folder(protocol, args.out).resolve()
    if args.json:
        print(json.dumps(_to_dict(study.results) | {"folder": str(folder)}))
        return 0
    for session in study.sessions.values():
        print(session.summary(), end="\n\n")
    _show_results(study.results)
    print(f"Output: {folder}")
    if study.report is not None:
        print(f"Report: {study.report.resolve()}")
    return 0


def _show_results(results: dict) -> None:
    for name, result in results.items():
        note = " (in place of a twin: the best layer of each network)" if name == "controls" else ""
        print(f"== {name}{note}\n{result.summary()}", end="\n\n")


def _to_dict(results: dict) -> dict:
    """Return results as JSON-ready values: the summary's text, all numbers, the options."""
    return {
        name: {
            "kind": type(result).__name__,
            "summary": result.summary(),
            "data": _clean(result.data.to_dict()),
            "stats": _clean(result.stats.to_dict()),
            "params": dict(result.params),
        }
        for name, result in results.items()
    }


def _clean(value: object) -> object:
    """Replace NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fetch(args: argparse.Namespace) -> int:
    from netphys.brain.datasets import describe_dataset, fetch_dataset, list_datasets

    if args.dataset is None:
        print(list_datasets()[["title", "megabytes", "licence"]].to_string())
        return 0
    print(describe_dataset(args.dataset))
    path = fetch_dataset(args.dataset, folder=args.folder, progress=not args.quiet)
    print(f"Output: {path.resolve()}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from netphys.study.single import compare_session

    results = compare_session(
        args.session,
        args.dataset,
        twin=args.twin,
        sites=args.sites,
        seed=args.seed,
        progress=not args.quiet,
    )
    if args.json:
        print(json.dumps(_to_dict(results)))
        return 0
    _show_results(results)
    return 0


def _report(args: argparse.Namespace) -> int:
    from netphys.study.single import renew_report

    print(f"Report: {renew_report(args.folder).resolve()}")
    return 0


def _sites(args: argparse.Namespace) -> int:
    from netphys.recording.subject import load_subject

    subject = load_subject(args.subject, init=args.init, seed=args.seed)
    table = subject.sites(all_modules=args.all)
    if args.json:
        print(table.reset_index().to_json(orient="records"))
    else:
        print(table.to_string())
    return 0


def _info(args: argparse.Namespace) -> int:
    from netphys.data.session import open_session

    for i, name in enumerate(args.file):
        session = open_session(name)
        if args.json:
            print(json.dumps(session.to_dict()))
        else:
            print(("\n" if i else "") + session.summary())
    return 0


def _check(args: argparse.Namespace) -> int:
    from netphys.data.nwb_header import is_session

    if args.target.endswith(".nwb") or is_session(args.target):
        from netphys.data.session import open_session

        if args.set:
            raise ValueError("--set is for protocols; a session cannot be changed. Leave it out.")
        session = open_session(args.target)
        commits = session.commits
        print(
            f"{args.target}: header and tables are intact; {commits.sum()} of {len(commits)} "
            "batches"
        )
        return 0 if commits.all() else 1
    from netphys.protocol import load_protocol

    protocol = load_protocol(args.target, overrides=args.set)
    from netphys.run import check_protocol

    subject, stimuli, sites = check_protocol(protocol)
    twins = ", ".join(t.name for t in protocol.twins) or "none"
    print(
        f"{args.target}: can be run\n  {subject!r}\n  {stimuli!r}\n  {len(sites)} sites; twins: "
        f"{twins}"
    )
    return 0


def _explain_again(args: argparse.Namespace) -> str:
    """Return how an interrupted recording goes on; nothing for other commands."""
    if args.function not in (_run, _cli_record.run_record):
        return ""
    with_resume = " with --resume" if args.function is _cli_record.run_record else ""
    without = " without --overwrite" if args.overwrite else ""
    return f" The same command{with_resume}{without} goes on from here."


def _get_text(error: BaseException) -> str:
    """Return what an error says, with the options as the command line spells them."""
    if isinstance(error, ModuleNotFoundError):
        return explain_missing(error)
    if isinstance(error, KeyError):  # whose str() would be in quotes
        text = str(error.args[0])
    elif isinstance(error, OSError) and error.strerror and not error.filename:
        text = error.strerror
    else:
        text = str(error) or type(error).__name__
    return text.replace("resume=True", "--resume").replace("overwrite=True", "--overwrite")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
