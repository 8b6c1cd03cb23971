"""Identification: do descriptors tell regions or layers apart in subjects not seen before?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._align import check_draws, open_rng
from netphys.analysis._identify import (
    ADAPTIVE,
    DESCRIPTORS,
    draw_accuracy,
    evaluate_grams,
    make_grams,
    sort_grid,
)
from netphys.analysis._subjects import check_subjects, stack_subjects
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.resample import compute_p
from netphys.core.topology.transform import check_grid
from netphys.data.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DESCRIPTOR_WORDS = {
    "rdm": "representational dissimilarities",
    "ranked": "ranks of representational dissimilarities",
    "rgtm": "representational geo-topological matrices",
    "rgdm": "representational geodesic dissimilarity matrices",
}
KEPT = ("rank", "max")  # what unreachable pairs may get: distances need a number


@dataclass(frozen=True, eq=False, repr=False)
class Identification(Result):
    """Accuracy of identification; `data` has one value per subject that was left out.

    In `stats`: `accuracy` (mean over subjects), its `p` and `chance`; `confusion` (label, label_2)
    as the fraction of subjects whose label was taken for label_2; `lower` and `upper`, the
    thresholds chosen for each subject on the others; and `optimistic`, the accuracy at every pair
    of thresholds over the very subjects it is measured on, a picture and no estimate. `null` holds
    mean accuracies under labels permuted within subjects.
    """

    citations: ClassVar[tuple[str, ...]] = ("kriegeskorte2008rsa", "lin2024trsa")

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        return (*super().get_citations(), *(("phipson2010",) if self.null is not None else ()))

    def summary(self) -> str:
        """Return the accuracies with chance and p-values as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        p = self.params
        lines = [
            f"Identification of {p['n_labels']} {p['label']}s across {p['n_subjects']} "
            f"{p['across']}s by {p['descriptor']} ({p['n_conditions']} conditions)"
        ]
        if self.stats["accuracy"].ndim:
            lines.append(self.to_frame().to_string(index=False, float_format="%.3f"))
        else:
            tested = "" if self.null is None else f", p = {float(self.stats['p']):.3g}"
            lines.append(
                f"accuracy {float(self.stats['accuracy']):.3f}, chance {p['chance']:.3f}{tested}"
            )
            if "lower" in self.stats:
                lines.append(f"thresholds chosen on the others: {self._list_choices()}")
        lines.append(f"null: {p['null']}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per subject left out, with what was chosen for it.

        Returns
        -------
        table : DataFrame
            Columns of the dims, accuracy, chance, and lower and upper where thresholds were chosen.
        """
        table = super().to_frame()
        table["chance"] = self.params["chance"]
        for name in ("lower", "upper"):
            if name in self.stats:
                table[name] = self.stats[name].transpose(*self.data.dims).to_numpy().reshape(-1)
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the accuracy over the thresholds, what was chosen marked; else the confusions.

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
            If there are dims other than that of the subjects.
        """
        from netphys._draw.topology import draw_grid

        if "optimistic" not in self.stats:
            return self.plot_confusion(ax)
        self._refuse_several()
        p = self.params
        grid = self.stats["optimistic"]
        chosen = np.stack([self.stats["lower"], self.stats["upper"]], axis=1)
        return draw_grid(
            grid.transpose("grid_lower", "grid_upper").to_numpy(),
            grid["grid_lower"].to_numpy(),
            grid["grid_upper"].to_numpy(),
            chosen=chosen,
            chosen_label=f"chosen on the other {p['across']}s",
            unit=f"accuracy on the same {p['across']}s (optimistic)",
            scale=p["scale"],
            title=f"{p['descriptor'].upper()}: {float(self.stats['accuracy']):.2f} as chosen, "
            f"chance {p['chance']:.2f}\nn = {p['n_subjects']} {p['across']}s x "
            f"{p['n_labels']} {p['label']}s",
            ax=ax,
        )

    def plot_confusion(self, ax: Axes | None = None) -> Axes:
        """Draw how often each label was taken for which.

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
            If there are dims other than that of the subjects.
        """
        from netphys._draw.topology import draw_confusion

        self._refuse_several()
        p = self.params
        matrix = self.stats["confusion"].transpose(p["label"], f"{p['label']}_2")
        return draw_confusion(
            matrix.to_numpy(),
            [str(v) for v in matrix[p["label"]].to_numpy()],
            unit=f"fraction of {p['across']}s",
            what=p["label"],
            title=f"{p['descriptor'].upper()}: accuracy {float(self.stats['accuracy']):.2f}, "
            f"chance {p['chance']:.2f}\nn = {p['n_subjects']} {p['across']}s",
            ax=ax,
        )

    def describe_methods(self) -> str:
        """Return one paragraph on how labels were identified.

        Returns
        -------
        text : str
            Sentences in the past tense.
        """
        p = self.params
        text = (
            f"Each {p['label']} of each of {p['n_subjects']} {p['across']}s was assigned to the "
            f"nearest (Euclidean) of {p['n_labels']} centroids, means of the "
            f"{DESCRIPTOR_WORDS[p['descriptor']]} of the other {p['across']}s over "
            f"{p['n_pairs']} pairs of conditions [lin2024trsa]."
        )
        if p["descriptor"] in ADAPTIVE:
            text += (
                f" Thresholds ({p['scale']}) were chosen among {len(p['grid'])} pairs by "
                f"leave-one-out within those other {p['across']}s only, ties going to the widest "
                "interval."
            )
        if self.null is None:
            return f"{text} No p-value was computed: {p['null']}."
        choice = ", the choice of thresholds included," if p["descriptor"] in ADAPTIVE else ""
        return (
            f"{text} The one-sided p-value comes from {p['n_draws']} permutations of the labels "
            f"within {p['across']}s{choice} as (1 + hits) / (1 + draws) [phipson2010]."
        )

    def _list_choices(self) -> str:
        pairs = zip(self.stats["lower"].to_numpy(), self.stats["upper"].to_numpy(), strict=True)
        texts = [f"{lower:g} to {upper:g}" for lower, upper in pairs]
        ordered = sorted(set(texts), key=lambda t: (-texts.count(t), texts.index(t)))
        more = f" and {len(ordered) - 4} others" if len(ordered) > 4 else ""
        return ", ".join(f"{t} ({texts.count(t)}x)" for t in ordered[:4]) + more

    def _refuse_several(self) -> None:
        others = [str(d) for d in self.data.dims if d != self.params["across"]]
        if others:
            raise ValueError(
                f"This identification was done for each {others[0]!r}. Draw one of them: pick it "
                f"with rdm.select({others[0]}=...) before."
            )


def identify(
    rdm: RDM,
    *,
    across: str = "participant",
    label: str = "region",
    descriptor: str = "rgtm",
    grid: np.ndarray | None = None,
    scale: str = "rank",
    unreachable: str = "rank",
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> Identification:
    """Identify the regions or layers of each subject by descriptors of all other subjects.

    Each subject is left out in turn. Every one of its RDMs is assigned to the region or layer whose
    centroid, the mean descriptor over the other subjects, is nearest (Euclidean distance).

    Parameters
    ----------
    rdm : RDM
        With the dims that `across` and `label` name; other dims are kept.
    across : str
        Dim to generalize over, such as "participant" or "seed".
    label : str
        Dim to identify, such as "region" or "layer".
    descriptor : str
        "rdm", "ranked" (ranks of the RDM), "rgtm" or "rgdm" (see `compute_rgtm`, `compute_rgdm`).
    grid : ndarray, shape (n_cells, 2), optional
        Lower and upper thresholds to choose from; left out: steps of 0.1, lower < upper.
    scale : str
        What thresholds refer to: "rank", "quantile" or "value".
    unreachable : str
        For "rgdm": "rank" or "max".
    n_permutations : int
        Draws under the null hypothesis; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.

    Returns
    -------
    identification : Identification
        `data`: accuracy for each subject left out; `stats`: mean, p, confusions, thresholds.

    Raises
    ------
    ValueError
        If a dim is missing, there are fewer than two labels or too few subjects (three, four with
        thresholds to choose), or pairs of conditions are unknown.

    Notes
    -----
    Thresholds are chosen without the subject they are used on: for each subject left out, every
    cell of the grid is tried by leave-one-out within the others, and the best is taken (ties: the
    widest interval). ``stats["optimistic"]`` is the accuracy at each cell on all subjects; its
    maximum is too high, since it was picked on the data it is measured on.

    Of equally near centroids the first is taken, and none when thresholds are chosen.

    The null permutes labels within subjects and repeats the choice. It concerns these subjects.
    With the grid of 55 cells, 1000 draws take about 6 s for 10 subjects with 10 labels, and 20 s
    for 24 with 8.

    "rdm" also uses how large dissimilarities are, which ranks discard.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> draw = np.random.default_rng(0).normal
    >>> pairs = 5 + draw(size=(1, 3, 15)) + 0.1 * draw(size=(6, 3, 15))
    >>> rdm = to_rdm(pairs, conditions=list("abcdef"), dims=("participant", "region"))
    >>> float(identify(rdm, descriptor="rdm", n_permutations=99, rng=0).stats["accuracy"])
    1.0
    """
    check_type("rdm", rdm, RDM, "an RDM with a dim of subjects and one of labels")
    check_option("descriptor", descriptor, DESCRIPTORS)
    check_option("unreachable", unreachable, KEPT, "Distances to centroids need numbers.")
    check_draws("n_permutations", n_permutations)
    adaptive = descriptor in ADAPTIVE
    needed = 4 if adaptive else 3
    check_subjects(rdm, across, label, needed, f"are needed for descriptor={descriptor!r}.")
    if grid is not None and not adaptive:
        raise ValueError(f"grid= has no part in descriptor={descriptor!r}. Leave it out.")
    cells = np.array([[0.0, 1.0]])
    if adaptive:
        cells = sort_grid(check_grid(grid, scale, default=11))
    others = [d for d in rdm.extra_dims if d not in (across, label)]
    data, pairs = stack_subjects(rdm, (*others, across, label))
    n = data.sizes["condition"]
    generator, seed = open_rng(rng)
    options = {"scale": scale, "unreachable": unreachable}
    flat = pairs.reshape(-1, *pairs.shape[-3:])
    found = [
        _identify_one(p, n, descriptor, cells, options, n_permutations, generator) for p in flat
    ]
    params = {"across": across, "label": label, "descriptor": descriptor}
    params |= {"n_subjects": pairs.shape[-3], "n_labels": pairs.shape[-2]}
    params |= {"n_conditions": n, "n_pairs": pairs.shape[-1], "chance": 1 / pairs.shape[-2]}
    params |= {"grid": cells.tolist(), "scale": scale} if adaptive else {}
    params |= {"unreachable": unreachable} if descriptor == "rgdm" else {}
    why = f"{n_permutations} permutations of labels within {across}s"
    params |= {"null": why if n_permutations else "left out (n_permutations=0)"}
    params |= {"n_draws": n_permutations, "rng": seed}
    return _collect(found, data, others, cells if adaptive else None, params, rdm.provenance)


def _identify_one(
    pairs: np.ndarray,
    n: int,
    descriptor: str,
    cells: np.ndarray,
    options: dict,
    n_draws: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Identify with pairs (subject, label, pair)."""
    shape = pairs.shape[:2]
    grams = make_grams(pairs, n, descriptor, cells, **options)
    labels = np.arange(shape[1])
    predicted, chosen, every = evaluate_grams(grams, np.tile(labels, (shape[0], 1)))
    return {
        "accuracy": (predicted == labels).mean(axis=1),
        "confusion": (predicted[..., None] == labels).mean(axis=0),
        "chosen": cells[chosen],
        "optimistic": (every == labels).mean(axis=(1, 2)),
        "null": draw_accuracy(grams, shape, n_draws, rng=rng),
    }


def _collect(
    found: list[dict[str, np.ndarray]],
    data: xr.DataArray,
    others: list[str],
    cells: np.ndarray | None,
    params: dict,
    provenance: dict,
) -> Identification:
    """Label what was found for each of the other dims."""
    across, label = params["across"], params["label"]
    shape = [data.sizes[d] for d in others]
    stack = {k: np.array([f[k] for f in found]) for k in found[0]}
    stack = {k: v.reshape(*shape, *v.shape[1:]) for k, v in stack.items()}
    coords = {k: v for k, v in data.coords.items() if not set(v.dims) & {*PAIR, label}}
    kept = {k: v for k, v in coords.items() if across not in v.dims}
    mean = stack["accuracy"].mean(axis=-1)
    names = data[label].to_numpy() if label in data.coords else np.arange(data.sizes[label])
    stats = {
        "accuracy": (others, mean),
        "chance": params["chance"],
        "confusion": ((*others, label, f"{label}_2"), stack["confusion"]),
    }
    places = {label: names, f"{label}_2": (f"{label}_2", names)}
    if cells is not None:
        stats["lower"] = ((*others, across), stack["chosen"][..., 0])
        stats["upper"] = ((*others, across), stack["chosen"][..., 1])
        low, high = np.unique(cells[:, 0]), np.unique(cells[:, 1])
        surface = np.full((*shape, len(low), len(high)), np.nan)
        i, j = np.searchsorted(low, cells[:, 0]), np.searchsorted(high, cells[:, 1])
        surface[..., i, j] = stack["optimistic"]
        stats["optimistic"] = ((*others, "grid_lower", "grid_upper"), surface)
        places |= {"grid_lower": low, "grid_upper": high}
    null = None
    if params["n_draws"]:
        draws = np.moveaxis(stack["null"], -1, 0)
        stats["p"] = (others, compute_p(mean, draws))
        null = xr.DataArray(draws, kept, ("draw", *others), name="null")
    attrs = {"units": "fraction correct", "descriptor": params["descriptor"]}
    accuracy = xr.DataArray(
        stack["accuracy"], coords, (*others, across), name="accuracy", attrs=attrs
    )
    stats = xr.Dataset(stats, {**coords, **places})
    return Identification(accuracy, stats, null, params, dict(provenance))
