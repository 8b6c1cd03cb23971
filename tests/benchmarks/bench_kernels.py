"""How fast one pass over a site is: against plain copies, and torch operations one after another.

Everything runs in one process, interleaved in random order; values are medians of the rounds. With
a CUDA device the pass there is measured too, on at least 256 MB::

    python tests/benchmarks/bench_kernels.py                  # 30 rounds
    python tests/benchmarks/bench_kernels.py --quick --json
    python tests/benchmarks/bench_kernels.py --tune           # sizes of a block on the card
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from netphys.recording.kernels import (
    Reduction,
    Workspace,
    make_outputs,
    make_plan,
    make_state,
    run,
)


def make_words(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return words of one or two tokens, as in English text."""
    lengths = np.random.default_rng(seed).choice([1, 2, 3], n_rows, p=[0.65, 0.25, 0.1])
    ends = np.cumsum(lengths)
    ends = np.append(ends[ends < n_rows], n_rows)
    return np.concatenate([[0], ends[:-1]]), ends


class Site:
    """One tensor that passes a site, and the two ways to reduce it."""

    def __init__(self, n_rows, n_units, dtype, device, *, seed, **options):
        self.x = torch.randn(n_rows, n_units, device=device).to(dtype)
        begin, end = make_words(n_rows, seed)
        self.plan = make_plan(n_rows, {"word": (begin, end)})
        self.reduction = Reduction(n_units, dtype, **options).to(device)
        sizes = {"word": len(begin)}
        self.outputs = make_outputs(self.reduction, n_rows, sizes, device=device)
        self.state = make_state(self.reduction, device=device)
        self.bits = torch.arange(8, dtype=torch.uint8, device=device)
        self.copied = torch.empty_like(self.x)
        self.ids = self.plan.segments["word"].ids.to(device)
        self.scale = self.plan.segments["word"].scale.to(device, torch.float32)[:, None]

    @property
    def n_bytes(self) -> int:
        """Bytes that a pass must read and write."""
        return self.x.nbytes + sum(value.nbytes for value in self.outputs.items().values())

    def copy(self) -> None:
        """Copy the tensor."""
        self.copied.copy_(self.x)

    def cast(self) -> None:
        """Cast the tensor, nothing else."""
        self.outputs.samples.copy_(self.x)

    def eager(self) -> None:
        """One torch operation after the other, each over the whole tensor."""
        r, x = self.reduction, self.x
        if r.store is not None:
            self.samples = x.to(r.store)
        if r.pools:
            sums = torch.zeros_like(self.outputs.pooled["word", "mean"])
            self.pooled = sums.index_add_(0, self.ids, x.float()).mul_(self.scale)
        if r.moments:
            self.moments = torch.var_mean(x.float(), dim=0)
        if r.extrema:
            self.extrema = x.amin(0), x.amax(0)
        if r.threshold is not None:
            above = x > r.threshold
            if x.device.type == "cpu":
                self.raster = np.packbits(above.numpy(), axis=1, bitorder="little")
            else:
                bits = above.view(len(x), -1, 8).to(torch.uint8) << self.bits
                self.raster = bits.sum(-1, dtype=torch.uint8)


