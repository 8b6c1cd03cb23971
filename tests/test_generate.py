"""Recording while tokens are generated: the activations of `model.generate`, bit for bit."""

from __future__ import annotations

import re
import types

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as t
from conftest import make_model, make_stimuli

import netphys
from netphys.data.nwb_header import load_header
from netphys.data.repeats import check_repeats, make_repeats
from netphys.recording import prompts as module
from netphys.recording.generate import make_generation
from netphys.recording.tokens import find_log
from netphys.recording.variability import join_seeds

QUIET = {"progress": False, "batch_size": 3}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture
def folder(tmp_path_factory):
    """A folder whose files are not opened in other readers afterwards: this takes a second each."""
    return tmp_path_factory.mktemp("generate")


class Toy(t.PreTrainedModel, t.GenerationMixin):
    """After token k comes k + 1, or what `logits` say; `embed` gives the token's number."""

    config_class = t.GPT2Config

    def __init__(self, logits: torch.Tensor | None = None, size: int = 12):
        super().__init__(t.GPT2Config(vocab_size=size, eos_token_id=9, pad_token_id=0))
        self.embed = torch.nn.Embedding(size, 1)
        self.embed.weight.data[:, 0] = torch.arange(size)
        self.logits, self.size = logits, size

    def forward(
        self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, return_dict=None
    ):
        value = self.embed(input_ids)
        after = torch.nn.functional.one_hot((value[..., 0].long() + 1) % self.size, self.size)
        logits = 50.0 * after if self.logits is None else self.logits.expand(*after.shape)
        cache = (past_key_values or 0) + input_ids.shape[1]
        return types.SimpleNamespace(logits=logits, past_key_values=cache)


def show(*prompts: str) -> netphys.Stimuli:
    return netphys.load_stimuli(pd.DataFrame({"token_ids": list(prompts)}))


# ---------------------------------------------------------------- by hand
def test_generation_by_hand(tmp_path):
    prompts = show("1 5", "4 7", "2 8", "3")
    options = {"max_new_tokens": 3, "greedy": True}
    session = netphys.record(
        netphys.load_subject(Toy()), prompts, tmp_path / "a.nwb", sites="embed", generate=options,
        **QUIET,
    )  # fmt: skip
    table = session.trial_table.sort_values("stimulus_index")
    assert list(table["generated_token_ids"]) == ["6 7 8", "8 9", "9", "4 5 6"]
    assert list(table["stop_reason"]) == ["limit", "eos", "eos", "limit"]
    assert list(table["n_generated_tokens"]) == [3, 2, 1, 3]
    assert list(table["n_prompt_tokens"]) == [2, 2, 2, 1]
    assert set(table["variability"]) == {"none"}
    samples = session.samples("token")  # the last token of a trial is not shown
    assert list(samples["token_id"]) == [1, 5, 6, 7, 4, 7, 8, 2, 8, 3, 4, 5]
    assert list(samples["position"]) == [0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2]
    assert "".join(p[0] for p in samples["phase"]) == "ppddppdpppdd"
    np.testing.assert_array_equal(session["embed"][:, 0], samples["token_id"])
    trials = session.trials("embed")
    assert trials.sizes["time"] == 4 and np.isnan(trials[2, 2:].values).all()
    assert session["embed"]["phase"].dims == ("sample",)
    assert list(session.pool("embed", how="max").values[:, 0]) == [7, 8, 8, 5]
    facts = session.provenance["generate"]
    assert facts["options"]["max_new_tokens"] == 3 and len(facts["logits_sha256"]) == 2
    assert not list(tmp_path.glob(".*"))


