"""RDMs, their comparison and ceiling: by hand, against rsatoolbox, with planted answers and noise.

Numbers of rsatoolbox come from version 0.3.2 on the seeded inputs given here.
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from conftest import make_model, make_stimuli
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

import netphys
from netphys._options import NOISES
from netphys.analysis.rsa import (
    RDM,
    Comparison,
    compare_rdms,
    compute_layer_rdms,
    compute_rdm,
    compute_rsa_ceiling,
    to_rdm,
)
from netphys.core.compare import compare_pairs
from netphys.core.distance import compute_crossnobis, compute_precision
from netphys.data.cohort import Cohort

matplotlib.use("Agg")


def make_patterns(values, ids, **more) -> xr.DataArray:
    coords = {"stimulus_id": ("trial", ids)} | {k: ("trial", v) for k, v in more.items()}
    return xr.DataArray(np.asarray(values, float), coords, ("trial", "unit"))


def make_pairs() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.gamma(2, size=45) + rng.gamma(1, size=(5, 45))).round(2)


def make_people() -> RDM:
    return to_rdm(make_pairs(), conditions=[f"c{i}" for i in range(10)], dims=["participant"])


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


# ---------------------------------------------------------------- compute_rdm
def test_compute_rdm_averages_trials_and_keeps_the_order_of_appearance():
    x = make_patterns([[0, 0], [3, 4], [2, 2], [5, 0]], ["z", "a", "z", "m"])
    rdm = compute_rdm(x, metric="euclidean")
    assert rdm.conditions == ["z", "a", "m"] and rdm.data.dims == ("condition", "condition_2")
    # the pattern of z is (1, 1): squared distances 4 + 9 and 16 + 1, over two units
    expected = [[0, 6.5, 8.5], [6.5, 0, 10], [8.5, 10, 0]]
    np.testing.assert_allclose(rdm.data, expected, rtol=1e-14)
    assert rdm.params["n_trials"] == [1, 2] and rdm.data.attrs["metric"] == "euclidean"


def test_compute_rdm_keeps_other_dims_with_their_labels():
    rng = np.random.default_rng(0)
    x = xr.DataArray(
        rng.normal(size=(2, 6, 3, 5)),
        dims=("participant", "trial", "region", "unit"),
        coords={"stimulus_id": ("trial", list("abcabc")), "region": ["V1", "V4", "IT"]},
    )
    rdm = compute_rdm(x)
    assert rdm.data.dims == ("condition", "condition_2", "participant", "region")
    alone = compute_rdm(x.isel(participant=1).sel(region="V4"))
    np.testing.assert_allclose(rdm.data.isel(participant=1).sel(region="V4"), alone.data)
    assert rdm.select(region="V4", participant=[0]).extra_dims == ("participant",)


def test_compute_rdm_accumulates_in_float64():
    values = (1e4 + np.random.default_rng(0).normal(size=(2000, 8))).astype(np.float32)
    x = make_patterns(values, ["a", "b"] * 1000).astype(np.float32)
    exact = compute_rdm(x.astype(np.float64), metric="euclidean")
    np.testing.assert_allclose(compute_rdm(x, metric="euclidean").data, exact.data, rtol=1e-12)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("correlation", [1.38210503, 1.15199496, 0.19143478, 0.38237786, 0.83096802, 0.83379219]),
        ("euclidean", [1.36397083, 0.66380000, 0.20017083, 0.85854583, 0.56605833, 0.41182917]),
    ],
)
def test_reference_compute_rdm_agrees_with_rsatoolbox(metric, expected):
    x = np.random.default_rng(1).normal(size=(8, 6)).round(2)
    rdm = compute_rdm(make_patterns(x, list("abcdabcd")), metric=metric)
    np.testing.assert_allclose(rdm.to_frame()["dissimilarity"], expected, atol=1e-8)


def test_compute_rdm_counts_constant_patterns():
    rdm = compute_rdm(make_patterns([[1, 1, 1], [1, 2, 4], [3, 1, 2]], list("abc")))
    assert int(rdm.stats["n_constant"]) == 1
    assert np.isnan(rdm.data[0]).all() and np.isfinite(rdm.data[1:, 1:]).all()
    assert "2 of 3 dissimilarities are unknown (NaN), 1 patterns being constant" in rdm.summary()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"by": "stimulus"}, r"by='stimulus' is not a trial .* Did you mean 'stimulus_id'"),
        ({}, {"by": "one"}, "by='one' has 1 label in 3 trials. At least two"),
        ({}, {"by": "some"}, "by='some' has no label for 1 of 3 trials"),
        ({}, {"metric": "pearson"}, "For Pearson distance use 'correlation'"),
        ({"dims": ("sample", "unit")}, {}, "x has dims .*, without trial"),
        ({"units": 1}, {}, "needs patterns over at least 2 units; x has 1"),
        ({}, {"folds": "one"}, "folds='one' has no part in metric='correlation'"),
        ({}, {"noise": "full"}, "noise= has no part in metric='correlation'"),
        ({}, {"metric": "mahalanobis"}, "needs noise=: one of 'full'"),
        ({}, {"metric": "mahalanobis", "noise": "fulll"}, "Did you mean 'full'"),
        ({}, {"metric": "crossnobis"}, "'a' .* was shown once"),
        ({"value": np.nan}, {}, "holds 1 values that are NaN or infinite, the first in condition"),
    ],
)
def test_compute_rdm_refuses(change, options, message):
    values = np.random.default_rng(0).normal(size=(3, 4))
    x = make_patterns(values, list("abc"), one=[1, 1, 1], some=["x", None, "y"])
    x = x.rename(dict(zip(x.dims, change.get("dims", x.dims), strict=True)))
    x = x.isel(unit=slice(change.get("units")))
    if "value" in change:
        x[1, 0] = change["value"]
    with pytest.raises(ValueError, match=message):
        compute_rdm(x, **options)
    with pytest.raises(TypeError, match=r"Give a DataArray with dims \(trial, unit\)"):
        compute_rdm(values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_property_compute_rdm_follows_the_labels(seed):
    rng = np.random.default_rng(seed)
    x = make_patterns(rng.normal(size=(6, 5)), list("abcdef"))
    order = rng.permutation(6)
    rdm, moved = compute_rdm(x), compute_rdm(x.isel(trial=order))
    same = moved.data.sel(condition=rdm.conditions, condition_2=rdm.conditions)
    np.testing.assert_allclose(same, rdm.data, atol=1e-12)
    assert (rdm.data.to_numpy() == rdm.data.to_numpy().T).all() and (rdm.data >= 0).all()


# ---------------------------------------------------------------- RDM
# ---------------------------------------------------------------------- noise and runs
def make_run_data(n_runs=4, n_conditions=6, n_units=10, seed=0) -> xr.DataArray:
    """Trials of conditions in shuffled order, one per run, with an offset per run."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([rng.permutation(n_conditions) for _ in range(n_runs)])
    runs = np.repeat(np.arange(n_runs), n_conditions)
    signal = rng.normal(size=(n_conditions, n_units))
    offset = 5 * rng.normal(size=(n_runs, n_units))
    values = signal[codes] + offset[runs] + rng.normal(size=(len(codes), n_units))
    return make_patterns(values, [f"c{k}" for k in codes], run=[f"r{k}" for k in runs])


