"""Pictures of encoding models: the ladder, its differences, its regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import BAND, DARK, POINT, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_ladder(
    models: list[str],
    score: np.ndarray,
    interval: np.ndarray,
    *,
    ceiling: np.ndarray | None,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw scores (model, participant) as lines of people, mean and interval above them."""
    ax = get_axes(ax, 6.4, 3.8)
    x = np.arange(len(models))
    if ceiling is not None and np.isfinite(ceiling).all():
        ax.axhspan(*ceiling, color=BAND, zorder=0, label="noise ceiling")
    ax.plot(x, score, color=POINT, lw=0.6, alpha=0.6, zorder=1)
    ax.plot([], [], color=POINT, lw=0.6, label="participant")
    mean = score.mean(axis=1)
    error = np.abs(interval.T - mean)
    ax.errorbar(
        x, mean, error, fmt="o", color=DARK, ms=6, capsize=3, zorder=3, label="mean, 95 % interval"
    )
    ax.axhline(0, color=DARK, lw=0.8)
    ax.set_xticks(x, [m.replace(" ", "\n") for m in models])
    ax.set_ylabel("prediction, within-fold r")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="best")
    return ax


def draw_contrasts(
    labels: list[str],
    difference: np.ndarray,
    interval: np.ndarray,
    each: np.ndarray,
    *,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw differences (contrast) with intervals, regions (contrast, region) as points."""
    ax = get_axes(ax, 6.4, 0.5 * len(labels) + 1.4)
    y = np.arange(len(labels))[::-1]
    spread = np.linspace(-0.18, 0.18, each.shape[1]) if each.shape[1] > 1 else np.zeros(1)
    ax.plot(each, y[:, None] + spread, "o", color=POINT, ms=3.5, zorder=1)
    error = np.abs(interval.T - difference)
    ax.errorbar(difference, y, xerr=error, fmt="o", color=DARK, ms=6, capsize=3, zorder=3)
    ax.axvline(0, color=DARK, lw=0.8)
    ax.set_yticks(y, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlabel("difference in r (95 % interval)")
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_regions(
    regions: list[str],
    models: list[str],
    score: np.ndarray,
    *,
    ceiling: np.ndarray | None,
    p: np.ndarray | None,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw scores (region, model) side by side; significant gains filled, others open."""
    from matplotlib import colormaps

    ax = get_axes(ax, 7.0, 3.8)
    x = np.arange(len(regions))
    width = 0.8 / len(models)
    if ceiling is not None:
        for i, (low, high) in enumerate(ceiling):
            if np.isfinite([low, high]).all():
                ax.fill_between([i - 0.45, i + 0.45], low, high, color=BAND, lw=0, zorder=0)
        ax.fill_between([], [], [], color=BAND, label="ceiling")
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(models)))
    for m, (name, colour) in enumerate(zip(models, colours, strict=True)):
        at = x + (m - (len(models) - 1) / 2) * width
        sure = np.zeros(len(regions), bool) if p is None else p[:, m] < 0.05
        ax.scatter(at, score[:, m], s=30, color=colour, facecolors="none", zorder=2)
        ax.scatter(at[sure], score[sure, m], s=30, color=colour, zorder=3)
        ax.scatter([], [], s=30, color=colour, label=name)
    ax.axhline(0, color=DARK, lw=0.8)
    ax.set_xticks(x, regions)
    ax.set_ylabel("prediction, within-fold r")
    ax.set_title(f"{title}; filled: gain over the nuisance with p < .05 (corrected)", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax
