"""Packed sessions: the same values for every reader, smaller; verify finds what was changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import xxhash
import zstandard
from conftest import make_model, make_stimuli
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import netphys
from netphys.cli import main
from netphys.data import _packed, pack
from netphys.data.nwb_header import SessionFileError, load_header, save_header
from netphys.data.nwb_layout import STATE
from netphys.data.pack import pack_session
from netphys.data.verify import verify_session

SITE = "transformer.h.0"
FILES = {
    "float32": {
        "store": ["samples", "trial.mean", "raster", "top"],
        "threshold": 0.0,
        "top_k": 3,
        "online": "moments",
    },
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "int8"},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, netphys.Session]:
    """One recording of each stored type, 60 trials in 31 batches."""
    folder, subject = tmp_path_factory.mktemp("raw"), netphys.load_subject(make_model("gpt2"))
    common = {"sites": ["resid", "mlp"], "batch_size": 2, "progress": False}
    return {
        name: netphys.record(
            subject, make_stimuli("gpt2", n=60), folder / f"{name}.nwb", **common, **options
        )
        for name, options in FILES.items()
    }


@pytest.fixture
def folder(tmp_path_factory) -> Path:
    """Return a folder whose files are not checked after the test: some are damaged there."""
    return tmp_path_factory.mktemp("folder")


@pytest.fixture
def copy(raw, folder) -> Path:
    return Path(shutil.copy(raw["float32"].path, folder / "copy.nwb"))


def assert_same(packed: netphys.Session, raw: netphys.Session) -> None:
    """Every site, however it is read, has the same values bit for bit and the same coordinates."""
    assert packed.sites == raw.sites and packed.complete
    for name in raw.sites:
        for got, want in (
            (packed[name], raw[name]),
            (packed.trials(name), raw.trials(name)),
            (packed.pool(name, how="max"), raw.pool(name, how="max")),
            (packed.to_dask(name).compute(), raw[name]),
        ):
            assert got.dtype == want.dtype and got.to_numpy().tobytes() == want.to_numpy().tobytes()
            assert got.identical(want)
        assert packed.units(name).equals(raw.units(name))
    assert packed.counts.equals(raw.counts) and packed.trial_table.equals(raw.trial_table)
    assert (packed.checksums == raw.checksums).all()
    for table in raw.online_tables:
        assert packed.online(table).identical(raw.online(table))


@pytest.mark.parametrize("order", ["sample", "unit"])
@pytest.mark.parametrize("kind", FILES)
def test_pack_keeps_every_value(kind, order, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "_SLAB_BYTES", 3000)  # several runs of rows
    before = raw[kind].path.read_bytes()
    packed = pack_session(
        raw[kind].path, tmp_path / "b.nwb", order=order, chunk_mb=0.0007, progress=False
    )
    assert raw[kind].path.read_bytes() == before
    with h5py.File(packed.path) as file:
        chunks = file[f"acquisition/{SITE}/data"].chunks
    n_rows, n_units = raw[kind][SITE].shape
    assert chunks[0] < n_rows and n_rows % chunks[0]  # several, the last over the edge
    assert chunks[1] == n_units if order == "sample" else chunks[1] < n_units
    assert_same(packed, raw[kind])
    assert verify_session(packed.path, progress=False).intact
    assert [p.name for p in tmp_path.iterdir()] == ["b.nwb"]


def test_packed_values_are_read_only_where_they_are_used(raw, folder, monkeypatch):
    monkeypatch.setattr(pack, "_SLAB_BYTES", 3000)
    packed = pack_session(
        raw["float32"].path, folder / "b.nwb", order="unit", chunk_mb=0.0003, progress=False
    )
    own, frames = _packed.unpack_chunk, []
    monkeypatch.setattr(_packed, "unpack_chunk", lambda *a: frames.append(1) or own(*a))
    data, want = packed[SITE], raw["float32"][SITE].to_numpy()
    assert not frames
    assert (data[:, 3].to_numpy() == want[:, 3]).all()
    few = len(frames)
    with h5py.File(packed.path) as file:
        chunks = file[f"acquisition/{SITE}/data"].chunks
    assert few == -(-len(want) // chunks[0])
    rows, units = np.array([200, 3, 3, 77, -1]), np.array([15, 0, 7])
    for key in (
        (slice(10, 90), slice(2, 9)),
        (slice(None, None, -3), 4),
        (rows, slice(None)),
        (slice(5, 6), units),
        (7, 2),
        (slice(9, 3), slice(None)),
    ):
        assert np.array_equal(data[key].to_numpy(), want[key])
    assert np.array_equal(data[rows][:, units].to_numpy(), want[np.ix_(rows, units)])
    assert np.array_equal(data[want[:, 0] > 0].to_numpy(), want[want[:, 0] > 0])
    assert np.array_equal(data.sel(unit=data["index"] > 11).to_numpy(), want[:, 12:])


def test_raster_of_a_packed_file_is_read_by_unit(raw, folder):
    packed = pack_session(raw["float32"].path, folder / "b.nwb", order="unit", progress=False)
    got, want = packed[f"{SITE}#raster"], raw["float32"][f"{SITE}#raster"]
    assert got.dtype == bool and np.array_equal(got[:, 9:14], want[:, 9:14])
    assert np.array_equal(got[[5, 2], 15], want[[5, 2], 15])
    units = np.array([15, 1, 8, 8, 0])
    assert np.array_equal(got[3:50:4][:, units], want[3:50:4][:, units])
    wide = packed["*.h.1.mlp.c_proj@in#raster"]
    assert np.array_equal(wide[:, [63, 2, 30]], raw["float32"][wide.name][:, [63, 2, 30]])


def test_pack_makes_activations_smaller(folder):
    """On a raster: the low bits of a random network's values are noise, which cannot be packed."""
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2", n=240)
    options = {"sites": "resid", "store": "raster", "threshold": 0.1, "progress": False}
    raw = netphys.record(subject, stimuli, folder / "a.nwb", **options)
    packed = pack_session(raw.path, folder / "b.nwb", progress=False)
    with h5py.File(packed.path) as file:
        data = file[f"acquisition/{SITE}#raster/data"]
        assert data.id.get_storage_size() < data.size
    assert "packed     " in packed.summary() and packed.to_dict()["packing"]["order"] == "sample"
    assert "packed" not in raw.summary() and raw.to_dict()["packing"] is None


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from(["<f2", "<f4", "<u2", "u1", "i1", "<f8"]),
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        elements=None,
    )
)
def test_a_chunk_comes_back_as_it_was(values):
    frame = _packed.pack_chunk(values, 1)
    back = _packed.unpack_chunk(frame, values.shape, values.dtype)
    assert back.tobytes() == values.tobytes()


