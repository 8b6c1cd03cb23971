"""Identification under noise: what was planted, what is chance, and the sums behind both."""

from __future__ import annotations

import numpy as np
import pytest

from netphys.analysis._identify import DESCRIPTORS, describe_pairs
from netphys.analysis._noise import find_parts, make_crossed_interval
from netphys.analysis.identification import identify
from netphys.analysis.rsa import to_rdm
from netphys.analysis.tolerance import NoiseTolerance, identify_under_noise
from netphys.core.topology._compiled import rank_paths
from netphys.core.topology.transform import make_grid, rank_pairs

FAST = {"grid": make_grid(4), "n_draws": 3, "n_permutations": 0, "rng": 0}


def make_rdms(n_subjects=5, n_labels=3, n=8, *, spread=0.1, seed=0):
    """Return RDMs of labels that differ, each subject with a little of its own."""
    draw = np.random.default_rng(seed).normal
    shape = (n_subjects, n_labels, n * (n - 1) // 2)
    pairs = 5 + draw(size=(1, *shape[1:])) + spread * draw(size=shape)
    conditions = [f"c{k}" for k in range(n)]
    return to_rdm(pairs, conditions=conditions, dims=("seed", "layer"))


# Against what is known


@pytest.mark.parametrize("thresholds", [(0, 1), (0.2, 0.6), (0.0, 0.1), (0.9, 1.0)])
def test_rank_paths_is_the_rgdm_of_ranks(thresholds):
    pairs = rank_pairs(np.random.default_rng(0).random((4, 45)).round(2))  # with ties
    options = {"scale": "value", "unreachable": "rank"}
    expected = describe_pairs(pairs, 10, "rgdm", thresholds=thresholds, **options)
    np.testing.assert_array_equal(rank_paths(pairs, *thresholds, 10), expected)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_without_noise_it_is_identify(descriptor):
    rdm = make_rdms(6, 4, 10, spread=1.2)
    found = identify_under_noise(rdm, descriptors=[descriptor], noise=[0.0], **FAST)
    grid = {"grid": FAST["grid"]} if descriptor in ("rgtm", "rgdm") else {}
    own = identify(
        rdm, across="seed", label="layer", descriptor=descriptor, n_permutations=0, rng=0, **grid
    )
    one = found.data.isel(descriptor=0, noise=0)
    for draw in range(3):  # without noise all draws are equal
        np.testing.assert_array_equal(one.isel(repetition=draw), own.data)
    at = found.stats.isel(descriptor=0, noise=0)
    np.testing.assert_array_equal(at["confusion"], own.stats["confusion"])
    if grid:
        np.testing.assert_array_equal(at["surface"], own.stats["optimistic"])
        assert float(at["optimistic"]) == float(own.stats["optimistic"].max())
        for name in ("lower", "upper"):
            np.testing.assert_array_equal(at[name].isel(repetition=0), own.stats[name])


def test_noise_is_in_units_of_the_sd_of_all_dissimilarities_and_never_negative():
    """By hand: the noisy pairs of the first draw, identified without noise, give its accuracy."""
    rdm = make_rdms(spread=0.8)
    found = identify_under_noise(rdm, descriptors=["rdm"], noise=[0.0, 2.0], **FAST)
    data = rdm.data.transpose("seed", "layer", "condition", "condition_2").to_numpy()
    pairs = data[..., *np.triu_indices(8, 1)]
    seeds = np.random.default_rng(0).integers(2**63, size=3).tolist()
    assert found.params["noise_sd"] == pytest.approx(pairs.std())
    for draw, seed in enumerate(seeds):
        noise = np.random.default_rng(seed).standard_normal(pairs.shape)
        noisy = np.maximum(pairs + 2 * pairs.std() * noise, 0)
        assert (noisy == 0).any()
        again = to_rdm(noisy, conditions=rdm.conditions, dims=("seed", "layer"))
        own = identify(
            again, across="seed", label="layer", descriptor="rdm", n_permutations=0, rng=0
        )
        at = found.data.sel(noise=2.0).isel(descriptor=0, repetition=draw)
        np.testing.assert_array_equal(at, own.data)


def test_crossed_interval_by_hand():
    """Of a table without interaction: t interval from the variances of subjects and draws."""
    subjects, draws = np.array([0.1, 0.3, 0.8]), np.array([-0.1, 0.1])
    values = draws[:, None] + subjects
    low, high = make_crossed_interval(values)
    variance = subjects.var(ddof=1) / 3 + draws.var(ddof=1) / 2
    # bounded by the variance of a bootstrap of both, as `combine_variances` has it
    variance = min(variance, subjects.var() / 3 + draws.var() / 2)
    variance = max(variance, subjects.var(ddof=1) / 3)
    half = 4.302653 * np.sqrt(variance)  # t of 2 degrees of freedom
    assert [low, high] == pytest.approx([0.4 - half, 0.4 + half], abs=1e-6)
    one = make_crossed_interval(subjects[None])
    half = 4.302653 * subjects.std(ddof=1) / np.sqrt(3)
    assert one == pytest.approx([0.4 - half, 0.4 + half], abs=1e-6)


def test_parts_of_the_plane_by_hand():
    cells = make_grid()
    parts = {
        k: {tuple(c) for c in cells[v].round(1).tolist()} for k, v in find_parts(cells).items()
    }
    assert parts["topology"] == {(0.4, 0.5), (0.4, 0.6), (0.5, 0.6)}
    assert parts["geometry"] == {(0, 0.8), (0, 0.9), (0, 1), (0.1, 0.9), (0.1, 1), (0.2, 1)}
    assert parts["local"] == {(0, 0.1), (0, 0.2), (0, 0.3), (0, 0.4), (0.1, 0.2), (0.1, 0.3)}
    assert parts["global"] == {tuple(np.round([1 - b, 1 - a], 1)) for a, b in parts["local"]}
    assert sum(map(len, parts.values())) == len(cells)


# Positive and negative control


def test_planted_labels_are_found_and_drown_in_noise():
    rdm = make_rdms(6, 4, 12)
    options = {"n_draws": 6, "grid": make_grid(4), "n_permutations": 99, "rng": 1}
    found = identify_under_noise(rdm, noise=[0.0, 0.1, 20.0], **options)
    accuracy = found.stats["accuracy"]
    assert (accuracy.sel(noise=0.0, descriptor=["rdm", "ranked", "rgtm"]) == 1).all()
    assert (accuracy.sel(noise=0.1, descriptor=["rdm", "ranked"]) == 1).all()
    assert (abs(accuracy.sel(noise=20.0) - 0.25) < 0.16).all()
    assert (found.stats["p"].sel(noise=0.0) == 0.01).all()
    assert (found.stats["p"].sel(noise=20.0) > 0.01).all()
    assert (found.stats["change"].sel(noise=20.0) < -0.5).all()
    np.testing.assert_allclose(found.null.mean("draw"), 0.25, atol=0.05)


def test_where_there_is_nothing_nested_accuracy_is_chance_and_the_best_cell_is_above():
    """Layers that do not differ: only the choice on test data finds something."""
    scores = {"accuracy": [], "optimistic": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pairs = 5 + rng.normal(size=(5, 4, 45))
        rdm = to_rdm(pairs, conditions=[f"c{k}" for k in range(10)], dims=("seed", "layer"))
        options = {"n_draws": 1, "n_permutations": 0, "rng": seed}
        found = identify_under_noise(rdm, descriptors=["rgtm"], noise=[0.0], **options)
        for name, values in scores.items():
            values.append(found.stats[name].item())
    assert np.mean(scores["accuracy"]) == pytest.approx(0.25, abs=0.06)
    assert np.mean(scores["optimistic"]) > 0.35


def test_ranks_are_blind_to_scale_until_noise_of_one_size_shows_it():
    """Labels that differ in scale alone: noise drowns the order of the small ones first."""
    base = np.random.default_rng(3).normal(size=190)
    scale = np.array([1.0, 0.1, 0.01])[:, None]
    pairs = np.broadcast_to(5 + base * scale, (6, 3, 190))
    rdm = to_rdm(pairs, conditions=[f"c{k}" for k in range(20)], dims=("seed", "layer"))
    options = {"n_draws": 5, "n_permutations": 0, "rng": 0}
    found = identify_under_noise(rdm, descriptors=["rdm", "ranked"], noise=[0.0, 0.2], **options)
    (of_values, _), (of_ranks, with_noise) = found.stats["accuracy"].to_numpy()
    assert of_values == 1 and of_ranks == pytest.approx(1 / 3) and with_noise > 0.9


# Its sums, tables and words


@pytest.fixture(scope="module")
def found():
    options = {"n_draws": 4, "grid": make_grid(4), "n_permutations": 19, "rng": 5}
    return identify_under_noise(make_rdms(5, 3, 8, spread=1.0), noise=[0.0, 0.5], **options)


def test_statistics_are_sums_of_the_accuracies(found):
    s, data = found.stats, found.data
    assert data.dims == ("descriptor", "noise", "repetition", "seed")
    mean = data.mean(("repetition", "seed"))
    np.testing.assert_allclose(s["accuracy"], mean)
    np.testing.assert_allclose(
        s["difference"].sel(descriptor="rgtm", descriptor_2="rdm"),
        mean.sel(descriptor="rgtm") - mean.sel(descriptor="rdm"),
    )
    np.testing.assert_allclose(s["change"], mean - mean.sel(noise=0.0), atol=1e-12)
    np.testing.assert_allclose(s["confusion"].sum("layer_2"), 1)
    hits = np.einsum("dnll->dn", s["confusion"].to_numpy()) / 3
    np.testing.assert_allclose(s["accuracy"], hits)
    assert (s["interval"].sel(bound="lower") <= s["accuracy"] + 1e-12).all()
    assert (s["interval"].sel(bound="upper") >= s["accuracy"] - 1e-12).all()
    assert s["lower"].sel(descriptor="rdm").isnull().all()
    assert (s["lower"] < s["upper"]).sel(descriptor=["rgtm", "rgdm"]).all()
    best = s["surface"].max(("grid_lower", "grid_upper"))
    assert (s["optimistic"] >= best - 1e-12).sel(descriptor=["rgtm", "rgdm"]).all()


def test_it_is_reproducible_and_stores_its_seed(found):
    options = {"n_draws": 4, "grid": make_grid(4), "n_permutations": 19}
    rdm = make_rdms(5, 3, 8, spread=1.0)
    again = identify_under_noise(rdm, noise=[0.0, 0.5], rng=found.params["rng"], **options)
    assert again._compute_digest() == found._compute_digest()
    first = identify_under_noise(rdm, noise=[0.5], **options)
    second = identify_under_noise(rdm, noise=[0.5], rng=first.params["rng"], **options)
    assert first._compute_digest() == second._compute_digest()


def test_tables_and_texts_say_what_was_found(found):
    table = found.to_table()
    assert table[["descriptor", "noise"]].drop_duplicates().shape == (8, 2)
    assert table["optimistic"].isna().tolist() == [True] * 4 + [False] * 4
    parts = found.to_parts()
    assert set(parts["descriptor"]) == {"rgtm", "rgdm"}
    assert "topology" not in set(parts["part"])  # thirds have no such cell
    pairs = found.to_differences()
    assert len(pairs) == 6 * 2 and pairs["less"].iloc[0] == "rdm"
    summary = found.summary()
    assert "Identification of 3 layers across 5 seeds under noise" in summary
    assert "chance 0.333" in summary and "rgtm - ranked at noise 0.5: " in summary
    text = found.describe_methods()
    assert "SDs of 0, 0.5 times the SD of all dissimilarities" in text
    assert "4 times per level" in text and "19 permutations of the labels within seeds" in text
    assert "4 degrees of freedom" in text
    assert found.get_citations()[-2:] == ("lin2024trsa", "phipson2010")


def test_it_is_saved_and_loaded(found, tmp_path):
    loaded = NoiseTolerance.load(found.save(tmp_path / "a.nc"))
    assert loaded.summary() == found.summary()
    np.testing.assert_array_equal(loaded.null, found.null)


def test_no_permutations_leave_no_p(found):
    none = identify_under_noise(make_rdms(), noise=[0.5], **FAST)
    assert none.null is None and "p" not in none.stats and "p" not in none.to_table()
    assert "No p-value was computed" in none.describe_methods()
    assert "phipson2010" not in none.get_citations()


def test_plots_show_lines_grids_and_confusions(found):
    from matplotlib.figure import Figure

    ax = found.plot(Figure().subplots())
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [
        "RGTM, best cell (optimistic)",
        "RGDM, best cell (optimistic)",
        "chance",
        "RDM",
        "RANKED",
        "RGTM",
        "RGDM",
    ]
    assert "5 seeds x 3 layers, 4 draws of noise" in ax.get_title()
    grid = found.plot_grid(Figure().subplots(), descriptor="rgtm", noise=0.5)
    assert grid.get_title().startswith("RGTM, noise 0.5: ")
    confusion = found.plot_confusion(Figure().subplots(), descriptor="rdm", noise=0)
    assert confusion.get_title().startswith("RDM, noise 0: ")
    with pytest.raises(ValueError, match=r"descriptor='rdm' is unknown\. .*'rgtm', 'rgdm'"):
        found.plot_grid(descriptor="rdm", noise=0.5)
    with pytest.raises(ValueError, match=r"noise=0\.3 is unknown\. Choose one of: 0\.0, 0\.5"):
        found.plot_confusion(descriptor="rdm", noise=0.3)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"descriptors": ["rgtn"]}, r"descriptors\[0\]='rgtn' is unknown\..*Did you mean 'rgtm'"),
        ({"descriptors": []}, r"descriptors=\[\] is empty\. Give a list"),
        ({"descriptors": ["rdm", "rdm"]}, r"descriptors\[1\]='rdm' is listed twice"),
        ({"noise": [0, -0.1]}, r"noise\[1\]=-0\.1 is no size of noise"),
        ({"noise": [float("nan")]}, r"noise\[0\]=nan is no size of noise"),
        ({"noise": []}, r"noise=\[\] is empty or repeats a level"),
        ({"noise": [0.1, 0.1]}, r"noise=\[0\.1, 0\.1\] is empty or repeats a level"),
        ({"n_draws": 0}, r"n_draws=0 is too small"),
        ({"unreachable": "nan"}, r"unreachable='nan' is unknown\..*Distances need numbers\."),
        ({"across": "layer"}, r"across and label are both 'layer'"),
        ({"across": "sede"}, r"across='sede' is unknown\..*Did you mean 'seed'"),
        ({"n_permutations": -1}, r"n_permutations=-1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        identify_under_noise(make_rdms(), **options)


def test_wrong_rdms_are_refused():
    with pytest.raises(ValueError, match=r"rdm has 3 seeds\. At least 4 are needed"):
        identify_under_noise(make_rdms(3))
    with pytest.raises(ValueError, match=r"rdm has 1 layer\. At least two"):
        identify_under_noise(make_rdms(5, 1))
    with pytest.raises(TypeError, match="Give an RDM with a dim of subjects"):
        identify_under_noise(np.zeros((3, 3)))
    with pytest.raises(TypeError, match=r"descriptors='rgtm' is a str\. Give a list"):
        identify_under_noise(make_rdms(), descriptors="rgtm")
    pairs = np.random.default_rng(0).random((2, 5, 3, 28))
    names = [f"c{k}" for k in range(8)]
    several = to_rdm(pairs, conditions=names, dims=("region", "seed", "layer"))
    with pytest.raises(ValueError, match=r"rdm has the dim 'region' too\. Pick one: rdm\.select"):
        identify_under_noise(several)
    pairs[0, 0, 0] = np.nan
    unknown = to_rdm(pairs[0], conditions=names, dims=("seed", "layer"))
    with pytest.raises(ValueError, match=r"rdm has 1 matrices that are unknown\. Every seed needs"):
        identify_under_noise(unknown)
