"""Several sessions over the same stimuli: seeds, checkpoints or models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

from netphys._check import check_type, suggest
from netphys.data.session import Session


class Cohort:
    """Sessions over the same stimuli; ``cohort[label]`` is one of them.

    Parameters
    ----------
    sessions : mapping of str to Session
        Label of each member (a seed, a checkpoint, a model) and its session, in the order to keep.

    Raises
    ------
    ValueError
        If there are no sessions, or one of them shows other stimuli than the rest.

    Notes
    -----
    Stimuli are the same where their identifiers, their order, and the hash of everything that was
    shown agree.
    """

    def __init__(self, sessions: Mapping[str, Session]):
        check_type("sessions", sessions, Mapping, "a mapping of labels to sessions")
        if not sessions:
            raise ValueError("sessions is empty. Give at least one session: {'seed 0': session}.")
        for label, session in sessions.items():
            check_type("label", label, str, "a text for each session")
            check_type(f"sessions[{label!r}]", session, Session, "what open_session returns")
        self._sessions = dict(sessions)
        _check_same_stimuli(self._sessions)

    @property
    def labels(self) -> list[str]:
        """Labels of the members, in order."""
        return list(self._sessions)

    @property
    def sites(self) -> list[str]:
        """Sites that every member has, in the order of the first."""
        return [s for s in next(iter(self)).sites if all(s in m for m in self)]

    def __getitem__(self, label: str) -> Session:
        if label not in self._sessions:
            raise KeyError(
                f"label={label!r} is not in the cohort.{suggest(label, self.labels)} "
                f"It has: {', '.join(map(repr, self.labels))}."
            )
        return self._sessions[label]

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def pool(self, site: str, *, how: str = "mean") -> xr.DataArray:
        """Return one value per member, trial and unit; see `Session.pool`.

        Parameters
        ----------
        site : str
            A site that every member has, or a pattern that matches exactly one.
        how : str
            "mean", "max" or "last" of the trial's samples.

        Returns
        -------
        data : DataArray, dims (seed, trial, unit)
            Float64, arbitrary units; `seed` holds the labels of the members.

        Raises
        ------
        KeyError
            If a member does not have the site.
        ValueError
            If members have different trials or numbers of units.
        """
        pooled = {label: s.pool(site, how=how) for label, s in self._sessions.items()}
        (first, expected), *others = pooled.items()
        for label, data in others:
            if data.shape != expected.shape or (data["trial"] != expected["trial"]).any():
                raise ValueError(
                    f"{data.name} has {_count(data)} in {label!r} and {_count(expected)} in "
                    f"{first!r}. Finish all recordings, and compare members of one architecture."
                )
        kept = [c for c in expected.coords if _is_common(c, pooled.values())]
        values = np.stack([d.to_numpy() for d in pooled.values()])
        coords = {c: expected[c] for c in kept} | {"seed": self.labels}
        dims = ("seed", "trial", "unit")
        return xr.DataArray(values, coords, dims, name=expected.name, attrs=expected.attrs)

    def __repr__(self) -> str:
        n = len(next(iter(self)).trial_table)
        listed = ", ".join(self.labels[:6]) + (", ..." if len(self) > 6 else "")
        return f"<Cohort of {len(self)} sessions over {n} stimuli: {listed}>"


def _count(data: xr.DataArray) -> str:
    return f"{data.sizes['trial']} trials x {data.sizes['unit']} units"


def _is_common(coord: str, arrays) -> bool:
    """Whether a coordinate has the same values in all arrays (times and batches may not)."""
    first, *others = [a[coord].to_numpy() for a in arrays if coord in a.coords]
    return len(others) == len(arrays) - 1 and all(np.array_equal(first, o) for o in others)


def _check_same_stimuli(sessions: Mapping[str, Session]) -> None:
    """Raise with the member whose stimuli differ from those of most others."""
    ids = {
        label: tuple(s.trial_table.sort_values("stimulus_index")["stimulus_id"])
        for label, s in sessions.items()
    }
    hashes = {label: s.provenance["stimuli"]["sha256"] for label, s in sessions.items()}
    for what, found in (("stimulus identifiers", ids), ("what was shown", hashes)):
        usual = Counter(found.values()).most_common(1)[0][0]
        odd = [label for label, value in found.items() if value != usual]
        if not odd:
            continue
        names = ", ".join(map(repr, odd))
        detail = f"{what} differ" if what.endswith("s") else f"{what} differs (SHA-256)"
        if what == "stimulus identifiers":
            i, a, b = _find_difference(found[odd[0]], usual)
            detail += f"; stimulus {i + 1} is {a} there and {b} in the others"
        raise ValueError(
            f"{names} shows other stimuli than the rest of the cohort: {detail}. Record all "
            "members on the same stimulus table."
        )


def _find_difference(a: tuple, b: tuple) -> tuple[int, str, str]:
    """Return the first place where two sequences differ, and what stands there."""
    n = max(len(a), len(b))
    wide = [[repr(v) for v in x] + ["missing"] * (n - len(x)) for x in (a, b)]
    i = next(i for i in range(n) if wide[0][i] != wide[1][i])
    return i, wide[0][i], wide[1][i]
