"""Many rules as one SELECT over a table of events: each row that some rule fires on, with the rules' numbers.

Four layers, so that nothing is read or computed twice: the rows, the values of all fields by one pass over the JSON
text, their texts, the rules. Rows in which a field that is read holds a list are given out with `fired` NULL; the same
query in `Form.LISTS` over those rows judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from vedette.expr.nodes import Node
from vedette.expr.sql.printer import Column, Form, Printer, joined

MAX_SEGMENTS = 6
"""A name of more parts, which could stand in over 2^5 places, is walked by a function instead."""

FIRED = "fired"


@dataclass(frozen=True, slots=True)
class Query:
    """A query with what an engine must know before it runs it."""

    tree: exp.Select
    patterns: frozenset[str]
    """Its regular expressions: the engine's own may be an older one, which refuses what ours takes."""

    def text(self, *, pretty: bool = False) -> str:
        """Its SQL; `pretty` for people."""
        return self.tree.sql("duckdb", comments=False, pretty=pretty)


def rules_query(
    rules: Sequence[Node],
    *,
    table: str,
    columns: Sequence[str],
    form: Form = Form.ONE,
    where: exp.Expr | None = None,
) -> Query:
    """The SELECT of some rules.

    Args:
        rules: A rule's number is its place.
        table: Has the column `data` and those named.
        columns: Given out beside `fired`.
        form: Which rows it judges; those with lists are left open in `Form.ONE`.
        where: Over the table's own columns: rows without which no rule fires.

    Raises:
        UnsupportedError: What `Printer.condition` raises.
    """
    printer = Printer(form)
    conditions = [printer.condition(rule) for rule in rules]
    places = _Places(printer)
    kept = list(dict.fromkeys([*columns, "data"]))
    rows = exp.select(*map(exp.column, kept)).from_(exp.to_table(table))
    if where is not None:
        rows = rows.where(where, copy=False)
    values = _over(rows, [*map(exp.column, kept), *places.extracted()])
    named = _over(values, [*map(exp.column, kept), *places.values()])
    texts = _over(named, [*map(exp.column, [*kept, *places.names()]), *places.texts(form), *_leaves(printer)])
    folded = _over(texts, [exp.Star(), *places.folded(form)])
    numbers = exp.Array(
        expressions=[
            exp.Case(ifs=[exp.If(this=condition, true=exp.Literal.number(number))])
            for number, condition in enumerate(conditions)
        ]
    )
    there = exp.Not(this=exp.Is(this=exp.column("n"), expression=exp.null()))
    fired: exp.Expr = exp.ArrayFilter(
        this=numbers, expression=exp.Lambda(this=there, expressions=[exp.to_identifier("n")])
    )
    lists = places.lists()
    if form is Form.ONE and lists is not None:
        fired = exp.Case(ifs=[exp.If(this=lists, true=exp.null())], default=fired)
    judged = _over(folded, [*map(exp.column, columns), exp.alias_(fired, FIRED)])
    some = exp.GT(this=exp.ArraySize(this=exp.column(FIRED)), expression=exp.Literal.number(0))
    open_ = exp.Is(this=exp.column(FIRED), expression=exp.null())
    shown = [*map(exp.column, columns), exp.column(FIRED)]
    return Query(_over(judged, shown).where(joined(exp.Or, [some, open_]), copy=False), frozenset(printer.patterns))


def _over(inner: exp.Select, expressions: Sequence[exp.Expr]) -> exp.Select:
    query = exp.Select(expressions=list(expressions))
    return query.from_(inner.subquery("q", copy=False), copy=False)


def _leaves(printer: Printer) -> list[exp.Expr]:
    found: list[exp.Expr] = []
    if printer.leaves:
        found.append(exp.alias_(_call("vedette_leaves", exp.column("data")), "leaves"))
    return found


