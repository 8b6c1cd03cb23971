"""Transforms, geodesics, homology and dependence of RDMs: by hand, against other packages.

Where rsatoolbox 0.3.2 is wrong (its transform edits the caller's RDM, applies the upper threshold
to scaled values, and pools quantiles over RDMs; its geodesics lose edges of length 0), the right
values are worked out here.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from netphys.core.resample import compute_p, make_permutations
from netphys.core.topology import (
    compute_betti,
    compute_dependence,
    compute_distance_correlation,
    compute_entropy,
    compute_geodesics,
    compute_paths,
    compute_persistence,
    compute_rgdm,
    compute_rgtm,
    compute_total_persistence,
    compute_tree,
    fill_unreachable,
    make_grid,
    scale_filtration,
)
from netphys.core.topology.dependence import (
    compute_surface,
    draw_surfaces,
    make_cells,
    weigh_surfaces,
)

LINE = np.abs(np.subtract.outer([0.0, 1, 3, 7], [0.0, 1, 3, 7]))
UPPER = np.triu_indices(4, 1)  # pairs of LINE: 1, 3, 7, 2, 6, 4
RING = squareform(pdist(np.stack([np.cos(a := np.arange(12) * np.pi / 6), np.sin(a)], axis=1)))
SQUARE = np.array([[0, 1, 1.5, 1], [1, 0, 1, 1.5], [1.5, 1, 0, 1], [1, 1.5, 1, 0]])


def make_rdm(seed: int = 0, n: int = 10, dims: int = 4) -> np.ndarray:
    return squareform(pdist(np.random.default_rng(seed).normal(size=(n, dims))))


def pairs_of(rdm: np.ndarray) -> np.ndarray:
    return rdm[..., *np.triu_indices(rdm.shape[-1], 1)]


# ------------------------------------------------------------------------ RGTM
@pytest.mark.parametrize(
    ("lower", "upper", "scale", "expected"),
    [
        (2, 6, "value", [0, 0.25, 1, 0, 1, 0.5]),
        (0.5, 0.5, "value", [1, 1, 1, 1, 1, 1]),
        (3, 3, "value", [0, 0, 1, 0, 1, 1]),  # a pair at the threshold is a neighbour
        (-5, 5, "value", [0.6, 0.8, 1, 0.7, 1, 0.9]),
        (10, 20, "value", [0, 0, 0, 0, 0, 0]),
        (0, 1, "rank", [0, 0.4, 1, 0.2, 0.8, 0.6]),
        (0.2, 0.6, "rank", [0, 0.5, 1, 0, 1, 1]),
        (0.4, 0.4, "rank", [0, 0, 1, 0, 1, 1]),
        (0, 1, "quantile", [0, 2 / 6, 1, 1 / 6, 5 / 6, 3 / 6]),
        (0.2, 0.8, "quantile", [0, 0.25, 1, 0, 1, 0.5]),  # from 2 to 6
    ],
)
def test_compute_rgtm_by_hand(lower, upper, scale, expected):
    found = compute_rgtm(LINE, lower=lower, upper=upper, scale=scale)
    np.testing.assert_allclose(found[UPPER], expected, atol=1e-12)
    assert (found == found.T).all() and not np.diagonal(found).any()


def test_compute_rgtm_gives_ties_their_average_rank():
    rdm = squareform([1.0, 2, 2, 2, 5, 6])  # ranks 1, 3, 3, 3, 5, 6
    found = compute_rgtm(rdm, lower=0, upper=1)
    np.testing.assert_allclose(found[UPPER], [0, 0.4, 0.4, 0.4, 0.8, 1])


@pytest.mark.parametrize("scale", ["rank", "quantile", "value"])
def test_compute_rgtm_leaves_its_input_alone(scale):
    rdm = make_rdm()
    before = rdm.copy()
    compute_rgtm(rdm, lower=0.2, upper=0.6, scale=scale)
    compute_rgdm(rdm, lower=0.2, upper=0.6, scale=scale)
    compute_tree(rdm)
    assert (rdm == before).all()


def test_compute_rgtm_is_right_where_dissimilarities_are_below_one():
    # rsatoolbox compares values that were scaled already with the upper threshold of 0.3: what
    # came out as 0.5 becomes 1
    rdm = squareform([0.1, 0.2, 0.5, 0.15, 0.4, 0.3])
    found = compute_rgtm(rdm, lower=0.1, upper=0.3, scale="value")
    np.testing.assert_allclose(found[UPPER], [0, 0.5, 1, 0.25, 1, 1])


def test_compute_rgtm_is_right_where_the_lower_threshold_is_negative():
    # crossnobis distances; rsatoolbox leaves some as they are
    rdm = squareform([-0.2, -0.1, 0.3, 0.0, 0.2, 0.1])
    found = compute_rgtm(rdm, lower=-0.1, upper=0.1, scale="value")
    np.testing.assert_allclose(found[UPPER], [0, 0, 1, 0.5, 1, 1], atol=1e-12)


@pytest.mark.parametrize("scale", ["rank", "quantile"])
def test_compute_rgtm_scales_each_rdm_by_itself(scale):
    # rsatoolbox pools quantiles over the stack: means of 0.02 and 0.82 instead of equal ones
    rdm = make_rdm()
    stack = np.stack([rdm, 100 * rdm]).reshape(2, 1, 10, 10)
    found = compute_rgtm(stack, lower=0.2, upper=0.7, scale=scale)
    alone = compute_rgtm(rdm, lower=0.2, upper=0.7, scale=scale)
    np.testing.assert_allclose(found[:, 0], [alone, alone], atol=1e-12)


def test_compute_rgtm_keeps_unknown_pairs():
    rdm = LINE.copy()
    rdm[0, 3] = rdm[3, 0] = np.nan
    found = compute_rgtm(rdm, lower=0, upper=1)
    np.testing.assert_allclose(found[UPPER], [0, 0.5, np.nan, 0.25, 1, 0.75])
    rdm[1] = rdm[:, 1] = np.nan
    found = compute_rgtm(rdm, lower=0.5, upper=0.5, scale="quantile")
    assert np.isnan(found[1]).all() and found[0, 2] == 0 and found[2, 3] == 1
    assert np.isnan(compute_rgtm(np.ones((3, 3)), lower=0, upper=1)[0, 1:]).all()  # no ranks
    nothing = compute_rgtm(np.full((3, 3), np.nan), lower=0, upper=1, scale="quantile")
    assert np.isnan(nothing).all()


def test_reference_rgtm_agrees_with_rsatoolbox_where_it_is_right():
    pytest.importorskip("rsatoolbox")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.rdm import RDMs, geotopological_transform

        rdm = 5 + make_rdm()  # one RDM, thresholds above 1
        theirs = geotopological_transform(RDMs(pairs_of(rdm)[None].copy()), 0.2, 0.7)
    own = compute_rgtm(rdm, lower=0.2, upper=0.7, scale="quantile")
    np.testing.assert_allclose(pairs_of(own), theirs.get_vectors()[0], atol=1e-12)
    # and on dissimilarities from 0 to 1, values with thresholds that are 0 and 1
    unit = pairs_of(make_rdm(1))
    unit = (unit - unit.min()) / np.ptp(unit)
    theirs = geotopological_transform(RDMs(unit[None].copy()), 0, 1).get_vectors()[0]
    own = compute_rgtm(squareform(unit), lower=0, upper=1, scale="value")
    np.testing.assert_allclose(pairs_of(own), theirs, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_property_rgtm_and_rgdm(seed, one, other):
    lower, upper = sorted([one, other])
    rng = np.random.default_rng(seed)
    rdm = make_rdm(seed, 8)
    rdm[0, 1] = rdm[1, 0] = rdm[2, 3]  # a tie
    order = rng.permutation(8)
    moved = rdm[np.ix_(order, order)]
    for function in (compute_rgtm, compute_rgdm):
        found = function(rdm, lower=lower, upper=upper)
        # the order of conditions does not matter, nor any monotone change of dissimilarities
        again = function(moved, lower=lower, upper=upper)
        np.testing.assert_allclose(again, found[np.ix_(order, order)], atol=1e-12)
        for change in (np.exp, np.sqrt, lambda d: 3 * d**3):
            changed = function(change(rdm), lower=lower, upper=upper)
            np.testing.assert_allclose(changed, found, atol=1e-9)
    rgtm = compute_rgtm(rdm, lower=lower, upper=upper)
    assert rgtm.min() >= 0 and rgtm.max() <= 1
    # no pair overtakes another
    a, b = pairs_of(rdm), pairs_of(rgtm)
    assert (np.diff(b[np.argsort(a)]) >= -1e-12).all()
    # no way is longer than the edge, nor than any other way
    paths = compute_geodesics(rdm, lower=lower, upper=upper)
    near = rgtm < 1
    assert (paths[near] <= rgtm[near] + 1e-12).all()
    assert (paths[:, :, None] <= paths[:, None, :] + paths.T[None] + 1e-12).all()


def test_make_grid_lists_all_pairs():
    assert make_grid(3, equal=True).tolist() == [
        [0, 0], [0, 0.5], [0, 1], [0.5, 0.5], [0.5, 1], [1, 1],
    ]  # fmt: skip
    assert make_grid().shape == (55, 2) and make_grid()[2].tolist() == [0, 0.3]
    with pytest.raises(ValueError, match="n_levels=1 makes no pair of thresholds"):
        make_grid(1)


@pytest.mark.parametrize(
    ("rdm", "options", "message"),
    [
        (LINE, {"lower": 0.6, "upper": 0.5}, r"lower=0.6 is above upper=0.5\. Give lower <= upper"),
        (LINE, {"lower": -0.1}, r"lower=-0.1 is not between 0 and 1, .* use scale='value'"),
        (LINE, {"upper": 7, "scale": "quantile"}, "upper=7 is not between 0 and 1"),
        (LINE, {"upper": np.nan, "scale": "value"}, "upper=nan is no threshold. Give a finite"),
        (LINE, {"scale": "ranks"}, "scale='ranks' is unknown. .* Did you mean 'rank'"),
        (LINE[:3], {}, r"rdm has shape \(3, 4\)\. Give square matrices"),
        (LINE + np.triu(LINE), {}, "rdm is not symmetric"),
        (np.where(LINE == 7, np.inf, LINE), {}, "rdm holds 1 pairs that are infinite"),
    ],
)
def test_compute_rgtm_refuses(rdm, options, message):
    with pytest.raises(ValueError, match=message):
        compute_rgtm(rdm, **{"lower": 0, "upper": 1, **options})
    with pytest.raises(ValueError, match=message):
        compute_rgdm(rdm, **{"lower": 0, "upper": 1, **options})
    with pytest.raises(TypeError, match=r"lower='0' is a str. Give a number"):
        compute_rgtm(LINE, lower="0", upper=1)


# ------------------------------------------------------------------------ RGDM
def test_compute_rgdm_keeps_edges_of_length_zero():
    # points at 0, 1, 3 and 7, thresholds 1 and 5: edges 0, .5, (1), .25, (1), .75
    options = {"lower": 1, "upper": 5, "scale": "value"}
    found = compute_geodesics(LINE, **options)
    # the closest pair is at distance 0, which a graph without zero edges would call .75
    np.testing.assert_allclose(found[UPPER], [0, 0.25, 1, 0.25, 1, 0.75])
    ranks = compute_rgdm(LINE, **options)
    np.testing.assert_allclose(ranks[UPPER], [1, 2.5, 5.5, 2.5, 5.5, 4])


def test_compute_rgdm_joins_whole_chains_of_close_conditions():
    chain = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    found = compute_geodesics(chain, lower=1, upper=1.5, scale="value")
    assert not found.any()  # neighbours are one place, so all are


def test_compute_rgdm_gives_unreachable_pairs_what_is_asked_for():
    # two pairs far from each other: 0 - 1 and 7 - 9
    points = np.array([0.0, 1, 7, 9])
    rdm = np.abs(np.subtract.outer(points, points))
    options = {"lower": 0, "upper": 4, "scale": "value"}
    paths = compute_geodesics(rdm, **options)
    np.testing.assert_allclose(paths[UPPER], [0.25, np.inf, np.inf, np.inf, np.inf, 0.5])
    for unreachable, expected in (
        ("rank", [1, 4.5, 4.5, 4.5, 4.5, 2]),
        ("max", [0.25, 1.5, 1.5, 1.5, 1.5, 0.5]),
        ("nan", [0.25, np.nan, np.nan, np.nan, np.nan, 0.5]),
    ):
        found = compute_rgdm(rdm, **options, unreachable=unreachable)
        np.testing.assert_allclose(found[UPPER], expected)
        assert not np.diagonal(found).any()
    alone = compute_geodesics(rdm, lower=0, upper=0.5, scale="value")  # no edge at all
    np.testing.assert_allclose(fill_unreachable(alone, unreachable="max")[UPPER], 1)
    np.testing.assert_allclose(fill_unreachable(alone, unreachable="rank")[UPPER], 3.5)


def test_compute_rgdm_knows_other_graphs():
    options = {"lower": 0, "upper": 7, "scale": "value"}
    # nearest: 0 and 1 choose each other, 3 chooses 1, 7 chooses 3
    near = compute_geodesics(LINE, **options, graph="nearest", n_neighbours=1)
    np.testing.assert_allclose(near[UPPER] * 7, [1, 3, 7, 2, 6, 4])
    points = np.array([0.0, 1, 7, 9])
    rdm = np.abs(np.subtract.outer(points, points))
    near = compute_geodesics(rdm, lower=0, upper=9, scale="value", graph="nearest", n_neighbours=1)
    np.testing.assert_allclose(near[UPPER] * 9, [1, np.inf, np.inf, np.inf, np.inf, 2])
    # no metric: the long edges are longer than the ways around them
    rdm = squareform([1.0, 10, 30, 2, 20, 4])
    options["upper"] = 100
    for fraction, expected in (
        (1 / 6, [1, np.inf, np.inf, np.inf, np.inf, np.inf]),
        (0.3, [1, 3, np.inf, 2, np.inf, np.inf]),  # 1.8 edges are two
        (0.5, [1, 3, 7, 2, 6, 4]),
        (1, [1, 3, 7, 2, 6, 4]),
    ):
        found = compute_geodesics(rdm, **options, graph="shortest", fraction=fraction)
        np.testing.assert_allclose(found[UPPER] * 100, expected)
    tied = squareform([1.0, 2, 2, 2, 5, 6])  # four pairs stand at or below the third
    found = compute_geodesics(tied, lower=0, upper=9, scale="value", graph="shortest", fraction=0.4)
    assert np.isfinite(found).all()


def test_compute_rgdm_makes_no_edge_of_unknown_pairs():
    rdm = LINE.copy()
    rdm[1, 2] = rdm[2, 1] = np.nan
    options = {"lower": 0, "upper": 10, "scale": "value"}
    found = compute_geodesics(rdm, **options)
    assert np.isnan(found[1, 2]) and found[1, 3] == 0.6  # never through the unknown pair
    for graph in ({"graph": "nearest", "n_neighbours": 2}, {"graph": "shortest", "fraction": 1.0}):
        np.testing.assert_allclose(compute_geodesics(rdm, **options, **graph), found)
    ranks = compute_rgdm(rdm, **options)
    assert np.isnan(ranks[1, 2]) and np.nanmax(ranks) == 5


def test_reference_paths_agree_with_scipy_on_positive_lengths():
    rdm = make_rdm(0, 20)
    edges = rdm < np.quantile(rdm, 0.3)
    np.fill_diagonal(edges, False)
    found = compute_paths(np.stack([rdm, rdm.T]), edges=edges)
    expected = shortest_path(np.where(edges, rdm, 0), directed=False)
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "nearest"}, "graph='nearest' needs n_neighbours="),
        ({"graph": "shortest"}, "graph='shortest' needs fraction="),
        ({"graph": "knn"}, "graph='knn' is unknown. Choose one of: 'threshold'"),
        ({"n_neighbours": 2}, "n_neighbours=2 has no part in graph='threshold'. Use 'nearest'"),
        ({"graph": "nearest", "n_neighbours": 4}, "=4 is too many: each of 4 conditions has 3"),
        ({"graph": "nearest", "n_neighbours": 0}, "n_neighbours=0 is too small"),
        ({"graph": "shortest", "fraction": 0}, "fraction=0 is out of range. Give above 0"),
        ({"unreachable": "inf"}, "unreachable='inf' is unknown. Choose one of: 'rank', 'max'"),
    ],
)
def test_compute_rgdm_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        compute_rgdm(LINE, lower=0, upper=1, **options)


def test_compute_paths_refuses_negative_and_unknown_lengths():
    for bad in (-1, np.nan):
        lengths = np.array([[0, bad], [bad, 0]])
        with pytest.raises(ValueError, match=r"lengths holds edges that are negative or NaN"):
            compute_paths(lengths, edges=np.ones((2, 2), bool))
        assert compute_paths(lengths, edges=np.eye(2) > 0)[0, 1] == np.inf


# -------------------------------------------------------- persistent homology
def test_compute_tree_by_hand_and_with_zero_distances():
    assert compute_tree(LINE).tolist() == [1, 2, 4]
    twins = LINE.copy()
    twins[0, 1] = twins[1, 0] = 0
    assert compute_tree(np.stack([LINE, twins])).tolist() == [[1, 2, 4], [0, 2, 4]]
    negative = squareform([-1.0, 3, 7, 2, 6, 4])
    assert compute_tree(negative).tolist() == [0, 2, 4]


@pytest.mark.parametrize("seed", range(5))
def test_reference_tree_agrees_with_scipy(seed):
    rdm = make_rdm(seed, 30)
    expected = np.sort(minimum_spanning_tree(rdm).data)
    np.testing.assert_array_equal(compute_tree(rdm), expected)


def test_reference_pieces_agree_with_ripser():
    ripser = pytest.importorskip("ripser")
    for seed in range(3):
        rdm = make_rdm(seed, 25)
        theirs = ripser.ripser(rdm, distance_matrix=True, maxdim=1)["dgms"]
        own = compute_persistence(rdm)
        np.testing.assert_allclose(own[0][:, 1], np.sort(theirs[0][:, 1]), rtol=1e-6)
        order = np.lexsort((theirs[1][:, 1], theirs[1][:, 0]))
        np.testing.assert_allclose(own[1], theirs[1][order], rtol=1e-6)
        # births and deaths are dissimilarities of the RDM, bit for bit; theirs are rounded
        assert np.isin(own[1], rdm).all() and not np.isin(theirs[1], rdm).any()


def test_compute_persistence_finds_planted_holes():
    pytest.importorskip("ripser")
    pieces, loops = compute_persistence(SQUARE)
    assert pieces[:, 1].tolist() == [1, 1, 1, np.inf] and loops.tolist() == [[1, 1.5]]
    loops = compute_persistence(RING)[1]
    # born when neighbours are joined; dies when triangles of every fourth point close it
    np.testing.assert_allclose(loops, [[2 * np.sin(np.pi / 12), 2 * np.sin(np.pi / 3)]])
    assert len(compute_persistence(LINE)[1]) == 0
    # an octahedron: opposite corners at 2, all others at 1: a hollow ball, no loop
    ball = np.where(np.arange(6)[:, None] % 3 == np.arange(6) % 3, 2.0, 1.0) - 2 * np.eye(6)
    pieces, loops, voids = compute_persistence(ball, max_dim=2)
    assert len(loops) == 0 and voids.tolist() == [[1, 2]]


def test_compute_persistence_ends_at_the_threshold():
    pytest.importorskip("ripser")
    pieces, loops = compute_persistence(SQUARE, threshold=1.2)
    assert loops.tolist() == [[1, np.inf]] and np.isinf(pieces[:, 1]).sum() == 1
    pieces, loops = compute_persistence(SQUARE, threshold=0.5)
    assert len(loops) == 0 and np.isinf(pieces[:, 1]).all()
    assert compute_persistence(SQUARE, threshold=1.5)[1].tolist() == [[1, 1.5]]


def test_compute_betti_counts_what_is_alive():
    t = [0, 0.5, 1, 1.25, 1.5, 9]
    diagram = np.array([[0, 1], [0, 1], [1, 1.5], [0, np.inf], [np.nan, np.nan]])
    assert compute_betti(diagram, thresholds=t).tolist() == [3, 3, 2, 2, 1, 1]
    pieces = compute_persistence(LINE, max_dim=0)[0]
    assert compute_betti(pieces, thresholds=[0, 1, 2, 3, 4]).tolist() == [4, 3, 2, 2, 1]


def test_summaries_of_diagrams_by_hand():
    diagram = np.array([[0, 1], [1, 4], [2, np.inf], [np.nan, np.nan]])
    assert compute_total_persistence(diagram) == 4
    assert compute_total_persistence(diagram, power=2) == 10
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert compute_entropy(diagram) == pytest.approx(expected, rel=1e-12)
    assert compute_entropy(np.array([[0, 2.0]])) == 0
    assert np.isnan(compute_entropy(np.empty((0, 2))))


def test_scale_filtration_makes_systems_comparable():
    np.testing.assert_allclose(scale_filtration(LINE)[UPPER], np.array([1, 3, 6, 2, 5, 4]) / 6)
    np.testing.assert_allclose(scale_filtration(LINE, scale="max")[UPPER], LINE[UPPER] / 7)
    tied = squareform([1.0, 2, 2, 2, 5, 6])
    np.testing.assert_allclose(scale_filtration(tied)[UPPER] * 6, [1, 4, 4, 4, 5, 6])
    assert (scale_filtration(np.exp(LINE)) == scale_filtration(LINE)).all()
    assert not scale_filtration(np.zeros((3, 3)), scale="max").any()
    assert scale_filtration(-LINE, scale="value").max() == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_property_tree_follows_the_conditions(seed):
    rdm = make_rdm(seed, 9)
    order = np.random.default_rng(seed).permutation(9)
    deaths = compute_tree(rdm)
    np.testing.assert_array_equal(compute_tree(rdm[np.ix_(order, order)]), deaths)
    np.testing.assert_allclose(compute_tree(rdm**2), deaths**2)  # the tree is that of the ranks
    assert np.isin(deaths, rdm).all()


@pytest.mark.parametrize(
    ("rdm", "options", "message"),
    [
        (LINE, {"max_dim": -1}, r"max_dim=-1 is negative. Give 0 \(pieces\)"),
        (np.stack([LINE, LINE]), {}, r"rdm has shape \(2, 4, 4\)\. Give one matrix"),
        (np.where(LINE == 7, np.nan, LINE), {}, r"holds 1 unknown \(NaN\) pairs. A filtration"),
        (LINE, {"threshold": 0}, "threshold=0 joins nothing"),
        (np.ones((201, 201)), {"max_dim": 2}, "rdm has 201 conditions: up to 200 .*Give threshold"),
        (np.ones((501, 501)), {"max_dim": 1}, "rdm has 501 conditions: up to 500"),
        (np.ones((61, 61)), {"max_dim": 3}, "rdm has 61 conditions: up to 60"),
    ],
)
def test_compute_persistence_refuses(rdm, options, message):
    with pytest.raises(ValueError, match=message):
        compute_persistence(rdm, **options)


def test_compute_persistence_names_the_extra_when_ripser_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    assert len(compute_persistence(LINE, max_dim=0)[0]) == 4
    with pytest.raises(ImportError, match=r"pip install 'netphys\[topology\]'\. max_dim=0 needs"):
        compute_persistence(LINE)


def test_summaries_of_diagrams_refuse():
    with pytest.raises(ValueError, match=r"diagram has shape \(3,\)\. Give births and deaths"):
        compute_betti(np.zeros(3), thresholds=[0])
    with pytest.raises(ValueError, match="power=0 is out of range"):
        compute_total_persistence(np.zeros((1, 2)), power=0)
    with pytest.raises(ValueError, match=r"scale='rank' is unknown. Choose one of: 'density'"):
        scale_filtration(LINE, scale="rank")


# ------------------------------------------------------------------ dependence
def correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance correlation as it is defined, step by step."""
    centred = []
    for d in (a, b):
        rows, columns = d.mean(axis=1), d.mean(axis=0)
        centred.append(d - rows[:, None] - columns[None] + d.mean())
    left, right = centred
    product = (left * right).mean() / np.sqrt((left**2).mean() * (right**2).mean())
    return np.sqrt(max(product, 0))


