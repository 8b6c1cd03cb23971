"""Protocols: what a TOML file may say, and the message for everything else."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys._shipped import list_protocols, protocol_path, shipped_path
from netphys._toml_lines import key_lines
from netphys.protocol import (
    MatchTable,
    OtherTable,
    Protocol,
    ProtocolError,
    StimuliTable,
    TopologyTable,
    load_protocol,
    make_protocol,
)

SMALL = """\
schema = 1

[subject]
name = "builtin:language"

[stimuli]
source = "builtin:sentences"
"""

FULL = """\
schema = 1
title = "All of it"
description = "Every key."

[subject]
name = "org/model"
init = "shuffled"
seed = 7
dtype = "bfloat16"
device = "cuda:1"
revision = "abc"
trust_remote_code = true

[[twins]]
name = "untrained"
init = "random"
seed = 3

[[twins]]
name = "twin-2_b"

[stimuli]
source = "builtin:sentences"

[record]
sites = ["embed", "h.*.mlp@in"]
dtype = "float16"
batch_size = 16
nonfinite = "keep"
"""

RECORD = SMALL + "\n[record]\n"


@pytest.fixture
def write(tmp_path):
    """Write a protocol file and return its path."""

    def write(text: str, name: str = "p.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(textwrap.dedent(text).encode())
        return path

    return write


def test_load_protocol_fills_in_every_default(write):
    protocol = load_protocol(write(SMALL))
    assert json.loads(protocol.to_json()) == {
        "schema": 1,
        "title": "",
        "description": "",
        "question": "",
        "subject": {
            "name": "builtin:language",
            "init": "trained",
            "seed": 0,
            "dtype": None,
            "device": "cpu",
            "revision": None,
            "trust_remote_code": False,
        },
        "twins": [],
        "others": [],
        "stimuli": {"source": "builtin:sentences", "context_words": None},
        "record": {
            "sites": ["resid"],
            "dtype": "native",
            "batch_size": 8,
            "nonfinite": "raise",
            "store": ["samples"],
            "units": {},
            "threshold": None,
            "top_k": 32,
            "online": [],
            "generate": None,
            "compile": False,
            "max_memory": None,
        },
        "match": None,
        "topology": None,
    }


def test_load_protocol_keeps_every_given_value(write):
    path = write(FULL)
    protocol = load_protocol(path)
    assert (protocol.schema, protocol.title, protocol.description) == (1, "All of it", "Every key.")
    subject = protocol.subject
    assert (subject.name, subject.init, subject.seed) == ("org/model", "shuffled", 7)
    assert (subject.dtype, subject.device, subject.revision) == ("bfloat16", "cuda:1", "abc")
    assert subject.trust_remote_code is True
    assert [(t.name, t.init, t.seed) for t in protocol.twins] == [
        ("untrained", "random", 3),
        ("twin-2_b", "random", 0),
    ]
    assert protocol.record.sites == ("embed", "h.*.mlp@in")
    assert (protocol.record.dtype, protocol.record.batch_size) == ("float16", 16)
    assert protocol.record.nonfinite == "keep"
    assert protocol.path == path


def test_load_protocol_accepts_inline_tables_crlf_and_byte_order_mark(tmp_path):
    path = tmp_path / "p.toml"
    text = SMALL.replace("schema = 1", 'schema = 1\ntwins = [{name = "a"}, {name = "b", seed = 1}]')
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [t.name for t in load_protocol(path).twins] == ["a", "b"]


def test_protocol_is_frozen_comparable_and_hashable(write):
    one, two = load_protocol(write(FULL)), load_protocol(write(FULL, "other.toml"))
    assert one == two and hash(one) == hash(two) and one.path != two.path
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        one.title = "x"


def test_to_json_has_sorted_keys_and_no_path(write):
    text = load_protocol(write(FULL)).to_json()
    content = json.loads(text)
    assert list(content) == sorted(content) and "path" not in content
    assert "tmp" not in text and "_written" not in text


def test_load_protocol_resolves_paths_beside_the_file(tmp_path, write):
    path = write(SMALL.replace("builtin:language", "../models/m").replace("builtin:s", "s"))
    protocol = load_protocol(path)
    assert protocol.subject.name == str(tmp_path.resolve().parent / "models" / "m")
    assert protocol.stimuli.source == str(tmp_path.resolve() / "sentences")


def test_to_json_keeps_relative_paths_as_written(write):
    text = SMALL.replace("builtin:language", "./m").replace("builtin:sentences", "s/a.tsv")
    content = json.loads(load_protocol(write(text)).to_json())
    assert (content["subject"]["name"], content["stimuli"]["source"]) == ("./m", "s/a.tsv")


@pytest.mark.parametrize("name", ["org/model", "gpt2", ".hidden", "..."])
def test_load_protocol_leaves_other_subject_names_alone(write, name):
    assert load_protocol(write(SMALL.replace("builtin:language", name))).subject.name == name


def test_load_protocol_starts_overridden_paths_at_the_working_directory(
    tmp_path, write, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    protocol = load_protocol(write(SMALL), overrides=["stimuli.source=a.tsv", "subject.name=./m"])
    assert protocol.stimuli.source == str(elsewhere.resolve() / "a.tsv")
    assert protocol.subject.name == str(elsewhere.resolve() / "m")
    assert json.loads(protocol.to_json())["stimuli"]["source"] == protocol.stimuli.source


@pytest.mark.parametrize("source", ["p.toml", "./p.toml", Path("p.toml")])
def test_load_protocol_takes_relative_paths(write, monkeypatch, source):
    path = write(SMALL)
    monkeypatch.chdir(path.parent)
    assert load_protocol(source).path == path


# Shipped protocols


def test_load_protocol_finds_shipped_protocols_by_name():
    protocol = load_protocol("quickstart")
    assert protocol.path == protocol_path("quickstart")
    assert protocol.subject.name == "builtin:language"
    assert [(t.name, t.init, t.seed) for t in protocol.twins] == [("untrained", "random", 0)]
    assert protocol.record.sites == ("embed", "resid", "mlp", "logits")


@pytest.mark.parametrize("name", list_protocols())
def test_shipped_protocols_are_valid_titled_and_portable(name):
    protocol = load_protocol(name)
    assert protocol.title and protocol.description
    assert protocol.subject.device == "cpu" and not protocol.subject.trust_remote_code
    assert not json.loads(protocol.to_json())["stimuli"]["source"].startswith("/")


def test_load_protocol_suggests_the_nearest_shipped_name():
    message = r"^'quikstart' is not a shipped protocol\. Did you mean 'quickstart'\?.*\.toml\.$"
    with pytest.raises(ProtocolError, match=message):
        load_protocol("quikstart")


def test_shipped_path_names_the_nearest_file():
    assert shipped_path("__init__.py").is_file()
    with pytest.raises(
        FileNotFoundError, match=r"'__init.py' is not .* Did you mean '__init__.py'"
    ):
        shipped_path("__init.py")


# Errors: each names the file, the line where there is one, the full key, and a way out


def change(old: str, new: str) -> str:
    assert FULL.count(old) == 1, old
    return FULL.replace(old, new)


BAD_FILES = {
    "unknown key": (
        change("batch_size = 16", "batch_sise = 16"),
        r"^p\.toml, line 28: record\.batch_sise is not a key\. Did you mean 'batch_size'\? "
        r"Keys of \[record\]: batch_size, compile, dtype, generate, max_memory, nonfinite, online, "
        r"sites, store, threshold, top_k, units\.$",
    ),
    "unknown table": (
        change("[record]", "[recrod]"),
        r"^p\.toml, line 25: recrod is not a key\. Did you mean 'record'\? "
        r"Keys of a protocol: description, match, others, question, record, schema, stimuli, "
        r"subject, title, topology, "
        r"twins\.$",
    ),
    "key of another table": (
        change("device", "batch_size"),
        r"^p\.toml, line 10: subject\.batch_size is not a key\. It is a key of \[record\]\. Keys",
    ),
    "unknown key of a twin": (
        change('name = "twin-2_b"', 'name = "b"\nsede = 1'),
        r"^p\.toml, line 21: twins\[1\]\.sede is not a key\. Did you mean 'seed'\? "
        r"Keys of \[\[twins\]\]: init, name, seed\.$",
    ),
    "unknown nested table": (
        FULL + '\n[record.extra]\nx = "record.batch_sise"\n',
        r"^p\.toml, line 31: record\.extra is not a key\. Keys of \[record\]",
    ),
    "whole number as text": (
        change("batch_size = 16", 'batch_size = "16"'),
        r"^p\.toml, line 28: record\.batch_size='16' is a str\. Give a whole number",
    ),
    "whole number as float": (
        change("batch_size = 16", "batch_size = 16.0"),
        r"^p\.toml, line 28: record\.batch_size=16\.0 is a float\. Give a whole number",
    ),
    "whole number as bool": (
        change("batch_size = 16", "batch_size = true"),
        r"^p\.toml, line 28: record\.batch_size=True is a bool\. Give a whole number",
    ),
    "batch size too small": (
        change("batch_size = 16", "batch_size = 0"),
        r"^p\.toml, line 28: record\.batch_size=0 is too small\. Give .* at least 1\.$",
    ),
    "seed below zero": (
        change("seed = 7", "seed = -1"),
        r"^p\.toml, line 8: subject\.seed=-1 is out of range\. Give a whole number from 0 to",
    ),
    "seed too large": (
        change("seed = 3", f"seed = {2**63}"),
        r"^p\.toml, line 17: twins\[0\]\.seed=9223372036854775808 is out of range\.",
    ),
    "seed as date": (
        change("seed = 7", "seed = 1979-05-27 07:32:00"),
        r"^p\.toml, line 8: subject\.seed=datetime.* is a datetime\. Give a whole number",
    ),
    "flag as text": (
        change("trust_remote_code = true", 'trust_remote_code = "yes"'),
        r"^p\.toml, line 12: subject\.trust_remote_code='yes' is a str\. Give true or false\.$",
    ),
    "title as number": (
        change('title = "All of it"', "title = 3"),
        r"^p\.toml, line 2: title=3 is an int\. Give a string in quotes\.$",
    ),
    "description as list": (
        change('description = "Every key."', "description = []"),
        r"^p\.toml, line 3: description=\[\] is a list\. Give a string",
    ),
    "unknown init": (
        change('init = "shuffled"', 'init = "shufled"'),
        r"^p\.toml, line 7: subject\.init='shufled' is unknown\. Choose one of: "
        r"'trained', 'random', 'shuffled'\. Did you mean 'shuffled'\?$",
    ),
    "init as number": (
        change('init = "random"', "init = 1"),
        r"^p\.toml, line 16: twins\[0\]\.init=1 is an int\. Choose one of: 'trained', 'random'",
    ),
    "unknown weights dtype": (
        change('dtype = "bfloat16"', 'dtype = "native"'),
        r"^p\.toml, line 9: subject\.dtype='native' is unknown\. Choose one of: 'float32'",
    ),
    "unknown stored dtype": (
        change('dtype = "float16"\nb', 'dtype = "float64"\nb'),
        r"^p\.toml, line 27: record\.dtype='float64' is unknown\. Choose one of: 'native'",
    ),
    "unknown form": (
        RECORD + 'store = ["sample"]\n',
        r"^p\.toml, line \d+: record\.store\[0\]='sample' is unknown\..*Did you mean 'samples'",
    ),
    "unknown statistic": (
        RECORD + 'online = ["moment"]\n',
        r"line \d+: record\.online\[0\]='moment': online='moment' is unknown.*'moments'",
    ),
    "unknown option of a statistic": (
        RECORD + 'online = [{name = "moments", ordr = 4}]\n',
        r"record\.online\[0\]=.*'moments' has no option 'ordr'",
    ),
    "units that are no numbers": (
        RECORD + 'units = {mlp = ["a"]}\n',
        r"record\.units\.mlp='a' is a str",
    ),
    "a threshold in words": (RECORD + 'threshold = "high"\n', r"record\.threshold='high' is a str"),
    "generation without an end": (
        RECORD + "generate = {greedy = true}\n",
        r"record\.generate lacks max_new_tokens",
    ),
    "a match without samples": (
        RECORD + 'store = ["word.mean"]\n[match]\ndataset = "simulated"\nanalysis = "rsa"\n',
        r"record\.store=\['word\.mean'\] lacks 'samples'",
    ),
    "unknown nonfinite": (
        change('"keep"', '"skip"'),
        r"^p\.toml, line 29: record\.nonfinite='skip' is unknown\. Choose one of: 'raise', 'keep'",
    ),
    "empty subject name": (
        change('"org/model"', '" "'),
        r"^p\.toml, line 6: subject\.name=' ' is empty\. Give it a value",
    ),
    "empty sites": (
        change('["embed", "h.*.mlp@in"]', "[]"),
        r'^p\.toml, line 26: record\.sites=\[\] is empty\. Give at least one site, such as \["res',
    ),
    "sites as text": (
        change('["embed", "h.*.mlp@in"]', '"embed"'),
        r"^p\.toml, line 26: record\.sites='embed' is a str\. Give a list of sites",
    ),
    "site as number": (
        change('["embed", "h.*.mlp@in"]', '["embed", 3]'),
        r"^p\.toml, line 26: record\.sites\[1\]=3 is an int\. Give a string in quotes\.$",
    ),
    "site twice": (
        change('["embed", "h.*.mlp@in"]', '["embed",\n"mlp",\n"embed"]'),
        r"^p\.toml, line 26: record\.sites\[2\]='embed' is listed twice\. Name each site once\.$",
    ),
    "no subject name": (
        change('name = "org/model"\n', ""),
        r"^p\.toml, line 5: subject\.name is missing\. Give it a value\.$",
    ),
    "no subject": (
        'schema = 1\n[stimuli]\nsource = "builtin:sentences"\n',
        r"^p\.toml: subject\.name is missing\. Give it a value\.$",
    ),
    "no stimuli source": (
        change('source = "builtin:sentences"', ""),
        r"^p\.toml, line 22: stimuli\.source is missing\. Give it a value\.$",
    ),
    "no twin name": (
        change('name = "twin-2_b"', ""),
        r"^p\.toml, line 19: twins\[1\]\.name is missing\. Give it a value\.$",
    ),
    "no schema": (
        change("schema = 1\n", ""),
        r"^p\.toml: schema is missing\. Write 'schema = 1' above the first table\.$",
    ),
    "later schema": (
        "schema = 2\nsubjects = 3\n",
        r"^p\.toml, line 1: schema=2 cannot be read: this version of netphys reads schema 1\.",
    ),
    "schema as text": (
        change("schema = 1", 'schema = "1"'),
        r"^p\.toml, line 1: schema='1' cannot be read: this version of netphys reads schema 1\.",
    ),
    "schema as bool": (
        change("schema = 1", "schema = true"),
        r"^p\.toml, line 1: schema=True cannot be read",
    ),
    "twin names equal": (
        change('name = "twin-2_b"', 'name = "Untrained"'),
        r"^p\.toml, line 20: twins\[1\]\.name='Untrained' is given twice \(letter case",
    ),
    "twin named like the main session": (
        change('name = "twin-2_b"', 'name = "Subject"'),
        r"^p\.toml, line 20: twins\[1\]\.name='Subject' is the name of another session\.",
    ),
    "twin name no file name": (
        change('name = "twin-2_b"', 'name = "../x"'),
        r"^p\.toml, line 20: twins\[1\]\.name='\.\./x' cannot name a session file\. Use letters",
    ),
    "twin equal to the subject": (
        change('init = "random"\nseed = 3', 'init = "shuffled"\nseed = 7'),
        r"^p\.toml, line 16: twins\[0\]\.init='shuffled' with this seed gives the weights of the "
        r"subject itself\. Choose another init or seed\.$",
    ),
    "trained twin of a trained subject": (
        SMALL + '[[twins]]\nname = "x"\ninit = "trained"\nseed = 5\n',
        r"^p\.toml, line 10: twins\[0\]\.init='trained' with this seed gives the weights",
    ),
    "twins as table": (
        SMALL + '[twins]\nname = "x"\n',
        r"^p\.toml, line 8: twins is not a list of tables\. Write \[\[twins\]\] above each one\.$",
    ),
    "twins of numbers": (
        SMALL.replace("schema = 1", "schema = 1\ntwins = [\n 3]"),
        r"^p\.toml, line 3: twins\[0\]=3 is not a table\. Write its keys under \[\[twins\]\]\.$",
    ),
    "table as number": (
        SMALL.replace("schema = 1", "schema = 1\nrecord = 3"),
        r"^p\.toml, line 2: record=3 is not a table\. Write its keys under \[record\]\.$",
    ),
    "no TOML": (
        change("seed = 7", "seed 7"),
        r"^p\.toml, line 8: not valid TOML: Expected '=' after a key .* \(column 6\)\.$",
    ),
    "key twice": (
        change("seed = 7", "seed = 7\nseed = 8"),
        r"^p\.toml, line 9: not valid TOML: Cannot overwrite a value \(column \d+\)\.$",
    ),
    "end too early": (
        SMALL + "x = [1,",
        r"^p\.toml is not valid TOML: .*\(at end of document\)\.$",
    ),
    "number too long": (SMALL + "x = " + "1" * 5000, r"^p\.toml is not valid TOML: Exceeds"),
    "nested too deeply": (SMALL + "x = " + "[" * 100_000, r"^p\.toml is nested too deeply"),
    "empty file": ("", r"^p\.toml: schema is missing\."),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_load_protocol_says_what_is_wrong_and_where(write, text, message):
    with pytest.raises(ProtocolError, match=message):
        load_protocol(write(text))


def test_load_protocol_refuses_other_encodings(tmp_path):
    path = tmp_path / "p.toml"
    path.write_bytes('schema = 1\ntitle = "Größe"\n'.encode("latin-1"))
    with pytest.raises(ProtocolError, match=r"^p\.toml, line 2: byte 0xf6 is not UTF-8\. Save"):
        load_protocol(path)


def test_load_protocol_refuses_missing_files_and_folders(tmp_path):
    with pytest.raises(ProtocolError, match=r"none\.toml does not exist \(working directory: .*\)"):
        load_protocol(tmp_path / "none.toml")
    with pytest.raises(ProtocolError, match=r"is a folder\. Give the path of a TOML file\.$"):
        load_protocol(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no symbolic links to nowhere")
def test_load_protocol_says_why_a_file_cannot_be_read(tmp_path, monkeypatch):
    def deny(self):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "p.toml"
    path.write_text(SMALL)
    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(ProtocolError, match=r"p\.toml cannot be read: Permission denied\.$"):
        load_protocol(path)


@pytest.mark.parametrize("source", [None, 3, b"p.toml"])
def test_load_protocol_refuses_what_is_no_path(source):
    with pytest.raises(TypeError, match=r"^source=.* Give the path of a TOML file or a shipped"):
        load_protocol(source)


# Overrides


def test_overrides_change_values_in_order(write):
    overrides = [
        "record.batch_size=4",
        "record.batch_size = 5",
        'record.sites=["mlp"]',
        "subject.init=trained",
        'subject.device="cpu"',
        "subject.trust_remote_code=false",
        "title=A = B # c",
        "twins=[]",
    ]
    protocol = load_protocol(write(FULL), overrides=overrides)
    assert (protocol.record.batch_size, protocol.record.sites) == (5, ("mlp",))
    assert (protocol.subject.init, protocol.subject.device) == ("trained", "cpu")
    assert protocol.subject.trust_remote_code is False
    assert (protocol.title, protocol.twins) == ("A = B # c", ())


def test_overrides_reach_tables_that_the_file_leaves_out(write):
    assert load_protocol(write(SMALL), overrides=["record.batch_size=2"]).record.batch_size == 2
    text = 'schema = 1\nstimuli = {source = "builtin:sentences"}'
    assert load_protocol(write(text), overrides=["subject.name=gpt2"]).subject.name == "gpt2"


def test_overrides_take_several_lines_as_a_string(write):
    protocol = load_protocol(write(SMALL), overrides=["title=1\nschema = 2"])
    assert (protocol.title, protocol.schema) == ("1\nschema = 2", 1)


BAD_OVERRIDES = {
    "record.batch_sise=4": r"record\.batch_sise is not a key\. Did you mean 'batch_size'\? Keys of",
    "batch_size=4": r"batch_size is not a key\. It is a key of \[record\]\. Keys of a protocol:",
    "recrod.batch_size=4": r"recrod\.batch_size is not a key\. It is a key of \[record\]\.",
    "record.sites.x=4": r"record\.sites\.x is not a key\. Keys of \[record\]",
    "title.x=4": r"title\.x is not a key\.",
    "=4": r" is not a key\. Keys of a protocol",
    "record.batch_size=04": r"record\.batch_size='04' is a str\. Give a whole number",
    "record.batch_size=": r"record\.batch_size='' is a str\. Give a whole number",
    "record.batch_size=-1": r"record\.batch_size=-1 is too small",
    "record.sites=mlp": r"record\.sites='mlp' is a str\. Give a list of sites",
    "record.nonfinite=kep": r"record\.nonfinite='kep' is unknown\. .* Did you mean 'keep'\?",
    "record.batch_size": r"there is no '='\. Write key=value, such as record\.batch_size=4\.",
    "record={}": r"record is a table\. Override one of its keys: record\.batch_size, record\.c",
    "schema=2": r"schema says how the file is written and cannot be overridden\.",
    'twins=[{name="x"}]': r"twins cannot be overridden, only left out: twins=\[\]\.",
    "twins=3": r"twins cannot be overridden, only left out",
    "twins.name=x": r"twins cannot be overridden, only left out",
}


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES.items(), ids=BAD_OVERRIDES.keys())
def test_overrides_are_checked_like_the_file(write, override, message):
    with pytest.raises(ProtocolError, match=r"^p\.toml, override '.*': .*" + message):
        load_protocol(write(FULL), overrides=[override])


def test_overrides_are_checked_for_their_kind(write):
    with pytest.raises(TypeError, match=r"^overrides='record\.batch_size=4' is a str\. Give a li"):
        load_protocol(write(FULL), overrides="record.batch_size=4")
    with pytest.raises(TypeError, match=r"^overrides=3 is an int\. Give strings such as"):
        load_protocol(write(FULL), overrides=[3])


def test_overrides_refuse_a_table_that_is_none(write):
    text = SMALL.replace("schema = 1", "schema = 1\nrecord = 3")
    with pytest.raises(ProtocolError, match=r"^p\.toml, line 2: record=3 is not a table\."):
        load_protocol(write(text), overrides=["record.batch_size=4"])


def test_overrides_leave_the_line_of_other_errors_alone(write):
    text = change("batch_size = 16", "batch_size = 0")
    with pytest.raises(ProtocolError, match=r"^p\.toml, line 28: record\.batch_size=0 is too"):
        load_protocol(write(text), overrides=["record.dtype=native"])


# Matching: others, match, question, context_words

STUDY = """\
schema = 1
question = "Why?"