def test_a_chunk_is_what_the_filters_of_hdf5_make(folder):
    """Written outside HDF5, read by it; and the other way round."""
    values = np.random.default_rng(0).normal(size=(40, 7)).astype("<f4")
    with h5py.File(folder / "a.h5", "w") as file:
        options = {"chunks": (40, 7), "shuffle": True, **hdf5plugin.Zstd(clevel=1)}
        ours = file.create_dataset("ours", (40, 7), "<f4", **options)
        ours.id.write_direct_chunk((0, 0), _packed.pack_chunk(values, 1))
        theirs = file.create_dataset("theirs", data=values, **options)
        assert (ours[:] == values).all()
        frame = theirs.id.read_direct_chunk((0, 0))[1]
    assert (_packed.unpack_chunk(frame, (40, 7), np.dtype("<f4")) == values).all()


# ---------------------------------------------------------------- what pack refuses
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": "units"}, ValueError, "order='units' is unknown.*Did you mean 'unit'"),
        ({"level": 0}, ValueError, "level=0 is out of range. Give a whole number from 1 to 19"),
        ({"level": 1.5}, TypeError, r"level=1\.5 is a float"),
        ({"chunk_mb": 0}, ValueError, "chunk_mb=0 is out of range"),
        ({"chunk_mb": 65}, ValueError, "chunk_mb=65 is out of range. Give a number above 0, up"),
        ({"chunk_mb": "1"}, TypeError, "chunk_mb='1' is a str"),
        ({"out": 3}, TypeError, "out=3 is an int"),
    ],
)
def test_pack_refuses_bad_options(options, error, message, raw, folder):
    options = {"out": folder / "b.nwb", "progress": False} | options
    with pytest.raises(error, match=message):
        pack_session(raw["float32"].path, **options)
    assert list(folder.iterdir()) == []


