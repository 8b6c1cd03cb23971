"""The RDM: dissimilarities between conditions as a result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from netphys._check import suggest
from netphys.data.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs

WORDS = {
    "correlation": "1 minus Pearson's correlation over units",
    "euclidean": "squared Euclidean distance divided by the number of units",
    "cosine": "1 minus the cosine between patterns",
    "mahalanobis": "squared Mahalanobis distance divided by the number of units",
    "crossnobis": "cross-validated squared Mahalanobis distance divided by the number of units",
    "poisson": "symmetrised Kullback-Leibler divergence of Poisson rates per unit",
    "poisson-cv": "cross-validated divergence of Poisson rates per unit",
}
NOISE_WORDS = {
    "full": "the sample covariance of residuals over trials",
    "diagonal": "the variances of residuals over trials",
    "shrink-identity": "the covariance of residuals over trials, shrunk towards equal variances",
    "shrink-diagonal": "the covariance of residuals over trials, shrunk towards its diagonal",
    "given": "a precision matrix that was given",
}
PAIR = ("condition", "condition_2")


@dataclass(frozen=True, eq=False, repr=False)
class RDM(Result):
    """Dissimilarities between conditions; `data` has dims (condition, condition_2, ...).

    The labels of the conditions stand in the coordinates `condition` and `condition_2`, in the
    order of first appearance. Other dims (layer, seed, participant, region) hold one matrix each.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa",)

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        noisy = self.params.get("metric") in ("mahalanobis", "crossnobis")
        scaled = any("kriegeskorte2012" in step for step in self.params.get("steps", ()))
        more = (("walther2016", noisy), ("kriegeskorte2012", scaled))
        return (*super().get_citations(), *(key for key, used in more if used))

    @property
    def conditions(self) -> list[str]:
        """Labels of the conditions, in order."""
        return [str(c) for c in self.data["condition"].to_numpy()]

    @property
    def extra_dims(self) -> tuple[str, ...]:
        """Dims other than the two of the conditions."""
        return tuple(str(d) for d in self.data.dims if d not in PAIR)

    def select(self, **labels: object) -> RDM:
        """Return part of the matrices, by label.

        Parameters
        ----------
        **labels : str or list of str
            Label or labels along a dim, as in ``layer="h.3"``; a list keeps the dim.
            ``condition=[...]`` picks conditions on both sides.

        Returns
        -------
        rdm : RDM
            With what was picked.

        Raises
        ------
        KeyError
            If a dim or a label does not exist; the message names the nearest.
        """
        if isinstance(labels.get("condition"), str):
            raise ValueError(
                f"condition={labels['condition']!r} is one condition. Give a list of at least two."
            )
        for dim, picked in labels.items():
            if dim not in self.data.dims:
                raise KeyError(
                    f"{dim!r} is not a dim of this RDM.{suggest(dim, self.data.dims)} "
                    f"It has: {', '.join(map(str, self.data.dims))}."
                )
            known = self.data[dim].to_numpy().tolist()
            for label in picked if isinstance(picked, list | tuple) else [picked]:
                if label not in known:
                    raise KeyError(
                        f"{dim}={label!r} is not in this RDM.{suggest(label, known)} It has "
                        f"{len(known)}: {', '.join(map(str, known[:8]))}"
                        + (", ..." if len(known) > 8 else ".")
                    )
        if "condition" in labels:
            labels["condition_2"] = labels["condition"]
        picks = {d: list(v) if isinstance(v, tuple) else v for d, v in labels.items()}
        data = self.data.sel(picks)
        stats = self.stats.sel({d: v for d, v in picks.items() if d in self.stats.dims})
        return RDM(data, stats, None, self.params, self.provenance)

    def to_frame(self) -> pd.DataFrame:
        """Return the dissimilarities as a table, one row per pair of conditions.

        Returns
        -------
        table : DataFrame
            Columns condition, condition_2, those of other dims, and dissimilarity.
        """
        i, j = np.triu_indices(len(self.conditions), 1)
        pairs = self.data.transpose(..., *PAIR).to_numpy()[..., i, j]
        index = [self.data[d].to_numpy() for d in self.extra_dims]
        rows = pd.MultiIndex.from_product([*index, range(len(i))], names=[*self.extra_dims, "pair"])
        table = rows.to_frame(index=False)
        names = np.array(self.conditions, dtype=object)
        pair = table.pop("pair").to_numpy()
        table.insert(0, "condition_2", names[j[pair]])
        table.insert(0, "condition", names[i[pair]])
        table["dissimilarity"] = pairs.reshape(-1)
        return table

    def to_csv(self, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Write the dissimilarities to a text file, as `netphys.analysis.exchange.save_csv`.

        Parameters
        ----------
        path : path-like
            File to make, usually ending in .csv.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        path : Path
            The file.
        """
        from netphys.analysis.exchange import save_csv

        return save_csv(self, path, overwrite=overwrite)

    def to_rsatoolbox(self) -> RDMs:
        """Return the matrices as RDMs of rsatoolbox, as `netphys.analysis.exchange` makes them.

        Returns
        -------
        rdms : rsatoolbox.rdm.RDMs
            One per combination of labels of the other dims.
        """
        from netphys.analysis.exchange import to_rsatoolbox

        return to_rsatoolbox(self)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        groups: Mapping[str, str] | None = None,
        images: Sequence[np.ndarray] | None = None,
    ) -> Axes:
        """Draw one matrix as a heat map.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.
        groups : mapping of str to str, optional
            Group of each condition: runs of one group are named at the axes in place of conditions.
        images : sequence of ndarray, optional
            A picture per condition, in their order, beside its row and below its column.

        Returns
        -------
        ax : Axes
            Where it was drawn.

        Raises
        ------
        ValueError
            If there are several matrices: pick one with `select`; or groups or images do not fit
            the conditions.
        """
        from netphys._draw.icons import check_groups, check_images
        from netphys._draw.rdm import draw_rdm

        several = [d for d in self.extra_dims if self.data.sizes[d] > 1]
        if several:
            d = several[0]
            label = self.data[d].to_numpy().tolist()[-1]
            raise ValueError(
                f"This RDM has {self.data.sizes[d]} matrices along {d!r}. Draw one of them: "
                f"rdm.select({d}={label!r}).plot()."
            )
        matrix = self.data.squeeze(self.extra_dims, drop=False)
        place = [
            str(matrix[c].item())
            for c in ("site", "layer", "seed", "region", "participant", "model")
            if c in matrix.coords and matrix[c].ndim == 0
        ]
        title = f"{' · '.join(place)}\n" if place else ""
        return draw_rdm(
            matrix.transpose(*PAIR).to_numpy(),
            self.conditions,
            unit=str(self.data.attrs.get("units", "dissimilarity")),
            title=f"{title}n = {len(self.conditions)} conditions",
            ax=ax,
            groups=check_groups(groups, self.conditions),
            images=check_images(images, self.conditions),
        )

    def summary(self) -> str:
        """Return what the matrices hold as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        n = len(self.conditions)
        i, j = np.triu_indices(n, 1)
        pairs = self.data.transpose(..., *PAIR).to_numpy()[..., i, j]
        known = pairs[np.isfinite(pairs)]
        sizes = "".join(f" x {self.data.sizes[d]} {d}" for d in self.extra_dims)
        lines = [f"RDM: {n} conditions ({len(i)} pairs){sizes}, {self.data.attrs.get('units', '')}"]
        if len(known):
            lines.append(f"mean {known.mean():.3g}, from {known.min():.3g} to {known.max():.3g}")
        if unknown := pairs.size - len(known):
            why = ""
            if "n_constant" in self.stats and (k := int(self.stats["n_constant"].sum())):
                why = f", {k} patterns being constant"
            elif "n_folds" in self.params:
                why = ", their conditions not occurring together in two folds"
            lines.append(f"{unknown} of {pairs.size} dissimilarities are unknown (NaN){why}")
        return "\n".join(lines)

    def describe_methods(self) -> str:
        """Return one paragraph on how the matrices were made.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p, n = self.params, len(self.conditions)
        steps = f" They were then {', then '.join(p['steps'])}." if p.get("steps") else ""
        if p.get("source") == "stored":
            return (
                f"Representational dissimilarity matrices of {n} conditions were taken as stored "
                f"(dissimilarity: {p['metric']}).{steps}"
            )
        low, high = p["n_trials"]
        number = f"{low}" if low == high else f"{low} to {high}"
        trials = "one trial each" if high == 1 else f"averaged over {number} trials each"
        pool = f", pooled over the samples of a trial ({p['how']})" if "how" in p else ""
        n_sites = len(p.get("sites", ()))
        layers = f" at {n_sites} site{'s' if n_sites > 1 else ''} of the model" if n_sites else ""
        folds = f" over {p['n_folds']} folds ({p['folds']})" if "folds" in p else ""
        noise = f"; noise: {NOISE_WORDS[p['noise']]}" if "noise" in p else ""
        cited = "walther2016" if p["metric"] in ("mahalanobis", "crossnobis") else ""
        cited = ", ".join(["kriegeskorte2008rsa", *([cited] if cited else [])])
        return (
            f"Representational dissimilarity matrices were computed{layers} between the activity "
            f"patterns of {n} conditions ({trials}; {p['by']}{pool}) as "
            f"{WORDS[p['metric']]}{folds}{noise} [{cited}].{steps}"
        )
