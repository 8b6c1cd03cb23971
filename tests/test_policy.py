"""The style guide as tests: docstrings, layers, sizes, light import, no global state."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "netphys"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# The part of the package that a module belongs to, and its layer. Imports go down.
LAYERS = {
    "core": 0,
    "_check": 0,
    "_draw": 0,
    "_shipped": 0,
    "_version": 0,
    "_options": 0,
    "_toml_lines": 0,
    "_protocol_file": 0,
    "data": 1,
    "recording": 2,
    "analysis": 3,
    "perturb": 3,
    "brain": 3,
    "cli": 4,
    "_cli_files": 4,
    "_cli_record": 4,
    "_topology_table": 4,
    "report": 4,
    "plot": 4,
    "protocol": 4,
    "run": 4,
    "study": 4,
    "__init__": 5,
    "__main__": 5,
}
FRONT = LAYERS["cli"]  # the modules of this layer may import each other
TORCH = {"torch", "transformers", "safetensors", "triton"}
TORCH_PARTS = {"recording", "perturb"}
MAX_LINES, MAX_BODY = 500, 80

Function = ast.FunctionDef | ast.AsyncFunctionDef


def show(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for a chain of attributes, else an empty string."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name stands for, such as ``np`` -> ``numpy``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield the full name of every function called, with imports followed."""
    names = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            head, dot, tail = name.partition(".")
            yield names.get(head, head) + dot + tail, node


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every module that `tree` imports, also inside functions, with the line."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for name in node.names:
                inner = f"{base}.{name.name}"
                yield (inner if inner in MODULES else base), node.lineno
    for name, call in calls(tree):
        if name == "importlib.import_module" and isinstance(call.args[0], ast.Constant):
            yield call.args[0].value, call.lineno


def defined(tree: ast.AST) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield the public functions, classes and methods of a module with their names."""
    for node in tree.body:
        if not isinstance(node, (*Function.__args__, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, Function.__args__) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def is_marked(node: Function | ast.ClassDef, *decorators: str) -> bool:
    names = (dotted(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list)
    return any(name.split(".")[-1] in decorators for name in names)


def arguments(node: Function) -> list[str]:
    """Return the names of the arguments as a docstring lists them."""
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args)]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [a.arg for a in given.kwonlyargs]
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def sections(docstring: str) -> dict[str, list[str]]:
    """Return the lines of each section of a numpydoc docstring."""
    lines = docstring.splitlines()
    starts = [
        n for n in range(len(lines) - 1) if lines[n].strip() and re.fullmatch("-{3,}", lines[n + 1])
    ]
    ends = [*starts[1:], len(lines)]
    return {
        lines[a]: lines[a + 2 : b] for a, b in zip(starts, ends, strict=False) if lines[a].strip()
    }


def listed(lines: list[str]) -> list[str]:
    """Return the names that a Parameters section lists."""
    heads = [line for line in lines if line and not line.startswith(" ")]
    return [name.strip() for head in heads for name in head.partition(" :")[0].split(",")]


def own_nodes(node: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    pending = list(node.body)
    while pending:
        inner = pending.pop()
        yield inner
        if not isinstance(inner, (*Function.__args__, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(inner))


def result_section(node: Function) -> str:
    """Return the section in which a function says what it gives, or an empty string."""
    nodes = list(own_nodes(node))
    if any(isinstance(n, ast.Yield | ast.YieldFrom) for n in nodes):
        return "Yields"
    for inner in nodes:
        value = getattr(inner, "value", None) if isinstance(inner, ast.Return) else None
        if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            return "Returns"
    return ""


def fields_of(node: ast.ClassDef) -> list[str]:
    """Return what a class is made from: arguments of ``__init__`` or fields of a dataclass."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return arguments(inner)
    annotated = [
        n
        for n in node.body
        if isinstance(n, ast.AnnAssign) and not ast.unparse(n.annotation).startswith("ClassVar")
    ]
    return [n.target.id for n in annotated if not n.target.id.startswith("_")]


