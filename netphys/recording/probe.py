"""What the sites of a subject look like, found with a made-up item instead of stimuli."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from netphys.recording.audio import find_hearing, make_decoder_inputs
from netphys.recording.capture import Capture, hold_still
from netphys.recording.sites import Site, find_towers, select_sites
from netphys.recording.sites.layout import arrange
from netphys.recording.subject import Subject


def probe_shapes(subject: Subject, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample of each site, from a made-up item; {} where none can be made.

    Parameters
    ----------
    subject : Subject
        Whose sites.
    names : sequence of str
        Site names.

    Returns
    -------
    shapes : dict of str to tuple of int
        Without the axes of batch and position; sites that give no tensor are left out.
    """
    inputs = _make_up(subject)
    sites = select_sites(subject.model, names) if names else []
    if not inputs or not sites:
        return {}
    sequence = "pixel_values" not in inputs or len(inputs) > 1
    shapes: dict[str, tuple[int, ...]] = {}

    def take(site: Site, value: torch.Tensor) -> None:
        over_time = sequence and site.axes != "patch"
        value = arrange(value, site.axes, sequence=over_time)
        drop = min(2 if over_time else 1, value.ndim - 1)
        is_pattern = site.side == "pattern"
        shapes[site.name] = (value.shape[1],) if is_pattern else tuple(value.shape[drop:])

    with (
        hold_still(subject.model, eager=any(s.side == "pattern" for s in sites)),
        Capture(subject.model, sites, take, strict=False) as capture,
    ):
        capture.start()
        try:
            subject.model(**inputs)
        except Exception:  # a model that wants more than one made-up item: shapes stay blank
            return {}
    return shapes


def _make_up(subject: Subject) -> dict[str, torch.Tensor]:
    """Return the smallest input that a transformers model takes, {} where we do not know it."""
    takes, config = subject.input_name, subject.config
    place = {"device": subject.device, "dtype": subject.dtype}
    images = {}
    if takes == "pixel_values" or find_towers(subject.model):
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 64)
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(vision, "num_channels", 3)
        images = {"pixel_values": torch.zeros((1, channels, height, width), **place)}
    if takes == "input_ids":
        ids = torch.zeros((1, 3), dtype=torch.long, device=subject.device)
        return {"input_ids": ids, **images}
    hearing = find_hearing(subject)
    if hearing is None:
        return images
    shape = hearing.smallest
    return {takes: torch.zeros((1, *shape), **place), **make_decoder_inputs(subject, 1)}
