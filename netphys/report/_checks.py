"""Checks of what a report is given; the messages do not repeat whole tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping


def check_kind(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise TypeError unless `value` is a `kind`; `what` says it in words."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is of type {type(value).__name__}. Give {what}.")


def check_text(name: str, value: object) -> None:
    """Raise unless `value` is a text with something in it."""
    check_kind(name, value, str, "a text")
    if not value.strip():
        raise ValueError(f"{name} is empty. Give a text.")


def check_mapping(name: str, values: object, kind: type, what: str) -> None:
    """Raise unless `values` maps names to `kind`."""
    check_kind(name, values, Mapping, f"a dict from names to {what}")
    for key, value in values.items():
        check_text(f"a name in {name}", key)
        check_kind(f"{name}[{key!r}]", value, kind, f"a dict from names to {what}")


def as_tuple(name: str, values: object, kind: type, what: str) -> tuple:
    """Return `values` as a tuple of `kind`; a lone text is refused, not read by letters."""
    check_kind(name, values, (tuple, list), f"a tuple or list of {what}")
    for number, value in enumerate(values):
        check_kind(f"{name}[{number}]", value, kind, f"a tuple or list of {what}")
    return tuple(values)
