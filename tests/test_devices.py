"""Models that no single device holds: the same values as on one, each site on its own device."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import VOCABULARY, make_stimuli
from transformers import LlamaConfig, LlamaForCausalLM

import netphys
from netphys.core.online import Moments
from netphys.data.online_state import Task
from netphys.recording.devices import read_weight
from netphys.recording.online import BatchInfo
from netphys.recording.statistics import Tally

NAMES = ("model.embed_tokens", "model.layers.0", "model.norm", "lm_head", "model.rotary_emb")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Folder of a tiny model that two processes can divide."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("models") / "llama"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_model_over_cpu_and_disk_gives_the_same_bytes(llama, tmp_path):
    places = dict.fromkeys(NAMES, "cpu") | {"model.layers.1": "disk"}
    plain, spread = netphys.load_subject(llama), netphys.load_subject(llama, device_map=places)
    assert any(p.is_meta for p in spread.model.parameters())
    assert spread.compute_hash() == plain.compute_hash() and spread.device.type == "cpu"
    assert spread.describe()["device_map"] == places
    options = {"sites": ["resid", "mlp", "logits"], "online": "moments", "progress": False}
    stimuli = make_stimuli("gpt2")
    one = netphys.record(plain, stimuli, tmp_path / "a.nwb", **options)
    two = netphys.record(spread, stimuli, tmp_path / "b.nwb", **options)
    for name in one.sites:
        assert one[name].to_numpy().tobytes() == two[name].to_numpy().tobytes()
        assert one.online(f"{name}#moments").identical(two.online(f"{name}#moments"))


def test_device_map_auto_where_one_device_holds_all(llama):
    subject = netphys.load_subject(llama, device_map="auto")
    assert subject.compute_hash() == netphys.load_subject(llama).compute_hash()


def test_a_statistic_is_kept_where_its_site_is():
    tasks = [Task(Moments(), ("a",), (3,)), Task(Moments(), ("b",), (3,))]
    devices = {"a": torch.device("cpu"), "b": torch.device("meta")}
    tally = Tally(tasks, devices)
    assert [s["mean"].device.type for s in tally.states] == ["cpu", "meta"]
    batch = BatchInfo(np.arange(2), np.zeros(2, np.int64))
    tally.feed("a", torch.tensor([[1.0, 2, 3], [3, 2, 1]]), batch)
    np.testing.assert_array_equal(tally.states[0]["mean"], [2, 2, 2])


def test_options_that_exclude_each_other_are_refused(llama, monkeypatch):
    with pytest.raises(ValueError, match="device_map= and tp_plan= exclude each other"):
        netphys.load_subject(llama, device_map="auto", tp_plan="auto")
    for more in ({"init": "random"}, {"device": "mps"}):
        with pytest.raises(ValueError, match="is for trained models that are loaded by name"):
            netphys.load_subject(llama, device_map="auto", **more)
    with pytest.raises(ValueError, match="is for trained models that are loaded by name"):
        netphys.load_subject(torch.nn.Linear(2, 2), device_map="auto")
    with pytest.raises(ValueError, match="device_map='autp' is unknown"):
        netphys.load_subject(llama, device_map="autp")
    with pytest.raises(TypeError, match="device_map"):
        netphys.load_subject(llama, device_map=3)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="divides a model among processes, and there is one"):
        netphys.load_subject(llama, tp_plan="auto")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'netphys\[sharded\]'"):
        netphys.load_subject(llama, device_map="auto")


def test_a_weight_without_values_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"the weight '0\.weight' is on the meta device"):
        read_weight(model, "0.weight", model[0].weight)
