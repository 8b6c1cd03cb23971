"""What a recording will store: per site the units, and the series with their rows and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from netphys.data.nwb_layout import SeriesSpec
from netphys.recording.forms import SCOPES, Forms
from netphys.recording.present import make_sample_table
from netphys.recording.presentation import Presentation
from netphys.recording.rows import SiteShape, make_unit_table
from netphys.recording.segments import Segments, find_trials, find_words
from netphys.recording.subject import Subject

TOP = ("top.index", "top.value")


@dataclass(frozen=True)
class SitePlan:
    """What is stored of one site.

    Parameters
    ----------
    shape : SiteShape
        What the probe pass found out.
    units : ndarray of int64 or None
        Which of its units are recorded; None for all.
    threshold : ndarray of float32 or None
        What each of them must exceed in a raster.
    units_table : DataFrame
        One row per recorded unit.
    series : dict of str to SeriesSpec
        Form to what the file holds of it.
    """

    shape: SiteShape
    units: np.ndarray | None
    threshold: np.ndarray | None
    units_table: pd.DataFrame
    series: Mapping[str, SeriesSpec] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """Number of recorded units."""
        return self.shape.whole.n_units if self.units is None else len(self.units)


@dataclass(frozen=True)
class Clocks:
    """The clocks of a recording: their samples tables in order of recording, and where trials lie.

    Parameters
    ----------
    tables : dict of str to DataFrame
        One row per sample.
    times : dict of str to float or ndarray
        Rate in samples per second, or time stamps in seconds.
    trials : DataFrame
        Per trial in order of recording the columns start_time, stop_time, stimulus_index, batch,
        and first_sample_<clock>, n_samples_<clock>.
    segments : dict of str to Segments
        Per scope ("word", "trial") what is pooled.
    """

    tables: Mapping[str, pd.DataFrame]
    times: Mapping[str, float | np.ndarray]
    trials: pd.DataFrame
    segments: Mapping[str, Segments]


def plan_site(
    shape: SiteShape,
    forms: Forms,
    subject: Subject,
    presentation: Presentation,
    scale: np.ndarray | None,
) -> SitePlan:
    """Decide what is stored of a site.

    Parameters
    ----------
    shape : SiteShape
        What the probe pass found out.
    forms : Forms
        What the recording stores.
    subject : Subject
        For the names of its units.
    presentation : Presentation
        For its clock.
    scale : ndarray of float32, shape (n_units,), or None
        For int8: what one step stands for, of every unit of the site.

    Returns
    -------
    plan : SitePlan
        Its series, in the order of the options.
    """
    site = shape.site
    whole = shape.whole
    table = make_unit_table(whole, subject, image=presentation.clock == "image")
    units = forms.find_units(site.name, site.kind, whole.n_units)
    if units is not None:
        table = table.iloc[units].reset_index(drop=True)
    if units is not None and site.side == "pattern" and presentation.decoding is not None:
        raise ValueError(
            f"units= does not go with attention weights ({site.name!r}) of text that is generated: "
            "their keys grow with every step. Record all of them."
        )
    threshold = None
    if "raster" in forms.store:
        threshold = forms.find_threshold(site.name, site.kind, len(table))
    clock = presentation.clock
    if presentation.is_sequence and not shape.is_sequence:
        clock = "item"
    if forms.pools and not shape.is_sequence:
        raise ValueError(
            f"store={next(n for n in forms.store if '.' in n)!r}: site {site.name!r} has one value "
            "per trial, there is nothing to pool. Store its 'samples' in a recording of its own."
        )
    series: dict[str, SeriesSpec] = {}

    def add(form: str, clock: str, dtype: str, units: pd.DataFrame) -> None:
        name = site.name if form == "samples" else f"{site.name}#{form}"
        series[form] = SeriesSpec(name, site.kind, clock, dtype, units)

    for form in forms.store:
        scope, _, how = form.partition(".")
        if form == "samples" and scale is not None:
            steps = scale if units is None else scale[units]
            add(form, clock, "int8", table.assign(scale=steps))
        elif form == "samples":
            add(form, clock, shape.stored, table)
        elif how:
            add(form, SCOPES[scope], _pool_dtype(shape, forms), table)
        elif form == "raster":
            add(form, clock, "bits", table.assign(threshold=threshold))
        elif form == "top":
            _check_top(forms, site.name, len(table))
            ranks = pd.DataFrame({"layer": site.layer, "index": np.arange(forms.top_k)})
            ranks["label"] = [f"rank.{i}" for i in range(forms.top_k)]
            add(TOP[0], clock, "int32", ranks)
            add(TOP[1], clock, "float64" if shape.stored == "float64" else "float32", ranks)
    return SitePlan(shape, units, threshold, table, series)


def _pool_dtype(shape: SiteShape, forms: Forms) -> str:
    """Return the type of pooled values: float32 unless another one is asked for."""
    if forms.dtype in ("native", "int8"):
        return "float64" if shape.stored == "float64" else "float32"
    return forms.dtype


def _check_top(forms: Forms, site: str, n_units: int) -> None:
    if forms.top_k > n_units:
        raise ValueError(
            f"top_k={forms.top_k} is more than the {n_units} recorded units of {site!r}. "
            f"Give at most {n_units}."
        )


def make_clocks(
    presentation: Presentation,
    plan: list[list[int]],
    forms: Forms,
    sites: list[SitePlan],
) -> Clocks:
    """Lay out the rows of every clock that a recording uses.

    Parameters
    ----------
    presentation : Presentation
        What is shown.
    plan : list of list of int
        Trials of each batch.
    forms : Forms
        What is stored.
    sites : list of SitePlan
        What is stored of each site.

    Returns
    -------
    clocks : Clocks
        Rows in order of recording, so that a batch is one run of rows in each.
    """
    order = [row for batch in plan for row in batch]
    counts = presentation.n_recorded[order]
    clock, rate = presentation.clock, presentation.rate
    first = np.cumsum(counts) - counts
    trials = pd.DataFrame(
        {
            "start_time": first / rate,
            "stop_time": (first + counts - 0.5) / rate,
            "stimulus_index": np.array(order, np.int64),
            "batch": np.repeat(np.arange(len(plan)), [len(b) for b in plan]),
            f"first_sample_{clock}": first,
            f"n_samples_{clock}": counts,
        }
    )
    # a column that knows nothing (onsets of texts without times) is left out
    tables = {clock: make_sample_table(presentation, order).dropna(axis=1, how="all")}
    times: dict[str, float | np.ndarray] = {clock: rate}
    segments = _find_segments(presentation, forms)
    if "word" in segments:
        tables["word"] = segments["word"].make_table(order)
        n_words = segments["word"].counts[order]
        trials["first_sample_word"] = np.cumsum(n_words) - n_words
        trials["n_samples_word"] = n_words
        before = [int(np.argmax(r)) if len(r) else 0 for r in presentation.recorded or ()]
        begin = first - np.array(before or [0] * len(counts), np.int64)[order]
        times["word"] = (tables["word"]["position"] + np.repeat(begin, n_words)).to_numpy() / rate
    used = {s.clock for p in sites for s in p.series.values()}
    if "item" in used and clock != "item":
        # one value per trial follows a clock of its own, stamped at the trial's start
        trials["first_sample_item"], trials["n_samples_item"] = np.arange(len(order)), 1
        tables["item"] = pd.DataFrame({"trial": np.array(order, np.int64), "position": 0})
        times["item"] = trials["start_time"].to_numpy()
    return Clocks(tables, times, trials, segments)


def _find_segments(presentation: Presentation, forms: Forms) -> dict[str, Segments]:
    found = {}
    if "word" in forms.pools or "surprisal" in forms.store:
        found["word"] = find_words(presentation)
    if "trial" in forms.pools:
        found["trial"] = find_trials(presentation)
    return found
