"""A recording equals a plain forward pass on the same batches, bit for bit."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ARCHITECTURES, FIRST, MORE, make_model, make_stimuli, make_subject

import netphys
from netphys.recording import opening
from netphys.recording.present import present

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LATER = [family for family in ARCHITECTURES if family not in FIRST]


def slow(value):
    """Return a parameter whose tests run on request only."""
    return pytest.param(value, marks=pytest.mark.slow)


def pick_value(side, output):
    """Return what of a module's output a site means."""
    if side == "logits":
        return output.logits
    if side == "experts":
        logits, weights, chosen = output
        value = torch.zeros(logits.shape, dtype=weights.dtype, device=weights.device)
        for token in range(len(value)):
            for rank in range(chosen.shape[1]):
                value[token, chosen[token, rank]] = weights[token, rank]
        return value
    parts = output if isinstance(output, tuple) else (output,)
    found = [p for p in parts if torch.is_tensor(p) and (side != "pattern" or p.ndim == 4)]
    return found[-1] if side == "pattern" else found[0]


def run_plain(model, subject, stimuli, session, name):
    """Return what a site gives in plain forward passes on the session's batches, by sample."""
    path, _, side = name.partition("@")
    module, caught, parts = dict(model.named_modules())[path], [], []
    time_first = isinstance(module, torch.nn.RNNBase) and not module.batch_first
    over_time = session.site_table.loc[name, "clock"] in ("token", "frame")

    def out(module, inputs, output):
        caught.append(pick_value(side, output).clone())

    def before(module, inputs, keywords):
        caught.append(next(v for v in (*inputs, *keywords.values()) if torch.is_tensor(v)).clone())

    if side == "in":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(out)
    presentation = present(subject, stimuli)
    if any(site.endswith("@pattern") for site in session.sites):
        model.set_attn_implementation("eager")
    with torch.inference_mode():
        for _, rows in session.trial_table.groupby("batch"):
            args, kwargs = presentation.make_inputs(rows["stimulus_index"].tolist())
            model(*args, **kwargs)
            value = caught.pop()
            assert not caught
            value = value.transpose(0, 1) if time_first else value
            value = value.transpose(1, 2) if isinstance(module, torch.nn.Conv1d) else value
            if side == "pattern" and over_time:
                keys = int(presentation.n_shown.max())
                value = torch.nn.functional.pad(
                    value.transpose(1, 2), (0, keys - value.shape[-1]), value=float("nan")
                )
            n_positions = int(presentation.n_shown[rows["stimulus_index"].iloc[0]])
            n = len(rows) * (n_positions if over_time else 1)
            parts.append(value.reshape(n, -1))
    handle.remove()
    return torch.cat(parts)


