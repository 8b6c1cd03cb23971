"""Similarity of RDMs in many bootstrap samples at once, without making a single sample.

A bootstrap of conditions weighs each pair by the product of how often its two conditions were
drawn; a condition drawn twice is not paired with itself. For similarities that are quotients of
quadratic forms, everything (scores, and both bounds of the noise ceiling) follows from the weighted
products of the RDMs; rank methods need one sort per RDM, and sums along it per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from netphys._check import check_option
from netphys._options import METHODS, RANKED, TAUS
from netphys.core.compare.pools import Pools
from netphys.core.compare.quadratic import Quadratic
from netphys.core.compare.ranked import Ranked
from netphys.core.parallel import map_threads


def open_engine(
    models: np.ndarray,
    data: np.ndarray,
    *,
    method: str,
    noise: np.ndarray | None = None,
    components: Sequence[int] = (),
) -> Quadratic | Ranked:
    """Prepare RDMs for being compared in many samples.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Dissimilarities, finite.
    data : ndarray, shape (n_data, n_pairs)
        Those they are compared with, one row per participant.
    method : str
        A method of `METHODS`.
    noise : ndarray, shape (n_conditions,), optional
        For whitened methods: variance of the noise of each condition.
    components : sequence of int
        Which of the models are mixed by `fit_mixture` and compared by `compare_mixture`.

    Returns
    -------
    engine : Quadratic or Ranked
        With a method `compare`.

    Raises
    ------
    ValueError
        If the method is unknown, sizes differ or a value is not finite.
    """
    check_option("method", method, METHODS)
    models, data = (np.atleast_2d(np.asarray(x, np.float64)) for x in (models, data))
    if models.shape[1] != data.shape[1]:
        raise ValueError(
            f"models have {models.shape[1]} pairs, data {data.shape[1]}. Give RDMs over the same "
            "conditions."
        )
    if not (np.isfinite(models).all() and np.isfinite(data).all()):
        raise ValueError("models or data hold NaN. Leave out the conditions or RDMs concerned.")
    if method in (*RANKED, *TAUS):
        return Ranked(models, data, method, components)
    return Quadratic(models, data, method, noise, components)


FEW = 64  # samples or pools that are not worth threads


class Samples(NamedTuple):
    """What RDMs of models and participants have in common in each bootstrap sample."""

    scores: np.ndarray  # (n_samples, n_models, n_data)
    pooled: np.ndarray | None  # (n_samples, n_pools): means over what each pool was tested on


def compare_samples(
    engine: Quadratic | Ranked, weights: np.ndarray, *, pools: Pools | None = None
) -> Samples:
    """Compare all RDMs in bootstrap samples, on all cores that the process may use.

    Parameters
    ----------
    engine : Quadratic or Ranked
        Of `open_engine`.
    weights : ndarray, shape (n_samples, n_conditions)
        How often each condition was drawn.
    pools : Pools, optional
        Mean RDMs to be compared with the data.

    Returns
    -------
    samples : Samples
        Similarities, those of the pools None where there are none.
    """
    if len(weights) == 1 and pools is not None and pools.weights.shape[1] > FEW:
        return _compare_pools(engine, weights, pools)
    if len(weights) <= FEW:
        return Samples(*engine.compare(weights, pools))
    step = max(1, min(64, -(-len(weights) // 8)))

    def compare(k: int) -> tuple[np.ndarray, np.ndarray | None]:
        part = slice(k, k + step)
        own = None if pools is None else Pools(pools.weights[part], pools.tests[part])
        return engine.compare(weights[part], own)

    scores, pooled = zip(*map_threads(compare, range(0, len(weights), step)), strict=True)
    return Samples(np.concatenate(scores), None if pools is None else np.concatenate(pooled))


def _compare_pools(engine: Quadratic | Ranked, weights: np.ndarray, pools: Pools) -> Samples:
    """Compare many pools in one sample of the conditions, a few at a time."""
    step = 4 * FEW

    def compare(k: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(k, k + step)
        return engine.compare(weights, Pools(pools.weights[:, part], pools.tests[:, part]))

    scores, pooled = zip(*map_threads(compare, range(0, pools.weights.shape[1], step)), strict=True)
    return Samples(scores[0], np.concatenate(pooled, axis=1))


def measure_ceiling(
    data: np.ndarray, *, method: str, noise: np.ndarray | None = None
) -> tuple[float, float]:
    """Return how well one RDM could at best fit those of all participants.

    Parameters
    ----------
    data : ndarray, shape (n_data, n_pairs)
        Dissimilarities of each participant.
    method : str
        A method of `METHODS`.
    noise : ndarray, optional
        Variance of the noise of each condition.

    Returns
    -------
    lower, upper : float
        Mean similarity with the pool of the others, and with the pool of all. `lower` is NaN for
        one participant.
    """
    engine = open_engine(data[:1], data, method=method, noise=noise)
    pools = Pools.make_ceiling(np.ones((1, 1, len(data))))
    _, pooled = engine.compare(np.ones((1, engine.n_conditions)), pools)
    lower, upper = pools.find_bounds(pooled)[0, 0]
    return float(lower), float(upper)
