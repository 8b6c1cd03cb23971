"""Models divided among processes: each writes the units it holds, and the file is that of one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from conftest import make_stimuli
from test_devices import llama  # noqa: F401
from test_ranks import one_thread, run_torchrun  # noqa: F401

import netphys
from netphys.data.nwb_layout import FileLayout
from netphys.data.verify import verify_session
from netphys.recording.capture import CaptureError, find_local
from netphys.recording.forms import make_forms
from netphys.recording.ranks import Ranks
from netphys.recording.rows import SiteShape
from netphys.recording.sites import Site
from netphys.recording.slices import SliceWriter, check_slices, find_slices

TESTS = Path(__file__).parent
SCRIPT = """
import sys, torch
sys.path[:0] = {tests!r}, {root!r}
from conftest import make_stimuli
import netphys
torch.set_num_threads(1)
subject = netphys.load_subject({model!r}, tp_plan="auto")
def record(path, **options):
    return netphys.record(subject, make_stimuli("gpt2"), path, batch_size=2, progress=False,
                          **options)
{body}
"""


def run_script(folder, model, body):
    script = folder / "script.py"
    script.write_text(
        SCRIPT.format(tests=str(TESTS), root=str(TESTS.parent), model=str(model), body=body)
    )
    return run_torchrun(script)


def record_alone(model, path, **options):
    subject = netphys.load_subject(model)
    return netphys.record(
        subject, make_stimuli("gpt2"), path, batch_size=2, progress=False, **options
    )


# ------------------------------------------------------------------ writing
def test_two_writers_fill_the_columns_of_one_file(tmp_path):
    """By hand: 3 batches, a sliced series of 2 x 5 bytes a row and a whole one of 3."""
    path, rng = tmp_path / "f", np.random.default_rng(0)
    path.write_bytes(b"\xaa" * 600)
    layout = FileLayout({"a": 10, "b": 200}, 590, 300, 450)
    a, b = (rng.integers(0, 256, (6, n), dtype=np.uint8) for n in (10, 3))
    store, errors = torch.distributed.HashStore(), []

    def write(rank):
        try:
            with (
                Ranks(rank, 2, store) as ranks,
                SliceWriter(path, layout, {"a": 10, "b": 3}, ranks, {"a"}) as writer,
            ):
                for batch in range(3):
                    rows = slice(2 * batch, 2 * batch + 2)
                    for name, values in (("a", a[rows, 5 * rank : 5 * rank + 5]), ("b", b[rows])):
                        block = writer.take(name, 2 * batch, values.shape, "uint8")
                        block.values[:] = values
                        writer.put(block)
                    writer.commit(batch, np.array([[batch, rank], [batch, 7 + rank]]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(r,)) for r in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    data = path.read_bytes()
    assert data[10:70] == a.tobytes() and data[200:218] == b.tobytes()
    counts = np.frombuffer(data, np.int64, 12, 300).reshape(3, 2, 2)
    assert counts.tolist() == [[[2 * n, 1], [n, 7]] for n in range(3)]
    sums = np.frombuffer(data, np.uint64, 6, 450).reshape(3, 2)
    for n in range(3):
        for i, values in enumerate((a, b)):
            expected = xxhash.xxh3_64_intdigest(values[2 * n : 2 * n + 2].tobytes())
            assert sums[n, i] == expected
    assert data[590:593] == b"\1\1\1"
    rest = data[:10] + data[70:200] + data[218:300] + data[396:450] + data[498:590] + data[593:]
    assert set(rest) == {0xAA}


# ------------------------------------------------------------------ which sites are sliced
def choose_forms(**options):
    """Return forms with the defaults of `record`."""
    defaults = {"store": "samples", "dtype": None, "units": None, "threshold": None, "top_k": 32}
    return make_forms(**(defaults | options))


class Weight:
    """What a distributed weight says of itself."""

    def __init__(self, shape, axis):
        self.shape, self.placements = shape, (torch.distributed.tensor.Shard(axis),)


def make_shape(name, width):
    site = Site(name, "module", 0)
    cpu = torch.device("cpu")
    return SiteShape(site, True, (width,), False, torch.float32, "float32", cpu)


class TwoRanks(Ranks):
    """The first of two ranks, the other says the same but for some sites."""

    def __init__(self, **other):
        super().__init__(0, 2)
        self.other = other

    def exchange(self, name, text):
        import json

        return [text, json.dumps(json.loads(text) | self.other)]


def test_slices_are_those_of_linear_layers():
    model = torch.nn.ModuleDict(
        {
            "up": torch.nn.Linear(4, 6, bias=False),
            "down": torch.nn.Linear(6, 4, bias=False),
            "act": torch.nn.ReLU(),
        }
    )
    for name, weight in {"up": Weight((6, 4), 0), "down": Weight((4, 6), 1)}.items():
        model[name]._parameters.clear()
        object.__setattr__(model[name], "weight", weight)
    shapes = [
        make_shape("up", 3),
        make_shape("down@in", 3),
        make_shape("down", 4),
        make_shape("act", 3),
    ]
    same = {s.site.name: "x" for s in shapes}
    found = find_slices(model, shapes, same, TwoRanks(up="y"))
    assert [s.n_slices for s in found] == [2, 2, 1, 1]
    assert found[0].whole.unit_shape == (6,) and found[0].whole.n_slices == 1
    with pytest.raises(CaptureError, match="site='act' differs between the processes"):
        find_slices(model, shapes, same, TwoRanks(act="y"))
    with pytest.raises(CaptureError, match="not one run of equal length in each"):
        find_slices(model, [make_shape("up", 4)], same, TwoRanks())
    model.tp_plan = {"up": "packed_colwise"}
    with pytest.raises(CaptureError, match="not one run of equal length in each"):
        find_slices(model, shapes[:1], same, TwoRanks())


@pytest.mark.slow
def test_a_distributed_tensor_gives_what_is_here():
    code = (
        "import torch, torch.distributed as dist\n"
        "from torch.distributed.tensor import DTensor, Replicate, Shard, Partial\n"
        "from netphys.recording.capture import find_local\n"
        "dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)\n"
        "mesh = dist.init_device_mesh('cpu', (1,))\n"
        "x = torch.arange(6.0).reshape(1, 2, 3)\n"
        "for place in (Replicate(), Shard(2)):\n"
        "    found = find_local(DTensor.from_local(x, mesh, [place]), 'a')\n"
        "    assert type(found) is torch.Tensor and torch.equal(found, x)\n"
        "for place in (Shard(1), Partial()):\n"
        "    try:\n"
        "        find_local(DTensor.from_local(x, mesh, [place]), 'a')\n"
        "    except Exception as error:\n"
        "        print(error)\n"
        "dist.destroy_process_group()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("neither whole nor a slice of the units in each process") == 2
    plain = torch.zeros(2)
    assert find_local(plain, "a") is plain


# ------------------------------------------------------------------ what is refused
def test_what_cannot_be_sliced_is_refused(gpt2, monkeypatch):
    gpt2._source["tp_size"] = 2
    plain = {"online": (), "files": "one", "compiled": False}
    ranks = Ranks(0, 2)
    check_slices(gpt2, ranks, choose_forms(store=["samples", "word.mean"]), **plain)
    with pytest.raises(ValueError, match="is divided among 2 processes, and 1 are recording"):
        check_slices(gpt2, Ranks(), choose_forms(), **plain)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(ValueError, match="Start all of them on one machine"):
        check_slices(gpt2, ranks, choose_forms(), **plain)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    forms = choose_forms(store="raster", threshold=0.1)
    with pytest.raises(ValueError, match=r"store=\['raster'\] is not for a model that tp_plan="):
        check_slices(gpt2, ranks, forms, **plain)
    for more, name in (
        ({"online": ["moments"]}, "online="),
        ({"files": "per-rank"}, "files='per-rank'"),
        ({"compiled": True}, "compile="),
    ):
        with pytest.raises(ValueError, match=f"{name} is not for a model that tp_plan="):
            check_slices(gpt2, ranks, choose_forms(), **(plain | more))
    for more, name in (({"dtype": "int8"}, "dtype='int8'"), ({"units": {"resid": [1]}}, "units=")):
        with pytest.raises(ValueError, match=f"{name} is not for a model that tp_plan="):
            check_slices(gpt2, ranks, choose_forms(**more), **plain)


# ------------------------------------------------------------------ recording
@pytest.mark.slow
def test_two_processes_record_the_slices_of_one_model(tmp_path, llama, one_thread):  # noqa: F811
    sites = ["mlp", "head", "resid", "logits", "model.layers.0.mlp.gate_proj"]
    body = (
        f"record({str(tmp_path / 'a.nwb')!r}, sites={sites})\n"
        f"record({str(tmp_path / 'b.nwb')!r}, sites=['mlp', 'resid'], dtype='float16', "
        "store=['samples', 'trial.mean'])\n"
        f"try:\n    record({str(tmp_path / 'c.nwb')!r}, sites=['model.layers.0.mlp.act_fn'])\n"
        "except Exception as error:\n    print(error)\n"
    )
    code, out, said = run_script(tmp_path, llama, body)
    assert code == 0, said
    assert out.count("site='model.layers.0.mlp.act_fn' differs between the processes") == 2
    assert not (tmp_path / "c.nwb").exists() and not list(tmp_path.glob("*.lock"))
    both = netphys.open_session(tmp_path / "a.nwb")
    whole = record_alone(llama, tmp_path / "a1.nwb", sites=sites)
    assert both.complete and both.sites == whole.sites
    assert verify_session(both.path, progress=False).intact
    for name in whole.sites:
        assert both.units(name).equals(whole.units(name))
        found, expected = both[name].to_numpy(), whole[name].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    # before the first sum over processes no rounding differs
    name = "model.layers.0.self_attn.o_proj@in"
    assert both[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()
    weights = (s.provenance["subject"]["weights_sha256"] for s in (both, whole))
    assert len(set(weights)) == 1
    half = netphys.open_session(tmp_path / "b.nwb")
    for name in half.sites:
        name, _, form = name.partition("#")
        values = both.trials(name)
        if form:
            found = half[f"{name}#{form}"].to_numpy()
            values = values.mean("time").isel(trial=half.trial_table["stimulus_index"])
        else:
            found = half[name].to_numpy()
            values = both[name]
        np.testing.assert_allclose(found, values, rtol=2e-3, atol=1e-5)
    assert verify_session(half.path, progress=False).intact


@pytest.mark.slow
def test_an_interrupted_recording_of_slices_is_resumed(tmp_path, llama, one_thread):  # noqa: F811
    path = tmp_path / "a.nwb"
    fail = (
        "calls = []\n"
        "def stop(*inputs):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 5: raise ValueError('no luck')\n"
        "hook = subject.model.register_forward_pre_hook(stop)\n"
        f"record({str(path)!r}, sites=['mlp'])"
    )
    code, _, said = run_script(tmp_path, llama, fail)
    assert code != 0 and "ValueError: no luck" in said
    cut = netphys.open_session(path)
    assert 0 < cut.commits.sum() < len(cut.commits)
    code, _, said = run_script(
        tmp_path, llama, f"record({str(path)!r}, sites=['mlp'], resume=True)"
    )
    assert code == 0, said
    whole = record_alone(llama, tmp_path / "a1.nwb", sites=["mlp"])
    done = netphys.open_session(path)
    assert done.complete and verify_session(path, progress=False).intact
    for name in whole.sites:
        np.testing.assert_allclose(done[name], whole[name], rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match=r"cannot be resumed: subject\.\w+ was"):
        done_path = tmp_path / "b.nwb"
        done_path.write_bytes(path.read_bytes())
        record_alone(llama, done_path, sites=["mlp"], resume=True)


@pytest.mark.slow
def test_command_line_divides_a_model(tmp_path, llama):  # noqa: F811
    code, _, said = run_torchrun(
        "-m",
        "netphys",
        "record",
        llama,
        "builtin:sentences",
        tmp_path / "a.nwb",
        "--tp-plan",
        "auto",
    )
    assert code != 0 and "has no tokenizer" in said  # it was loaded; the texts do not fit it
