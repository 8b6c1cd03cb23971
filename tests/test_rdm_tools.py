"""Tools on RDMs: averages of partial ones, merging, sorting, transforms, against rsatoolbox."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys.analysis.rdm_tools import (
    average_rdms,
    make_category_rdm,
    merge_rdms,
    sort_rdm,
    transform_rdm,
)
from netphys.analysis.rsa import RDM, compute_rdm, to_rdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import rsatoolbox.rdm
    from rsatoolbox.rdm.combine import from_partials, rescale

NAN = np.nan


def make_people(pairs, conditions="abc", **labels) -> RDM:
    pairs = np.asarray(pairs, float)
    dims = list(labels) or ["participant"]
    labels = labels or {"participant": [f"p{k}" for k in range(len(pairs))]}
    return to_rdm(pairs, conditions=list(conditions), dims=dims, coords=labels)


def get_pairs(rdm: RDM) -> np.ndarray:
    i, j = np.triu_indices(len(rdm.conditions), 1)
    return rdm.data.transpose(..., "condition", "condition_2").to_numpy()[..., i, j]


def make_partial(n=7, n_people=6, size=5, seed=0):
    """Scaled, noisy views of one RDM, each over some of the conditions."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    truth = rng.uniform(0.1, 1, len(i))
    rows = np.full((n_people, len(i)), NAN)
    for row in rows:
        some = rng.permutation(n)[:size]
        known = np.isin(i, some) & np.isin(j, some)
        row[known] = (truth * rng.uniform(0.9, 1.1, len(i)))[known] * rng.uniform(0.2, 5)
        row[known] /= row[known].max()
    return truth, rows


# ---------------------------------------------------------------------- average
def test_average_rdms_ignores_unknown_pairs_one_by_one():
    people = make_people([[1, 2, NAN], [3, NAN, NAN], [5, 6, NAN]])
    mean = average_rdms(people)
    np.testing.assert_array_equal(get_pairs(mean), [3, 4, NAN])
    counts = mean.stats["n_known"]
    assert counts.sel(condition="a", condition_2=["b", "c"]).to_numpy().tolist() == [3, 2]
    assert int(counts.sel(condition="b", condition_2="c")) == 0
    assert (np.diagonal(mean.data) == 0).all() and mean.data.dims == ("condition", "condition_2")
    weighted = average_rdms(people, weights=[1, 0, 3])
    np.testing.assert_array_equal(get_pairs(weighted), [4, 5, NAN])
    assert int(weighted.stats["n_known"].sel(condition="a", condition_2="b")) == 2
    assert "averaged over 3 labels of participant with given weights" in weighted.methods()
    assert mean.select(condition=["c", "a"]).stats["n_known"].shape == (2, 2)


def test_average_rdms_keeps_other_dims():
    values = np.arange(18.0).reshape(2, 3, 3)
    rdm = make_people(values, participant=["x", "y"], layer=["h.0", "h.1", "h.2"])
    mean = average_rdms(rdm)
    assert mean.extra_dims == ("layer",) and mean.data["layer"].to_numpy().tolist()[0] == "h.0"
    np.testing.assert_array_equal(get_pairs(mean), values.mean(axis=0))
    over = average_rdms(rdm, dim="layer")
    np.testing.assert_array_equal(get_pairs(over), values.mean(axis=1))
    first = average_rdms(rdm.select(layer="h.1"), weights=[2, 1], rescale="rms")
    both = average_rdms(rdm, weights=[2, 1], rescale="rms")
    np.testing.assert_allclose(both.select(layer="h.1").data, first.data)


