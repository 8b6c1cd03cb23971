"""Several sessions over the same stimuli: seeds, checkpoints or models."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from netphys._check import check_option, check_type, suggest
from netphys.core.resample import MIN_SEEDS
from netphys.data._cohort_file import MANIFEST, is_finished, load_manifest
from netphys.data.nwb_header import SessionFileError
from netphys.data.session import Session, open_session

FACTORS = {"seed": "seed", "checkpoint": "model", "model": "model"}  # what varies, and its dim
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)[-_]?(\d+)", re.IGNORECASE)


class Cohort:
    """Sessions over the same stimuli; ``cohort[label]`` is one of them.

    Parameters
    ----------
    sessions : mapping of str to Session
        Label of each member (a seed, a checkpoint, a model) and its session, in the order to keep.
    factor : str
        What varies: "seed" (weights drawn anew: members are exchangeable), "checkpoint" (one
        network during its training) or "model".

    Raises
    ------
    ValueError
        If there are no sessions, or one of them shows other stimuli than the rest.

    Notes
    -----
    Stimuli are the same where their identifiers, their order, and the hash of everything that was
    shown agree. A checkpoint is a model with fixed weights of its own, so checkpoints lie along
    the dim `model`; where all labels say a training step ("step1000", "checkpoint-500"), the
    coordinate `step` holds the numbers. They are no random factor, as seeds are.
    """

    def __init__(self, sessions: Mapping[str, Session], *, factor: str = "seed"):
        check_type("sessions", sessions, Mapping, "a mapping of labels to sessions")
        if not sessions:
            raise ValueError("sessions is empty. Give at least one session: {'seed 0': session}.")
        for label, session in sessions.items():
            check_type("label", label, str, "a text for each session")
            check_type(f"sessions[{label!r}]", session, Session, "what open_session returns")
        check_option("factor", factor, FACTORS)
        self._sessions, self.factor = dict(sessions), factor
        _check_same_stimuli(self._sessions)

    @property
    def labels(self) -> list[str]:
        """Labels of the members, in order."""
        return list(self._sessions)

    @property
    def dim(self) -> str:
        """Dim along which the members lie: "seed", or "model" for models and checkpoints."""
        return FACTORS[self.factor]

    @property
    def coords(self) -> dict[str, tuple[str, list]]:
        """Coordinates of that dim: the labels, and `step` where checkpoints say it."""
        coords: dict[str, tuple[str, list]] = {self.dim: (self.dim, self.labels)}
        steps = [_STEP.fullmatch(label) for label in self.labels]
        if self.factor == "checkpoint" and all(steps):
            coords["step"] = (self.dim, [int(found[1]) for found in steps])
        return coords

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
        data : DataArray, dims (seed, trial, unit) or (model, trial, unit)
            Float64, arbitrary units; the first dim is `dim`, and holds the labels of the members.

        Raises
        ------
        KeyError
            If a member does not have the site.
        ValueError
            If members have different trials or numbers of units, or a trial column has the name of
            the first dim.
        """
        pooled = {label: s.pool(site, how=how) for label, s in self._sessions.items()}
        (first, expected), *others = pooled.items()
        for label, data in others:
            if data.shape != expected.shape or (data["trial"] != expected["trial"]).any():
                raise ValueError(
                    f"{data.name} has {_count(data)} in {label!r} and {_count(expected)} in "
                    f"{first!r}. Finish all recordings, and compare members of one architecture."
                )
        taken = [c for c in self.coords if c in expected.coords]
        if taken:
            raise ValueError(
                f"column {taken[0]!r} of the stimuli has the name of what varies in this cohort. "
                "Rename it in the stimulus table and record again."
            )
        kept = [c for c in expected.coords if _is_common(c, pooled.values())]
        values = np.stack([d.to_numpy() for d in pooled.values()])
        coords = {c: expected[c] for c in kept} | self.coords
        dims = (self.dim, "trial", "unit")
        return xr.DataArray(values, coords, dims, name=expected.name, attrs=expected.attrs)

    def check_population(self) -> None:
        """Raise unless the members can stand for all networks of their kind.

        Raises
        ------
        ValueError
            If they are not seeds, are fewer than 5, or two of them have the same weights.
        """
        if self.factor != "seed":
            raise ValueError(
                f"the members of this cohort differ by {self.factor}, which is not drawn at "
                "random: a result holds for these members only. For a claim about networks of a "
                f"kind record at least {MIN_SEEDS} seeds of one."
            )
        if len(self) < MIN_SEEDS:
            raise ValueError(
                f"a cohort of {len(self)} seeds allows no claim about networks of this kind. "
                f"Record at least {MIN_SEEDS}, or state the result for these networks only."
            )
        weights: dict[str, str] = {}
        for label, session in self._sessions.items():
            other = weights.setdefault(session.provenance["subject"]["weights_sha256"], label)
            if other != label:
                raise ValueError(
                    f"{other!r} and {label!r} have the same weights: they are one network. Record "
                    "another seed."
                )

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


def open_cohort(folder: str | os.PathLike) -> Cohort:
    """Open the sessions of a cohort that `record_cohort` made.

    Parameters
    ----------
    folder : path-like
        Its folder.

    Returns
    -------
    cohort : Cohort
        Members in the order in which they were given.

    Raises
    ------
    FileNotFoundError
        If the folder has no cohort, or a member's file is missing.
    SessionFileError
        If the list of members is damaged, or a file is not the one that was recorded.
    ValueError
        If a member is not finished.
    """
    check_type("folder", folder, (str, os.PathLike), "the folder of a cohort")
    folder = Path(folder).expanduser()
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds no cohort ({MANIFEST} is missing). Give a folder that "
            "record_cohort made."
        )
    manifest = load_manifest(folder)
    check_option("factor", manifest.factor, FACTORS)
    missing = [m.label for m in manifest.members if m.header is None]
    if missing:
        raise ValueError(
            f"folder={str(folder)!r}: {len(missing)} of {len(manifest.members)} members are not "
            f"finished ({', '.join(missing[:6])}). Go on with record_cohort(..., resume=True)."
        )
    sessions = {}
    for member in manifest.members:
        sessions[member.label] = open_session(folder / member.file)
        if not is_finished(member, folder):
            raise SessionFileError(
                f"{folder / member.file} is not the file that was recorded as {member.label!r}: "
                "it was replaced. Restore it, or record the cohort again."
            )
    return Cohort(sessions, factor=manifest.factor)
