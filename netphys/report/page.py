"""The page of a report: laid out, rendered and written whole."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from netphys._check import check_type
from netphys._version import read_version
from netphys.report._checks import as_tuple, check_mapping, check_text
from netphys.report._text import make_links, show_table
from netphys.report.parts import DPI, Picture, Section

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
LONG_LISTING = 15  # lines; longer ones start folded


def save_report(
    path: str | os.PathLike,
    sections: Sequence[Section],
    *,
    title: str,
    subtitle: str = "",
    headline: str = "",
    control: str = "",
    facts: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write a report: one HTML file that loads nothing and runs no script.

    Parameters
    ----------
    path : path-like
        File to make, usually ending in .html; it appears when it is finished.
    sections : sequence of Section
        What it says, in this order.
    title : str
        Title of the page.
    subtitle : str
        A line below the title.
    headline : str
        Main finding in a sentence, in a box at the top.
    control : str
        What the finding is against its control; needed with a headline.
    facts : mapping from str to str, optional
        Names and values shown at the top, such as the subject and the stimuli.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    TypeError, ValueError
        If something is of another kind, a text is missing, or a headline has no control.
    FileExistsError
        If the file exists and `overwrite` is off.
    OSError
        If the folder does not exist or cannot be written to.

    Examples
    --------
    >>> from netphys.report import Section, save_report
    >>> question = Section("Question", ["Which layer resembles the brain?"])
    >>> save_report("report.html", [question], title="A subject and a brain").name
    'report.html'
    """
    check_type("path", path, (str, os.PathLike), "the path of the file to make")
    path = Path(path).expanduser()
    sections = as_tuple("sections", sections, Section, "Sections")
    if not sections:
        raise ValueError("sections is empty. Give one Section or more.")
    check_text("title", title)
    for name, text in (("subtitle", subtitle), ("headline", headline), ("control", control)):
        check_type(name, text, str, "a text")
    if bool(headline.strip()) != bool(control.strip()):
        raise ValueError(
            "headline and control go together. Say beside the finding what it is against its "
            "control, or why there is no control."
        )
    facts = {} if facts is None else facts
    check_mapping("facts", facts, str, "texts")
    _check_place(path, overwrite=overwrite)
    head = {"title": title, "subtitle": subtitle, "headline": headline, "control": control}
    _write(path, _render(sections, **head, facts=facts))
    return path


def _check_place(path: Path, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {path.parent} of path={str(path)!r} does not exist. Make it first, or "
            "choose another path."
        )
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder. Give the name of a file in it.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or pass overwrite=True.")


def _write(path: Path, text: str) -> None:
    """Write beside `path` first: a reader finds the old file or the new one, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
        os.replace(unfinished, path)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{path} cannot be written ({reason}). Choose another path.") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _render(sections: Sequence[Section], **head: object) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["link"] = make_links
    source = (
        resources.files("netphys.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    page = {"policy": POLICY, "version": read_version(), "sections": _lay_out(sections)}
    return environment.from_string(source).render(**head, **page)


def _lay_out(sections: Sequence[Section]) -> list[dict[str, object]]:
    """Return the sections as the template takes them, with anchors and numbers."""
    anchors: set[str] = set()
    n_pictures = n_tables = 0
    out = []
    for section in sections:
        pictures = [_show_picture(p, n) for n, p in enumerate(section.pictures, n_pictures + 1)]
        tables = [
            {"number": n, "caption": caption, **show_table(frame)}
            for n, (caption, frame) in enumerate(section.tables.items(), n_tables + 1)
        ]
        n_pictures, n_tables = n_pictures + len(pictures), n_tables + len(tables)
        out.append(
            {
                "anchor": _make_anchor(section.title, anchors),
                "title": section.title,
                "blocks": list(_split(section.paragraphs)),
                "pictures": pictures,
                "tables": tables,
                "listings": [_show_listing(*item) for item in section.code.items()],
            }
        )
    return out


def _make_anchor(title: str, taken: set[str]) -> str:
    """Return a new name for an address; ids of the template hold an underscore, these do not."""
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _split(paragraphs: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield paragraphs and lists."""
    for paragraph in paragraphs:
        for text in filter(None, re.split(r"\n[ \t]*\n\s*", paragraph.strip())):
            lines = text.splitlines()
            is_list = all(line.startswith("- ") for line in lines)
            yield {"text": text, "entries": [line[2:] for line in lines] if is_list else []}


def _show_picture(picture: Picture, number: int) -> dict[str, object]:
    n = len(picture.images)
    panels = []
    for k, image in enumerate(picture.images):
        width, height = struct.unpack(">II", image[16:24])
        letter = chr(ord("A") + k) if n > 1 else ""
        told = picture.alt if k == 0 else "described with panel A"
        panels.append(
            {
                "source": "data:image/png;base64," + base64.b64encode(image).decode("ascii"),
                "width": max(round(width * 96 / DPI), 1),
                "height": max(round(height * 96 / DPI), 1),
                "letter": letter,
                "alt": f"Panel {letter}: {told}" if letter else told,
            }
        )
    return {"number": number, "caption": picture.caption, "panels": panels}


def _show_listing(name: str, text: str) -> dict[str, object]:
    n = len(text.splitlines())
    length = f"{n} line" if n == 1 else f"{n} lines"
    return {"name": name, "text": text, "length": length, "open": n <= LONG_LISTING}