def test_average_rdms_keeps_what_is_known_of_the_rdm():
    rng = np.random.default_rng(0)
    x = xr.DataArray(
        rng.normal(size=(2, 4, 5)),
        {"stimulus_id": ("trial", list("abcd")), "participant": ["p", "q"]},
        ("participant", "trial", "unit"),
        attrs={"order": "ordered"},
    )
    mean = average_rdms(compute_rdm(x))
    assert mean.provenance["order"] == "ordered" and "n_constant" not in mean.stats
    assert (
        "1 minus Pearson's correlation over units [kriegeskorte2008rsa]. They were then averag"
        in (mean.describe_methods())
    )


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 1.0, 3.0, 1.0]])
def test_reference_mean(weights):
    _, rows = make_partial()
    own = average_rdms(make_people(rows, "abcdefg"), weights=weights)
    each = np.where(np.isnan(rows), NAN, np.broadcast_to(1.0, rows.shape))
    each = each * np.array(weights or [1.0] * 6)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = rsatoolbox.rdm.RDMs(rows).mean(weights=None if weights is None else each)
    np.testing.assert_allclose(get_pairs(own), theirs.dissimilarities[0], rtol=1e-12)


def test_weighted_mean_counts_only_those_that_know_a_pair():
    """rsatoolbox divides by all weights, also those of RDMs that do not know the pair."""
    rows = np.array([[1.0, 2.0, NAN], [3.0, 2.0, 6.0]])
    theirs = rsatoolbox.rdm.RDMs(rows).mean(weights=np.ones((2, 3))).dissimilarities[0]
    assert theirs[2] == 3.0
    own = average_rdms(make_people(rows), weights=[1, 1])
    np.testing.assert_array_equal(get_pairs(own), [2, 2, 6])


@pytest.mark.parametrize(
    ("rescale_as", "theirs"), [("rms", "simple"), ("setsize", "setsize"), ("evidence", "evidence")]
)
def test_reference_rescale(rescale_as, theirs):
    _, rows = make_partial()
    aligned = rescale(rsatoolbox.rdm.RDMs(rows), method=theirs, threshold=1e-26)
    expected = aligned.mean(weights="rescalingWeights").dissimilarities[0]
    own = get_pairs(average_rdms(make_people(rows, "abcdefg"), rescale=rescale_as))
    expected /= np.sqrt(np.nanmean(expected**2))
    np.testing.assert_allclose(own, expected, rtol=1e-9)
    assert np.nanmean(own**2) == pytest.approx(1)


def test_rescale_finds_the_common_rdm_behind_different_scales():
    truth = np.random.default_rng(1).uniform(0.1, 1, 10)
    rows = np.outer([0.1, 1.0, 30.0], truth)
    rows[0, [0, 1, 2, 3]] = NAN  # condition a
    rows[2, [3, 6, 8, 9]] = NAN  # condition e
    people = make_people(rows, "abcde")
    truth = truth / np.sqrt(np.mean(truth**2))
    for how in ("rms", "setsize", "evidence"):
        mean = average_rdms(people, rescale=how)
        np.testing.assert_allclose(get_pairs(mean), truth, rtol=1e-9)
        assert mean.data.attrs["units"] == "dissimilarity (root mean square 1)"
    assert np.abs(get_pairs(average_rdms(people)) / truth).std() > 1
    assert "kriegeskorte2012" in average_rdms(people, rescale="evidence").methods()
    assert "kriegeskorte2012" not in average_rdms(people, rescale="rms").methods()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": "participants"}, "dim='participants' is not a dim .* Did you mean 'participant'"),
        ({"dim": "condition"}, "dim='condition' is not a dim of rdm besides the conditions"),
        ({"weights": [1, 2]}, r"weights has shape \(2,\). Give one number for each of the 3"),
        ({"weights": [1, -2, 1]}, "negative or not finite, or only 0"),
        ({"weights": [0, 0, 0]}, "negative or not finite, or only 0"),
        ({"rescale": "evidnce"}, "Did you mean 'evidence'"),
        ({"rescale": "rms"}, "participant='p0' and participant='p2' share no pair"),
        ({"rescale": "rms", "weights": [1, 1, 0]}, "participant='p1' is 0 everywhere"),
    ],
)
def test_average_rdms_refuses(options, message):
    rows = [[1, 2, NAN], [3, NAN, NAN], [NAN, NAN, 1]]
    if "everywhere" in message:
        rows[1][0] = 0
    with pytest.raises(ValueError, match=message):
        average_rdms(make_people(rows), **options)
    with pytest.raises(TypeError, match="Give an RDM"):
        average_rdms(np.ones((3, 3)))


