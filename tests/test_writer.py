"""The writer: right bytes at the right place, on any platform and after any interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xxhash
from conftest import hear_interrupts, make_model, make_stimuli
from hypothesis import given, settings
from hypothesis import strategies as st

import netphys
from netphys.data import _files
from netphys.data.nwb_layout import FileLayout
from netphys.recording import writer as writer_module
from netphys.recording.writer import Writer


def put(writer, row, values):
    """Copy rows of uint8 into a block of the series "a" and hand it over."""
    values = np.atleast_2d(values)
    block = writer.take("a", row, values.shape, "uint8")
    block.values[:] = values
    writer.put(block)


def write_all(path, rows, row_bytes, offset, **options):
    """Write consecutive pieces of random bytes; return the whole."""
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 256, (n, row_bytes), dtype=np.uint8) for n in rows]
    commit_at = offset + sum(rows) * row_bytes + 5
    counts_at = commit_at + len(rows) + 3
    sums_at = counts_at + 16 * len(rows) + 9
    size = sums_at + 8 * len(rows) + 7
    path.write_bytes(b"\xaa" * size)
    layout = FileLayout({"a": offset}, commit_at, counts_at, sums_at)
    with Writer(path, layout, {"a": row_bytes}, **options) as writer:
        row = 0
        for batch, piece in enumerate(pieces):
            put(writer, row, piece)
            writer.commit(batch, np.full((1, 2), batch))
            row += len(piece)
    data = path.read_bytes()
    body = b"".join(p.tobytes() for p in pieces)
    assert data[offset : offset + len(body)] == body
    assert data[commit_at : commit_at + len(rows)] == b"\1" * len(rows)
    counts = np.repeat(np.arange(len(rows)), 2).astype(np.int64)
    assert data[counts_at : counts_at + counts.nbytes] == counts.tobytes()
    sums = np.array([xxhash.xxh3_64_intdigest(p.tobytes()) for p in pieces], np.uint64)
    assert data[sums_at : sums_at + sums.nbytes] == sums.tobytes()
    around = data[:offset] + data[offset + len(body) : commit_at]
    assert set(around) <= {0xAA}  # no byte beside the rows is touched
    assert len(data) == size


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    row_bytes=st.integers(1, 9000),
    offset=st.integers(0, 9000),
)
def test_writer_puts_rows_at_any_offset(tmp_path_factory, rows, row_bytes, offset):
    write_all(tmp_path_factory.mktemp("w") / "f", rows, row_bytes, offset)


@pytest.mark.parametrize("missing", ["pwrite", "posix_fallocate", "fdatasync", "O_DIRECT"])
def test_writer_works_without_a_system_call(missing, tmp_path, monkeypatch):
    monkeypatch.delattr(os, missing)
    write_all(tmp_path / "f", [30, 7, 500], 1000, 4096 + 12)
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    assert session.complete


def test_writer_falls_back_when_direct_writes_are_refused(tmp_path, monkeypatch):
    def refuse(fd, data, offset):
        if fd == direct[0]:
            raise OSError(22, "Invalid argument")
        return own(fd, data, offset)

    own, direct = _files.write_at, [None]

    def open_direct(path):
        direct[0] = os.open(path, os.O_WRONLY)
        return direct[0]

    monkeypatch.setattr(writer_module, "open_direct", open_direct)
    monkeypatch.setattr(writer_module, "write_at", refuse)
    write_all(tmp_path / "f", [300, 300], 1000, 0)


def test_writer_bounds_what_waits(tmp_path):
    write_all(tmp_path / "f", [100] * 20, 5000, 100, max_pending=1 << 20)


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "the disk is full"), (122, "the disk quota is used up"), (5, "Input/output error")],
)
def test_writer_reports_what_the_disk_answers(number, message, tmp_path, monkeypatch):
    """A fault at the n-th write: clear error, committed batches intact, nothing left behind."""
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    own, calls = _files.write_at, []

    def fail_later(fd, data, offset):
        calls.append(offset)
        if len(calls) > 12:
            raise OSError(number, os.strerror(number))
        own(fd, data, offset)

    monkeypatch.setattr(writer_module, "write_at", fail_later)
    path = tmp_path / "a.nwb"
    options = {"batch_size": 1, "commit_batches": 1, "progress": False}
    with pytest.raises(OSError, match=message):
        netphys.record(subject, stimuli, path, **options)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nwb"]
    kept = netphys.open_session(path).commits.sum()
    assert 0 < kept < len(stimuli)
    done = netphys.record(subject, stimuli, path, batch_size=1, resume=True, progress=False)
    whole = netphys.record(subject, stimuli, tmp_path / "b.nwb", batch_size=1, progress=False)
    assert_same_data(done, whole)


@pytest.mark.parametrize("fails_once", [True, False])
def test_nothing_is_committed_after_a_failed_sync(fails_once, tmp_path, monkeypatch):
    """The system reports a lost page once; a second sync that succeeds proves nothing."""
    calls = []

    def fail(fd):
        calls.append(fd)
        if len(calls) == 1 or not fails_once:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(writer_module, "sync_data", fail)
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    with pytest.raises(OSError, match="Input/output error"):
        netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    assert not netphys.open_session(tmp_path / "a.nwb").commits.any()


def test_batches_before_a_failed_write_are_committed(tmp_path, monkeypatch):
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    own, n_sites = Writer._write, 2

    def fail_at_the_fourth_batch(self, *job):
        if len(calls) == 3 * n_sites:
            raise OSError(5, "Input/output error")
        calls.append(1)
        own(self, *job)

    calls = []
    monkeypatch.setattr(Writer, "_write", fail_at_the_fourth_batch)
    with pytest.raises(OSError, match=r"a\.nwb': Input/output error"):
        netphys.record(subject, stimuli, tmp_path / "a.nwb", batch_size=1, progress=False)
    assert netphys.open_session(tmp_path / "a.nwb").commits.sum() == 3


def assert_same_data(a: netphys.Session, b: netphys.Session) -> None:
    assert a.complete and b.complete
    for name in b.sites:
        assert a[name].to_numpy().tobytes() == b[name].to_numpy().tobytes()


SCRIPT = """
import sys, time, torch, numpy as np, pandas as pd
sys.path[:0] = {tests!r}, {root!r}
from conftest import make_model, make_stimuli
import netphys
torch.set_num_threads(1)
subject = netphys.load_subject(make_model("gpt2"))
subject.model.register_forward_pre_hook(lambda *a: time.sleep({delay}))
netphys.record(subject, make_stimuli("gpt2", n=150), {path!r}, sites=["resid", "mlp"],
               batch_size=1, resume=True, progress=False, commit_seconds=0.02)
