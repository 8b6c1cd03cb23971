"""Sound files: WAV, one channel, read as floating-point samples."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

SUFFIX = ".wav"
_FULL_SCALE = {"int16": 2**15, "int32": 2**31}


def load_sound(path: Path) -> np.ndarray:
    """Return the samples of a WAV file, whole numbers divided by their full scale.

    Parameters
    ----------
    path : Path
        File of one channel.

    Returns
    -------
    samples : ndarray of float32, shape (time,)
        Between -1 and 1 where the file holds whole numbers (8 bits: 0 to 255 around 128).
    """
    samples = _read(path)[1]
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ValueError(f"stim_file={str(path)!r} holds NaN or infinite values. Clean it first.")
    if samples.dtype == np.uint8:
        return ((samples.astype(np.float32) - 128) / 128).astype(np.float32)
    scale = _FULL_SCALE.get(samples.dtype.name, 1)
    return (samples / np.float64(scale)).astype(np.float32)


def find_rate(paths: list[Path], rate: float) -> float:
    """Return the samples per second of sound files, which must have one rate.

    Parameters
    ----------
    paths : list of Path
        WAV files.
    rate : float
        As the user says; 1 where nothing is said.

    Returns
    -------
    rate : float
        Samples per second.
    """
    first = None
    for path in paths:
        found, samples = _read(path)
        if samples.ndim != 1:
            raise ValueError(
                f"stim_file={path.name!r} has {samples.shape[1]} channels. Mix it to one first."
            )
        wanted = first or (None if rate == 1 else rate)
        if wanted and not math.isclose(found, wanted):
            raise ValueError(
                f"stim_file={path.name!r} has {found} samples per second, not {wanted:g}. Resample "
                "the sounds to one rate."
            )
        first = first or float(found)
    return first


def _read(path: Path) -> tuple[int, np.ndarray]:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of other programs
        try:
            return wavfile.read(path, mmap=True)
        except ValueError:
            pass  # 24 bits cannot be mapped
        try:
            return wavfile.read(path)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"stim_file={str(path)!r} is not a readable WAV ({error}).") from error