@pytest.mark.parametrize("family", [*ARCHITECTURES, *map(slow, MORE)])
def test_record_equals_plain_forward_for_every_kind(family, tmp_path):
    model = make_model(family, layers=2 if family in FIRST else 1)
    subject, stimuli = make_subject(family, model), make_stimuli(family)
    kinds = list(dict.fromkeys(subject.sites()["kind"]))
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=kinds, batch_size=3, progress=False
    )
    assert session.complete
    plain = copy.deepcopy(model)
    for name in session.sites:
        expected = run_plain(plain, subject, stimuli, session, name).numpy()
        np.testing.assert_array_equal(session[name].to_numpy(), expected)
        assert session.site_table.loc[name, "dtype"] == "float32"
    if family not in (*FIRST, "qwen2_moe", "clip", "wav2vec2", "cnn"):
        session.path.unlink()  # to other readers the file of another text model, checked above


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", [*FIRST, *map(slow, LATER)])
def test_record_keeps_the_native_type_of_a_half_precision_model(family, dtype, tmp_path):
    model = make_model(family).to(DTYPES[dtype])
    subject, stimuli = make_subject(family, model), make_stimuli(family)
    kinds = [k for k in dict.fromkeys(subject.sites()["kind"]) if k != "pattern"]
    if family in FIRST:
        kinds = [k for k in kinds if k in ("embed", "resid", "head", "mlp", "conv")]
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=kinds, batch_size=3, progress=False
    )
    for name in session.sites:
        expected = run_plain(model, subject, stimuli, session, name)
        assert session.site_table.loc[name, "dtype"] == str(expected.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(session[name].to_numpy(), expected.float().numpy())
    wide = {"mamba": "resid", "mixtral": "experts"}.get(family)  # float32 in the model itself
    rows = session.site_table.query("kind != @wide")
    assert set(rows["dtype"]) == {dtype} and (wide is None or len(rows) < len(session.sites))


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("family", [*FIRST, *map(slow, LATER)])
def test_record_casts_on_request(family, dtype, tmp_path):
    model = make_model(family)
    subject, stimuli = make_subject(family, model), make_stimuli(family)
    kind = "conv" if family == "cnn" else "resid"
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=kind, dtype=dtype, progress=False
    )
    for name in session.sites:
        assert session.site_table.loc[name, "dtype"] == dtype
        expected = run_plain(model, subject, stimuli, session, name).to(DTYPES[dtype])
        np.testing.assert_array_equal(session[name].to_numpy(), expected.float().numpy())


def test_record_counts_overflow_of_float16(tmp_path):
    module = torch.nn.Sequential(torch.nn.Identity())
    stimuli = netphys.load_stimuli(arrays=np.array([[1.0, 7e4], [-7e4, 65504.0]], np.float32))
    session = netphys.record(
        netphys.load_subject(module), stimuli, tmp_path / "a.nwb", sites="0", dtype="float16"
    )
    assert session.counts.loc["0"].to_dict() == {"nonfinite": 0, "overflow": 2}
    np.testing.assert_array_equal(session["0"], [[1, np.inf], [-np.inf, 65504]])
    assert "2 overflow values" in session.summary()


def test_record_refuses_values_that_are_not_finite_and_keeps_earlier_batches(tmp_path):
    class Divide(torch.nn.Module):
        def forward(self, x):
            return 1 / x

    subject = netphys.load_subject(torch.nn.Sequential(Divide()))
    stimuli = netphys.load_stimuli(arrays=np.array([[1.0], [2.0], [0.0]], np.float32))
    options = {"sites": "0", "batch_size": 1, "progress": False}
    with pytest.raises(ValueError, match=r"site='0' gave 1 NaN or infinite values for stimuli s3"):
        netphys.record(subject, stimuli, tmp_path / "a.nwb", **options)
    session = netphys.open_session(tmp_path / "a.nwb")
    assert session.commits.tolist() == [True, True, False]
    assert session["0"].to_numpy().ravel().tolist() == [1.0, 0.5]
    assert session.trials("0").sizes["trial"] == 2
    kept = netphys.record(subject, stimuli, tmp_path / "b.nwb", nonfinite="keep", **options)
    assert kept.counts.loc["0", "nonfinite"] == 1


def test_record_leaves_the_model_as_found_also_after_an_error(tmp_path, tokens):
    model = make_model("gpt2").train()
    model.transformer.h[0].eval()  # a mixed state must come back as it was
    model.transformer.wpe.weight.requires_grad_(False)
    calls = []
    own = model.transformer.h[1].register_forward_hook(lambda *a: calls.append(1))
    before = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
    ]
    grads = [p.requires_grad for p in model.parameters()]
    subject = netphys.load_subject(model)
    netphys.record(subject, tokens, tmp_path / "a.nwb", sites=["resid", "pattern"], progress=False)

    def fail(*args):
        raise RuntimeError("inside the model")

    broken = model.transformer.ln_f.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="inside the model"):
        netphys.record(subject, tokens, tmp_path / "b.nwb", sites=["resid", "pattern"])
    broken.remove()
    after = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
    ]
    assert after == before
    assert [p.requires_grad for p in model.parameters()] == grads
    assert model.config._attn_implementation == "sdpa"
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert calls
    own.remove()


