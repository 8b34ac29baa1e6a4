"""Example texts: of a wildcard pattern, and of a regular expression."""

from __future__ import annotations

import random
import re
import string
from re import _constants as constants
from re import _parser as parser
from typing import Any

from vedette.expr.patterns import Wild, compile_regex, glob_tokens, regex_refusal
from vedette.expr.values import utf8

_POOL = "a0Z_ -/\\.:@=\n~é" + string.printable
"""Characters to take one from that a class wants, likely ones first."""

_MORE = 2
"""At most so many repetitions over the least."""

_FLAGS = re.compile(r"\(\?[imsU]+\)")
_CATEGORIES = {
    constants.CATEGORY_DIGIT: r"\d",
    constants.CATEGORY_NOT_DIGIT: r"\D",
    constants.CATEGORY_SPACE: r"\s",
    constants.CATEGORY_NOT_SPACE: r"\S",
    constants.CATEGORY_WORD: r"\w",
    constants.CATEGORY_NOT_WORD: r"\W",
}


def glob_pieces(pattern: str) -> list[str]:
    """The literal pieces of a wildcard pattern between its `*`, with `x` for `?`.

    The first is where the text begins and the last where it ends; empty where the pattern is open there. A pattern
    without `*` is one piece.
    """
    pieces = [""]
    for token in glob_tokens(pattern):
        if token is Wild.ANY:
            pieces.append("")
        else:
            pieces[-1] += "x" if isinstance(token, Wild) else token
    return pieces


def regex_text(pattern: str, flags: str, rng: random.Random) -> str | None:
    """A text in which RE2 finds the pattern; None when none was found in a few tries."""
    if regex_refusal(pattern, flags):
        return None
    try:
        # Python takes flags at the beginning only, RE2 anywhere; how letters are written does not matter here.
        parsed = parser.parse(_FLAGS.sub("", pattern))
    except (re.error, RecursionError):
        return None
    compiled = compile_regex(pattern, flags)
    for _ in range(20):
        text = _sequence(parsed, rng)
        if compiled.search(utf8(text)):
            return text
    return None


def _sequence(parts: Any, rng: random.Random) -> str:
    return "".join(_part(kind, value, rng) for kind, value in parts)


def _part(kind: Any, value: Any, rng: random.Random) -> str:  # noqa: PLR0911 - one return per kind
    match kind:
        case constants.LITERAL:
            return chr(value)
        case constants.NOT_LITERAL:
            return next(char for char in _POOL if ord(char) != value)
        case constants.ANY:
            return rng.choice("ax ")
        case constants.IN:
            return _one_of(value)
        case constants.BRANCH:
            return _sequence(rng.choice(value[1]), rng)
        case constants.SUBPATTERN:
            return _sequence(value[-1], rng)
        case constants.ATOMIC_GROUP:
            return _sequence(value, rng)
        case constants.MAX_REPEAT | constants.MIN_REPEAT | constants.POSSESSIVE_REPEAT:
            least, most, inner = value
            return "".join(_sequence(inner, rng) for _ in range(rng.randint(least, min(int(most), least + _MORE))))
        case _:  # anchors and word boundaries have no text
            return ""


def _one_of(items: Any) -> str:
    negated = items[0][0] is constants.NEGATE
    rest = items[1:] if negated else items
    likely = [chr(value if kind is constants.LITERAL else value[0]) for kind, value in rest if _spelt(kind)]
    return next((char for char in [*likely, *_POOL] if any(_is(char, *item) for item in rest) is not negated), "")


def _spelt(kind: Any) -> bool:
    return kind in (constants.LITERAL, constants.RANGE)


def _is(char: str, kind: Any, value: Any) -> bool:
    if kind is constants.LITERAL:
        return ord(char) == int(value)
    if kind is constants.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    return re.fullmatch(_CATEGORIES[value], char, re.ASCII) is not None