def test_pack_never_replaces_the_original(copy):
    link = copy.with_name("link.nwb")
    link.symlink_to(copy)
    before = copy.read_bytes()
    for out in (copy, link):
        with pytest.raises(FileExistsError, match="is the original, which is never replaced"):
            pack_session(copy, out, overwrite=True, progress=False)
    assert copy.read_bytes() == before
    link.unlink()


def test_pack_replaces_only_sessions_and_only_if_asked(raw, copy, folder):
    source = raw["float16"].path
    with pytest.raises(FileExistsError, match=r"exists. Choose another name, or replace it with"):
        pack_session(source, copy, progress=False)
    assert pack_session(source, copy, overwrite=True, progress=False).packing is not None
    other = folder / "notes.txt"
    other.write_text("mine")
    with pytest.raises(FileExistsError, match="it is no netphys session"):
        pack_session(source, other, overwrite=True, progress=False)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        pack_session(source, folder, overwrite=True, progress=False)
    assert other.read_text() == "mine"


def test_pack_refuses_what_is_unfinished_or_packed(copy, folder):
    pack_session(copy, folder / "b.nwb", progress=False)
    with pytest.raises(ValueError, match="is packed already"):
        pack_session(folder / "b.nwb", folder / "c.nwb", progress=False)
    change(copy, load_header(copy).commit[0] + 4, b"\0")
    with pytest.raises(ValueError, match=r"is unfinished: 30 of 31 batches. Record it to its end"):
        pack_session(copy, folder / "c.nwb", progress=False)
    assert not (folder / "c.nwb").exists()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_pack_leaves_nothing(kind, copy, monkeypatch):
    def stop(*_):
        raise kind

    monkeypatch.setattr(pack, "pack_chunk", stop)
    with pytest.raises((KeyboardInterrupt, OSError)):
        pack_session(copy, copy.with_name("b.nwb"), progress=False)
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_pack_refuses_damaged_data(copy):
    offset = netphys.open_session(copy)._series[SITE].offset
    change(copy, offset + 100)
    with pytest.raises(SessionFileError, match=rf"the data of {SITE} are damaged in batch 0; noth"):
        pack_session(copy, copy.with_name("b.nwb"), progress=False)
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_record_returns_a_packed_file_as_finished(raw, folder):
    path = folder / "b.nwb"
    pack_session(raw["bfloat16"].path, path, progress=False)
    before = path.read_bytes()
    subject = netphys.load_subject(make_model("gpt2"))
    session = netphys.record(
        subject, make_stimuli("gpt2", n=60), path, sites=["resid", "mlp"], batch_size=2,
        dtype="bfloat16", resume=True, progress=False,
    )  # fmt: skip
    assert session.packing is not None and path.read_bytes() == before


def test_packed_sessions_name_the_extra_that_they_need(raw, folder):
    pack_session(raw["float16"].path, folder / "b.nwb", progress=False)
    code = (
        "import sys; sys.modules['{0}'] = None\n"
        "import netphys; from netphys.data.pack import pack_session\n"
        "try:\n    {1}\nexcept ImportError as error:\n    print(error)"
    )
    path = str(folder / "b.nwb")
    for module, use in (
        ("zstandard", f"netphys.open_session({path!r})[{SITE!r}].to_numpy()"),
        ("hdf5plugin", f"pack_session({path!r}, {path + '.new'!r})"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module, use)], capture_output=True, text=True
        )
        assert f"a packed session needs '{module}', which is not installed" in done.stdout
        assert "pip install 'netphys[pack]'" in done.stdout, done.stderr


