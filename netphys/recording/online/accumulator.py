"""A statistic at work: makes its state on a device, feeds it rows, and takes its tables home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from netphys._check import check_type
from netphys.core.online import OnlineTable, Statistic, make_statistic
from netphys.recording.online.batch import BatchInfo
from netphys.recording.online.pairs import OtherSite
from netphys.recording.online.updates import UPDATES
from netphys.recording.subject import Subject

TensorState = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SiteInfo:
    """What a statistic must know of a site before the first sample.

    Parameters
    ----------
    n_units : int
        Units of the site.
    device : torch.device
        Where its values arise and the state is kept.
    n_other : int
        Units of the second site, for statistics of two.
    labels : dict of str to sequence
        Columns of labels of the trials, each with its labels in order of first appearance.
    """

    n_units: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    n_other: int = 0
    labels: Mapping[str, Sequence] = field(default_factory=dict)


class Accumulator:
    """Runs one statistic in torch; holds options only, the state is passed in and out.

    Parameters
    ----------
    statistic : Statistic
        From `netphys.core.online`.
    """

    def __init__(self, statistic: Statistic):
        check_type("statistic", statistic, Statistic, "a statistic such as Moments()")
        self.statistic = statistic
        other = getattr(statistic, "other", None)
        self._other = None if other is None else OtherSite(other, statistic.other_site)

    @property
    def name(self) -> str:
        """Name of the statistic."""
        return self.statistic.name

    @property
    def scope(self) -> str:
        """What one state belongs to: "site", "sites" (two of them) or "logits"."""
        return self.statistic.scope

    def find_other_units(self, subject: Subject, batch: BatchInfo) -> int:
        """Count the units of the second subject's site, for `SiteInfo`; 0 without one.

        Parameters
        ----------
        subject : Subject
            The one that is recorded.
        batch : BatchInfo
            Any batch of the run, with its inputs; shown to the second subject once.

        Returns
        -------
        n_other : int
            0 if this statistic has no second subject.

        Raises
        ------
        ValueError
            If the two subjects do not read token ids alike.
        """
        if self._other is None:
            return 0
        self._other.check_tokens(subject)
        return self._other.count_units(batch)

    def resolve(self, info: SiteInfo) -> Accumulator:
        """Fill in the options that only the run knows, before `make_state`.

        Parameters
        ----------
        info : SiteInfo
            With the labels of the trials.

        Returns
        -------
        accumulator : Accumulator
            Its `to_dict` says everything that `finish` needs.
        """
        return Accumulator(self.statistic.resolve(info.labels))

    def state_bytes(self, info: SiteInfo) -> int:
        """Return the size of the state.

        Parameters
        ----------
        info : SiteInfo
            Of the site.

        Returns
        -------
        n_bytes : int
            In bytes.
        """
        return self.statistic.state_bytes(info.n_units, info.n_other)

    def make_state(self, info: SiteInfo) -> TensorState:
        """Return the state before the first sample.

        Parameters
        ----------
        info : SiteInfo
            Of the site.

        Returns
        -------
        state : dict of str to Tensor
            Fixed shapes, int64 or float64, on the site's device.

        Raises
        ------
        ValueError
            If the device has no float64.
        """
        device = torch.device(info.device)
        if device.type == "mps":
            raise ValueError(
                "online: the device 'mps' has no float64, which online statistics need. Record on "
                "'cpu' or 'cuda', or without online=."
            )
        layout = self.statistic.layout(info.n_units, info.n_other)
        return {
            k: torch.full(a.shape, a.fill, dtype=getattr(torch, a.dtype), device=device)
            for k, a in layout.items()
        }

    def update(
        self,
        state: TensorState,
        rows: torch.Tensor | Mapping[str, torch.Tensor],
        batch: BatchInfo,
    ) -> None:
        """Add the rows of a batch.

        Parameters
        ----------
        state : dict of str to Tensor
            Changed in place.
        rows : Tensor, shape (n_samples, n_units), or dict of str to Tensor
            Values in the model's type; for the scope "sites" those of both sites by name.
        batch : BatchInfo
            Which samples these are.

        Raises
        ------
        ValueError
            If the batch lacks what this statistic needs, such as token ids.
        """
        if self.scope == "sites":
            rows = self._pair(rows, batch)
        index = self._find_kept(batch)
        state["seen"] += torch.tensor(
            [
                len(batch) if index is None else len(index),
                len(batch.find_trials()) - 1,
                0 if index is None else len(batch) - len(index),
            ],
            device=state["seen"].device,
        )
        if index is not None:
            at = torch.from_numpy(index)
            if isinstance(rows, torch.Tensor):
                rows = rows[at.to(rows.device)]
            else:
                rows = tuple(r[at.to(r.device)] for r in rows)
            batch = batch.take(index)
        if len(batch):
            UPDATES[self.name](self.statistic, state, rows, batch)

    def merge(self, state: TensorState, other: TensorState) -> None:
        """Add what another rank saw.

        Parameters
        ----------
        state : dict of str to Tensor
            Changed in place.
        other : dict of str to Tensor
            Of the same statistic and site; left as it is.
        """
        here = {k: v.to(state[k].device) if k in state else v for k, v in other.items()}
        self.statistic.merge(state, here)

    def finish(self, state: TensorState | Mapping[str, np.ndarray]) -> tuple[OnlineTable, ...]:
        """Return what was found.

        Parameters
        ----------
        state : dict of str to Tensor or ndarray
            Left as it is.

        Returns
        -------
        tables : tuple of OnlineTable
            numpy columns.
        """
        return self.statistic.finish(to_numpy(state))

    def to_dict(self) -> dict:
        """Return name and options, JSON-ready.

        Returns
        -------
        options : dict
            `netphys.core.online.make_statistic` takes it.
        """
        return self.statistic.to_dict()

    def _find_kept(self, batch: BatchInfo) -> np.ndarray | None:
        """Return the rows that are no special tokens, or None for all."""
        if self.statistic.include_special or batch.special is None or not batch.special.any():
            return None
        return np.flatnonzero(~batch.special)

    def _pair(
        self, rows: Mapping[str, torch.Tensor], batch: BatchInfo
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of both sites, the second from the second subject if there is one."""
        names = (self.statistic.site, self.statistic.other_site)
        missing = [n for n in names[: 1 if self._other else 2] if n not in rows]
        if missing:
            raise ValueError(
                f"online: {self.name!r} needs the site {missing[0]!r}, which is not recorded. Add "
                f"it to sites=. Sites here: {', '.join(rows)}."
            )
        second = rows[names[1]] if self._other is None else self._other.run(batch)
        return rows[names[0]], second

    def __repr__(self) -> str:
        return f"Accumulator({self.statistic!r})"


