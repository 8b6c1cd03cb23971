"""Kill recordings at random moments and show that nothing that was committed is ever lost.

A tiny model is recorded in a child process, which is killed (SIGKILL) while it makes the file,
somewhere in the middle, at the last commit, and twice in a row. After each kill the file must open
in netphys, pynwb and pynapple, hold every committed batch bit for bit, and have lost no commit; the
recording is then resumed, at last to the end, and must equal an uninterrupted one in every dataset.

What is right is not taken from netphys: a recorder of its own, hooks and h5py alone, writes the
same batches in one go (`record_plainly`).

    python tests/reliability/kill9.py --kills 100

Exit code 0 only if nothing was lost; the last line is the count.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process with threads is not forked safely
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import ctypes
import json
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout and its tests
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import numpy as np
import pynapple
import pynwb
import torch
from conftest import make_model, make_stimuli

import netphys
from netphys.data.nwb_header import load_header

N_STIMULI, BATCH = 240, 2
SITES = {"transformer.h.0": "out", "transformer.h.1": "out", "transformer.h.1.mlp.c_proj": "in"}
STATISTICS = ["moments", "sparsity"]
CASES = {"native": np.float32, "float16": np.float16}
MOMENTS = ("creation", "middle", "middle", "early", "last")  # early: again, before anything is new
CHANGES = (  # what two recordings of one kind may differ in
    "identifier",
    "file_create_date",
    "session_start_time",
    "timestamps_reference_time",
    "scratch/netphys_provenance",
)


class Lost(Exception):
    """Something that must hold after a kill does not."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Lost(what)


# ---------------------------------------------------------------- the judge: hooks and h5py alone
def record_plainly(model: torch.nn.Module, texts: list[list[int]], path: Path, dtype: type) -> list:
    """Record `texts` into a plain HDF5 file by appending; return the rows of every batch."""
    lengths = dict.fromkeys(len(t) for t in texts)  # in order of first appearance
    groups = [[t for t in texts if len(t) == n] for n in lengths]
    plan = [g[i : i + BATCH] for g in groups for i in range(0, len(g), BATCH)]
    rows, seen, modules = [], 0, dict(model.named_modules())
    with h5py.File(path, "w") as file:
        handles = []
        for name, side in SITES.items():

            def keep(module, given, result=None, *, name=name):
                value = given[0] if result is None else result
                value = value[0] if isinstance(value, tuple) else value
                value = value.detach().reshape(-1, value.shape[-1]).numpy().astype(dtype)
                if name not in file:
                    size = value.shape[1]
                    file.create_dataset(name, (0, size), dtype, maxshape=(None, size))
                data = file[name]
                data.resize(len(data) + len(value), axis=0)
                data[-len(value) :] = value

            module = modules[name]
            handles.append(
                module.register_forward_hook(keep)
                if side == "out"
                else module.register_forward_pre_hook(keep)
            )
        with torch.inference_mode():
            for batch in plan:
                model(input_ids=torch.tensor(batch))
                n = len(batch) * len(batch[0])
                rows.append((seen, seen + n))
                seen += n
        for handle in handles:
            handle.remove()
    return rows


# ---------------------------------------------------------------- the child that is killed
def record_with_netphys(model: torch.nn.Module, path: Path, dtype: str) -> netphys.Session:
    names = [n if side == "out" else f"{n}@in" for n, side in SITES.items()]
    return netphys.record(
        netphys.load_subject(model),
        make_stimuli("gpt2", n=N_STIMULI),
        path,
        sites=names,
        dtype=None if dtype == "native" else dtype,
        store=["samples", "trial.max"],
        online=STATISTICS,
        batch_size=BATCH,
        commit_seconds=0.01,
        resume=path.exists(),
        progress=False,
    )


def check_single_thread() -> None:
    tasks = "/proc/self/task"
    n_threads = len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
    if n_threads > 1:
        raise RuntimeError(f"this process has {n_threads} threads and cannot be forked safely")