def test_compute_distance_correlation_follows_the_definition():
    a, b = make_rdm(0), make_rdm(1)
    assert compute_distance_correlation(a, b) == pytest.approx(correlate(a, b), rel=1e-12)
    assert compute_distance_correlation(a, 7 * a) == pytest.approx(1, rel=1e-12)
    assert compute_distance_correlation(1e-20 * a, b) == pytest.approx(correlate(a, b), rel=1e-9)
    # three points on a line and three at equal distances: centred products sum to 8 / 3, squares
    # to 40 / 9 and 2
    line, equal = np.abs(np.subtract.outer([0, 1, 2], [0, 1, 2])), 1 - np.eye(3)
    expected = np.sqrt(8 / 3 / np.sqrt(80 / 9))
    assert compute_distance_correlation(line, equal) == pytest.approx(expected, rel=1e-12)
    found = compute_distance_correlation(np.stack([a, b]), a)
    assert found.shape == (2,) and found[0] == pytest.approx(1)
    assert np.isnan(compute_distance_correlation(np.zeros((4, 4)), LINE))


@pytest.mark.parametrize("scale", ["quantile", "rank"])
def test_cells_give_the_distance_correlation_of_transformed_rdms(scale):
    grid = make_grid(4, equal=True)
    a, b = make_rdm(0), make_rdm(1)
    surface = compute_surface(*(make_cells(x, grid=grid, scale=scale) for x in (a, b)))
    for i, (low, high) in enumerate(grid):
        left = compute_rgtm(a, lower=low, upper=high, scale=scale)
        for j, (low_b, high_b) in enumerate(grid):
            right = compute_rgtm(b, lower=low_b, upper=high_b, scale=scale)
            with np.errstate(invalid="ignore"):
                expected = np.nan_to_num(correlate(left, right) if right.any() else 0)
            assert surface[i, j] == pytest.approx(expected, abs=1e-7)


def test_draws_are_those_of_permuted_rdms():
    grid, (a, b) = make_grid(4), (make_rdm(0), make_rdm(1))
    orders = make_permutations(10, 5, rng=np.random.default_rng(0))
    left, right = (make_cells(x, grid=grid) for x in (a, b))
    draws = draw_surfaces(left, right, orders=orders)
    for draw, order in zip(draws, orders, strict=True):
        moved = make_cells(b[np.ix_(order, order)], grid=grid)
        np.testing.assert_allclose(draw, compute_surface(left, moved), atol=1e-7)
    statistic, at, null = compute_dependence(a, b, orders=orders, grid=grid)
    assert statistic == compute_surface(left, right).max() and (null == draws.max((1, 2))).all()
    low = compute_rgtm(a, lower=at[0], upper=at[1], scale="quantile")
    high = compute_rgtm(b, lower=at[2], upper=at[3], scale="quantile")
    assert statistic == pytest.approx(correlate(low, high), rel=1e-9)


def test_weigh_surfaces_treats_the_data_as_a_draw():
    rng = np.random.default_rng(0)
    every = rng.random((20, 3, 4))
    every[:, 0, 0] = 0  # a cell without differences
    observed, draws = weigh_surfaces(every[0], every[1:], weighting="sd")
    whole = np.concatenate([observed[None], draws])
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(whole.std(axis=0).ravel()[1:], 1)
    assert not whole[:, 0, 0].any()
    observed, draws = weigh_surfaces(every[0], every[1:], weighting="mean")
    np.testing.assert_allclose((draws.sum(axis=0) + observed).ravel()[1:], 20)
    plain = weigh_surfaces(every[0], every[1:])
    assert (plain[0] == every[0]).all() and (plain[1] == every[1:]).all()
    with pytest.raises(ValueError, match=r"weighting='z' is unknown\. Choose one of: 'none'"):
        weigh_surfaces(every[0], every[1:], weighting="z")


