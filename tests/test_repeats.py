"""Repeats that differ for a stated reason: how they are made, recorded, and checked."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as t
import xarray as xr
from conftest import make_model, make_stimuli

import netphys
from netphys.data.nwb_header import load_header
from netphys.data.repeats import check_repeats, make_repeats
from netphys.recording.present import present
from netphys.recording.variability import find_dropout, join_seeds

TEXTS = ["The cat sat.", "A dog ran.", "It rains.", "Nobody came."]
DROP = {"gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop")}


@pytest.fixture
def texts():
    return netphys.load_stimuli(pd.DataFrame({"text": TEXTS, "length": [3, 3, 2, 2]}))


# ---------------------------------------------------------------- contexts
def test_contexts_are_drawn_from_the_other_texts(texts):
    made = make_repeats(texts, kind="context", n=3, rng=0)
    table = made.table
    assert list(table["stimulus_id"][:4]) == ["s1.r0", "s1.r1", "s1.r2", "s2.r0"]
    assert list(table["repeat_of"]) == [s for s in ("s1", "s2", "s3", "s4") for _ in range(3)]
    assert list(table["repeat"]) == [0, 1, 2] * 4 and set(table["variability"]) == {"context"}
    assert list(table["condition"]) == list(table["repeat_of"])
    assert list(table["text"]) == [x for x in TEXTS for _ in range(3)]
    assert list(table["length"]) == [3] * 6 + [2] * 6
    for _, group in table.groupby("repeat_of"):
        assert set(group["context"]) == set(TEXTS) - set(group["text"])
    assert made.name == "table: 3 repeats, context, rng 0"
    again = make_repeats(texts, kind="context", n=3, rng=0)
    assert made.compute_hash() == again.compute_hash()
    assert made.compute_hash() != make_repeats(texts, kind="context", n=3, rng=1).compute_hash()


def test_contexts_can_be_given(texts):
    pool = ["One.", "Two.", "Three.", "It rains."]
    made = make_repeats(texts, kind="context", n=3, rng=0, contexts=pool).table
    assert set(made["context"][6:9]) == {"One.", "Two.", "Three."}  # not the text itself
    ids = [s for s in ("s2", "s1", "s3", "s4") for _ in range(3)]
    given = pd.DataFrame({"stimulus_id": ids, "context": [f"c{i}" for i in range(12)]})
    made = make_repeats(texts, kind="context", n=2, contexts=given).table
    assert list(made["context"]) == ["c3", "c4", "c0", "c1", "c6", "c7", "c9", "c10"]


def test_repeats_keep_a_condition_and_store_a_drawn_seed(texts):
    table = texts.table.assign(condition=["a", "a", "b", "b"])
    made = make_repeats(netphys.load_stimuli(table), kind="context", n=2)
    assert list(made.table["condition"]) == ["a"] * 4 + ["b"] * 4
    seed = int(re.fullmatch(r"table: 2 repeats, context, rng (\d+)", made.name)[1])
    again = make_repeats(netphys.load_stimuli(table), kind="context", n=2, rng=seed)
    assert made.compute_hash() == again.compute_hash()
    rng = np.random.default_rng(seed)
    given = make_repeats(netphys.load_stimuli(table), kind="context", n=2, rng=rng)
    assert given.name.endswith("rng given") and given.compute_hash() == made.compute_hash()


# ---------------------------------------------------------------- paraphrases
def test_paraphrases_come_from_a_table(texts, tmp_path):
    given = pd.DataFrame(
        {
            "stimulus_id": ["s1", "s2", "s3", "s4"] * 2,
            "text": [f"p{i}" for i in range(8)],
            "word_spans": ["0:2"] * 8,
        }
    )
    table = texts.table.assign(word_spans="0:3", word_onsets="0.5")
    made = make_repeats(netphys.load_stimuli(table), kind="paraphrase", n=2, paraphrases=given)
    assert list(made.table["text"]) == ["p0", "p4", "p1", "p5", "p2", "p6", "p3", "p7"]
    assert set(made.table["word_spans"]) == {"0:2"} and "word_onsets" not in made.table
    path = tmp_path / "p.tsv"
    given.to_csv(path, sep="\t", index=False)
    again = make_repeats(netphys.load_stimuli(table), kind="paraphrase", n=2, paraphrases=path)
    assert again.compute_hash() == made.compute_hash()


# ---------------------------------------------------------------- augmentation
def test_augmentation_shifts_by_what_it_states():
    image = np.arange(2 * 5 * 4, dtype=np.float32).reshape(1, 8, 5)
    stimuli = netphys.load_stimuli(arrays=[image], kind="image")
    made = make_repeats(stimuli, kind="augmentation", n=20, rng=0, shift=2)
    down, right = made.table["augment_shift_y"], made.table["augment_shift_x"]
    assert set(down) == set(right) == {-2, -1, 0, 1, 2}
    for row in range(20):
        dy, dx = down[row], right[row]
        for y in range(8):
            for x in range(5):
                source = image[0, min(max(y - dy, 0), 7), min(max(x - dx, 0), 4)]
                assert made.item(row)[0, y, x] == source
        assert made.item(row).dtype == np.float32


def test_augmentation_crops_a_window_by_interpolation():
    image = (3.0 * np.arange(6)[:, None] + np.arange(5))[..., None].repeat(3, axis=2)
    stimuli = netphys.load_stimuli(arrays=[image], kind="image")
    made = make_repeats(stimuli, kind="augmentation", n=30, rng=0, crop=0.4)
    part = made.table["augment_crop"].to_numpy()
    assert (part > 0).all() and part.max() < 0.4 and part.std() > 0.05
    for row, p in enumerate(part):  # a plane stays a plane, its slopes shrink by the window
        values = made.item(row)[..., 0]
        np.testing.assert_allclose(np.diff(values, axis=0), 3 * (1 - p))
        np.testing.assert_allclose(np.diff(values, axis=1), 1 - p)
        assert values.min() >= 0 and values.max() <= image.max()


def test_augmentation_changes_brightness_and_adds_noise():
    image = np.full((40, 40, 3), 100, np.uint8)
    stimuli = netphys.load_stimuli(arrays=[image, image], kind="image")
    made = make_repeats(stimuli, kind="augmentation", n=20, rng=0, brightness=0.3, noise=5)
    factors = made.table["augment_brightness"]
    assert factors.between(0.7, 1.3).all() and set(made.table["augment_noise"]) == {5.0}
    for row, factor in enumerate(factors):
        values = made.item(row).astype(float)
        assert made.item(row).dtype == np.uint8
        assert abs(values.mean() - 100 * factor) < 0.5 and abs(values.std() - 5) < 0.3
    white = netphys.load_stimuli(arrays=[np.full((9, 9, 3), 255, np.uint8)], kind="image")
    made = make_repeats(white, kind="augmentation", n=2, rng=0, noise=20)
    assert made.item(0).max() == 255 and made.item(0).min() > 150  # clipped, not wrapped


def test_augmentation_of_arrays_frames_and_files(tmp_path):
    arrays = [np.zeros(500), np.ones(500)]
    made = make_repeats(
        netphys.load_stimuli(arrays=arrays), kind="augmentation", n=3, rng=0, noise=0.5
    )
    values = np.stack([made.item(i) for i in range(6)])
    np.testing.assert_allclose(values.std(axis=1), 0.5, atol=0.06)
    np.testing.assert_allclose(values.mean(axis=1), [0, 0, 0, 1, 1, 1], atol=0.08)
    assert len({v.tobytes() for v in values}) == 6
    frames = netphys.load_stimuli(arrays=np.zeros((2, 4, 3)), kind="frames", rate=25.0)
    made = make_repeats(frames, kind="augmentation", n=2, rng=0, noise=1)
    assert made.rate == 25.0 and made.kind == "frames" and made.item(3).shape == (4, 3)
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.float32))
    (tmp_path / "s.tsv").write_text("stimulus_id\tstim_file\na\ta.npy\n")
    files = netphys.load_stimuli(tmp_path / "s.tsv")
    made = make_repeats(files, kind="augmentation", n=2, rng=0, shift=1, noise=1)
    assert made.item(1).shape == (3, 8, 8)
    seeded = make_repeats(files, kind="dropout", n=2, rng=0)
    assert seeded.item(1) == tmp_path / "a.npy"


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "seed"}, "kind='seed' is unknown"),
        ({"n": 1}, "n=1 makes no repeats"),
        ({"n": 4}, "n=4 needs as many contexts; for stimulus 's1' there are 3"),
        ({"rng": -1}, "rng=-1 is negative"),
        ({"noise": 1.0}, "noise= is for kind='augmentation', not 'context'"),
        ({"kind": "dropout", "contexts": ["a"]}, "contexts= is for kind='context'"),
        ({"kind": "paraphrase"}, "kind='paraphrase' needs paraphrases="),
        ({"kind": "augmentation", "noise": 1.0}, "kind='augmentation' is for images and arrays"),
    ],
)
def test_make_repeats_refuses(texts, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_repeats(texts, **{"kind": "context", "n": 2, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "kind='augmentation' changes nothing"),
        ({"shift": -1}, "shift=-1 must be 0 pixels or more"),
        ({"crop": 1.0}, "crop=1.0 must be 0 or more and below 1"),
        ({"noise": float("nan")}, "noise=nan must be 0 or more"),
    ],
)
def test_augmentation_refuses(options, message):
    stimuli = netphys.load_stimuli(arrays=np.zeros((2, 8, 8, 3), np.uint8), kind="image")
    with pytest.raises(ValueError, match=re.escape(message)):
        make_repeats(stimuli, kind="augmentation", n=2, **options)


def test_augmentation_refuses_what_cannot_vary():
    stimuli = netphys.load_stimuli(arrays=np.zeros((2, 8)))
    with pytest.raises(ValueError, match="shift=, crop= and brightness= are for images"):
        make_repeats(stimuli, kind="augmentation", n=2, shift=1)
    stimuli = netphys.load_stimuli(arrays=np.zeros((2, 8), bool))
    with pytest.raises(TypeError, match="stimulus 's1' is boolean"):
        make_repeats(stimuli, kind="augmentation", n=2, noise=1)


def test_make_repeats_names_what_a_table_lacks(texts):
    given = pd.DataFrame({"stimulus_id": ["s1", "s1", "s2"], "text": ["a", "b", "c"]})

    def ask(table, n=2):
        make_repeats(texts, kind="paraphrase", n=n, paraphrases=table)

    with pytest.raises(ValueError, match="paraphrases has 1 rows for stimulus 's2', n=2 needs"):
        ask(given)
    with pytest.raises(ValueError, match=r"paraphrases has no column 'text' \(columns: stimu"):
        ask(given.rename(columns={"text": "words"}))
    with pytest.raises(ValueError, match="paraphrases names 's9', which is no stimulus"):
        ask(given.replace("s2", "s9"))
    with pytest.raises(ValueError, match="the same text twice for stimulus 's1'"):
        ask(given.replace("b", "a"))
    with pytest.raises(TypeError, match="Give a table or a tab-separated file"):
        ask(["a"])


def test_make_repeats_refuses_stimuli_that_do_not_fit(texts):
    repeats = make_repeats(texts, kind="dropout", n=2, rng=0)
    with pytest.raises(ValueError, match="stimuli has a column 'repeat', which repeats use"):
        make_repeats(repeats, kind="context", n=2)
    with pytest.raises(ValueError, match="kind='context' is for texts, these stimuli are of kind"):
        make_repeats(make_stimuli("gpt2"), kind="context", n=2)
    table = texts.table.assign(context=["x", "", "", ""])
    with pytest.raises(ValueError, match="stimuli have contexts already"):
        make_repeats(netphys.load_stimuli(table), kind="context", n=2)
    table = pd.DataFrame({"stimulus_id": ["a", "a"], "repetition": [1, 2], "text": ["x", "x"]})
    with pytest.raises(ValueError, match="stimuli shows 'a' more than once already"):
        make_repeats(netphys.load_stimuli(table), kind="dropout", n=2)
    with pytest.raises(TypeError, match=r"contexts\[1\]=3 is an int"):
        make_repeats(texts, kind="context", n=2, contexts=["a", 3])
    with pytest.raises(TypeError, match="Give what load_stimuli returns"):
        make_repeats(TEXTS, kind="context", n=2)


# ---------------------------------------------------------------- in a recording
def test_recorded_repeats_carry_their_columns(tmp_path, texts):
    subject = netphys.load_subject("builtin:language")
    repeats = make_repeats(texts, kind="context", n=3, rng=0)
    session = netphys.record(subject, repeats, tmp_path / "a.nwb", progress=False)
    for data in (session.pool(session.sites[0]), session.trials(session.sites[0])):
        assert data["repeat"].values.tolist() == [0, 1, 2] * 4
        assert set(data["variability"].values) == {"context"}
        check_repeats(data)
    # the text is the same, the answer to it differs by its context
    data = session.trials(session.sites[-1])
    assert len({data[i].values.tobytes() for i in range(3)}) == 3
    plain = netphys.record(subject, texts, tmp_path / "b.nwb", progress=False)
    assert set(plain.trial_table["variability"]) == {"none"}


def make_dropping(family: str, p: float = 0.3) -> torch.nn.Module:
    """Return a tiny model with dropout wherever its family can have it."""
    model = make_model(family)
    config = model.config
    for name, value in list(vars(config).items()):
        is_rate = isinstance(value, float) and ("dropout" in name or "pdrop" in name)
        if is_rate and name != "layerdrop":
            setattr(config, name, p)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return type(model)(config).eval()


@pytest.mark.parametrize(
    "family",
    ["gpt2", "t5", "opt"]
    + [pytest.param(f, marks=pytest.mark.slow) for f in ("llama", "bert", "vit", "gpt_neox")],
)
def test_dropout_is_that_of_training(family, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("dropout")
    model = make_dropping(family)
    subject = netphys.load_subject(model)
    repeats = make_repeats(make_stimuli(family, n=3), kind="dropout", n=4, rng=3)
    session = netphys.record(
        subject, repeats, tmp_path / "a.nwb", sites=["resid", "head"], batch_size=3, progress=False
    )
    assert not any(m.training for m in model.modules())
    check_repeats(session.pool(session.sites[-1]))
    shown, caught = present(subject, repeats), []
    site = next(n for n in session.sites if "@" not in n)
    hook = model.get_submodule(site).register_forward_hook(
        lambda m, i, o: caught.append((o[0] if isinstance(o, tuple) else o).clone())
    )
    seeds = repeats.table["draw_seed"].to_numpy()
    model.train()  # the whole model, as in training
    with torch.no_grad(), torch.random.fork_rng():
        for _, group in session.trial_table.groupby("batch"):
            rows = group["stimulus_index"].tolist()
            args, kwargs = shown.make_inputs(rows)
            torch.manual_seed(join_seeds(seeds[rows]))
            model(*args, **kwargs)
    hook.remove()
    flat = 2 if shown.is_sequence else 1
    expected = torch.cat([c.flatten(0, flat - 1).flatten(1) for c in caught])
    np.testing.assert_array_equal(session[site].to_numpy(), expected.numpy())


def test_dropout_is_reproducible_and_goes_on_after_an_interruption(tmp_path):
    torch.manual_seed(1)
    model = make_dropping("gpt2")
    subject = netphys.load_subject(model)
    repeats = make_repeats(make_stimuli("gpt2", n=4), kind="dropout", n=3, rng=0)
    options = {"batch_size": 2, "progress": False}
    before = torch.random.get_rng_state()
    whole = netphys.record(subject, repeats, tmp_path / "a.nwb", **options)
    assert torch.equal(before, torch.random.get_rng_state())
    path = tmp_path / "b.nwb"
    netphys.record(subject, repeats, path, **options)
    offset, n = load_header(path).commit
    with open(path, "r+b") as file:  # batches 1 and the last were never written
        file.seek(load_header(path).mutable[0][0])
        file.write(bytes(64))
        for lost in (0, n - 1):
            file.seek(offset + lost)
            file.write(b"\0")
    again = netphys.record(subject, repeats, path, resume=True, **options)
    for site in whole.sites:
        np.testing.assert_array_equal(whole[site], again[site])
    other = make_repeats(make_stimuli("gpt2", n=4), kind="dropout", n=3, rng=1)
    changed = netphys.record(subject, other, tmp_path / "c.nwb", **options)
    assert (whole[whole.sites[0]].values != changed[whole.sites[0]].values).any()


def test_dropout_scales_and_zeroes_by_its_p(tmp_path):
    module = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Dropout(0.25))
    stimuli = netphys.load_stimuli(arrays=np.ones((1, 2000), np.float32))
    repeats = make_repeats(stimuli, kind="dropout", n=5, rng=0)
    session = netphys.record(
        netphys.load_subject(module), repeats, tmp_path / "a.nwb", sites=["0", "1"], progress=False
    )
    values = session["1"].to_numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_allclose((values == 0).mean(), 0.25, atol=0.02)  # SD 0.004
    assert (session["0"].to_numpy() == 1).all()


def test_dropout_leaves_norms_and_whole_layers_alone():
    nn = torch.nn
    norm = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.1))
    assert [type(m).__name__ for m in find_dropout(norm)] == ["Sequential", "Dropout"]
    config = t.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        layerdrop=0.1, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    names = {type(m).__name__ for m in find_dropout(t.Wav2Vec2Model(config))}
    assert "Dropout" in names and not {"Wav2Vec2Encoder", "Wav2Vec2Model"} & names
    lstm = nn.LSTM(2, 2, num_layers=2, dropout=0.5)
    assert find_dropout(lstm) == [lstm]


def test_record_refuses_dropout_that_is_not_there(tmp_path):
    subject = netphys.load_subject(make_model("llama"))
    repeats = make_repeats(make_stimuli("llama"), kind="dropout", n=2, rng=0)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM has no active dropout \(p = 0\)"):
        netphys.record(subject, repeats, tmp_path / "a.nwb", progress=False)
    assert not (tmp_path / "a.nwb").exists()
    subject = netphys.load_subject(make_model("gpt2"))
    table = repeats.table.copy()
    table.loc[0, "variability"] = "none"
    with pytest.raises(ValueError, match="variability is 'dropout' for some trials and 'none'"):
        netphys.record(subject, netphys.load_stimuli(table), tmp_path / "a.nwb", progress=False)
    table = repeats.table.drop(columns="draw_seed")
    with pytest.raises(ValueError, match="needs a column draw_seed of whole numbers"):
        netphys.record(subject, netphys.load_stimuli(table), tmp_path / "a.nwb", progress=False)


def test_dropout_is_switched_off_when_the_model_fails(tmp_path):
    class Failing(torch.nn.Module):
        def forward(self, x):
            if self.training:
                raise AssertionError
            raise RuntimeError("broken")

    drop = torch.nn.Dropout(0.5)
    model = torch.nn.Sequential(drop, Failing()).eval()
    stimuli = netphys.load_stimuli(arrays=np.ones((1, 4), np.float32))
    repeats = make_repeats(stimuli, kind="dropout", n=2, rng=0)
    with pytest.raises(RuntimeError, match="broken"):
        netphys.record(netphys.load_subject(model), repeats, tmp_path / "a.nwb", sites="0")
    assert not any(m.training for m in model.modules())


# ---------------------------------------------------------------- the check
def make_trials(values, labels, **coords) -> xr.DataArray:
    values = np.asarray(values, float)
    dims = ("trial", "time", "unit")[: values.ndim]
    coords = {k: ("trial", v) for k, v in coords.items()} | {"repeat_of": ("trial", labels)}
    return xr.DataArray(values, coords, dims)


def test_check_repeats_finds_identical_ones():
    check_repeats(make_trials([1, 2, 1, 2], list("aabb")))
    with pytest.raises(ValueError, match=r"repeats 1 and 3 of 'b' \(repeat_of\) are identical"):
        check_repeats(make_trials([1, 5, 2, 6, 5], list("ababb")))
    nan = np.nan
    same = make_trials([[[1.0], [nan]], [[1.0], [nan]]], list("aa"))
    with pytest.raises(ValueError, match=r"make_repeats\(stimuli, kind=, n=\)"):
        check_repeats(same)
    with pytest.raises(ValueError, match="repeats 1 and 2"):
        check_repeats(make_trials([[0.0, 1], [-0.0, 1]], list("aa")))
    check_repeats(make_trials([[[1.0], [nan]], [[1.0], [0.0]]], list("aa")))
    check_repeats(make_trials([[1.0, 2], [1.0, 2 + 1e-15]], list("aa")).T)


def test_check_repeats_lets_samples_agree_by_chance():
    data = make_trials([1, 1, 2], list("aaa"), variability=["sampling"] * 3)
    check_repeats(data)
    with pytest.raises(ValueError, match="repeats 1 and 2 of 'a'"):
        check_repeats(data[:2])


def test_check_repeats_refuses_what_it_cannot_check():
    with pytest.raises(ValueError, match=r"'b' \(repeat_of\) was shown once"):
        check_repeats(make_trials([1, 2, 3], list("aab")))
    with pytest.raises(ValueError, match=r"by='repeats_of' is no coordinate of trials\. Did you"):
        check_repeats(make_trials([1, 2], list("aa")), by="repeats_of")
    with pytest.raises(TypeError, match="Give a DataArray with a dim trial"):
        check_repeats(np.zeros((2, 2)))


def test_check_repeats_refuses_a_plain_recording(tmp_path, gpt2):
    stimuli = make_stimuli("gpt2", n=3)
    table = pd.concat([stimuli.table] * 2, ignore_index=True)
    table["repetition"] = [1] * 3 + [2] * 3
    session = netphys.record(
        gpt2, netphys.load_stimuli(table), tmp_path / "a.nwb", batch_size=1, progress=False
    )
    with pytest.raises(ValueError, match="repeats 1 and 2 of 's1'"):
        check_repeats(session.pool(session.sites[0]), by="stimulus_id")
