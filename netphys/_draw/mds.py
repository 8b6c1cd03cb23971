"""Picture of a map of conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import DARK, POINT, get_axes, put_legend_above
from netphys._draw.icons import place_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS = 40  # more conditions than this are not named


def draw_map(
    places: np.ndarray,
    labels: list[str],
    *,
    groups: list[str] | None,
    images: list[np.ndarray] | None,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw conditions at their places, as points, names or pictures.

    Parameters
    ----------
    places : ndarray, shape (n_conditions, 2)
        Places.
    labels : list of str
        Conditions.
    groups : list of str or None
        Group of each: its colour.
    images : list of ndarray or None
        Picture of each.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 5.6, 5.4)
    names = list(dict.fromkeys(groups or [""]))
    for k, name in enumerate(names):
        own = np.array([g == name for g in groups]) if groups else np.ones(len(labels), bool)
        colour = f"C{k % 10}" if groups else POINT
        ax.plot(*places[own].T, "o", color=colour, ms=5, label=name or None, zorder=2)
    if images:
        side = max(10.0, min(40.0, 150 / np.sqrt(len(labels))))
        for k, ((x, y), image) in enumerate(zip(places, images, strict=True)):
            edge = f"C{names.index(groups[k]) % 10}" if groups else None
            place_image(ax, image, x, y, size=side, edge=edge)
    elif len(labels) <= MAX_LABELS:
        for (x, y), label in zip(places, labels, strict=True):
            ax.annotate(
                label, (x, y), (4, 4), textcoords="offset points", color=DARK, fontsize=7, zorder=4
            )
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title)
    if groups:
        put_legend_above(ax)
    return ax
