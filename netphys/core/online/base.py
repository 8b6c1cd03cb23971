"""What every online statistic is: options, layout of its state, how states merge, what they say.

A state is a dict of arrays of fixed shape, int64 or float64. Merging uses plain operators, so that
numpy arrays and tensors on any device merge by the same lines.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from netphys._check import check_option, check_type, suggest

SEEN = ("n_samples", "n_trials", "n_special")
State = dict[str, Any]
_REGISTRY: dict[str, type[Statistic]] = {}


class StateArray(NamedTuple):
    """One array of a state.

    Attributes
    ----------
    shape : tuple of int
        Fixed for the whole run.
    dtype : str
        "int64" or "float64".
    fill : float
        Value before the first sample.
    """

    shape: tuple[int, ...]
    dtype: str = "float64"
    fill: float = 0


@dataclass(frozen=True)
class OnlineTable:
    """What a statistic found: columns over one axis, and what it saw.

    Parameters
    ----------
    name : str
        Name of the statistic; of a second table with a suffix after a dot.
    axis : str
        What the rows are: "unit", "token", "position" or "condition".
    columns : dict of str to ndarray
        All with `axis` first; numbers and truth values only.
    dims : dict of str to tuple of str
        Of every column its axes.
    coords : dict of str to ndarray
        Labels of the axes that have any ("condition", "freq", "quantile", "bin").
    saw : dict
        JSON-ready: numbers of samples, trials, excluded special tokens and values, and options.
    """

    name: str
    axis: str
    columns: dict[str, np.ndarray]
    dims: dict[str, tuple[str, ...]]
    coords: dict[str, np.ndarray] = field(default_factory=dict)
    saw: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Statistic:
    """Options of an online statistic and the algebra of its state; knows no torch.

    Parameters
    ----------
    include_special : bool
        Whether tokens that the tokenizer added count as samples.
    """

    name: ClassVar[str] = ""
    scope: ClassVar[str] = "site"
    include_special: bool = field(default=False, kw_only=True)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.name:
            _REGISTRY[cls.name] = cls

    def __post_init__(self) -> None:
        check_type("include_special", self.include_special, bool, "True or False")

    def layout(self, n_units: int, n_other: int = 0) -> dict[str, StateArray]:
        """Return name, shape and type of every array of the state.

        Parameters
        ----------
        n_units : int
            Units of the site.
        n_other : int
            Units of the second site, where there is one.

        Returns
        -------
        layout : dict of str to StateArray
            "seen" holds what `SEEN` names.
        """
        return {"seen": StateArray((len(SEEN),), "int64"), **self._layout(n_units, n_other)}

    def state_bytes(self, n_units: int, n_other: int = 0) -> int:
        """Return the size of the state.

        Parameters
        ----------
        n_units, n_other : int
            As for `layout`.

        Returns
        -------
        n_bytes : int
            In bytes.
        """
        return 8 * sum(math.prod(a.shape) for a in self.layout(n_units, n_other).values())

    def make_state(self, n_units: int, n_other: int = 0) -> State:
        """Return the state before the first sample.

        Parameters
        ----------
        n_units, n_other : int
            As for `layout`.

        Returns
        -------
        state : dict of str to ndarray
            As `layout` says.
        """
        layout = self.layout(n_units, n_other)
        return {k: np.full(a.shape, a.fill, a.dtype) for k, a in layout.items()}

    def merge(self, state: State, other: State) -> None:
        """Add what another state saw; counts exactly, the rest to rounding.

        Parameters
        ----------
        state : dict of str to array
            Changed in place.
        other : dict of str to array
            Of the same statistic, left as it is.

        Raises
        ------
        ValueError
            If the two are not of one shape.
        """
        shapes = [{k: tuple(a.shape) for k, a in s.items()} for s in (state, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"other has the arrays {shapes[1]}, state has {shapes[0]}. Merge states of one "
                "statistic with one set of options over one site."
            )
        self._merge(state, other)
        state["seen"] += other["seen"]

    def finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        """Return what was found.

        Parameters
        ----------
        state : dict of str to ndarray
            Left as it is.

        Returns
        -------
        tables : tuple of OnlineTable
            One, or two where there are two sites.
        """
        return self._finish(state)

    def resolve(self, labels: Mapping[str, Sequence]) -> Statistic:
        """Fill in what only the run knows; here nothing.

        Parameters
        ----------
        labels : dict of str to sequence
            Of each column of the trials that may be used, its labels in order of first appearance.

        Returns
        -------
        statistic : Statistic
            With every option set.
        """
        return self

    def to_dict(self) -> dict:
        """Return name and options, JSON-ready.

        Returns
        -------
        options : dict
            `from_dict` makes the statistic from it again.
        """
        return copy.deepcopy(self._options)

    @functools.cached_property  # the hash of a second subject's weights takes its time
    def _options(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"name": self.name, **{k: _plain(v) for k, v in values.items()}}

    def _layout(self, n_units: int, n_other: int) -> dict[str, StateArray]:
        return {}

    def _merge(self, state: State, other: State) -> None:
        """Add; statistics of sums need no more."""
        for key in state:
            if key != "seen":
                state[key] += other[key]

    def _finish(self, state: Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        return (self._table(state, "unit", {}),)

    def _table(
        self,
        state: Mapping[str, np.ndarray],
        axis: str,
        columns: dict[str, tuple[tuple[str, ...], np.ndarray]],
        *,
        coords: dict[str, np.ndarray] | None = None,
        suffix: str = "",
        **saw: object,
    ) -> OnlineTable:
        """Make a table from (axes after the first, values) of each column."""
        seen = dict(zip(SEEN, (int(n) for n in state["seen"]), strict=True))
        if "n_nonfinite" in state:
            seen["n_nonfinite"] = int(state["n_nonfinite"].sum())
        return OnlineTable(
            name=self.name + suffix,
            axis=axis,
            columns={k: v for k, (_, v) in columns.items()},
            dims={k: (axis, *d) for k, (d, _) in columns.items()},
            coords=coords or {},
            saw={**seen, **saw, "options": self.to_dict()},
        )


def list_statistics() -> list[str]:
    """Return the names of all online statistics.

    Returns
    -------
    names : list of str
        As `record` takes them.
    """
    return sorted(_REGISTRY)


def make_statistic(given: str | Statistic | Mapping) -> Statistic:
    """Return a statistic from its name, from a dict of name and options, or as it is.

    Parameters
    ----------
    given : str, dict or Statistic
        Such as "moments" or {"name": "moments", "order": 4}.

    Returns
    -------
    statistic : Statistic
        With defaults for what is not said.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or the statistic needs options that are missing.

    Examples
    --------
    >>> from netphys.core.online import make_statistic
    >>> make_statistic("moments").order
    2
    """
    if isinstance(given, Statistic):
        return given
    check_type("online", given, (str, Mapping), "names, or statistics such as Moments(order=4)")
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    check_option("online", name, list_statistics())
    kind = _REGISTRY[name]
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for option in options:
        if option not in fields:
            raise ValueError(
                f"online: {name!r} has no option {option!r}. Options: {', '.join(fields)}."
                f"{suggest(option, fields)}"
            )
    missing = [
        n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in options
    ]
    if missing:
        raise ValueError(
            f"online: {name!r} cannot do without {', '.join(missing)}. Give "
            f"{kind.__name__}({', '.join(f'{n}=...' for n in missing)})."
        )
    return kind(**{k: _frozen(v) for k, v in options.items()})


def _plain(value: object) -> object:
    """Return a JSON-ready copy of an option."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if hasattr(value, "compute_hash"):  # a subject
        return {"name": value.name, "init": value.init, "weights_sha256": value.compute_hash()}
    return value


def _frozen(value: object) -> object:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
