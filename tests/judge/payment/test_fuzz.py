"""Whatever is written in a rule, it is read or refused with a place inside the text, in bounded time."""

from __future__ import annotations

import random
import string
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.judge.payment.test_cases import LISTS, cases

from vedette.core.errors import DefinitionError, Problems, VedetteError
from vedette.expr import reference
from vedette.expr.nodes import Known
from vedette.expr.printer import to_text
from vedette.expr.truth import Truth
from vedette.judge.payment.compiled import reader_of
from vedette.judge.payment.files import read_rules
from vedette.judge.payment.lowering import MAX_RULE_CHARS
from vedette.judge.payment.rules import PaymentRule, parse_rule

HANG = timedelta(seconds=60)
"""No rule of the allowed length takes a hundredth of this; more is a hang."""
TEXTS = [text for _, text, _ in cases()]
VALID = [text for sign, text, _ in cases() if sign == "+"]
WORDS = (
    sorted({word for text in TEXTS for word in text.split()}) + list("()',:@!<>=%&|") + ["::", "\\'", "'", "\n", "\t"]
)
VALUES = [
    {},
    {":amount_in_usd:": 600.0, ":email:": "a@tmp.example", ":is_recurring:": True, ":risk_level:": "highest"},
    {":amount_in_usd:": float("nan"), ":email:": 5, ":is_recurring:": "true", "::tier::": True, ":ip_country:": ["US"]},
    {":amount_in_usd:": "600", ":email:": "", ":card_country:": "us", ":ip_country:": "US", "::age::": "9" * 400},
]


def check(text: str) -> PaymentRule | None:
    """Reads a rule; what is refused must say where, and what is accepted must evaluate as the reference says."""
    try:
        rule = parse_rule(text, lists=LISTS)
    except Problems as several:
        for one in several.problems:
            inside(text, one)
        return None
    except DefinitionError as error:
        inside(text, error)
        return None
    assert to_text(rule.node)
    for values in VALUES:
        known = reference.evaluate(Known(rule.node), reader_of(values))
        assert (rule.result(values) == "fired") is (known is Truth.TRUE)
    return rule


def inside(text: str, error: DefinitionError) -> None:
    assert error.code.startswith("payment."), error.code
    span, lines = error.span, text.split("\n")
    assert span
    assert 1 <= span.line <= len(lines)
    assert 1 <= span.col <= len(lines[span.line - 1]) + 1
    assert str(error)


def mutated(text: str, rng: random.Random) -> str:
    """A text with one to four things done to it."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        piece = rng.choice([rng.choice(WORDS), rng.choice(string.printable), rng.choice("éß東😀\x00\u202e\ufeff")])
        text = rng.choice(
            [
                text[:at] + piece + text[at:],
                text[:at] + text[at + 1 :],
                text[:at] + piece + text[at + 1 :],
                text[:at] + text[at:end] * 2 + text[end:],
                text[:at] + text[end:],
                text[:at] + rng.choice(TEXTS)[rng.randint(0, 9) :],
                text.swapcase(),
                text + rng.choice([" and ", " or ", " AND NOT "]) + rng.choice(TEXTS).partition(" if ")[2],
            ]
        )
    return text


@settings(max_examples=600, deadline=HANG)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text)
    check(f"block if {text}")


@settings(max_examples=600, deadline=HANG)
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from(["", " ", "  "]))
def test_any_words_of_the_language(words: list[str], between: str) -> None:
    check("block if " + between.join(words))


@settings(max_examples=600, deadline=HANG)
@given(st.sampled_from(TEXTS), st.integers(0, 2**32))
def test_mutations_of_rules(text: str, seed: int) -> None:
    check(mutated(text, random.Random(seed)))


def test_mutations_reach_both_sides() -> None:
    """The fuzzer is no formality: a fair share of what it makes is accepted, and most codes of the language are met."""
    rng = random.Random(7)
    accepted, codes = 0, set()
    for _ in range(1_500):
        text = mutated(rng.choice(VALID), rng)
        try:
            parse_rule(text, lists=LISTS)
            accepted += 1
        except Problems as several:
            codes |= {one.code for one in several.problems}
        except DefinitionError as error:
            codes.add(error.code)
    assert accepted > 75
    assert len(codes) >= 10, codes


@pytest.mark.soak
def test_two_hundred_thousand_mutations() -> None:
    rng = random.Random(20_261)
    accepted = sum(check(mutated(rng.choice(TEXTS), rng)) is not None for _ in range(200_000))
    assert accepted > 5_000


LONG = {
    "brackets": "(" * 4_000 + ":is_recurring:" + ")" * 4_000,
    "open brackets": "(" * 8_000,
    "nots": "!" * 8_000 + ":is_recurring:",
    "not words": "not " * 2_000 + ":is_recurring:",
    "ands": " and ".join([":is_recurring:"] * 400),
    "ors": " or ".join([":is_3d_secure:"] * 450),
    "quotes": "'" * 8_000,
    "backslashes": ":email: = '" + "\\" * 8_000,
    "percents": ":email: like '" + "%a" * 3_000 + "'",
    "colons": ":" * 8_000,
    "items": ":email: in (" + ",".join(["'a'"] * 1_900) + ")",
    "digits": ":amount_in_usd: > " + "9" * 8_000,
    "a name": ":" + "a" * 8_000 + ": = 1",
    "a key": "::" + "a b" * 2_700 + ":: = 1",
    "blanks": " " * 8_000 + ":is_recurring:",
    "lines": "\n" * 8_000 + ":is_recurring:",
    "an alias": ":email: in @" + "a" * 8_000,
    "an if": "if " * 2_700,
}


@pytest.mark.parametrize("name", LONG)
def test_long_rules_are_read_or_refused(name: str) -> None:
    text = f"block if {LONG[name]}"
    assert len(text) <= MAX_RULE_CHARS
    check(text)
    check(LONG[name])


def test_a_pattern_cannot_run_away() -> None:
    """`%` is matched piece by piece, so the worst pattern on the worst value costs their product and no more."""
    rule = check("block if :email: like '" + "%a" * 1_000 + "b'")
    assert rule
    assert rule.result({":email:": "a" * 20_000}) == "quiet"


@settings(max_examples=150, deadline=HANG)
@given(st.sampled_from(TEXTS), st.integers(0, 2**32), st.booleans())
def test_files_of_mutated_rules(text: str, seed: int, listed: bool) -> None:
    rng = random.Random(seed)
    whole = "\n".join(mutated(rng.choice(TEXTS), rng) for _ in range(3))
    if listed:
        whole = "\n".join(f'- text: "{line}"' for line in [text, *whole.split("\n")])
    wrong: list[VedetteError] = []
    try:
        read_rules(whole, path="r")
    except Problems as several:
        wrong = list(several.problems)
    except DefinitionError as error:
        wrong = [error]
    assert all(one.place.startswith("r:") for one in wrong)
    assert all(one.code.startswith(("documents.yaml.", "payment.")) for one in wrong)
