"""Several processes on one file: the bytes of one process, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_stimuli

import netphys
from netphys.data._files import FileLock
from netphys.recording import ranks as ranks_module
from netphys.recording import record as record_module
from netphys.recording.devices import choose_device
from netphys.recording.ranks import RankError, Ranks, get_local_rank, join_ranks

TESTS = Path(__file__).parent
NAME = "transformer.h.1"
OPTIONS = {"sites": ["resid", "mlp"], "batch_size": 2, "commit_batches": 1, "progress": False}
SCRIPT = """
import os, sys, time, signal, torch
sys.path[:0] = {tests!r}, {root!r}
from conftest import make_model, make_stimuli
import netphys
from netphys.recording import ranks
torch.set_num_threads(1)
ranks._SILENCE = 3.0
rank = int(os.environ.get("RANK", 0))
def main(path, **options):
    subject = netphys.load_subject(make_model("gpt2"))
    stimuli = make_stimuli("gpt2", n={n})
    calls = []
    def before(module, inputs):
        calls.append(1)
        {fault}
    subject.model.register_forward_pre_hook(before)
    return netphys.record(subject, stimuli, path, **{options!r} | options)
{body}
"""


def write_script(folder, body, *, n=40, fault="pass", **options):
    path = folder / "script.py"
    path.write_text(
        SCRIPT.format(
            tests=str(TESTS),
            root=str(TESTS.parent),
            n=n,
            fault=fault,
            options=OPTIONS | options,
            body=body,
        )
    )
    return path


def run_torchrun(*command, n_ranks=2):
    """Start ranks with torchrun; return exit code, stdout and stderr."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_ranks)]
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def start_ranks(script, n_ranks=2):
    """Start ranks without torchrun, which would stop all as soon as one ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    every = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n_ranks)}
    return [
        subprocess.Popen(
            [sys.executable, str(script)],
            env=os.environ | every | {"RANK": str(r), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(n_ranks)
    ]


def finish(processes):
    """Return exit codes and what was said on stderr."""
    try:
        said = [p.communicate(timeout=120)[1] for p in processes]
    finally:
        for p in processes:
            p.kill()
            p.wait()
    return [p.returncode for p in processes], said


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def record_alone(path, n=40, **options):
    subject = netphys.load_subject(make_model("gpt2"))
    return netphys.record(subject, make_stimuli("gpt2", n=n), path, **OPTIONS | options)


def check_same_bytes(session, whole):
    assert session.complete and whole.complete
    assert session.sites == whole.sites
    for name in whole.sites:
        assert session[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()
    np.testing.assert_array_equal(session.checksums, whole.checksums)
    np.testing.assert_array_equal(session.commits, whole.commits)
    assert session.counts.equals(whole.counts)
    assert session.trial_table.equals(whole.trial_table)


def check_same_statistics(session, whole, rtol):
    """Counts are equal; sums of floats in another order agree to `rtol` of the largest."""
    assert session.complete and session.online_tables == whole.online_tables != []
    for name in whole.online_tables:
        found, expected = session.online(name), whole.online(name)
        assert found.attrs.keys() == expected.attrs.keys()
        for key, value in expected.attrs.items():
            close = pytest.approx(value, rel=rtol) if isinstance(value, float) else value
            assert found.attrs[key] == close
        for column in expected:
            if expected[column].dtype.kind in "iu" or column in ("min", "max"):
                np.testing.assert_array_equal(found[column], expected[column])
            else:
                atol = rtol * float(np.nanmax(np.abs(expected[column])))
                np.testing.assert_allclose(found[column], expected[column], rtol=rtol, atol=atol)


# ------------------------------------------------------------------ shares
@pytest.mark.parametrize(
    ("costs", "size", "expected"),
    [
        ([1, 1, 1, 1], 2, [[0, 1], [2, 3]]),
        ([3, 1, 1, 1], 2, [[0], [1, 2, 3]]),
        ([9, 1, 1], 3, [[0], [1], [2]]),
        ([1, 1, 9], 3, [[0], [1], [2]]),
        ([1, 1], 4, [[0], [1], [], []]),
        ([], 2, [[], []]),
        ([0, 0, 0], 2, [[0], [1, 2]]),
    ],
)
def test_share_by_hand(costs, size, expected):
    assert [list(Ranks(r, size).share(costs)) for r in range(size)] == expected


def test_property_shares_are_runs_that_cover_everything_and_even_out():
    rng = np.random.default_rng(0)
    for _ in range(300):
        costs, size = rng.integers(1, 50, rng.integers(1, 60)), int(rng.integers(1, 9))
        shares = [Ranks(r, size).share(costs) for r in range(size)]
        assert [n for s in shares for n in s] == list(range(len(costs)))
        assert all(len(s) for s in shares[: len(costs)])
        loads = [costs[s.start : s.stop].sum() for s in shares]
        assert max(loads) <= costs.sum() / size + size * costs.max()


# ------------------------------------------------------------------ finding each other
def test_one_process_is_one_rank():
    assert (join_ranks({}).rank, join_ranks({}).size) == (0, 1)
    alone = join_ranks({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"})
    assert alone.size == 1
    with alone as ranks:
        ranks.wait("nowhere")
        ranks.check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "1"},
        {"WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="does not describe one of several processes"):
        join_ranks(wrong)


def test_local_rank_picks_the_card(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert get_local_rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert get_local_rank() == 3


def test_every_process_takes_its_own_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert choose_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == "cuda:1"
    assert choose_device("cuda:0") == "cuda:0" and choose_device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="this is process 3 of this machine, which has 2 cards"):
        choose_device("cuda")


def run_together(*functions):
    """Run one function per rank in threads of one process; return what each raised."""
    store, errors = torch.distributed.HashStore(), [None] * len(functions)

    def run(rank):
        try:
            with Ranks(rank, len(functions), store) as ranks:
                functions[rank](ranks)
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=run, args=(r,)) for r in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return errors


def test_wait_returns_when_all_have_come():
    order = []

    def slow(ranks):
        time.sleep(0.2)
        order.append("slow")
        ranks.wait("a")

    def fast(ranks):
        ranks.wait("a")
        order.append("fast")

    assert run_together(slow, fast) == [None, None] and order == ["slow", "fast"]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_rank_stops_the_others_by_name(failing):
    def fail(ranks):
        raise ValueError("a bad value")

    def wait(ranks):
        ranks.wait("never")

    functions = [wait, wait, wait]
    functions[failing] = fail
    errors = run_together(*functions)
    assert isinstance(errors.pop(failing), ValueError)
    for error in errors:
        assert isinstance(error, RankError)
        assert f"rank {failing} stopped: ValueError: a bad value" in str(error)
        assert "run again with resume=True" in str(error)


def test_a_rank_that_gives_no_sign_of_life_is_named(monkeypatch):
    monkeypatch.setattr(ranks_module, "_SILENCE", 1.0)
    monkeypatch.setattr(ranks_module, "_JOIN", 1.0)
    with (
        pytest.raises(RankError, match="rank 1 has given no sign of life"),
        Ranks(0, 2, torch.distributed.HashStore()) as ranks,
    ):
        ranks.wait("never")


def test_what_is_kept_is_given_back_after_the_others_have_left():
    left = []

    def first(ranks):
        ranks.kept.callback(lambda: left.append("lock"))

    def second(ranks):
        time.sleep(0.3)
        left.append("second")

    assert run_together(first, second) == [None, None] and left == ["second", "lock"]


def test_a_shared_lock_admits_ranks_and_no_other_writer(tmp_path):
    path = tmp_path / "a"
    with FileLock(path) as lock:
        with pytest.raises(BlockingIOError, match="being written by another process"):
            FileLock(path, shared=True).__enter__()
        lock.share()
        with (
            FileLock(path, shared=True),
            pytest.raises(BlockingIOError, match="being written by another process"),
        ):
            FileLock(path).__enter__()
        assert lock.sidecar.exists()
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ recording
@pytest.mark.slow
def test_two_ranks_write_the_bytes_of_one(tmp_path, one_thread):
    exact, fused = ({"name": "moments", "order": 4}, "sparsity"), ("moments", "sparsity")
    body = (
        f"main({str(tmp_path / 'a.nwb')!r})\n"
        f"main({str(tmp_path / 'b.nwb')!r}, store=None, online={fused})\n"
        f"main({str(tmp_path / 'c.nwb')!r}, store=['samples', 'raster', 'trial.mean'], "
        f"threshold=0.1, online={exact}, dtype='float16')\n"
    )
    code, _, said = run_torchrun(write_script(tmp_path, body))
    assert code == 0, said
    check_same_bytes(netphys.open_session(tmp_path / "a.nwb"), record_alone(tmp_path / "a1.nwb"))
    forms = {"store": ["samples", "raster", "trial.mean"], "threshold": 0.1, "dtype": "float16"}
    both = netphys.open_session(tmp_path / "c.nwb")
    whole = record_alone(tmp_path / "c1.nwb", online=exact, **forms)
    check_same_bytes(both, whole)
    assert both.provenance["ranks"] == 2
    check_same_statistics(both, whole, 1e-12)
    only = netphys.open_session(tmp_path / "b.nwb")
    # moments that the pass over a site keeps add float32 differences from the mean so far
    whole = record_alone(tmp_path / "b1.nwb", store=None, online=fused)
    check_same_statistics(only, whole, 1e-6)
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.slow
def test_torchrun_of_the_command_line_speaks_once(tmp_path, one_thread):
    sentences = tmp_path / "s.tsv"
    sentences.write_text("text\n" + "".join(f"The dog saw {n} cats.\n" for n in range(20)))
    command = ["record", "builtin:language", sentences, tmp_path / "a.nwb", "--batch-size", 2]
    code, out, said = run_torchrun("-m", "netphys", *command, "--quiet")
    assert code == 0, said
    assert out.count("Output: ") == 1 and out.count("transformer.h.0") <= 1
    stimuli = netphys.load_stimuli(sentences)
    subject = netphys.load_subject("builtin:language")
    whole = netphys.record(subject, stimuli, tmp_path / "b.nwb", batch_size=2, progress=False)
    check_same_bytes(netphys.open_session(tmp_path / "a.nwb"), whole)
    code, _, said = run_torchrun("-m", "netphys", *command, "--quiet")  # the file exists now
    assert code != 0 and "exists. Choose another path" in said
    assert "rank 0 stopped: FileExistsError" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "online", [(), ({"name": "moments", "order": 4},)], ids=["samples", "online"]
)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_stops_the_other_and_resume_completes(victim, online, tmp_path, one_thread):
    path = tmp_path / "a.nwb"
    fault = (
        "time.sleep(0.02)\n"
        f"        if rank == {victim} and len(calls) == 8: os.kill(os.getpid(), signal.SIGKILL)"
    )
    script = write_script(tmp_path, f"main({str(path)!r})", fault=fault, online=list(online))
    codes, said = finish(start_ranks(script))
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1
    message = "rank 1 has given no sign of life" if victim else "rank 0"
    assert "RankError" in said[1 - victim] and message in said[1 - victim], said
    cut = netphys.open_session(path)
    assert 0 < cut.commits.sum() < len(cut.commits)
    whole = record_alone(tmp_path / "whole.nwb", online=list(online))
    if online:
        with pytest.raises(ValueError, match="2 ranks keep its online statistics, now there are 1"):
            record_alone(path, online=list(online), resume=True)
        again = write_script(tmp_path, f"main({str(path)!r}, resume=True)", online=list(online))
        codes, said = finish(start_ranks(again))
        assert codes == [0, 0], said
    else:
        record_alone(path, resume=True)  # with another number of ranks
    done = netphys.open_session(path)
    check_same_bytes(done, whole)
    if online:
        check_same_statistics(done, whole, 1e-12)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_an_exception_in_one_rank_is_told_to_the_other(tmp_path, one_thread):
    path = tmp_path / "a.nwb"
    fault = (
        "time.sleep(0.02)\n        if rank == 1 and len(calls) == 8: raise ValueError('no luck')"
    )
    script = write_script(tmp_path, f"main({str(path)!r})", fault=fault)
    codes, said = finish(start_ranks(script))
    assert codes == [1, 1]
    assert "RankError: rank 1 stopped: ValueError: no luck (this is rank 0 of 2)" in said[0]
    assert "ValueError: no luck" in said[1] and "RankError" not in said[1]
    assert 0 < netphys.open_session(path).commits.sum() < 20
    assert not (tmp_path / "a.nwb.lock").exists()
    whole = record_alone(tmp_path / "whole.nwb")
    check_same_bytes(record_alone(path, resume=True), whole)


@pytest.mark.slow
def test_ranks_without_a_batch_and_ranks_that_differ(tmp_path, one_thread):
    path, other = tmp_path / "a.nwb", tmp_path / "b.nwb"
    body = (
        f"main({str(path)!r}, batch_size=8, online=['moments'])\n"
        f"main({str(other)!r}, batch_size=2 + rank)\n"
    )
    codes, said = finish(start_ranks(write_script(tmp_path, body, n=3), n_ranks=3))
    whole = record_alone(tmp_path / "whole.nwb", n=3, batch_size=8, online=["moments"])
    assert len(whole.commits) == 2
    check_same_bytes(netphys.open_session(path), whole)
    assert "3 ranks share 2 batches: 1 of them have nothing to do" in said[0]
    assert codes == [1, 1, 1]  # a rank that would record something else is refused
    assert any("cannot be resumed: plan." in s for s in said), said


def test_generation_is_for_one_process(tmp_path, gpt2, tokens, monkeypatch):
    monkeypatch.setattr(record_module, "join_ranks", lambda: Ranks(0, 2))
    with pytest.raises(ValueError, match=r"generate= is for one process.*has started 2"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", generate={"max_new_tokens": 2})
