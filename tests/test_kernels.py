"""One pass over a site: by hand, against the plain reference, and what must not matter."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from kernel_cases import ALL, CASES, CPU_CASES, EVERY_POOL, Case, check, compare, make_problem

from netphys.recording.kernels import (
    Reduction,
    Workspace,
    dispatch,
    make_outputs,
    make_plan,
    make_state,
    merge_state,
    run,
)

NAN = float("nan")


@pytest.fixture
def rng():
    seed = int(np.random.SeedSequence().entropy) % 2**32
    print(f"seed {seed}")  # shown where a test fails
    return np.random.default_rng(seed)


def run_once(reduction, x, plan=None, **more):
    plan = plan or make_plan(len(x))
    outputs = make_outputs(reduction, len(x), {n: len(s) for n, s in plan.segments.items()})
    state = make_state(reduction)
    run(reduction, x, plan, outputs, state, **more)
    return outputs, state


# By hand

X = torch.tensor([[1.0, -2.0, 3.0], [5.0, 0.0, 3.0], [0.0, 4.0, -1.0]])


def test_run_pools_by_hand():
    plan = make_plan(3, {"word": ([0, 2, 2], [2, 2, 3])})
    pools = tuple(("word", form) for form in ("mean", "max", "last", "sum"))
    outputs, _ = run_once(Reduction(3, pools=pools), X, plan)
    found = {form: value.tolist() for (_, form), value in outputs.pooled.items()}
    assert found["sum"] == [[6, -2, 6], [0, 0, 0], [0, 4, -1]]
    for form, first in {"mean": [3, -1, 3], "max": [5, 0, 3], "last": [5, 0, 3]}.items():
        assert found[form][0] == first
        assert all(np.isnan(found[form][1]))
        assert found[form][2] == [0, 4, -1]


def test_run_raster_and_top_by_hand():
    threshold = torch.tensor([0.5, 0.0, 2.0])
    outputs, _ = run_once(Reduction(3, threshold=threshold, top_k=2), X)
    assert outputs.raster.tolist() == [[0b101], [0b101], [0b010]]
    assert outputs.top_index.tolist() == [[2, 0], [0, 2], [1, 0]]
    assert outputs.top_value.tolist() == [[3, 1], [5, 3], [4, 0]]


def test_run_statistics_by_hand():
    reduction = Reduction(
        3, moments=True, extrema=True, histogram=(-1.0, 3.0, 2), gram=True, n_tags=1
    )
    basis = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    _, state = run_once(reduction, X, basis=basis)
    assert (int(state.count), int(state.fired)) == (3, 1)
    torch.testing.assert_close(state.mean, torch.tensor([2.0, 2 / 3, 5 / 3], dtype=torch.float64))
    torch.testing.assert_close(
        state.m2, torch.tensor([14.0, 56 / 3, 32 / 3], dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert state.low.tolist() == [0, -2, -1]
    assert state.high.tolist() == [5, 4, 3]
    assert state.histogram.tolist() == [[0, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 2]]
    assert state.gram.tolist() == [[26, -2, 18], [-2, 20, -10], [18, -10, 19]]
    assert torch.view_as_complex(state.tags).tolist() == [[1 + 5j, -6 + 0j, 4 + 3j]]


def test_run_takes_units_and_rows_before_everything():
    reduction = Reduction(
        3, units=torch.tensor([0, 2]), store=torch.float32, pools=(("word", "sum"),)
    )
    plan = make_plan(3, {"word": ([0], [3])}, keep=[True, False, True])
    outputs, state = run_once(reduction, X, plan)
    assert outputs.samples[:2].tolist() == [[1, 3], [0, -1]]
    assert outputs.samples[2].tolist() == [0, 0], "rows beyond those of the call are left alone"
    assert outputs.pooled["word", "sum"].tolist() == [[1, 2]]
    assert int(state.count) == 2


def test_run_counts_what_is_not_finite_and_what_overflows():
    x = torch.tensor([[1e5, NAN, 1.0], [-7e4, float("inf"), 65504.0]])
    for more in ({}, {"moments": True}, {"pools": (("all", "sum"),)}):
        plan = make_plan(2, {"all": ([0], [2])})
        outputs, _ = run_once(Reduction(3, store=torch.float16, **more), x, plan)
        assert (int(outputs.nonfinite), int(outputs.overflow)) == (2, 2)
        assert int(run_once(Reduction(3, **more), x, plan)[0].nonfinite) == 2


def test_run_propagates_nan_as_torch_does():
    x = torch.tensor([[NAN, 1.0], [2.0, 3.0]])
    threshold = torch.tensor([-9.0, -9.0])
    plan = make_plan(2, {"all": ([0], [2])})
    pools = (("all", "mean"), ("all", "max"))
    r = Reduction(2, pools=pools, extrema=True, moments=True, threshold=threshold, top_k=1)
    outputs, state = run_once(r, x, plan)
    for value in outputs.pooled.values():
        assert bool(value[0, 0].isnan())
        assert value[0, 1] in (2, 3)
    for name in ("low", "high", "mean", "m2"):
        assert state.items()[name].isnan().tolist() == [True, False]
    assert outputs.raster.tolist() == [[0b10], [0b11]]
    assert outputs.top_index.tolist() == [[0], [1]]


def test_run_writes_straight_into_memory_it_is_given(tmp_path):
    block = np.memmap(tmp_path / "block", dtype=np.float16, mode="w+", shape=(5, 3))
    outputs = make_outputs(Reduction(3, store=torch.float16), 3)
    outputs.samples = torch.from_numpy(block)[1:4]
    reduction = Reduction(3, store=torch.float16)
    run(reduction, X, make_plan(3), outputs, make_state(reduction))
    np.testing.assert_array_equal(block[1:4], X.numpy().astype(np.float16))
    assert not block[[0, 4]].any()


# Against the plain reference


@pytest.mark.parametrize("name", {**CASES, **CPU_CASES})
def test_reference_agrees(name, rng):
    check({**CASES, **CPU_CASES}[name], run, rng)


def test_reference_top_equals_sorting_by_value_and_index(rng):
    x = torch.from_numpy(rng.integers(-2, 3, (40, 30))).float() * torch.tensor([1.0, -0.0] * 15)
    outputs, _ = run_once(Reduction(30, top_k=7), x)
    expected = np.lexsort((np.arange(30)[None].repeat(40, 0), -x.numpy()), axis=1)[:, :7]
    np.testing.assert_array_equal(outputs.top_index, expected)


def test_reference_moments_find_planted_mean_and_variance(rng):
    sd, mean = np.linspace(0.01, 2, 8), np.linspace(-100, 100, 8)
    reduction, state = Reduction(8, moments=True), None
    seen = []
    for _ in range(20):
        x = (mean + sd * rng.normal(size=(500, 8))).astype(np.float32)
        outputs, new = run_once(reduction, torch.from_numpy(x))
        state = new if state is None else state
        if new is not state:
            run(reduction, torch.from_numpy(x), make_plan(500), outputs, state)
        seen.append(x)
    seen = np.concatenate(seen).astype(np.float64)
    np.testing.assert_allclose(state.mean, seen.mean(0), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(state.m2 / len(seen), seen.var(0), rtol=1e-5)
    np.testing.assert_allclose((state.m2 / len(seen)).sqrt(), sd, rtol=0.05)


# What must not matter


@pytest.mark.parametrize("tile_rows", [1, 3, 8, 36, 1000])
def test_property_tiles_do_not_matter(tile_rows, rng):
    options = {**ALL, "pools": EVERY_POOL, "top_k": 3, "histogram": (-1.0, 1.0, 4), "gram": True}
    problem = make_problem(Case(n_rows=60, keep=0.7, options=options), rng)
    one, state = problem.make()
    other, other_state = problem.make()
    run(problem.reduction, problem.x, problem.plan, one, state)
    run(problem.reduction, problem.x, problem.plan, other, other_state, tile_rows=tile_rows)
    compare(other.items(), one.items(), problem)
    compare(other_state.items(), state.items(), problem)


def test_property_two_halves_merge_to_the_whole(rng):
    options = {**ALL, "histogram": (-1.0, 1.0, 4), "gram": True, "n_tags": 2}
    problem = make_problem(Case(n_rows=50, options={**options, "pools": ()}), rng)
    whole, first, second = (make_state(problem.reduction) for _ in range(3))
    parts = {(0, 50): whole, (0, 17): first, (17, 50): second}
    for (a, b), state in parts.items():
        outputs = make_outputs(problem.reduction, 50)
        basis = problem.basis[a:b]
        run(problem.reduction, problem.x[a:b], make_plan(b - a), outputs, state, basis=basis)
    merge_state(first, second)
    first.fired -= 1
    compare(first.items(), whole.items(), problem)
    empty = make_state(problem.reduction)
    merge_state(empty, first)
    compare(empty.items(), whole.items(), problem)


def test_property_moments_survive_a_jump_of_the_mean(rng):
    reduction, state = Reduction(4, moments=True), make_state(Reduction(4, moments=True))
    parts = [rng.normal(size=(n, 4)) + shift for n, shift in ((1, 1e4), (300, 0), (50, -1e4))]
    parts = [torch.from_numpy(part).float() for part in parts]
    for part in parts:
        outputs = make_outputs(reduction, len(part))
        run(reduction, part, make_plan(len(part)), outputs, state, tile_rows=7)
    whole = torch.cat(parts).double()
    torch.testing.assert_close(state.mean, whole.mean(0), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(state.m2, (whole - whole.mean(0)).square().sum(0), rtol=1e-6, atol=0)


def test_property_a_used_workspace_does_not_matter(rng):
    work = Workspace()
    for n_units in (16, 15, 9, 16):
        problem = make_problem(Case(n_units_in=n_units, options={**ALL, "store": None}), rng)
        outputs, state = problem.make()
        expected, expected_state = problem.make()
        run(problem.reduction, problem.x, problem.plan, outputs, state, workspace=work)
        run(problem.reduction, problem.x, problem.plan, expected, expected_state)
        compare(outputs.items(), expected.items(), problem)
        compare(state.items(), expected_state.items(), problem)


def test_run_leaves_its_input_alone(rng):
    problem = make_problem(Case(options=ALL), rng)
    before = problem.x.clone()
    run(problem.reduction, problem.x, problem.plan, *problem.make())
    assert torch.equal(problem.x, before)


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.int8}, r"dtype=torch.int8 is unknown. Choose one of: torch.float32"),
        ({"store": torch.int8}, r"store=torch.int8 is unknown"),
        ({"pools": (("word", "median"),)}, r"pools='median' is unknown. Choose one of: 'mean'"),
        ({"units": torch.tensor([2, 1])}, r"increasing int64 indices from 0 to 3"),
        ({"units": torch.tensor([1, 4])}, r"increasing int64 indices from 0 to 3"),
        ({"units": torch.tensor([1.0])}, r"type torch.float32 do not select"),
        ({"threshold": torch.zeros(3)}, r"one float32 value for each of the 4 selected units"),
        ({"top_k": 5}, r"top_k=5 is out of range. Give a whole number from 0 .* units, 4"),
        ({"histogram": (1.0, 1.0, 3)}, r"low below high"),
        ({"pool_dtype": torch.int8}, r"pool_dtype=torch.int8 is unknown"),
    ],
)
def test_reduction_refuses(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Reduction(4, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segments": {"word": ([0, 2], [3, 4])}}, r"segments='word' are no runs of rows in order"),
        ({"segments": {"word": ([0], [9])}}, r"from 0 to the 4 rows of the batch"),
        ({"segments": {"word": ([0], [1, 2])}}, r"begin and end of equal length"),
        ({"keep": [True]}, r"keep has the shape \(1,\). Give one value for each of the 4 rows"),
        ({"out_rows": [1]}, r"out_rows has 1 values. Give one for each of the 4 kept rows"),
    ],
)
def test_make_plan_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(4, **arguments)


def test_run_refuses_what_does_not_fit():
    r = Reduction(3, store=torch.float32, pools=(("word", "mean"),), n_tags=1)
    plan = make_plan(3, {"word": ([0], [3])})
    outputs, state = make_outputs(r, 3, {"word": 1}), make_state(r)
    with pytest.raises(ValueError, match=r"x of shape \(2, 3\), .* Give torch.float32 of shape"):
        run(r, X[:2], plan, outputs, state)
    with pytest.raises(ValueError, match=r"units of a row side by side"):
        run(r, X.T.contiguous().T, plan, outputs, state)
    with pytest.raises(ValueError, match=r"basis has the shape None. Give \(3, 1, 2\)"):
        run(r, X, plan, outputs, state)
    with pytest.raises(ValueError, match=r"plan has no segments 'word'"):
        run(r, X, make_plan(3), outputs, state)
    with pytest.raises(ValueError, match=r"outputs.samples has 3 rows for 6"):
        run(r, X, dataclasses.replace(plan, out_rows=torch.tensor([0, 5, 1])), outputs, state)
    with pytest.raises(ValueError, match=r"has 1 rows for 2 segments"):
        run(r, X, make_plan(3, {"word": ([0, 1], [1, 3])}), outputs, state)
    with pytest.raises(ValueError, match=r"n_segments=\{\} has no 'word', which is pooled"):
        make_outputs(r, 3)


def test_run_refuses_devices_that_differ_or_cannot():
    reduction, plan = Reduction(3, store=torch.float32), make_plan(3)
    state = make_state(reduction)
    with pytest.raises(ValueError, match=r"x is on 'meta', where no pass runs. Move it to the CPU"):
        run(reduction, X.to("meta"), plan, make_outputs(reduction, 3), state)
    outputs = make_outputs(reduction, 3, device="meta")
    with pytest.raises(ValueError, match=r"outputs.samples is on 'meta' and x on 'cpu'"):
        run(reduction, X, plan, outputs, state)


def test_run_names_what_is_missing_for_a_card(monkeypatch):
    monkeypatch.setitem(sys.modules, "netphys.recording.kernels.launch", None)
    with pytest.raises(ImportError, match=r"needs triton, which comes with torch for CUDA"):
        dispatch._load_launch()
