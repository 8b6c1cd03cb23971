"""Pictures of tolerance to noise: accuracy against noise, a line per descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import DARK, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"rdm": DARK, "ranked": "#7a8794", "rgtm": "#2a9d8f", "rgdm": "#d1495b"}
MARKS = {"rdm": "o", "ranked": "s", "rgtm": "^", "rgdm": "D"}


def draw_tolerance(
    levels: np.ndarray,
    accuracy: Mapping[str, np.ndarray],
    interval: Mapping[str, np.ndarray],
    optimistic: Mapping[str, np.ndarray],
    *,
    chance: float,
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw accuracy with intervals against noise; what is optimistic is hollow and dotted.

    Parameters
    ----------
    levels : ndarray, shape (n_levels,)
        Sizes of the noise.
    accuracy : mapping of str to ndarray, shape (n_levels,)
        By descriptor.
    interval : mapping of str to ndarray, shape (n_levels, 2)
        By descriptor.
    optimistic : mapping of str to ndarray, shape (n_levels,)
        Of the descriptors with thresholds: at the best ones.
    chance : float
        Accuracy by chance.
    unit : str
        Text of the vertical axis.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 6.2, 4.4)
    order = np.argsort(levels)
    gaps = np.diff(levels[order])
    width = 0.09 * (gaps.min() if len(gaps) else 1.0)
    for k, (name, values) in enumerate(accuracy.items()):
        x = levels[order] + (k - (len(accuracy) - 1) / 2) * width
        bars = np.abs(interval[name][order].T - values[order])
        style = {"color": COLOURS.get(name, f"C{k}"), "marker": MARKS.get(name, "o"), "ms": 5}
        ax.errorbar(x, values[order], bars, lw=1.4, elinewidth=1.1, label=name.upper(), **style)
        if name in optimistic:
            hollow = {"markerfacecolor": "none", "ls": ":", "lw": 1.0, "alpha": 0.8}
            label = f"{name.upper()}, best cell (optimistic)"
            ax.plot(x, optimistic[name][order], label=label, **style, **hollow)
    ax.axhline(chance, color=DARK, lw=0.9, ls="--", label="chance")
    ax.set_ylim(0, 1.03)
    ax.set_xticks(levels[order], [f"{x:g}" for x in levels[order]])
    ax.set_xlabel("noise (SD of the dissimilarities)")
    ax.set_ylabel(unit)
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax
