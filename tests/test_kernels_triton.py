"""The Triton kernels against the plain reference: under the interpreter, and on a card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from kernel_cases import CASES, check, make_problem

from netphys.recording.kernels import Reduction, make_outputs, make_plan, make_state, run

STARTED = {
    "reduce_rows",
    "join_segments",
    "fill_empty",
    "merge_blocks",
    "finish_call",
    "find_largest",
    "add_products",
}
SCRIPT = Path(__file__).with_name("kernel_cases.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("triton") is None, reason="needs triton (pip install 'netphys[gpu-test]')"
    ),
]


@pytest.fixture(scope="module")
def interpreted():
    """What went wrong in each case, from a process of its own: the interpreter changes triton."""
    env = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_reference_agrees_under_the_interpreter(name, interpreted):
    assert not interpreted[name], f"seed {interpreted['seed']}: {interpreted[name]}"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", [(None, None), (8, 4)], ids=["usual", "small"])
@pytest.mark.parametrize("name", CASES)
def test_reference_agrees_on_a_card(name, size):
    from netphys.recording.kernels.launch import launch

    def engine(*args, basis=None):
        launch(*args, basis=basis, tile_rows=size[0], tile_bytes=size[1])

    seed = int(np.random.SeedSequence().entropy) % 2**32
    print(f"seed {seed}")
    check(CASES[name], engine, np.random.default_rng(seed), "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("n_units", [50_000, 3_000])
def test_top_on_a_card_equals_the_cpu(n_units):
    x = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (5, n_units))).float()
    found = []
    for device in ("cpu", "cuda"):
        reduction = Reduction(n_units, top_k=8).to(device)
        outputs, state = (
            make_outputs(reduction, 5, device=device),
            make_state(reduction, device=device),
        )
        run(reduction, x.to(device), make_plan(5), outputs, state)
        found.append((outputs.top_index.cpu(), outputs.top_value.cpu()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


class Compiler:
    """Stands for a kernel: compiles it for a card that need not be there, without starting it."""

    KINDS: ClassVar = {
        torch.float32: "*fp32",
        torch.float16: "*fp16",
        torch.bfloat16: "*bf16",
        torch.float64: "*fp64",
        torch.uint8: "*u8",
        torch.int32: "*i32",
        torch.int64: "*i64",
    }

    def __init__(self, kernel, compiled):
        self.kernel, self.compiled = kernel, compiled

    def __getitem__(self, grid):
        return self.compile

    def compile(self, *args, **options):
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        names = self.kernel.arg_names
        given = {**dict(zip(names, args, strict=False)), **options}
        signature, fixed = {}, {}
        for n, name in enumerate(names):
            value = given[name]
            if self.kernel.params[n].is_constexpr:
                signature[name], fixed[n,] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = self.KINDS[value.dtype]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=fixed)
        rest = {name: value for name, value in options.items() if name not in names}
        found = compile(source, target=GPUTarget("cuda", 90, 32), options=rest)
        self.compiled.append((self.kernel.__name__, found.metadata.shared))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["all_bfloat16", "all_of_some_units", "all_scattered", "pools_half", "gram", "tags"]
)
def test_kernels_compile_for_a_card_that_is_not_there(name, monkeypatch):
    from triton.runtime.jit import JITFunction

    from netphys.recording.kernels import _fused, _products, launch

    compiled = []
    for module in (_fused, _products):
        for key, kernel in vars(module).copy().items():
            if isinstance(kernel, JITFunction) and key in STARTED:
                monkeypatch.setattr(module, key, Compiler(kernel, compiled))
    problem = make_problem(CASES[name], np.random.default_rng(0))
    outputs, state = problem.make(n_slots=2)
    args = (problem.reduction, problem.x, problem.plan, outputs, state)
    launch.launch(*args, basis=problem.basis)
    assert {"reduce_rows", "finish_call"} <= {kernel for kernel, _ in compiled}
    assert max(shared for _, shared in compiled) <= 48 * 1024


def test_launch_refuses_float64():
    from netphys.recording.kernels.launch import launch

    reduction = Reduction(3, torch.float64)
    outputs, state = make_outputs(reduction, 2), make_state(reduction)
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"x has the type torch.float64, which .* do not take"):
        launch(reduction, x, make_plan(2), outputs, state)


def test_launch_refuses_outputs_with_gaps():
    from netphys.recording.kernels.launch import launch

    reduction = Reduction(3, store=torch.float32)
    outputs, state = make_outputs(reduction, 2), make_state(reduction)
    outputs.samples = torch.zeros(3, 2).T
    with pytest.raises(ValueError, match=r"outputs.samples has the strides \(1, 2\)"):
        launch(reduction, torch.zeros(2, 3), make_plan(2), outputs, state)
