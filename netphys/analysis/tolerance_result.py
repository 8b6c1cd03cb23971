"""The outcome of identification under noise: accuracies, their picture and their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from netphys._check import check_option
from netphys.analysis._identify import ADAPTIVE
from netphys.analysis.identification import DESCRIPTOR_WORDS
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class NoiseTolerance(Result):
    """Accuracy of identification at levels of noise; `data` has one value per draw and subject.

    Dims of `data`: descriptor, noise (in SDs of all dissimilarities), repetition (draw of the
    noise; equal at level 0) and that of the subjects left out. In `stats`, by descriptor and noise:
    `accuracy` with `interval`; `change` from the lowest level with `change_interval`;
    `difference` of descriptor less descriptor_2 with `difference_interval`; `p`; `confusion`;
    `lower` and `upper`, the thresholds chosen on the other subjects; `surface`, the accuracy at
    each pair of thresholds; `part_accuracy` with `part_interval`, the mean accuracy over all
    thresholds of a part of their plane, for which nothing is chosen; and `optimistic`, the accuracy
    at the best pair of thresholds on the very subjects it is measured on, which is too high. `null`
    holds accuracies under labels permuted within subjects, with the first draw of each level.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "lin2024trsa")

    @property
    def descriptors(self) -> list[str]:
        """Names of the descriptors, in order."""
        return self.data["descriptor"].to_numpy().tolist()

    @property
    def levels(self) -> list[float]:
        """Levels of the noise, in SDs of all dissimilarities."""
        return self.data["noise"].to_numpy().tolist()

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        return (*super().get_citations(), *(("phipson2010",) if self.null is not None else ()))

    def summary(self) -> str:
        """Return accuracies, intervals and chance as text for a terminal.

        Returns
        -------
        text : str
            A few lines, one per descriptor and level.
        """
        p = self.params
        table = self.to_table()
        for name in ("interval", "change interval"):
            table[name] = [f"{low:.3f} to {high:.3f}" for low, high in table[name]]
        return "\n".join(
            [
                f"Identification of {p['n_labels']} {p['label']}s across {p['n_subjects']} "
                f"{p['across']}s under noise ({p['n_conditions']} conditions, "
                f"{p['n_noise_draws']} draws per level), chance {p['chance']:.3f}",
                table.to_string(index=False, float_format="%.3f", na_rep=""),
                "optimistic: best thresholds picked on the data they are measured on",
                *self._list_differences(),
                f"null: {p['null']}",
            ]
        )

    def to_table(self) -> pd.DataFrame:
        """Return what came out as a table, one row per descriptor and level.

        Returns
        -------
        table : DataFrame
            Columns descriptor, noise, accuracy, interval (lower, upper), change from the lowest
            level, change interval, p where it was tested, and optimistic where thresholds are
            chosen.
        """
        s, rows = self.stats, []
        for name in self.descriptors:
            for level in self.levels:
                at = s.sel(descriptor=name, noise=level)
                row = {"descriptor": name, "noise": level, "accuracy": float(at["accuracy"])}
                row["interval"] = tuple(at["interval"].to_numpy().tolist())
                row["change"] = float(at["change"])
                row["change interval"] = tuple(at["change_interval"].to_numpy().tolist())
                row |= {"p": float(at["p"])} if "p" in s else {}
                row["optimistic"] = float(at["optimistic"]) if name in ADAPTIVE else np.nan
                rows.append(row)
        return pd.DataFrame(rows)

    def to_differences(self) -> pd.DataFrame:
        """Return the differences between descriptors with the same noise as a table.

        Returns
        -------
        table : DataFrame
            One row per pair of descriptors and level: descriptor, less, noise, difference, interval
            (lower, upper).
        """
        s, rows = self.stats, []
        for k, less in enumerate(self.descriptors):
            for name in self.descriptors[k + 1 :]:
                for level in self.levels:
                    at = s.sel(descriptor=name, descriptor_2=less, noise=level)
                    row = {"descriptor": name, "less": less, "noise": level}
                    row["difference"] = float(at["difference"])
                    row["interval"] = tuple(at["difference_interval"].to_numpy().tolist())
                    rows.append(row)
        return pd.DataFrame(rows, columns=["descriptor", "less", "noise", "difference", "interval"])

    def to_parts(self) -> pd.DataFrame:
        """Return the accuracy in each part of the plane of thresholds as a table.

        Returns
        -------
        table : DataFrame
            One row per descriptor with thresholds, level and part: descriptor, noise, part,
            accuracy, interval (lower, upper). Parts without thresholds in the grid are left out.
        """
        s, rows = self.stats, []
        for name in (d for d in self.descriptors if d in ADAPTIVE):
            for level in self.levels:
                at = s.sel(descriptor=name, noise=level)
                for part in s["part"].to_numpy().tolist():
                    one = at.sel(part=part)
                    row = {"descriptor": name, "noise": level, "part": part}
                    row["accuracy"] = float(one["part_accuracy"])
                    row["interval"] = tuple(one["part_interval"].to_numpy().tolist())
                    rows.append(row)
        columns = ["descriptor", "noise", "part", "accuracy", "interval"]
        return pd.DataFrame(rows, columns=columns).dropna(subset="accuracy").reset_index(drop=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw accuracy against noise, a line with intervals per descriptor, and chance.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        from netphys._draw.tolerance import draw_tolerance

        s, p = self.stats, self.params
        return draw_tolerance(
            np.array(self.levels),
            dict(zip(self.descriptors, s["accuracy"].to_numpy(), strict=True)),
            dict(zip(self.descriptors, s["interval"].to_numpy(), strict=True)),
            {d: s["optimistic"].sel(descriptor=d).to_numpy() for d in self._adaptive()},
            chance=p["chance"],
            unit=f"accuracy ({self.data.attrs.get('units', 'fraction correct')})",
            title=f"{p['label'].capitalize()}s identified: n = {p['n_subjects']} {p['across']}s x "
            f"{p['n_labels']} {p['label']}s, {p['n_noise_draws']} draws of noise",
            ax=ax,
        )

    def plot_grid(self, ax: Axes | None = None, *, descriptor: str, noise: float) -> Axes:
        """Draw the mean accuracy at each pair of thresholds, with what was chosen.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.
        descriptor : str
            One with thresholds: "rgtm" or "rgdm".
        noise : float
            One of the levels.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If the descriptor has no thresholds or was not used, or the level is unknown.
        """
        from netphys._draw.topology import draw_grid

        check_option("descriptor", descriptor, self._adaptive())
        at, p = self._pick(descriptor, noise), self.params
        chosen = np.stack([at["lower"].to_numpy().ravel(), at["upper"].to_numpy().ravel()], axis=1)
        return draw_grid(
            at["surface"].transpose("grid_lower", "grid_upper").to_numpy(),
            at["grid_lower"].to_numpy(),
            at["grid_upper"].to_numpy(),
            chosen=chosen,
            chosen_label=f"chosen on the other {p['across']}s",
            unit=f"accuracy on the same {p['across']}s (optimistic)",
            scale=p["scale"],
            title=f"{descriptor.upper()}, noise {noise:g}: {float(at['accuracy']):.2f} as chosen, "
            f"chance {p['chance']:.3g}\nn = {p['n_subjects']} {p['across']}s x "
            f"{p['n_labels']} {p['label']}s",
            ax=ax,
        )

    def plot_confusion(self, ax: Axes | None = None, *, descriptor: str, noise: float) -> Axes:
        """Draw how often each label was taken for which at a level of noise.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.
        descriptor : str
            One of the descriptors.
        noise : float
            One of the levels.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If the descriptor was not used or the level is unknown.
        """
        from netphys._draw.topology import draw_confusion

        at, p = self._pick(descriptor, noise), self.params
        matrix = at["confusion"].transpose(p["label"], f"{p['label']}_2")
        return draw_confusion(
            matrix.to_numpy(),
            [str(v) for v in matrix[p["label"]].to_numpy()],
            unit=f"fraction of {p['across']}s and draws",
            what=p["label"],
            title=f"{descriptor.upper()}, noise {noise:g}: accuracy {float(at['accuracy']):.2f}, "
            f"chance {p['chance']:.3g}\nn = {p['n_subjects']} {p['across']}s",
            ax=ax,
        )

    def describe_methods(self) -> str:
        """Return one paragraph on how labels were identified under noise.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        words = [DESCRIPTOR_WORDS[d] for d in self.descriptors]
        listed = ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1]
        text = (
            f"Normal noise with SDs of {', '.join(f'{x:g}' for x in self.levels)} times the SD of "
            f"all dissimilarities ({p['noise_sd']:.3g}) was added to every representational "
            f"dissimilarity matrix, values below 0 were set to 0, and this was done "
            f"{p['n_noise_draws']} times per level. With each draw, each {p['label']} of each of "
            f"{p['n_subjects']} {p['across']}s was assigned to the nearest (Euclidean) of "
            f"{p['n_labels']} centroids, means over the other {p['across']}s of {listed} "
            f"({p['n_pairs']} pairs of conditions) [lin2024trsa]."
        )
        if self._adaptive():
            text += (
                f" Thresholds of ranks were chosen among {len(p['grid'])} pairs by leave-one-out "
                f"within those other {p['across']}s only, ties going to the widest interval."
            )
        text += (
            f" Intervals (95 %) are t intervals with {p['n_subjects'] - 1} degrees of freedom over "
            f"{p['across']}s and draws of the noise; differences between descriptors, and between "
            "levels, are paired by both."
        )
        if self.null is None:
            return f"{text} No p-value was computed: {p['null']}."
        return (
            f"{text} One-sided p-values of the first draw of each level come from {p['n_draws']} "
            f"permutations of the labels within {p['across']}s, the choice of thresholds included, "
            "as (1 + hits) / (1 + draws) [phipson2010]."
        )

    def _list_differences(self) -> list[str]:
        """Return the differences at the highest level, a line each."""
        table = self.to_differences()
        rows = table[table["noise"] == max(self.levels)].itertuples(index=False)
        return [
            f"{r.descriptor} - {r.less} at noise {r.noise:g}: {r.difference:.3f} "
            f"({r.interval[0]:.3f} to {r.interval[1]:.3f})"
            for r in rows
        ]

    def _adaptive(self) -> list[str]:
        return [d for d in self.descriptors if d in ADAPTIVE]

    def _pick(self, descriptor: str, noise: float):
        check_option("descriptor", descriptor, self.descriptors)
        check_option("noise", float(noise), self.levels)
        return self.stats.sel(descriptor=descriptor, noise=float(noise))
