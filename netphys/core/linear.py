"""Ridge regression in its dual form: one small eigendecomposition, then only matrix products.

Predictions need no weights, so memory does not grow with features times targets. Nuisance
regressors (the intercept among them) are fitted jointly and not penalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from netphys.core.folds import Folds, make_folds

# In units of the mean eigenvalue of the kernel, so that they mean the same for any features.
ALPHAS = tuple(10.0**k for k in range(-2, 5))


class RidgePredictions(NamedTuple):
    """What nested cross-validation gives.

    Attributes
    ----------
    prediction : ndarray, shape (n_samples, n_targets)
        Prediction of every sample by the fold that did not train on it; NaN outside all test sets.
    alpha : ndarray of int, shape (n_folds, n_targets)
        Which of `alphas` was chosen.
    candidate : ndarray of int, shape (n_folds, n_targets)
        Which of the feature sets was chosen.
    """

    prediction: np.ndarray
    alpha: np.ndarray
    candidate: np.ndarray


def predict_ridge(
    kernel: np.ndarray,
    y: np.ndarray,
    *,
    train: np.ndarray,
    test: np.ndarray,
    alphas: Sequence[float] = ALPHAS,
    nuisance: np.ndarray | None = None,
    drift: np.ndarray | None = None,
) -> np.ndarray:
    """Fit ridge regression on some samples and predict others, for every penalty.

    Parameters
    ----------
    kernel : ndarray, shape (n_samples, n_samples)
        Inner products of the samples' features.
    y : ndarray, shape (n_samples, n_targets)
        Targets.
    train, test : ndarray of int
        Rows to fit on, rows to predict.
    alphas : sequence of float, length n_alphas
        Penalties in units of the kernel's mean eigenvalue on the training rows, once what the
        nuisance explains is taken out.
    nuisance : ndarray, shape (n_samples, n_nuisance), optional
        Regressors fitted jointly without penalty. An intercept is always among them.
    drift : ndarray, shape (n_samples, n_drift), optional
        Fitted like the nuisance, but no part of the prediction; see `cross_validate_ridge`.

    Returns
    -------
    prediction : ndarray, shape (n_alphas, n_test, n_targets)
        By features and nuisance together.

    Notes
    -----
    With M the projection off the nuisance Z on the training rows, the weights of the samples are
    c = (M K M + alpha I)^-1 M y, and the nuisance is refitted to what the features leave.

    References
    ----------
    .. [1] Saunders C, Gammerman A, Vovk V (1998). Ridge regression learning algorithm in dual
       variables. ICML, 515-521.
    .. [2] Dupré la Tour T et al. (2022). NeuroImage 264:119728.
       doi:10.1016/j.neuroimage.2022.119728

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [5.0], [0.0]])
    >>> train, test = np.arange(3), np.array([3])
    >>> predict_ridge(x @ x.T, y, train=train, test=test, alphas=[1e-9]).round(6)
    array([[[7.]]])
    """
    system = _Dual(kernel, train, test, nuisance, drift)
    return system.predict_all(y[train], alphas)


def cross_validate_ridge(
    features: Sequence[np.ndarray],
    y: np.ndarray,
    *,
    folds: Folds,
    n_inner: int = 4,
    gap: int = 0,
    groups: np.ndarray | None = None,
    alphas: Sequence[float] = ALPHAS,
    nuisance: np.ndarray | None = None,
    drift: np.ndarray | None = None,
    scale: bool = True,
) -> RidgePredictions:
    """Predict every target with the feature set and the penalty that inner folds choose for it.

    Parameters
    ----------
    features : sequence of ndarray, each of shape (n_samples, n_features)
        Feature sets to choose from, such as the layers of a network.
    y : ndarray, shape (n_samples, n_targets)
        Targets; feature set and penalty are chosen for each one on its own.
    folds : list of (train, test)
        Outer folds (`netphys.core.folds.make_folds`).
    n_inner : int
        Contiguous folds that each outer training set is cut into.
    gap : int
        Gap of the inner folds in samples.
    groups : ndarray, shape (n_samples,), optional
        Groups that inner folds keep whole.
    alphas : sequence of float
        Penalties in units of the mean eigenvalue.
    nuisance : ndarray, shape (n_samples, n_nuisance), optional
        Regressors fitted jointly without penalty; an intercept is always among them.
    drift : ndarray, shape (n_samples, n_drift), optional
        What a high-pass filter took out of the whole series, fitted like the nuisance, but no part
        of the prediction. Without it training rows tell what the filter made of the test rows: the
        products of a filtered series with each of these columns add up to zero.
    scale : bool
        Bring each feature to unit variance over the training rows.

    Returns
    -------
    predictions : RidgePredictions
        Predictions, and what was chosen. Inner folds choose the least mean squared error.
    """
    n_targets, n_folds = y.shape[1], len(folds)
    prediction = np.full(y.shape, np.nan)
    chosen_alpha = np.zeros((n_folds, n_targets), int)
    chosen_set = np.zeros((n_folds, n_targets), int)
    for k, (train, test) in enumerate(folds):
        inner = make_folds(train, n_folds=n_inner, gap=gap, groups=groups)
        # scaled by the outer training rows, also for the inner folds: nothing tested is seen
        kernels = [make_kernel(x, train, scale=scale) for x in features]
        known = y if drift is None else _take_out(drift, y, train)
        loss = [_compute_loss(kernel, known, inner, alphas, nuisance, drift) for kernel in kernels]
        best = np.argmin(np.reshape(loss, (-1, n_targets)), axis=0)
        chosen_set[k], chosen_alpha[k] = np.divmod(best, len(alphas))
        for s in np.unique(chosen_set[k]):
            mine = np.flatnonzero(chosen_set[k] == s)
            system = _Dual(kernels[s], train, test, nuisance, drift)
            penalty = np.asarray(alphas)[chosen_alpha[k, mine]]
            prediction[np.ix_(test, mine)] = system.predict(y[np.ix_(train, mine)], penalty)
    return RidgePredictions(prediction, chosen_alpha, chosen_set)


def predict_linear(
    regressors: np.ndarray | None,
    y: np.ndarray,
    *,
    train: np.ndarray,
    test: np.ndarray,
    drift: np.ndarray | None = None,
) -> np.ndarray:
    """Fit intercept and regressors by least squares on some samples and predict others.

    Parameters
    ----------
    regressors : ndarray, shape (n_samples, n_regressors), or None
        None: the intercept alone.
    y : ndarray, shape (n_samples, n_targets)
        Targets.
    train, test : ndarray of int
        Rows to fit on, rows to predict.
    drift : ndarray, shape (n_samples, n_drift), optional
        Fitted with the regressors, but no part of the prediction.

    Returns
    -------
    prediction : ndarray, shape (n_test, n_targets)
        By the regressors.
    """
    z_train, z_test = _make_design(len(y), train, test, regressors, drift)
    return z_test @ (linalg.pinv(z_train) @ y[train])


def make_kernel(x: np.ndarray, train: np.ndarray, *, scale: bool = True) -> np.ndarray:
    """Compute inner products of samples, features centred and scaled by the training rows.

    Parameters
    ----------
    x : ndarray, shape (n_samples, n_features)
        Features.
    train : ndarray of int
        Rows that give mean and standard deviation; a feature that is constant there is left out.
    scale : bool
        Divide by the standard deviation.

    Returns
    -------
    kernel : ndarray, shape (n_samples, n_samples)
        In units of one feature (divided by their number).
    """
    x = np.asarray(x, np.float64)
    largest = np.abs(x).max(axis=0, initial=0)
    x = x - x[train].mean(axis=0)
    if scale:
        deviation = x[train].std(axis=0)
        varies = deviation > 1e-10 * np.maximum(largest, 1e-300)
        x = x[:, varies] / deviation[varies]
    return x @ x.T / max(1, x.shape[1])


def _take_out(drift: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Take drift out of the training rows: inner test rows know nothing of the outer ones."""
    slow = drift[train] - drift[train].mean(axis=0)
    known = np.array(y, np.float64)
    known[train] -= slow @ (linalg.pinv(slow) @ y[train])
    return known


