"""Results: what an analysis gives back, with its null, its parameters and where it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_type
from netphys.data._files import make_whole
from netphys.data.citations import get_bibtex

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = 1
_JSON = "json:"  # marks attributes that are stored as JSON


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Outcome of one analysis; subclasses add their plot, summary and methods text.

    Parameters
    ----------
    data : DataArray
        The values asked for, with labelled dims.
    stats : Dataset
        What belongs to them: intervals, p-values, ceilings, controls.
    null : DataArray or None
        Draws under the null hypothesis, dims (draw, ...); None where ``params["null"]`` says why.
    params : dict
        Options of the analysis, JSON-ready, seeds included.
    provenance : dict
        What the data came from, JSON-ready.
    """

    data: xr.DataArray
    stats: xr.Dataset = field(default_factory=xr.Dataset)
    null: xr.DataArray | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    citations: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in ("params", "provenance"):
            try:
                json.dumps(dict(getattr(self, name)))
            except TypeError as error:
                raise TypeError(
                    f"{name} cannot be written as JSON ({error}). Give plain numbers, texts, lists "
                    "and dicts: int(n) and x.tolist() for numpy's."
                ) from error

    def summary(self) -> str:
        """Return what came out as text for a terminal.

        Returns
        -------
        text : str
            A few lines.
        """
        sizes = " x ".join(f"{n} {d}" for d, n in self.data.sizes.items())
        return f"{type(self).__name__}: {sizes}"

    def describe_methods(self) -> str:
        """Return one paragraph on how the result was made; see `methods` for the whole.

        Returns
        -------
        text : str
            Sentences in the past tense, for a methods section.
        """
        return f"{type(self).__name__} with options {json.dumps(dict(self.params))}."

    def methods(self) -> str:
        """Return a paragraph to paste into a methods section, and its references in BibTeX.

        Returns
        -------
        text : str
            Paragraph, blank line, BibTeX entries.
        """
        return f"{self.describe_methods()}\n\n{get_bibtex(*self.get_citations())}"

    def get_citations(self) -> tuple[str, ...]:
        """Return the keys of what this result should cite, netphys first.

        Returns
        -------
        keys : tuple of str
            Keys of `netphys.data.citations`.
        """
        return tuple(dict.fromkeys(("netphys", *self.citations)))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the result.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure if left out.

        Returns
        -------
        ax : Axes
            Where it was drawn.
        """
        raise TypeError(f"a {type(self).__name__} has no plot of its own.")

    def to_frame(self) -> pd.DataFrame:
        """Return the values as a table, one row per value.

        Returns
        -------
        table : DataFrame
            A column per dim and coordinate, the last one the value.
        """
        name = self.data.name or "value"
        if not self.data.dims:
            labels = {k: [v.item()] for k, v in self.data.coords.items()}
            return pd.DataFrame({**labels, name: [self.data.item()]})
        return self.data.rename(name).to_dataframe().reset_index()

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Write everything to one NetCDF file (HDF5); `load` reads it back.

        Parameters
        ----------
        path : path-like
            File to make, usually ending in .nc.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        path : Path
            The file.

        Raises
        ------
        FileExistsError
            If it exists and `overwrite` is off.

        Notes
        -----
        The file appears under its name when it is complete. Any NetCDF 4 reader opens it: the
        groups `data`, `stats` and `null` hold the arrays, the root's attributes the rest as JSON.
        """
        with make_whole(path, overwrite=overwrite) as (path, unfinished):
            tree = {"data": self.data.rename("data").to_dataset(), "stats": self.stats}
            if self.null is not None:
                tree["null"] = self.null.rename("null").to_dataset()
            head = {
                "netphys_result": type(self).__name__,
                "format": FORMAT,
                "name": str(self.data.name or ""),
                "params": json.dumps(dict(self.params)),
                "provenance": json.dumps(dict(self.provenance)),
                "sha256": self._compute_digest(),
            }
            plain = {k: _to_storable(v) for k, v in tree.items()}
            xr.DataTree.from_dict({"/": xr.Dataset(attrs=head), **plain}).to_netcdf(
                unfinished, engine="h5netcdf"
            )
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a result of this class back from its file.

        Parameters
        ----------
        path : path-like
            File that `save` made.

        Returns
        -------
        result : Result
            Of the class that `load` is called on.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no result, or one of another class, or is damaged.
        """
        check_type("path", path, (str, os.PathLike), "the path of a result file")
        path = Path(path).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        try:
            with xr.open_datatree(path, engine="h5netcdf", decode_timedelta=False) as file:
                tree = file.load()
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} is not a result file of netphys, or it is cut short. Make it again."
            ) from error
        made_as, version = tree.attrs.get("netphys_result"), tree.attrs.get("format", FORMAT)
        if made_as is None:
            raise ValueError(f"{path} holds no result of netphys. Give a file that save() made.")
        if made_as != cls.__name__:
            raise ValueError(
                f"{path} holds {made_as}, not {cls.__name__}. Load it with {made_as}.load."
            )
        if version > FORMAT:
            raise ValueError(
                f"{path} has format {version}; this netphys reads up to {FORMAT}. Update netphys."
            )
        parts = {k: _from_stored(v.to_dataset()) for k, v in tree.children.items()}
        data = parts["data"]["data"].rename(tree.attrs["name"] or None)
        null = parts["null"]["null"] if "null" in parts else None
        params, origin = (json.loads(tree.attrs[k]) for k in ("params", "provenance"))
        result = cls(data, parts.get("stats", xr.Dataset()), null, params, origin)
        if result._compute_digest() != tree.attrs.get("sha256"):
            raise ValueError(f"{path} is damaged: its values are not those that were saved.")
        return result

    def _compute_digest(self) -> str:
        """Return the SHA-256 of all values, with their names, types and dims."""
        digest = hashlib.sha256(json.dumps([self.params, self.provenance], sort_keys=True).encode())
        parts = [self.data.rename("data").to_dataset(), self.stats]
        parts += [] if self.null is None else [self.null.rename("null").to_dataset()]
        for part in parts:
            for name in sorted(map(str, part.variables)):
                values = np.ascontiguousarray(part[name].to_numpy())
                text = values.dtype.kind not in "biufc"
                kind = "text" if text else values.dtype.str
                digest.update(f"{name} {kind} {part[name].dims} {values.shape}".encode())
                digest.update(
                    "\0".join(map(str, values.ravel())).encode() if text else values.tobytes()
                )
        return digest.hexdigest()

    def __repr__(self) -> str:
        return self.summary()


def _to_storable(dataset: xr.Dataset) -> xr.Dataset:
    """Return `dataset` as NetCDF can store it: variable-length texts, attributes as text."""

    def convert(variable: xr.Variable) -> xr.Variable:
        values = variable.to_numpy()
        return xr.Variable(
            variable.dims, values.astype(object) if values.dtype.kind == "U" else values
        )

    made = xr.Dataset(
        {k: convert(dataset[k].variable) for k in dataset.data_vars},
        {k: convert(dataset[k].variable) for k in dataset.coords},
        _store_attrs(dataset.attrs),
    )
    for name in made.variables:
        made[name].attrs = _store_attrs(dataset[name].attrs)
    return made


def _from_stored(dataset: xr.Dataset) -> xr.Dataset:
    """Undo `_to_storable`."""
    made = {}
    for name, variable in dataset.variables.items():
        values = variable.to_numpy()
        text = values.dtype == object or values.dtype.kind == "T"
        attrs = _load_attrs(variable.attrs)
        made[name] = xr.Variable(variable.dims, values.astype(str) if text else values, attrs)
    coords = {k: made.pop(k) for k in dataset.coords}
    return xr.Dataset(made, coords, _load_attrs(dataset.attrs))


def _store_attrs(attrs: Mapping) -> dict[str, object]:
    """Keep texts and numbers, write anything else as JSON under a marked name."""
    plain = {k: v for k, v in attrs.items() if isinstance(v, str | int | float | np.number)}
    plain = {k: v for k, v in plain.items() if not isinstance(v, bool)}
    return plain | {_JSON + k: json.dumps(v) for k, v in attrs.items() if k not in plain}


def _load_attrs(attrs: Mapping) -> dict[str, object]:
    read = {k: v.item() if isinstance(v, np.generic) else v for k, v in attrs.items()}
    return {
        k.removeprefix(_JSON): json.loads(v) if k.startswith(_JSON) else v for k, v in read.items()
    }
