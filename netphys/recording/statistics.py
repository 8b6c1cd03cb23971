"""Online statistics during a recording: their states, what they are fed, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from netphys.core.online import Moments, Statistic
from netphys.data.online_state import Checkpoint, Task
from netphys.recording import kernels
from netphys.recording.online import Accumulator, BatchInfo, SiteInfo
from netphys.recording.online.accumulator import from_numpy, to_numpy
from netphys.recording.plan import SitePlan


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
        return made

    def _fits(self, task: Task, site: str) -> bool:
        """Whether the pass gives what a statistic asks for: no sample to leave out, no NaN."""
        plain = task.statistic == Moments(include_special=task.statistic.include_special)
        return plain and task.sites == (site,) and self._fusable

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
        return sum(site in t.sites for t in self.tasks) > (site in self._fused)

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
                counts = len(batch), len(batch.find_trials()) - 1, 0
                state["seen"] += torch.tensor(counts, device=state["seen"].device)
            elif task.sites == (site,):
                worker.update(state, rows, batch)
            elif site in task.sites:
                self._rows[site] = rows.clone()  # until the other site has passed

    def end_batch(self, batch: BatchInfo) -> None:
        """Feed the statistics of two sites, and count the batch.

        Parameters
        ----------
        batch : BatchInfo
            The batch that has ended.
        """
        every = zip(self.tasks, self._workers, self.states, self._places, strict=True)
        for task, worker, state, place in every:
            if len(task.sites) > 1:
                worker.update(state, {s: self._rows[s].to(place) for s in task.sites}, batch)
        self._rows.clear()
        self.n_done += 1

    def take_checkpoint(self, *, n_items: int = 0, digest: bytes = bytes(32)) -> Checkpoint:
        """Return the states as they are now; they go on changing, the checkpoint does not.

        Parameters
        ----------
        n_items : int
            Items of a stream that were consumed.
        digest : bytes
            SHA-256 of these.

        Returns
        -------
        checkpoint : Checkpoint
            With the next number.
        """
        self._sequence += 1
        for state, kept in self._fused.values():
            state["n"].fill_(kept.count)
            state["min"].copy_(kept.low)
            state["max"].copy_(kept.high)
        states = [{k: v.copy() for k, v in to_numpy(s).items()} for s in self.states]
        return Checkpoint(self._sequence, self.n_done, n_items, digest, states)


def plan_tasks(online: Sequence[Statistic], sites: Sequence[SitePlan]) -> list[Task]:
    """Decide which statistic is kept of which site.

    Parameters
    ----------
    online : sequence of Statistic
        What is asked for.
    sites : sequence of SitePlan
        The recorded sites.

    Returns
    -------
    tasks : list of Task
        Statistics of one site are kept of every site.
    """
    return [
        Task(statistic, (site.shape.site.name,), (site.n_units,))
        for statistic in online
        if statistic.scope == "site"
        for site in sites
    ]
