"""The scale of each unit for storing activations as int8, found on a few batches beforehand."""

from __future__ import annotations

import numpy as np
import torch

from netphys.recording.capture import Capture
from netphys.recording.presentation import Presentation
from netphys.recording.rows import SiteShape
from netphys.recording.sites import Site
from netphys.recording.subject import Subject

_BATCHES = 8
_MARGIN = 1.25  # room for what the batches that were looked at do not show
_STEPS = 127


def find_scales(
    subject: Subject,
    presentation: Presentation,
    plan: list[list[int]],
    shapes: list[SiteShape],
) -> dict[str, np.ndarray]:
    """Show a few batches, spread over the plan, and return what one int8 step stands for.

    Parameters
    ----------
    subject : Subject
        Who is recorded.
    presentation : Presentation
        What is shown.
    plan : list of list of int
        Trials of each batch.
    shapes : list of SiteShape
        The sites.

    Returns
    -------
    scales : dict of str to ndarray of float32, shape (n_units,)
        Per site, activation units: 1.25 times the largest absolute value seen, in 127 steps. A unit
        that was silent gets a thousandth of the largest scale.

    Raises
    ------
    ValueError
        If a value is not finite: int8 cannot hold it.
    """
    by_name = {s.site.name: s for s in shapes}
    largest = {n: np.zeros(s.n_units, np.float32) for n, s in by_name.items()}
    chosen = np.unique(np.linspace(0, len(plan) - 1, _BATCHES).round().astype(int))
    rows: list[int] = []

    def take(site: Site, value: torch.Tensor) -> None:
        shape = by_name[site.name]
        values = shape.to_rows(value, len(rows), int(presentation.n_shown[rows[0]]))
        seen = values.abs().amax(0).float().cpu().numpy()
        if not np.isfinite(seen).all():
            raise ValueError(
                f"site={site.name!r} gives NaN or infinite values, which dtype='int8' cannot hold. "
                "Store a float type with nonfinite='keep', or leave the site out."
            )
        largest[site.name] = np.maximum(largest[site.name], seen)

    with Capture(subject.model, [s.site for s in shapes], take) as capture:
        for number in chosen:
            rows = plan[number]
            capture.start()
            args, kwargs = presentation.make_inputs(rows)
            subject.model(*args, **kwargs)
            capture.check()
    return {n: _to_scale(values) for n, values in largest.items()}


def _to_scale(largest: np.ndarray) -> np.ndarray:
    scale = _MARGIN * largest / np.float32(_STEPS)
    return np.maximum(scale, scale.max() / 1000 if scale.any() else 1.0).astype(np.float32)
