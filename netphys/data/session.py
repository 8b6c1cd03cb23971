"""Read view on one session file.

The file's header is verified first; HDF5 then gives tables, offsets and types and is closed again.
Activations are read through memory maps opened at each read: lazy, never stale, and fast for a
single unit's column. Nothing here needs torch.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type, suggest
from netphys.data._pool import POOLS, pool_samples
from netphys.data.nwb_header import Header, SessionFileError, load_commits, load_digest, load_header
from netphys.data.nwb_layout import COUNT_NAMES, COUNTS, PROVENANCE, STORED_DTYPES


@dataclass(frozen=True)
class _Site:
    kind: str
    clock: str
    dtype: str
    shape: tuple[int, int]
    offset: int


class Session:
    """One recording: what was shown, what was recorded, and how; read-only.

    ``session[site]`` is one site as a DataArray (sample, unit); ``session.select(pattern)``
    several of them as a dict; ``session.trials(site)`` the same values cut into (trial, time,
    unit).

    Parameters
    ----------
    path : path-like
        Session file.

    Attributes
    ----------
    path : Path
        The file.
    sites : list of str
        Names of the recorded sites, in the order in which the model computes them.
    trial_table : DataFrame
        One row per trial in order of recording: times, batch, samples, and the stimulus columns.
    provenance : dict
        How the session was made: subject, stimuli, batch plan, versions, protocol.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SessionFileError
        If the file is no session, is cut short, damaged, or has a newer layout.
    """

    def __init__(self, path: str | os.PathLike):
        check_type("path", path, (str, os.PathLike), "the path of a session file")
        self.path = Path(path).expanduser()
        self._header: Header = load_header(self.path)
        self._digest = load_digest(self.path)
        try:
            with h5py.File(self.path, "r") as file:
                self._read_structure(file)
        except (OSError, KeyError, RuntimeError) as error:
            raise SessionFileError(
                f"{self.path} could not be read as a session ({error}). Copy it again from the "
                "origin, or record it again."
            ) from error

    def _read_structure(self, file: h5py.File) -> None:
        self.provenance: Mapping = json.loads(_text(file[PROVENANCE][()]))
        order = self.provenance["sites"]
        self._sites = {name: self._read_site(file[f"acquisition/{name}"]) for name in order}
        self.sites = list(order)
        self._count_at = file[COUNTS].id.get_offset()
        self.trial_table: pd.DataFrame = _read_table(file["intervals/trials"])
        self._clocks = list(file["processing/samples"])
        self.title = _text(file["session_description"][()])

    def _read_site(self, group: h5py.Group) -> _Site:
        data = group["data"]
        offset, n_bytes = data.id.get_offset(), data.id.get_storage_size()
        if (offset, n_bytes) not in self._header.mutable:
            raise KeyError(f"the data of {group.name} are not where the header says")
        dtype = (
            "bfloat16" if data.id.get_type().get_size() == 2 and data.dtype.itemsize == 4 else None
        )
        attributes = group.attrs
        return _Site(
            attributes["kind"], attributes["clock"], dtype or data.dtype.name, data.shape, offset
        )

    # ------------------------------------------------------------------ what is in it
    @property
    def commits(self) -> np.ndarray:
        """Commit bytes as booleans, one per planned batch (read anew at each call)."""
        self._check_same_file()
        return np.frombuffer(load_commits(self.path, self._header), np.uint8) == 1

    @property
    def complete(self) -> bool:
        """Whether every planned batch is on disk."""
        return bool(self.commits.all())

    @property
    def site_table(self) -> pd.DataFrame:
        """One row per site: kind, clock, number of samples and units, stored type, megabytes."""
        rows = [
            {
                "site": name,
                "kind": s.kind,
                "clock": s.clock,
                "n_samples": s.shape[0],
                "n_units": s.shape[1],
                "dtype": s.dtype,
                "megabytes": s.shape[0] * s.shape[1] * STORED_DTYPES[s.dtype] / 1e6,
            }
            for name, s in self._sites.items()
        ]
        return pd.DataFrame(rows).set_index("site")

    @property
    def counts(self) -> pd.DataFrame:
        """Counters per site: non-finite values, and values that became infinite in a cast."""
        shape = (self._header.commit[1], len(self.sites), len(COUNT_NAMES))
        counts = np.memmap(self.path, np.int64, "r", self._count_at, shape)
        total = counts[self.commits].sum(axis=0)
        return pd.DataFrame(total, index=pd.Index(self.sites, name="site"), columns=COUNT_NAMES)

    @cached_property
    def _sample_tables(self) -> dict[str, pd.DataFrame]:
        with h5py.File(self.path, "r") as file:
            return {c: _read_table(file[f"processing/samples/{c}"]) for c in self._clocks}

    def samples(self, clock: str) -> pd.DataFrame:
        """Return the samples table of a clock: one row per recorded sample.

        Parameters
        ----------
        clock : str
            Name of a clock, such as "token", "image", "frame" or "item".

        Returns
        -------
        table : DataFrame
            Trial, position, onset in seconds, and what was shown (token, text, word, characters).
        """
        if clock not in self._clocks:
            raise KeyError(f"clock={clock!r} is not in {self.path.name}. It has: {self._clocks}.")
        return self._sample_tables[clock].copy()

    def units(self, site: str) -> pd.DataFrame:
        """Return the table of a site's units.

        Parameters
        ----------
        site : str
            A site, or a pattern that matches exactly one.

        Returns
        -------
        table : DataFrame
            One row per unit: layer, index, label and place (head, key, channel, y, x) where it has
            one.
        """
        name = self._find_one(site)
        with h5py.File(self.path, "r") as file:
            return _read_table(file[f"processing/units/{name}"])

    # ------------------------------------------------------------------ activations
    def __getitem__(self, site: str) -> xr.DataArray:
        """Return one site as a DataArray with dims (sample, unit), arbitrary units.

        A complete recording is a lazy view on the file, but for bfloat16, which is read as exact
        float32. Of an unfinished one only the samples of committed batches are returned.
        """
        return self._get(self._find_one(site), self.commits)

    def _get(self, name: str, commits: np.ndarray) -> xr.DataArray:
        info = self._sites[name]
        values = self._read(info)
        samples = self._sample_tables[info.clock]
        rows = np.arange(len(samples))
        if not commits.all():
            rows = np.flatnonzero(commits[self._row_batch(info.clock)])
            values, samples = values[rows], samples.iloc[rows]
        coords = {c: ("sample", samples[c].to_numpy()) for c in samples.columns}
        trials = self.trial_table.set_index("stimulus_index")
        for c in ("stimulus_id", "condition"):
            if c in trials:
                coords[c] = ("sample", trials[c].loc[samples["trial"]].to_numpy())
        units = self.units(name)
        coords |= {c: ("unit", units[c].to_numpy()) for c in units.columns}
        coords["sample"] = rows
        attrs = {"units": "a.u.", "site": name, "kind": info.kind, "clock": info.clock}
        return xr.DataArray(values, dims=("sample", "unit"), coords=coords, name=name, attrs=attrs)

    def __contains__(self, site: object) -> bool:
        return site in self._sites

    def __iter__(self):
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def select(self, pattern: str) -> dict[str, xr.DataArray]:
        """Return all sites that match a pattern.

        Parameters
        ----------
        pattern : str
            A site name, a kind such as "resid", or a name with ``*``, which never crosses a dot.

        Returns
        -------
        sites : dict of str to DataArray
            In order of depth; dims (sample, unit).

        Raises
        ------
        KeyError
            If nothing matches; the message names the nearest.
        """
        commits = self.commits
        return {name: self._get(name, commits) for name in self._match(pattern)}

    def trials(self, site: str) -> xr.DataArray:
        """Return one site cut into trials.

        Parameters
        ----------
        site : str
            A site, or a pattern that matches exactly one.

        Returns
        -------
        data : DataArray, dims (trial, time, unit)
            Trials in the order of the stimulus table; `time` counts the samples of a trial from 0,
            and the end of shorter trials is NaN. Trial columns are coordinates.
        """
        commits = self.commits  # once: the file may be growing
        data = self._get(self._find_one(site), commits)
        clock = data.attrs["clock"]
        table, begin, count = self._cut(data, commits)
        longest = int(count.max(initial=0))
        shape = (len(table), longest, data.sizes["unit"])
        values = np.full(shape, np.nan, data.dtype)
        source = data.to_numpy()
        for i, (b, n) in enumerate(zip(begin, count, strict=True)):
            values[i, :n] = source[b : b + n]
        coords = {c: ("trial", table[c].to_numpy()) for c in table.columns}
        coords |= {c: data[c] for c in data.coords if data[c].dims == ("unit",)}
        coords |= {"trial": table["stimulus_index"].to_numpy(), "time": np.arange(longest)}
        attrs = data.attrs | {"time_units": clock}
        dims = ("trial", "time", "unit")
        return xr.DataArray(values, dims=dims, coords=coords, name=data.name, attrs=attrs)

    def pool(self, site: str, *, how: str = "mean") -> xr.DataArray:
        """Return one value per trial and unit, over the samples of the trial.

        Parameters
        ----------
        site : str
            A site, or a pattern that matches exactly one.
        how : str
            "mean", "max" or "last" of the trial's samples; tokens that the tokenizer added are left
            out.

        Returns
        -------
        data : DataArray, dims (trial, unit)
            Float64, arbitrary units; trials in the order of the stimulus table, of an unfinished
            recording those of committed batches. Trial columns are coordinates.

        Raises
        ------
        ValueError
            If `how` is unknown, or a trial consists of added tokens only.
        """
        check_option("how", how, POOLS)
        commits = self.commits
        data = self._get(self._find_one(site), commits)
        table, begin, count = self._cut(data, commits)
        keep = ~data["special"].to_numpy().astype(bool) if "special" in data.coords else None
        keep = np.ones(data.sizes["sample"], bool) if keep is None else keep
        values = pool_samples(data.to_numpy(), begin, count, keep, how)
        empty = [not keep[b : b + n].any() for b, n in zip(begin, count, strict=True)]
        if any(empty):
            names = ", ".join(map(repr, table["stimulus_id"].to_numpy()[empty][:5]))
            raise ValueError(
                f"{sum(empty)} of {len(table)} trials have no {data.attrs['clock']} but those that "
                f"the tokenizer added: {names}. Leave these stimuli out."
            )
        coords = {c: ("trial", table[c].to_numpy()) for c in table.columns}
        coords |= {c: data[c] for c in data.coords if data[c].dims == ("unit",)}
        coords |= {"trial": table["stimulus_index"].to_numpy(), "site": data.name}
        attrs = data.attrs | {"pool": how}
        return xr.DataArray(values, coords, ("trial", "unit"), name=data.name, attrs=attrs)

    def _cut(
        self, data: xr.DataArray, commits: np.ndarray
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Return the trials in stimulus order, and where in `data` each begins and how long."""
        clock, table = data.attrs["clock"], self.trial_table
        table = table[commits[table["batch"].to_numpy()]]
        table = table.sort_values("stimulus_index", kind="stable")
        begin = np.searchsorted(data["sample"].to_numpy(), table[f"first_sample_{clock}"])
        return table, begin, table[f"n_samples_{clock}"].to_numpy()

    def _check_same_file(self) -> None:
        """Raise if another file has taken the place of the one that was opened."""
        if load_digest(self.path) != self._digest:
            raise SessionFileError(
                f"{self.path} was replaced since it was opened. Open it again: open_session(path)."
            )

    def _read(self, info: _Site) -> np.ndarray:
        stored = np.dtype("<u2") if info.dtype == "bfloat16" else np.dtype(info.dtype)
        values = np.memmap(self.path, stored, "r", info.offset, info.shape)
        if info.dtype != "bfloat16":
            return values
        wide = values.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)

    def _row_batch(self, clock: str) -> np.ndarray:
        """Return the planned batch of every sample of a clock."""
        table = self.trial_table
        return np.repeat(table["batch"].to_numpy(), table[f"n_samples_{clock}"].to_numpy())

    def _match(self, pattern: str) -> list[str]:
        check_type("site", pattern, str, "the name of a site, a kind, or a pattern")
        if pattern in self._sites:
            return [pattern]
        rule = re.compile(re.escape(pattern).replace(r"\*", "[^.]*"))
        found = [n for n, s in self._sites.items() if s.kind == pattern or rule.fullmatch(n)]
        if not found:
            known = dict.fromkeys([s.kind for s in self._sites.values()])
            raise KeyError(
                f"site={pattern!r} is not in {self.path.name}."
                f"{suggest(pattern, [*self.sites, *known])} "
                f"Its kinds: {', '.join(known)}; its {len(self.sites)} sites: session.sites."
            )
        return found

    def _find_one(self, pattern: str) -> str:
        found = self._match(pattern)
        if len(found) > 1:
            listed = ", ".join(found[:12]) + (" ..." if len(found) > 12 else "")
            raise KeyError(
                f"site={pattern!r} matches {len(found)} sites: {listed}. Name one of them, or use "
                "session.select() for all."
            )
        return found[0]

    # ------------------------------------------------------------------ summaries
    def summary(self) -> str:
        """Return what is in the session as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        facts = "\n".join(f"{k:<11}{v}" for k, v in self._facts().items())
        table = self.site_table
        lines = [
            f"  {name:<{max(map(len, self.sites))}}  {row.kind:<8} {row.n_samples:>8} "
            f"{row.clock}s x {row.n_units} units  {row.dtype}"
            for name, row in zip(table.index, table.itertuples(), strict=True)
        ]
        return facts + "\n" + "\n".join(lines)

    def to_dict(self) -> dict:
        """Return the summary as JSON-ready values.

        Returns
        -------
        summary : dict
            Facts, sites and counters.
        """
        commits = self.commits
        table = self.site_table.reset_index()
        return {
            "path": str(self.path),
            "title": self.title,
            "complete": bool(commits.all()),
            "batches": {"planned": len(commits), "committed": int(commits.sum())},
            "n_trials": len(self.trial_table),
            "sites": json.loads(table.to_json(orient="records")),
            "counts": json.loads(self.counts.reset_index().to_json(orient="records")),
            "subject": self.provenance["subject"],
            "layout": self.provenance["layout"],
            "versions": self.provenance["versions"],
        }

    def _facts(self) -> dict[str, str]:
        commits = self.commits
        state = "complete" if commits.all() else "unfinished (record again to resume)"
        subject = self.provenance["subject"]
        facts = {
            "session": str(self.path),
            "subject": f"{subject['name']}, init {subject['init']}"
            + (f" (seed {subject['seed']})" if subject["init"] != "trained" else ""),
            "stimuli": f"{len(self.trial_table)} trials, "
            + ", ".join(f"{len(t)} {c}s" for c, t in self._sample_tables.items()),
            "recorded": f"{commits.sum()} of {len(commits)} batches, {state}",
            "size": f"{self.site_table.megabytes.sum():.1f} MB at {len(self.sites)} sites",
        }
        bad = self.counts.sum()
        if bad.any():
            facts["warning"] = ", ".join(f"{n:,} {c} values" for c, n in bad.items() if n)
        return facts

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th>"
            f"<td style='text-align:left'>{html.escape(v)}</td></tr>"
            for k, v in self._facts().items()
        )
        return f"<table>{rows}</table>{self.site_table.to_html(float_format='%.2f')}"


def open_session(path: str | os.PathLike) -> Session:
    """Open a session file for reading.

    Parameters
    ----------
    path : path-like
        File that `record` or `netphys run` made; it may still be growing.

    Returns
    -------
    session : Session
        Read view; holds no open file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SessionFileError
        If the file is no session, is cut short, damaged, or has a newer layout.

    Examples
    --------
    >>> subject, stimuli = load_subject("builtin:language"), load_stimuli("builtin:stories")
    >>> _ = record(subject, stimuli, "b.nwb", sites="embed", progress=False)
    >>> session = open_session("b.nwb")
    >>> session.complete, session.sites
    (True, ['transformer.h.0@in'])
    """
    return Session(path)


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_table(group: h5py.Group) -> pd.DataFrame:
    """Read a DynamicTable as a DataFrame, columns in their order, without its id column."""
    columns = {}
    for name in group.attrs["colnames"]:
        data = group[_text(name)]
        columns[_text(name)] = data.asstr()[:] if data.dtype.kind == "O" else data[:]
    return pd.DataFrame(columns)
