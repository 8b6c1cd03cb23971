"""Evaluation of models: by hand, against rsatoolbox, planted answers, and noise."""

from __future__ import annotations

import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from netphys._options import METHODS
from netphys.analysis._bootstrap import Spread
from netphys.analysis._sampling import find_block
from netphys.analysis.evaluate import evaluate
from netphys.analysis.evaluation import Evaluation
from netphys.analysis.rsa import RDM, compute_rdm, compute_rsa_ceiling, to_rdm
from netphys.core.clusters import compute_cluster_p
from netphys.core.compare import compare_pairs

matplotlib.use("Agg")
N = 24
N_PAIRS = N * (N - 1) // 2
NAMES = [f"c{k}" for k in range(N)]


def make_rdm(values, dims=(), **coords) -> RDM:
    names = [f"c{k}" for k in range(round((1 + np.sqrt(1 + 8 * np.shape(values)[-1])) / 2))]
    return to_rdm(np.asarray(values), conditions=names, dims=list(dims), coords=coords)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    truth = rng.gamma(2, size=N_PAIRS)
    people = make_rdm(truth + 1.5 * rng.gamma(2, size=(8, N_PAIRS)), ["participant"])
    models = {
        "true": make_rdm(truth),
        "near": make_rdm(truth + rng.gamma(2, size=N_PAIRS)),
        "wrong": make_rdm(rng.gamma(2, size=N_PAIRS)),
    }
    return models, people


@pytest.fixture(scope="module")
def result(world) -> Evaluation:
    return evaluate(*world, n_permutations=199, n_bootstraps=300, rng=0)


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


def get_rows(rdm: RDM) -> np.ndarray:
    i, j = np.triu_indices(len(rdm.conditions), 1)
    return np.atleast_2d(rdm.data.transpose(..., "condition", "condition_2").to_numpy()[..., i, j])


@pytest.mark.parametrize("method", METHODS)
def test_scores_and_ceiling_are_the_plain_ones(world, method):
    models, people = world
    found = evaluate(models, people, method=method, n_permutations=0, n_bootstraps=0)
    rows = np.concatenate([get_rows(m) for m in models.values()])
    expected = compare_pairs(rows, get_rows(people), method=method)
    np.testing.assert_allclose(found.data, expected, atol=1e-12)
    ceiling = compute_rsa_ceiling(people, method=method)
    np.testing.assert_allclose(found.stats["ceiling"], ceiling, atol=1e-12)
    assert "interval" not in found.stats and found.null is None
    assert "n_bootstraps=0" in found.summary() and "n_permutations=0" in found.summary()


def test_planted_model_is_found_and_differs_from_the_others(result):
    s = result.stats
    assert (s["p"].to_numpy()[:2] == 1 / 200).all() and s["p"][2] > 0.05
    assert s["p_zero"][0] < 1e-4 and s["ceiling_p"] < 1e-4
    assert s["mean"][0] > s["mean"][1] > s["mean"][2]
    p = s["difference_p_bh"].to_numpy()
    assert p[0, 2] < 0.01 and p[0, 1] > p[0, 2] and np.isnan(p[0, 0])
    assert s["difference_p_max"][0, 2] < 0.01
    assert s["p_ceiling"][2] < 0.01
    low, high = s["interval"][0].to_numpy()
    assert low < s["mean"][0] < high
    np.testing.assert_array_equal(s["difference"], -s["difference"].T)
    assert result.params["generalize"] == ["stimuli", "participants"]
    assert "8 participants" not in result.params["holds_for"]
    assert "participants like these 8" in result.params["holds_for"]


