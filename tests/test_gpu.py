"""On a CUDA device: a recording equals a plain forward pass there, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_model, make_stimuli, make_subject
from test_record import DTYPES, run_plain

import netphys

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_record_on_cuda_equals_plain_forward(family, dtype, tmp_path):
    model = make_model(family).to("cuda", DTYPES[dtype])
    subject, stimuli = make_subject(family, model, device="cuda"), make_stimuli(family, n=40)
    kinds = list(dict.fromkeys(subject.sites()["kind"]))
    session = netphys.record(
        subject, stimuli, tmp_path / "a.nwb", sites=kinds, batch_size=3, progress=False
    )
    for name in session.sites:
        expected = run_plain(model, subject, stimuli, session, name)
        assert session.site_table.loc[name, "dtype"] == str(expected.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(session[name].to_numpy(), expected.float().cpu().numpy())


def test_record_on_cuda_is_close_to_the_cpu(tmp_path):
    stimuli = netphys.load_stimuli("builtin:sentences")
    data = []
    for device in ("cpu", "cuda"):
        subject = netphys.load_subject("builtin:language", device=device)
        session = netphys.record(subject, stimuli, tmp_path / f"{device}.nwb", progress=False)
        data.append(session.trials("transformer.h.5").to_numpy())
    np.testing.assert_allclose(data[0], data[1], rtol=1e-3, atol=1e-3)
