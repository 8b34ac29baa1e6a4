"""Asks as functions of a row: nested closures, no text is ever evaluated.

Only rules that a watch brought up are asked, and each stops at its first answer; so an ask looks for its own text and
shares nothing but the folded row with others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from vedette.expr import codec, reference
from vedette.expr.matcher.plan import Ask, Group
from vedette.expr.matcher.rows import Row
from vedette.expr.patterns import compile_regex, glob_regex, glob_tokens
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, utf8

Check = Callable[[Row], bool]

ADDRESSES = 4_096
"""Most texts remembered as addresses, or as none."""


def compile_group(group: Group) -> Check:
    """When a rule is true."""
    checks = (*_asked(group), *(compile_group(one) for one in group.groups))
    if len(checks) == 1:
        return checks[0]
    return _all(checks) if group.every else _any(checks)


def _all(checks: tuple[Check, ...]) -> Check:
    def check(row: Row) -> bool:
        for one in checks:  # noqa: SIM110 - a generator costs more than the checks
            if not one(row):
                return False
        return True

    return check


def _any(checks: tuple[Check, ...]) -> Check:
    def check(row: Row) -> bool:
        for one in checks:  # noqa: SIM110 - a generator costs more than the checks
            if one(row):
                return True
        return False

    return check


def _asked(group: Group) -> Iterable[Check]:
    """The checks of a group's own asks; literals that any of may stand in one field are one check."""
    if group.every:
        return [compile_ask(ask) for ask in group.asks]
    alike: dict[tuple[str, int, str], list[str]] = {}
    others = []
    for ask in group.asks:
        if ask.op in ("contains", "equals") and ask.positive:
            alike.setdefault((ask.op, ask.place, ask.more), []).append(ask.text)
        else:
            others.append(compile_ask(ask))
    return [*(_any_text(*key, texts) for key, texts in alike.items()), *others]


def _any_text(op: str, place: int, cased: str, wanted: list[str]) -> Check:
    read = Row.texts if cased else Row.folded
    if op == "equals":
        among = frozenset(wanted)
        return lambda row: not among.isdisjoint(read(row, place))

    def check(row: Row) -> bool:
        for text in read(row, place):
            for one in wanted:
                if one in text:
                    return True
        return False

    return check


def project(group: Group, place: int) -> Group | None:
    """What a group demands of one field alone, as asks of place 0; None when it demands nothing.

    Whatever is asked of other fields is taken to be true, so the group is never true where this is false.
    """
    mine = [msgspec.structs.replace(ask, place=0) for ask in group.asks if ask.place == place and ask.node is None]
    below = [project(one, place) for one in group.groups]
    parts = [one for one in below if one is not None]
    if group.every:
        return Group(True, mine, parts) if mine or parts else None
    return Group(False, mine, parts) if len(mine) == len(group.asks) and len(parts) == len(below) else None


def compile_ask(ask: Ask) -> Check:
    """One ask, or its negation."""
    holds = _holds(ask)
    return holds if ask.positive else lambda row: not holds(row)


def _holds(ask: Ask) -> Check:
    place = ask.place
    match ask.op:
        case "present":
            return lambda row: row.values[place] is not None and row.values[place] is not MISSING
        case "exists":
            return lambda row: row.values[place] is not MISSING
        case "holds" | "fails":
            node, wanted = codec.decode(ask.node), Truth.TRUE if ask.op == "holds" else Truth.FALSE
            return lambda row: reference.evaluate(node, row.read) is wanted
        case "regex":
            return _regex(place, ask.text, ask.more)
        case "cidr":
            return _cidr(place, ask.text)
        case _:
            return _text(ask)


def _text(ask: Ask) -> Check:
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


def _regex(place: int, pattern: str, flags: str) -> Check:
    find = compile_regex(pattern, flags).search
    return lambda row: any(find(utf8(text)) is not None for text in row.texts(place))


def _cidr(place: int, text: str) -> Check:
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