def test_reference_variances_are_those_of_rsatoolbox():
    """The same draws through its correction for two factors, for models, differences, ceiling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.util.inference_util import extract_variances
    rng = np.random.default_rng(0)
    names = ("both", "participants", "stimuli")  # in its order
    shared = rng.normal(size=(200, 5))
    draws = {k: (shared + rng.normal(size=(200, 5)))[:, None] for k in names}
    draws["both"] *= 1.5  # of two factors together more
    sizes = {"stimuli": 24, "participants": 8}
    spread = Spread(draws, sizes)
    stacked = np.stack([np.cov(draws[k][:, 0], rowvar=False) for k in names])
    model, pair, ceiling = extract_variances(stacked, True, n_rdm=8, n_pattern=24)
    eye = np.eye(5)
    np.testing.assert_allclose(spread.get_variance(eye[:3]), model, rtol=1e-10)
    i, j = np.triu_indices(3, 1)
    np.testing.assert_allclose(spread.get_variance(eye[i] - eye[j]), pair, rtol=1e-10)
    contrast = eye[:3, None] - eye[None, 3:]
    np.testing.assert_allclose(spread.get_variance(contrast), ceiling, rtol=1e-10)
    assert spread.dof == 7


def test_a_repeated_split_adds_no_variance():
    """Var = (c Var(mean over splits) - mean Var(single)) / (c - 1) is that of all splits."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(20000, 1, 1))
    split = rng.normal(size=(20000, 2, 1))
    spread = Spread({"stimuli": true + split}, {"stimuli": 10**9})
    assert spread.get_variance(np.ones((1, 1)))[0] == pytest.approx(1, abs=0.05)


def test_one_factor_alone_and_none(world):
    models, people = world
    options = {"n_permutations": 0, "n_bootstraps": 200, "rng": 0, "method": "pearson"}
    stimuli = evaluate(models, people, generalize="stimuli", **options)
    both = evaluate(models, people, **options)
    persons = evaluate(models, people, generalize=("participants",), **options)

    def get_width(found):
        return float(np.diff(found.stats["interval"].to_numpy())[0, 0])

    assert get_width(both) > max(get_width(stimuli), 0.9 * get_width(persons))
    sd = float(persons.data[0].std(ddof=1)) / np.sqrt(8)
    assert get_width(persons) == pytest.approx(2 * 2.365 * sd, rel=0.15)  # t, 7 df
    assert "these 24 stimuli and participants like" in persons.params["holds_for"]


def test_few_participants_and_stimuli_are_not_sampled(world):
    models, people = world
    few = people.select(participant=[0, 1, 2]) if "participant" in people.data.coords else None
    few = make_rdm(get_rows(people)[:3], ["participant"]) if few is None else few
    found = evaluate(models, few, n_permutations=0, n_bootstraps=50, rng=0)
    assert found.params["generalize"] == ["stimuli"]
    assert "participants (3 participants are fewer than 6)" in found.summary()
    small = {k: v.select(condition=NAMES[:12]) for k, v in models.items()}
    found = evaluate(small, few.select(condition=NAMES[:12]), n_permutations=0, rng=0)
    assert found.params["generalize"] == [] and "interval" not in found.stats


def test_layers_are_candidates_and_flexible_ones_are_fitted():
    rng = np.random.default_rng(1)
    parts = rng.gamma(2, size=(3, N_PAIRS))
    truth = 0.7 * parts[0] + 0.3 * parts[2]
    people = make_rdm(truth + 0.5 * rng.gamma(2, size=(7, N_PAIRS)), ["participant"])
    net = make_rdm(parts, ["layer"], layer=["a", "b", "c"])
    models = {"net": net, "mixed": net, "best": net, "between": net}
    rules = {"mixed": "weighted", "best": "selected", "between": "interpolated"}
    for method in ("pearson", "rho-a"):
        found = evaluate(
            models,
            people,
            method=method,
            flexible=rules,
            n_permutations=19,
            n_bootstraps=20,
            rng=0,
        )
        mean = found.stats["mean"].to_series()
        assert list(mean.index) == ["net: a", "net: b", "net: c", *rules]
        assert mean["mixed"] > mean["best"] > mean["net: c"]
        assert mean["best"] == pytest.approx(mean["net: a"], abs=0.05)
        assert found.stats["p"].sel(model="mixed") == 0.05
        assert np.isfinite(found.stats["interval"]).all()
    assert "mixed (weighted)" in found.summary() and "cross-validation" in found.methods()


