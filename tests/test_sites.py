"""Kinds are the same variable in every family: identities worked out by hand from the weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from architectures import Recurrent
from conftest import ARCHITECTURES, VOCABULARY, make_model, make_stimuli, make_subject

import netphys
from netphys.recording.capture import Capture, hold_still
from netphys.recording.present import present
from netphys.recording.sites import find_sites, select_sites

MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")
GROUPED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "olmo2", *MIXTURES)
SEPARATE = (
    *GROUPED,
    "opt",
    "clip_vision",
    "clip",
    "whisper",
    "wav2vec2",
    "hubert",
    "deit",
)
SUMMED = ("bert", "roberta", "xlm_roberta", "electra", "deberta", "distilbert", "hubert")
NORMED = ("gemma2", "gemma3", "olmo2")
ATTENTIVE = (*SEPARATE, *SUMMED[:-1], "gpt2", "vit", "gpt_neox", "phi3")
ADDED = tuple(f for f in ATTENTIVE if f not in (*SUMMED, *NORMED))
READERS = tuple(f for f in ATTENTIVE if f not in ("clip", "clip_vision", "whisper", "hubert"))
SEEING = ("vit", "deit", "wav2vec2")
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def listen(family, names=None, *, model=None):
    """Run two equal-length trials; return the model, its sites' values, and its output."""
    model = make_model(family) if model is None else model
    subject, stimuli = make_subject(family, model), make_stimuli(family, n=12)
    sites = find_sites(model) if names is None else select_sites(model, names)
    shown, values = present(subject, stimuli), {}
    lengths = [k for k in shown.keys if shown.keys.count(k) > 1]
    rows = [i for i, key in enumerate(shown.keys) if key == lengths[0]][:2]
    args, kwargs = shown.make_inputs(rows)
    with (
        hold_still(model, eager=any(s.side == "pattern" for s in sites)),
        Capture(model, sites, lambda s, v: values.update({s.name: v.clone()})) as capture,
    ):
        capture.start()
        output = model(*args, **kwargs)
        capture.check()
    return model, values, output


def by_kind(model, values, kind):
    """Return the values of one kind, by site."""
    return {s.name: values[s.name] for s in find_sites(model) if s.kind == kind}


def project(module, x):
    """Apply a linear layer, or the transposed one of GPT-2, by its weights alone."""
    weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
    return x @ weight + (0 if module.bias is None else module.bias)


@torch.no_grad()
@pytest.mark.parametrize("family", ATTENTIVE)
def test_projected_heads_are_attn_out_and_projected_neurons_mlp_out(family):
    model, values, _ = listen(family)
    for inner, outer in (("head", "attn_out"), ("mlp", "mlp_out")):
        outside = list(by_kind(model, values, outer).values())
        inside = by_kind(model, values, inner)
        for (name, value), expected in zip(inside.items(), outside, strict=False):
            done = project(model.get_submodule(name.removesuffix("@in")), value)
            torch.testing.assert_close(done, expected.reshape(done.shape), **CLOSE)
        assert inner == "mlp" or len(inside) == len(outside) > 0