def start(model: torch.nn.Module, path: Path, dtype: str) -> int:
    """Fork a process that records; return its id."""
    check_single_thread()
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan goes on writing
        model.register_forward_pre_hook(lambda *_: time.sleep(0.001))
        record_with_netphys(model, path, dtype)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ask_child(function: Callable[..., set[int]], *args) -> set[int]:
    """Call a check in a forked process, so that no file stays open here and a crash is seen.

    HDF5 shares what it has cached of a file with every later open of it in the same process, and
    pynapple leaves its file open: it would show the values of the time before the last kill.
    """
    check_single_thread()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps({"kept": sorted(function(*args))})
        except Lost as error:
            answer = json.dumps({"lost": str(error)})
        except BaseException:
            answer = json.dumps({"lost": traceback.format_exc()})
        with os.fdopen(writing, "w") as file:
            file.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    check(code == 0, f"a reader ended with {code} (a negative number is a signal)")
    answer = json.loads(answer)
    check("lost" not in answer, answer.get("lost", ""))
    return set(answer["kept"])


def finish(pid: int, *, kill: bool) -> bool:
    """Wait for a child, killing it first if asked; return whether the kill came in time."""
    if kill:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    check(os.waitstatus_to_exitcode(status) == 0, "the recording failed (see above)")
    return False


def wait_for(pid: int, path: Path, n_committed: int) -> None:
    """Wait until that many batches of a growing file are committed, or its writer has ended."""
    at = load_header(path).commit if path.exists() else None
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if at is None and path.exists():
            at = load_header(path).commit
        if at is not None:
            with open(path, "rb") as file:
                file.seek(at[0])
                if file.read(at[1]).count(1) >= min(n_committed, at[1]):
                    return
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.0005)
    raise Lost(f"{path.name} did not grow within a minute")


# ---------------------------------------------------------------- what must hold
def check_survival(path: Path, plain: Path, rows: list, before: set[int]) -> set[int]:
    """Check a file after a kill, in three readers; return the batches that are committed."""
    session = netphys.open_session(path)
    commits = session.commits
    kept = set(np.flatnonzero(commits).tolist())
    check(before <= kept, f"commits were lost: {sorted(before - kept)}")
    where = [np.arange(*rows[b]) for b in sorted(kept)]
    where = np.concatenate(where) if where else np.zeros(0, int)
    with warnings.catch_warnings(), h5py.File(plain) as right:
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            nwb = io.read()
            check(len(nwb.trials) == N_STIMULI, "pynwb reads other trials")
            by_pynwb = {name: series.data[:] for name, series in nwb.acquisition.items()}
        nap = pynapple.load_file(str(path))
        for name, side in SITES.items():
            site = name if side == "out" else f"{name}@in"
            want = right[name][:][where]
            own = session[site]
            check(np.array_equal(own["sample"].to_numpy(), where), f"{site}: other rows")
            by_pynapple = np.asarray(nap[site].values)
            readers = {"netphys": own.to_numpy(), "pynwb": by_pynwb[site][where]}
            for reader, got in (readers | {"pynapple": by_pynapple[where]}).items():
                same = got.dtype == want.dtype and got.tobytes() == want.tobytes()
                check(same, f"{site}: {reader} reads other values of committed batches")
    return kept


def check_finished(path: Path, whole: Path) -> set[int]:
    """Check that a resumed recording equals an uninterrupted one and left nothing behind."""
    check(netphys.open_session(path).complete, "the resumed recording is not complete")
    here, there = read_datasets(path), read_datasets(whole)
    check(here.keys() == there.keys(), f"other datasets: {here.keys() ^ there.keys()}")
    other = [n for n in there if here[n] != there[n] and n not in CHANGES]
    check(not other, f"not as in an uninterrupted recording: {other}")
    one, other = netphys.open_session(path), netphys.open_session(whole)
    check(len(one.online_tables) == len(SITES) * len(STATISTICS), "statistics are missing")
    for name in other.online_tables:
        check(one.online(name).identical(other.online(name)), f"{name} differs")
    left = sorted(p.name for p in path.parent.iterdir() if p != path)
    check(not left, f"left behind: {left}")
    return set()


def read_datasets(path: Path) -> dict[str, tuple]:
    """Return type, shape and bytes of every dataset of a file, read by plain h5py."""
    found = {}

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            raw = value.tolist() if value.dtype == object else value.tobytes()
            found[name] = (str(item.dtype), item.shape, raw)

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return found


