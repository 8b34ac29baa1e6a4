"""The SQL engine as tests ask it: rules and events in, the rules that fire on each event out."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from vedette.expr.sql.printer import Form
from vedette.expr.sql.query import rules_query
from vedette.sense.scan import scanning


def rows_of(some):
    data = [msgspec.json.encode(one).decode() for one in some]
    return pa.table({"id": pa.array(range(len(some))), "data": data})


def asked(rules, rows, form=Form.ONE):
    """Event number -> rules that fire; None where the form leaves it open."""
    text = rules_query(rules, table="events", columns=["id"], form=form).text()
    with scanning(rows, threads=1) as scan:
        return {row["id"]: row["fired"] for batch in scan.run(text) for row in batch.to_pylist()}


def fired(rules, some):
    rows = rows_of(some)
    found = asked(rules, rows)
    left = sorted(place for place, numbers in found.items() if numbers is None)
    judged = asked(rules, rows.take(left), Form.LISTS) if left else {}
    return {place: numbers for place, numbers in {**found, **dict.fromkeys(left), **judged}.items() if numbers}
