"""Studies: a protocol becomes sessions, results and a report, and again, and after interruption."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import xarray as xr
from test_report import WIDTHS, look, read

import netphys
from netphys.brain.match_result import RSAMatch
from netphys.data.stimuli import load_stimuli
from netphys.protocol import load_protocol, make_protocol
from netphys.run import check_protocol, get_folder, run_protocol
from netphys.study import load_results
from netphys.study.parts import say_difference
from netphys.study.single import compare_session, renew_report

SECTIONS = [
    "Question",
    "Subject",
    "Stimuli",
    "Recording",
    "Results",
    "Brain match",
    "Controls",
    "What it holds for",
    "Methods",
    "Provenance",
]
SMALL = """
schema = 1
title = "Small"
[subject]
name = "builtin:language"
[[twins]]
name = "untrained"
[stimuli]
source = "builtin:sentences"
[record]
batch_size = 32
[match]
dataset = "simulated"
analysis = "rsa"
sites = ["embed", "transformer.h.2", "transformer.h.3"]
n_null = 19
n_bootstraps = 19
"""


def write(folder, text=SMALL, name="small.toml"):
    path = folder / name
    path.write_text(text)
    return path


def run(source, out, *overrides, **options):
    protocol = load_protocol(source, overrides=overrides)
    return run_protocol(protocol, out=out, progress=False, **options)


def list_files(folder):
    return sorted(p.name for p in folder.iterdir())


def date(folder, ending):
    return {p.name: p.stat().st_mtime_ns for p in folder.glob(f"*{ending}")}


def tell(path):
    """Return the headings of a report without the contents, and all of its text."""
    page = read(path)
    titles = [t for t in page.text("h2") if t != "Contents"]
    return page, titles, " ".join(text for _, text in page.texts)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, run("quickstart", folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    run(write(folder), folder / "out")
    return folder


@pytest.fixture
def copy(small, tmp_path_factory):
    """The small protocol and the files of its run, to be changed at will."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(small, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)


# The quickstart


def test_quickstart_gives_sessions_results_and_report(quickstart):
    folder, study = quickstart
    assert list(study.sessions) == ["subject", "untrained"]
    assert all(session.complete for session in study.sessions.values())
    assert list(study.results) == ["rdms", "match", "evaluation"]
    assert study.report == folder / "report.html"
    assert list_files(folder) == [
        "evaluation.nc",
        "match.nc",
        "rdms.nc",
        "report.html",
        "subject.nwb",
        "untrained.nwb",
    ]
    match = study.results["match"]
    best = match.stats["best"].sel(region="signal").item()
    assert best == match.provenance["true_layer"] == "transformer.h.2"
    at = match.stats.sel(layer=best, region="signal")
    assert at["p_max"] < 0.01 and at["twin_interval"].sel(bound="lower") > 0
    assert (match.stats["p_max"].sel(region="noise") > 0.05).all()
    ceiling = match.stats["ceiling"].sel(region="signal").to_numpy()
    assert ceiling[0] < at["mean"] < ceiling[1]


def test_quickstart_report_names_the_true_layer_it_recovered(quickstart):
    page, titles, text = tell(quickstart[1].report)
    assert titles == SECTIONS
    assert len(page.all("img")) >= 3
    assert "was simulated from transformer.h.2: the match recovered the true layer." in text
    assert "The subject's transformer.h.2 is above the same layer of the untrained twin" in text
    assert "p < .001" in text and "One-sided p-values" in text and "permutations" in text
    assert "@misc{netphys" in text and "10.3389/neuro.06.004.2008" in text
    assert "Licence: BSD-3-Clause" in text and '"weights_sha256"' in text
    assert "Noise ceiling" in text and "It holds for participants like these 12" in text
    assert "nan" not in {word.strip("().,;:") for word in text.split()}


def test_saved_results_say_what_they_are_of(quickstart):
    folder, study = quickstart
    match = RSAMatch.load(folder / "match.nc")
    origin = match.provenance
    assert origin["dataset"]["licence"] == "BSD-3-Clause"
    assert origin["study"]["sessions"] == {
        name: session.provenance["identifier"] for name, session in study.sessions.items()
    }
    assert make_protocol(origin["protocol"]) == load_protocol("quickstart")
    assert match.summary() == study.results["match"].summary()


