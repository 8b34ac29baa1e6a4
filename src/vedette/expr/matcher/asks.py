"""Groups and asks as functions of the true atoms and the row: nested closures, no text is ever evaluated.

Only rules that a watch brought up are asked. What literals tell is known by then, so most of a rule is two comparisons
of sets; asks come last, each stops at its first answer, and they share nothing but the texts of the row.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container
from collections.abc import Set as AbstractSet
from functools import lru_cache

import msgspec

from vedette.expr import codec, reference
from vedette.expr.matcher.plan import Ask, Group
from vedette.expr.matcher.rows import Row
from vedette.expr.patterns import compile_regex, glob_regex, glob_tokens
from vedette.expr.truth import Truth
from vedette.expr.values import utf8

Check = Callable[[AbstractSet[int], Row], bool]
"""Of the atoms that are true, and the row."""
RowCheck = Callable[[Row], bool]

ADDRESSES = 4_096
"""Most texts remembered as addresses, or as none."""


def compile_group(group: Group) -> Check:
    """When a rule is true."""
    true, false = frozenset(group.true), frozenset(group.false)
    below = sorted(group.groups, key=lambda one: bool(one.asks))
    rest = [*map(compile_group, below), *map(_guarded, group.asks)]
    if len(rest) == 1 and not true and not false:
        return rest[0]
    return _every(true, false, rest) if group.every else _any(true, false, rest)


def _guarded(ask: Ask) -> Check:
    """An ask that is put only when its literals do not answer it."""
    guard, check = frozenset(ask.guard), compile_ask(ask)
    if not guard:
        return lambda _atoms, row: check(row)
    if ask.positive:
        return lambda atoms, row: not guard.isdisjoint(atoms) and check(row)
    return lambda atoms, row: guard.isdisjoint(atoms) or check(row)


def _every(true: frozenset[int], false: frozenset[int], rest: list[Check]) -> Check:
    def check(atoms: AbstractSet[int], row: Row) -> bool:
        if not (true <= atoms and false.isdisjoint(atoms)):
            return False
        for one in rest:  # noqa: SIM110 - a generator costs more than the checks
            if not one(atoms, row):
                return False
        return True

    return check


def _any(true: frozenset[int], false: frozenset[int], rest: list[Check]) -> Check:
    def check(atoms: AbstractSet[int], row: Row) -> bool:
        if not (true.isdisjoint(atoms) and false <= atoms):
            return True
        for one in rest:  # noqa: SIM110 - a generator costs more than the checks
            if one(atoms, row):
                return True
        return False

    return check


def project(group: Group, place: int, atoms: Container[int]) -> Group | None:
    """What a group demands of one field alone, its asks as of place 0; None when it demands nothing.

    Whatever is asked of other fields is taken to be true, so the group is never true where this is false.

    Args:
        group: Of the rule.
        place: Of the field in the row.
        atoms: The field's own.
    """
    asks = [msgspec.structs.replace(ask, place=0) for ask in group.asks if ask.place == place and ask.node is None]
    true, false = [one for one in group.true if one in atoms], [one for one in group.false if one in atoms]
    below = [project(one, place, atoms) for one in group.groups]
    parts = [one for one in below if one is not None]
    found = Group(group.every, true, false, asks, parts)
    if not _size(found) or (not group.every and _size(found) != _size(group)):
        return None
    return found


def _size(group: Group) -> int:
    return len(group.true) + len(group.false) + len(group.asks) + len(group.groups)


def compile_ask(ask: Ask) -> RowCheck:
    """One ask, or its negation."""
    holds = _holds(ask)
    return holds if ask.positive else lambda row: not holds(row)


def _holds(ask: Ask) -> RowCheck:
    place = ask.place
    match ask.op:
        case "holds" | "fails":
            node, wanted = codec.decode(ask.node), Truth.TRUE if ask.op == "holds" else Truth.FALSE
            return lambda row: reference.evaluate(node, row.read) is wanted
        case "regex":
            return _regex(place, ask.text, ask.more)
        case "cidr":
            return _cidr(place, ask.text)
        case _:
            return _text(ask)


def _text(ask: Ask) -> RowCheck:
    place, wanted = ask.place, ask.text
    read = Row.texts if ask.more else Row.folded
    match ask.op:
        case "equals":
            return lambda row: wanted in read(row, place)
        case "contains":
            return lambda row: any(wanted in text for text in read(row, place))
        case "startswith":
            return lambda row: any(text.startswith(wanted) for text in read(row, place))
        case "endswith":
            return lambda row: any(text.endswith(wanted) for text in read(row, place))
        case "glob":
            find = compile_regex(glob_regex(glob_tokens(wanted))).search
            return lambda row: any(find(utf8(text)) is not None for text in read(row, place))
    raise AssertionError(ask.op)


def _regex(place: int, pattern: str, flags: str) -> RowCheck:
    find = compile_regex(pattern, flags).search
    return lambda row: any(find(utf8(text)) is not None for text in row.texts(place))


def _cidr(place: int, text: str) -> RowCheck:
    network = ipaddress.ip_network(text, strict=False)

    def check(row: Row) -> bool:
        addresses = map(_address, row.texts(place))
        return any(address in network for address in addresses if address is not None)

    return check


@lru_cache(ADDRESSES)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
