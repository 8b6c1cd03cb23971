"""Exchange of RDMs with other programs: rsatoolbox, and text files that any program reads.

`RDM.save` writes NetCDF 4, which is HDF5: that file keeps everything and opens in any HDF5 reader.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from netphys._check import check_type, suggest
from netphys._version import explain_missing
from netphys.analysis._long import FIXED, Long, flatten_rdm, read_long, unflatten_rdm
from netphys.analysis.rdm import PAIR, RDM
from netphys.analysis.rsa import UNITS, to_rdm
from netphys.data._files import make_whole

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

THEIR_NAMES = {  # of dissimilarities, in rsatoolbox
    "correlation": "correlation",
    "euclidean": "squared euclidean",
    "mahalanobis": "squared mahalanobis",
    "crossnobis": "crossnobis",
    "poisson": "poisson",
    "poisson-cv": "poisson_cv",
}
OTHER = " (rsatoolbox)"  # marks names of dissimilarities that are not ours
NOTE = "netphys"  # descriptor that holds what rsatoolbox has no place for


def to_rsatoolbox(rdm: RDM) -> RDMs:
    """Return the matrices as an RDMs object of rsatoolbox.

    Parameters
    ----------
    rdm : RDM
        Any dims; NaN is kept.

    Returns
    -------
    rdms : rsatoolbox.rdm.RDMs
        One RDM per combination of labels of the other dims, the last of them changing fastest;
        labels of dims and other coordinates are RDM descriptors, those of conditions the pattern
        descriptor `condition`. What rsatoolbox has no place for (dims, parameters, provenance) is
        JSON in the descriptor `netphys`.

    Raises
    ------
    ImportError
        If rsatoolbox is not installed.

    Notes
    -----
    rsatoolbox, too, divides by the number of units, so that values agree; its name of "euclidean"
    is "squared euclidean". Some of its functions change their argument in place; the object holds
    a copy.

    References
    ----------
    .. [1] van den Bosch JJF et al. (2025). eLife. doi:10.7554/eLife.107828.1
    """
    check_type("rdm", rdm, RDM, "an RDM")
    rows, columns, dims = flatten_rdm(rdm)
    note = {
        "dims": list(rdm.extra_dims),
        "coords": {k: list(v) for k, v in dims.items()},
        "units": rdm.data.attrs.get("units"),
        "params": dict(rdm.params),
        "provenance": dict(rdm.provenance),
    }
    return _import_rdms()(
        rows,
        dissimilarity_measure=_name_measure(rdm.params),
        descriptors={NOTE: json.dumps(note)},
        rdm_descriptors={k: v.tolist() for k, v in columns.items()},
        pattern_descriptors={"condition": np.array(rdm.conditions)},
    )


def from_rsatoolbox(rdms: RDMs, *, dim: str = "participant", by: str | None = None) -> RDM:
    """Make an RDM of an RDMs object of rsatoolbox.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        One or more RDMs; NaN is kept.
    dim : str
        Dim along which the RDMs stand. Labels are the RDM descriptor of that name, or numbers
        where there is none; other RDM descriptors that are texts or numbers become coordinates.
        RDMs that `to_rsatoolbox` made get back the dims they had, and `dim` has no part.
    by : str, optional
        Pattern descriptor that names the conditions. Left out: `condition`, or the only one besides
        `index`, or `index` where there is no other.

    Returns
    -------
    rdm : RDM
        Conditions in the order of `rdms`.

    Raises
    ------
    TypeError
        If `rdms` is no such object.
    ValueError
        If the conditions have no unique descriptor, labels occur twice, or RDMs that had several
        dims are no longer every combination of their labels.

    Notes
    -----
    rsatoolbox stores no diagonal: a condition without any known pair gets NaN there, others 0.
    Its measure "euclidean" may be squared (unbalanced designs) or not (`sqrt_transform`): such
    names are kept as text, with "(rsatoolbox)" behind them.

    References
    ----------
    .. [1] van den Bosch JJF et al. (2025). eLife. doi:10.7554/eLife.107828.1
    """
    needed = ("dissimilarities", "rdm_descriptors", "pattern_descriptors")
    if not all(hasattr(rdms, name) for name in needed):
        raise TypeError(
            f"rdms={rdms!r} is a {type(rdms).__name__}. Give an RDMs object of rsatoolbox."
        )
    rows = np.array(rdms.dissimilarities, np.float64)
    labels = _find_conditions(rdms.pattern_descriptors, by)
    note = json.loads(str(rdms.descriptors[NOTE])) if NOTE in rdms.descriptors else {}
    columns = {k: list(v) for k, v in rdms.rdm_descriptors.items() if v is not None}
    if not note or not set(note["dims"]) <= set(columns):
        note = {k: v for k, v in note.items() if k in ("params", "provenance", "units")}
        columns = _find_coords(columns, dim, len(rows))
        note |= {"dims": [dim], "coords": {k: [dim] for k in columns if k != dim}}
    table = {k: np.array(v) for k, v in columns.items() if k in (*note["dims"], *note["coords"])}
    coords = {k: note["coords"][k] for k in table if k in note["coords"]}
    square, found = unflatten_rdm(rows, len(labels), table, note["dims"], coords)
    measure, params = rdms.dissimilarity_measure, note.get("params")
    if params is None or _name_measure(params) != measure:
        params = {"metric": _name_metric(measure), "source": "stored"}
        note.pop("units", None)
    dead = ~np.isfinite(np.where(np.eye(len(labels), dtype=bool), np.nan, square)).any(axis=-1)
    long = Long(square, dead, labels, note["dims"], found, {"units": note.get("units")})
    return _build(long, params, note.get("provenance", {}))


def save_csv(rdm: RDM, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Write an RDM as a long table in a text file; `load_csv` reads it back.

    Parameters
    ----------
    rdm : RDM
        Any dims; NaN is kept.
    path : path-like
        File to make, usually ending in .csv.
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
    One row per pair and matrix, with the columns condition, condition_2, one per other dim, one
    per coordinate named ``dim.coordinate``, metric, units, order (where conditions are said to be
    ordered in time or not), and dissimilarity in full precision. Conditions whose diagonal is
    unknown (constant patterns) have a row with themselves. `stats` and provenance are not kept:
    `RDM.save` keeps everything.
    """
    check_type("rdm", rdm, RDM, "an RDM")
    with make_whole(path, overwrite=overwrite) as (path, unfinished):
        table = _make_table(rdm)
        table.to_csv(unfinished, index=False, na_rep="NaN", encoding="utf-8", lineterminator="\n")
    return path


