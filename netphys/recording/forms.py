"""Forms in which a site is stored: samples, pooled per word or trial, raster, largest units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netphys._check import check_option, check_positive, check_type, suggest
from netphys._options import STORE_DTYPES, STORES
from netphys.recording.sites import Site

SCOPES = {"word": "word", "trial": "item"}  # what is pooled, and the clock that follows it


@dataclass(frozen=True)
class Forms:
    """What a recording stores of every site.

    Parameters
    ----------
    store : tuple of str
        "samples", "word.mean", "trial.last", "raster", "top", "surprisal", ...; empty: nothing.
    dtype : str
        Type of the values: "native", "float32", "float16", "bfloat16", or "int8" for samples.
    units : dict of str to ndarray
        Per site name, kind or pattern the units to record, ascending.
    threshold : dict of str to ndarray
        Per site name, kind or pattern what a unit must exceed in a raster, activation units; "*"
        stands for every site.
    top_k : int
        Number of largest units to keep of each sample.
    """

    store: tuple[str, ...]
    dtype: str
    units: Mapping[str, np.ndarray]
    threshold: Mapping[str, np.ndarray]
    top_k: int

    @property
    def pools(self) -> dict[str, list[str]]:
        """Ways of pooling per scope, such as {"word": ["mean"]}."""
        found: dict[str, list[str]] = {}
        for name in self.store:
            scope, _, how = name.partition(".")
            if how:
                found.setdefault(scope, []).append(how)
        return found

    def find_units(self, site: str, kind: str, n_units: int) -> np.ndarray | None:
        """Return which units of a site are recorded; None for all.

        Parameters
        ----------
        site, kind : str
            Name and kind of the site.
        n_units : int
            Number of its units.

        Returns
        -------
        units : ndarray of int64 or None
            Ascending.
        """
        for pattern, units in self.units.items():
            if _matches(pattern, site, kind):
                if units[-1] >= n_units:
                    raise ValueError(
                        f"units[{pattern!r}] names unit {units[-1]}; {site!r} has {n_units} "
                        f"(0 to {n_units - 1})."
                    )
                return units
        return None

    def find_threshold(self, site: str, kind: str, n_units: int) -> np.ndarray:
        """Return what each recorded unit of a site must exceed to count as active.

        Parameters
        ----------
        site, kind : str
            Name and kind of the site.
        n_units : int
            Number of its recorded units.

        Returns
        -------
        threshold : ndarray of float32, shape (n_units,)
            Activation units.
        """
        for pattern, values in self.threshold.items():
            if pattern == "*" or _matches(pattern, site, kind):
                if values.size not in (1, n_units):
                    raise ValueError(
                        f"threshold[{pattern!r}] has {values.size} values; {site!r} has {n_units} "
                        "recorded units. Give one number, or one per recorded unit."
                    )
                return np.broadcast_to(values, (n_units,)).astype(np.float32)
        raise ValueError(
            f"threshold has no value for site {site!r}. Name it, its kind, or give one number."
        )

    def to_dict(self) -> dict:
        """Return what the provenance says of these options.

        Returns
        -------
        options : dict
            JSON-ready.
        """
        return {
            "store": list(self.store),
            "units": {k: v.tolist() for k, v in self.units.items()},
            "threshold": {k: v.tolist() for k, v in self.threshold.items()},
            "top_k": self.top_k if "top" in self.store else None,
        }


def make_forms(
    *,
    store: Sequence[str] | str | None,
    dtype: str | None,
    units: Mapping[str, Sequence[int]] | None,
    threshold: float | Mapping[str, object] | None,
    top_k: int,
) -> Forms:
    """Check what a recording is asked to store.

    Parameters
    ----------
    store, dtype, units, threshold, top_k
        As for `record`.

    Returns
    -------
    forms : Forms
        The same, in one form each.

    Raises
    ------
    TypeError, ValueError
        If an option is unknown, or the options do not go together.
    """
    check_type("store", store, (str, list, tuple, type(None)), "names such as 'samples', or None")
    names = (store,) if isinstance(store, str) else tuple(store or ())
    for name in names:
        check_option("store", name, STORES)
    check_option("dtype", dtype or "native", STORE_DTYPES)
    check_positive("top_k", top_k)
    if "raster" in names and threshold is None:
        raise ValueError(
            "store='raster' needs threshold=: what a unit must exceed, one number or one per site."
        )
    if threshold is not None and "raster" not in names:
        raise ValueError("threshold is for store='raster'. Add it to store, or leave it out.")
    if dtype == "int8" and "samples" not in names:
        raise ValueError("dtype='int8' is for store='samples'. Add it to store, or choose a float.")
    return Forms(
        tuple(dict.fromkeys(names)),
        dtype or "native",
        _check_units(units),
        _check_threshold(threshold),
        top_k,
    )


def check_patterns(forms: Forms, sites: Sequence[Site]) -> None:
    """Raise if units or thresholds are given for a site that is not recorded.

    Parameters
    ----------
    forms : Forms
        What is stored.
    sites : sequence of Site
        The recorded sites.
    """
    for name, patterns in (("units", forms.units), ("threshold", forms.threshold)):
        for pattern in patterns:
            if pattern != "*" and not any(_matches(pattern, s.name, s.kind) for s in sites):
                known = dict.fromkeys([*(s.kind for s in sites), *(s.name for s in sites)])
                raise ValueError(
                    f"{name}[{pattern!r}] names no recorded site.{suggest(pattern, known)} "
                    f"Recorded: {', '.join(s.name for s in sites)}."
                )


def _matches(pattern: str, site: str, kind: str) -> bool:
    rule = re.escape(pattern).replace(r"\*", "[^.]*")
    return pattern == kind or re.fullmatch(rule, site) is not None


def _check_units(units: Mapping[str, Sequence[int]] | None) -> dict[str, np.ndarray]:
    check_type("units", units, (Mapping, type(None)), "a dict of site to numbers of units, or None")
    found = {}
    for pattern, numbers in (units or {}).items():
        values = np.asarray(numbers)
        if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu":
            raise ValueError(
                f"units[{pattern!r}] must be a list of whole numbers, at least one. "
                "Leave the site out to record all its units."
            )
        if (np.diff(values.astype(np.int64)) <= 0).any() or values[0] < 0:
            raise ValueError(
                f"units[{pattern!r}] must ascend from 0 or more without repeats. "
                "Give sorted(set(numbers))."
            )
        found[pattern] = values.astype(np.int64)
    return found


def _check_threshold(threshold: object) -> dict[str, np.ndarray]:
    if threshold is None:
        return {}
    parts = threshold if isinstance(threshold, Mapping) else {"*": threshold}
    found = {}
    for pattern, values in parts.items():
        try:
            numbers = np.atleast_1d(np.asarray(values, np.float64))
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if numbers.ndim != 1 or not np.isfinite(numbers).all():
            raise ValueError(
                f"threshold[{pattern!r}]={values!r} must be a finite number, or one per unit."
            )
        found[pattern] = numbers
    return found
