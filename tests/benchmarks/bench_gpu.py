"""Recording of a model of 8 billion parameters on a GPU, against the forward pass and the disk.

A model of the shape of Llama 3.1 8B with random bfloat16 weights is shown batches of 8 x 512
tokens; recorded are the 14,336 MLP neurons of every layer. Conditions run in one process,
interleaved in random order; ratios are taken in each round, and reported is the median. One
command, on a machine with a CUDA device of 24 GB or more and 60 GB of free disk (a share of that
with --layers)::

    python tests/benchmarks/bench_gpu.py --folder /fast/disk
    python tests/benchmarks/bench_gpu.py --quick --json --layers 8

The kernel alone is measured by bench_kernels.py. Without a CUDA device there are no numbers.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from bench_capture import make_row, make_text, make_tokenizer, show_rows, time_recording

import netphys
from netphys.recording.capture import hold_still
from netphys.recording.present import make_plan, present

DEVICE, BATCH, LENGTH = "cuda", 8, 512
SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rope_theta": 500_000.0,
    "max_position_embeddings": 8192,
}
REDUCED = {
    "store": ["word.mean", "raster"],
    "threshold": 0.0,
    "online": "moments",
    "dtype": "bfloat16",
}
MODES = {
    "pooled + raster + moments": REDUCED,
    "the same, compiled": REDUCED | {"compile": True},
    "full dump": {"dtype": "bfloat16"},
}


class Bench:
    """One model on the card, one stimulus set, and a way to run each condition on them."""

    def __init__(self, folder: Path, n_layers: int, n_batches: int):
        config = transformers.LlamaConfig(num_hidden_layers=n_layers, **SHAPE)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(DEVICE):
                torch.manual_seed(0)
                model = transformers.LlamaModel(config).eval()
        finally:
            torch.set_default_dtype(before)
        rng = np.random.default_rng(0)
        self.folder = folder
        self.stimuli = netphys.load_stimuli(
            [make_text(rng, LENGTH) for _ in range(BATCH * n_batches)]
        )
        self.subject = netphys.load_subject(model, tokenizer=make_tokenizer())
        self.presentation = present(self.subject, self.stimuli)
        self.plan = make_plan(self.presentation.keys, BATCH)
        self.n_bytes = 2 * SHAPE["intermediate_size"] * n_layers * BATCH * LENGTH * n_batches
        self._compiled = torch.compile(model)

    def run(self, mode: str) -> float:
        """Return the seconds of one pass over all batches."""
        if mode == "raw write":
            return self._write()
        if mode in MODES:
            path = self.folder / "a.nwb"
            given = {"sites": "mlp", "batch_size": BATCH, "max_memory": 4 << 30} | MODES[mode]
            return time_recording(self.subject, self.stimuli, path, **given)
        return self._forward(self._compiled if "compiled" in mode else self.subject.model)

    def _forward(self, model) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        with hold_still(self.subject.model):
            for rows in self.plan:
                args, kwargs = self.presentation.make_inputs(rows)
                model(*args, **kwargs)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    def _write(self) -> float:
        """Write as many bytes as a full dump has, past the page cache, into reserved space."""
        path, size = self.folder / "raw.bin", 64 << 20
        path.unlink(missing_ok=True)
        block = mmap.mmap(-1, size)
        block.write(os.urandom(1 << 20) * (size >> 20))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_DIRECT", 0))
        os.posix_fallocate(fd, 0, self.n_bytes + size)
        began = time.perf_counter()
        for begin in range(0, self.n_bytes, size):
            os.pwrite(fd, block, begin)
        os.fsync(fd)
        seconds = time.perf_counter() - began
        os.close(fd)
        path.unlink()
        return seconds


def run_all(bench: Bench, rounds: int) -> list[dict]:
    """Return a row for every case."""
    modes = ["bare", "bare, compiled", *MODES, "raw write"]
    for mode in modes:  # every condition runs once before it counts
        bench.run(mode)
    rng, seconds = np.random.default_rng(0), {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode in rng.permutation(modes):
            seconds[mode].append(bench.run(mode))
    for mode, values in seconds.items():
        print(f"{mode}: {statistics.median(values):.3f} s", file=sys.stderr)
    gigabytes = bench.n_bytes / 1e9
    for mode in ("full dump", "raw write"):
        speed = gigabytes / statistics.median(seconds[mode])
        print(f"{mode}: {speed:.2f} GB/s of {gigabytes:.1f} GB", file=sys.stderr)

    def over(mode: str, base: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(seconds[mode], base, strict=True))

    floor = [max(a, b) for a, b in zip(seconds["bare"], seconds["raw write"], strict=True)]
    reduced, compiled, full = MODES
    rows = [
        (f"{reduced}, x the bare forward (limit 1.05)", over(reduced, seconds["bare"]), 1.05),
        (f"{compiled}, x that (limit 1.05)", over(compiled, seconds["bare, compiled"]), 1.05),
        (f"{full}, x the slower of forward and disk (limit 1.10)", over(full, floor), 1.10),
    ]
    return [make_row(case, value, limit, 1.0, rounds) for case, value, limit in rows]


def main() -> None:
    """Run all conditions and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 batches")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder here)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        show_rows([], args.json)
        return
    rounds, n_batches = (3, 2) if args.quick else (10, 8)
    with tempfile.TemporaryDirectory(dir=args.folder or Path.cwd()) as name:
        rows = run_all(Bench(Path(name), args.layers, n_batches), rounds)
    print(torch.cuda.get_device_name(), file=sys.stderr)
    show_rows(rows, args.json)


if __name__ == "__main__":
    main()
