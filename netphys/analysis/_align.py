"""Bringing RDMs to the same conditions, and the draws that test their similarity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type
from netphys._options import METHODS, MOMENTS, TAUS, WHITENED
from netphys.analysis.rdm import PAIR, RDM
from netphys.core.compare import compare_moments, compare_pairs, normalise_pairs
from netphys.core.compare.permuted import compare_relabelled, relabel_products
from netphys.core.resample import compute_p, compute_shift_p, make_permutations, make_shifts

ORDERS = ("iid", "ordered")
MIN_CONDITIONS = 4
NAMES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's rho",
    "rho-a": "rho-a",
    "cosine": "cosine",
    "tau-a": "Kendall's tau-a",
    "tau-b": "Kendall's tau-b",
    "whitened-pearson": "whitened Pearson's r",
    "whitened-cosine": "whitened cosine",
    "bures": "Bures similarity",
    "riemann": "minus the Riemannian distance",
}
ALL_METHODS = (*METHODS, *MOMENTS)


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


class Chance:
    """What similarities are under relabelled conditions: the statistic, its draws, and p-values.

    Parameters
    ----------
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Dissimilarities. NaN rows have NaN results.
    n : int
        Number of conditions.
    method : str
        How RDMs are compared.
    order : str
        "iid" or "ordered".
    groups : ndarray of int, shape (n_b,), optional
        The statistic is the mean over the rows of `b` of a group; each its own if left out.
    noise : ndarray, optional
        For whitened methods.
    """

    def __init__(
        self,
        a: np.ndarray,
        b: np.ndarray,
        n: int,
        *,
        method: str,
        order: str,
        groups: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ):
        self.n, self.method, self.order, self.noise = n, method, order, noise
        self.groups = np.arange(len(b)) if groups is None else groups
        self.linear = order == "ordered" or method not in (*TAUS, *MOMENTS, *WHITENED)
        if self.linear:
            base = method if method not in (*TAUS, *MOMENTS, *WHITENED) else "pearson"
            base = "spearman" if method in TAUS else base
            rows = [normalise_pairs(x, method=base) for x in (a, b)]
            if order == "ordered":
                rows = [remove_lags(r, n) for r in rows]
            a, b = rows[0], self._average(rows[1].T).T
            self.statistic = a @ b.T
        else:
            self.statistic = self._average(compare_any(a, b, method=method, noise=noise))
        self.a, self.b = a, b
        self.null: np.ndarray | None = None

    def draw(self, orders: np.ndarray) -> None:
        """Draw the null: the similarities under relabelled conditions."""
        if self.linear:
            self.null = relabel_products(self.a, self.b, orders)
        else:
            each = compare_relabelled(self.a, self.b, orders, method=self.method, noise=self.noise)
            self.null = self._average(each)

    def compute_p(self) -> tuple[np.ndarray, np.ndarray]:
        """Return one-sided p-values (a, group), and those corrected over `a` by the maximum."""
        return compute_chance_p(self.statistic, self.null, self.order)

    def _average(self, each: np.ndarray) -> np.ndarray:
        """Average (..., b) over groups."""
        if len(np.unique(self.groups)) == each.shape[-1]:
            return each
        marks = self.groups == np.unique(self.groups)[:, None]
        return np.stack([each[..., m].mean(axis=-1) for m in marks], axis=-1)


def compute_chance_p(
    statistic: np.ndarray, null: np.ndarray, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return p-values of a statistic (candidate, ...), alone and by the maximum of candidates.

    The maximum is that of standardised statistics: by chance some candidates score higher than
    others, and vary more.
    """
    mean, sd = null.mean(axis=0), null.std(axis=0)
    sd = np.where(sd > 0, sd, np.nan)
    z, drawn = ((x - mean) / sd for x in (statistic, null))
    highest = np.fmax.reduce(drawn, axis=1)[:, None]
    if order == "iid":
        p, corrected = compute_p(statistic, null), compute_p(z, highest)
    else:
        p = compute_shift_p(statistic, null)
        corrected = compute_shift_p(z, np.broadcast_to(highest, drawn.shape))
    return p, np.fmax(p, np.where(np.isfinite(p), corrected, np.nan))


def compare_any(
    a: np.ndarray, b: np.ndarray, *, method: str, noise: np.ndarray | None = None
) -> np.ndarray:
    """Compare rows of pairs by any method; rows of NaN are NaN."""
    usable = [np.isfinite(x).all(axis=1) for x in (a, b)]
    out = np.full((len(a), len(b)), np.nan)
    if all(u.any() for u in usable):
        function = compare_moments if method in MOMENTS else compare_pairs
        options = {} if noise is None else {"noise": noise}
        found = function(a[usable[0]], b[usable[1]], method=method, **options)
        out[np.ix_(*usable)] = found
    return out


def make_orders(n: int, order: str, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Return relabellings of `n` conditions: permutations ("iid"), or circular shifts ("ordered").

    Shifts stay a tenth of the conditions away from no shift, so that neighbours do not count as
    chance; all that are left are used.
    """
    if order == "iid":
        return make_permutations(n, n_draws, rng=rng)
    shifts = make_shifts(n, min_shift=max(1, n // 10))
    return (np.arange(n) + shifts[:, None]) % n


def try_orders(
    n: int, order: str, n_draws: int, *, rng: np.random.Generator
) -> tuple[np.ndarray | None, str]:
    """Return relabellings and what they are, or None and why there are none."""
    if n_draws == 0:
        return None, "left out (n_permutations=0)"
    try:
        return make_orders(n, order, n_draws, rng=rng), describe_draws(order)
    except ValueError:
        return None, f"{n} ordered conditions are too few for a test by circular shifts"


def remove_lags(rows: np.ndarray, n: int) -> np.ndarray:
    """Return normalised rows without the mean of each lag, normalised again.

    Conditions in time are the more alike the closer they stand, in any slow series: what two RDMs
    share through that alone is no match.
    """
    i, j = np.triu_indices(n, 1)
    count = np.bincount(j - i, minlength=n)
    count[0] = 1  # no condition stands at lag 0 from another
    means = np.stack([np.bincount(j - i, weights=row, minlength=n) / count for row in rows])
    rows = rows - means[:, j - i]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-12, length, np.nan)


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


def describe_p(order: str) -> str:
    """Return in words how p-values follow from the draws, with what to cite."""
    if order == "iid":
        return "as (1 + hits) / (1 + draws) [phipson2010]"
    return "by Student's t for as many draws as the shifts are worth"


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