# Again, otherwise, interrupted


def test_run_again_keeps_sessions_and_results(copy):
    before = date(copy / "out", ".n*")
    report = (copy / "out" / "report.html").read_bytes()
    study = run(copy / "small.toml", copy / "out")
    assert date(copy / "out", ".n*") == before and len(before) == 5
    assert list(study.results) == ["rdms", "match", "evaluation"]
    assert (copy / "out" / "report.html").read_bytes() == report


def test_another_seed_makes_new_results_of_the_same_sessions(copy):
    sessions, results = date(copy / "out", ".nwb"), date(copy / "out", ".nc")
    old = RSAMatch.load(copy / "out" / "match.nc")
    new = run(copy / "small.toml", copy / "out", "match.seed=1").results["match"]
    assert date(copy / "out", ".nwb") == sessions
    assert all(time != results[name] for name, time in date(copy / "out", ".nc").items())
    assert old.params["rng"] == 0 and new.params["rng"] == 1
    assert not np.array_equal(old.stats["interval"], new.stats["interval"])
    xr.testing.assert_identical(old.data, new.data)


def test_overwrite_does_all_anew(copy):
    before = date(copy / "out", ".n*")
    old = netphys.open_session(copy / "out" / "subject.nwb").provenance["identifier"]
    study = run(copy / "small.toml", copy / "out", overwrite=True)
    after = date(copy / "out", ".n*")
    assert set(after) == set(before) and all(after[k] != before[k] for k in before)
    assert study.sessions["subject"].provenance["identifier"] != old


def test_results_of_another_recipe_do_not_stay(copy):
    match = RSAMatch.load(copy / "out" / "match.nc")
    for name in ("monkey", "group"):  # of another dataset, of another analysis
        match.save(copy / "out" / f"{name}.nc")
    run(copy / "small.toml", copy / "out", "match.seed=1")
    assert sorted(date(copy / "out", ".nc")) == ["evaluation.nc", "match.nc", "rdms.nc"]


def test_results_that_were_saved_in_part_are_made_again(copy):
    (copy / "out" / "match.nc").unlink()
    assert load_results(copy / "out", "rsa") == {}
    with pytest.raises(FileNotFoundError, match="holds no results to report"):
        renew_report(copy / "out")
    assert list(run(copy / "small.toml", copy / "out").results) == ["rdms", "match", "evaluation"]


