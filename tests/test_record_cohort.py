"""One call records seeds, checkpoints or models into a family of files that opens as one cohort."""

from __future__ import annotations

import functools
import json
import re
import weakref

import numpy as np
import pandas as pd
import pytest
from conftest import check_nwb, make_model, make_stimuli

import netphys
from netphys.analysis.rsa import compute_layer_rdms
from netphys.data.cohort import Cohort, open_cohort
from netphys.data.nwb_header import SessionFileError
from netphys.recording import cohort as cohort_module
from netphys.recording.cohort import record_cohort

QUIET = {"progress": False, "batch_size": 4}
SITE = "transformer.h.1"


@pytest.fixture
def folder(tmp_path_factory):
    """A folder whose files are not opened in other readers afterwards: this takes a second each."""
    return tmp_path_factory.mktemp("cohort")


def make_seed(k: int) -> netphys.Subject:
    return netphys.load_subject(make_model("gpt2"), init="random", seed=k)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    place = tmp_path_factory.mktemp("seeds") / "family"
    model = make_model("gpt2")
    return record_cohort(model, make_stimuli("gpt2"), place, seeds=range(5), **QUIET)


def test_seeds_are_recorded_side_by_side(seeds, folder):
    check_nwb(seeds["seed0"].path)
    assert seeds.labels == [f"seed{k}" for k in range(5)]
    assert (seeds.factor, seeds.dim) == ("seed", "seed")
    data = seeds.pool(SITE)
    assert data.dims == ("seed", "trial", "unit") and list(data["seed"].values) == seeds.labels
    alone = netphys.record(make_seed(3), make_stimuli("gpt2"), folder / "a.nwb", **QUIET)
    np.testing.assert_array_equal(data.sel(seed="seed3"), alone.pool(SITE))
    assert len({data[i].values.tobytes() for i in range(5)}) == 5
    rdm = compute_layer_rdms(seeds)
    assert rdm.data.dims[-1] == "seed" and rdm.data.sizes["seed"] == 5


def test_manifest_says_what_is_where(seeds):
    folder = seeds["seed0"].path.parent
    said = json.loads((folder / "cohort.json").read_text())
    assert said["netphys_cohort"] == 1 and said["factor"] == "seed"
    assert [m["file"] for m in said["members"]] == [f"seed{k}.nwb" for k in range(5)]
    assert said["members"][2]["source"]["seed"] == 2 and len(said["members"][2]["header"]) == 112
    assert said["sites"] == ["transformer.h.0", SITE]
    assert said["stimuli"]["sha256"] == make_stimuli("gpt2").compute_hash()
    assert sorted(p.name for p in folder.iterdir()) == [
        "cohort.json", *(f"seed{k}.nwb" for k in range(5)),
    ]  # fmt: skip
    again = open_cohort(folder)
    assert again.labels == seeds.labels and again.factor == "seed"


def test_population_needs_five_different_seeds(seeds):
    seeds.check_population()
    some = {k: seeds[k] for k in seeds.labels[:4]}
    with pytest.raises(ValueError, match="a cohort of 4 seeds allows no claim about networks"):
        Cohort(some).check_population()
    with pytest.raises(ValueError, match="'seed1' and 'copy' have the same weights"):
        Cohort({**some, "copy": seeds["seed1"]}).check_population()
    with pytest.raises(ValueError, match="differ by checkpoint, which is not drawn at random"):
        Cohort(some, factor="checkpoint").check_population()
    with pytest.raises(ValueError, match="factor='seeds' is unknown"):
        Cohort(some, factor="seeds")


def test_checkpoints_lie_along_model_with_their_step(folder):
    folders = {}
    for step in (0, 500, 1000):
        folders[f"step{step}"] = path = folder / "weights" / str(step)
        netphys.load_subject(make_model("gpt2"), init="random", seed=step).model.save_pretrained(
            path
        )
    cohort = record_cohort(
        folders, make_stimuli("gpt2"), folder / "c", factor="checkpoint", **QUIET
    )
    data = cohort.pool(SITE)
    assert data.dims == ("model", "trial", "unit")
    assert data["step"].values.tolist() == [0, 500, 1000] and data["step"].dims == ("model",)
    assert data["model"].values.tolist() == ["step0", "step500", "step1000"]
    rdm = compute_layer_rdms(cohort).data
    assert rdm.dims[-1] == "model" and rdm["step"].values.tolist() == [0, 500, 1000]
    named = {"early": cohort["step0"], "step1000": cohort["step1000"]}
    assert "step" not in Cohort(named, factor="checkpoint").coords
    assert "step" not in Cohort({"step1000": cohort["step0"]}, factor="model").coords


