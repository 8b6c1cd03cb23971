"""Sounds: how a model hears them, which frame begins when, and what is only padding."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Sequence
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
    keys: list[Hashable] = list(ready.shapes)  # sounds of equal length share a batch
    if hearing is None:
        return Presentation("item", keys, np.ones(len(keys), int), None, [{} for _ in keys], feed)
    if hearing.fixed and ready.pads:
        keys = [hearing.fixed] * len(keys)

    def make_inputs(rows: Sequence[int]) -> tuple[tuple, dict]:
        args, kwargs = feed(rows)
        if subject.input_fn is not None:
            return args, kwargs
        return args, {**kwargs, **make_decoder_inputs(subject, len(rows))}

    rate = ready.rate / hearing.stride if ready.hop else 1.0
    lengths, recorded, tables = [], [], []
    for row, shape in enumerate(ready.shapes):
        n_samples = -(-shape[-1] // ready.hop) if ready.hop else hearing.fixed
        n_frames = hearing.count(n_samples)
        _check_duration(stimuli, row, n_frames, n_samples / ready.rate, hearing, subject)
        n_shown = hearing.count(hearing.fixed) if hearing.fixed else n_frames
        lengths.append(n_shown)
        recorded.append(np.arange(n_shown) < n_frames)  # all, unless there is silence behind
        tables.append({"onset": np.arange(n_frames) / rate} if ready.hop else {})
    return Presentation("frame", keys, np.array(lengths), recorded, tables, make_inputs, rate)


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
        self.shapes = [stimuli.item(row).shape for row in range(len(stimuli))]
        self._is_wave = len(self.shapes[0]) == 1
        for row in range(len(stimuli)):
            self._check(row)

    @property
    def hop(self) -> int | None:
        """Samples of a sound to one of the model's input; None where it cannot be known."""
        if self._features and self._is_wave:
            return getattr(self._subject.processor, "hop_length", None)
        return 1

    @property
    def rate(self) -> float:
        """Samples of the model's input per second."""
        return self._stimuli.rate / (self.hop or 1)

    @property
    def pads(self) -> bool:
        """Whether a feature extractor brings all sounds to one length."""
        return self._features and self._is_wave and self._extractor is not None

    def __call__(self, row: int) -> np.ndarray:
        item = self._stimuli.item(row)
        if self._extractor is None or not self._is_wave:
            return item
        done = self._extractor(item, sampling_rate=int(self._stimuli.rate), return_tensors="np")
        return done[self._subject.input_name][0]

    def _check(self, row: int) -> None:
        """Raise for a sound that the subject cannot hear, or hears at another speed."""
        subject, shape, wave = self._subject, self.shapes[row], self._is_wave
        name = f"stimulus {self._stimuli.table['stimulus_id'].iloc[row]!r}"
        if (len(shape) == 1) != wave:
            raise ValueError(
                f"{name} has shape {shape}, the first one {self.shapes[0]}. Give waveforms only, "
                "or features only."
            )
        mels = getattr(subject.config, "num_mel_bins", None)
        if subject.input_fn is not None:
            pass  # which turns anything into what the model takes
        elif self._features and wave and self._extractor is None:
            raise ValueError(
                f"{name} is a waveform; {subject.name!r} takes features. Load it with processor= "
                "(its feature extractor), or give features (feature, time)."
            )
        elif subject.input_name == "input_values" and not wave:
            raise ValueError(
                f"{name} has shape {shape}; {subject.name!r} takes waveforms of one channel: shape "
                "(time,)."
            )
        elif self._features and not wave and mels and shape[0] != mels:
            raise ValueError(
                f"{name} has shape {shape}; {subject.name!r} takes {mels} features: shape ({mels}, "
                "time)."
            )
        heard = getattr(subject.processor, "sampling_rate", None)
        if heard and not wave:
            hop = getattr(subject.processor, "hop_length", None)
            heard = heard / hop if hop else None
        if heard and heard != self._stimuli.rate:
            raise ValueError(
                f"rate={self._stimuli.rate:g} is not what {subject.name!r} hears: {heard:g} per "
                "second. Resample the sounds first, for example with scipy.signal.resample_poly."
            )
