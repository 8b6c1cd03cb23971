"""Sounds: how a model hears them, which frame begins when, and what is only padding."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from netphys.data.stimuli import Stimuli
from netphys.recording.presentation import Presentation, make_feeder
from netphys.recording.subject import Subject


@dataclass(frozen=True)
class Hearing:
    """How a model turns a sound into frames.

    Parameters
    ----------
    stride : int
        Samples of its input, waveform or features, from one frame to the next.
    count : callable
        Gives the number of frames of an input of so many samples.
    smallest : tuple of int
        Shape of the shortest input with at least 3 frames.
    fixed : int or None
        Samples that its input always has (Whisper: 30 s); None if any length will do.
    """

    stride: int
    count: Callable[[int], int]
    smallest: tuple[int, ...]
    fixed: int | None = None


def find_hearing(subject: Subject) -> Hearing | None:
    """Return how a subject hears.

    Parameters
    ----------
    subject : Subject
        The subject.

    Returns
    -------
    hearing : Hearing or None
        For models that hear waveforms through convolutions (wav2vec2, HuBERT and their like) and
        for Whisper; None for every other.
    """
    config, model = subject.config, subject.model
    if subject.input_name == "input_features" and config.model_type == "whisper":
        length = 2 * config.max_source_positions
        return Hearing(2, lambda n: (n - 1) // 2 + 1, (config.num_mel_bins, length), length)
    known = hasattr(model, "_get_feat_extract_output_lengths") and hasattr(config, "conv_stride")
    if subject.input_name != "input_values" or not known:
        return None

    def count(n_samples: int) -> int:
        length = model._get_feat_extract_output_lengths
        more = (
            {"add_adapter": False} if "add_adapter" in inspect.signature(length).parameters else {}
        )
        return int(length(torch.tensor(n_samples), **more))

    stride = math.prod(config.conv_stride)
    n = 3 * stride
    while count(n) < 3:
        n += stride
    return Hearing(stride, count, (n,))


def make_decoder_inputs(subject: Subject, n: int) -> dict[str, torch.Tensor]:
    """Return what a model's decoder wants beside the sound: its start token, one per trial.

    Parameters
    ----------
    subject : Subject
        The subject.
    n : int
        Trials in the batch.

    Returns
    -------
    inputs : dict of str to Tensor
        Empty for a model without decoder.
    """
    start = getattr(subject.config, "decoder_start_token_id", None)
    if (
        start is None
        or "decoder_input_ids" not in inspect.signature(subject.model.forward).parameters
    ):
        return {}
    ids = torch.full((n, 1), start, dtype=torch.long, device=subject.device)
    return {"decoder_input_ids": ids}


def present_audio(subject: Subject, stimuli: Stimuli) -> Presentation:
    """Prepare sounds for a subject.

    The samples are the model's frames. A frame's onset is where the sound that it hears begins
    (wav2vec2, HuBERT), or the middle of its window (Whisper): frame number / frames per second. A
    model whose frames are not known hears each sound as one item.

    Parameters
    ----------
    subject : Subject
        Who hears them.
    stimuli : Stimuli
        Of kind "audio".

    Returns
    -------
    presentation : Presentation
        In the order of the stimulus table. The silence that Whisper's feature extractor adds up to
        30 s is shown and not recorded.

    Raises
    ------
    ValueError
        If the rate is not the one that the model hears, a sound is too short or too long, or needs
        a feature extractor that the subject does not have.
    """
    ready = SoundLoader(subject, stimuli)
    feed, hearing = make_feeder(subject, ready), find_hearing(subject)
    shapes = [ready.shape(row) for row in range(len(stimuli))]
    if hearing is None:
        tables = [{} for _ in shapes]
        return Presentation("item", shapes, np.ones(len(shapes), int), None, tables, feed)

    def make_inputs(rows: Sequence[int]) -> tuple[tuple, dict]:
        args, kwargs = feed(rows)
        if subject.input_fn is not None:
            return args, kwargs
        return args, {**kwargs, **make_decoder_inputs(subject, len(rows))}

    rate = ready.rate / hearing.stride
    lengths, recorded, tables = [], [], []
    for row in range(len(stimuli)):
        n_samples = ready.count_samples(row)
        n_frames = hearing.count(n_samples)
        _check_duration(stimuli, row, n_frames, n_samples / ready.rate, hearing, subject)
        n_shown = hearing.count(hearing.fixed) if hearing.fixed else n_frames
        lengths.append(n_shown)
        recorded.append(np.arange(n_shown) < n_frames)  # all, unless there is silence behind
        tables.append({"onset": np.arange(n_frames) / rate})
    return Presentation("frame", shapes, np.array(lengths), recorded, tables, make_inputs, rate)


def _check_duration(
    stimuli: Stimuli,
    row: int,
    n_frames: int,
    seconds: float,
    hearing: Hearing,
    subject: Subject,
) -> None:
    limit = hearing.count(hearing.fixed) if hearing.fixed else n_frames
    if 1 <= n_frames <= limit:
        return
    raise ValueError(
        f"stimulus {stimuli.table['stimulus_id'].iloc[row]!r} lasts {seconds:g} s: too "
        f"{'short' if n_frames < 1 else 'long'} for {subject.name!r}, which gives it "
        f"{max(n_frames, 0)} frames" + (f" of at most {limit}" if n_frames > limit else "") + ". "
        "Give another sound, or cut it."
    )


class SoundLoader:
    """Bring sounds to what a model hears.

    Parameters
    ----------
    subject : Subject
        Its feature extractor is asked for waveforms, unless it has an input function.
    stimuli : Stimuli
        Of kind "audio": waveforms, or features (feature, time).

    Raises
    ------
    ValueError
        If a sound does not fit the subject.
    """

    def __init__(self, subject: Subject, stimuli: Stimuli):
        self._subject, self._stimuli = subject, stimuli
        self._extractor = subject.processor if subject.input_fn is None else None
        self._features = subject.input_name == "input_features"
        self._shapes = [stimuli.item(row).shape for row in range(len(stimuli))]
        for row in range(len(stimuli)):
            self._check(row)

    @property
    def rate(self) -> float:
        """Samples of the model's input per second."""
        if self._features and self._is_wave(0):
            return self._stimuli.rate / self._hop
        return self._stimuli.rate

    def count_samples(self, row: int) -> int:
        """Return the number of samples of the model's input that a sound lasts.

        Parameters
        ----------
        row : int
            Row of the stimulus table.

        Returns
        -------
        n : int
            Without what a feature extractor pads.
        """
        n = self._shapes[row][-1]
        return -(-n // self._hop) if self._features and self._is_wave(row) else n

    def shape(self, row: int) -> tuple[int, ...]:
        """Return the shape that the model hears, without processing every sound.

        Parameters
        ----------
        row : int
            Row of the stimulus table.

        Returns
        -------
        shape : tuple
            Equal for sounds that can share a batch.
        """
        if self._extractor is not None and self._features and self._is_wave(row):
            return ("processed",)
        return self._shapes[row]

    def __call__(self, row: int) -> np.ndarray:
        item = self._stimuli.item(row)
        if self._extractor is None or not self._is_wave(row):
            return item
        done = self._extractor(item, sampling_rate=int(self._stimuli.rate), return_tensors="np")
        return done[self._subject.input_name][0]

    @property
    def _hop(self) -> int:
        """Samples of a waveform from one feature to the next."""
        return self._subject.processor.hop_length

    def _is_wave(self, row: int) -> bool:
        return len(self._shapes[row]) == 1

    def _check(self, row: int) -> None:
        """Raise for a sound that the subject cannot hear, or hears at another speed."""
        subject, wave = self._subject, self._is_wave(row)
        name = self._stimuli.table["stimulus_id"].iloc[row]
        if self._features and wave and not hasattr(subject.processor, "hop_length"):
            raise ValueError(
                f"stimulus {name!r} is a waveform; {subject.name!r} takes features. Load it with "
                "processor= (its feature extractor), or give features (feature, time)."
            )
        if subject.input_name == "input_values" and not wave and subject.input_fn is None:
            raise ValueError(
                f"stimulus {name!r} has shape {self._shapes[row]}; {subject.name!r} "
                "takes waveforms of one channel: shape (time,)."
            )
        mels = getattr(subject.config, "num_mel_bins", None) if self._features else None
        if not wave and mels and subject.input_fn is None and self._shapes[row][0] != mels:
            raise ValueError(
                f"stimulus {name!r} has shape {self._shapes[row]}; {subject.name!r} "
                f"takes {mels} features: shape ({mels}, time)."
            )
        if wave != self._is_wave(0):
            raise ValueError(
                f"stimulus {name!r} has shape {self._shapes[row]}, the first one "
                f"{self._shapes[0]}. Give waveforms only, or features only."
            )
        heard = getattr(subject.processor, "sampling_rate", None)
        if heard and not wave:
            heard = heard / self._hop
        if heard and heard != self._stimuli.rate:
            raise ValueError(
                f"rate={self._stimuli.rate:g} is not what {subject.name!r} hears: {heard:g} per "
                "second. Resample the sounds first, for example with scipy.signal.resample_poly."
            )
