"""Every notebook runs from top to bottom, and none carries stored outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_no_stored_output(path):
    cells = nbformat.read(path, as_version=4).cells
    assert all(not c.get("outputs") and not c.get("execution_count") for c in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the kernel's transport, not of netphys
def test_notebook_runs(path, tmp_path):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    options = {"timeout": 120, "kernel_name": "python3"}
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, **options).execute()
    assert (tmp_path / "hello.nwb").exists() == (path.stem == "00_hello")


def test_readme_hello_is_short_and_runs(tmp_path, monkeypatch):
    """The first code block of the README: at most 8 lines, model to recording."""
    text = (FOLDER.parent / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(compile(code, "README", "exec"), space)
    assert space["session"].complete
