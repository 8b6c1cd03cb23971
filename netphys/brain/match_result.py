"""What a match to a brain gives back: scores per layer, with null, ceiling, interval and twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from netphys._check import suggest
from netphys.analysis._align import describe_p
from netphys.core.resample import MIN_SEEDS
from netphys.data.result import Result

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class RSAMatch(Result):
    """Match of layers to a brain; `data` has dims (layer, participant), and region.

    `layer` runs over the candidates; its coordinates `model`, `site` and `seed_n` say which they
    are. In `stats`: `mean` over participants with `interval`, `p` and `p_max` (corrected over the
    candidates of a region), `ceiling`, the `best` layer and how often each was best
    (`best_share`), `seed_sd`, and the twin: `twin_score`, `twin_difference` with `twin_interval`,
    `twin_p` (two-sided, of the paired difference) and `twin_p_bh` over the candidates.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "nili2014")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        more = (
            ("phipson2010", self.null is not None and self.params["order"] == "iid"),
            ("schutt2023", "interval" in self.stats),
            ("benjamini1995", "twin_p_bh" in self.stats),
        )
        return (*super().get_citations(), *(key for key, used in more if used))

    @property
    def regions(self) -> list[str]:
        """Regions, empty where the brain data have none."""
        return [str(r) for r in self.data["region"].to_numpy()] if self._has_regions else []

    @property
    def _has_regions(self) -> bool:
        return "region" in self.data.dims

    def _pick(self, region: str | None) -> tuple[xr.DataArray, xr.Dataset]:
        """Return scores and statistics of one region."""
        if not self._has_regions:
            if region is not None:
                raise ValueError(f"region={region!r}: this match has no regions. Leave it out.")
            return self.data, self.stats
        if region is None:
            if len(self.regions) > 1:
                raise ValueError(
                    f"This match has {len(self.regions)} regions. Name one: "
                    f"region={self.regions[0]!r} (or {', '.join(self.regions[1:6])})."
                )
            region = self.regions[0]
        if region not in self.regions:
            raise ValueError(
                f"region={region!r} is not in this match.{suggest(region, self.regions)} "
                f"It has: {', '.join(self.regions)}."
            )
        index = self.regions.index(region)
        return self.data.isel(region=index), self.stats.isel(region=index)

    def to_table(self, *, region: str | None = None) -> pd.DataFrame:
        """Return one row per candidate: score, interval, p-values, and the twin.

        Parameters
        ----------
        region : str, optional
            Needed where there are several regions.

        Returns
        -------
        table : DataFrame
            Indexed by layer.
        """
        _, s = self._pick(region)
        table = pd.DataFrame({"score": s["mean"]}, index=pd.Index(s["layer"], name="layer"))
        if len(set(s["model"].to_numpy())) > 1:
            table.insert(0, "model", s["model"].to_numpy())
        if "interval" in s:
            table["lower"], table["upper"] = s["interval"].transpose("bound", "layer").to_numpy()
        names = {
            "p": "p",
            "p_max": "p_max",
            "best_share": "best in draws",
            "seed_sd": "SD over seeds",
            "twin_score": "twin",
            "twin_difference": "above twin",
            "twin_p_bh": "p above twin",
        }
        for name, title in names.items():
            if name in s:
                table[title] = s[name].to_numpy()
        return table

    def summary(self) -> str:
        """Return the result as text for a terminal, the difference to the twin first.

        Returns
        -------
        text : str
            A line per region, what it holds for, and a table.
        """
        lines = []
        for region in self.regions or [None]:
            place = f"{region}: " if region is not None else ""
            lines.append(place + self._headline(region))
        lines.append(f"Holds for {self.params['holds_for']}.")
        lines += self._remarks()
        for region in self.regions or [None]:
            lines += ["", region] if region is not None else [""]
            table = self.to_table(region=region)
            exact = {c: "{:.2g}".format for c in table if c.startswith("p")}
            lines.append(table.to_string(float_format="%.3f", formatters=exact))
        return "\n".join(lines)

    def _headline(self, region: str | None) -> str:
        _, s = self._pick(region)
        best = str(s["best"].item())
        at = s.sel(layer=best)
        score = f"{self.data.attrs['units']} {float(at['mean']):.3f}" + _show_interval(
            at, "interval"
        )
        tested = (
            f", {_show_p(at['p_max'])} over {s.sizes['layer']} candidates" if "p_max" in s else ""
        )
        if "twin_difference" in s and np.isfinite(at["twin_difference"]):
            p = f", {_show_p(at['twin_p_bh'])}" if "twin_p_bh" in s else ""
            return (
                f"{float(at['twin_difference']):+.3f} above {self._twin}"
                f"{_show_interval(at, 'twin_interval')}{p}, at the best layer {best} "
                f"({score}{tested})."
            )
        return f"Best layer {best}, {score}{tested}; {self._say_no_twin()}."

    @property
    def _twin(self) -> str:
        return str(self.params.get("compared_with", "the untrained twin"))

    def _say_no_twin(self) -> str:
        twin = str(self.params["twin"])
        return "its model has no twin" if twin == "given" else twin.removeprefix("left out: ")

    def _remarks(self) -> list[str]:
        """Return the lines on ceiling, seeds, and what was left out."""
        p, lines = self.params, []
        if "ceiling" in self.stats:
            bounds = self.stats["ceiling"]
            for region in self.regions or [None]:
                b = bounds if region is None else bounds.isel(region=self.regions.index(region))
                low, high = b.to_numpy()
                place = f" in {region}" if region is not None else ""
                lines.append(f"Noise ceiling{place} {low:.3f} to {high:.3f} ({p['ceiling']}).")
        else:
            lines.append(f"Noise ceiling {p['ceiling']}.")
        seeds = self.data["seed_n"].to_numpy()
        if seeds.max() > 1:
            few = seeds[seeds > 1].min() < MIN_SEEDS
            more = f"; fewer than {MIN_SEEDS} say nothing of other seeds" if few else ""
            lines.append(f"Scores are means over up to {seeds.max()} seeds{more}.")
        if self.null is None:
            lines.append(f"p-values {p['null']}.")
        if "interval" not in self.stats:
            lines.append(f"Intervals {p['interval']}.")
        if p["left_out"]:
            lines.append(
                f"{len(p['left_out'])} conditions were left out, their pattern being constant in "
                f"some layer or person: {', '.join(p['left_out'][:5])}."
            )
        return lines

    def describe_methods(self) -> str:
        """Return one paragraph on how the match was made and what it holds for.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        models = list(dict.fromkeys(self.data["model"].to_numpy().tolist()))
        n_models = "one model" if len(models) == 1 else f"{len(models)} models"
        text = [
            f"The representational dissimilarity matrices of {self.data.sizes['layer']} candidates "
            f"({n_models}) were compared with those of {p['n_participants']} participants over "
            f"{p['n_conditions']} conditions by {self.data.attrs['units']} "
            "[kriegeskorte2008rsa, nili2014]."
        ]
        if self.null is not None:
            text.append(
                f"One-sided p-values of the mean over participants come from {p['n_draws']} "
                f"{p['null']} {describe_p(p['order'])}, corrected over candidates by the maximum "
                "statistic."
            )
        else:
            text.append(f"P-values were {p['null']}.")
        if "interval" in self.stats:
            both = "participants" in p["generalize"]
            factor = (
                "stimuli and of participants, the variance corrected for resampling both"
                if both
                else "stimuli"
            )
            text.append(
                f"95 % t intervals use the variance over {p['n_bootstraps']} bootstrap samples of "
                f"{factor} [schutt2023]; a stimulus was never paired with itself."
            )
        else:
            text.append(f"Intervals were {p['interval']}.")
        if "ceiling" in self.stats:
            text.append("The noise ceiling is that of the same RDMs, each person against the rest.")
        if p["twin"] == "given":
            tests = (
                "; their two-sided p-values were corrected over candidates by the method of "
                "Benjamini and Hochberg [benjamini1995]"
                if "twin_p_bh" in self.stats
                else ""
            )
            text.append(
                "Each candidate was compared with the same layer of an untrained twin as a paired "
                f"difference{tests}."
            )
        else:
            text.append("No untrained twin was compared.")
        text.append(f"The result holds for {p['holds_for']}.")
        return " ".join(text)

    def plot(self, ax: Axes | None = None, *, region: str | None = None) -> Axes:
        """Draw the score of every candidate, people as points, over the noise ceiling.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.
        region : str, optional
            Needed where there are several regions.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        from netphys._draw.match import draw_match

        data, s = self._pick(region)
        p = self.params
        place = f"{region or (self.regions[0] if self.regions else '')}\n".lstrip("\n")
        n_people = p["n_participants"]
        people = f"{n_people} participants" if n_people > 1 else "one RDM"
        marked = s["p_max"].to_numpy() < 0.05 if "p_max" in s else np.zeros(s.sizes["layer"], bool)
        return draw_match(
            [str(v) for v in data["layer"].to_numpy()],
            [str(v) for v in data["model"].to_numpy()],
            data.transpose("layer", "participant").to_numpy(),
            interval=s["interval"].to_numpy() if "interval" in s else None,
            twin=s["twin_score"].to_numpy() if "twin_score" in s else None,
            ceiling=s["ceiling"].to_numpy() if "ceiling" in s else None,
            marked=marked,
            unit=f"similarity to the brain ({self.data.attrs['units']})",
            title=f"{place}n = {p['n_conditions']} stimuli, {people}",
            ax=ax,
        )


def _show_interval(at: xr.Dataset, name: str) -> str:
    if name not in at or not np.isfinite(at[name]).all():
        return ""
    low, high = at[name].to_numpy()
    return f" (95 % {low:.3f} to {high:.3f})"


def _show_p(p: xr.DataArray) -> str:
    if not np.isfinite(float(p)):
        return "p unknown"
    return f"p = {float(p):.3f}" if float(p) >= 0.001 else "p < 0.001"
