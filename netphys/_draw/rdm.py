"""Pictures of dissimilarities, and of similarities between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import DARK, POINT, get_axes
from netphys._draw.icons import find_runs, place_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS = 40  # more conditions than this are not named at the axes


def draw_rdm(
    matrix: np.ndarray,
    labels: list[str],
    *,
    unit: str,
    title: str,
    ax: Axes | None,
    groups: list[str] | None = None,
    images: list[np.ndarray] | None = None,
) -> Axes:
    """Draw dissimilarities (condition, condition) as a heat map; the diagonal stays empty.

    Parameters
    ----------
    matrix : ndarray, shape (n_conditions, n_conditions)
        Dissimilarities.
    labels : list of str
        Conditions.
    unit : str
        Text of the colour bar.
    title : str
        Title.
    ax : Axes or None
        Where to draw.
    groups : list of str, optional
        Group of each condition: runs of one group are named at the axes and parted by lines.
    images : list of ndarray, optional
        Picture of each condition, beside its row and below its column.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 5.2, 4.4)
    shown = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    known = shown[np.isfinite(shown)]
    style = {"cmap": "viridis"}
    if len(known) and known.min() < 0:  # unbiased distances scatter around 0
        style = {"cmap": "RdBu_r", "vmin": -np.abs(known).max(), "vmax": np.abs(known).max()}
    image = ax.imshow(shown, interpolation="nearest", **style)
    ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    if groups:
        _name_runs(ax, groups)
    elif images:
        ax.set_xticks([])
        ax.set_yticks([])
    elif len(labels) <= MAX_LABELS:
        size = 9 if len(labels) <= 16 else 6
        ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
        ax.set_yticks(range(len(labels)), labels, fontsize=size)
    else:
        ax.set_xlabel("condition")
        ax.set_ylabel("condition")
    if images:
        _place_images(ax, images)
    ax.set_title(title)
    return ax


def _name_runs(ax: Axes, groups: list[str]) -> None:
    """Name runs of neighbours of one group in their middle, with a line between runs."""
    runs = find_runs(groups)
    middles = [(begin + end - 1) / 2 for _, begin, end in runs]
    names = [name for name, _, _ in runs]
    ax.set_xticks(middles, names, rotation=90, fontsize=8)
    ax.set_yticks(middles, names, fontsize=8)
    ax.tick_params(length=0)
    for _, begin, _ in runs[1:]:
        ax.axhline(begin - 0.5, color="white", lw=1)
        ax.axvline(begin - 0.5, color="white", lw=1)


def _place_images(ax: Axes, images: list[np.ndarray]) -> None:
    """Put pictures along the left and the lower side, in as many rows as they need."""
    n = len(images)
    height = ax.figure.get_figheight() * 72 * 0.7
    size = max(9.0, height / n)
    rows = max(1, int(np.ceil(size * n / height)))
    step = n * size / height * 1.1
    for k, image in enumerate(images):
        away = 0.7 * step + (k % rows) * step
        place_image(ax, image, -0.5 - away, k, size=size, inside=False)
        place_image(ax, image, k, n - 0.5 + away, size=size, inside=False)
    pad = size * (rows + 0.6)
    ax.tick_params(axis="both", pad=pad)


def draw_similarity(
    matrix: np.ndarray,
    rows: list[str],
    columns: list[str],
    *,
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw signed similarities (row, column) as a heat map with their values.

    Parameters
    ----------
    matrix : ndarray, shape (n_rows, n_columns)
        Similarities.
    rows, columns : list of str
        Labels.
    unit : str
        Text of the colour bar.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    n_rows, n_columns = matrix.shape
    ax = get_axes(ax, 2.6 + 0.5 * n_columns, 1.8 + 0.34 * n_rows)
    known = np.abs(matrix[np.isfinite(matrix)])
    limit = known.max() if len(known) and known.max() > 0 else 1.0
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label=unit)
    ax.set_yticks(range(n_rows), rows)
    ax.set_xticks(range(n_columns), columns, rotation=90 if n_columns > 4 else 0)
    if matrix.size <= 200:
        for (i, j), value in np.ndenumerate(matrix):
            colour = "white" if abs(value) > 0.65 * limit else DARK
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_title(title)
    return ax


def draw_null(null: np.ndarray, observed: float, *, unit: str, title: str, ax: Axes | None) -> Axes:
    """Draw values under the null hypothesis (draw,) as a histogram, and what was observed.

    Parameters
    ----------
    null : ndarray, shape (n_draws,)
        Draws.
    observed : float
        The statistic.
    unit : str
        Text of the axis.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 5.2, 3.4)
    ax.hist(null, bins=40, histtype="stepfilled", color=POINT, label="under the null")
    ax.axvline(observed, color=DARK, label="observed")
    ax.set_xlabel(unit)
    ax.set_ylabel("draws")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax
