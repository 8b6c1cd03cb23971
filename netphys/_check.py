"""Argument checks at the public door: one clear message, raised once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_SHOWN = 120  # characters of a value in a message


def suggest(value: object, allowed: Iterable[object]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest allowed names, or an empty string."""
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys(str(a) for a in allowed):
        names.setdefault(name.casefold(), []).append(name)
    near = difflib.get_close_matches(str(value).casefold(), names, n=3, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(n) for key in near for n in names[key]) + "?"


def show(value: object) -> str:
    """Return `value` as a message shows it: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def check_option(name: str, value: object, allowed: Iterable[object], hint: str = "") -> None:
    """Raise unless `value` is one of `allowed`; the message suggests the nearest.

    TypeError if nothing allowed is of that kind, else ValueError.
    """
    allowed = tuple(allowed)
    alike = [a for a in allowed if _is_kind(value, type(a))]
    if value in alike:
        return
    listed = ", ".join(repr(a) for a in allowed)
    choice = f"Choose one of: {listed}." if allowed else "There is nothing to choose from."
    after = f" {hint}" if hint else ""
    if not alike and allowed:
        raise TypeError(f"{name}={show(value)} is {_kind(value)}. {choice}{after}")
    raise ValueError(f"{name}={show(value)} is unknown. {choice}{suggest(value, allowed)}{after}")


def check_type(name: str, value: object, kinds: type | tuple[type, ...], what: str) -> None:
    """Raise TypeError unless `value` is an instance of `kinds`; `what` says it in words."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not any(_is_kind(value, kind) for kind in kinds):
        raise TypeError(f"{name}={show(value)} is {_kind(value)}. Give {what}.")


def check_positive(name: str, value: object) -> None:
    """Raise unless `value` is a whole number of at least one."""
    check_type(name, value, int, "a whole number of at least 1")
    if value < 1:
        raise ValueError(f"{name}={value!r} is too small. Give a whole number of at least 1.")


def _is_kind(value: object, kind: type) -> bool:
    # Python counts True and False as whole numbers; an argument does not.
    return isinstance(value, kind) and (not isinstance(value, bool) or kind in (bool, object))


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
