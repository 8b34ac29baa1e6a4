r"""Rules as text for Spark SQL 4: one SELECT over a table of events, to run where the events are.

The text is whole in itself: no function of ours has to be there. It answers where the answer is certain to be that of
the other engines, and leaves the other rows open (`fired` NULL), to be judged by one of those: rows in which a field
that is read holds an object or a number with an exponent, is reached through a list, or holds characters that Java
folds by another table. What Spark would read otherwise is refused: parts of times, comparisons of two fields by size,
numbers of more than 53 bits, and patterns that `java` does not translate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from ipaddress import IPv6Network, ip_network

import sqlglot
from sqlglot import exp

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes
from vedette.expr.nodes import Node
from vedette.expr.sql.java import java_pattern
from vedette.expr.sql.macros import NUMERIC, NUMERIC_CHARS
from vedette.expr.sql.printer import Column, Form, Printer, Test
from vedette.expr.sql.query import FIRED, MAX_SEGMENTS, places, ways

_CLEAR = r"(?s)\A(true|false|null|\".*|-?[0-9]+|-?[0-9]{1,11}[.][0-9]{0,3}[1-9])\z"
"""JSON texts of scalars whose text Spark writes as we do: a short fraction has one way to be written."""
_NOT_ASCII = r"[^\x00-\x7F]"
_LOOKED_AT = ((0, 0x600), (0x2000, 0x2100))
"""Scripts with case whose characters are looked at one by one."""
_CASELESS = ((0x3000, 0xA000), (0xAC00, 0xD7A4))
"""Scripts without case. A character of neither is left open: Java's tables may be older or newer than ours."""
_SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}"
"""Java's lower case of it depends on what stands beside it."""

# No raw control character can stand in JSON text, so two of them may stand for the escapes that hide a string's end.
_MASKED = r"""replace(replace(:v, '\\\\', char(1)), '\\"', char(2))"""
_BARE = r"""replace(replace(token, char(2), '\\"'), char(1), '\\\\')"""
_SCALARS = r'"[^"]*+"\s*+:?|-?[0-9][-+.eE0-9]*+|true|false'
"""What scalars of JSON text look like once masked; a key is a string before a colon."""

_BODIES = {
    "text": "CASE WHEN :v = 'null' THEN NULL WHEN startswith(:v, '\"')"
    " THEN try_variant_get(try_parse_json(:v), '$', 'string') ELSE :v END",
    "fold": "lower(:v)",
    "number": "CASE WHEN startswith(:v, '\"') THEN CASE WHEN"
    f" length(try_variant_get(try_parse_json(:v), '$', 'string')) <= {NUMERIC_CHARS}"
    f" AND try_variant_get(try_parse_json(:v), '$', 'string') RLIKE r'\\A{NUMERIC}\\z'"
    " THEN try_cast(try_variant_get(try_parse_json(:v), '$', 'string') AS DOUBLE) END"
    " WHEN :v RLIKE r'\\A[-0-9]' THEN try_cast(:v AS DOUBLE) END",
}
"""The macros of `macros`, in Spark's language."""


RULES_A_TEXT = 100
"""Spark's planning of a query grows faster than its rules."""