def test_revisions_are_loaded_by_name(folder, monkeypatch):
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return make_seed(len(asked))

    monkeypatch.setattr(cohort_module, "load_subject", load)
    revisions, more = ["step1", "step20"], {"dtype": "float32"}
    cohort = record_cohort(
        "lab/net", make_stimuli("gpt2"), folder, revisions=revisions, load=more, **QUIET
    )
    assert asked == [("lab/net", {"dtype": "float32", "revision": r}) for r in revisions]
    assert cohort.factor == "checkpoint" and cohort.coords["step"] == ("model", [1, 20])


def test_models_may_differ_and_only_one_is_in_memory(folder):
    alive: list[weakref.ref] = []

    def load(family):
        assert not any(ref() for ref in alive)
        subject = netphys.load_subject(make_model(family))
        alive.append(weakref.ref(subject.model))
        return subject

    models = {"gpt two": lambda: load("gpt2"), "llama": lambda: load("llama")}
    cohort = record_cohort(models, make_stimuli("gpt2"), folder, **QUIET)
    assert cohort.factor == "model" and cohort.sites == [] and len(alive) == 2
    assert cohort["llama"].sites == ["model.layers.0", "model.layers.1"]


# ---------------------------------------------------------------- interruptions
def test_an_interrupted_cohort_goes_on(seeds, folder, monkeypatch):
    stimuli, loaded = make_stimuli("gpt2"), []
    real = cohort_module.record

    def load(k):
        loaded.append(k)
        return make_seed(k)

    def make():
        return {f"seed{k}": (lambda k=k: load(k)) for k in range(3)}

    @functools.wraps(real)
    def interrupted(subject, stimuli, path, **options):
        if path.name == "seed1.nwb":
            hook = subject.model.lm_head.register_forward_hook(stop)
            try:
                return real(subject, stimuli, path, **options)
            finally:
                hook.remove()
        return real(subject, stimuli, path, **options)

    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 4:  # two for the probe, one batch, then
            raise KeyboardInterrupt

    options = {**QUIET, "batch_size": 1, "factor": "seed"}
    monkeypatch.setattr(cohort_module, "record", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        record_cohort(make(), stimuli, folder, **options)
    assert caught.value.__notes__ == ["netphys: while recording 'seed1' of the cohort"]
    monkeypatch.setattr(cohort_module, "record", real)
    first = (folder / "seed0.nwb").read_bytes()
    assert not netphys.open_session(folder / "seed1.nwb").complete
    with pytest.raises(ValueError, match=r"2 of 3 members are not finished \(seed1, seed2\)"):
        open_cohort(folder)
    with pytest.raises(FileExistsError, match=r"holds a cohort\. Go on with resume=True"):
        record_cohort(make(), stimuli, folder, **options)
    loaded.clear()
    cohort = record_cohort(make(), stimuli, folder, resume=True, **options)
    assert loaded == [1, 2]  # the finished one is not even loaded
    assert (folder / "seed0.nwb").read_bytes() == first
    np.testing.assert_allclose(cohort.pool(SITE)[1], seeds.pool(SITE)[1], atol=1e-6)
    more = {**make(), "seed3": lambda: load(3)}
    assert record_cohort(more, stimuli, folder, resume=True, **options).labels[3] == "seed3"
    assert loaded == [1, 2, 3]
    assert not list(folder.glob("*.lock")) and not list(folder.glob(".*"))


def test_resume_refuses_another_cohort(folder):
    stimuli = make_stimuli("gpt2")
    members = {"a": make_seed(0), "b": make_seed(1)}
    record_cohort(members, stimuli, folder, **QUIET)

    def again(message, kind=ValueError, given=members, shown=stimuli, **options):
        with pytest.raises(kind, match=message):
            record_cohort(given, shown, folder, resume=True, **{**QUIET, **options})

    again("cannot be resumed: batch_size was 4 and is now 2", batch_size=2)
    again("cannot be resumed: stimuli was ", shown=make_stimuli("gpt2", n=6))
    again("cannot be resumed: factor was 'model' and is now 'seed'", factor="seed")
    again("has a member 'b' that is not given now", given={"a": members["a"]})
    again(r"subjects\['a'\] was {'model': 'GPT2", given={**members, "a": lambda: 0})
    again(
        "subject.seed was 0 and is now 5", given={**members, "a": make_seed(5)}
    )  # in memory: compared
    (folder / "cohort.json").unlink()
    again("has a file 'a.nwb' that belongs to no cohort", kind=FileExistsError)


def test_open_cohort_finds_what_was_changed(folder):
    members = {"a": make_seed(0), "b": make_seed(1)}
    record_cohort(members, make_stimuli("gpt2"), folder, **QUIET)
    a, b, listed = (folder / n for n in ("a.nwb", "b.nwb", "cohort.json"))
    kept = a.read_bytes()
    a.write_bytes(b.read_bytes())
    with pytest.raises(SessionFileError, match="is not the file that was recorded as 'a'"):
        open_cohort(folder)
    a.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.nwb"):
        open_cohort(folder)
    a.write_bytes(kept)
    text = listed.read_text()
    for broken in ("{", "[]", text.replace('"label": "a"', '"label": "../a"')):
        listed.write_text(broken)
        with pytest.raises(SessionFileError, match="is not the list of a cohort"):
            open_cohort(folder)
    listed.write_text(text.replace('"netphys_cohort": 1', '"netphys_cohort": 9'))
    with pytest.raises(SessionFileError, match="has version 9; this netphys reads 1"):
        open_cohort(folder)
    listed.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no cohort \(cohort.json is missing\)"):
        open_cohort(folder)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    "label", ["a/b", "..", ".a", "a.", "a ", "", "con", "NUL.x", "é", "a" * 101, "a\\b", "a:b"]
)
def test_unsafe_labels_are_refused(label, folder):
    with pytest.raises(ValueError, match=re.escape(f"label={label!r} cannot name a file")):
        record_cohort({label: make_seed(0)}, make_stimuli("gpt2"), folder / "c", **QUIET)
    assert not (folder / "c").exists()


