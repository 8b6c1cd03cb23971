"""Runs of positions that are pooled to one value: the words of a trial, and the trial itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from netphys.recording.presentation import Presentation


@dataclass(frozen=True)
class Segments:
    """Runs of positions in every trial of a presentation.

    Parameters
    ----------
    begin, end : list of ndarray of int64
        Per trial the first position of each run, and the one after its last.
    tables : list of dict of str to ndarray
        Per trial what the samples table of these runs says, a row each.
    """

    begin: list[np.ndarray]
    end: list[np.ndarray]
    tables: list[dict[str, np.ndarray]]

    @property
    def counts(self) -> np.ndarray:
        """Runs per trial."""
        return np.array([len(b) for b in self.begin], np.int64)

    def place(self, rows: list[int], n_positions: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where the runs of a batch lie among its positions, trials one after the other.

        Parameters
        ----------
        rows : list of int
            Trials of the batch.
        n_positions : int
            Positions of each.

        Returns
        -------
        begin, end : ndarray of int64
            One entry per run.
        """
        begin = [self.begin[r] + i * n_positions for i, r in enumerate(rows)]
        end = [self.end[r] + i * n_positions for i, r in enumerate(rows)]
        return np.concatenate(begin), np.concatenate(end)

    def make_table(self, order: list[int]) -> pd.DataFrame:
        """Return the samples table of these runs.

        Parameters
        ----------
        order : list of int
            Trials in order of recording.

        Returns
        -------
        table : DataFrame
            One row per run: trial (row of the stimulus table), position, and what is known of it.
        """
        columns = {"trial": np.repeat(np.array(order, np.int64), self.counts[order])}
        for name in self.tables[0]:
            columns[name] = np.concatenate([self.tables[r][name] for r in order])
        return pd.DataFrame(columns).dropna(axis=1, how="all")


def find_words(presentation: Presentation) -> Segments:
    """Find the tokens of every word.

    Parameters
    ----------
    presentation : Presentation
        Of texts; tokens that belong to no word (added ones, white space) are in no run.

    Returns
    -------
    segments : Segments
        One run per word, in reading order.

    Raises
    ------
    ValueError
        If the stimuli have no words.
    """
    if "word" not in presentation.tables[0]:
        raise ValueError(
            "store='word.*' and 'surprisal' need words, and these stimuli have none. Give texts, "
            "or store 'samples' or 'trial.mean'."
        )
    found = [_find_words(presentation, row) for row in range(len(presentation.tables))]
    return Segments(*map(list, zip(*found, strict=True)))


def _find_words(presentation: Presentation, row: int) -> tuple[np.ndarray, np.ndarray, dict]:
    table, shown = presentation.tables[row], list_positions(presentation, row)
    word = table["word"]
    first = np.flatnonzero((word >= 0) & (np.diff(word, prepend=-1) != 0))
    last = np.flatnonzero((word >= 0) & (np.diff(word, append=-1) != 0))
    begin, end = shown[first], shown[last] + 1
    pieces = ["".join(table["text"][a : b + 1]) for a, b in zip(first, last, strict=True)]
    described = {
        "word": word[first],
        "position": begin,
        "n_tokens": end - begin,
        "text": np.array(pieces, object),
        "onset": table["onset"][first],
        "char_begin": table["char_begin"][first],
        "char_end": table["char_end"][last],
    }
    return begin, end, described


def find_trials(presentation: Presentation) -> Segments:
    """Find the recorded positions of every trial, without tokens that the tokenizer added.

    Parameters
    ----------
    presentation : Presentation
        Of sequences.

    Returns
    -------
    segments : Segments
        One run per trial.

    Raises
    ------
    ValueError
        If a trial consists of added tokens only, or has one in its middle.
    """
    begin, end = [], []
    for row, table in enumerate(presentation.tables):
        shown = list_positions(presentation, row)
        special = table.get("special", np.zeros(len(shown), bool)).astype(bool)
        own = shown[~special]
        if not len(own) or own[-1] + 1 - own[0] != len(own):
            raise ValueError(
                f"trial {row + 1} has "
                + ("an added token in its middle" if len(own) else "no token but added ones")
                + ", so store='trial.*' cannot pool it. Leave it out, or store 'samples'."
            )
        begin.append(own[:1])
        end.append(own[-1:] + 1)
    return Segments(begin, end, [{"position": b} for b in begin])


def list_positions(presentation: Presentation, row: int) -> np.ndarray:
    """Return the recorded positions of a trial in what was shown.

    Parameters
    ----------
    presentation : Presentation
        What is shown.
    row : int
        Trial.

    Returns
    -------
    positions : ndarray of int64
        Ascending, from 0.
    """
    if presentation.recorded is None:
        return np.arange(presentation.n_shown[row])
    return np.flatnonzero(presentation.recorded[row])
