"""How fast RDMs and their inference are, beside rsatoolbox in the same process.

Cases are interleaved in random order; values are medians of the rounds. Bootstraps of rsatoolbox
are timed on a few draws and scaled to 1,000 (``peer_draws`` says on how many). Memory is that of a
process of its own::

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_rsa.py             # 5 rounds
    OMP_NUM_THREADS=2 python tests/benchmarks/bench_rsa.py --quick --json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from netphys.analysis.evaluate import evaluate
from netphys.analysis.rsa import compare_rdms, compute_layer_rdms, compute_rdm, to_rdm

N_DRAWS, N_PEOPLE, N_CONDITIONS, N_MODELS = 1000, 20, 60, 5
METHODS = {  # ours: theirs, its draws, quick ones, bar
    "cosine": ("cosine", 50, 20, 50),
    "pearson": ("corr", 50, 20, 50),
    "rho-a": ("rho-a", 10, 4, 20),
    "tau-a": ("tau-a", 10, 4, 20),
    "whitened-cosine": ("cosine_cov", 2, 1, 200),
}
MEMORY_BAR = 1024  # MB
FALSE_BAR = 0.06


def make_world() -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of models and of participants."""
    rng = np.random.default_rng(0)
    n_pairs = N_CONDITIONS * (N_CONDITIONS - 1) // 2
    truth = rng.gamma(2, size=n_pairs)
    people = truth + rng.gamma(2, size=(N_PEOPLE, n_pairs))
    return truth + rng.gamma(3, size=(N_MODELS, n_pairs)), people


def make_bootstraps(quick: bool) -> list[dict]:
    """Return the cases of inference."""
    import rsatoolbox
    from rsatoolbox.inference import eval_dual_bootstrap

    models, people = make_world()
    names = [f"c{k}" for k in range(N_CONDITIONS)]
    ours = {f"m{k}": to_rdm(row, conditions=names) for k, row in enumerate(models)}
    data = to_rdm(people, conditions=names, dims=["participant"])
    theirs = [rsatoolbox.model.ModelFixed(f"m{k}", row) for k, row in enumerate(models)]
    rdms = rsatoolbox.rdm.RDMs(people)
    cases = []
    for method, (name, full, few, bar) in METHODS.items():
        n = few if quick else full

        def own(method: str = method) -> None:
            evaluate(ours, data, method=method, n_permutations=0, n_bootstraps=N_DRAWS, rng=0)

        def peer(name: str = name, n: int = n) -> None:
            with contextlib.redirect_stderr(io.StringIO()):
                eval_dual_bootstrap(theirs, rdms, method=name, N=n)

        case = f"dual bootstrap, {method}"
        cases.append({"case": case, "own": own, "peer": peer, "scale": N_DRAWS / n, "bar": bar})
        cases[-1]["peer_draws"] = n
    return cases


def make_distances() -> list[dict]:
    """Return the cases of RDMs from patterns."""
    import rsatoolbox

    rng = np.random.default_rng(0)
    names = [f"c{k}" for k in range(500)]
    x = rng.normal(size=(500, 4096))
    ours = xr.DataArray(x, {"stimulus_id": ("trial", names)}, ("trial", "unit"))
    theirs = rsatoolbox.data.Dataset(x)
    cases = [
        {
            "case": f"{metric} RDM, 500 x 4,096",
            "own": lambda m=metric: compute_rdm(ours, metric=m),
            "peer": lambda m=metric: rsatoolbox.rdm.calc_rdm(theirs, m),
            "bar": 1,
        }
        for metric in ("euclidean", "correlation")
    ]
    x = rng.normal(size=(800, 1000))
    labels, runs = np.tile([f"c{k}" for k in range(100)], 8), np.repeat(np.arange(8), 100)
    coords = {"stimulus_id": ("trial", labels), "run": ("trial", runs)}
    repeats = xr.DataArray(x, coords, ("trial", "unit"))
    named = {"cond": labels, "run": runs}
    theirs_too = rsatoolbox.data.Dataset(x, obs_descriptors=named)
    precision = np.cov(rng.normal(size=(4000, 1000)), rowvar=False)
    for noise, title in ((None, "identity"), (precision, "full precision")):
        cases.append(
            {
                "case": f"crossnobis, 100 x 8 x 1,000, {title}",
                "own": lambda n=noise: compute_rdm(
                    repeats, metric="crossnobis", folds="run", noise=n
                ),
                "peer": lambda n=noise: rsatoolbox.rdm.calc_rdm(
                    theirs_too, "crossnobis", descriptor="cond", noise=n, cv_descriptor="run"
                ),
                "bar": 1,
            }
        )
    return cases