def test_selecting_among_noise_layers_gains_nothing():
    """The best of ten layers of noise looks good where it was chosen, and not on other stimuli."""
    rng = np.random.default_rng(0)
    nested, chosen = [], []
    for _ in range(20):
        people = make_rdm(rng.gamma(2, size=N_PAIRS) + rng.random((6, N_PAIRS)), ["participant"])
        net = make_rdm(rng.gamma(2, size=(10, N_PAIRS)), ["layer"])
        found = evaluate(
            {"net": net, "nested": net},
            people,
            method="pearson",
            flexible={"nested": "selected"},
            n_permutations=0,
            n_bootstraps=0,
            rng=0,
        )
        mean = found.stats["mean"].to_numpy()
        nested.append(mean[-1])
        chosen.append(mean[:-1].max())
    assert abs(np.mean(nested)) < 0.05 < np.mean(chosen)


def test_seeds_are_averaged_and_sampled():
    rng = np.random.default_rng(0)
    truth = rng.gamma(2, size=N_PAIRS)
    people = make_rdm(truth + rng.gamma(2, size=(8, N_PAIRS)), ["participant"])
    mix = np.array([0.2, 0.5, 0.8, 1.1, 1.4, 1.7])[:, None]
    net = make_rdm(mix * truth + rng.gamma(2, size=(6, N_PAIRS)), ["seed"])
    options = {"method": "pearson", "n_permutations": 0, "n_bootstraps": 100, "rng": 0}
    found = evaluate({"net": net}, people, **options)
    assert found.params["generalize"] == ["stimuli", "participants", "seeds"]
    assert "other seeds" in found.params["holds_for"]
    each = compare_pairs(get_rows(net), get_rows(people), method="pearson")
    np.testing.assert_allclose(found.data[0], each.mean(axis=0))
    without = evaluate({"net": net}, people, generalize=("stimuli", "participants"), **options)
    wide, narrow = (float(np.diff(f.stats["interval"][0])[0]) for f in (found, without))
    assert wide > 1.2 * narrow
    with pytest.raises(ValueError, match="generalize names 'seeds': 4 seeds are fewer than 5"):
        evaluate({"net": net.select(seed=[0, 1, 2, 3])}, people, generalize="seeds", **options)


def test_twins_stand_beside_their_models(world):
    models, people = world
    found = evaluate(
        {"net": models["true"]}, people, twin=models["wrong"], n_permutations=0, n_bootstraps=50
    )
    assert found.stats["model"].to_numpy().tolist() == ["net", "net (untrained)"]
    assert found.stats["difference_p"][0, 1] < 0.01 and found.params["twin"] == "given"


def test_time_is_kept_and_clusters_are_found():
    rng = np.random.default_rng(0)
    truth = rng.gamma(2, size=N_PAIRS)
    strength = np.zeros(20)
    strength[8:13] = 0.6
    noise = rng.gamma(2, size=(20, 6, N_PAIRS))
    values = strength[:, None, None] * truth + noise
    people = make_rdm(values, ["time", "participant"], time=np.arange(20) * 0.05)
    models = {"true": make_rdm(truth), "wrong": make_rdm(rng.gamma(2, size=N_PAIRS))}
    found = evaluate(models, people, method="pearson", n_permutations=99, n_bootstraps=20, rng=0)
    assert found.data.dims == ("model", "participant", "time")
    p = found.stats["cluster_p"].transpose("model", "time").to_numpy()
    assert (p[0, 8:13] < 0.05).all() and (p[0, :7] > 0.05).all() and (p[1] > 0.05).all()
    at = found.select(time=0.5)
    assert at.extra_dims == () and at.stats["p"].sel(model="true") == 0.01
    one = evaluate(
        models,
        people.select(time=0.5),
        method="pearson",
        n_permutations=99,
        n_bootstraps=20,
        rng=0,
    )
    np.testing.assert_allclose(one.data, at.data)
    assert "maris2007" in found.methods()
    with pytest.raises(KeyError, match=r"time=0\.51 is not in this evaluation"):
        found.select(time=0.51)
    with pytest.raises(KeyError, match="Did you mean 'time'"):
        found.select(tim=0.5)
    with pytest.raises(ValueError, match=r"20 values of 'time'.*result\.select\(time=0\.0\)"):
        found.to_table()
    axes = found.plot()
    assert axes.get_xlabel() == "time" and "clusters" in axes.get_title()
    plt.close("all")


