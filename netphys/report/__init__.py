"""Reports: one self-contained HTML file with text, pictures, tables and where they came from."""

from __future__ import annotations

from netphys.report._text import format_number, format_p
from netphys.report.page import save_report
from netphys.report.parts import Picture, Section, make_picture

__all__ = ["Picture", "Section", "format_number", "format_p", "make_picture", "save_report"]
