"""Argument checks: what passes, what is refused, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys._check import check_option, check_positive, check_type, suggest


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        ("resd", ["resid", "mlp"], " Did you mean 'resid'?"),
        ("RESID", ["resid", "mlp"], " Did you mean 'resid'?"),
        ("ml", ["mlp", "mlp_out", "embed"], " Did you mean 'mlp'?"),
        ("mlp_ot", ["mlp", "mlp_out", "embed"], " Did you mean 'mlp_out' or 'mlp'?"),
        ("resid", ["Resid", "RESID"], " Did you mean 'Resid' or 'RESID'?"),
        ("zzz", ["resid", "mlp"], ""),
        ("", ["resid"], ""),
        ("x", [], ""),
        (13, [13, 31], " Did you mean '13'?"),
    ],
)
def test_suggest_names_the_nearest_first(value, allowed, expected):
    assert suggest(value, allowed) == expected


def test_suggest_names_each_name_once():
    assert suggest("resd", ["resid", "resid"]) == " Did you mean 'resid'?"


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6), st.data())
def test_property_suggest_finds_an_allowed_name_itself(names, data):
    name = data.draw(st.sampled_from(names))
    assert repr(name) in suggest(name, names)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("a", ("a", "b")),
        ("b", iter(["a", "b"])),
        (None, ("a", None)),
        (2, (1, 2)),
        (True, (True, False)),
        (np.str_("a"), ("a", "b")),
    ],
)
def test_check_option_passes_what_is_allowed(value, allowed):
    assert check_option("x", value, allowed) is None


def test_check_option_refuses_other_values():
    message = (
        r"^dtype='float23' is unknown\. Choose one of: 'native', 'float32'\. Did you mean 'floa"
    )
    with pytest.raises(ValueError, match=message):
        check_option("dtype", "float23", ("native", "float32"))
    with pytest.raises(ValueError, match=r"^x='q' is unknown\. Choose one of: 'a', 'b'\.$"):
        check_option("x", "q", ("a", "b"))
    with pytest.raises(ValueError, match=r"one of: 'a'\. Leave it out to infer it\.$"):
        check_option("x", "q", ["a"], "Leave it out to infer it.")
    with pytest.raises(ValueError, match=r"^x='q' is unknown\. There is nothing to choose from\.$"):
        check_option("x", "q", [])


@pytest.mark.parametrize(
    ("value", "allowed", "said"),
    [
        (3, ("a", "b"), "x=3 is an int"),
        (None, ("a", "b"), "x=None is a NoneType"),
        (["a"], ("a", "b"), r"x=\['a'\] is a list"),
        (np.array(["a", "a"]), ("a", "b"), r"x=array\(.*\) is a ndarray"),
        (True, (1, 2), "x=True is a bool"),
        (1, (True, False), "x=1 is an int"),
    ],
)
def test_check_option_refuses_other_kinds(value, allowed, said):
    with pytest.raises(TypeError, match=rf"^{said}\. Choose one of: "):
        check_option("x", value, allowed)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [("a", str), (3, int), (True, bool), (True, (int, bool)), (True, object), (3, (str, int))],
)
def test_check_type_passes_its_kinds(value, kinds):
    assert check_type("x", value, kinds, "something") is None


@pytest.mark.parametrize(
    ("value", "kinds", "said"),
    [
        (3, str, "x=3 is an int"),
        ("3", int, "x='3' is a str"),
        (3.0, (int, str), r"x=3\.0 is a float"),
        (True, int, "x=True is a bool"),
        (None, (int, str), "x=None is a NoneType"),
        (1, bool, "x=1 is an int"),
    ],
)
def test_check_type_refuses_other_kinds(value, kinds, said):
    with pytest.raises(TypeError, match=rf"^{said}\. Give this or that\.$"):
        check_type("x", value, kinds, "this or that")


@pytest.mark.parametrize("value", [1, 2, 10**30])
def test_check_positive_passes_whole_numbers_from_one(value):
    assert check_positive("n", value) is None


@pytest.mark.parametrize("value", [0, -1])
def test_check_positive_refuses_smaller_numbers(value):
    with pytest.raises(ValueError, match=rf"^n={value} is too small\. Give a whole number of at l"):
        check_positive("n", value)


@pytest.mark.parametrize("value", [1.0, "1", True, None, np.float64(2)])
def test_check_positive_refuses_other_kinds(value):
    with pytest.raises(TypeError, match=r"^n=.* is an? \w+\. Give a whole number of at least 1\.$"):
        check_positive("n", value)


def test_long_values_are_shown_by_their_beginning():
    said = r"^x=\{0: 0, 1: 1, .*\.\.\. is a dict\. Give a list\.$"
    with pytest.raises(TypeError, match=said) as error:
        check_type("x", {k: k for k in range(1000)}, list, "a list")
    assert len(str(error.value)) < 160