def make_accumulators(online: str | Statistic | Mapping | Iterable) -> list[Accumulator]:
    """Return the accumulators that `record(online=...)` names.

    Parameters
    ----------
    online : str, dict, Statistic, or several of them
        Names, or statistics with options.

    Returns
    -------
    accumulators : list of Accumulator
        In the order given.

    Raises
    ------
    ValueError
        If a name is unknown, or two are the same statistic with the same options.
    """
    single = isinstance(online, (str, Statistic, Mapping))
    what = "names, or statistics such as Moments(order=4)"
    check_type("online", online, (str, Statistic, Mapping, Iterable), what)
    made = [make_statistic(o) for o in ([online] if single else online)]
    for i, statistic in enumerate(made):
        if statistic in made[:i]:
            raise ValueError(
                f"online: {statistic.name!r} is given twice with the same options. Give it once."
            )
    return [Accumulator(s) for s in made]


def to_numpy(state: Mapping[str, torch.Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    """Return a state as numpy arrays, for a checkpoint.

    Parameters
    ----------
    state : dict of str to Tensor or ndarray
        On any device.

    Returns
    -------
    arrays : dict of str to ndarray
        Views where the state is on the CPU.
    """
    return {k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def from_numpy(arrays: Mapping[str, np.ndarray], device: torch.device) -> TensorState:
    """Return a state on a device, from a checkpoint.

    Parameters
    ----------
    arrays : dict of str to ndarray
        What `to_numpy` gave.
    device : torch.device
        Where to.

    Returns
    -------
    state : dict of str to Tensor
        Copies.
    """
    return {k: torch.tensor(v, device=device) for k, v in arrays.items()}