def spark_text(rules: Sequence[tuple[str, Node]], *, table: str, columns: Sequence[str]) -> str:
    """The SELECT of some rules: each row that one fires on, with `fired`, the list of the names of those.

    A row whose `fired` is NULL is open: Spark cannot be sure of it, and another engine has to judge it.

    Args:
        rules: Each with its name; a name may stand for several.
        table: Has the column `data`, the record as JSON text, and those named; a name with dots is of a catalogue.
        columns: Given out beside `fired`.

    Raises:
        UnsupportedError: What `SparkPrinter.condition` raises.
    """
    printer = SparkPrinter()
    conditions = [(name, _spark(printer.condition(rule))) for name, rule in rules]
    kept = ", ".join(columns)
    names = ", ".join(f"CASE WHEN {one} THEN {_literal(name)} END" for name, one in conditions)
    unsure = " OR ".join(f"coalesce({one}, FALSE)" for one in printer.unsure()) or "FALSE"
    fired = f"array_distinct(array_compact(array({names})))"
    layers = [
        f"{kept}, data, try_parse_json(data) AS doc",
        ", ".join(["*", *printer.values()]),
        ", ".join(["*", *printer.elements()]),
        ", ".join(["*", *printer.texts()]),
        ", ".join(["*", *printer.folded()]),
    ]
    text = ".".join(exp.to_identifier(part, quoted=True).sql("spark") for part in table.split("."))
    for number, layer in enumerate(layers):
        text = f"SELECT {layer}\nFROM {text if number == 0 else f'({text})'}"
    # Spark moves a condition below what computes it, and computes that once more there, but never below a generator.
    once = f"explode(array(CASE WHEN doc IS NULL OR {unsure} THEN NULL ELSE {fired} END))"
    text = f"SELECT {kept}, {FIRED} FROM ({text}) LATERAL VIEW {once} AS {FIRED}"
    text = f"{text}\nWHERE {FIRED} IS NULL OR array_size({FIRED}) > 0"
    # Spark puts variables into a statement before it reads it, into literals too: `${env:HOME}`.
    return text.replace("${", r"\u0024{")


class SparkPrinter(Printer):
    """Prints nodes for Spark, and remembers of which rows Spark cannot be sure.

    Raises:
        UnsupportedError: What `Printer.condition` raises, `sql.spark.unsupported`, `sql.spark.regex`.
    """

    def __init__(self) -> None:
        super().__init__(Form.LISTS)
        self._ascii: set[str] = set()
        """Columns of texts that patterns read."""
        self._plain: set[str] = set()
        """Columns of texts in which an address of IPv6 may stand."""

    def values(self) -> Iterator[str]:
        """Field by field its value as JSON text, and whether a list stands on the way to it."""
        for name, number in self.fields.items():
            yield f"coalesce({', '.join(f'to_json({_at(keys)})' for keys in places(name))}) AS v{number}"
            lists = [f"coalesce(schema_of_variant({_at(keys)}) LIKE 'ARRAY%', FALSE)" for keys in ways(name)]
            yield f"{' OR '.join(lists) or 'FALSE'} AS w{number}"

    def elements(self) -> Iterator[str]:
        """The JSON texts of the fields' elements, and those of all scalars of the record."""
        for number in self.fields.values():
            one = f"CASE WHEN startswith(v{number}, '[') THEN {_scalars(f'v{number}')} ELSE array(v{number}) END"
            yield f"CASE WHEN v{number} <> 'null' THEN {one} END AS e{number}"
        if self.leaves:
            yield f"{_scalars('data')} AS scalars"

    def texts(self) -> Iterator[str]:
        """Texts of the elements."""
        for number in self.fields.values():
            yield f"transform(e{number}, x -> {_spark(_body('text', exp.column('x')))}) AS t{number}"
        if self.leaves:
            yield f"transform(scalars, x -> {_spark(_body('text', exp.column('x')))}) AS leaves"

    def folded(self) -> Iterator[str]:
        """Folded texts, where they are asked for."""
        for name, number in self.fields.items():
            if self._folds(name):
                yield f"transform(t{number}, x -> lower(x)) AS f{number}"
        if True in self.leaves:
            yield "transform(leaves, x -> lower(x)) AS leaves_folded"

    def unsure(self) -> Iterator[str]:
        """Conditions, one of which holds in every row whose answer may not be ours."""
        for name, number in self.fields.items():
            outside = f"regexp_replace({_masked(f'v{number}')}, '\"[^\"]*+\"', '')"
            yield f"w{number} OR startswith(v{number}, '{{')"
            yield f"startswith(v{number}, '[') AND contains({outside}, '{{')"
            yield _some(f"e{number}", f"NOT x RLIKE {_literal(_CLEAR)}")
            if self._folds(name):
                yield _some(f"t{number}", f"x RLIKE {_literal(_odd())}")
        if self.leaves:
            yield _some("scalars", f"NOT x RLIKE {_literal(_CLEAR)}")
        if True in self.leaves:
            yield _some("leaves", f"x RLIKE {_literal(_odd())}")
        for column in sorted(self._ascii):
            yield _some(column, f"x RLIKE {_literal(_NOT_ASCII)}")
        for column in sorted(self._plain):
            yield _some(column, "contains(x, ':')")

    def _folds(self, name: str) -> bool:
        return bool(self.columns[name] & {Column.FOLDED, Column.ELEMENTS})

    def _predicate(self, node: Node) -> exp.Expr:
        match node:
            case nodes.Regex(field=field):
                self._ascii.add(self._column(field, Column.TEXT).name)
            case nodes.KeywordRegex():
                self._ascii.add("leaves")
            case nodes.Cidr(field=field, network=network) if isinstance(ip_network(network, strict=False), IPv6Network):
                # Addresses of IPv6 have too many spellings for SQL; other texts are certainly in no such network.
                self._plain.add(self._column(field, Column.TEXT).name)
                return self._test(field, lambda _text: exp.false(), cased=True)
        return super()._predicate(node)

    def _column(self, field: nodes.Field, column: Column) -> exp.Column:
        if field.name.count(".") >= MAX_SEGMENTS or any(char in field.name for char in "\"'\\"):
            raise _unsupported(f"the field name `{field.name}`")
        return super()._column(field, column)

    def _regex(self, pattern: str, flags: str) -> Test:
        test = super()._regex(pattern, flags)
        return lambda text: exp.RegexpLike(this=text, expression=_java(test(text)))

    def _time(self, node: nodes.TimePart) -> Test:
        raise _unsupported(f"the {node.part} of a time")

    def _called_compare(self, _node: nodes.Compare) -> exp.Expr:
        raise _unsupported("a comparison of two fields, or with a number of more than 53 bits")