@pytest.mark.parametrize("noise", [None, *NOISES])
def test_crossnobis_rdm_is_that_of_the_patterns_per_run(noise):
    x = make_run_data(5, 4, 3)
    rdm = compute_rdm(x, metric="crossnobis", folds="run", noise=noise)
    labels = rdm.conditions
    assert labels == list(dict.fromkeys(x["stimulus_id"].to_numpy()))
    patterns = np.stack(
        [
            [x[(x["run"] == f"r{m}") & (x["stimulus_id"] == c)].to_numpy()[0] for c in labels]
            for m in range(5)
        ]
    )
    precision = None
    if noise:
        r = patterns - patterns.mean(axis=0) - patterns.mean(axis=1, keepdims=True)
        r = (r + patterns.mean(axis=(0, 1))).reshape(-1, 3)
        precision = compute_precision(r, method=noise, dof=20 - 4 - 4)
    expected = compute_crossnobis(patterns, precision=precision)
    np.testing.assert_allclose(rdm.data.to_numpy(), expected, rtol=1e-9, atol=1e-12)
    assert rdm.params["n_folds"] == 5 and rdm.params.get("noise") == noise
    assert "over 5 folds (run)" in rdm.methods() and "walther2016" in rdm.methods()


def test_repeats_are_the_folds_where_none_are_named():
    x = make_run_data(3, 4, 5)
    named = compute_rdm(x, metric="crossnobis", folds="run")
    counted = compute_rdm(x, metric="crossnobis")
    np.testing.assert_allclose(counted.data, named.data)
    with pytest.raises(ValueError, match=r"have 2 to 3 trials\. Name .* folds='run'"):
        compute_rdm(x[:-1], metric="crossnobis")
    fewer = compute_rdm(x[:-1], metric="crossnobis", folds="run")
    assert np.isfinite(fewer.data).all()