def measure(cases: list[dict], rounds: int) -> list[dict]:
    """Time both sides of every case, interleaved."""
    rng = np.random.default_rng(1)
    calls: list[tuple[int, str, Callable]] = []
    for k, case in enumerate(cases):
        case["own"]()  # compiles, and warms up
        calls += [(k, "own", case["own"]), (k, "peer", case["peer"])]
    times: dict[tuple[int, str], list[float]] = {(k, side): [] for k, side, _ in calls}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(rounds):
            for i in rng.permutation(len(calls)):
                k, side, call = calls[i]
                begin = time.perf_counter()
                call()
                times[k, side].append(time.perf_counter() - begin)
    found = []
    for k, case in enumerate(cases):
        own = statistics.median(times[k, "own"])
        peer = statistics.median(times[k, "peer"]) * case.get("scale", 1)
        row = {"case": case["case"], "ours": own, "peer": peer, "ratio": peer / own}
        row |= {"bar": case["bar"], "n": rounds}
        row |= {"peer_draws": case["peer_draws"]} if "peer_draws" in case else {}
        found.append(row)
    return found


# ---------------------------------------------------------------------- memory
def make_session(folder: Path, n: int, side: int) -> Path:
    """Record 36 channels of `n` images; return the file."""
    import torch

    import netphys

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 36, 3, padding=1)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.conv(pixel_values)

    torch.manual_seed(0)
    images = np.random.default_rng(0).random((n, 1, side, side), dtype=np.float32)
    stimuli = netphys.load_stimuli(
        pd.DataFrame({"stimulus_id": [f"i{k:04d}" for k in range(n)]}),
        arrays=list(images),
        kind="image",
    )
    subject = netphys.load_subject(Net())
    path = folder / "images.nwb"
    netphys.record(subject, stimuli, path, sites=["conv"], batch_size=100, progress=False)
    return path


def read_memory(path: str, metric: str) -> None:
    """Print the megabytes that this process needed for the RDM of a session."""
    from netphys import open_session

    rdm = compute_layer_rdms(open_session(path), sites=["conv"], metric=metric)
    n, (units,) = len(rdm.conditions), rdm.params["n_units"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"mb": peak, "n": n, "units": units}))


def measure_memory(quick: bool) -> list[dict]:
    """Return the memory of an RDM of 5,000 conditions and 36,864 units, from its file."""
    found = []
    n, side = (1000, 16) if quick else (5000, 32)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = make_session(Path(folder), n, side)
        for metric in ("euclidean", "correlation"):
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, "--memory", str(path), metric],
                check=True,
                capture_output=True,
                text=True,
            )
            seen = json.loads(done.stdout.splitlines()[-1])
            case = f"MB of a process, {metric} RDM, {seen['n']} x {seen['units']} from a file"
            found.append({"case": case, "ours": seen["mb"], "peer": MEMORY_BAR})
            found[-1] |= {"ratio": MEMORY_BAR / seen["mb"], "bar": 1, "n": 1}
            found[-1]["seconds"] = time.perf_counter() - begin
    return found


# ---------------------------------------------------------------------- false positives
def count_false_positives(n: int) -> list[dict]:
    """Return how often two unrelated smooth series of 100 samples are significant at .05."""
    rng = np.random.default_rng(0)
    labels = [f"t{k}" for k in range(100)]
    i, j = np.triu_indices(100, 1)
    found = []
    for width in (1, 2, 4, 8):
        hits = {"ordered": 0, "iid": 0}
        for _ in range(n):
            noise = gaussian_filter1d(rng.normal(size=(2, 100 + 16 * width, 40)), width, axis=1)
            noise = noise[:, 8 * width : 8 * width + 100]
            a, b = (to_rdm(1 - np.corrcoef(x)[i, j], conditions=labels) for x in noise)
            for order in hits:
                p = compare_rdms(a, b, order=order, n_permutations=99, rng=0).stats["p"]
                hits[order] += float(p) <= 0.05
        rate = hits["ordered"] / n
        case = f"false positives, ordered noise, smoothed by {width}"
        found.append({"case": case, "ours": rate, "peer": hits["iid"] / n, "bar": 1, "n": n})
        found[-1]["ratio"] = FALSE_BAR / max(rate, 1 / n)
    return found


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and draws")
    parser.add_argument("--json", action="store_true", help="print a list of cases")
    parser.add_argument("--rounds", type=int, help="rounds (5, quick: 3)")
    parser.add_argument("--memory", nargs=2, metavar=("FILE", "METRIC"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        read_memory(*args.memory)
        return 0
    rounds = args.rounds or (3 if args.quick else 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = make_bootstraps(args.quick) + make_distances()
    found = measure(cases, rounds) + measure_memory(args.quick)
    found += count_false_positives(60 if args.quick else 400)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    for row in found:
        print(
            f"{row['case']:62s} {row['ours']:10.3f} {row['peer']:10.3f} "
            f"x{row['ratio']:.2f} (bar {row['bar']})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
