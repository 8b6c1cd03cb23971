"""Topological RSA on labelled RDMs: planted answers, negative controls, choice without peeking."""

from __future__ import annotations

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import pdist

from netphys.analysis.dependence import PLACES
from netphys.analysis.rsa import RDM, to_rdm
from netphys.analysis.topology import (
    BettiCurves,
    Dependence,
    Identification,
    Persistence,
    TransformedRDM,
    compute_betti,
    compute_dependence,
    compute_persistence,
    compute_rgdm,
    compute_rgtm,
    identify,
    make_grid,
)
from netphys.core.resample import compute_p, make_permutations
from netphys.core.topology import dependence, geodesic, transform

matplotlib.use("Agg")
REGIONS = ["V1", "V4", "IT"]


def make_subjects(
    noise: float, *, n_subjects: int = 6, n: int = 9, seed: int = 0, labels=REGIONS
) -> RDM:
    """Return RDMs of regions that are the same in all participants, but for noise."""
    rng = np.random.default_rng(seed)
    true = np.stack([pdist(rng.normal(size=(n, 4))) for _ in labels])
    pairs = np.abs(true + noise * rng.normal(size=(n_subjects, *true.shape)))
    conditions = [f"c{k}" for k in range(n)]
    dims, coords = ("participant", "region"), {"region": list(labels)}
    return to_rdm(pairs, conditions=conditions, dims=dims, coords=coords)


def make_points(x: np.ndarray, **options) -> RDM:
    conditions = [f"c{k}" for k in range(len(x))]
    return to_rdm(pdist(x), conditions=conditions, **options)


def make_ring(n: int = 24) -> np.ndarray:
    angle = np.arange(n) * 2 * np.pi / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


# ------------------------------------------------------------- transformed RDMs
def test_transforms_keep_labels_and_say_what_was_done():
    rdm = make_subjects(0.3)
    before = rdm.data.copy(deep=True)
    rgtm = compute_rgtm(rdm, lower=0.2, upper=0.6)
    rgdm = compute_rgdm(rdm, lower=0.1, upper=0.3, unreachable="nan")
    assert rdm.data.identical(before)
    for found, core, options in (
        (rgtm, transform.compute_rgtm, {"lower": 0.2, "upper": 0.6}),
        (rgdm, geodesic.compute_rgdm, {"lower": 0.1, "upper": 0.3, "unreachable": "nan"}),
    ):
        assert isinstance(found, TransformedRDM) and found.data.dims == rdm.data.dims
        assert found.conditions == rdm.conditions
        one = found.select(region="V4", participant=2)
        assert isinstance(one, TransformedRDM)
        expected = core(rdm.select(region="V4", participant=2).data.to_numpy(), **options)
        np.testing.assert_allclose(one.data, expected)
    assert rgtm.params["transforms"] == [
        {"kind": "rgtm", "lower": 0.2, "upper": 0.6, "scale": "rank"}
    ]
    assert rgtm.data.attrs["units"] == "geo-topological dissimilarity (0 to 1)"
    assert rgdm.data.attrs["units"] == "path length"
    lost = rgdm.stats["n_unreachable"]
    assert lost.dims == ("participant", "region") and int(lost.sum()) > 0
    assert int(lost.sum()) == int(np.isnan(rgdm.data).sum()) // 2
    assert f"{int(lost.sum())} pairs have no path between them" in rgdm.summary()
    twice = compute_rgtm(rgtm, lower=0, upper=0.5, scale="value")
    assert [t["kind"] for t in twice.params["transforms"]] == ["rgtm", "rgtm"]
    assert compute_rgdm(rdm, lower=0, upper=1).data.attrs["units"] == "rank of path length"


def test_transforms_describe_their_methods(tmp_path):
    rdm = make_subjects(0.3)
    text = compute_rgtm(rdm, lower=0.2, upper=0.6, scale="quantile").methods()
    assert "geo-topological matrices between the thresholds 0.2 and 0.6 (quantiles of each" in text
    assert "doi           = {10.1073/pnas.2317881121}" in text
    found = compute_rgdm(rdm, lower=0, upper=1, graph="nearest", n_neighbours=3, unreachable="max")
    text = found.describe_methods()
    assert "edges between each condition and its 3 nearest" in text
    assert "pairs without a path got the longest path plus 1" in text
    again = TransformedRDM.load(found.save(tmp_path / "rgdm.nc"))
    assert again.describe_methods() == text and again.summary() == found.summary()
    found = compute_rgdm(rdm, lower=0, upper=1, graph="shortest", fraction=0.25)
    assert "shortest paths over the 25% shortest edges" in found.describe_methods()