def test_end_tokens_can_be_chosen(folder):
    subject, options = netphys.load_subject(Toy()), {"max_new_tokens": 4, "greedy": True}
    found = {}
    for eos in (None, [], 5, [7, 6]):
        session = netphys.record(
            subject, show("3"), folder / "a.nwb", sites="embed", overwrite=True,
            generate={**options, "eos": eos}, **QUIET,
        )  # fmt: skip
        found[str(eos)] = session.trial_table["generated_token_ids"].iloc[0]
    assert found == {"None": "4 5 6 7", "[]": "4 5 6 7", "5": "4 5", "[7, 6]": "4 5 6"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.3, 0.2]),
        ({"temperature": 0.5}, np.array([25, 9, 4]) / 38),
        ({"top_k": 2}, [5 / 8, 3 / 8, 0]),
        ({"top_p": 0.6}, [5 / 8, 3 / 8, 0]),
        ({"top_k": 1}, [1, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_often_as_they_should(options, expected):
    logits = torch.full((12,), -torch.inf)
    logits[:3] = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    subject = netphys.load_subject(Toy(logits))
    generation = make_generation({"max_new_tokens": 50, "eos": [], **options})
    before = torch.random.get_rng_state()
    with torch.no_grad():
        drawn = module.sample(subject, torch.zeros((40, 2), dtype=torch.int64), generation, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    share = np.bincount(np.ravel(drawn.tokens), minlength=12)[:3] / 2000
    np.testing.assert_allclose(share, expected, atol=0.045)  # 4 SD


# ---------------------------------------------------------------- against transformers
def run_generate(model, session, prompts, names, options) -> dict[str, torch.Tensor]:
    """Return what hooks on `model.generate` see, as the session stores it: trials one by one."""
    caught: dict[str, list] = {name: [] for name in names}
    handles = []
    for name in names:
        path, _, side = name.partition("@")
        part = model.get_submodule(path)
        if side == "in":
            hook = lambda m, i, k, name=name: caught[name].append(  # noqa: E731
                next(v for v in (*i, *k.values()) if torch.is_tensor(v)).clone()
            )
            handles.append(part.register_forward_pre_hook(hook, with_kwargs=True))
        else:
            pick = -1 if side == "pattern" else 0
            hook = lambda m, i, o, name=name, pick=pick: caught[name].append(  # noqa: E731
                (o[pick] if isinstance(o, tuple) else o).clone()
            )
            handles.append(part.register_forward_hook(hook))
    drawing = {k: options[k] for k in ("temperature", "top_k", "top_p") if k in options}
    greedy = options.get("greedy", False)
    how = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, **drawing}
    found: dict[str, list] = {name: [] for name in names}
    width = int((session.trial_table["n_prompt_tokens"]).max()) + options["max_new_tokens"]
    for _, trials in session.trial_table.groupby("batch"):
        rows = trials["stimulus_index"].tolist()
        ids = torch.tensor([prompts.item(r) for r in rows])
        with torch.random.fork_rng():
            torch.manual_seed(join_seeds([options["seed"], *rows]))
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), eos_token_id=options["eos"],
                pad_token_id=0, max_new_tokens=options["max_new_tokens"], **how,
            )  # fmt: skip
        for i, (_, trial) in enumerate(trials.iterrows()):
            n = trial["n_generated_tokens"]
            own = " ".join(map(str, out[i, ids.shape[1] : ids.shape[1] + n].tolist()))
            assert own == trial["generated_token_ids"]
            for name in names:
                steps = [s[i : i + 1] for s in caught[name]]
                if name.endswith("@pattern"):
                    steps = [
                        torch.nn.functional.pad(s, (0, width - s.shape[-1]), value=torch.nan)
                        .transpose(1, 2).flatten(2)
                        for s in steps
                    ]  # fmt: skip
                found[name].append(torch.cat(steps, dim=1)[0, : ids.shape[1] + n - 1])
        for steps in caught.values():
            steps.clear()
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["greedy", "sampled", "cut"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_recording_equals_hooks_on_generate(family, how, dtype, folder):
    model = make_model(family).to(DTYPES[dtype])
    subject, prompts = netphys.load_subject(model), make_stimuli(family)
    choice = {"greedy": {"greedy": True}, "sampled": {}}.get(
        how, {"temperature": 0.8, "top_k": 20, "top_p": 0.9}
    )
    options = {"max_new_tokens": 6, "seed": 4, "eos": list(range(0, 50, 5)), **choice}
    session = netphys.record(
        subject, prompts, folder / "a.nwb", sites=["embed", "resid", "head", "mlp", "pattern"],
        generate=options, **QUIET,
    )  # fmt: skip
    if how != "greedy":  # trials end at different places
        assert {"eos", "limit"} == set(session.trial_table["stop_reason"])
    model.set_attn_implementation("eager")
    expected = run_generate(model, session, prompts, session.sites, options)
    for name, values in expected.items():
        own = session[name].to_numpy()
        values = values.float().numpy()
        if name.endswith("@pattern"):  # the file has as many keys as any trial was shown
            n = len(own), 2, -1
            own, values = own.reshape(n), values.reshape(n)[..., : own.shape[1] // 2]
        np.testing.assert_array_equal(own, values)


def test_a_sliding_window_keeps_the_newest_keys(folder):
    config = make_model("mistral").config
    config.sliding_window = 4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = netphys.load_subject(t.MistralForCausalLM(config).eval())
    session = netphys.record(
        subject, show("1 2 3"), folder / "a.nwb", sites="pattern",
        generate={"max_new_tokens": 6, "greedy": True, "eos": []}, **QUIET,
    )  # fmt: skip
    weights = session[session.sites[0]]
    values = weights.to_numpy().reshape(8, 2, 8)
    last = values[-1]
    assert (np.nan_to_num(last[:, :4]) == 0).all() and (last[:, 4:] > 0).all()
    np.testing.assert_allclose(np.nansum(values, axis=-1), 1, rtol=1e-5)


def test_generation_can_be_stored_in_other_forms(folder):
    subject, prompts = netphys.load_subject(make_model("llama")), make_stimuli("llama")
    session = netphys.record(
        subject, prompts, folder / "a.nwb", sites=["resid", "logits"],
        store=["samples", "trial.mean", "top"], top_k=3, online="moments",
        generate={"max_new_tokens": 5, "eos": list(range(0, 50, 5))}, **QUIET,
    )  # fmt: skip
    site = session.sites[0]
    trials = session.trials(site).astype(float)
    np.testing.assert_allclose(session.trials(f"{site}#trial.mean")[:, 0], trials.mean("time"),
                               rtol=1e-5, atol=1e-7)  # fmt: skip
    saw = session.online(f"{site}#moments")
    np.testing.assert_allclose(saw["mean"], session[site].astype(float).mean("sample"), atol=1e-6)


def test_texts_keep_their_columns_and_context(tmp_path):
    subject = make_reader()
    table = pd.DataFrame({"text": ["b c", "a"], "context": ["a", ""], "word_onsets": ["1 2", "0"]})
    session = netphys.record(
        subject, netphys.load_stimuli(table), tmp_path / "a.nwb", sites="resid",
        generate={"max_new_tokens": 3, "greedy": True, "eos": []}, **QUIET,
    )  # fmt: skip
    samples = session.samples("token")
    first = samples[samples["trial"] == 0]
    assert list(first["phase"]) == ["prefill"] * 2 + ["decode"] * 2
    assert list(first["position"]) == [1, 2, 3, 4]
    assert list(first["word"]) == [0, 1, -1, -1] and list(first["char_begin"][:2]) == [0, 2]
    assert list(first["onset"][:2]) == [1, 2] and first["onset"][2:].isna().all()
    trial = session.trial_table.set_index("stimulus_index").loc[0]
    ids = [int(i) for i in trial["generated_token_ids"].split()]
    assert trial["generated_text"] == subject.tokenizer.decode(ids)
    assert list(first["token_id"][2:]) == ids[:2] and trial["n_prompt_tokens"] == 3


def make_reader() -> netphys.Subject:
    """Return a language model with a tokenizer of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    inner = Tokenizer(models.WordLevel({**words, "?": 26}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?")
    config = t.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=27, n_positions=16,
                          eos_token_id=26)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return netphys.load_subject(t.GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)


# ---------------------------------------------------------------- repeats
def test_repeats_by_sampling_differ_and_are_reproducible(folder):
    subject = netphys.load_subject(make_model("gpt2"))
    repeats = make_repeats(make_stimuli("gpt2", n=3), kind="sampling", n=4, rng=0)
    options = {"generate": {"max_new_tokens": 6}, **QUIET}
    first = netphys.record(subject, repeats, folder / "a.nwb", **options)
    again = netphys.record(subject, repeats, folder / "b.nwb", **options)
    site = first.sites[-1]
    np.testing.assert_array_equal(first[site], again[site])
    assert set(first.trial_table["variability"]) == {"sampling"}
    check_repeats(first.trials(site))
    prefill = first[site][first[site]["phase"].values == "prefill"]
    shown = [prefill[prefill["trial"].values == i].values for i in range(4)]
    assert all(np.array_equal(shown[0], s) for s in shown)  # the prompt itself is answered alike
    other = netphys.record(
        subject, repeats, folder / "c.nwb", generate={"max_new_tokens": 6, "seed": 1}, **QUIET
    )
    tokens = "generated_token_ids"
    assert list(other.trial_table[tokens]) != list(first.trial_table[tokens])


# ---------------------------------------------------------------- interruptions
def test_an_interrupted_generation_goes_on(folder, monkeypatch):
    subject, prompts = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    options = {"generate": {"max_new_tokens": 6, "seed": 2}, "progress": False, "batch_size": 1}
    whole = netphys.record(subject, prompts, folder / "a.nwb", **options)
    real, calls, path = module.sample, [], folder / "b.nwb"

    def stop_after(n):
        def sample(*args):
            if len(calls) == n:
                raise KeyboardInterrupt
            calls.append(1)
            return real(*args)

        return sample

    monkeypatch.setattr(module, "sample", stop_after(3))
    with pytest.raises(KeyboardInterrupt):  # while tokens are sampled
        netphys.record(subject, prompts, path, **options)
    log = find_log(path)
    assert log.exists() and not path.exists()
    with open(log, "a") as file:
        file.write('["6", {"tokens": [[1, 2')  # a line that was cut short
    monkeypatch.setattr(module, "sample", stop_after(-1))
    netphys.record(subject, prompts, path, **options)
    assert len(calls) == 7 and not log.exists()  # none twice
    offset, n = load_header(path).commit
    with open(path, "r+b") as file:  # while they are recorded
        file.seek(load_header(path).mutable[0][0])
        file.write(bytes(64))
        for lost in (0, n - 1):
            file.seek(offset + lost)
            file.write(b"\0")
    again = netphys.record(subject, prompts, path, resume=True, **options)
    assert len(calls) == 7  # tokens came from the file
    for site in whole.sites:
        np.testing.assert_array_equal(whole[site], again[site])
    changed = {**options, "generate": {"max_new_tokens": 5, "seed": 2}}
    with pytest.raises(ValueError, match=r"cannot be resumed: generate options was .* is now "):
        netphys.record(subject, prompts, path, resume=True, **changed)
    with pytest.raises(ValueError, match="generate prompts_sha256 was"):
        netphys.record(subject, make_stimuli("gpt2", n=6), path, resume=True, **options)


def test_a_log_of_other_settings_is_not_used(folder, monkeypatch):
    subject, prompts = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    path, options = folder / "a.nwb", {"max_new_tokens": 4}
    find_log(path).write_text('{"options": "others"}\n["0", {"tokens": 3}]\n')
    session = netphys.record(subject, prompts, path, generate=options, **QUIET)
    assert session.complete and not find_log(path).exists()


def test_a_device_that_does_not_repeat_itself_is_found_out(folder, monkeypatch):
    subject, real = netphys.load_subject(make_model("gpt2")), module.sample

    def sample(*args):
        import dataclasses

        return dataclasses.replace(real(*args), digest="other")

    monkeypatch.setattr(module, "sample", sample)
    with pytest.raises(RuntimeError, match="gave other logits than those that they were drawn"):
        netphys.record(subject, make_stimuli("gpt2"), folder / "a.nwb",
                       generate={"max_new_tokens": 3}, **QUIET)  # fmt: skip
    assert not any(m._forward_hooks for m in subject.model.modules())


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (32, TypeError, "generate=32 is an int"),
        ({}, ValueError, "generate needs 'max_new_tokens'"),
        ({"max_tokens": 3}, ValueError, "generate: 'max_tokens' is unknown. Did you mean"),
        ({"max_new_tokens": 0}, ValueError, "generate: max_new_tokens=0 is too small"),
        ({"temperature": 0}, ValueError, "temperature=0 must be above 0. For the likeliest"),
        ({"temperature": "hot"}, TypeError, "temperature='hot' is a str"),
        ({"top_p": 1.5}, ValueError, "generate: top_p=1.5 must be above 0 and at most 1"),
        ({"top_k": 0}, ValueError, "generate: top_k=0 is too small"),
        ({"seed": "a"}, TypeError, "generate: seed='a' is a str"),
        ({"eos": ["a"]}, TypeError, "generate: eos='a' is a str"),
        ({"greedy": 1}, TypeError, "generate: greedy=1 is an int"),
        ({"greedy": True, "top_k": 3}, ValueError, "top_k and top_p do nothing"),
    ],
)
def test_generate_options_are_checked(options, kind, message, gpt2, folder):
    if isinstance(options, dict) and options and "max_tokens" not in options:
        options = {"max_new_tokens": 3, **options}
    with pytest.raises(kind, match=re.escape(message)):
        netphys.record(gpt2, make_stimuli("gpt2"), folder / "a.nwb", generate=options)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("bert", "does not generate (an encoder, or a model without a language head)"),
        ("vit", "is no language model of transformers"),
        ("mamba", "keeps no cache of keys and values"),
        ("t5", "does not generate"),
        ("lstm", "is no language model of transformers"),
        ("whisper", "is no language model of transformers"),
    ],
)
def test_subjects_that_do_not_generate_are_refused(family, message, folder):
    subject = netphys.load_subject(make_model(family))
    sites = "read" if family == "lstm" else "resid"
    with pytest.raises(ValueError, match=re.escape(message)):
        netphys.record(subject, make_stimuli(family), folder / "a.nwb", sites=sites,
                       generate={"max_new_tokens": 3}, **QUIET)  # fmt: skip
    assert not list(folder.iterdir())


def test_generation_refuses_what_does_not_go_together(gpt2, folder):
    prompts, path, options = make_stimuli("gpt2"), folder / "a.nwb", {"max_new_tokens": 3}

    def refuse(message, kind=ValueError, shown=prompts, subject=gpt2, **more):
        with pytest.raises(kind, match=message):
            netphys.record(subject, shown, path, **{**QUIET, "generate": options, **more})

    longest = {"max_new_tokens": 30}  # of 32 positions
    refuse(r"has 6 tokens; with max_new_tokens=30 .* takes prompts of at most 2", generate=longest)
    refuse("generate= does not go with compile=", compile=True)
    refuse("generate= does not go with repeats by dropout",
           shown=make_repeats(prompts, kind="dropout", n=2))  # fmt: skip
    sampled = make_repeats(prompts, kind="sampling", n=2)
    refuse("variability 'sampling' needs generate= without 'greedy'", shown=sampled, generate=None)
    refuse("needs generate= without 'greedy'", shown=sampled, generate={**options, "greedy": True})
    taken = netphys.load_stimuli(prompts.table.assign(stop_reason="x"))
    refuse("stimuli has a column 'stop_reason', which generation uses", shown=taken)
    refuse("while tokens are generated one batch of all sites is kept", kind=MemoryError,
           max_memory=1_000)  # fmt: skip
    assert find_log(path).exists()  # what was sampled is kept for the next try
    encoder = t.BertLMHeadModel(make_model("bert").config)
    refuse("gives no cache of keys and values", subject=netphys.load_subject(encoder))
    assert not list(folder.iterdir())
