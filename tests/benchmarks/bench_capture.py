"""How fast a recording is: against the bare forward pass, raw writes of the same bytes, and peers.

All conditions run in one process, interleaved in random order, on the same batches: a model of the
shape of GPT-2 small with random weights, batches of 8 x 128 tokens, 12 x 3,072 MLP neurons of every
token. Conditions that store end with their bytes on the device (fsync); the peers but h5py keep
activations in memory, one batch at a time here. Ratios are taken in each round; reported is the
median over rounds. Memory and ranks are measured in processes of their own::

    python tests/benchmarks/bench_capture.py                  # 10 rounds, about 15 minutes
    python tests/benchmarks/bench_capture.py --quick --json   # 3 rounds
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import mmap
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import psutil
import torch
import transformers

import netphys
from netphys.data.nwb_layout import FileLayout
from netphys.recording import record as record_module
from netphys.recording.capture import Capture, hold_still
from netphys.recording.present import make_plan, present
from netphys.recording.sites import select_sites
from netphys.recording.writer import Writer

BATCH, LENGTH, UNITS = 8, 128, 3072
OURS = ("full", "reduced")
RAW = ("h5py", "buffered", "direct")
LENS = "TransformerLens"


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of 50,000 made-up pieces, words of which are joined without spaces."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    raw = Tokenizer(models.WordLevel({f"x{i}": i for i in range(50_000)}, unk_token="x0"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"x\d+"), "isolated")]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw)


def make_text(rng: np.random.Generator, length: int = LENGTH) -> str:
    """Return a text of so many tokens in words of one to three, as in English."""
    pieces = [f"x{i}" for i in rng.integers(0, 50_000, length)]
    words, at = [], 0
    while at < length:
        n = int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1]))
        words.append("".join(pieces[at : at + n]))
        at += n
    return " ".join(words)


class Bench:
    """One model, one stimulus set, and a way to run each condition on them."""

    def __init__(
        self, folder: Path, n_batches: int, n_layers: int = 12, peers: tuple[str, ...] | None = None
    ):
        config = transformers.GPT2Config(n_layer=n_layers, bos_token_id=0, eos_token_id=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = transformers.GPT2LMHeadModel(config).eval()
        self.folder = folder
        rng = np.random.default_rng(0)
        texts = [make_text(rng) for _ in range(BATCH * n_batches)]
        self.stimuli = netphys.load_stimuli(texts)
        self.subject = netphys.load_subject(self.model.transformer, tokenizer=make_tokenizer())
        self.sites = select_sites(self.subject.model, "mlp")
        self.presentation = present(self.subject, self.stimuli)
        self.plan = make_plan(self.presentation.keys, BATCH)
        self.n_rows = BATCH * LENGTH
        self.peers = find_peers(self, peers)

    def run(self, mode: str) -> float:
        """Return the seconds of one pass over all batches."""
        if mode in self.peers:
            return self._time_peer(self.peers[mode])
        if mode in OURS:
            return self._ours(mode)
        if mode == "bare with head":
            return self._time_peer(self.model)
        raw = {"bare": self._bare, "h5py": self._h5py}
        return raw.get(mode, lambda: self._raw(direct=mode == "direct"))()

    def inputs(self) -> list[torch.Tensor]:
        """Return the token ids of every batch."""
        return [self.presentation.make_inputs(rows)[1]["input_ids"] for rows in self.plan]

    def _time_peer(self, show) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for ids in self.inputs():
                show(ids)
        return time.perf_counter() - began

    def _forward(self, take=None, after=lambda: None) -> None:
        model = self.subject.model
        with hold_still(model), Capture(model, self.sites if take else [], take) as hooks:
            for rows in self.plan:
                args, kwargs = self.presentation.make_inputs(rows)
                hooks.start()
                model(*args, **kwargs)
            after()

    def _bare(self) -> float:
        began = time.perf_counter()
        self._forward()
        return time.perf_counter() - began

    def _ours(self, mode: str) -> float:
        """Time the pass itself, as for the others, without making the file and planning."""
        options = {"dtype": "float16"}
        if mode == "reduced":
            options |= {"store": ["word.mean", "raster"], "threshold": 0.0, "online": "moments"}
        return time_recording(
            self.subject,
            self.stimuli,
            self.folder / f"{mode}.nwb",
            sites="mlp",
            batch_size=BATCH,
            **options,
        )

    def _h5py(self) -> float:
        """Hooks that append to resizable datasets, the way notebooks do it."""
        path = self.folder / "peer.h5"
        path.unlink(missing_ok=True)
        began = time.perf_counter()
        with h5py.File(path, "w") as file:
            data = {
                s.name: file.create_dataset(
                    s.name, (0, UNITS), "f2", maxshape=(None, UNITS), chunks=(1024, UNITS)
                )
                for s in self.sites
            }

            def take(site, value) -> None:
                rows = value.reshape(-1, UNITS).half().numpy()
                store = data[site.name]
                store.resize(len(store) + len(rows), axis=0)
                store[-len(rows) :] = rows

            self._forward(take, lambda: (file.flush(), sync_file(path)))
        return time.perf_counter() - began

    def _raw(self, *, direct: bool) -> float:
        """Hooks, cast, and one positioned write per site and batch; O_DIRECT from a thread."""
        path = self.folder / "raw.bin"
        size = self.n_rows * UNITS * 2
        path.unlink(missing_ok=True)  # as a recording makes its file: reserved and never written
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, size * len(self.plan) * len(self.sites))
        out = os.open(path, os.O_WRONLY | os.O_DIRECT) if direct else fd
        blocks = [mmap.mmap(-1, size) for _ in range(2 * len(self.sites))]
        place, threads = [0], []

        def take(site, value) -> None:
            rows = value.reshape(-1, UNITS).half().numpy()
            offset, place[0] = place[0], place[0] + size
            if not direct:
                os.pwrite(out, rows, offset)
                return
            number = offset // size
            if number >= len(blocks):
                threads[number - len(blocks)].join()
            block = blocks[number % len(blocks)]
            np.copyto(np.frombuffer(block, np.float16).reshape(rows.shape), rows)
            threads.append(threading.Thread(target=os.pwrite, args=(out, block, offset)))
            threads[-1].start()

        began = time.perf_counter()
        self._forward(take, lambda: ([t.join() for t in threads], os.fsync(fd)))
        seconds = time.perf_counter() - began
        os.close(fd)
        if direct:
            os.close(out)
        return seconds


def time_recording(subject, stimuli, path: Path, **options) -> float:
    """Return the seconds of the pass of a recording, without making the file and planning."""
    own, seconds = record_module.record_batches, []

    def timed(*args, **kwargs) -> None:
        began = time.perf_counter()
        own(*args, **kwargs)
        seconds.append(time.perf_counter() - began)

    record_module.record_batches = timed
    try:
        netphys.record(subject, stimuli, path, overwrite=True, progress=False, **options)
    finally:
        record_module.record_batches = own
    return seconds[0]


def sync_file(path: Path) -> None:
    """Return when a file is on the device."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def find_peers(bench: Bench, wanted: tuple[str, ...] | None) -> dict:
    """Return the recorders that are installed: each takes a batch and keeps its MLP neurons."""
    found = {}
    for name, make in (("nnsight", make_nnsight), (LENS, make_transformer_lens)):
        if wanted is not None and name not in wanted:
            continue
        try:
            found[name] = make(bench)
            found[name](bench.inputs()[0][:1])  # one that fails is left out, and said so
        except Exception as error:  # whatever a peer raises: it is not ours to handle
            found.pop(name, None)
            first = (str(error).strip().splitlines() or [""])[0]
            print(f"{name} is left out: {type(error).__name__}: {first}", file=sys.stderr)
    return found