def test_conditions_that_never_meet_are_nan_and_said_so():
    x = make_patterns(
        np.random.default_rng(0).normal(size=(8, 3)), list("abababcc"), run=list("11223344")
    )
    rdm = compute_rdm(x, metric="crossnobis", folds="run")
    assert np.isnan(rdm.data.sel(condition="c", condition_2="a"))
    assert "not occurring together in two folds" in rdm.summary()


def test_identical_repeats_have_no_noise():
    x = make_patterns(np.tile(np.eye(3), (2, 1)), list("abcabc"))
    with pytest.raises(ValueError, match="identical bit for bit"):
        compute_rdm(x, metric="crossnobis")


def test_mahalanobis_and_poisson_rdms():
    x = make_run_data(4, 5, 3)
    rdm = compute_rdm(x, metric="mahalanobis", noise=np.diag([1.0, 4.0, 9.0]))
    scaled = x * np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(rdm.data, compute_rdm(scaled, metric="euclidean").data)
    counts = x.copy(data=np.random.default_rng(0).poisson(4, size=x.shape))
    plain = compute_rdm(counts, metric="poisson")
    shaky = compute_rdm(counts, metric="poisson-cv", folds="run")
    assert plain.data.min() == 0 and shaky.data.min() < 0
    assert "nats" in shaky.data.attrs["units"]


def test_crossnobis_keeps_time():
    x = xr.concat([make_run_data(seed=s) for s in (1, 1, 1)], dim="time")
    x = x.copy(data=x.to_numpy() * np.array([1.0, 2.0, 3.0])[:, None, None])
    rdm = compute_rdm(x, metric="crossnobis", folds="run", noise="shrink-diagonal")
    assert rdm.data.dims == ("condition", "condition_2", "time")
    np.testing.assert_allclose(rdm.data[..., 1], rdm.data[..., 0])  # noise grows alike


def test_select_picks_labels_and_suggests():
    rdm = make_people()
    rdm = to_rdm(rdm.data.assign_coords(participant=[f"s{i}" for i in range(5)]))
    some = rdm.select(participant="s3", condition=["c4", "c1", "c9"])
    assert some.conditions == ["c4", "c1", "c9"] and some.extra_dims == ()
    assert float(some.data[0, 1]) == float(rdm.data.sel(condition="c4", condition_2="c1")[3])
    with pytest.raises(KeyError, match=r"'person' is not a dim of this RDM"):
        rdm.select(person="s1")
    with pytest.raises(KeyError, match=r"participant='s9' is not in this RDM\..* It has 5: s0, s1"):
        rdm.select(participant="s9")
    with pytest.raises(ValueError, match="condition='c1' is one condition"):
        rdm.select(condition="c1")


def test_to_frame_has_a_row_per_pair_and_matrix():
    table = make_people().to_frame()
    assert len(table) == 5 * 45
    row = table.query("participant == 2 and condition == 'c0' and condition_2 == 'c3'")
    assert row["dissimilarity"].item() == make_pairs()[2, 2]


