"""Online statistics while recording: equal to those of the stored values, through interruptions."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_stimuli

import netphys
from netphys.core.online import Moments, Sparsity

NAME = "transformer.h.1"


def record(subject, stimuli, path, **options):
    return netphys.record(subject, stimuli, path, progress=False, **options)


def read_state(session) -> bytes:
    import h5py

    with h5py.File(session.path, "r") as file:
        data = file["scratch/netphys_online_state"][...].tobytes()
        for table in file["processing/online"].values():
            for column in table.attrs["colnames"]:
                data += table[column][...].tobytes()
    return data


def test_online_statistics_equal_those_of_the_stored_samples(gpt2, tokens, tmp_path):
    session = record(
        gpt2,
        tokens,
        tmp_path / "a.nwb",
        sites=["resid", "mlp"],
        batch_size=2,
        online=["moments", Sparsity(threshold=0.1)],
    )
    assert f"{NAME}#moments" in session.online_tables and len(session.online_tables) == 8
    for name in session.sites:
        data = session[name].to_numpy().astype(np.float64)
        moments = session.online(f"{name}#moments")
        np.testing.assert_allclose(moments["mean"], data.mean(0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(moments["variance"], data.var(0), rtol=1e-5)
        np.testing.assert_array_equal(moments["min"], data.min(0))
        np.testing.assert_array_equal(moments["max"], data.max(0))
        assert moments.attrs["n_samples"] == len(data) and moments.attrs["n_trials"] == 7
        assert moments["label"].to_numpy().tolist() == session.units(name)["label"].tolist()
        events = session.online(f"{name}#sparsity")["n_events"]
        np.testing.assert_array_equal(events, (data > 0.1).sum(0))


def test_without_store_only_statistics_are_kept(gpt2, tokens, tmp_path):
    options = {"sites": "resid", "batch_size": 2, "online": "moments"}
    whole = record(gpt2, tokens, tmp_path / "a.nwb", **options)
    session = record(gpt2, tokens, tmp_path / "b.nwb", store=None, **options)
    assert session.sites == [] and session.complete and len(session.trial_table) == 7
    assert session.online(f"{NAME}#moments").identical(whole.online(f"{NAME}#moments"))
    assert session.units(NAME)["label"].tolist() == whole.units(NAME)["label"].tolist()
    assert "0 sites" in session.summary() and session.to_dict()["sites"] == []
    chosen = record(
        gpt2, tokens, tmp_path / "c.nwb", store=None, units={"resid": [2, 7]}, **options
    )
    np.testing.assert_array_equal(
        chosen.online(f"{NAME}#moments")["mean"], whole.online(f"{NAME}#moments")["mean"][[2, 7]]
    )


def test_statistics_have_the_units_of_the_site_whatever_is_stored(gpt2, tokens, tmp_path):
    options = {"sites": "resid", "batch_size": 2, "online": "moments"}
    whole = record(gpt2, tokens, tmp_path / "a.nwb", **options)
    expected = whole.online(f"{NAME}#moments")
    for n, store in enumerate((["trial.mean", "raster"], ["top"], ["top", "trial.max"])):
        path = tmp_path / f"{n}.nwb"
        above = {"threshold": 0.0} if "raster" in store else {}
        session = record(gpt2, tokens, path, store=store, top_k=3, **above, **options)
        assert session.online(f"{NAME}#moments").identical(expected)
        assert session.units(NAME).equals(whole.units(NAME))


def test_other_tools_read_the_tables(gpt2, tokens, tmp_path):
    import pynwb

    session = record(gpt2, tokens, tmp_path / "a.nwb", store=None, online="moments")
    with pynwb.NWBHDF5IO(str(session.path), "r") as io:
        table = io.read().processing["online"][f"{NAME}#moments"].to_dataframe()
    own = session.online(f"{NAME}#moments")
    np.testing.assert_array_equal(table["mean"], own["mean"])
    assert (table["seen_samples"] == own.attrs["n_samples"]).all()


@pytest.mark.parametrize("store", ["samples", None])
@pytest.mark.parametrize("stop", [5, 8, 13, 15])
def test_an_interrupted_run_ends_in_the_same_bytes(store, stop, gpt2, tmp_path):
    stimuli = make_stimuli("gpt2", n=14)
    options = {
        "sites": "resid",
        "store": store,
        "online": ["moments", "sparsity"],
        "batch_size": 1,
        "commit_batches": 2,
    }
    whole = record(gpt2, stimuli, tmp_path / "whole.nwb", **options)
    calls = iter(range(1000))

    def interrupt(module, args):
        if next(calls) == stop:  # two are probe passes
            raise KeyboardInterrupt

    handle = gpt2.model.register_forward_pre_hook(interrupt)
    path = tmp_path / "a.nwb"
    with pytest.raises(KeyboardInterrupt):
        record(gpt2, stimuli, path, **options)
    handle.remove()
    cut = netphys.open_session(path)
    assert not cut.complete
    seen = cut.online(f"{NAME}#moments").attrs["n_trials"]
    assert 0 < seen < 14
    done = record(gpt2, stimuli, path, resume=True, **options)
    assert read_state(done) == read_state(whole)
    if store:
        assert done[NAME].to_numpy().tobytes() == whole[NAME].to_numpy().tobytes()
        np.testing.assert_array_equal(done.checksums, whole.checksums)


@pytest.fixture(scope="module")
def language() -> netphys.Subject:
    return netphys.load_subject("builtin:language")


TEXTS = [
    "The dog barked.",
    "Two cats slept on the chair.",
    "The dogs were unbelievably loud today.",
]


def test_surprisal_is_stored_per_word_and_equals_the_function(language, tmp_path):
    from netphys.recording.surprisal import compute_surprisal

    stimuli = netphys.load_stimuli(TEXTS)
    options = {"sites": "embed", "batch_size": 2, "online": "surprisal"}
    session = record(
        language, stimuli, tmp_path / "a.nwb", store=["word.mean", "surprisal"], **options
    )
    data = session["lm_head#surprisal"]
    assert data["label"].to_numpy().tolist() == ["surprisal", "entropy", "rank"]
    assert data.attrs["clock"] == "word" and session.provenance["surprisal"]["unit"] == "bit"
    table = compute_surprisal(language, stimuli, progress=False)
    order = np.lexsort([data["word"].to_numpy(), data["trial"].to_numpy()])
    np.testing.assert_allclose(data.to_numpy()[order, 0], table["surprisal"], rtol=1e-5)
    np.testing.assert_array_equal(data.to_numpy()[order, 2], table["rank"])
    seen = session.online("lm_head#surprisal")
    np.testing.assert_allclose(seen["mean"], np.nanmean(data.to_numpy(), axis=0), rtol=1e-6)
    only = record(language, stimuli, tmp_path / "b.nwb", store=None, **options)
    assert only.online("lm_head#surprisal").equals(seen)


def test_surprisal_beside_the_logits_themselves(language, tmp_path):
    stimuli = netphys.load_stimuli(TEXTS[:2])
    session = record(
        language, stimuli, tmp_path / "a.nwb", sites="logits", store=["samples", "surprisal"]
    )
    assert session.sites == ["lm_head", "lm_head#surprisal"]
    logits = session["lm_head"].to_numpy()
    assert np.isfinite(logits).all() and session["lm_head#surprisal"].shape[1] == 3


def test_surprisal_needs_logits_and_words(gpt2, tokens, language, tmp_path):
    with pytest.raises(ValueError, match="need words, and these stimuli have none"):
        record(gpt2, tokens, tmp_path / "a.nwb", store="surprisal")
    headless = netphys.load_subject(language.model.transformer, tokenizer=language.tokenizer)
    with pytest.raises(ValueError, match="has no site of the kind 'logits'"):
        record(headless, netphys.load_stimuli(["a b"]), tmp_path / "a.nwb", store="surprisal")


def test_covariance_of_two_sites_and_of_two_subjects(gpt2, tokens, tmp_path):
    from netphys.core.online import CrossCovariance

    twin = netphys.load_subject(gpt2.model, init="shuffled", seed=1)
    first, second = "transformer.h.0", NAME
    online = [CrossCovariance(first, second), CrossCovariance(first, NAME + ".mlp", other=twin)]
    session = record(gpt2, tokens, tmp_path / "a.nwb", sites="resid", batch_size=2, online=online)
    other = record(twin, tokens, tmp_path / "b.nwb", sites=NAME + ".mlp", batch_size=2)
    x = session[first].to_numpy().astype(float)
    for name, y in ((second, session[second]), (NAME + ".mlp", other[NAME + ".mlp"])):
        y = y.to_numpy().astype(float)
        table = session.online(f"{first} & {name}#cross_covariance")
        expected = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
        found = next(
            v for v in table.data_vars.values() if v.shape == (16, 16) and "cross" in v.name
        )
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert 0 < table.attrs["linear_cka"] <= 1
    with pytest.raises(ValueError, match=r"names the site 'transformer\.h\.9', which is not"):
        record(gpt2, tokens, tmp_path / "c.nwb", online=CrossCovariance(first, "transformer.h.9"))


def test_int8_keeps_its_error_also_through_an_interruption(gpt2, tmp_path):
    stimuli = make_stimuli("gpt2", n=14)
    options = {"sites": "resid", "batch_size": 1, "commit_batches": 1}
    true = record(gpt2, stimuli, tmp_path / "true.nwb", **options)
    whole = record(gpt2, stimuli, tmp_path / "whole.nwb", dtype="int8", **options)
    error = np.abs(whole[NAME].to_numpy().astype(float) - true[NAME].to_numpy())
    table = whole.online(f"{NAME}#int8_error")
    np.testing.assert_allclose(table["max_error"], error.max(0), rtol=1e-5)
    np.testing.assert_allclose(table["rms_error"], np.sqrt((error**2).mean(0)), rtol=1e-5)
    assert table["n_clipped"].to_numpy().sum() == whole.counts.loc[NAME, "overflow"]
    calls = iter(range(1000))

    def interrupt(module, args):
        if next(calls) == 16:
            raise KeyboardInterrupt

    handle = gpt2.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        record(gpt2, stimuli, tmp_path / "a.nwb", dtype="int8", **options)
    handle.remove()
    done = record(gpt2, stimuli, tmp_path / "a.nwb", dtype="int8", resume=True, **options)
    assert read_state(done) == read_state(whole)
    with pytest.raises(ValueError, match="is kept by dtype='int8' itself"):
        record(gpt2, stimuli, tmp_path / "b.nwb", online="int8_error")


def test_moments_of_attention_weights_leave_out_absent_keys(gpt2, tokens, tmp_path):
    session = record(gpt2, tokens, tmp_path / "a.nwb", sites="pattern", online="moments")
    name = session.sites[0]
    data = session[name].to_numpy().astype(float)
    moments = session.online(f"{name}#moments")
    np.testing.assert_allclose(moments["mean"], np.nanmean(data, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(moments["n"], np.isfinite(data).sum(0))
    few = record(
        gpt2, tokens, tmp_path / "b.nwb", sites="pattern", units={"pattern": [0, 4, 5, 11]}
    )
    assert few.counts["nonfinite"].sum() == 0


def test_online_refuses_what_it_cannot_do(gpt2, tokens, tmp_path):
    path = tmp_path / "a.nwb"
    with pytest.raises(ValueError, match="store=None without online= records nothing"):
        record(gpt2, tokens, path, store=None)
    with pytest.raises(ValueError, match=r"'moment' is unknown.*Did you mean 'moments'"):
        record(gpt2, tokens, path, online="moment")
    with pytest.raises(MemoryError, match="the online statistics take"):
        record(gpt2, tokens, path, store=None, online=Moments(), max_memory=1000)
    assert list(tmp_path.iterdir()) == []
    session = record(gpt2, tokens, path, sites="resid")
    with pytest.raises(KeyError, match=r"is no online statistic of a\.nwb\. It has: none"):
        session.online(f"{NAME}#moments")
    with pytest.raises(ValueError, match="online was"):
        record(gpt2, tokens, path, resume=True, online="moments")
