"""What an encoding analysis gives back: the ladder of models, with intervals, ceiling and null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from netphys.brain.ceiling import LOWEST
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Encoding(Result):
    """Scores of encoding models; `data` has dims (model, participant, region).

    In `stats`: `mean` and paired `difference` of models with intervals, per region and `overall`;
    `p` of each model's gain over the nuisance, `p_fdr` over regions; `ceiling` of the same target;
    `concatenated` scores; `layer_share`, how often each layer was chosen.
    """

    citations: ClassVar[tuple[str, ...]] = (
        "hadidi2026",
        "dupre2022",
        "freedman1983",
        "schutt2023",
        "benjamini1995",
        "glover1999",
    )

    @property
    def models(self) -> list[str]:
        """Models in the order of the ladder, the nuisance first."""
        return [str(m) for m in self.data["model"].to_numpy()]

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """Pairs of models whose difference was asked for."""
        return [(str(a), str(b)) for a, b in self.params["contrasts"]]

    def to_ladder(self) -> pd.DataFrame:
        """Return one row per model: score, interval, gain over the nuisance and its p.

        Returns
        -------
        table : DataFrame
            Averaged over regions and participants, indexed by model. `r / ceiling` is over regions
            with a known ceiling; it is left out where personal nuisance (motion) predicts what no
            ceiling of shared responses bounds. `shifted` is the mean gain
            under the null hypothesis: below 0, because features that carry nothing cost something.
        """
        s, nuisance = self.stats, self.models[0]
        bounds = s["overall_mean_interval"]
        table = pd.DataFrame(
            {
                "r": s["overall_mean"],
                "lower": bounds.sel(bound="lower"),
                "upper": bounds.sel(bound="upper"),
                "r concatenated": s["concatenated"].mean(("participant", "region")),
                "above nuisance": s["overall_difference"].sel(model_2=nuisance),
                "shifted": self._compute_null_gain(),
                "p": s.get("overall_p", np.nan),
            },
            index=pd.Index(self.models, name="model"),
        )
        if self._shares_ceiling:
            upper = s["ceiling"].sel(bound="upper")
            upper = upper.mean("participant") if "participant" in upper.dims else upper
            known = (upper >= LOWEST).to_numpy()
            mean = s["mean"].isel(region=known).mean("region")
            table["r / ceiling"] = mean / float(upper.isel(region=known).mean())
        return table

    @property
    def _shares_ceiling(self) -> bool:
        """Whether scores can be divided by the ceiling: it bounds what people share, no more."""
        personal = self.params["personal"] and self.params["target"] == "participant"
        return "ceiling" in self.stats and not personal and not self.params["leakage"]

    def _compute_null_gain(self) -> np.ndarray:
        """Return every model's mean gain over the nuisance under the null hypothesis."""
        if self.null is None:
            return np.full(len(self.models), np.nan)
        gain = self.null.mean(("draw", "region")).to_numpy()
        return np.where(np.arange(len(gain)) == 0, np.nan, gain)

    def to_contrasts(self) -> pd.DataFrame:
        """Return one row per contrast: paired difference of two models with its interval.

        Returns
        -------
        table : DataFrame
            Averaged over regions and participants; `regions above 0` counts regions whose own
            interval excludes zero.
        """
        s, rows = self.stats, []
        for a, b in self.contrasts:
            pick = {"model": a, "model_2": b}
            low, high = s["overall_difference_interval"].sel(pick).to_numpy()
            each = s["difference_interval"].sel(pick).to_numpy()
            rows.append(
                {
                    "contrast": f"{a} - {b}",
                    "difference": float(s["overall_difference"].sel(pick)),
                    "lower": low,
                    "upper": high,
                    "regions above 0": f"{int((each[:, 0] > 0).sum())} of {len(each)}",
                }
            )
        columns = ["contrast", "difference", "lower", "upper", "regions above 0"]
        return pd.DataFrame(rows, columns=columns).set_index("contrast")

    def to_regions(self) -> pd.DataFrame:
        """Return the mean score of every model in every region, with the ceiling.

        Returns
        -------
        table : DataFrame
            Regions by models.
        """
        table = self.stats["mean"].transpose("region", "model").to_pandas()
        if "ceiling" in self.stats:
            c = self.stats["ceiling"]
            c = c.mean("participant") if "participant" in c.dims else c
            for bound in ("lower", "upper"):
                table[f"ceiling, {bound}"] = c.sel(bound=bound).to_pandas()
        return table

    @property
    def holds_for(self) -> str:
        """What the result can be generalised to, in words."""
        p = self.params
        if p["leakage"]:
            return "It holds for nothing: ordered data were split at random."
        one = "this stimulus" if p["order"] == "ordered" else "stimuli like these"
        people = "people like these" if "participants" in p["intervals"] else "these people"
        text = f"It holds for {one} and {people}: intervals resample {p['intervals']}"
        if p["order"] == "ordered":
            text += " within the stimulus, so another one may give another answer"
        return text + "; the fitted models are held fixed, which with few people is too narrow."

    def summary(self) -> str:
        """Return what came out as text for a terminal.

        Returns
        -------
        text : str
            The paired differences first, then the ladder.
        """
        p = self.params
        lines = [
            f"Encoding of {p['n_people']} participants x {self.data.sizes['region']} regions, "
            f"{p['n_samples']} samples, target {p['target']}; {p['n_folds']} {p['split']} folds, "
            f"gap {p['gap']}"
        ]
        if p["leakage"]:
            lines.append("LEAKAGE: ordered data were split at random; scores mean nothing.")
        show = {"float_format": lambda v: f"{v:.3f}"}
        lines += ["", self.to_contrasts().to_string(**show), "", self.to_ladder().to_string(**show)]
        return "\n".join([*lines, "", self.holds_for])

    def describe_methods(self) -> str:
        """Return one paragraph on how the result was made.

        Returns
        -------
        text : str
            Sentences for a methods section.
        """
        p, n = self.params, self.data.sizes
        filtered = (
            f" Responses, features and regressors were high-pass filtered alike (discrete cosines, "
            f"{p['highpass']:g} s)."
            if p["highpass"]
            else ""
        )
        nuisance = ", ".join(p["nuisance"]) or "an intercept only"
        ladder = ", ".join(m for m in self.models[1:])
        target = (
            "each participant" if p["target"] == "participant" else "the mean over participants"
        )
        per = "per participant and " if p["target"] == "participant" else "per "
        null = (
            f" The null distribution of each model's gain over the nuisance is from {p['null']}: "
            "what the nuisance left of the responses was moved, and everything fitted again; p = "
            "(1 + hits) / (1 + draws), corrected over regions by Benjamini-Hochberg."
            if self.null is not None
            else " No null distribution was asked for."
        )
        leak = " Ordered data were split at random on request (leakage)." if p["leakage"] else ""
        return (
            f"Responses of {p['n_people']} participants in {n['region']} regions were predicted by "
            f"ridge regression for {target}, fitted jointly with unpenalised nuisance regressors "
            f"({nuisance}).{filtered} Models: {ladder}. Scores are correlations of prediction and "
            f"response within each of {p['n_folds']} {p['split']} test sets, averaged over test "
            f"sets, with {p['gap']} samples left out beside each.{leak} The penalty "
            f"({len(p['alphas'])} values from {p['alphas'][0]:g} to {p['alphas'][-1]:g} mean "
            f"eigenvalues) and, where there were several, the layer were chosen {per}"
            f"region in {p['n_inner']} nested folds. Intervals (95 %) are from "
            f"{p['n_bootstraps']} bootstrap draws of {p['intervals']} (blocks of {p['block']} "
            f"samples), the fitted models held fixed.{null}"
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the ladder: score of each model over all regions, participants as points.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        from netphys._draw.encoding import draw_ladder

        ceiling = None
        if "ceiling" in self.stats:
            c = self.stats["ceiling"]
            ceiling = c.mean([d for d in c.dims if d != "bound"]).to_numpy()
        return draw_ladder(
            self.models,
            self.data.mean("region").to_numpy(),
            self.stats["overall_mean_interval"].to_numpy(),
            ceiling=ceiling,
            title=f"{self.params['n_people']} participants, {self.data.sizes['region']} regions",
            ax=ax,
        )

    def plot_contrasts(self, ax: Axes | None = None) -> Axes:
        """Draw the paired differences of the contrasts, over all regions and in each.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        from netphys._draw.encoding import draw_contrasts

        s, table = self.stats, self.to_contrasts()
        each = [s["difference"].sel(model=a, model_2=b).to_numpy() for a, b in self.contrasts]
        return draw_contrasts(
            list(table.index),
            table["difference"].to_numpy(),
            table[["lower", "upper"]].to_numpy(),
            np.array(each),
            title=f"paired differences, {self.data.sizes['region']} regions as points",
            ax=ax,
        )

    def plot_regions(self, ax: Axes | None = None) -> Axes:
        """Draw the mean score of every model in every region, beside the ceiling.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        from netphys._draw.encoding import draw_regions

        table = self.to_regions()
        ceiling = (
            table[["ceiling, lower", "ceiling, upper"]].to_numpy()
            if "ceiling" in self.stats
            else None
        )
        p = self.stats["p_fdr"].to_numpy().T if "p_fdr" in self.stats else None
        return draw_regions(
            list(table.index),
            self.models,
            table[self.models].to_numpy(),
            ceiling=ceiling,
            p=p,
            title=f"{self.params['n_people']} participants",
            ax=ax,
        )
