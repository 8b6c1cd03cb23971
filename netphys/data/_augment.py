"""Small random changes of an image or an array: crop, shift, brightness, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from netphys._check import check_type


@dataclass(frozen=True)
class Augmentation:
    """How much an item may be changed.

    Parameters
    ----------
    shift : int
        Most pixels by which an image is moved along either axis; its edge is repeated.
    crop : float
        Largest part of either side that is cut away before the rest is enlarged to the old size.
    brightness : float
        Values are multiplied by a factor drawn evenly from 1 - brightness to 1 + brightness.
    noise : float
        SD of Gaussian noise that is added to every value, in units of the values.
    """

    shift: int
    crop: float
    brightness: float
    noise: float

    def check(self, kind: str) -> None:
        """Raise unless something is changed, and it can be changed in stimuli of this kind."""
        check_type("shift", self.shift, int, "a number of pixels")
        if self.shift < 0:
            raise ValueError(f"shift={self.shift} must be 0 pixels or more.")
        for name, top in (("crop", 1.0), ("brightness", 1.0), ("noise", math.inf)):
            value = getattr(self, name)
            check_type(name, value, (int, float), "a number")
            if not 0 <= value < top:
                raise ValueError(f"{name}={value} must be 0 or more" + f" and below {top:g}.")
        if kind != "image" and (self.shift or self.crop or self.brightness):
            raise ValueError(
                f"shift=, crop= and brightness= are for images, these stimuli are of kind {kind!r}."
                " Give noise= alone."
            )
        if not (self.shift or self.crop or self.brightness or self.noise):
            raise ValueError(
                "kind='augmentation' changes nothing. Give shift=, crop=, brightness= or noise= "
                "(noise= for anything but images)."
            )

    def apply(
        self, item: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return a changed copy in the same type and shape, and what was drawn for it."""
        drawn: dict[str, float] = {}
        values = item.astype(np.float64)
        if self.shift or self.crop:
            lead = _is_channel_first(item)
            values = np.moveaxis(values, 0, -1) if lead else values
            if self.crop:
                values, drawn["augment_crop"] = _crop(values, self.crop, rng)
            if self.shift:
                steps = rng.integers(-self.shift, self.shift, size=2, endpoint=True)
                values = _shift(values, *steps)
                drawn |= {"augment_shift_y": int(steps[0]), "augment_shift_x": int(steps[1])}
            values = np.moveaxis(values, -1, 0) if lead else values
        if self.brightness:
            factor = rng.uniform(1 - self.brightness, 1 + self.brightness)
            values, drawn["augment_brightness"] = values * factor, factor
        if self.noise:
            values = values + rng.normal(0, self.noise, values.shape)
            drawn["augment_noise"] = float(self.noise)
        if item.dtype.kind in "iu":
            limits = np.iinfo(item.dtype)
            values = values.round().clip(limits.min, limits.max)
        return values.astype(item.dtype), drawn


def _is_channel_first(image: np.ndarray) -> bool:
    return image.dtype.kind == "f" and image.shape[0] in (1, 3)


def _crop(image: np.ndarray, most: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Cut a window from (y, x, channel) and enlarge it by linear interpolation."""
    part = rng.uniform(0, most)
    for axis in (0, 1):
        size = image.shape[axis]
        width = (size - 1) * (1 - part)
        places = rng.uniform(0, size - 1 - width) + np.linspace(0, width, size)
        low = np.minimum(places.astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        weight = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image, part


def _shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    rows = (np.arange(image.shape[0]) - down).clip(0, image.shape[0] - 1)
    columns = (np.arange(image.shape[1]) - right).clip(0, image.shape[1] - 1)
    return image[rows][:, columns]
