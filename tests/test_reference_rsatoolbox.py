"""The values of rsatoolbox 0.3.2 where it is right, and the right ones where it is not."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import xarray as xr

from netphys.analysis.rsa import compute_rdm
from netphys.brain.datasets import load_brain
from netphys.core.compare import compare_moments, compare_pairs
from netphys.core.compare.pools import Pools
from netphys.core.compare.weighted import compare_samples, measure_ceiling, open_engine
from netphys.core.distance import compute_precision, compute_residuals

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import rsatoolbox
    import rsatoolbox.data.noise
    import rsatoolbox.rdm
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

N_RUNS, N_CONDITIONS, N_UNITS = 4, 6, 12


@pytest.fixture(scope="module")
def x() -> xr.DataArray:
    """Positive counts, sorted by run and condition as rsatoolbox would sort them."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(4, size=(N_CONDITIONS, N_UNITS))
    values = rng.poisson(np.tile(rates, (N_RUNS, 1))) + 0.5 * rng.random((24, N_UNITS))
    coords = {
        "stimulus_id": ("trial", [f"c{k}" for k in np.tile(np.arange(N_CONDITIONS), N_RUNS)]),
        "run": ("trial", np.repeat(np.arange(N_RUNS), N_CONDITIONS)),
    }
    return xr.DataArray(values, coords, ("trial", "unit"))


def calc_rdm(data, metric: str, **options) -> np.ndarray:
    """Return one RDM of rsatoolbox, whose warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rsatoolbox.rdm.calc_rdm(data, metric, **options).get_matrices()[0]


def to_dataset(x: xr.DataArray):
    descriptors = {"cond": x["stimulus_id"].to_numpy(), "run": x["run"].to_numpy()}
    return rsatoolbox.data.Dataset(x.to_numpy(), obs_descriptors=descriptors)


def make_precisions(n: int) -> np.ndarray:
    half = np.random.default_rng(1).normal(size=(n, N_UNITS, N_UNITS))
    return half @ half.transpose(0, 2, 1) + N_UNITS * np.eye(N_UNITS)


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "poisson"])
def test_reference_distances(x, metric):
    theirs = calc_rdm(to_dataset(x), metric, descriptor="cond")
    own = compute_rdm(x, metric=metric).data
    np.testing.assert_allclose(own, theirs, atol=1e-10)


def test_reference_mahalanobis(x):
    (noise,) = make_precisions(1)
    theirs = calc_rdm(to_dataset(x), "mahalanobis", descriptor="cond", noise=noise)
    own = compute_rdm(x, metric="mahalanobis", noise=noise).data
    np.testing.assert_allclose(own, theirs, atol=1e-10)


@pytest.mark.parametrize("noise", ["none", "one", "per run"])
def test_reference_crossnobis(x, noise):
    own = {"none": None, "one": make_precisions(1)[0], "per run": make_precisions(N_RUNS)}[noise]
    given = list(own) if noise == "per run" else own
    theirs = calc_rdm(
        to_dataset(x), "crossnobis", descriptor="cond", noise=given, cv_descriptor="run"
    )
    rdm = compute_rdm(x, metric="crossnobis", folds="run", noise=own)
    np.testing.assert_allclose(rdm.data, theirs, atol=1e-10)


def test_poisson_cv_is_not_that_of_the_last_fold_alone(x):
    theirs = calc_rdm(to_dataset(x), "poisson_cv", descriptor="cond", cv_descriptor="run")
    own = compute_rdm(x, metric="poisson-cv", folds="run").data.to_numpy()
    assert np.abs(own - theirs).max() > 0.1
    runs = x.to_numpy().reshape(N_RUNS, N_CONDITIONS, N_UNITS)
    folds = []
    for order in (np.roll(np.arange(N_RUNS), k) for k in range(N_RUNS)):
        turned = x.copy(data=runs[order].reshape(-1, N_UNITS))
        last = calc_rdm(to_dataset(turned), "poisson_cv", descriptor="cond", cv_descriptor="run")
        folds.append(last)
    np.testing.assert_allclose(own, np.mean(folds, axis=0), atol=1e-10)


@pytest.mark.parametrize("method", ["full", "diagonal", "shrink-identity", "shrink-diagonal"])
def test_reference_precision(method):
    residuals = np.random.default_rng(2).normal(size=(60, 7)) @ np.diag(np.arange(1.0, 8))
    names = {"diagonal": "diag", "shrink-identity": "shrinkage_eye"}
    name = names.get(method, method.replace("shrink-diagonal", "shrinkage_diag"))
    residuals -= residuals.mean(axis=0)
    theirs = rsatoolbox.data.noise.prec_from_residuals(residuals, method=name)
    np.testing.assert_allclose(compute_precision(residuals, method=method), theirs, rtol=1e-10)


def test_covariance_of_repeats_has_the_right_degrees_of_freedom(x):
    """rsatoolbox divides by (K - 1) R where K (R - 1) are free: here 1.11 x too small."""
    theirs = rsatoolbox.data.noise.cov_from_measurements(to_dataset(x), "cond", method="full")
    residuals, dof = compute_residuals(x.to_numpy(), np.tile(np.arange(N_CONDITIONS), N_RUNS))
    assert dof == N_CONDITIONS * (N_RUNS - 1)
    own = residuals.T @ residuals / dof
    wrong = (N_CONDITIONS - 1) * N_RUNS / (N_CONDITIONS * (N_RUNS - 1))
    np.testing.assert_allclose(own, theirs * wrong, rtol=1e-9)


def test_large_means_and_constant_patterns_do_no_harm():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4, 50)) + 1000).astype(np.float32)
    data = xr.DataArray(x, {"stimulus_id": ("trial", list("abcd"))}, ("trial", "unit"))
    theirs = calc_rdm(rsatoolbox.data.Dataset(x), "euclidean")
    right = ((x[:, None].astype(float) - x[None]) ** 2).mean(axis=-1)
    np.testing.assert_allclose(compute_rdm(data, metric="euclidean").data, right, rtol=1e-9)
    assert np.abs(theirs - right).max() > 0.01


# ---------------------------------------------------------------------- comparators and ceilings
THEIR_METHODS = {
    "cosine": "cosine",
    "pearson": "corr",
    "spearman": "spearman",
    "rho-a": "rho-a",
    "tau-a": "tau-a",
    "tau-b": "tau-b",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}


def make_rows(n: int, n_conditions: int = 10, seed: int = 0) -> np.ndarray:
    n_pairs = n_conditions * (n_conditions - 1) // 2
    rng = np.random.default_rng(seed)
    return (rng.gamma(2, size=n_pairs) + rng.gamma(2, size=(n, n_pairs))).round(1)


def call(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@pytest.mark.parametrize("method", THEIR_METHODS)
def test_reference_comparators(method):
    a, b = make_rows(3), make_rows(4, seed=1)
    theirs = call(rsatoolbox.rdm.compare, a, b, method=THEIR_METHODS[method])
    np.testing.assert_allclose(compare_pairs(a, b, method=method), theirs, atol=1e-10)


@pytest.mark.parametrize("method", THEIR_METHODS)
def test_reference_ceilings(method):
    rows = make_rows(5)
    rdms = rsatoolbox.rdm.RDMs(rows)
    theirs = call(boot_noise_ceiling, rdms, method=THEIR_METHODS[method])
    np.testing.assert_allclose(measure_ceiling(rows, method=method), theirs, atol=1e-10)


def test_whitening_by_variances_is_that_of_their_diagonal_covariance():
    """rsatoolbox gives two values for one noise; that of the covariance, to 1e-5, is right."""
    a, b = make_rows(2), make_rows(2, seed=1)
    noise = np.random.default_rng(0).gamma(2, size=10)
    full = call(rsatoolbox.rdm.compare, a, b, method="cosine_cov", sigma_k=np.diag(noise))
    single = call(rsatoolbox.rdm.compare, a, b, method="cosine_cov", sigma_k=noise)
    for given in (noise, np.diag(noise)):
        own = compare_pairs(a, b, method="whitened-cosine", noise=given)
        np.testing.assert_allclose(own, full, atol=1e-4)
    assert np.abs(own - single).max() > 0.003


def make_squares(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 7, 12))
    i, j = np.triu_indices(7, 1)
    return ((x[:, i] - x[:, j]) ** 2).sum(axis=-1)


def test_reference_second_moments():
    a, b = make_squares(2, 0), make_squares(2, 1)
    theirs = call(rsatoolbox.rdm.compare, a, b, method="bures")
    np.testing.assert_allclose(compare_moments(a, b), theirs, atol=1e-10)
    theirs = call(rsatoolbox.rdm.compare, a, b, method="neg_riem_dist")
    own = compare_moments(a, b, method="riemann")
    np.testing.assert_allclose(own, theirs, atol=1e-5)  # of their search; ours is the nearer
    assert (own >= theirs - 1e-9).all()


@pytest.mark.parametrize("method", [m for m in THEIR_METHODS if m != "tau-b"])
def test_reference_bootstrap_of_stimuli(method):
    """A sample with its copies as conditions of their own, as rsatoolbox draws it."""
    data, models = make_rows(4), make_rows(3, seed=1)
    weights = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=3)
    engine = open_engine(models, data, method=method)
    pools = Pools.make_ceiling(np.ones((3, 1, 4)))
    scores, pooled = compare_samples(engine, weights, pools=pools)
    bounds = pools.find_bounds(pooled)[:, 0]
    for w, own, bound in zip(weights, scores, bounds, strict=True):
        drawn = np.repeat(np.arange(10), w)
        a, b = (rsatoolbox.rdm.RDMs(x).subsample_pattern("index", drawn) for x in (models, data))
        theirs = call(rsatoolbox.rdm.compare, a, b, method=THEIR_METHODS[method])
        np.testing.assert_allclose(own, theirs, atol=1e-10)
        ceiling = call(boot_noise_ceiling, b, method=THEIR_METHODS[method])
        np.testing.assert_allclose(bound, ceiling, atol=1e-10)


@pytest.mark.slow
@pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")
@pytest.mark.parametrize("method", THEIR_METHODS)
def test_reference_human_it(method):
    """92 objects: scores of the 8 stored models, and the noise ceiling of the four people."""
    brain = load_brain("kriegeskorte2008")
    i, j = np.triu_indices(92, 1)
    people = brain["rdm"].transpose("participant", ...).to_numpy()[:, i, j]
    models = brain["model_rdm"].transpose("model", ...).to_numpy()[:, i, j]
    assert len(models) == 8
    theirs = call(rsatoolbox.rdm.compare, models, people, method=THEIR_METHODS[method])
    np.testing.assert_allclose(compare_pairs(models, people, method=method), theirs, atol=1e-10)
    ceiling = call(boot_noise_ceiling, rsatoolbox.rdm.RDMs(people), method=THEIR_METHODS[method])
    np.testing.assert_allclose(measure_ceiling(people, method=method), ceiling, atol=1e-10)