class _Places:
    """Where the fields of the rules may stand in the JSON text, and the columns that read them."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._pointers: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        for name in printer.fields:
            if name.count(".") < MAX_SEGMENTS:
                for pointer in pointers(name):
                    self._pointers.setdefault(pointer, len(self._pointers) + 1)
                for start in starts(name):
                    self._starts.setdefault(start, len(self._starts) + 1)

    def extracted(self) -> list[exp.Expr]:
        """One pass over the text for all values, one for what stands on the way to them."""
        data = exp.column("data")
        found = []
        if self._pointers:
            found.append(exp.alias_(_call("json_extract", data, _list(list(self._pointers))), "places"))
        if self._starts:
            found.append(exp.alias_(_call("json_type", data.copy(), _list(list(self._starts))), "ways"))
        return found

    def values(self) -> list[exp.Expr]:
        """Field by field the JSON text of its value."""
        return [exp.alias_(self._value(name), f"v{number}") for name, number in self._printer.fields.items()]

    def names(self) -> list[str]:
        """The columns of `values`."""
        return [f"v{number}" for number in self._printer.fields.values()]

    def _value(self, name: str) -> exp.Expr:
        walked = _call("vedette_walk", exp.column("data"), exp.Literal.string(name))
        if name.count(".") >= MAX_SEGMENTS:
            return walked
        found = [_item("places", self._pointers[pointer]) for pointer in pointers(name)]
        value = found[0] if len(found) == 1 else exp.Coalesce(this=found[0], expressions=found[1:])
        # JSON is a type of its own in DuckDB; everything else here is about its text.
        text = exp.cast(value, "text", copy=False)
        ways = starts(name)
        if not ways:
            return text
        array = [exp.EQ(this=_item("ways", self._starts[way]), expression=exp.Literal.string("ARRAY")) for way in ways]
        return exp.Case(ifs=[exp.If(this=joined(exp.Or, array), true=walked)], default=text)

    def texts(self, form: Form) -> list[exp.Expr]:
        """Texts of the fields, lists of them in `Form.LISTS`, and elements."""
        found = []
        for name, number in self._printer.fields.items():
            wanted = self._printer.columns[name]
            value = exp.column(f"v{number}")
            if form is Form.LISTS and wanted - {Column.VALUE}:
                found.append(exp.alias_(_elements(value), f"e{number}"))
            elif wanted & {Column.TEXT, Column.FOLDED}:
                found.append(exp.alias_(_call("vedette_text", value), f"t{number}"))
        return found

    def folded(self, form: Form) -> list[exp.Expr]:
        """Folded texts, where they are asked for; in `Form.LISTS` the texts too."""
        found = []
        for name, number in self._printer.fields.items():
            wanted = self._printer.columns[name]
            if form is Form.LISTS:
                element = _call("vedette_text", exp.column("x"))
                elements = exp.column(f"e{number}")
                if Column.TEXT in wanted:
                    found.append(exp.alias_(_each(elements, element), f"t{number}"))
                if Column.FOLDED in wanted:
                    found.append(
                        exp.alias_(_each(elements.copy(), _call("vedette_fold", element.copy())), f"f{number}")
                    )
            elif Column.FOLDED in wanted:
                found.append(exp.alias_(_call("vedette_fold", exp.column(f"t{number}")), f"f{number}"))
        if True in self._printer.leaves:
            found.append(
                exp.alias_(_each(exp.column("leaves"), _call("vedette_fold", exp.column("x"))), "leaves_folded")
            )
        return found

    def lists(self) -> exp.Expr | None:
        """True in rows where a field holds a list; None when no field is read."""
        held = [
            exp.Coalesce(
                this=exp.StartsWith(this=exp.column(name), expression=exp.Literal.string("[")),
                expressions=[exp.false()],
            )
            for name in self.names()
        ]
        return joined(exp.Or, held) if held else None


def pointers(name: str) -> list[str]:
    """JSON pointers of the places where a name may stand, in the order in which they count.

    A key that holds the whole name comes first; else the shortest key that leads somewhere.

    Example:
        >>> pointers("a.b.c")
        ['/a.b.c', '/a/b.c', '/a/b/c', '/a.b/c']
    """
    return [_pointer(keys) for keys in places(name)]


def starts(name: str) -> list[str]:
    """JSON pointers of what is walked through on the way to a name.

    Example:
        >>> starts("a.b.c")
        ['/a', '/a/b', '/a.b']
    """
    return [_pointer(keys) for keys in ways(name)]


def places(name: str) -> list[list[str]]:
    """Where a name may stand, each as the keys that lead there; see `pointers`."""
    return _splits(name.split("."))


def ways(name: str) -> list[list[str]]:
    """What is walked through on the way to a name; see `starts`."""
    found = (keys[:count] for keys in places(name) for count in range(1, len(keys)))
    return [list(keys) for keys in dict.fromkeys(map(tuple, found))]


def _pointer(keys: Sequence[str]) -> str:
    return "".join(f"/{_quoted(key)}" for key in keys)


def _splits(parts: list[str]) -> list[list[str]]:
    whole = [".".join(parts)]
    found = [whole]
    for cut in range(1, len(parts)):
        found += [[".".join(parts[:cut]), *rest] for rest in _splits(parts[cut:])]
    return found


def _quoted(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _elements(value: exp.Expr) -> exp.Expr:
    null = joined(
        exp.Or,
        [exp.Is(this=value, expression=exp.null()), exp.EQ(this=value.copy(), expression=exp.Literal.string("null"))],
    )
    many = exp.StartsWith(this=value.copy(), expression=exp.Literal.string("["))
    ifs = [exp.If(this=null, true=exp.null()), exp.If(this=many, true=_call("vedette_elements", value.copy()))]
    return exp.Case(ifs=ifs, default=exp.Array(expressions=[value.copy()]))


def _each(elements: exp.Expr, becomes: exp.Expr) -> exp.Expr:
    return exp.Transform(this=elements, expression=exp.Lambda(this=becomes, expressions=[exp.to_identifier("x")]))


def _list(texts: Sequence[str]) -> exp.Expr:
    return exp.Array(expressions=[exp.Literal.string(text) for text in texts])


def _item(name: str, number: int) -> exp.Expr:
    return _call("list_extract", exp.column(name), exp.Literal.number(number))


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))
