"""Expressions drawn at random: every node of the space `data`, few names and values, so that they often meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from vedette.expr import nodes as n

NAMES = ("Image", "CommandLine", "EventID", "a.b", "Threat Name")
DAY = "2026-03-01"
WORDS = (
    "",
    "a",
    "A",
    "ab",
    "b",
    "ß",
    "SS",
    "1",
    "01",
    "1.0",
    "true",
    "10.0.0.7",
    "a*b",
    "a\\b",
    "x\ny",
    "é",
    "2026-03-01",
)
GLOBS = ("*", "?", "a*", "*b", "*a*", "a?", "?b*", "a\\*b", "*\\\\b", "a*b", "**", "*ss")
PATTERNS = ("a", "^a.*b$", "B", "^$", "s+", "x.y", "[0-9]+", "\\\\", "[^a]b?$")
NETWORKS = ("10.0.0.0/8", "10.0.0.7/32", "2001:db8::/32")
NUMBERS = (-1, 0, 1, 2, 0.5, 9, 12, 2026)
PART_NUMBERS = (0, 1, 9, 2026)
DEPTH = 3
"""Most groups inside one another."""

_SHAPES = ("and", "and", "or", "or", "not", "known", "plain", "plain")
_PLAIN = tuple(match for match in n.TextMatch if match is not n.TextMatch.GLOB)


def expressions(count: int, *, seed: int = 0) -> Iterator[n.Node]:
    """Expressions; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 - chance, no secret
    return (_tree(rng, DEPTH) for _ in range(count))


def _tree(rng: random.Random, depth: int) -> n.Node:
    match rng.choice(_SHAPES) if depth else "plain":
        case "and":
            return n.And(_trees(rng, depth))
        case "or":
            return n.Or(_trees(rng, depth))
        case "not":
            return n.Not(_tree(rng, depth - 1))
        case "known":
            return n.Known(_tree(rng, depth - 1))
        case _:
            return rng.choice(_PREDICATES)(rng)


def _trees(rng: random.Random, depth: int) -> tuple[n.Node, ...]:
    return tuple(_tree(rng, depth - 1) for _ in range(rng.randint(1, 3)))


def _seldom(rng: random.Random) -> bool:
    return rng.random() < 0.3  # noqa: PLR2004 - now and then


def _field(rng: random.Random) -> n.Field:
    return n.Field(rng.choice(NAMES))


def _operand(rng: random.Random) -> n.Operand:
    values: tuple[str | int | float, ...] = (*NUMBERS, "a", "1", True)
    return _field(rng) if _seldom(rng) else n.Literal(rng.choice(values))


def _text(rng: random.Random) -> n.Node:
    if _seldom(rng):
        return n.Text(_field(rng), n.TextMatch.GLOB, rng.choice(GLOBS), _seldom(rng))
    return n.Text(_field(rng), rng.choice(_PLAIN), rng.choice(WORDS), _seldom(rng))


_PREDICATES: tuple[Callable[[random.Random], n.Node], ...] = (
    _text,
    _text,
    _text,
    lambda rng: n.Exists(_field(rng)),
    lambda rng: n.IsNull(_field(rng)),
    lambda rng: n.Regex(_field(rng), rng.choice(PATTERNS), rng.choice(("", "i", "s"))),
    lambda rng: n.Cidr(_field(rng), rng.choice(NETWORKS)),
    lambda rng: n.Keyword(rng.choice(_PLAIN), rng.choice(WORDS), _seldom(rng)),
    lambda rng: n.Keyword(n.TextMatch.GLOB, rng.choice(GLOBS)),
    lambda rng: n.KeywordRegex(rng.choice(PATTERNS)),
    lambda rng: n.FieldMatch(_field(rng), rng.choice(_PLAIN), _field(rng), _seldom(rng)),
    lambda rng: n.Compare(_field(rng), rng.choice([*n.Comparison]), _operand(rng)),
    lambda rng: n.TimePart(_field(rng), rng.choice([*n.Part]), rng.choice([*n.Comparison]), rng.choice(PART_NUMBERS)),
    lambda rng: n.Among(_field(rng), tuple(rng.sample([*WORDS, 1, 0.5], 2))),
)
