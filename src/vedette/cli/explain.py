"""Explain a decision, or a rule on an event: what fired, what did not, clause by clause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from vedette.act.alerts import Alerts
from vedette.cli._rules import today
from vedette.cli.ingest import find_source
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.decision import Decision
from vedette.core.documents import load_json
from vedette.core.errors import DataError, NotFoundError
from vedette.core.log import SqliteLog
from vedette.core.render import printable
from vedette.judge.correlation.explain import explain_fired
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.files import read_rows
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.recorded import find_recorded
from vedette.judge.explain import (
    DecisionExplanation,
    RuleExplanation,
    explain_decision,
    explain_on_event,
    to_lines,
)
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.sigma.explain import Explainer, Taken, take
from vedette.judge.sigma.load import load
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import NO_PIPELINES, Pipelines
from vedette.sense.sources import Source, load_sources, sniff

EXAMPLES = """Examples:

  vedette explain --home .vedette --event-id 4711 --rules payment.rules         # decided by `vedette serve`

  vedette explain --log .vedette/decisions --event-id 4711 --rules payment.rules # decided by `vedette decide --log`

  vedette decide ... --json | head -1 > d.json
  vedette explain --decision d.json --event transactions.ndjson --rules payment.rules

  vedette explain --rules payment.rules --event transactions.ndjson --line 3     # payment rules on an event

  vedette explain --home .vedette --alert al_01ab     # why an alert's signals fired, correlations with their events

  vedette explain --sigma rule.yml --event events.ndjson --line 12 --json        # a Sigma rule on an event"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="explain", epilog=EXAMPLES)(explain)


