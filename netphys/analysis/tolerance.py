"""Tolerance to noise: which descriptors of RDMs still tell layers apart when RDMs are noisy?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from netphys._check import check_option, check_positive, check_type
from netphys.analysis._align import check_draws, open_rng
from netphys.analysis._identify import DESCRIPTORS, sort_grid
from netphys.analysis._noise import (
    add_noise,
    find_parts,
    identify_once,
    make_crossed_interval,
)
from netphys.analysis._subjects import check_subjects, stack_subjects
from netphys.analysis.rdm import RDM
from netphys.analysis.tolerance_result import NoiseTolerance
from netphys.core.parallel import map_threads
from netphys.core.resample import compute_p
from netphys.core.topology.transform import check_grid

__all__ = ["NoiseTolerance", "identify_under_noise"]

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4)
MIN_SUBJECTS = 4


def identify_under_noise(
    rdm: RDM,
    *,
    across: str = "seed",
    label: str = "layer",
    descriptors: Sequence[str] = DESCRIPTORS,
    noise: Sequence[float] = LEVELS,
    n_draws: int = 20,
    grid: np.ndarray | None = None,
    unreachable: str = "rank",
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress: bool = False,
) -> NoiseTolerance:
    """Identify layers or regions across subjects from RDMs with more and more noise.

    At each level, noise is drawn anew `n_draws` times for every pair of conditions of every RDM,
    and the whole leave-one-subject-out identification of `identify` is done with each draw.

    Parameters
    ----------
    rdm : RDM
        With the dims that `across` and `label` name, and no others beside the conditions.
    across : str
        Dim to generalize over, such as "seed" or "participant".
    label : str
        Dim to identify, such as "layer" or "region".
    descriptors : sequence of str
        Some of "rdm", "ranked", "rgtm", "rgdm".
    noise : sequence of float
        SD of the noise in SDs of all dissimilarities (of all subjects and labels together).
    n_draws : int
        Draws of the noise at each level above 0.
    grid : ndarray, shape (n_cells, 2), optional
        Lower and upper thresholds to choose from, of ranks; left out: steps of 0.1, lower < upper.
    unreachable : str
        For "rgdm": "rank" or "max".
    n_permutations : int
        Permutations of labels within subjects, with the first draw of each level; 0: none.
    rng : int, Generator or None
        Source of randomness; None draws a seed and stores it.
    progress : bool
        Show a bar.

    Returns
    -------
    tolerance : NoiseTolerance
        `data`: accuracy for each descriptor, level, draw and subject left out.

    Raises
    ------
    ValueError
        If dims are missing or too many, there are fewer than two labels or four subjects, pairs
        are unknown, or descriptors or levels are unknown, negative or repeated.

    Notes
    -----
    Noise is normal and independent, dissimilarities below 0 are set to 0 [1]_. Descriptors see the
    same noisy RDMs, and levels the same draws scaled, so that both are compared in pairs. It is
    added to the RDMs that centroids are made of as to those that are identified. Its size is the
    same for all labels: those whose dissimilarities vary little drown first, which tells ranks
    something that they do not know without noise.

    Intervals are t intervals over subjects and draws of the noise, both taken as a sample
    (`combine_variances`), with one degree of freedom less than there are subjects. Subjects are
    tested on centroids made of each other, which an interval leaves out of account.

    References
    ----------
    .. [1] Lin B, Kriegeskorte N (2024). PNAS 121:e2317881121. doi:10.1073/pnas.2317881121

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> draw = np.random.default_rng(0).normal
    >>> pairs = 5 + draw(size=(1, 3, 15)) + 0.1 * draw(size=(6, 3, 15))
    >>> rdm = to_rdm(pairs, conditions=list("abcdef"), dims=("seed", "layer"))
    >>> options = {"noise": [0, 3], "n_draws": 5, "n_permutations": 0, "rng": 0}
    >>> found = identify_under_noise(rdm, descriptors=["rdm"], **options)
    >>> found.stats["accuracy"].to_numpy().round(2)
    array([[1. , 0.5]])
    """
    check_type("rdm", rdm, RDM, "an RDM with a dim of subjects and one of labels")
    descriptors = _check_names(descriptors)
    levels = _check_levels(noise)
    check_positive("n_draws", n_draws)
    check_option("unreachable", unreachable, ("rank", "max"), "Distances need numbers.")
    check_draws("n_permutations", n_permutations)
    _check_dims(rdm, across, label)
    cells = sort_grid(check_grid(grid, "rank", default=11))
    data, pairs = stack_subjects(rdm, (across, label))
    n = data.sizes["condition"]
    generator, seed = open_rng(rng)
    seeds = generator.integers(2**63, size=n_draws).tolist()
    spread = float(pairs.std())
    jobs = [(k, d) for k, level in enumerate(levels) for d in range(n_draws if level else 1)]

    def work(job: tuple[int, int]) -> list[dict[str, np.ndarray]]:
        level, draw = job
        source = np.random.default_rng(seeds[draw])
        size = levels[level] * spread
        noisy = add_noise(pairs, size, rng=source) if size else pairs
        options = {"unreachable": unreachable, "rng": source}
        options |= {"n_permutations": 0 if draw else n_permutations}
        return identify_once(noisy, n, descriptors, cells, **options)

    done = dict(zip(jobs, map_threads(work, jobs, label="noise", progress=progress), strict=True))
    params = {"across": across, "label": label, "descriptors": list(descriptors)}
    params |= {"noise": list(levels), "noise_sd": spread, "n_noise_draws": n_draws}
    params |= {"n_subjects": pairs.shape[0], "n_labels": pairs.shape[1]}
    params |= {"n_conditions": n, "n_pairs": pairs.shape[2], "chance": 1 / pairs.shape[1]}
    params |= {"grid": cells.tolist(), "scale": "rank", "unreachable": unreachable}
    params |= {"metric": rdm.params.get("metric", "")}
    why = f"{n_permutations} permutations of labels within {across}s, first draw of each level"
    params |= {"null": why if n_permutations else "left out (n_permutations=0)"}
    params |= {"n_draws": n_permutations, "rng": seed}
    return _collect(done, data, cells, params, rdm.provenance)


def _collect(
    done: dict[tuple[int, int], list[dict]],
    data: xr.DataArray,
    cells: np.ndarray,
    params: dict,
    provenance: dict,
) -> NoiseTolerance:
    """Label what was found, and sum it up over subjects and draws."""
    across, label, names = params["across"], params["label"], params["descriptors"]
    levels, n_draws = params["noise"], params["n_noise_draws"]

    def stack(key: str) -> np.ndarray:  # (descriptor, noise, repetition, ...)
        return np.array(
            [
                [
                    [done.get((k, d), done[k, 0])[i][key] for d in range(n_draws)]
                    for k in range(len(levels))
                ]
                for i in range(len(names))
            ]
        )

    accuracy, of_cells, chosen = stack("accuracy"), stack("cells"), stack("chosen")
    of_parts = np.moveaxis(stack("parts"), -2, 2)  # (descriptor, noise, part, repetition, subject)
    low, high = np.unique(cells[:, 0]), np.unique(cells[:, 1])
    surface = np.full((len(names), len(levels), len(low), len(high)), np.nan)
    i, j = np.searchsorted(low, cells[:, 0]), np.searchsorted(high, cells[:, 1])
    surface[..., i, j] = of_cells.mean(axis=2)
    labels = data[label].to_numpy() if label in data.coords else np.arange(data.sizes[label])
    subjects = data[across].to_numpy() if across in data.coords else np.arange(data.sizes[across])
    main, each = ("descriptor", "noise"), ("descriptor", "noise", "repetition", across)
    difference = accuracy[:, None] - accuracy[None]
    change = accuracy - accuracy[:, [int(np.argmin(levels))]]
    pair = ("descriptor", "descriptor_2", "noise")
    stats = {
        "accuracy": (main, accuracy.mean(axis=(2, 3))),
        "interval": ((*main, "bound"), np.clip(make_crossed_interval(accuracy), 0, 1)),
        "difference": (pair, difference.mean(axis=(-2, -1))),
        "difference_interval": ((*pair, "bound"), make_crossed_interval(difference)),
        "change": (main, change.mean(axis=(2, 3))),
        "change_interval": ((*main, "bound"), make_crossed_interval(change)),
        "chance": params["chance"],
        "confusion": ((*main, label, f"{label}_2"), stack("confusion").mean(axis=2)),
        "optimistic": (main, of_cells.max(axis=-1).mean(axis=2)),
        "surface": ((*main, "grid_lower", "grid_upper"), surface),
        "part_accuracy": ((*main, "part"), of_parts.mean(axis=(-2, -1))),
        "part_interval": ((*main, "part", "bound"), np.clip(make_crossed_interval(of_parts), 0, 1)),
        "lower": (each, chosen[..., 0]),
        "upper": (each, chosen[..., 1]),
    }
    coords = {"descriptor": names, "noise": levels, across: subjects}
    places = {label: labels, f"{label}_2": (f"{label}_2", labels), "bound": ["lower", "upper"]}
    places |= {"grid_lower": low, "grid_upper": high, "part": list(find_parts(cells))}
    places |= {"descriptor_2": ("descriptor_2", names)}
    null = None
    if params["n_draws"]:
        of = range(len(levels))
        draws = np.array([[done[k, 0][i]["null"] for k in of] for i in range(len(names))])
        draws = np.moveaxis(draws, -1, 0)
        stats["p"] = (main, compute_p(accuracy[:, :, 0].mean(axis=-1), draws))
        null = xr.DataArray(draws, {k: coords[k] for k in main}, ("draw", *main), name="null")
    attrs = {"units": "fraction correct"}
    values = xr.DataArray(accuracy, coords, each, name="accuracy", attrs=attrs)
    return NoiseTolerance(
        values, xr.Dataset(stats, coords | places), null, params, dict(provenance)
    )


def _check_names(descriptors: Sequence[str]) -> tuple[str, ...]:
    what = f"a list of some of {', '.join(map(repr, DESCRIPTORS))}"
    check_type("descriptors", descriptors, (list, tuple), what)
    if not descriptors:
        raise ValueError(f"descriptors=[] is empty. Give {what}.")
    for k, name in enumerate(descriptors):
        check_option(f"descriptors[{k}]", name, DESCRIPTORS)
        if name in descriptors[:k]:
            raise ValueError(f"descriptors[{k}]={name!r} is listed twice. Name each once.")
    return tuple(descriptors)


def _check_levels(noise: Sequence[float]) -> tuple[float, ...]:
    what = "a list of different numbers of at least 0, such as [0, 0.2, 0.4]"
    check_type("noise", noise, (list, tuple, np.ndarray), what)
    for k, level in enumerate(noise):
        check_type(f"noise[{k}]", level, (float, int, np.floating, np.integer), "a number")
        if not 0 <= level < np.inf:
            raise ValueError(f"noise[{k}]={level} is no size of noise. Give {what}.")
    levels = tuple(float(level) for level in noise)
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(f"noise={list(noise)} is empty or repeats a level. Give {what}.")
    return levels


def _check_dims(rdm: RDM, across: str, label: str) -> None:
    why = "are needed: one is left out, and thresholds are chosen by leaving out another."
    check_subjects(rdm, across, label, MIN_SUBJECTS, why)
    if others := [d for d in rdm.extra_dims if d not in (across, label)]:
        raise ValueError(
            f"rdm has the dim {others[0]!r} too. Pick one: rdm.select({others[0]}=...)."
        )
