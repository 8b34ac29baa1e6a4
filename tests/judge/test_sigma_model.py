"""Rules mean what the model says they mean; and every bug planted in how they are read is noticed."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from sigma.types import SigmaNull, SigmaString
from sigma_model import holds, random_case, written

from vedette.expr.matcher import Matcher
from vedette.expr.nodes import Text, TextMatch
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import leaves, reader
from vedette.judge.sigma import conditions, lower, modifiers, selections
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.definition import LogSource

PLACES = LogSources({"any": LogSource(category="any")}, ())
CASES = 4_000
SOAK_CASES = 200_000


def built(detections):
    documents = [
        {"title": str(number), "logsource": {"category": "any"}, "detection": detection}
        for number, detection in enumerate(detections)
    ]
    found = build([RuleFile(f"{number}.yml", json.dumps(one).encode()) for number, one in enumerate(documents)], PLACES)
    assert [one.reason for one in found.skipped] == []
    return {int(rule.title): rule.nodes["any"] for rule in found.rules}


def check(count, seed, *, matcher=True):
    """A few hundred rules at a time, so that what is wrong is seen soon."""
    answers = Counter()
    for start in range(0, count, 250):
        cases = [random_case(random.Random(f"{seed}/{number}")) for number in range(start, min(start + 250, count))]
        nodes = built([{**parts, "condition": written(tree)} for parts, tree, _ in cases])
        for number, (parts, tree, event) in enumerate(cases):
            wanted = holds(tree, parts, event)
            answers[wanted] += 1
            found = evaluate(nodes[number], reader(event), list(leaves(event)))
            assert found is (Truth.TRUE if wanted else Truth.FALSE), (parts, written(tree), event)
            if matcher and number % 4 == 0:
                assert bool(Matcher([nodes[number]]).match(event)) is wanted
    return answers


def test_rules_mean_what_the_model_says():
    answers = check(CASES, "model")
    assert min(answers.values()) > CASES // 4


@pytest.mark.soak
def test_rules_mean_what_the_model_says_for_long():
    for seed in range(20):
        check(SOAK_CASES // 20, seed)


def _escapes_are_kept(patch):
    patch.setattr(
        selections,
        "sigma_type",
        lambda value: SigmaString(value, escape=False) if isinstance(value, str) else typed(value),
    )


typed = selections.sigma_type


def _null_is_empty(patch):
    def value(self, field, given, _value=lower._Lowering._value):
        return (
            lower.Known(Text(field, TextMatch.EQUALS, ""))
            if isinstance(given, SigmaNull)
            else _value(self, field, given)
        )

    patch.setattr(lower._Lowering, "_value", value)


def _first_letters_are_words(patch):
    patch.setattr(conditions, "_TOKEN", conditions.re.compile(r"[()]|not(?=\w)|[^\s()]+"))


PLANTS = {
    "escaping: a backslash takes no meaning away": _escapes_are_kept,
    "escaping: an escaped wildcard is one again": lambda patch: patch.setattr(lower, "glob_quote", lambda text: text),
    "windash: two dashes": lambda patch: patch.setattr(modifiers, "DASHES", ("-", "/")),
    "windash: every dash": lambda patch: patch.setattr(modifiers, "_DASH", modifiers.re.compile("[-/]")),
    "all: any is enough": lambda patch: patch.setattr(lower, "ConditionAND", object()),
    "null: as the empty text": _null_is_empty,
    "null: `not` of what is unknown is unknown": lambda patch: patch.setattr(lower, "Known", lambda node: node),
    "cased: forgotten": lambda patch: patch.setattr(selections, "_cased", lambda value: value),
    "1 of: all of": lambda patch: patch.setitem(conditions._QUANTIFIERS, "1", conditions.nodes.And),
    "not: the first letters of a name": _first_letters_are_words,
    "base64offset: two shifts": lambda patch: patch.setattr(modifiers.Base64Offset, "starts", (0, 2, 2)),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name, monkeypatch):
    PLANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        check(CASES, "model", matcher=False)