def test_cluster_p_by_hand():
    statistic = np.array([0, 3, 4, 0, 2, np.nan, 5.0])
    null = np.zeros((9, 7))
    null[0, 2:4] = 4  # a run of mass 6: as large as neither 5 nor 1, and as 4 not
    p = compute_cluster_p(statistic, null, threshold=np.ones(7))
    np.testing.assert_allclose(p, [1, 0.2, 0.2, 1, 0.2, 1, 0.2])
    null[0] = 0
    p = compute_cluster_p(statistic, null, threshold=np.ones(7))
    np.testing.assert_allclose(p, [1, 0.1, 0.1, 1, 0.1, 1, 0.1])


def test_ordered_stimuli_are_drawn_in_blocks_and_shifted():
    rng = np.random.default_rng(0)
    x = gaussian_filter1d(rng.normal(size=(160, 30)), 2, axis=0)[30:130]
    names = [f"t{k:03d}" for k in range(100)]

    def make(noise):
        values = x + noise * gaussian_filter1d(rng.normal(size=(100, 30)), 2, axis=0)
        coords = {"stimulus_id": ("trial", names)}
        return compute_rdm(xr.DataArray(values, coords, ("trial", "unit")))

    people = np.stack([make(1.0).data.to_numpy() for _ in range(6)])
    data = to_rdm(people, conditions=names, dims=["participant"])
    model = make(0.5)
    found = evaluate({"m": model}, data, order="ordered", n_bootstraps=50, rng=0)
    assert found.params["order"] == "ordered" and found.params["block"] >= 4
    assert found.stats["p"][0] < 0.01 and np.isfinite(found.stats["interval"]).all()
    assert "circular shifts" in found.methods()
    flexible = evaluate(
        {"m": to_rdm(np.stack([model.data, make(3.0).data]), conditions=names, dims=["layer"])},
        data,
        order="ordered",
        flexible={"m": "selected"},
        n_bootstraps=0,
        rng=0,
    )
    assert np.isnan(flexible.stats["p"][0])


def test_blocks_grow_with_smoothness():
    rng = np.random.default_rng(0)
    blocks = []
    for width in (0.5, 2, 6):
        x = gaussian_filter1d(rng.normal(size=(300, 40)), width, axis=0)[50:250]
        d = 1 - np.corrcoef(x)
        blocks.append(find_block(d[np.triu_indices(200, 1)][None], 200))
    assert blocks[0] <= 4 < blocks[1] < blocks[2]
    assert find_block(rng.random((3, 190)), 20) >= 2


def test_result_draws_itself_and_is_saved(result, ax, tmp_path):
    axes = result.plot(ax)
    assert axes is ax and axes.get_ylabel() == "rho-a" and "n = 24" in axes.get_title()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["true", "near", "wrong"]
    back = Evaluation.load(result.save(tmp_path / "evaluation.nc"))
    assert back.summary() == result.summary()
    np.testing.assert_array_equal(back.stats["difference_p_bh"], result.stats["difference_p_bh"])
    table = result.to_table()
    assert list(table.index) == ["true", "near", "wrong"] and "p ceiling" in table
    assert len(result.to_frame()) == 24
    assert "schutt2023" in result.methods()


