"""A report as PDF: text that can be searched and copied, its font embedded, nothing fetched.

Imported where a PDF is asked for: the library takes a moment to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from vedette.act.cases.reports import Report, Section
from vedette.core.render import printable

MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
MAX_CELL = 4_000
"""Longest text of one cell, characters; what is beyond is told by its number."""
_NARROWEST, _WIDEST = 6, 60
"""A column's share of the width follows its longest text, in characters, within these."""

_FONT, _BOLD = "Vedette", "Vedette-Bold"
_INK, _LINE, _SOFT = HexColor("#14231f"), HexColor("#c9d1ce"), HexColor("#eef1ef")

_TEXT = ParagraphStyle("text", fontName=_FONT, fontSize=9, leading=12.5, textColor=_INK, splitLongWords=1)
_CELL = ParagraphStyle("cell", parent=_TEXT, fontSize=7.5, leading=10)
_HEAD = ParagraphStyle("head", parent=_CELL, fontName=_BOLD)
_ITEM = ParagraphStyle("item", parent=_TEXT, leftIndent=10, bulletIndent=0, spaceAfter=2)
_TITLE = ParagraphStyle("title", parent=_TEXT, fontName=_BOLD, fontSize=17, leading=21, spaceAfter=6)
_SECTION = ParagraphStyle(
    "section", parent=_TEXT, fontName=_BOLD, fontSize=11.5, leading=15, spaceBefore=12, spaceAfter=4
)
_GRID = TableStyle(
    [
        ("BACKGROUND", (0, 0), (-1, 0), _SOFT),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
)


def to_pdf(report: Report) -> bytes:
    """The report as PDF. The same report gives the same bytes.

    A sign that the font lacks stands as its number, such as `[U+4E2D]`, so that nothing is silently left out.
    """
    _know_fonts()
    made = BytesIO()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=printable(report.title),
        invariant=1,
    )
    story: list[Flowable] = [Paragraph(_safe(report.title), _TITLE)]
    for section in report.sections:
        story += _section(section)
    document.build(story, onFirstPage=_number, onLaterPages=_number)
    return made.getvalue()


def _know_fonts() -> None:
    """The library brings the fonts; they are embedded, as far as they are used."""
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        folder = Path(reportlab.__file__).parent / "fonts"
        for name, file in ((_BOLD, "VeraBd.ttf"), (_FONT, "Vera.ttf")):
            pdfmetrics.registerFont(TTFont(name, str(folder / file)))


def _section(section: Section) -> list[Flowable]:
    parts: list[Flowable] = [Paragraph(_safe(section.title), _SECTION)]
    parts += [Paragraph(_safe(line), _ITEM, bulletText="\u2022") for line in section.lines]
    if section.rows:
        head, *rows = section.rows
        cells = [[Paragraph(_safe(name), _HEAD) for name in head]]
        cells += [[Paragraph(_safe(cell), _CELL) for cell in row] for row in rows]
        parts += [Spacer(0, 3), LongTable(cells, _widths(section.rows), repeatRows=1, splitInRow=1, style=_GRID)]
    return parts


def _widths(rows: Sequence[Sequence[str]]) -> list[float]:
    longest = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    shares = [min(max(length, _NARROWEST), _WIDEST) for length in longest]
    return [WIDTH * share / sum(shares) for share in shares]


def _safe(text: str) -> str:
    """What stays text in the library's markup, of signs that the font has."""
    known = pdfmetrics.getFont(_FONT).face.charToGlyph
    cut = text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]} [{len(text) - MAX_CELL} more characters]"
    signs = (char if ord(char) in known or char.isspace() else f"[U+{ord(char):04X}]" for char in printable(cut))
    return escape("".join(signs))


def _number(canvas: Any, document: Any) -> None:
    canvas.setFont(_FONT, 7)
    canvas.setFillColor(_INK)
    canvas.drawRightString(A4[0] - MARGIN, MARGIN / 2, str(document.page))
