"""Maps of conditions: recovered places, stress against scikit-learn, and what is refused."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from netphys.analysis.mds import ConditionMap, compute_map
from netphys.analysis.rsa import to_rdm
from netphys.core.mds import compute_mds

matplotlib.use("Agg")


@pytest.fixture
def ax():
    yield plt.figure(layout="constrained").subplots()
    plt.close("all")


def make_rdm(seed=0, n=12, n_units=2):
    x = np.random.default_rng(seed).normal(size=(n, n_units))
    return squareform(pdist(x))


def test_places_in_a_plane_are_recovered_and_always_the_same():
    d = make_rdm()
    places, stress = compute_mds(d)
    np.testing.assert_allclose(squareform(pdist(places)), d, atol=1e-6)
    assert stress < 1e-6
    order = np.random.default_rng(1).permutation(12)
    moved, _ = compute_mds(d[np.ix_(order, order)])
    np.testing.assert_allclose(squareform(pdist(moved)), d[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_array_equal(places, compute_mds(d)[0])


def test_unknown_pairs_do_not_count():
    d = make_rdm(n=15)
    gaps = d.copy()
    gaps[2, 5] = gaps[5, 2] = gaps[0, 9] = gaps[9, 0] = np.nan
    places, stress = compute_mds(gaps)
    assert stress < 1e-3
    np.testing.assert_allclose(squareform(pdist(places)), d, atol=0.02)


def test_reference_stress_is_no_worse_than_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.manifold")
    d = make_rdm(n_units=8, n=20)
    places, stress = compute_mds(d)
    best = np.inf
    for seed in range(8):
        fit = sklearn.MDS(2, metric="precomputed", n_init=1, random_state=seed, init="random")
        found = fit.fit_transform(d)
        best = min(best, ((pdist(found) - squareform(d)) ** 2).sum())
    own = ((pdist(places) - squareform(d)) ** 2).sum()
    assert own <= 1.1 * best
    assert stress == pytest.approx(np.sqrt(own / (pdist(places) ** 2).sum()))


def test_map_of_an_rdm_keeps_dims_and_draws_itself(ax, tmp_path):
    names = [f"c{k}" for k in range(12)]
    rdm = to_rdm(make_rdm(), conditions=names)
    found = compute_map(rdm)
    groups = {c: "even" if k % 2 == 0 else "odd" for k, c in enumerate(names)}
    drawn = found.plot(ax, groups=groups)
    assert drawn is ax and "n = 12" in ax.get_title()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["even", "odd"]
    images = list(np.random.default_rng(0).random((12, 8, 8, 3)))
    pictured = found.plot(images=images)
    assert len(pictured.artists) == 12
    assert "stress" in found.methods() and "deleeuw2009" in found.methods()
    back = ConditionMap.load(found.save(tmp_path / "map.nc"))
    np.testing.assert_array_equal(back.data, found.data)
    several = to_rdm(np.stack([make_rdm(), make_rdm(1)]), conditions=names, dims=["layer"])
    each = compute_map(several, n_components=3)
    assert (
        each.data.dims == ("condition", "component", "layer") and each.data.sizes["component"] == 3
    )
    with pytest.raises(ValueError, match="a map for each 'layer'"):
        each.plot()
    plt.close("all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: compute_mds(np.ones((2, 2))), r"rdm has shape \(2, 2\)"),
        (lambda m: compute_mds(np.zeros((3, 3))), "0 throughout"),
        (lambda m: compute_mds(np.full((3, 3), np.nan)), "no dissimilarity of condition 0"),
        (lambda m: compute_mds(make_rdm(), n_components=0), "n_components=0"),
        (lambda m: m.plot(groups={"c0": "a"}), "groups lacks 11 conditions, such as 'c1'"),
        (lambda m: m.plot(images=[np.ones((2, 2))]), "images has 1 pictures for 12 conditions"),
        (lambda m: m.plot(images=[np.ones(3)] * 12), r"images\[0\] has shape \(3,\)"),
    ],
)
def test_mds_refuses(call, message):
    found = compute_map(to_rdm(make_rdm(), conditions=[f"c{k}" for k in range(12)]))
    with pytest.raises(ValueError, match=message):
        call(found)
