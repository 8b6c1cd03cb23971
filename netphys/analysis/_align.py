"""Bringing RDMs to the same conditions, and the draws that test their similarity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys.analysis._pairs import compute_null, make_orders, remove_lags
from netphys.analysis.rdm import PAIR, RDM

ORDERS = ("iid", "ordered")
MIN_CONDITIONS = 4
NAMES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's rho",
    "rho-a": "rho-a",
    "cosine": "cosine",
}


def align_rdms(rdms: Mapping[str, RDM]) -> tuple[dict[str, xr.DataArray], list[str]]:
    """Bring RDMs to the same conditions in the same order, that of the first."""
    (first, reference), *others = rdms.items()
    labels = reference.conditions
    for name, rdm in others:
        missing = [c for c in labels if c not in set(rdm.conditions)]
        added = [c for c in rdm.conditions if c not in set(labels)]
        if missing or added:
            raise ValueError(
                f"{first} and {name} have different conditions."
                + _list_some(f" Only in {first}", missing)
                + _list_some(f" Only in {name}", added)
                + " Pick those of both with rdm.select(condition=[...])."
            )
    data = {name: rdm.data.transpose(..., *PAIR) for name, rdm in rdms.items()}
    data = {name: d.sel(condition=labels, condition_2=labels) for name, d in data.items()}
    unknown = {name: _find_unknown(d.to_numpy()) for name, d in data.items()}
    left_out = [
        c for c, bad in zip(labels, np.any([*unknown.values()], axis=0), strict=True) if bad
    ]
    kept = [c for c in labels if c not in set(left_out)]
    if len(kept) < MIN_CONDITIONS:
        why = "".join(f"; {n}: {u.sum()} constant" for n, u in unknown.items() if u.any())
        raise ValueError(
            f"{len(kept)} of {len(labels)} conditions can be compared{why}. At least "
            f"{MIN_CONDITIONS} are needed."
        )
    data = {name: d.sel(condition=kept, condition_2=kept) for name, d in data.items()}
    for name, d in data.items():
        missing = np.isnan(d.to_numpy())
        dead = _is_dead(d.to_numpy())
        if (missing & ~dead).any():
            raise ValueError(
                f"{name} lacks {int((missing & ~dead).sum()) // 2} dissimilarities between "
                "conditions that are known otherwise. Leave out the conditions concerned: "
                "rdm.select(condition=[...])."
            )
    return data, left_out


def stack_pairs(data: xr.DataArray) -> tuple[np.ndarray, tuple[str, ...], dict]:
    """Return matrices (..., condition, condition_2) as rows of pairs, with dims and labels."""
    dims = tuple(str(d) for d in data.dims if d not in PAIR)
    i, j = np.triu_indices(data.sizes["condition"], 1)
    rows = data.transpose(*dims, *PAIR).to_numpy()[..., i, j].reshape(-1, len(i))
    coords = {k: v for k, v in data.coords.items() if v.dims and set(v.dims) <= set(dims)}
    return rows, dims, coords


def prepare_test(rows: np.ndarray, n: int, order: str) -> np.ndarray:
    """Return normalised rows as the test takes them: of ordered conditions without their lags."""
    return remove_lags(rows, n) if order == "ordered" else rows


def draw_null_rows(
    a: np.ndarray,
    b: np.ndarray,
    n: int,
    order: str,
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray | None, str]:
    """Draw similarities of rows under relabelled conditions, or say why there are none."""
    if n_draws == 0:
        return None, "left out (n_permutations=0)"
    try:
        orders = make_orders(n, order, n_draws, rng=rng)
    except ValueError:
        return None, f"{n} ordered conditions are too few for a test by circular shifts"
    if len(b) <= len(a):
        null = compute_null(a, b, orders)
    else:  # relabel the smaller set
        null = compute_null(b, a, orders).transpose(0, 2, 1)
    return null, describe_draws(order)


def open_rng(rng: int | np.random.Generator | None) -> tuple[np.random.Generator, int | str]:
    """Return a generator, and what to store so that the draws can be repeated."""
    if isinstance(rng, np.random.Generator):
        return rng, "a generator of the caller"
    if rng is None:
        rng = int(np.random.SeedSequence().generate_state(1)[0])
    check_type("rng", rng, (int, np.integer), "a whole number, a numpy Generator, or None")
    return np.random.default_rng(rng), int(rng)


def find_order(order: str | None, *rdms: RDM) -> str:
    """Return how conditions were sampled; what RDMs say of themselves is not overruled to iid."""
    said = [rdm.provenance.get("order") for rdm in rdms]
    if order is None:
        return "ordered" if "ordered" in said else "iid"
    check_option("order", order, ORDERS)
    if order == "iid" and "ordered" in said:
        raise ValueError(
            "order='iid', but the data are ordered in time: permuting their labels makes any slow "
            "change significant. Leave order out, or give 'ordered'."
        )
    return order


def check_draws(name: str, value: object) -> None:
    """Raise unless `value` is a number of draws: 0 for none, else at least 19."""
    check_type(name, value, int, "a whole number, 0 for none")
    if value != 0 and value < 19:
        raise ValueError(
            f"{name}={value} cannot give a p below .05. Give at least 19, by custom 1000, or 0 "
            "for none."
        )


def describe_draws(order: str) -> str:
    """Return in words what the draws of the null are."""
    if order == "iid":
        return "permutations of the condition labels"
    return "circular shifts of the condition labels, of dissimilarities less the mean of their lag"


def _is_dead(values: np.ndarray) -> np.ndarray:
    """Return whether a matrix holds no known pair at all (..., 1, 1)."""
    off = ~np.eye(values.shape[-1], dtype=bool)
    return ~(np.isfinite(values) & off).any(axis=(-2, -1), keepdims=True)


def _find_unknown(values: np.ndarray) -> np.ndarray:
    """Return which conditions have no known pair in some matrix that has any (condition,)."""
    off = ~np.eye(values.shape[-1], dtype=bool)
    none = ~(np.isfinite(values) & off).any(axis=-1)
    some = none & ~_is_dead(values)[..., 0]
    return some.reshape(-1, values.shape[-1]).any(axis=0)


def _list_some(text: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{text}: {', '.join(map(repr, names[:5]))}{more}."