@pytest.mark.parametrize("weighting", ["none", "sd"])
def test_dependence_of_independent_rdms_is_rarely_significant(weighting):
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = (squareform(pdist(rng.normal(size=(14, 3)))) for _ in range(2))
        orders = make_permutations(14, 39, rng=rng)
        options = {"orders": orders, "grid": make_grid(5), "weighting": weighting}
        observed, _, null = compute_dependence(a, b, **options)
        p.append(float(compute_p(observed, null)))
    assert 0.015 <= np.mean(np.array(p) <= 0.05) <= 0.095  # 0.05 +- 3 SE
    assert abs(np.mean(p) - 0.5) < 0.075


def test_dependence_finds_what_only_neighbours_share():
    # the same five clusters in both, at unrelated places: what is near is near in both, what is
    # far is anywhere
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), 6)
    a, b = (
        squareform(pdist(20 * rng.normal(size=(5, 2))[groups] + rng.normal(size=(30, 2))))
        for _ in range(2)
    )
    orders = make_permutations(30, 99, rng=rng)
    statistic, at, null = compute_dependence(a, b, orders=orders)
    assert compute_p(statistic, null) == 0.01
    assert at[0] == 0 and at[2] == 0 and statistic > correlate(a, b) + 0.1


def test_make_cells_takes_out_lags():
    time = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))
    cells = make_cells(time, grid=make_grid(3), scale="value", remove_lags=True)
    centred = make_cells(time, grid=[[0, 20]], scale="value")
    assert np.linalg.norm(centred) == pytest.approx(1)
    norms = np.linalg.norm(cells, axis=1)
    assert ((np.abs(norms - 1) < 1e-9) | (norms == 0)).all()
    # what is left has no mean at any lag
    i, j = np.triu_indices(12)
    entries = cells / np.where(i == j, 1, np.sqrt(2))
    for lag in range(12):
        assert np.abs(entries[:, j - i == lag].sum(axis=1)).max() < 1e-12


@pytest.mark.parametrize(
    ("grid", "scale", "message"),
    [
        (None, "value", "grid is missing: scale='value' has thresholds in the unit"),
        ([0, 1], "rank", r"grid has shape \(2,\)\. Give pairs of thresholds"),
        ([[0.5, 0.2]], "rank", "lower=0.5 is above upper=0.2"),
        ([[0, 1], [0, 1]], "rank", "grid holds a pair of thresholds twice"),
    ],
)
def test_compute_dependence_refuses(grid, scale, message):
    orders = np.arange(4)[None]
    with pytest.raises(ValueError, match=message):
        compute_dependence(LINE, LINE, orders=orders, grid=grid, scale=scale)
    unknown = np.where(LINE == 7, np.nan, LINE)
    with pytest.raises(ValueError, match=r"rdm holds 1 unknown \(NaN\) pairs. Leave out"):
        compute_dependence(unknown, LINE, orders=orders)


def test_ranks_of_paths_tie_equal_sums():
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit
    steps = np.cumsum([0, 0.1, 0.2, 0.3, 5, 0.3, 0.2, 0.1])
    rdm = np.abs(np.subtract.outer(steps, steps))
    options = {"lower": 0, "upper": 1, "scale": "value", "graph": "nearest", "n_neighbours": 1}
    ranks = compute_rgdm(rdm, **options)
    exact = rankdata(np.round(pairs_of(compute_geodesics(rdm, **options)), 9))
    np.testing.assert_array_equal(pairs_of(ranks), exact)
