"""Regression and partial RSA: by hand, against scipy and sklearn, planted answers, noise."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls
from sklearn.linear_model import LinearRegression

from netphys.analysis._partial import Design
from netphys.analysis.comparison import compare_rdms
from netphys.analysis.regression import RDMRegression, fit_rdms
from netphys.analysis.rsa import RDM, to_rdm

matplotlib.use("Agg")


def name(n: int) -> list[str]:
    return [f"c{k}" for k in range(n)]


def measure(x: np.ndarray) -> np.ndarray:
    """Return squared distances between the rows of x."""
    i, j = np.triu_indices(len(x), 1)
    return ((x[i] - x[j]) ** 2).mean(axis=1)


def make_rdm(rows, dims=(), **coords) -> RDM:
    rows = np.asarray(rows, float)
    n = round((1 + np.sqrt(1 + 8 * rows.shape[-1])) / 2)
    return to_rdm(rows, conditions=name(n), dims=dims, coords=coords)


def make_world(n=12, n_people=3, seed=0):
    """Three overlapping models, of which the first two make up the data."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 3))
    x = [np.concatenate([common, rng.normal(size=(n, 5))], axis=1) for _ in range(3)]
    models = {k: make_rdm(measure(v)) for k, v in zip("abc", x, strict=True)}
    own = [np.concatenate([x[0], 0.8 * x[1], rng.normal(size=(n, 8))], axis=1)]
    own += [
        np.concatenate([*[x[0], 0.8 * x[1]], rng.normal(size=(n, 8))], axis=1)
        for _ in range(n_people - 1)
    ]
    return models, make_rdm([measure(v) for v in own], ["participant"])


def get_pairs(rdm: RDM) -> np.ndarray:
    i, j = np.triu_indices(len(rdm.conditions), 1)
    return rdm.data.transpose(..., "condition", "condition_2").to_numpy()[..., i, j]


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


# ---------------------------------------------------------------------- values
def test_fit_rdms_by_hand():
    """Two uncorrelated models: weights are correlations, partial ones exceed them."""
    a, b = np.array([[1.0, 1, 1, -1, -1, -1], [1, -2, 1, 1, -2, 1]])
    found = fit_rdms(
        {"a": make_rdm(a), "b": make_rdm(b)},
        make_rdm(3 * a + 2 * b + np.array([1, 0, -1, 1, 0, -1])),
        method="pearson",
        n_permutations=0,
    )
    # squared lengths: 9 * 6 and 4 * 12 of the models, 4 of what neither explains
    total = 54 + 48 + 4
    np.testing.assert_allclose(found.data, np.sqrt([54 / total, 48 / total]))
    np.testing.assert_allclose(found.stats["unique"], [54 / total, 48 / total])
    np.testing.assert_allclose(found.stats["partial"], np.sqrt([54 / 58, 48 / 52]))
    np.testing.assert_allclose(found.stats["vif"], [1, 1])
    assert float(found.stats["r2"]) == pytest.approx(102 / total)
    assert found.data.dims == ("model",) and found.null is None
    assert "left out (n_permutations=0)" in found.summary()


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_reference_weights_and_partial_correlations(method):
    models, data = make_world()
    found = fit_rdms(models, data, method=method, n_permutations=0)
    x = np.stack([get_pairs(m) for m in models.values()], axis=1)
    x = stats.rankdata(x, axis=0) if method == "spearman" else x
    z = stats.zscore(x, axis=0)
    for k, y in enumerate(get_pairs(data)):
        y = stats.zscore(stats.rankdata(y) if method == "spearman" else y)
        fit = LinearRegression().fit(z, y)
        np.testing.assert_allclose(found.data[:, k], fit.coef_, rtol=1e-10)
        assert float(found.stats["r2"][k]) == pytest.approx(fit.score(z, y))
        for m in range(3):
            others = np.delete(z, m, axis=1)
            reduced = LinearRegression().fit(others, y)
            own = z[:, m] - LinearRegression().fit(others, z[:, m]).predict(others)
            r = stats.pearsonr(y - reduced.predict(others), own).statistic
            assert float(found.stats["partial"][m, k]) == pytest.approx(r, rel=1e-9)
            unique = fit.score(z, y) - reduced.score(others, y)
            assert float(found.stats["unique"][m, k]) == pytest.approx(unique, abs=1e-12)
            inflation = 1 / (1 - LinearRegression().fit(others, z[:, m]).score(others, z[:, m]))
            assert float(found.stats["vif"][m]) == pytest.approx(inflation)


