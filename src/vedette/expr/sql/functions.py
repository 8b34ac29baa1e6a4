"""What queries call back for: rare shapes of values, over the helpers that the other engines use.

Each takes columns and gives a column; a NULL argument gives NULL. JSON texts are those of the event store.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from vedette.expr.nodes import Compare, Comparison, Literal, Part
from vedette.expr.reference import compare
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, elements, fold, leaves, lookup, part_of, text_of, time_of

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NETWORKS = 1_024
"""Networks kept parsed."""


class Function(NamedTuple):
    """A function of SQL written in Python."""

    call: Callable[..., Any]
    """From values of one row; none of them is None."""
    takes: tuple[str, ...]
    gives: str


def _elements(value: str) -> list[str]:
    return [_encode(one).decode() for one in elements(_decode(value))]


def _walk(data: str, name: str) -> str | None:
    found = lookup(_decode(data), name)
    return None if found is MISSING else _encode(found).decode()


def _leaves(data: str) -> list[str]:
    return [text_of(value) for value in leaves(_decode(data))]


def _object(value: str) -> str:
    return text_of(_decode(value))


@lru_cache(maxsize=_NETWORKS)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _inside(text: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address in _network(network)


def _part(text: str, part: str) -> int | None:
    time = time_of(text)
    return None if time is None else part_of(time, Part(part))


_ANSWERS: Mapping[Truth, bool | None] = {Truth.TRUE: True, Truth.FALSE: False, Truth.UNKNOWN: None}


def _compare(left: str, op: str, right: str, cased: bool) -> bool | None:  # noqa: FBT001 - a column
    node = Compare(Literal(0), Comparison(op), Literal(0), cased=cased)
    return _ANSWERS[compare(node, _decode(left), _decode(right))]


FUNCTIONS: Mapping[str, Function] = {
    "vedette_casefold": Function(fold, ("VARCHAR",), "VARCHAR"),
    "vedette_elements": Function(_elements, ("VARCHAR",), "VARCHAR[]"),
    "vedette_walk": Function(_walk, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    "vedette_leaves": Function(_leaves, ("VARCHAR",), "VARCHAR[]"),
    "vedette_object": Function(_object, ("VARCHAR",), "VARCHAR"),
    "vedette_inside": Function(_inside, ("VARCHAR", "VARCHAR"), "BOOLEAN"),
    "vedette_part": Function(_part, ("VARCHAR", "VARCHAR"), "INTEGER"),
    "vedette_compare": Function(_compare, ("VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN"), "BOOLEAN"),
}
"""Name in SQL -> function."""


def column(function: Function, *columns: Sequence[Any]) -> list[Any]:
    """A function over whole columns."""
    call = function.call
    return [None if None in row else call(*row) for row in zip(*columns, strict=True)]