def _java(printed: exp.Expr) -> exp.Expr:
    return exp.Literal.string(java_pattern(printed.expression.this))


def _spark(condition: exp.Expr) -> str:
    """A printed condition in Spark's words."""

    def put(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Anonymous) and part.name.startswith(_PREFIX):
            return _body(part.name.removeprefix(_PREFIX), part.expressions[0].transform(put))
        if isinstance(part, exp.ArraySize):
            # `size` of NULL is -1 or NULL by a setting.
            return exp.Anonymous(this="array_size", expressions=[part.this.transform(put)])
        return part

    return condition.transform(put).sql("spark")


_PREFIX = "vedette_"


@cache
def _template(name: str) -> exp.Expr:
    return sqlglot.parse_one(_BODIES[name], dialect="spark")


def _body(name: str, value: exp.Expr) -> exp.Expr:
    return exp.replace_placeholders(_template(name).copy(), v=value)


def _masked(column: str) -> str:
    return _MASKED.replace(":v", column)


def _scalars(column: str) -> str:
    """The JSON texts of all scalars in a JSON text, in order, without nulls."""
    tokens = f"regexp_extract_all({_masked(column)}, r'{_SCALARS}', 0)"
    return f"transform(filter({tokens}, token -> NOT endswith(token, ':')), token -> {_BARE})"


def _some(column: str, test: str) -> str:
    return f"exists({column}, x -> {test})"


@cache
def _odd() -> str:
    """A pattern of the characters that Java's lower case does not fold as `values.fold` does, or may not."""
    plain = [code for low, high in _LOOKED_AT for code in range(low, high) if _is_plain(chr(code))]
    known = [*plain, *itertools.chain.from_iterable(range(*span) for span in _CASELESS)]
    runs = itertools.groupby(enumerate(known), lambda pair: pair[1] - pair[0])
    spans = ([f"\\x{{{code:x}}}" for _, code in run] for _, run in runs)
    return "[^" + "".join(f"{span[0]}-{span[-1]}" for span in spans) + "]"


def _is_plain(char: str) -> bool:
    return char != _SIGMA and len(char.casefold()) == 1 and char.casefold() == char.lower()


def _at(keys: Sequence[str]) -> str:
    path = "$" + "".join(f'["{key}"]' for key in keys)
    return f"variant_get(doc, {_literal(path)}, 'variant')"


def _literal(text: str) -> str:
    return exp.Literal.string(text).sql("spark")


def _unsupported(what: str) -> UnsupportedError:
    return UnsupportedError("sql.spark.unsupported", f"{what} cannot be told to Spark with the same meaning")
