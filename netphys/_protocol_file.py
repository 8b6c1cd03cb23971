"""Reading a protocol file: find it, parse it, change it by overrides, check key by key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from netphys._check import check_option, check_positive, check_type, suggest
from netphys._options import (
    ANALYSES,
    DESCRIPTORS,
    FACTORS,
    INITS,
    METHODS,
    METRICS,
    NONFINITE,
    STORE_DTYPES,
    STORES,
    TARGETS,
    WEIGHT_DTYPES,
)
from netphys._shipped import protocol_path
from netphys._toml_lines import KeyPath, key_lines

SCHEMA = 1
MIN_DRAWS = 19  # fewer cannot give a p below .05

# A check gets the full key and the value; it returns the value to keep or raises.
Check = Callable[[str, object], object]


class ProtocolError(ValueError):
    """A protocol cannot be read; the message names the file, the line and the key."""


class Document:
    """A parsed protocol file, and what is needed to say where in it something stands."""

    def __init__(self, path: Path, text: str, content: dict[str, object]) -> None:
        self.path = path
        self.text = text
        self.content = content
        self.overridden: dict[KeyPath, str] = {}

    def fail(self, key: KeyPath, message: str) -> NoReturn:
        """Raise ProtocolError with the place of `key` before the message."""
        raise ProtocolError(f"{self._place(key)}: {message}")

    def _place(self, key: KeyPath) -> str:
        lines = key_lines(self.text)
        for prefix in (key[:n] for n in range(len(key), 0, -1)):
            if prefix in self.overridden:
                return f"{self.path.name}, override {self.overridden[prefix]!r}"
            if prefix in lines:
                return f"{self.path.name}, line {lines[prefix]}"
        return self.path.name

    def folder_of(self, key: KeyPath) -> Path:
        """Return the folder where a relative path given as `key` starts."""
        return Path.cwd() if key in self.overridden else self.path.parent

    def words(self) -> dict[str, object]:
        """Return the checked keys above the first table, without the schema."""
        for name in self.content:
            if name not in TOP_KEYS:
                _fail_unknown(self, (name,))
        content = self.content.items()
        return {k: self._checked((k,), v, KEYS[""][k]) for k, v in content if k in KEYS[""]}

    def table(self, name: str) -> dict[str, object]:
        """Return the checked keys that the table `name` gives."""
        return self._table((name,), self.content.get(name, {}))

    def tables(self, name: str) -> list[dict[str, object]]:
        """Return the checked keys of each table of the array `name`."""
        items = self.content.get(name, [])
        if not isinstance(items, list):
            self.fail((name,), f"{name} is not a list of tables. Write [[{name}]] above each one.")
        return [self._table((name, n), item) for n, item in enumerate(items)]

    def record_for(self, user: str, record: dict[str, object], sites: tuple[str, ...]) -> None:
        """Put the sites of a study where [record] has none; fail unless samples are stored."""
        record.setdefault("sites", sites)
        if "samples" not in record.get("store", ("samples",)):
            self.fail(
                ("record", "store"),
                f"record.store={list(record['store'])} lacks 'samples', which [{user}] needs. "
                "Add it.",
            )

    def _table(self, path: KeyPath, given: object) -> dict[str, object]:
        table = as_table(self, path, given)
        checks = KEYS[str(path[0])]
        for name in table:
            if name not in checks:
                _fail_unknown(self, (*path, name))
        for required in REQUIRED.get(str(path[0]), ()):
            if required not in table:
                key = (*path, required)
                self.fail(key, f"{_dotted(key)} is missing. Give it a value.")
        return {k: self._checked((*path, k), value, checks[k]) for k, value in table.items()}

    def _checked(self, key: KeyPath, value: object, check: Check) -> object:
        try:
            return check(_dotted(key), value)
        except (TypeError, ValueError) as error:
            self.fail(key, str(error))


def read_document(source: str | os.PathLike[str], overrides: Iterable[str]) -> Document:
    """Find and parse a protocol file, check its schema and apply the overrides."""
    path = _find(source)
    text = _read(path)
    document = Document(path, text, _parse(path, text))
    _check_schema(document)
    for override in overrides:
        _apply(document, override)
    return document


def as_table(document: Document, path: KeyPath, value: object) -> dict[str, object]:
    """Return `value` if it is a table, else fail."""
    if isinstance(value, dict):
        return value
    header = f"[{path[0]}]" if len(path) == 1 else f"[[{path[0]}]]"
    document.fail(path, f"{_dotted(path)}={value!r} is not a table. Write its keys under {header}.")


def _find(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if isinstance(source, str) and path.suffix != ".toml" and path.name == source:
        try:
            return protocol_path(source)
        except FileNotFoundError as error:
            raise ProtocolError(str(error)) from None
    if path.is_dir():
        raise ProtocolError(f"{path} is a folder. Give the path of a TOML file.")
    if not path.exists():
        raise ProtocolError(
            f"{path} does not exist (working directory: {Path.cwd()}). Give the path of a TOML "
            "file or the bare name of a shipped protocol, such as 'quickstart'."
        )
    return path.absolute()


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProtocolError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProtocolError(
            f"{path.name}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8. "
            "Save the file in UTF-8."
        ) from None


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number too long for Python
        where = re.search(r" \(at line (\d+), (column \d+)\)$", str(error))
        if where is None:
            raise ProtocolError(f"{path.name} is not valid TOML: {error}.") from None
        message = str(error)[: where.start()]
        raise ProtocolError(
            f"{path.name}, line {where[1]}: not valid TOML: {message} ({where[2]})."
        ) from None
    except RecursionError:
        raise ProtocolError(f"{path.name} is nested too deeply to be a protocol.") from None


def _check_schema(document: Document) -> None:
    advice = f"Write 'schema = {SCHEMA}' above the first table"
    if "schema" not in document.content:
        document.fail(("schema",), f"schema is missing. {advice}.")
    schema = document.content["schema"]
    if schema != SCHEMA or type(schema) is not int:
        document.fail(
            ("schema",),
            f"schema={schema!r} cannot be read: this version of netphys reads schema {SCHEMA}. "
            f"{advice}, or install the version that the protocol was written for.",
        )


def _apply(document: Document, override: str) -> None:
    check_type("overrides", override, str, "strings such as 'record.batch_size=4'")
    name, equals, text = override.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    document.overridden[key] = override
    top = key[0]
    if not equals:
        document.fail(key, "there is no '='. Write key=value, such as record.batch_size=4.")
    if top not in TOP_KEYS or len(key) > 2 or (len(key) == 2 and key[1] not in KEYS.get(top, ())):
        _fail_unknown(document, key)
    value = _toml_value(text.strip())
    if top == "schema":
        document.fail(key, "schema says how the file is written and cannot be overridden.")
    if top in LISTS and (len(key) == 2 or value != []):
        document.fail(key, f"{top} cannot be overridden, only left out: {top}=[].")
    if len(key) == 2:
        as_table(document, (top,), document.content.setdefault(top, {}))[key[1]] = value
    elif top in KEYS and top not in LISTS:
        keys = ", ".join(f"{top}.{k}" for k in sorted(KEYS[top]))
        document.fail(key, f"{top} is a table. Override one of its keys: {keys}.")
    else:
        document.content[top] = value


def _toml_value(text: str) -> object:
    try:
        return parse_value(text)
    except (ValueError, RecursionError):
        return text


def parse_value(text: str) -> object:
    """Return a value as TOML writes it, else raise ValueError."""
    parsed = tomllib.loads(f"value = {text}")
    if len(parsed) != 1:
        raise ValueError("more than one value")
    return parsed["value"]


def _dotted(key: KeyPath) -> str:
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return "".join(steps).removeprefix(".")


def _fail_unknown(document: Document, key: KeyPath) -> NoReturn:
    table = str(key[0]) if len(key) > 1 else ""
    allowed = tuple(KEYS.get(table, ())) if table else TOP_KEYS
    title = {"": "a protocol", **{name: f"[[{name}]]" for name in LISTS}}.get(table, f"[{table}]")
    homes = [f"[{home}]" for home, keys in KEYS.items() if home and key[-1] in keys]
    hint = suggest(key[-1], allowed)
    if not hint and homes:
        hint = f" It is a key of {' and '.join(homes)}."
    listed = f" Keys of {title}: {', '.join(sorted(allowed))}." if allowed else ""
    document.fail(key, f"{_dotted(key)} is not a key.{hint}{listed}")


def _text(name: str, value: object) -> object:
    check_type(name, value, str, "a string in quotes")
    return value


def _filled(name: str, value: object) -> object:
    check_type(name, value, str, "a string in quotes")
    if not value.strip():
        raise ValueError(f"{name}={value!r} is empty. Give it a value or leave the key out.")
    return value


def _flag(name: str, value: object) -> object:
    check_type(name, value, bool, "true or false")
    return value


def _count(name: str, value: object) -> object:
    check_positive(name, value)
    return value


def _seed(name: str, value: object) -> object:
    allowed = "a whole number from 0 to 2**63 - 1"
    check_type(name, value, int, allowed)
    if not 0 <= value < 2**63:
        raise ValueError(f"{name}={value!r} is out of range. Give {allowed}.")
    return value


def _seeds(name: str, value: object) -> object:
    check_type(name, value, list, "a list of seeds, such as [0, 1, 2]")
    if not value or len(set(map(repr, value))) < len(value):
        raise ValueError(f"{name}={value!r} is empty or repeats a seed. Give different seeds.")
    return tuple(_seed(f"{name}[{n}]", seed) for n, seed in enumerate(value))


def _whole(name: str, value: object) -> object:
    check_type(name, value, int, "a whole number of at least 0")
    if value < 0:
        raise ValueError(f"{name}={value!r} is negative. Give a whole number of at least 0.")
    return value


def _draws(least: int) -> Check:
    def check(name: str, value: object) -> object:
        what = f"a whole number of at least {MIN_DRAWS}" + (", or 0 for none" if not least else "")
        check_type(name, value, int, what)
        if value < MIN_DRAWS and (value != 0 or least):
            raise ValueError(f"{name}={value} is too small for p or intervals at 5 %. Give {what}.")
        return value

    return check


def _options(*allowed: str, empty: bool = False) -> Check:
    def check(name: str, value: object) -> object:
        check_type(name, value, list, f"a list of some of {', '.join(map(repr, allowed))}")
        if not value and not empty:
            raise ValueError(f"{name}=[] is empty. Give some of {', '.join(map(repr, allowed))}.")
        for n, item in enumerate(value):
            check_option(f"{name}[{n}]", item, allowed)
            if item in value[:n]:
                raise ValueError(f"{name}[{n}]={item!r} is listed twice. Name each once.")
        return tuple(value)

    return check


def _option(*allowed: str) -> Check:
    def check(name: str, value: object) -> object:
        check_option(name, value, allowed)
        return value

    return check


def _stem(name: str, value: object) -> object:
    check_type(name, value, str, "a name in quotes")
    if re.fullmatch(r"[A-Za-z0-9_-]+", value) is None:
        raise ValueError(
            f"{name}={value!r} cannot name a session file. Use letters, digits, - and _ only."
        )
    return value


def _sites(name: str, value: object) -> object:
    check_type(name, value, list, 'a list of sites, such as ["resid", "mlp"]')
    if not value:
        raise ValueError(f'{name}=[] is empty. Give at least one site, such as ["resid"].')
    for n, site in enumerate(value):
        _filled(f"{name}[{n}]", site)
        if site in value[:n]:
            raise ValueError(f"{name}[{n}]={site!r} is listed twice. Name each site once.")
    return tuple(value)


def _units(name: str, value: object) -> object:
    check_type(name, value, dict, "a table, such as {mlp = [0, 1, 7]}")
    for site, units in value.items():
        check_type(f"{name}.{site}", units, list, "a list of numbers of units")
        for unit in units:
            _whole(f"{name}.{site}", unit)
    return value


def _threshold(name: str, value: object) -> object:
    what = "a number, or a table of sites such as {mlp = 0.5}"
    check_type(name, value, (int, float, dict), what)
    for site, entry in value.items() if isinstance(value, dict) else ():
        each = entry if isinstance(entry, list) else [entry]
        for number in each:
            check_type(f"{name}.{site}", number, (int, float), "a number, or one per unit")
    return value


def _online(name: str, value: object) -> object:
    check_type(name, value, list, 'a list, such as ["moments"] or [{name = "moments", order = 4}]')
    for n, statistic in enumerate(value):
        check_type(f"{name}[{n}]", statistic, (str, dict), "a name, or a table with a name")
    return tuple(value)


def _generate(name: str, value: object) -> object:
    check_type(name, value, dict, "a table, such as {max_new_tokens = 32}")
    if "max_new_tokens" not in value:
        raise ValueError(f"{name} lacks max_new_tokens: the most tokens per trial. Give it.")
    return value


def _names(name: str, value: object) -> object:
    check_type(name, value, list, 'a list of names, such as ["subject", "seeds"]')
    if not value:
        raise ValueError(f"{name}=[] is empty. Name networks, or leave the key out.")
    for n, item in enumerate(value):
        _filled(f"{name}[{n}]", item)
        if item in value[:n]:
            raise ValueError(f"{name}[{n}]={item!r} is listed twice. Name each once.")
    return tuple(value)


def _levels(name: str, value: object) -> object:
    what = "a list of different numbers of at least 0, such as [0.0, 0.2]"
    check_type(name, value, list, what)
    for n, level in enumerate(value):
        check_type(f"{name}[{n}]", level, (int, float), "a number of at least 0")
        if not 0 <= level < float("inf"):
            raise ValueError(f"{name}[{n}]={level!r} is no size of noise. Give {what}.")
    if not value or len(set(value)) < len(value):
        raise ValueError(f"{name}={value!r} is empty or repeats a level. Give {what}.")
    return tuple(map(float, value))


def _grid(name: str, value: object) -> object:
    check_type(name, value, int, "a whole number from 2 to 41")
    if not 2 <= value <= 41:
        raise ValueError(f"{name}={value!r} is out of range. Give a whole number from 2 to 41.")
    return value


_INIT = _option(*INITS)

KEYS: dict[str, dict[str, Check]] = {
    "": {"title": _text, "description": _text, "question": _text},
    "subject": {
        "name": _filled,
        "init": _INIT,
        "seed": _seed,
        "dtype": _option(*WEIGHT_DTYPES),
        "device": _filled,
        "revision": _filled,
        "trust_remote_code": _flag,
    },
    "twins": {"name": _stem, "init": _INIT, "seed": _seed},
    "others": {
        "name": _stem,
        "subject": _filled,
        "init": _INIT,
        "seeds": _seeds,
        "sites": _sites,
    },
    "stimuli": {"source": _filled, "context_words": _whole},
    "record": {
        "sites": _sites,
        "dtype": _option(*STORE_DTYPES),
        "batch_size": _count,
        "nonfinite": _option(*NONFINITE),
        "store": _options(*STORES, empty=True),
        "units": _units,
        "threshold": _threshold,
        "top_k": _count,
        "online": _online,
        "generate": _generate,
        "compile": _flag,
        "max_memory": _count,
    },
    "match": {
        "dataset": _filled,
        "analysis": _option(*ANALYSES),
        "sites": _sites,
        "metric": _option(*METRICS),
        "method": _option(*METHODS),
        "targets": _options(*TARGETS),
        "generalize": _options(*FACTORS),
        "n_null": _draws(0),
        "n_bootstraps": _draws(MIN_DRAWS),
        "seed": _seed,
    },
    "topology": {
        "networks": _names,
        "controls": _names,
        "sites": _sites,
        "metric": _option(*METRICS),
        "descriptors": _options(*DESCRIPTORS),
        "noise": _levels,
        "n_draws": _count,
        "n_levels": _grid,
        "n_null": _draws(0),
        "seed": _seed,
    },
}
REQUIRED = {
    "subject": ("name",),
    "twins": ("name",),
    "others": ("name", "subject"),
    "stimuli": ("source",),
    "match": ("dataset", "analysis"),
    "topology": ("networks",),
}
LISTS = ("twins", "others")  # arrays of tables
TOP_KEYS = ("schema", *KEYS[""], *(name for name in KEYS if name))
