"""What may go wrong while recording: kills, full disks, errors of the model and of the writer."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_model, make_stimuli

import netphys
from netphys.data.nwb_layout import FileLayout
from netphys.recording.writer import Writer

SCRIPTS = Path(__file__).parent / "reliability"
OPTIONS = {"sites": ["resid", "mlp"], "batch_size": 1, "commit_seconds": 0, "progress": False}


@pytest.fixture
def subject():
    return netphys.load_subject(make_model("gpt2"))


@pytest.fixture
def mount(tmp_path):
    """Return a function that makes a small file system of a given size; skip where that needs more
    rights than there are."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def make(size: int, *, read_only: bool = False) -> Path:
        option = f"size={size}" + (",ro" if read_only else "")
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here (needs root)")
        mounted.append(folder)
        return folder

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def count_hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def check_resumable(subject, path: Path, n_committed: int | range) -> None:
    """Check what an error must leave: the batches before it, no hook, no lock, nothing else."""
    assert count_hooks(subject.model) == 0
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    session = netphys.open_session(path)
    allowed = n_committed if isinstance(n_committed, range) else [n_committed]
    assert session.commits.sum() in allowed
    whole_path = path.with_name("whole.nwb")
    stimuli = make_stimuli("gpt2")
    whole = netphys.record(subject, stimuli, whole_path, **OPTIONS)
    for name in session.sites:
        kept = session[name]
        rows = kept["sample"].to_numpy()
        assert kept.to_numpy().tobytes() == whole[name].to_numpy()[rows].tobytes()
    done = netphys.record(subject, stimuli, path, resume=True, **OPTIONS)
    assert done.complete and (done.checksums == whole.checksums).all()
    for name in session.sites:
        assert done[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()
    whole_path.unlink()


# ---------------------------------------------------------------- kills
@pytest.mark.slow
def test_ten_kills_lose_nothing():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "kill9.py"), "--kills", "10"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"10 kills, \d+ committed batches compared after them, 0 lost", last)


@pytest.mark.slow
def test_300_damaged_files_are_refused_or_read_as_they_were():
    check_fuzz(300)


@pytest.mark.slow
def test_10000_damaged_files_are_refused_or_read_as_they_were():
    check_fuzz(10_000)


def check_fuzz(n: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "fuzz.py"), "--cases", str(n)],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"{n} damaged files: no crash, no hang, nothing wrong unnoticed"


# ---------------------------------------------------------------- the disk
def need_bytes(subject, folder: Path) -> tuple[int, int]:
    """Return what a recording takes for its data, and in all."""
    session = netphys.record(subject, make_stimuli("gpt2"), folder / "try.nwb", **OPTIONS)
    sizes = int(session.site_table["megabytes"].sum() * 1e6), session.path.stat().st_size
    session.path.unlink()
    return sizes


@pytest.mark.parametrize("missing", [0, 4096, 40_000, 150_000])
def test_a_disk_too_small_is_an_error_before_the_run(missing, subject, mount, tmp_path):
    """Whatever runs out, HDF5's own writes or the reserved space: one message, nothing left."""
    data, whole = need_bytes(subject, tmp_path)
    folder = mount(max(data + 8192, whole - 4096 - missing))
    shown = []
    subject.model.register_forward_hook(lambda *_: shown.append(1))
    with pytest.raises(OSError, match=r"a\.nwb': (the disk is full|the recording takes)"):
        netphys.record(subject, make_stimuli("gpt2"), folder / "a.nwb", **OPTIONS)
    assert list(folder.iterdir()) == []
    assert len(shown) <= 2  # the probe


