"""Online statistics against hand-computed values, numpy and scipy on all samples, and splits."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import VOCABULARY, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

import netphys
from netphys.core.distance import compute_distances
from netphys.core.online import (
    ConditionRDM,
    CrossCovariance,
    Gram,
    Histogram,
    Moments,
    PositionCounts,
    Quantiles,
    Sparsity,
    Surprisal,
    TagCoefficients,
    TokenCounts,
    compute_linear_cka,
    list_statistics,
    make_statistic,
)
from netphys.recording.online import Accumulator, BatchInfo, SiteInfo, make_accumulators
from netphys.recording.online.accumulator import from_numpy, to_numpy

LENGTH = 8  # samples of a trial
LABELS = {"condition": ["b", "a", "c"]}
EXAMPLES = [
    Moments(),
    Moments(order=4),
    Sparsity(threshold=0.5, tolerance=0.1),
    Histogram(edges=(-1.0, 0.0, 0.5, 2.0)),
    Quantiles(q=(0.0, 0.1, 0.5, 1.0)),
    Gram(),
    Gram(center=False),
    ConditionRDM(labels=("b", "a", "c")),
    TokenCounts(tokens=5),
    PositionCounts(max_position=6),
    TagCoefficients(frequencies=(0.0, 0.25, 0.3)),
    CrossCovariance("one", "two"),
]


def make_rows(n_trials=12, n_units=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_trials * LENGTH, n_units)).astype(np.float32)


def make_batch(n_trials=12, *, first=0, seed=0):
    rng = np.random.default_rng(seed)
    trial = np.repeat(np.arange(n_trials), LENGTH)
    batch = BatchInfo(
        trial=trial,
        position=np.tile(np.arange(LENGTH), n_trials),
        token_id=rng.integers(0, 7, len(trial)),
        codes={"condition": np.where(trial % 4 < 3, trial % 4, -1)},
    )
    return batch.take(np.arange(first * LENGTH, len(trial)))


def run(statistic, rows, batch, *, cuts=(), device="cpu"):
    """Return the state after the rows were given in pieces cut between trials."""
    accumulator = Accumulator(statistic)
    second = rows[:, :3] ** 2 if isinstance(rows, np.ndarray) else rows[:, :3]
    info = SiteInfo(rows.shape[1], torch.device(device), 3, LABELS)
    state = accumulator.make_state(info)
    ends = [0, *sorted({c * LENGTH for c in cuts} - {0, len(rows)}), len(rows)]
    for begin, end in itertools.pairwise(ends):
        part = torch.as_tensor(rows[begin:end])
        if statistic.scope == "sites":
            part = {"one": part, "two": torch.as_tensor(second[begin:end])}
        accumulator.update(state, part, batch.take(np.arange(begin, end)))
    return state


def finish(statistic, rows, batch=None, **options):
    batch = batch or make_batch(len(rows) // LENGTH)
    return Accumulator(statistic).finish(run(statistic, rows, batch, **options))[0]


def assert_same_state(one, two, *, rtol=1e-12):
    assert one.keys() == two.keys()
    for key in one:
        a, b = one[key].numpy(), two[key].numpy()
        if a.dtype == np.int64:
            np.testing.assert_array_equal(a, b, err_msg=key)
        else:
            scale = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=key)


# Hand-computed values


def few(values):
    """Return one trial of one unit."""
    return np.array(values, np.float32)[:, None], BatchInfo(
        np.zeros(len(values), np.int64),
        np.arange(len(values)),
        np.arange(len(values)) % 2,
        codes={"condition": np.arange(len(values)) % 2},
    )


def test_moments_by_hand():
    table = finish(Moments(order=4), *few([1, 2, 3, 6]))
    values = {k: v[0] for k, v in table.columns.items()}
    assert values["n"] == 4
    assert values["mean"] == 3
    assert values["variance"] == 3.5  # (4 + 1 + 0 + 9) / 4
    assert values["skewness"] == pytest.approx((-8 - 1 + 27) / 4 / 3.5**1.5)
    assert values["kurtosis"] == pytest.approx((16 + 1 + 81) / 4 / 3.5**2 - 3)
    assert (values["min"], values["max"]) == (1, 6)
    assert table.axis == "unit"
    assert table.saw["n_samples"] == 4
    assert table.saw["n_trials"] == 1


def test_sparsity_by_hand():
    table = finish(Sparsity(threshold=1, tolerance=0.25), *few([0, -3, 0.25, 4]))
    values = {k: v[0] for k, v in table.columns.items()}
    assert values["n_events"] == 1
    assert values["zero"] == 0.25
    assert values["near_zero"] == 0.5
    a = (4.25 / 4) ** 2 / ((0.0625 + 16) / 4)
    assert values["lifetime"] == pytest.approx((1 - a) / (1 - 1 / 4))
    assert not values["dead"]
    assert table.saw["population_n"] == 0  # one unit has no population


def test_sparsity_is_one_for_a_single_response_and_zero_for_equal_ones():
    rows = np.array([[0, 2, 1], [0, 2, 0], [0, 2, 0], [0, 2, 0]], np.float32)
    batch = few([0] * 4)[1]
    table = finish(Sparsity(), rows, batch)
    np.testing.assert_array_equal(table.columns["dead"], [True, False, False])
    np.testing.assert_allclose(table.columns["lifetime"], [np.nan, 0, 1], atol=1e-15)
    assert table.saw["n_dead"] == 1
    assert table.saw["population_n"] == 4
    first = (1 - 1 / (5 / 3)) / (2 / 3)  # mean 1, mean of squares 5/3
    rest = (1 - (2 / 3) ** 2 / (4 / 3)) / (2 / 3)
    assert rest == pytest.approx(1)
    assert table.saw["population_mean"] == pytest.approx((first + 3 * rest) / 4)


def test_token_and_position_counts_by_hand():
    rows, batch = few([1, 2, 3, 6])
    table = finish(TokenCounts(tokens=3), rows, batch)
    np.testing.assert_array_equal(table.columns["n"], [2, 2, 0])
    np.testing.assert_array_equal(table.columns["mean"][:, 0], [2, 4, np.nan])
    table = finish(TokenCounts(tokens=(1, 9)), rows, batch)
    np.testing.assert_array_equal(table.columns["token_id"], [1, 9])
    np.testing.assert_array_equal(table.columns["n"], [2, 0])
    assert table.saw["n_elsewhere"] == 2
    table = finish(PositionCounts(max_position=3), rows, batch)
    np.testing.assert_array_equal(table.columns["mean"][:, 0], [1, 2, 3])
    assert table.saw["n_elsewhere"] == 1


def test_histogram_by_hand():
    table = finish(Histogram(edges=(0, 1, 2)), *few([-1, 0, 1, 2, 3, np.inf, np.nan]))
    np.testing.assert_array_equal(table.columns["counts"], [[1, 2]])
    assert (table.columns["n_below"][0], table.columns["n_above"][0]) == (1, 2)
    assert table.columns["n_nonfinite"][0] == 1
    np.testing.assert_array_equal(table.coords["bin"], [0, 1])


def test_quantiles_bins_by_hand():
    statistic = Quantiles(bits=1, exponents=(0, 2))  # edges 1, 1.5, 2, 3, 4
    np.testing.assert_array_equal(
        statistic.compute_edges(), [-np.inf, -4, -3, -2, -1.5, -1, 1, 1.5, 2, 3, 4, np.inf]
    )
    x = np.array([-4.0, -3.9, -1.0, -0.5, 0.0, 0.99, 1.0, 1.5, 2.5, 4.0, 1e30])
    np.testing.assert_array_equal(statistic.find_bins(x), [0, 1, 4, 5, 5, 5, 6, 7, 8, 10, 10])
    np.testing.assert_array_equal(
        statistic.find_bins(torch.tensor(x)).numpy(), statistic.find_bins(x)
    )


def test_gram_by_hand():
    rows = np.array([[1, 0], [3, 2]], np.float32)
    batch = few([0, 0])[1]
    table = finish(Gram(), rows, batch)
    np.testing.assert_array_equal(table.columns["covariance"], [[1, 1], [1, 1]])
    table = finish(Gram(center=False), rows, batch)
    np.testing.assert_array_equal(table.columns["second_moment"], [[5, 3], [3, 2]])


def test_tag_coefficients_by_hand():
    table = finish(TagCoefficients(frequencies=(0.25, 0.5)), *few([1, 0, -1, 0] * 2))
    values = {k: v[0] for k, v in table.columns.items()}
    np.testing.assert_allclose(values["real"], [0.5, 0], atol=1e-15)  # a cosine of amplitude 1
    np.testing.assert_allclose(values["evoked"], [0.25, 0], atol=1e-15)
    np.testing.assert_allclose(values["induced"], [0, 0], atol=1e-15)
    assert values["itpc"][0] == pytest.approx(1)
    assert np.isnan(values["itpc"][1])  # no amplitude, no phase


def test_compute_linear_cka_is_one_for_a_rotated_site_and_nan_without_variance():
    x = make_rows().astype(float)
    x -= x.mean(0)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    y = 3 * x @ q
    assert compute_linear_cka(x.T @ x, y.T @ y, x.T @ y) == pytest.approx(1)
    assert np.isnan(compute_linear_cka(np.zeros((2, 2)), np.eye(2), np.zeros((2, 2))))


# References: numpy and scipy on all samples at once


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_reference_moments_of_every_type(kind):
    rows = torch.as_tensor(make_rows()).to(kind)
    x = rows.double().numpy()
    values = finish(Moments(order=4), rows, cuts=(1, 5)).columns
    np.testing.assert_allclose(values["mean"], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(values["variance"], x.var(0), rtol=1e-12)
    np.testing.assert_allclose(values["std"], x.std(0), rtol=1e-12)
    np.testing.assert_allclose(values["skewness"], scipy.stats.skew(x), rtol=1e-11)
    np.testing.assert_allclose(values["kurtosis"], scipy.stats.kurtosis(x), rtol=1e-11)
    np.testing.assert_array_equal(values["min"], x.min(0))
    np.testing.assert_array_equal(values["max"], x.max(0))


def test_moments_keep_their_digits_beside_a_large_mean():
    rows = 1e4 + 1e-2 * np.random.default_rng(0).normal(size=(4000, 3))
    batch = make_batch(500)
    values = finish(Moments(order=4), rows, batch, cuts=range(1, 500, 7)).columns
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(0)
    variance = (centred**2).mean(0)
    np.testing.assert_allclose(values["variance"], variance.astype(float), rtol=1e-9)
    skewness = ((centred**3).mean(0) / variance**1.5).astype(float)
    np.testing.assert_allclose(values["skewness"], skewness, atol=1e-8)
    covariance = (centred.T @ centred / len(rows)).astype(float)
    found = finish(Gram(), rows, batch, cuts=range(1, 500, 7)).columns["covariance"]
    np.testing.assert_allclose(found, covariance, rtol=1e-9, atol=1e-13)


def test_reference_sparsity():
    rows = np.maximum(make_rows(), -0.2)
    rows[rows < 0.05] = 0
    values = finish(Sparsity(threshold=0.5), rows, cuts=(3, 4))
    r = rows.astype(float)

    def sparseness(r, axis):
        return (1 - r.mean(axis) ** 2 / (r**2).mean(axis)) / (1 - 1 / r.shape[axis])

    np.testing.assert_allclose(values.columns["lifetime"], sparseness(r, 0), rtol=1e-12)
    np.testing.assert_allclose(values.columns["zero"], (r == 0).mean(0), rtol=1e-15)
    np.testing.assert_array_equal(values.columns["n_events"], (r > 0.5).sum(0))
    alive = r[r.any(1)]
    each = sparseness(alive, 1)
    assert values.saw["population_n"] == len(alive)
    assert values.saw["population_mean"] == pytest.approx(each.mean(), rel=1e-12)
    assert values.saw["population_std"] == pytest.approx(each.std(), rel=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.1, -0.1, 0.5, 1e-9, 1e9])
def test_sparsity_does_not_round_the_threshold(kind, threshold):
    rows = torch.linspace(-1, 1, 320).reshape(64, 5).to(kind)
    rows[:8] = torch.tensor(threshold).clamp(max=torch.finfo(kind).max).to(kind)
    values = finish(Sparsity(threshold=threshold, tolerance=abs(threshold)), rows).columns
    x = rows.double().numpy()
    np.testing.assert_array_equal(values["n_events"], (x > threshold).sum(0))
    np.testing.assert_allclose(values["near_zero"], (np.abs(x) <= abs(threshold)).mean(0))


def test_reference_histogram():
    rows, edges = make_rows(), (-2, -0.5, 0, 0.1, 1.5)
    values = finish(Histogram(edges=edges), rows, cuts=(2,)).columns
    for unit in range(5):
        expected = np.histogram(rows[:, unit].astype(float), edges)[0]
        np.testing.assert_array_equal(values["counts"][unit], expected)
    np.testing.assert_array_equal(values["n"], len(rows))


@pytest.mark.parametrize("bits", [0, 4, 8])
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e6])
def test_reference_quantiles_lie_within_their_bounds(bits, scale):
    rows = make_rows(60) ** 3 * np.float32(scale)
    q = (0.0, 0.03, 0.5, 0.77, 0.999, 1.0)
    values = finish(Quantiles(q=q, bits=bits), rows, cuts=(5, 9)).columns
    true = np.quantile(rows.astype(float), q, axis=0).T
    tiny = 1e-12 * np.abs(true)
    assert (values["low"] <= true + tiny).all()
    assert (true <= values["high"] + tiny).all()
    assert ((values["low"] <= values["quantile"]) & (values["quantile"] <= values["high"])).all()
    order = np.sort(rows.astype(float), axis=0)
    rank = np.array(q) * (len(rows) - 1)
    ends = np.abs(order[[np.floor(rank).astype(int), np.ceil(rank).astype(int)]]).max(0).T
    inside = ends < 2.0**16
    bound = 2.0 ** -(bits + 1) * ends + 2.0**-16
    assert (np.abs(values["quantile"] - true) <= bound)[inside].all()
    assert inside.any()
    for column in ("quantile", "low", "high"):  # the extrema are exact
        np.testing.assert_array_equal(values[column][:, [0, -1]], true[:, [0, -1]])


def test_reference_rdm_and_condition_means():
    rows, batch = make_rows(), make_batch()
    for metric in ("correlation", "euclidean", "cosine"):
        table = finish(ConditionRDM(metric=metric, labels=("b", "a", "c")), rows, batch, cuts=(5,))
        code = batch.codes["condition"]
        mean = np.stack([rows[code == c].astype(float).mean(0) for c in range(3)])
        np.testing.assert_allclose(table.columns["mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(
            table.columns["rdm"], compute_distances(mean, metric=metric), rtol=1e-10, atol=1e-14
        )
        assert list(table.coords["condition"]) == ["b", "a", "c"]
        assert table.saw["n_elsewhere"] == (code < 0).sum()


def test_rdm_of_a_condition_without_samples_is_nan():
    batch = make_batch()
    batch.codes["condition"][:] = np.where(batch.trial < 6, 0, 2)
    table = finish(ConditionRDM(labels=("b", "a", "c")), make_rows(), batch)
    assert np.isnan(table.columns["rdm"][1]).all()
    assert table.columns["rdm"][0, 2] > 0


def test_reference_cross_covariance():
    rows, batch = make_rows(), make_batch()
    state = run(CrossCovariance("one", "two"), rows, batch, cuts=(1, 2, 7))
    first, second = CrossCovariance("one", "two").finish(to_numpy(state))
    x, y = rows.astype(float), (rows[:, :3] ** 2).astype(float)
    joint = np.cov(x.T, y.T, bias=True)
    np.testing.assert_allclose(first.columns["covariance"], joint[:5, :5], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(first.columns["cross"], joint[:5, 5:], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(second.columns["covariance"], joint[5:, 5:], rtol=1e-11)
    np.testing.assert_allclose(second.columns["mean"], y.mean(0), rtol=1e-12)
    assert second.name == "cross_covariance.other"
    xc, yc = x - x.mean(0), y - y.mean(0)
    kernel, other = xc @ xc.T, yc @ yc.T
    cka = (kernel * other).sum() / np.linalg.norm(kernel) / np.linalg.norm(other)
    assert first.saw["linear_cka"] == pytest.approx(cka, rel=1e-10)


def test_reference_tag_coefficients_on_whole_trials():
    rows, k = make_rows(), (1, 2, 4)
    frequencies = tuple(i / LENGTH for i in k)
    values = finish(TagCoefficients(frequencies=frequencies), rows, cuts=(4, 5)).columns
    trials = rows.astype(float).reshape(-1, LENGTH, 5)
    c = (np.fft.fft(trials, axis=1) / LENGTH)[:, k].transpose(0, 2, 1)
    np.testing.assert_allclose(values["real"] + 1j * values["imag"], c.mean(0), atol=1e-15)
    np.testing.assert_allclose(values["evoked"], np.abs(c.mean(0)) ** 2, rtol=1e-10)
    np.testing.assert_allclose(values["total"], (np.abs(c) ** 2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(values["induced"], (np.abs(c - c.mean(0)) ** 2).mean(0), rtol=1e-11)
    np.testing.assert_allclose(values["itpc"], np.abs((c / np.abs(c)).mean(0)), atol=1e-12)


def test_tag_coefficients_of_ragged_trials_and_a_rate():
    lengths = [3, 5, 5, 2]
    batch = BatchInfo(
        np.repeat([7, 8, 9, 10], lengths), np.concatenate([np.arange(2, n + 2) for n in lengths])
    )
    rows = np.random.default_rng(0).normal(size=(15, 2))
    accumulator = Accumulator(TagCoefficients(frequencies=(1.3, 0.0), rate=10))
    state = accumulator.make_state(SiteInfo(2))
    accumulator.update(state, torch.tensor(rows), batch)
    found = accumulator.finish(state)[0].columns
    c, begin = [], 0
    for n in lengths:
        p = np.arange(2, n + 2)
        basis = np.exp(-2j * np.pi * np.outer([1.3, 0.0], p / 10))
        c.append(basis @ rows[begin : begin + n] / n)
        begin += n
    np.testing.assert_allclose(found["real"] + 1j * found["imag"], np.mean(c, 0).T, atol=1e-15)


def test_tag_coefficients_find_a_planted_rhythm_in_noise():
    rng = np.random.default_rng(0)
    n_trials, length = 200, 40
    t = np.arange(length)
    trials = rng.normal(size=(n_trials, length, 2))
    trials[..., 0] += 0.4 * np.cos(2 * np.pi * 0.25 * t)  # evoked: amplitude 0.4
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1))
    trials[..., 1] += 0.8 * np.cos(2 * np.pi * 0.25 * t + phase)  # induced only
    batch = BatchInfo(np.repeat(np.arange(n_trials), length), np.tile(t, n_trials))
    accumulator = Accumulator(TagCoefficients(frequencies=(0.2, 0.25)))
    state = accumulator.make_state(SiteInfo(2))
    accumulator.update(state, torch.tensor(trials.reshape(-1, 2)), batch)
    found = accumulator.finish(state)[0].columns
    noise = 1 / length  # power of the coefficient of white noise
    assert found["evoked"][0, 1] == pytest.approx(0.2**2, rel=0.15)
    assert found["induced"][0, 1] == pytest.approx(noise, rel=0.2)
    assert found["induced"][1, 1] == pytest.approx(0.4**2 + noise, rel=0.1)
    assert found["itpc"][1, 1] < 0.2 < 0.5 < found["itpc"][0, 1]
    assert found["total"][0, 0] == pytest.approx(noise, rel=0.2)


def test_a_constant_unit_has_no_phase():
    rows = np.full((96, 1), 1234.5)
    values = finish(TagCoefficients(frequencies=(0.125, 0.37)), rows).columns
    assert np.isnan(values["itpc"][0, 0])
    assert values["evoked"][0, 0] < 1e-20


# Properties: batches, order, merging


cuts = st.lists(st.integers(1, 11), max_size=6)


@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
@settings(max_examples=12, deadline=None)
@given(cuts=cuts, merge_at=st.integers(1, 11), order=st.booleans(), bad=st.booleans())
def test_property_any_split_and_merge_gives_the_same_state(statistic, cuts, merge_at, order, bad):
    rows, batch = make_rows(), make_batch()
    if bad:
        rows[3, 1], rows[70, 0], rows[71, 4] = np.nan, np.inf, -np.inf
    whole = run(statistic, rows, batch)
    assert_same_state(run(statistic, rows, batch, cuts=cuts), whole)
    at = merge_at * LENGTH
    accumulator = Accumulator(statistic)
    parts = [
        run(statistic, rows[:at], batch.take(np.arange(at))),
        run(statistic, rows[at:], batch.take(np.arange(at, len(rows)))),
    ]
    one, two = reversed(parts) if order else parts
    before = {k: v.clone() for k, v in two.items()}
    accumulator.merge(one, two)
    assert_same_state(two, before, rtol=0)
    assert_same_state(one, whole)


@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
def test_property_order_of_trials_does_not_matter(statistic):
    rows, batch = make_rows(), make_batch()
    order = np.random.default_rng(3).permutation(12)
    index = (order[:, None] * LENGTH + np.arange(LENGTH)).ravel()
    moved = BatchInfo(
        batch.trial[index],
        batch.position[index],
        batch.token_id[index],
        codes={k: v[index] for k, v in batch.codes.items()},
    )
    assert_same_state(run(statistic, rows[index], moved), run(statistic, rows, batch))


@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
def test_state_is_as_its_layout_says_and_survives_a_checkpoint(statistic):
    rows, batch = make_rows(), make_batch()
    state = run(statistic, rows, batch)
    layout = statistic.layout(5, 3)
    assert {k: (tuple(v.shape), str(v.numpy().dtype)) for k, v in state.items()} == {
        k: (a.shape, a.dtype) for k, a in layout.items()
    }
    assert statistic.state_bytes(5, 3) == sum(v.nbytes for v in state.values())
    assert {k: v.shape for k, v in statistic.make_state(5, 3).items()} == {
        k: a.shape for k, a in layout.items()
    }
    restored = from_numpy({k: v.copy() for k, v in to_numpy(state).items()}, torch.device("cpu"))
    assert_same_state(restored, state, rtol=0)
    again = make_statistic(json.loads(json.dumps(statistic.to_dict())))
    assert again == statistic
    for table in again.finish(to_numpy(restored)):
        n = {len(v) for v in table.columns.values()}
        assert len(n) == 1
        assert table.dims.keys() == table.columns.keys()
        assert all(v.ndim == len(table.dims[k]) for k, v in table.columns.items())
        assert all(d[0] == table.axis for d in table.dims.values())
        assert all(v.dtype.kind in "bif" for v in table.columns.values())
        lengths = dict(
            p for k, v in table.columns.items() for p in zip(table.dims[k], v.shape, strict=True)
        )
        assert {k: len(v) for k, v in table.coords.items()}.items() <= lengths.items()
        json.dumps(table.saw, allow_nan=False)


@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
def test_a_state_without_samples_is_nan_and_merges_as_nothing(statistic):
    rows, batch = make_rows(), make_batch()
    empty = run(statistic, rows[:0], batch.take(np.arange(0)))
    for table in Accumulator(statistic).finish(empty):
        json.dumps(table.saw, allow_nan=False)
        for key in ("mean", "quantile", "evoked"):
            assert np.isnan(table.columns.get(key, np.nan)).all()
    state = run(statistic, rows, batch)
    before = {k: v.clone() for k, v in state.items()}
    Accumulator(statistic).merge(state, empty)
    assert_same_state(state, before, rtol=0)


@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
def test_special_tokens_are_left_out_and_counted(statistic):
    rows, batch = make_rows(), make_batch()
    special = batch.position == 0
    marked = BatchInfo(batch.trial, batch.position, batch.token_id, None, special, batch.codes)
    kept = np.flatnonzero(~special)
    without = run(statistic, rows, marked)
    assert without["seen"].tolist() == [84, 12, 12]
    plain = run_once(statistic, rows[kept], batch.take(kept))
    without["seen"] = plain["seen"]
    assert_same_state(without, plain)
    every = make_statistic({**statistic.to_dict(), "include_special": True})
    assert_same_state(run(every, rows, marked), run(every, rows, batch))


def run_once(statistic, rows, batch):
    accumulator = Accumulator(statistic)
    state = accumulator.make_state(SiteInfo(5, n_other=3))
    part = torch.as_tensor(rows)
    if statistic.scope == "sites":
        part = {"one": part, "two": torch.as_tensor(rows[:, :3] ** 2)}
    accumulator.update(state, part, batch)
    return state


# Values that are not finite


def test_nonfinite_values_are_left_out_unit_by_unit():
    rows = make_rows()
    rows[0, 0], rows[1, 0], rows[9, 2] = np.nan, np.inf, -np.inf
    clean = [rows[np.isfinite(rows[:, u]), u].astype(float) for u in range(5)]
    values = finish(Moments(), rows, cuts=(1,)).columns
    np.testing.assert_array_equal(values["n_nonfinite"], [2, 0, 1, 0, 0])
    np.testing.assert_array_equal(values["n"], [94, 96, 95, 96, 96])
    np.testing.assert_allclose(values["mean"], [c.mean() for c in clean], rtol=1e-12)
    np.testing.assert_allclose(values["variance"], [c.var() for c in clean], rtol=1e-12)
    np.testing.assert_array_equal(values["max"], [c.max() for c in clean])
    sparse = finish(Sparsity(), rows)
    np.testing.assert_array_equal(sparse.columns["n_events"], [(c > 0).sum() for c in clean])
    np.testing.assert_array_equal(sparse.columns["zero"], 0)
    quantiles = finish(Quantiles(q=0.5, bits=10), rows).columns
    np.testing.assert_allclose(
        quantiles["quantile"][:, 0], [np.median(c) for c in clean], rtol=1e-2
    )
    tags = finish(TagCoefficients(frequencies=(0.25,)), rows).columns
    np.testing.assert_array_equal(tags["n_nonfinite"], [1, 0, 1, 0, 0])  # trials
    good = np.delete(rows.reshape(12, LENGTH, 5)[..., 0], 0, 0).astype(float)
    expected = (np.fft.fft(good, axis=1) / LENGTH)[:, 2].mean()
    assert tags["real"][0, 0] + 1j * tags["imag"][0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "statistic", [s for s in EXAMPLES if s.name in ("gram", "token_counts", "rdm")], ids=repr
)
def test_samples_that_are_not_finite_are_left_out_whole(statistic):
    rows, batch = make_rows(), make_batch()
    rows[5, 3], rows[40, 1] = np.nan, np.inf
    state = run(statistic, rows, batch)
    kept = np.flatnonzero(np.isfinite(rows).all(1))
    clean = run_once(statistic, rows[kept], batch.take(kept))
    assert state.pop("n_nonfinite").tolist() == [2]
    del clean["n_nonfinite"]
    state["seen"] = clean["seen"]
    assert_same_state(state, clean)


def test_units_that_are_never_finite_are_nan_alone():
    rows = make_rows()
    rows[:, 2] = np.nan
    values = finish(Moments(order=4), rows).columns
    for key in ("mean", "variance", "min", "max", "skewness"):
        np.testing.assert_array_equal(np.isnan(values[key]), np.arange(5) == 2)


# Surprisal, two subjects, registry


def test_surprisal_takes_words_and_leaves_out_those_without_a_value():
    rows = np.array([[np.nan, np.nan, np.nan], [2, 3, 1], [4, 1, 7]])
    batch = BatchInfo(np.zeros(3, np.int64), np.arange(3))
    accumulator = Accumulator(Surprisal())
    state = accumulator.make_state(SiteInfo(VOCABULARY))
    accumulator.update(state, torch.tensor(rows), batch)
    (table,) = accumulator.finish(state)
    np.testing.assert_array_equal(table.columns["mean"], [3, 2, 4])
    np.testing.assert_array_equal(table.columns["n_nonfinite"], 1)
    assert list(table.coords["unit"]) == ["surprisal", "entropy", "rank"]
    accumulator.merge(state, {k: v.clone() for k, v in state.items()})
    np.testing.assert_array_equal(accumulator.finish(state)[0].columns["n"], 4)


def other_batch(ids, *, mask=None):
    n, length = ids.shape
    trial, position = np.repeat(np.arange(n), length), np.tile(np.arange(length), n)
    inputs = ((), {"input_ids": ids})
    batch = BatchInfo(trial, position, inputs=inputs, n_trials=n, n_positions=length, mask=mask)
    if mask is None:
        return batch
    keep = mask.ravel()
    return BatchInfo(
        trial[keep], position[keep], inputs=inputs, n_trials=n, n_positions=length, mask=mask
    )


def test_cross_covariance_shows_a_second_subject_the_same_tokens():
    one = netphys.load_subject(make_model("gpt2"))
    two = netphys.load_subject(make_model("llama"))
    ids = torch.randint(1, VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(0))
    mask = np.ones((3, 5), bool)
    mask[:, 0] = False
    statistic = CrossCovariance("transformer.h.1", "model.layers.0", other=two)
    accumulator = Accumulator(statistic)
    batch = other_batch(ids, mask=mask)
    assert accumulator.find_other_units(one, batch) == 16
    state = accumulator.make_state(SiteInfo(16, n_other=16))
    with torch.no_grad():
        x = one.model(input_ids=ids, output_hidden_states=True).hidden_states
        y = two.model(input_ids=ids, output_hidden_states=True).hidden_states
    x, y = x[1][:, 1:].reshape(-1, 16), y[1][:, 1:].reshape(-1, 16)
    hooks = [list(m._forward_hooks) for m in two.model.modules()]
    accumulator.update(state, {"transformer.h.1": x}, batch)
    assert [list(m._forward_hooks) for m in two.model.modules()] == hooks
    first, second = accumulator.finish(state)
    joint = np.cov(x.double().T.numpy(), y.double().T.numpy(), bias=True)
    np.testing.assert_allclose(first.columns["cross"], joint[:16, 16:], atol=1e-12)
    np.testing.assert_allclose(second.columns["covariance"], joint[16:, 16:], atol=1e-12)
    said = first.saw["options"]["other"]
    assert said == {"name": two.name, "init": "trained", "weights_sha256": two.compute_hash()}
    read = make_statistic(first.saw["options"])  # as from a file: enough for the algebra
    np.testing.assert_array_equal(
        read.finish(to_numpy(state))[0].columns["cross"], first.columns["cross"]
    )


def test_second_subject_must_read_the_same_tokens():
    subject = netphys.load_subject("builtin:language")
    twin = netphys.load_subject("builtin:language", init="random")
    batch = other_batch(torch.randint(1, 50, (2, 3)))
    same = Accumulator(CrossCovariance("transformer.h.0", "transformer.h.0", other=subject))
    with pytest.raises(ValueError, match="is the subject that is recorded"):
        same.find_other_units(subject, batch)
    paired = Accumulator(CrossCovariance("transformer.h.0", "transformer.h.0", other=twin))
    assert paired.find_other_units(subject, batch) > 0
    small = netphys.load_subject(make_model("gpt2"))
    few_tokens = Accumulator(CrossCovariance("transformer.h.0", "transformer.h.0", other=small))
    with pytest.raises(ValueError, match="knows 50 tokens"):
        few_tokens.find_other_units(subject, batch)
    minilm = netphys.load_subject("builtin:minilm")
    other = Accumulator(CrossCovariance("transformer.h.0", "encoder.layer.0", other=minilm))
    with pytest.raises(ValueError, match="has another vocabulary"):
        other.find_other_units(subject, batch)
    with pytest.raises(ValueError, match="needs the inputs of the batch"):
        paired.update({}, {"transformer.h.0": torch.zeros(1, 1)}, few([0])[1])
    with pytest.raises(ValueError, match=r"other_site='resid' names \d+ sites"):
        Accumulator(CrossCovariance("a", "resid", other=twin))
    with pytest.raises(TypeError, match="Give what load_subject returns"):
        Accumulator(CrossCovariance("a", "b", other={"name": "x"}))


def test_make_accumulators_takes_names_dicts_and_instances():
    made = make_accumulators(["moments", {"name": "gram", "center": False}, Quantiles(q=0.5)])
    assert [a.name for a in made] == ["moments", "gram", "quantiles"]
    assert [a.scope for a in made] == ["site"] * 3
    assert make_accumulators("sparsity")[0].to_dict()["threshold"] == 0
    assert "Moments(" in repr(make_accumulators("moments")[0])
    special = {"surprisal", "int8_error"}  # what recordings keep in their own way
    assert {s.name for s in EXAMPLES} | special == set(list_statistics())


def test_resolve_fills_in_the_conditions():
    accumulator = Accumulator(ConditionRDM()).resolve(SiteInfo(2, labels=LABELS))
    assert accumulator.to_dict()["labels"] == ["b", "a", "c"]
    assert accumulator.state_bytes(SiteInfo(2)) == 8 * (3 + 3 + 6 + 2)
    with pytest.raises(ValueError, match=r"by='group' is unknown. Choose one of: 'condition'"):
        Accumulator(ConditionRDM(by="group")).resolve(SiteInfo(2, labels=LABELS))
    with pytest.raises(ValueError, match="An RDM needs at least two"):
        Accumulator(ConditionRDM()).resolve(SiteInfo(2, labels={"condition": ["a"]}))
    with pytest.raises(ValueError, match="Call resolve"):
        Accumulator(ConditionRDM()).make_state(SiteInfo(2))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("momnets", ValueError, "Did you mean 'moments'"),
        (3, TypeError, "Give names, or statistics"),
        ({"name": "moments", "ordr": 4}, ValueError, "Did you mean 'order'"),
        ("token_counts", ValueError, r"cannot do without tokens. Give TokenCounts\(tokens=...\)"),
        ("cross_covariance", ValueError, "cannot do without site, other_site"),
        (["moments", "moments"], ValueError, "'moments' is given twice"),
    ],
)
def test_make_accumulators_says_what_is_wrong(given, error, message):
    with pytest.raises(error, match=message):
        make_accumulators(given)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Moments(order=3), ValueError, "order=3 is unknown. Choose one of: 2, 4"),
        (lambda: Moments(include_special=1), TypeError, "Give True or False"),
        (lambda: Sparsity(tolerance=-1), ValueError, "tolerance=-1 is out of range"),
        (lambda: Sparsity(threshold=np.inf), ValueError, "threshold=inf is not finite"),
        (lambda: Sparsity(threshold="a"), TypeError, "Give a number"),
        (lambda: Histogram(edges=(1, 0)), ValueError, "each larger than the last"),
        (lambda: Histogram(edges=3), TypeError, "is no sequence"),
        (lambda: Quantiles(q=(2,)), ValueError, "each from 0 to 1"),
        (lambda: Quantiles(bits=20), ValueError, "bits=20 is out of range"),
        (lambda: Quantiles(exponents=(3, 1)), ValueError, "the lower first"),
        (lambda: TokenCounts(tokens=0), ValueError, "tokens=0 is too small"),
        (lambda: TokenCounts(tokens=(1, 1)), ValueError, "each once"),
        (lambda: TokenCounts(tokens=(1.5,)), TypeError, "Give whole numbers"),
        (lambda: PositionCounts(max_position=-1), ValueError, "max_position=-1 is too small"),
        (lambda: Gram(center=2), TypeError, "Give True or False"),
        (lambda: ConditionRDM(metric="pearson"), ValueError, "use 'correlation'"),
        (lambda: TagCoefficients(frequencies=(0.7,)), ValueError, "from 0 to half of rate=1.0"),
        (lambda: TagCoefficients(frequencies=0.2, rate=0), ValueError, "Give a positive number"),
        (lambda: TagCoefficients(frequencies="a"), TypeError, "Give numbers"),
        (lambda: CrossCovariance("a", "a"), ValueError, r"use Gram\(\) for one site"),
        (lambda: CrossCovariance(1, "a"), TypeError, "Give the name of one site"),
        (lambda: CrossCovariance("a", "b").layout(3), ValueError, "n_other=0"),
        (lambda: Accumulator("moments"), TypeError, r"Give a statistic such as Moments\(\)"),
        (
            lambda: Accumulator(Moments()).make_state(SiteInfo(2, torch.device("mps"))),
            ValueError,
            "'mps' has no float64",
        ),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_updates_say_what_a_batch_lacks():
    batch = BatchInfo(np.zeros(2, np.int64), np.arange(2))
    rows = torch.zeros(2, 5)
    cases = [
        (TokenCounts(tokens=3), rows, "token_counts needs token ids"),
        (ConditionRDM(labels=("a", "b")), rows, "by='condition' is no column"),
        (CrossCovariance("one", "two"), {"one": rows}, "needs the site 'two'"),
        (CrossCovariance("one", "two"), {"one": rows, "two": rows[:1, :3]}, "on one clock"),
    ]
    for statistic, given_rows, message in cases:
        accumulator = Accumulator(statistic)
        state = accumulator.make_state(SiteInfo(5, n_other=3))
        with pytest.raises(ValueError, match=message):
            accumulator.update(state, given_rows, batch)


def test_merge_refuses_another_shape():
    with pytest.raises(ValueError, match="Merge states of one statistic"):
        Moments().merge(Moments().make_state(3), Moments().make_state(4))


def test_statistics_merge_and_finish_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from netphys.core.online import *\n"
        "m = make_statistic({'name': 'moments', 'order': 4}); s = m.make_state(2)\n"
        "m.merge(s, m.make_state(2)); print(m.finish(s)[0].columns['n'].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[0, 0]", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("statistic", EXAMPLES, ids=repr)
def test_states_on_a_gpu_are_those_of_the_cpu(statistic):
    rows, batch = make_rows(), make_batch()
    accumulator = Accumulator(statistic)
    state = accumulator.make_state(SiteInfo(5, torch.device("cuda"), 3))
    part = torch.as_tensor(rows).cuda()
    if statistic.scope == "sites":
        part = {"one": part, "two": torch.as_tensor(rows[:, :3] ** 2).cuda()}
    accumulator.update(state, part, batch)
    here = {k: v.cpu() for k, v in state.items()}
    assert_same_state(here, run(statistic, rows, batch))


# A subject at work


def test_online_statistics_of_a_stream_are_those_of_the_activations():
    from netphys.recording.capture import Capture, hold_still
    from netphys.recording.sites import select_sites
    from netphys.recording.stream import stream_batches

    subject = netphys.load_subject("builtin:language")
    texts = list(netphys.load_stimuli("builtin:sentences").table["text"])
    name, kept = "transformer.h.2", []
    handle = subject.model.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: kept.append(
            (output[0] if isinstance(output, tuple) else output).reshape(-1, output.shape[-1])
        )
    )
    with torch.no_grad():
        for text in texts:
            subject.model(**subject.tokenizer(text, return_tensors="pt"))
    handle.remove()
    stored = torch.cat(kept).double().numpy()
    accumulators = make_accumulators(["moments", "gram", Quantiles(q=(0.1, 0.9))])
    states = [a.make_state(SiteInfo(stored.shape[1])) for a in accumulators]
    rows = {}

    def take(site, value):
        rows[site.name] = value.reshape(-1, value.shape[-1])

    with (
        hold_still(subject.model),
        Capture(subject.model, select_sites(subject.model, [name]), take) as capture,
    ):
        for batch in stream_batches(subject, iter(texts), window=32, look_ahead=20):
            args, kwargs = batch.make_inputs(subject)
            capture.start()
            subject.model(*args, **kwargs)
            capture.check()
            for accumulator, state in zip(accumulators, states, strict=True):
                accumulator.update(state, rows[name], batch.describe_rows())
    moments, gram, quantiles = (a.finish(s)[0] for a, s in zip(accumulators, states, strict=True))
    assert moments.saw["n_samples"] == len(stored)
    assert moments.saw["n_trials"] == len(texts)
    np.testing.assert_allclose(moments.columns["mean"], stored.mean(0), atol=1e-5)
    np.testing.assert_allclose(moments.columns["variance"], stored.var(0), rtol=1e-4)
    np.testing.assert_allclose(gram.columns["covariance"], np.cov(stored.T, bias=True), atol=1e-4)
    true = np.quantile(stored, (0.1, 0.9), axis=0).T
    assert (quantiles.columns["low"] <= true + 1e-5).all()
    assert (true <= quantiles.columns["high"] + 1e-5).all()


def test_surprisal_of_a_stream_needs_no_stored_activation():
    from netphys.recording.meter import SurprisalMeter
    from netphys.recording.stream import stream_batches
    from netphys.recording.surprisal import compute_surprisal

    subject = netphys.load_subject("builtin:language")
    texts = ["The dog barked.", "Two cats slept on the chair.", "He went home."]
    meter, accumulator = SurprisalMeter(subject), Accumulator(Surprisal())
    state = accumulator.make_state(SiteInfo(3))
    for batch in stream_batches(subject, texts, window=16):
        _, kwargs = batch.make_inputs(subject)
        with torch.no_grad():
            logits = subject.model(**kwargs).logits
        scores = meter.score(batch.ids, batch.word, logits)
        info = BatchInfo(batch.trial[scores.trial], scores.position)
        accumulator.update(state, torch.from_numpy(scores.values), info)
    (table,) = accumulator.finish(state)
    expected = compute_surprisal(subject, netphys.load_stimuli(texts), progress=False)
    for i, unit in enumerate(table.coords["unit"]):
        values = expected[unit].dropna()
        assert table.columns["n"][i] == len(values) == 9
        assert table.columns["mean"][i] == pytest.approx(values.mean(), rel=1e-6)
        assert table.columns["std"][i] == pytest.approx(values.std(ddof=0), rel=1e-5)
    assert table.saw["n_samples"] == 12
    assert table.columns["n_nonfinite"].tolist() == [3, 3, 3]
