"""What all pictures share: a place to draw, and colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINT, BAND, DARK = "#9aa5b1", "#d9dee3", "#1b2733"


def get_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new figure of that size in inches.

    Parameters
    ----------
    ax : Axes or None
        Where to draw.
    width, height : float
        Size of the figure made where there is none.

    Returns
    -------
    ax : Axes
        Where to draw.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
