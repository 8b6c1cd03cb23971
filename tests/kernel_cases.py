"""Random problems for the kernels, checked against the plain reference on any device.

As a script it runs all of them through Triton and prints, as JSON, what went wrong in each. With
``TRITON_INTERPRET=1`` in the environment that needs no card.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from netphys.recording.kernels import (
    Outputs,
    Plan,
    Reduction,
    State,
    make_outputs,
    make_plan,
    make_state,
)
from netphys.recording.kernels.reference import run_reference

HALF, BRAIN, DOUBLE = torch.float16, torch.bfloat16, torch.float64
EVERY_POOL = tuple((s, f) for s in ("word", "trial") for f in ("mean", "max", "last", "sum"))
ALL = {
    "store": HALF,
    "pools": (("word", "mean"),),
    "threshold": True,
    "moments": True,
    "extrema": True,
}


@dataclass
class Case:
    """One random problem: sizes, what is reduced and what is odd about the input."""

    n_rows: int = 13
    n_units_in: int = 45
    dtype: torch.dtype = torch.float32
    n_units: int | None = None
    keep: float = 1.0
    out_rows: bool = False
    strided: bool = False
    relu: bool = False
    poison: float | None = None
    scale: float = 1.0
    words: str = "ragged"
    options: dict = field(default_factory=dict)


CASES = {
    "cast": Case(options={"store": HALF}),
    "cast_float32_to_bfloat16": Case(options={"store": BRAIN}),
    "cast_bfloat16_to_float32": Case(dtype=BRAIN, options={"store": torch.float32}),
    "overflow": Case(scale=4e4, options={"store": HALF}),
    "overflow_of_pools": Case(scale=4e4, options={"pools": (("word", "sum"),), "pool_dtype": HALF}),
    "pools": Case(options={"pools": EVERY_POOL}),
    "pools_of_kept_rows": Case(keep=0.7, options={"pools": EVERY_POOL}),
    "pools_half": Case(dtype=HALF, options={"pools": EVERY_POOL, "pool_dtype": HALF}),
    "pools_of_long_runs": Case(
        n_rows=60, n_units_in=9, words="long", options={"pools": EVERY_POOL}
    ),
    "pools_without_segments": Case(words="none", options={"pools": EVERY_POOL}),
    "raster": Case(n_units_in=13, options={"threshold": True}),
    "raster_of_whole_bytes": Case(n_units_in=64, options={"threshold": True}),
    "moments": Case(options={"moments": True, "extrema": True}),
    "moments_far_from_zero": Case(scale=-1e4, options={"moments": True}),
    "histogram": Case(options={"histogram": (-1.0, 1.5, 5)}),
    "gram": Case(n_units_in=20, options={"gram": True}),
    "tags": Case(options={"n_tags": 2}),
    "top": Case(options={"top_k": 4}),
    "top_with_ties": Case(relu=True, n_units_in=12, options={"top_k": 9}),
    "top_of_all": Case(n_units_in=5, options={"top_k": 5}),
    "all_float32": Case(options=ALL),
    "all_float16": Case(dtype=HALF, options=ALL),
    "all_bfloat16": Case(dtype=BRAIN, options=ALL),
    "all_of_some_units": Case(n_units=19, keep=0.7, options={**ALL, "histogram": (-2.0, 2.0, 3)}),
    "all_scattered": Case(keep=0.7, out_rows=True, strided=True, options={**ALL, "top_k": 2}),
    "all_with_nan": Case(poison=float("nan"), keep=0.7, options={**ALL, "pools": EVERY_POOL}),
    "all_with_inf": Case(poison=float("-inf"), options={**ALL, "histogram": (0.0, 1.0, 2)}),
    "top_with_nan": Case(poison=float("nan"), options={"top_k": 3, "histogram": (0.0, 1.0, 2)}),
    "one_row": Case(n_rows=1, n_units_in=9, options=ALL),
    "no_row": Case(keep=0.0, options={**ALL, "pools": EVERY_POOL, "top_k": 2, "gram": True}),
    "one_unit": Case(n_rows=5, n_units_in=1, options={**ALL, "top_k": 1}),
}
CPU_CASES = {
    "all_float64": Case(
        dtype=DOUBLE, keep=0.7, options={**ALL, "top_k": 3, "gram": True, "n_tags": 1}
    ),
    "top_float64_with_ties": Case(dtype=DOUBLE, relu=True, options={"top_k": 30}),
    "cast_float64_to_float32": Case(dtype=DOUBLE, scale=1e39, options={"store": torch.float32}),
}

Engine = Callable[..., None]


@dataclass
class Problem:
    """What one call needs."""

    reduction: Reduction
    x: torch.Tensor
    plan: Plan
    basis: torch.Tensor
    n_out: int

    def make(self, device: str = "cpu", **more: object) -> tuple[Outputs, State]:
        """Return outputs full of what nobody should read, and a fresh state."""
        sizes = {name: len(s) + 1 for name, s in self.plan.segments.items()}
        outputs = make_outputs(self.reduction, self.n_out, sizes, device=device, **more)
        for value in outputs.items().values():
            value.fill_(float("nan") if value.is_floating_point() else 77)
        return outputs, make_state(self.reduction, device=device)


def make_words(kind: str, n_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return begin and end of runs: with gaps and empty ones, of 26 rows or more, or none."""
    if kind == "none":
        return np.zeros(0, int), np.zeros(0, int)
    if kind == "long":
        return np.array([3, 30, 30]), np.array([29, 30, n_rows - 1])
    cuts = np.sort(rng.integers(0, n_rows + 1, 16))
    return cuts[::2], cuts[1::2]


