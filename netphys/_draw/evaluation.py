"""Pictures of an evaluation: models over the ceiling with what is significant, curves in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import BAND, DARK, POINT, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA = 0.05
MAX_LINES = 12  # more pairs than this are not drawn but counted
CEILING = "#f1e3c6"


def draw_models(
    labels: list[str],
    score: np.ndarray,
    *,
    interval: np.ndarray | None,
    ceiling: np.ndarray,
    p: np.ndarray | None,
    p_pairs: np.ndarray | None,
    below: np.ndarray | None,
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw scores (model, participant) as bars with participants, ceiling and significance.

    Parameters
    ----------
    labels : list of str
        Models.
    score : ndarray, shape (n_models, n_participants)
        Similarities.
    interval : ndarray, shape (n_models, 2), or None
        Interval of the mean.
    ceiling : ndarray, shape (2,)
        Lower and upper bound, NaN where there is none.
    p : ndarray, shape (n_models,), or None
        Against chance; filled marks at the foot of bars below .05.
    p_pairs : ndarray, shape (n_models, n_models), or None
        Of differences; lines join models below .05, at most 12.
    below : ndarray, shape (n_models,), or None
        Against the ceiling's lower bound; a triangle hangs from it over models below .05.
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
    n = len(labels)
    ax = get_axes(ax, 2.2 + 0.62 * n, 4.4)
    x, mean = np.arange(n), score.mean(axis=1)
    if np.isfinite(ceiling).all():
        ax.axhspan(*ceiling, color=CEILING, zorder=0, label="noise ceiling")
    ax.bar(x, mean, width=0.64, color=BAND, edgecolor=DARK, lw=0.6, zorder=1)
    ax.plot([], [], "o", color=POINT, ms=4, label="participant")
    spread = np.linspace(-0.16, 0.16, score.shape[1]) if score.shape[1] > 1 else np.zeros(1)
    for k in range(n):
        ax.plot(k + spread, score[k], "o", color=POINT, ms=3, alpha=0.8, zorder=2)
    if interval is not None:
        ax.errorbar(
            x,
            mean,
            np.abs(interval.T - mean),
            fmt="none",
            ecolor=DARK,
            capsize=3,
            zorder=3,
            label="95 % interval",
        )
    ax.axhline(0, color=DARK, lw=0.8)
    drawn = [score, ceiling, [0.0], *([interval] if interval is not None else [])]
    values = np.concatenate([np.ravel(v) for v in drawn])
    low, high = np.nanmin(values), np.nanmax(values)
    step = 0.055 * (high - low)
    if p is not None:
        ax.plot(x[p < ALPHA], np.full((p < ALPHA).sum(), low - step), "o", color=DARK, ms=4)
        ax.plot([], [], "o", color=DARK, ms=4, label=f"above chance, p < {ALPHA}")
    if below is not None and np.isfinite(ceiling[0]) and (below < ALPHA).any():
        short = (below < ALPHA) & (mean < ceiling[0])
        ax.plot(x[short], np.full(short.sum(), ceiling[0]), "v", color=DARK, ms=5, zorder=4)
        ax.plot([], [], "v", color=DARK, ms=5, label=f"below the ceiling, p < {ALPHA}")
    top = _join_pairs(ax, p_pairs, high + step, step)
    ax.set_ylim(low - 2 * step, top + step)
    ax.set_xlim(-0.6, n - 0.4)
    upright = max(len(label) for label in labels) > 8
    ax.set_xticks(x, labels, rotation=40 if upright else 0, ha="right" if upright else "center")
    ax.set_ylabel(unit)
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax


def _join_pairs(ax: Axes, p: np.ndarray | None, height: float, step: float) -> float:
    """Draw a line over every two models that differ; return how high the last one stands."""
    if p is None:
        return height
    pairs = [(i, j) for i, j in zip(*np.triu_indices(len(p), 1), strict=True) if p[i, j] < ALPHA]
    if len(pairs) > MAX_LINES:
        n = len(p) * (len(p) - 1) // 2
        ax.plot([], [], " ", label=f"{len(pairs)} of {n} pairs differ, p < {ALPHA}")
        return height
    for i, j in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        ax.plot([i, j], [height, height], color=DARK, lw=1.2, marker="|", ms=5)
        height += step
    if pairs:
        ax.plot([], [], color=DARK, lw=1.2, label=f"pair differs, p < {ALPHA}")
    return height


def draw_time(
    times: np.ndarray,
    labels: list[str],
    mean: np.ndarray,
    *,
    interval: np.ndarray | None,
    ceiling: np.ndarray,
    cluster: np.ndarray | None,
    unit: str,
    axis: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw mean scores (model, time) as curves over the noise ceiling, clusters as bars below.

    Parameters
    ----------
    times : ndarray, shape (n_times,)
        Time.
    labels : list of str
        Models.
    mean : ndarray, shape (n_models, n_times)
        Similarities.
    interval : ndarray, shape (n_models, n_times, 2), or None
        Interval of the mean.
    ceiling : ndarray, shape (2, n_times)
        Lower and upper bound.
    cluster : ndarray, shape (n_models, n_times), or None
        p-value of the cluster that a time belongs to.
    unit, axis : str
        Texts of the axes.
    title : str
        Title.
    ax : Axes or None
        Where to draw.

    Returns
    -------
    ax : Axes
        Where it was drawn.
    """
    ax = get_axes(ax, 6.4, 4.0)
    if np.isfinite(ceiling).any():
        ax.fill_between(times, *ceiling, color=CEILING, lw=0, label="noise ceiling")
    values = np.concatenate([np.ravel(v) for v in (mean, ceiling)])
    low, high = np.nanmin(values), np.nanmax(values)
    for k, label in enumerate(labels):
        (line,) = ax.plot(times, mean[k], label=label)
        if interval is not None:
            ax.fill_between(times, *interval[k].T, color=line.get_color(), alpha=0.2, lw=0)
        if cluster is not None and (inside := cluster[k] < ALPHA).any():
            height = low - 0.06 * (k + 1) * (high - low)
            ax.plot(times, np.where(inside, height, np.nan), color=line.get_color(), lw=3)
    ax.axhline(0, color=DARK, lw=0.8)
    ax.set_xlabel(axis)
    ax.set_ylabel(unit)
    ax.set_title(title if cluster is None else f"{title}; bars: clusters, p < {ALPHA}")
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax
