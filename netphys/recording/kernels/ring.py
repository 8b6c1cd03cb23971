"""Slots on the device between the model, which fills them, and the host, which takes them."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

import torch

from netphys._check import check_positive
from netphys.recording.kernels.contract import Outputs, Reduction, State, make_outputs
from netphys.recording.kernels.cpu import Workspace
from netphys.recording.kernels.dispatch import run
from netphys.recording.kernels.plan import Plan

log = logging.getLogger(__name__)


@dataclass
class Received:
    """What one call left, on the host; valid until it is released.

    Parameters
    ----------
    number : int
        Which call it was, from 0.
    outputs : Outputs
        Views of the host's slot: rows and segments of the call come first.
    plan : Plan
        Of the call.
    """

    number: int
    outputs: Outputs
    plan: Plan


@dataclass
class _Sent:
    number: int
    plan: Plan
    done: torch.cuda.Event | None


class DeviceRing:
    """Slots for the results of calls on one site; the slot of a call is chosen on the device.

    A call fills the slot at the cursor and moves the cursor, all on the device; `push` then starts
    the copy to a pinned slot of the host on a stream of its own. Where all slots are taken, `push`
    waits until one is released, and counts the time: nothing is overwritten, nothing is dropped.
    What was received is released in order; another thread may do both. Where the device replays a
    recorded graph, `fire` is in the graph and `send` follows each replay. In a compiled model, call
    `push` inside a ``torch.library.custom_op`` that mutates a token of its own: a mutated argument
    is put back from a copy afterwards, which would undo what the ring does to its cursor.

    Parameters
    ----------
    reduction : Reduction
        What a call does; its tensors are on the device.
    n_rows : int
        Largest number of samples in a call.
    n_segments : dict of str to int, or None
        Largest number of segments in a call, for each segment set.
    n_slots : int
        Calls that may be under way.
    device : device or str
        Where the samples are. On the CPU the host takes the slots themselves, without a copy.

    Raises
    ------
    TypeError, ValueError
        If `n_slots` is no whole number of at least 1.
    """

    def __init__(
        self,
        reduction: Reduction,
        n_rows: int,
        n_segments: dict[str, int] | None = None,
        *,
        n_slots: int = 4,
        device: torch.device | str = "cpu",
    ):
        check_positive("n_slots", n_slots)
        self.reduction, self.n_slots = reduction, n_slots
        self.device = torch.device(device)
        self.outputs = make_outputs(reduction, n_rows, n_segments, device=device, n_slots=n_slots)
        self.host, self._stream = self.outputs, None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)
            self.host = make_outputs(reduction, n_rows, n_segments, n_slots=n_slots, pin=True)
        self.stalled, self.n_stalls = 0.0, 0
        self._workspace = Workspace()
        self._sent: deque[_Sent] = deque()
        self._n_sent = self._n_received = self._n_released = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the slots, on the device and pinned on the host."""
        rings = {id(ring): ring for ring in (self.outputs, self.host)}.values()
        return sum(value.nbytes for ring in rings for value in ring.items().values())

    @property
    def full(self) -> bool:
        """Whether the host must release a slot before the next call."""
        return self._n_sent - self._n_released >= self.n_slots

    def fire(
        self, x: torch.Tensor, plan: Plan, state: State, *, basis: torch.Tensor | None = None
    ) -> None:
        """Reduce what passes the site into the slot at the cursor; never waits for the device.

        Parameters
        ----------
        x : Tensor, shape (n_rows, n_units_in)
            Values that pass the site.
        plan : Plan
            Rows and segments.
        state : State
            Brought forward.
        basis : Tensor, shape (n_rows, n_tags, 2), or None
            Fourier basis.
        """
        run(
            self.reduction,
            x,
            plan,
            self.outputs,
            state,
            basis=basis,
            workspace=self._workspace,
        )

    def send(self, plan: Plan) -> None:
        """Start the copy of the last call to the host.

        Parameters
        ----------
        plan : Plan
            Of that call.

        Raises
        ------
        RuntimeError
            If every slot is taken.
        """
        if self.full:
            raise RuntimeError(
                f"All {self.n_slots} slots are taken. Release what was received, or make the ring "
                "with more slots."
            )
        number, done = self._n_sent, None
        if self._stream is not None:
            slot = number % self.n_slots
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                _copy_slot(self.host.at(slot), self.outputs.at(slot), plan)
                done = torch.cuda.Event()
                done.record(self._stream)
        self._sent.append(_Sent(number, plan, done))
        self._n_sent += 1

    def push(
        self,
        x: torch.Tensor,
        plan: Plan,
        state: State,
        *,
        basis: torch.Tensor | None = None,
        timeout: float = 600.0,
    ) -> None:
        """Wait for a free slot, reduce what passes the site into it, start the copy to the host.

        Parameters
        ----------
        x : Tensor, shape (n_rows, n_units_in)
            Values that pass the site.
        plan : Plan
            Rows and segments.
        state : State
            Brought forward.
        basis : Tensor, shape (n_rows, n_tags, 2), or None
            Fourier basis.
        timeout : float
            Longest wait for another thread to release a slot, in seconds.

        Raises
        ------
        TimeoutError
            If no slot is free by then; nothing was overwritten.
        """
        self.wait_free(timeout=timeout)
        self.fire(x, plan, state, basis=basis)
        self.send(plan)

    def receive(self) -> Received | None:
        """Wait for the oldest call that was sent and not received yet.

        Returns
        -------
        received : Received or None
            Its results on the host; None where nothing is under way.
        """
        if not self._sent:
            return None
        sent = self._sent.popleft()
        if sent.done is not None:
            sent.done.synchronize()
        self._n_received += 1
        return Received(sent.number, self.host.at(sent.number % self.n_slots), sent.plan)

    def release(self) -> None:
        """Give the slot of the oldest received call back.

        Raises
        ------
        RuntimeError
            If nothing received is left to release.
        """
        if self._n_released >= self._n_received:
            raise RuntimeError("Nothing received is left to release. Call receive first.")
        self._n_released += 1

    def wait_free(self, *, timeout: float = 600.0) -> float:
        """Wait until another thread has released a slot.

        Parameters
        ----------
        timeout : float
            Longest wait in seconds.

        Returns
        -------
        waited : float
            Seconds; also added to `stalled`.

        Raises
        ------
        TimeoutError
            If no slot is free by then.
        """
        if not self.full:
            return 0.0
        began = time.perf_counter()
        while self.full:
            if time.perf_counter() - began > timeout:
                raise TimeoutError(
                    f"None of the {self.n_slots} slots was released in timeout={timeout} s. Does "
                    "the writer still run?"
                )
            time.sleep(2e-4)  # of a thread that has nothing else to do
        waited = time.perf_counter() - began
        self.stalled += waited
        self.n_stalls += 1
        log.info("All %d slots were taken: waited %.3f s", self.n_slots, waited)
        return waited

    def check(self, state: State) -> None:
        """Raise unless every call on the device was also sent to the host.

        Parameters
        ----------
        state : State
            Its count of calls is read, which waits for the device.

        Raises
        ------
        RuntimeError
            If the numbers differ.
        """
        fired, cursor = int(state.fired), int(self.outputs.cursor)
        if not fired == cursor == self._n_sent:
            raise RuntimeError(
                f"The site was reduced {fired} times, its ring was filled {cursor} times and sent "
                f"{self._n_sent} times. Send each call, and use one state with one ring."
            )


def _copy_slot(host: Outputs, device: Outputs, plan: Plan) -> None:
    """Copy what a call wrote: its rows and segments, not the whole slot."""
    n = plan.n_out
    for name in ("samples", "raster", "top_index", "top_value"):
        value = getattr(device, name)
        if value is not None:
            getattr(host, name)[:n].copy_(value[:n], non_blocking=True)
    for pair, value in device.pooled.items():
        n = len(plan.segments[pair[0]])
        host.pooled[pair][:n].copy_(value[:n], non_blocking=True)
    host.nonfinite.copy_(device.nonfinite, non_blocking=True)
    host.overflow.copy_(device.overflow, non_blocking=True)
