"""Which samples may be trained on: the split policy that ordered brain data are held to."""

from __future__ import annotations

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.core.folds import Folds, find_gap, make_folds, make_random_folds
from netphys.core.hemodynamics import HRF_SETTLED

SPLITS = ("contiguous", "grouped", "random")
MIN_TEST = 10  # samples in a test set


def choose_folds(
    responses: xr.DataArray,
    *,
    split: str | None = None,
    n_folds: int = 5,
    gap: int | None = None,
    groups: np.ndarray | None = None,
    allow_leakage: bool = False,
    rng: np.random.Generator,
) -> tuple[Folds, dict]:
    """Choose cross-validation folds that fit how the data were sampled.

    Parameters
    ----------
    responses : DataArray, dims (..., time or trial, ...)
        Brain data; the attribute `order` says "ordered" or "iid".
    split : str, optional
        "contiguous", "grouped" or "random". Left out: "grouped" if there are groups, "contiguous"
        for ordered data, else "random".
    n_folds : int
        Number of test sets.
    gap : int, optional
        Samples left out beside each test set. Left out: the larger of the 20 s after which a
        hemodynamic response has settled (where there is a `tr`) and the first lag with an
        autocorrelation below 0.05; 0 for iid data.
    groups : ndarray, optional
        Run, story or passage of each sample.
    allow_leakage : bool
        Allow a random split of ordered data; the result is stamped with it.
    rng : Generator
        For random splits.

    Returns
    -------
    folds : list of (train, test)
        Positions along time or trial.
    rule : dict
        What was chosen, JSON-ready: split, n_folds, gap, leakage.

    Raises
    ------
    ValueError
        If ordered data would be split at random, are not in the order of time, or their groups
        are interleaved; if the order is not declared, or test sets would be tiny.

    References
    ----------
    .. [1] Hadidi N, Feghhi E et al. (2026). Nat Commun. doi:10.1038/s41467-026-72253-7
    """
    order = responses.attrs.get("order")
    check_option("responses.attrs['order']", order, ("iid", "ordered"))
    if split is None:
        split = "random" if order == "iid" else "contiguous"
        split = split if groups is None else "grouped"
    check_option("split", split, SPLITS)
    check_type("allow_leakage", allow_leakage, bool, "True or False")
    if split == "grouped" and groups is None:
        raise ValueError("split='grouped' needs groups. Give the run or story of each sample.")
    leaks = split == "random" and order == "ordered"
    if leaks and not allow_leakage:
        raise ValueError(
            "split='random' of ordered data trains on the neighbours of every test sample: their "
            "autocorrelation alone then predicts it, whatever the model. Use split='contiguous' "
            "(the default) or 'grouped'; to see what leakage does, pass allow_leakage=True, which "
            "stamps the result."
        )
    dim = "time" if "time" in responses.dims else "trial"
    n = responses.sizes[dim]
    if order == "ordered":
        _check_order(responses, dim, groups)
    if n < MIN_TEST * n_folds:
        raise ValueError(
            f"n_folds={n_folds} makes test sets of fewer than {MIN_TEST} of {n} samples, in which "
            "a correlation says little. Use fewer folds."
        )
    if split == "random":
        gap = 0
        folds = make_random_folds(n, n_folds=n_folds, rng=rng)
    else:
        gap = _default_gap(responses, dim, order) if gap is None else gap
        folds = make_folds(n, n_folds=n_folds, gap=gap, groups=groups)
    return folds, {"split": split, "n_folds": n_folds, "gap": gap, "leakage": leaks}


def _check_order(responses: xr.DataArray, dim: str, groups: np.ndarray | None) -> None:
    """Raise unless neighbours in the array are neighbours in time."""
    labels = np.zeros(responses.sizes[dim]) if groups is None else np.asarray(groups)
    border = labels[1:] != labels[:-1]
    if border.sum() + 1 > len(set(labels.tolist())):
        raise ValueError(
            "groups are interleaved: samples of one group lie in several places, so that "
            "neighbours in time would be trained on and tested. Give groups that are contiguous."
        )
    if "time" in responses.coords:
        steps = np.diff(responses["time"].to_numpy())
        if not ((steps > 0) | border).all():
            first = int(np.argmin((steps > 0) | border))
            raise ValueError(
                f"responses are not in the order of time (sample {first + 1} is not after the one "
                "before it), so that contiguous folds would be random ones. Sort them: "
                f"responses.sortby({dim!r})."
            )


def _default_gap(responses: xr.DataArray, dim: str, order: str) -> int:
    if order == "iid":
        return 0
    tr = responses.attrs.get("tr")
    span = int(np.ceil(HRF_SETTLED / tr)) if tr else 0
    return find_gap(responses.transpose(dim, ...).to_numpy(), span=span)
