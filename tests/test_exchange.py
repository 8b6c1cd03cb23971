"""RDMs to rsatoolbox, text files and HDF5 and back: labels, order, NaN and several dims."""

from __future__ import annotations

import json
import sys
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys.analysis.exchange import from_rsatoolbox, load_csv, save_csv, to_rsatoolbox
from netphys.analysis.rdm_tools import average_rdms, transform_rdm
from netphys.analysis.rsa import RDM, compute_rdm, to_rdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import rsatoolbox.rdm

NAN = np.nan


def make_rdm(n=4, n_people=2, n_layers=3, seed=0) -> RDM:
    """Several dims with text and number labels, other coordinates, NaN, an unknown condition."""
    rng = np.random.default_rng(seed)
    values = rng.random((n_people, n_layers, n * (n - 1) // 2)) - 0.2
    values[0, 1, 1] = NAN
    values[1, 0, : n - 1] = NAN
    rdm = to_rdm(
        values,
        conditions=[f"c{k}" for k in rng.permutation(n)],
        dims=["participant", "layer"],
        coords={
            "participant": [f"s{k}" for k in range(n_people)],
            "layer": [f"h.{k}" for k in range(n_layers)],
        },
        metric="correlation",
        units="dissimilarity (1 - r)",
    )
    data = rdm.data.copy()
    data[0, 0, 1, 0] = NAN  # the diagonal of a condition without any known pair
    coords = {
        "kind": ("layer", ["embed"] + ["resid"] * (n_layers - 1)),
        "age": ("participant", [20.5 + k for k in range(n_people)]),
        "n_units": (("participant", "layer"), rng.integers(5, 9, (n_people, n_layers))),
        "model": "gpt2",
    }
    return RDM(data.assign_coords(coords), params=rdm.params, provenance={"order": "iid"})


def check_same(read: RDM, rdm: RDM) -> None:
    xr.testing.assert_identical(read.data, rdm.data)
    assert read.data.attrs == rdm.data.attrs and read.conditions == rdm.conditions
    assert {k: v.dtype.kind for k, v in read.data.coords.items()} == {
        k: v.dtype.kind for k, v in rdm.data.coords.items()
    }


# ---------------------------------------------------------------------- rsatoolbox
def test_to_rsatoolbox_by_hand():
    rdm = to_rdm(
        np.array([[1.0, 2, 3], [4, NAN, 6]]),
        conditions=list("cab"),
        dims=["participant"],
        coords={"participant": ["x", "y"]},
        metric="crossnobis",
    )
    rdms = to_rsatoolbox(rdm)
    np.testing.assert_array_equal(rdms.dissimilarities, [[1, 2, 3], [4, NAN, 6]])
    assert rdms.dissimilarity_measure == "crossnobis"
    assert rdms.rdm_descriptors["participant"] == ["x", "y"]
    assert list(rdms.pattern_descriptors["condition"]) == list("cab")
    rdms.dissimilarities[:] = 0
    assert float(rdm.data[0, 1, 0]) == 1


def test_rsatoolbox_round_trip_keeps_everything(tmp_path):
    rdm = make_rdm()
    rdms = to_rsatoolbox(rdm)
    assert rdms.n_rdm == 6 and isinstance(rdms, rsatoolbox.rdm.RDMs)
    assert rdms.rdm_descriptors["layer"] == ["h.0", "h.1", "h.2"] * 2
    assert rdms.rdm_descriptors["age"] == [20.5] * 3 + [21.5] * 3
    rdms.save(tmp_path / "theirs.h5")
    for made in (rdms, rsatoolbox.rdm.load_rdm(str(tmp_path / "theirs.h5"), "hdf5")):
        read = from_rsatoolbox(made)
        check_same(read, rdm)
        assert read.params == rdm.params and read.provenance == rdm.provenance
    single = to_rdm(np.arange(3.0), conditions=list("bca"))
    check_same(from_rsatoolbox(single.to_rsatoolbox()), single)


def test_reference_values_are_those_that_rsatoolbox_computes():
    x = np.random.default_rng(0).normal(size=(5, 8))
    data = xr.DataArray(x, {"stimulus_id": ("trial", list("edcba"))}, ("trial", "unit"))
    for metric, theirs in {"euclidean": "euclidean", "correlation": "correlation"}.items():
        dataset = rsatoolbox.data.Dataset(x, obs_descriptors={"name": list("edcba")})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rdms = rsatoolbox.rdm.calc_rdm(dataset, theirs)
        own = compute_rdm(data, metric=metric)
        made = to_rsatoolbox(own)
        assert made.dissimilarity_measure == rdms.dissimilarity_measure
        np.testing.assert_allclose(made.dissimilarities, rdms.dissimilarities, atol=1e-12)
        read = from_rsatoolbox(rdms)
        assert read.conditions == list("edcba") and read.params["metric"] == metric
        assert read.data.attrs["units"] == own.data.attrs["units"]
        np.testing.assert_allclose(read.data.isel(participant=0), own.data, atol=1e-12)


def test_from_rsatoolbox_reads_what_its_functions_made():
    rdm = make_rdm()
    rdms = rdm.to_rsatoolbox()
    part = from_rsatoolbox(rdms.subset("layer", ["h.2", "h.0"]))
    xr.testing.assert_equal(part.data, rdm.select(layer=["h.0", "h.2"]).data)
    some = from_rsatoolbox(rdms.subset_pattern("condition", [*rdm.conditions[:3]]))
    assert some.conditions == rdm.conditions[:3]
    people = [rdm.select(participant=[p]).to_rsatoolbox() for p in ("s1", "s0")]
    joined = from_rsatoolbox(rsatoolbox.rdm.concat(people))
    xr.testing.assert_equal(joined.data, rdm.select(participant=["s1", "s0"]).data)
    ranked = from_rsatoolbox(rsatoolbox.rdm.rank_transform(rdms))
    assert ranked.params == {"metric": "correlation (ranks) (rsatoolbox)", "source": "stored"}
    assert to_rsatoolbox(ranked).dissimilarity_measure == "correlation (ranks)"
    own = transform_rdm(rdm, how="rank")
    np.testing.assert_array_equal(
        ranked.data.fillna(0.0).to_numpy(), own.data.fillna(0.0).to_numpy()
    )
    assert to_rsatoolbox(own).dissimilarity_measure == "correlation (ranks)"
    mean = from_rsatoolbox(rdms.mean(), dim="seed")
    assert mean.extra_dims == ("seed",) and mean.data["seed"].to_numpy().tolist() == [0]


def test_transforms_have_the_names_of_rsatoolbox():
    rdm = to_rdm(np.arange(3.0), conditions=list("abc"), metric="euclidean")
    root = transform_rdm(rdm, how="sqrt")
    theirs = rsatoolbox.rdm.sqrt_transform(to_rsatoolbox(rdm))
    assert to_rsatoolbox(root).dissimilarity_measure == theirs.dissimilarity_measure == "euclidean"
    read = from_rsatoolbox(theirs)
    assert read.params["metric"] == "euclidean (rsatoolbox)"  # not our squared one
    check_same(from_rsatoolbox(to_rsatoolbox(root)), root)
    named = to_rdm(np.arange(3.0), conditions=list("abc"), metric="poisson-cv")
    assert to_rsatoolbox(named).dissimilarity_measure == "poisson_cv"
    cubic = transform_rdm(transform_rdm(named, how="minmax"), how="sqrt")
    assert to_rsatoolbox(cubic).dissimilarity_measure == "sqrt of poisson_cv (minmax)"


def make_theirs(**options):
    values = np.arange(6.0).reshape(2, 3)
    return rsatoolbox.rdm.RDMs(values, **options)


def test_from_rsatoolbox_finds_labels_and_coordinates():
    read = from_rsatoolbox(make_theirs())
    assert read.conditions == ["0", "1", "2"] and read.params["metric"] == "as stored"
    assert read.data["participant"].to_numpy().tolist() == [0, 1]
    rdms = make_theirs(
        rdm_descriptors={"session": ["m", "n"], "age": [3, 4], "extra": [None, [1]]},
        pattern_descriptors={"stim": ["b", "a", "c"]},
        dissimilarity_measure="squared mahalanobis",
    )
    read = from_rsatoolbox(rdms, dim="session")
    assert read.conditions == ["b", "a", "c"]
    assert read.params == {"metric": "mahalanobis", "source": "stored"}
    assert read.data["session"].to_numpy().tolist() == ["m", "n"]
    assert read.data["age"].dims == ("session",) and "extra" not in read.data.coords
    assert from_rsatoolbox(
        make_theirs(pattern_descriptors={"x": list("abc"), "y": list("cde")}), by="y"
    ).conditions == list("cde")


def test_from_rsatoolbox_refuses():
    with pytest.raises(TypeError, match="Give an RDMs object of rsatoolbox"):
        from_rsatoolbox(np.ones((2, 3)))
    two = make_theirs(pattern_descriptors={"x": list("abc"), "y": list("aab")})
    with pytest.raises(ValueError, match=r"several pattern descriptors: x, y.*by='x'"):
        from_rsatoolbox(two)
    with pytest.raises(ValueError, match="by='z' is not a pattern descriptor"):
        from_rsatoolbox(two, by="z")
    with pytest.raises(ValueError, match="conditions holds 'a' twice"):
        from_rsatoolbox(two, by="y")
    with pytest.raises(ValueError, match="not every combination of participant and layer once"):
        from_rsatoolbox(make_rdm().to_rsatoolbox()[[0, 1, 2, 4]])
    with pytest.raises(ValueError, match="not every combination of participant once"):
        from_rsatoolbox(make_theirs(rdm_descriptors={"participant": ["p", "p"]}))


def test_to_rsatoolbox_names_what_to_install(monkeypatch):
    for name in [m for m in sys.modules if m.startswith("rsatoolbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    with pytest.raises(ImportError, match=r"pip install 'netphys\[rsatoolbox\]'"):
        to_rsatoolbox(make_rdm())
    with pytest.raises(TypeError, match="Give an RDM"):
        to_rsatoolbox(np.ones(3))


# ---------------------------------------------------------------------- text files
def test_csv_round_trip_keeps_labels_order_and_values(tmp_path):
    rdm = make_rdm()
    path = rdm.to_csv(tmp_path / "new" / "r.csv")
    read = load_csv(path)
    check_same(read, rdm)
    assert read.params == rdm.params and read.provenance == rdm.provenance
    table = pd.read_csv(path)
    assert table.columns.tolist()[:4] == ["condition", "condition_2", "participant", "layer"]
    assert {"layer.kind", "participant.age", "participant.layer.n_units", ".model"} < set(table)
    off = table[table["condition"] != table["condition_2"]]
    expected = rdm.to_frame()
    np.testing.assert_array_equal(off["dissimilarity"], expected["dissimilarity"])
    assert len(table) == len(expected) + 1 and not list(path.parent.glob("*.part"))


def test_csv_round_trip_without_other_dims_and_with_odd_labels(tmp_path):
    labels = ["a, b", 'say "x"', "NA", "ünï", "1"]
    rdm = to_rdm(np.arange(10.0) / 3, conditions=labels)
    check_same(load_csv(save_csv(rdm, tmp_path / "r.csv")), rdm)
    numbers = to_rdm(
        np.arange(6.0).reshape(2, 3),
        conditions=list("abc"),
        dims=["time"],
        coords={"time": [0.1, 0.30000000000000004]},
    )
    check_same(load_csv(save_csv(numbers, tmp_path / "n.csv")), numbers)
    texts = to_rdm(
        np.arange(6.0).reshape(2, 3),
        conditions=list("abc"),
        dims=["participant"],
        coords={"participant": ["01", "02"]},
    )
    check_same(load_csv(save_csv(texts, tmp_path / "t.csv")), texts)
    alike = texts.data.assign_coords(participant=["1", "2"])
    path = save_csv(to_rdm(alike), tmp_path / "a.csv")
    assert load_csv(path).data["participant"].to_numpy().tolist() == [1, 2]
    check_same(load_csv(path, text=["participant"]), to_rdm(alike))


def test_csv_keeps_that_conditions_are_ordered(tmp_path):
    rdm = RDM(to_rdm(np.arange(3.0), conditions=list("abc")).data, provenance={"order": "ordered"})
    assert load_csv(save_csv(rdm, tmp_path / "r.csv")).provenance == {"order": "ordered"}


def test_csv_of_constant_patterns(tmp_path):
    x = np.array([[1.0, 1, 1], [1, 2, 4], [3, 1, 2]])
    data = xr.DataArray(x, {"stimulus_id": ("trial", list("abc"))}, ("trial", "unit"))
    rdm = compute_rdm(data)
    read = load_csv(save_csv(rdm, tmp_path / "r.csv"))
    xr.testing.assert_equal(read.data, rdm.data)
    xr.testing.assert_equal(from_rsatoolbox(to_rsatoolbox(rdm)).data, rdm.data)


PLAIN = "condition,condition_2,dissimilarity\n"
PEOPLE = "participant,condition,condition_2,dissimilarity\n"


def test_load_csv_reads_tables_of_others(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(f"{PLAIN}b,a,1.5\nc,b,\nc,a,NaN\n", encoding="utf-8")
    rdm = load_csv(path)
    assert rdm.conditions == list("bac") and float(rdm.data[0, 1]) == 1.5
    assert int(rdm.data.isnull().sum()) == 4 and rdm.params["metric"] == "as stored"
    path.write_text(f"\ufeff{PLAIN}b,a,1.5\n", encoding="utf-8")  # as a spreadsheet writes it
    assert load_csv(path).conditions == ["b", "a"]
    path.write_text("rater," + PLAIN + "x,a,b,1\ny,b,a,2\n", encoding="utf-8")
    assert load_csv(path, dims=["rater"]).data.sel(rater="y").to_numpy()[0, 1] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("condition,condition_2,disimilarity\na,b,1\n", "no column 'dissimilarity'.* Did you mean"),
        (f"{PLAIN}a,b,1\na,c,2\n", r"r.csv lacks 1 of 3 pairs, the first 'b' and 'c'\. Write"),
        (f"{PEOPLE}1,a,b,1\n2,b,c,2\n1,b,c,1\n1,a,c,1\n2,a,b,0\n", "'a' and 'c' at participant=2"),
        (f"{PLAIN}a,b,1\nb,a,1\n", "the pair 'b' and 'a' twice, in lines 2 and 3"),
        (f"{PEOPLE}x,a,b,1\nx,a,b,2\n", "'a' and 'b' at participant='x' twice"),
        (f"{PLAIN}a,b,1\na,a,1\n", "line 3: 'a' and 'a' have the dissimilarity 1.*similarities"),
        (f'{PLAIN}a,b,"1,5"\n', "line 2: dissimilarity '1,5' is not a number"),
        (f"{PLAIN}a,,1\n", "line 2: condition_2 is empty"),
        (f"{PLAIN}a,a,0\n", "r.csv has 1 condition. At least two"),
        (f"notes,{PLAIN}x,a,b,1\n", "the column 'notes', which is unknown.*dims="),
        (f"layer.kind,{PLAIN}x,a,b,1\n", "the column 'layer.kind', which is unknown"),
        (f"metric,{PLAIN}x,a,b,1\ny,a,c,1\nx,b,c,1\n", "2 values of metric: 'x', 'y'"),
        (
            f"participant.age,{PEOPLE}3,x,a,b,1\n4,x,a,c,1\n3,x,b,c,1\n",
            "participant.age has the values '3' and '4' for the same participant",
        ),
        ("", "is not a table of values separated by commas"),
        (f"{PLAIN}a,b,1,7,8\n", "in no row more than columns"),
        (f"{PLAIN}a,b,1\na,c,1,2\n", "in no row more than columns"),
        (f"{PEOPLE}x,a,b,1\n,a,b,1\n", "line 3: participant is empty"),
    ],
)
def test_load_csv_refuses(tmp_path, text, message):
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_csv(path)


def test_csv_files_are_checked(tmp_path):
    rdm = make_rdm()
    path = save_csv(rdm, tmp_path / "r.csv")
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        rdm.to_csv(path)
    rdm.to_csv(path, overwrite=True)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="dims names 'person', which is not such a column"):
        load_csv(path, dims=["person"])
    with pytest.raises(TypeError, match="Give an RDM"):
        save_csv(rdm.data, path)
    with pytest.raises(TypeError, match="the path of a text file"):
        load_csv(3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 3), st.integers(1, 3))
def test_property_round_trips_are_exact(tmp_path_factory, seed, n, n_people, n_layers):
    rdm = make_rdm(max(n, 3), max(n_people, 2), max(n_layers, 2), seed)
    before = rdm.data.copy(deep=True)
    path = tmp_path_factory.mktemp("csv") / "r.csv"
    check_same(load_csv(save_csv(rdm, path)), rdm)
    check_same(from_rsatoolbox(to_rsatoolbox(rdm)), rdm)
    xr.testing.assert_identical(rdm.data, before)


# ---------------------------------------------------------------------- HDF5
def test_saved_rdm_is_hdf5(tmp_path):
    rdm = average_rdms(make_rdm(), dim="layer")
    with h5py.File(rdm.save(tmp_path / "r.nc"), "r") as file:
        np.testing.assert_array_equal(file["data/data"][()], rdm.data)
        assert [c.decode() for c in file["data/condition"][()]] == rdm.conditions
        assert json.loads(file.attrs["params"])["metric"] == "correlation"
        assert file["stats/n_known"].shape == (4, 4, 2)
    xr.testing.assert_identical(RDM.load(tmp_path / "r.nc").stats, rdm.stats)
