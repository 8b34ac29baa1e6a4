"""The table of the pack's page says what the folders hold. `VEDETTE_REFRESH=1` writes it anew."""

from __future__ import annotations

import os
import re

import pytest
from tests.conftest import ROOT

from vedette.core.content import shipped
from vedette.core.documents import load_yaml

PAGE = ROOT / "docs" / "detection" / "pack.md"
BEGIN, END = "<!-- made by tests/judge/test_pack_page.py -->\n", "<!-- end -->"
FOLDERS = ("windows", "linux", "network")


def rules_of(folder):
    """The documents with a card, in the order of their files."""
    texts = [path.read_bytes() for path in sorted(folder.glob("*.yml"))]
    documents = (load_yaml(part).data for text in texts for part in re.split(rb"^---$", text, flags=re.MULTILINE))
    return [one for one in documents if "vedette" in one]


def table(folders):
    """What each folder holds, then its rules with their techniques."""
    lines = ["| Folder | Rules | of these correlations | Tests | Techniques |", "|---|---|---|---|---|"]
    lists = []
    for name in folders:
        rules = rules_of(shipped(f"rules/sigma/{name}"))
        count = sum(len(one["vedette"]["tests"]) for one in rules)
        techniques = {tag for one in rules for tag in techniques_of(one)}
        correlated = sum("correlation" in one for one in rules)
        lines.append(f"| {name} | {len(rules)} | {correlated} | {count} | {len(techniques)} |")
        lists += ["", f"**{name}**", ""]
        lists += [
            f"- {one['title']} ({', '.join(techniques_of(one))})" for one in sorted(rules, key=lambda one: one["title"])
        ]
    return "\n".join([*lines, *lists]) + "\n"


def techniques_of(rule):
    """`T1003.001` of its tags."""
    found = (tag.removeprefix("attack.").upper() for tag in rule.get("tags", []))
    return [tag for tag in found if re.fullmatch(r"T\d{4}(\.\d{3})?", tag)]


def test_the_page_lists_the_pack():
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    now, _, after = rest.partition(END)
    if os.environ.get("VEDETTE_REFRESH") == "1":
        PAGE.write_text(f"{before}{BEGIN}{table(FOLDERS)}{END}{after}")
        pytest.skip("the page was written anew")
    assert now == table(FOLDERS)


def test_a_rule_that_is_new_would_be_missed():
    assert table(FOLDERS) != table(FOLDERS[:2])
