"""Templates: everything that is put in is escaped, nothing is missing unnoticed, a block is the page's own."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from vedette.core.templates import Templates

PAGES = {
    "parts.html": "{% macro bold(x) %}<b>{{ x }}</b>{% endmacro %}{% macro when(x, now=0) %}<i>{{ x }}/{{ now }}</i>{% endmacro %}",
    "base.html": "<main>{% block content %}{% endblock %}</main>",
    "page.html": (
        '{% extends "base.html" %}{% set word = "set" %}{% macro mine(x) %}[{{ x }}]{% endmacro %}'
        "{% block content %}<p>{% block part %}{{ ui.bold(x) }}{{ word }}{{ mine(x) }}{{ x|when }}{{ x|shout }}{% endblock %}</p>{% endblock %}"
    ),
    "bad.html": "{{ nobody }}",
    "attribute.html": "<a data-x='{{ x|tojson }}' title=\"{{ x }}\">",
}
PART = "<b>&lt;i&gt;</b>set[&lt;i&gt;]<i>&lt;i&gt;/7</i>&lt;I&gt;"


@pytest.fixture
def templates(tmp_path):
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    return Templates(tmp_path, filters={"shout": str.upper}, marks=("when",))


def test_values_are_escaped_wherever_they_go(templates):
    assert templates.render("page.html", {"x": "<i>", "now": 7}) == f"<main><p>{PART}</p></main>"


def test_a_block_is_the_same_by_itself(templates):
    assert templates.fragment("page.html", "part", {"x": "<i>", "now": 7}) == PART
    with pytest.raises(KeyError):
        templates.fragment("page.html", "other", {"x": ""})


def test_a_name_that_was_not_given_is_an_error(templates):
    with pytest.raises(Exception, match="nobody"):
        templates.render("bad.html", {})


def test_data_in_attributes_cannot_leave_them(templates):
    hostile = "'>\"</a><script>"
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    Reader().feed(templates.render("attribute.html", {"x": hostile}))
    assert [tag for tag, _ in found] == ["a"]
    assert json.loads(found[0][1]["data-x"]) == found[0][1]["title"] == hostile
