"""Ridge in dual form: by hand, against scikit-learn, planted and empty data."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys.brain.oasm import make_oasm
from netphys.core.folds import make_folds
from netphys.core.hemodynamics import make_drift
from netphys.core.linear import (
    cross_validate_ridge,
    make_kernel,
    predict_linear,
    predict_ridge,
)


def draw(seed=0, n=60, d=30, k=3):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(n, d)), rng.normal(size=(n, k))
    return rng, x, z, np.arange(n - 15), np.arange(n - 15, n)


def mean_eigenvalue(kernel, z, train):
    """Unit of the penalties: mean eigenvalue of the kernel off the nuisance."""
    z = np.column_stack([np.ones(len(kernel)), z])[train]
    m = np.eye(len(train)) - z @ np.linalg.pinv(z)
    return np.linalg.eigvalsh(m @ kernel[np.ix_(train, train)] @ m).mean()


def test_predict_ridge_by_hand():
    """One centred feature -1, 0, 1 with y = 3 x: weight 6 / (2 + alpha), kernel mean 2 / 3."""
    x, y = np.array([[-1.0], [0.0], [1.0], [2.0]]), np.array([[-3.0], [0.0], [3.0], [0.0]])
    train, test = np.arange(3), np.array([3])
    guess = predict_ridge(x @ x.T, y, train=train, test=test, alphas=[3.0, 30.0])
    np.testing.assert_allclose(guess[:, 0, 0], [2 * 6 / (2 + 2), 2 * 6 / (2 + 20)])


def test_reference_predict_ridge_agrees_with_scikit_learn():
    from sklearn.linear_model import Ridge

    rng, x, _, train, test = draw()
    y = rng.normal(size=(60, 4))
    kernel = x @ x.T
    unit = mean_eigenvalue(kernel, np.empty((60, 0)), train)
    guess = predict_ridge(kernel, y, train=train, test=test, alphas=[0.01, 1.0, 100.0])
    for alpha, own in zip([0.01, 1.0, 100.0], guess, strict=True):
        theirs = Ridge(alpha=alpha * unit).fit(x[train], y[train]).predict(x[test])
        np.testing.assert_allclose(own, theirs, atol=1e-9)


def test_reference_nuisance_is_fitted_jointly_and_not_penalised():
    """The same as normal equations with a penalty of zero on the nuisance columns."""
    rng, x, z, train, test = draw()
    y = rng.normal(size=(60, 2)) + 5 * z[:, :1]
    kernel = x @ x.T
    guess = predict_ridge(kernel, y, train=train, test=test, alphas=[0.1, 10.0], nuisance=z)
    unit = mean_eigenvalue(kernel, z, train)
    every = np.column_stack([np.ones(60), z, x])
    for alpha, own in zip([0.1, 10.0], guess, strict=True):
        penalty = np.diag([0.0] * 4 + [alpha * unit] * 30)
        normal = every[train].T @ every[train] + penalty
        weight = np.linalg.solve(normal, every[train].T @ y[train])
        np.testing.assert_allclose(own, every[test] @ weight, atol=1e-9)


def test_huge_penalty_leaves_the_nuisance_alone():
    rng, x, z, train, test = draw()
    y = rng.normal(size=(60, 2))
    guess = predict_ridge(x @ x.T, y, train=train, test=test, alphas=[1e12], nuisance=z)[0]
    only = predict_linear(z, y, train=train, test=test)
    np.testing.assert_allclose(guess, only, atol=1e-8)
    mean = predict_linear(None, y, train=train, test=test)
    np.testing.assert_allclose(mean, np.broadcast_to(y[train].mean(axis=0), (15, 2)))


def test_make_kernel_scales_by_the_training_rows_only():
    x = np.array([[0.0, 5.0], [2.0, 5.0], [9.0, 5.0]])
    kernel = make_kernel(x, np.array([0, 1]))
    np.testing.assert_allclose(kernel, np.outer([-1, 1, 8], [-1, 1, 8]))  # constant one left out


def test_cross_validate_ridge_finds_the_planted_feature_set_for_each_target():
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(200, 20)) for _ in range(3)]
    y = np.column_stack([s @ rng.normal(size=20) for s in sets]) + 0.5 * rng.normal(size=(200, 3))
    folds = make_folds(200, n_folds=4)
    fit = cross_validate_ridge(sets, y, folds=folds)
    assert (fit.candidate == [0, 1, 2]).all()
    assert all(np.corrcoef(fit.prediction[:, k], y[:, k])[0, 1] > 0.9 for k in range(3))


def test_cross_validate_ridge_never_sees_what_it_predicts():
    """Changing a test set's data changes no prediction of that test set."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 10)), rng.normal(size=(80, 2))
    folds = make_folds(80, n_folds=4, gap=2)
    before = cross_validate_ridge([x, x[:, :3]], y, folds=folds, gap=2)
    changed = y.copy()
    changed[folds[1][1]] = 1e6
    after = cross_validate_ridge([x, x[:, :3]], changed, folds=folds, gap=2)
    np.testing.assert_array_equal(before.prediction[folds[1][1]], after.prediction[folds[1][1]])
    assert not np.isnan(before.prediction).any()


def test_cross_validate_ridge_of_noise_predicts_nothing():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(150, 40)), rng.normal(size=(150, 200))
    fit = cross_validate_ridge([x], y, folds=make_folds(150, n_folds=5))
    r = [np.corrcoef(fit.prediction[:, k], y[:, k])[0, 1] for k in range(200)]
    assert np.mean(r) < 0.02
    assert (fit.alpha == 6).mean() > 0.3  # the largest penalty is chosen most


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_property_predictions_do_not_depend_on_the_features_unit(seed, unit):
    rng, x, z, train, test = draw(seed, d=8)
    y = rng.normal(size=(60, 2))
    first, second = (
        predict_ridge(k, y, train=train, test=test, nuisance=z) for k in (x @ x.T, unit * x @ x.T)
    )
    np.testing.assert_allclose(first, second, atol=1e-7)


def test_drift_keeps_training_rows_from_telling_what_a_filter_made_of_test_rows():
    """White noise, filtered, predicted from features that know only neighbours: nothing is there.

    Without the drift regressors the low frequencies of the test rows leak through the filter.
    """
    rng = np.random.default_rng(0)
    n, n_series = 200, 300
    drift = make_drift(n, tr=2.0, cutoff=64.0)
    off = np.eye(n) - drift @ drift.T
    y = off @ rng.normal(size=(n, n_series))
    kernel = off @ make_oasm(n, sigma=4.0) @ off
    train, test = make_folds(n, n_folds=5, gap=20)[2]
    r = {}
    for name, slow in (("leaks", None), ("clean", drift[:, 1:])):
        guess = predict_ridge(kernel, y, train=train, test=test, alphas=[100.0], drift=slow)[0]
        pairs = zip(guess.T, y[test].T, strict=True)
        r[name] = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert r["leaks"] > 0.04
    assert abs(r["clean"]) < 0.03