def time_cpu(do: Callable[[], None]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def time_cuda(do: Callable[[], None]) -> float:
    """Return the seconds of one call on the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    do()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(ways: dict[str, list[Callable]], n: int, clock: Callable) -> dict[str, float]:
    """Return the median seconds of each way, interleaved; each round takes the next site."""
    rng = np.random.default_rng(0)
    seconds = {name: [] for name in ways}
    for turn in range(-3, n):
        for name in rng.permutation(list(ways)):
            calls = ways[name]
            taken = clock(calls[turn % len(calls)])
            if turn >= 0:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def bench_cpu(n: int) -> list[dict]:
    """Sites of GPT-2 small, a batch of 8 x 128 tokens: 12 tensors, so that none stays cached."""
    work, rows = Workspace(), []
    half = {"store": torch.float16}
    threshold = torch.full((3072,), 0.5)
    reduced = {"pools": (("word", "mean"),), "threshold": threshold, "moments": True}
    for case, options, peer, bar in (
        ("cast to float16", half, "cast", 0.5),
        ("word mean + raster + moments", reduced, "eager", 2.0),
        ("the same + extrema", {**reduced, "extrema": True}, "eager", 2.0),
        ("the same + cast", {**reduced, "extrema": True, **half}, "eager", 2.0),
    ):
        sites = [Site(1024, 3072, torch.float32, "cpu", seed=s, **options) for s in range(12)]
        ways = {
            "ours": [partial(reduce, s, workspace=work) for s in sites],
            "peer": [getattr(s, peer) for s in sites],
        }
        found = measure(ways, n, time_cpu)
        name = {"cast": "torch copy_ to float16", "eager": "torch, one by one"}[peer]
        rows.append(make_row(f"CPU, {case}, over {name} (ms)", found, bar, n))
    return rows


def reduce(site: Site, **more: object) -> None:
    """One pass of ours."""
    run(site.reduction, site.x, site.plan, site.outputs, site.state, **more)


def make_row(case: str, found: dict[str, float], bar: float, n: int) -> dict:
    """Return one line of the table: milliseconds, and how many times faster ours is."""
    ours, peer = 1e3 * found["ours"], 1e3 * found["peer"]
    return {"case": case, "ours": ours, "peer": peer, "ratio": peer / ours, "bar": bar, "n": n}


def bench_cuda(n: int) -> list[dict]:
    """MLP sites of Llama-3.1-8B: pool, moments, raster and cast in one pass."""
    rows = []
    for dtype, n_rows in ((torch.bfloat16, 16384), (torch.float32, 8192)):
        site = make_cuda_site(dtype, n_rows)
        ways = {"ours": [partial(reduce, site)], "copy": [site.copy], "eager": [site.eager]}
        found = measure(ways, n, time_cuda)
        ours, copy = site.n_bytes / found["ours"] / 1e9, 2 * site.x.nbytes / found["copy"] / 1e9
        name = f"GPU, {str(dtype).removeprefix('torch.')}, {site.x.nbytes / 2**20:.0f} MB"
        case = f"{name}, fused pass over device copy (GB/s)"
        rows.append(
            {"case": case, "ours": ours, "peer": copy, "ratio": ours / copy, "bar": 0.8, "n": n}
        )
        found["peer"] = found["eager"]
        rows.append(make_row(f"{name}, fused pass over torch, one by one (ms)", found, 4.0, n))
        del site, ways
        torch.cuda.empty_cache()
    return rows


def make_cuda_site(dtype: torch.dtype, n_rows: int) -> Site:
    """Return what the bar is about."""
    options = {"pools": (("word", "mean"),), "moments": True, "store": torch.float16}
    options["threshold"] = torch.full((14336,), 0.5)
    return Site(n_rows, 14336, dtype, "cuda", seed=0, **options)


def tune(n: int) -> None:
    """Print the speed of each size of a block."""
    from netphys.recording.kernels.launch import launch

    for dtype, n_rows in ((torch.bfloat16, 16384), (torch.float32, 8192)):
        site = make_cuda_site(dtype, n_rows)
        args = (site.reduction, site.x, site.plan, site.outputs, site.state)
        ways = {"copy": [site.copy]}
        for rows in (32, 64, 128, 256):
            for n_bytes in (16, 32, 64, 128):
                ways[f"{rows} x {8 * n_bytes}"] = [
                    partial(launch, *args, tile_rows=rows, tile_bytes=n_bytes)
                ]
        found = measure(ways, n, time_cuda)
        copy = 2 * site.x.nbytes / found.pop("copy") / 1e9
        print(f"\n{dtype}: copy {copy:.0f} GB/s")
        for name, seconds in sorted(found.items(), key=lambda pair: pair[1]):
            speed = site.n_bytes / seconds / 1e9
            print(f"  {name:12s} {1e3 * seconds:8.3f} ms {speed:7.0f} GB/s {speed / copy:6.2f}")


def main() -> None:
    """Run what this machine can run and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 rounds")
    parser.add_argument("--json", action="store_true", help="a list instead of a table")
    parser.add_argument("--tune", action="store_true", help="try sizes of a block on the card")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    n, cuda = 10 if args.quick else 30, torch.cuda.is_available()
    if args.tune:
        if not cuda:
            parser.error("--tune needs a CUDA device, and there is none")
        tune(n)
        return
    rows = bench_cpu(n) + (bench_cuda(n) if cuda else [])
    if not cuda:
        print("No CUDA device: the rows of the GPU were not run.", file=sys.stderr)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    card = f", {torch.cuda.get_device_name()}" if cuda else ""
    print(f"{platform.processor() or platform.machine()}{card}, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, {args.threads} threads, medians of {n}")
    for row in rows:
        verdict = "met" if row["ratio"] >= row["bar"] else "NOT met"
        print(
            f"{row['case']:72s} {row['ours']:9.2f} {row['peer']:9.2f} {row['ratio']:7.2f}"
            f"  bar {row['bar']:.2f} {verdict}"
        )


if __name__ == "__main__":
    main()
