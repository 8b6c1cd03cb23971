"""One pass per site that reduces what passes it: pools, moments, rasters, events, casts."""

from __future__ import annotations

from netphys.recording.kernels.contract import (
    Outputs,
    Reduction,
    State,
    make_outputs,
    make_state,
    merge_state,
)
from netphys.recording.kernels.cpu import Workspace
from netphys.recording.kernels.dispatch import run
from netphys.recording.kernels.plan import Plan, make_plan
from netphys.recording.kernels.ring import DeviceRing, Received

__all__ = [
    "DeviceRing",
    "Outputs",
    "Plan",
    "Received",
    "Reduction",
    "State",
    "Workspace",
    "make_outputs",
    "make_plan",
    "make_state",
    "merge_state",
    "run",
]
