"""Rule files: YAML lists of `{id, text, owner, reason, tests}`, or bare lines of rule text; files of value lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vedette.core.decision import Action
from vedette.core.documents import Document, load_yaml
from vedette.core.errors import DefinitionError, Problems, VedetteError
from vedette.expr.nodes import IsNull
from vedette.judge.payment.attributes import ATTRIBUTES, Attribute
from vedette.judge.payment.compiled import key_of
from vedette.judge.payment.lists import ValueList, to_lists
from vedette.judge.payment.lowering import lower
from vedette.judge.payment.problems import Origin, RuleError, near
from vedette.judge.payment.rules import MAX_TESTS, Outcome, PaymentRule, PaymentRules, RiskLevels, RuleTest, parse_rule

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Largest rule file."""
_KEYS = ("id", "text", "owner", "reason", "tests")
_BLOCK = ("|", ">")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML takes for the end of a line."""
_COMMENT = re.compile(r"('(?:[^'\\]|\\.)*'|::[^:]+::)|(?:^|\s)#.*")
"""Text in quotes or a metadata key, which are kept, or a comment."""
_GIVEN = {"given", "event"}
_TEST_KEYS = ({"given", "expect"}, {"event", "expect"})
NO_FIELDS: Mapping[str, str] = {}
"""Tests name no event fields."""


def load_rules(
    path: Path,
    *,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
    levels: RiskLevels = RiskLevels(),  # noqa: B008 - a frozen value
    fields: Mapping[str, str] = NO_FIELDS,
    tested: bool = True,
) -> PaymentRules:
    """Reads a rule file, and runs the tests in it. `fields`: how rules spell the event fields that tests may name.

    `tested`: as of `PaymentRules`.

    Raises:
        Problems: Everything wrong with it, each with file, line and column; codes in docs/rules.md.
        DefinitionError: `payment.file.unreadable`, `payment.file.too_large`, `documents.yaml.*`.
    """
    text = _read(path)
    return read_rules(
        text, path=str(path), attributes=attributes, lists=lists, levels=levels, fields=fields, tested=tested
    )


def load_lists(path: Path) -> dict[str, ValueList]:
    """Reads a YAML file of lists: `[{alias, item_type, items}]`.

    Raises:
        DefinitionError: `payment.file.*`, `payment.list.*`, `documents.yaml.*`.
    """
    document = load_yaml(_read(path), path=str(path))
    try:
        return to_lists(document.data)
    except DefinitionError as error:
        raise DefinitionError(error.code, error.message, hint=error.hint, span=document.span(error.at)) from error


def read_rules(
    text: str,
    *,
    path: str = "",
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
    levels: RiskLevels = RiskLevels(),  # noqa: B008 - a frozen value
    fields: Mapping[str, str] = NO_FIELDS,
    tested: bool = True,
) -> PaymentRules:
    """Rules from text: YAML when its first character of content is `-` or `[`, else one rule a line.

    In the second form blank lines and what follows a `#` outside quotes say nothing, and a rule's id is made from its
    text. Raises as `load_rules`.
    """
    items = _from_yaml(text, path) if _is_yaml(text) else _from_lines(text, path)
    found, problems = _collect(items, attributes, lists or {}, fields)
    try:
        rules = PaymentRules(found, levels=levels, tested=tested)
    except Problems as several:
        problems += several.problems
    if problems:
        raise Problems(problems)
    return rules


def rules_in(
    document: Document,
    entries: Any,
    at: str,
    *,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    lists: Mapping[str, ValueList] | None = None,
) -> tuple[list[PaymentRule], list[VedetteError]]:
    """The rules of a list inside another document, and everything wrong with them.

    Args:
        document: Whose text they stand in.
        entries: The list, as it was decoded.
        at: Its JSON path.
        attributes: Names that rules may use.
        lists: Lists that rules may name.
    """
    return _collect(_from_entries(document, entries, at), attributes, lists or {}, NO_FIELDS)


def _collect(
    items: Iterator[_Item | VedetteError],
    attributes: Mapping[str, Attribute],
    lists: Mapping[str, ValueList],
    fields: Mapping[str, str],
) -> tuple[list[PaymentRule], list[VedetteError]]:
    found: list[PaymentRule] = []
    problems: list[VedetteError] = []
    for item in items:
        try:
            found.append(_to_rule(item, attributes, lists, fields) if isinstance(item, _Item) else _raise(item))
        except Problems as several:
            problems += several.problems
        except VedetteError as error:
            problems.append(error)
    return found, problems


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DefinitionError("payment.file.unreadable", f"cannot read `{path}`", hint=error.strerror or "") from error
    if len(raw) > MAX_FILE_BYTES:
        raise DefinitionError("payment.file.too_large", f"larger than {MAX_FILE_BYTES} bytes", at=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DefinitionError("payment.file.unreadable", "not UTF-8", at=f"{path}@{error.start}") from error


def _is_yaml(text: str) -> bool:
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return first.startswith(("-", "["))


class _Item:
    """One rule as a file has it."""

    def __init__(
        self, text: str, origin: Origin, *, name: str = "", owner: str = "", reason: str = "", tests: Any = ()
    ) -> None:
        self.text = text
        self.origin = origin
        self.name = name
        self.owner = owner
        self.reason = reason
        self.tests = tests


def _raise(error: VedetteError) -> PaymentRule:
    raise error


def _from_lines(text: str, path: str) -> Iterator[_Item]:
    for number, line in enumerate(text.splitlines(), 1):
        rule = _COMMENT.sub(lambda found: found[1] or "", line).strip()
        if rule:
            yield _Item(rule, Origin(path, number, len(line) - len(line.lstrip()) + 1))


def _from_yaml(text: str, path: str) -> Iterator[_Item | VedetteError]:
    try:
        document = load_yaml(text, path=path)
    except DefinitionError as error:
        hint = error.hint or "put quotes round a rule's text: it holds `: `, which YAML reads as a mapping"
        raise DefinitionError(error.code, error.message, hint=hint, span=error.span) from error
    yield from _from_entries(document, document.data, "$")


def _from_entries(document: Document, entries: Any, at: str) -> Iterator[_Item | VedetteError]:
    if not isinstance(entries, list):
        yield DefinitionError("payment.file.shape", "expected a list of rules", span=document.span(at))
        return
    for place, entry in enumerate(entries):
        yield _to_item(document, entry, f"{at}[{place}]")


def _to_item(document: Document, entry: Any, at: str) -> _Item | VedetteError:
    if not isinstance(entry, dict):
        hint = 'write `- text: "block if ..."`, or bare lines without `-`'
        return DefinitionError("payment.file.shape", "a rule is a mapping", hint=hint, span=document.span(at))
    for key, value in entry.items():
        where = document.span(f"{at}.{key}")
        if key not in _KEYS:
            hint = near(str(key), _KEYS) or f"known: {', '.join(_KEYS)}"
            return DefinitionError("payment.file.unknown_key", f"unknown key `{key!s:.40}`", hint=hint, span=where)
        if key != "tests" and (not isinstance(value, str) or not value):
            return DefinitionError(
                "payment.file.shape", f"`{key}` must be text", hint="put quotes round it", span=where
            )
    if "text" not in entry:
        return DefinitionError("payment.file.shape", "a rule needs a `text`", span=document.span(at))
    return _Item(
        entry["text"],
        origin_of(document, f"{at}.text"),
        name=entry.get("id", ""),
        owner=entry.get("owner", ""),
        reason=entry.get("reason", ""),
        tests=entry.get("tests") or (),
    )


def origin_of(document: Document, at: str) -> Origin:
    """Where the first character of a YAML text stands: after the quote, or below the sign of a block."""
    span = document.span(at)
    lines = _BREAK.split(document.text)
    mark = lines[span.line - 1][span.col - 1 : span.col]
    if mark in _BLOCK and span.line < len(lines):
        first = lines[span.line]
        indent = len(first) - len(first.lstrip()) + 1
        return Origin(document.path, span.line + 1, indent, indent)
    return Origin(document.path, span.line, span.col + (mark in {'"', "'"}), 1)


def _to_rule(
    item: _Item, attributes: Mapping[str, Attribute], lists: Mapping[str, ValueList], fields: Mapping[str, str]
) -> PaymentRule:
    tests = tuple(_to_test(test, place, item, attributes, fields) for place, test in enumerate(_tests(item)))
    return parse_rule(
        item.text,
        id=item.name,
        owner=item.owner,
        reason=item.reason,
        tests=tests,
        attributes=attributes,
        lists=lists,
        origin=item.origin,
    )


def _tests(item: _Item) -> list[Any]:
    if not isinstance(item.tests, list | tuple) or len(item.tests) > MAX_TESTS:
        raise _wrong_test(item, 0, f"`tests` is a list of at most {MAX_TESTS}")
    return list(item.tests)


def _to_test(
    test: Any, place: int, item: _Item, attributes: Mapping[str, Attribute], fields: Mapping[str, str]
) -> RuleTest:
    if (
        not isinstance(test, dict)
        or set(test) not in _TEST_KEYS
        or not all(isinstance(test[key], dict) for key in _GIVEN & set(test))
    ):
        raise _wrong_test(
            item, place, "a test is `{given: {...}, expect: fired|quiet|unknown}` or `{event: {...}, expect: ...}`"
        )
    values = {}
    for name, value in test["given"].items() if "given" in test else _spelled(test["event"], fields):
        if not isinstance(value, str | int | float | bool | None):
            raise _wrong_test(item, place, f"`{name!s:.60}` must be a text, a number or a truth value")
        values[_name_key(str(name), place, item, attributes)] = value
    return RuleTest(values, _expected(test["expect"], place, item))


def _spelled(event: Mapping[str, Any], fields: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The fields of an event that rules can name, as they spell them; other fields say nothing."""
    for name, value in event.items():
        if name in fields:
            as_text = isinstance(value, int) and not isinstance(value, bool) and not fields[name].startswith(":amount_")
            yield fields[name], str(value) if as_text else value


def _expected(wanted: Any, place: int, item: _Item) -> Outcome | bool:
    if isinstance(wanted, bool):
        return wanted
    if wanted in list(Outcome):
        return Outcome(wanted)
    if wanted in list(Action) and item.text.lower().startswith(wanted):
        return Outcome.FIRED
    hint = f"one of {', '.join(Outcome)}, true, false, or the rule's own action"
    raise _wrong_test(item, place, f"unknown outcome `{wanted!s:.40}`", hint)


def _name_key(name: str, place: int, item: _Item, attributes: Mapping[str, Attribute]) -> str:
    """The name as the language spells it: checked by lowering the shortest rule that holds it."""
    try:
        asked = lower(f"block if is_missing({name})", attributes=attributes)
    except VedetteError as error:
        hint = error.hint or "names stand as in rules: `:amount_in_usd:`, `::basket id::`"
        raise _wrong_test(item, place, f"`{name:.60}` names nothing", hint) from error
    return key_of(asked.node.field) if isinstance(asked.node, IsNull) else name.lower()


def _wrong_test(item: _Item, place: int, message: str, hint: str = "") -> RuleError:
    span = item.origin.span(1, 1, 1, 1)
    return RuleError("payment.test.invalid", f"test {place + 1}: {message}", hint=hint, span=span)
