"""Reading a session: labels, selection, unfinished files, and everything that is not a session."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import check_nwb, make_model, make_stimuli

import netphys
from netphys.data.nwb_header import BLOCK, SessionFileError, compute_block_size, load_header


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> netphys.Session:
    path = tmp_path_factory.mktemp("session") / "a.nwb"
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    session = netphys.record(
        subject, stimuli, path, sites=["resid", "mlp", "head"], batch_size=2, progress=False
    )
    check_nwb(path)
    return session


@pytest.fixture
def copy(session, tmp_path):
    path = tmp_path / "copy.nwb"
    path.write_bytes(session.path.read_bytes())
    return path


def test_getitem_returns_one_site_with_labels(session):
    data = session["transformer.h.1"]
    assert data.dims == ("sample", "unit")
    assert data.attrs == {
        "units": "a.u.",
        "site": "transformer.h.1",
        "kind": "resid",
        "clock": "token",
    }
    assert data["layer"].to_numpy().tolist() == [1] * 16
    assert data["label"].to_numpy()[3] == "L01.resid.03"
    assert isinstance(data.variable._data, np.memmap) or data.to_numpy().base is not None


def test_getitem_takes_a_pattern_that_matches_one_site(session):
    assert session["transformer.h.0.mlp.c_proj@in"].name == session["*.h.0.mlp.c_proj@in"].name


def test_getitem_names_the_sites_when_several_match(session):
    with pytest.raises(KeyError, match=r"'resid' matches 2 sites: transformer\.h\.0, transformer"):
        session["resid"]
    with pytest.raises(KeyError, match=r"site='residd' is not in a\.nwb\. Did you mean 'resid'"):
        session["residd"]


def test_select_never_crosses_a_dot(session):
    assert list(session.select("transformer.h.*")) == ["transformer.h.0", "transformer.h.1"]
    assert list(session.select("mlp")) == [f"transformer.h.{i}.mlp.c_proj@in" for i in (0, 1)]
    with pytest.raises(KeyError, match="is not in"):
        session.select("transformer.*")


def test_trials_pads_with_nan_in_stimulus_order(session):
    data = session.trials("transformer.h.0")
    assert data.dims == ("trial", "time", "unit")
    assert data["stimulus_index"].to_numpy().tolist() == list(range(7))
    n = data["n_samples_token"].to_numpy()
    finite = np.isfinite(data.to_numpy()).all(axis=2).sum(axis=1)
    assert finite.tolist() == n.tolist() and data.sizes["time"] == n.max()


def test_units_say_which_head(session):
    units = session.units("transformer.h.0.attn.c_proj@in")
    assert units["head"].tolist() == [0] * 8 + [1] * 8


def test_samples_say_what_was_shown(session):
    samples = session.samples("token")
    stimuli = make_stimuli("gpt2")
    for trial, rows in samples.groupby("trial"):
        shown = [int(t) for t in stimuli.table["token_ids"][trial].split()]
        assert rows["token_id"].tolist() == shown
    with pytest.raises(KeyError, match=r"clock='word' is not in .* It has: \['token'\]"):
        session.samples("word")


def test_summary_is_json_and_html(session):
    facts = json.loads(json.dumps(session.to_dict()))
    assert facts["complete"] and facts["batches"] == {"planned": 4, "committed": 4}
    assert "transformer.h.0" in session._repr_html_() and "4 of 4 batches" in session.summary()


def test_session_never_changes_the_file(session):
    before = session.path.read_bytes()
    data = netphys.open_session(session.path)["transformer.h.0"]
    with pytest.raises(ValueError, match=r"copy|read-only"):
        data[0, 0] = 1.0
    assert session.path.read_bytes() == before


def test_session_works_without_torch(session):
    code = (
        "import sys; sys.modules['torch'] = None; import netphys\n"
        f"s = netphys.open_session({str(session.path)!r}); s.summary(); s.trials('*.h.0')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commit_bytes_are_read_anew(copy):
    session = netphys.open_session(copy)
    offset, n = load_header(copy).commit
    with open(copy, "r+b") as file:
        file.seek(offset + n - 1)
        file.write(b"\0")
    assert not session.complete
    assert session["transformer.h.0"].sizes["sample"] < session.site_table["n_samples"].iloc[0]


# ---------------------------------------------------------------- what is not a session
def test_open_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        netphys.open_session(tmp_path / "none.nwb")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        netphys.open_session(tmp_path)


@pytest.mark.damaged_files
def test_open_refuses_what_is_not_a_session(tmp_path):
    empty, text, plain = (tmp_path / n for n in ("empty.nwb", "text.nwb", "plain.nwb"))
    empty.touch()
    text.write_text("hello" * 100)
    with h5py.File(plain, "w") as file:
        file["x"] = 1
    for path in (empty, text, plain):
        with pytest.raises(SessionFileError, match="is not a netphys session"):
            netphys.open_session(path)


@pytest.mark.damaged_files
@pytest.mark.parametrize("keep", [10, 100, BLOCK, BLOCK + 1, -4096, -1])
def test_open_refuses_a_truncated_file(copy, keep):
    data = copy.read_bytes()
    copy.write_bytes(data[:keep])
    with pytest.raises(SessionFileError, match=r"cut short|damaged|is not a netphys session"):
        netphys.open_session(copy)


@pytest.mark.damaged_files
def test_open_refuses_a_newer_layout(copy):
    data = bytearray(copy.read_bytes())
    data[16:20] = struct.pack("<I", 3)
    copy.write_bytes(data)
    with pytest.raises(SessionFileError, match=r"has layout version 3; this netphys reads up to 2"):
        netphys.open_session(copy)


@pytest.mark.damaged_files
def test_open_refuses_any_flipped_byte_outside_the_data(copy):
    """HDF5 is never asked: a flipped byte in its structures can crash the library."""
    header, original = load_header(copy), copy.read_bytes()
    inside = np.zeros(len(original), bool)
    for offset, length in header.mutable:
        inside[offset : offset + length] = True
    rng = np.random.default_rng(0)
    outside = np.flatnonzero(~inside)
    places = [*range(0, 900, 7), *rng.choice(outside, 300, replace=False)]
    for place in places:
        data = bytearray(original)
        data[place] ^= 1 << int(rng.integers(8))
        copy.write_bytes(data)
        with pytest.raises(SessionFileError):
            netphys.open_session(copy)


def test_block_size_grows_with_the_number_of_ranges():
    assert compute_block_size(3) == BLOCK
    assert compute_block_size(400) == 4 * BLOCK


def test_a_session_notices_that_its_file_was_replaced(tmp_path):
    subject, stimuli = netphys.load_subject(make_model("gpt2")), make_stimuli("gpt2")
    path = tmp_path / "a.nwb"
    old = netphys.record(subject, stimuli, path, progress=False)
    twin = netphys.load_subject(subject.model, init="shuffled")
    netphys.record(twin, stimuli, path, overwrite=True, progress=False)
    with pytest.raises(SessionFileError, match="was replaced since it was opened"):
        old["transformer.h.0"]


def test_samples_carry_their_stimulus_and_condition(session):
    data = session["transformer.h.0"]
    stimuli = make_stimuli("gpt2")
    conditions = stimuli.table["condition"].to_numpy()[data["trial"].to_numpy()]
    assert data["condition"].to_numpy().tolist() == conditions.tolist()


def test_files_of_layout_1_stay_readable():
    """A file made when the layout was fixed; it must open in every later version."""
    path = Path(__file__).parent / "files" / "layout_1.nwb"
    session = netphys.open_session(path)
    assert session.complete and session.sites == ["transformer.h.0"]
    assert session.site_table["dtype"].tolist() == ["bfloat16"]
    sums = session.trials("resid").sum(("time", "unit"))
    np.testing.assert_allclose(sums, [-0.35940027, -0.66430664, -0.49171215], rtol=1e-5)
    assert sums["condition"].to_numpy().tolist() == ["x", "y", "x"]
    check_nwb(path)


@pytest.mark.damaged_files
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(commit=[f["commit"][0] + 1, 2]), "commit bytes are not where the head"),
        (lambda f: f.update(mutable=f["mutable"][::-1]), "has a damaged header"),
        (lambda f: f.update(mutable=[[-4096, 8]]), "has a damaged header"),
        (lambda f: f.update(mutable=[[4096, 2**50]]), "has a damaged header"),
        (lambda f: f.update(block=64), "has a damaged header"),
        (lambda f: f.update(sha256=None), "has a damaged header"),
        (lambda f: f.update(more=1), "has a damaged header"),
        (lambda f: f.pop("commit"), "has a damaged header"),
    ],
)
def test_open_refuses_a_header_that_no_file_can_have(change, message, copy):
    """Its own checksum is right; what it says is not."""
    data = copy.read_bytes()
    magic, version, length, _ = struct.unpack("<16sII32s", data[:56])
    fields = json.loads(data[56 : 56 + length])
    change(fields)
    text = json.dumps(fields).encode()
    head = struct.pack("<16sII32s", magic, version, len(text), hashlib.sha256(text).digest())
    block = load_header(copy).block
    copy.write_bytes((head + text).ljust(block, b"\0") + data[block:])
    with pytest.raises(SessionFileError, match=message):
        netphys.open_session(copy)
