"""Results: saved and read back as they were, cited, and refused where they are no results."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import xarray as xr

import netphys
from netphys.data.citations import ENTRIES, get_bibtex
from netphys.data.result import FORMAT, Result


class Other(Result):
    """A second kind of result."""


def make_result(**changes) -> Result:
    data = xr.DataArray(
        [[0.5, np.nan], [1.5, 2.5]],
        dims=("layer", "participant"),
        coords={"layer": ["a", "é"], "participant": [3, 7], "model": ("layer", ["m", "n"])},
        name="score",
        attrs={"units": "r", "n": 3, "checked": True, "kinds": ["a", "b"], "nothing": None},
    )
    stats = xr.Dataset(
        {"p": 2 * data, "best": ((), "a"), "good": ("layer", [True, False]), "n": 4},
        coords={"bound": ["lower", "upper"]},
        attrs={"level": 0.95},
    )
    fields = {
        "data": data,
        "stats": stats,
        "null": xr.DataArray(np.arange(6.0).reshape(3, 2), dims=("draw", "layer")),
        "params": {"rng": 3, "factors": ["stimuli"], "null": None},
        "provenance": {"subject": {"name": "x"}},
    }
    return Result(**(fields | changes))


def test_load_returns_what_was_saved(tmp_path):
    made = make_result()
    path = made.save(tmp_path / "folder" / "r.nc")
    read = Result.load(path)
    xr.testing.assert_identical(read.data, made.data)
    xr.testing.assert_identical(read.stats, made.stats)
    np.testing.assert_array_equal(read.null, made.null)
    assert read.null.dims == ("draw", "layer")
    assert read.params == made.params and read.provenance == made.provenance
    assert read.data["layer"].dtype.kind == "U" and read.stats["good"].dtype == bool
    assert [p.name for p in path.parent.iterdir()] == ["r.nc"]


def test_load_of_the_smallest_result(tmp_path):
    read = Result.load(Result(xr.DataArray(2.0)).save(tmp_path / "r.nc"))
    assert float(read.data) == 2.0 and read.null is None and not read.stats.data_vars
    assert read.data.name is None and read.params == {}


def test_saved_file_opens_in_any_netcdf_reader(tmp_path):
    path = make_result().save(tmp_path / "r.nc")
    with xr.open_dataset(path, group="data", engine="h5netcdf") as file:
        assert file["data"].attrs["units"] == "r"
        assert file["data"].sel(layer="é", participant=7) == 2.5


def test_save_replaces_only_when_told(tmp_path):
    path = make_result().save(tmp_path / "r.nc")
    with pytest.raises(FileExistsError, match=r"r\.nc exists\. .* overwrite=True"):
        make_result().save(path)
    make_result(params={"rng": 9}).save(path, overwrite=True)
    assert Result.load(path).params == {"rng": 9}


def test_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = make_result().save(tmp_path / "r.nc")
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        make_result(params={}).save(path, overwrite=True)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_load_refuses_what_is_no_result(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.nc does not exist"):
        Result.load(tmp_path / "none.nc")
    with pytest.raises(TypeError, match="Give the path of a result file"):
        Result.load(3)
    text, empty, plain, cut = (tmp_path / n for n in ("text.nc", "empty.nc", "plain.nc", "cut.nc"))
    text.write_text("hello" * 100)
    empty.touch()
    with h5py.File(plain, "w") as file:
        file["x"] = 1
    whole = make_result().save(tmp_path / "whole.nc").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    for path in (text, empty, cut):
        with pytest.raises(ValueError, match="is not a result file of netphys"):
            Result.load(path)
    with pytest.raises(ValueError, match="holds no result of netphys"):
        Result.load(plain)


def test_load_refuses_other_kinds_and_newer_formats(tmp_path):
    path = make_result().save(tmp_path / "r.nc")
    with pytest.raises(ValueError, match=r"holds Result, not Other\. Load it with Result\.load"):
        Other.load(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = FORMAT + 1
    with pytest.raises(ValueError, match=f"has format {FORMAT + 1}; this netphys reads up to"):
        Result.load(path)


def test_result_is_frozen_and_json_ready():
    result = make_result()
    with pytest.raises(AttributeError, match="cannot assign"):
        result.params = {}
    with pytest.raises(TypeError, match=r"params cannot be written as JSON .* int\(n\)"):
        make_result(params={"n": np.int64(3)})


def test_to_frame_has_a_row_per_value():
    table = make_result().to_frame()
    assert table.columns.tolist() == ["layer", "participant", "model", "score"]
    assert table["score"].tolist()[2:] == [1.5, 2.5]
    single = Result(xr.DataArray(2.0, coords={"layer": "a"})).to_frame()
    assert single.to_dict("records") == [{"layer": "a", "value": 2.0}]


def test_summary_methods_and_plot_of_the_base():
    result = make_result()
    assert repr(result) == result.summary() == "Result: 2 layer x 2 participant"
    paragraph, entries = result.methods().split("\n\n", 1)
    assert json.dumps(dict(result.params)) in paragraph
    assert entries.startswith("@misc{netphys,") and netphys.__version__ in entries
    with pytest.raises(TypeError, match="a Result has no plot of its own"):
        result.plot()


def test_get_bibtex_returns_entries_in_order():
    text = get_bibtex("schutt2023", "nili2014")
    assert text.index("@article{schutt2023,") == 0 < text.index("@article{nili2014,")
    assert "doi           = {10.7554/eLife.82566}," in text
    with pytest.raises(ValueError, match=r"key='nili2013' is unknown\. .* Did you mean 'nili2014'"):
        get_bibtex("nili2013")


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_entry_is_complete_bibtex(key):
    fields = ENTRIES[key]
    kind = fields["kind"]
    needed = {"article": "journal", "inproceedings": "booktitle"}
    if kind in needed:
        assert {"author", "title", "year", needed[kind]} <= set(fields)
        assert fields["year"] in key and ("doi" in fields or "eprint" in fields)
    text = get_bibtex(key)
    assert text.count("{") == text.count("}") and text.isascii()
    assert not fields.get("doi", "").startswith("http")


def test_every_result_cites_entries_of_the_table():
    import netphys.analysis.rsa
    import netphys.brain.match  # noqa: F401

    pending, found = [Result], set()
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        found |= set(kind.citations)
    assert found <= set(ENTRIES) and "nili2014" in found


def test_load_notices_a_changed_value(tmp_path):
    path = make_result().save(tmp_path / "r.nc")
    with h5py.File(path, "r+") as file:
        file["stats/p"][0, 0] = 9.0
    with pytest.raises(ValueError, match="is damaged: its values are not those that were saved"):
        Result.load(path)
