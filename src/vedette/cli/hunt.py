"""Run Sigma rules over stored events now: nothing is kept, no alert is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli.jobs import By, Config, Home, Only, Rules, Tenant, opened, span_of
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.core.signal import Signal
from vedette.expr.sql.query import rules_query
from vedette.expr.sql.spark import RULES_A_TEXT, spark_text
from vedette.judge.correlation.correlator import Contribution
from vedette.judge.sigma.history import Dialect, Engine, runnable
from vedette.judge.sigma.load import RuleSet
from vedette.judge.sigma.rules import Skipped
from vedette.run.jobs.running import load_rules
from vedette.run.pipeline.detection import Detection
from vedette.run.rules.history import History, widened
from vedette.sense.history import Span, stored_days
from vedette.sense.scan import TABLE
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette hunt --rules suspicion.yml --from 2026-03-01 --to 2026-04-01

  vedette hunt --rules my-rules/ --from 2026-03-01 --to 2026-03-02 --engine matcher --json

  vedette hunt --rules suspicion.yml --sql          # the SQL that it runs, for each source

  vedette hunt --rules suspicion.yml --sql --dialect spark --table lake.events    # to run elsewhere

Hundreds of rules or more run faster with `--engine matcher`. Alerts of what is found: `vedette jobs run detect`."""

_SHOWN = ("id", "event_time")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="hunt", epilog=EXAMPLES)(hunt)


def hunt(
    *,
    rules: Rules,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First event time: a date or ISO 8601.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Event time to stop before.")] = "",
    only: Only = "",
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.")] = None,
    engine: By = Engine.SQL,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of each source and stop.")] = False,
    dialect: Annotated[Dialect, typer.Option(help="Whose SQL `--sql` prints.")] = Dialect.DUCKDB,
    table: Annotated[str, typer.Option(help="What `--sql` calls the table of events.")] = TABLE,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one signal a line as JSON.")] = False,
) -> None:
    """Run Sigma rules over stored events: counts, signals as JSON, or the SQL itself."""
    with opened(home, config, tenant) as here:
        detection = load_rules(here.settings, list(map(str, rules)), only, None)
        refused: Sequence[Skipped] = ()
        if engine is Engine.SQL or sql:
            good, refused = runnable(detection.rules, dialect)
            detection = Detection(good, detection.sources, detection.paths)
        if sql:
            _print_sql(detection.rules, source, dialect, table)
            _print_skipped([*detection.rules.skipped, *refused])
            return
        if not start or not end:
            raise DataError("hunt.span.missing", "`--from` and `--to` say which events to read")
        span = span_of(start, end)
        history = History(here.store, detection, engine=engine)
        names = [name for name in history.sources() if not source or name in source]
        found = _search(history, here.store, here.tenant, names, span)
        if as_json:
            for signal in found:
                typer.echo(
                    msgspec.json.encode({**msgspec.to_builtins(signal), "time": to_iso(signal.event_time)}).decode()
                )
        else:
            _print(found, names, detection.rules)
    _print_skipped([*detection.rules.skipped, *refused])


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    for one in skipped:
        typer.echo(f"skipped {printable(one.path)}: {printable(one.reason)}", err=True)


def _search(history: History, store: Store, tenant: str, names: Sequence[str], span: Span) -> Iterator[Signal]:
    """The signals day by day, those of correlations at the end."""
    whole = widened(span, history.reach)
    brought: list[Contribution] = []
    days = [
        (name, cut) for name in names for day in stored_days(store, tenant, name) if not (cut := day.both(whole)).empty
    ]
    with progress() as tell:
        for number, (name, cut) in enumerate(days):
            tell("hunting", number, len(days))
            judged = history.judge(tenant, name, cut)
            brought += judged.contributions
            yield from (one for one in judged.signals if span.start <= one.event_time < span.end)
        tell("hunting", len(days), max(1, len(days)))
    brought.sort(key=lambda one: one.moment[:3])
    yield from history.correlate(tenant, brought, span)


def _print_sql(rules: RuleSet, source: Sequence[str] | None, dialect: Dialect, table: str) -> None:
    for name in sorted({name for rule in rules.rules for name in rule.nodes}):
        if source and name not in source:
            continue
        placed = rules.of(name)
        if dialect is Dialect.DUCKDB:
            typer.echo(f"-- {name}")
            query = rules_query([node for _, node in placed], table=table, columns=_SHOWN)
            typer.echo(query.text(pretty=True))
            continue
        for start in range(0, len(placed), RULES_A_TEXT):
            typer.echo(f"-- {name}")
            some = placed[start : start + RULES_A_TEXT]
            typer.echo(spark_text([(rule.id, node) for rule, node in some], table=table, columns=_SHOWN) + ";")


def _print(found: Iterator[Signal], names: Sequence[str], rules: RuleSet) -> None:
    counted: Counter[str] = Counter()
    seen: dict[str, Signal] = {}
    for signal in found:
        counted[signal.rule_id] += 1
        seen.setdefault(signal.rule_id, signal)
    table = Table("level", "signals", "rule", "id")
    table.columns[1].justify = "right"
    table.columns[3].no_wrap = True
    for name in sorted(seen, key=lambda name: (-seen[name].level.severity_id, -counted[name], name)):
        table.add_row(seen[name].level, f"{counted[name]:,}", printable(seen[name].title), printable(name))
    if seen:
        Console(markup=False, highlight=False, emoji=False).print(table)
    count = len(rules.rules) + len(rules.correlations)
    typer.echo(f"{count:,} rules over {', '.join(names) or 'no source'}: {counted.total():,} signals")
