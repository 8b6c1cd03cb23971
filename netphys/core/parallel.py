"""Independent pieces of work side by side, each with one thread of linear algebra."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

T, U = TypeVar("T"), TypeVar("U")


def map_threads(
    function: Callable[[T], U], items: Sequence[T], *, label: str = "", progress: bool = False
) -> list[U]:
    """Call a function on every item, on all cores that this process may use.

    Small matrices gain nothing from a threaded BLAS, and lose much when other processes run; so
    each call gets one thread.

    Parameters
    ----------
    function : callable
        Spends its time in numpy, which lets other threads run meanwhile.
    items : sequence
        One argument per call.
    label : str
        Text beside the progress bar.
    progress : bool
        Show one.

    Returns
    -------
    results : list
        In the order of the items. The first exception ends the work and is raised.
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(n, len(items) or 1)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [f.result() for f in tqdm(futures, desc=label, disable=not progress)]
        except BaseException:  # Ctrl-C too: what has not begun will not
            pool.shutdown(wait=False, cancel_futures=True)
            raise
