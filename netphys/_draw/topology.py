"""Pictures of topology: grids of thresholds, confusions, Betti curves, persistence diagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import BAND, DARK, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = {"rank": "rank", "quantile": "quantile", "value": "dissimilarity"}
STYLES = ("-", "--", ":", "-.")  # of degrees
HOLES = ("pieces (H0)", "loops (H1)", "voids (H2)")
MARK = "#d1495b"


def draw_grid(
    values: np.ndarray,
    lowers: np.ndarray,
    uppers: np.ndarray,
    *,
    chosen: np.ndarray,
    chosen_label: str,
    unit: str,
    scale: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw a value at each pair of thresholds as a heat map; sizes of marks count choices.

    Parameters
    ----------
    values : ndarray, shape (n_lowers, n_uppers)
        Values; NaN where there is no such pair.
    lowers, uppers : ndarray
        Thresholds, ascending.
    chosen : ndarray, shape (n_choices, 2)
        Pairs of thresholds to mark, lower and upper.
    chosen_label : str
        What the marks are.
    unit : str
        Text of the colour bar.
    scale : str
        What thresholds refer to: "rank", "quantile" or "value".
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 5.4, 4.8)
    image = ax.imshow(values, origin="lower", interpolation="nearest", cmap="viridis")
    ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    for axis, levels, name in ((ax.xaxis, uppers, "upper"), (ax.yaxis, lowers, "lower")):
        step = -(-len(levels) // 11)
        shown = np.arange(0, len(levels), step)
        axis.set_ticks(shown, [f"{levels[k]:.3g}" for k in shown])
        axis.set_label_text(f"{name} threshold ({SCALES[scale]})")
    if len(chosen):
        cells, counts = np.unique(chosen, axis=0, return_counts=True)
        x, y = np.searchsorted(uppers, cells[:, 1]), np.searchsorted(lowers, cells[:, 0])
        ax.scatter(
            x,
            y,
            s=20 + 100 * counts / counts.max(),
            facecolors="none",
            edgecolors=MARK,
            linewidths=1.8,
            label=chosen_label,
        )
        ax.legend(loc="upper left", frameon=False, fontsize="small")
    ax.set_title(title, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_confusion(
    matrix: np.ndarray, labels: list[str], *, unit: str, what: str, title: str, ax: Axes | None
) -> Axes:
    """Draw how often each label (row) was taken for which (column), with the values.

    Parameters
    ----------
    matrix : ndarray, shape (n_labels, n_labels)
        Fractions; rows sum to 1.
    labels : list of str
        Labels.
    unit : str
        Text of the colour bar.
    what : str
        What the labels are.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    n = len(labels)
    ax = get_axes(ax, 2.8 + 0.42 * n, 2.2 + 0.4 * n)
    image = ax.imshow(matrix, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    turn = 90 if n > 4 or max(map(len, labels)) > 8 else 0
    ax.set_xticks(range(n), labels, rotation=turn, fontsize=9 if n <= 16 else 6)
    ax.set_yticks(range(n), labels, fontsize=9 if n <= 16 else 6)
    if n <= 14:
        for (i, j), value in np.ndenumerate(matrix):
            if value > 0:
                colour = DARK if value > 0.6 else "white"
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_xlabel(f"{what} assigned")
    ax.set_ylabel(f"true {what}")
    ax.set_title(title, fontsize=11)
    return ax


def draw_betti(
    thresholds: np.ndarray,
    curves: np.ndarray,
    *,
    labels: list[str],
    degrees: list[int],
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw Betti numbers over the threshold: a colour per RDM, a line style per degree.

    Parameters
    ----------
    thresholds : ndarray, shape (n_thresholds,)
        Where they were counted.
    curves : ndarray, shape (n_degrees, n_rdms, n_thresholds)
        Betti numbers.
    labels : list of str
        RDMs; one empty text for a single one.
    degrees : list of int
        Degrees.
    unit : str
        Text of the threshold axis.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    import matplotlib

    ax = get_axes(ax, 5.6, 4.0)
    n = len(labels)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, n)) if n > 1 else [DARK]
    for degree, rows in zip(degrees, curves, strict=True):
        for colour, row in zip(colours, rows, strict=True):
            style = STYLES[degree % len(STYLES)]
            ax.step(thresholds, row, style, where="post", color=colour, lw=1.4)
    if n > 1 and n <= 9:
        for colour, label in zip(colours, labels, strict=True):
            ax.plot([], [], color=colour, label=label)
    elif n > 1:
        for k in (0, n - 1):
            ax.plot([], [], color=colours[k], label=f"{labels[k]} ({k + 1} of {n})")
    if len(degrees) > 1 or n == 1:
        for degree in degrees:
            name = HOLES[degree] if degree < len(HOLES) else f"H{degree}"
            ax.plot([], [], STYLES[degree % len(STYLES)], color=DARK, label=name)
    ax.set_yscale("symlog", linthresh=1, linscale=0.5)
    ax.set_ylim(bottom=0)
    highest = max(1, curves.max())
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= highest * 1.1]
    ax.set_yticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel(unit)
    ax.set_ylabel("number of holes" if max(degrees) else "number of pieces")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax


def draw_diagram(diagrams: list[np.ndarray], *, unit: str, title: str, ax: Axes | None) -> Axes:
    """Draw births and deaths of each degree; what never dies stands on a line at the top.

    Parameters
    ----------
    diagrams : list of ndarray, shape (n_classes, 2)
        Births and deaths, from degree 0 on.
    unit : str
        Unit of the axes.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 4.8, 4.6)
    every = np.concatenate([d.ravel() for d in diagrams])
    known = every[np.isfinite(every)]
    top = known.max() if len(known) and known.max() > 0 else 1.0
    forever = 1.08 * top
    ax.fill_between([0, top], [0, top], 0, color=BAND, lw=0, zorder=0)
    ax.plot([0, top], [0, top], color=DARK, lw=0.8, zorder=1)
    if np.isinf(every).any():
        ax.axhline(forever, color=DARK, lw=0.8, ls=":", zorder=1)
        ax.text(top, 1.005 * forever, "never", ha="right", va="bottom", fontsize=8, color=DARK)
    for degree, (diagram, mark) in enumerate(zip(diagrams, "osv^D", strict=False)):
        name = HOLES[degree] if degree < len(HOLES) else f"H{degree}"
        death = np.where(np.isinf(diagram[:, 1]), forever, diagram[:, 1])
        style = {"ms": 5, "alpha": 0.75, "mew": 0, "zorder": 2 + degree}
        ax.plot(diagram[:, 0], death, mark, color=f"C{degree}", label=name, **style)
    ax.set_xlim(-0.04 * top, 1.06 * top)
    ax.set_ylim(-0.04 * top, 1.16 * top)
    ax.set_xlabel(f"birth ({unit})")
    ax.set_ylabel(f"death ({unit})")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax
