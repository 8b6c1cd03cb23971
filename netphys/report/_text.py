"""Text of a report: numbers, p-values, links and the cells of tables."""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from markupsafe import Markup

MINUS, SUPERSCRIPT = "\N{MINUS SIGN}", str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
P_NAME = re.compile(r"(^|[\s_(])[pq]([\s_),\[-]|$)|(?i:p[ _-]?values?)")
UNSAFE = r"""\s\x00-\x1f<>"'`{}|\\^"""  # ends an address
LINK = re.compile(rf"https?://[^{UNSAFE}]+|(?<![\w./])10\.\d{{4,9}}/[^{UNSAFE}]+", re.IGNORECASE)
PAIRS = {")": "(", "]": "["}


def format_number(value: float, *, digits: int = 3) -> str:
    """Return a number as text, rounded to significant digits; whole numbers stay whole.

    Parameters
    ----------
    value : float
        Any number.
    digits : int
        Significant digits of what is not a whole number; digits before the point all stay.

    Returns
    -------
    text : str
        With a minus sign, commas from 10,000 on, a power of ten for extremes, "n/a" for NaN.

    Examples
    --------
    >>> [format_number(x) for x in (0.49123, 12345, 2.5e-7, float("nan"))]
    ['0.491', '12,345', '2.50 × 10⁻⁷', 'n/a']
    """
    if not math.isfinite(value):
        text = "n/a" if math.isnan(value) else "∞"
        return MINUS + text if value == -math.inf else text
    if isinstance(value, Integral) or (float(value).is_integer() and abs(value) < 1e7):
        return _fix(int(value), 0)
    if not 1e-4 <= abs(value) < 1e7:
        number, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{number} × 10{str(int(power)).translate(SUPERSCRIPT)}".replace("-", MINUS)
    return _fix(value, _count_decimals(value, digits))


def format_p(p: float, *, symbol: str = "") -> str:
    """Return a p-value as text: three decimals, no leading zero, never "= .000".

    Parameters
    ----------
    p : float
        0 to 1, or NaN.
    symbol : str
        Put before it with its relation, such as "p"; left out, the number stands alone.

    Returns
    -------
    text : str
        Such as "< .001", ".012" or, with the symbol "p", "p = .012".

    Examples
    --------
    >>> format_p(0.0004), format_p(0.012), format_p(0.012, symbol="p")
    ('< .001', '.012', 'p = .012')
    """
    if not 0 <= p <= 1:  # NaN too
        text = "n/a" if math.isnan(p) else format_number(p)
    elif p < 0.001:
        return f"{symbol} < .001".strip()
    elif 0.9995 <= p < 1:
        return f"{symbol} > .999".strip()
    else:
        text = "1" if p == 1 else f"{p:.3f}"[1:]
    return f"{symbol} = {text}" if symbol else text


def make_links(text: str) -> Markup:
    """Return `text` escaped, with web addresses and DOIs as links."""
    from markupsafe import Markup, escape

    out, end = [], 0
    for match in LINK.finditer(text):
        shown = _trim(match.group())
        target = _get_target(shown)
        if target:
            parts = Markup("/<wbr>").join(shown.split("/"))  # lines may break after a slash
            link = Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(target, parts)
            out += [escape(text[end : match.start()]), link]
            end = match.start() + len(shown)
    return Markup("").join([*out, escape(text[end:])])


def _trim(address: str) -> str:
    """Leave out the punctuation of the sentence, but not brackets that the address opened."""
    while address:
        last = address[-1]
        opened = PAIRS.get(last)
        if last not in ".,;:!?" and (
            opened is None or address.count(opened) >= address.count(last)
        ):
            break
        address = address[:-1]
    return address


def _get_target(address: str) -> str:
    """Return where a link goes, or an empty string if it should stay text."""
    if address.startswith("10."):
        known = address.partition("/")[2]
        return "https://doi.org/" + urllib.parse.quote(address, safe="/:;()._-") if known else ""
    try:
        parts = urllib.parse.urlsplit(address)
        return address if parts.hostname and parts.username is None else ""
    except ValueError:
        return ""


def show_table(frame: pd.DataFrame) -> dict[str, object]:
    """Return header and rows of text; None stands for what is missing."""
    plain = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    levels = [] if plain else range(frame.index.nlevels)
    columns = [(frame.index.names[k] or "", frame.index.get_level_values(k)) for k in levels]
    columns += [(name, frame.iloc[:, k]) for k, name in enumerate(frame.columns)]
    heads, cells = [], []
    for position, (name, values) in enumerate(columns):
        shown = " ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        texts, number = _format_column(shown, values.tolist())
        is_head = position < len(levels) or (plain and position == 0 and not number)
        heads.append({"name": shown, "number": number, "heads": is_head})
        cells.append(texts)
    return {"columns": heads, "rows": list(zip(*cells, strict=True))}


def _format_column(name: str, values: list[object]) -> tuple[list[str | None], bool]:
    """Return the cells of a column and whether they are numbers."""
    known = [v for v in values if not _is_missing(v)]
    if known and all(map(_is_number, known)):
        is_p = P_NAME.search(name) and all(0 <= v <= 1 for v in known)
        form = format_p if is_p else _choose_format(known)
    elif known and all(map(_is_interval, known)):
        one = _choose_format([bound for v in known for bound in v])
        return [None if _is_missing(v) else f"[{one(v[0])}, {one(v[1])}]" for v in values], True
    else:
        return [None if _is_missing(v) else _format_cell(v) for v in values], False
    return [None if _is_missing(v) else form(v) for v in values], True


def _format_cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return format_number(value)
    if _is_interval(value):
        return f"[{format_number(value[0])}, {format_number(value[1])}]"
    return str(value)


def _choose_format(values: Sequence[float]) -> Callable[[float], str]:
    """Return one format for a column: the same decimals for all unless they differ too much.

    They show three digits of the largest value and at least one of the smallest.
    """
    sizes = [abs(float(v)) for v in values if math.isfinite(v) and v != 0]
    if not sizes or all(size.is_integer() for size in sizes) or max(sizes) >= 1e7:
        return format_number
    fewest = _count_decimals(max(sizes), 3)
    decimals = max(fewest, _count_decimals(min(sizes), 1))
    if decimals > fewest + 2:
        return format_number
    return lambda value: _fix(value, decimals) if math.isfinite(value) else format_number(value)


def _count_decimals(value: float, digits: int) -> int:
    """Return the decimals that show `digits` significant digits of `value`."""
    rounded = float(f"{abs(value):.{digits - 1}e}")  # .9999 counts as 1.00
    return max(digits - 1 - math.floor(math.log10(rounded)), 0)


def _fix(value: float, decimals: int) -> str:
    text = f"{value:,d}" if isinstance(value, int) else f"{float(value):,.{decimals}f}"
    text = text if abs(value) >= 9999.5 else text.replace(",", "")
    zero = not text.strip("-0.")
    return text.lstrip("-") if zero else text.replace("-", MINUS)


def _is_missing(value: object) -> bool:
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_interval(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value))
