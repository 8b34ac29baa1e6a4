"""Values that a field may have so that some predicates hold and others do not: likely ones first."""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from vedette.expr import nodes
from vedette.expr.nodes import Literal, Node, Part, TextMatch
from vedette.expr.values import MISSING, part_of
from vedette.testing.texts import glob_pieces, regex_text

JOINTS = ("", " ", "x", "/", "\\", "-", "a1")
"""What may stand between two pieces of a text."""

ORDERS = 3
"""In how many orders pieces are tried."""

TIMES = 400
"""Most times tried for one field."""

_NEUTRAL: tuple[object, ...] = ("other", "", None, 7, "9~", "2001-02-03T04:05:06Z", "~\n", True, ["other"], [])


def values(wanted: Sequence[Node], unwanted: Sequence[Node], rng: random.Random) -> Iterator[object]:
    """Candidates, some of them of no use: the caller asks each predicate.

    Args:
        wanted: Predicates on the field that should be true.
        unwanted: Predicates on it that should not.
        rng: Where chance comes from.
    """
    if not wanted:
        yield MISSING
    yield from _texts(wanted, rng)
    yield from (value for node in (*wanted, *unwanted) for value in _typed(node))
    yield from _times([node for node in (*wanted, *unwanted) if isinstance(node, nodes.TimePart)])
    # A list has a value for each of several that no single text can have.
    singles = [next(iter(_alone(node, rng)), None) for node in wanted]
    known = [value for value in singles if value is not None]
    yield known
    yield from _NEUTRAL


def _alone(node: Node, rng: random.Random) -> Iterator[object]:
    yield from _typed(node)
    yield from _texts([node], rng)


def _texts(wanted: Sequence[Node], rng: random.Random) -> Iterator[str]:
    """Texts made of what each predicate asks for: beginnings first, endings last, the rest between."""
    starts: list[str] = []
    ends: list[str] = []
    middles: list[list[str]] = []
    for node in wanted:
        match node:
            case nodes.Text(match=TextMatch.EQUALS, value=value) | nodes.Keyword(match=TextMatch.EQUALS, value=value):
                yield value
            case nodes.Text() | nodes.Keyword():
                first, *inner = _pieces(node)
                last = inner.pop() if inner else None
                starts.append(first)
                middles.append([piece for piece in inner if piece])
                if last is None:
                    yield first
                else:
                    ends.append(last)
            case nodes.Regex() | nodes.KeywordRegex():
                middles.append([regex_text(node.pattern, node.flags, rng) or ""])
            case _:
                pass
    start, end = max(starts, key=len, default=""), max(ends, key=len, default="")
    for joint, turn in itertools.product(JOINTS, range(ORDERS)):
        chosen = middles[::-1] if turn == 1 else rng.sample(middles, len(middles)) if turn else middles
        pieces = [piece for group in chosen for piece in group]
        whole = joint.join([*([start] if start else []), *pieces, *([end] if end else [])])
        yield whole
        if joint and not start:
            yield f"{joint}{whole}"
        if joint and not end:
            yield f"{whole}{joint}"


def _pieces(node: nodes.Text | nodes.Keyword) -> list[str]:
    match node.match:
        case TextMatch.STARTS:
            return [node.value, ""]
        case TextMatch.ENDS:
            return ["", node.value]
        case TextMatch.CONTAINS:
            return ["", node.value, ""]
        case _:
            return glob_pieces(node.value)


def _typed(node: Node) -> Iterator[object]:
    match node:
        case nodes.Cidr(network=network):
            held = ipaddress.ip_network(network, strict=False)
            yield from (str(held[place]) for place in {0, min(7, held.num_addresses - 1), held.num_addresses - 1})
        case nodes.Compare(left=left, right=right):
            for side in (left, right):
                if isinstance(side, Literal):
                    yield from _around(side.value)
        case nodes.Among(items=items):
            yield from items
        case nodes.Exists():
            yield "there"
        case _:
            return


def _around(value: object) -> Iterable[object]:
    if isinstance(value, str | bool):
        return (value, f"{value}~")
    assert isinstance(value, int | float)  # noqa: S101 - a literal is one of these
    return (value, value - 1, value + 1, str(value))


def _times(wanted: Sequence[nodes.TimePart]) -> Iterator[str]:
    """Times whose parts are the numbers asked for, or beside them."""
    numbers: dict[Part, list[int]] = {}
    for node in wanted:
        numbers.setdefault(node.part, []).extend([node.number, node.number - 1, node.number + 1])
    for chosen in itertools.islice(itertools.product(*numbers.values()), TIMES):
        time = _time(dict(zip(numbers, chosen, strict=True)))
        if time is not None:
            yield time.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _time(parts: dict[Part, int]) -> datetime | None:
    base = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    week = parts.get(Part.WEEK)
    plain = {part.value: number for part, number in parts.items() if part is not Part.WEEK}
    try:
        if week is not None:
            day = datetime.fromisocalendar(plain.get("year", base.year), week, 4)
            base = base.replace(year=day.year, month=day.month, day=day.day)
        made = base.replace(**plain)  # type: ignore[arg-type]
    except ValueError:
        return None
    return made if all(part_of(made, part) == number for part, number in parts.items()) else None