def test_to_rdm_takes_squares_and_pairs():
    square = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]])
    for values in (square, np.array([1.0, 2, 3])):
        assert to_rdm(values, conditions=list("abc")).data.to_numpy().tolist() == square.tolist()
    stack = np.stack([square, 2 * square])
    rdm = to_rdm(stack, conditions=list("abc"), dims=["model"], coords={"model": ["x", "y"]})
    assert rdm.data.dims == ("condition", "condition_2", "model")
    again = to_rdm(rdm.data.transpose("model", ...))
    np.testing.assert_array_equal(again.data, rdm.data)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[0, 1.0], [2, 0]], {"conditions": "ab"}, "rdm is not symmetric"),
        ([[1, 0.5], [0.5, 1]], {"conditions": "ab"}, "look like similarities"),
        ([[0, 1.0], [1, 0]], {"conditions": "aa"}, "conditions holds 'a' twice"),
        ([[0, 1.0], [1, 0]], {}, "conditions is missing"),
        ([[0, 1.0], [1, 0]], {"conditions": "abc"}, r"values has shape \(2, 2\)"),
        ([1.0, 2], {"conditions": "abc"}, "values has 2 pairs; 3 conditions have 3"),
        ([[0.0]], {"conditions": "a"}, "conditions has 1 label"),
    ],
)
def test_to_rdm_refuses(values, options, message):
    options = {k: list(v) for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        to_rdm(np.array(values), **options)
    with pytest.raises(ValueError, match="without condition and condition_2"):
        to_rdm(xr.DataArray([0.0]))


def test_rdm_plot_names_conditions_and_units(ax):
    rdm = compute_rdm(make_patterns(np.random.default_rng(0).normal(size=(5, 4)), list("abcde")))
    assert rdm.plot(ax) is ax and ax.get_title() == "n = 5 conditions"
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abcde")
    assert ax.figure.axes[1].get_ylabel() == "dissimilarity (1 - r)"
    assert np.isnan(ax.images[0].get_array().filled(np.nan).diagonal()).all()
    with pytest.raises(ValueError, match=r"5 matrices along 'participant'.*rdm\.select\(part"):
        make_people().plot(ax)


def test_rdm_plot_names_groups_and_shows_pictures(ax):
    rdm = to_rdm(make_pairs()[0], conditions=[f"c{i}" for i in range(10)])
    groups = {f"c{i}": "face" if i < 4 else "house" for i in range(10)}
    images = list(np.random.default_rng(0).random((10, 6, 6, 3)))
    rdm.plot(ax, groups=groups, images=images)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["face", "house"]
    assert ax.get_yticks().tolist() == [1.5, 6.5] and len(ax.artists) == 20
    with pytest.raises(ValueError, match="groups lacks 9 conditions, such as 'c1'"):
        rdm.plot(groups={"c0": "face"})
    with pytest.raises(ValueError, match="images has 1 pictures for 10 conditions"):
        rdm.plot(images=images[:1])


def test_rdm_is_saved_and_describes_itself(tmp_path):
    rdm = compute_rdm(make_patterns(np.eye(4), list("aabb")))
    read = RDM.load(rdm.save(tmp_path / "r.nc"))
    xr.testing.assert_identical(read.data, rdm.data)
    assert read.conditions == ["a", "b"]
    text = read.methods()
    assert "2 conditions (averaged over 2 trials each; stimulus_id) as 1 minus Pearson's" in text
    assert "@article{kriegeskorte2008rsa," in text
    assert "RDM: 2 conditions (1 pairs), dissimilarity (1 - r)" in repr(read)
    assert "were taken as stored" in make_people().describe_methods()


# ---------------------------------------------------------------- layers of a session
@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    folder, stimuli = tmp_path_factory.mktemp("rsa"), make_stimuli("gpt2")
    subject = netphys.load_subject(make_model("gpt2"))
    members = {"trained": subject}
    members |= {f"s{k}": netphys.load_subject(subject.model, init="random", seed=k) for k in (0, 1)}
    return {
        name: netphys.record(
            s, stimuli, folder / f"{name}.nwb", sites=["embed", "resid", "mlp"], progress=False
        )
        for name, s in members.items()
    }


def test_compute_layer_rdms_takes_sites_in_order_of_depth(sessions):
    session = sessions["trained"]
    rdm = compute_layer_rdms(session)
    sites = ["transformer.h.0@in", "transformer.h.0", "transformer.h.1"]
    assert rdm.data["layer"].to_numpy().tolist() == sites
    assert rdm.data["kind"].to_numpy().tolist() == ["embed", "resid", "resid"]
    for site in sites:
        alone = compute_rdm(session.pool(site))
        np.testing.assert_allclose(rdm.data.sel(layer=site), alone.data, atol=1e-12)
    assert compute_layer_rdms(session, sites="mlp").data.sizes["layer"] == 2
    assert rdm.provenance["subject"]["init"] == "trained"
    assert "at 3 sites of the model" in rdm.methods()
    with pytest.raises(KeyError, match="Did you mean 'resid'"):
        compute_layer_rdms(session, sites=["embed", "residd"])


@pytest.mark.parametrize("metric", ["correlation", "euclidean", "cosine"])
def test_layer_rdms_are_the_same_in_blocks_of_units(sessions, monkeypatch, metric):
    whole = compute_layer_rdms(sessions["trained"], metric=metric)
    monkeypatch.setattr("netphys.analysis._distances.BLOCK_BYTES", 8 * 5 * 3)
    blocks = compute_layer_rdms(sessions["trained"], metric=metric)
    np.testing.assert_allclose(blocks.data, whole.data, atol=1e-11)
    assert blocks.params["n_units"] == whole.params["n_units"]


def test_compute_layer_rdms_of_a_cohort_has_seeds(sessions):
    cohort = Cohort({k: sessions[k] for k in ("s0", "s1")})
    rdm = compute_layer_rdms(cohort, by="condition", how="last")
    assert rdm.data.dims == ("condition", "condition_2", "layer", "seed")
    assert rdm.conditions == ["even", "odd"]
    alone = compute_layer_rdms(sessions["s1"], by="condition", how="last")
    np.testing.assert_array_equal(rdm.select(seed="s1").data, alone.data)
    assert list(rdm.provenance["members"]) == ["s0", "s1"]


# ---------------------------------------------------------------- ceiling
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("pearson", (0.729679785670869, 0.8316356626020337)),
        ("spearman", (0.7137841553991895, 0.824782918750862)),
        ("rho-a", (0.7136363636363636, 0.8247167325428195)),
        ("cosine", (0.9393411394749904, 0.9613737297801801)),
    ],
)
def test_reference_ceiling_agrees_with_rsatoolbox(method, expected):
    ceiling = compute_rsa_ceiling(make_people(), method=method)
    np.testing.assert_allclose(ceiling, expected, atol=1e-12)
    assert ceiling.attrs["kind"] == "rsa leave-one-out" and ceiling.attrs["n"] == 5
    assert ceiling["bound"].to_numpy().tolist() == ["lower", "upper"]


