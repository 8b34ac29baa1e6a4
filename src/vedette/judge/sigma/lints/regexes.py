"""Regular expressions that cost more than they must, judged by their structure.

RE2 never backtracks, so nothing here can hang a stream; but a pattern that begins with anything or counts far fills the
automaton's memory (a warning), and one that holds no literal by which most events can be passed over is tried on every
event, which is dear in a rule that asks for nothing else (a note).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from vedette.expr.nodes import KeywordRegex, Regex, walk
from vedette.judge.sigma.lints.finding import Finding, Severity
from vedette.judge.sigma.load import RuleSet

MIN_LITERAL = 3
"""Shortest text, in characters, that every match must hold for the pattern to be passed over cheaply."""
MAX_COUNT = 250
"""Highest counted repetition; RE2 writes each one out, and refuses the pattern over 1,000."""

_ANY_VALUE = {".", ".*", ".+", "^.*$", "^.+$", "^.*", "^.+"}

# Python's own reader of patterns; what RE2 spells otherwise it does not read, and then nothing is said.
_PARSER: Any = importlib.import_module("re._parser")


def regex_findings(rules: RuleSet) -> Iterator[Finding]:
    """What makes each dear pattern dear, and what would make it cheaper."""
    for rule in rules.rules:
        seen = set()
        for node in rule.nodes.values():
            for each in walk(node):
                if isinstance(each, Regex | KeywordRegex) and (each.pattern, each.flags) not in seen:
                    seen.add((each.pattern, each.flags))
                    for severity, message, hint in dear(each.pattern):
                        shown = each.pattern if len(each.pattern) <= 60 else each.pattern[:57] + "..."  # noqa: PLR2004 - a line
                        code = "sigma.lint.regex_dear"
                        yield Finding(severity, code, rule.path, rule.id, f"`{shown}` {message}", hint)


def dear(pattern: str) -> list[tuple[Severity, str, str]]:
    """What makes a pattern dear, each with a hint; empty for a cheap one.

    Example:
        >>> dear("curl.{0,20}http"), dear(".*curl")[0][1]
        ([], 'begins with any run of characters')
    """
    try:
        parsed = _PARSER.parse(pattern)
    except (_PARSER.error, RecursionError, OverflowError):
        return []
    if pattern in _ANY_VALUE:
        return [(Severity.WARNING, "asks only that there is a value", "the value `?*` asks the same")]
    found = []
    if _begins_with_anything(list(parsed)):
        found.append(
            (Severity.WARNING, "begins with any run of characters", "leave it out: a pattern is found anywhere")
        )
    if _literal(list(parsed)) < MIN_LITERAL:
        hint = f"ask for a text of {MIN_LITERAL} characters beside it, or in every branch of it"
        found.append((Severity.NOTE, f"holds no text of {MIN_LITERAL} characters that every match has", hint))
    if (count := _count(list(parsed))) > MAX_COUNT:
        found.append((Severity.WARNING, f"repeats {count:,} times", f"at most {MAX_COUNT}, or `+`"))
    return found


def _op(part: Any) -> tuple[str, Any]:
    return str(part[0]), part[1]


def _begins_with_anything(parts: list[Any]) -> bool:
    if not parts:
        return False
    name, value = _op(parts[0])
    if name == "SUBPATTERN":
        return _begins_with_anything(list(value[3]))
    if name in {"MAX_REPEAT", "MIN_REPEAT"}:
        low, high, inner = value
        return low <= 1 and high == _PARSER.MAXREPEAT and [_op(each)[0] for each in inner] == ["ANY"]
    return False


def _literal(parts: list[Any]) -> int:
    """Length of the longest run of characters that every match holds."""
    best = run = 0
    for part in parts:
        name, value = _op(part)
        if name == "LITERAL" or (name == "IN" and len(value) == 1 and _op(value[0])[0] == "LITERAL"):
            run += 1
        elif name in {"AT", "ASSERT", "ASSERT_NOT"}:
            continue
        elif name == "SUBPATTERN":
            inner = list(value[3])
            run = run + len(inner) if all(_op(each)[0] == "LITERAL" for each in inner) else max(_literal(inner), 0)
        elif name == "BRANCH":
            best, run = max(best, min(_literal(list(branch)) for branch in value[1])), 0
        elif name in {"MAX_REPEAT", "MIN_REPEAT"} and value[0] >= 1:
            best, run = max(best, run, _literal(list(value[2])) * value[0]), 0
        else:
            run = 0
        best = max(best, run)
    return best


def _count(parts: list[Any]) -> int:
    """Highest counted repetition; one inside another multiplies."""
    highest = 0
    for part in parts:
        name, value = _op(part)
        inner: list[list[Any]] = []
        times = 1
        if name in {"MAX_REPEAT", "MIN_REPEAT"}:
            low, high, below = value
            times, inner = low if high == _PARSER.MAXREPEAT else high, [list(below)]
        elif name == "SUBPATTERN":
            inner = [list(value[3])]
        elif name == "BRANCH":
            inner = [list(branch) for branch in value[1]]
        highest = max(highest, times * max(1, *(_count(each) for each in inner)) if inner else 0)
    return highest
