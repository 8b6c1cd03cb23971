"""Built-in vision subjects: known answers to gratings, their recordings, and what is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_stimuli

import netphys
from netphys.core.compare import compare_pairs, compute_pairs
from netphys.core.distance import compute_distances
from netphys.recording.builtin import Gabor, ImageResizer, Pixels, list_builtins, resize_images

GABOR = Gabor()
SCALES = [f"energy_{f}" for f in GABOR.config.frequencies]


def make_grating(frequency: float, angle: float, phase: float = 0.0, amplitude: float = 0.25):
    """Return one grey image, (1, 1, 128, 128), with a luminance wave along `angle` (degrees)."""
    place = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
    y, x = torch.meshgrid(place, place, indexing="ij")
    a = math.radians(angle)
    wave = torch.cos(2 * torch.pi * frequency * (x * math.cos(a) + y * math.sin(a)) + phase)
    return (0.5 + amplitude * wave).float()[None, None]


def compute_maps(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the energy per site, (image, orientation, y, x)."""
    with torch.no_grad():
        energy = GABOR(images)
    sizes = [8 * f * f for f in GABOR.config.frequencies]
    parts = energy.split(sizes, dim=1)
    return {
        name: part.reshape(-1, 8, f, f)
        for name, part, f in zip(SCALES, parts, GABOR.config.frequencies, strict=True)
    }


def load(name: str) -> netphys.Subject:
    init = "random" if name == "builtin:resnet18" else "trained"
    return netphys.load_subject(name, init=init, seed=3)


# Pixels


def test_pixels_average_the_old_ones_that_they_cover():
    """A step edge halved in size: a pixel away from it is flat, one at it a tent-weighted mean."""
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1.0
    row = resize_images(image, 4)[0, 0, 0]
    # new pixel 1 has its middle at 3 of 8 old pixels, and a tent that reaches 2 to each side
    weights = np.maximum(0, 1 - np.abs(np.arange(8) + 0.5 - 3.0) / 2)
    second = weights[4:].sum() / weights.sum()
    np.testing.assert_allclose(row, [0, second, 1 - second, 1], atol=1e-6)


def test_pixels_are_red_green_blue_from_0_to_1(tmp_path):
    image = np.zeros((128, 128, 3), np.uint8)
    image[:64, :, 0], image[:, 64:, 1], image[..., 2] = 255, 255, 51
    stimuli = netphys.load_stimuli(arrays=[image], kind="image")
    subject = load("builtin:pixels")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="pixels", progress=False)
    found = session["pixels"].to_numpy().reshape(3, 64, 64)
    inside = np.r_[0:31, 33:64]  # the two rows and columns at an edge mix both sides
    expected = image[::2, ::2].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(
        found[:, inside][:, :, inside], expected[:, inside][:, :, inside], atol=1e-6
    )


def test_pixels_leave_an_image_of_their_size_as_it_is():
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Pixels()(image), image)


# Gabor: what is known of complex cells


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_gabor_does_not_answer_a_uniform_image(level):
    with torch.no_grad():
        assert GABOR(torch.full((1, 3, 128, 128), level)).abs().max() < 1e-6


