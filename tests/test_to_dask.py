"""Analyses larger than memory: Session.to_dask, on this machine and on a cluster of processes."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import make_model, make_stimuli

import netphys
from netphys.core.distance import compute_distances
from netphys.data import pack
from netphys.data.nwb_header import SessionFileError, load_header
from netphys.data.pack import pack_session

SITE = "transformer.h.0"


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> netphys.Session:
    subject, path = netphys.load_subject(make_model("gpt2")), tmp_path_factory.mktemp("d") / "a.nwb"
    options = {"store": ["samples", "raster"], "threshold": 0.0, "dtype": "bfloat16"}
    return netphys.record(
        subject, make_stimuli("gpt2", n=60), path, sites="resid", progress=False, **options
    )


def test_to_dask_has_the_values_and_coordinates_of_the_site(session):
    for name in session.sites:  # bfloat16 and bits
        lazy = session.to_dask(name, chunk_mb=0.001)
        assert isinstance(lazy.data, da.Array) and lazy.data.numblocks[0] > 1
        assert lazy.data.numblocks[1] == 1
        assert max(lazy.data.chunks[0]) * lazy.sizes["unit"] * lazy.dtype.itemsize <= 1000
        assert lazy.compute().identical(session[name])
        part = lazy[5:77:3, ::-2].compute()
        assert part.identical(session[name][5:77:3, ::-2])
        assert lazy[[8, 2, 2], 3].compute().identical(session[name][[8, 2, 2], 3])


def test_to_dask_blocks_have_64_megabytes_by_default(session):
    lazy = session.to_dask(SITE)
    assert lazy.data.numblocks == (1, 1)
    assert session.to_dask(SITE, chunk_mb=1e-9).data.chunks[0] == (1,) * lazy.sizes["sample"]


@pytest.mark.parametrize("order", ["sample", "unit"])
def test_to_dask_of_a_packed_file_unpacks_no_chunk_twice(order, session, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "_SLAB_BYTES", 2000)
    packed = pack_session(
        session.path, tmp_path / "b.nwb", order=order, chunk_mb=0.0004, progress=False
    )
    own, frames = netphys.data._packed.unpack_chunk, []
    monkeypatch.setattr("netphys.data._packed.unpack_chunk", lambda *a: frames.append(1) or own(*a))
    for name in session.sites:
        frames.clear()
        lazy = packed.to_dask(name, chunk_mb=0.0015)
        assert not frames and max(lazy.data.numblocks) > 1
        assert lazy.compute().identical(session[name])
        rows, columns = packed._series[name].chunk
        shape = packed._series[name].n_rows, packed._series[name].n_columns
        assert len(frames) == -(-shape[0] // rows) * -(-shape[1] // columns)


def test_to_dask_of_an_unfinished_file_has_what_is_committed(session, tmp_path):
    path = tmp_path / "b.nwb"
    data = bytearray(session.path.read_bytes())
    at, n = load_header(session.path).commit
    data[at + 2 : at + n : 3] = bytes(len(range(2, n, 3)))
    path.write_bytes(data)
    part = netphys.open_session(path)
    for name in part.sites:
        lazy = part.to_dask(name, chunk_mb=0.001)
        assert 0 < lazy.sizes["sample"] < session[name].sizes["sample"]
        assert lazy.compute().identical(part[name])


def test_to_dask_opens_nothing_in_the_graph(session, tmp_path):
    """The graph can be sent to other processes, is small, and notices another file."""
    path = tmp_path / "b.nwb"
    path.write_bytes(session.path.read_bytes())
    lazy = netphys.open_session(path).to_dask(SITE)
    assert len(pickle.dumps(lazy.data)) < 20_000
    again = netphys.open_session(path).to_dask(SITE)
    assert again.data.name == lazy.data.name  # dask sees that they are one
    assert again.data.name != session.to_dask(SITE).data.name
    subject = netphys.load_subject(make_model("gpt2"), init="shuffled")
    netphys.record(subject, make_stimuli("gpt2"), path, overwrite=True, progress=False)
    with pytest.raises(SessionFileError, match="was replaced since it was opened"):
        lazy.compute()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunk_mb": 0}, ValueError, "chunk_mb=0 is too small. Give a number above 0"),
        ({"chunk_mb": "64"}, TypeError, "chunk_mb='64' is a str"),
        ({"site": "resid"}, KeyError, "'resid' matches"),
    ],
)
def test_to_dask_refuses_bad_options(options, error, message, session):
    with pytest.raises(error, match=message):
        session.to_dask(**({"site": SITE} | options))


def test_to_dask_names_the_extra(session):
    code = (
        "import sys; sys.modules['dask'] = None; import netphys\n"
        f"session = netphys.open_session({str(session.path)!r}); session[{SITE!r}].sum()\n"
        f"try:\n    session.to_dask({SITE!r})\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'netphys[dask]'" in done.stdout, done.stderr


# ---------------------------------------------------------------- larger than memory
N_TRIALS, LENGTH, WIDTH, N_CONDITIONS = 1500, 50, 4096, 30
MEMORY = 400 << 20  # of a worker; Python, numpy, xarray and dask take about 150 MB of it


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> netphys.Session:
    """Record 75,000 samples of 4,096 units as float32: 1.2 GB."""
    import pandas as pd
    import torch

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.embed = torch.nn.Embedding(500, WIDTH)
            self.out = torch.nn.Identity()

        def forward(self, ids):
            return self.out(self.embed(ids))

    rng = np.random.default_rng(0)
    ids = [" ".join(map(str, rng.integers(0, 500, LENGTH))) for _ in range(N_TRIALS)]
    condition = [f"c{i % N_CONDITIONS}" for i in range(N_TRIALS)]
    path = tmp_path_factory.mktemp("large") / "a.nwb"
    yield netphys.record(
        netphys.load_subject(Wide()),
        netphys.load_stimuli(pd.DataFrame({"token_ids": ids, "condition": condition})),
        path,
        sites="out",
        batch_size=20,
        progress=False,
    )
    path.unlink()


def compute_expected(session: netphys.Session) -> tuple[np.ndarray, ...]:
    """Condition means, mean and variance in numpy, block by block in float64."""
    data = session["out"]
    labels = data["condition"].to_numpy()
    names = list(dict.fromkeys(labels))
    total, square = np.zeros((len(names), WIDTH)), np.zeros(WIDTH)
    for begin in range(0, len(data), 2000):
        block = np.asarray(data[begin : begin + 2000].data, np.float64)
        for i, name in enumerate(names):
            total[i] += block[labels[begin : begin + 2000] == name].sum(axis=0)
        square += (block**2).sum(axis=0)
    counts = np.array([(labels == n).sum() for n in names])
    mean = total.sum(axis=0) / len(data)
    return total / counts[:, None], mean, square / len(data) - mean**2


@pytest.mark.slow
def test_rdm_and_moments_on_a_cluster_with_less_memory_than_the_file(large):
    from distributed import Client, LocalCluster

    def describe() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        return {"pid": int(status["Pid"]), "peak": 1024 * int(status["VmHWM"].split()[0])}

    assert large.site_table["megabytes"].iloc[0] * 1e6 > 1.4 * 2 * MEMORY
    options = {
        "distributed.worker.memory.target": False,  # nothing may be spilled to make it fit
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": 0.9,
        "distributed.worker.memory.terminate": 0.97,
    }
    workers = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": MEMORY}
    quiet = {"dashboard_address": None, "silence_logs": logging.ERROR}
    with (
        dask.config.set(options),
        LocalCluster(**workers, **quiet) as cluster,
        Client(cluster) as client,
    ):
        before = client.run(describe)
        data = large.to_dask("out", chunk_mb=16)
        labels = data["condition"].to_numpy()
        names = list(dict.fromkeys(labels))
        which = np.array([names.index(label) for label in labels])
        wide = data.data.astype(np.float64)
        member = da.from_array(which, chunks=(data.data.chunks[0],))[None] == np.arange(
            N_CONDITIONS
        ).reshape(-1, 1)
        sums = da.tensordot(member.astype(np.float64), wide, axes=1)
        means = sums / np.bincount(which)[:, None]
        got = [f.result() for f in client.compute([means, wide.mean(axis=0), wide.var(axis=0)])]
        after = client.run(describe)
    assert {w: s["pid"] for w, s in after.items()} == {w: s["pid"] for w, s in before.items()}
    assert max(s["peak"] for s in after.values()) < 0.9 * MEMORY  # no worker was paused
    want = compute_expected(large)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    rdm = compute_distances(got[0], metric="correlation")
    reference = 1 - np.corrcoef(want[0])
    np.testing.assert_allclose(rdm, reference, rtol=1e-9, atol=1e-12)