def test_ceiling_of_copies_is_one_and_keeps_regions():
    pairs = np.stack([np.tile(make_pairs()[0], (3, 1)), make_pairs()[:3]])
    labels = [f"c{i}" for i in range(10)]
    rdm = to_rdm(pairs, conditions=labels, dims=["region", "participant"])
    ceiling = compute_rsa_ceiling(rdm)
    assert ceiling.dims == ("bound", "region")
    np.testing.assert_allclose(ceiling[:, 0], 1)
    assert (ceiling[0, 1] < ceiling[1, 1]) and ceiling[1, 1] < 1
    with pytest.raises(ValueError, match="A ceiling needs at least two"):
        compute_rsa_ceiling(to_rdm(pairs[0, 0], conditions=labels))


# ---------------------------------------------------------------- comparison
def test_compare_rdms_aligns_by_label():
    rdm = make_people()
    shuffled = rdm.conditions[::-1]
    other = to_rdm(rdm.data.isel(participant=1).sel(condition=shuffled, condition_2=shuffled))
    result = compare_rdms(rdm, other, n_permutations=99, rng=0)
    assert result.data.dims == ("participant",) and result.null.dims == ("draw", "participant")
    assert float(result.data[1]) == pytest.approx(1)
    expected = compare_pairs(make_pairs(), make_pairs()[1:2])[:, 0]
    np.testing.assert_allclose(result.data, expected)
    assert float(result.stats["p"][1]) == 0.01
    assert (result.stats["p_max"] >= result.stats["p"]).all()


