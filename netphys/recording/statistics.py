"""Online statistics during a recording: their states, what they are fed, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from netphys._check import suggest
from netphys.core.online import CrossCovariance, Int8Error, Moments, Statistic
from netphys.data.online_state import Checkpoint, Task
from netphys.recording import kernels
from netphys.recording.meter import UNITS
from netphys.recording.online import Accumulator, BatchInfo, SiteInfo
from netphys.recording.online.accumulator import from_numpy, to_numpy
from netphys.recording.plan import SitePlan
from netphys.recording.subject import Subject

_OF_ROWS = ("site", "sites")  # scopes of statistics that are fed a site's rows


class Tally:
    """The states of all online statistics of a run.

    Parameters
    ----------
    tasks : sequence of Task
        Statistics and their sites.
    devices : dict of str to device
        Where the values of each site arise; a statistic of two sites is kept where the first is.
    checkpoint : Checkpoint, optional
        Where an interrupted run goes on.
    fusable : bool
        Whether every sample counts and all values are finite, so that the pass over a site may
        keep moments.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        devices: Mapping[str, torch.device],
        checkpoint: Checkpoint | None = None,
        *,
        fusable: bool = False,
    ):
        self._fusable = fusable
        self.tasks = list(tasks)
        self._workers = [Accumulator(t.statistic) for t in tasks]
        self._places = places = [devices[t.sites[0]] for t in tasks]
        if checkpoint is None:
            infos = [
                SiteInfo(t.n_units[0], d, *t.n_units[1:])
                for t, d in zip(tasks, places, strict=True)
            ]
            self.states = [w.make_state(i) for w, i in zip(self._workers, infos, strict=True)]
        else:
            states = zip(checkpoint.states, places, strict=True)
            self.states = [from_numpy(s, device) for s, device in states]
        self._sequence = checkpoint.sequence if checkpoint else 0
        self.n_done = checkpoint.n_done if checkpoint else 0
        self._rows: dict[str, torch.Tensor] = {}
        self._fused: dict[str, tuple[dict, kernels.State]] = {}
        self._n_trials: dict[str, int] = {}  # that the fused ones have seen

    def fuse(self, site: str, reduction: kernels.Reduction) -> kernels.State | None:
        """Let the pass over a site keep its moments itself, where it can.

        Parameters
        ----------
        site : str
            Name of the site.
        reduction : Reduction
            What the pass does, with moments and extrema.

        Returns
        -------
        state : State or None
            Shares memory with the statistic's state; None if nothing here can be kept that way.
        """
        own = [s for t, s in zip(self.tasks, self.states, strict=True) if self._fits(t, site)]
        if not own:
            return None
        state, device = own[0], own[0]["mean"].device
        made = kernels.make_state(reduction, device=device)
        made.mean, made.m2 = state["mean"], state["m2"]
        made.count.fill_(state["n"][0])
        made.low.copy_(state["min"])
        made.high.copy_(state["max"])
        self._fused[site] = state, made
        self._n_trials[site] = int(state["seen"][1])
        return made

    def _fits(self, task: Task, site: str) -> bool:
        """Whether the pass gives what a statistic asks for: no sample to leave out, no NaN."""
        plain = task.statistic == Moments(include_special=task.statistic.include_special)
        whole = not site.endswith("@pattern")  # which lack keys that a trial does not have
        return plain and task.sites == (site,) and self._fusable and whole

    @property
    def sites(self) -> set[str]:
        """Sites of the statistics."""
        return {name for task in self.tasks for name in task.sites}

    def needs_rows(self, site: str) -> bool:
        """Whether any statistic of a site is not kept by the pass over it.

        Parameters
        ----------
        site : str
            Name of the site.

        Returns
        -------
        answer : bool
            False: `feed` may be given any rows.
        """
        wanted = [t for t in self.tasks if site in t.sites and t.statistic.scope in _OF_ROWS]
        return len(wanted) > (site in self._fused)

    def feed(self, site: str, rows: torch.Tensor, batch: BatchInfo) -> None:
        """Add a batch of one site to all its statistics.

        Parameters
        ----------
        site : str
            Name of the site.
        rows : Tensor, shape (n_samples, n_units)
            Its recorded samples, chosen units only.
        batch : BatchInfo
            Which samples these are.
        """
        for task, worker, state in zip(self.tasks, self._workers, self.states, strict=True):
            if site in self._fused and state is self._fused[site][0]:
                self._n_trials[site] += len(batch.find_trials()) - 1
            elif task.statistic.scope == "site" and task.sites == (site,):
                worker.update(state, rows, batch)
            elif task.statistic.scope == "sites" and site in task.sites:
                self._rows[site] = rows.clone()  # until the other site has passed

    def feed_scores(self, values: np.ndarray, batch: BatchInfo) -> None:
        """Add the scores of a batch's words to the statistics of them.

        Parameters
        ----------
        values : ndarray, shape (n_words, 3)
            Surprisal, entropy and rank.
        batch : BatchInfo
            Which words these are.
        """
        every = zip(self.tasks, self._workers, self.states, self._places, strict=True)
        for task, worker, state, place in every:
            if task.statistic.scope == "logits":
                worker.update(state, torch.tensor(values, device=place), batch)

    def find_state(self, name: str, site: str) -> dict[str, torch.Tensor]:
        """Return the state of a statistic that the pass over a site keeps itself.

        Parameters
        ----------
        name : str
            Name of the statistic.
        site : str
            Name of the site.

        Returns
        -------
        state : dict of str to Tensor
            To change in place.
        """
        pairs = zip(self.tasks, self.states, strict=True)
        return next(s for t, s in pairs if t.statistic.name == name and t.sites == (site,))

    def end_batch(self, batch: BatchInfo) -> None:
        """Feed the statistics of two sites, and count the batch.

        Parameters
        ----------
        batch : BatchInfo
            The batch that has ended.
        """
        every = zip(self.tasks, self._workers, self.states, self._places, strict=True)
        for task, worker, state, place in every:
            if task.statistic.scope == "sites":
                rows = {s: self._rows[s].to(place) for s in find_own_sites(task)}
                worker.update(state, rows, batch)
        self._rows.clear()
        self.n_done += 1

    def take_checkpoint(self, position: bytes) -> Checkpoint:
        """Return the states as they are now; they go on changing, the checkpoint does not.

        Parameters
        ----------
        position : bytes
            Place in a stream.

        Returns
        -------
        checkpoint : Checkpoint
            With the next number.
        """
        self._sequence += 1
        for site, (state, kept) in self._fused.items():
            state["n"].fill_(kept.count)
            state["seen"][0], state["seen"][1] = kept.count, self._n_trials[site]
            state["min"].copy_(kept.low)
            state["max"].copy_(kept.high)
        states = [{k: v.copy() for k, v in to_numpy(s).items()} for s in self.states]
        return Checkpoint(self._sequence, self.n_done, position, states)


