"""Read view on one session file.

The file's header is verified first; HDF5 then gives tables, offsets and types and is closed again.
Activations are read through memory maps opened at each read: lazy, never stale, and fast for a
single unit's column. Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type, suggest
from netphys.data._dask import make_dask
from netphys.data._parts import check_parts
from netphys.data._pool import POOLS
from netphys.data._series import Series, find_scale, get_text, load_table, read_series
from netphys.data._session_online import list_tables, read_checkpoint, read_stream, read_table
from netphys.data._session_summary import make_html, make_site_table, make_summary, make_text
from netphys.data._session_trials import cut_trials, pool_trials
from netphys.data._stored import StoredArray, make_lazy
from netphys.data.nwb_header import Header, SessionFileError, load_commits, load_digest, load_header
from netphys.data.nwb_layout import CHECKSUMS, COMMIT, COUNT_NAMES, COUNTS, PACKED, PROVENANCE
from netphys.data.online_state import Checkpoint


class Session:
    """One recording: what was shown, what was recorded, and how; read-only.

    ``session[site]`` is one site as a DataArray (sample, unit); ``session.select(pattern)``
    several of them as a dict; ``session.trials(site)`` the same values cut into (trial, time,
    unit). What is stored in another form has that in its name: ``session["h.0#word.mean"]``.

    Parameters
    ----------
    path : path-like
        Session file.

    Attributes
    ----------
    path : Path
        The file.
    sites : list of str
        Names of what is stored: sites in the order in which the model computes them, those in
        another form than every sample's value with ``#`` and the form.
    clocks : list of str
        Names of the samples tables.
    trial_table : DataFrame
        One row per trial in order of recording: times, batch, samples, and the stimulus columns.
    provenance : dict
        How the session was made: subject, stimuli, batch plan, versions, protocol.
    packing : dict or None
        How the file was packed (`netphys pack`); None for a recording as it was made.

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
        self.provenance: Mapping = json.loads(get_text(file[PROVENANCE][()]))
        joined = self.provenance.get("joined")
        self._series = {
            name: read_series(name, file[f"acquisition/{name}"], joined)
            for name in self.provenance.get("series", self.provenance["sites"])
        }
        self.sites = list(self._series)
        if any(s.parts for s in self._series.values()):
            check_parts(self.path, joined)
        self._check_places(file)
        self._count_at = file[COUNTS].id.get_offset()
        self._checksum_at = file[CHECKSUMS].id.get_offset() if CHECKSUMS in file else None
        trials = "intervals/trials"
        self.trial_table: pd.DataFrame = (
            load_table(file[trials]) if trials in file else pd.DataFrame({"stimulus_id": []})
        )
        self.clocks = list(file["processing/samples"])
        self.title = get_text(file["session_description"][()])
        self.packing: Mapping | None = json.loads(file[PACKED][()]) if PACKED in file else None

    def _check_places(self, file: h5py.File) -> None:
        commit = file[COMMIT].id
        if (commit.get_offset(), commit.get_storage_size()) != self._header.commit:
            raise KeyError("the commit bytes are not where the header says")
        for name, series in self._series.items():
            if series.chunk is not None or series.parts:
                continue
            n_bytes = file[f"acquisition/{name}/data"].id.get_storage_size()
            if (series.offset, n_bytes) not in self._header.mutable:
                raise KeyError(f"the data of {name} are not where the header says")

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
        """One row per stored site: kind, clock, number of samples and units, type, megabytes."""
        return make_site_table(self._series)

    @property
    def counts(self) -> pd.DataFrame:
        """Counters per site: non-finite values, and values that became infinite in a cast."""
        index = pd.Index(self.sites, name="site")
        total = self._read_counts()[self.commits].sum(axis=0)
        return pd.DataFrame(total, index=index, columns=COUNT_NAMES)

    def _read_counts(self) -> np.ndarray:
        """Return the counters of each batch: int64, (batch, site, counter)."""
        shape = (self._header.commit[1], len(self.sites), len(COUNT_NAMES))
        n = shape[0] * shape[1] * shape[2]
        return np.fromfile(self.path, np.int64, n, offset=self._count_at).reshape(shape)

    @property
    def checksums(self) -> np.ndarray | None:
        """xxh3_64 of the bytes of each batch in each series: uint64, (batch, site).

        Valid where the batch is committed; None for a file of layout 1, which has none.
        """
        if self._checksum_at is None:
            return None
        shape = (self._header.commit[1], len(self.sites))
        return np.fromfile(
            self.path, np.uint64, shape[0] * shape[1], offset=self._checksum_at
        ).reshape(shape)

    @cached_property
    def _sample_tables(self) -> dict[str, pd.DataFrame]:
        with h5py.File(self.path, "r") as file:
            return {c: load_table(file[f"processing/samples/{c}"]) for c in self.clocks}

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
        if clock not in self.clocks:
            raise KeyError(f"clock={clock!r} is not in {self.path.name}. It has: {self.clocks}.")
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
        with h5py.File(self.path, "r") as file:
            tables = file["processing/units"]
            name = site if site in tables else self._find_one(site)
            return load_table(tables[name])

    # ------------------------------------------------------------------ online statistics
    @property
    def online_tables(self) -> list[str]:
        """Names of the online statistics, as `online` takes them: site, ``#``, statistic."""
        return list_tables(self.provenance)

    def load_checkpoint(self) -> Checkpoint | None:
        """Read the newest states of the online statistics; of several ranks, merged.

        Returns
        -------
        checkpoint : Checkpoint or None
            None without online statistics, or before their first checkpoint.
        """
        return read_checkpoint(self.path, self.provenance)

    @property
    def stream(self) -> dict[str, int] | None:
        """How much of a corpus was shown: numbers of "items" and "windows"; None for stimuli.

        Of an unfinished recording both are those before the items that are being shown.
        """
        return read_stream(self)

    def online(self, name: str) -> xr.Dataset:
        """Return an online statistic of a site: of an unfinished recording what it saw so far.

        Parameters
        ----------
        name : str
            Site, ``#`` and the name of the statistic: one of `online_tables`.

        Returns
        -------
        data : Dataset
            First dim "unit" (or "token", "position", "condition"), with the units' labels;
            attributes say how much it saw.

        Raises
        ------
        KeyError
            If there is no such table, or nothing was seen yet.
        """
        return read_table(self, name)

    # ------------------------------------------------------------------ activations
    def __getitem__(self, site: str) -> xr.DataArray:
        """Return one site as a DataArray with dims (sample, unit), arbitrary units.

        A complete recording is a lazy view on the file, but for bfloat16, which is read as exact
        float32, int8, which is multiplied by the units' scale, and rasters, read as bool. Of an
        unfinished one only the samples of committed batches are returned.
        """
        return self._get(self._find_one(site), self.commits)

    def _get(self, name: str, commits: np.ndarray) -> xr.DataArray:
        info, units = self._series[name], self.units(name)
        rows = self._find_rows(info, commits)
        if info.chunk is not None or info.parts:
            return self._label(info, make_lazy(self._store(info, units, rows)), rows, units)
        stored = info.map(self.path)
        values = info.decode(stored if rows is None else stored[rows], find_scale(units))
        return self._label(info, values, rows, units)

    def to_dask(self, site: str, *, chunk_mb: float = 64.0) -> xr.DataArray:
        """Return one site as a DataArray backed by dask, for analyses larger than memory.

        Parameters
        ----------
        site : str
            A site, or a pattern that matches exactly one.
        chunk_mb : float
            Most megabytes of a block as it is in memory. Blocks are runs of samples with all units;
            of a file packed in unit order, whole chunks of some units.

        Returns
        -------
        data : DataArray, dims (sample, unit)
            As ``session[site]``, with the same coordinates; of an unfinished recording the samples
            committed by now. Every task opens the file for itself, so that blocks can be read by
            other processes and machines that see the file under the same path.

        Raises
        ------
        ImportError
            If dask is not installed.
        KeyError
            If nothing or more than one site matches.
        """
        check_type("chunk_mb", chunk_mb, (int, float), "a number of megabytes")
        if not chunk_mb > 0:
            raise ValueError(f"chunk_mb={chunk_mb!r} is too small. Give a number above 0.")
        name, commits = self._find_one(site), self.commits
        info, units = self._series[name], self.units(name)
        rows = self._find_rows(info, commits)
        blocks = make_dask(self._store(info, units, rows), chunk_mb)
        return self._label(info, blocks, rows, units)

    def _find_rows(self, info: Series, commits: np.ndarray) -> np.ndarray | None:
        """Return the rows of committed batches; None if that is all."""
        return None if commits.all() else np.flatnonzero(commits[self._row_batch(info.clock)])

    def _store(self, info: Series, units: pd.DataFrame, rows: np.ndarray | None) -> StoredArray:
        return StoredArray(self.path.resolve(), self._digest, info, find_scale(units), rows)

    def _label(
        self, info: Series, values: object, rows: np.ndarray | None, units: pd.DataFrame
    ) -> xr.DataArray:
        """Return values with what is known of their samples and units."""
        samples = self._sample_tables[info.clock]
        samples = samples if rows is None else samples.iloc[rows]
        coords = {c: ("sample", samples[c].to_numpy()) for c in samples.columns}
        trials = self.trial_table.set_index("stimulus_index")
        for c in ("stimulus_id", "condition"):
            if c in trials:
                coords[c] = ("sample", trials[c].loc[samples["trial"]].to_numpy())
        coords |= {c: ("unit", units[c].to_numpy()) for c in units.columns}
        coords["sample"] = np.arange(len(samples)) if rows is None else rows
        attrs = {"units": "a.u.", "site": info.site, "kind": info.kind, "clock": info.clock}
        if info.form != "samples":
            attrs["form"] = info.form
        dims = ("sample", "unit")
        return xr.DataArray(values, dims=dims, coords=coords, name=info.name, attrs=attrs)

    def __contains__(self, site: object) -> bool:
        return site in self._series

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
        return cut_trials(self, site)

    def pool(self, site: str, *, how: str = "mean", units: slice | None = None) -> xr.DataArray:
        """Return one value per trial and unit, over the samples of the trial.

        Parameters
        ----------
        site : str
            A site, or a pattern that matches exactly one.
        how : str
            "mean", "max" or "last" of the trial's samples; tokens that the tokenizer added are left
            out.
        units : slice, optional
            Which units to read; all if left out.

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
        return pool_trials(self, site, how, units)

    def _check_same_file(self) -> None:
        """Raise if another file has taken the place of the one that was opened."""
        if load_digest(self.path) != self._digest:
            raise SessionFileError(
                f"{self.path} was replaced since it was opened. Open it again: open_session(path)."
            )

    def _row_batch(self, clock: str) -> np.ndarray:
        """Return the planned batch of every sample of a clock."""
        table = self.trial_table
        return np.repeat(table["batch"].to_numpy(), table[f"n_samples_{clock}"].to_numpy())

    def _match(self, pattern: str) -> list[str]:
        check_type("site", pattern, str, "the name of a site, a kind, or a pattern")
        if pattern in self._series:
            return [pattern]
        rule = re.compile(re.escape(pattern).replace(r"\*", "[^.]*"))
        found = [
            n
            for n, s in self._series.items()
            if pattern in (s.kind, s.site) or rule.fullmatch(n) or rule.fullmatch(s.site)
        ]
        if not found:
            known = dict.fromkeys([s.kind for s in self._series.values()])
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
        return make_text(self)

    def to_dict(self) -> dict:
        """Return the summary as JSON-ready values.

        Returns
        -------
        summary : dict
            Facts, sites and counters.
        """
        return make_summary(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return make_html(self)


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