# ---------------------------------------------------------------- verify
def change(path: Path, place: int, value: bytes | None = None) -> None:
    """Change one byte of a file."""
    with open(path, "r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(value if value is not None else bytes([old[0] ^ 4]))


def test_verify_names_exactly_the_damaged_blocks(copy):
    session = netphys.open_session(copy)
    rng, expected = np.random.default_rng(), set()
    for name in session.sites:
        series = session._series[name]
        row_bytes = series.n_columns * series.stored.itemsize
        for row in rng.choice(series.n_rows, 3, replace=False):
            change(copy, series.offset + int(row) * row_bytes + int(rng.integers(row_bytes)))
            expected.add((int(session._row_batch(series.clock)[row]), name))
    found = verify_session(copy, progress=False)
    assert found.intact is False
    assert set(zip(found.damaged["batch"], found.damaged["site"], strict=True)) == expected
    assert (found.damaged["expected"] != found.damaged["found"]).all()
    assert found.n_blocks == 31 * len(session.sites)
    assert f"DAMAGED in {len(expected)} places" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["intact"] is False
    batch, name = expected.pop()  # that batch as xxhash sees it, from the values themselves
    rows = session._row_batch(session._series[name].clock) == batch
    stored = session._series[name].map(copy)[rows]
    row = found.damaged[(found.damaged.batch == batch) & (found.damaged.site == name)].iloc[0]
    assert row["found"] == f"{xxhash.xxh3_64_intdigest(stored.tobytes()):016x}"


def test_verify_reads_only_committed_batches(copy):
    session = netphys.open_session(copy)
    change(copy, load_header(copy).commit[0], b"\0")
    change(copy, session._series[SITE].offset)  # in batch 0
    found = verify_session(copy, progress=False)
    assert found.intact is True and (found.n_committed, found.n_batches) == (30, 31)
    assert found.n_blocks == 30 * len(session.sites)


def test_verify_in_small_pieces_finds_the_same(copy, monkeypatch):
    monkeypatch.setattr("netphys.data._checksums._PIECE_BYTES", 200)
    change(copy, netphys.open_session(copy)._series[SITE].offset + 5000)
    found = verify_session(copy, progress=False)
    assert len(found.damaged) == 1 and found.damaged["site"][0] == SITE


def test_verify_compares_online_statistics(copy):
    """Their states lie in the file twice; the tables that other readers see follow from them."""
    with h5py.File(copy) as file:
        at, (n_slots, size) = (file[STATE].id.get_offset(), file[STATE].shape)
        table = file[f"processing/online/{SITE}#moments"]
        mean_at = table["mean"].id.get_offset()
    change(copy, at + size - 20)
    change(copy, mean_at + 7)
    session = netphys.open_session(copy)
    assert session.online(f"{SITE}#moments")["mean"].notnull().all()  # of the other copy
    found = verify_session(copy, progress=False)
    assert found.damaged["batch"].tolist() == [-1, -1]
    assert found.damaged["site"][0] == f"online statistics, copy 1 of {n_slots}"
    assert found.damaged["site"][1] == f"{SITE}#moments, column mean"
    for slot in range(1, n_slots):
        change(copy, at + slot * size + 70)
    with pytest.raises(SessionFileError, match="the states of its online statistics are damaged"):
        session.online(f"{SITE}#moments")
    assert "a final state" in verify_session(copy, progress=False).summary()


def test_verify_says_when_there_are_no_checksums():
    found = verify_session(Path(__file__).parent / "files" / "layout_1.nwb", progress=False)
    assert found.intact is None and "a file of layout 1 holds no checksums" in found.summary()


def test_a_damaged_chunk_is_an_error_for_every_reader_and_found(raw, folder, monkeypatch):
    """A frame carries a checksum of its content: no reader is given wrong values."""
    monkeypatch.setattr(pack, "_SLAB_BYTES", 3000)
    path = folder / "b.nwb"
    packed = pack_session(raw["float32"].path, path, chunk_mb=0.002, progress=False)
    with h5py.File(path) as file:
        info = file[f"acquisition/{SITE}/data"].id.get_chunk_info(1)
    change(path, info.byte_offset + info.size - 2)
    with pytest.raises(SessionFileError, match=rf"the data of {SITE} are damaged near row \d+"):
        packed[SITE].to_numpy()
    with h5py.File(path) as file, pytest.raises(OSError, match="filter"):
        file[f"acquisition/{SITE}/data"][:]
    found = verify_session(path, progress=False)
    first, rows = info.chunk_offset[0], packed._series[SITE].chunk[0]
    batches = np.unique(packed._row_batch("token")[first : first + rows])
    assert found.damaged["batch"].tolist() == batches.tolist()
    assert set(found.damaged["found"]) == {"unreadable"} and set(found.damaged["site"]) == {SITE}


def test_a_chunk_that_is_not_there_is_named(raw, folder):
    """Of a file whose chunk index was written anew, with a right header."""
    path = folder / "b.nwb"
    pack_session(raw["float16"].path, path, progress=False)
    header = load_header(path)
    with h5py.File(path, "r+") as file:
        data = file[f"acquisition/{SITE}/data"]
        shape, attributes = data.shape, dict(data.attrs)
        del file[data.name]
        options = {"chunks": (8, 16), "shuffle": True, **hdf5plugin.Zstd(clevel=1)}
        new = file.create_dataset(f"acquisition/{SITE}/data", shape, "<f2", **options)
        new.attrs.update(attributes)
    save_header(path, header.block, [], header.commit)
    with pytest.raises(SessionFileError, match=rf"a chunk of {SITE} cannot be read"):
        netphys.open_session(path)[SITE].to_numpy()


def test_open_refuses_data_compressed_in_another_way(raw, folder):
    path = folder / "b.nwb"
    pack_session(raw["float16"].path, path, progress=False)
    header = load_header(path)
    with h5py.File(path, "r+") as file:
        data = file[f"acquisition/{SITE}/data"]
        values, attributes = data[:], dict(data.attrs)
        del file[data.name]
        new = file.create_dataset(f"acquisition/{SITE}/data", data=values, compression="gzip")
        new.attrs.update(attributes)
    save_header(path, header.block, [], header.commit)
    with pytest.raises(SessionFileError, match=f"{SITE} are compressed in another way"):
        netphys.open_session(path)


def test_a_frame_that_claims_another_size_takes_no_memory():
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(ValueError, match="another size than it should"):
        _packed.unpack_chunk(frame, (4, 4), np.dtype("f4"))


def test_header_of_a_packed_file_covers_everything_but_the_chunks(raw, folder):
    path = folder / "b.nwb"
    pack_session(raw["float16"].path, path, progress=False)
    header, original = load_header(path), path.read_bytes()
    inside = np.zeros(len(original), bool)
    for offset, length in header.mutable:
        inside[offset : offset + length] = True
    assert inside.sum() > 4000 and not inside[header.commit[0]]
    rng = np.random.default_rng(0)
    for place in rng.choice(np.flatnonzero(~inside), 200, replace=False):
        change(path, int(place))
        with pytest.raises(SessionFileError):
            netphys.open_session(path)
        path.write_bytes(original)


# ---------------------------------------------------------------- the command line
def test_verify_command(copy, raw, folder, capsys):
    intact, old = str(raw["float16"].path), str(Path(__file__).parent / "files" / "layout_1.nwb")
    assert main(["verify", intact, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{intact}: intact (124 blocks, ") and said.err == ""
    change(copy, netphys.open_session(copy)._series[SITE].offset)
    assert main(["verify", str(copy), intact, "--quiet", "--json"]) == 1
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["damaged"][0]["batch"] == 0 and second["intact"]
    assert main(["verify", old, "--quiet"]) == 1
    assert "cannot be verified" in capsys.readouterr().out


def test_verify_command_goes_on_after_a_damaged_header(copy, raw, capsys):
    change(copy, 60)
    assert main(["verify", str(copy), str(raw["int8"].path), "--quiet"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "DAMAGED: " in first and "damaged header" in first and ": intact" in second
    assert main(["verify", str(copy), "--json", "--quiet"]) == 1
    assert json.loads(capsys.readouterr().out)["intact"] is False


def test_pack_command(copy, capsys):
    assert main(["pack", str(copy), "--order", "unit", "--quiet"]) == 0
    out = copy.with_name("copy.packed.nwb")
    said = capsys.readouterr()
    assert f"Output: {out}" in said.out and "zstd level 1, in unit order" in said.out
    assert said.err == ""
    assert main(["info", str(out)]) == 0
    assert "packed     " in capsys.readouterr().out
    assert main(["pack", str(copy), "--quiet"]) == 1
    assert "overwrite" in capsys.readouterr().err
    assert main(["pack", str(copy), "--level", "99", "--quiet"]) == 1
    assert "level=99 is out of range" in capsys.readouterr().err
