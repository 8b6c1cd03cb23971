"""What an evaluation gives back: scores of models with all their tests, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from netphys._check import suggest
from netphys.analysis._align import NAMES, describe_draws, describe_p
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """Scores of models on participants; `data` has dims (model, participant, ...).

    In `stats`: `mean` with `interval`; `p`, against relabelled conditions, and `p_max`, corrected
    over the models; `p_zero`, against a mean in the population of 0 (for cosines: of what they are
    under relabelled conditions); `ceiling` with
    `ceiling_interval` and `ceiling_p` (its lower bound against 0); `p_ceiling`, each model against
    the lower bound; `difference` of every two models with `difference_interval`, `difference_p`
    (two-sided), `difference_p_bh` (false discovery rate) and `difference_p_max` (the largest
    standardised difference of each bootstrap sample); with time `cluster_p`.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "nili2014", "schutt2023")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        more = (
            ("phipson2010", self.null is not None and self.params["order"] == "iid"),
            ("benjamini1995", "difference_p_bh" in self.stats),
            ("diedrichsen2021", "whitened" in self.params["method"]),
            ("maris2007", "cluster_p" in self.stats),
        )
        return (*super().get_citations(), *(key for key, used in more if used))

    @property
    def extra_dims(self) -> tuple[str, ...]:
        """Dims besides model and participant."""
        return tuple(str(d) for d in self.data.dims if d not in ("model", "participant"))

    def select(self, **labels: object) -> Evaluation:
        """Return the part of one label of a kept dim, such as a region or a time.

        Parameters
        ----------
        **labels : str or number
            Label along a kept dim, as in ``region="V1"``.

        Returns
        -------
        evaluation : Evaluation
            Without that dim.

        Raises
        ------
        KeyError
            If the dim or the label does not exist; the message names the nearest.
        """
        for dim, label in labels.items():
            if dim not in self.extra_dims:
                raise KeyError(
                    f"{dim!r} is not a kept dim of this evaluation.{suggest(dim, self.extra_dims)} "
                    f"It has: {', '.join(self.extra_dims) or 'none'}."
                )
            known = self.data[dim].to_numpy().tolist()
            if label not in known:
                raise KeyError(
                    f"{dim}={label!r} is not in this evaluation.{suggest(label, known)} It has: "
                    f"{', '.join(map(str, known[:8]))}."
                )
        null = None if self.null is None else self.null.sel(labels)
        stats = self.stats.sel({k: v for k, v in labels.items() if k in self.stats.dims})
        return Evaluation(self.data.sel(labels), stats, null, self.params, self.provenance)

    def to_table(self) -> pd.DataFrame:
        """Return one row per model: score, interval, and p-values.

        Returns
        -------
        table : DataFrame
            Indexed by model.

        Raises
        ------
        ValueError
            If there are kept dims: pick a label of each with `select`.
        """
        self._need_one("to_table()")
        s = self.stats
        table = pd.DataFrame({"score": s["mean"]}, index=pd.Index(s["model"], name="model"))
        if "interval" in s:
            table["lower"], table["upper"] = s["interval"].transpose("side", "model").to_numpy()
        names = {"p": "p", "p_max": "p_max", "p_zero": "p > 0", "p_ceiling": "p ceiling"}
        for name, title in names.items():
            if name in s:
                table[title] = s[name].to_numpy()
        return table

    def _need_one(self, what: str) -> None:
        for dim in self.extra_dims:
            label = self.data[dim].to_numpy().tolist()[0]
            raise ValueError(
                f"This evaluation has {self.data.sizes[dim]} values of {dim!r}. Pick one: "
                f"result.select({dim}={label!r}).{what}."
            )

    def summary(self) -> str:
        """Return the result as text for a terminal.

        Returns
        -------
        text : str
            What it holds for, ceiling and models, and which differ.
        """
        p = self.params
        lines = [
            f"{NAMES[p['method']]} of {self.data.sizes['model']} models over {p['n_conditions']} "
            f"conditions. Holds for {p['holds_for']}."
        ]
        if self.extra_dims:
            sizes = " x ".join(f"{self.data.sizes[d]} {d}" for d in self.extra_dims)
            return "\n".join([*lines, f"{sizes}; pick one with select(...)."])
        lines += self._remarks()
        table = self.to_table()
        exact = {c: "{:.2g}".format for c in table if c.startswith("p")}
        return "\n".join([*lines, "", table.to_string(float_format="%.3f", formatters=exact)])

    def _remarks(self) -> list[str]:
        p, s, lines = self.params, self.stats, []
        low, high = s["ceiling"].to_numpy()
        if np.isfinite(low):
            tested = ""
            if "ceiling_p" in s and np.isfinite(s["ceiling_p"]):
                tested = f", p = {float(s['ceiling_p']):.2g} against 0"
            lines.append(f"Noise ceiling {low:.3f} to {high:.3f}{tested}.")
        else:
            lines.append("No lower bound of the ceiling: it needs at least two participants.")
        if "difference_p_bh" in s:
            apart = (s["difference_p_bh"].to_numpy() < ALPHA).sum() // 2
            n = self.data.sizes["model"]
            lines.append(f"{apart} of {n * (n - 1) // 2} pairs of models differ (BH, p < {ALPHA}).")
        seeds = self.data["seed_n"].to_numpy().max() > 1
        lines += [
            f"Not sampled: {f} ({why})."
            for f, why in p["not_sampled"].items()
            if f != "seeds" or seeds
        ]
        if self.null is None:
            lines.append(f"p-values against chance: {p['null']}.")
        if p["flexible"]:
            fitted = ", ".join(f"{k} ({v})" for k, v in p["flexible"].items())
            a, b = p["folds"]
            lines.append(
                f"Fitted: {fitted}; all are scored on test sets, {a} parts of the stimuli by {b} "
                "of the participants."
            )
        if p["left_out"]:
            lines.append(
                f"{len(p['left_out'])} conditions were left out, constant in some layer or person: "
                f"{', '.join(p['left_out'][:5])}."
            )
        return lines

    def describe_methods(self) -> str:
        """Return one paragraph on how models were evaluated, and what it holds for.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        text = [
            f"{self.data.sizes['model']} models were compared with the representational "
            f"dissimilarity matrices of {p['n_participants']} participants over "
            f"{p['n_conditions']} conditions by {NAMES[p['method']]} [kriegeskorte2008rsa]."
        ]
        if p["flexible"]:
            a, b = p["folds"]
            text.append(
                f"{len(p['flexible'])} of them were fitted, and all scored by cross-validation "
                f"over {a} parts of the stimuli and {b} of the participants."
            )
        if p["generalize"]:
            both = {"stimuli", "participants"} <= set(p["generalize"])
            corrected = ", corrected for resampling two factors" if both else ""
            text.append(
                f"Variances of scores, of their differences and of the ceiling come from "
                f"{p['n_bootstraps']} bootstrap samples of {' and '.join(p['generalize'])}"
                f"{corrected} [schutt2023]; tests and intervals are Student's t, those of "
                "differences corrected for their number [benjamini1995]."
            )
        if self.null is not None:
            text.append(
                f"One-sided p-values against chance come from {p['n_draws']} "
                f"{describe_draws(p['order'])} {describe_p(p['order'])}."
            )
        text.append(
            "The noise ceiling compares each participant with the pool of the others (lower bound) "
            f"and of all (upper bound) [nili2014]. The result holds for {p['holds_for']}."
        )
        return " ".join(text)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the models over the noise ceiling; over time as curves.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If there are kept dims other than time.
        """
        from netphys._draw.evaluation import draw_models, draw_time

        p = self.params
        unit = NAMES[p["method"]]
        title = f"n = {p['n_conditions']} conditions, {p['n_participants']} participants"
        if self.extra_dims == ("time",):
            return draw_time(
                self.data["time"].to_numpy(),
                self.data["model"].to_numpy().tolist(),
                self.stats["mean"].transpose("model", "time").to_numpy(),
                interval=self._get("interval", "model", "time", "side"),
                ceiling=self.stats["ceiling"].transpose("bound", "time").to_numpy(),
                cluster=self._get("cluster_p", "model", "time"),
                unit=unit,
                axis=str(self.data["time"].attrs.get("units", "time")),
                title=title,
                ax=ax,
            )
        self._need_one("plot()")
        return draw_models(
            self.data["model"].to_numpy().tolist(),
            self.data.transpose("model", "participant").to_numpy(),
            interval=self._get("interval", "model", "side"),
            ceiling=self.stats["ceiling"].to_numpy(),
            p=self._get("p_max", "model"),
            p_pairs=self._get("difference_p_bh", "model", "model_2"),
            below=self._get("p_ceiling", "model"),
            unit=unit,
            title=title,
            ax=ax,
        )

    def _get(self, name: str, *dims: str) -> np.ndarray | None:
        return self.stats[name].transpose(*dims).to_numpy() if name in self.stats else None
