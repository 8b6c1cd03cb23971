"""Pictures of conditions beside or in place of their labels, and colours of their groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check_groups(groups: Mapping[str, str] | None, labels: Sequence[str]) -> list[str] | None:
    """Return the group of each condition in order.

    Parameters
    ----------
    groups : mapping of str to str, or None
        Group by condition.
    labels : sequence of str
        Conditions.

    Returns
    -------
    groups : list of str or None
        One per condition.

    Raises
    ------
    ValueError
        If a condition has none.
    """
    if groups is None:
        return None
    missing = [c for c in labels if c not in groups]
    if missing:
        raise ValueError(
            f"groups lacks {len(missing)} conditions, such as {missing[0]!r}. Give a group for "
            "each."
        )
    return [str(groups[c]) for c in labels]


def check_images(
    images: Sequence[np.ndarray] | None, labels: Sequence[str]
) -> list[np.ndarray] | None:
    """Return pictures of the conditions in order.

    Parameters
    ----------
    images : sequence of ndarray, or None
        One per condition: (height, width), or (height, width, 3 or 4).
    labels : sequence of str
        Conditions.

    Returns
    -------
    images : list of ndarray or None
        One per condition.

    Raises
    ------
    ValueError
        If their number or shape does not fit.
    """
    if images is None:
        return None
    images = [np.asarray(image) for image in images]
    if len(images) != len(labels):
        raise ValueError(f"images has {len(images)} pictures for {len(labels)} conditions.")
    for k, image in enumerate(images):
        if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] in (3, 4)):
            raise ValueError(
                f"images[{k}] has shape {image.shape}. Give (height, width), or (height, width, 3) "
                "for colour."
            )
    return images


def place_image(
    ax: Axes,
    image: np.ndarray,
    x: float,
    y: float,
    *,
    size: float,
    inside: bool = True,
    edge: str | None = None,
) -> None:
    """Put a picture at a place of the axes' data.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    image : ndarray
        Picture.
    x, y : float
        Where its middle goes, in data coordinates.
    size : float
        Its larger side in points.
    inside : bool
        Whether it is left out where its middle lies outside the axes.
    edge : str, optional
        Colour of a frame around it.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    zoom = size / max(image.shape[:2])
    box = OffsetImage(image, zoom=zoom, cmap="gray")
    frame = {"edgecolor": edge, "facecolor": edge, "lw": 1} if edge else None
    options = {"pad": 0.12 if edge else 0, "annotation_clip": inside, "zorder": 3}
    ax.add_artist(AnnotationBbox(box, (x, y), frameon=edge is not None, bboxprops=frame, **options))


def find_runs(groups: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return runs of neighbours of one group: name, begin, end.

    Parameters
    ----------
    groups : sequence of str
        Group of each condition.

    Returns
    -------
    runs : list of (str, int, int)
        In order.
    """
    runs: list[tuple[str, int, int]] = []
    for k, name in enumerate(groups):
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1], k + 1)
        else:
            runs.append((name, k, k + 1))
    return runs