def _compute_loss(
    kernel: np.ndarray,
    y: np.ndarray,
    inner: Folds,
    alphas: Sequence[float],
    nuisance: np.ndarray | None,
    drift: np.ndarray | None,
) -> np.ndarray:
    """Return the squared error over all inner test sets, (n_alphas, n_targets)."""
    loss = np.zeros((len(alphas), y.shape[1]))
    for train, test in inner:
        guess = _Dual(kernel, train, test, nuisance, drift).predict_all(y[train], alphas)
        guess -= y[test]
        loss += np.einsum("atv,atv->av", guess, guess)
    return loss


class _Dual:
    """One split of samples, decomposed; predictions for any targets and penalties follow."""

    def __init__(
        self,
        kernel: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        nuisance: np.ndarray | None,
        drift: np.ndarray | None,
    ):
        self._z_train, self._z_test = _make_design(len(kernel), train, test, nuisance, drift)
        self._fit = linalg.pinv(self._z_train)  # nuisance weights from targets
        k_train = kernel[np.ix_(train, train)]
        inside = self._project(self._project(k_train).T)
        across = kernel[np.ix_(test, train)] - self._z_test @ (self._fit @ k_train)
        values, vectors = linalg.eigh((inside + inside.T) / 2, driver="evd")
        values = np.maximum(values, 0)
        # what the nuisance explains already leaves rounding, which is no feature
        keep = values > 1e-10 * max(np.trace(k_train) / len(train), 1e-300)
        self._unit = values.mean() if keep.any() else 1.0
        self._values, self._vectors = values[keep], vectors[:, keep]
        self._across = self._project(across.T).T @ self._vectors

    def _project(self, x: np.ndarray) -> np.ndarray:
        """Take out of `x` what the nuisance explains on the training rows."""
        return x - self._z_train @ (self._fit @ x)

    def predict(self, y: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Predict with one penalty per target."""
        weight = self._vectors.T @ y / (self._values[:, None] + self._unit * alpha)
        return self._z_test @ (self._fit @ y) + self._across @ weight

    def predict_all(self, y: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
        """Predict with every penalty, one matrix product for all."""
        shrunk = [self._across / (self._values + self._unit * a) for a in alphas]
        features = np.concatenate(shrunk) @ (self._vectors.T @ y)
        features = features.reshape(len(alphas), len(self._z_test), y.shape[1])
        return features + self._z_test @ (self._fit @ y)


def _make_design(
    n: int,
    train: np.ndarray,
    test: np.ndarray,
    nuisance: np.ndarray | None,
    drift: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return unpenalised regressors of training and test rows; drift is zero in the latter."""
    z = np.ones((n, 1)) if nuisance is None else _add_intercept(nuisance)
    if drift is None:
        return z[train], z[test]
    # centred on the training rows, so that the intercept stays the level of the prediction
    slow = drift[train] - drift[train].mean(axis=0)
    nothing = np.zeros((len(test), drift.shape[1]))
    return np.hstack([z[train], slow]), np.hstack([z[test], nothing])


def _add_intercept(nuisance: np.ndarray) -> np.ndarray:
    """Put a constant beside the nuisance, whose columns are brought to one size."""
    raw = np.asarray(nuisance, np.float64)
    z = raw - raw.mean(axis=0)
    size = np.sqrt((z * z).mean(axis=0))
    varies = size > 1e-10 * np.abs(raw).max(axis=0, initial=0)
    return np.column_stack([np.ones(len(z)), z[:, varies] / size[varies]])
