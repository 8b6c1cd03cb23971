"""How the values of a site are laid out: which axis is time where it is not the second one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from netphys.recording.sites.find import Site


class CaptureError(RuntimeError):
    """A site that did not give exactly one tensor of the expected kind in a forward pass."""


_OVER_TIME = (
    torch.nn.Conv1d,
    torch.nn.Conv3d,
    torch.nn.ConvTranspose1d,
    torch.nn.ConvTranspose3d,
)


def find_axes(module: torch.nn.Module, path: str, towers: Mapping[str, str]) -> str:
    """Return how a module lays out what it takes and gives.

    Parameters
    ----------
    module : Module
        The module.
    path : str
        Where it stands in its model.
    towers : dict of str to str
        For a model of two towers: name of each, and what its samples have beside units.

    Returns
    -------
    axes : str
        "time first" (a recurrent or attention layer of torch with ``batch_first=False``),
        "channel first" (a convolution over time), "patch" or "position" (inside a tower), or "" for
        trial, position, unit.
    """
    tower = next((axes for name, axes in towers.items() if name in path.split(".")), "")
    if tower:
        return tower
    if getattr(module, "batch_first", None) is False:
        return "time first"
    return "channel first" if isinstance(module, _OVER_TIME) else ""


def arrange(value: torch.Tensor, axes: str, *, sequence: bool) -> torch.Tensor:
    """Bring a site's value to the order trial, position, unit.

    Parameters
    ----------
    value : Tensor
        What passed the site.
    axes : str
        Its layout.
    sequence : bool
        Whether the stimuli have positions; else a convolution's axes stay channel, place.

    Returns
    -------
    value : Tensor
        A view of the same values.
    """
    if axes == "time first" and value.ndim == 3:
        return value.transpose(0, 1)
    if axes == "channel first" and sequence and value.ndim in (3, 5):
        return value.transpose(1, 2)
    return value


def unpack(value: object, site: Site) -> object:
    """Return what a module takes or gives with packed sequences as tensors.

    Parameters
    ----------
    value : object
        Input or output of a module.
    site : Site
        Which.

    Returns
    -------
    value : object
        The same where nothing is packed.

    Raises
    ------
    CaptureError
        If sequences of different lengths are packed: netphys shows equal lengths, so the model
        left something out.
    """
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        padded, lengths = torch.nn.utils.rnn.pad_packed_sequence(
            value, batch_first=site.axes != "time first"
        )
        if (lengths != lengths[0]).any():
            raise CaptureError(
                f"site={site.name!r}: the model packs {int(lengths.min())} to {int(lengths.max())} "
                "steps of stimuli that are equally long. Let it pack all steps, or record another "
                "module."
            )
        return padded
    if type(value) in (tuple, list) and value:
        return (unpack(value[0], site), *value[1:])
    return value


def count_heads(model: torch.nn.Module, path: str) -> int:
    """Return the number of attention heads around a module.

    Parameters
    ----------
    model : Module
        The model.
    path : str
        Module inside it.

    Returns
    -------
    n : int
        As the configuration of the nearest module around it says; 0 where none says it.
    """
    while True:
        config = getattr(model.get_submodule(path), "config", None)
        heads = getattr(config, "num_attention_heads", None)
        if isinstance(heads, int):
            return heads
        if not path:
            return 0
        path = path.rpartition(".")[0]