def test_labels_that_differ_in_case_only_are_refused(folder):
    members = {"a": make_seed(0), "A": make_seed(1)}
    with pytest.raises(ValueError, match="label='A' and 'a' would name one file"):
        record_cohort(members, make_stimuli("gpt2"), folder, **QUIET)
    with pytest.raises(TypeError, match="label=1 is an int"):
        record_cohort({1: make_seed(0)}, make_stimuli("gpt2"), folder, **QUIET)


def test_a_seed_with_other_sites_is_refused_before_it_is_recorded(folder):
    members = {"a": make_seed(0), "b": netphys.load_subject(make_model("gpt2", layers=1))}
    with pytest.raises(ValueError, match=r"'b' has other sites than the first .*transformer\.h\.1"):
        record_cohort(members, make_stimuli("gpt2"), folder, factor="seed", **QUIET)
    assert (folder / "a.nwb").exists() and not (folder / "b.nwb").exists()


@pytest.mark.parametrize(
    ("given", "options", "kind", "message"),
    [
        ("net", {}, ValueError, "Give seeds= or revisions="),
        ("net", {"seeds": [0], "revisions": ["a"]}, ValueError, "Give seeds= or revisions="),
        ("net", {"seeds": [0, 0]}, ValueError, "seeds=[0, 0] must be different numbers"),
        ("net", {"seeds": []}, ValueError, "seeds=[] must be different numbers"),
        ("net", {"seeds": ["a"]}, TypeError, "seeds='a' is a str"),
        ("net", {"seeds": [0], "init": "trained"}, ValueError, "init='trained' is unknown"),
        ("net", {"seeds": [0], "factor": "model"}, ValueError, "what is given varies by 'seed'"),
        ("net", {"revisions": []}, ValueError, "revisions= needs the name of a model"),
        ("net", {"revisions": "main"}, TypeError, "Give a list of names of revisions"),
        ({}, {}, ValueError, "subjects is empty"),
        ({"a": "net"}, {"seeds": [0]}, ValueError, "subjects is a mapping"),
        ({"a": 3}, {}, TypeError, "subjects['a']=3 is a int"),
        ({"a": "net"}, {"factor": "seeds"}, ValueError, "factor='seeds' is unknown"),
        ({"a": "net"}, {"overwrite": True}, TypeError, "overwrite= is no option of record_cohort"),
        ({"a": "net"}, {"stores": 1}, TypeError, "stores= is no option of record_cohort. Did you"),
        (3, {"seeds": [0]}, TypeError, "Give a mapping of labels to subjects, or one model"),
        ({"a": lambda: 3}, {}, TypeError, "Give what load_subject returns"),
    ],
)
def test_record_cohort_refuses(given, options, kind, message, folder):
    with pytest.raises(kind, match=re.escape(message)):
        record_cohort(given, make_stimuli("gpt2"), folder / "c", progress=False, **options)


def test_another_process_is_kept_out(folder):
    from netphys.data._files import FileLock

    with (
        FileLock(folder / "cohort.json"),
        pytest.raises(BlockingIOError, match="is being written by another process"),
    ):
        record_cohort({"a": make_seed(0)}, make_stimuli("gpt2"), folder, **QUIET)


def test_pool_refuses_a_column_named_like_what_varies(folder, gpt2):
    table = make_stimuli("gpt2").table.assign(seed=1)
    stimuli = netphys.load_stimuli(pd.DataFrame(table))
    cohort = record_cohort({"a": gpt2}, stimuli, folder, factor="seed", **QUIET)
    with pytest.raises(
        ValueError, match="column 'seed' of the stimuli has the name of what varies"
    ):
        cohort.pool(SITE)