def test_compare_rdms_by_hand():
    a = to_rdm(np.array([1.0, 2, 3, 4, 5, 6]), conditions=list("abcd"))
    b = to_rdm(np.array([2.0, 1, 3, 4, 5, 6]), conditions=list("abcd"))
    result = compare_rdms(a, b, n_permutations=0)
    assert float(result.data) == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert result.null is None and result.params["null"] == "left out (n_permutations=0)"
    assert "p" not in result.stats and "No p-values were computed" in result.describe_methods()


def test_compare_rdms_leaves_out_constant_conditions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5))
    b = compute_rdm(make_patterns(rng.normal(size=(8, 5)), list("abcdefgh")))
    full = compute_rdm(make_patterns(x, list("abcdefgh")))
    x[2] = 1
    result = compare_rdms(compute_rdm(make_patterns(x, list("abcdefgh"))), b, rng=0)
    assert result.params["left_out"] == ["c"] and result.params["n_conditions"] == 7
    kept = list("abdefgh")
    without = compare_rdms(full.select(condition=kept), b.select(condition=kept), n_permutations=0)
    assert float(result.data) == pytest.approx(float(without.data))


def test_compare_rdms_of_a_dead_layer_is_nan_and_the_rest_is_not():
    x = np.random.default_rng(0).normal(size=(2, 6, 5))
    x[1] = 3.0
    coords = {"stimulus_id": ("trial", list("abcdef"))}
    rdm = compute_rdm(xr.DataArray(x, coords, ("layer", "trial", "unit")))
    result = compare_rdms(rdm, rdm.select(layer=0), n_permutations=99, rng=0)
    assert float(result.data[0]) == pytest.approx(1) and np.isnan(result.data[1])
    assert np.isnan(result.stats["p"][1]) and np.isfinite(result.stats["p_max"][0])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"conditions": [f"d{i}" for i in range(10)]}, {}, "Only in a: 'c0'.* Only in b: 'd0'"),
        ({"keep": 3}, {}, "3 of 3 conditions can be compared. At least 4"),
        ({"dims": ["participant"]}, {}, "a and b both have 'participant'"),
        ({"hole": True}, {}, "b lacks 1 dissimilarities"),
        ({}, {"method": "kendall"}, "method='kendall' is unknown"),
        ({}, {"order": "time"}, "order='time' is unknown"),
        ({}, {"n_permutations": 5}, "n_permutations=5 cannot give a p below .05"),
    ],
)
def test_compare_rdms_refuses(change, options, message):
    a, labels = make_people(), [f"c{i}" for i in range(10)]
    b = to_rdm(
        make_pairs()[:1] if "dims" in change else make_pairs()[0],
        conditions=change.get("conditions", labels),
        dims=change.get("dims", ()),
    )
    if "keep" in change:
        a, b = (r.select(condition=labels[: change["keep"]]) for r in (a, b))
    if "hole" in change:
        b.data[0, 1] = b.data[1, 0] = np.nan
    with pytest.raises(ValueError, match=message):
        compare_rdms(a, b, **options)


def test_compare_rdms_takes_seeds_generators_and_none():
    rdm, other = make_people(), to_rdm(make_pairs()[0], conditions=make_people().conditions)
    one, two = (compare_rdms(rdm, other, n_permutations=50, rng=3) for _ in range(2))
    np.testing.assert_array_equal(one.null, two.null)
    drawn = compare_rdms(rdm, other, n_permutations=50)
    again = compare_rdms(rdm, other, n_permutations=50, rng=drawn.params["rng"])
    np.testing.assert_array_equal(drawn.null, again.null)
    with pytest.raises(TypeError, match="rng='x' is a str"):
        compare_rdms(rdm, other, rng="x")


def test_noise_is_significant_as_often_as_p_says():
    """300 pairs of unrelated RDMs: p <= .05 in 4.7 % (iid), p_max over 4 layers in 4.3 %."""
    rng = np.random.default_rng(0)
    labels = [f"c{i}" for i in range(16)]
    hits, corrected = [], []
    for k in range(300):
        x = rng.normal(size=(5, 16, 10))
        coords = {"stimulus_id": ("trial", labels)}
        rdm = compute_rdm(xr.DataArray(x, coords, ("layer", "trial", "unit")))
        a, b = to_rdm(rdm.data.isel(layer=slice(4))), to_rdm(rdm.data.isel(layer=4))
        s = compare_rdms(a, b, n_permutations=99, rng=k).stats
        hits.append(float(s["p"][0]) <= 0.05)
        corrected.append(float(s["p_max"].min()) <= 0.05)
    assert 0.02 <= np.mean(hits) <= 0.085 and np.mean(corrected) <= 0.085


