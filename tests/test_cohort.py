"""One value per trial (Session.pool), and sessions over the same stimuli (Cohort)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import make_model, make_stimuli

import netphys
from netphys.data._pool import pool_samples
from netphys.data.cohort import Cohort
from netphys.data.nwb_header import load_header

SITE = "transformer.h.1"


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    folder, stimuli = tmp_path_factory.mktemp("cohort"), make_stimuli("gpt2")
    subject = netphys.load_subject(make_model("gpt2"))
    made = {"trained": subject}
    made |= {
        f"seed {k}": netphys.load_subject(subject.model, init="random", seed=k) for k in (0, 1)
    }
    return {
        name: netphys.record(s, stimuli, folder / f"{name}.nwb", batch_size=2, progress=False)
        for name, s in made.items()
    }


def record_other(folder, stimuli, **options) -> netphys.Session:
    subject = netphys.load_subject(make_model("gpt2", **options))
    return netphys.record(subject, stimuli, folder / "other.nwb", progress=False)


# ---------------------------------------------------------------- pool
def test_pool_samples_by_hand():
    values = np.array([[1.0], [5.0], [3.0], [7.0], [2.0]], np.float32)
    keep = np.array([True, True, False, True, True])
    begin, count = np.array([0, 3]), np.array([3, 2])
    for how, expected in (("mean", [3, 4.5]), ("max", [5, 7]), ("last", [5, 2])):
        pooled = pool_samples(values, begin, count, keep, how)
        assert pooled.dtype == np.float64 and pooled[:, 0].tolist() == expected
    assert np.isnan(pool_samples(values, np.array([2]), np.array([1]), keep, "mean")).all()
    holes = np.array([True, False, True, True, True])
    assert pool_samples(values, begin, count, holes, "mean")[0] == 2.0


@pytest.mark.parametrize("how", ["mean", "max", "last"])
def test_pool_agrees_with_trials(sessions, how):
    session = sessions["trained"]
    trials, pooled = session.trials(SITE).astype(float), session.pool(SITE, how=how)
    last = trials["n_samples_token"].to_numpy() - 1
    expected = {
        "mean": trials.mean("time"),
        "max": trials.max("time"),
        "last": np.stack([trials[i, n].to_numpy() for i, n in enumerate(last)]),
    }
    assert pooled.dims == ("trial", "unit") and pooled.dtype == np.float64
    np.testing.assert_allclose(pooled, expected[how], rtol=1e-12)
    assert pooled["condition"].to_numpy().tolist() == trials["condition"].to_numpy().tolist()
    assert pooled["label"].to_numpy()[2] == "L01.resid.02"
    assert pooled.attrs["pool"] == how and pooled.attrs["site"] == SITE


def test_pool_leaves_out_tokens_that_the_tokenizer_added(tmp_path):
    subject = netphys.load_subject("builtin:language")
    stimuli = netphys.load_stimuli(["The dog ran.", "A cat slept on the chair."])
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    data = session[session.sites[-1]]
    special = data["special"].to_numpy().astype(bool)
    own = data.to_numpy().astype(float)[(data["trial"] == 1).to_numpy() & ~special]
    pooled = session.pool(session.sites[-1])
    np.testing.assert_allclose(pooled[1], own.mean(axis=0), rtol=1e-6)


def test_pool_names_trials_without_samples(sessions, monkeypatch):
    session = netphys.open_session(sessions["trained"].path)
    table = session.samples("token")
    table["special"] = table["trial"] == 2
    monkeypatch.setitem(session.__dict__, "_sample_tables", {"token": table})
    name = session.trial_table.set_index("stimulus_index").loc[2, "stimulus_id"]
    with pytest.raises(ValueError, match=f"1 of 7 trials have no token but .*: '{name}'"):
        session.pool(SITE)


def test_pool_of_an_unfinished_recording_has_the_committed_trials(sessions, tmp_path):
    path = tmp_path / "copy.nwb"
    path.write_bytes(sessions["trained"].path.read_bytes())
    offset, n = load_header(path).commit
    with open(path, "r+b") as file:
        file.seek(offset + n - 1)
        file.write(b"\0")
    part, whole = netphys.open_session(path).pool(SITE), sessions["trained"].pool(SITE)
    assert part.sizes["trial"] < 7
    np.testing.assert_array_equal(part, whole.sel(trial=part["trial"]))


def test_pool_of_images_is_the_value_itself(tmp_path):
    subject, stimuli = netphys.load_subject(make_model("vit")), make_stimuli("vit", n=3)
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="logits", progress=False)
    np.testing.assert_array_equal(session.pool("logits"), session[session.sites[0]])


def test_pool_refuses_other_ways(sessions):
    with pytest.raises(ValueError, match=r"how='median' is unknown\. Choose one of: 'mean', 'max'"):
        sessions["trained"].pool(SITE, how="median")
    with pytest.raises(KeyError, match="matches 2 sites"):
        sessions["trained"].pool("resid")


# ---------------------------------------------------------------- cohort
def test_cohort_pools_members_side_by_side(sessions):
    cohort = Cohort(sessions)
    data = cohort.pool(SITE)
    assert data.dims == ("seed", "trial", "unit")
    assert data["seed"].to_numpy().tolist() == ["trained", "seed 0", "seed 1"]
    for label, session in sessions.items():
        np.testing.assert_array_equal(data.sel(seed=label), session.pool(SITE))
    assert data["stimulus_id"].dims == ("trial",)


def test_cohort_is_a_labelled_collection(sessions):
    cohort = Cohort(sessions)
    assert len(cohort) == 3 and list(cohort) == list(sessions.values())
    assert cohort["seed 1"] is sessions["seed 1"] and cohort.sites == sessions["trained"].sites
    assert repr(cohort) == "<Cohort of 3 sessions over 7 stimuli: trained, seed 0, seed 1>"
    with pytest.raises(KeyError, match=r"label='seed 2' is not in the cohort\. Did you mean"):
        cohort["seed 2"]


def test_cohort_names_the_member_with_other_stimuli(sessions, tmp_path):
    other = record_other(tmp_path / "a", make_stimuli("gpt2", n=6))
    with pytest.raises(ValueError, match=r"'odd' shows other stimuli .* stimulus 7 is missing th"):
        Cohort({**sessions, "odd": other})
    table = make_stimuli("gpt2").table.copy()
    table.loc[3, "token_ids"] = "1 2 3"
    changed = record_other(tmp_path / "b", netphys.load_stimuli(pd.DataFrame(table)))
    with pytest.raises(ValueError, match=r"'odd' shows other stimuli .* what was shown differs"):
        Cohort({"odd": changed, **sessions})


def test_cohort_refuses_what_it_cannot_hold(sessions, tmp_path):
    with pytest.raises(ValueError, match="sessions is empty"):
        Cohort({})
    with pytest.raises(TypeError, match="Give a mapping of labels to sessions"):
        Cohort(list(sessions.values()))
    with pytest.raises(TypeError, match=r"sessions\['a'\]='b' is a str"):
        Cohort({"a": "b"})
    with pytest.raises(TypeError, match="label=0 is an int"):
        Cohort({0: sessions["trained"]})


def test_cohort_refuses_to_pool_other_architectures(sessions, tmp_path):
    path = tmp_path / "wide.nwb"
    model = make_model("gpt2", layers=1)
    netphys.record(netphys.load_subject(model), make_stimuli("gpt2"), path, progress=False)
    cohort = Cohort({"two": sessions["trained"], "one": netphys.open_session(path)})
    assert cohort.sites == ["transformer.h.0"]
    with pytest.raises(KeyError, match=r"is not in wide\.nwb"):
        cohort.pool("transformer.h.1")