[subject]
name = "./m"

[[twins]]
name = "untrained"

[[others]]
name = "other"
subject = "./n"

[[others]]
name = "seeds"
subject = "builtin:resnet18"
init = "random"
seeds = [3, 1]
sites = ["embed", "a.*"]

[stimuli]
source = "dataset:alice2016"
context_words = 12

[match]
dataset = "simulated"
analysis = "encoding"
sites = ["resid"]
metric = "euclidean"
method = "rho-a"
targets = ["group", "participant"]
generalize = ["stimuli", "participants"]
n_null = 0
n_bootstraps = 19
seed = 5
"""


def alter(old: str, new: str) -> str:
    assert STUDY.count(old) == 1, old
    return STUDY.replace(old, new)


def test_load_protocol_keeps_every_value_of_a_study(write, tmp_path):
    protocol = load_protocol(write(STUDY))
    assert protocol.question == "Why?"
    assert protocol.stimuli == StimuliTable(source="dataset:alice2016", context_words=12)
    assert protocol.others == (
        OtherTable(name="other", subject=str(tmp_path.resolve() / "n")),
        OtherTable(
            name="seeds",
            subject="builtin:resnet18",
            init="random",
            seeds=(3, 1),
            sites=("embed", "a.*"),
        ),
    )
    assert [o.session_names for o in protocol.others] == [
        {"other": 0},
        {"seeds-3": 3, "seeds-1": 1},
    ]
    assert protocol.match == MatchTable(
        dataset="simulated",
        analysis="encoding",
        sites=("resid",),
        metric="euclidean",
        method="rho-a",
        targets=("group", "participant"),
        generalize=("stimuli", "participants"),
        n_null=0,
        n_bootstraps=19,
        seed=5,
    )


def test_load_protocol_fills_in_every_default_of_a_study(write):
    text = (
        SMALL + '[match]\ndataset = "d"\nanalysis = "rsa"\n[[others]]\nname="o"\nsubject="gpt2"\n'
    )
    protocol = load_protocol(write(text))
    content = json.loads(protocol.to_json())
    assert content["match"] == {
        "dataset": "d",
        "analysis": "rsa",
        "sites": ["embed", "resid"],
        "metric": "correlation",
        "method": "spearman",
        "targets": ["participant"],
        "generalize": ["stimuli"],
        "n_null": None,
        "n_bootstraps": 1000,
        "seed": 0,
    }
    other = {"name": "o", "subject": "gpt2", "init": "trained", "seeds": [0], "sites": []}
    assert content["others"] == [other]


def test_sites_that_are_matched_are_recorded_if_nothing_is_said(write):
    match = '[match]\ndataset = "d"\nanalysis = "rsa"\n'
    assert load_protocol(write(SMALL + match)).record.sites == ("embed", "resid")
    text = SMALL + match + 'sites = ["mlp"]\n[record]\nbatch_size = 2\n'
    assert load_protocol(write(text)).record.sites == ("mlp",)
    assert load_protocol(write(text + 'sites = ["head"]\n')).record.sites == ("head",)
    assert load_protocol(write(SMALL)).record.sites == ("resid",)


def test_make_protocol_undoes_to_json(write):
    for source in [*list_protocols(), write(SMALL), write(FULL, "full.toml")]:
        protocol = load_protocol(source)
        assert make_protocol(protocol.to_json()) == protocol
    protocol = load_protocol(write(STUDY))
    again = make_protocol(protocol.to_json())
    assert (again.subject.name, again.others[0].subject) == ("./m", "./n")  # as they were written
    assert again.to_json() == protocol.to_json()
    assert (again.match, again.others[1], again.twins) == (
        protocol.match,
        protocol.others[1],
        protocol.twins,
    )


def test_shipped_protocols_ask_and_match():
    assert list_protocols() == ["alice-fmri", "digits-topology", "objects-it", "quickstart"]
    alice, digits, objects, quickstart = (load_protocol(name) for name in list_protocols())
    assert alice.match.analysis == "encoding" and alice.match.targets == ("participant", "group")
    assert alice.stimuli == StimuliTable(source="dataset:alice2016", context_words=40)
    assert objects.match.generalize == ("stimuli",)
    assert [len(o.seeds) for o in objects.others] == [1, 5]
    assert quickstart.match.dataset == "simulated"
    assert all(p.question.endswith("?") for p in (alice, digits, objects, quickstart))
    assert [p.analysis for p in (alice, digits, quickstart)] == ["encoding", "topology", "rsa"]
    assert digits.topology.noise == (0.0, 0.1, 0.2, 0.3, 0.4) and digits.topology.n_draws == 20


BAD_STUDIES = {
    "question as number": (
        alter('"Why?"', "3"),
        r"^p\.toml, line 2: question=3 is an int\. Give a string in quotes\.$",
    ),
    "unknown key of match": (
        alter("n_null", "n_nul"),
        r"^p\.toml, line 33: match\.n_nul is not a key\. Did you mean 'n_null'\? Keys of "
        r"\[match\]: analysis, dataset, generalize, method, metric, n_bootstraps, n_null, seed, "
        r"sites, targets\.$",
    ),
    "unknown key of others": (
        alter("seeds = [3", "seed = [3"),
        r"^p\.toml, line 18: others\[1\]\.seed is not a key\. Did you mean 'seeds'\? Keys of "
        r"\[\[others\]\]: init, name, seeds, sites, subject\.$",
    ),
    "unknown key of stimuli": (
        alter("context_words", "context_word"),
        r"^p\.toml, line 23: stimuli\.context_word is not a key\. Did you mean 'context_words'\?",
    ),
    "no dataset": (
        alter('dataset = "simulated"\n', ""),
        r"^p\.toml, line 25: match\.dataset is missing\. Give it a value\.$",
    ),
    "no analysis": (
        alter('analysis = "encoding"\n', ""),
        r"^p\.toml, line 25: match\.analysis is missing\. Give it a value\.$",
    ),
    "no other name": (
        alter('name = "other"\n', ""),
        r"^p\.toml, line 10: others\[0\]\.name is missing\. Give it a value\.$",
    ),
    "no other subject": (
        alter('subject = "./n"\n', ""),
        r"^p\.toml, line 10: others\[0\]\.subject is missing\. Give it a value\.$",
    ),
    "dataset as number": (alter('"simulated"', "3"), r"line 26: match\.dataset=3 is an int\."),
    "empty dataset": (alter('"simulated"', '" "'), r"line 26: match\.dataset=' ' is empty\."),
    "unknown analysis": (
        alter('"encoding"', '"rsaa"'),
        r"line 27: match\.analysis='rsaa' is unknown\. Choose one of: 'rsa', 'encoding'\. Did you",
    ),
    "match sites as text": (
        alter('sites = ["resid"]', 'sites = "resid"'),
        r"line 28: match\.sites='resid' is a str\. Give a list of sites",
    ),
    "empty match sites": (alter('["resid"]', "[]"), r"line 28: match\.sites=\[\] is empty\."),
    "unknown metric": (
        alter("euclidean", "euclid"),
        r"line 29: match\.metric='euclid' is unknown\. .* Did you mean 'euclidean'\?",
    ),
    "unknown method": (
        alter('"rho-a"', '"rho"'),
        r"line 30: match\.method='rho' is unknown\. Choose one of: 'pearson', 'spearman', 'rho-a'",
    ),
    "targets as text": (
        alter('["group", "participant"]', '"group"'),
        r"line 31: match\.targets='group' is a str\. Give a list of some of 'participant', 'group'",
    ),
    "unknown target": (
        alter('["group"', '["groups"'),
        r"line 31: match\.targets\[0\]='groups' is unknown\. .* Did you mean 'group'\?",
    ),
    "target twice": (
        alter('["group", "participant"]', '["group", "group"]'),
        r"line 31: match\.targets\[1\]='group' is listed twice\. Name each once\.$",
    ),
    "no targets": (
        alter('["group", "participant"]', "[]"),
        r"line 31: match\.targets=\[\] is empty\. Give some of 'participant', 'group'\.$",
    ),
    "unknown factor": (
        alter('"stimuli", "participants"', '"stimuli", "seeds"'),
        r"line 32: match\.generalize\[1\]='seeds' is unknown\. Choose one of: 'stimuli', 'parti",
    ),
    "too few draws of the null": (
        alter("n_null = 0", "n_null = 18"),
        r"line 33: match\.n_null=18 is too small .* at least 19, or 0 for none\.$",
    ),
    "draws below zero": (alter("n_null = 0", "n_null = -1"), r"line 33: match\.n_null=-1 is too s"),
    "draws as text": (alter("n_null = 0", 'n_null = "all"'), r"match\.n_null='all' is a str\."),
    "draws as bool": (alter("n_null = 0", "n_null = false"), r"match\.n_null=False is a bool\."),
    "too few bootstrap draws": (
        alter("n_bootstraps = 19", "n_bootstraps = 0"),
        r"line 34: match\.n_bootstraps=0 is too small .* Give a whole number of at least 19\.$",
    ),
    "match seed below zero": (alter("seed = 5", "seed = -5"), r"line 35: match\.seed=-5 is out of"),
    "match seed as float": (alter("seed = 5", "seed = 5.0"), r"match\.seed=5\.0 is a float\."),
    "match as list": (
        SMALL + '[[match]]\ndataset = "d"\n',
        r"^p\.toml, line 8: match=\[.*\] is not a table\. Write its keys under \[match\]\.$",
    ),
    "context words below zero": (
        alter("context_words = 12", "context_words = -1"),
        r"^p\.toml, line 23: stimuli\.context_words=-1 is negative\. Give a whole number of at",
    ),
    "context words as text": (
        alter("context_words = 12", 'context_words = "all"'),
        r"^p\.toml, line 23: stimuli\.context_words='all' is a str\. Give a whole number of at",
    ),
    "seeds as number": (
        alter("[3, 1]", "3"),
        r"^p\.toml, line 18: others\[1\]\.seeds=3 is an int\. Give a list of seeds, such as \[0, 1",
    ),
    "no seeds": (alter("[3, 1]", "[]"), r"others\[1\]\.seeds=\[\] is empty or repeats a seed\."),
    "seed twice": (alter("[3, 1]", "[1, 1]"), r"others\[1\]\.seeds=\[1, 1\] is empty or repeats"),
    "seed as text": (alter("[3, 1]", '["a"]'), r"others\[1\]\.seeds\[0\]='a' is a str\."),
    "negative seed": (alter("[3, 1]", "[3, -1]"), r"others\[1\]\.seeds\[1\]=-1 is out of range\."),
    "seeds of trained weights": (
        alter('init = "random"\n', ""),
        r"^p\.toml, line 17: others\[1\]\.seeds=\[3, 1\] are seeds of random or shuffled weights",
    ),
    "unknown init of others": (
        alter('"random"', '"randm"'),
        r"^p\.toml, line 17: others\[1\]\.init='randm' is unknown\. .* Did you mean 'random'",
    ),
    "empty other subject": (alter('"./n"', '""'), r"line 12: others\[0\]\.subject='' is empty\."),
    "other name no file name": (
        alter('"other"', '"a b"'),
        r"^p\.toml, line 11: others\[0\]\.name='a b' cannot name a session file\.",
    ),
    "empty sites of others": (
        alter('["embed", "a.*"]', "[]"),
        r"^p\.toml, line 19: others\[1\]\.sites=\[\] is empty\.",
    ),
    "other named like a twin": (
        alter('"other"', '"Untrained"'),
        r"^p\.toml, line 11: others\[0\]\.name='Untrained' needs the name 'Untrained', which is "
        r"taken already \(letter case does not count\)\. Choose another\.$",
    ),
    "other named like the subject": (alter('"other"', '"subject"'), r"line 11: .* taken already"),
    "other named like the isolated": (alter('"other"', '"isolated"'), r"line 11: .* taken alre"),
    "cohort named like the subject": (alter('"seeds"', '"subject"'), r"line 15: .* taken alrea"),
    "others named alike": (alter('"other"', '"seeds"'), r"line 15: others\[1\]\.name='seeds' n"),
    "other named like a seed": (
        alter('"other"', '"seeds-1"'),
        r"^p\.toml, line 15: others\[1\]\.name='seeds' needs the name 'seeds-1', which is taken",
    ),
    "others as table": (
        SMALL + '[others]\nname = "x"\n',
        r"^p\.toml, line 8: others is not a list of tables\. Write \[\[others\]\] above each one",
    ),
    "twin named like the isolated": (
        alter('"untrained"', '"isolated"'),
        r"^p\.toml, line 8: twins\[0\]\.name='isolated' is the name of another session\.",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_STUDIES.values(), ids=BAD_STUDIES.keys())
def test_load_protocol_says_what_is_wrong_in_a_study(write, text, message):
    with pytest.raises(ProtocolError, match=message):
        load_protocol(write(text))


def test_overrides_change_the_match_and_leave_others_out(write):
    overrides = [
        "match.sites=['mlp']",
        "match.n_null=999",
        "match.analysis=rsa",
        "stimuli.context_words=3",
        "question=Really?",
        "others=[]",
    ]
    protocol = load_protocol(write(STUDY), overrides=overrides)
    assert (protocol.match.sites, protocol.match.n_null) == (("mlp",), 999)
    assert (protocol.match.analysis, protocol.stimuli.context_words) == ("rsa", 3)
    assert (protocol.question, protocol.others) == ("Really?", ())
    made = load_protocol(write(SMALL), overrides=["match.dataset=simulated", "match.analysis=rsa"])
    assert made.match == MatchTable(dataset="simulated", analysis="rsa")


BAD_CHANGES = {
    "match.sede=1": r"match\.sede is not a key\. Did you mean 'seed'\? Keys of \[match\]",
    "match.seed=x": r"match\.seed='x' is a str\.",
    "match={}": r"match is a table\. Override one of its keys: match\.analysis, match\.dataset",
    "others=3": r"others cannot be overridden, only left out: others=\[\]\.",
    "others.name=x": r"others cannot be overridden, only left out: others=\[\]\.",
    "context_words=3": r"context_words is not a key\. It is a key of \[stimuli\]\.",
    "dataset=x": r"dataset is not a key\. It is a key of \[match\]\.",
}


@pytest.mark.parametrize(("override", "message"), BAD_CHANGES.items(), ids=BAD_CHANGES.keys())
def test_overrides_of_a_study_are_checked(write, override, message):
    with pytest.raises(ProtocolError, match=r"^p\.toml, override '.*': .*" + message):
        load_protocol(write(STUDY), overrides=[override])


def test_overrides_alone_make_no_match(write):
    with pytest.raises(ProtocolError, match=r"^p\.toml: match\.dataset is missing\."):
        load_protocol(write(SMALL), overrides=["match.seed=1"])


def test_other_subjects_start_beside_the_file(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = write(alter('"./n"', '"../n"'))
    monkeypatch.chdir(elsewhere)
    protocol = load_protocol(path)
    assert protocol.others[0].subject == str(tmp_path.resolve().parent / "n")
    assert json.loads(protocol.to_json())["others"][0]["subject"] == "../n"
    text = alter('"./n"', '"org/n"')
    assert load_protocol(write(text)).others[0].subject == "org/n"


# Topology

TOPOLOGY = """\
schema = 1