@torch.no_grad()
@pytest.mark.parametrize("family", [f for f in ATTENTIVE if f != "deberta"])
def test_pattern_sums_to_one_and_mixes_the_values_into_heads(family):
    model, values, _ = listen(family, ["pattern", "head"] if family not in SEPARATE else None)
    heads = by_kind(model, values, "head")
    for (name, pattern), head in zip(
        by_kind(model, values, "pattern").items(), heads.values(), strict=True
    ):
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:3]), **CLOSE)
        if family not in SEPARATE:
            continue
        path = name.removesuffix("@pattern")
        _, inner, _ = listen(family, [f"{path}.v_proj"], model=model)
        n_heads, n_keys = pattern.shape[1], pattern.shape[-1]
        width = head.shape[-1] // n_heads
        mixed = inner[f"{path}.v_proj"].reshape(len(pattern), n_keys, -1, width).transpose(1, 2)
        mixed = mixed.repeat_interleave(n_heads // mixed.shape[1], dim=1)
        done = (pattern @ mixed).transpose(1, 2).reshape(head.shape)
        torch.testing.assert_close(done, head, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("family", [*ADDED, *NORMED, *SUMMED, "mamba"])
def test_resid_is_the_blocks_input_plus_what_attention_and_mlp_add(family):
    model, values, _ = listen(family)
    blocks = by_kind(model, values, "resid")
    _, before, _ = listen(family, [f"{name}@in" for name in blocks], model=model)
    layers = {s.name: s.layer for s in find_sites(model)}
    for name, after in blocks.items():
        block, x = model.get_submodule(name), before[f"{name}@in"]
        own = {
            kind: next(v for n, v in by_kind(model, values, kind).items() if n.startswith(name))
            for kind in (("attn_out", "mlp_out") if family != "mamba" else ())
        }
        own = {kind: v.reshape(x.shape) for kind, v in own.items()}
        if family == "mamba":
            done = x + block.mixer(block.norm(x))
        elif family in NORMED:
            done = x + block.post_attention_layernorm(own["attn_out"])
            done = done + block.post_feedforward_layernorm(own["mlp_out"])
        elif family in SUMMED:
            modules = dict(block.named_modules())
            first, last = (modules[n] for n in modules if n.lower().endswith("norm"))
            done = last(first(x + own["attn_out"]) + own["mlp_out"])
        else:
            done = x + own["attn_out"] + own["mlp_out"]
        torch.testing.assert_close(done, after, **CLOSE)
    assert len(blocks) == (4 if family == "clip" else 2) and layers


@pytest.mark.parametrize("family", [f for f in READERS if f not in SEEING])
def test_embed_and_resid_are_the_hidden_states_that_the_model_returns(family):
    model, values, _ = listen(family, ["embed", "resid"])
    subject, stimuli = make_subject(family, model), make_stimuli(family, n=12)
    shown = present(subject, stimuli)
    rows = [i for i, k in enumerate(shown.keys) if shown.keys.count(k) > 1]
    rows = [i for i in rows if shown.keys[i] == shown.keys[rows[0]]][:2]
    with torch.no_grad():
        hidden = model(**shown.make_inputs(rows)[1], output_hidden_states=True).hidden_states
    embed, first, *_ = values.values()
    torch.testing.assert_close(embed, hidden[0], rtol=0, atol=0)
    torch.testing.assert_close(first, hidden[1], rtol=0, atol=0)


@pytest.mark.parametrize("family", [*READERS, "mamba"])
def test_logits_are_what_the_model_returns(family):
    model, values, output = listen(family, ["logits"])
    (logits,) = values.values()
    torch.testing.assert_close(logits, output.logits, rtol=0, atol=0)
    assert [s.kind for s in find_sites(model)].count("logits") == 1


def test_logits_of_a_model_that_caps_them_are_the_capped_ones():
    model, values, output = listen("gemma2", ["@logits", "lm_head"])
    cap = model.config.final_logit_softcapping
    done = torch.tanh(values["lm_head"] / cap) * cap
    torch.testing.assert_close(values["@logits"], done, rtol=0, atol=0)
    assert not torch.equal(values["lm_head"], output.logits)
    assert [s.name for s in select_sites(model, "logits")] == ["@logits"]


@torch.no_grad()
@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_the_routers_choice_and_sum_to_mlp_out(family):
    model = make_model(family)
    paths = [s.module for s in find_sites(model) if s.kind == "router"]
    used = {}

    def spy(module, inputs):
        used[module] = inputs

    blocks = [path.removesuffix(".gate") for path in paths]
    for path in blocks:
        model.get_submodule(path).experts.register_forward_pre_hook(spy)
    _, values, _ = listen(family, ["router", "experts", "mlp_out"], model=model)
    for path in blocks:
        block = model.get_submodule(path)
        x, index, weights = used[block.experts]
        given, logits = values[f"{path}.gate@experts"], values[f"{path}.gate"]
        assert given.shape == logits.shape == (len(x), 4)
        best = logits.float().softmax(-1).topk(2).indices
        for token in range(len(x)):
            chosen = given[token].nonzero().ravel().tolist()
            assert sorted(chosen) == sorted(index[token].tolist()) == sorted(best[token].tolist())
            for expert, weight in zip(index[token], weights[token], strict=True):
                assert given[token, expert] == weight
        if family not in ("qwen2_moe", "olmoe"):  # whose weights are not normalised
            torch.testing.assert_close(given.sum(1), torch.ones(len(x)), **CLOSE)
        total = torch.zeros_like(x)
        for expert in range(4):
            gate, up = (block.experts.gate_up_proj[expert] @ x.T).chunk(2)
            neurons = torch.nn.functional.silu(gate) * up
            total += given[:, expert, None] * (block.experts.down_proj[expert] @ neurons).T
        if family == "qwen2_moe":
            total += torch.sigmoid(block.shared_expert_gate(x)) * block.shared_expert(x)
        torch.testing.assert_close(total, values[path].reshape(total.shape), **CLOSE)


def test_experts_of_half_precision_keep_the_routers_type():
    for family, dtype in (("mixtral", torch.float32), ("qwen3_moe", torch.bfloat16)):
        model = make_model(family).to(torch.bfloat16)
        _, values, _ = listen(family, ["experts", "router"], model=model)
        assert [v.dtype for n, v in values.items() if n.endswith("@experts")] == [dtype] * 2


@pytest.mark.parametrize("init", ["random", "shuffled"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_has_twins_with_the_same_sites(family, init):
    model = make_model(family, layers=1)
    first, again, other = (make_subject(family, model, init=init, seed=s) for s in (1, 1, 2))
    assert first.compute_hash() == again.compute_hash() != other.compute_hash()
    assert find_sites(first.model) == find_sites(model)
    shapes = {n: p.shape for n, p in model.named_parameters()}
    assert {n: p.shape for n, p in first.model.named_parameters()} == shapes


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(f, marks=() if f in ("whisper", "wav2vec2", "clip") else pytest.mark.slow)
        for f in ARCHITECTURES
        if f not in ("lstm", "cnn")
    ],
)
def test_every_family_loads_from_its_folder_with_the_same_sites(family, tmp_path):
    model = make_model(family, layers=1)
    model.save_pretrained(tmp_path)
    subject = netphys.load_subject(tmp_path)
    assert type(subject.model) is type(model)
    assert subject.compute_hash() == netphys.load_subject(model).compute_hash()
    assert find_sites(subject.model) == find_sites(model)
    twin = netphys.load_subject(tmp_path, init="random", seed=3)
    assert twin.compute_hash() == netphys.load_subject(model, init="random", seed=3).compute_hash()


def test_record_of_a_mixture_gives_a_row_per_token(aside):
    subject, stimuli = make_subject("mixtral"), make_stimuli("mixtral")
    session = netphys.record(
        subject, stimuli, aside / "a.nwb", sites=["router", "experts"], progress=False
    )
    n = sum(len(ids.split()) for ids in stimuli.table["token_ids"])
    for name in session.sites:
        assert session[name].shape == (n, 4)
        assert session.site_table.loc[name, "clock"] == "token"
    name = next(iter(session.select("experts")))
    assert ((session[name] > 0).sum(axis=1) == 2).all()
    assert session.units(name)["label"].tolist() == [f"L00.experts.{i}" for i in range(4)]


def test_top_of_the_experts_names_the_chosen_ones_and_their_weights(aside):
    session = netphys.record(
        make_subject("qwen3_moe", make_model("qwen3_moe", layers=1)),
        make_stimuli("qwen3_moe"),
        aside / "a.nwb",
        sites="experts",
        store=["samples", "top"],
        top_k=2,
        progress=False,
    )
    name = "model.layers.0.mlp.gate@experts"
    weights = session[name].to_numpy()
    index, value = session[f"{name}#top.index"], session[f"{name}#top.value"]
    order = np.argsort(-weights, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(value, np.take_along_axis(weights, order, axis=1))
    assert (value.to_numpy() > 0).all()


@pytest.mark.parametrize("family", ["clip", "whisper", "hubert", "qwen2_moe"])
def test_patterns_leave_the_attention_of_every_part_as_it_was(family):
    model = make_model(family, layers=1)

    def kinds():
        configs = (getattr(m, "config", None) for m in model.modules())
        return [c._attn_implementation for c in configs if hasattr(c, "_attn_implementation")]

    before = kinds()
    listen(family, ["pattern"], model=model)
    assert kinds() == before and "eager" not in before


# Two towers


def test_record_of_two_towers_keeps_tokens_and_patches_apart(tmp_path):
    subject, stimuli = make_subject("clip"), make_stimuli("clip", n=10)
    lengths = [len(ids.split()) for ids in stimuli.table["token_ids"]]
    assert 5 in lengths  # as many tokens as the image has patches
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=["resid", "head", "pattern"], progress=False
    )
    text, image = "text_model.encoder.layers.0", "vision_model.encoder.layers.0"
    assert session.site_table.loc[text, "clock"] == "token"
    assert session.site_table.loc[image, "clock"] == "item"
    assert session[text].shape == (sum(lengths), 16)
    assert session[image].shape == (10, 5 * 16)
    units = session.units(image)
    assert units["patch"].tolist() == np.repeat(range(5), 16).tolist()
    heads = session.units(f"{text}.self_attn.out_proj@in")["head"]
    assert heads.tolist() == [0] * 8 + [1] * 8
    heads = session.units(f"{image}.self_attn.out_proj@in")
    assert heads["head"].tolist() == ([0] * 8 + [1] * 8) * 5
    assert {"head", "query", "key"} <= set(session.units(f"{image}.self_attn@pattern"))


def test_record_of_two_towers_by_items_names_positions(aside):
    model = make_model("clip", layers=1)

    def see(images):
        pixels = torch.from_numpy(np.stack(images))
        return {"input_ids": torch.ones((len(images), 4), dtype=torch.long), "pixel_values": pixels}

    subject = netphys.load_subject(model, input_fn=see)
    session = netphys.record(
        subject, make_stimuli("vit"), aside / "a.nwb", sites="resid", progress=False
    )
    assert "position" in session.units("text_model.encoder.layers.0")
    assert "patch" in session.units("vision_model.encoder.layers.0")


def test_record_of_two_towers_needs_an_input_function(aside):
    subject = netphys.load_subject(make_model("clip", layers=1))
    with pytest.raises(ValueError, match=r"sees texts and images together\. Load it with input_fn"):
        netphys.record(subject, make_stimuli("clip"), aside / "a.nwb")
    tower = netphys.load_subject(subject.model.vision_model)
    session = netphys.record(tower, make_stimuli("vit"), aside / "a.nwb", progress=False)
    assert session.sites == ["encoder.layers.0"]


def test_max_length_of_two_towers_is_that_of_the_text():
    assert make_subject("clip").max_length == 32


# Recurrent layers


def test_record_of_recurrent_layers_gives_a_row_per_step(tmp_path):
    model, stimuli = make_model("lstm"), make_stimuli("lstm", n=9)
    session = netphys.record(
        netphys.load_subject(model), stimuli, tmp_path / "a.nwb", batch_size=3, progress=False
    )
    assert session.sites == ["first", "second"]
    first, second = (session.trials(name) for name in session.sites)
    for i, ids in enumerate(stimuli.table["token_ids"]):
        ids = torch.tensor([[int(k) for k in ids.split()]])
        with torch.no_grad():
            one, _ = model.first(model.embed(ids).transpose(0, 1))
            two, _ = model.second(one.transpose(0, 1))
        np.testing.assert_allclose(first[i, : ids.shape[1]], one[:, 0], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(second[i, : ids.shape[1]], two[0], rtol=1e-5, atol=1e-7)


def test_record_of_time_first_layers_also_where_sizes_coincide(aside):
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (8, 8))
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": [list(map(int, k)) for k in ids]}))
    model = make_model("lstm")
    session = netphys.record(
        netphys.load_subject(model), stimuli, aside / "a.nwb", sites="first", progress=False
    )
    with torch.no_grad():
        expected, _ = model.first(model.embed(torch.from_numpy(ids)).transpose(0, 1))
    np.testing.assert_array_equal(session.trials("first"), expected.transpose(0, 1))


class Packed(torch.nn.Module):
    """A recurrent model that packs what it is shown, maybe less than all of it."""

    def __init__(self, *, batch_first: bool, leave: int):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 6)
        self.rnn = torch.nn.GRU(6, 5, batch_first=batch_first)
        self.leave = leave

    def forward(self, ids):
        x = self.embed(ids)
        x = x if self.rnn.batch_first else x.transpose(0, 1)
        lengths = torch.full((len(ids),), ids.shape[1])
        lengths[0] -= self.leave
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=self.rnn.batch_first, enforce_sorted=False
        )
        return self.rnn(packed)[0].data