def test_transforms_are_rdms_for_what_comes_after(ax):
    rgtm = compute_rgtm(make_subjects(0.3), lower=0.2, upper=0.6)
    assert rgtm.select(region="V1", participant=0).plot(ax) is ax
    assert "region" in rgtm.to_frame() and rgtm.to_frame()["dissimilarity"].between(0, 1).all()
    with pytest.raises(TypeError, match="Give an RDM, as compute_rdm returns"):
        compute_rgtm(rgtm.data, lower=0, upper=1)
    with pytest.raises(TypeError, match="Give an RDM, as compute_rdm returns"):
        compute_rgdm(rgtm.data, lower=0, upper=1)
    with pytest.raises(ValueError, match="lower=1 is above upper=0"):
        compute_rgtm(rgtm, lower=1, upper=0)


# --------------------------------------------------------------- identification
@pytest.mark.parametrize("descriptor", ["rdm", "ranked", "rgtm", "rgdm"])
@pytest.mark.parametrize("unreachable", ["rank", "max"])
def test_identify_is_perfect_without_noise(descriptor, unreachable):
    result = identify(
        make_subjects(0), descriptor=descriptor, unreachable=unreachable, n_permutations=99, rng=0
    )
    assert isinstance(result, Identification) and result.data.dims == ("participant",)
    assert (result.data == 1).all() and float(result.stats["p"]) == 0.01
    np.testing.assert_array_equal(result.stats["confusion"], np.eye(3))
    assert result.stats["confusion"].dims == ("region", "region_2")
    assert float(result.stats["chance"]) == pytest.approx(1 / 3)
    assert abs(float(result.null.mean()) - 1 / 3) < 0.05
    if descriptor in ("rgtm", "rgdm"):  # all are equal: the widest interval
        best = result.stats["optimistic"].max()
        assert best == 1 and set(result.stats["upper"].to_numpy()) <= {1.0, 0.9, 0.8, 0.7}
    if descriptor == "rgtm":
        assert (result.stats["lower"] == 0).all() and (result.stats["upper"] == 1).all()