def test_reference_nonnegative_weights():
    models, data = make_world()
    against = make_rdm(-get_pairs(models["c"]) + 0.1 * get_pairs(data)[0])
    for target in (data.select(participant=1), against):
        found = fit_rdms(models, target, method="pearson", nonnegative=True, n_permutations=0)
        z = stats.zscore(np.stack([get_pairs(m) for m in models.values()], axis=1), axis=0)
        y = stats.zscore(get_pairs(target))
        weight, rest = nnls(z, y)
        np.testing.assert_allclose(found.data, weight, atol=1e-10)
        assert float(found.stats["r2"]) == pytest.approx(1 - rest**2 / len(y))
        for m in range(3):
            lost = nnls(np.delete(z, m, axis=1), y)[1] ** 2 - rest**2
            assert float(found.stats["unique"][m]) == pytest.approx(lost / len(y), abs=1e-10)
    assert float(found.data.sel(model="c")) == 0
    free = fit_rdms(models, against, method="pearson", n_permutations=0)
    xr.testing.assert_allclose(found.stats["partial"], free.stats["partial"])
    assert "weights of at least 0" in found.methods() and "(weights >= 0)" in found.summary()


def test_one_model_is_a_plain_comparison():
    models, data = make_world()
    found = fit_rdms({"a": models["a"]}, data, n_permutations=0)
    plain = compare_rdms(models["a"], data, n_permutations=0)
    for values in (found.data[0], found.stats["partial"][0]):
        np.testing.assert_allclose(values, plain.data, rtol=1e-10)
    np.testing.assert_allclose(found.stats["unique"][0], plain.data**2, rtol=1e-10)