def test_gabor_filters_have_no_response_to_uniform_light():
    for name in SCALES:
        filters = getattr(GABOR, name).filters.double()
        assert filters.sum(dim=(1, 2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize("orientation", range(8))
@pytest.mark.parametrize("frequency", [8, 16, 32])
def test_gabor_is_tuned_to_its_orientation_and_frequency(frequency, orientation):
    """Positive control: of all units in the middle, the one made for a grating answers it most."""
    maps = compute_maps(make_grating(frequency, orientation * 22.5))
    middle = {n: m[0, :, m.shape[2] // 2, m.shape[3] // 2] for n, m in maps.items()}
    best = max(middle, key=lambda n: float(middle[n].max()))
    assert best == f"energy_{frequency}"
    assert int(middle[best].argmax()) == orientation
    assert float(middle[best][orientation]) == pytest.approx(0.25, rel=0.03)  # unit gain
    across = float(middle[best][(orientation + 4) % 8])
    assert across < 0.02 * 0.25


def test_gabor_has_a_bandwidth_of_one_octave_and_37_degrees():
    """At the edges of its band a unit answers half as much as at the middle."""
    edges = [2 / 3, 4 / 3]  # symmetric about the best, as the Gaussian is, and an octave apart
    assert math.log2(edges[1] / edges[0]) == pytest.approx(1)
    for factor in edges:
        middle = compute_maps(make_grating(16 * factor, 0))["energy_16"][0, 0, 8, 8]
        assert float(middle) == pytest.approx(0.125, rel=0.05)
    turned = math.degrees(2 * math.asin(1 / 6))  # where the wave vector is a third away
    middle = compute_maps(make_grating(16, turned))["energy_16"][0, 0, 8, 8]
    assert float(middle) == pytest.approx(0.125, rel=0.05)
    assert 2 * turned == pytest.approx(38, abs=1)


def test_gabor_does_not_see_the_phase_of_a_drifting_grating():
    images = torch.cat([make_grating(16, 45, phase) for phase in np.linspace(0, 2 * np.pi, 17)])
    middle = compute_maps(images)["energy_16"][:, 2, 4:12, 4:12]
    assert float((middle.amax(0) / middle.amin(0)).max()) < 1.02
    # a simple cell does: the even filter alone goes from its peak to minus its peak
    wide = torch.nn.functional.pad(images - 0.5, (10,) * 4, mode="replicate")
    even = torch.nn.functional.conv2d(wide, GABOR.energy_16.filters[2:3], stride=8)[:, 0, 8, 8]
    assert float(even.max()) > 0.2 and float(even.min()) < -0.2


def test_gabor_is_proportional_to_contrast_and_blind_to_mean_light():
    low, high = (compute_maps(make_grating(8, 0, amplitude=a))["energy_8"] for a in (0.1, 0.2))
    np.testing.assert_allclose(2 * low, high, atol=1e-6)
    lighter = compute_maps(make_grating(8, 0, amplitude=0.1) + 0.2)["energy_8"]
    np.testing.assert_allclose(low, lighter, atol=1e-6)


def test_property_gabor_mirrors_with_the_image():
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    plain, mirrored = compute_maps(image), compute_maps(image.flip(3))
    turned = [0, 7, 6, 5, 4, 3, 2, 1]  # "/" becomes "\"
    for name in SCALES:
        np.testing.assert_allclose(
            plain[name].flip(3), mirrored[name][:, turned], rtol=1e-3, atol=1e-5
        )


def test_gabor_answers_where_the_stimulus_is():
    image = torch.full((1, 1, 128, 128), 0.5)
    image[..., :64, 64:] = make_grating(16, 90)[..., :64, 64:]
    energy = compute_maps(image)["energy_16"][0, 4]
    assert energy[:6, 10:].min() > 0.2 and energy[10:, :6].max() < 1e-3


def test_gabor_takes_colours_by_their_luminance():
    """Two colours of one luminance have no edge; as grey levels apart they do."""
    red, green = 0.587, 0.299  # times 0.299 and 0.587: equal
    image = torch.zeros(1, 3, 128, 128)
    image[:, 0, :, :64], image[:, 1, :, 64:] = red, green
    with torch.no_grad():
        assert GABOR(image).max() < 1e-6
    assert compute_maps(image[:, :1])["energy_8"].max() > 0.05


def test_gabor_refuses_frequencies_that_do_not_fit():
    with pytest.raises(ValueError, match="frequencies: 3 cycles in size=128 pixels"):
        Gabor(frequencies=(2, 3))
    with pytest.raises(ValueError, match="frequencies: 64 cycles in size=128"):
        Gabor(frequencies=(64,))
    with pytest.raises(TypeError, match=r"frequencies=1\.5 is a float"):
        Gabor(frequencies=(1.5,))


# As subjects


def test_list_builtins_names_them_all():
    names = ("digits", "language", "resnet18", "minilm", "pixels", "gabor")
    names = {f"builtin:{name}" for name in names}
    assert set(list_builtins()) == names
    with pytest.raises(ValueError, match=r"'builtin:gabbor' is unknown") as caught:
        netphys.load_subject("builtin:gabbor")
    assert all(repr(name) in str(caught.value) for name in names)
    assert "Did you mean 'builtin:gabor'" in str(caught.value)
    with pytest.raises(ValueError, match="Did you mean 'builtin:resnet18'"):
        netphys.load_subject("resnet18")


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("builtin:pixels", {"pixels": "3 x 64 x 64"}),
        (
            "builtin:gabor",
            {f"energy_{f}": f"8 x {f} x {f}" for f in (2, 4, 8, 16, 32)} | {"energy": "10912"},
        ),
    ],
)
def test_sites_of_a_subject_without_weights(name, shapes):
    subject = load(name)
    assert subject.sites()["shape"].to_dict() == shapes
    assert subject.n_parameters == 0 and subject.dtype == torch.float32
    assert subject.compute_hash() == load(name).compute_hash()


def test_sites_of_resnet18():
    table = load("builtin:resnet18").sites()
    blocks = table[table["kind"] == "resid"]
    assert blocks["layer"].tolist() == list(range(8))
    assert blocks["shape"].iloc[0] == "64 x 56 x 56" and blocks["shape"].iloc[-1] == "512 x 7 x 7"


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("builtin:pixels", ["pixels"]),
        ("builtin:gabor", ["energy_*", "energy"]),
        ("builtin:resnet18", ["encoder.stages.3.layers.1", "pooler"]),
    ],
)
def test_record_images(name, sites, tmp_path):
    """Three images of different sizes, in one batch."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 50), (128, 128), (64, 9))]
    stimuli = netphys.load_stimuli(arrays=images, kind="image")
    subject = load(name)
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites=sites, progress=False)
    assert session.complete and len(session.trial_table) == 3
    for site in session.sites:
        values = session[site].to_numpy()
        assert values.dtype == np.float32 and values.shape[0] == 3
        assert np.isfinite(values).all() and values.std() > 0
    with torch.no_grad():
        alone = subject.model.eval()(
            torch.from_numpy(
                subject.processor(images=images[:1], return_tensors="np")["pixel_values"]
            )
        )
    last = alone if isinstance(alone, torch.Tensor) else alone.last_hidden_state
    site = {"builtin:resnet18": sites[0]}.get(name, sites[-1])
    np.testing.assert_allclose(session[site].to_numpy()[0], last.flatten(), rtol=1e-4, atol=1e-5)
    facts = session.provenance["subject"]
    assert facts["weights_sha256"] == subject.compute_hash() and len(facts["weights_sha256"]) == 64
    assert facts["source"] == "builtin" and facts["config"]["image_size"]


def test_units_of_a_map_are_named_by_channel_y_and_x(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    stimuli = netphys.load_stimuli(arrays=images, kind="image")
    subject = load("builtin:gabor")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="energy_4", progress=False)
    units = session.units("energy_4")
    places = [units[c].to_numpy() for c in ("channel", "y", "x")]
    np.testing.assert_array_equal(places, np.unravel_index(np.arange(128), (8, 4, 4)))
    assert units["label"].iloc[5] == "energy_4.005"


def test_record_image_files_and_ready_pixel_values_agree(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (70, 90, 3), np.uint8) for _ in range(2)]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "set.tsv").write_text("stimulus_id\tstim_file\na\t0.png\nb\t1.png\n")
    ready = np.stack([i.transpose(2, 0, 1) / np.float32(255) for i in images])
    found = []
    for n, stimuli in enumerate(
        [
            netphys.load_stimuli(tmp_path / "set.tsv"),
            netphys.load_stimuli(arrays=ready, kind="image"),
        ]
    ):
        session = netphys.record(
            load("builtin:gabor"), stimuli, tmp_path / f"{n}.nwb", sites="energy", progress=False
        )
        found.append(session["energy"].to_numpy())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_record_from_the_command_line(tmp_path, capsys):
    from netphys.cli import main

    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    (tmp_path / "set.tsv").write_text("stim_file\na.npy\n")
    assert main(["sites", "builtin:gabor"]) == 0
    assert "energy_16" in capsys.readouterr().out
    out = str(tmp_path / "a.nwb")
    options = ["--sites", "pixels", "--quiet"]
    assert main(["record", "builtin:pixels", str(tmp_path / "set.tsv"), out, *options]) == 0
    assert netphys.open_session(out).sites == ["pixels"]


def test_dtype_of_a_subject_without_weights(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    stimuli = netphys.load_stimuli(arrays=images, kind="image")
    subject = netphys.load_subject("builtin:pixels", dtype="float16")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="pixels", progress=False)
    assert session["pixels"].dtype == np.float16


def test_resnet18_is_seeded():
    first, again = (netphys.load_subject("builtin:resnet18", init="random", seed=3) for _ in "ab")
    other = netphys.load_subject("builtin:resnet18", init="random", seed=4)
    assert first.compute_hash() == again.compute_hash() != other.compute_hash()
    assert first.n_parameters == 11_176_512


def test_resnet18_sees_the_whole_image():
    subject = load("builtin:resnet18")
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :4], image[:, -4:], image[:4], image[-4:] = 255, 255, 255, 255
    seen = subject.processor(images=[image], return_tensors="np")["pixel_values"][0]
    assert seen.shape == (3, 224, 224)
    white = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    for border in (seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]):
        np.testing.assert_allclose(border, np.repeat(white[:, None], 224, axis=1), rtol=0.02)


def test_resnet18_neither_explodes_nor_vanishes():
    subject = load("builtin:resnet18")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = subject.model.eval()(images, output_hidden_states=True).hidden_states
    assert all(0.05 < float(h.std()) < 5 for h in hidden)


@pytest.mark.parametrize("init", ["random", "shuffled"])
@pytest.mark.parametrize("name", ["builtin:pixels", "builtin:gabor"])
def test_no_twin_of_a_subject_without_weights(name, init):
    with pytest.raises(ValueError, match=f"{name} has no weights, so it has no twin"):
        netphys.load_subject(name, init=init)


@pytest.mark.parametrize("init", ["trained", "shuffled"])
def test_resnet18_has_no_trained_weights(init):
    with pytest.raises(ValueError, match=r"without trained weights\. Use init='random', or give a"):
        netphys.load_subject("builtin:resnet18", init=init)


def test_images_that_cannot_be_shown_are_refused(tmp_path):
    grey = netphys.load_stimuli(arrays=[np.zeros((9, 9, 1), np.uint8)] * 2, kind="image")
    subject = load("builtin:gabor")
    with pytest.raises(ValueError, match=r"shape \(9, 9, 1\) and the type uint8. Give uint8"):
        netphys.record(subject, grey, tmp_path / "a.nwb", sites="energy", progress=False)
    with pytest.raises(ValueError, match="do not fit 'builtin:gabor', which takes image"):
        netphys.record(
            subject, make_stimuli("gpt2"), tmp_path / "a.nwb", sites="energy", progress=False
        )
    with pytest.raises(ValueError, match="the kind 'resid' is not known for this model"):
        netphys.record(subject, grey, tmp_path / "a.nwb", progress=False)
    with pytest.raises(ValueError, match=r"the type float64\. Give uint8"):
        ImageResizer(8)([np.zeros((9, 9, 3))])


def test_load_subject_expands_the_home_folder(tmp_path, monkeypatch):
    from conftest import make_model

    make_model("gpt2").save_pretrained(tmp_path / "m")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert netphys.load_subject("~/m").name == "m"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        netphys.load_subject("~/nowhere")


# Real images


@pytest.fixture(scope="module")
def objects() -> dict:
    """The 92 images of Kriegeskorte et al. (2008), with stored RDMs as pairs."""
    from scipy.io import loadmat

    folder = Path(os.environ["NETPHYS_DATA"]) / "kriegeskorte2008"

    def read(name: str, key: str):
        return loadmat(folder / name, simplify_cells=True)[key]

    items = read("Kriegeskorte_Neuron2008_supplementalData.mat", "stimuli_92objs")
    models = {m["name"]: m["RDM"] for m in read("92_modelRDMs.mat", "Models")}
    people = loadmat(folder / "92_brainRDMs.mat", squeeze_me=True, struct_as_record=False)["RDMs"]
    human = np.mean([person.RDM for person in people.ravel()], axis=0)
    return {
        "images": np.stack([item["image"] for item in items]),
        "v1": read("rdm92_V1model.mat", "rdm92_V1model"),
        "silhouette": np.array(models["Silhouette"], float),
        "human": (human + human.T) / 2,
    }


@pytest.mark.slow
@pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="needs NETPHYS_DATA")
def test_gabor_agrees_with_stored_models_of_the_92_images(objects, tmp_path):
    stimuli = netphys.load_stimuli(arrays=objects["images"], kind="image")
    session = netphys.record(
        load("builtin:gabor"), stimuli, tmp_path / "a.nwb", sites="energy", progress=False
    )
    rdm = compute_distances(session["energy"].to_numpy())
    stored = np.stack([compute_pairs(objects[k]) for k in ("v1", "silhouette", "human")])
    v1, silhouette, human = compare_pairs(compute_pairs(rdm), stored)[0]
    assert v1 > 0.20 and silhouette > 0.70 and human < 0.2  # measured: 0.223, 0.721, 0.129
    rng = np.random.default_rng(0)
    orders = [rng.permutation(92) for _ in range(499)]
    null = compare_pairs(np.stack([compute_pairs(rdm[np.ix_(o, o)]) for o in orders]), stored[:1])
    assert (np.sum(null >= v1) + 1) / 500 <= 0.01