def test_record_stores_no_padding_and_the_batch_plan(tmp_path, gpt2, tokens):
    session = netphys.record(gpt2, tokens, tmp_path / "a.nwb", batch_size=2, progress=False)
    lengths = [len(ids.split()) for ids in tokens.table["token_ids"]]
    table = session.trial_table
    assert session["transformer.h.0"].sizes["sample"] == sum(lengths)
    assert table["n_samples_token"].tolist() == [lengths[i] for i in table["stimulus_index"]]
    for _, rows in table.groupby("batch"):
        assert len(rows) <= 2 and rows["n_samples_token"].nunique() == 1
    np.testing.assert_allclose(
        table["stop_time"] - table["start_time"], table["n_samples_token"] - 0.5
    )


def test_record_keeps_trials_aligned_with_their_stimuli(tmp_path, gpt2, tokens):
    session = netphys.record(gpt2, tokens, tmp_path / "a.nwb", sites="embed", progress=False)
    data = session.trials("embed")
    assert data["stimulus_id"].to_numpy().tolist() == tokens.table["stimulus_id"].tolist()
    assert data["condition"].to_numpy().tolist() == tokens.table["condition"].tolist()
    for i, ids in enumerate(tokens.table["token_ids"]):
        ids = torch.tensor([[int(t) for t in ids.split()]])
        with torch.inference_mode():
            wte = gpt2.model.transformer.wte(ids) + gpt2.model.transformer.wpe(
                torch.arange(ids.shape[1])
            )
        n = ids.shape[1]
        np.testing.assert_array_equal(data[i, :n], wte[0])
        assert np.isnan(data[i, n:]).all()


def test_record_of_frames_follows_their_clock(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 3, 5)]
    stimuli = netphys.load_stimuli(arrays=frames, kind="frames", rate=50.0)
    session = netphys.record(netphys.load_subject(module), stimuli, tmp_path / "a.nwb", sites="*")
    assert session.trial_table["start_time"].tolist() == [0.0, 0.1, 0.2]
    assert session.trial_table["stimulus_index"].tolist() == [0, 2, 1]
    with torch.inference_mode():
        np.testing.assert_allclose(
            session.trials("1")[1, :3], module(torch.from_numpy(frames[1])), rtol=1e-6
        )


def test_record_gives_one_value_per_trial_its_own_clock(tmp_path):
    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, ids):
            return self.head(self.embed(ids).mean(1))

    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3", "4 5", "6 7 8"]}))
    subject = netphys.load_subject(Pooled())
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites=["embed", "head"])
    assert session.site_table["clock"].to_dict() == {"embed": "token", "head": "item"}
    assert session.trials("head").shape == (3, 1, 2)


def test_record_uses_an_input_function(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(1, 2))
    subject = netphys.load_subject(
        module, input_fn=lambda texts: torch.tensor([[float(len(t))] for t in texts])
    )
    session = netphys.record(
        subject, netphys.load_stimuli(["ab", "abcd"]), tmp_path / "a.nwb", sites="0", progress=False
    )
    with torch.inference_mode():
        np.testing.assert_array_equal(session["0"], module(torch.tensor([[2.0], [4.0]])))


