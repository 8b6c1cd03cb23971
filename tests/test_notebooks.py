"""Every notebook runs from top to bottom, and none carries stored outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

import netphys

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(p for p in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
WHY = FOLDER / "why"
# Without recordings a notebook still says what it has to say.
SAYS = {
    "00_hello": "at the best layer transformer.h.2",
    "01_topology": "Identification of 8 layers across 10 seeds under noise (62 conditions, 2 draws",
    "01_shuffled_folds": "netphys fetch alice2016",
}

needs_data = pytest.mark.skipif("NETPHYS_DATA" not in os.environ, reason="NETPHYS_DATA is not set")
# of the kernel's transport, not of netphys
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")


def run_notebook(path: Path, folder: Path, *, ask: str = "None") -> tuple[str, object]:
    """Run a notebook in a folder; return what it printed, and an expression of its variables."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({ask}))"))
    options = {"timeout": 120, "kernel_name": "python3"}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    printed = [o["text"] for o in outputs if o.get("name") == "stdout"]
    return "".join(printed[:-1]), json.loads(printed[-1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_no_stored_output(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not c.get("outputs") and not c.get("execution_count") for c in notebook.cells)


@pytest.mark.parametrize(
    "path",
    NOTEBOOKS,
    ids=lambda p: p.stem,
)
@pytest.mark.slow
@quiet
def test_notebook_runs_without_recordings(path, tmp_path, monkeypatch):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    monkeypatch.setenv("NETPHYS_DATA", str(nothing))
    printed, _ = run_notebook(path, tmp_path)
    assert SAYS.get(path.stem, "") in printed
    assert (tmp_path / "hello.nwb").exists() == (path.stem == "00_hello")


@pytest.mark.slow
@needs_data
@quiet
def test_shuffled_folds_notebook_teaches_these_numbers(tmp_path):
    """Scores of OASM and word rate in six regions; of smooth noise; of the filter's leak."""
    ask = (
        "{'alice': {f: {s: scores[f, s].tolist() for s in SPLITS} for f in FEATURES}, "
        "'noise': r.mean().to_dict(), 'filter': leak.mean().to_dict(), "
        "'leakage': [leaky.params['leakage'], default.params['leakage']], "
        "'default': encoding.to_ladder()[['lower', 'r', 'upper']].T.to_dict('list')}"
    )
    printed, taught = run_notebook(WHY / "01_shuffled_folds.ipynb", tmp_path, ask=ask)
    oasm, rate = taught["alice"]["oasm"], taught["alice"]["word rate"]
    assert oasm["shuffled"] == pytest.approx([0.871, 0.867, 0.919, 0.858, 0.892, 0.857], abs=0.01)
    assert oasm["contiguous"] == pytest.approx([0.098, 0.251, 0.052, 0.142, 0.053, 0.054], abs=0.01)
    assert rate["contiguous"] == pytest.approx([0.307, 0.338, 0.360, 0.448, 0.442, 0.353], abs=0.01)
    assert all(a > 2 * b for a, b in zip(oasm["shuffled"], rate["shuffled"], strict=True))
    assert taught["noise"] == pytest.approx({"shuffled": 0.86, "contiguous": 0.0}, abs=0.02)
    assert taught["filter"] == pytest.approx(
        {"not filtered": 0.0, "filtered": 0.20, "cosines fitted": 0.0}, abs=0.02
    )
    assert taught["leakage"] == [True, False]
    assert "pass allow_leakage=True, which stamps the result" in printed
    assert "LEAKAGE: ordered data were split at random; scores mean nothing." in printed
    assert taught["default"]["OASM"] == pytest.approx([-0.13, 0.06, 0.25], abs=0.02)
    assert taught["default"]["word rate"] == pytest.approx([0.32, 0.44, 0.56], abs=0.02)


def test_readme_hello_is_short_and_runs(tmp_path, monkeypatch):
    """The first code block of the README: at most 8 lines, model to recording."""
    text = (FOLDER.parent / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(compile(code, "README", "exec"), space)
    assert space["session"].complete


@pytest.mark.slow
def test_readme_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    text = (FOLDER.parent / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wikipedia.txt").write_text("The dog barked.\nTwo cats slept on the chair.\n" * 20)
    space: dict = {}
    for part in text.split("```python\n")[1:]:
        exec(compile(part.split("```")[0], "README", "exec"), space)
    assert netphys.open_session("c.nwb").stream == {"items": 40, "windows": 40}