def test_rescale_says_when_it_does_not_settle(monkeypatch):
    monkeypatch.setattr("netphys.analysis._rescale.MAX_ROUNDS", 2)
    with pytest.raises(ValueError, match="rescale did not settle in 2 rounds"):
        average_rdms(make_people(make_partial()[1], "abcdefg"), rescale="rms")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, "rms", "setsize", "evidence"]))
def test_property_average_follows_labels_and_leaves_its_argument(seed, how):
    _, rows = make_partial(seed=seed, size=6)
    rdm = make_people(rows, "abcdefg")
    before = rdm.data.copy(deep=True)
    order = np.random.default_rng(seed).permutation(list("abcdefg")).tolist()
    moved = average_rdms(rdm.select(condition=order), rescale=how)
    same = moved.select(condition=list("abcdefg"))
    np.testing.assert_allclose(same.data, average_rdms(rdm, rescale=how).data, rtol=1e-8)
    xr.testing.assert_identical(rdm.data, before)
    if how:
        scaled = average_rdms(make_people(7 * rows, "abcdefg"), rescale=how)
        np.testing.assert_allclose(scaled.data, average_rdms(rdm, rescale=how).data, rtol=1e-8)


# ---------------------------------------------------------------------- merge
def test_merge_rdms_puts_sets_into_their_union():
    first = to_rdm(np.array([1.0, 2, 3]), conditions=list("zab"))
    second = to_rdm(np.array([4.0, 5, 6]), conditions=list("bca"))
    both = merge_rdms({"x": first, "y": second}, dim="participant")
    assert both.conditions == list("zabc")
    assert both.data.dims == ("condition", "condition_2", "participant")
    np.testing.assert_array_equal(
        get_pairs(both), [[1, 2, NAN, 3, NAN, NAN], [NAN, NAN, NAN, 5, 6, 4]]
    )
    assert both.data["participant"].to_numpy().tolist() == ["x", "y"]
    assert "from 2 sets of 3 to 3 of the 4 conditions" in both.describe_methods()
    assert set(both.provenance["members"]) == {"x", "y"}
    mean = average_rdms(both)
    np.testing.assert_array_equal(get_pairs(mean), [1, 2, NAN, 4, 6, 4])


def test_merge_rdms_joins_along_a_dim_that_is_there():
    a = make_people(np.arange(6.0).reshape(2, 3), "abc", participant=["p", "q"])
    b = make_people(np.arange(3.0).reshape(1, 3), "bcd", participant=["r"])
    a = RDM(a.data.assign_coords(age=("participant", [20, 30])), params=a.params)
    b = RDM(b.data.assign_coords(age=("participant", [40])), params=b.params)
    both = merge_rdms([a, b])
    assert both.data["participant"].to_numpy().tolist() == ["p", "q", "r"]
    assert both.data["age"].to_numpy().tolist() == [20, 30, 40]
    np.testing.assert_array_equal(get_pairs(both)[2], [NAN, NAN, NAN, 0, 1, 2])


def test_merge_rdms_aligns_other_dims_and_keeps_how_they_were_made():
    rng = np.random.default_rng(0)

    def make(labels, layers):
        x = xr.DataArray(
            rng.normal(size=(len(layers), len(labels), 5)),
            {"stimulus_id": ("trial", list(labels)), "layer": layers},
            ("layer", "trial", "unit"),
        )
        return compute_rdm(x)

    a, b = make("abcabd", ["h.0", "h.1"]), make("cde", ["h.1", "h.0"])
    both = merge_rdms({"a": a, "b": b}, dim="seed")
    assert both.data["layer"].to_numpy().tolist() == ["h.0", "h.1"]
    xr.testing.assert_allclose(
        both.data.sel(seed="b", layer="h.1", condition="c", condition_2="e", drop=True),
        b.data.sel(layer="h.1", condition="c", condition_2="e", drop=True),
    )
    assert both.params["n_trials"] == [1, 2] and both.params["metric"] == "correlation"
    assert "averaged over 1 to 2 trials each" in both.describe_methods()


