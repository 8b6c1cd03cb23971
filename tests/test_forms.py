"""What is stored of a site: words and trials, rasters, largest units, int8, chosen units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_stimuli

import netphys

SITE = "transformer.h.1.mlp.c_proj@in"
TEXTS = pd.DataFrame(
    {
        "text": ["The unbelievable dog barked.", "Two cats slept", "A dog ran away quickly today!"],
        "context": ["", "It was raining outside, and", "Once upon a time"],
        "word_onsets": ["0.1 0.4 0.9 1.5", "0 .5 1", "0 1 2 3 4 5"],
    }
)


@pytest.fixture(scope="module")
def language() -> netphys.Subject:
    return netphys.load_subject("builtin:language")


def record(subject, stimuli, path, **options):
    return netphys.record(subject, stimuli, path, progress=False, **options)


def test_words_and_trials_are_pooled_as_by_hand(language, tmp_path):
    stimuli = netphys.load_stimuli(TEXTS)
    store = ["samples", *(f"{s}.{p}" for s in ("word", "trial") for p in ("mean", "max", "last"))]
    session = record(language, stimuli, tmp_path / "a.nwb", sites=[SITE], store=store, batch_size=2)
    assert session.sites == [SITE, *(f"{SITE}#{form}" for form in store[1:])]
    data, samples, words = (
        session[SITE].to_numpy(),
        session.samples("token"),
        session.samples("word"),
    )
    assert words["n_tokens"].max() > 1  # a word of several tokens
    for i, word in words.iterrows():
        own = (samples["trial"] == word["trial"]) & (samples["word"] == word["word"])
        assert samples["position"][own].iloc[0] == word["position"]
        assert own.sum() == word["n_tokens"]
        values = data[own.to_numpy()].astype(np.float64)
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(session[f"{SITE}#word.mean"][i], values.mean(0), **close)
        np.testing.assert_array_equal(session[f"{SITE}#word.max"][i], values.max(0))
        np.testing.assert_array_equal(session[f"{SITE}#word.last"][i], values[-1])
    pooled = session.pool(SITE, how="mean").to_numpy()
    by_trial = session.trials(f"{SITE}#trial.mean").to_numpy()[:, 0]
    np.testing.assert_allclose(by_trial, pooled, rtol=1e-5, atol=1e-6)


def test_words_have_their_text_and_onset(language, tmp_path):
    stimuli = netphys.load_stimuli(TEXTS)
    session = record(language, stimuli, tmp_path / "a.nwb", sites="embed", store="word.sum")
    words = session.samples("word").sort_values(["trial", "word"], kind="stable")
    for trial, rows in words.groupby("trial"):
        spoken = TEXTS["text"][trial].split()
        assert ["".join(t.split()) for t in rows["text"]] == spoken
        assert rows["onset"].tolist() == [float(t) for t in TEXTS["word_onsets"][trial].split()]
        for word, row in zip(spoken, rows.itertuples(), strict=True):
            assert TEXTS["text"][trial][row.char_begin : row.char_end].strip() == word
    table = session.trial_table.set_index("stimulus_index")
    assert table["n_samples_word"].sort_index().tolist() == [4, 3, 6]
    data = session.trials("embed")  # one form is stored, so the kind names it
    assert data.shape[:2] == (3, 6) and data.attrs["form"] == "word.sum"
    assert np.isnan(data[1, 3:]).all() and np.isfinite(data[1, :3]).all()


def test_raster_and_largest_units_follow_the_samples(gpt2, tokens, tmp_path):
    store = ["samples", "raster", "top"]
    threshold = {"mlp": np.linspace(-0.1, 0.1, 64), "*": 0.25}
    session = record(
        gpt2,
        tokens,
        tmp_path / "a.nwb",
        sites=["mlp", "resid"],
        store=store,
        threshold=threshold,
        top_k=5,
        batch_size=3,
    )
    for name in ("transformer.h.0.mlp.c_proj@in", "transformer.h.1"):
        data = session[name].to_numpy()
        limit = np.asarray(session.units(f"{name}#raster")["threshold"], np.float32)
        raster = session[f"{name}#raster"]
        assert raster.dtype == bool and raster.attrs["form"] == "raster"
        np.testing.assert_array_equal(raster, data > limit)
        order = np.argsort(-data, axis=1, kind="stable")[:, :5]
        np.testing.assert_array_equal(session[f"{name}#top.index"], order)
        np.testing.assert_array_equal(
            session[f"{name}#top.value"], np.take_along_axis(data, order, axis=1)
        )
    assert session.site_table.loc["transformer.h.1#raster", "dtype"] == "bits"
    assert session.site_table.loc["transformer.h.1#raster", "megabytes"] == len(data) * 2 / 1e6
    assert np.isnan(session.trials("transformer.h.1#raster")).any()  # the end of shorter trials


@pytest.mark.parametrize("store", ["samples", "raster", "top", "trial.max"])
def test_chosen_units_keep_their_numbers(store, gpt2, tokens, tmp_path):
    chosen = [1, 5, 6, 15]
    options = {"threshold": 0.0} if store == "raster" else {"top_k": 2} if store == "top" else {}
    few = record(
        gpt2,
        tokens,
        tmp_path / "a.nwb",
        sites="resid",
        store=store,
        units={"resid": chosen},
        **options,
    )
    whole = record(gpt2, tokens, tmp_path / "b.nwb", sites="resid")
    data = whole["transformer.h.1"].to_numpy()[:, chosen]
    if store == "samples":
        assert few["transformer.h.1"]["index"].to_numpy().tolist() == chosen
        assert few["transformer.h.1"]["label"].to_numpy()[3] == "L01.resid.15"
        np.testing.assert_array_equal(few["transformer.h.1"], data)
    elif store == "raster":
        np.testing.assert_array_equal(few["transformer.h.1"], data > 0)
    elif store == "trial.max":
        pooled = whole.pool("transformer.h.1", how="max").to_numpy()[:, chosen]
        np.testing.assert_array_equal(few.trials("transformer.h.1")[:, 0], pooled)
    else:
        np.testing.assert_array_equal(
            few["transformer.h.1#top.value"], -np.sort(-data, axis=1)[:, :2]
        )


def test_int8_stays_within_half_a_step_and_counts_what_it_clips(gpt2, tokens, tmp_path):
    session = record(gpt2, tokens, tmp_path / "a.nwb", sites="resid", dtype="int8", batch_size=2)
    whole = record(gpt2, tokens, tmp_path / "b.nwb", sites="resid", batch_size=2)
    for name in session.sites:
        scale = session.units(name)["scale"].to_numpy()
        error = np.abs(session[name].to_numpy() - whole[name].to_numpy())
        assert session[name].dtype == np.float32 and (error <= 0.5001 * scale).all()
        assert session.counts.loc[name, "overflow"] == 0
    assert session.site_table["megabytes"].sum() == whole.site_table["megabytes"].sum() / 4


def test_int8_clips_what_the_first_batches_did_not_show(tmp_path):
    values = np.ones((900, 2), np.float32)
    values[333] = [100.0, -1.2]  # between the batches that set the scale
    subject = netphys.load_subject(torch.nn.Sequential(torch.nn.Identity()))
    session = record(
        subject,
        netphys.load_stimuli(arrays=values),
        tmp_path / "a.nwb",
        sites="0",
        dtype="int8",
        batch_size=1,
    )
    assert session.counts.loc["0", "overflow"] == 1
    np.testing.assert_allclose(session["0"][333], [1.25, -1.2], atol=0.01)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_forms_of_a_half_precision_model(dtype, tokens, tmp_path):
    model = make_model("gpt2").to(getattr(torch, dtype))
    session = record(
        netphys.load_subject(model),
        tokens,
        tmp_path / "a.nwb",
        sites="resid",
        store=["samples", "trial.mean", "raster", "top"],
        threshold=0.1,
        top_k=3,
    )
    name = "transformer.h.1"
    assert session.site_table["dtype"].to_dict() == {
        n + form: kind
        for n in ("transformer.h.0", name)
        for form, kind in {
            "": dtype,
            "#trial.mean": "float32",
            "#raster": "bits",
            "#top.index": "int32",
            "#top.value": "float32",
        }.items()
    }
    data = session[name].to_numpy().astype(np.float32)
    np.testing.assert_array_equal(session[f"{name}#raster"], data > np.float32(0.1))
    np.testing.assert_array_equal(session[f"{name}#top.value"], -np.sort(-data, axis=1)[:, :3])
    pooled = session.pool(name)
    np.testing.assert_allclose(session.trials(f"{name}#trial.mean")[:, 0], pooled, rtol=1e-5)


def test_checksums_are_those_of_each_batch(gpt2, tokens, tmp_path):
    import xxhash

    session = record(
        gpt2, tokens, tmp_path / "a.nwb", sites="resid", store=["samples", "raster"], threshold=0.0
    )
    rows = session.trial_table.groupby("batch")["n_samples_token"].sum()
    end = rows.cumsum()
    data = np.asarray(session["transformer.h.0"])
    bits = np.packbits(session["transformer.h.0#raster"], axis=1, bitorder="little")
    sums = session.checksums
    for batch in rows.index:
        own = slice(end[batch] - rows[batch], end[batch])
        assert sums[batch, 0] == xxhash.xxh3_64_intdigest(data[own].tobytes())
        assert sums[batch, 1] == xxhash.xxh3_64_intdigest(bits[own].tobytes())


def test_an_interrupted_recording_of_all_forms_ends_in_the_same_bytes(language, tmp_path):
    stimuli = netphys.load_stimuli("builtin:sentences")
    options = {
        "sites": ["resid"],
        "store": ["samples", "word.mean", "trial.last", "raster", "top"],
        "threshold": 0.3,
        "batch_size": 4,
        "commit_batches": 1,
    }
    whole = record(language, stimuli, tmp_path / "whole.nwb", **options)
    calls = iter(range(1000))

    def interrupt(module, args):
        if next(calls) == 12:
            raise KeyboardInterrupt

    handle = language.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        record(language, stimuli, tmp_path / "a.nwb", **options)
    handle.remove()
    cut = netphys.open_session(tmp_path / "a.nwb")
    assert 0 < cut.commits.sum() < len(cut.commits)
    some = cut["transformer.h.2#word.mean"]
    np.testing.assert_array_equal(
        some, whole["transformer.h.2#word.mean"].to_numpy()[some["sample"].to_numpy()]
    )
    done = record(language, stimuli, tmp_path / "a.nwb", resume=True, **options)
    for name in whole.sites:
        assert done[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()
    np.testing.assert_array_equal(done.checksums, whole.checksums)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"store": "sample"}, ValueError, "store='sample' is unknown.*Did you mean 'samples'"),
        ({"store": 3}, TypeError, "store=3 is an int"),
        ({"store": "raster"}, ValueError, "needs threshold="),
        ({"threshold": 0.0}, ValueError, "threshold is for store='raster'"),
        ({"store": "raster", "threshold": "a"}, ValueError, "must be a finite number"),
        ({"store": "raster", "threshold": {"mlp": 0}}, ValueError, r"\['mlp'\] names no recorded"),
        ({"store": "raster", "threshold": {"*.h.0": 0}}, ValueError, "no value for site"),
        ({"store": "raster", "threshold": [0, 1]}, ValueError, "has 2 values; .* has 16"),
        ({"store": "top", "top_k": 17}, ValueError, "top_k=17 is more than the 16"),
        ({"top_k": 0}, ValueError, "top_k=0 is too small"),
        ({"store": "word.mean"}, ValueError, "need words, and these stimuli have none"),
        (
            {"store": "raster", "threshold": 0, "dtype": "int8"},
            ValueError,
            "is for store='samples'",
        ),
        ({"units": {"resid": [3, 1]}}, ValueError, "must ascend"),
        ({"units": {"resid": []}}, ValueError, "list of whole numbers"),
        ({"units": {"resid": [16]}}, ValueError, r"names unit 16; .* has 16 \(0 to 15\)"),
        (
            {"units": {"reisd": [1]}},
            ValueError,
            r"\['reisd'\] names no .*Did you mean 'resid'",
        ),
        ({"units": [1, 2]}, TypeError, "units=.* is a list"),
        ({"max_memory": 100}, MemoryError, r"max_memory=0 MB is too little: one batch of 'trans"),
        ({"commit_seconds": -1}, ValueError, "commit_seconds=-1 must be 0 or more"),
        ({"commit_batches": 0}, ValueError, "commit_batches=0 is too small"),
    ],
)
def test_record_refuses_forms_that_do_not_fit(options, error, message, gpt2, tokens, tmp_path):
    with pytest.raises(error, match=message):
        record(gpt2, tokens, tmp_path / "a.nwb", **options)
    assert list(tmp_path.iterdir()) == []


def test_pooling_refuses_sites_with_one_value_per_trial(tmp_path):
    subject, stimuli = netphys.load_subject(make_model("vit")), make_stimuli("vit")
    with pytest.raises(ValueError, match="has one value per trial, there is nothing to pool"):
        record(subject, stimuli, tmp_path / "a.nwb", sites="resid", store="trial.mean")


def test_int8_refuses_values_that_are_not_finite(tmp_path):
    class Divide(torch.nn.Module):
        def forward(self, x):
            return 1 / x

    subject = netphys.load_subject(torch.nn.Sequential(Divide()))
    stimuli = netphys.load_stimuli(arrays=np.array([[1.0], [0.0]], np.float32))
    with pytest.raises(ValueError, match="dtype='int8' cannot hold"):
        record(subject, stimuli, tmp_path / "a.nwb", sites="0", dtype="int8", nonfinite="keep")
