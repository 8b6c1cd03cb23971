"""Subjects and their twins: what is loaded, what is refused, which sites there are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_model, make_subject

import netphys
from netphys.recording.sites import KINDS as SITE_KINDS
from netphys.recording.sites import find_sites, select_sites

ATTENTION = ("resid", "attn_out", "head", "pattern", "mlp_out")
DENSE = {"embed", *ATTENTION, "mlp"}
MIXTURE = {"embed", *ATTENTION, "router", "experts", "logits"}
KINDS = dict.fromkeys(ARCHITECTURES, DENSE | {"logits"}) | {
    "t5": DENSE,
    "vit": DENSE | {"logits", "conv"},
    "resnet": {"embed", "resid", "conv", "logits"},
    "mixtral": MIXTURE,
    "qwen2_moe": MIXTURE | {"mlp"},  # of its layers without experts
    "qwen3_moe": MIXTURE,
    "mamba": {"embed", "resid", "logits"},
    "clip_vision": DENSE | {"conv"},
    "clip": DENSE | {"conv"},
    "whisper": DENSE | {"conv"},
    "wav2vec2": DENSE | {"logits", "conv"},
    "hubert": DENSE | {"conv"},
    "lstm": {"embed", "resid"},
    "cnn": {"conv"},
}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_sites_finds_every_kind_once_per_layer(family):
    subject = make_subject(family, make_model(family, layers=3))
    table = subject.sites()
    assert set(table["kind"]) == KINDS[family]
    assert (table["shape"] != "").all() or subject.config is None
    for kind in set(ATTENTION) & KINDS[family] if "attn_out" in KINDS[family] else ():
        n_towers = 2 if family == "clip" else 1
        layers = table["layer"][table["kind"] == kind].tolist()
        assert layers == [0, 1, 2] * n_towers
    assert table.index.is_unique
    with pytest.raises(ValueError, match=r"the kind .* is not known for this model"):
        select_sites(subject.model, next(k for k in SITE_KINDS if k not in KINDS[family]))


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
def test_kinds_mean_the_same_variable_everywhere(family, tmp_path):
    """resid and embed are hidden states; mlp and head, projected, give mlp_out and attn_out."""
    from conftest import make_stimuli

    model = make_model(family)
    subject, stimuli = netphys.load_subject(model), make_stimuli(family, n=1)
    kinds = ["embed", "resid", "attn_out", "head", "mlp", "mlp_out"]
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites=kinds, progress=False)
    ids = torch.tensor([[int(t) for t in stimuli.table["token_ids"][0].split()]])
    with torch.inference_mode():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        np.testing.assert_array_equal(session[session.sites[0]], hidden[0][0])
        first = next(iter(session.select("resid")))
        np.testing.assert_array_equal(session[first], hidden[1][0])
        modules = dict(model.named_modules())
        for inner, outer in (("mlp", "mlp_out"), ("head", "attn_out")):
            for a, b in zip(session.select(inner), session.select(outer), strict=True):
                value = torch.from_numpy(np.array(session[a]))
                projected = modules[a.removesuffix("@in")](value)
                np.testing.assert_allclose(session[b], projected, rtol=1e-5, atol=1e-7)


def test_pattern_sums_to_one_over_the_keys_that_exist(tmp_path):
    from conftest import make_stimuli

    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="pattern", progress=False)
    for name in session.sites:
        data = session[name].to_numpy().reshape(len(session.samples("token")), 2, -1)
        np.testing.assert_allclose(np.nansum(data, axis=2), 1, rtol=1e-5)
        lengths = [len(t.split()) for t in stimuli.table["token_ids"]]
        n = np.array([lengths[t] for t in session.samples("token")["trial"]])
        assert (np.isfinite(data[:, 0]).sum(axis=1) == n).all()
    assert session.counts["nonfinite"].sum() == 0
    assert session.provenance["attention"] == "eager"


def test_sites_of_a_module_of_your_own():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    sites = find_sites(module)
    assert [(s.name, s.kind) for s in sites] == [("0", "conv")]
    table = netphys.load_subject(module).sites(all_modules=True)
    assert table.index.tolist() == ["0", "1", "2"]


def test_random_twin_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = netphys.load_subject("builtin:language", init="random", seed=1)
    assert torch.equal(torch.rand(3), expected)
    again = netphys.load_subject("builtin:language", init="random", seed=1)
    other = netphys.load_subject("builtin:language", init="random", seed=2)
    assert first.compute_hash() == again.compute_hash() != other.compute_hash()


def test_shuffled_twin_keeps_the_values_of_every_tensor():
    model = make_model("llama")
    before = copy.deepcopy(model.state_dict())
    twin = netphys.load_subject(model, init="shuffled", seed=3)
    moved = 0
    for name, weight in model.named_parameters():
        shuffled = dict(twin.model.named_parameters())[name]
        assert torch.equal(weight, before[name])  # the original is not touched
        assert torch.equal(weight.flatten().sort().values, shuffled.flatten().sort().values)
        moved += not torch.equal(weight, shuffled)
    assert moved >= 10


def test_random_twin_of_a_module_of_your_own():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    kept = module[0].weight.clone()
    twin = netphys.load_subject(module, init="random", seed=1)
    same = netphys.load_subject(module, init="random", seed=1)
    assert torch.equal(module[0].weight, kept) and not torch.equal(twin.model[0].weight, kept)
    assert twin.compute_hash() == same.compute_hash()


def test_random_twin_needs_reset_parameters():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"module 'Own' has no reset_parameters\(\)"):
        netphys.load_subject(Own(), init="random")


def test_load_subject_from_a_folder_keeps_weights_and_type(tmp_path):
    model = make_model("gpt2").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "m")
    subject = netphys.load_subject(tmp_path / "m")
    assert subject.compute_hash() == netphys.load_subject(model).compute_hash()
    assert subject.dtype == torch.bfloat16 and subject.tokenizer is None
    assert netphys.load_subject(str(tmp_path / "m"), dtype="float32").dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("builtin:langage", {}, ValueError, r"Did you mean 'builtin:language'"),
        (
            "no-such-model-anywhere",
            {},
            ValueError,
            "could not be loaded: .* Give a Hugging Face id",
        ),
        ("./nowhere", {}, FileNotFoundError, "no such folder"),
        (3, {}, TypeError, "name=3 is an int"),
        ("builtin:language", {"init": "untrained"}, ValueError, "init='untrained' is unknown"),
        ("builtin:language", {"seed": 1.5}, TypeError, r"seed=1\.5 is a float"),
        ("builtin:language", {"dtype": "int8"}, ValueError, "dtype='int8' is unknown"),
        ("builtin:language", {"device": "gpu"}, ValueError, "device='gpu' is unknown"),
    ],
)
def test_load_subject_refuses(name, options, error, message):
    with pytest.raises(error, match=message):
        netphys.load_subject(name, **options)


def test_load_subject_refuses_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"folder without config\.json"):
        netphys.load_subject(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_load_subject_refuses_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="device='cuda:0' is not available"):
        netphys.load_subject("builtin:language", device="cuda:0")


def test_load_subject_never_changes_a_module_that_was_given():
    module = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Move it yourself first"):
        netphys.load_subject(module, dtype="float16")
    assert module.weight.dtype == torch.float32


def test_builtin_language_knows_its_world_and_its_twin_does_not():
    from netphys._shipped import shipped_path

    lines = shipped_path("subjects", "language", "heldout.txt").read_text().splitlines()[:12]
    losses = {}
    for init in ("trained", "random", "shuffled"):
        subject = netphys.load_subject("builtin:language", init=init)
        total = n = 0
        with torch.inference_mode():
            for line in lines:
                ids = torch.tensor([subject.tokenizer(line)["input_ids"]])
                total += float(subject.model(ids, labels=ids).loss) * (ids.shape[1] - 1)
                n += ids.shape[1] - 1
        losses[init] = total / n
    assert losses["trained"] < 2.0 < 7.0 < losses["random"]
    assert losses["trained"] < 7.0 < losses["shuffled"]


def test_builtin_language_is_small():
    from netphys._shipped import shipped_path

    subject = netphys.load_subject("builtin:language")
    assert subject.n_parameters <= 2_000_000
    assert shipped_path("subjects", "language", "model.safetensors").stat().st_size <= 4_000_000


def test_load_subject_refuses_a_file_that_lacks_weights(tmp_path):
    from safetensors.torch import load_file, save_file

    make_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if "layers.1.mlp" not in k}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its file lacks 3 weights \(model\.layers\.1\.mlp"):
        netphys.load_subject(tmp_path)
    assert netphys.load_subject(tmp_path, init="random").n_parameters
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="could not be loaded"):
        netphys.load_subject(tmp_path)


def test_load_subject_refuses_a_damaged_tokenizer(tmp_path):
    import shutil

    from netphys._shipped import shipped_path

    shutil.copytree(shipped_path("subjects", "language"), tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="its Tokenizer could not be read"):
        netphys.load_subject(tmp_path / "m")


def test_random_twin_of_attention_and_of_a_transformers_model():
    attention = torch.nn.TransformerEncoderLayer(4, 2)
    twin = netphys.load_subject(attention, init="random").model
    assert not torch.equal(twin.self_attn.in_proj_weight, attention.self_attn.in_proj_weight)
    model = make_model("llama")
    first = netphys.load_subject(model, init="random", seed=1)
    assert first.compute_hash() == netphys.load_subject(model, init="random", seed=1).compute_hash()
    assert first.compute_hash() != netphys.load_subject(model).compute_hash()


def test_twin_needs_weights():
    with pytest.raises(ValueError, match="has no weights, so it has no twin"):
        netphys.load_subject(torch.nn.ReLU(), init="random")


def test_load_subject_refuses_weights_without_values():
    with torch.device("meta"):
        module = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="on the meta device"):
        netphys.load_subject(module)