PUBLIC_FILES = [
    path
    for path in FILES
    if not any(p.startswith("_") and p != "__init__.py" for p in path.relative_to(PACKAGE).parts)
]
PUBLIC = {
    f"{module_of(path)}.{name}": node
    for path in PUBLIC_FILES
    for name, node in defined(TREES[path])
    if not (isinstance(node, Function.__args__) and is_marked(node, "overload", "setter"))
}


def check_each(items: Iterable, show: Callable[[object], str] = str) -> Callable:
    """Make one test of a check of every item: thousands of tests would take longer than they do."""

    def decorate(check: Callable[[object], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for item in items:
                try:
                    check(item)
                except AssertionError as error:
                    wrong.append(f"{show(item)}: {error}")
            assert not wrong, "\n".join(wrong)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


each_file = check_each(FILES, show)
each_public = check_each(PUBLIC)


# Docstrings and signatures


@each_public
def test_public_name_has_a_numpydoc_docstring(name):
    node = PUBLIC[name]
    docstring = ast.get_docstring(node)
    assert docstring, f"{name} has no docstring"
    assert docstring.splitlines()[0].endswith("."), "the first line is a sentence"
    found = sections(docstring)
    parameters = listed(found.get("Parameters", []))
    if isinstance(node, ast.ClassDef):
        if parameters:
            assert parameters == fields_of(node)
        return
    if is_marked(node, "property", "cached_property"):
        return
    assert parameters == arguments(node)
    needed = result_section(node)
    if needed == "Yields" and is_marked(node, "contextmanager"):
        assert "Yields" in found or "Returns" in found
    elif needed:
        assert needed in found


@each_public
def test_public_signature_is_typed(name):
    node = PUBLIC[name]
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not made:
            return
        node = made[0]
    given, returns = node.args, node.returns is not None or node.name == "__init__"
    every = (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg)
    untyped = [a.arg for a in every if a and a.annotation is None and a.arg not in ("self", "cls")]
    assert not untyped, f"{name} leaves these without a type: {untyped}"
    assert returns, f"{name} has no return type"


# Layers


@each_file
def test_module_has_a_layer(path):
    assert part_of(path) in LAYERS, f"{show(path)} stands in no layer: give it one in LAYERS"


def may_import(part: str, target: str) -> bool:
    if part == target or LAYERS[target] < LAYERS[part]:
        return True
    if (part, target) == ("brain", "analysis"):
        return True
    same_layer = LAYERS[part] == LAYERS[target]
    return same_layer and (LAYERS[part] == FRONT or (LAYERS[part] == 0 and target[0] == "_"))


@each_file
def test_imports_go_down(path):
    wrong = []
    for module, line in imports(path, TREES[path]):
        if module.split(".")[0] != "netphys" or module in ("netphys.shipped", "netphys.protocols"):
            continue
        target = module.split(".")[1] if "." in module else "__init__"
        if not may_import(part_of(path), target):
            wrong.append(f"{show(path)}:{line} imports {module}")
    assert not wrong


@each_file
def test_torch_is_imported_where_models_are(path):
    allowed = TORCH if part_of(path) in TORCH_PARTS else set()
    found = {module.split(".")[0] for module, _ in imports(path, TREES[path])} & TORCH
    assert found <= allowed


# Light import


def modules_after(code: str) -> set[str]:
    script = f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_import_netphys_is_light():
    heavy = {"torch", "transformers", "matplotlib", "pandas", "sklearn", "scipy", "pynwb", "h5py"}
    assert not (heavy | {"xarray", "numpy", "tqdm"}) & modules_after("import netphys")


def test_import_cli_is_light():
    heavy = {"torch", "transformers", "pynwb", "matplotlib", "sklearn"}
    assert not heavy & modules_after("import netphys.cli")


def test_import_data_and_core_load_no_torch():
    names = [n for n in MODULES if n.startswith(("netphys.data", "netphys.core"))]
    heavy = {"torch", "transformers", "matplotlib", "sklearn"}
    assert not heavy & modules_after("import " + ", ".join(names))


def lazy_names() -> dict[str, str]:
    for node in TREES[PACKAGE / "__init__.py"].body:
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "_HOMES":
            return ast.literal_eval(node.value)
    return {}


def test_face_has_at_most_twelve_names():
    import netphys

    assert len(netphys.__all__) <= 12
    assert set(netphys.__all__) == set(lazy_names())
    assert set(netphys.__all__) | {"__version__"} <= set(dir(netphys))


@pytest.mark.parametrize(("name", "home"), lazy_names().items())
def test_face_name_is_defined_in_its_home(name, home):
    assert home in MODULES, f"{home} does not exist"
    names = {n.name for n in TREES[MODULES[home]].body if hasattr(n, "name")}
    assert name in names


@pytest.mark.parametrize("name", ["Protocol", "Session", "Stimuli", "load_stimuli", "open_session"])
def test_face_name_resolves_without_torch(name):
    assert not TORCH & modules_after(f"import netphys; netphys.{name}")


def test_face_refuses_other_names():
    import netphys

    with pytest.raises(AttributeError, match="module 'netphys' has no attribute 'recrod'"):
        netphys.recrod  # noqa: B018


def test_face_names_the_extra_when_torch_is_missing():
    code = (
        "import sys; sys.modules['torch'] = None; import netphys\n"
        "try:\n    netphys.load_subject\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert "pip install 'netphys[record]'" in done.stdout, done.stderr


# Randomness


@each_file
def test_no_global_random_state(path):
    fine = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM"}
    fine |= {"RandomState"}  # local too; numbers of others were made with it
    wrong = []
    for name, call in calls(TREES[path]):
        numpy_global = name.startswith("numpy.random.") and name.split(".")[2] not in fine
        if numpy_global or name in ("random.seed", "transformers.set_seed", "torch.seed"):
            wrong.append(f"{show(path)}:{call.lineno} {name}")
    assert not wrong


def torch_seeders() -> dict[str, set[str]]:
    """Return, for each outermost function that seeds torch, what it calls."""
    found = {}
    for path, tree in TREES.items():
        names = aliases(tree)
        for node in ast.walk(tree):
            if isinstance(node, Function.__args__):
                inside = set()
                for inner in ast.walk(node):
                    name = dotted(inner.func) if isinstance(inner, ast.Call) else ""
                    head, dot, tail = name.partition(".")
                    inside.add(names.get(head, head) + dot + tail)
                if any(is_torch_seed(name) for name in inside):
                    found[f"{show(path)}:{node.name}"] = inside
    return found


def is_torch_seed(name: str) -> bool:
    return name.startswith("torch.") and name.endswith((".manual_seed", ".manual_seed_all"))


def test_torch_is_seeded_in_one_helper_that_forks():
    seeders = torch_seeders()
    assert len(seeders) <= 1, f"more than one function seeds torch: {sorted(seeders)}"
    for name, inside in seeders.items():
        assert any(called.endswith("fork_rng") for called in inside), f"{name} does not fork"
    seeds = sum(is_torch_seed(name) for tree in TREES.values() for name, _ in calls(tree))
    assert seeds == 0 or seeders, "torch is seeded outside of any function"


# What no module does


@each_file
def test_module_has_no_leftovers(path):
    tree, wrong = TREES[path], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            wrong.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.Raise) and node.exc is not None:
            bare = dotted(node.exc) == "NotImplementedError"
            call = node.exc if isinstance(node.exc, ast.Call) else None
            empty = call is not None and dotted(call.func) == "NotImplementedError"
            if bare or (empty and not call.args):
                wrong.append(f"line {node.lineno}: NotImplementedError without a message")
    for name, call in calls(tree):
        if name in ("eval", "exec") or (name == "print" and "cli" not in part_of(path)):
            wrong.append(f"line {call.lineno}: {name}()")
    assert not wrong


@each_file
def test_module_reads_no_pickle(path):
    pickles = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = [f"line {n}: {m}" for m, n in imports(path, TREES[path]) if m.split(".")[0] in pickles]
    for name, call in calls(TREES[path]):
        given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        unsafe_torch = name == "torch.load" and given.get("weights_only") is not True
        if unsafe_torch or given.get("allow_pickle") or name.endswith(".read_pickle"):
            wrong.append(f"line {call.lineno}: {name} can read a pickle")
    assert not wrong


# Sizes


@each_file
def test_module_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@each_file
def test_function_bodies_are_short(path):
    long = []
    for node in ast.walk(TREES[path]):
        if isinstance(node, Function.__args__):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and node.end_lineno - body[0].lineno + 1 > MAX_BODY:
                long.append(f"{show(path)}:{node.lineno} {node.name}")
    assert not long


# Text


def test_readme_lists_every_public_name():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    missing = [name for name in lazy_names() if not re.search(rf"`{name}\b[^`]*`", table)]
    assert not missing


def texts() -> list[Path]:
    kinds = {".py", ".md", ".toml", ".cfg", ".txt", ".tsv", ".json", ".yml", ".ipynb", ".cff"}
    places = ("netphys", "tests", "protocols", "data", "notebooks")
    found = [p for place in places for p in (ROOT / place).rglob("*")]
    found += [ROOT / "README.md", ROOT / "setup.cfg", ROOT / "pyproject.toml"]
    return sorted(p for p in found if p.suffix in kinds and p.is_file())


@check_each(texts(), show)
def test_text_names_no_folder_of_somebodys_machine(path):
    folders = "|".join(("root", "work", "home"))
    pattern = re.compile(rf"(?<![\w.~)\]}}>/])/(?:{folders})(?![\w-])")
    found = [
        f"{show(path)}:{n} {line.strip()[:80]}"
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found


# The tools of this file, on hand-made examples


def test_sections_and_listed_read_numpydoc():
    docstring = (
        "Do.\n\nParameters\n----------\na, b : int\n    Two.\n*c : str\n\nReturns\n-------\nx"
    )
    found = sections(docstring)
    assert list(found) == ["Parameters", "Returns"]
    assert listed(found["Parameters"]) == ["a", "b", "*c"]


def test_arguments_and_result_section_read_signatures():
    tree = ast.parse(
        "def f(self, a, /, b, *c, d=1, **e):\n    def g():\n        return 1\n"
        "def h():\n    return None\ndef i():\n    yield 1\ndef j():\n    return 0"
    )
    assert arguments(tree.body[0]) == ["a", "b", "*c", "d", "**e"]
    assert [result_section(node) for node in tree.body] == ["", "", "Yields", "Returns"]


def test_calls_follow_imports():
    tree = ast.parse(
        "import numpy as np\nfrom numpy import random\nnp.random.seed(1)\nrandom.rand()"
    )
    assert [name for name, _ in calls(tree)] == ["numpy.random.seed", "numpy.random.rand"]


def test_imports_find_relative_ones_and_those_inside_functions():
    path = PACKAGE / "data" / "x.py"
    tree = ast.parse(
        "from .. import protocol\ndef f():\n    from ..core import y\n    import torch"
    )
    assert [module for module, _ in imports(path, tree)] == [
        "netphys.protocol",
        "netphys.core",
        "torch",
    ]


@pytest.mark.parametrize(
    ("part", "target", "allowed"),
    [
        ("data", "core", True),
        ("core", "_check", True),
        ("_check", "core", False),
        ("core", "data", False),
        ("data", "recording", False),
        ("brain", "analysis", True),
        ("analysis", "brain", False),
        ("analysis", "perturb", False),
        ("cli", "protocol", True),
        ("recording", "__init__", False),
    ],
)
def test_may_import_knows_the_layers(part, target, allowed):
    assert may_import(part, target) is allowed