def test_draws_are_those_of_residuals_relabelled():
    """The null against the slow way: residual matrices, permuted, correlated again."""
    models, data = make_world(n=8)
    x = np.stack([get_pairs(m) for m in models.values()])
    x -= x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = get_pairs(data) - get_pairs(data).mean(axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    orders = np.stack([np.random.default_rng(k).permutation(8) for k in range(4)])
    drawn = Design(x).draw(y, orders, 1)
    i, j = np.triu_indices(8, 1)
    for m in range(3):
        others = np.delete(x, m, axis=0).T
        project = others @ np.linalg.pinv(others)
        for k, order in enumerate(orders):
            partial = []
            for row in y - y @ project.T:
                square = np.zeros((8, 8))
                square[i, j] = square[j, i] = row
                moved = square[np.ix_(order, order)][i, j]
                left = [v - project @ v for v in (moved, x[m])]
                partial.append(
                    left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
                )
            assert drawn[k, m, 0] == pytest.approx(np.mean(partial), rel=1e-8)


def test_draws_in_blocks_are_the_same(monkeypatch):
    models, data = make_world()
    whole = fit_rdms(models, data, n_permutations=50, rng=1)
    monkeypatch.setattr("netphys.analysis._partial.BLOCK_VALUES", 70)
    xr.testing.assert_allclose(fit_rdms(models, data, n_permutations=50, rng=1).null, whole.null)


# ---------------------------------------------------------------------- planted answers and noise
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_two_of_three_models_contribute(method):
    models, data = make_world(n=24, n_people=5)
    alone = compare_rdms(make_rdm(get_pairs(models["c"])), data, n_permutations=199, rng=0)
    assert (alone.stats["p"] < 0.05).all()  # by what it shares with the others
    found = fit_rdms(models, data, method=method, n_permutations=499, rng=0)
    table = found.to_table()
    assert table.loc["a", "p_max"] == table.loc["b", "p_max"] == 0.002
    assert table.loc["c", "p_max"] > 0.05 and abs(table.loc["c", "partial"]) < 0.1
    assert table["unique"].idxmax() == "a" and table.loc["c", "unique"] < 0.01
    assert (table["p_max"] >= table["p"]).all()


def test_noise_is_significant_as_often_as_p_says():
    """A model that adds nothing, beside one that participants share."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(150):
        a, b = rng.normal(size=(2, 14, 6))
        a = 0.6 * b + 0.8 * a
        people = [np.concatenate([b, rng.normal(size=(14, 8))], axis=1) for _ in range(6)]
        found = fit_rdms(
            {"a": make_rdm(measure(a)), "b": make_rdm(measure(b))},
            make_rdm([measure(v) for v in people], ["participant"]),
            method="pearson",
            n_permutations=99,
            rng=rng,
        )
        hits.append(found.stats["p"].to_numpy() < 0.05)
    wrong, right = np.mean(hits, axis=0)
    assert 0.01 <= wrong <= 0.1 and right > 0.95


def make_series(rng, n=90, width=3):
    x = gaussian_filter1d(rng.normal(size=(n + 40, 10)), width, axis=0)[20:-20]
    return x / x.std(axis=0)


def test_ordered_conditions_are_shifted():
    rng = np.random.default_rng(0)
    lag = np.subtract(*np.triu_indices(90, 1)[::-1]).astype(float)
    p = []
    for _ in range(25):
        a, b, own = (make_series(rng) for _ in range(3))
        models = {"a": make_rdm(measure(a)), "lag": make_rdm(lag), "b": make_rdm(measure(b))}
        data = make_rdm(measure(np.concatenate([b, own], axis=1)))
        found = fit_rdms(models, data, method="pearson", order="ordered", rng=0)
        p.append(found.stats["p"].to_numpy())
    p = np.array(p)
    assert np.isnan(p[:, 1]).all() and (p[:, 2] < 0.05).mean() > 0.9 and (p[:, 0] < 0.05).sum() <= 4
    assert found.params["not_tested"] == ["lag"] and found.params["n_draws"] == 73
    assert "Not tested, being nothing but distance in time: lag" in found.summary()
    assert "circular shifts" in found.methods() and "phipson2010" not in found.methods()
    assert np.isnan(found.stats["p_max"].sel(model="lag"))
    said = RDM(data.data, provenance={"order": "ordered"})
    assert fit_rdms(models, said, n_permutations=0).params["order"] == "ordered"
    with pytest.raises(ValueError, match="order='iid', but the data are ordered in time"):
        fit_rdms(models, said, order="iid")
    with pytest.raises(ValueError, match=r"nothing but distance in time\. Leave"):
        fit_rdms({"a": models["a"]}, make_rdm(lag), order="ordered")
    other = make_rdm(measure(a) + 0.02 * lag)
    with pytest.raises(ValueError, match="models 'a', 'other' are collinear"):
        fit_rdms({"a": models["a"], "other": other}, data, method="pearson", order="ordered")
    only = fit_rdms({"lag": models["lag"]}, data, order="ordered")
    assert np.isnan(only.stats["p"]).all() and only.summary()
    few = fit_rdms(*make_world(), order="ordered")
    assert few.null is None and "12 ordered conditions are too few" in few.summary()


# ---------------------------------------------------------------------- dims, labels, seeds
def test_fit_rdms_keeps_other_dims_and_aligns_labels():
    models, data = make_world()
    rows = get_pairs(data)
    time = xr.DataArray([0.1, 0.2], dims="time", attrs={"units": "time (s)"})
    stack = np.stack([rows, rows[:, ::-1]])  # (time, participant, pair)
    both = make_rdm(stack, ["time", "participant"], time=[0.1, 0.2], participant=list("xyz"))
    both = RDM(both.data.assign_coords(time=time), params=both.params)
    found = fit_rdms(models, both, n_permutations=19, rng=0)
    assert found.data.dims == ("model", "participant", "time")
    assert found.null.dims == ("draw", "model", "time") and found.stats["p"].shape == (3, 2)
    for k in range(2):
        alone = fit_rdms(models, both.select(time=[0.1, 0.2][k]), n_permutations=19, rng=0)
        np.testing.assert_allclose(alone.data, found.data.isel(time=k))
        np.testing.assert_allclose(alone.null, found.null.isel(time=k))
        np.testing.assert_allclose(alone.stats["p_max"], found.stats["p_max"].isel(time=k))
    table, frame = found.to_table(), found.to_frame()
    assert table.index.names == ["model", "time"] and len(frame) == 18
    row = frame.query("model == 'b' and participant == 'y' and time == 0.2")
    for column, values in {"weight": found.data, **found.stats[["partial", "unique"]]}.items():
        picked = values.sel(model="b", participant="y", time=0.2)
        assert row[column].item() == float(picked)
    assert row["r2"].item() == float(found.stats["r2"].sel(participant="y", time=0.2))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_property_order_of_conditions_and_models_plays_no_part(seed):
    models, data = make_world(seed=seed)
    rng = np.random.default_rng(seed)
    before = data.data.copy(deep=True)
    found = fit_rdms(models, data, n_permutations=0)
    moved = {k: models[k].select(condition=rng.permutation(name(12)).tolist()) for k in "cab"}
    again = fit_rdms(moved, data, n_permutations=0)
    xr.testing.assert_allclose(again.data.sel(model=list("abc")), found.data)
    xr.testing.assert_allclose(
        again.stats["partial"].sel(model=list("abc")), found.stats["partial"]
    )
    scaled = {k: make_rdm(3 * get_pairs(m) + 1) for k, m in models.items()}
    xr.testing.assert_allclose(fit_rdms(scaled, data, n_permutations=0).data, found.data)
    xr.testing.assert_identical(data.data, before)


def test_models_may_be_one_rdm_with_a_dim():
    models, data = make_world()
    stack = make_rdm(
        np.stack([get_pairs(m) for m in models.values()]), ["model"], model=list("abc")
    )
    found = fit_rdms(stack, data, n_permutations=0)
    xr.testing.assert_allclose(found.data, fit_rdms(models, data, n_permutations=0).data)


def test_conditions_unknown_in_the_data_are_left_out():
    models, data = make_world()
    part = data.data.copy()
    part[3, :], part[:, 3] = np.nan, np.nan
    found = fit_rdms(models, RDM(part, params=data.params), n_permutations=0)
    kept = [c for c in name(12) if c != "c3"]
    same = fit_rdms(
        models | {k: m.select(condition=kept) for k, m in models.items()},
        data.select(condition=kept),
        n_permutations=0,
    )
    xr.testing.assert_allclose(found.data, same.data)
    assert found.params["left_out"] == ["c3"] and "1 conditions were left out" in found.summary()


def test_fit_rdms_repeats_its_draws():
    models, data = make_world()
    first = fit_rdms(models, data, n_permutations=19)
    again = fit_rdms(models, data, n_permutations=19, rng=first.params["rng"])
    xr.testing.assert_identical(first.null, again.null)


# ---------------------------------------------------------------------- results
def test_regression_is_saved_and_describes_itself(tmp_path):
    models, data = make_world()
    found = fit_rdms(models, data, n_permutations=19, rng=0)
    read = RDMRegression.load(found.save(tmp_path / "r.nc"))
    xr.testing.assert_identical(read.data, found.data)
    assert "3 models fitted to ranks of 66 dissimilarities (12 conditions) of 3 part" in repr(read)
    text = read.methods()
    assert "of 3 participants over 12 conditions [kriegeskorte2008rsa] were regressed on" in text
    assert "19 permutations of the condition labels [phipson2010], applied to what the" in text
    for key in ("lichstein2007", "freedman1983", "legendre2000", "phipson2010"):
        assert f"{{{key}," in text
    alone = fit_rdms(models, data, n_permutations=0).methods()
    assert "No p-values were computed: left out" in alone and "freedman1983" not in alone
    many = make_rdm(np.repeat(get_pairs(data)[None], 20, axis=0), ["time", "participant"])
    assert "20 time; all values: to_table()" in fit_rdms(models, many, n_permutations=0).summary()


def test_regression_plot_shows_weights_and_what_is_significant(ax):
    models, data = make_world(n=20)
    found = fit_rdms(models, data, n_permutations=99, rng=0)
    assert found.plot(ax) is ax and ax.get_ylabel() == "standardised weight of ranks"
    assert ax.get_title() == "n = 20 conditions, 3 participants"
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, found.data.mean("participant"))
    (marks,) = (v for v in ax.lines if v.get_markersize() == 5 and len(v.get_xdata()))
    sure = np.flatnonzero(found.stats["p_max"] < 0.05)
    assert marks.get_xdata().tolist() == sure.tolist() and len(sure)
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abc")


def test_regression_plot_of_places(ax):
    models, data = make_world()
    rows = get_pairs(data)
    time = make_rdm(np.stack([rows, rows]), ["time", "participant"], time=[0.0, 0.5])
    found = fit_rdms(models, time, n_permutations=19, rng=0)
    found.plot(ax)
    assert ax.get_xlabel() == "time" and "bands: standard error, marks: p < 0.05" in ax.get_title()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.data.mean("participant")[0])
    region = make_rdm(np.stack([rows[0], rows[1]]), ["region"], region=["V1", "IT"])
    ax = fit_rdms(models, region, n_permutations=0).plot()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["V1", "IT"]
    assert ax.get_title() == "n = 12 conditions"
    both = make_rdm(np.ones((2, 2, 1)) * rows[0], ["time", "region"])
    with pytest.raises(ValueError, match=r"dims time, region besides.*data\.select\(time=\.\.\.\)"):
        fit_rdms(models, both, n_permutations=0).plot()


# ---------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"method": "kendall"},
            "method='kendall' is unknown. Choose one of: 'spearman', 'pearson'",
        ),
        ({"n_permutations": 5}, "n_permutations=5 cannot give a p below"),
        ({"order": "time"}, "order='time' is unknown"),
        ({"models": {}}, "models is empty"),
    ],
)
def test_fit_rdms_refuses_options(change, message):
    models, data = make_world()
    with pytest.raises(ValueError, match=message):
        fit_rdms(change.pop("models", models), data, **change)


def test_fit_rdms_refuses_rdms():
    models, data = make_world()
    rows = get_pairs(data)

    def fit(data=data, **more):
        return fit_rdms(models | more, data, method="pearson", n_permutations=0)

    with pytest.raises(TypeError, match="Give an RDM"):
        fit(data=rows)
    with pytest.raises(TypeError, match="nonnegative=1"):
        fit_rdms(models, data, nonnegative=1)
    both = make_rdm(get_pairs(models["a"]) + 2 * get_pairs(models["c"]))
    with pytest.raises(ValueError, match="models 'a', 'c', 'd' are collinear"):
        fit(d=both)
    with pytest.raises(ValueError, match=r"models\['flat'\] is constant"):
        fit(flat=make_rdm(np.ones(66)))
    with pytest.raises(ValueError, match=r"models\['d'\] has the dim 'layer'.*layer=0"):
        fit(d=make_rdm(rows[:2], ["layer"]))
    with pytest.raises(ValueError, match="data has the dim 'model'"):
        fit(data=make_rdm(rows, ["model"]))
    with pytest.raises(ValueError, match=r"data and models\['small'\] have different conditions"):
        fit(small=make_rdm(measure(rows[:, :10].T)))
    dead = rows.copy()
    dead[1] = 2.0
    with pytest.raises(ValueError, match="data is constant or missing for participant q"):
        fit(data=make_rdm(dead, ["participant"], participant=list("pqr")))
    with pytest.raises(ValueError, match=r"data is constant or missing\. Leave it out"):
        fit(data=make_rdm(dead[1]))
    rng = np.random.default_rng(0)
    small = {f"m{k}": make_rdm(rng.random(6)) for k in range(5)}
    with pytest.raises(ValueError, match=r"5 models cannot be fitted to 6 pairs .* at least 7"):
        fit_rdms(small, make_rdm(rng.random(6)))
    part = data.data.copy()
    part[0, 1], part[1, 0] = np.nan, np.nan
    with pytest.raises(ValueError, match="data lacks 3 dissimilarities"):
        fit(data=RDM(part, params=data.params))
