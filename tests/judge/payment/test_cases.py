"""The cases of the language: accepted ones with their meaning, refused ones with their places."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from vedette.core.errors import DefinitionError, Problems
from vedette.expr.printer import to_text
from vedette.judge.payment.lists import ItemType, ValueList
from vedette.judge.payment.rules import PaymentRules, answer, parse_rule

CASES = Path(__file__).with_name("cases.txt")
LISTS = {
    "bad_domains": ValueList("bad_domains", ItemType.STRING, ("mail.example", "tmp.example")),
    "cards": ValueList("cards", ItemType.CARD_FINGERPRINT, ("aB1",)),
}


def cases() -> list[tuple[str, str, str]]:
    """Sign, rule, and what is said of it."""
    found: list[tuple[str, str, str]] = []
    for line in CASES.read_text(encoding="utf-8").splitlines():
        if line.startswith(("+ ", "- ")):
            found.append((line[0], line[2:], ""))
        elif line.startswith("    "):
            sign, rule, said = found[-1]
            found[-1] = sign, rule, f"{said}\n{line[4:]}".strip()
    return found


def said_of(text: str) -> tuple[str, str]:
    """The sign and what is said of a rule, as the file has it."""
    try:
        rule = parse_rule(text, lists=LISTS)
    except Problems as several:
        return "-", "\n".join(f"{one.span.line}:{one.span.col} {one.code}" for one in several.problems)
    except DefinitionError as error:
        return "-", f"{error.span.line}:{error.span.col} {error.code}"
    notes = "".join(f"  note {note.code.rpartition('.')[2]}" for note in rule.notes)
    return "+", f"{rule.action} {rule.phase.partition('_')[0]}: {to_text(rule.node)}{notes}"


@pytest.mark.parametrize(("sign", "text", "said"), cases(), ids=lambda value: value[:60] if len(value) > 1 else "")
def test_case(sign: str, text: str, said: str) -> None:
    assert said_of(text) == (sign, said)


def test_there_are_enough_and_each_is_there_once() -> None:
    found = cases()
    assert len({text for _, text, _ in found}) == len(found) >= 200
    signs = [sign for sign, _, _ in found]
    assert min(signs.count("+"), signs.count("-")) >= 90


def test_a_case_that_says_something_else_is_seen() -> None:
    assert said_of("block if :amount_in_usd: > 5") != ("+", "block before: :amount_in_usd: > 6")
    assert said_of("block if :risk_level: < 'highest'") != ("-", "1:22 payment.type.not_ordered")


# Missing values. T, F and U are what a condition says; a rule fires on T alone.

LEAVES = {
    ":amount_in_usd: > 5": ({":amount_in_usd:": 6}, {":amount_in_usd:": 5}),
    ":amount_in_usd: != 5": ({":amount_in_usd:": 6}, {":amount_in_usd:": 5}),
    ":ip_country: = 'US'": ({":ip_country:": "US"}, {":ip_country:": "CA"}),
    ":ip_country: != 'US'": ({":ip_country:": "CA"}, {":ip_country:": "US"}),
    ":ip_country: in ('US', 'CA')": ({":ip_country:": "us"}, {":ip_country:": "MX"}),
    ":email_domain: in @bad_domains": ({":email_domain:": "tmp.example"}, {":email_domain:": "a.example"}),
    ":email: includes 'tmp'": ({":email:": "a@tmp.example"}, {":email:": "a@b.example"}),
    ":email: like '%tmp%'": ({":email:": "a@tmp.example"}, {":email:": "a@b.example"}),
    "::tier:: = 'new'": ({"::tier::": "new"}, {"::tier::": "New"}),
    "::age:: < 30": ({"::age::": "29"}, {"::age::": "30"}),
    ":card_country: != :ip_country:": (
        {":card_country:": "US", ":ip_country:": "CA"},
        {":card_country:": "US", ":ip_country:": "us"},
    ),
    ":email: includes ::handle::": (
        {":email:": "ann@b.example", "::handle::": "ann"},
        {":email:": "ann@b.example", "::handle::": "bob"},
    ),
}
TABLE = {
    "not {0}": {"T": "F", "F": "T", "U": "U"},
    "{0}": {"T": "T", "F": "F", "U": "U"},
    "{0} and {1}": {
        "TT": "T", "TF": "F", "TU": "U", "FT": "F", "FF": "F", "FU": "F", "UT": "U", "UF": "F", "UU": "U",
    },
    "{0} or {1}": {
        "TT": "T", "TF": "T", "TU": "T", "FT": "T", "FF": "F", "FU": "U", "UT": "T", "UF": "U", "UU": "U",
    },
    "not ({0} and {1})": {
        "TT": "F", "TF": "T", "TU": "U", "FT": "T", "FF": "T", "FU": "T", "UT": "U", "UF": "T", "UU": "U",
    },
    "not ({0} or {1})": {
        "TT": "F", "TF": "F", "TU": "F", "FT": "F", "FF": "T", "FU": "U", "UT": "F", "UF": "U", "UU": "U",
    },
}  # fmt: skip
SAYS = {"T": "fired", "F": "quiet", "U": "unknown"}


def values_for(leaf: str, state: str) -> dict[str, object]:
    true, false = LEAVES[leaf]
    return {"T": true, "F": false, "U": {}}[state]


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("form", TABLE)
def test_the_truth_table_of_missing_values(form: str, leaf: str) -> None:
    """Every operator with a value, without one, under NOT, AND and OR."""
    other = ":shipping_address_city: = 'Bonn'"
    others = {"T": {":shipping_address_city:": "bonn"}, "F": {":shipping_address_city:": "Ulm"}, "U": {}}
    rule = parse_rule(f"block if {form.format(leaf, other)}", lists=LISTS)
    for states, wanted in TABLE[form].items():
        values = {**values_for(leaf, states[0]), **(others[states[1]] if len(states) > 1 else {})}
        assert rule.result(values) == SAYS[wanted], states


@pytest.mark.parametrize("missing", [{}, {":card_country:": None}, {":card_country:": "US"}, {":ip_country:": "US"}])
def test_one_missing_side_is_enough(missing: dict[str, object]) -> None:
    for text in ("block if :card_country: != :ip_country:", "block if not :card_country: = :ip_country:"):
        assert parse_rule(text).result(missing) == "unknown"


def test_is_missing_and_booleans_are_never_unknown() -> None:
    for values in ({}, {":email:": None, ":is_recurring:": None}):
        assert parse_rule("block if is_missing(:email:)").result(values) == "fired"
        assert parse_rule("block if not is_missing(:email:)").result(values) == "quiet"
        assert parse_rule("block if :is_recurring:").result(values) == "quiet"
        assert parse_rule("block if not :is_recurring:").result(values) == "fired"
    held = {":email:": "", ":is_recurring:": False}
    assert parse_rule("block if is_missing(:email:)").result(held) == "quiet"
    assert parse_rule("block if not :is_recurring:").result(held) == "fired"


# Precedence of operators, and of classes

FLAGS = (":is_recurring:", ":is_checkout:", ":is_off_session:")
FORMS = {
    "{0} or {1} and {2}": lambda x, y, z: x or (y and z),
    "{0} and {1} or {2}": lambda x, y, z: (x and y) or z,
    "not {0} and {1} or {2}": lambda x, y, z: ((not x) and y) or z,
    "not {0} or {1} and {2}": lambda x, y, z: (not x) or (y and z),
    "{0} or not {1} and {2}": lambda x, y, z: x or ((not y) and z),
    "({0} or {1}) and {2}": lambda x, y, z: (x or y) and z,
    "not ({0} or {1}) and {2}": lambda x, y, z: not (x or y) and z,
    "!{0} && !{1} || !{2}": lambda x, y, z: (not x and not y) or not z,
}


@pytest.mark.parametrize("form", FORMS)
def test_precedence(form: str) -> None:
    rule = parse_rule(f"block if {form.format(*FLAGS)}")
    for bits in itertools.product((False, True), repeat=3):
        said = rule.result(dict(zip(FLAGS, bits, strict=True)))
        assert said == ("fired" if FORMS[form](*bits) else "quiet"), bits


RULES = {
    "challenge": "challenge if :is_3d_secure:",
    "allow": "allow if :is_recurring:",
    "block": "block if :is_anonymous_ip:",
    "allow_after": "allow if :is_checkout: and not :cvc_check: = 'fail'",
    "block_after": "block if :is_off_session: and not :cvc_check: = 'pass'",
    "review": "review if :has_cryptogram:",
}
ORDER = ["allow", "block", "allow_after", "block_after", "review", "challenge"]


def test_classes_are_asked_in_order() -> None:
    """All 64 ways in which one rule of each class and phase may fire; those after authorisation come later."""
    rules = PaymentRules([parse_rule(text, id=name) for name, text in RULES.items()], builtin=False)
    flags = dict(zip(RULES, (":is_3d_secure:", ":is_recurring:", ":is_anonymous_ip:", ":is_checkout:",
                             ":is_off_session:", ":has_cryptogram:"), strict=True))  # fmt: skip
    for bits in itertools.product((False, True), repeat=len(RULES)):
        on = dict(zip(RULES, bits, strict=True))
        values = {flags[name]: held for name, held in on.items()} | {":cvc_check:": "unavailable"}
        _, fired = rules.results(values)
        assert {rule.id for rule in fired} == {name for name, held in on.items() if held}
        first = next((name for name in ORDER if on[name]), None)
        decided = answer(fired)
        assert (decided.value if decided else None) == (first.partition("_")[0] if first else None), on
