"""Damage session files in many ways and show that a reader never crashes, hangs or is misled.

Files of both layouts, unfinished, with online statistics and packed ones are cut short, extended,
flipped, overwritten and given forged headers (with right checksums). Reading such a file must end
in a SessionFileError with a message, or give what the undamaged file gives; where bytes inside the
data differ, `verify_session` must say so. All of it happens in a child process, so that a crash of
a library is noticed; a case that takes longer than a minute is a failure too.

    python tests/reliability/fuzz.py --cases 10000

Exit code 0 only if every case ended as it must; the last line is the count.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout and its tests
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import netphys
from netphys.data.nwb_header import SessionFileError, load_header
from netphys.data.verify import verify_session

LAYOUT_1 = Path(__file__).resolve().parents[1] / "files" / "layout_1.nwb"
HEAD = struct.Struct("<16sII32s")
SECONDS = 60


class Wrong(Exception):
    """A case did not end as it must."""


# ---------------------------------------------------------------- the files that are damaged
def make_files(folder: Path) -> None:
    """Write the undamaged files: layout 1, layout 2 whole and unfinished, packed in both orders."""
    from conftest import make_model, make_stimuli

    from netphys.data.pack import pack_session

    shutil.copy(LAYOUT_1, folder / "layout_1.nwb")
    whole = folder / "layout_2.nwb"
    netphys.record(
        netphys.load_subject(make_model("gpt2")),
        make_stimuli("gpt2", n=20),
        whole,
        sites=["resid", "mlp"],
        store=["samples", "trial.max", "raster"],
        threshold=0.0,
        online="moments",
        batch_size=2,
        progress=False,
    )
    data, (at, n) = bytearray(whole.read_bytes()), load_header(whole).commit
    data[at + n // 2 : at + n] = bytes(n - n // 2)
    (folder / "unfinished.nwb").write_bytes(data)
    for order in ("sample", "unit"):
        path = folder / f"packed_{order}.nwb"
        pack_session(whole, path, order=order, chunk_mb=0.001, progress=False)


class Original:
    """An undamaged file: its bytes, what may change in it, and what it says."""

    def __init__(self, path: Path):
        self.name, self.data = path.name, path.read_bytes()
        self.header = load_header(path)
        self.changeable = np.zeros(len(self.data), bool)
        for offset, length in self.header.mutable:
            self.changeable[offset : offset + length] = True
        session = netphys.open_session(path)
        self.tables, self.values = read_tables(session), read_values(session)
        self.online = {name: session.online(name) for name in session.online_tables}
        places = np.arange(len(self.data))
        self.regions = [
            np.arange(HEAD.size),
            np.arange(HEAD.size, self.header.block),
            places[self.header.block :][~self.changeable[self.header.block :]],
            np.flatnonzero(self.changeable),
            places[self.header.commit[0] : sum(self.header.commit)],
            places,
        ]


def read_tables(session: netphys.Session) -> dict[str, str]:
    """Return everything that a session says beside its activations."""
    found = {f"samples {c}": session.samples(c).to_json() for c in session.clocks}
    found |= {f"units {n}": session.units(n).to_json() for n in session.sites}
    found["trials"] = session.trial_table.to_json()
    found["provenance"] = json.dumps(session.provenance, sort_keys=True)
    found["sites"] = session.site_table.to_json()
    return found


def read_values(session: netphys.Session) -> dict[str, tuple[np.ndarray, bytes]]:
    """Return rows and bytes of every site, as far as it is recorded."""
    sites = {name: session[name] for name in session.sites}
    return {name: (data["sample"].to_numpy(), data.to_numpy()) for name, data in sites.items()}


# ---------------------------------------------------------------- damage
def flip(original: Original, rng: np.random.Generator) -> bytes:
    """Change 1 to 8 bytes, all in one region of the file."""
    data = bytearray(original.data)
    region = original.regions[rng.integers(len(original.regions))]
    for place in rng.choice(region, int(rng.integers(1, 9))):
        data[place] ^= int(rng.integers(1, 256))
    return bytes(data)


def cut(original: Original, rng: np.random.Generator) -> bytes:
    """Cut the file short, often near one of its seams."""
    seams = [0, HEAD.size, original.header.block, len(original.data)]
    seams += [edge for a, n in original.header.mutable for edge in (a, a + n)]
    near = int(rng.choice(seams)) + int(rng.integers(-70, 70))
    size = near if rng.random() < 0.5 else int(rng.integers(len(original.data)))
    return original.data[: min(max(size, 0), len(original.data) - 1)]


def extend(original: Original, rng: np.random.Generator) -> bytes:
    """Put bytes behind the end, or before the beginning."""
    more = rng.bytes(int(rng.integers(1, 9000)))
    return original.data + more if rng.random() < 0.7 else more + original.data


def overwrite(original: Original, rng: np.random.Generator) -> bytes:
    """Overwrite a run by zeros, ones, noise, or another run of the file."""
    data, size = bytearray(original.data), int(2 ** rng.uniform(0, 14))
    place, source = rng.integers(0, len(data), 2)
    end = min(place + size, len(data))
    fill = [bytes(size), b"\xff" * size, rng.bytes(size), original.data[source : source + size]]
    data[place:end] = fill[rng.integers(4)].ljust(size, b"\0")[: end - place]
    return bytes(data)


def invent(original: Original, rng: np.random.Generator) -> bytes:
    """Write noise that begins like a session, or like an HDF5 file."""
    length = int(rng.choice([0, 7, 200, 1 << 29, (1 << 32) - 1]))
    head = [
        original.data[:16],
        HEAD.pack(original.data[:16], int(rng.integers(0, 5)), length, rng.bytes(32)),
        b"\x89HDF\r\n\x1a\n",
        b"",
    ]
    return head[rng.integers(4)] + rng.bytes(int(rng.integers(0, 9000)))


STRANGE = [None, True, -1, 0, 1, 7, 2**31, 2**63, 2**80, 1e300, "x", "", [], {}, [[]], [[1, 2]]]
STRANGE += [[1], [-5, 3], [[0, 10**15]], [[2**70, 1]], [["a", "b"]], [None, None], float("nan")]


def forge(original: Original, rng: np.random.Generator) -> bytes:
    """Give the file a header that says something else, with a right checksum of itself."""
    _, version, length, _ = HEAD.unpack(original.data[: HEAD.size])
    fields = json.loads(original.data[HEAD.size : HEAD.size + length])
    key = str(rng.choice([*fields, "more"]))
    what = rng.integers(4)
    if what == 0:
        fields.pop(key, None)
    elif what == 1 and len(fields["mutable"]):
        which, side = int(rng.integers(len(fields["mutable"]))), int(rng.integers(2))
        fields["mutable"][which][side] += int(rng.choice([-(2**40), -8, 8, 4096, 2**40]))
    else:
        fields[key] = STRANGE[rng.integers(len(STRANGE))]
    text = json.dumps(fields).encode()
    if rng.random() < 0.1:
        text = [b"[]", b"null", b"3", b"{", b"\xff\xfe", b"[" * 5000][rng.integers(6)]
    head = HEAD.pack(original.data[:16], version, len(text), hashlib.sha256(text).digest())
    block = (head + text).ljust(original.header.block, b"\0")
    return block[: original.header.block] + original.data[original.header.block :]


DAMAGES = (flip, flip, flip, cut, extend, overwrite, overwrite, invent, forge, forge)


# ---------------------------------------------------------------- what must hold
def check_case(path: Path, original: Original, damaged: bytes) -> str:
    """Read a damaged file; return how it ended, or raise Wrong."""
    path.write_bytes(damaged)
    try:
        session = netphys.open_session(path)
        tables = read_tables(session)
    except SessionFileError as error:
        if str(path) not in str(error) or len(str(error)) < 40:
            raise Wrong(f"a message that says too little: {error}") from error
        return "refused"
    if len(damaged) != len(original.data):
        raise Wrong("another size was not noticed")
    changed = np.frombuffer(damaged, np.uint8) != np.frombuffer(original.data, np.uint8)
    changed[: original.header.block] = False  # a header that says the same in other words
    if changed[~original.changeable].any():
        raise Wrong("bytes outside the data changed and this was not noticed")
    if tables != original.tables:
        raise Wrong("other tables were read without an error")
    session.summary(), session.to_dict()
    unknown = SessionFileError if session.complete else (SessionFileError, KeyError)
    for name in session.online_tables:
        with contextlib.suppress(unknown):
            if not session.online(name).identical(original.online[name]):
                raise Wrong(f"other online statistics: {name}")
    same = True
    try:
        values = read_values(session)
        for name, (rows, right) in original.values.items():
            got_rows, got = values[name]
            _, here, there = np.intersect1d(got_rows, rows, return_indices=True)
            same = same and got[here].tobytes() == right[there].tobytes()
    except SessionFileError:
        same = False
    found = verify_session(path, progress=False)
    if found.has_checksums and not same and found.intact:
        raise Wrong("other values were read, and verify finds the file intact")
    if not changed.any() and (not same or found.intact is False):
        raise Wrong("nothing was changed, and the data are said to be damaged")
    return "the same" if same else "found by verify"


def work(folder: Path, first: int, end: int, seed: int) -> int:
    """Run cases `first` to `end`; print what went wrong, at the end how the cases ended."""
    faulthandler.enable()
    originals = [Original(p) for p in sorted(folder.glob("*.nwb"))]
    place = Path("/dev/shm") if Path("/dev/shm").is_dir() else folder
    counts: Counter = Counter()
    failed = 0
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        for case in range(first, end):
            (folder / "case").write_text(str(case))
            rng = np.random.default_rng([seed, case])
            original, damage = originals[case % len(originals)], DAMAGES[rng.integers(10)]
            signal.alarm(SECONDS)  # its default action ends the process
            try:
                answer = check_case(Path(scratch) / "a.nwb", original, damage(original, rng))
                counts[answer] += 1
            except Exception:
                failed += 1
                about = f"case {case} (seed {seed}): {damage.__name__} of {original.name}"
                print(about, traceback.format_exc(), sep="\n")
            signal.alarm(0)
    print(json.dumps(counts))
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="how many (10000)")
    parser.add_argument("--seed", type=int, help="drawn if left out")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--child", metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return work(Path(args.child), args.first, args.first + args.cases, args.seed)
    seed = args.seed if args.seed is not None else int(np.random.SeedSequence().entropy % 2**31)
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        command = [sys.executable, __file__, "--child", folder, "--cases", str(args.cases)]
        command += ["--seed", str(seed), "--first", str(args.first)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode < 0:  # a signal: crash, or the alarm
            case = (Path(folder) / "case").read_text()
            print(f"case {case} (seed {seed}) ended with signal {-done.returncode}")
            return 1
    *said, last = done.stdout.splitlines() or [""]
    if done.returncode:
        print(*said, f"seed {seed}", sep="\n")
        return 1
    counts = json.loads(last)
    about = ", ".join(f"{n} {how}" for how, n in sorted(counts.items()))
    print(f"seed {seed}: {about}")
    print(f"{sum(counts.values())} damaged files: no crash, no hang, nothing wrong unnoticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
