"""Pictures of regressions of RDMs: weights of models, alone and along a dim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netphys._draw.axes import BAND, DARK, POINT, get_axes, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA = 0.05


def draw_weights(
    labels: list[str],
    weight: np.ndarray,
    *,
    p: np.ndarray | None,
    unit: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw weights (model, participant) as bars with participants as points.

    Parameters
    ----------
    labels : list of str
        Models.
    weight : ndarray, shape (n_models, n_participants)
        Standardised weights.
    p : ndarray, shape (n_models,), or None
        Filled marks at the foot of models below .05.
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
    n, n_people = weight.shape
    ax = get_axes(ax, 2.6 + 0.7 * n, 4.0)
    x = np.arange(n)
    ax.bar(x, weight.mean(axis=1), width=0.64, color=BAND, edgecolor=DARK, lw=0.6, zorder=1)
    if n_people > 1:
        spread = np.linspace(-0.2, 0.2, n_people)
        ax.plot([], [], "o", color=POINT, ms=4, label="participant")
        for k in range(n):
            ax.plot(k + spread, weight[k], "o", color=POINT, ms=3.5, alpha=0.8, zorder=2)
    ax.axhline(0, color=DARK, lw=0.8)
    values = np.append(weight, 0.0)
    step = 0.07 * (values.max() - values.min())
    foot = values.min() - step
    if p is not None:
        sure = p < ALPHA
        ax.plot(x[sure], np.full(sure.sum(), foot), "o", color=DARK, ms=5, zorder=3)
        ax.plot([], [], "o", color=DARK, ms=5, label=f"p < {ALPHA}, given the other models")
    ax.set_ylim(foot - step, values.max() + step)
    ax.set_xlim(-0.6, n - 0.4)
    long = max(map(len, labels)) > 8
    ax.set_xticks(x, labels, rotation=40 if long else 0, ha="right" if long else "center")
    ax.set_ylabel(unit)
    ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    if n_people > 1 or p is not None:
        put_legend_above(ax)
    return ax


def draw_weight_curves(
    at: np.ndarray,
    labels: list[str],
    weight: np.ndarray,
    *,
    p: np.ndarray | None,
    unit: str,
    axis: str,
    title: str,
    ax: Axes | None,
) -> Axes:
    """Draw mean weights (model, participant, place) with standard errors: curves over numbers.

    Places with names (regions) have points side by side.

    Parameters
    ----------
    at : ndarray, shape (n_places,)
        Numbers along the axis, or texts.
    labels : list of str
        Models.
    weight : ndarray, shape (n_models, n_participants, n_places)
        Standardised weights.
    p : ndarray, shape (n_models, n_places), or None
        Points below .05 are marked under the curves.
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
    named = at.dtype.kind not in "iufb"
    x = np.arange(len(at)) if named else at
    mean, n, n_models = weight.mean(axis=1), weight.shape[1], len(labels)
    error = weight.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros_like(mean)
    low, high = (mean - error).min(), (mean + error).max()
    low, high = min(low, 0.0), max(high, 0.0)
    dodge = np.linspace(-0.25, 0.25, len(labels)) if named and len(labels) > 1 else [0.0] * n_models
    for k, label in enumerate(labels):
        colour = f"C{k % 10}"
        if named:
            bars = {"capsize": 3, "color": colour, "label": label}
            ax.errorbar(x + dodge[k], mean[k], error[k], fmt="o", **bars)
        else:
            ax.plot(x, mean[k], color=colour, label=label)
            band = (mean[k] - error[k], mean[k] + error[k])
            ax.fill_between(x, *band, color=colour, alpha=0.2, lw=0)
        if p is not None:
            sure = p[k] < ALPHA
            marks = np.full(int(sure.sum()), low - 0.06 * (k + 1) * (high - low))
            ax.plot(x[sure] + dodge[k], marks, "s", color=colour, ms=3)
    ax.axhline(0, color=DARK, lw=0.8)
    if named:
        names = [str(v) for v in at]
        long = max(map(len, names)) > 8
        ax.set_xticks(x, names, rotation=40 if long else 0, ha="right" if long else "center")
        ax.set_xlim(-0.5, len(at) - 0.5)
    notes = [f"{'bars' if named else 'bands'}: standard error"] if n > 1 else []
    notes += [f"marks: p < {ALPHA} given the others"] if p is not None else []
    ax.set_xlabel(axis)
    ax.set_ylabel(unit)
    ax.set_title("\n".join([title, *([", ".join(notes)] if notes else [])]))
    ax.spines[["top", "right"]].set_visible(False)
    put_legend_above(ax)
    return ax