@pytest.mark.parametrize("batch_first", [True, False])
def test_record_of_packed_sequences_equals_the_padded_ones(batch_first, aside):
    model, stimuli = Packed(batch_first=batch_first, leave=0), make_stimuli("lstm")
    options = {"sites": ["rnn", "rnn@in"], "progress": False}
    session = netphys.record(netphys.load_subject(model), stimuli, aside / "a.nwb", **options)
    for i, ids in enumerate(stimuli.table["token_ids"]):
        x = model.embed(torch.tensor([int(k) for k in ids.split()])).detach()
        np.testing.assert_array_equal(session.trials("rnn@in")[i, : len(x)], x)
        expected = model.rnn(x)[0].detach()
        np.testing.assert_allclose(
            session.trials("rnn")[i, : len(x)], expected, rtol=1e-5, atol=1e-6
        )


def test_record_refuses_packed_sequences_that_leave_steps_out(tmp_path):
    subject = netphys.load_subject(Packed(batch_first=True, leave=1))
    with pytest.raises(
        RuntimeError, match=r"site='rnn': the model packs \d to \d steps of stimuli"
    ):
        netphys.record(subject, make_stimuli("lstm", n=20), tmp_path / "a.nwb", sites="rnn")


def test_record_refuses_a_cell_that_runs_step_by_step(tmp_path):
    class Steps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.GRUCell(1, 3)

        def forward(self, ids):
            state = torch.zeros(len(ids), 3)
            for step in ids.T:
                state = self.cell(step[:, None].float(), state)
            return state

    with pytest.raises(RuntimeError, match=r"site='cell' ran \d times in one forward pass"):
        netphys.record(
            netphys.load_subject(Steps()), make_stimuli("lstm"), tmp_path / "a.nwb", sites="cell"
        )


def test_convolutions_over_time_give_a_row_per_frame(aside):
    class Wave(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 6, 3, padding=1)

        def forward(self, x):
            return self.conv(x.transpose(1, 2))

    model, rng = Wave(), np.random.default_rng(0)
    frames = [rng.normal(size=(6, 3)).astype(np.float32) for _ in range(4)]  # 6 channels, 6 frames
    stimuli = netphys.load_stimuli(arrays=frames, kind="frames", rate=10.0)
    session = netphys.record(
        netphys.load_subject(model), stimuli, aside / "a.nwb", sites="conv", progress=False
    )
    with torch.no_grad():
        expected = model(torch.from_numpy(np.stack(frames))).transpose(1, 2)
    np.testing.assert_array_equal(session.trials("conv"), expected)


# Names


@pytest.mark.parametrize(
    ("site", "error", "message"),
    [
        ("lm_head@experts", RuntimeError, r"site='lm_head@experts': this module does not choose"),
        ("lm_head@logits", ValueError, r"ends in @logits\. Allowed: @in, @pattern, @experts; or"),
        ("router", ValueError, r"the kind 'router' is not known for this model \(known: embed"),
    ],
)
def test_record_refuses_sites_that_a_model_does_not_have(site, error, message, tmp_path, gpt2):
    with pytest.raises(error, match=message):
        netphys.record(gpt2, make_stimuli("gpt2"), tmp_path / "a.nwb", sites=site)


def test_record_refuses_logits_of_a_model_without(tmp_path):
    subject = netphys.load_subject(Recurrent())
    with pytest.raises(RuntimeError, match=r"site='@logits': this model returns no logits"):
        netphys.record(subject, make_stimuli("lstm"), tmp_path / "a.nwb", sites="@logits")


# Variants of the families


def _make_variant(name):
    """Return a family, a model of it that is built in another way, and the kinds it has."""
    t, text, sound = transformers, make_model("opt").config, make_model("wav2vec2").config
    dense = {"embed", "resid", "attn_out", "head", "pattern", "mlp", "mlp_out"}
    opt = {"do_layer_norm_before": False, "word_embed_proj_dim": 8}
    pair = make_model("clip").config
    base = {"do_stable_layer_norm": False, "feat_extract_norm": "group", "layerdrop": 0.9}
    return {
        "opt-350m": lambda: ("opt", t.OPTForCausalLM(change(text, **opt)), dense | {"logits"}),
        "opt-base": lambda: ("opt", t.OPTModel(text), dense),
        "neox-sequential": lambda: (
            "gpt_neox",
            t.GPTNeoXForCausalLM(
                change(make_model("gpt_neox").config, use_parallel_residual=False)
            ),
            dense | {"logits"},
        ),
        "gemma2-base": lambda: ("gemma2", t.Gemma2Model(make_model("gemma2").config), dense),
        "mixtral-base": lambda: (
            "mixtral",
            t.MixtralModel(make_model("mixtral").config),
            dense - {"mlp"} | {"router", "experts"},
        ),
        "mamba-base": lambda: (
            "mamba",
            t.MambaModel(make_model("mamba").config),
            {"embed", "resid"},
        ),
        "wav2vec2-base": lambda: (
            "wav2vec2",
            t.Wav2Vec2Model(change(sound, **base)),
            dense | {"conv"},
        ),
        "wav2vec2-pretraining": lambda: (
            "wav2vec2",
            t.Wav2Vec2ForPreTraining(
                change(sound, num_codevector_groups=2, codevector_dim=8, proj_codevector_dim=8)
            ),
            dense | {"conv"},
        ),
        "hubert-ctc": lambda: (
            "hubert",
            t.HubertForCTC(make_model("hubert").config),
            dense | {"conv", "logits"},
        ),
        "hubert-classes": lambda: (
            "hubert",
            t.HubertForSequenceClassification(make_model("hubert").config),
            dense | {"conv", "logits"},
        ),
        "whisper-base": lambda: (
            "whisper",
            t.WhisperModel(make_model("whisper").config),
            dense | {"conv"},
        ),
        "clip-text": lambda: ("gpt2", t.CLIPTextModel(pair.text_config), dense),
        "clip-image-classes": lambda: (
            "clip_vision",
            t.CLIPForImageClassification(pair),
            dense | {"conv", "logits"},
        ),
        "clip-vision-projection": lambda: (
            "clip_vision",
            t.CLIPVisionModelWithProjection(pair.vision_config),
            dense | {"conv"},
        ),
    }[name]()


VARIANTS = [
    "opt-350m",
    "opt-base",
    "neox-sequential",
    "gemma2-base",
    "mixtral-base",
    "mamba-base",
    "wav2vec2-base",
    "wav2vec2-pretraining",
    "hubert-ctc",
    "hubert-classes",
    "whisper-base",
    "clip-text",
    "clip-image-classes",
    "clip-vision-projection",
]


def change(config, **values):
    """Return a copy of a configuration with other values."""
    return type(config)(**{**config.to_dict(), **values})


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_a_family_have_its_kinds_and_run_them_all(name):
    family, model, kinds = _make_variant(name)
    model.eval()
    sites = find_sites(model)
    assert {s.kind for s in sites} == kinds
    _, values, output = listen(family, model=model)  # raises where a site gives nothing
    assert set(values) == {s.name for s in sites}
    logits = [values[s.name] for s in sites if s.kind == "logits"]
    assert all(torch.equal(v, output.logits) for v in logits)
    table = netphys.load_subject(model).sites()
    assert (table["shape"] != "").all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["opt-350m", "neox-sequential", "wav2vec2-base"])
def test_variants_keep_what_the_kinds_mean(name):
    family, model, _ = _make_variant(name)
    model.eval()
    _, values, _ = listen(family, model=model)
    for path, after in by_kind(model, values, "resid").items():
        block = model.get_submodule(path)
        _, before, _ = listen(family, [f"{path}@in"], model=model)
        x = before[f"{path}@in"]
        attn, mlp = (
            next(v for n, v in by_kind(model, values, kind).items() if n.startswith(path))
            for kind in ("attn_out", "mlp_out")
        )
        mlp = mlp.reshape(x.shape)
        if name == "neox-sequential":
            done = x + attn + mlp
        elif name == "opt-350m":
            done = block.final_layer_norm(block.self_attn_layer_norm(x + attn) + mlp)
        else:
            done = block.final_layer_norm(block.layer_norm(x + attn) + mlp)
        torch.testing.assert_close(done, after, **CLOSE)
