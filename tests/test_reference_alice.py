"""Noted numbers of the Alice recordings, reproduced by the reference function."""

from __future__ import annotations

import os

import numpy as np
import pytest

from netphys.brain.reference import _score, reproduce_alice

needs_data = pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")

NOTED = {
    ("oasm", "shuffled"): [0.871, 0.867, 0.919, 0.858, 0.892, 0.857],
    ("oasm", "contiguous"): [0.098, 0.251, 0.052, 0.142, 0.053, 0.054],
    ("word rate", "contiguous"): [0.307, 0.338, 0.360, 0.448, 0.442, 0.353],
}


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("features", "split"), NOTED)
def test_noted_numbers_are_reproduced(features, split):
    r = reproduce_alice(features, split=split)
    assert list(r) == ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]
    np.testing.assert_allclose(list(r.values()), NOTED[features, split], atol=0.01)


def test_reference_leave_one_out_ridge_agrees_with_scikit_learn():
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 3))
    y[:, 0] += 2 * x[:, 0]
    train, test = np.arange(45), np.arange(45, 60)
    scaler = StandardScaler().fit(x[train])
    a, b = scaler.transform(x[train]), scaler.transform(x[test])
    theirs = [
        np.corrcoef(RidgeCV(np.logspace(-4, 6, 11)).fit(a, y[train, k]).predict(b), y[test, k])
        for k in range(3)
    ]
    np.testing.assert_allclose(_score(x, y, train, test), [r[0, 1] for r in theirs], atol=1e-8)


def test_reproduce_alice_refuses_other_features():
    with pytest.raises(ValueError, match="features='gpt2' is unknown"):
        reproduce_alice("gpt2", split="shuffled")
    with pytest.raises(ValueError, match="split='random' is unknown"):
        reproduce_alice("oasm", split="random")
