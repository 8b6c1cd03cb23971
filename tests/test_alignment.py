"""Comparison of patterns: labels, null, conventions, planted answers and false positives."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import xarray as xr
from conftest import make_model, make_stimuli
from scipy.ndimage import gaussian_filter1d

import netphys
from netphys.analysis.alignment import MEASURES, PatternComparison, compare_patterns
from netphys.core.compare.cca import compare_cca, compare_pwcca, compare_svcca
from netphys.core.compare.cka import compare_cka
from netphys.core.compare.matching import compare_units
from netphys.core.compare.neighbours import compare_neighbours
from netphys.core.compare.shape import compare_shapes
from netphys.data.citations import ENTRIES

matplotlib.use("Agg")

FUNCTIONS = {
    "cka": compare_cka,
    "cka-rbf": lambda a, b: compare_cka(a, b, kernel="rbf"),
    "cca": compare_cca,
    "svcca": compare_svcca,
    "pwcca": compare_pwcca,
    "shape": compare_shapes,
    "one-to-one": compare_units,
    "semi-matching": lambda a, b: compare_units(a, b, matching="semi"),
    "soft-matching": lambda a, b: compare_units(a, b, matching="soft"),
    "mutual-knn": lambda a, b: compare_neighbours(a, b)[0],
}


def label(values, ids=None, **attrs) -> xr.DataArray:
    ids = [f"s{i}" for i in range(len(values))] if ids is None else ids
    return xr.DataArray(values, {"stimulus_id": ("trial", ids)}, ("trial", "unit"), attrs=attrs)


def make_noise(n=30, p=6, q=9, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=(n, q))


def make_related(n=30, seed=0):
    a, b = make_noise(n, 6, 6, seed)
    return a, a + 0.7 * b


# ---------------------------------------------------------------- values
def test_every_measure_has_its_function():
    assert set(FUNCTIONS) == set(MEASURES)


@pytest.mark.parametrize("measure", MEASURES)
def test_compare_patterns_aligns_labels_and_gives_what_the_function_gives(measure):
    a, b = make_related()
    order = np.random.default_rng(1).permutation(30)
    ids = [f"s{i}" for i in order]
    result = compare_patterns(label(a), label(b[order], ids), measure=measure, n_permutations=0)
    assert float(result.data) == pytest.approx(FUNCTIONS[measure](a, b), abs=1e-9)
    assert result.null is None and result.params["null"] == "left out (n_permutations=0)"
    assert "p" not in result.stats


@pytest.mark.parametrize("measure", MEASURES)
def test_null_is_the_measure_of_permuted_conditions(measure):
    a, b = make_related(20)
    result = compare_patterns(label(a), label(b), measure=measure, n_permutations=19, rng=5)
    orders = np.random.default_rng(5).permuted(np.tile(np.arange(20), (19, 1)), axis=1)
    expected = [FUNCTIONS[measure](a, b[order]) for order in orders]
    np.testing.assert_allclose(result.null, expected, atol=1e-9)
    assert float(result.stats["expected"]) == pytest.approx(np.mean(expected))
    assert float(result.stats["p"]) == pytest.approx(1 / 20)


def test_trials_of_a_condition_are_averaged():
    a, b = make_noise(12)
    rng = np.random.default_rng(2)
    noise = rng.normal(size=a.shape)
    twice = np.concatenate([a + noise, a - noise])
    ids = [f"s{i}" for i in range(12)]
    x = label(twice, ids * 2).transpose("unit", "trial")
    result = compare_patterns(x, label(b), n_permutations=0)
    assert float(result.data) == pytest.approx(compare_cka(a, b), abs=1e-12)
    assert result.params["n_trials"] == [[2, 2], [1, 1]] and result.params["n_units"] == [6, 9]


@pytest.mark.parametrize(
    ("measure", "options", "expected"),
    [
        (
            "cka-rbf",
            {"bandwidth": 0.3},
            lambda a, b: compare_cka(a, b, kernel="rbf", bandwidth=0.3),
        ),
        ("svcca", {"variance": 0.7}, lambda a, b: compare_svcca(a, b, variance=0.7)),
        ("shape", {"alpha": 0.0}, lambda a, b: compare_shapes(a, b, alpha=0.0)),
        ("shape", {"score": "euclidean"}, lambda a, b: compare_shapes(a, b, score="euclidean")),
        ("mutual-knn", {"k": 3}, lambda a, b: compare_neighbours(a, b, k=3)[0]),
        (
            "mutual-knn",
            {"metric": "euclidean"},
            lambda a, b: compare_neighbours(a, b, metric="euclidean")[0],
        ),
    ],
)
def test_options_reach_the_measure(measure, options, expected):
    a, b = make_related()
    result = compare_patterns(label(a), label(b), measure=measure, n_permutations=0, **options)
    assert float(result.data) == pytest.approx(expected(a, b), abs=1e-10)
    assert options.items() <= result.params["options"].items()


# ---------------------------------------------------------------- tests
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("order", ["iid", "ordered"])
def test_what_is_shared_is_found_in_the_right_direction(measure, order):
    a, b = make_related(100)
    result = compare_patterns(
        label(a), label(b), measure=measure, order=order, n_permutations=99, rng=0
    )
    assert float(result.stats["p"]) <= 0.01
    distance = result.params["kind"] == "distance"
    assert distance == (measure == "shape") == (result.data.name == "distance")
    assert (float(result.data) < float(result.stats["expected"])) == distance


def test_scores_of_shapes_are_tested_alike():
    a, b = map(label, make_noise(20, 4, 4, seed=3))
    found = [
        compare_patterns(a, b, measure="shape", score=score, rng=0)
        for score in ("angular", "euclidean", "cosine")
    ]
    assert [r.params["kind"] for r in found] == ["distance", "distance", "score"]
    p = {float(r.stats["p"]) for r in found}
    assert len(p) == 1 and 0.05 < p.pop() < 1


@pytest.mark.parametrize("measure", ["cka", "cca", "shape", "one-to-one", "mutual-knn"])
def test_false_positives_of_noise_are_as_many_as_allowed(measure):
    p = []
    for seed in range(200):
        a, b = map(label, make_noise(24, 5, 7, seed))
        result = compare_patterns(a, b, measure=measure, n_permutations=39, rng=seed)
        p.append(float(result.stats["p"]))
    assert 0.015 < np.mean(np.array(p) <= 0.05) < 0.1  # 5 % expected, of 200: standard error 1.5 %
    assert 0.4 < np.mean(p) < 0.6


@pytest.mark.parametrize("measure", ["shape", "mutual-knn"])
def test_slow_noise_is_significant_if_permuted_and_not_if_shifted(measure):
    p = {"iid": [], "ordered": []}
    for seed in range(40):
        a, b = (gaussian_filter1d(x, 4, axis=0) for x in make_noise(100, 20, 20, seed))
        for order, found in p.items():
            result = compare_patterns(
                label(a), label(b), measure=measure, order=order, n_permutations=19, rng=seed
            )
            found.append(float(result.stats["p"]))
    assert np.mean(np.array(p["iid"]) <= 0.05) > 0.5
    # of 200 seeds 8.5 and 4.5 %, shifted in a circle 53 and 73 %; of 40, sampling error is 4 %
    assert np.mean(np.array(p["ordered"]) <= 0.05) < 0.25


def test_ordered_conditions_are_compared_in_windows_apart_in_time():
    a, b = make_noise(60)
    result = compare_patterns(label(a, order="ordered"), label(b), rng=0)
    # lags of 6 to 25 either way, in windows of 60 - 25
    assert result.params["order"] == "ordered" and result.params["window"] == 35
    expected = [compare_cka(a[lag : lag + 35], b[:35]) for lag in range(25, 5, -1)]
    expected += [compare_cka(a[:35], b[lag : lag + 35]) for lag in range(6, 26)]
    np.testing.assert_allclose(result.null, expected, atol=1e-12)
    middle = compare_cka(a[12:47], b[12:47])
    assert float(result.stats["statistic"]) == pytest.approx(middle, abs=1e-12)
    assert float(result.data) == pytest.approx(compare_cka(a, b), abs=1e-12)
    assert f"in windows of 35 {middle:.3f}, by chance" in result.summary()
    assert "harris2020" in result.get_citations() and "phipson2010" not in result.get_citations()
    assert "in windows of 35 conditions [harris2020]" in result.methods()
    assert result.plot().get_title() == "n = 35 conditions"
    matplotlib.pyplot.close("all")


def test_many_ordered_conditions_have_at_most_200_shifts():
    a, b = make_noise(1000, 2, 2)
    result = compare_patterns(*(label(x, order="ordered") for x in (a, b)))
    assert result.params["n_draws"] == 156 and result.params["window"] == 667  # every third of 468


def test_ordered_conditions_that_cannot_be_tested_say_why():
    few = compare_patterns(*(label(x, order="ordered") for x in make_noise(45)))
    assert few.null is None and "45 ordered conditions are too few" in few.summary()
    assert compare_patterns(*(label(x, order="ordered") for x in make_noise(46))).null is not None
    wide = map(label, make_noise(60, 36, 5))
    cca = compare_patterns(*wide, measure="cca", order="ordered")
    assert cca.null is None and "windows of 35 conditions cannot be compared" in cca.params["null"]
    assert "a has 36 units for 35 samples" in cca.describe_methods()


def test_draws_can_be_repeated():
    a, b = map(label, make_noise())
    first = compare_patterns(a, b, n_permutations=19)
    again = compare_patterns(a, b, n_permutations=19, rng=first.params["rng"])
    xr.testing.assert_identical(first.null, again.null)
    own = compare_patterns(a, b, n_permutations=19, rng=np.random.default_rng(1))
    assert own.params["rng"] == "a generator of the caller"


def test_compare_patterns_ignores_the_order_of_trials_and_changes_nothing():
    a, b = make_related()
    x, y = label(a), label(b)
    before = x.copy(deep=True)
    one = compare_patterns(x, y, measure="pwcca", n_permutations=0)
    two = compare_patterns(x[::-1], y, measure="pwcca", n_permutations=0)
    assert float(one.data) == pytest.approx(float(two.data), abs=1e-12)
    xr.testing.assert_identical(x, before)


# ---------------------------------------------------------------- the result
@pytest.mark.parametrize("measure", MEASURES)
def test_result_names_its_convention_and_what_to_cite(measure):
    result = compare_patterns(
        *map(label, make_related()), measure=measure, n_permutations=19, rng=0
    )
    p = result.params
    for name in ("name", "kind", "range", "centring", "scaling", "correction", "options"):
        assert name in p and (p[name] or name == "options")
    text = result.methods()
    for key in MEASURES[measure].citations:
        assert f"[{key}]" in text and f"{{{key}," in text and key in ENTRIES
    assert p["name"] in text and p["scaling"] in text and "19 permutations of the pairing" in text
    assert "by chance" in result.summary() and "p = 0.05" in result.summary()


def test_names_of_shapes_say_which_they_are():
    a, b = map(label, make_related())
    names = set()
    for alpha, score in ((1.0, "angular"), (0.5, "cosine"), (0.0, "euclidean")):
        options = {"alpha": alpha, "score": score, "n_permutations": 0}
        p = compare_patterns(a, b, measure="shape", **options).params
        names |= {p["name"], p["scaling"]}
    assert names == {
        "Procrustes angular distance",
        "overall size to 1",
        "shape (alpha = 0.5) similarity (cosine)",
        "partly whitened, then overall size to 1",
        "shape (alpha = 0) distance",
        "whitened",
    }


def test_comparison_is_saved_drawn_and_put_in_a_table(tmp_path):
    a, b = make_related()
    result = compare_patterns(label(a, site="h.0"), label(b), n_permutations=19, rng=0)
    read = PatternComparison.load(result.save(tmp_path / "c.nc"))
    assert read.summary() == result.summary() and read.methods() == result.methods()
    assert read.provenance["a"] == {"site": "h.0"}
    row = result.to_frame().iloc[0]
    assert row["similarity"] == float(result.data) and row["p"] == 0.05
    ax = result.plot()
    assert ax.get_xlabel() == "linear CKA" and ax.get_title() == "n = 30 conditions"
    matplotlib.pyplot.close("all")
    none = compare_patterns(label(a), label(b), n_permutations=0)
    assert "No p-value was computed: left out" in none.describe_methods()
    assert list(none.to_frame()) == ["similarity"]
    assert list(result.to_frame()) == ["similarity", "statistic", "expected", "p"]
    with pytest.raises(ValueError, match="has no null to draw: left out"):
        none.plot()


def test_sites_of_a_session_are_compared(aside):
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    session = netphys.record(subject, stimuli, aside / "s.nwb", sites=["resid"], progress=False)
    first, *_, last = (session.pool(site) for site in session.sites)
    result = compare_patterns(first, last, n_permutations=0)
    assert -1 <= float(result.data) <= 1
    same = compare_patterns(first, first, n_permutations=0)
    assert float(same.data) == pytest.approx(1)


# ---------------------------------------------------------------- errors
A, B = map(label, make_noise(12, 3, 4))
WITH_NAN = B.where(B < 1)


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (A.values, B, {}, TypeError, "is a ndarray. Give a DataArray with dims"),
        (A, B.expand_dims(time=2), {}, ValueError, r"b has dims .* label of 'time': x.sel\(time="),
        (A.rename(trial="sample"), B, {}, ValueError, "a has dims .* Give a DataArray"),
        (
            A,
            B,
            {"by": "stimulus"},
            ValueError,
            "a cannot be averaged: by='stimulus' is not a trial",
        ),
        (A, WITH_NAN, {}, ValueError, "b cannot be averaged: x holds .* NaN or infinite"),
        (
            A,
            B[:8],
            {},
            ValueError,
            "different conditions. Only in a: 's8', 's9', 's10', 's11'. Keep",
        ),
        (A[3:], B, {}, ValueError, "different conditions. Only in b: 's0', 's1', 's2'. Keep"),
        (
            A,
            label(B.values, [f"t{i}" for i in range(12)]),
            {},
            ValueError,
            r"'s4' \.\.\.. Only in b",
        ),
        (A[:3], B[:3], {}, ValueError, "3 conditions by 'stimulus_id'. At least 4 are needed"),
        (
            A,
            B,
            {"measure": "procrustes"},
            ValueError,
            "Procrustes distance is 'shape' with alpha=1",
        ),
        (A, B, {"k": 3}, ValueError, "k=3 has no part in measure='cka', whose options are: none"),
        (A, B, {"measure": "mutual-knn", "alpha": 0.5}, ValueError, "whose options are: k, metric"),
        (A, B, {"order": "random"}, ValueError, "order='random' is unknown"),
        (A.assign_attrs(order="ordered"), B, {"order": "iid"}, ValueError, "are ordered in time"),
        (A, B, {"n_permutations": 10}, ValueError, "cannot give a p below .05"),
        (A, B, {"rng": 1.5}, TypeError, "rng=1.5 is a float"),
        (A[:5], B[:5], {"measure": "cca"}, ValueError, "b has 4 units for 5 samples"),
    ],
)
def test_compare_patterns_refuses(a, b, options, error, message):
    with pytest.raises(error, match=message):
        compare_patterns(a, b, **options)
