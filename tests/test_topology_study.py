"""A study of topology: from a protocol to layers identified under noise, and its report."""

from __future__ import annotations

import numpy as np
import pytest
from test_study import SECTIONS, date, list_files, run, tell, write

from netphys._options import DESCRIPTORS
from netphys.analysis import _identify
from netphys.analysis.tolerance import identify_under_noise
from netphys.core.topology.transform import make_grid
from netphys.protocol import load_protocol, make_protocol
from netphys.run import check_protocol
from netphys.study import load_results
from netphys.study.single import renew_report
from netphys.study.topology import identify_layers

SMALL = """
schema = 1
title = "Small"
question = "Are layers told apart?"
[subject]
name = "builtin:digits/0"
[[others]]
name = "trained"
subject = "builtin:digits/{seed}"
seeds = [1, 2, 3]
[[others]]
name = "untrained"
subject = "builtin:digits"
init = "random"
seeds = [0, 1, 2, 3]
[stimuli]
source = "builtin:digits"
[record]
sites = ["conv1", "conv5", "logits"]
batch_size = 62
[topology]
networks = ["subject", "trained"]
controls = ["untrained"]
sites = ["conv1", "conv5", "logits"]
noise = [0.0, 0.4]
n_draws = 2
n_levels = 6
n_null = 19
seed = 3
"""
TITLES = ["Identification" if title == "Brain match" else title for title in SECTIONS]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topology")
    return folder, run(write(folder, SMALL), folder / "out")


def test_options_name_the_descriptors_that_there_are():
    assert DESCRIPTORS == _identify.DESCRIPTORS


def test_study_gives_sessions_results_and_report(small):
    folder, study = small
    names = ["subject", *(f"trained-{k}" for k in (1, 2, 3)), *(f"untrained-{k}" for k in range(4))]
    assert list(study.sessions) == names
    assert list(study.results) == ["layers", "tolerance", "control"]
    files = ["control.nc", "layers.nc", "report.html", "tolerance.nc"]
    assert list_files(folder / "out") == sorted([*files, *(f"{n}.nwb" for n in names)])
    layers = study.results["layers"].data
    assert layers["seed"].to_numpy().tolist() == names[:4]
    assert layers["layer"].to_numpy().tolist() == ["conv1", "conv5", "logits"]
    found = study.results["tolerance"]
    assert found.data.sizes == {"descriptor": 4, "noise": 2, "repetition": 2, "seed": 4}
    assert found.params["rng"] == 3 and found.params["n_draws"] == 19
    assert study.results["control"].data["seed"].to_numpy().tolist() == names[4:]
    assert make_protocol(found.provenance["protocol"]) == load_protocol(folder / "small.toml")


@pytest.mark.slow
def test_study_is_the_function_on_the_layers(small):
    results = small[1].results
    options = {"n_draws": 2, "grid": make_grid(6), "n_permutations": 19, "rng": 3}
    again = identify_under_noise(results["layers"], noise=[0.0, 0.4], **options)
    np.testing.assert_array_equal(again.data, results["tolerance"].data)
    np.testing.assert_array_equal(again.null, results["tolerance"].null)


@pytest.mark.slow
def test_far_layers_of_trained_networks_are_told_apart(small):
    found = small[1].results["tolerance"]
    assert (found.stats["accuracy"].sel(descriptor=["rdm", "ranked", "rgtm"]) > 0.8).all()
    assert (found.stats["p"].sel(descriptor="rdm") == 0.05).all()


def test_report_says_what_was_found_and_what_it_is_worth(small):
    page, titles, text = tell(small[1].report)
    assert titles == TITLES and len(page.all("img")) == 3 + 1 + 2 + 2 + 1
    assert "Accuracy of identifying layers across 4 networks, chance 0.333: at noise 0 rdm" in text
    assert "At noise 0.4, rgtm and ranked" in text or "At noise 0.4, rgtm is" in text
    assert "From noise 0 to 0.4 accuracies changed by, with 95 % intervals: rdm" in text
    assert "which is too high" in text and "picked on the very networks it is measured on" in text
    assert "Across 4 control networks the accuracies at noise 0.4 are rdm" in text
    assert "stimuli were not resampled" in text and "(Lin" not in titles
    assert "lin2024trsa" in text and "Brain" not in page.text("dt")
    assert "nan" not in {word.strip("().,;:") for word in text.split()}