# ---------------------------------------------------------------- kills
class Lineage:
    """One file that is killed again and again, then finished."""

    def __init__(self, model, folder: Path, dtype: str, judge: tuple, rng: np.random.Generator):
        self.model, self.dtype, self.rng = model, dtype, rng
        self.plain, self.rows, self.whole, self.seconds = judge
        self.path = folder / "killed" / "a.nwb"
        self.path.parent.mkdir(exist_ok=True)
        self.kept: set[int] = set()

    def kill(self, moment: str) -> bool:
        """Go on recording and kill at a moment of this kind; False if it had ended before."""
        pid = start(self.model, self.path, self.dtype)
        n = len(self.rows)
        if moment in ("creation", "early"):
            time.sleep(self.rng.uniform(0, 1.3 if moment == "creation" else 0.2) * self.seconds)
        else:
            goal = n if moment == "last" else len(self.kept) + int(self.rng.integers(1, n // 4))
            ahead = int(self.rng.integers(1, 9)) if moment == "last" else 0
            wait_for(pid, self.path, goal - ahead)
            time.sleep(self.rng.uniform(0, 0.006))
        killed = finish(pid, kill=True)
        if self.path.exists():  # else it was killed before the finished structure got its name
            self.kept = ask_child(check_survival, self.path, self.plain, self.rows, self.kept)
        else:
            check(not self.kept, "the file is gone")
        return killed

    def finish(self) -> None:
        """Resume to the end, compare, and remove the file for the next lineage."""
        finish(start(self.model, self.path, self.dtype), kill=False)
        n = len(self.rows)
        self.kept = ask_child(check_survival, self.path, self.plain, self.rows, self.kept)
        check(len(self.kept) == n, f"{len(self.kept)} of {n} batches after resuming")
        ask_child(check_finished, self.path, self.whole)
        self.path.unlink()


def make_judge(model: torch.nn.Module, folder: Path, dtype: str) -> tuple:
    """Record without interruption: plainly, which is what is right, and with netphys.

    The last item is about how long netphys takes from its start until the file is there.
    """
    texts = [
        [int(t) for t in ids.split()]
        for ids in make_stimuli("gpt2", n=N_STIMULI).table["token_ids"]
    ]
    plain, whole = folder / f"plain_{dtype}.h5", folder / f"whole_{dtype}.nwb"
    rows = record_plainly(model, texts, plain, CASES[dtype])
    finish(start(model, whole, dtype), kill=False)
    ask_child(check_survival, whole, plain, rows, set(range(len(rows))))
    pid, probe, began = start(model, folder / "probe.nwb", dtype), folder / "probe.nwb", time.time()
    while not probe.exists():
        time.sleep(0.001)
    seconds = time.time() - began
    finish(pid, kill=False)
    probe.unlink()
    return plain, rows, whole, seconds


def run(n_kills: int, seed: int, folder: Path) -> int:
    """Kill that many times; return how many batches were committed when a kill came."""
    rng, model = np.random.default_rng(seed), make_model("gpt2")
    judges = {dtype: make_judge(model, folder, dtype) for dtype in CASES}
    n_done, n_lineages, n_batches = 0, 0, 0
    counts = dict.fromkeys(MOMENTS, 0)
    while n_done < n_kills:
        dtype = list(CASES)[n_lineages % len(CASES)]
        line = Lineage(model, folder, dtype, judges[dtype], rng)
        for moment in MOMENTS:
            if n_done == n_kills:
                break
            if line.kill(moment):
                n_done += 1
                counts[moment] += 1
                n_batches += len(line.kept)
        line.finish()
        n_lineages += 1
        print(f"{n_done} kills, {n_lineages} files finished", file=sys.stderr)
    kinds = ", ".join(f"{n} {moment}" for moment, n in counts.items())
    print(f"moments: {kinds}; {n_lineages} files resumed to the end; seed {seed}")
    return n_batches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how many (100)")
    parser.add_argument("--seed", type=int, help="of the random moments; drawn if left out")
    args = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("this script needs os.fork (Linux or macOS)")
    torch.set_num_threads(1)
    seed = args.seed if args.seed is not None else int(np.random.SeedSequence().entropy % 2**31)
    with tempfile.TemporaryDirectory() as folder:
        try:
            n_batches = run(args.kills, seed, Path(folder))
        except Lost as error:
            print(f"LOST (seed {seed}): {error}")
            return 1
    print(f"{args.kills} kills, {n_batches} committed batches compared after them, 0 lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
