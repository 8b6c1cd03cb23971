"""Picture of a brain match: scores of candidates with people, intervals, ceiling and twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import BAND, DARK, POINT, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_match(
    labels: list[str],
    models: list[str],
    score: np.ndarray,
    *,
    interval: np.ndarray | None,
    twin: np.ndarray | None,
    ceiling: np.ndarray | None,
    marked: np.ndarray,
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw scores (layer, participant) as points, with their means over the noise ceiling.

    Parameters
    ----------
    labels, models : list of str
        Site and model of each candidate; the candidates of a model are joined by a line.
    score : ndarray, shape (n_layers, n_participants)
        Similarities.
    interval : ndarray, shape (n_layers, 2), or None
        Interval of the mean.
    twin : ndarray, shape (n_layers,), or None
        Mean score of the untrained twin, NaN where there is none.
    ceiling : ndarray, shape (2,), or None
        Lower and upper noise ceiling.
    marked : ndarray of bool, shape (n_layers,)
        Candidates to mark as significant.
    unit : str
        Text of the score axis.
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
    ax = get_axes(ax, min(5 + 0.32 * n, 14), 4.4)
    x = np.arange(n)
    if ceiling is not None and np.isfinite(ceiling).all():
        ax.axhspan(*ceiling, color=BAND, zorder=0, label="noise ceiling", lw=0)
    n_people = score.shape[1]
    spread = np.linspace(-0.2, 0.2, n_people) if n_people > 1 else np.zeros(1)
    ax.plot(x[:, None] + spread, score, "o", color=POINT, ms=3, zorder=1)
    ax.plot([], [], "o", color=POINT, ms=3, label="participant")
    mean = score.mean(axis=1)
    if interval is not None:
        error = np.abs(interval.T - mean)
        ax.errorbar(x, mean, error, fmt="none", ecolor=DARK, elinewidth=1.4, zorder=3)
    names = list(dict.fromkeys(models))
    several = [name for name in names if models.count(name) > 1]
    text = "mean" if interval is None else "mean, 95 % interval"
    for name in names:
        own = np.array([m == name for m in models])
        colour = f"C{several.index(name)}" if name in several and len(several) > 1 else DARK
        label = f"{name}, {text}" if len(several) > 1 and name in several else None
        ax.plot(x[own], mean[own], "o-", color=colour, ms=6, lw=1.2, zorder=4, label=label)
        if twin is not None and np.isfinite(twin[own]).any():
            ax.plot(x[own], twin[own], "o--", color=colour, mfc="white", ms=5, lw=1, zorder=2)
    if len(several) < 2:
        ax.plot([], [], "o-", color=DARK, ms=6, lw=1.2, label=text)
    if twin is not None:
        ax.plot([], [], "o--", color=DARK, mfc="white", ms=5, lw=1, label="untrained twin")
    ax.axhline(0, color=DARK, lw=0.8, zorder=1)
    _mark(ax, x, score, interval, ceiling, marked)
    turn = {"rotation": 90} if n > 4 or max(map(len, labels)) > 12 else {}
    ax.set_xticks(x, labels, fontsize=8 if n > 8 else 9, **turn)
    ax.set_xlim(-0.6, n - 0.4)
    ax.set_ylabel(unit)
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax


def _mark(ax, x, score, interval, ceiling, marked) -> None:
    """Put a star above each marked candidate."""
    if not marked.any():
        return
    top = np.nanmax(score, axis=1)
    if interval is not None:
        top = np.fmax(top, interval[:, 1])
    highest = np.nanmax(top) if ceiling is None else max(np.nanmax(top), ceiling[1])
    low = min(np.nanmin(score), 0)
    for place, height in zip(x[marked], top[marked], strict=True):
        ax.text(place, height + 0.01 * (highest - low), "*", ha="center", fontsize=13, color=DARK)
    ax.plot([], [], linestyle="none", marker="$*$", color=DARK, ms=7, label="p < .05, corrected")
    ax.set_ylim(top=highest + 0.1 * (highest - low))
