"""Make a smaller copy of a finished session: chunks, shuffled and compressed with zstd.

A recording is written uncompressed, because that is what a disk takes at full speed. Packing comes
later: the same NWB file with the same tables, its data in chunks that any HDF5 reader unpacks
(`import hdf5plugin` first). Values and checksums stay what they were.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from tqdm.auto import tqdm

from netphys._check import check_option, check_type
from netphys._version import explain_missing, read_version
from netphys.data._checksums import BatchSums, compute_bounds, load_rows
from netphys.data._files import FileLock, sync_folder
from netphys.data._packed import ZSTD, load_zstandard, map_ahead, pack_chunk
from netphys.data._series import Series
from netphys.data.nwb_header import SessionFileError, compute_block_size, is_session, save_header
from netphys.data.nwb_layout import COMMIT, PACKED
from netphys.data.session import Session, open_session

ORDERS = ("sample", "unit")
_META_BLOCK = 1 << 20  # HDF5's own structures lie together, between long runs of chunks
_SLAB_BYTES = 64 << 20  # rows that are in memory at a time, in unit order


@dataclass(frozen=True)
class _Options:
    level: int
    order: str
    chunk_bytes: int


def pack_session(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    order: str = "sample",
    level: int = 1,
    chunk_mb: float = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Session:
    """Write a compressed copy of a complete session; the original stays as it is.

    Every value is the same bit for bit. The data are compared with their checksums on the way, so
    what is packed is what was recorded. The copy gets its name when it is finished; an interruption
    leaves nothing.

    Parameters
    ----------
    path : path-like
        A complete session file.
    out : path-like
        File to make, by custom ending in ``.nwb``.
    order : str
        "sample": chunks hold all units of some samples, for reading whole trials; "unit": chunks
        hold many samples of some units, for reading single units. The shape is (sample, unit) in
        both.
    level : int
        Of zstd, 1 to 19. Activations are nearly as small at 1 as at 9, and packed five times as
        fast.
    chunk_mb : float
        Megabytes in a chunk before compression, up to 64.
    overwrite : bool
        Replace an existing session at `out`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    session : Session
        Read view on the packed file.

    Raises
    ------
    ImportError
        If the packages of the extra ``pack`` are missing.
    FileExistsError
        If `out` exists and `overwrite` is not set, or is the original.
    ValueError
        If the recording is unfinished or packed already, or an option is out of range.
    SessionFileError
        If the data do not agree with their checksums.

    Examples
    --------
    >>> subject, stimuli = load_subject("builtin:language"), load_stimuli("builtin:stories")
    >>> session = record(subject, stimuli, "a.nwb", sites="mlp", progress=False)
    >>> packed = pack_session("a.nwb", "b.nwb", order="unit", progress=False)
    >>> site = "transformer.h.0.mlp.c_proj@in"
    >>> bool((packed[site] == session[site]).all())
    True
    """
    check_type("out", out, (str, os.PathLike), "a file name")
    check_option("order", order, ORDERS)
    check_type("level", level, int, "a whole number from 1 to 19")
    check_type("chunk_mb", chunk_mb, (int, float), "a number of megabytes up to 64")
    if not 1 <= level <= 19:
        raise ValueError(f"level={level} is out of range. Give a whole number from 1 to 19.")
    if not 0 < chunk_mb <= 64:
        raise ValueError(f"chunk_mb={chunk_mb} is out of range. Give a number above 0, up to 64.")
    _load_plugin()
    load_zstandard()
    session, out = open_session(path), Path(out).expanduser()
    _check_source(session)
    options = _Options(level, order, int(chunk_mb * 1e6))
    with FileLock(out):
        _check_target(session.path, out, overwrite)
        fresh = out.with_name(f".{out.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            _write(session, fresh, options, progress)
            os.replace(fresh, out)
            sync_folder(out.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
    return open_session(out)


def _load_plugin() -> None:
    """Tell HDF5 of the zstd filter, or say what to install."""
    try:
        import hdf5plugin  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(explain_missing(error), name=error.name) from error


def _check_source(session: Session) -> None:
    commits = session.commits
    if not commits.all():
        raise ValueError(
            f"path={str(session.path)!r} is unfinished: {commits.sum()} of {len(commits)} batches. "
            "Record it to its end (resume=True), then pack it."
        )
    if session.packing is not None:
        raise ValueError(f"path={str(session.path)!r} is packed already. Give the original.")


def _check_target(path: Path, out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise IsADirectoryError(f"out={str(out)!r} is a folder. Give a file name in it.")
    if not out.exists():
        return
    if os.path.samefile(path, out):
        raise FileExistsError(
            f"out={str(out)!r} is the original, which is never replaced. Choose another name."
        )
    if not overwrite or not is_session(out):
        way = "or replace it with overwrite=True" if is_session(out) else "it is no netphys session"
        raise FileExistsError(f"out={str(out)!r} exists. Choose another name, {way}.")


def _write(session: Session, path: Path, options: _Options, progress: bool) -> None:
    """Write the packed file at `path`."""
    chunks = {n: _choose_chunk(s, options) for n, s in session._series.items()}
    n_chunks = sum(len(list(_list_chunks(s, chunks[n]))) for n, s in session._series.items())
    block = compute_block_size(len(chunks) + 8 + n_chunks * 128 // _META_BLOCK)
    with (
        h5py.File(path, "x", userblock_size=block, meta_block_size=_META_BLOCK) as file,
        tqdm(
            total=session.site_table["megabytes"].sum(),
            desc=path.name[1:].removesuffix(".new"),
            unit="MB",
            disable=not progress,
            bar_format="{desc}: {percentage:3.0f}% {bar} {n:,.0f}/{total:,.0f} MB [{elapsed}]",
        ) as bar,
    ):
        with h5py.File(session.path, "r") as source:
            _copy_structure(source, file, chunks)
            _describe(source, file, options)
        for place, series in enumerate(session._series.values()):
            data = file[f"acquisition/{series.name}/data"].id
            _pack_series(session, place, series, data, options, bar)
        commit = (file[COMMIT].id.get_offset(), file[COMMIT].id.get_storage_size())
        ranges = [r for n in chunks for r in _find_ranges(file[f"acquisition/{n}/data"].id)]
    ranges = _join(ranges)
    fits = compute_block_size(len(ranges)) <= block
    save_header(path, block, ranges if fits else [], commit)  # else every byte is hashed at opening


def _choose_chunk(series: Series, options: _Options) -> tuple[int, int]:
    """Return rows and columns of a chunk."""
    size, n_rows, n_columns = series.stored.itemsize, max(series.n_rows, 1), series.n_columns
    if options.order == "unit":
        rows = min(n_rows, max(1, _SLAB_BYTES // (n_columns * size)))
        return rows, min(n_columns, max(1, options.chunk_bytes // (rows * size)))
    columns = min(n_columns, max(1, options.chunk_bytes // size))
    return min(n_rows, max(1, options.chunk_bytes // (columns * size))), columns


def _list_chunks(series: Series, chunk: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for row in range(0, series.n_rows, chunk[0]):
        for column in range(0, series.n_columns, chunk[1]):
            yield row, column


# ---------------------------------------------------------------- structure
def _copy_structure(source: h5py.File, file: h5py.File, chunks: dict[str, tuple]) -> None:
    """Copy everything but the data of the series, for which empty chunked datasets are made."""
    for name in source:
        if name != "acquisition":
            source.copy(name, file)
    acquisition = file.create_group("acquisition")
    for name, chunk in chunks.items():
        old, new = source[f"acquisition/{name}"], acquisition.create_group(name)
        for child in old:
            if child != "data":
                old.copy(child, new)
        _make_chunked(old["data"], new, chunk)
        _copy_attributes(old, new, file)
    for name in ("acquisition", "/"):
        _copy_attributes(source[name], file[name], file)


def _copy_attributes(old: h5py.HLObject, new: h5py.HLObject, file: h5py.File) -> None:
    """Copy attributes; those that point to an object point to its copy."""
    for key, value in old.attrs.items():
        if isinstance(value, h5py.Reference):
            value = file[old.file[value].name].ref
        new.attrs[key] = value


def _make_chunked(old: h5py.Dataset, group: h5py.Group, chunk: tuple[int, int]) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = old.id.get_type()  # also bfloat16, which numpy does not know
    if kind.get_size() > 1:
        plist.set_shuffle()
    plist.set_filter(ZSTD, h5py.h5z.FLAG_MANDATORY, (1,))
    space = h5py.h5s.create_simple(old.shape)
    new = h5py.Dataset(h5py.h5d.create(group.id, b"data", kind, space, plist))
    _copy_attributes(old, new, group.file)


def _describe(source: h5py.File, file: h5py.File, options: _Options) -> None:
    """Add how the file was packed, as one more NWB scratch object."""
    about = {
        "codec": "shuffle + zstd",
        "level": options.level,
        "order": options.order,
        "chunk_bytes": options.chunk_bytes,
        "netphys": read_version(),
        "created": datetime.now(UTC).isoformat(),
    }
    model = source["scratch/netphys_provenance"]
    made = file.create_dataset(PACKED, data=json.dumps(about), dtype=h5py.string_dtype())
    for key, value in model.attrs.items():
        made.attrs[key] = value
    made.attrs["notes" if "notes" in model.attrs else "description"] = "JSON: how it was packed"
    made.attrs["object_id"] = str(uuid.uuid4())


# ---------------------------------------------------------------- data
def _pack_series(
    session: Session,
    place: int,
    series: Series,
    data: h5py.h5d.DatasetID,
    options: _Options,
    bar: tqdm,
) -> None:
    """Compress the chunks of a series on all cores and write them in order."""
    n_batches = len(session.commits)
    sums = BatchSums(compute_bounds(session._row_batch(series.clock), n_batches))
    rows, columns = h5py.Dataset(data).chunks

    def cut() -> Iterator[tuple]:
        for row in range(0, series.n_rows, rows):
            slab = load_rows(session.path, series, row, min(row + rows, series.n_rows))
            sums.add(row, slab)
            if len(slab) < rows:  # HDF5 stores the chunks at the edge in full
                slab = np.concatenate(
                    [slab, np.zeros((rows - len(slab), slab.shape[1]), slab.dtype)]
                )
            for column in range(0, series.n_columns, columns):
                part = slab[:, column : column + columns]
                if part.shape[1] < columns:
                    part = np.pad(part, ((0, 0), (0, columns - part.shape[1])))
                yield (row, column), part

    def pack(job: tuple) -> tuple[tuple[int, int], bytes]:
        return job[0], pack_chunk(job[1], options.level)

    n_chunks = len(list(_list_chunks(series, (rows, columns))))
    for where, frame in map_ahead(pack, cut(), n_chunks):
        data.write_direct_chunk(where, frame)
        bar.update(series.megabytes / n_chunks)
    checksums = session.checksums
    if checksums is not None and (wrong := np.flatnonzero(sums.values != checksums[:, place])).size:
        raise SessionFileError(
            f"{session.path}: the data of {series.name} are damaged in batch {wrong[0]}"
            f"{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''}; nothing was packed. "
            "`netphys verify` lists all. Copy the file again from the origin, or record it again."
        )


def _find_ranges(data: h5py.h5d.DatasetID) -> Iterator[tuple[int, int]]:
    """Yield offset and length of every chunk in the file."""
    for i in range(data.get_num_chunks()):
        chunk = data.get_chunk_info(i)
        yield chunk.byte_offset, chunk.size


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch."""
    joined: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if joined and offset == joined[-1][0] + joined[-1][1]:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((offset, length))
    return joined
