"""Statistics of a corpus that goes by: those of its windows, through interruptions and ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_online_record import read_state
from test_ranks import check_same_statistics, one_thread, run_torchrun  # noqa: F401
from test_stream import make_items
from test_surprisal import make_bert

import netphys
from netphys import Corpus
from netphys.cli import main
from netphys.data.verify import verify_session
from netphys.recording.stream import stream_batches

NAME = "transformer.h.1"
OPTIONS = {
    "sites": ["resid", "mlp"],
    "store": None,
    "online": ["moments", "sparsity"],
    "batch_size": 2,
    "commit_batches": 1,
    "progress": False,
}
TEXTS = [
    "The dog barked.",
    "Two cats slept on the chair.",
    "The dogs were unbelievably loud today, as they are on every other day of this long year.",
    "A cat!",
] * 3


def record(subject, source, path, *, resume=False, overwrite=False, window=10, **options):
    corpus = source if isinstance(source, Corpus) else Corpus(source, window=window, look_ahead=6)
    given = OPTIONS | options | {"resume": resume, "overwrite": overwrite}
    return netphys.record(subject, corpus, path, **given)


@pytest.fixture(scope="module")
def language() -> netphys.Subject:
    return netphys.load_subject("builtin:language")


# ------------------------------------------------------------------ what is counted
def test_statistics_are_those_of_all_windows(gpt2, tmp_path):
    items = make_items(30)
    session = record(gpt2, items, tmp_path / "a.nwb")
    rows = []
    block = gpt2.model.transformer.h[1]
    handle = block.register_forward_hook(lambda *a: rows.append(a[2].flatten(0, -2)))
    with torch.no_grad():
        for batch in stream_batches(gpt2, items, window=10):
            gpt2.model(torch.from_numpy(batch.ids))
    handle.remove()
    data = torch.cat(rows).double().numpy()
    found = session.online(f"{NAME}#moments")
    assert found.attrs["n_samples"] == len(data) == sum(map(len, items))
    np.testing.assert_allclose(found["mean"], data.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["variance"], data.var(0), rtol=1e-5)
    events = session.online(f"{NAME}#sparsity")["n_events"]
    np.testing.assert_array_equal(events, (data > 0).sum(0))


def test_a_corpus_gives_what_its_items_give_as_stimuli(gpt2, tmp_path):
    items = [i for i in make_items(30) if 0 < len(i) <= 10]
    table = pd.DataFrame({"token_ids": [" ".join(map(str, i)) for i in items]})
    kept = {"online": [{"name": "moments", "order": 4}, "sparsity", "gram"], "sites": "resid"}
    shown = OPTIONS | kept | {"commit_batches": None}
    whole = netphys.record(gpt2, netphys.load_stimuli(table), tmp_path / "a.nwb", **shown)
    session = record(gpt2, items, tmp_path / "b.nwb", **kept)
    check_same_statistics(session, whole, 1e-9)
    assert session.units(NAME).equals(whole.units(NAME))


def test_added_tokens_count_only_where_that_is_asked_for(tmp_path):
    subject = make_bert()
    online = ["moments", {"name": "moments", "include_special": True}]
    with pytest.raises(ValueError, match="asked for twice"):
        record(subject, ["a b"], tmp_path / "no.nwb", online=online, sites="resid")
    texts = ["the dog barked", "a cat slept"]
    stimuli = netphys.load_stimuli(texts)
    counts = []
    for n, statistic in enumerate(online):
        kept = {"online": [statistic], "sites": "resid"}
        shown = OPTIONS | kept
        whole = netphys.record(subject, stimuli, tmp_path / f"w{n}.nwb", **shown)
        session = record(subject, texts, tmp_path / f"s{n}.nwb", **kept)
        check_same_statistics(session, whole, 1e-6)
        counts.append(session.online(session.online_tables[0]).attrs["n_samples"])
    assert counts[1] - counts[0] == 4  # one before and one behind each text


def test_surprisal_of_a_corpus_is_that_of_its_texts(language, tmp_path):
    kept = {"online": ["surprisal"], "sites": "resid"}
    session = record(language, TEXTS[:4], tmp_path / "a.nwb", window=40, **kept)
    stimuli = netphys.load_stimuli(TEXTS[:4])
    whole = netphys.record(language, stimuli, tmp_path / "b.nwb", **OPTIONS | kept)
    check_same_statistics(session, whole, 1e-6)
    assert session.provenance["surprisal"]["measure"] == "probability"


def test_sites_of_every_shape_can_be_counted(gpt2, tmp_path):
    kept = {"sites": ["pattern", "head", "embed", "logits"], "online": ["moments"]}
    session = record(gpt2, make_items(10), tmp_path / "a.nwb", **kept)
    pattern = next(n for n in session.online_tables if "@pattern" in n)
    table = session.online(pattern)
    assert table.sizes["unit"] == 4 * 10 or table.sizes["unit"] % 10 == 0  # heads x keys
    assert session.provenance["attention"] == "eager"
    assert any("logits" in n or "lm_head" in n for n in session.online_tables)


def test_every_kind_of_source(language, aside):
    path = aside / "corpus.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    rows = [{"text": t, "id": i} for i, t in enumerate(TEXTS)]
    sources = {"list": TEXTS, "file": path, "rows": rows, "once": (t for t in TEXTS)}
    found = {
        name: record(language, source, aside / f"{name}.nwb", sites="resid")
        for name, source in sources.items()
    }
    first = read_state(found.pop("list"))
    for name, session in found.items():
        assert read_state(session) == first, name


# ------------------------------------------------------------------ interruptions
class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 4, 9, 20])
def test_an_interrupted_run_ends_in_the_same_bytes(stop, gpt2, tmp_path):
    items = make_items(40)
    whole = record(gpt2, items, tmp_path / "whole.nwb")
    calls = iter(range(10_000))

    def interrupt(module, args):
        if next(calls) == stop + 2:  # two are probe passes
            raise Stop

    handle = gpt2.model.register_forward_pre_hook(interrupt)
    path = tmp_path / "a.nwb"
    with pytest.raises(Stop):
        record(gpt2, items, path)
    handle.remove()
    cut = netphys.open_session(path)
    assert not cut.complete and cut.stream["items"] <= len(items)
    assert 0 < cut.online(f"{NAME}#moments").attrs["n_samples"] < sum(map(len, items))
    assert "unfinished" in cut.summary()
    done = record(gpt2, items, path, resume=True)
    assert done.complete and read_state(done) == read_state(whole)
    assert done.stream == {"items": 40, "windows": whole.stream["windows"]}
    assert record(gpt2, items, path, resume=True).complete  # a finished one is read and compared


def test_an_exception_in_the_source_leaves_what_was_seen(gpt2, tmp_path):
    def source():
        yield from make_items(20)
        raise OSError(5, "the network is gone")

    path = tmp_path / "a.nwb"
    with pytest.raises(OSError, match="the network is gone"):
        record(gpt2, source(), path)
    assert netphys.open_session(path).online(f"{NAME}#moments").attrs["n_samples"] > 0
    assert not gpt2.model._forward_hooks and not list(tmp_path.glob(".*"))


def test_another_corpus_or_other_options_are_refused(gpt2, tmp_path):
    items = make_items(20)
    path = tmp_path / "a.nwb"
    done = record(gpt2, items, path)
    before = path.read_bytes()
    for other in ([*items[:-1], [1, 2]], items[:-1], [*items, [1]]):
        with pytest.raises(ValueError, match=r"has seen 20 items, which are not those of 'corpus'"):
            record(gpt2, other, path, resume=True)
    with pytest.raises(ValueError, match=r"stimuli.window was 10 and is now 12"):
        record(gpt2, items, path, resume=True, window=12)
    with pytest.raises(ValueError, match=r"plan.batch_size was 2 and is now 3"):
        record(gpt2, items, path, resume=True, batch_size=3)
    with pytest.raises(FileExistsError, match="go on with resume=True"):
        record(gpt2, items, path)
    assert path.read_bytes() == before and done.complete

    def source():
        yield from items
        raise Stop

    path = tmp_path / "b.nwb"
    with pytest.raises(Stop):
        record(gpt2, source(), path)
    with pytest.raises(ValueError, match="are not those that were shown before"):
        record(gpt2, [[3, 4], *items[1:]], path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "samples"}, r"store=\['samples'\]: of a Corpus nothing but statistics"),
        ({"online": ()}, "store=None without online= records nothing"),
        ({"generate": {"max_new_tokens": 2}}, "generate= does not go with a Corpus"),
        ({"files": "per-rank"}, "files='per-rank' does not go with a Corpus"),
        ({"window": 10_000}, "window=10000 is too long|has 10000 tokens"),
        ({"online": ["surprisal"]}, "has no tokenizer"),
        ({"online": [{"name": "rdm", "by": "condition"}]}, "by='condition'"),
    ],
)
def test_what_a_corpus_cannot_do_is_refused(options, message, gpt2, tmp_path):
    with pytest.raises(ValueError, match=message):
        record(gpt2, make_items(5), tmp_path / "a.nwb", **options)
    assert not list(tmp_path.iterdir())


def test_surprisal_of_token_ids_is_refused(language, tmp_path):
    with pytest.raises(ValueError, match="surprisal is that of words"):
        record(language, [[1, 2, 3]], tmp_path / "a.nwb", online=["surprisal"])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"source": 3}, TypeError),
        ({"source": "no-such-file.txt"}, FileNotFoundError),
        ({"window": 0}, ValueError),
        ({"look_ahead": 0}, ValueError),
        ({"split": "word"}, ValueError),
        ({"column": 1}, TypeError),
        ({"name": 1}, TypeError),
    ],
)
def test_a_wrong_corpus_is_refused_when_it_is_made(wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        Corpus(**{"source": ["a"], "window": 8} | wrong)


def test_an_empty_corpus_is_refused(gpt2, tmp_path):
    with pytest.raises(ValueError, match="source holds no text"):
        record(gpt2, [], tmp_path / "a.nwb")


# ------------------------------------------------------------------ what others see
def test_the_file_says_what_it_is(gpt2, tmp_path, capsys):
    session = record(gpt2, make_items(20), tmp_path / "a.nwb")
    assert f"corpus 'corpus': 20 items, {session.stream['windows']} windows" in session.summary()
    assert session.to_dict()["stream"] == session.stream
    assert session.sites == [] and len(session.trial_table) == 0
    assert verify_session(session.path, progress=False).intact
    assert main(["info", str(session.path)]) == 0
    assert "recorded   complete\n" in capsys.readouterr().out


def test_command_line(tmp_path, capsys):
    text, path = tmp_path / "stories.txt", tmp_path / "a.nwb"
    text.write_text("\n".join(TEXTS), encoding="utf-8")
    command = ["record", "builtin:language", str(text), str(path), "--window", "12", "--quiet"]
    assert main(command) == 1
    assert "records nothing" in capsys.readouterr().err
    assert main([*command, "--online", '{name = "moments", order = ']) == 1
    assert "is not understood" in capsys.readouterr().err
    assert main([*command, "--online", '{name = "moments", order = 4}', "surprisal"]) == 0
    assert "corpus 'stories': 12 items" in capsys.readouterr().out
    assert main(["info", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["stream"]["items"] == 12 and any("surprisal" in n for n in said["online"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(language, tmp_path):
    import psutil

    def source(n):
        rng = np.random.default_rng(0)
        for _ in range(n):
            yield rng.integers(0, 500, 32).tolist()

    process, peak = psutil.Process(), []
    for n in (200, 4000):
        kept = {"online": ["moments"], "sites": "resid", "batch_size": 8, "overwrite": True}
        record(language, Corpus(source(n), window=32), tmp_path / "a.nwb", **kept)
        peak.append(process.memory_info().rss)
    assert peak[1] - peak[0] < 20e6


RANKS = """
import sys
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from conftest import make_model
from test_stream_run import record, make_items
import netphys
record(netphys.load_subject(make_model("gpt2")), make_items(40), {file!r}, {options})
"""


@pytest.mark.slow
def test_two_ranks_count_what_one_counts(tmp_path, one_thread, gpt2):  # noqa: F811
    tests = Path(__file__).parent
    file, script = tmp_path / "a.nwb", tmp_path / "script.py"
    for n, options in enumerate(["", "resume=True", "overwrite=True"]):
        script.write_text(
            RANKS.format(path=[str(tests), str(tests.parent)], file=str(file), options=options)
        )
        code, _, said = run_torchrun(script)
        assert code == 0, (n, said)
        session = netphys.open_session(file)
        whole = record(gpt2, make_items(40), tmp_path / "whole.nwb", overwrite=True)
        check_same_statistics(session, whole, 1e-6)
        assert session.stream == whole.stream and session.provenance["ranks"] == 2
    with pytest.raises(ValueError, match="has seen 40 items"):
        record(gpt2, make_items(41), file, resume=True)
