r"""Rules as SQL: every node printed through sqlglot, for the event store and for whoever has the events elsewhere.

A rule becomes one SQL condition with SQL's own three-valued logic: unknown is NULL, and `Known` is `IS TRUE`. Events
are rows whose column `data` is the record as JSON text. Field by field the query reads

- `v` its value as JSON text (NULL: the event has no such field; `null`: it is null),
- `t` its text as a predicate sees it (`values.text_of`), `f` that text folded (`values.fold`).

A rule is printed in two forms. `Form.ONE` is for rows where no field that is read holds a list, nearly all; there `t`
and `f` are texts. `Form.LISTS` is for the others; there they are lists of texts, and one element that matches is
enough. What is cheaper said in Python than in SQL, such as a walk through lists or IPv6, is a function over the helpers
that all engines share (`functions`). `spark` prints the same conditions for Spark, whole in themselves.

Example:
    >>> from vedette.expr.nodes import Field, Known, Text, TextMatch
    >>> from vedette.expr.sql.printer import Printer
    >>> node = Known(Text(Field("Image"), TextMatch.ENDS, "\\CMD.exe"))
    >>> Printer().condition(node).sql("duckdb")
    "ENDS_WITH(f0, '\\cmd.exe')"
"""
