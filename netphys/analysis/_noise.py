"""Engine of identification under noise: one noisy copy of all RDMs, all descriptors, all cells."""

from __future__ import annotations

import numpy as np

from netphys.analysis._identify import (
    ADAPTIVE,
    draw_accuracy,
    evaluate_grams,
    make_grams,
)
from netphys.core.resample import combine_variances, make_interval
from netphys.core.topology.transform import rank_pairs

# Parts of the plane of thresholds after Lin & Kriegeskorte (2024), by lower and upper threshold.
PARTS = {
    "topology": lambda low, high: np.minimum(low - 0.4, 0.6 - high),
    "geometry": lambda low, high: high - low - 0.8,
    "local": lambda low, high: 0.4 - low - high,
    "global": lambda low, high: low + high - 1.6,
}  # inside where >= 0
REST = "intermediate"  # cells in none of them


def find_parts(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Return which cells (n_cells, 2) lie in which part of the plane of thresholds."""
    parts = {name: rule(*cells.T) > -1e-9 for name, rule in PARTS.items()}
    return parts | {REST: ~np.any(list(parts.values()), axis=0)}


def add_noise(pairs: np.ndarray, size: float, *, rng: np.random.Generator) -> np.ndarray:
    """Return dissimilarities with normal noise of SD `size`, those below 0 set to 0."""
    return np.maximum(pairs + size * rng.standard_normal(pairs.shape), 0.0)


def identify_once(
    pairs: np.ndarray,
    n: int,
    descriptors: tuple[str, ...],
    cells: np.ndarray,
    *,
    unreachable: str,
    n_permutations: int,
    rng: np.random.Generator,
) -> list[dict[str, np.ndarray]]:
    """Identify with every descriptor of one noisy copy of pairs (subject, label, pair)."""
    shape, labels, found = pairs.shape[:2], np.arange(pairs.shape[1]), []
    ranks, parts = rank_pairs(pairs), find_parts(cells)
    for descriptor in descriptors:
        adaptive = descriptor in ADAPTIVE
        own = cells if adaptive else np.array([[0.0, 1.0]])
        given = pairs if descriptor == "rdm" else ranks
        kind = "rdm" if descriptor == "ranked" else descriptor  # ranks of ranks are the ranks
        grams = make_grams(given, n, kind, own, scale="value", unreachable=unreachable)
        predicted, chosen, every = evaluate_grams(grams, np.tile(labels, (shape[0], 1)))
        right = (every == labels).mean(axis=2)  # (cell, subject)
        spread = np.full((len(PARTS) + 1, shape[0]), np.nan)
        for k, inside in enumerate(parts.values()):
            if adaptive and inside.any():
                spread[k] = right[inside].mean(axis=0)
        found.append(
            {
                "accuracy": (predicted == labels).mean(axis=1),
                "confusion": (predicted[..., None] == labels).mean(axis=0),
                "chosen": own[chosen] if adaptive else np.full((shape[0], 2), np.nan),
                "cells": right.mean(axis=1) if adaptive else np.full(len(cells), np.nan),
                "parts": spread,
                "null": draw_accuracy(grams, shape, n_permutations, rng=rng),
            }
        )
    return found


def make_crossed_interval(values: np.ndarray) -> np.ndarray:
    """Return t intervals (..., 2) of means of values (..., repetition, subject), both sampled.

    Variances are those of a bootstrap of either factor and of both, in closed form.
    """
    n_draws, n = values.shape[-2:]
    mean = values.mean(axis=(-2, -1))
    rows, columns = values.mean(axis=-1), values.mean(axis=-2)  # of repetitions, of subjects
    of_subjects = columns.var(axis=-1) / n
    if n_draws == 1:
        return make_interval(mean, of_subjects * n / (n - 1), n=n)
    of_draws = rows.var(axis=-1) / n_draws
    rest = values - rows[..., None] - columns[..., None, :] + mean[..., None, None]
    both = of_subjects + of_draws + rest.var(axis=(-2, -1)) / (n * n_draws)
    variance = combine_variances(of_subjects, of_draws, both, sizes=(n, n_draws))
    return make_interval(mean, variance, n=n)
