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


def put_legend_above(ax: Axes) -> None:
    """Put the legend between title and picture, so that it takes no width on a narrow page.

    Parameters
    ----------
    ax : Axes
        With labelled artists; its title moves up.
    """
    handles, labels = ax.get_legend_handles_labels()
    rows = -(-len(labels) // 3)
    ax.set_title(ax.get_title(), pad=10 + 15 * rows, fontsize=11)
    options = {"frameon": False, "fontsize": "small", "ncols": 3, "columnspacing": 1.2}
    ax.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), **options)
