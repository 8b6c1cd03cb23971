"""Online statistics on a device: states as tensors, updated batch by batch while a subject runs."""

from netphys.recording.online.accumulator import Accumulator, SiteInfo, make_accumulators
from netphys.recording.online.batch import BatchInfo

__all__ = ["Accumulator", "BatchInfo", "SiteInfo", "make_accumulators"]