@pytest.mark.slow
def test_study_again_keeps_sessions_and_results(small):
    folder, study = small
    before, report = date(folder / "out", ".n*"), study.report.read_bytes()
    again = run(folder / "small.toml", folder / "out")
    assert date(folder / "out", ".n*") == before and again.report.read_bytes() == report
    study.report.unlink()
    assert renew_report(folder / "out").read_bytes() == report
    assert list(load_results(folder / "out", "topology")) == ["layers", "tolerance", "control"]
    assert load_results(folder / "out", "rsa") == {}


@pytest.mark.slow
def test_study_without_controls_or_thresholds(small):
    folder = small[0]
    overrides = ["topology.descriptors=['ranked','rdm']", "topology.noise=[0.2]"]
    protocol = (folder / "small.toml").read_text().replace('controls = ["untrained"]\n', "")
    path = write(folder, protocol, "other.toml")
    before = date(folder / "out", ".nwb")
    study = run(path, folder / "out", *overrides, "topology.n_null=0")
    assert list(study.results) == ["layers", "tolerance"]
    assert date(folder / "out", ".nwb") == before
    text = tell(study.report)[2]
    assert "There are no controls that were identified in the same way." in text
    assert "No p-value was computed" in text
    run(folder / "small.toml", folder / "out")  # as the other tests expect it


REFUSED = {
    ("topology.sites=['conv9']",): r"topology\.sites\[0\]='conv9' is not among the sites that are",
    ("subject.name=builtin:digits/2",): (
        r"topology\.networks: 'trained-2' and 'subject' are the same network \('builtin:digits/2', "
        r"trained\)\. A network that is left out must not be among the others"
    ),
    ("stimuli.source=builtin:sentences",): r"stimuli of kind 'text' do not fit 'builtin:digits/0'",
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.items(), ids=lambda v: str(v)[:30])
def test_what_does_not_fit_is_said_before_recording(overrides, message, tmp_path):
    protocol = load_protocol(write(tmp_path, SMALL), overrides=overrides)
    with pytest.raises(ValueError, match=message):
        check_protocol(protocol)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "small.toml", tmp_path / "out", *overrides)
    assert list_files(tmp_path) == ["small.toml"]


@pytest.mark.slow
def test_networks_of_the_same_weights_are_refused_whatever_their_names(small):
    folder, study = small
    sessions = study.sessions | {"trained-2": study.sessions["subject"]}
    with pytest.raises(ValueError, match=r"'trained-2' and 'subject' have the same weights\."):
        identify_layers(load_protocol(folder / "small.toml"), sessions, progress=False)


@pytest.mark.slow
def test_ten_trained_networks_from_protocol_to_report(tmp_path):
    """What the shipped protocol finds: the numbers that the notebook tells."""
    study = run("digits-topology", tmp_path)
    trained, control = (study.results[k].stats for k in ("tolerance", "control"))
    score = trained["accuracy"]
    assert score.sel(noise=0.0).to_numpy() == pytest.approx([0.738, 0.838, 0.838, 0.725], abs=0.02)
    assert score.sel(noise=0.4).to_numpy() == pytest.approx([0.724, 0.807, 0.792, 0.453], abs=0.02)
    assert (trained["p"] == 0.005).all()
    difference = trained["difference"].sel(descriptor="rgtm", noise=0.4)
    assert difference.sel(descriptor_2=["rdm", "ranked"]).to_numpy() == pytest.approx(
        [0.069, -0.015], abs=0.02
    )
    rgtm = trained.sel(descriptor="rgtm")
    gain = (rgtm["optimistic"] - rgtm["accuracy"]).to_numpy()
    assert (gain > 0.01).all() and (gain < 0.06).all()
    parts = rgtm["part_accuracy"].sel(part=["topology", "geometry"], noise=[0.0, 0.4]).to_numpy()
    assert parts == pytest.approx(np.array([[0.863, 0.840], [0.786, 0.807]]), abs=0.02)
    untrained = control["accuracy"].sel(descriptor="ranked", noise=[0.0, 0.1]).to_numpy()
    assert untrained == pytest.approx([0.425, 0.574], abs=0.03)
    text = tell(study.report)[2]
    assert "At noise 0.4, rgtm and rdm cannot be told apart" in text
