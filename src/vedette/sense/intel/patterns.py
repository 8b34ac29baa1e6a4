"""STIX patterns: the part of the language that indicators use, as alternatives of values that must all be there.

Taken: `=`, `IN` and `ISSUBSET` over addresses, domain names, URLs, e-mail addresses and hashes of files, joined by AND
and OR, and observations joined by OR. What is beyond (other objects, NOT, LIKE, MATCHES, several observations that must
all happen, WITHIN and the like) is refused by name: taking half of a pattern would look for something else.

Source: STIX 2.1, part 9.

Example:
    >>> parse_pattern("[domain-name:value = 'evil.example' OR ipv4-addr:value = '203.0.113.7']")
    (('evil.example',), ('203.0.113.7',))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from vedette.core.errors import DataError
from vedette.sense.intel.values import HASH_DIGITS, Kind, canonical

Formula = tuple[tuple[str, ...], ...]
"""Alternatives; of one, every canonical value must be in the event."""

MAX_PATTERN = 32_768
"""Longest pattern, characters."""
MAX_ALTERNATIVES = 256
MAX_NESTED = 32

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<path>[a-z][a-z0-9-]*:[A-Za-z0-9_.*'\[\]-]+)"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<number>-?[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<sign><=|>=|!=|<>|=|<|>|[\[\](),]))"
)
_PATHS = {
    "ipv4-addr:value": (Kind.IPV4,),
    "ipv6-addr:value": (Kind.IPV6,),
    "domain-name:value": (Kind.DOMAIN,),
    "url:value": (Kind.URL,),
    "email-addr:value": (Kind.EMAIL,),
    **{f"email-message:{name}_ref.value": (Kind.EMAIL,) for name in ("from", "sender")},
    **{f"network-traffic:{name}_ref.value": (Kind.IPV4, Kind.IPV6, Kind.DOMAIN) for name in ("src", "dst")},
}
_TYPES = {f"network-traffic:{name}_ref.type" for name in ("src", "dst")}
"""Say what the value beside them says too."""
_HASH = re.compile(r"file:hashes\.'?([A-Za-z0-9-]+)'?")
_ALGORITHMS = {name.replace("-", ""): digits for digits, name in HASH_DIGITS.items()}
_NOTHING: Formula = ((),)
_QUALIFIERS = {"WITHIN", "REPEATS", "START", "STOP"}


def parse_pattern(text: str) -> Formula:
    """The alternatives of a pattern.

    Raises:
        DataError: `intel.pattern.syntax`, `intel.pattern.unsupported`, `intel.value.invalid`.
    """
    if len(text) > MAX_PATTERN:
        raise _unsupported(f"longer than {MAX_PATTERN} characters")
    parser = _Parser(_tokens(text))
    found = parser.observations(0)
    parser.end()
    kept = tuple(dict.fromkeys(each for each in found if each))
    if not kept or len(kept) != len(set(found)):
        raise _unsupported("it names no value")
    return kept


def format_pattern(formula: Formula, kinds: Sequence[Sequence[Kind]]) -> str:
    """A pattern that `parse_pattern` reads as the same alternatives.

    Args:
        formula: Alternatives.
        kinds: Of each value, in the same shape.
    """
    alternatives = [
        " AND ".join(_comparison(kind, value) for kind, value in zip(of, values, strict=True))
        for of, values in zip(kinds, formula, strict=True)
    ]
    return " OR ".join(f"[{each}]" for each in alternatives)


def _comparison(kind: Kind, value: str) -> str:
    path = f"file:hashes.'{HASH_DIGITS[len(value)]}'" if kind is Kind.FILE else f"{kind}:value"
    sign = "ISSUBSET" if kind in {Kind.IPV4, Kind.IPV6} and "/" in value else "="
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{path} {sign} '{quoted}'"


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    stripped = text.rstrip()
    while place < len(stripped):
        token = _TOKEN.match(stripped, place)
        if token is None or token.lastgroup is None:
            raise DataError("intel.pattern.syntax", "not a token of a pattern", at=f"character {place + 1}")
        found.append((token.lastgroup, token[token.lastgroup]))
        place = token.end()
    return found


def _unsupported(what: str) -> DataError:
    return DataError("intel.pattern.unsupported", f"beyond the patterns that are matched: {what}")


def _joined(one: Formula, other: Formula) -> Formula:
    """Alternatives of both at once."""
    if len(one) * len(other) > MAX_ALTERNATIVES:
        raise _unsupported(f"more than {MAX_ALTERNATIVES} alternatives")
    return tuple(tuple(dict.fromkeys((*left, *right))) for left, right in product(one, other))


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0

    def _peek(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _take(self, *wanted: str, kind: str = "") -> str:
        found = self._tokens[self._place] if self._place < len(self._tokens) else ("", "")
        if (wanted and found[1] not in wanted) or (kind and found[0] != kind) or not found[0]:
            expected = " or ".join(f"`{each}`" for each in wanted) or f"a {kind}"
            raise DataError("intel.pattern.syntax", f"expected {expected}, found `{found[1][:40] or 'the end'}`")
        self._place += 1
        return found[1]

    def end(self) -> None:
        if self._place < len(self._tokens):
            word = self._peek()
            if word in {"AND", "FOLLOWEDBY"}:
                raise _unsupported(f"several observations joined by {word}")
            raise DataError("intel.pattern.syntax", f"nothing may follow, found `{word[:40]}`")

    def observations(self, depth: int) -> Formula:
        found = self._observation(depth)
        while self._peek() == "OR":
            self._take()
            found = (*found, *self._observation(depth))
        if len(found) > MAX_ALTERNATIVES:
            raise _unsupported(f"more than {MAX_ALTERNATIVES} alternatives")
        return found

    def _observation(self, depth: int) -> Formula:
        if depth > MAX_NESTED:
            raise _unsupported(f"nested deeper than {MAX_NESTED}")
        opened = self._take("[", "(")
        found = self._either(depth) if opened == "[" else self.observations(depth + 1)
        if opened == "(" and self._peek() in {"AND", "FOLLOWEDBY"}:
            raise _unsupported(f"several observations joined by {self._peek()}")
        self._take("]" if opened == "[" else ")")
        if self._peek() in _QUALIFIERS:
            raise _unsupported(f"the qualifier {self._peek()}")
        return found

    def _either(self, depth: int) -> Formula:
        found = self._both(depth)
        while self._peek() == "OR":
            self._take()
            found = (*found, *self._both(depth))
        return found

    def _both(self, depth: int) -> Formula:
        found = self._term(depth)
        while self._peek() == "AND":
            self._take()
            found = _joined(found, self._term(depth))
        return found

    def _term(self, depth: int) -> Formula:
        if self._peek() == "(" and depth < MAX_NESTED:
            self._take()
            found = self._either(depth + 1)
            self._take(")")
            return found
        if self._peek() in {"NOT", "EXISTS"}:
            raise _unsupported(self._peek())
        path = self._take(kind="path")
        sign = self._take()
        if sign == "NOT" or sign not in {"=", "IN", "ISSUBSET"}:
            raise _unsupported(f"`{sign}`")
        return self._values(path, self._literals(sign))

    def _literals(self, sign: str) -> list[str]:
        if sign != "IN":
            return [self._text()]
        self._take("(")
        found = [self._text()]
        while self._peek() == ",":
            self._take()
            found.append(self._text())
        self._take(")")
        return found

    def _text(self) -> str:
        if self._place < len(self._tokens) and self._tokens[self._place][0] in {"number", "word"}:
            raise _unsupported(f"the literal `{self._peek()[:40]}`")
        return re.sub(r"\\(.)", r"\1", self._take(kind="text")[1:-1])

    @staticmethod
    def _values(path: str, literals: list[str]) -> Formula:
        if path in _TYPES and set(literals) <= {"ipv4-addr", "ipv6-addr", "domain-name"}:
            return _NOTHING
        if named := _HASH.fullmatch(path):
            digits = _ALGORITHMS.get(named[1].upper().replace("-", ""))
            if digits is None:
                raise _unsupported(f"the hash {named[1]}")
            for each in literals:
                if len(each) != digits:
                    raise DataError("intel.value.invalid", f"no {named[1]}: `{each[:80]}`")
            return tuple((canonical(Kind.FILE, each),) for each in literals)
        if path not in _PATHS:
            raise _unsupported(f"`{path[:80]}`")
        return tuple((_first(_PATHS[path], each),) for each in literals)


def _first(kinds: Sequence[Kind], text: str) -> str:
    """The value as the first kind that takes it."""
    for kind in kinds[:-1]:
        try:
            return canonical(kind, text)
        except DataError:
            continue
    return canonical(kinds[-1], text)