def test_record_refuses_an_existing_file_unless_told(tmp_path, gpt2, tokens):
    first = netphys.record(gpt2, tokens, tmp_path / "a.nwb", progress=False)
    before = first.path.read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.nwb' exists\. Choose another path, go on with"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb")
    assert first.path.read_bytes() == before
    again = netphys.record(gpt2, tokens, tmp_path / "a.nwb", resume=True)
    assert again.path.read_bytes() == before
    netphys.record(gpt2, tokens, tmp_path / "a.nwb", sites="mlp", overwrite=True, progress=False)
    assert "mlp" in set(netphys.open_session(tmp_path / "a.nwb").site_table["kind"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nwb"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, r"plan\.batch_size was 2 and is now 3"),
        ({"sites": "mlp"}, r"sites was \["),
        ({"dtype": "float16"}, r'dtype was "native" and is now "float16"'),
    ],
)
def test_record_refuses_to_resume_another_recording(change, message, tmp_path, gpt2, tokens):
    netphys.record(gpt2, tokens, tmp_path / "a.nwb", batch_size=2, progress=False)
    options = {"batch_size": 2} | change
    with pytest.raises(ValueError, match=message):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", resume=True, **options)


def test_record_refuses_to_resume_other_weights_or_stimuli(tmp_path, gpt2, tokens):
    netphys.record(gpt2, tokens, tmp_path / "a.nwb", progress=False)
    twin = netphys.load_subject(gpt2.model, init="shuffled")
    with pytest.raises(ValueError, match=r"subject\.init was"):
        netphys.record(twin, tokens, tmp_path / "a.nwb", resume=True)
    with pytest.raises(ValueError, match=r"stimuli\.n was 7 and is now 6|stimuli\.sha256 was"):
        netphys.record(gpt2, make_stimuli("gpt2", n=6), tmp_path / "a.nwb", resume=True)