def classify(rows: np.ndarray, tested: int, others: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid for each label of one subject, and whether it is alone."""
    centroids = rows[others].mean(axis=0)
    near = np.array([((row - centroids) ** 2).sum(axis=1) for row in rows[tested]]).round(8)
    return near.argmin(axis=1), (near == near.min(axis=1, keepdims=True)).sum(axis=1) == 1


@pytest.mark.parametrize("descriptor", ["rgtm", "rgdm"])
def test_identify_chooses_thresholds_on_the_others_alone(descriptor):
    rdm, grid = make_subjects(1.5, labels=["V1", "V2", "V4", "IT"]), make_grid(5, equal=True)
    result = identify(rdm, descriptor=descriptor, grid=grid, n_permutations=0)
    pairs = rdm.data.transpose("participant", "region", ...).to_numpy()
    function = {"rgtm": transform.compute_rgtm, "rgdm": geodesic.compute_rgdm}[descriptor]
    upper = np.triu_indices(9, 1)
    every = {(low, high): function(pairs, lower=low, upper=high)[..., *upper] for low, high in grid}
    everyone = list(range(6))
    labels = np.arange(4)
    for left in everyone:
        train = [s for s in everyone if s != left]
        scores = {}
        for cell, rows in every.items():
            inside = [classify(rows, t, [s for s in train if s != t]) for t in train]
            scores[cell] = round(np.mean([(found == labels) & one for found, one in inside]), 9)
        at = (float(result.stats["lower"][left]), float(result.stats["upper"][left]))
        ties = [cell for cell, score in scores.items() if score == max(scores.values())]
        widest = max(round(high - low, 9) for low, high in ties)
        assert at in ties and round(at[1] - at[0], 9) == widest
        right = (classify(every[at], left, train)[0] == labels).mean()
        assert float(result.data[left]) == right
        cell = {"grid_lower": at[0], "grid_upper": at[1]}
        tests = [classify(every[at], s, [t for t in everyone if t != s])[0] for s in everyone]
        assert float(result.stats["optimistic"].sel(cell)) == pytest.approx(
            np.mean(tests == labels)
        )
    # another subject in the place of the one left out changes nothing in what is chosen for it
    changed = rdm.data.copy()
    changed[{"participant": 2}] = make_subjects(1, seed=9, labels=range(4)).data.to_numpy()[
        ..., 0, :
    ]
    other = identify(to_rdm(changed), descriptor=descriptor, grid=grid, n_permutations=0)
    for name in ("lower", "upper"):
        assert float(other.stats[name][2]) == float(result.stats[name][2])


def test_identify_of_noise_is_at_chance_and_its_grid_is_optimistic():
    found, best, p = [], [], []
    for seed in range(120):
        rdm = make_subjects(50, n_subjects=5, n=6, seed=seed, labels=list("abcd"))
        result = identify(rdm, grid=make_grid(4), n_permutations=39, rng=seed)
        found.append(float(result.stats["accuracy"]))
        best.append(float(result.stats["optimistic"].max()))
        p.append(float(result.stats["p"]))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.25) < 3.5 * error  # chosen without peeking
    assert np.mean(best) > 0.25 + 6 * error  # the best cell on the test data
    assert np.mean(np.array(p) <= 0.05) < 0.125


def test_identify_null_repeats_the_choice_with_labels_permuted_within_subjects():
    rdm = make_subjects(3)
    result = identify(rdm, grid=make_grid(4), n_permutations=19, rng=3)
    again = identify(rdm, grid=make_grid(4), n_permutations=19, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(result.null, again.null)
    rng = np.random.default_rng(3)
    for value in result.null.to_numpy()[:5]:
        orders = rng.permuted(np.tile(np.arange(3), (6, 1)), axis=1)
        moved = np.stack(
            [rdm.data[:, :, s, order].to_numpy() for s, order in enumerate(orders)], axis=2
        )
        moved = rdm.data.copy(data=moved)
        one = identify(to_rdm(moved), grid=make_grid(4), n_permutations=0)
        assert float(one.stats["accuracy"]) == pytest.approx(value)
    assert result.params["rng"] == 3 and result.params["n_draws"] == 19
    drawn = identify(rdm, descriptor="rdm", n_permutations=19)
    again = identify(rdm, descriptor="rdm", n_permutations=19, rng=drawn.params["rng"])
    np.testing.assert_array_equal(drawn.null, again.null)


def test_identify_keeps_other_dims():
    stack = np.stack([make_subjects(noise).data.to_numpy() for noise in (0, 30)], axis=-1)
    first = make_subjects(0).data
    data = xr.DataArray(
        stack, {**first.coords, "model": ["clean", "noisy"]}, (*first.dims, "model")
    )
    rdm = to_rdm(data.rename(participant="seed", region="layer"))
    result = identify(
        rdm, across="seed", label="layer", grid=make_grid(4), n_permutations=19, rng=0
    )
    assert result.data.dims == ("model", "seed") and result.null.dims == ("draw", "model")
    assert float(result.stats["accuracy"].sel(model="clean")) == 1
    assert float(result.stats["accuracy"].sel(model="noisy")) < 0.8
    alone = identify(
        rdm.select(model="noisy"), across="seed", label="layer", grid=make_grid(4), n_permutations=0
    )
    np.testing.assert_array_equal(alone.data, result.data.sel(model="noisy"))
    np.testing.assert_array_equal(alone.stats["lower"], result.stats["lower"].sel(model="noisy"))
    assert "clean" in result.summary() and len(result.to_frame()) == 12
    with pytest.raises(ValueError, match=r"was done for each 'model'. Draw one of them"):
        result.plot()
    with pytest.raises(ValueError, match=r"was done for each 'model'. Draw one of them"):
        result.plot_confusion()


def test_identification_tells_what_it_did(tmp_path, ax):
    result = identify(make_subjects(0.5), n_permutations=39, rng=0)
    assert "Identification of 3 regions across 6 participants by rgtm" in result.summary()
    assert "thresholds chosen on the others: " in result.summary()
    text = result.methods()
    assert "chosen among 55 pairs by leave-one-out within those other participants only" in text
    assert "39 permutations of the labels within participants, the choice of" in text
    assert "lin2024trsa" in text and "phipson2010" in text
    table = result.to_frame()
    assert list(table.columns) == ["participant", "accuracy", "chance", "lower", "upper"]
    again = Identification.load(result.save(tmp_path / "id.nc"))
    assert again.summary() == result.summary() and again.null.equals(result.null)
    assert result.plot(ax) is ax and ax.get_xlabel() == "upper threshold (rank)"
    assert "optimistic" in ax.figure.axes[-1].get_ylabel() and "6 participants" in ax.get_title()
    plain = identify(make_subjects(0.5), descriptor="rdm", n_permutations=0)
    assert plain.null is None and "left out (n_permutations=0)" in plain.summary()
    assert "No p-value was computed" in plain.describe_methods()
    assert "phipson2010" not in plain.get_citations() and "lower" not in plain.stats
    assert plain.plot().get_ylabel() == "true region"


def test_identify_takes_thresholds_in_the_unit_of_the_rdm():
    rdm = make_subjects(0.2)
    result = identify(rdm, scale="value", grid=[[0, 2], [1, 3]], n_permutations=0)
    assert result.stats["optimistic"].shape == (2, 2)
    assert int(np.isnan(result.stats["optimistic"]).sum()) == 2
    assert result.params["grid"] == [[0, 2], [1, 3]] and result.params["scale"] == "value"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"across": "seed"}, "across='seed' is unknown. Choose one of: 'participant'"),
        ({}, {"label": "regions"}, "label='regions' is unknown. .*Did you mean 'region'"),
        ({}, {"label": "participant"}, "across and label are both 'participant'. Name two dims"),
        ({}, {"descriptor": "rgmt"}, "descriptor='rgmt' is unknown. .*Did you mean 'rgtm'"),
        ({}, {"unreachable": "nan"}, "unreachable='nan' is unknown. .*Distances to centroids need"),
        ({}, {"n_permutations": 5}, "n_permutations=5 cannot give a p below .05"),
        ({}, {"descriptor": "rdm", "grid": [[0, 1]]}, "grid= has no part in descriptor='rdm'"),
        ({}, {"scale": "value"}, "grid is missing: scale='value'"),
        (
            {"participant": [0, 1, 2]},
            {},
            "rdm has 3 participants. At least 4 are needed for",
        ),
        ({"participant": [0, 1]}, {"descriptor": "rdm"}, "2 participants. At least 3 are needed"),
        ({"region": [0]}, {}, "rdm has 1 region. At least two are needed to tell apart"),
    ],
)
def test_identify_refuses(change, options, message):
    rdm = to_rdm(make_subjects(0).data.isel(change))
    with pytest.raises(ValueError, match=message):
        identify(rdm, **{"n_permutations": 0, **options})


def test_identify_refuses_what_is_unknown():
    rdm = make_subjects(0)
    with pytest.raises(TypeError, match="Give an RDM with a dim of subjects and one of labels"):
        identify(rdm.data)
    data = rdm.data.copy()
    data[{"participant": 1, "region": 2}] = np.nan
    with pytest.raises(ValueError, match=r"rdm has 1 matrices that are unknown. Every participant"):
        identify(to_rdm(data), n_permutations=0)
    data = rdm.data.copy()
    for i, j in ((0, 1), (1, 0)):
        data[{"participant": 1, "region": 2, "condition": i, "condition_2": j}] = np.nan
    with pytest.raises(ValueError, match="rdm lacks 1 dissimilarities"):
        identify(to_rdm(data), n_permutations=0)


# ------------------------------------------------------------------- dependence
def test_compute_dependence_keeps_dims_and_aligns_labels():
    rdm = make_subjects(0.3, n=12)
    model = rdm.select(participant=0, region="IT")
    order = np.random.default_rng(0).permutation(model.conditions).tolist()
    result = compute_dependence(rdm, model.select(condition=order), n_permutations=99, rng=0)
    assert isinstance(result, Dependence) and result.data.dims == ("participant", "region")
    assert result.data.sel(participant=0, region="IT") == pytest.approx(1)
    p = result.stats["p"]
    assert (p.sel(region="IT") == 0.01).all() and (p.sel(region="V1") > 0.01).any()
    assert (result.stats["p_max"] >= p).all()
    assert result.null.dims == ("draw", "participant", "region")
    np.testing.assert_allclose(result.stats["expected"], result.null.mean("draw"))
    surface = result.stats["surface"]
    assert surface.shape == (6, 3, 5, 5) and int(np.isnan(surface[0, 0]).sum()) == 10
    np.testing.assert_allclose(surface.max(("grid_lower", "grid_upper")), result.data)
    # the draws are those of the maximum, at whichever thresholds
    orders = make_permutations(12, 99, rng=np.random.default_rng(0))
    sides = [rdm.select(participant=1, region="V4"), model]
    core = dependence.compute_dependence(*(d.data.to_numpy() for d in sides), orders=orders)
    np.testing.assert_allclose(result.data[1, 1], core[0])
    np.testing.assert_allclose([result.stats[k][1, 1] for k in PLACES], core[1])
    np.testing.assert_allclose(result.null[:, 1, 1], core[2], atol=1e-7)
    one = compute_dependence(rdm.select(participant=1, region="V4"), model, n_permutations=0)
    assert float(one.data) == pytest.approx(float(result.data.sel(participant=1, region="V4")))


def test_compute_dependence_of_ordered_conditions_shifts_them():
    # unrelated series that change slowly: permuted labels make nearly all of them significant
    p = {"iid": [], "ordered": []}
    counted = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        a, b = (
            make_points(gaussian_filter1d(rng.normal(size=(70, 4)), 3, axis=0)) for _ in range(2)
        )
        for order, values in p.items():
            options = {"order": order, "n_permutations": 39, "rng": seed, "grid": make_grid(4)}
            result = compute_dependence(a, b, **options)
            values.append(float(result.stats["p"]))
        counted.append(float(compute_p(result.data, result.null)))
    iid, ordered, hits = (np.mean(np.array(v) <= 0.05) for v in (*p.values(), counted))
    assert iid > 0.7 and ordered < 0.05 + 3 * 0.0244  # three standard errors
    assert ordered < hits  # shifts of slow series are fewer draws than they seem
    x = gaussian_filter1d(np.random.default_rng(0).normal(size=(60, 4)), 1.5, axis=0)
    noisy = x + 0.2 * np.random.default_rng(1).normal(size=x.shape)
    result = compute_dependence(make_points(x), make_points(noisy), order="ordered", rng=0)
    assert float(result.stats["p"]) < 0.03 and "circular shifts" in result.summary()
    assert "the mean of each lag taken out" in result.describe_methods()
    assert "by Student's t for as many draws as the shifts are worth" in result.describe_methods()
    assert "phipson2010" not in result.methods() and "(1 + hits)" not in result.methods()


def test_compute_dependence_does_not_permute_what_says_it_is_ordered():
    data = make_points(np.random.default_rng(0).normal(size=(20, 3))).data
    rdm = to_rdm(data.assign_attrs(order="ordered"))
    with pytest.raises(ValueError, match="order='iid', but the data are ordered in time"):
        compute_dependence(rdm, rdm, order="iid")
    result = compute_dependence(rdm, rdm)
    assert result.null is None and "20 ordered conditions are too few" in result.summary()
    assert result.params["order"] == "ordered" and float(result.data) == pytest.approx(1)


def test_dependence_tells_what_it_did(tmp_path, ax):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 3))
    a, b = make_points(x), make_points(x + 0.1 * rng.normal(size=x.shape))
    result = compute_dependence(a, b, n_permutations=99, rng=0, weighting="sd")
    assert "by chance" in result.summary() and "p = 0.01" in result.summary()
    assert "in standard deviations of the draws" in result.describe_methods()
    assert {"lin2018dependence", "szekely2007", "phipson2010"} <= set(result.get_citations())
    assert "p_max" in result.to_frame() and len(result.to_frame()) == 1
    again = Dependence.load(result.save(tmp_path / "d.nc"))
    assert again.summary() == result.summary()
    assert result.plot(ax) is ax and ax.get_ylabel() == "lower threshold (quantile)"
    ratio = compute_dependence(a, b, n_permutations=99, rng=0, weighting="mean")
    assert float(ratio.data) > 1 and "divided by its mean" in ratio.describe_methods()
    plain = compute_dependence(a, b, n_permutations=0)
    assert "No p-values were computed" in plain.describe_methods() and plain.null is None
    several = compute_dependence(make_subjects(1), make_points(x[:9]), n_permutations=19, rng=0)
    assert "region" in several.summary()
    with pytest.raises(ValueError, match=r"has dims \('participant', 'region'\)\. Draw one"):
        several.plot()


def test_compute_dependence_leaves_unknown_matrices_unknown():
    rdm = make_subjects(0.3)
    data = rdm.data.copy()
    data[{"participant": 1, "region": 2}] = np.nan
    model = rdm.select(participant=0, region="IT")
    result = compute_dependence(to_rdm(data), model, n_permutations=19, rng=0)
    for values in (result.data, result.stats["p"], result.stats["lower_a"]):
        assert np.isnan(values[1, 2]) and int(np.isnan(values).sum()) == 1
    assert int(np.isnan(result.stats["p_max"]).sum()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "z"}, "weighting='z' is unknown. Choose one of: 'none', 'mean', 'sd'"),
        ({"weighting": "sd", "n_permutations": 0}, "weighting='sd' needs draws of the null"),
        ({"weighting": "sd", "order": "ordered"}, "weighting='sd' is not for ordered conditions"),
        ({"scale": "value"}, "grid is missing: scale='value'"),
        ({"order": "random"}, "order='random' is unknown. Choose one of: 'iid', 'ordered'"),
        ({"n_permutations": 3}, "n_permutations=3 cannot give a p below .05"),
        ({"grid": [[0, 2]]}, "upper=2.0 is not between 0 and 1"),
    ],
)
def test_compute_dependence_refuses(options, message):
    rdm = make_points(np.random.default_rng(0).normal(size=(8, 3)))
    with pytest.raises(ValueError, match=message):
        compute_dependence(rdm, rdm, **options)


def test_compute_dependence_refuses_what_does_not_fit():
    rdm = make_subjects(0)
    with pytest.raises(ValueError, match=r"a and b both have 'participant', 'region'\. Pick one"):
        compute_dependence(rdm, rdm)
    few = rdm.select(condition=["c0", "c1", "c2", "c3", "c4"], participant=0, region="V1")
    with pytest.raises(ValueError, match="a and b have different conditions"):
        compute_dependence(rdm, few)
    with pytest.raises(TypeError, match=r"b=0 is an int\. Give an RDM"):
        compute_dependence(rdm, 0)


# -------------------------------------------------------- persistent homology
def test_compute_persistence_tells_a_ring_from_a_line():
    pytest.importorskip("ripser")
    line = np.stack([np.arange(24.0), np.zeros(24)], axis=1)
    stack = np.stack([pdist(make_ring()), pdist(line)])
    coords = {"model": ["ring", "line"]}
    rdm = to_rdm(stack, conditions=list(map(str, range(24))), dims=["model"], coords=coords)
    result = compute_persistence(rdm, scale="max")
    assert isinstance(result, Persistence)
    assert result.data.dims == ("degree", "hole", "bound", "model")
    assert result.stats["n_holes"].sel(model="ring").to_numpy().tolist() == [24, 1]
    assert result.stats["n_holes"].sel(model="line").to_numpy().tolist() == [24, 0]
    birth, death = np.sin(np.pi / 24), np.sin(np.pi / 3)  # of a largest distance of 1
    expected = [[birth, death]]
    found = result.data.sel(model="ring", degree=1)[:1]
    np.testing.assert_allclose(found, expected)
    longest = result.stats["longest"].sel(degree=1)
    np.testing.assert_allclose(longest.sel(model=["ring", "line"]), [death - birth, 0])
    total = result.stats["total"].sel(degree=0, model="line")
    assert float(total) == pytest.approx(1)  # 23 edges of one 23rd
    entropy = result.stats["entropy"]
    assert float(entropy.sel(degree=0, model="line")) == pytest.approx(np.log(23))
    assert np.isnan(entropy.sel(degree=1, model="line"))
    betti = compute_betti(rdm, max_dim=1, scale="max", thresholds=[0, 0.5, 0.9])
    assert isinstance(betti, BettiCurves) and betti.data.dims == ("degree", "threshold", "model")
    assert betti.data.sel(model="ring").to_numpy().tolist() == [[24, 1, 1], [0, 1, 0]]
    assert betti.data.sel(model="line").to_numpy().tolist() == [[24, 1, 1], [0, 0, 0]]


def test_compute_betti_needs_no_dependency_for_pieces(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    rdm = make_subjects(0.3)
    betti = compute_betti(rdm)
    assert betti.data.dims == ("degree", "threshold", "participant", "region")
    curve = betti.data.sel(degree=0)
    assert (curve[0] == 9).all() and (curve[-1] == 1).all()
    assert (curve.diff("threshold") <= 0).all()
    changed = to_rdm(rdm.data**3)  # the fraction of pairs joined knows only the order
    assert compute_betti(changed).data.equals(betti.data)
    assert compute_betti(rdm, scale="value").data["threshold"][-1] == rdm.data.max()
    result = compute_persistence(rdm, max_dim=0, scale="value")
    assert result.data.sizes["hole"] == 9 and np.isinf(result.data.sel(bound="death")[0, -1]).all()
    with pytest.raises(ImportError, match=r"pip install 'netphys\[topology\]'"):
        compute_persistence(rdm)


def test_homology_tells_what_it_did(tmp_path, ax):
    pytest.importorskip("ripser")
    rdm = make_points(make_ring(), units="distance (a.u.)")
    result = compute_persistence(rdm, scale="value", threshold=1.9)
    assert "persistent homology of 24 conditions, unit: distance (a.u.)" in result.summary()
    text = result.methods()
    assert "homology of degree 0 and 1 (pieces, loops)" in text and "bauer2021ripser" in text
    assert "Pairs beyond 1.9 were never joined" in text and "giusti2015" not in text
    table = result.to_frame()
    assert len(table) == 25 and {"birth", "death", "degree"} <= set(table.columns)
    again = Persistence.load(result.save(tmp_path / "p.nc"))
    assert again.summary() == result.summary()
    assert result.plot(ax) is ax and ax.get_xlabel() == "birth (distance (a.u.))"
    betti = compute_betti(rdm, max_dim=1)
    assert "degree 1: up to 1" in betti.summary() and "giusti2015" in betti.get_citations()
    assert betti.plot().get_xlabel() == "fraction of pairs joined"
    assert BettiCurves.load(betti.save(tmp_path / "b.nc")).data.equals(betti.data)
    people = make_subjects(0.3)
    curves = compute_betti(people.select(participant=0))
    assert [t.get_text() for t in curves.plot().get_legend().get_texts()] == REGIONS
    many = make_subjects(0.3, labels=range(12)).select(participant=0)
    texts = [t.get_text() for t in compute_betti(many).plot().get_legend().get_texts()]
    assert texts == ["0 (1 of 12)", "11 (12 of 12)"]
    with pytest.raises(ValueError, match=r"have dims \('participant', 'region'\)\. Draw them"):
        compute_betti(people).plot()
    with pytest.raises(ValueError, match=r"has 6 diagrams along 'participant'. Draw one"):
        compute_persistence(people, max_dim=0).plot()
    assert compute_persistence(people, max_dim=0).params["n_negative"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "rank"}, "scale='rank' is unknown. Choose one of: 'density', 'max', 'value'"),
        ({"max_dim": -1}, "max_dim=-1 is negative"),
        ({"thresholds": [1, 0]}, r"thresholds has shape \(2,\) or does not ascend"),
        ({"thresholds": []}, r"thresholds has shape \(0,\) or does not ascend"),
    ],
)
def test_homology_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        compute_betti(make_subjects(0), **options)
    data = make_subjects(0).data.copy()
    data[{"condition": 0}] = data[{"condition_2": 0}] = np.nan
    with pytest.raises(ValueError, match=r"unknown \(NaN\) pairs. A filtration needs all"):
        compute_persistence(to_rdm(data), max_dim=0)
    with pytest.raises(TypeError, match="Give an RDM, as compute_rdm returns"):
        compute_betti(make_ring())