def make_problem(case: Case, rng: np.random.Generator) -> Problem:
    """Draw the input of a case."""
    n, m = case.n_rows, case.n_units_in
    x = rng.normal(size=(n, m))
    x = np.maximum(x, 0) if case.relu else x
    x = x - case.scale * 1 if case.scale == -1e4 else x * case.scale
    if case.poison is not None:
        x[rng.integers(n, size=3), rng.integers(m, size=3)] = case.poison
    x = torch.from_numpy(x).to(case.dtype)
    if case.strided:
        x = torch.cat([x, torch.full_like(x, torch.nan)], 1)[:, :m]
    options = dict(case.options)
    if case.n_units is not None:
        chosen = np.sort(rng.choice(m, case.n_units, replace=False))
        options["units"] = torch.from_numpy(chosen)
    if options.pop("threshold", False):
        options["threshold"] = torch.from_numpy(rng.normal(size=case.n_units or m)).float()
    keep = rng.random(n) < case.keep if case.keep < 1 else None
    n_kept = n if keep is None else int(keep.sum())
    words = make_words(case.words, n, rng)
    plan = make_plan(
        n,
        {"word": words, "trial": ([0, n // 2], [n // 2, n])},
        keep=keep,
        out_rows=rng.permutation(n_kept + 2)[:n_kept] if case.out_rows else None,
    )
    basis = torch.from_numpy(rng.normal(size=(n, options.get("n_tags", 0), 2))).float()
    return Problem(Reduction(m, case.dtype, **options), x, plan, basis, n_kept + 2)


def check(case: Case, engine: Engine, rng: np.random.Generator, device: str = "cpu") -> None:
    """Run two calls through an engine and through the reference; raise where they differ."""
    problem = make_problem(case, rng)
    outputs, state = problem.make(device)
    expected, expected_state = problem.make()
    reduction = problem.reduction.to(device)
    for _ in range(2):
        problem.x = problem.x.roll(1, 1) if case.poison is None and not case.strided else problem.x
        basis = problem.basis if reduction.n_tags else None
        on_device = None if basis is None else basis.to(device)
        x = problem.x.to(device) if not case.strided or device == "cpu" else move(problem.x, device)
        engine(reduction, x, problem.plan, outputs, state, basis=on_device)
        run_reference(
            problem.reduction, problem.x, problem.plan, expected, expected_state, basis=basis
        )
    compare(outputs.items(), expected.items(), problem)
    compare(state.items(), expected_state.items(), problem)


def move(x: torch.Tensor, device: str) -> torch.Tensor:
    """Return rows that keep their distance on another device."""
    return torch.cat([x, x], 1).to(device)[:, : x.shape[1]]


EXACT = ("samples", "raster", "top_index", "top_value", "low", "high")


def compare(found: dict, expected: dict, problem: Problem) -> None:
    """Raise unless all tensors agree: exactly where nothing is summed, else to rounding."""
    assert found.keys() == expected.keys()
    scale = float(problem.x.double().nan_to_num(0, 0, 0).abs().max())
    for name, value in found.items():
        value = value.cpu()
        # Casting to bfloat16, the interpreter cuts where a card rounds.
        cut = name == "samples" and value.dtype == BRAIN and os.environ.get("TRITON_INTERPRET")
        exact = name in EXACT or not value.is_floating_point() or name.endswith((".max", ".last"))
        tolerance = 2**-7 if cut else 0.0 if exact else 2e-3 if value.dtype == HALF else 2e-6
        power = 2 if name in ("m2", "gram") else 1
        terms = len(problem.plan.rows) if name in ("m2", "gram", "tags") else 1
        spread = 10.0 if name == "m2" else scale**power
        torch.testing.assert_close(
            value,
            expected[name],
            rtol=tolerance,
            atol=tolerance * spread * terms,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def main() -> None:
    """Run every case through Triton and print what failed."""
    from netphys.recording.kernels.launch import launch

    seed = int(np.random.SeedSequence().entropy) % 2**32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    failed = {"seed": seed}
    for name, case in CASES.items():
        try:
            small = functools.partial(launch, tile_rows=8, tile_bytes=4)
            check(case, small, np.random.default_rng(seed), device)
            failed[name] = ""
        except Exception:
            failed[name] = traceback.format_exc()
    json.dump(failed, sys.stdout)


if __name__ == "__main__":
    main()