[subject]
name = "builtin:digits/0"

[[others]]
name = "trained"
subject = "builtin:digits/{seed}"
seeds = [1, 2, 3]

[[others]]
name = "untrained"
subject = "builtin:digits"
init = "random"
seeds = [0, 1, 2, 3]

[stimuli]
source = "builtin:digits"

[topology]
networks = ["subject", "trained"]
controls = ["untrained"]
sites = ["conv"]
metric = "euclidean"
descriptors = ["rgtm", "rdm"]
noise = [0, 0.5]
n_draws = 3
n_levels = 6
n_null = 0
seed = 7
"""


def turn(old: str, new: str) -> str:
    assert TOPOLOGY.count(old) == 1, old
    return TOPOLOGY.replace(old, new)


def test_load_protocol_keeps_every_value_of_topology(write):
    protocol = load_protocol(write(TOPOLOGY))
    assert protocol.topology == TopologyTable(
        networks=("subject", "trained"),
        controls=("untrained",),
        sites=("conv",),
        metric="euclidean",
        descriptors=("rgtm", "rdm"),
        noise=(0.0, 0.5),
        n_draws=3,
        n_levels=6,
        n_null=0,
        seed=7,
    )
    assert protocol.analysis == "topology" and protocol.match is None
    assert protocol.record.sites == ("conv",)
    trained, untrained = protocol.others
    assert [trained.get_subject(k) for k in trained.seeds] == [
        f"builtin:digits/{k}" for k in (1, 2, 3)
    ]
    assert untrained.get_subject(2) == "builtin:digits"
    assert make_protocol(protocol.to_json()) == protocol
    assert load_protocol(write(SMALL)).analysis is None


def test_load_protocol_fills_in_every_default_of_topology(write):
    text = TOPOLOGY[: TOPOLOGY.index("controls")]
    content = json.loads(load_protocol(write(text)).to_json())
    assert content["topology"] == {
        "networks": ["subject", "trained"],
        "controls": [],
        "sites": ["embed", "resid"],
        "metric": "correlation",
        "descriptors": ["rdm", "ranked", "rgtm", "rgdm"],
        "noise": [0.0, 0.1, 0.2, 0.3, 0.4],
        "n_draws": 20,
        "n_levels": 11,
        "n_null": 199,
        "seed": 0,
    }


def test_protocols_of_before_are_read(write):
    content = json.loads(load_protocol(write(STUDY)).to_json())
    del content["topology"]
    assert make_protocol(json.dumps(content)).topology is None


BAD_TOPOLOGIES = {
    "unknown key": (
        turn("n_draws", "n_draw"),
        r"^p\.toml, line 27: topology\.n_draw is not a key\. Did you mean 'n_draws'\? Keys of "
        r"\[topology\]: controls, descriptors, metric, n_draws, n_levels, n_null, networks, noise, "
        r"seed, sites\.$",
    ),
    "misspelt table": (turn("[topology]", "[topolgy]"), r"Did you mean 'topology'\?"),
    "no networks": (
        turn('networks = ["subject", "trained"]\n', ""),
        r"^p\.toml, line 20: topology\.networks is missing\. Give it a value\.$",
    ),
    "unknown network": (
        turn('"trained"]', '"traned"]'),
        r"line 21: topology\.networks\[1\]='traned' is no network of this protocol\. Choose among "
        r"'subject', 'trained', 'untrained'\. Did you mean 'trained'",
    ),
    "too few networks": (
        turn('["subject", "trained"]', '["trained"]'),
        r"line 21: topology\.networks=\['trained'\] is 3 networks in all\. At least 4 are needed",
    ),
    "network as control": (
        turn('controls = ["untrained"]', 'controls = ["trained", "subject"]'),
        r"line 22: topology\.controls has 'trained', which is among topology\.networks\.",
    ),
    "networks as text": (
        turn('["subject", "trained"]', '"trained"'),
        r"topology\.networks='trained' is a str\. Give a list of names",
    ),
    "empty controls": (turn('["untrained"]', "[]"), r"topology\.controls=\[\] is empty\."),
    "network twice": (turn('"trained"]', '"subject"]'), r"networks\[1\]='subject' is listed twice"),
    "unknown descriptor": (
        turn('"rgtm", ', '"rgtn", '),
        r"line 25: topology\.descriptors\[0\]='rgtn' is unknown\. .*Did you mean 'rgtm'",
    ),
    "unknown metric": (turn('"euclidean"', '"crossnobis"'), r"topology\.metric='crossnobis' is un"),
    "negative noise": (turn("0.5]", "-0.5]"), r"topology\.noise\[1\]=-0\.5 is no size of noise\."),
    "endless noise": (turn("0.5]", "inf]"), r"topology\.noise\[1\]=inf is no size of noise\."),
    "noise as text": (turn("0.5]", '"a"]'), r"topology\.noise\[1\]='a' is a str\."),
    "noise twice": (turn("0.5]", "0.0]"), r"topology\.noise=\[0, 0\.0\] is empty or repeats a lev"),
    "noise as number": (turn("[0, 0.5]", "0.5"), r"topology\.noise=0\.5 is a float\. Give a list"),
    "no draws": (turn("n_draws = 3", "n_draws = 0"), r"topology\.n_draws=0 is too small\."),
    "one level": (turn("n_levels = 6", "n_levels = 1"), r"topology\.n_levels=1 is out of range\."),
    "few permutations": (turn("n_null = 0", "n_null = 5"), r"topology\.n_null=5 is too small"),
    "with a match": (
        TOPOLOGY + '[match]\ndataset = "simulated"\nanalysis = "rsa"\n',
        r"^p\.toml, line 20: \[topology\] and \[match\] are two studies\. Leave one of them out",
    ),
    "other sites": (
        turn("seeds = [1, 2, 3]", 'seeds = [1, 2, 3]\nsites = ["logits"]'),
        r"line 10: others\[0\]\.sites=\['logits'\] has no part in \[topology\]",
    ),
    "samples not stored": (
        TOPOLOGY + '[record]\nstore = ["trial.mean"]\n',
        r"record\.store=\['trial\.mean'\] lacks 'samples', which \[topology\] needs\. Add it\.$",
    ),
    "trained seeds without a place": (
        turn("digits/{seed}", "digits/1"),
        r"line 9: others\[0\]\.seeds=\[1, 2, 3\] are seeds of random or shuffled weights; .*"
        r"or write \{seed\} in the name of a subject that has weights for each\.$",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_TOPOLOGIES.values(), ids=BAD_TOPOLOGIES.keys())
def test_load_protocol_says_what_is_wrong_in_a_topology(write, text, message):
    with pytest.raises(ProtocolError, match=message):
        load_protocol(write(text))


# The line scanner


def test_key_lines_is_not_fooled_by_strings_comments_and_arrays():
    text = textwrap.dedent('''\
        # [record] in a comment
        a = """
        [record]
        batch_size = 1  \\"""
        """""  # [x]
        b = \'\'\'
        c = 3\'\'\'
        "quoted.key" = 'it # is'
        list = [ "]", # ]
          [1, 2],
          { x = 1, "y z" = [
            "}" ] },
        ]
        d.e . f = "\\"=" # dotted
        day = 1979-05-27 07:32:00
        [ t . "u.v" ]
        k = 1
        [[rows]]
        name = "a"
        [rows.sub]
        x = 1
        [[rows]]
        [[rows.deep]]
        z = 1
        [[rows.deep]]
        z = 2
        [end]''')
    tomllib.loads(text)
    assert key_lines(text) == {
        ("a",): 2,
        ("b",): 6,
        ("quoted.key",): 8,
        ("list",): 9,
        ("list", 0): 9,
        ("list", 1): 10,
        ("list", 1, 0): 10,
        ("list", 1, 1): 10,
        ("list", 2): 11,
        ("list", 2, "x"): 11,
        ("list", 2, "y z"): 11,
        ("list", 2, "y z", 0): 12,
        ("d",): 14,
        ("d", "e"): 14,
        ("d", "e", "f"): 14,
        ("day",): 15,
        ("t",): 16,
        ("t", "u.v"): 16,
        ("t", "u.v", "k"): 17,
        ("rows",): 18,
        ("rows", 0): 18,
        ("rows", 0, "name"): 19,
        ("rows", 0, "sub"): 20,
        ("rows", 0, "sub", "x"): 21,
        ("rows", 1): 22,
        ("rows", 1, "deep"): 23,
        ("rows", 1, "deep", 0): 23,
        ("rows", 1, "deep", 0, "z"): 24,
        ("rows", 1, "deep", 1): 25,
        ("rows", 1, "deep", 1, "z"): 26,
        ("end",): 27,
    }


def test_key_lines_raises_on_what_is_no_toml():
    with pytest.raises(ValueError, match=r"^Line 2 is not TOML: '\?\?'"):
        key_lines("a = 1\n??")


KEYS = st.from_regex(r"[a-z_-]{1,4}", fullmatch=True) | st.text(
    alphabet=st.sampled_from("a.#=[] '\"\\é"), max_size=4
)
STRINGS = st.text(alphabet=st.sampled_from("ab=#[]{},.'\"\\\n"), max_size=12)
VALUES = st.recursive(
    st.integers() | st.booleans() | STRINGS, lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@st.composite
def toml_files(draw):
    """TOML text made of tables of keys, with the line of each key known from the making."""
    text, lines = "", {}

    def here() -> int:
        return text.count("\n") + 1

    def render(value) -> str:
        if isinstance(value, list):
            gap = draw(st.sampled_from([" ", "\n", " # ] x\n"]))
            return "[" + "".join(f"{render(v)},{gap}" for v in value) + "]"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if draw(st.booleans()) and "\n" in value:
            return (
                f'"""\n{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"""'
            )
        return quote(value)

    for name in ("", *draw(st.lists(KEYS.map(lambda k: "t" + k), unique=True, max_size=3))):
        if name or lines:
            text += draw(st.sampled_from(["", "\n", "# [no] = table\n"]))
        table: tuple = (name, 0) if name else ()
        if name:
            lines[(name,)] = lines[table] = here()
            text += f"[[{quote(name)}]]\n"
        for key in draw(st.lists(KEYS.map(lambda k: k + "!"), unique=True, max_size=3)):
            lines[(*table, key)] = here()
            text += f"{quote(key)} = {render(draw(VALUES))}\n"
    return text, lines


@settings(deadline=None)
@given(toml_files())
def test_property_key_lines_finds_every_key_on_its_line(made):
    text, lines = made
    tomllib.loads(text)
    found = key_lines(text)
    assert {key: found[key] for key in lines} == lines
    assert {key for key in found if isinstance(key[-1], str)} == {
        key for key in lines if isinstance(key[-1], str)
    }


# Nothing heavy, nothing executed


def test_protocol_module_imports_neither_torch_nor_pandas():
    code = (
        "import sys, netphys; netphys.load_protocol('quickstart'); "
        "print({'torch', 'pandas', 'numpy', 'h5py'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_load_protocol_needs_no_installed_shipped_packages(monkeypatch):
    for name in ("netphys.shipped", "netphys.protocols"):
        monkeypatch.setitem(sys.modules, name, None)  # importing them raises ModuleNotFoundError
    root = Path(__file__).resolve().parent.parent
    monkeypatch.setattr("netphys._shipped.__file__", str(root / "netphys" / "_shipped.py"))
    assert load_protocol("quickstart").path == root / "protocols" / "quickstart.toml"
    assert shipped_path("__init__.py") == root / "data" / "__init__.py"


def test_shipped_path_says_when_the_installation_is_incomplete(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "netphys.protocols", None)
    monkeypatch.setattr("netphys._shipped.__file__", str(tmp_path / "netphys" / "_shipped.py"))
    with pytest.raises(FileNotFoundError, match=r"files of netphys\.protocols are missing .*pip"):
        list_protocols()


def test_protocol_can_be_built_in_python(write):
    from netphys.protocol import SubjectTable

    built = Protocol(
        subject=SubjectTable(name="builtin:language"),
        stimuli=StimuliTable(source="builtin:sentences"),
    )
    read = load_protocol(write(SMALL))
    assert built == read and built.to_json() == read.to_json() and built.path is None


def test_a_protocol_can_say_all_that_record_can(write):
    more = """
    store = ["samples", "word.mean", "raster", "top"]
    units = {mlp = [0, 7]}
    threshold = {mlp = 0.5}
    top_k = 2
    online = ["moments", {name = "sparsity", threshold = 0.1}]
    compile = true
    max_memory = 1000000
    """
    protocol = load_protocol(write(RECORD + textwrap.dedent(more)))
    options = protocol.record.to_options()
    assert options["online"] == ("moments", {"name": "sparsity", "threshold": 0.1})
    assert options["units"] == {"mlp": [0, 7]} and options["max_memory"] == 1_000_000
    assert make_protocol(protocol.to_json()) == protocol
    only = load_protocol(write(RECORD + 'store = []\nonline = ["moments"]\n'))
    assert only.record.to_options()["store"] is None
