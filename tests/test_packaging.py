"""The package as it is installed: what the wheel holds, and that both installs find their data."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USE = """
import sys
from pathlib import Path
import netphys
from netphys import load_protocol, load_stimuli, load_subject
subject = load_subject("builtin:language")
stimuli = load_stimuli("builtin:sentences")
protocol = load_protocol("quickstart")
print(Path(netphys.__file__).resolve())
print(protocol.path)
print(protocol.title, netphys.__version__, len(stimuli) > 0, len(subject.sites()) > 0)
"""


def run(*command: object, cwd: Path, **env: str) -> str:
    """Run a command with a clean Python environment and return what it prints."""
    # Forced proxies, caches and certificates stay; what would let the checkout in does not.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | {"HF_HUB_OFFLINE": "1"} | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def checkout_files() -> list[str]:
    """Return the files of the checkout that belong to it, without what builds leave behind."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    unwanted = re.compile(r"(^|/)(build|dist|\.git|\.venv|venv|__pycache__|[^/]*\.egg-info)(/|$)")
    files = (p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file())
    return [name for name in files if not unwanted.search(name)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Copy the checkout, so that building leaves nothing in the one in use."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in checkout_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, ".", cwd=checkout)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_its_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    folders = {name.split("/")[0] for name in names}
    assert folders == {"netphys", next(f for f in folders if f.endswith(".dist-info"))}
    assert {"netphys/py.typed", "netphys/protocols/quickstart.toml"} <= names
    shipped = {name for name in names if name.startswith("netphys/shipped/")}
    ends = {name.rpartition("/")[2] for name in shipped}
    assert {"__init__.py", "tokenizer.json", "model.safetensors", "sentences.tsv"} <= ends
    assert not any("test" in name.split("/")[1:2] or name.endswith(".ipynb") for name in names)


def test_wheel_holds_every_source_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    homes = {
        "netphys/": "netphys/",
        "data/": "netphys/shipped/",
        "protocols/": "netphys/protocols/",
    }
    expected = {
        homes[folder + "/"] + rest
        for folder, slash, rest in (name.partition("/") for name in checkout_files())
        if folder + slash in homes
    }
    assert expected <= names, f"not in the wheel: {sorted(expected - names)}"


def test_wheel_names_licence_version_and_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(path).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert f"\nVersion: {config['metadata']['version']}\n" in metadata
    assert "\nLicense-Expression: BSD-3-Clause\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    extras = {"record", "brain", "tensor", "minilm", "pack", "dask", "sharded", "topology"}
    extras |= {"rsatoolbox", "all", "test", "gpu-test", "bench"}
    assert set(re.findall(r"^Provides-Extra: (\S+)", metadata, re.MULTILINE)) == extras
    core = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert not {"torch", "transformers", "safetensors", "pillow"} & set(core)


@pytest.mark.slow
def test_installed_wheel_finds_its_data(wheel, tmp_path):
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=elsewhere)
    where, protocol, words = run(
        sys.executable, "-c", USE, cwd=elsewhere, PYTHONPATH=str(target)
    ).splitlines()
    package = target.resolve() / "netphys"
    assert Path(where) == package / "__init__.py"
    assert Path(protocol).resolve() == package / "protocols" / "quickstart.toml"
    assert words == "Quickstart 0.1.0 True True"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_editable_install_finds_its_data(checkout, tmp_path):
    python = make_environment(tmp_path / "venv")
    flags = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    run(python, "-m", "pip", "install", *flags, "-e", checkout, cwd=tmp_path)
    where, protocol, words = run(python, "-c", USE, cwd=tmp_path).splitlines()
    assert Path(where) == checkout.resolve() / "netphys" / "__init__.py"
    assert Path(protocol).resolve() == checkout.resolve() / "protocols" / "quickstart.toml"
    assert words == "Quickstart 0.1.0 True True"


def make_environment(folder: Path) -> Path:
    """Make a virtual environment with everything installed here but netphys; return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    packages = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
        ).strip()
    )
    here = [Path(p) for p in dict.fromkeys([*site.getsitepackages(), *sys.path])]
    for found in (p for p in here if p.name in ("site-packages", "dist-packages") and p.is_dir()):
        for entry in found.iterdir():
            link = packages / entry.name
            if "netphys" not in entry.name and not link.exists():
                link.symlink_to(entry)
    return python


def test_constraints_pin_every_requirement_in_range():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, equals, version = line.partition("==")
            assert equals and re.fullmatch(r"[\w.!]+", version), f"{line!r} pins no public version"
            pins[canonicalize_name(name)] = version
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"core": config["options"]["install_requires"], **config["options.extras_require"]}
    for extra, lines in lists.items():
        for requirement in (Requirement(line) for line in lines.split("\n") if line):
            if extra in ("bench", "gpu-test") or requirement.name == "netphys":
                continue
            assert ">=" in str(requirement.specifier), f"{requirement} has no lower bound"
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin and requirement.specifier.contains(pin), f"{requirement} pinned to {pin}"


def test_package_list_is_complete():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split()) - {"netphys.shipped", "netphys.protocols"}
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "netphys").rglob("*.py")}
    assert listed == {".".join(folder.parts) for folder in folders}


def test_project_file_holds_no_metadata():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(content) == {"build-system", "tool"} and set(content["tool"]) == {"ruff"}
