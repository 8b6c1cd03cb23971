"""The built-in subject that reads digits: a small convolutional network, trained ten times."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.nn import functional

from netphys.recording.builtin import LUMA, ImageResizer, make_config, resize_images, split_seed
from netphys.recording.twins import make_random, make_shuffled

STRIDES = (1, 1, 2, 1, 1, 1, 1)  # of the seven convolutions
WIDTHS = (3, 3, 3, 3, 3, 1, 1)  # of their kernels


class Digits(torch.nn.Module):
    """Seven convolutions and a mean over space, which say what digit a small grey image shows.

    After All-CNN-C [1]_, at a size for images of 8 x 8 pixels: no pooling and no dense layer; the
    third convolution halves the map, the last two see one place at a time. The sites `conv1` to
    `conv7` are outputs of convolutions, before the rectification that follows all but the last;
    `logits` is the mean of the last over space.

    Parameters
    ----------
    image_size : int
        Width and height in pixels that images are brought to.
    n_channels : int
        Channels of all convolutions but the last.
    n_classes : int
        Channels of the last convolution.

    References
    ----------
    .. [1] Springenberg JT, Dosovitskiy A, Brox T, Riedmiller M (2015). ICLR workshop.
       arXiv:1412.6806
    """

    main_input_name = "pixel_values"

    def __init__(self, image_size: int = 8, n_channels: int = 24, n_classes: int = 10):
        super().__init__()
        sizes = {"image_size": image_size, "n_channels": n_channels, "n_classes": n_classes}
        self.config = make_config("digits", **sizes)
        self.register_buffer("luma", torch.tensor(LUMA), persistent=False)
        depth = len(STRIDES)
        channels = [1, *[n_channels] * (depth - 1), n_classes]
        for k, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
            options = {"stride": stride, "padding": width // 2}
            layer = torch.nn.Conv2d(channels[k], channels[k + 1], width, **options)
            self.add_module(f"conv{k + 1}", layer)
        self.logits = _Mean()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the evidence for each digit.

        Parameters
        ----------
        pixel_values : Tensor, shape (image, 3 or 1, height, width)
            Red, green and blue, or grey, from 0 (ground) to 1 (ink); any size.

        Returns
        -------
        logits : Tensor, shape (image, n_classes)
            Unitless; the largest is the answer.
        """
        images = resize_images(pixel_values, self.config.image_size)
        maps = torch.einsum("nchw,c->nhw", images, self.luma)[:, None]
        for k in range(1, len(STRIDES)):
            maps = functional.relu(getattr(self, f"conv{k}")(maps))
        return self.logits(getattr(self, f"conv{len(STRIDES)}")(maps))


class _Mean(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))


def load_digits(
    name: str, folder: str | Path, *, init: str = "trained", seed: int = 0
) -> tuple[Digits, ImageResizer]:
    """Load one of the trained networks, or make a twin.

    Parameters
    ----------
    name : str
        ``"builtin:digits/3"``: what training made of seed 3; without a number: of seed 0.
    folder : path-like
        Where ``config.json`` and the weights are.
    init : str
        "trained"; "random": the weights that training from `seed` starts with, whatever the number
        in `name`; "shuffled": the trained ones permuted within each tensor.
    seed : int
        Seed of a twin.

    Returns
    -------
    model : Digits
        In eval mode.
    processor : ImageResizer
        For images in memory or files.
    """
    from safetensors.torch import load_file

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    model = Digits(**{k: v for k, v in config.items() if k != "model_type"}).eval()
    processor = ImageResizer(model.config.image_size)
    if init == "random":
        return make_random(model, seed), processor
    model.load_state_dict(load_file(Path(folder) / f"seed_{split_seed(name)[1] or 0}.safetensors"))
    return make_shuffled(model, seed) if init == "shuffled" else model, processor
