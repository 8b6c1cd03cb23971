"""Match of models to a brain: planted layers are found, noise is not, twins are paired."""

from __future__ import annotations

import os
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from netphys._options import METHODS
from netphys.analysis.rsa import RDM, compute_rdm, compute_rsa_ceiling, to_rdm
from netphys.brain.match import match_rdms
from netphys.brain.match_result import RSAMatch
from netphys.core.compare import compare_pairs

matplotlib.use("Agg")


def make_rdm(values: np.ndarray, dims: tuple[str, ...] = (), **coords) -> RDM:
    """RDM of patterns (*dims, stimulus, unit)."""
    labels = [f"s{k:02d}" for k in range(values.shape[-2])]
    coords = {"stimulus_id": ("trial", labels)} | coords
    return compute_rdm(xr.DataArray(values, coords, (*dims, "trial", "unit")))


def make_world(
    rng: np.random.Generator, *, n: int = 40, layers: int = 3, people: int = 4, noise: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Patterns of layers with unrelated geometries, and of people who see layer 1 with noise."""
    hidden = rng.normal(size=(layers, n, 8))
    brain = hidden[1] @ rng.normal(size=(people, 8, 20)) + noise * rng.normal(size=(people, n, 20))
    return hidden @ rng.normal(size=(layers, 8, 30)), brain


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    x, b = make_world(rng)
    names = ["h.0", "h.1", "h.2"]
    people = ["p1", "p2", "p3", "p4"]
    model = make_rdm(x, ("layer",), layer=names)
    twin = make_rdm(rng.normal(size=x.shape), ("layer",), layer=names)
    return model, make_rdm(b, ("participant",), participant=people), twin


@pytest.fixture(scope="module")
def match(world):
    model, brain, twin = world
    return match_rdms(model, brain, twin=twin, n_permutations=199, n_bootstraps=100, rng=0)


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


# ---------------------------------------------------------------- scores
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_similarities_per_participant(world, method):
    model, brain, _ = world
    result = match_rdms(model, brain, method=method, n_permutations=0, n_bootstraps=0)
    i, j = np.triu_indices(40, 1)
    a, b = (r.data.transpose(..., "condition", "condition_2").to_numpy() for r in (model, brain))
    expected = compare_pairs(a[:, i, j], b[:, i, j], method=method)
    assert result.data.dims == ("layer", "participant")
    np.testing.assert_allclose(result.data, expected, atol=1e-12)
    np.testing.assert_allclose(result.stats["mean"], expected.mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(
        result.stats["ceiling"], compute_rsa_ceiling(brain, method=method)
    )


def test_conditions_are_aligned_by_label(world, match):
    model, brain, twin = world
    order = model.conditions[::-1]
    moved = match_rdms(
        model.select(condition=order), brain, twin=twin, n_permutations=0, n_bootstraps=0
    )
    np.testing.assert_allclose(moved.data, match.data, atol=1e-12)


def test_planted_layer_is_found(match):
    s = match.stats
    assert s["best"].item() == "h.1" and float(s["p_max"].sel(layer="h.1")) == 0.005
    assert (s["p_max"] >= s["p"]).all() and (s["p_max"].sel(layer=["h.0", "h.2"]) > 0.05).all()
    assert s["best_share"].to_numpy().tolist() == [0, 1, 0]
    lower, upper = s["interval"].sel(layer="h.1").to_numpy()
    assert 0.1 < lower < float(s["mean"].sel(layer="h.1")) < upper
    assert match.params["holds_for"].startswith("these 4 participants, and stimuli like these 40")


def test_twin_is_a_paired_difference(world, match):
    _, brain, twin = world
    alone = match_rdms(twin, brain, n_permutations=0, n_bootstraps=0)
    s = match.stats
    np.testing.assert_allclose(s["twin_score"], alone.stats["mean"], atol=1e-12)
    np.testing.assert_allclose(s["twin_difference"], s["mean"] - s["twin_score"])
    at = s.sel(layer="h.1")
    assert at["twin_interval"][0] > 0 and at["twin_p"] < at["twin_p_bh"] < 0.001
    first = match.summary().splitlines()[0]
    assert re.match(
        r"\+0\.\d+ above the untrained twin \(95 % .* p < 0\.001, at the best .*h\.1", first
    )


def test_twin_of_the_same_weights_makes_no_difference(world):
    model, brain, _ = world
    s = match_rdms(model, brain, twin=model, n_permutations=0, n_bootstraps=50, rng=0).stats
    assert (s["twin_difference"] == 0).all() and (s["twin_interval"] == 0).all()


def test_regions_are_matched_one_by_one(world):
    model, brain, twin = world
    patterns = np.random.default_rng(3).normal(size=(4, 40, 10))
    noise = make_rdm(patterns, ("participant",))
    both = np.stack([noise.data.to_numpy(), brain.data.to_numpy()], axis=-1)
    data = xr.DataArray(
        both,
        {"condition": brain.conditions, "region": ["noise", "IT"]},
        ("condition", "condition_2", "participant", "region"),
    )
    result = match_rdms(model, to_rdm(data), twin=twin, n_permutations=99, n_bootstraps=50, rng=1)
    assert result.data.dims == ("layer", "participant", "region")
    assert result.stats["best"].sel(region="IT") == "h.1"
    assert result.stats["ceiling"].dims == ("bound", "region")
    alone = match_rdms(model, brain, n_permutations=0, n_bootstraps=0)
    np.testing.assert_allclose(result.data.sel(region="IT"), alone.data, atol=1e-12)
    assert [line.split(":")[0] for line in result.summary().splitlines()[:2]] == ["noise", "IT"]
    assert result.to_table(region="IT").index.tolist() == ["h.0", "h.1", "h.2"]
    with pytest.raises(ValueError, match=r"This match has 2 regions\. Name one: region='noise'"):
        result.plot()
    with pytest.raises(ValueError, match=r"region='it' is not in .* Did you mean 'IT'"):
        result.plot(region="it")


def test_seeds_are_averaged_and_their_spread_is_told(world):
    model, brain, _ = world
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, 3, 40, 20))
    seeds = make_rdm(x, ("layer", "seed"), layer=["a", "b"])
    result = match_rdms(
        {"net": seeds, "ref": model.select(layer="h.1")},
        brain,
        rng=0,
        n_permutations=99,
        n_bootstraps=50,
    )
    assert result.data["layer"].to_numpy().tolist() == ["net: a", "net: b", "ref"]
    assert result.data["model"].to_numpy().tolist() == ["net", "net", "ref"]
    assert result.data["site"].to_numpy().tolist() == ["a", "b", "h.1"]
    assert result.data["seed_n"].to_numpy().tolist() == [3, 3, 1]
    each = [
        match_rdms(make_rdm(x[:, k], ("layer",)), brain, n_permutations=0, n_bootstraps=0)
        for k in range(3)
    ]
    scores = np.stack([e.stats["mean"] for e in each])
    np.testing.assert_allclose(result.stats["mean"][:2], scores.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(result.stats["seed_sd"][:2], scores.std(axis=0, ddof=1))
    assert np.isnan(result.stats["seed_sd"][2])
    assert "fewer than 5 say nothing of other seeds" in result.summary()


def test_twins_belong_to_their_model(world):
    model, brain, twin = world
    other = make_rdm(np.random.default_rng(1).normal(size=(40, 9)))
    result = match_rdms(
        {"net": model, "ref": other},
        brain,
        twin={"net": twin},
        rng=0,
        n_permutations=0,
        n_bootstraps=50,
    )
    assert np.isfinite(result.stats["twin_difference"][:3]).all()
    assert np.isnan(result.stats["twin_difference"].sel(layer="ref"))
    assert np.isnan(result.stats["twin_p_bh"].sel(layer="ref"))


def test_one_participant_has_no_ceiling(world):
    model, brain, _ = world
    result = match_rdms(model, brain.select(participant="p2"), n_permutations=99, n_bootstraps=50)
    assert "ceiling" not in result.stats and result.data.sizes["participant"] == 1
    assert "Noise ceiling left out: it needs at least two participants." in result.summary()


def test_a_dead_layer_is_nan_and_never_the_best(world):
    model, brain, _ = world
    data = model.data.copy()
    data[..., 0] = np.nan
    result = match_rdms(to_rdm(data), brain, n_permutations=99, n_bootstraps=50, rng=0)
    assert np.isnan(result.stats["mean"][0]) and np.isnan(result.stats["p_max"][0])
    assert result.stats["best"].item() == "h.1" and np.isfinite(result.stats["p_max"][1:]).all()


def test_stored_models_become_candidates(world):
    model, brain, _ = world
    stored = to_rdm(model.data.rename(layer="model").assign_coords(model=["V1", "IT", "face"]))
    result = match_rdms(stored, brain, n_permutations=0, n_bootstraps=0)
    assert result.data["layer"].to_numpy().tolist() == ["V1", "IT", "face"]
    assert result.stats["best"].item() == "IT"


# ---------------------------------------------------------------- what is claimed
def test_intervals_are_left_out_with_their_reason(world):
    model, brain, _ = world
    few = model.conditions[:12]
    small = [r.select(condition=few) for r in (model, brain)]
    cases = [
        (small, {}, "12 stimuli are fewer than 20"),
        ((model, brain), {"n_bootstraps": 0}, "n_bootstraps=0"),
        ((model, brain), {"generalize": ()}, "generalize is empty"),
        ((model, brain), {"order": "ordered"}, "an ordered series cannot be resampled"),
    ]
    for rdms, options, reason in cases:
        result = match_rdms(*rdms, **({"n_permutations": 0, "rng": 0} | options))
        assert "interval" not in result.stats and reason in result.params["interval"]
        assert reason in result.summary() and "nothing sampled" in result.params["holds_for"]


def test_ordered_brain_data_may_not_be_called_iid(world):
    model, brain, _ = world
    timed = RDM(brain.data, brain.stats, None, brain.params, {"order": "ordered"})
    assert match_rdms(model, timed, n_permutations=99).params["order"] == "ordered"
    with pytest.raises(ValueError, match="order='iid', but the data are ordered in time"):
        match_rdms(model, timed, order="iid")


def test_two_factors_widen_the_interval():
    rng = np.random.default_rng(2)
    x, b = make_world(rng, people=8)
    b[:4] = rng.normal(size=b[:4].shape)  # half of the people see nothing
    rdms = make_rdm(x, ("layer",)), make_rdm(b, ("participant",))
    one = match_rdms(*rdms, n_permutations=0, n_bootstraps=200, rng=0)
    two = match_rdms(
        *rdms, n_permutations=0, n_bootstraps=200, rng=0, generalize=("stimuli", "participants")
    )
    width = [float(r.stats["interval"][1].diff("bound").item()) for r in (one, two)]
    assert width[1] > 2 * width[0]
    assert two.params["holds_for"].startswith("participants like these 8 and stimuli like these 40")
    assert "variance corrected for resampling both" in two.describe_methods()


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"brain": "other"}, r"brain and models\['model'\] have different conditions\. Only in br"),
        ({"brain": "flat"}, r"constant patterns or dissimilarities for participant p3 \(1 such\)"),
        ({"generalize": ("participants",)}, "would treat these stimuli as all there are"),
        ({"generalize": ("stimuli", "participants")}, "with 4 of them and 40 stimuli. At least 6"),
        ({"generalize": ("seeds",)}, "Seeds are reported as mean and SD"),
        ({"method": "kendall"}, "method='kendall' is unknown"),
        ({"n_bootstraps": 3}, "n_bootstraps=3 cannot give"),
        ({"models": {}}, "models is empty"),
        ({"models": "brain"}, "has the dim 'participant'. A model may have layers and seeds"),
        ({"twin": "layers"}, r"twin\['model'\] has other layers than the model: h\.2"),
        ({"twin": "name"}, "twin names 'x', which is not one of the models: 'model'"),
        ({"models": "two", "twin": "one"}, "twin is one RDM for 2 models. Give a mapping"),
    ],
)
def test_match_refuses(world, change, message):
    model, brain, twin = world
    flat = brain.data.copy()
    flat[..., 2] = 1.0
    flat.to_numpy()[range(40), range(40)] = 0.0
    known = {
        "other": to_rdm(brain.data.to_numpy()[..., 0], conditions=[f"x{k}" for k in range(40)]),
        "flat": to_rdm(flat),
        "brain": {"a": brain},
        "layers": twin.select(layer=["h.0", "h.1"]),
        "name": {"x": twin},
        "two": {"a": model, "b": model},
        "one": twin,
    }
    options = {k: known.get(v, v) if isinstance(v, str) else v for k, v in change.items()}
    models, brain = options.pop("models", model), options.pop("brain", brain)
    with pytest.raises(ValueError, match=message):
        match_rdms(models, brain, **options)
    with pytest.raises(TypeError, match="Give an RDM"):
        match_rdms(model, brain.data)


# ---------------------------------------------------------------- result
def test_match_is_saved_and_cites(match, tmp_path):
    read = RSAMatch.load(match.save(tmp_path / "m.nc"))
    assert read.summary() == match.summary() and read.methods() == match.methods()
    xr.testing.assert_identical(read.stats, match.stats)
    for key in ("netphys", "nili2014", "phipson2010", "schutt2023", "benjamini1995"):
        assert f"{{{key}," in read.methods()
    text = read.describe_methods()
    assert "199 permutations of the condition labels" in text
    assert text.endswith(f"The result holds for {match.params['holds_for']}.")
    bare = RSAMatch(
        match.data, match.stats.drop_vars(["twin_p_bh", "interval"]), None, match.params
    )
    assert {"schutt2023", "benjamini1995", "phipson2010"}.isdisjoint(bare.get_citations())


def test_plot_shows_people_interval_ceiling_and_twin(match, ax):
    assert match.plot(ax) is ax
    assert ax.get_title() == "n = 40 stimuli, 4 participants"
    assert ax.get_ylabel() == "similarity to the brain (Spearman's rho)"
    shown = [t.get_text() for t in ax.get_legend().get_texts()]
    assert shown == [
        "noise ceiling",
        "participant",
        "mean, 95 % interval",
        "untrained twin",
        "p < .05, corrected",
    ]
    assert [t.get_text() for t in ax.texts] == ["*"] and ax.texts[0].get_position()[0] == 1


def test_draws_repeat_with_the_seed(world):
    model, brain, _ = world
    drawn = match_rdms(model, brain, n_permutations=50, n_bootstraps=30)
    again = match_rdms(model, brain, n_permutations=50, n_bootstraps=30, rng=drawn.params["rng"])
    xr.testing.assert_identical(again.stats, drawn.stats)
    np.testing.assert_array_equal(again.null, drawn.null)


# ---------------------------------------------------------------- statistics
def test_noise_brains_are_significant_as_often_as_p_says():
    """Six related layers and 1000 noise brains: p <= .05 in 3.7 to 5.1 % per layer, p_max in 4.1 %.

    The uncorrected p of the best layer: 19 %. The test draws 250 brains.
    """
    rng = np.random.default_rng(5)
    base = rng.normal(size=(24, 10))
    x = np.stack(
        [base @ rng.normal(size=(10, 20)) + 0.7 * k * rng.normal(size=(24, 20)) for k in range(6)]
    )
    model = make_rdm(x, ("layer",))
    single, corrected = [], []
    for k in range(250):
        brain = make_rdm(rng.normal(size=(3, 24, 12)), ("participant",))
        s = match_rdms(model, brain, rng=k, n_permutations=99, n_bootstraps=0).stats
        single.append(s["p"].to_numpy() <= 0.05)
        corrected.append(float(s["p_max"].min()) <= 0.05)
    assert 0.02 <= np.mean(single) <= 0.08 and np.mean(corrected) <= 0.08


@pytest.mark.slow
def test_intervals_cover_the_score_over_more_stimuli():
    """95 % intervals over 100 samples of 40 stimuli; over 300: .98 (24 stimuli), .95 to .97 (60).

    With two factors (8 of a population of people, 40 stimuli) .92 over 300 samples, where an
    interval over stimuli alone covers .63 of the time.
    """
    rng = np.random.default_rng(0)
    to_model, to_brain = rng.normal(size=(6, 25)), rng.normal(size=(3, 6, 25))

    def sample(n: int) -> tuple[RDM, RDM]:
        z = rng.normal(size=(n, 6))
        brain = z @ to_brain + 3 * rng.normal(size=(3, n, 25))
        return make_rdm((z @ to_model)[None], ("layer",)), make_rdm(brain, ("participant",))

    true = float(match_rdms(*sample(800), n_permutations=0, n_bootstraps=0).stats["mean"][0])
    hits = []
    for k in range(100):
        s = match_rdms(*sample(40), n_permutations=0, n_bootstraps=100, rng=k).stats
        low, high = s["interval"][0].to_numpy()
        hits.append(low <= true <= high)
    assert np.mean(hits) >= 0.88


@pytest.mark.slow
@pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")
def test_human_it_and_stored_models():
    """Four people (sessions averaged first) and the stored model RDMs of Kriegeskorte 2008."""
    from scipy.io import loadmat

    folder = Path(os.environ["NETPHYS_DATA"]) / "kriegeskorte2008"
    stored = loadmat(folder / "92_brainRDMs.mat", simplify_cells=True)["RDMs"]
    people = np.array([[np.asarray(s.RDM) for s in person] for person in stored]).mean(axis=1)
    labels = [f"i{k}" for k in range(92)]
    brain = to_rdm(people, conditions=labels, dims=["participant"])
    models = loadmat(folder / "92_modelRDMs.mat", simplify_cells=True)["Models"]
    named = {m["name"]: to_rdm(np.asarray(m["RDM"], float), conditions=labels) for m in models}
    result = match_rdms(named, brain, rng=0)
    scores = {"animacy": [0.414, 0.248, 0.593, 0.290], "monkeyIT": [0.345, 0.220, 0.409, 0.212]}
    for name, expected in scores.items():
        np.testing.assert_allclose(result.data.sel(layer=name), expected, atol=6e-4)
    assert result.stats["best"].item() == "animacy"
    assert float(result.stats["p_max"].sel(layer="monkeyIT")) < 0.002
    assert float(result.stats["p_max"].sel(layer="RADON")) > 0.05
