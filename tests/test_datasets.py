from __future__ import annotations

import hashlib
import http.server
import importlib.util
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from netphys.brain import _alice, _fetch, _registry, _store, datasets
from netphys.brain._registry import DataFile, Entry
from netphys.brain._textgrid import decode_textgrid, join_words, parse_textgrid
from netphys.brain.datasets import (
    describe_dataset,
    fetch_dataset,
    find_dataset,
    list_datasets,
    load_brain,
    load_brain_stimuli,
)
from netphys.brain.responses import check_responses, make_responses
from netphys.core.compare import compare_pairs, compute_pairs
from netphys.core.distance import compute_distances

ROOT = Path(__file__).resolve().parent.parent
needs_recordings = pytest.mark.skipif(
    "NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA names no folder of recordings"
)
CONTENT = {"a.txt": b"first file\n", "deep/b.txt": b"second file\n", "deep/c.txt": b"third\n"}


# A small data set on a server of its own


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.content.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.server.cut.get(self.path.lstrip("/"), len(content))
        self.wfile.write(content[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.cut, made.asked = dict(CONTENT), {}, []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def entry(server, tmp_path, monkeypatch):
    """Put a data set "tiny" into the registry, and the cache into the test's folder."""
    base = f"http://127.0.0.1:{server.server_port}/"
    files = tuple(
        DataFile(path, len(content), hashlib.sha256(content).hexdigest(), base + path)
        for path, content in CONTENT.items()
    )
    facts = {f: f"the {f}" for f in ("title", "version", "modality", "citation", "origin")}
    made = Entry(
        "tiny",
        order="iid",
        n_participants=1,
        doi="10.1/x",
        licence="CC0",
        licence_text="Do what you like.",
        files=files,
        **facts,
    )
    entries = {**_registry.read_registry(), "tiny": made}
    monkeypatch.setattr(_registry, "read_registry", lambda: entries)
    monkeypatch.setattr(_store, "find_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(datasets, "find_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("NETPHYS_DATA", raising=False)
    return made


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_fetch_dataset_puts_verified_files_and_their_origin_in_place(entry, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="netphys"):
        path = fetch_dataset("tiny", progress=False)
    assert path == tmp_path / "cache" / "tiny"
    found = files_in(path)
    note = found.pop("ORIGIN.txt").decode()
    assert found == CONTENT
    for text in ("CC0", "Do what you like.", "the citation", "10.1/x", entry.files[1].url):
        assert text in note
    assert "CC0" in caplog.text and "the citation" in caplog.text
    assert list(path.glob(".part-*")) == []
    assert find_dataset("tiny") == path


def test_fetch_dataset_keeps_what_is_there_and_replaces_what_is_damaged(entry, server):
    path = fetch_dataset("tiny", progress=False)
    (path / "deep/b.txt").write_bytes(b"second_file\n")
    with pytest.raises(ValueError, match=r"b\.txt is not the file of the data set 'tiny'.*fetch"):
        find_dataset("tiny")
    server.asked.clear()
    fetch_dataset("tiny", progress=False)
    assert server.asked == ["/deep/b.txt"]
    assert find_dataset("tiny") == path


def test_fetch_dataset_goes_into_a_folder_that_netphys_data_can_name(entry, tmp_path, monkeypatch):
    path = fetch_dataset("tiny", folder=tmp_path / "own", progress=False)
    assert path == tmp_path / "own" / "tiny"
    with pytest.raises(FileNotFoundError, match=r"netphys fetch tiny\. Licence: CC0"):
        find_dataset("tiny")
    monkeypatch.setenv("NETPHYS_DATA", str(tmp_path / "own"))
    assert find_dataset("tiny") == path
    monkeypatch.setenv("NETPHYS_DATA", str(tmp_path / "slip"))
    with pytest.raises(FileNotFoundError, match=r"NETPHYS_DATA='.*slip' is no folder"):
        find_dataset("tiny")


def test_fetch_dataset_shows_one_progress_bar(entry, capfd):
    fetch_dataset("tiny", progress=True)
    assert "tiny: 100%" in capfd.readouterr().err
    fetch_dataset("tiny", progress=True)
    assert capfd.readouterr().err == ""


def test_fetch_dataset_refuses_other_content_and_goes_on_later(entry, server, tmp_path):
    server.content["deep/b.txt"] = b"something else\n"
    with pytest.raises(ValueError, match=r"deep/b\.txt is not the file it was.*Nothing of it"):
        fetch_dataset("tiny", progress=False)
    found = files_in(tmp_path / "cache" / "tiny")
    assert set(found) == {"ORIGIN.txt", "a.txt"}
    with pytest.raises(FileNotFoundError, match=r"incomplete: .*b\.txt is missing.*fetch tiny"):
        find_dataset("tiny")
    server.content, server.asked = dict(CONTENT), []
    fetch_dataset("tiny", progress=False)
    assert server.asked == ["/deep/b.txt", "/deep/c.txt"]


def test_fetch_dataset_says_what_the_server_answered(entry, server):
    del server.content["a.txt"]
    with pytest.raises(ConnectionError, match=r"a\.txt could not be downloaded.*404 Not Found"):
        fetch_dataset("tiny", progress=False)


def test_fetch_dataset_drops_a_download_that_was_cut(entry, server, tmp_path):
    server.cut["deep/c.txt"] = 3
    with pytest.raises(ConnectionError, match=r"c\.txt could not be downloaded.*goes on from"):
        fetch_dataset("tiny", progress=False)
    assert set(files_in(tmp_path / "cache/tiny")) == {"ORIGIN.txt", "a.txt", "deep/b.txt"}


def test_fetch_dataset_without_network_says_so(entry, server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"could not be reached. Check the network"):
        fetch_dataset("tiny", progress=False)
    assert not (tmp_path / "cache/tiny").exists()


def test_fetch_dataset_interrupted_leaves_nothing_half_written(entry, monkeypatch, tmp_path):
    import pooch

    retrieve = pooch.retrieve

    def interrupt(url, **options):
        if url.endswith("b.txt"):
            (Path(options["path"]) / "tmpx").write_bytes(b"second f")
            raise KeyboardInterrupt
        return retrieve(url, **options)

    monkeypatch.setattr(pooch, "retrieve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("tiny", progress=False)
    assert set(files_in(tmp_path / "cache/tiny")) == {"ORIGIN.txt", "a.txt"}
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert {*files_in(fetch_dataset("tiny", progress=False))} == {"ORIGIN.txt", *CONTENT}


def test_fetch_dataset_clears_what_a_killed_download_left(entry, tmp_path):
    killed, running = (tmp_path / "cache/tiny" / f".part-{n}" for n in ("killed", "running"))
    for folder in (killed, running):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(b"first f")
    old = time.time() - 2 * _fetch.STALE
    os.utime(killed, (old, old))
    fetch_dataset("tiny", progress=False)
    assert not killed.exists() and running.exists()


def test_fetch_dataset_leaves_the_logger_of_pooch_as_it_was(entry, server):
    import pooch

    before = pooch.get_logger().level
    del server.content["a.txt"]
    with pytest.raises(ConnectionError):
        fetch_dataset("tiny", progress=False)
    assert pooch.get_logger().level == before


def test_fetch_dataset_without_pooch_names_the_extra(entry, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'netphys\[brain\]'"):
        fetch_dataset("tiny", progress=False)


def test_fetch_dataset_of_what_is_shipped_fetches_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="netphys"):
        path = fetch_dataset("simulated")
    assert (path / "simulated.npz").is_file()
    assert "nothing to fetch" in caplog.text


def test_cache_is_where_pooch_keeps_data(monkeypatch, tmp_path):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.delenv("NETPHYS_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"'alice2016' is not on this machine .*CC BY 4.0"):
        load_brain("alice2016")
    assert _store.find_cache() == tmp_path / "netphys"


# The registry


def test_list_datasets_has_a_row_for_each():
    table = list_datasets()
    assert table.loc["alice2016", "n_participants"] == 28
    assert table.loc["alice2016", "licence"] == "CC BY 4.0"
    assert table.loc["kriegeskorte2008", "licence"].startswith("none stated")
    assert table.loc["kriegeskorte2008", "doi"] == "10.1016/j.neuron.2008.10.043"


def test_describe_dataset_names_licence_and_citation():
    text = describe_dataset("alice2016")
    assert "Creative Commons Attribution 4.0" in text and "Brennan" in text
    with pytest.raises(ValueError, match=r"name='alice' is unknown.*Did you mean 'alice2016'"):
        describe_dataset("alice")
    with pytest.raises(TypeError, match="name=3 is an int"):
        describe_dataset(3)


@pytest.mark.parametrize("name", ["alice2016", "kriegeskorte2008"])
def test_registry_pins_every_file_to_a_commit(name):
    entry = _registry.get_entry(name)
    assert len({f.path for f in entry.files}) == len(entry.files)
    for file in entry.files:
        assert file.url.startswith("https://") and file.url.endswith(file.path)
        assert len(file.sha256) == 64 and file.n_bytes > 0
        assert any(len(part) == 40 for part in file.url.split("/")), "no commit in the address"


def test_registry_names_all_licences_and_citations():
    for entry in _registry.read_registry().values():
        assert entry.licence and entry.licence_text and entry.citation and entry.origin


# The simulated brain


def test_simulated_brain_is_labelled():
    brain = load_brain("simulated")
    stimuli = load_brain_stimuli("simulated")
    assert dict(brain.responses.sizes) == {"participant": 12, "region": 2, "trial": 96, "unit": 40}
    assert list(brain.region.values) == ["signal", "noise"]
    assert list(brain.stimulus_id.values) == list(stimuli.table["stimulus_id"])
    assert brain.attrs["true_layer"] == "transformer.h.2"
    assert brain.responses.attrs["order"] == brain.attrs["order"] == "iid"
    assert check_responses(brain.responses) == {}
    assert brain.responses.dtype == np.float32 and brain.responses.std() == pytest.approx(1.09, 0.1)


def test_simulated_people_agree_where_there_is_a_signal():
    brain = load_brain("simulated")
    for region, low, high in (("signal", 0.2, 0.6), ("noise", -0.02, 0.02)):
        rdms = compute_distances(brain.responses.sel(region=region).to_numpy())
        agreement = compare_pairs(*[compute_pairs(rdms)] * 2)
        assert low < agreement[np.triu_indices(12, 1)].mean() < high


def make_module():
    path = ROOT / "data" / "brains" / "make.py"
    spec = importlib.util.spec_from_file_location("make_brain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_simulated_brain_is_what_its_script_makes_and_its_layer_is_found():
    make = make_module()
    layers, table = make.record_layers()
    stored = load_brain("simulated").responses.to_numpy()
    made = make.simulate(layers[make.TRUE_LAYER], np.random.default_rng(make.SEED))
    np.testing.assert_allclose(stored, made, atol=0.01)
    assert make.count_recoveries(layers, 20)[make.TRUE_LAYER] >= 19

    names, truth = list(layers), list(layers).index(make.TRUE_LAYER)
    people = compute_distances(stored[:, 0].astype(float))
    models = np.stack([compute_distances(x) for x in layers.values()])
    rng, margins = np.random.default_rng(0), []
    for _ in range(200):
        drawn = rng.integers(len(table), size=len(table))
        i, j = np.triu_indices(len(table), 1)
        keep = drawn[i] != drawn[j]
        i, j = drawn[i][keep], drawn[j][keep]
        scores = compare_pairs(people[:, i, j], models[:, i, j]).mean(axis=0)
        margins.append(scores[truth] - np.delete(scores, truth))
    assert (np.quantile(margins, 0.025, axis=0) > 0).all(), dict(zip(names, margins, strict=False))


# TextGrids

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 3.5
        intervals: size = 7
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "did"
        intervals [3]:
            xmin = 1
            xmax = 1.25
            text = "n't"
        intervals [4]:
            xmin = 1.25
            xmax = 1.5
            text = ""
        intervals [5]:
            xmin = 1.5
            xmax = 2
            text = "say 2 ""yes"" "
        intervals [6]:
            xmin = 2
            xmax = 3e0
            text = "don't"
        intervals [7]:
            xmin = 3
            xmax = 3.5
            text = "'ve"
    item [2]:
        class = "TextTier"
        name = "point"
        xmin = 0
        xmax = 3.5
        points: size = 1
        points [1]:
            number = 1.5
            mark = "here"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"
! written by hand
0
1.5
<exists>
1
"IntervalTier"
"word"
0
1.5
2
0
1
"I"
1
1.5
"'m"
"""


def test_parse_textgrid_reads_intervals_of_the_long_format():
    (tier,) = (tiers := parse_textgrid(LONG)).values()
    assert list(tiers) == ["word"]
    assert tier[0] == (0.0, 0.5, "sp") and tier[3] == (1.25, 1.5, "")
    assert tier[4] == (1.5, 2.0, 'say 2 "yes"') and tier[5] == (2.0, 3.0, "don't")


def test_parse_textgrid_reads_the_short_format():
    assert parse_textgrid(SHORT) == {"word": [(0.0, 1.0, "I"), (1.0, 1.5, "'m")]}
    assert parse_textgrid('"ooTextFile"\n"TextGrid"\n0\n1\n<absent>\n') == {}


def test_join_words_joins_clitics_and_drops_pauses():
    words = join_words(parse_textgrid(LONG)["word"])
    assert words == [(0.5, 1.25, "didn't"), (1.5, 2.0, 'say 2 "yes"'), (2.0, 3.5, "don't've")]
    assert join_words([(0.0, 1.0, "'s"), (1.0, 2.0, "'d")]) == [(0.0, 2.0, "'s'd")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_decode_textgrid_reads_what_praat_writes(encoding):
    assert decode_textgrid("été".encode(encoding)) == "été"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('"ooTextFile" "Pitch" 0 1', "does not begin as a TextGrid"),
        (LONG[:500], "it ends too early"),
        ("", "it ends too early"),
        (SHORT.replace('"I"', "7"), "stands where a text in quotes belongs"),
    ],
)
def test_parse_textgrid_refuses_other_files(text, why):
    with pytest.raises(ValueError, match=f"no complete TextGrid: .*{why}"):
        parse_textgrid(text)


# Responses of one's own


def test_make_responses_labels_values():
    made = make_responses(
        np.arange(6).reshape(2, 3),
        dims=("participant", "time"),
        order="ordered",
        coords={"time": [1.0, 3.0, 5.0]},
        tr=2,
    )
    assert made.attrs == {"order": "ordered", "units": "a.u.", "tr": 2.0}
    assert check_responses(made) == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": "shuffled"}, ValueError, "order='shuffled' is unknown"),
        ({"dims": ("trial",)}, ValueError, "values has 2 axes, dims names 1"),
        ({"dims": ("region", "unit")}, ValueError, "Exactly one of them must be 'trial'"),
        ({"dims": ("time", "trial")}, ValueError, "Exactly one of them must be 'trial'"),
        ({"coords": {"trial": [1]}}, ValueError, r"coords do not fit values of shape \(2, 3\)"),
        ({"tr": 0}, ValueError, "tr=0 is not possible"),
        ({"tr": "2"}, TypeError, "tr='2' is a str"),
        ({"values": [["a"]]}, TypeError, "values has dtype <U1"),
    ],
)
def test_make_responses_refuses_what_does_not_fit(options, error, message):
    given = {"values": np.ones((2, 3)), "dims": ("region", "trial"), "order": "iid"} | options
    with pytest.raises(error, match=message):
        make_responses(given.pop("values"), **given)


def test_check_responses_gives_reasons_for_unusable_series():
    values = np.arange(24.0).reshape(2, 3, 4)
    values[0, 1], values[1, 2, 3] = 7.0, np.nan
    responses = make_responses(
        values,
        dims=("participant", "region", "trial"),
        order="iid",
        coords={"participant": ["s1", "s2"]},
    )
    assert check_responses(responses) == {
        "participant=s1, region=1": "constant",
        "participant=s2, region=2": "1 values are not finite",
    }
    flat = make_responses([1.0, 1.0], dims=("trial",), order="iid")
    assert check_responses(flat) == {"all samples": "constant"}


def test_check_responses_wants_order_times_and_groups():
    plain = xr.DataArray(np.arange(4.0), dims="trial")
    with pytest.raises(ValueError, match=r"attrs\['order'\] is missing. Say 'ordered'"):
        check_responses(plain)
    ordered = plain.assign_attrs(order="ordered")
    with pytest.raises(ValueError, match="ordered trials with neither times nor groups"):
        check_responses(ordered)
    assert check_responses(ordered, groups=[0, 0, 1, 1]) == {}
    assert check_responses(ordered.assign_coords(time=("trial", [0.0, 1, 2, 3]))) == {}
    with pytest.raises(ValueError, match="groups has 3 labels for 4 samples"):
        check_responses(ordered, groups=[0, 0, 1])
    with pytest.raises(TypeError, match="Give a DataArray"):
        check_responses(np.ones(3))


# Real recordings


def test_alice_people_are_left_out_with_their_reason():
    good = {"responses": np.arange(24.0).reshape(4, 6), "motion": np.ones((4, 6))}
    assert _alice._find_reason(good) == ""
    bad = {"responses": good["responses"] * [0, 1, 1, 0, 1, 1], "motion": np.ones((3, 6))}
    expected = "LATL, LIPL: constant; motion has 3 volumes, the responses 4"
    assert _alice._find_reason(bad) == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simulated", {"radius": 6}, "radius=6: 'simulated' has no options"),
        ("alice2016", {"radii": 6}, "option='radii' is unknown.*'radius'"),
        ("nsd", {}, "name='nsd' is unknown. Choose one of: 'alice2016'"),
    ],
)
def test_load_brain_refuses_unknown_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        load_brain(name, **options)


def test_load_brain_stimuli_refuses_unknown_options():
    with pytest.raises(ValueError, match="context=3: 'simulated' has no options"):
        load_brain_stimuli("simulated", context=3)
    with pytest.raises(ValueError, match=r"option='context' is unknown.*'context_words'"):
        load_brain_stimuli("alice2016", context=3)


@pytest.mark.slow
@needs_recordings
@pytest.mark.parametrize("name", ["alice2016", "kriegeskorte2008"])
def test_recordings_are_the_files_of_the_registry(name):
    entry = _registry.get_entry(name)
    folder = find_dataset(name)
    assert all((folder / f.path).stat().st_size == f.n_bytes for f in entry.files)


@pytest.mark.slow
@needs_recordings
def test_alice_responses_have_the_known_agreement_between_people():
    brain = load_brain("alice2016")
    assert dict(brain.responses.sizes) == {"participant": 27, "time": 362, "region": 6}
    assert list(json.loads(brain.attrs["excluded"])) == ["s33"]
    assert "LIFG: constant" in brain.attrs["excluded"]
    x = brain.responses.transpose("participant", "time", "region").to_numpy()
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    others = (x.sum(axis=0) - x) / 26
    others = (others - others.mean(axis=1, keepdims=True)) / others.std(axis=1, keepdims=True)
    expected = [0.306, 0.197, 0.384, 0.276, 0.222, 0.139]
    np.testing.assert_allclose((x * others).mean(axis=(0, 1)), expected, atol=6e-4)
    assert check_responses(brain.responses) == {}


@pytest.mark.slow
@needs_recordings
def test_alice_variables_share_time_and_people():
    brain = load_brain("alice2016", radius=10)
    assert brain.attrs["radius_mm"] == 10 and brain.responses.attrs["tr"] == 2.0
    assert brain.time.values[[0, 1, -1]].tolist() == [21.0, 23.0, 743.0]
    assert brain.motion.dims == ("participant", "time", "component")
    assert np.isfinite(brain.motion).all() and brain.motion.sizes["participant"] == 27
    r = np.corrcoef(brain.word_rate, brain.rate_conv)[0, 1]
    assert r == pytest.approx(0.98, abs=0.005)
    other = load_brain("alice2016")
    assert other.attrs["sha256"] != brain.attrs["sha256"]
    assert not np.array_equal(other.responses, brain.responses)
    with pytest.raises(ValueError, match=r"radius=8 is unknown\. Choose one of: 6, 10"):
        load_brain("alice2016", radius=8)


@pytest.mark.slow
@needs_recordings
def test_alice_word_rate_follows_the_words_on_the_clock_of_the_stimulus():
    from netphys.core.hemodynamics import convolve_events

    brain = load_brain("alice2016")
    table = load_brain_stimuli("alice2016").table
    end = (table["onset"] + table["duration"]).to_numpy()
    fits = {}
    for shift in np.arange(-4.0, 4.5, 0.5):  # seconds from the beginning of each TR
        times = brain.time.to_numpy() - 1 + shift
        made = convolve_events(end, np.ones(len(end)), times=times)
        fits[shift] = np.corrcoef(made, brain.word_rate)[0, 1]
    assert max(fits, key=fits.get) == 0.0
    assert fits[0.0] > 0.98 and fits[1.0] < 0.95


@pytest.mark.slow
@needs_recordings
def test_alice_stimuli_are_words_with_their_clitics():
    stimuli = load_brain_stimuli("alice2016")
    table = stimuli.table
    path = find_dataset("alice2016") / "alice_stim_shared"
    (grid,) = path.glob("*.TextGrid")
    (tier,) = parse_textgrid(grid.read_text()).values()
    assert len(tier) == 2423 and sum(label not in ("", "sp") for _, _, label in tier) == 2127
    assert len(table) == 2101  # 26 clitics
    assert table["text"].iloc[:4].tolist() == ["Alice", "was", "beginning", "to"]
    assert table["onset"].iloc[0] == pytest.approx(20.0589, abs=1e-4)
    assert {"wouldn't", "Alice's", "I'm", "you're", "I've", "who'd", "they'll"} <= {*table["text"]}
    assert not table["text"].str.contains(r"\s|^'").any()
    assert (table["duration"] > 0).all() and table["onset"].is_monotonic_increasing
    assert (table["onset"] + table["duration"])[:-1].le(table["onset"][1:].to_numpy() + 1e-9).all()
    assert table["context"].iloc[0] == "" and table["context"].iloc[2] == "Alice was"
    assert table["context"].iloc[100].split() == table["text"].iloc[60:100].tolist()
    assert stimuli.name == "alice2016" and stimuli.kind == "text"


@pytest.mark.slow
@needs_recordings
def test_alice_words_alone_are_found_by_their_form():
    alone = load_brain_stimuli("alice2016", context_words=0).table
    shown = load_brain_stimuli("alice2016", context_words=2).table
    assert len(alone) == 628 and alone["word_form"].is_unique and "context" not in alone
    assert {*shown["word_form"]} == {*alone["word_form"]}
    assert {"The", "the"} <= {*alone["text"]}
    assert shown["context"].str.split().str.len().max() == 2
    for wrong, error in ((-1, ValueError), ("all", TypeError)):
        with pytest.raises(error, match=f"context_words={wrong!r}"):
            load_brain_stimuli("alice2016", context_words=wrong)


@pytest.mark.slow
@needs_recordings
def test_kriegeskorte_rdms_have_the_published_relation():
    brain = load_brain("kriegeskorte2008")
    assert brain.rdm.dims == ("condition", "condition_2", "participant")
    assert list(brain.participant.values) == ["BE", "KO", "SN", "TI"]
    monkey, group = compute_pairs(brain.monkey_rdm), compute_pairs(brain.group_rdm)
    assert np.corrcoef(monkey, group)[0, 1] == pytest.approx(0.4912, abs=5e-5)
    people = compute_pairs(brain.rdm.transpose("participant", ...).to_numpy())
    assert np.corrcoef(people.mean(axis=0), group)[0, 1] > 0.9999
    assert list(brain.model.values)[:3] == ["animacy", "FaceBodyManmadeNatobj", "monkeyIT"]
    models = compute_pairs(brain.model_rdm.transpose("model", ...).to_numpy())
    np.testing.assert_allclose(models[2], monkey, atol=1e-6)
    expected = [[0.414, 0.345], [0.248, 0.220], [0.593, 0.409], [0.290, 0.212]]
    np.testing.assert_allclose(compare_pairs(people, models[[0, 2]]), expected, atol=6e-4)


@pytest.mark.slow
@needs_recordings
def test_kriegeskorte_images_are_in_the_order_of_the_rdms():
    brain, stimuli = load_brain("kriegeskorte2008"), load_brain_stimuli("kriegeskorte2008")
    table = stimuli.table
    assert stimuli.kind == "image" and len(stimuli) == 92
    assert stimuli.item(0).shape == (175, 175, 3) and stimuli.item(0).dtype == np.uint8
    assert list(table["stimulus_id"]) == list(brain.condition.values)
    assert table["category"].value_counts()["human face"] == 12
    different = table["animal"].to_numpy()[:, None] != table["animal"].to_numpy()
    np.testing.assert_array_equal(different, brain.model_rdm.sel(model="animacy").to_numpy())


@pytest.mark.slow
@needs_recordings
def test_recordings_can_be_stored_as_netcdf(tmp_path):
    for name in ("alice2016", "kriegeskorte2008", "simulated"):
        brain = load_brain(name)
        brain.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        back = xr.load_dataset(tmp_path / f"{name}.nc", engine="h5netcdf")
        xr.testing.assert_identical(back, brain)
