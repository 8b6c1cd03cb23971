"""A model that is compiled with the hooks inside records what the compiled model computes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, make_stimuli

import netphys
from netphys.recording.capture import Capture
from netphys.recording.compiled import compile_model
from netphys.recording.sites import select_sites

EAGER = {"backend": "aot_eager"}  # needs no compiler on the machine


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch")
        yield
    torch._dynamo.reset()


SLOW = [pytest.param(f, marks=pytest.mark.slow) for f in ("llama", "vit")]


@pytest.mark.parametrize("family", ["gpt2", *SLOW])
def test_record_of_a_compiled_model_equals_the_eager_one(family, tmp_path):
    subject, stimuli = netphys.load_subject(make_model(family)), make_stimuli(family)
    options = {"sites": ["embed", "resid", "mlp"], "batch_size": 3, "progress": False}
    whole = netphys.record(subject, stimuli, tmp_path / "a.nwb", **options)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.model.modules()]
    session = netphys.record(subject, stimuli, tmp_path / "b.nwb", compile=EAGER, **options)
    for name in whole.sites:
        np.testing.assert_allclose(session[name], whole[name], rtol=1e-5, atol=1e-5)
    assert session.provenance["compile"] == EAGER and whole.provenance["compile"] is False
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.model.modules()]
    assert after == hooks and sum(hooks) == 0
    with pytest.raises(ValueError, match=r"compile was"):
        netphys.record(subject, stimuli, tmp_path / "b.nwb", resume=True, **options)


def test_hooks_keep_the_model_in_one_graph_and_run_every_time():
    model = make_model("gpt2")
    ids, taken, graphs = torch.arange(12).reshape(2, 6), [], []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    sites = select_sites(model, ["mlp", "resid"])
    with torch.no_grad(), Capture(model, sites, lambda s, v: taken.append(s), graph=True) as hooks:
        compiled = compile_model(model, {"backend": count})
        for _ in range(3):
            hooks.start()
            compiled(input_ids=ids)
            hooks.check()
    assert len(graphs) == 1  # fullgraph: no break, no second compilation
    names = [s.name for s in taken]
    assert names == names[: len(sites)] * 3 and set(names) == {s.name for s in sites}


def test_a_compiled_site_that_gives_nothing_is_an_error(tmp_path):
    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    model = Idle()
    with Capture(model, select_sites(model, ["*"]), lambda s, v: None, graph=True) as hooks:
        hooks.start()
        compile_model(model, EAGER)(torch.zeros(1, 2))
        with pytest.raises(RuntimeError, match="site='idle' gave nothing"):
            hooks.check()


def test_record_refuses_a_model_that_is_compiled_already(tmp_path, tokens):
    model = make_model("gpt2")
    message = "compiled already, and hooks that are set after that never run"
    for compiled in (torch.compile(model, **EAGER), model):
        if compiled is model:
            model.transformer.h[1].compile(**EAGER)
        with pytest.raises(ValueError, match=message):
            netphys.record(netphys.load_subject(compiled), tokens, tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


def test_record_refuses_cuda_graphs_and_other_kinds(tmp_path, gpt2, tokens):
    with pytest.raises(ValueError, match="mode='reduce-overhead' uses CUDA graphs"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", compile={"mode": "reduce-overhead"})
    with pytest.raises(TypeError, match="compile='yes' is a str"):
        netphys.record(gpt2, tokens, tmp_path / "a.nwb", compile="yes")


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 8)
        self.cells = torch.nn.LSTM(8, 8, batch_first=True)

    def forward(self, ids):
        return self.cells(self.embed(ids))[0]


class Shapes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 8)

    def forward(self, ids):
        return self.embed(ids) * ids.shape[1]


def test_a_model_that_is_not_one_graph_is_refused_with_the_reason(tmp_path):
    subject = netphys.load_subject(Recurrent(), input_fn=lambda items: torch.tensor(items))
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3", "4 5 6"]}))
    with pytest.raises(ValueError, match=r"Recurrent cannot be made one graph \(.*LSTM"):
        netphys.record(
            subject,
            stimuli,
            tmp_path / "a.nwb",
            sites="embed",
            compile={"backend": "eager"},
            progress=False,
        )
    assert not subject.model.embed._forward_hooks


def test_a_model_that_needs_too_many_graphs_is_refused_with_the_way_out(tmp_path):
    subject = netphys.load_subject(Shapes(), input_fn=lambda items: torch.tensor(items))
    rows = [" ".join(["1"] * n) for n in range(1, 14)]
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": rows}))
    options = {"sites": "embed", "progress": False}
    with pytest.raises(ValueError, match=r"more than 8 graphs.*compile={'dynamic': True}"):
        netphys.record(
            subject,
            stimuli,
            tmp_path / "a.nwb",
            compile={"backend": "eager", "dynamic": False},
            **options,
        )
    compile = {"backend": "eager", "dynamic": True}
    done = netphys.record(subject, stimuli, tmp_path / "b.nwb", compile=compile, **options)
    assert done.complete


def test_a_model_can_be_recorded_compiled_any_number_of_times(tmp_path):
    subject = netphys.load_subject(Shapes(), input_fn=lambda items: torch.tensor(items))
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3", "4 5 6"]}))
    for _ in range(10):
        netphys.record(
            subject,
            stimuli,
            tmp_path / "a.nwb",
            sites="embed",
            compile={"backend": "eager"},
            overwrite=True,
            progress=False,
        )