def fill(folder: Path) -> None:
    """Use up all space that is left."""
    with contextlib.suppress(OSError), open(folder / "other", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_space_is_reserved_so_that_others_cannot_take_it(subject, mount):
    """Once a recording runs, a disk that fills up does not stop it."""
    folder, calls = mount(2 << 20), []

    def fill_late(*_):
        calls.append(1)
        if len(calls) == 5:
            fill(folder)

    handle = subject.model.register_forward_hook(fill_late)
    session = netphys.record(subject, make_stimuli("gpt2"), folder / "a.nwb", **OPTIONS)
    handle.remove()
    assert session.complete and shutil.disk_usage(folder).free == 0


def test_a_disk_that_fills_up_where_nothing_is_reserved(subject, mount, monkeypatch):
    folder, calls = mount(2 << 20), []
    monkeypatch.delattr(os, "posix_fallocate")
    subject = netphys.load_subject(make_model("gpt2"))

    def fill_late(*_):
        calls.append(1)
        if len(calls) == 5:
            fill(folder)

    model, stimuli = subject.model, make_stimuli("gpt2", n=240)
    handle = model.register_forward_hook(fill_late)
    with pytest.raises(OSError, match=r"a\.nwb': the disk is full\. Free some space and run again"):
        netphys.record(subject, stimuli, folder / "a.nwb", sites="resid", progress=False)
    handle.remove()
    (folder / "other").unlink()
    assert [p.name for p in folder.iterdir()] == ["a.nwb"] and count_hooks(model) == 0
    assert not netphys.open_session(folder / "a.nwb").complete
    done = netphys.record(
        subject, stimuli, folder / "a.nwb", sites="resid", resume=True, progress=False
    )
    assert done.complete


def test_a_read_only_folder_is_named(subject, mount):
    folder = mount(1 << 20, read_only=True)
    with pytest.raises(OSError, match=r"a\.nwb': the file system is read-only\. Choose another"):
        netphys.record(subject, make_stimuli("gpt2"), folder / "a.nwb", **OPTIONS)
    assert list(folder.iterdir()) == []


# ---------------------------------------------------------------- the model and the writer
@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_the_model_keeps_what_is_finished(kind, subject, tmp_path):
    path, calls = tmp_path / "a.nwb", []

    def fail(*_):
        calls.append(1)
        if len(calls) == 6:  # two probes come first
            raise kind("inside the model")

    broken = subject.model.transformer.ln_f.register_forward_hook(fail)
    with pytest.raises(kind, match="inside the model"):
        netphys.record(subject, make_stimuli("gpt2"), path, **OPTIONS)
    broken.remove()
    check_resumable(subject, path, 3)


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError, SystemExit])
def test_an_error_in_the_writers_thread_reaches_the_caller(kind, subject, tmp_path, monkeypatch):
    path, calls, own = tmp_path / "a.nwb", [], Writer._write

    def fail(self, *job):
        calls.append(1)
        if len(calls) == 9:
            raise kind("inside the thread")
        own(self, *job)

    monkeypatch.setattr(Writer, "_write", fail)
    with pytest.raises(kind, match="inside the thread"):
        netphys.record(subject, make_stimuli("gpt2"), path, **OPTIONS)
    monkeypatch.setattr(Writer, "_write", own)
    check_resumable(subject, path, range(5))


def test_a_writer_whose_thread_is_gone_says_so(subject, tmp_path, monkeypatch):
    """Nobody waits for memory that no thread will ever give back, and nothing ends silently."""
    path, calls, own = tmp_path / "a.nwb", [], Writer._give_back

    def die(self, memory):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("the thread is gone")
        own(self, memory)

    monkeypatch.setattr(Writer, "_give_back", die)
    with pytest.raises(RuntimeError, match="the thread is gone"):
        netphys.record(subject, make_stimuli("gpt2"), path, **OPTIONS)
    monkeypatch.setattr(Writer, "_give_back", own)
    check_resumable(subject, path, range(4))


def test_waiting_for_memory_ends_when_the_thread_dies(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(bytes(1 << 20))
    monkeypatch.setattr(Writer, "_give_back", lambda *_: 1 / 0)
    layout = FileLayout({"a": 0}, 900_000, 901_000, 902_000)
    writer = Writer(path, layout, {"a": 1}, max_pending=1 << 16)
    with pytest.raises(ZeroDivisionError):
        for row in range(0, 500_000, 50_000):
            block = writer.take("a", row, (50_000, 1), "uint8")
            block.values[:] = 1
            writer.put(block)
    with contextlib.suppress(ZeroDivisionError):
        writer.close()
    assert np.fromfile(path, np.uint8, 10).any()