def test_record_after_an_interruption_gives_the_same_bytes(tmp_path, gpt2, tokens, monkeypatch):
    whole = netphys.record(gpt2, tokens, tmp_path / "whole.nwb", batch_size=1, progress=False)
    calls = iter(range(100))

    def interrupt(module, args):
        if next(calls) == 5:  # two are probe passes
            raise KeyboardInterrupt

    handle = gpt2.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", batch_size=1, progress=False)
    handle.remove()
    cut = netphys.open_session(tmp_path / "a.nwb")
    assert cut.commits.sum() == 3 and "3 of 7 batches, unfinished" in cut.summary()
    done = netphys.record(
        gpt2, tokens, tmp_path / "a.nwb", batch_size=1, resume=True, progress=False
    )
    assert done.complete
    for name in whole.sites:
        assert done[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()


def test_record_refuses_when_another_process_writes(tmp_path, gpt2, tokens):
    from netphys.data._files import FileLock

    with FileLock(tmp_path / "a.nwb"), pytest.raises(BlockingIOError, match="another process"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


def test_record_refuses_a_full_disk_before_it_starts(tmp_path, gpt2, tokens, monkeypatch):
    usage = opening.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(opening.shutil, "disk_usage", lambda p: usage._replace(free=10))
    with pytest.raises(OSError, match=r"the recording takes .* MB, the disk has 0\.0 MB"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


def test_record_explains_a_read_only_folder(tmp_path, gpt2, tokens, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(opening, "save_structure", refuse)
    with pytest.raises(OSError, match=r"a\.nwb': the file system is read-only"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sites": "residd"}, ValueError, r"'residd' names no module.*Did you mean 'resid'"),
        ({"sites": "transformer.h.0.mpl"}, ValueError, r"Did you mean 'transformer\.h\.0\.mlp'"),
        ({"sites": "conv"}, ValueError, "the kind 'conv' is not known for this model"),
        ({"sites": []}, ValueError, r"sites=\[\] names nothing"),
        ({"sites": [3]}, TypeError, "sites=3 is an int"),
        ({"sites": "lm_head@out"}, ValueError, "ends in @out"),
        ({"dtype": "float8"}, ValueError, "dtype='float8' is unknown"),
        ({"nonfinite": "drop"}, ValueError, "nonfinite='drop' is unknown"),
        ({"batch_size": 0}, ValueError, "batch_size=0 is too small"),
        ({"batch_size": 2.0}, TypeError, r"batch_size=2\.0 is a float"),
        ({"resume": True, "overwrite": True}, ValueError, "exclude each other"),
        ({"sites": "transformer.h"}, RuntimeError, "gave nothing in a forward pass"),
        ({"sites": "transformer.h.0.ln_1@pattern"}, RuntimeError, "no attention weights"),
    ],
)
def test_record_refuses_bad_options(options, error, message, tmp_path, gpt2, tokens):
    with pytest.raises(error, match=message):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", **options)
    assert list(tmp_path.iterdir()) == []


def test_record_refuses_what_a_subject_cannot_take(tmp_path, gpt2):
    with pytest.raises(ValueError, match=r"kind 'image' do not fit .* which takes text or tokens"):
        netphys.record(gpt2, make_stimuli("vit"), tmp_path / "a.nwb")
    with pytest.raises(ValueError, match="has no tokenizer"):
        netphys.record(gpt2, netphys.load_stimuli(["a b"]), tmp_path / "a.nwb")
    long = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 " * 33]}))
    with pytest.raises(ValueError, match=r"has 33 tokens with its context; .* takes at most 32"):
        netphys.record(gpt2, long, tmp_path / "a.nwb")
    unknown = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 99"]}))
    with pytest.raises(ValueError, match=r"token id 99 is unknown .* Allowed: 0 to 49"):
        netphys.record(gpt2, unknown, tmp_path / "a.nwb")


def test_record_refuses_module_names_that_nwb_cannot_hold(tmp_path):
    module = torch.nn.Sequential()
    module.add_module("a:b", torch.nn.Linear(2, 2))
    stimuli = netphys.load_stimuli(arrays=np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"site='a:b' cannot name an NWB object"):
        netphys.record(netphys.load_subject(module), stimuli, tmp_path / "a.nwb", sites="a:b")


def test_record_refuses_a_module_that_runs_twice(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.inner(self.inner(x))

    stimuli = netphys.load_stimuli(arrays=np.ones((2, 2), np.float32))
    with pytest.raises(RuntimeError, match=r"site='inner' ran 2 times in one forward pass"):
        netphys.record(netphys.load_subject(Twice()), stimuli, tmp_path / "a.nwb", sites="inner")


def interrupt_after(model, n):
    """Make the n-th forward pass of a model raise; return the hook."""
    calls = iter(range(1000))

    def stop(*args):
        if next(calls) == n:
            raise KeyboardInterrupt

    return model.register_forward_pre_hook(stop)


def test_record_refuses_to_resume_with_another_input_function(tmp_path):
    module, stimuli = torch.nn.Sequential(torch.nn.Linear(1, 2)), netphys.load_stimuli(list("abcd"))

    def make(scale):
        return netphys.load_subject(
            module, input_fn=lambda texts: torch.tensor([[scale * ord(t)] for t in texts])
        )

    handle = interrupt_after(module, 3)
    options = {"sites": "0", "batch_size": 1, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        netphys.record(make(1.0), stimuli, tmp_path / "a.nwb", **options)
    handle.remove()
    with pytest.raises(ValueError, match=r"presentation\.first_batch_sha256 was"):
        netphys.record(make(9.0), stimuli, tmp_path / "a.nwb", resume=True, **options)
    assert netphys.record(make(1.0), stimuli, tmp_path / "a.nwb", resume=True, **options).complete


def test_record_refuses_to_resume_with_another_tokenizer(tmp_path):
    import tokenizers
    import transformers

    def make(words):
        vocabulary = {w: i for i, w in enumerate(["[UNK]", *words])}
        model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
        raw = tokenizers.Tokenizer(model)
        raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=raw)
        return netphys.load_subject(make_model("gpt2"), tokenizer=fast)

    stimuli = netphys.load_stimuli(["a b", "b a"])
    netphys.record(make("ab"), stimuli, tmp_path / "a.nwb", progress=False)
    before = (tmp_path / "a.nwb").read_bytes()
    with pytest.raises(ValueError, match=r"presentation\.(first_batch_)?sha256 was"):
        netphys.record(make("ba"), stimuli, tmp_path / "a.nwb", resume=True)
    assert (tmp_path / "a.nwb").read_bytes() == before


@pytest.mark.damaged_files
def test_overwrite_replaces_sessions_only(tmp_path, gpt2, tokens):
    other = tmp_path / "thesis.nwb"
    other.write_text("years of work")
    with pytest.raises(FileExistsError, match="is no netphys session and is not overwritten"):
        netphys.record(gpt2, tokens, other, overwrite=True)
    assert other.read_text() == "years of work"


@pytest.mark.parametrize("lengths", [(8,) * 8, (8,) * 8 + (5,) * 4])
def test_record_refuses_time_first_values_also_where_sizes_coincide(lengths, tmp_path):
    class TimeFirst(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(3, 4)

        def forward(self, x):
            return self.inner(x.transpose(0, 1)).transpose(0, 1)

    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]
    stimuli = netphys.load_stimuli(arrays=frames, kind="frames")
    with pytest.raises(RuntimeError, match=r"do not follow the stimuli"):
        netphys.record(
            netphys.load_subject(TimeFirst()), stimuli, tmp_path / "a.nwb", sites="inner"
        )
    assert list(tmp_path.iterdir()) == []


def test_record_refuses_images_whose_maps_differ_in_shape(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2))
    images = [np.zeros((3, 11, 21), np.float32), np.zeros((3, 21, 11), np.float32)]
    stimuli = netphys.load_stimuli(arrays=images, kind="image")
    with pytest.raises(RuntimeError, match="or these differ in shape"):
        netphys.record(netphys.load_subject(module), stimuli, tmp_path / "a.nwb", sites="conv")


def test_record_reports_an_error_that_the_model_swallows(tmp_path):
    class Forgiving(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Identity()

        def forward(self, x):
            try:
                return self.inner(1 / x)
            except ValueError:
                return x

    stimuli = netphys.load_stimuli(arrays=np.array([[1.0], [0.0]], np.float32))
    options = {"sites": "inner", "batch_size": 1, "progress": False}
    with pytest.raises(ValueError, match="NaN or infinite"):
        netphys.record(netphys.load_subject(Forgiving()), stimuli, tmp_path / "a.nwb", **options)
    assert netphys.open_session(tmp_path / "a.nwb").commits.tolist() == [True, False]


def test_record_takes_keyword_inputs_in_the_order_of_the_signature(tmp_path):
    class Inner(torch.nn.Module):
        def forward(self, hidden, mask):
            return hidden * mask

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(mask=torch.zeros_like(x), hidden=x)

    stimuli = netphys.load_stimuli(arrays=np.array([[1.0], [2.0]], np.float32))
    session = netphys.record(
        netphys.load_subject(Outer()), stimuli, tmp_path / "a.nwb", sites="inner@in", progress=False
    )
    assert session["inner@in"].to_numpy().ravel().tolist() == [1.0, 2.0]


def test_record_calls_a_module_of_your_own_config_its_own_way(tmp_path):
    class Mini(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"width": 4}
            self.embed = torch.nn.Embedding(10, 4)

        def forward(self, idx):
            return self.embed(idx)

    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": [[1, 2], [3, 4]]}))
    session = netphys.record(
        netphys.load_subject(Mini()), stimuli, tmp_path / "a.nwb", sites="embed", progress=False
    )
    assert session["embed"].shape == (4, 4)


def test_record_passes_on_what_an_input_function_raises(tmp_path):
    def fail(items):
        raise FileNotFoundError("my file")

    subject = netphys.load_subject(torch.nn.Sequential(torch.nn.Linear(1, 1)), input_fn=fail)
    with pytest.raises(FileNotFoundError, match=r"^my file$"):
        netphys.record(subject, netphys.load_stimuli(["a"]), tmp_path / "a.nwb", sites="*")
