"""What a report is made of: sections and pictures, checked when they are made."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from netphys.report._checks import as_tuple, check_mapping, check_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Draw = Callable[[Axes], object]

DPI = 192  # two pixels of a picture for one of the page, sharp on dense screens
PNG = b"\x89PNG\r\n\x1a\n"
SIZES = {1: (5.6, 3.8), 2: (4.6, 3.9)}  # inches of a panel by the number of panels
SMALL = (4.0, 3.4)  # three panels or more


@dataclass(frozen=True)
class Picture:
    """One figure of a report, of one panel or more; `make_picture` draws one.

    Parameters
    ----------
    images : tuple of bytes
        PNG files, one per panel; several are lettered A, B, ... and stacked on narrow screens.
    caption : str
        What it shows, with n and what the intervals are; the number is added.
    alt : str
        What it shows, for readers who do not see it.

    Raises
    ------
    TypeError, ValueError
        If there is no image, one is no complete PNG file, or a text is missing.
    """

    images: tuple[bytes, ...]
    caption: str
    alt: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", as_tuple("images", self.images, bytes, "PNG files"))
        check_text("caption", self.caption)
        check_text("alt", self.alt)
        if not self.images:
            raise ValueError("images is empty. Give one PNG file or more, or use make_picture.")
        for number, image in enumerate(self.images):
            if not image.startswith(PNG) or b"IEND" not in image[-12:]:
                raise ValueError(f"images[{number}] is not a complete PNG file. Use make_picture.")


@dataclass(frozen=True)
class Section:
    """One part of a report: text first, then pictures, tables and listings.

    Parameters
    ----------
    title : str
        Heading, also in the table of contents.
    paragraphs : tuple of str
        Plain text. Blank lines part paragraphs; one whose lines all begin with "- " is a list;
        http(s) addresses and DOIs become links.
    pictures : tuple of Picture
        Figures, numbered through the whole report.
    tables : mapping from str to DataFrame
        Caption and values, numbered through the whole report. Columns named p, q, "p ..." or
        "p-value" show p-values, pairs of numbers show intervals, NaN shows as n/a.
    code : mapping from str to str
        Name and text of what keeps its line breaks, such as BibTeX or JSON; long ones start folded.

    Raises
    ------
    TypeError, ValueError
        If something is of another kind, or the title is empty.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text("title", self.title)
        for name, kind, what in (("paragraphs", str, "texts"), ("pictures", Picture, "Pictures")):
            object.__setattr__(self, name, as_tuple(name, getattr(self, name), kind, what))
        check_mapping("tables", self.tables, pd.DataFrame, "DataFrames")
        check_mapping("code", self.code, str, "texts")


def make_picture(
    draw: Draw | Sequence[Draw],
    *,
    caption: str,
    alt: str,
    size: tuple[float, float] | None = None,
) -> Picture:
    """Draw a figure for a report, without touching pyplot or its settings.

    Parameters
    ----------
    draw : callable or sequence of callables
        Takes Axes and draws into them, such as ``result.plot``; one per panel.
    caption : str
        What it shows, with n and what the intervals are.
    alt : str
        What it shows, for readers who do not see it.
    size : tuple of float, optional
        Width and height of a panel in inches; from the number of panels if left out.

    Returns
    -------
    picture : Picture
        One PNG image per panel.

    Raises
    ------
    TypeError, ValueError
        If something drawn is not callable, there is nothing to draw, or a text is missing.

    Examples
    --------
    >>> from netphys.report import make_picture
    >>> picture = make_picture(lambda ax: ax.plot([0.1, 0.4]), caption="A line.", alt="It rises.")
    >>> len(picture.images)
    1
    """
    panels = [draw] if callable(draw) else draw
    panels = as_tuple("draw", panels, Callable, "functions that take Axes, such as result.plot")
    if not panels:
        raise ValueError("draw is empty. Give one function that takes Axes, or several.")
    size = SIZES.get(len(panels), SMALL) if size is None else size
    return Picture(tuple(_draw_png(panel, size) for panel in panels), caption, alt)


def _draw_png(draw: Draw, size: tuple[float, float]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()
