"""What the stories of all analyses share: their parts, and how differences are put in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from netphys.report import Picture

_CITATIONS = {
    "alice2016": ["brennan2016"],
    "kriegeskorte2008": ["kriegeskorte2008it"],
}


@dataclass(frozen=True)
class Part:
    """One section's content.

    Parameters
    ----------
    text : tuple of str
        Paragraphs.
    pictures : tuple of Picture
        Figures.
    tables : mapping of str to DataFrame
        By caption.
    """

    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What an analysis found, ready for the report.

    Parameters
    ----------
    headline : str
        Main finding in one sentence.
    control : str
        What it is against its control.
    results : Part
        Pictures of the results themselves.
    match : Part
        The match with the brain.
    controls : Part
        What else could have given the score.
    holds_for : tuple of str
        How far it reaches.
    heading : str
        Heading of what `match` holds.
    """

    headline: str
    control: str
    results: Part
    match: Part
    controls: Part
    holds_for: tuple[str, ...]
    heading: str = "Brain match"

    @staticmethod
    def cite(dataset: str) -> list[str]:
        """Return the citation keys of a dataset.

        Parameters
        ----------
        dataset : str
            Its name.

        Returns
        -------
        keys : list of str
            Empty for a simulated one.
        """
        return _CITATIONS.get(dataset, [])


def show(r: float) -> str:
    """Show a correlation or a difference of correlations.

    Parameters
    ----------
    r : float
        -2 to 2.

    Returns
    -------
    text : str
        With three decimals and a true minus sign; "n/a" for NaN.
    """
    return "n/a" if math.isnan(r) else f"{r:.3f}".replace("-", "\N{MINUS SIGN}")


def say_difference(a: str, b: str, difference: float, low: float, high: float) -> str:
    """Put a paired difference with its interval in words.

    Parameters
    ----------
    a, b : str
        What is compared with what.
    difference, low, high : float
        a - b, and its 95 % interval.

    Returns
    -------
    sentence : str
        Which is better, or that it cannot be told.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{a} minus {b}: {show(difference)}, without an interval."
    numbers = f"difference {show(difference)}, 95 % interval {show(low)} to {show(high)}"
    if low > 0:
        return f"{a} is above {b} ({numbers})."
    if high < 0:
        return f"{a} is below {b} ({numbers})."
    return f"{a} and {b} cannot be told apart ({numbers})."
