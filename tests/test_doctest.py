"""The examples in docstrings run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import netphys

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(netphys.__path__, "netphys.")
    if not name.endswith("__main__")
    and not name.startswith(("netphys.shipped", "netphys.protocols"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    space = {n: getattr(netphys, n) for n in netphys.__all__}
    result = doctest.testmod(module, extraglobs=space, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
