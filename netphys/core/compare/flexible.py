"""Models that are fitted before they are compared: one of several RDMs, or a mixture of them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from netphys._check import check_option
from netphys.core.compare.quadratic import Quadratic
from netphys.core.compare.ranked import Ranked

MIXED = ("weighted", "interpolated")
RULES = ("selected", *MIXED)


def fit_mixture(
    engine: Quadratic | Ranked,
    weights: np.ndarray,
    people: np.ndarray,
    index: np.ndarray,
    *,
    rule: str,
) -> np.ndarray:
    """Fit weights of component RDMs in every sample.

    Parameters
    ----------
    engine : Quadratic or Ranked
        Of `open_engine`, with components.
    weights : ndarray, shape (n_samples, n_conditions)
        How often each condition counts in the fit.
    people : ndarray, shape (n_samples, n_fits, n_data)
        How often each participant does; any number of fits per sample.
    index : ndarray of int, shape (n_mixed,)
        Which of the engine's components are mixed.
    rule : str
        "weighted": non-negative weights of all. "interpolated": of two neighbours in the order of
        `index`. For the best one alone see `select_component`.

    Returns
    -------
    theta : ndarray, shape (n_samples, n_fits, n_mixed)
        Weights, >= 0; all 0 where no mixture resembles the data, NaN where nothing can be fitted.

    Raises
    ------
    ValueError
        If the rule is unknown.

    Notes
    -----
    Weights are those of least squares, in the metric of the method, to the pool of the
    participants: they maximise the similarity with the pool for methods that are cosines of some
    kind. For rank methods the pool is that of ranks, and the metric Pearson's.

    References
    ----------
    .. [1] Khaligh-Razavi SM, Kriegeskorte N (2014). PLoS Comput Biol 10:e1003915.
       doi:10.1371/journal.pcbi.1003915
    """
    check_option("rule", rule, MIXED)
    quadratic = engine.fitted if isinstance(engine, Ranked) else engine
    n_data, at = quadratic.n_data, quadratic.components[index]
    cross, _, scale = quadratic.measure(weights)
    pool = np.where(people > 0, people / scale[:, None], 0.0)
    target = np.einsum("ngd,ndf->ngf", pool, cross[:, :n_data, at])
    gram = cross[:, n_data + np.asarray(index)][:, :, at]
    fit = _fit_weights if rule == "weighted" else _fit_neighbours
    return np.stack(
        [np.stack([fit(g, one) for one in t]) for g, t in zip(gram, target, strict=True)]
    )


def compare_mixture(
    engine: Quadratic | Ranked, weights: np.ndarray, index: np.ndarray, theta: np.ndarray
) -> np.ndarray:
    """Compare mixtures of components with the data in every sample.

    Parameters
    ----------
    engine : Quadratic or Ranked
        Of `open_engine`, with components.
    weights : ndarray, shape (n_samples, n_conditions)
        How often each condition counts.
    index : ndarray of int, shape (n_mixed,)
        Which of the engine's components are mixed.
    theta : ndarray, shape (n_samples, n_fits, n_mixed)
        Of `fit_mixture`.

    Returns
    -------
    similarity : ndarray, shape (n_samples, n_fits, n_data)
        0 for a mixture of nothing; NaN where it is constant or was not fitted.
    """
    nothing = (theta == 0).all(axis=-1, keepdims=True)
    if isinstance(engine, Ranked):
        found = engine.compare_rows(theta @ engine.models[engine.mixed[index]], weights)
        return np.where(nothing, 0.0, found)
    cross, square, _ = engine.measure(weights)
    at, n_data = engine.components[index], engine.n_data
    gram = cross[:, n_data + np.asarray(index)][:, :, at]
    own = np.einsum("ngf,nfh,ngh->ng", theta, gram, theta)
    found = np.einsum("ngf,ndf->ngd", theta, cross[:, :n_data, at])
    own = np.where(own > 0, own, np.nan)
    similarity = np.clip(found / np.sqrt(own[..., None] * square[:, None, :n_data]), -1, 1)
    return np.where(nothing, 0.0, similarity)


def select_component(scores: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Choose the component with the best mean over the participants of each fit.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, n_mixed, n_data)
        Similarity of each component with each participant.
    people : ndarray, shape (n_samples, n_fits, n_data)
        How often each participant counts.

    Returns
    -------
    theta : ndarray, shape (n_samples, n_fits, n_mixed)
        1 for that component; NaN where none has a score.
    """
    finite = np.isfinite(scores)
    total = np.einsum("nfd,ngd->ngf", np.where(finite, scores, 0.0), people)
    unknown = np.einsum("nfd,ngd->ngf", ~finite, people) > 0
    theta = np.zeros(total.shape)
    best = np.where(unknown, -np.inf, total).argmax(axis=-1)
    np.put_along_axis(theta, best[..., None], 1.0, axis=-1)
    theta[unknown.all(axis=-1)] = np.nan
    return theta


def _fit_weights(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the non-negative weights of least squares, from products alone."""
    if not (np.isfinite(gram).all() and np.isfinite(target).all()):
        return np.full(len(target), np.nan)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 1e-12 * max(values[-1], 1e-300))
    half = vectors * np.sqrt(values)
    theta, _ = nnls(half.T, (vectors / np.sqrt(values)).T @ target)
    return theta


def _fit_neighbours(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the best weights that two neighbours alone carry."""
    best, found = -np.inf, np.zeros(len(target))
    for k in range(len(target) - 1):
        two = slice(k, k + 2)
        theta = _fit_weights(gram[two, two], target[two])
        if not np.isfinite(theta).all():
            return np.full(len(target), np.nan)
        if not theta.any():
            continue
        similarity = theta @ target[two] / np.sqrt(theta @ gram[two, two] @ theta)
        if similarity > best:
            best, found = similarity, np.zeros(len(target))
            found[two] = theta
    return found