"""


def start(path, delay=0.003):
    from pathlib import Path

    tests = Path(__file__).parent
    code = SCRIPT.format(tests=str(tests), root=str(tests.parent), path=str(path), delay=delay)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def wait_for_commits(path, process, n):
    """Wait until at least n batches of a growing file are committed; return the session."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists():
            session = netphys.open_session(path)  # the structure is complete before it appears
            if session.commits.sum() >= n:
                return session
        if process.poll() is not None:
            raise ChildProcessError(process.communicate()[1])
        time.sleep(0.005)
    raise TimeoutError


@pytest.mark.slow
def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    path = tmp_path / "a.nwb"
    process, other = start(path, delay=0.3), None
    try:
        session = wait_for_commits(path, process, 3)
        assert not session.complete and session["transformer.h.0"].sizes["sample"] > 0
        other = start(path)
        _, said = other.communicate(timeout=60)
        assert other.returncode != 0 and "is being written by another process" in said
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        for p in filter(None, (process, other)):
            p.kill()
            p.communicate()
    assert 0 < netphys.open_session(path).commits.sum() < 150
    assert not (tmp_path / "a.nwb.lock").exists()


def test_writer_keeps_its_memory_within_bounds_for_any_mix_of_sizes(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(1 << 20))
    sizes = [3_000, 40_000, 9_000, 200_000, 17_000, 90_000] * 6
    layout = FileLayout({"a": 0}, (1 << 20) - 8, (1 << 20) - 64, (1 << 20) - 128)
    with Writer(path, layout, {"a": 1}, max_pending=1 << 19) as writer:
        for size in sizes:
            put(writer, 0, np.zeros(size, np.uint8))
            assert writer._allocated <= 1 << 19


def test_two_names_of_one_file_have_one_lock(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    first = _files.FileLock(tmp_path / "real" / "a")
    with first, pytest.raises(BlockingIOError), _files.FileLock(tmp_path / "link" / "a"):
        pass


def test_close_waits_for_the_thread_also_when_interrupted(tmp_path):
    """The lock must not go while bytes are still being written."""
    path = tmp_path / "f"
    path.write_bytes(bytes(1 << 16))
    writer = Writer(path, FileLayout({"a": 0}, 60_000, 61_000, 62_000), {"a": 1})
    own, calls = writer._thread.join, []

    def interrupted_once():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        own()

    writer._thread.join = interrupted_once
    put(writer, 0, np.ones(50_000, np.uint8))
    writer.commit(0, np.zeros((1, 2)))
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert not writer._thread.is_alive() and len(calls) == 2
    assert path.read_bytes()[60_000] == 1
