"""Shared by the tests: tiny random models, and the check that every session file must pass."""

from __future__ import annotations

import os
import signal
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import pytest
from architectures import (  # what the tests import from here
    ARCHITECTURES,
    FIRST,
    MORE,
    VOCABULARY,
    make_model,
    make_stimuli,
    make_subject,
)

import netphys

__all__ = [
    "ARCHITECTURES",
    "FIRST",
    "MORE",
    "VOCABULARY",
    "make_model",
    "make_stimuli",
    "make_subject",
]


def hear_interrupts() -> None:
    """For a child process: take SIGINT as usual, also where the tests themselves run without it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


ACCEPTED_FINDINGS = {
    "check_data_orientation",  # critical there: it expects more samples than units
    "check_subject_species_form",  # a network has no Latin name
    "check_experimenter_exists",
    "check_institution",
    "check_processing_module_name",  # `samples` and `units` say what they hold
    "check_column_binary_capability",  # heads, words and layers of small models are 0 or 1
    "check_single_row",  # one trial, or one unit
    "check_regular_timestamps",  # one value per trial, where all trials are equally long
    "check_small_dataset_compression",
    "check_large_dataset_compression",  # a later step; positioned writes need plain bytes
}


def decode(session, name, stored):
    """Return what the stored values of a series stand for, worked out from its table of units."""
    units = session.units(name)
    if session.site_table.loc[name, "dtype"] == "bits":
        bits = np.unpackbits(stored.astype(np.uint8), axis=1, bitorder="little")
        return bits[:, : len(units)].astype(bool)
    return stored * units["scale"].to_numpy(np.float32) if "scale" in units else stored


SEEN: set[str] = set()  # what files are made of that other readers were shown by now


def find_parts(path) -> set[str]:
    """Return what a file is made of but for names of sites, sizes and values."""
    found = set()

    def visit(name, item):
        top, *middle = name.split("/")
        last = middle.pop() if middle else ""
        about = [top, "*" if middle and middle[0] in ("units", "online") else middle, last]
        if top == "acquisition":
            about = [top, "data" if last in ("data", "timestamps", "starting_time") else "*"]
        if isinstance(item, h5py.Dataset):
            plist = item.id.get_create_plist()
            about += [item.dtype.kind, item.dtype.itemsize, item.ndim, item.size > 0]
            about += [plist.get_layout(), plist.get_nfilters()]
        about += [sorted(item.attrs), item.attrs.get("form"), item.attrs.get("clock")]
        found.add(repr(about))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def check_file(path) -> None:
    """Compare every site with the bytes in the file; show other readers what is new to them."""
    parts = find_parts(path)
    if not parts <= SEEN:
        SEEN.update(parts)
        check_nwb(path)
        return
    session = netphys.open_session(path)
    with h5py.File(path, "r") as file:
        for name in session.sites if session.complete else ():
            stored = file[f"acquisition/{name}/data"][...]
            np.testing.assert_array_equal(session[name].to_numpy(), decode(session, name, stored))


def check_nwb(path) -> None:
    """Compare every site as netphys, pynwb and pynapple read it, and validate the file."""
    import pynapple
    import pynwb
    from nwbinspector import inspect_nwbfile

    session = netphys.open_session(path)
    assert pynwb.validate(path=str(path)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the two readers, not of netphys
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            nwb = io.read()
            read = {name: series.data[:] for name, series in nwb.acquisition.items()}
            trials = nwb.trials.to_dataframe() if nwb.trials is not None else session.trial_table
        pynapple_file = pynapple.load_file(str(path))
        pynapple_read = {name: np.asarray(pynapple_file[name].values) for name in read}
    assert list(trials["stimulus_id"]) == list(session.trial_table["stimulus_id"])
    assert set(read) == set(session.sites)
    if session.complete:
        for name in session.sites:
            own = session[name].to_numpy()
            np.testing.assert_array_equal(own, decode(session, name, read[name]))
            np.testing.assert_array_equal(own, decode(session, name, pynapple_read[name]))
        if len(trials) and session.sites:
            cut = pynapple_file[session.sites[0]].restrict(pynapple_file["trials"])
            assert len(cut) == len(session[session.sites[0]])
    found = {message.check_function_name for message in inspect_nwbfile(nwbfile_path=path)}
    assert found <= ACCEPTED_FINDINGS


@pytest.fixture(autouse=True)
def _every_session_is_nwb(request):
    """After a test, every session file in its folder must open and read in other packages too.

    Files of nothing but parts that pynwb, pynapple and the NWB Inspector were shown in others are
    compared with their own bytes.
    """
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is None or request.node.get_closest_marker("damaged_files"):
        return
    for path in sorted(folder.rglob("*.nwb")):
        check_file(path)


@pytest.fixture
def aside(tmp_path_factory):
    """A folder for session files of a structure that other tests show to the other readers."""
    return tmp_path_factory.mktemp("aside")


@pytest.fixture
def gpt2() -> netphys.Subject:
    return netphys.load_subject(make_model("gpt2"))


@pytest.fixture
def tokens() -> netphys.Stimuli:
    return make_stimuli("gpt2")


@pytest.fixture
def few_draws(monkeypatch):
    """Studies evaluate whole models with 19 draws: what the numbers are is tested elsewhere."""
    from netphys.study import geometry

    whole = geometry.evaluate

    def evaluate(*args, n_permutations, n_bootstraps, **options):
        few = {"n_permutations": min(n_permutations, 19), "n_bootstraps": min(n_bootstraps, 19)}
        return whole(*args, **few, **options)

    monkeypatch.setattr(geometry, "evaluate", evaluate)
