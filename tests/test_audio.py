"""Sounds: which frame begins when, what is recorded of what is heard, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from conftest import make_model, make_stimuli
from scipy.io import wavfile

import netphys
from netphys.recording.audio import find_hearing


def make_waves(*lengths, rate=1000.0, rng=0):
    """Return sounds of white noise."""
    rng = np.random.default_rng(rng)
    waves = [rng.normal(size=n).astype(np.float32) for n in lengths]
    return netphys.load_stimuli(arrays=waves, kind="audio", rate=rate)


def make_whisper(*, seconds=1):
    """Return a subject that hears at most so many seconds, with its feature extractor."""
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=8, sampling_rate=16000, hop_length=160, chunk_length=seconds, n_fft=400
    )
    return netphys.load_subject(make_model("whisper", layers=1), processor=extractor), extractor


def test_frames_of_waveforms_have_the_onsets_of_their_first_sample(tmp_path):
    """Kernel 10 and stride 5, then 3 and 2: a frame sees 20 samples, the next one begins 10 on."""
    subject = netphys.load_subject(make_model("wav2vec2", layers=1))
    stimuli = make_waves(60, 100, 60)
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    assert session.trial_table["n_samples_frame"].tolist() == [5, 5, 9]
    table = session.samples("frame")
    assert table["onset"][:5].tolist() == [0.0, 0.01, 0.02, 0.03, 0.04]
    assert table["position"].tolist() == [0, 1, 2, 3, 4] * 2 + list(range(9))
    np.testing.assert_allclose(np.diff(session.trial_table["start_time"]), [0.05, 0.05])
    data = session.trials("wav2vec2.encoder.layers.0")
    assert data.shape == (3, 9, 16)
    assert np.isnan(data[0, 5:]).all() and np.isfinite(data[1]).all()


def test_frames_begin_where_a_click_first_reaches_the_model():
    """The extractor answers a click in those frames alone whose window holds it."""
    model = make_model("wav2vec2", layers=1)
    hearing = find_hearing(netphys.load_subject(model))
    assert hearing.stride == 10 and hearing.count(20) == 1 and hearing.count(19) < 1
    quiet, click = torch.zeros(1, 100), torch.zeros(1, 100)
    click[0, 47] = 1.0
    extractor = model.wav2vec2.feature_extractor
    with torch.no_grad():
        changed = (extractor(quiet) != extractor(click)).any(1)[0].nonzero().ravel().tolist()
    assert changed == [i for i in range(9) if i * 10 <= 47 < i * 10 + 20]


def test_frame_rate_of_the_published_models_is_fifty_hertz():
    for config in (transformers.Wav2Vec2Config(), transformers.HubertConfig()):
        assert 16000 / np.prod(config.conv_stride) == 50


@pytest.mark.parametrize("family", ["wav2vec2", "hubert"])
def test_sounds_pass_through_the_feature_extractor(family, aside):
    model = make_model(family, layers=1)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=1000, do_normalize=True)
    subject = netphys.load_subject(model, processor=extractor)
    stimuli = make_waves(60, 60)
    session = netphys.record(subject, stimuli, aside / "a.nwb", sites="embed", progress=False)
    waves = np.stack([(w - w.mean()) / np.sqrt(w.var() + 1e-7) for w in stimuli.arrays])
    caught = []
    encoder = dict(model.named_modules())[session.sites[0].removesuffix("@in")]
    handle = encoder.register_forward_pre_hook(lambda m, x: caught.append(x[0]))
    with torch.no_grad():
        model(torch.from_numpy(waves))
    handle.remove()
    np.testing.assert_allclose(session.trials("embed"), caught[0], rtol=1e-4, atol=1e-5)


def test_whisper_records_frames_of_the_sound_and_not_of_the_silence_behind(tmp_path):
    subject, extractor = make_whisper()
    stimuli = make_waves(4800, 16000, 4801, rate=16000)
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=["resid", "conv"], progress=False
    )
    # 20 ms per frame: 0.3 s are 15 frames, one sample more begins the next
    assert session.trial_table["n_samples_frame"].tolist() == [15, 50, 16]
    np.testing.assert_allclose(session.samples("frame")["onset"][:15], np.arange(15) / 50)
    features = extractor(list(stimuli.arrays), sampling_rate=16000, return_tensors="pt")
    assert features["input_features"].shape == (3, 8, 100)
    caught = {}
    block = subject.model.model.encoder.layers[0]
    handle = block.register_forward_hook(lambda m, x, y: caught.update(resid=y))
    with torch.no_grad():
        start = torch.ones((3, 1), dtype=torch.long)
        subject.model(features["input_features"], decoder_input_ids=start)
    handle.remove()
    data = session.trials("resid")
    for i, n in enumerate((15, 50, 16)):
        np.testing.assert_array_equal(data[i, :n], caught["resid"][i, :n])
        assert np.isnan(data[i, n:]).all()


def test_whisper_for_classification_needs_no_decoder(aside):
    config = make_model("whisper", layers=1).config
    config.classifier_proj_size = 6
    subject = netphys.load_subject(transformers.WhisperForAudioClassification(config).eval())
    session = netphys.record(
        subject,
        make_stimuli("whisper"),
        aside / "a.nwb",
        sites=["resid", "logits"],
        progress=False,
    )
    clocks = session.site_table["clock"].to_dict()
    assert clocks == {"encoder.layers.0": "frame", "classifier": "item"}


def test_sounds_of_an_own_model_are_items(aside):
    model = torch.nn.Sequential(torch.nn.Linear(40, 3))
    session = netphys.record(
        netphys.load_subject(model), make_waves(40, 40), aside / "a.nwb", sites="0"
    )
    assert session.site_table.loc["0", "clock"] == "item" and session["0"].shape == (2, 3)


def test_input_function_gets_the_sounds_as_they_are(aside):
    model = make_model("hubert", layers=1)
    subject = netphys.load_subject(
        model, input_fn=lambda waves: {"input_values": torch.from_numpy(np.stack(waves)) * 2}
    )
    stimuli = make_waves(60, 60)
    session = netphys.record(subject, stimuli, aside / "a.nwb", progress=False)
    with torch.no_grad():
        expected = model(torch.from_numpy(np.stack(stimuli.arrays)) * 2).last_hidden_state
    np.testing.assert_array_equal(session.trials("resid"), expected)


def test_input_function_that_makes_features_itself_leaves_frames_without_onsets(aside):
    model, extractor = make_model("whisper", layers=1), make_whisper()[1]

    def hear(waves):
        made = extractor(waves, sampling_rate=16000, return_tensors="pt")
        start = torch.ones((len(waves), 1), dtype=torch.long)
        return {"input_features": made["input_features"], "decoder_input_ids": start}

    subject = netphys.load_subject(model, input_fn=hear)
    waves = make_waves(4800, 16000, rate=16000)
    session = netphys.record(subject, waves, aside / "a.nwb", progress=False)
    assert session.trial_table["n_samples_frame"].tolist() == [50, 50]
    assert "onset" not in session.samples("frame")


def test_sites_of_listening_subjects_have_shapes():
    for family in ("whisper", "wav2vec2", "hubert"):
        table = netphys.load_subject(make_model(family)).sites()
        assert table.loc[table["kind"] == "conv", "shape"].tolist() == [
            "16" if family == "whisper" else "8"
        ]


@pytest.mark.parametrize(
    ("family", "stimuli", "message"),
    [
        ("wav2vec2", make_waves(60, 19), r"stimulus 's2' lasts 0\.019 s: too short .* 0 frames"),
        ("whisper", make_waves(60), r"is a waveform; .* takes features\. Load it with processor="),
        (
            "hubert",
            netphys.load_stimuli(arrays=np.zeros((1, 2, 60)), kind="audio", rate=100),
            r"has shape \(2, 60\); .* takes waveforms of one channel: shape \(time,\)",
        ),
        (
            "whisper",
            netphys.load_stimuli(arrays=np.zeros((1, 9, 100)), kind="audio", rate=100),
            r"has shape \(9, 100\); .* takes 8 features: shape \(8, time\)",
        ),
        (
            "whisper",
            netphys.load_stimuli(arrays=np.zeros((1, 8, 120)), kind="audio", rate=100),
            r"lasts 1\.2 s: too long .* 60 frames of at most 50",
        ),
        ("gpt2", make_waves(60), r"stimuli of kind 'audio' do not fit"),
        ("hubert", make_stimuli("gpt2"), r"stimuli of kind 'tokens' do not fit .* takes audio"),
    ],
)
def test_record_refuses_sounds_that_do_not_fit(family, stimuli, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        netphys.record(
            netphys.load_subject(make_model(family, layers=1)), stimuli, tmp_path / "a.nwb"
        )


@pytest.mark.parametrize(
    ("stimuli", "message"),
    [
        (make_waves(60, rate=8000), r"rate=8000 is not what .* hears: 16000 per second\. Resample"),
        (
            netphys.load_stimuli(arrays=np.zeros((1, 8, 100)), kind="audio", rate=50),
            r"rate=50 is not what .* hears: 100 per second",
        ),
        (make_waves(16001, rate=16000), r"lasts 1\.01 s: too long .* 51 frames of at most 50"),
        (
            netphys.load_stimuli(
                arrays=[np.zeros(160), np.zeros((8, 100))], kind="audio", rate=16000
            ),
            r"stimulus 's2' has shape \(8, 100\), the first one \(160,\)",
        ),
    ],
)
def test_record_refuses_sounds_that_whisper_cannot_hear(stimuli, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        netphys.record(make_whisper()[0], stimuli, tmp_path / "a.nwb")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"rate= is missing\. Give the samples per second"),
        ({"rate": -1}, ValueError, r"rate=-1 is not possible\. Give frames or samples per second"),
        ({"kind": "array", "rate": 2}, ValueError, r"is for frames and sounds, these are of kind"),
    ],
)
def test_load_stimuli_refuses_wrong_rates(options, error, message):
    with pytest.raises(error, match=message):
        netphys.load_stimuli(arrays=np.zeros((1, 9)), **{"kind": "audio"} | options)


def test_load_stimuli_refuses_whole_numbers_and_volumes():
    with pytest.raises(TypeError, match=r"dtype int16; sounds are floating-point\. Divide 16-bit"):
        netphys.load_stimuli(arrays=np.zeros((1, 9), np.int16), kind="audio", rate=100)
    with pytest.raises(ValueError, match=r"kind 'audio' has 1 to 2 dims"):
        netphys.load_stimuli(arrays=np.zeros((1, 2, 3, 4)), kind="audio", rate=100)


def test_folder_of_a_listening_model_brings_its_feature_extractor(aside):
    make_model("hubert", layers=1).save_pretrained(aside)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=1000).save_pretrained(aside)
    subject = netphys.load_subject(aside)
    assert subject.processor.sampling_rate == 1000
    with pytest.raises(ValueError, match=r"rate=8000 is not what .* hears: 1000 per second"):
        netphys.record(subject, make_waves(60, rate=8000), aside / "a.nwb")


# Files


def write_sounds(folder, waves, *, rate=1000):
    """Write WAV files and a table that names them."""
    lines = ["stimulus_id\tstim_file"]
    for i, wave in enumerate(waves):
        wavfile.write(folder / f"{i}.wav", rate, wave)
        lines.append(f"s{i}\t{i}.wav")
    (folder / "table.tsv").write_text("\n".join(lines) + "\n")
    return folder / "table.tsv"


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 64, 128, 255], np.uint8), [-1, -0.5, 0, 127 / 128]),
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-0.25, 0.5, 2], np.float32), [-0.25, 0.5, 2]),
    ],
)
def test_sound_files_are_read_as_floating_point_samples(samples, expected, tmp_path):
    stimuli = netphys.load_stimuli(write_sounds(tmp_path, [samples]))
    assert stimuli.kind == "audio" and stimuli.rate == 1000
    assert stimuli.item(0).dtype == np.float32
    np.testing.assert_array_equal(stimuli.item(0), np.array(expected, np.float32))
    assert (
        stimuli.compute_hash()
        != netphys.load_stimuli(write_sounds(tmp_path, [samples[::-1]])).compute_hash()
    )


def test_record_of_sound_files_equals_that_of_their_samples(aside):
    subject, waves = netphys.load_subject(make_model("hubert", layers=1)), make_waves(60, 90).arrays
    files = netphys.load_stimuli(write_sounds(aside, waves), kind="audio", rate=1000)
    arrays = netphys.load_stimuli(arrays=waves, kind="audio", rate=1000)
    one, two = (
        netphys.record(subject, s, aside / f"{i}.nwb", progress=False)
        for i, s in enumerate((files, arrays))
    )
    np.testing.assert_array_equal(one[one.sites[0]], two[two.sites[0]])


def test_load_stimuli_refuses_sound_files_that_do_not_belong_together(tmp_path):
    wave = np.zeros(9, np.float32)
    table = write_sounds(tmp_path, [wave, wave])
    wavfile.write(tmp_path / "1.wav", 2000, wave)
    with pytest.raises(ValueError, match=r"'1\.wav' has 2000 samples per second, not 1000"):
        netphys.load_stimuli(table)
    with pytest.raises(ValueError, match=r"'0\.wav' has 1000 samples per second, not 500"):
        netphys.load_stimuli(table, rate=500)
    with pytest.raises(ValueError, match=r"'0\.wav' has 2 channels\. Mix it to one first"):
        netphys.load_stimuli(write_sounds(tmp_path, [np.zeros((9, 2), np.float32)]))
    (tmp_path / "0.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(ValueError, match=r"0\.wav' is not a readable WAV"):
        netphys.load_stimuli(table)
    (tmp_path / "0.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.wav' does not exist"):
        netphys.load_stimuli(table)
    table = write_sounds(tmp_path, [np.array([0, np.nan], np.float32)])
    with pytest.raises(ValueError, match=r"0\.wav' holds NaN or infinite values"):
        netphys.load_stimuli(table).item(0)
