"""Reports as PDF: everything that is in the report can be found in the file, whatever the texts are."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from vedette.act.cases.pdf import MAX_CELL, to_pdf
from vedette.act.cases.reports import Report, Section

TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=80)


def read(report):
    """Its pages as text, without the spaces that lines end with."""
    pages = PdfReader(io.BytesIO(to_pdf(report))).pages
    return pages, re.sub(r"\s+", "", "".join(page.extract_text() for page in pages))


def test_what_it_says_is_found():
    rows = (("When", "What"), *((f"2026-03-{day:02}", f"step {day} of café Ø") for day in range(1, 29)))
    _, text = read(Report("Brief: a key is loose", (Section("Summary", ("Opened by <b>Ana</b> & Bob.",), rows),)))
    for told in ("Brief:akeyisloose", "Openedby<b>Ana</b>&Bob.", "step28ofcaféØ"):
        assert told in text


def test_long_words_wrap_and_long_cells_go_on():
    word = "f" * 700
    rows = (("Name", "Value"), ("digest", word), ("log", "line " * 900), ("more", "x" * (MAX_CELL + 10)))
    pages, text = read(Report("T", (Section("S", (word,), rows),)))
    assert text.count("f" * 700) == 2
    assert "[10morecharacters]" in text
    assert len(pages) > 1
    assert all(float(page.mediabox.width) == pytest.approx(595.3, abs=0.1) for page in pages)


def test_a_sign_that_the_font_lacks_is_told_by_its_number():
    assert "[U+4E2D]" in read(Report("中", ()))[1]


def test_nothing_is_fetched_and_nothing_runs():
    made = to_pdf(
        Report('<img src="http://203.0.113.1/x.png"/>', (Section("<a href='file:///etc/passwd'>x</a>", ("<br/>",)),))
    )
    assert not re.search(rb"/(URI|JavaScript|Launch|OpenAction|AA|Annots|EmbeddedFile)\b", made)
    assert b"/FontFile2" in made, "the font is inside"


def test_the_same_report_is_the_same_file():
    report = Report("T", (Section("S", ("line",)),))
    assert to_pdf(report) == to_pdf(report)


@settings(max_examples=25, deadline=None)
@given(title=TEXTS, lines=st.lists(TEXTS, max_size=3), row=st.lists(TEXTS, min_size=1, max_size=6))
def test_any_text_makes_a_file(title, lines, row):
    head = tuple(f"c{number}" for number in range(len(row)))
    pages, _ = read(Report(title, (Section("S", tuple(lines), (head, tuple(row))),)))
    assert pages