def explain(
    *,
    log: Annotated[Path | None, typer.Option(help="Folder that `vedette decide --log` recorded in.")] = None,
    home: Annotated[Path | None, typer.Option(help="Home of the `vedette serve` that decided.")] = None,
    event_id: Annotated[str, typer.Option(help="Id of the decided event.")] = "",
    alert: Annotated[str, typer.Option(help="Id of an alert in that home: why each of its signals fired.")] = "",
    decision: Annotated[Path | None, typer.Option(help="File whose first line is a decision.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Payment rules.")] = None,
    lists: Annotated[Path | None, typer.Option(help="Lists that payment rules name with @.")] = None,
    sigma: Annotated[Path | None, typer.Option(help="Sigma rule file, or a folder of them.")] = None,
    event: Annotated[Path | None, typer.Option(help="File of events.")] = None,
    line: Annotated[int, typer.Option(min=1, help="Which record of that file, from 1.")] = 1,
    rule_id: Annotated[str, typer.Option(help="Only the rule of that id.")] = "",
    source: Annotated[str, typer.Option(help="Source of the events; recognised by default.")] = "",
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose decision it is.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a decision, or a rule on an event: what fired, what did not, clause by clause."""
    if alert and home:
        print_explained(list(only(explain_alert(home, tenant, alert), rule_id)), as_json=as_json)
        return
    if log or home or decision:
        record = _recorded(log, home, event_id, tenant) or _from_line(decision, event, source, tenant)
        if not record.rules_version:
            record = msgspec.structs.replace(record, rules_version=_rules(rules, lists, record.features).version)
        shown = explain_decision(record, _rules(rules, lists, record.features))
        print_explained([msgspec.structs.replace(shown, rules=only(shown.rules, rule_id))], as_json=as_json)
        return
    if event is None or (sigma is None) == (rules is None):
        raise DataError(
            "explain.request.incomplete",
            "nothing to explain",
            hint="give --home with --alert or --event-id, --log with --event-id, --decision, or --event with --rules"
            " or --sigma",
        )
    if sigma:
        known = load_sources()
        taken = take([event], known, find_source(known, source) if source else None)
        explained = explain_sigma(sigma, list(taken), line=line)
    else:
        explained = _payment(_rules(rules, lists, {}), *_record(event, line, source), tenant)
    print_explained(list(only(tuple(explained), rule_id)), as_json=as_json)


def explain_alert(home: Path, tenant: str, alert: str) -> tuple[RuleExplanation, ...]:
    """Why each signal of an alert fired.

    Raises:
        NotFoundError: `explain.home.missing`, `alerts.alert.unknown`.
    """
    if not (home / "state.db").is_file():
        raise NotFoundError("explain.home.missing", f"`{home}` holds no alerts")
    state = open_database(home / "state.db")
    try:
        alerts = Alerts(state)
        return tuple(explain_fired(signal) for signal in alerts.signals(tenant, alerts.get(tenant, alert).id))
    finally:
        state.close()


def _rules(rules: Path | None, lists: Path | None, features: dict[str, Any]) -> PaymentRules:
    held = load_lists(lists) if lists else {}
    if rules is None:
        return PaymentRules()
    fields = binding_of("card_transactions").spelled()
    return load_rules(rules, attributes=with_features(features), lists=held, fields=fields)


def only(shown: tuple[RuleExplanation, ...], rule_id: str) -> tuple[RuleExplanation, ...]:
    """Those of one rule, or all where none is named.

    Raises:
        NotFoundError: `explain.rule.unknown`.
    """
    kept = tuple(rule for rule in shown if not rule_id or rule.id == rule_id)
    if rule_id and not kept:
        names = ", ".join(rule.id for rule in shown[:10])
        raise NotFoundError("explain.rule.unknown", f"no rule `{rule_id}`", hint=f"there are: {names}")
    return kept


def _recorded(folder: Path | None, home: Path | None, event_id: str, tenant: str) -> Decision | None:
    """The record in a folder of `decide --log`, or in the home of a server; None when neither was named."""
    if folder:
        return _from_log(folder / "log", folder / "seen.db", event_id, tenant)
    return _from_log(home / "log", home / "decisions" / tenant / "seen.db", event_id, tenant) if home else None


def _from_log(folder: Path, index: Path, event_id: str, tenant: str) -> Decision:
    if not folder.is_dir() or not index.is_file():
        raise NotFoundError("explain.log.missing", f"`{folder}` holds no decisions of `{tenant}`")
    log = SqliteLog(folder, SystemClock())
    try:
        found = find_recorded(log, index, tenant, event_id)
    finally:
        log.close()
    if found:
        return found
    raise NotFoundError("explain.decision.missing", f"no decision on event `{event_id:.80}`")


def _from_line(path: Path | None, event: Path | None, source: str, tenant: str) -> Decision:
    """A decision line holds no event: with --event the rules' own attributes are there too, without it missing."""
    if path is None:
        raise DataError("explain.request.incomplete", "no decision")
    try:
        with path.open("rb") as file:
            raw = load_json(file.readline())
        record = msgspec.convert({"tenant": tenant, **raw}, Decision)
    except OSError as error:
        raise DataError("explain.decision.unreadable", f"cannot read `{path}`") from error
    except (msgspec.ValidationError, TypeError) as error:
        raise DataError("explain.decision.shape", f"no decision: {error}", at=str(path)) from error
    if event is None:
        return record
    known = load_sources()
    chosen = find_source(known, source or "card_transactions")
    for row in read_rows(event, chosen):
        if isinstance(row.data, dict) and str(row.data.get(chosen.definition.id)) == record.event_id:
            held = to_event(row.data, chosen, tenant=tenant, ingest_time=SystemClock().now())
            return msgspec.structs.replace(record, event=held.data, source=chosen.name, time=held.event_time)
    raise NotFoundError("explain.event.missing", f"`{event}` has no event `{record.event_id:.80}`")


def _record(path: Path, line: int, source: str) -> tuple[dict[str, Any], Source]:
    known = load_sources()
    chosen = find_source(known, source) if source else _recognise(path, known)
    for place, row in enumerate(read_rows(path, chosen), 1):
        if place == line:
            if isinstance(row.data, DataError):
                raise row.data
            return row.data, chosen
    raise NotFoundError("explain.event.missing", f"`{path}` has no record {line}")


def _recognise(path: Path, known: Any) -> Source:
    if path.name.removesuffix(".gz").endswith((".parquet", ".csv")):
        return find_source(known, "card_transactions")
    for row in read_rows(path, known["card_transactions"]):
        if isinstance(row.data, dict):
            return sniff([msgspec.json.encode(row.data)], known)
    raise NotFoundError("explain.event.missing", f"`{path}` has no record")


def _payment(rules: PaymentRules, data: dict[str, Any], source: Source, tenant: str) -> Iterator[RuleExplanation]:
    clock = SystemClock()
    decider = Decider(features=None, model=None, rules=rules, clock=clock)
    event = to_event(data, source, tenant=tenant, ingest_time=clock.now())
    return (explain_on_event(rule, event, decider) for rule in rules.rules)


def explain_sigma(
    path: Path,
    taken: Sequence[Taken],
    *,
    line: int = 0,
    group: Mapping[str, str] | None = None,
    most: int = 3,
    pipelines: Pipelines = NO_PIPELINES,
) -> Iterator[RuleExplanation]:
    """Every rule and correlation of a path on records; what cannot be explained is told on stderr.

    Args:
        path: A rule file, folder or archive.
        taken: The records.
        line: Number of the one record to look at; 0 for those that come nearest.
        group: Of correlations, only groups with these values.
        most: Of a correlation, how many groups.
        pipelines: What every rule goes through, and the lists of placeholders.

    Raises:
        NotFoundError: `explain.event.missing` when there is no such record.
    """
    if line and all(one.line != line for one in taken):
        raise NotFoundError("explain.event.missing", f"there is no readable record {line}")
    known = load_sources()
    places = LogSources({name: each.logsource for name, each in known.items()}, pipelines=pipelines)
    loaded = load([path], places, today=today())
    explainer = Explainer(loaded, known, taken)
    for rule in loaded.rules:
        shown = explainer.rule(rule, line)
        if shown:
            yield shown
        else:
            typer.echo(
                printable(f"{rule.id}: reads {', '.join(rule.nodes)}, of which there is no such record"), err=True
            )
    for one in loaded.correlations:
        yield from explainer.correlation(one, line=line, group=group, most=most)
    for skipped in loaded.skipped:
        typer.echo(printable(f"{skipped.id}: skipped: {skipped.reason}"), err=True)


def print_explained(shown: list[DecisionExplanation] | list[RuleExplanation], *, as_json: bool) -> None:
    """One explanation after the other: a line of JSON each, or text."""
    for one in shown:
        if as_json:
            typer.echo(printable(msgspec.json.encode(one).decode()))
        elif isinstance(one, DecisionExplanation):
            typer.echo(printable("\n".join(_decision_lines(one)), lines=True))
        else:
            typer.echo(printable("\n".join(to_lines(one)), lines=True))


def _decision_lines(shown: DecisionExplanation) -> Iterator[str]:
    yield f"event {shown.event_id}: {shown.action}, because {shown.because}"
    if shown.score is not None:
        yield f"score {shown.score:.4f}, risk score {shown.risk_score}, risk level {shown.risk_level}"
    if shown.reasons:
        yield "reasons"
        yield from (f"  {reason.weight:+.3f}  {reason.code}: {reason.text}" for reason in shown.reasons)
    yield "rules"
    for rule in shown.rules:
        yield from (f"  {line}" for line in to_lines(rule))
