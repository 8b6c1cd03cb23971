"""The ring between device and host: order, waiting, counts; on a card too where there is one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from netphys.recording.kernels import (
    DeviceRing,
    Reduction,
    make_outputs,
    make_plan,
    make_state,
    run,
)

on_card = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
each_device = pytest.mark.parametrize("device", ["cpu", on_card])
OPTIONS = {"store": torch.float16, "pools": (("word", "mean"),), "moments": True}


def make_batches(rng, n):
    for _ in range(n):
        x = torch.from_numpy(rng.normal(size=(6, 9))).float()
        yield x, make_plan(6, {"word": ([0, 2], [2, 6])}, keep=rng.random(6) < 0.8)


def make_ring(device="cpu", n_slots=2):
    reduction = Reduction(9, **OPTIONS).to(device)
    ring = DeviceRing(reduction, 6, {"word": 2}, n_slots=n_slots, device=device)
    return ring, make_state(reduction, device=device)


@each_device
def test_ring_gives_every_call_in_order(device):
    rng = np.random.default_rng(0)
    ring, state = make_ring(device)
    plain = make_state(Reduction(9, **OPTIONS))
    for number, (x, plan) in enumerate(make_batches(rng, 5)):
        ring.push(x.to(device), plan, state)
        received = ring.receive()
        assert (received.number, received.plan) == (number, plan)
        expected = make_outputs(Reduction(9, **OPTIONS), 6, {"word": 2})
        run(Reduction(9, **OPTIONS), x, plan, expected, plain)
        n = plan.n_kept
        assert torch.equal(received.outputs.samples[:n], expected.samples[:n])
        torch.testing.assert_close(
            received.outputs.pooled["word", "mean"],
            expected.pooled["word", "mean"],
            equal_nan=True,
        )
        ring.release()
    ring.check(state)
    torch.testing.assert_close(state.mean.cpu(), plain.mean, rtol=1e-6, atol=1e-7)
    assert int(state.count) == int(plain.count)


@each_device
def test_ring_waits_for_a_slow_host_and_loses_nothing(device):
    rng = np.random.default_rng(1)
    ring, state = make_ring(device)
    batches, seen = list(make_batches(rng, 8)), []

    def take():
        while len(seen) < len(batches):
            received = ring.receive()
            if received is None:
                time.sleep(1e-3)
                continue
            time.sleep(5e-3)
            seen.append(received.outputs.samples[: received.plan.n_kept].clone())
            ring.release()

    thread = threading.Thread(target=take)
    thread.start()
    for x, plan in batches:
        ring.push(x.to(device), plan, state, timeout=20)
    thread.join()
    assert ring.n_stalls > 0
    assert ring.stalled > 0
    for (x, plan), found in zip(batches, seen, strict=True):
        assert torch.equal(found, x[plan.rows].half())


def test_ring_overwrites_nothing_when_full():
    ring, state = make_ring(n_slots=1)
    (x, plan), (y, _) = make_batches(np.random.default_rng(2), 2)
    ring.push(x, plan, state)
    received = ring.receive()
    before = received.outputs.samples.clone()
    with pytest.raises(TimeoutError, match=r"None of the 1 slots was released in timeout=0.01 s"):
        ring.push(y, plan, state, timeout=0.01)
    assert torch.equal(received.outputs.samples, before)
    assert int(state.fired) == 1


def test_ring_keeps_one_graph_under_compile():
    ring, state = make_ring()
    token, plan = torch.zeros((), dtype=torch.int64), make_plan(6, {"word": ([0], [6])})

    @torch.library.custom_op("netphys_test::push", mutates_args={"token"})
    def push(x: torch.Tensor, token: torch.Tensor) -> None:
        token += 1
        ring.push(x.reshape(-1, x.shape[-1]), plan, state)

    push.register_fake(lambda x, token: None)
    model = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Linear(9, 4))
    model[1].register_forward_hook(lambda module, given, x: push(x, token))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(2, 3, 4)
            compiled(x)
            found = ring.receive().outputs.samples
            expected = model[1].forward(model[0](x)).reshape(6, 9)
            torch.testing.assert_close(found, expected.half(), rtol=1e-3, atol=1e-3)
            ring.release()
    ring.check(state)
    assert int(token) == int(state.fired) == 4


def test_ring_counts_its_memory():
    ring, _ = make_ring(n_slots=3)
    assert ring.n_bytes == 3 * (6 * 9 * 2 + 2 * 9 * 4 + 8 + 8)


def test_ring_refuses():
    with pytest.raises(ValueError, match=r"n_slots=0 is too small"):
        make_ring(n_slots=0)
    ring, state = make_ring(n_slots=1)
    assert ring.receive() is None
    with pytest.raises(RuntimeError, match=r"Nothing received is left to release"):
        ring.release()
    ((x, plan),) = make_batches(np.random.default_rng(3), 1)
    ring.push(x, plan, state)
    with pytest.raises(RuntimeError, match=r"All 1 slots are taken. Release what was received"):
        ring.send(plan)
    ring.fire(x, plan, state)
    with pytest.raises(RuntimeError, match=r"reduced 2 times, .* filled 2 times and sent 1 times"):
        ring.check(state)
