"""Images: from a file or an array to what a vision model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netphys.data._image_files import read_image
from netphys.data.stimuli import Stimuli
from netphys.recording.subject import Subject


class ImageLoader:
    """Load images and bring them to the model's pixel values.

    Parameters
    ----------
    subject : Subject
        Its processor is asked, unless it has an input function.
    stimuli : Stimuli
        Images in memory, image files, or .npy files.
    """

    def __init__(self, subject: Subject, stimuli: Stimuli):
        self._subject, self._stimuli = subject, stimuli

    def shape(self, row: int) -> tuple[int, ...]:
        """Return the shape that the model sees, without processing every image.

        Parameters
        ----------
        row : int
            Row of the stimulus table.

        Returns
        -------
        shape : tuple
            Equal for images that can share a batch.
        """
        item = self._stimuli.item(row)
        if isinstance(item, Path) and item.suffix.lower() != ".npy" and self._has_processor:
            return ("processed",)
        image = self._load(row)
        return ("processed",) if self._has_processor and not _is_ready(image) else image.shape

    def __call__(self, row: int) -> np.ndarray:
        image = self._load(row)
        if self._subject.input_fn is not None or _is_ready(image):
            return image
        if self._has_processor and image.dtype == np.uint8:
            done = self._subject.processor(images=[image], return_tensors="np")
            return done["pixel_values"][0]
        need = "uint8 (height, width, 3)" if self._has_processor else "an image processor"
        raise ValueError(
            f"stimulus {self._stimuli.table['stimulus_id'].iloc[row]!r}: an image of shape "
            f"{image.shape} and type {image.dtype} needs {need} for {self._subject.name!r}. Give "
            "that, or floating-point pixel values (channel, height, width), or an input_fn."
        )

    @property
    def _has_processor(self) -> bool:
        return self._subject.processor is not None and self._subject.input_fn is None

    def _load(self, row: int) -> np.ndarray:
        item = self._stimuli.item(row)
        if isinstance(item, np.ndarray):
            return item
        return read_image(item)


def _is_ready(image: np.ndarray) -> bool:
    """Whether an array already is pixel values, channel first."""
    return image.dtype.kind == "f" and image.ndim == 3 and image.shape[0] in (1, 3)
