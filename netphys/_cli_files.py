"""Commands over session files: verify, pack and join."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction, epilog: str) -> None:
    """Add `verify`, `pack` and `join` to the commands of a parser."""
    verify = commands.add_parser(
        "verify", help="compare the data of session files with their checksums", epilog=epilog
    )
    verify.add_argument("file", nargs="+", help="session files, raw or packed")
    verify.add_argument("--quiet", action="store_true", help="no progress bar")
    verify.add_argument("--json", action="store_true", help="as JSON, one object per line")
    verify.set_defaults(function=_verify)

    pack = commands.add_parser(
        "pack", help="write a compressed copy of a finished session", epilog=epilog
    )
    pack.add_argument("file", help="session file; it stays as it is")
    pack.add_argument("out", nargs="?", help="file to make (FILE with .packed.nwb at its end)")
    pack.add_argument(
        "--order",
        default="sample",
        help="sample: chunks for reading trials; unit: chunks for reading single units (sample)",
    )
    pack.add_argument("--level", type=int, default=1, help="of zstd, 1 to 19 (1)")
    pack.add_argument(
        "--chunk-mb",
        type=float,
        default=1.0,
        metavar="N",
        help="megabytes in a chunk, up to 64 (1)",
    )
    pack.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    pack.add_argument("--quiet", action="store_true", help="no progress bar")
    pack.set_defaults(function=_pack)

    join = commands.add_parser(
        "join", help="make one session of the files of several ranks", epilog=epilog
    )
    join.add_argument("out", help="file to make; its data stay in FILE ... unless --copy is given")
    join.add_argument("file", nargs="+", help="the files of all ranks (record --files per-rank)")
    join.add_argument("--copy", action="store_true", help="copy the data into OUT")
    join.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    join.set_defaults(function=_join)


def _verify(args: argparse.Namespace) -> int:
    """Exit code 0 only if every file is intact: what cannot be verified is not."""
    from netphys.data.nwb_header import SessionFileError
    from netphys.data.verify import verify_session

    intact = True
    for name in args.file:
        try:
            found = verify_session(name, progress=not args.quiet)
        except SessionFileError as error:  # the other files are verified all the same
            intact = False
            about = {"path": name, "intact": False, "error": str(error)}
            print(json.dumps(about) if args.json else f"{name}: DAMAGED: {error}", flush=True)
            continue
        intact = intact and found.intact is True
        print(json.dumps(found.to_dict()) if args.json else found.summary(), flush=True)
    return 0 if intact else 1


def _pack(args: argparse.Namespace) -> int:
    from netphys.data.pack import pack_session

    path = Path(args.file)
    out = args.out or path.with_name(path.stem + ".packed.nwb")
    session = pack_session(
        path,
        out,
        order=args.order,
        level=args.level,
        chunk_mb=args.chunk_mb,
        overwrite=args.overwrite,
        progress=not args.quiet,
    )
    before, after = path.stat().st_size, session.path.stat().st_size
    print(
        f"{before / 1e6:,.1f} MB packed into {after / 1e6:,.1f} MB "
        f"({before / after:.2f} to 1, zstd level {args.level}, in {args.order} order)"
    )
    print(f"Output: {session.path.resolve()}")
    return 0


def _join(args: argparse.Namespace) -> int:
    from netphys.data.join import join_sessions

    session = join_sessions(args.file, args.out, copy=args.copy, overwrite=args.overwrite)
    print(session.summary())
    print(f"\nOutput: {session.path.resolve()}")
    return 0