def test_reference_merge():
    _, rows = make_partial()
    full = make_people(rows, "abcdefg")
    parts, theirs = {}, []
    for name, some in (("x", "abcde"), ("y", "cgf")):
        rdm = full.select(participant="p0", condition=list(some))
        parts[name] = rdm
        theirs.append(
            rsatoolbox.rdm.RDMs(get_pairs(rdm)[None], pattern_descriptors={"conds": list(some)})
        )
    expected = from_partials(theirs)
    own = merge_rdms(parts)
    assert own.conditions == expected.pattern_descriptors["conds"]
    np.testing.assert_array_equal(get_pairs(own), expected.dissimilarities)


def test_merge_rdms_keeps_the_order_of_time():
    def make(labels):
        x = xr.DataArray(np.zeros((len(labels),) * 2), dims=("condition", "condition_2"))
        x = x.assign_coords(condition=list(labels), condition_2=list(labels))
        return to_rdm(x.assign_attrs(order="ordered"))

    both = merge_rdms({"early": make("abc"), "late": make("bcd")})
    assert both.conditions == list("abcd") and both.provenance["order"] == "ordered"
    with pytest.raises(ValueError, match="ordered in time, in conflicting orders"):
        merge_rdms({"late": make("bcd"), "early": make("abc")})


def test_merge_rdms_refuses():
    one = to_rdm(np.arange(3.0), conditions=list("abc"))
    people = make_people(np.ones((2, 3)))
    layers = make_people(np.ones((2, 3)), layer=["h.0", "h.1"])
    others = make_people(np.ones((2, 3)), layer=["h.0", "h.2"])
    cases = {
        "rdms is empty": {},
        r"rdms\['x'\] has the dim 'participant' already": {"x": people},
        r"rdms\[0\] has no dim 'participant'": [one],
        "participant='p0' occurs in two": [people, people],
        r"rdms\['y'\] has dims \(.*the first \(": {"x": one, "y": layers},
        r"other labels of 'layer' than the first: h.1, h.2": {"x": layers, "y": others},
        r"rdms\['y'\] has units 'rank of": {"x": one, "y": transform_rdm(one, how="rank")},
        r"rdms\['y'\] has steps": {"x": one, "y": transform_rdm(one, how="positive")},
        r"has metric 'euclidean', the first 'as stored'": {
            "x": one,
            "y": to_rdm(np.arange(3.0), conditions=list("abc"), metric="euclidean"),
        },
    }
    for message, rdms in cases.items():
        with pytest.raises(ValueError, match=message):
            merge_rdms(rdms)
    with pytest.raises(TypeError, match=r"rdms\['x'\]=.* Give an RDM"):
        merge_rdms({"x": np.ones(3)})
    with pytest.raises(TypeError, match="Give a mapping of names to RDMs"):
        merge_rdms(one)


