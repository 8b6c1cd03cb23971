"""How fast a recording is: against the bare forward pass, raw writes of the same bytes, and h5py.

All conditions run in one process, interleaved in random order, on the same batches: a model of the
shape of GPT-2 small with random weights, 12 x 3,072 MLP neurons of every token, stored as float16.
Every condition ends with its bytes on the device (fsync)::

    python tests/benchmarks/bench_capture.py                  # 10 rounds, about 5 minutes
    python tests/benchmarks/bench_capture.py --quick --json
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import statistics
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
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

BATCH, LENGTH = 8, 128
MODES = ("bare", "ours", "h5py", "buffered", "direct")


class Bench:
    """One model, one stimulus set, and a way to run each condition on them."""

    def __init__(self, folder: Path, n_batches: int):
        config = transformers.GPT2Config(bos_token_id=0, eos_token_id=0)
        self.model, self.folder = transformers.GPT2Model(config).eval(), folder
        rng = np.random.default_rng(0)
        ids = [rng.integers(0, 50_000, LENGTH).tolist() for _ in range(BATCH * n_batches)]
        self.stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ids}))
        self.subject = netphys.load_subject(self.model)
        self.sites = select_sites(self.model, "mlp")
        self.presentation = present(self.subject, self.stimuli)
        self.plan = make_plan(self.presentation.keys, BATCH)
        self.n_rows = BATCH * LENGTH

    def run(self, mode: str) -> float:
        """Return the seconds of one pass over all batches."""
        return {"bare": self._bare, "ours": self._ours, "h5py": self._h5py}.get(
            mode, lambda: self._raw(direct=mode == "direct")
        )()

    def _forward(self, take=None, after=lambda: None) -> None:
        with hold_still(self.model), Capture(self.model, self.sites if take else [], take) as hooks:
            for rows in self.plan:
                args, kwargs = self.presentation.make_inputs(rows)
                hooks.start()
                self.model(*args, **kwargs)
            after()

    def _bare(self) -> float:
        began = time.perf_counter()
        self._forward()
        return time.perf_counter() - began

    def _ours(self) -> float:
        """Time the pass itself, as for the others, without making the file and planning."""
        own, seconds = record_module._record_batches, []

        def timed(*args) -> None:
            began = time.perf_counter()
            own(*args)
            seconds.append(time.perf_counter() - began)

        record_module._record_batches = timed
        try:
            netphys.record(
                self.subject,
                self.stimuli,
                self.folder / "ours.nwb",
                sites="mlp",
                dtype="float16",
                batch_size=BATCH,
                overwrite=True,
                progress=False,
            )
        finally:
            record_module._record_batches = own
        return seconds[0]

    def _h5py(self) -> float:
        """Hooks that append to resizable datasets, the way notebooks do it."""
        path = self.folder / "peer.h5"
        path.unlink(missing_ok=True)
        began = time.perf_counter()
        with h5py.File(path, "w") as file:
            data = {
                s.name: file.create_dataset(
                    s.name, (0, 3072), "f2", maxshape=(None, 3072), chunks=(1024, 3072)
                )
                for s in self.sites
            }

            def take(site, value) -> None:
                rows = value.reshape(-1, 3072).half().numpy()
                store = data[site.name]
                store.resize(len(store) + len(rows), axis=0)
                store[-len(rows) :] = rows

            self._forward(take, lambda: (file.flush(), os.sync()))
        return time.perf_counter() - began

    def _raw(self, *, direct: bool) -> float:
        """Hooks, cast, and one positioned write per site and batch; O_DIRECT from a thread."""
        path = self.folder / "raw.bin"
        size = self.n_rows * 3072 * 2
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, size * len(self.plan) * len(self.sites))
        out = os.open(path, os.O_WRONLY | os.O_DIRECT) if direct else fd
        blocks = [mmap.mmap(-1, size) for _ in range(2 * len(self.sites))]
        place, threads = [0], []

        def take(site, value) -> None:
            rows = value.reshape(-1, 3072).half().numpy()
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


def compare_writer(folder: Path, n_rounds: int, megabytes: int = 512) -> tuple[float, float]:
    """Return the median seconds of the writer alone and of the better raw write, both synced."""
    rows = np.random.default_rng(0).integers(0, 2**16, (1024, 3072), dtype=np.uint16)
    n = megabytes * 2**20 // rows.nbytes
    path = folder / "alone.bin"
    seconds: dict[str, list[float]] = {"ours": [], "buffered": [], "direct": []}
    block = mmap.mmap(-1, rows.nbytes)
    block[:] = rows.tobytes()
    for _ in range(n_rounds):
        for mode in seconds:
            path.unlink(missing_ok=True)
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, (n + 1) * rows.nbytes)
            began = time.perf_counter()
            if mode == "ours":
                layout = FileLayout({"a": 0}, *(n * rows.nbytes + 64 * i for i in range(3)))
                with Writer(path, layout, {"a": 6144}) as writer:
                    for i in range(n):
                        block = writer.take("a", 1024 * i, rows.shape, "uint16")
                        np.copyto(block.values, rows)
                        writer.put(block)
                    writer.commit(0, np.zeros((1, 2)))
            else:
                fd = os.open(path, os.O_WRONLY | (os.O_DIRECT if mode == "direct" else 0))
                for i in range(n):
                    os.pwrite(fd, block, i * rows.nbytes)
                os.fsync(fd)
                os.close(fd)
            seconds[mode].append(time.perf_counter() - began)
    medians = {mode: statistics.median(values) for mode, values in seconds.items()}
    return medians["ours"], min(medians["buffered"], medians["direct"])


def main() -> None:
    """Run all conditions and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 batches")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder here)")
    args = parser.parse_args()
    rounds, n_batches = (3, 2) if args.quick else (10, 5)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(dir=args.folder or Path.cwd()) as name:
        bench = Bench(Path(name), n_batches)
        before = _measure_memory(bench, "bare")
        growth = max(0.0, _measure_memory(bench, "ours") - before)
        bench.run("h5py")  # every condition runs once before it counts
        rng, ratios = np.random.default_rng(0), {mode: [] for mode in MODES[1:]}
        for _ in range(rounds):
            seconds = {mode: bench.run(mode) for mode in rng.permutation(MODES)}
            for mode, values in ratios.items():
                values.append(seconds[mode] / seconds["bare"])
        median = {mode: statistics.median(values) for mode, values in ratios.items()}
        alone, raw = compare_writer(Path(name), rounds)
    best = min(median["buffered"], median["direct"])
    rows = [
        _row("full dump float16, x bare forward (limit 1.12)", median["ours"], 1.12, 1.0, rounds),
        _row("same, x the better raw write (limit 1.05)", median["ours"] / best, 1.05, 1.0, rounds),
        _row(
            "same, x bare forward; peer: h5py appends", median["ours"], median["h5py"], 1.0, rounds
        ),
        _row("memory over the bare forward, MB (limit 300)", growth, 300.0, 1.0, 1),
        _row("writer alone, seconds for 512 MB; peer: raw", alone, raw, 0.95, rounds),
    ]
    if args.json:
        print(json.dumps(rows))
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
    print("x bare forward:", {mode: round(value, 3) for mode, value in median.items()})
    for row in rows:
        print(f"{row['case']:<50} {row['ours']:8.3f} {row['peer']:8.3f} {row['ratio']:6.2f}")


def _measure_memory(bench: Bench, mode: str) -> float:
    """Return the largest resident memory in MB while a condition runs."""
    process, peak, done = psutil.Process(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    bench.run(mode)
    done.set()
    thread.join()
    return peak[0]


def _row(case: str, ours: float, peer: float, bar: float, n: int) -> dict:
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