def test_interrupted_match_leaves_sessions_and_goes_on(copy, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    sessions = date(copy / "out", ".nwb")
    for path in copy.glob("out/*.nc"):
        path.unlink()
    (copy / "out" / "report.html").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("netphys.study.geometry.match_rdms", stop)
        with pytest.raises(KeyboardInterrupt):
            run(copy / "small.toml", copy / "out")
    assert list_files(copy / "out") == ["subject.nwb", "untrained.nwb"]
    assert run(copy / "small.toml", copy / "out").report.exists()
    assert date(copy / "out", ".nwb") == sessions


def test_protocol_without_match_only_records(tmp_path):
    text = SMALL[: SMALL.index("[match]")]
    (tmp_path / "s.tsv").write_text("text\nThe dog ran home.\nA cat sat.\n")
    path = write(tmp_path, text.replace("builtin:sentences", "./s.tsv"))
    study = run(path, tmp_path / "out")
    assert list(study.sessions) == ["subject", "untrained"]
    assert (study.results, study.report) == ({}, None)


def test_get_folder_is_named_after_the_protocol(tmp_path, monkeypatch):
    protocol = load_protocol("quickstart")
    assert get_folder(protocol, None).as_posix() == "results/quickstart"
    assert get_folder(protocol, tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_folder(protocol, "~/x") == tmp_path / "x"


# What does not fit is said before anything is recorded

NO_MATCH = {
    ("match.dataset='simulatd'",): (
        ValueError,
        r"name='simulatd' is unknown\. .* Did you mean 'simulated'\?",
    ),
    ("match.analysis=encoding",): (
        ValueError,
        r"match\.analysis='encoding' does not fit match\.dataset='simulated', which holds one "
        r"pattern per stimulus\. Use 'rsa'\.",
    ),
    ("record.sites=['resid']", "match.sites=['resid', 'resdi']"): (
        ValueError,
        r"match\.sites\[1\]='resdi' is not among the sites .*Did you mean 'resid'\?",
    ),
    ("record.sites=['resid']",): (
        ValueError,
        r"match\.sites\[0\]='embed' is not among the sites that are recorded "
        r"\(record\.sites=\['resid'\]\)\. Record it too, or leave it out\.",
    ),
    ("match.generalize=['participants']",): (
        ValueError,
        r"match\.generalize=\['participants'\] would treat these stimuli as all there are",
    ),
    ("stimuli.context_words=3",): (
        ValueError,
        r"stimuli\.context_words=3 is for the words of a dataset, not for 'builtin:sentences'",
    ),
    ("stimuli.source='dataset:simulated'", "stimuli.context_words=3"): (
        ValueError,
        r"context_words=3: 'simulated' has no options\. Leave it out\.",
    ),
    ("stimuli.source='dataset:simulatd'",): (ValueError, "Did you mean 'simulated'"),
    ("match.dataset=kriegeskorte2008", "stimuli.source='dataset:kriegeskorte2008'"): (
        FileNotFoundError,
        r"'kriegeskorte2008' is not on this machine .* netphys fetch kriegeskorte2008",
    ),
    ("match.dataset=alice2016", "match.analysis=encoding"): (
        FileNotFoundError,
        r"'alice2016' is not on this machine .* netphys fetch alice2016\. Licence: ",
    ),
}


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.delenv("NETPHYS_DATA", raising=False)
    monkeypatch.setattr("netphys.brain._store.find_cache", lambda: tmp_path / "cache")


@pytest.mark.parametrize("overrides", NO_MATCH, ids=" ".join)
def test_what_does_not_fit_is_said_before_recording(overrides, tmp_path, no_data):
    error, message = NO_MATCH[overrides]
    path = write(tmp_path)
    protocol = load_protocol(path, overrides=overrides)
    with pytest.raises(error, match=message):
        run_protocol(protocol, out=tmp_path / "out", progress=False)
    with pytest.raises(error, match=message):
        check_protocol(protocol)
    assert list_files(tmp_path) == ["small.toml"]


def test_missing_data_folder_is_said_before_recording(tmp_path, monkeypatch):
    monkeypatch.setenv("NETPHYS_DATA", str(tmp_path / "none"))
    path = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"NETPHYS_DATA=.*none' is no folder"):
        run(path, tmp_path / "out", "match.dataset=alice2016", "match.analysis=encoding")
    assert list_files(tmp_path) == ["small.toml"]


def test_other_stimuli_are_refused_before_recording(tmp_path):
    (tmp_path / "s.tsv").write_text("stimulus_id\ttext\nanimals_01\tThe dog ran.\nx\tA cat sat.\n")
    path = write(tmp_path, SMALL.replace("builtin:sentences", "./s.tsv"))
    message = r"match\.dataset='simulated' have different stimuli \(96 are in one only, such as"
    with pytest.raises(ValueError, match=message):
        run(path, tmp_path / "out")
    assert list_files(tmp_path) == ["s.tsv", "small.toml"]


def test_check_looks_at_the_other_networks(tmp_path):
    other = '[[others]]\nname = "o"\nsubject = "{}"\nsites = ["{}"]\n'
    for subject, site, message in (
        ("builtin:languag", "embed", "Did you mean 'builtin:language'"),
        ("builtin:language", "embd", "Did you mean 'embed'"),
    ):
        path = write(tmp_path, SMALL + other.format(subject, site))
        with pytest.raises(ValueError, match=message):
            check_protocol(load_protocol(path))
    path = write(tmp_path, SMALL + other.format("builtin:language", "embed"))
    subject, stimuli, sites = check_protocol(load_protocol(path))
    assert (subject.name, len(stimuli), len(sites)) == ("builtin:language", 96, 3)


# The report again


def test_renew_report_writes_the_same_and_computes_nothing(copy, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("computed")

    for name in ("geometry.match_rdms", "geometry.compute_layer_rdms", "geometry.load_brain"):
        monkeypatch.setattr(f"netphys.study.{name}", refuse)
    before, report = date(copy / "out", ".n*"), copy / "out" / "report.html"
    content = report.read_bytes()
    report.unlink()
    assert renew_report(copy / "out") == report
    assert report.read_bytes() == content and date(copy / "out", ".n*") == before


def test_renew_report_says_what_is_missing(copy, tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no session subject\.nwb\. Give a fold"):
            renew_report(folder)
    twin = copy / "out" / "untrained.nwb"
    twin.rename(copy / "gone.nwb")
    with pytest.raises(FileNotFoundError, match=r"untrained\.nwb'?: no such file"):
        renew_report(copy / "out")
    shutil.copy(copy / "out" / "subject.nwb", twin)
    with pytest.raises(ValueError, match=r"sessions were recorded again since the results were"):
        renew_report(copy / "out")
    for path in copy.glob("out/*.nc"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no results to report\. Run a protocol"):
        renew_report(copy / "out")


# One session against a dataset


@pytest.mark.usefixtures("few_draws")
def test_compare_session_gives_what_the_protocol_gives(quickstart):
    folder, study = quickstart
    results = compare_session(
        folder / "subject.nwb", "simulated", twin=folder / "untrained.nwb", progress=False
    )
    assert list(results) == ["rdms", "match", "evaluation"]
    xr.testing.assert_identical(results["match"].data, study.results["match"].data)
    xr.testing.assert_identical(results["match"].stats, study.results["match"].stats)


@pytest.mark.usefixtures("few_draws")
def test_compare_session_without_a_twin_at_chosen_sites(small):
    path = small / "out" / "subject.nwb"
    match = compare_session(path, "simulated", sites=["transformer.h.*"], seed=3)["match"]
    assert match.params["rng"] == 3 and match.params["generalize"] == ["stimuli", "participants"]
    names = ["transformer.h.0@in", "transformer.h.2", "transformer.h.3"]
    assert match.data["layer"].to_numpy().tolist() == names
    assert "twin_difference" not in match.stats and "no untrained twin" in match.summary()


@pytest.mark.usefixtures("few_draws")
def test_compare_session_takes_all_sites_where_none_is_standard(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlp") / "a.nwb"
    record(path, "builtin:sentences", sites=["mlp"])
    match = compare_session(path, "simulated")["match"]
    assert match.data.sizes["layer"] == 6


def test_compare_session_refuses_what_it_cannot_compare(tmp_path, small):
    record(tmp_path / "a.nwb", ["The dog ran.", "A cat sat."])
    message = r"brain and models\['subject'\] have different conditions\. Only in brain: 'anim"
    with pytest.raises(ValueError, match=message):
        compare_session(tmp_path / "a.nwb", "simulated")
    subject = small / "out" / "subject.nwb"
    with pytest.raises(ValueError, match=r"name='simulatd' is unknown\. .* mean 'simulated'"):
        compare_session(subject, "simulatd")
    with pytest.raises(KeyError, match=r"site='resdi' is not in subject\.nwb\. Did you mean 'res"):
        compare_session(subject, "simulated", sites=["resdi"])
    with pytest.raises(FileNotFoundError, match=r"none\.nwb'?: no such file"):
        compare_session(tmp_path / "none.nwb", "simulated")
    for seed, error, message in ((-1, ValueError, "is negative"), ("1", TypeError, "is a str")):
        with pytest.raises(error, match=message):
            compare_session(subject, "simulated", seed=seed)


def record(path, stimuli, **options):
    subject = netphys.load_subject("builtin:language")
    return netphys.record(subject, load_stimuli(stimuli), path, progress=False, **options)


# Other networks, several twins, several seeds, no draws


def test_other_networks_are_compared_layer_by_layer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    text = SMALL.replace("n_null = 19", "n_null = 0") + (
        '[[twins]]\nname = "second"\nseed = 1\n'
        '[[others]]\nname = "monkeys"\nsubject = "builtin:language"\ninit = "random"\n'
        "seeds = [2, 3]\nsites = ['transformer.h.1', 'transformer.h.3']\n"
        '[[others]]\nname = "shuffled"\nsubject = "builtin:language"\ninit = "shuffled"\n'
    )
    study = run(write(folder, text), folder / "out")
    names = ["subject", "untrained", "second", "monkeys-2", "monkeys-3", "shuffled"]
    assert list(study.sessions) == names
    assert study.sessions["monkeys-2"].sites == ["transformer.h.1", "transformer.h.3"]
    match, controls = study.results["match"], study.results["controls"]
    assert "p" not in match.stats and match.null is None
    own = match.stats["model"].to_numpy().tolist()
    assert {m: own.count(m) for m in own} == {"subject": 3, "monkeys": 2, "shuffled": 3}
    assert np.isfinite(match.stats["seed_sd"].sel(region="signal").to_numpy()[3:5]).all()
    of = match.stats["mean"].isel(layer=[m == "monkeys" for m in own])
    best = of.mean("region").max()
    twin = controls.stats["twin_score"].isel(layer=0).mean("region")
    assert twin == pytest.approx(float(best))
    text = tell(study.report)[2]
    assert "The subject's transformer.h.2 is above the same layer of the untrained" in text
    assert "The subject's transformer.h.2 is above the best layer of monkeys" in text
    assert "compared with the best layer of each other network as a paired difference" in text
    assert "the match recovered the true layer" in text and "n/a" not in text.split("Methods")[0]
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.1, 0.3), "A is above B (difference 0.200, 95 % interval 0.100 to 0.300)."),
        ((-0.3, -0.1), "A is below B"),
        ((-0.1, 0.3), "A and B cannot be told apart"),
        ((0.0, 0.3), "A and B cannot be told apart"),
        ((np.nan, np.nan), "A minus B: 0.200, without an interval."),
    ],
)
def test_say_difference_by_hand(interval, words):
    assert say_difference("A", "B", 0.2, *interval).startswith(words)


@pytest.mark.slow
def test_damaged_results_are_computed_again_and_a_new_title_is_kept(quickstart):
    folder, study = quickstart
    (folder / "match.nc").write_bytes(b"no longer a result")
    protocol = load_protocol("quickstart", overrides=['title="Another title"'])
    again = run_protocol(protocol, out=folder, progress=False)
    xr.testing.assert_allclose(again.results["match"].data, study.results["match"].data)
    assert "Another title" in renew_report(folder).read_text()


def test_compare_refuses_a_twin_that_is_none(quickstart):
    folder, _ = quickstart
    subject, twin = folder / "subject.nwb", folder / "untrained.nwb"
    with pytest.raises(ValueError, match="is of 'builtin:language', init trained"):
        compare_session(twin, "simulated", twin=subject, progress=False)
    with pytest.raises(ValueError, match="has the weights of the session itself"):
        compare_session(twin, "simulated", twin=twin, progress=False)


# A small encoding study: a short tale heard by five people who were never there

N_WORDS, N_VOLUMES, PEOPLE, PLANTED = 300, 160, 5, "transformer.h.3"
TALE = """
schema = 1
title = "Tale"
[subject]
name = "builtin:language"
[[twins]]
name = "untrained"
[stimuli]
source = "dataset:tale"
[record]
batch_size = 64
[match]
dataset = "tale"
analysis = "encoding"
sites = ["embed", "transformer.h.1", "transformer.h.3"]
targets = ["group", "participant"]
n_null = 39
n_bootstraps = 99
"""


def load_tale_stimuli(name, *, context_words=8):
    """The words of the shipped sentences, one after the other, as a story in time."""
    table = load_stimuli("builtin:sentences").table
    words = " ".join(table["text"]).replace(".", "").replace(",", "").lower().split()[:N_WORDS]
    rng = np.random.default_rng(0)
    begin = 4 + np.cumsum(rng.uniform(0.5, 1.5, N_WORDS))
    facts = {"text": words, "word_form": words, "n_characters": [len(w) for w in words]}
    frame = type(table)(facts)
    if context_words == 0:
        return load_stimuli(frame.drop_duplicates("word_form", ignore_index=True))
    frame["stimulus_id"] = [f"w{i}" for i in range(N_WORDS)]
    frame["context"] = [" ".join(words[max(0, i - context_words) : i]) for i in range(N_WORDS)]
    frame["onset"], frame["duration"] = begin, rng.uniform(0.2, 0.4, N_WORDS)
    return load_stimuli(frame)


def make_tale_brain(session):
    """Five people whose region `planted` follows one layer; region `silent` follows nothing."""
    from netphys.brain.prepare import align_words

    rng = np.random.default_rng(1)
    time = 2.0 * np.arange(N_VOLUMES) + 1
    clock = xr.DataArray(time, dims="time", coords={"time": time}, attrs={"tr": 2.0})
    values = session.pool(PLANTED)
    onsets = session.trial_table.sort_values("stimulus_index")["onset"].to_numpy()
    left, scale, _ = np.linalg.svd(values - values.mean("trial"), full_matrices=False)
    x = xr.DataArray(left[:, :4] * scale[:4], dims=("trial", "unit"))
    signal = align_words(x, onsets, clock).to_numpy()
    signal = (signal / signal.std(axis=0)).sum(axis=1)[:, None]
    motion = rng.normal(size=(PEOPLE, N_VOLUMES, 2)).cumsum(axis=1)
    motion /= motion.std(axis=1, keepdims=True)
    noise = rng.normal(size=(PEOPLE, N_VOLUMES, 2))
    values = noise + 0.5 * motion[..., :1] + signal * [0.8, 0.0]
    coords = {
        "participant": [f"p{i}" for i in range(PEOPLE)],
        "time": time,
        "region": ["planted", "silent"],
    }
    dims = ("participant", "time", "region")
    data = {
        "responses": (dims, values, {"order": "ordered", "tr": 2.0}),
        "motion": (("participant", "time", "component"), motion),
        "sound_power": ("time", rng.normal(size=N_VOLUMES)),
    }
    attrs = {
        "name": "tale",
        "title": "A tale",
        "version": "1",
        "licence": "CC0",
        "order": "ordered",
    }
    return xr.Dataset(data, coords, attrs | {"tr": 2.0, "excluded": '{"p9": "constant"}'})


def patch_tale(patch, brain):
    """Put a made-up brain, and the stimuli that it was shown, in the place of a dataset."""
    patch.setattr("netphys.brain.datasets.load_brain_stimuli", load_tale_stimuli)
    for place in ("study", "study.prediction", "study.single"):
        patch.setattr(f"netphys.{place}.load_brain", lambda name: brain.copy(deep=True))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder of a finished encoding study, the study, and its brain."""
    folder = tmp_path_factory.mktemp("tale")
    shown = load_tale_stimuli("tale")
    subject = netphys.load_subject("builtin:language")
    heard = netphys.record(subject, shown, folder / "x.nwb", sites=[PLANTED], progress=False)
    brain = make_tale_brain(heard)
    with pytest.MonkeyPatch.context() as patch:
        patch_tale(patch, brain)
        study = run(write(folder, TALE), folder / "out")
    return folder, study, brain


@pytest.fixture
def tale(told, monkeypatch):
    """Folder and study, with its dataset in place while a test runs."""
    folder, study, brain = told
    patch_tale(monkeypatch, brain)
    return folder, study


@pytest.mark.slow
def test_encoding_study_has_every_rung_and_target(tale):
    _, study = tale
    assert list(study.sessions) == ["subject", "isolated", "untrained"]
    assert len(study.sessions["isolated"].trial_table) < len(study.sessions["subject"].trial_table)
    assert study.sessions["isolated"].trial_table["word_form"].is_unique
    assert list(study.results) == ["group", "participant"]
    rungs = ["nuisance", "OASM", "untrained twin", "layer 0", "isolated word", "word in context"]
    for target, result in study.results.items():
        assert result.models == rungs and result.params["target"] == target
        names = [f"{a} - {b}" for a, b in result.contrasts]
        assert names == list(result.to_contrasts().index)
        assert names[-2:] == ["word in context - layer 0", "word in context - isolated word"]
        assert "word in context - untrained twin" in names
        assert result.params["excluded"] == '{"p9": "constant"}'
        assert result.params["n_people"] == PEOPLE and result.params["highpass"] == 128
        assert result.provenance["dataset"]["title"] == "A tale"
        layers = result.stats["layer_share"].sel(model="word in context").to_series().dropna()
        assert PLANTED in layers.index and "transformer.h.0@in" not in layers.index
    assert study.results["group"].data.sizes["participant"] == 1
    assert study.results["participant"].data.sizes["participant"] == PEOPLE


def test_isolated_words_have_the_tokens_that_they_have_in_the_story(tale):
    tokens = {}
    for name, session in tale[1].sessions.items():
        table, samples = session.trial_table.set_index("stimulus_index"), session.samples("token")
        grouped = samples.groupby("trial")["token_id"].agg(tuple)
        tokens[name] = dict(
            zip(table["word_form"].loc[grouped.index[1:]], grouped[1:], strict=True)
        )
    shared = set(tokens["subject"]) & set(tokens["isolated"])
    assert len(shared) > 100
    assert {w: tokens["subject"][w] for w in shared} == {w: tokens["isolated"][w] for w in shared}


def test_encoding_study_finds_what_was_planted_where_it_was(tale):
    result = tale[1].results["participant"]
    gain = result.stats["difference"].sel(model="word in context", model_2="nuisance")
    assert gain.sel(region="planted") > 0.1 > gain.sel(region="silent")
    p = result.stats["p"].sel(model="word in context")
    assert p.sel(region="planted") <= 0.025
    assert result.to_ladder().loc["OASM", "above nuisance"] < 0.03
    above = result.stats["difference"].sel(model="word in context", model_2="untrained twin")
    assert above.sel(region="planted") > 0
    share = result.stats["layer_share"].sel(model="word in context", layer=PLANTED)
    assert share > 0.5


def test_encoding_report_says_what_it_holds_for(tale):
    page, titles, text = tell(tale[1].report)
    assert titles == SECTIONS and len(page.all("img")) >= 6
    assert "For this story, in these regions." in text
    assert "the mean response of the group with r =" in text
    assert "Predicting each person's own responses, OASM adds" in text
    assert "Left out: p9 (constant)." in text
    assert "the untrained twin" in text and "the same word in isolation" in text
    assert "The session 'isolated' holds the same network on each word form alone." in text
    assert "up to 8 words, which is not recorded. Rule:" in text
    assert "Licence: CC0" in text and "circular shifts with refit" in text


@pytest.mark.slow
def test_encoding_study_again_keeps_results_in_their_order(tale):
    folder, study = tale
    before, report = date(folder / "out", ".n*"), study.report.read_bytes()
    again = run(folder / "small.toml", folder / "out")
    assert list(again.results) == ["group", "participant"]
    assert date(folder / "out", ".n*") == before and again.report.read_bytes() == report
    assert renew_report(folder / "out").read_bytes() == report


def test_compare_session_of_words_gives_the_ladder(tale):
    sites = ["embed", "transformer.h.3"]
    out = tale[0] / "out"
    own = compare_session(out / "subject.nwb", "tale", sites=sites, progress=False)
    assert own["participant"].models == ["nuisance", "OASM", "layer 0", "word in context"]
    with pytest.raises(ValueError, match=r"isolated\.nwb has no column onset, duration, so it is"):
        compare_session(out / "isolated.nwb", "tale", progress=False)
    with pytest.raises(ValueError, match=r"match\.sites=\['embed'\] is one site only"):
        compare_session(out / "subject.nwb", "tale", sites=["embed"], progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("match.analysis=rsa",), r"which holds time series\. Use 'encoding'"),
        (("stimuli.context_words=0",), r"context_words=0 has no column onset, duration, so these"),
        (
            ("stimuli.source='builtin:sentences'",),
            r"has no column onset, duration, n_characters, w",
        ),
    ],
)
def test_encoding_study_refuses_what_does_not_fit(tale, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tale[0] / "small.toml", tmp_path / "out", *change)
    assert not (tmp_path / "out").exists()


def test_encoding_study_refuses_networks_that_it_would_not_use(tale, tmp_path):
    text = TALE + '[[others]]\nname = "o"\nsubject = "builtin:language"\n'
    with pytest.raises(ValueError, match=r"others\[0\]\.name='o': an encoding study compares the"):
        run(write(tmp_path, text), tmp_path / "out")
    assert list_files(tmp_path) == ["small.toml"]


# Real recordings

needs_recordings = pytest.mark.skipif(
    "NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA names no folder with recordings"
)


def open_in_browser(folder, n_pictures):
    seen, console = look(folder)
    assert console == []
    assert [s["width"] for s in seen] == list(WIDTHS)
    for one in seen:
        assert len(one["images"]) == n_pictures and min(one["images"]) > 0
        assert one["scroll"] <= one["width"]


@pytest.fixture
def scratch(tmp_path_factory):
    """A folder for big sessions, removed at the end."""
    folder = tmp_path_factory.mktemp("real")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_quickstart_report_opens_in_a_browser(quickstart, tmp_path):
    shutil.copy(quickstart[1].report, tmp_path)
    open_in_browser(tmp_path, n_pictures=10)


@needs_recordings
@pytest.mark.slow
def test_alice_from_model_to_report(scratch):
    """27 people, one chapter: what is lexical is found, context adds nothing measurable."""
    study = run("alice-fmri", scratch)
    assert list(study.sessions) == ["subject", "isolated", "untrained"]
    assert list(study.results) == ["participant", "group"]
    rungs = ["nuisance", "OASM", "untrained twin", "layer 0", "isolated word", "word in context"]
    for result in study.results.values():
        assert result.models == rungs and result.params["n_people"] == 27
        assert list(json.loads(result.params["excluded"])) == ["s33"]
        assert result.params["n_samples"] == 362 and result.data.sizes["region"] == 6
        ladder, differences = result.to_ladder(), result.to_contrasts()
        assert ladder.loc["isolated word", "p"] < 0.05 < ladder.loc["OASM", "p"]
        assert ladder.loc["OASM", "above nuisance"] < 0.03
        context = differences.loc["word in context - isolated word"]
        assert context["lower"] < context["difference"] < context["upper"]
        assert context["lower"] < 0.02 and abs(context["difference"]) < 0.08
    each, group = (study.results[k].to_ladder()["r"] for k in ("participant", "group"))
    assert each["nuisance"] == pytest.approx(0.3, abs=0.04)
    assert group["isolated word"] > group["nuisance"] + 0.05 > each["nuisance"]
    text = tell(study.report)[2]
    assert "For this story, in these regions." in text and "s33 (" in text
    assert "The word in its context and the same word in isolation cannot be told apart" in text
    assert "brennan2016" in text and "circular shifts with refit" in text
    open_in_browser(scratch, n_pictures=6)


@needs_recordings
@pytest.mark.slow
def test_objects_from_models_to_report(scratch):
    """92 images in IT of four people and of monkeys, beside models without training."""
    study = run("objects-it", scratch)
    assert list(study.sessions) == ["subject", "pixels", *(f"resnet18-{k}" for k in range(5))]
    assert list(study.results) == ["rdms", "match", "evaluation", "controls", "monkey", "species"]
    assert float(study.results["species"].data) == pytest.approx(0.4912, abs=5e-5)
    match = study.results["match"]
    assert match.stats["ceiling"].to_numpy() == pytest.approx([0.372, 0.666], abs=1e-3)
    assert match.params["n_participants"] == 4 and match.params["generalize"] == ["stimuli"]
    of = match.data["model"].to_numpy().tolist()
    assert of.count("resnet18") == 4 and of.count("subject") == of.count("pixels") == 1
    assert set(match.data["seed_n"].to_numpy()[[m == "resnet18" for m in of]]) == {5}
    stored = [name for name in of if name.endswith("(stored)")]
    assert len(stored) == 8 and match.stats["best"].item() in stored
    in_monkeys = study.results["monkey"].data["model"].to_numpy().tolist()
    assert set(of) - set(in_monkeys) == {"monkeyIT (stored)"}
    page, _, text = tell(study.report)
    told = page.text("p")
    headline = next(t for t in told if t.startswith("Of the matched layers"))
    assert told.index(headline) < 4 and "subject: energy" in headline
    assert not any(name.removesuffix(" (stored)") in headline for name in stored)
    assert "Human and monkey IT agree with Pearson's r 0.491" in text
    assert "4 people are shown as 4 points: nothing is claimed of other people." in text
    assert "monkeyIT 0." in text and "kriegeskorte2008it" in text
    open_in_browser(scratch, n_pictures=4)
