"""Second moments: of the units of a site, of two sites, and distances between mean patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace

from netphys._check import check_option, check_type
from netphys._options import METRICS
from netphys.core.distance import compute_distances
from netphys.core.online.base import OnlineTable, State, StateArray, Statistic


@dataclass(frozen=True)
class Gram(Statistic):
    """Covariance and second moment of every pair of units of a site.

    Parameters
    ----------
    center : bool
        True: the column is `covariance`; False: `second_moment`, the mean of products as they are.

    Notes
    -----
    The state holds sums of products about the running mean, so a large mean costs no digits;
    both forms divide by n. A sample with a value that is not finite is left out whole and counted
    in `n_nonfinite`. The state takes ``8 * n_units ** 2`` bytes.
    """

    name: ClassVar[str] = "gram"
    center: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("center", self.center, bool, "True or False")

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return {
            "n": StateArray((1,), "int64"),
            "n_nonfinite": StateArray((1,), "int64"),
            "mean": StateArray((n_units,)),
            "product": StateArray((n_units, n_units)),
        }

    def _merge(self, state: State, other: State) -> None:
        merge_products(state, other, (("mean", "mean", "product"),))

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = float(state["n"][0]) or np.nan
        value = state["product"] / n
        if not self.center:
            value = value + np.outer(state["mean"], state["mean"])
        columns = {
            "mean": ((), np.where(n > 0, state["mean"], np.nan)),
            "covariance" if self.center else "second_moment": (("unit_2",), value),
        }
        return (self._table(state, "unit", columns, n=int(state["n"][0])),)


@dataclass(frozen=True)
class ConditionRDM(Statistic):
    """Mean pattern of every condition and the dissimilarities between them.

    Parameters
    ----------
    by : str
        Column of the stimulus table that names the condition of a trial.
    metric : str
        "correlation", "euclidean" or "cosine", as in `compute_distances`.
    labels : tuple of str
        Conditions in order; by custom those of the stimuli in order of first appearance.

    Notes
    -----
    Every sample of a trial counts towards its condition. A sample with a value that is not finite
    is left out whole and counted in `n_nonfinite`, one without a condition in `n_elsewhere`. A
    condition without samples has NaN everywhere.
    """

    name: ClassVar[str] = "rdm"
    by: str = "condition"
    metric: str = "correlation"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("by", self.by, str, "the name of a column")
        check_option("metric", self.metric, METRICS, "For Pearson distance use 'correlation'.")
        object.__setattr__(self, "labels", tuple(str(v) for v in self.labels))

    def resolve(self, labels: Mapping[str, Sequence]) -> ConditionRDM:
        """Take the conditions of the stimuli.

        Parameters
        ----------
        labels : dict of str to sequence
            Of each column of the trials its labels in order of first appearance.

        Returns
        -------
        statistic : ConditionRDM
            With `labels`.

        Raises
        ------
        ValueError
            If there is no such column, or it holds fewer than two conditions.
        """
        check_option("by", self.by, labels, "The stimuli need such a column.")
        names = tuple(str(v) for v in labels[self.by])
        if len(names) < 2:
            raise ValueError(
                f"by={self.by!r} holds the conditions {names!r}. An RDM needs at least two."
            )
        return replace(self, labels=names)

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        if len(self.labels) < 2:
            raise ValueError(
                f"labels={self.labels!r}: an RDM needs at least two conditions. Call resolve with "
                "those of the stimuli, or give labels=."
            )
        return {
            "n": StateArray((len(self.labels),), "int64"),
            "sum": StateArray((len(self.labels), n_units)),
            "n_elsewhere": StateArray((1,), "int64"),
            "n_nonfinite": StateArray((1,), "int64"),
        }

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = np.where(state["n"] > 0, state["n"], np.nan)
        mean = state["sum"] / n[:, None]
        rdm = np.full((len(n), len(n)), np.nan)
        there = np.flatnonzero(state["n"])
        if len(there) > 1:
            rdm[np.ix_(there, there)] = compute_distances(mean[there], metric=self.metric)
        columns = {
            "n": ((), state["n"]),
            "mean": (("unit",), mean),
            "rdm": (("condition_2",), rdm),
        }
        names = np.array(self.labels, object)
        coords = {"condition": names, "condition_2": names}
        elsewhere = int(state["n_elsewhere"][0])
        return (self._table(state, "condition", columns, coords=coords, n_elsewhere=elsewhere),)


@dataclass(frozen=True)
class CrossCovariance(Statistic):
    """Covariances within and between two sites, of one subject or of two on the same tokens.

    Parameters
    ----------
    site : str
        Site of the subject that is recorded.
    other_site : str
        Site of the same subject, or of `other`.
    other : Subject, optional
        A second subject that is shown the same inputs; in what is read from a file its description.

    Notes
    -----
    Everything that CKA, CCA and Procrustes distances need: n, both means, both covariances and the
    one between, all divided by n, about the running means in float64. The table of `other_site` has
    the suffix ".other". `linear_cka` among what was seen is [1]_ from these; it is biased upwards
    where samples are few against units. A sample with a value that is not finite at either site is
    left out whole and counted in `n_nonfinite`.

    References
    ----------
    .. [1] Kornblith S, Norouzi M, Lee H, Hinton G (2019). ICML. arXiv:1905.00414
    """

    name: ClassVar[str] = "cross_covariance"
    scope: ClassVar[str] = "sites"
    site: str
    other_site: str
    other: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_type("site", self.site, str, "the name of one site")
        check_type("other_site", self.other_site, str, "the name of one site")
        if self.site == self.other_site and self.other is None:
            raise ValueError(
                f"site and other_site are both {self.site!r}. Give two sites, a second subject as "
                "other=, or use Gram() for one site."
            )

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        if n_other < 1:
            raise ValueError(
                f"n_other={n_other!r}: cross_covariance needs the number of units of "
                f"{self.other_site!r}. Give n_other of at least 1."
            )
        return {
            "n": StateArray((1,), "int64"),
            "n_nonfinite": StateArray((1,), "int64"),
            "mean": StateArray((n_units,)),
            "other_mean": StateArray((n_other,)),
            "product": StateArray((n_units, n_units)),
            "other_product": StateArray((n_other, n_other)),
            "cross": StateArray((n_units, n_other)),
        }

    def _merge(self, state: State, other: State) -> None:
        merge_products(
            state,
            other,
            (
                ("mean", "mean", "product"),
                ("other_mean", "other_mean", "other_product"),
                ("mean", "other_mean", "cross"),
            ),
        )

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        n = float(state["n"][0]) or np.nan
        covariance, other, cross = (state[k] / n for k in ("product", "other_product", "cross"))
        cka = compute_linear_cka(covariance, other, cross)
        count = int(state["n"][0])
        columns = {
            "mean": ((), np.where(n > 0, state["mean"], np.nan)),
            "covariance": (("unit_2",), covariance),
            "cross": (("other_unit",), cross),
        }
        second = {
            "mean": ((), np.where(n > 0, state["other_mean"], np.nan)),
            "covariance": (("unit_2",), other),
        }
        value = None if np.isnan(cka) else cka
        return (
            self._table(state, "unit", columns, n=count, linear_cka=value),
            self._table(state, "unit", second, suffix=".other", n=count),
        )


def compute_linear_cka(covariance: np.ndarray, other: np.ndarray, cross: np.ndarray) -> float:
    """Compute linear centred kernel alignment from covariances.

    Parameters
    ----------
    covariance : ndarray, shape (n_units, n_units)
        Of the first site.
    other : ndarray, shape (n_other, n_other)
        Of the second site.
    cross : ndarray, shape (n_units, n_other)
        Between them, with the same divisor.

    Returns
    -------
    cka : float
        From 0 to 1; NaN if a site has no variance.

    References
    ----------
    .. [1] Kornblith S, Norouzi M, Lee H, Hinton G (2019). ICML. arXiv:1905.00414

    Examples
    --------
    >>> import numpy as np
    >>> compute_linear_cka(np.array([[1.0]]), np.array([[4.0]]), np.array([[1.0]]))
    0.25
    """
    scale = np.linalg.norm(covariance) * np.linalg.norm(other)
    return float((cross**2).sum() / scale) if scale > 0 else float("nan")


def merge_products(
    state: State, other: Mapping[str, Any], products: Sequence[tuple[str, str, str]]
) -> None:
    """Merge counts, means and sums of products about the means.

    Parameters
    ----------
    state : dict of str to array
        Changed in place; numpy or torch.
    other : dict of str to array
        Same names and shapes.
    products : sequence of (str, str, str)
        Of each sum of products its two means and its own name.
    """
    xp = array_namespace(state["mean"])
    a, b = (xp.astype(s["n"], xp.float64) for s in (state, other))
    total = xp.where(a + b > 0, a + b, xp.ones_like(a))
    means = {m for *both, _ in products for m in both}
    delta = {m: other[m] - state[m] for m in means}
    for first, second, name in products:
        state[name] += other[name] + (delta[first] * (a * b / total))[:, None] * delta[second]
    for mean in means:
        state[mean] += delta[mean] * (b / total)
    state["n"] += other["n"]
    state["n_nonfinite"] += other["n_nonfinite"]
