"""The page of coverage, in a browser: with and without ATT&CK, light and dark, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.sense.intel.attack import Attack, Tactic, Technique
from vedette.sense.intel.bundle import Imported, keep_attack, load_attack

pytestmark = pytest.mark.chromium


def test_without_attack_the_page_says_what_to_do(visit):
    page = visit("/rules/coverage")
    assert page.get_by_text("No ATT&CK is imported").is_visible()


def test_the_matrix(looks_right, visit, installation, shared_data: Path):
    intel = shared_data / "intel"
    attack = load_attack(intel / "attack-enterprise-18.1-trim.stix21.json.gz", intel / "attack-v19-crosswalk.tsv")
    keep_attack(installation.home, Imported(attack, "here", 1))
    page = visit("/rules")
    page.get_by_role("link", name="Coverage").click()
    page.wait_for_url("**/rules/coverage")
    assert page.get_by_role("heading", name="Credential Access").is_visible()
    assert page.locator("a.matrix-cell").count() >= 5
    assert page.get_by_text("The rules' tests were not run here yet").is_visible()
    looks_right("/rules/coverage")


def test_names_of_strangers_stay_text(visit, installation):
    hostile = '<img src=x onerror="document.title=1">{{7*7}}'
    attack = Attack(hostile, "", {"T1110": Technique("T1110", hostile, ("x",))}, (Tactic("TA1", hostile, "x"),))
    keep_attack(installation.home, Imported(attack, hostile, 1))
    page = visit("/rules/coverage")
    assert page.title() != "1"
    assert page.locator("img").count() == 0