def test_draws_repeat_with_the_seed(world):
    options = {"n_permutations": 19, "n_bootstraps": 30}
    first, again = (evaluate(*world, rng=4, **options) for _ in range(2))
    np.testing.assert_array_equal(first.stats["interval"], again.stats["interval"])
    np.testing.assert_array_equal(first.null, again.null)
    drawn = evaluate(*world, **options)
    assert isinstance(drawn.params["rng"], int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "corr"}, "'corr' is 'pearson' here"),
        ({"generalize": "people"}, "generalize='people' is unknown"),
        ({"flexible": {"tru": "weighted"}}, "flexible='tru' is unknown.*Did you mean 'true'"),
        ({"flexible": {"true": "mixed"}}, r"flexible\['true'\]='mixed' is unknown"),
        ({"flexible": {"true": "weighted"}}, "has one RDM: there is nothing to fit"),
        ({"folds": (2, 2)}, "no part where no model is fitted"),
        ({"n_bootstraps": 5}, "n_bootstraps=5"),
        ({"noise": np.ones(3), "method": "whitened-cosine"}, "for 24 conditions"),
    ],
)
def test_evaluate_refuses(world, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*world, **{"n_permutations": 0, "n_bootstraps": 20, **change})


def test_evaluate_refuses_data(world):
    models, people = world
    rows = get_rows(people)
    with pytest.raises(ValueError, match="generalize names 'participants': 2 participants"):
        evaluate(models, make_rdm(rows[:2], ["participant"]), generalize=("participants",))
    dead = rows.copy()
    dead[1] = 1.0
    with pytest.raises(ValueError, match=r"constant or missing for participant 1"):
        evaluate(models, make_rdm(dead, ["participant"]))
    with pytest.raises(ValueError, match="data has the dim 'layer'"):
        evaluate(models, make_rdm(rows, ["layer"]))
    with pytest.raises(TypeError, match="Give an RDM"):
        evaluate(models, rows)
    net = make_rdm(rows[:3], ["layer"])
    with pytest.raises(ValueError, match="tests a fitted model on what it was fitted to"):
        evaluate({"n": net}, people, flexible={"n": "weighted"}, folds=(1, 1))
    with pytest.raises(ValueError, match="leave less than 3 stimuli"):
        evaluate({"n": net}, people, flexible={"n": "weighted"}, folds=(9, 1))
    with pytest.raises(ValueError, match="which has 3 seeds"):
        seeds = to_rdm(np.stack([rows[:3]] * 2), conditions=NAMES, dims=["layer", "seed"])
        evaluate({"n": seeds}, people, flexible={"n": "weighted"})


# ---------------------------------------------------------------------- error rates
@pytest.mark.slow
def test_equal_models_differ_as_often_as_p_says():
    """Two models equally far from a truth: differences at .05 over sampled stimuli and people."""
    rng = np.random.default_rng(0)
    p = []
    n, people = 30, 8
    i, j = np.triu_indices(n, 1)

    def make(*parts):
        full = np.concatenate(parts, axis=1)
        return ((full[i] - full[j]) ** 2).mean(axis=1)

    for _ in range(200):
        x = rng.normal(size=(n, 25))
        data = [make(x, rng.normal(size=(n, 25))) for _ in range(people)]
        models = {k: make_rdm(make(x, rng.normal(size=(n, 25)))) for k in "ab"}
        found = evaluate(
            models,
            make_rdm(np.stack(data), ["participant"]),
            method="pearson",
            n_permutations=0,
            n_bootstraps=200,
            rng=0,
        )
        p.append(float(found.stats["difference_p"][0, 1]))
    assert np.mean(np.array(p) < 0.05) <= 0.09


@pytest.mark.slow
def test_noise_is_above_chance_as_often_as_p_says():
    rng = np.random.default_rng(1)
    hits = {"iid": [], "ordered": []}
    for _ in range(200):
        x, y = gaussian_filter1d(rng.normal(size=(2, 140, 30)), 3, axis=1)[:, 20:120]
        i, j = np.triu_indices(100, 1)
        for order, found in hits.items():
            a, b = (x, y) if order == "ordered" else rng.normal(size=(2, 100, 30))
            a, b = (1 - np.corrcoef(z)[i, j] for z in (a, b))
            result = evaluate(
                {"m": make_rdm(a)},
                make_rdm(b[None], ["participant"]),
                order=order,
                method="spearman",
                n_permutations=99,
                n_bootstraps=0,
                rng=0,
            )
            found.append(float(result.stats["p"][0]))
    assert np.mean(np.array(hits["iid"]) <= 0.05) <= 0.08
    assert np.mean(np.array(hits["ordered"]) <= 0.05) <= 0.08
