"""The built-in subject that reads digits: its seeds, its twins, its probe images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import netphys
from netphys._shipped import shipped_path
from netphys.recording.builtin import check_builtin, split_seed
from netphys.recording.digits import Digits
from netphys.run import check_protocol

FOLDER = shipped_path("subjects", "digits")
TRAINING = json.loads((FOLDER / "training.json").read_text())
SEEDS = range(10)


@pytest.fixture(scope="module")
def stimuli():
    return netphys.load_stimuli("builtin:digits")


def read(stimuli) -> np.ndarray:
    """Return the probe images as the network takes them, (image, 1, 8, 8)."""
    from PIL import Image

    images = [np.array(Image.open(stimuli.item(k))) for k in range(len(stimuli))]
    return np.stack(images)[:, None].astype(np.float32) / 255


def answer(subject, images) -> np.ndarray:
    with torch.no_grad():
        return subject.model(torch.from_numpy(images)).argmax(1).numpy()


# The probe images


def test_probe_images_are_62_and_balanced(stimuli):
    assert len(stimuli) == 62 and stimuli.kind == "image"
    counts = stimuli.table["condition"].value_counts()
    assert counts.loc[list("0123456789")].tolist() == [7, 7, *[6] * 8]
    assert stimuli.table["stimulus_id"].is_unique and stimuli.table["row"].is_unique
    images = read(stimuli)
    assert images.shape == (62, 1, 8, 8) and images.min() == 0 and images.max() == 1
    assert len(np.unique(images.reshape(62, -1), axis=0)) == 62


def test_probe_images_are_those_of_scikit_learn_held_out_of_training(stimuli):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    rows = stimuli.table["row"].to_numpy()
    np.testing.assert_array_equal(np.rint(read(stimuli)[:, 0] * 16), digits.images[rows])
    assert digits.target[rows].astype(str).tolist() == stimuli.table["condition"].tolist()
    order = np.random.default_rng(TRAINING["split_seed"]).permutation(len(digits.target))
    assert set(rows) <= set(order[: TRAINING["n_images"]["heldout"]].tolist())


# The trained networks


@pytest.mark.parametrize("seed", SEEDS)
def test_digits_name_what_training_says_they_name(stimuli, seed):
    """62 probe images and all 360 held-out ones: one image of slack for other processors."""
    datasets = pytest.importorskip("sklearn.datasets")
    subject = netphys.load_subject(f"builtin:digits/{seed}")
    told = TRAINING["seeds"][str(seed)]["accuracy"]
    right = answer(subject, read(stimuli)) == stimuli.table["condition"].astype(int).to_numpy()
    assert right.mean() == pytest.approx(told["probes"], abs=1.1 / 62)
    images, labels = (getattr(datasets.load_digits(), k) for k in ("images", "target"))
    rows = np.random.default_rng(TRAINING["split_seed"]).permutation(len(labels))[:360]
    shown = np.rint(images[rows] * 255 / 16).astype(np.float32)[:, None] / 255
    assert (answer(subject, shown) == labels[rows]).mean() == pytest.approx(
        told["heldout"], abs=1.1 / 360
    )
    assert told["heldout"] > 0.96


def test_digits_are_ten_networks_and_the_first_is_the_default():
    subjects = [netphys.load_subject(f"builtin:digits/{k}") for k in SEEDS]
    hashes = [s.compute_hash() for s in subjects]
    assert len(set(hashes)) == 10
    assert netphys.load_subject("builtin:digits").compute_hash() == hashes[0]
    assert {s.n_parameters for s in subjects} == {21_922} == {TRAINING["parameters"]}
    assert sum(p.stat().st_size for p in FOLDER.glob("*.safetensors")) < 1e6


def test_untrained_digits_are_what_training_started_with():
    for seed in (0, 7):
        twin = netphys.load_subject("builtin:digits", init="random", seed=seed)
        told = TRAINING["seeds"][str(seed)]["untrained_sha256"]
        assert twin.compute_hash() == told and (twin.init, twin.seed) == ("random", seed)
        again = netphys.load_subject("builtin:digits/4", init="random", seed=seed)
        assert again.compute_hash() == told  # the number of a trained seed has no part in it


def test_shuffled_digits_keep_the_values_of_each_tensor():
    own = netphys.load_subject("builtin:digits/2").model.state_dict()
    twin = netphys.load_subject("builtin:digits/2", init="shuffled", seed=1).model.state_dict()
    for name, values in own.items():
        assert torch.equal(values.flatten().sort()[0], twin[name].flatten().sort()[0])
    assert not torch.equal(own["conv2.weight"], twin["conv2.weight"])


def test_untrained_digits_are_at_chance(stimuli):
    labels = stimuli.table["condition"].astype(int).to_numpy()
    twins = [netphys.load_subject("builtin:digits", init="random", seed=k) for k in SEEDS]
    scores = [(answer(t, read(stimuli)) == labels).mean() for t in twins]
    assert np.mean(scores) == pytest.approx(0.1, abs=0.05)


def test_digits_are_recorded_at_every_convolution(stimuli, tmp_path):
    subject = netphys.load_subject("builtin:digits/3")
    sites = subject.sites(all_modules=True)
    assert sites.index.tolist() == [*(f"conv{k}" for k in range(1, 8)), "logits"]
    assert sites["shape"].tolist() == ["24 x 8 x 8"] * 2 + ["24 x 4 x 4"] * 4 + [
        "10 x 4 x 4",
        "10",
    ]
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=["conv", "logits"], progress=False
    )
    with torch.no_grad():
        expected = subject.model(torch.tensor(read(stimuli)))
    order = session.trial_table["stimulus_index"].to_numpy()
    np.testing.assert_allclose(
        session["logits"].to_numpy(), expected.numpy()[order], rtol=1e-4, atol=1e-4
    )
    facts = session.provenance["subject"]
    assert facts["name"] == "builtin:digits/3" and facts["config"]["n_channels"] == 24


def test_digits_take_colours_by_luminance_and_other_sizes():
    model = netphys.load_subject("builtin:digits/0").model
    grey = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model(grey)
        np.testing.assert_array_equal(plain, model(grey.expand(-1, 3, -1, -1)))
        large = torch.nn.functional.interpolate(grey, scale_factor=1)
        np.testing.assert_array_equal(plain, model(large))
        red = torch.cat([grey, torch.zeros_like(grey), torch.zeros_like(grey)], dim=1)
        np.testing.assert_allclose(model(red), model(0.299 * grey), rtol=1e-4, atol=1e-5)


def test_digits_of_another_width_can_be_made():
    model = Digits(n_channels=4, n_classes=3)
    assert model(torch.zeros(2, 3, 20, 20)).shape == (2, 3)


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "builtin:digits/12",
            r"name='builtin:digits/12': builtin:digits was trained from the seeds 0 to 9\. Choose "
            r"one of them, such as 'builtin:digits/9'; any seed makes an untrained twin",
        ),
        ("builtin:digits/x", r"trained from the seeds 0 to 9"),
        ("builtin:digits/03", r"trained from the seeds 0 to 9"),
        ("builtin:digits/1/2", r"trained from the seeds 0 to 9"),
        ("builtin:digits/", r"name='builtin:digits/' is unknown\. .*Did you mean 'builtin:digits'"),
        ("builtin:digit/3", r"name='builtin:digit' is unknown\. .*Did you mean 'builtin:digits'"),
        ("builtin:language/1", r"builtin:language has no trained seeds to choose from\. Leave /1"),
        ("builtin:gabor/1", r"builtin:gabor has no trained seeds to choose from\. Leave /1 out\.$"),
    ],
)
def test_unknown_seeds_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        netphys.load_subject(name)
    with pytest.raises(ValueError, match=message):
        check_builtin(name)


def test_split_seed_leaves_other_names_alone():
    assert split_seed("builtin:digits/3") == ("builtin:digits", "3")
    assert split_seed("builtin:minilm") == ("builtin:minilm", "")


def test_a_protocol_records_trained_seeds_by_name(tmp_path):
    text = (
        'schema = 1\n[subject]\nname = "builtin:digits/0"\n[[others]]\nname = "more"\n'
        'subject = "builtin:digits/{seed}"\nseeds = [1, 12]\n[stimuli]\n'
        'source = "builtin:digits"\n[record]\nsites = ["logits"]\n'
    )
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"builtin:digits/12': builtin:digits was trained from"):
        check_protocol(netphys.load_protocol(path))
    path.write_text(text.replace("12", "2"))
    protocol = netphys.load_protocol(path)
    study = netphys.run_protocol(protocol, out=tmp_path / "out", progress=False)
    named = {n: s.provenance["subject"]["name"] for n, s in study.sessions.items()}
    assert named == {
        "subject": "builtin:digits/0",
        "more-1": "builtin:digits/1",
        "more-2": "builtin:digits/2",
    }
