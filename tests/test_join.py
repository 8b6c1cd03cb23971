"""Files of several ranks joined: row by row what one process records, and never silent fill."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from conftest import make_model, make_stimuli
from test_ranks import check_same_bytes, check_same_statistics, run_torchrun

import netphys
from netphys.cli import main
from netphys.data.join import join_sessions
from netphys.data.nwb_header import SessionFileError
from netphys.data.pack import pack_session
from netphys.data.verify import verify_session
from netphys.recording import record as record_module
from netphys.recording.ranks import Ranks

NAME = "transformer.h.1"
FORMS = {
    "sites": ["resid", "mlp"],
    "store": ["samples", "raster", "trial.mean", "top"],
    "threshold": 0.1,
    "top_k": 3,
    "batch_size": 2,
    "online": ["moments", "sparsity"],
    "progress": False,
}


class OneAfterTheOther(Ranks):
    """Ranks of one process: each records when the one before has ended."""

    def wait(self, name):
        pass


def record_parts(path, monkeypatch, *, n_ranks=3, model="gpt2", n=14, stimuli=None, **options):
    """Record each share into a file of its own; return the files and what one process records."""
    subject = netphys.load_subject(make_model(model))
    stimuli = make_stimuli(model, n=n) if stimuli is None else stimuli
    options = FORMS | options
    if options["store"] != FORMS["store"]:
        options = {k: v for k, v in options.items() if k not in ("threshold", "top_k")}
    whole = netphys.record(subject, stimuli, path.with_name("whole.nwb"), **options)
    files = []
    for rank in range(n_ranks):
        ranks = OneAfterTheOther(rank, n_ranks)
        monkeypatch.setattr(record_module, "join_ranks", lambda r=ranks: r)
        part = netphys.record(subject, stimuli, path, files="per-rank", **options)
        assert part.path == path.with_name(f"a.rank{rank}.nwb")
        files.append(part.path)
    monkeypatch.undo()
    return files, whole


def remove(folder, *names):
    """Remove sessions, so that other tools need not read them all at the end of a test."""
    for path in folder.rglob("*.nwb") if not names else (folder / n for n in names):
        path.unlink()


def check_joined(joined, whole):
    check_same_bytes(joined, whole)
    check_same_statistics(joined, whole, 1e-6)
    for clock in whole.clocks:
        assert joined.samples(clock).equals(whole.samples(clock))
    with h5py.File(joined.path) as one, h5py.File(whole.path) as two:
        for name in whole.sites:
            assert joined.units(name).equals(whole.units(name))
            a, b = one[f"acquisition/{name}"], two[f"acquisition/{name}"]
            times = "timestamps" if "timestamps" in b else "starting_time"
            np.testing.assert_array_equal(a[times][()], b[times][()])
            assert dict(a[times].attrs).get("rate") == dict(b[times].attrs).get("rate")
            np.testing.assert_array_equal(a["data"][:], b["data"][:])  # as HDF5 reads it
        columns = one["processing/samples/token"]
        for column in columns.attrs["colnames"]:
            about = columns[column].attrs["description"]
            assert about == two[f"processing/samples/token/{column}"].attrs["description"]
    assert joined.provenance["plan"] == whole.provenance["plan"]
    assert joined.title == whole.title
    assert joined.trials(NAME).equals(whole.trials(NAME))


@pytest.mark.parametrize("copy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_joined_files_equal_one_recording_row_by_row(copy, tmp_path, monkeypatch):
    files, whole = record_parts(tmp_path / "a.nwb", monkeypatch)
    joined = join_sessions([files[2], files[0], files[1]], tmp_path / "joined.nwb", copy=copy)
    check_joined(joined, whole)
    assert verify_session(joined.path, progress=False).intact
    size = joined.path.stat().st_size
    assert (size > sum(s for s in whole.site_table["megabytes"]) * 1e6) or not copy
    packed = pack_session(joined.path, tmp_path / "packed.nwb", progress=False)
    check_same_bytes(packed, whole)
    rows = np.array([40, 3, 17, 3])
    np.testing.assert_array_equal(joined[NAME][rows], whole[NAME][rows])
    np.testing.assert_array_equal(joined[NAME][5:30, [4, 1]], whole[NAME][5:30, [4, 1]])
    lazy = joined.to_dask(NAME, chunk_mb=0.001)
    np.testing.assert_array_equal(lazy.compute(), whole[NAME])
    if copy:
        for file in files:
            file.unlink()
        check_same_bytes(netphys.open_session(joined.path), whole)
    remove(tmp_path, "packed.nwb", "whole.nwb")


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_joined_files_of_other_types(dtype, tmp_path, monkeypatch):
    files, whole = record_parts(
        tmp_path / "a.nwb", monkeypatch, store="samples", dtype=dtype, online=()
    )
    joined = join_sessions(files, tmp_path / "joined.nwb")
    check_same_bytes(joined, whole)
    assert joined.site_table.equals(whole.site_table)


def test_joined_statistics_without_activations(tmp_path, monkeypatch):
    files, whole = record_parts(tmp_path / "a.nwb", monkeypatch, store=None)
    joined = join_sessions(files, tmp_path / "joined.nwb")
    check_same_statistics(joined, whole, 1e-6)
    for file in files:  # it needs them no more
        file.unlink()
    assert netphys.open_session(joined.path).online(f"{NAME}#moments").attrs["n_trials"] == 14


def test_words_and_texts_with_contexts_are_joined(tmp_path, monkeypatch):
    import pandas as pd

    texts = [f"The dog saw {i} {'fat ' * (i % 3)}cats today." for i in range(9)]
    contexts = ["", "It was late.", ""] * 3
    stimuli = netphys.load_stimuli(pd.DataFrame({"text": texts, "context": contexts}))
    subject = netphys.load_subject("builtin:language")
    options = {"sites": ["resid"], "store": ["samples", "word.mean"], "batch_size": 2}
    whole = netphys.record(subject, stimuli, tmp_path / "w.nwb", progress=False, **options)
    files = []
    for rank in range(2):
        monkeypatch.setattr(record_module, "join_ranks", lambda r=rank: OneAfterTheOther(r, 2))
        part = netphys.record(
            subject, stimuli, tmp_path / "a.nwb", files="per-rank", progress=False, **options
        )
        files.append(part.path)
    joined = join_sessions(files, tmp_path / "joined.nwb")
    check_same_bytes(joined, whole)
    for clock in whole.clocks:
        assert joined.samples(clock).equals(whole.samples(clock))
    with h5py.File(joined.path) as one, h5py.File(whole.path) as two:
        name = "acquisition/transformer.h.0#word.mean/timestamps"
        np.testing.assert_array_equal(one[name][:], two[name][:])
    remove(tmp_path)


@pytest.mark.damaged_files
def test_a_missing_moved_or_changed_part_is_named(tmp_path, monkeypatch):
    files, whole = record_parts(tmp_path / "a.nwb", monkeypatch, n_ranks=2, online=())
    path = tmp_path / "joined.nwb"
    joined = join_sessions(files, path)
    away = tmp_path / "away.nwb"
    files[1].rename(away)
    with pytest.raises(SessionFileError, match=r"data in 'a\.rank1\.nwb', which is not there"):
        netphys.open_session(path)
    with pytest.raises(SessionFileError, match=r"data in 'a\.rank1\.nwb', which is not there"):
        joined[NAME].to_numpy()
    with h5py.File(path) as file:  # what plain HDF5 makes of it
        assert np.isnan(file[f"acquisition/{NAME}/data"][-1]).all()
    files[1].write_bytes(away.read_bytes() + b"x")
    with pytest.raises(SessionFileError, match=r"rank1\.nwb was changed or replaced"):
        netphys.open_session(path)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(SessionFileError, match=r"rank1\.nwb was changed or replaced"):
        netphys.open_session(path)
    damaged = bytearray(away.read_bytes())
    damaged[netphys.open_session(away)._series[NAME].offset + 5] ^= 1
    files[1].write_bytes(damaged)
    found = verify_session(path, progress=False)
    assert found.damaged["site"].tolist() == [NAME]
    with pytest.raises(SessionFileError, match=r"rank1\.nwb: the data of .* are damaged in batch"):
        join_sessions(files, tmp_path / "copy.nwb", copy=True)
    files[1].unlink()
    away.rename(files[1])
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for file in (*files, path):  # all together they may move
        file.rename(folder / file.name)
    check_same_bytes(netphys.open_session(folder / "joined.nwb"), whole)


def test_join_refuses_what_does_not_fit(tmp_path, monkeypatch):
    files, whole = record_parts(tmp_path / "a.nwb", monkeypatch, n_ranks=2, online=())
    (tmp_path / "b").mkdir()
    others, _ = record_parts(tmp_path / "b/a.nwb", monkeypatch, n_ranks=2, n=12, online=())
    out = tmp_path / "joined.nwb"
    cases = [
        ([files[0]], r"parts of the ranks \[0\], needed is each of \[0, 1\] once"),
        ([], r"parts of the ranks \[\], needed is each of \[0\] once"),
        ([files[0], files[0]], r"parts of the ranks \[0, 0\]"),
        ([whole.path], "was not recorded with files='per-rank'"),
        ([files[0], others[1]], "are not of one recording: they differ in 'presentation'"),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            join_sessions(given, out)
    packed = pack_session(files[0], tmp_path / "p.nwb", progress=False)
    with pytest.raises(ValueError, match=r"is packed\. Give the original"):
        join_sessions([packed.path, files[1]], out)
    joined = join_sessions(files, out)
    with pytest.raises(ValueError, match="was not recorded with files='per-rank'"):
        join_sessions([joined.path], tmp_path / "c.nwb")
    with pytest.raises(FileExistsError, match="or replace it with overwrite=True"):
        join_sessions(files, out)
    with pytest.raises(FileExistsError, match="is one of the files"):
        join_sessions(files, files[0], overwrite=True)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        join_sessions(files, tmp_path)
    join_sessions(files, out, overwrite=True)
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("*.lock"))
    remove(tmp_path)


def test_an_unfinished_part_is_resumed_and_not_joined(tmp_path, monkeypatch):
    files, _ = record_parts(tmp_path / "a.nwb", monkeypatch, n_ranks=2, online=())
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2", n=14)
    files[1].unlink()
    calls = iter(range(100))

    def interrupt(module, inputs):
        if next(calls) == 4:
            raise KeyboardInterrupt

    handle = subject.model.register_forward_pre_hook(interrupt)
    monkeypatch.setattr(record_module, "join_ranks", lambda: OneAfterTheOther(1, 2))
    options = FORMS | {"online": (), "files": "per-rank", "commit_batches": 1}
    with pytest.raises(KeyboardInterrupt):
        netphys.record(subject, stimuli, tmp_path / "a.nwb", **options)
    handle.remove()
    with pytest.raises(ValueError, match=r"is unfinished \(\d of \d batches\)"):
        join_sessions(files, tmp_path / "joined.nwb")
    monkeypatch.setattr(record_module, "join_ranks", lambda: OneAfterTheOther(1, 3))
    with pytest.raises(ValueError, match=r"cannot be resumed: share\.ranks was 2 and is now 3"):
        netphys.record(subject, stimuli, tmp_path / "a.nwb", resume=True, **options)
    monkeypatch.setattr(record_module, "join_ranks", lambda: OneAfterTheOther(1, 2))
    netphys.record(subject, stimuli, tmp_path / "a.nwb", resume=True, **options)
    assert join_sessions(files, tmp_path / "joined.nwb").complete
    remove(tmp_path)


def test_more_ranks_than_batches_and_unknown_files_are_refused(tmp_path, monkeypatch, gpt2, tokens):
    monkeypatch.setattr(record_module, "join_ranks", lambda: OneAfterTheOther(0, 99))
    with pytest.raises(ValueError, match="files='per-rank': 99 ranks cannot share"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", files="per-rank", progress=False)
    with pytest.raises(ValueError, match="files='many' is unknown"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", files="many")


@pytest.mark.slow
def test_command_line_records_per_rank_and_joins(tmp_path, capsys):
    sentences = tmp_path / "s.tsv"
    sentences.write_text("text\n" + "".join(f"The dog saw {n} cats.\n" for n in range(12)))
    path = tmp_path / "a.nwb"
    command = ["record", "builtin:language", sentences, path, "--batch-size", 2]
    code, out, said = run_torchrun("-m", "netphys", *command, "--files", "per-rank", "--quiet")
    assert code == 0, said
    assert f"netphys join {path} {tmp_path / 'a.rank*.nwb'}" in out
    files = sorted(map(str, tmp_path.glob("a.rank*.nwb")))
    assert len(files) == 2 and not path.exists()
    assert main(["join", str(path), *files]) == 0
    assert "6 of 6 batches, complete" in capsys.readouterr().out
    assert main(["join", str(path), *files]) == 1
    assert "or replace it with --overwrite" in capsys.readouterr().err
    assert main(["join", str(path), *files, "--overwrite", "--copy"]) == 0