def load_csv(
    path: str | os.PathLike, *, dims: Sequence[str] | None = None, text: Sequence[str] = ()
) -> RDM:
    """Read an RDM from a long table in a text file, one row per pair and matrix.

    Parameters
    ----------
    path : path-like
        File that `save_csv` made, or any with the columns condition, condition_2 and
        dissimilarity, and one per other dim.
    dims : sequence of str, optional
        Columns that are dims. Left out: those with the name of a dim of netphys, such as
        participant, layer, region, seed, model or time.
    text : sequence of str
        Dims or coordinates whose labels are text although all look like numbers; labels of
        conditions always are.

    Returns
    -------
    rdm : RDM
        Conditions and labels in the order of first appearance.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or unknown, a value is no number, or a pair is missing or there
        twice; unknown dissimilarities are written as NaN.

    Examples
    --------
    >>> from netphys.analysis.rsa import to_rdm
    >>> rdm = to_rdm(np.array([0.1, np.nan, 0.3]), conditions=["a", "b", "c"])
    >>> load_csv(save_csv(rdm, "rdm.csv")).data.equals(rdm.data)
    True
    """
    check_type("path", path, (str, os.PathLike), "the path of a text file")
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    table = _read_texts(path)
    long = read_long(table, path.name, dims=dims, text=text)
    params = {"metric": long.fixed["metric"] or "as stored", "source": "stored"}
    return _build(long, params, {"order": long.fixed["order"]} if long.fixed["order"] else {})


# ---------------------------------------------------------------------- parts
def _import_rdms() -> type:
    """Return rsatoolbox's class; the warnings of its import are not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from rsatoolbox.rdm import RDMs
        except ModuleNotFoundError as error:
            raise ImportError(explain_missing(error), name=error.name) from error
    return RDMs


def _name_measure(params: dict) -> str:
    """Return what rsatoolbox calls a dissimilarity, with the transforms that were applied."""
    metric = str(params.get("metric", "as stored"))
    name = THEIR_NAMES.get(metric, metric.removesuffix(OTHER))
    for how in params.get("transforms", ()):
        if how == "sqrt":
            squared = name.startswith("squared ")
            name = name.removeprefix("squared ") if squared else f"sqrt of {name}"
        else:
            name = f"{name} ({'ranks' if how == 'rank' else how})"
    return name


def _name_metric(measure: str | None) -> str:
    ours = {theirs: name for name, theirs in THEIR_NAMES.items()}
    if measure is None or measure == "as stored":
        return "as stored"
    return ours.get(str(measure), f"{measure}{OTHER}")


def _find_conditions(patterns: dict, by: str | None) -> list[str]:
    """Return the labels of conditions among pattern descriptors."""
    if by is None:
        others = [k for k in patterns if k != "index"]
        by = "condition" if "condition" in patterns else others[0] if others else "index"
        if by != "condition" and len(others) > 1:
            raise ValueError(
                f"rdms has several pattern descriptors: {', '.join(others)}. Say which names the "
                f"conditions: by={others[0]!r}."
            )
    if by not in patterns:
        raise ValueError(
            f"by={by!r} is not a pattern descriptor of rdms.{suggest(by, patterns)} It has: "
            f"{', '.join(patterns)}."
        )
    return [str(v) for v in patterns[by]]


def _find_coords(columns: dict[str, list], dim: str, n: int) -> dict[str, list]:
    """Return the labels of `dim` and its coordinates among RDM descriptors."""
    kinds = (str, int, float, np.str_, np.number)
    kept = {
        k: v for k, v in columns.items() if k != "index" and all(isinstance(x, kinds) for x in v)
    }
    kept.pop("condition", None), kept.pop("condition_2", None)
    return {dim: kept.pop(dim, list(range(n)))} | kept


def _build(long: Long, params: dict, origin: dict) -> RDM:
    """Return a checked RDM, with NaN on the diagonal of unknown conditions."""
    dims = (*long.dims, *PAIR)
    made = to_rdm(xr.DataArray(long.square, long.coords, dims), conditions=long.labels)
    values = made.data.transpose(*dims).to_numpy().copy()
    n = len(long.labels)
    values[..., range(n), range(n)] = np.where(long.unknown, np.nan, 0.0)
    data = made.data.transpose(*dims).copy(data=values).transpose(*made.data.dims)
    metric = params["metric"]
    units = long.fixed["units"] or UNITS.get(metric, "dissimilarity")
    data.attrs |= {"units": units, "metric": metric}
    return RDM(data, xr.Dataset(), None, params, origin)


def _read_texts(path: Path) -> pd.DataFrame:
    """Return a table of texts; what a short row lacks is empty."""
    options = {"dtype": str, "keep_default_na": False, "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, encoding="utf-8-sig", **options)
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(
            f"{path.name} is not a table of values separated by commas, in no row more than "
            f"columns ({error})."
        ) from error


def _make_table(rdm: RDM) -> pd.DataFrame:
    """Return the long table of `save_csv`."""
    rows, columns, dims = flatten_rdm(rdm)
    names, n = np.array(rdm.conditions, dtype=object), len(rdm.conditions)
    i, j = np.triu_indices(n, 1)
    square = rdm.data.transpose(*rdm.extra_dims, *PAIR).to_numpy()
    diagonal = np.diagonal(square, axis1=-2, axis2=-1).reshape(-1, n)
    lost, own = np.nonzero(np.isnan(diagonal))
    which = np.concatenate([np.repeat(np.arange(len(rows)), len(i)), lost])
    table = {
        "condition": np.concatenate([np.tile(names[i], len(rows)), names[own]]),
        "condition_2": np.concatenate([np.tile(names[j], len(rows)), names[own]]),
    }
    for name, values in columns.items():
        title = name if name in rdm.extra_dims else ".".join([*(dims[name] or ("",)), name])
        table[title] = values[which]
    fixed = (rdm.params.get("metric"), rdm.data.attrs.get("units"), rdm.provenance.get("order"))
    table |= {k: v for k, v in zip(FIXED, fixed, strict=True) if v}
    table["dissimilarity"] = np.concatenate([rows.reshape(-1), np.full(len(lost), np.nan)])
    return pd.DataFrame(table)