def make_nnsight(bench: Bench):
    """Return a pass with a save of the input of each down projection."""
    import nnsight

    model = nnsight.NNsight(bench.model.transformer)

    def show(ids: torch.Tensor) -> list:
        kept = []
        with model.trace(input_ids=ids):
            for block in model.h:
                kept.append(block.mlp.act.output.save())
        return kept

    return show


def make_transformer_lens(bench: Bench):
    """Return a cached pass through the bridge around the same model."""
    from transformer_lens.model_bridge import TransformerBridge

    model = copy.deepcopy(bench.model)  # the bridge puts its own parts into the model
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(bench.folder / "config")
    bridge = TransformerBridge.boot_transformers(
        str(bench.folder / "config"), hf_model=model, tokenizer=make_tokenizer()
    )
    names = [f"blocks.{i}.mlp.hook_post" for i in range(len(bench.sites))]

    def show(ids: torch.Tensor) -> list:
        _, cache = bridge.run_with_cache(ids, names_filter=lambda n: n in names)
        kept = [cache[n] for n in names]
        return kept

    return show


def compare_writer(folder: Path, n_rounds: int, megabytes: int = 1024) -> tuple[float, float]:
    """Return the median over rounds of the writer's seconds, and of the better raw write's.

    Both fill page-aligned memory by the same copy of the same rows, write it, and sync at the end.
    """
    rows = np.random.default_rng(0).integers(0, 2**16, (1024, UNITS), dtype=np.uint16)
    n = (megabytes << 20) // rows.nbytes
    path = folder / "alone.bin"
    seconds: dict[str, list[float]] = {"ours": [], "buffered": [], "direct": []}
    block = mmap.mmap(-1, rows.nbytes)
    target = np.frombuffer(block, np.uint16).reshape(rows.shape)
    rng = np.random.default_rng(1)
    for _ in range(n_rounds):
        for mode in rng.permutation(list(seconds)):
            path.unlink(missing_ok=True)
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, (n + 1) * rows.nbytes)
            began = time.perf_counter()
            if mode == "ours":
                layout = FileLayout({"a": 0}, *(n * rows.nbytes + 64 * i for i in range(3)))
                with Writer(path, layout, {"a": rows.nbytes // 1024}) as writer:
                    for i in range(n):
                        taken = writer.take("a", 1024 * i, rows.shape, "uint16")
                        np.copyto(taken.values, rows)
                        writer.put(taken)
                    writer.commit(0, np.zeros((1, 2)))
            else:
                fd = os.open(path, os.O_WRONLY | (os.O_DIRECT if mode == "direct" else 0))
                for i in range(n):
                    np.copyto(target, rows)
                    os.pwrite(fd, block, i * rows.nbytes)
                os.fsync(fd)
                os.close(fd)
            seconds[mode].append(time.perf_counter() - began)
    path.unlink()
    medians = {mode: statistics.median(values) for mode, values in seconds.items()}
    print("writer alone, seconds:", {k: round(v, 3) for k, v in medians.items()}, file=sys.stderr)
    return medians["ours"], min(medians["buffered"], medians["direct"])


def measure_memory(mode: str, n_batches: int, folder: Path) -> float:
    """Return the largest resident memory in MB of a condition, in a process of its own."""
    command = [sys.executable, __file__, "--memory", mode, "--batches", str(n_batches)]
    done = subprocess.run(
        [*command, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def watch_memory(mode: str, n_batches: int, folder: Path) -> float:
    """Run a condition once and return the largest resident memory meanwhile, in MB."""
    bench = Bench(folder, n_batches, peers=(mode,))
    gc.collect()
    process, peak, done = psutil.Process(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    if mode in bench.peers:  # as their users do: kept for all batches
        kept = []
        with torch.no_grad():
            for ids in bench.inputs():
                kept.append(bench.peers[mode](ids))
    else:
        bench.run(mode)
    done.set()
    thread.join()
    return peak[0]


RANK_SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
import bench_capture
bench = bench_capture.Bench(Path({folder!r}), {n_batches}, peers=())
print("SECONDS", bench._ours("full"))
"""


def compare_ranks(folder: Path, n_batches: int, n_rounds: int) -> tuple[float, float]:
    """Return the median seconds of two ranks on one file, and of one, a thread for each."""
    script = folder / "rank.py"
    here = str(Path(__file__).parent)
    script.write_text(RANK_SCRIPT.format(here=here, folder=str(folder), n_batches=n_batches))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(n_rounds):
        for n in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}"]
            done = subprocess.run(
                [*command, str(script)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            took = [float(s.split()[1]) for s in done.stdout.splitlines() if "SECONDS" in s]
            seconds[n].append(max(took))
    return statistics.median(seconds[2]), statistics.median(seconds[1])


def main() -> None:
    """Run all conditions and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 batches")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder here)")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.memory:
        print(watch_memory(args.memory, args.batches, args.folder))
        return
    rounds, n_batches = (3, 2) if args.quick else (10, 5)
    with tempfile.TemporaryDirectory(dir=args.folder or Path.cwd()) as name:
        rows = run_all(Path(name), rounds, n_batches)
    show_rows(rows, args.json)


def show_rows(rows: list[dict], as_json: bool) -> None:
    """Print the results as JSON, or as a table with the machine above it."""
    if as_json:
        print(json.dumps(rows))
        return
    print(describe_machine())
    for row in rows:
        print(f"{row['case']:<62} {row['ours']:8.3f} {row['peer']:8.3f} {row['ratio']:6.2f}")


def run_all(folder: Path, rounds: int, n_batches: int) -> list[dict]:
    """Return a row for every case."""
    bench = Bench(folder, n_batches)
    modes = ("bare", *OURS, *RAW, *bench.peers)
    if LENS in bench.peers:
        modes += ("bare with head",)  # what the bridge runs
    for mode in modes:  # every condition runs once before it counts
        bench.run(mode)
    rng, ratios = np.random.default_rng(0), {mode: [] for mode in modes[1:]}
    for _ in range(rounds):
        seconds = {mode: bench.run(mode) for mode in rng.permutation(modes)}
        for mode, values in ratios.items():
            base = "bare with head" if mode == LENS else "bare"
            values.append(seconds[mode] / seconds[base])
    median = {mode: statistics.median(values) for mode, values in ratios.items()}
    for mode, values in ratios.items():
        low, high = min(values), max(values)
        print(f"{mode}: {median[mode]:.3f} x bare ({low:.3f} to {high:.3f})", file=sys.stderr)
    better = min(("buffered", "direct"), key=median.get)
    over_raw = statistics.median(a / b for a, b in zip(ratios["full"], ratios[better], strict=True))
    rows = [
        make_row(
            "full dump float16, x bare forward (limit 1.12)", median["full"], 1.12, 1.0, rounds
        ),
        make_row(f"same, x the raw write ({better}; limit 1.05)", over_raw, 1.05, 1.0, rounds),
        make_row(
            "words + raster + moments, x bare (limit 1.08)", median["reduced"], 1.08, 1.0, rounds
        ),
        make_row("full dump; peer: h5py appends", median["full"], median["h5py"], 1.0, rounds),
    ]
    rows += [
        make_row(f"full dump; peer: {p}, nothing stored", median["full"], median[p], 0.9, rounds)
        for p in bench.peers
    ]
    peers = list(bench.peers)
    del bench
    few, many = 4, 16
    bare = measure_memory("bare", few, folder)
    for peer in peers:
        growth = measure_memory(peer, 8, folder) - bare
        print(f"memory over bare, MB: {peer}, 8 batches kept: {growth:.0f}", file=sys.stderr)
    for mode, n in (("full", few), ("full", many), ("reduced", many)):
        growth = max(0.0, measure_memory(mode, n, folder) - bare)
        name = f"memory over bare, MB: {mode}, {n} batches (limit 300)"
        rows.append(make_row(name, growth, 300.0, 1.0, 1))
    alone, raw = compare_writer(folder, rounds)
    rows.append(make_row("writer alone, seconds for 1 GB; peer: raw", alone, raw, 0.95, rounds))
    two, one = compare_ranks(folder, 2 * n_batches, max(2, rounds // 2))
    rows.append(make_row("two ranks; peer: one rank (1 thread each)", two, one, 1.7, rounds // 2))
    return rows


def describe_machine() -> str:
    """Return processor, cores, kernel and versions."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    versions = []
    for package in ("torch", "transformers", "h5py", "nnsight", "transformer-lens"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    cpu = names[0] if names else platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, " + ", ".join(versions)


def make_row(case: str, ours: float, peer: float, bar: float, n: int) -> dict:
    """Return one result: a ratio at or above its bar is good."""
    return {
        "case": case,
        "ours": ours,
        "peer": peer,
        "ratio": peer / max(ours, 1e-9),
        "bar": bar,
        "n": n,
    }


if __name__ == "__main__":
    main()
