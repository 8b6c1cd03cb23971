"""What a statistic may know of the rows of a batch besides their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class BatchInfo:
    """Which samples the rows of a batch are; rows of a trial are neighbours, in order.

    Parameters
    ----------
    trial : ndarray of int64, shape (n_samples,)
        Trial of each row; a number that no other trial of the run has.
    position : ndarray of int64, shape (n_samples,)
        Place in the sequence that was shown, from 0.
    token_id : ndarray of int64, shape (n_samples,), or None
        Tokens, where there are any.
    word : ndarray of int64, shape (n_samples,), or None
        Word of each row within its trial; -1: none.
    special : ndarray of bool, shape (n_samples,), or None
        Whether the tokenizer added it; None: no row.
    codes : dict of str to ndarray of int64, shape (n_samples,)
        Of each column of labels (such as "condition") the number of each row's label in
        `SiteInfo.labels`; -1: none.
    inputs : (tuple, dict) or None
        Arguments of the model for this batch, for statistics that show it to a second subject.
    n_trials, n_positions : int
        Size of the batch as it was shown; 0 if `inputs` is None.
    mask : ndarray of bool, shape (n_trials, n_positions), or None
        Which positions are recorded; None: all.
    """

    trial: np.ndarray
    position: np.ndarray
    token_id: np.ndarray | None = None
    word: np.ndarray | None = None
    special: np.ndarray | None = None
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: tuple[tuple, dict] | None = None
    n_trials: int = 0
    n_positions: int = 0
    mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.trial)

    def take(self, index: np.ndarray) -> BatchInfo:
        """Return the information on some of the rows.

        Parameters
        ----------
        index : ndarray of int
            Rows to keep, ascending.

        Returns
        -------
        batch : BatchInfo
            Without `inputs`, which belong to all rows.
        """

        def pick(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[index]

        return BatchInfo(
            self.trial[index],
            self.position[index],
            pick(self.token_id),
            pick(self.word),
            pick(self.special),
            {k: v[index] for k, v in self.codes.items()},
        )

    def find_trials(self) -> np.ndarray:
        """Return where trials begin and the last one ends.

        Returns
        -------
        bounds : ndarray of int64, shape (n_trials + 1,)
            Trial i is rows ``bounds[i]`` to ``bounds[i + 1]``.
        """
        if not len(self.trial):
            return np.zeros(1, np.int64)
        starts = np.flatnonzero(np.diff(self.trial)) + 1
        return np.concatenate([[0], starts, [len(self.trial)]])
