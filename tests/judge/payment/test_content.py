"""The shipped payment rules: they load, their tests pass, and their files stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_rules
from vedette.sense.features.definition import load_features

CONTENT = Path(__file__).resolve().parents[3] / "content"
FOLDER = CONTENT / "rules" / "payment"
FEATURES = CONTENT / "features" / "charges.yaml"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_rules_load_and_carry_tests(path: Path) -> None:
    rules = load_rules(path, attributes=with_features(load_features(FEATURES).names))
    for rule in rules.rules[:-1]:
        assert rule.owner
        assert {test.expect.value for test in rule.tests} >= {"fired", "quiet"}
        assert not rule.notes
