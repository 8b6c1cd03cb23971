"""The command line: results on stdout, the rest on stderr, exit codes, and safe repetition."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import hear_interrupts

from netphys.cli import main

PROTOCOL = """
schema = 1
[subject]
name = "builtin:language"
[[twins]]
name = "untrained"
[stimuli]
source = "{source}"
[record]
sites = ["resid"]
batch_size = 4
"""


@pytest.fixture
def protocol(tmp_path):
    (tmp_path / "s.tsv").write_text("text\nThe dog ran home.\nA cat sat.\nThe sun is warm.\n")
    path = tmp_path / "mine.toml"
    path.write_text(PROTOCOL.format(source="./s.tsv"))
    return path


def test_run_records_subject_and_twin_and_says_where(protocol, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", str(protocol), "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.strip().splitlines()[-1] == f"Output: {out}"
    assert sorted(p.name for p in out.iterdir()) == ["subject.nwb", "untrained.nwb"]
    assert "3 trials" in said.out and said.err == ""


def test_run_again_changes_nothing(protocol, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["run", str(protocol), "--out", str(out), "--quiet"]) == 0
        content = {p.name: p.read_bytes() for p in out.iterdir()}
    assert main(["run", str(protocol), "--out", str(out), "--quiet"]) == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == content


def test_run_in_another_way_is_refused_until_told(protocol, tmp_path, capsys):
    arguments = ["run", str(protocol), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(arguments) == 0
    changed = [*arguments, "--set", "record.sites=['mlp']"]
    assert main(changed) == 1
    said = capsys.readouterr()
    assert "cannot be resumed: sites was" in said.err and "overwrite" in said.err
    assert main([*changed, "--overwrite"]) == 0


def test_run_puts_the_resolved_protocol_into_the_file(protocol, tmp_path, capsys):
    main(["run", str(protocol), "--out", str(tmp_path / "out"), "--set", "record.batch_size=2"])
    capsys.readouterr()
    from netphys import open_session

    resolved = open_session(tmp_path / "out" / "subject.nwb").provenance["protocol"]
    assert resolved["record"] == {
        "sites": ["resid"],
        "batch_size": 2,
        "dtype": "native",
        "nonfinite": "raise",
        "store": ["samples"],
        "units": {},
        "threshold": None,
        "top_k": 32,
        "online": [],
        "generate": None,
        "compile": False,
        "max_memory": None,
    }


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("record.batch_sise=2", 2, "Did you mean 'batch_size'"),
        ("record.batch_size=0", 2, "record.batch_size"),
        ("record.sites=['residd']", 1, "Did you mean 'resid'"),
        ("subject.name='builtin:languag'", 1, "Did you mean 'builtin:language'"),
        ("stimuli.source='builtin:sentence'", 1, "Did you mean 'builtin:sentences'"),
    ],
)
def test_run_says_what_is_wrong_and_leaves_nothing(
    change, code, message, protocol, tmp_path, capsys
):
    out = tmp_path / "out"
    assert main(["run", str(protocol), "--out", str(out), "--set", change]) == code
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "Traceback" not in said.err
    assert not out.exists() or not list(out.iterdir())


def test_check_of_a_protocol_records_nothing(protocol, tmp_path, capsys):
    assert main(["check", str(protocol)]) == 0
    assert "can be run" in capsys.readouterr().out
    assert main(["check", str(protocol), "--set", "record.sites=['x']"]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.toml", "s.tsv"]


@pytest.mark.damaged_files
def test_record_info_and_check_of_a_session(tmp_path, capsys):
    path = tmp_path / "a.nwb"
    arguments = ["record", "builtin:language", "builtin:sentences", str(path), "--quiet"]
    assert main([*arguments, "--sites", "resid", "embed", "--dtype", "float16"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"Output: {path}")
    assert main(arguments) == 1
    assert "exists. Choose another path, go on with --resume" in capsys.readouterr().err
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["complete"] and {s["dtype"] for s in facts["sites"]} == {"float16"}
    assert main(["info", str(path)]) == 0
    assert "complete" in capsys.readouterr().out
    assert main(["check", str(path)]) == 0
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr()
    assert "cut short" in said.err


def test_sites_lists_kinds(capsys):
    assert main(["sites", "builtin:language", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["kind"] for r in rows} >= {"embed", "resid", "mlp", "head", "logits"}
    assert main(["sites", "builtin:language", "--all"]) == 0
    assert "transformer.wte" in capsys.readouterr().out


def test_main_refuses_an_unknown_command(capsys):
    for arguments in (["recrod"], [], ["run"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("netphys ")


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "netphys", "info", "none.nwb"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr
        == "netphys: error: path='none.nwb': no such file. Give the path of a session.\n"
    )


def test_missing_torch_names_the_extra():
    code = "import sys; sys.modules['torch'] = None; from netphys.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "sites", "builtin:language"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "pip install 'netphys[record]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_keeps_what_is_finished(number, tmp_path):
    """Ctrl-C in the middle of a run: one line, exit code 1, and the same command goes on."""
    lines = "\n".join(f"Dog {i} {'ran ' * (1 + i % 40)}home." for i in range(600))
    (tmp_path / "s.tsv").write_text("text\n" + lines + "\n")
    path = tmp_path / "a.nwb"
    command = [
        sys.executable,
        "-m",
        "netphys",
        "record",
        "builtin:language",
        str(tmp_path / "s.tsv"),
    ]
    command += [str(path), "--batch-size", "1", "--sites", "resid", "mlp", "pattern", "logits"]
    command.append("--resume")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    try:
        until = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1 and out == ""
    assert (
        "interrupted. The same command with --resume goes on from here" in err
        and "Traceback" not in err
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nwb", "s.tsv"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert main(["check", str(path)]) == 0


# Matching, datasets, reports

MATCH = """
[match]
dataset = "simulated"
analysis = "rsa"
sites = ["embed", "transformer.h.2"]
n_null = 19
n_bootstraps = 19
"""


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def read_json(text):
    return json.loads(text, parse_constant=refuse_constant)


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    """Folder of a finished study, the protocol beside it."""
    folder = tmp_path_factory.mktemp("matched")
    text = PROTOCOL.format(source="builtin:sentences").replace('sites = ["resid"]\n', "")
    (folder / "p.toml").write_text(text.replace("batch_size = 4", "batch_size = 32") + MATCH)
    assert main(["run", str(folder / "p.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder


def test_run_with_match_says_results_and_report(matched, capsys):
    out = matched / "out"
    assert main(["run", str(matched / "p.toml"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip().splitlines()[-2:] == [
        f"Output: {out}",
        f"Report: {out / 'report.html'}",
    ]
    assert "== match\nsignal: +" in said.out and "transformer.h.2" in said.out
    assert "Output" not in said.err and "Traceback" not in said.err


def test_run_gives_json(matched, capsys):
    out = matched / "out"
    command = ["run", str(matched / "p.toml"), "--out", str(out), "--quiet", "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    content = read_json(said.out)
    assert said.err == "" and said.out.count("\n") == 1
    assert list(content) == ["rdms", "match", "evaluation", "folder"]
    assert content["folder"] == str(out)
    match = content["match"]
    assert match["kind"] == "RSAMatch" and match["params"]["n_participants"] == 12
    assert set(match["data"]["dims"]) == {"layer", "region", "participant"}
    assert match["stats"]["data_vars"]["best"]["data"][0] == "transformer.h.2"
    assert "transformer.h.2" in match["summary"]


def test_run_without_match_gives_json_too(protocol, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", str(protocol), "--out", str(out), "--quiet", "--json"]) == 0
    assert read_json(capsys.readouterr().out) == {"folder": str(out)}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("match.seed=-1", 2, "override 'match.seed=-1': match.seed=-1 is out of range"),
        ("match.sede=1", 2, "Did you mean 'seed'"),
        ("match.dataset=simulatd", 1, "Did you mean 'simulated'"),
        ("match.analysis=encoding", 1, "Use 'rsa'"),
        ("match.sites=['logits']", 1, "not among the sites that are recorded"),
    ],
)
def test_run_says_what_does_not_match_and_leaves_nothing(
    change, code, message, matched, tmp_path, capsys
):
    command = ["run", str(matched / "p.toml"), "--out", str(tmp_path / "out"), "--set", change]
    assert main([*command, "--set", "record.sites=['embed', 'resid']"]) == code
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_fetch_lists_the_datasets(capsys):
    assert main(["fetch"]) == 0
    said = capsys.readouterr()
    for name in ("simulated", "alice2016", "kriegeskorte2008"):
        assert name in said.out
    assert said.err == ""


def test_fetch_of_what_is_shipped_says_licence_and_place(capsys):
    assert main(["fetch", "simulated", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "BSD-3-Clause" in said.out and said.err == ""
    assert said.out.strip().splitlines()[-1].endswith("brains")


def test_fetch_of_an_unknown_dataset_suggests_another(tmp_path, capsys):
    assert main(["fetch", "alice2061", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "Did you mean 'alice2016'" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_draws")
def test_compare_matches_one_session(matched, capsys):
    session, twin = (str(matched / "out" / f"{n}.nwb") for n in ("subject", "untrained"))
    assert main(["compare", session, "simulated", "--twin", twin, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("== rdms\n") and "above the untrained twin" in said.out
    assert said.err == ""
    command = ["compare", session, "simulated", "--sites", "transformer.h.2", "--seed", "4"]
    assert main([*command, "--json", "--quiet"]) == 0
    content = read_json(capsys.readouterr().out)
    assert content["match"]["params"]["rng"] == 4
    assert content["match"]["stats"]["coords"]["layer"]["data"] == ["transformer.h.2"]


def test_compare_says_what_is_wrong(matched, tmp_path, capsys):
    session = str(matched / "out" / "subject.nwb")
    for command, message in (
        ([str(tmp_path / "none.nwb"), "simulated"], "no such file"),
        ([session, "simulatd"], "Did you mean 'simulated'"),
        ([session, "simulated", "--sites", "embd"], "Did you mean 'embed'"),
        ([session, "simulated", "--seed", "-1"], "seed=-1 is negative"),
        ([session, "simulated", "--twin", str(tmp_path / "none.nwb")], "no such file"),
    ):
        assert main(["compare", *command]) == 1
        said = capsys.readouterr()
        assert said.out == "" and message in said.err and said.err.count("\n") == 1


def test_report_is_written_again(matched, tmp_path, capsys):
    report = matched / "out" / "report.html"
    content = report.read_bytes()
    report.unlink()
    assert main(["report", str(matched / "out")]) == 0
    said = capsys.readouterr()
    assert said.out == f"Report: {report}\n" and said.err == ""
    assert report.read_bytes() == content
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "holds no session subject.nwb" in said.err


def test_check_of_a_shipped_protocol(capsys):
    assert main(["check", "quickstart"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("quickstart: can be run") and "twins: untrained" in said.out
    assert main(["check", "quickstart", "--set", "match.dataset=simulatd"]) == 1
    assert "Did you mean 'simulated'" in capsys.readouterr().err


def test_sites_of_an_untrained_network(capsys):
    assert main(["sites", "builtin:resnet18", "--init", "random", "--seed", "3", "--json"]) == 0
    rows = read_json(capsys.readouterr().out)
    assert "encoder.stages.3.layers.1" in {r["site"] for r in rows}
    assert main(["sites", "builtin:resnet18", "--init", "randm"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "Did you mean 'random'" in said.err


def test_interrupted_match_says_how_to_go_on(matched, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("netphys.study.geometry.match_rdms", stop)
    command = ["run", str(matched / "p.toml"), "--out", str(matched / "out"), "--quiet"]
    assert main([*command, "--set", "match.seed=1"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith(
        "interrupted. The same command goes on from here.\n"
    )
    assert main(["compare", str(matched / "out" / "subject.nwb"), "simulated"]) == 1
    assert capsys.readouterr().err == "\nnetphys: interrupted.\n"