@pytest.mark.slow
def test_ordered_conditions_need_shifts():
    """Unrelated smooth series of 100 samples: permutation calls all significant, shifts 5 %."""
    rng = np.random.default_rng(1)
    labels = [f"c{i}" for i in range(100)]
    hits = {"iid": [], "ordered": []}
    for _ in range(150):
        noise = gaussian_filter1d(rng.normal(size=(2, 120, 20)), 2, axis=1)[:, 10:110]
        a, b = (compute_rdm(make_patterns(w, labels)) for w in noise)
        for order, found in hits.items():
            result = compare_rdms(a, b, order=order, n_permutations=99, rng=0)
            found.append(float(result.stats["p"]) <= 0.05)
    assert np.mean(hits["iid"]) > 0.9 and np.mean(hits["ordered"]) <= 0.08
    related = compute_rdm(make_patterns(noise[0] @ rng.normal(size=(20, 20)), labels))
    assert float(compare_rdms(a, related, order="ordered").stats["p"]) < 0.02
    few = compare_rdms(*(r.select(condition=labels[:20]) for r in (a, b)), order="ordered")
    assert few.null is None and "20 ordered conditions are too few" in few.params["null"]
    assert few.params["null"] in few.summary()


def test_comparison_draws_itself_and_is_saved(ax, tmp_path):
    rdm = make_people()
    single = to_rdm(make_pairs()[0], conditions=rdm.conditions)
    one, many = compare_rdms(single, single, rng=0), compare_rdms(rdm, single, rng=0)
    assert many.plot(ax).get_title() == "n = 10 conditions"
    assert one.plot().get_xlabel() == "Spearman's rho"
    read = Comparison.load(many.save(tmp_path / "c.nc"))
    assert read.summary() == many.summary() and "p_max" in many.summary()
    assert "Spearman's rho over 10 conditions: 1.000, p = 0.000999" in one.summary()
    assert "@article{phipson2010," in one.methods()
    cube = to_rdm(np.stack([make_pairs()] * 2), conditions=rdm.conditions, dims=["region", "layer"])
    with pytest.raises(ValueError, match="Draw at most two"):
        compare_rdms(cube, rdm, n_permutations=0).plot()


@pytest.mark.slow
@pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")
def test_ceiling_of_human_it():
    """Four people, two sessions each averaged first; rsatoolbox gives .3723 and .6657 for these.

    Averaging the sessions' ranks instead gives .378 and .669, raw dissimilarities pooled .379 and
    .661: the bounds depend on the pool to about .01.
    """
    from scipy.io import loadmat

    folder = Path(os.environ["NETPHYS_DATA"]) / "kriegeskorte2008"
    stored = loadmat(folder / "92_brainRDMs.mat", simplify_cells=True)["RDMs"]
    people = np.array([[np.asarray(s.RDM) for s in person] for person in stored]).mean(axis=1)
    rdm = to_rdm(people, conditions=[f"i{k}" for k in range(92)], dims=["participant"])
    ceiling = compute_rsa_ceiling(rdm)
    np.testing.assert_allclose(ceiling, [0.37231325, 0.66572090], atol=1e-7)
    np.testing.assert_allclose(ceiling, [0.377, 0.672], atol=0.01)


def test_order_that_the_rdms_declare_is_kept_and_not_overruled():
    import xarray as xr

    n = 80
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    dims, labels = ("condition", "condition_2"), [f"t{i}" for i in range(n)]
    coords = {"condition": labels, "condition_2": labels}
    stored = xr.DataArray(lag, dims=dims, coords=coords, attrs={"order": "ordered"})
    timed = to_rdm(stored)
    result = compare_rdms(timed, to_rdm(lag, conditions=labels), n_permutations=99, rng=0)
    assert result.params["order"] == "ordered"
    with pytest.raises(ValueError, match="order='iid', but the data are ordered in time"):
        compare_rdms(timed, timed, order="iid")