def find_own_sites(task: Task) -> tuple[str, ...]:
    """Return the sites of a task that the recorded subject has.

    Parameters
    ----------
    task : Task
        A statistic of two sites.

    Returns
    -------
    sites : tuple of str
        Both, or the first where the second is another subject's.
    """
    return task.sites if getattr(task.statistic, "other", None) is None else task.sites[:1]


def plan_tasks(
    online: Sequence[Statistic],
    sites: Sequence[SitePlan],
    *,
    subject: Subject,
    sample: BatchInfo,
    logits: str | None,
) -> list[Task]:
    """Decide which statistic is kept of which site.

    Parameters
    ----------
    online : sequence of Statistic
        What is asked for.
    sites : sequence of SitePlan
        The recorded sites.
    subject : Subject
        Who is recorded.
    sample : BatchInfo
        Any batch with its inputs, to find the units of a second subject.
    logits : str or None
        Site whose logits are scored.

    Returns
    -------
    tasks : list of Task
        Statistics of one site are kept of every site.

    Raises
    ------
    ValueError
        If a statistic names a site that is not recorded, or two would share a table.
    """
    n_units = {p.shape.site.name: p.n_units for p in sites}
    tasks: list[Task] = []
    for statistic in online:
        if statistic.scope == "site":
            tasks += [Task(statistic, (name,), (n,)) for name, n in n_units.items()]
        elif statistic.scope == "logits":
            tasks.append(Task(statistic, (logits,), (len(UNITS),)))
        elif statistic.scope == "sites":
            tasks.append(_plan_pair(statistic, n_units, subject, sample))
        else:
            raise ValueError(
                f"online: {statistic.name!r} is kept by dtype='int8' itself. Leave it out."
            )
    tasks += [
        Task(Int8Error(), (p.shape.site.name,), (p.n_units,))
        for p in sites
        if "samples" in p.series and p.series["samples"].dtype == "int8"
    ]
    _check_names(tasks)
    return tasks


def _plan_pair(
    statistic: CrossCovariance, n_units: Mapping[str, int], subject: Subject, sample: BatchInfo
) -> Task:
    task = Task(statistic, (statistic.site, statistic.other_site), (0, 0))
    for name in find_own_sites(task):
        if name not in n_units:
            raise ValueError(
                f"online: {statistic.name!r} names the site {name!r}, which is not recorded."
                f"{suggest(name, n_units)} Recorded: {', '.join(n_units)}."
            )
    other = Accumulator(statistic).find_other_units(subject, sample)
    return Task(
        statistic, task.sites, (n_units[statistic.site], other or n_units[statistic.other_site])
    )


def _check_names(tasks: Sequence[Task]) -> None:
    names = [(t.sites, t.statistic.name) for t in tasks]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ValueError(
            f"online: {twice[1]!r} is asked for twice at {' and '.join(twice[0])}, with different "
            "options. Keep one, or record twice."
        )