# ---------------------------------------------------------------------- sort
def test_sort_rdm_takes_an_order_or_groups():
    rdm = average_rdms(make_people(np.arange(12.0).reshape(2, 6), "dbca"))
    moved = sort_rdm(rdm, by=list("abcd"))
    assert moved.conditions == list("abcd") and rdm.conditions == list("dbca")
    assert float(moved.data.sel(condition="a", condition_2="d")) == float(rdm.data[0, 3])
    assert moved.stats["n_known"]["condition"].to_numpy().tolist() == list("abcd")
    by = {"a": "y", "b": "x", "c": "y", "d": "x"}
    assert sort_rdm(rdm, by=by).conditions == ["c", "a", "d", "b"]  # as rdm within a group
    assert sort_rdm(rdm, by=dict(reversed(by.items()))).conditions == ["d", "b", "c", "a"]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["a", "b"], "by leaves out 1 of 3 conditions: 'c'. Name all, or pick some"),
        (["a", "b", "c", "b"], "by names 'b' twice"),
        (["a", "b", "d"], "by names 'd', which is not a condition"),
        ({"a": 1, "b": 2}, "by leaves out 1 of 3 conditions"),
    ],
)
def test_sort_rdm_refuses(by, message):
    rdm = to_rdm(np.arange(3.0), conditions=list("abc"))
    with pytest.raises(ValueError, match=message):
        sort_rdm(rdm, by=by)
    with pytest.raises(TypeError, match="by='abc' is a str"):
        sort_rdm(rdm, by="abc")
    timed = RDM(rdm.data, provenance={"order": "ordered"})
    with pytest.raises(ValueError, match=r"ordered in time.*sort to_rdm\(rdm\.data\)"):
        sort_rdm(timed, by=list("cba"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_property_sort_changes_no_value(seed):
    rng = np.random.default_rng(seed)
    rdm = make_people(rng.normal(size=(2, 15)), "abcdef")
    order = rng.permutation(rdm.conditions).tolist()
    moved = sort_rdm(rdm, by=order)
    xr.testing.assert_identical(sort_rdm(moved, by=rdm.conditions).data, rdm.data)
    xr.testing.assert_identical(moved.data, rdm.select(condition=order).data)


# ---------------------------------------------------------------------- transforms
def test_transform_rdm_by_hand():
    rdm = make_people([[4, 9, 9], [1, NAN, 0.25]])
    expected = {
        "rank": [[1, 2.5, 2.5], [2, NAN, 1]],
        "sqrt": [[2, 3, 3], [1, NAN, 0.5]],
        "positive": [[4, 9, 9], [1, NAN, 0.25]],
        "minmax": [[0, 1, 1], [1, NAN, 0]],
    }
    for how, pairs in expected.items():
        made = transform_rdm(rdm, how=how)
        np.testing.assert_array_equal(get_pairs(made), pairs)
        assert made.data.dims == rdm.data.dims and (np.diagonal(made.data) == 0).all()
    signed = make_people([[-1, 2, 0]])
    positive = transform_rdm(signed, how="positive")
    np.testing.assert_array_equal(get_pairs(positive), [[0, 2, 0]])
    both = transform_rdm(positive, how="sqrt")
    assert both.params["transforms"] == ["positive", "sqrt"]
    assert "set to 0 where they were negative, then replaced by their square" in both.methods()
    assert both.data.attrs["units"] == "square root of dissimilarity"
    np.testing.assert_array_equal(get_pairs(signed), [[-1, 2, 0]])


def test_reference_transforms():
    rows = np.random.default_rng(0).normal(size=(3, 10)).round(1) + 5
    rows[1, 4] = NAN
    rdm, theirs = make_people(rows, "abcde"), rsatoolbox.rdm.RDMs(rows.copy())
    for how, function in {
        "rank": rsatoolbox.rdm.rank_transform,
        "sqrt": rsatoolbox.rdm.sqrt_transform,
    }.items():
        expected = function(theirs.copy()).dissimilarities
        np.testing.assert_allclose(get_pairs(transform_rdm(rdm, how=how)), expected)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("ranks", "Did you mean 'rank'"),
        ("sqrt", "negative dissimilarities, down to -1, .*how='positive' first"),
        ("minmax", "all alike: it has no range"),
    ],
)
def test_transform_rdm_refuses(how, message):
    rdm = make_people([[-1, 2, 0], [3, 3, 3]])
    with pytest.raises(ValueError, match=message):
        transform_rdm(rdm, how=how)


# ---------------------------------------------------------------------- categories
def test_make_category_rdm_is_zero_within():
    labels = {"cat": "animal", "bus": "thing", "dog": "animal", "cup": "thing"}
    rdm = make_category_rdm(labels)
    assert rdm.conditions == list(labels) and rdm.params["categories"] == labels
    np.testing.assert_array_equal(get_pairs(rdm), [1, 0, 1, 1, 0, 1])
    theirs = rsatoolbox.rdm.get_categorical_rdm(np.array([[0], [1], [0], [1]]))
    np.testing.assert_array_equal(get_pairs(rdm), theirs.dissimilarities[0])
    assert "dissimilarity: category" in rdm.describe_methods()
    with pytest.raises(ValueError, match="labels has 1 category for 2 conditions"):
        make_category_rdm({"a": 1, "b": 1})
    with pytest.raises(ValueError, match="labels has 2 categories for 2 conditions"):
        make_category_rdm({"a": 1, "b": 2})
    with pytest.raises(ValueError, match="labels names '1' twice"):
        make_category_rdm({1: "a", "1": "b", "2": "a"})
    with pytest.raises(TypeError, match="a mapping of conditions"):
        make_category_rdm(["a", "b"])
