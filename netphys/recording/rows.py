"""From the tensor that passes a site to the stored rows: one row per sample, units flat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from netphys.recording.capture import CaptureError
from netphys.recording.sites import Site
from netphys.recording.sites.layout import arrange, count_heads
from netphys.recording.subject import DTYPES, Subject

_STORED = {torch.float64: "float64", **{kind: name for name, kind in DTYPES.items()}}
TORCH_TYPES = {name: kind for kind, name in _STORED.items()} | {
    "int8": torch.int8,
    "int32": torch.int32,
    "bits": torch.uint8,
}


@dataclass(frozen=True)
class SiteShape:
    """What a probe pass found out about a site.

    Parameters
    ----------
    site : Site
        The site.
    is_sequence : bool
        Whether it has a value per position, or one per trial.
    unit_shape : tuple of int
        Axes of one sample, before they are made flat.
    flat : bool
        Whether the model gives trials and positions as one axis.
    dtype : torch.dtype
        Type of the model's values.
    stored : str
        Name of the stored type.
    device : torch.device
        Where the values arise.
    n_slices : int
        Number of processes that hold `unit_shape` units each; 1: all are here.
    """

    site: Site
    is_sequence: bool
    unit_shape: tuple[int, ...]
    flat: bool
    dtype: torch.dtype
    stored: str
    device: torch.device
    n_slices: int = 1

    @property
    def n_units(self) -> int:
        """Number of units that pass here."""
        return int(np.prod(self.unit_shape))

    @property
    def whole(self) -> SiteShape:
        """The site with the units of all processes."""
        *outer, width = self.unit_shape
        return replace(self, unit_shape=(*outer, width * self.n_slices), n_slices=1)

    def to_rows(self, value: torch.Tensor, n_trials: int, n_positions: int) -> torch.Tensor:
        """Return the samples of a batch as (sample, unit), in the model's type.

        Parameters
        ----------
        value : Tensor
            What passed the site.
        n_trials, n_positions : int
            Size of the batch.

        Returns
        -------
        rows : Tensor
            Trials one after the other, also positions that are only shown.
        """
        given = tuple(value.shape)
        value = arrange(value, self.site.axes, sequence=self.is_sequence)
        if self.site.side == "pattern" and self.is_sequence and value.ndim == 4:
            value = value.movedim(1, 2)  # (trial, query, head, key)
            missing = self.unit_shape[-1] - value.shape[-1]
            if missing > 0:  # shorter sequences have fewer keys
                value = torch.nn.functional.pad(value, (0, missing), value=float("nan"))
        n_rows = n_trials * n_positions if self.is_sequence else n_trials
        lead = (n_trials, n_positions) if self.is_sequence and not self.flat else (n_rows,)
        axes = {(*lead, *self.unit_shape)} | ({lead} if self.unit_shape == (1,) else set())
        if tuple(value.shape) not in axes:
            raise CaptureError(
                f"site={self.site.name!r} gives {given} for {n_trials} trials"
                + (f" x {n_positions} positions" if self.is_sequence else "")
                + f", where a sample has the shape {self.unit_shape}: its axes do not follow the "
                "stimuli, or these differ in shape. Choose another module, or equal stimuli."
            )
        if value.dtype != self.dtype:
            raise CaptureError(
                f"site={self.site.name!r} changed from {self.dtype} to {value.dtype} between "
                "batches. Choose another module."
            )
        rows = value.reshape(n_rows, self.n_units)
        return rows if rows.stride(1) == 1 else rows.contiguous()  # channels came first


def find_shape(
    site: Site,
    value: torch.Tensor,
    n_trials: int,
    n_positions: int,
    *,
    sequence: bool,
    n_keys: int,
    dtype: str,
) -> SiteShape:
    """Find out from one batch how a site's values divide into samples and units.

    Parameters
    ----------
    site : Site
        The site.
    value : Tensor
        What passed it.
    n_trials, n_positions : int
        Size of the batch.
    sequence : bool
        Whether the stimuli have positions.
    n_keys : int
        Most positions that any trial has (for attention weights).
    dtype : str
        Type to store, or "native".

    Returns
    -------
    shape : SiteShape
        What it is.
    """
    sequence = sequence and site.axes != "patch"
    value = arrange(value, site.axes, sequence=sequence)
    shape, flat = tuple(value.shape), False
    if site.side == "pattern" and (shape[0] != n_trials or (sequence and shape[2] != n_positions)):
        raise CaptureError(
            f"site={site.name!r} gives {shape}: no attention weights of {n_trials} trials. "
            "Record its module's output instead."
        )
    if site.side == "pattern":
        unit_shape = (shape[1], n_keys) if sequence else shape[1:]
        is_sequence = sequence
    elif sequence and len(shape) >= 3 and shape[:2] == (n_trials, n_positions):
        unit_shape, is_sequence = shape[2:], True
    elif sequence and len(shape) == 2 and shape[0] == n_trials * n_positions != n_trials:
        unit_shape, is_sequence, flat = shape[1:], True, True
    elif shape and shape[0] == n_trials and not (sequence and len(shape) > 2):
        unit_shape, is_sequence = shape[1:], False
    else:
        raise CaptureError(
            f"site={site.name!r} gives {shape} for a batch of {n_trials} trials"
            + (f" x {n_positions} positions" if sequence else "")
            + ": its samples do not follow the stimuli. Choose another module."
        )
    stored = _STORED.get(DTYPES.get(dtype, value.dtype))
    if stored is None:
        raise CaptureError(
            f"site={site.name!r} has type {value.dtype}, which cannot be stored as it is. "
            f"Record with dtype= one of {', '.join(DTYPES)}."
        )
    return SiteShape(site, is_sequence, unit_shape or (1,), flat, value.dtype, stored, value.device)


def make_unit_table(shape: SiteShape, subject: Subject, *, image: bool) -> pd.DataFrame:
    """Describe the units of a site: layer, index, label, and where each lies.

    Parameters
    ----------
    shape : SiteShape
        The site and the axes of one sample.
    subject : Subject
        For the number of heads and the names of the tokens.
    image : bool
        Whether images were shown: a sample with two axes is then patch and channel.

    Returns
    -------
    table : DataFrame
        One row per unit.
    """
    site, n = shape.site, shape.n_units
    columns: dict[str, np.ndarray] = {"layer": np.full(n, site.layer), "index": np.arange(n)}
    heads = count_heads(subject.model, site.module) if site.kind == "head" else 0
    axes = _name_axes(shape, image)
    if axes:
        places = np.unravel_index(np.arange(n), shape.unit_shape)
        columns |= dict(zip(axes, places, strict=True))
    width = shape.unit_shape[-1]
    if heads and width % heads == 0:
        columns["head"] = np.arange(n) % width // (width // heads)
    columns["label"] = _label(shape, subject, columns)
    return pd.DataFrame(columns)


def _name_axes(shape: SiteShape, image: bool) -> tuple[str, ...]:
    n = len(shape.unit_shape)
    if shape.site.side == "pattern":
        return ("head", "key") if shape.is_sequence else ("head", "query", "key")
    if n == 3 and not shape.is_sequence:
        return ("channel", "y", "x")
    if n == 2 and shape.site.axes in ("patch", "position"):
        return (shape.site.axes, "channel")
    if n == 2 and image:
        return ("patch", "channel")  # of a vision transformer; its class token is patch 0
    if n == 2 and shape.site.kind == "conv":
        return ("channel", "x")
    return tuple(f"axis_{i}" for i in range(n)) if n > 1 else ()


def _label(shape: SiteShape, subject: Subject, columns: dict[str, np.ndarray]) -> np.ndarray:
    site, n = shape.site, shape.n_units
    if site.kind == "logits" and subject.tokenizer is not None:
        words = subject.tokenizer.convert_ids_to_tokens(range(min(n, len(subject.tokenizer))))
        return np.array([*map(str, words), *(f"token.{i}" for i in range(len(words), n))], object)
    stem = site.kind if site.kind != "module" else site.name
    if site.layer >= 0:
        stem = f"L{site.layer:02d}.{stem}"
    width = len(str(n - 1))
    return np.array([f"{stem}.{i:0{width}d}" for i in columns["index"]], object)
