"""Decide on payments: features, rules and model give an action with its reasons."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from vedette.cli.ingest import find_source
from vedette.core.clock import DAY, SystemClock
from vedette.core.decision import Action, Decision
from vedette.core.errors import DataError, DefinitionError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.render import printable
from vedette.expr.nodes import Space
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.files import count_rows, read_rows
from vedette.judge.decisions.intake import to_event, to_label
from vedette.judge.decisions.lines import to_json
from vedette.judge.decisions.opening import Books, open_books
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.passing import PassingLog
from vedette.judge.decisions.recorder import Wanted
from vedette.judge.decisions.service import settle
from vedette.judge.models.model import Model, load_model
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.payment.rules import PaymentRules
from vedette.sense.features.definition import FeatureSet, load_features, shipped
from vedette.sense.sources import Source, load_sources

GROUP = 256
"""Events that share two commits."""

EXAMPLES = """Examples:

  vedette decide --model models/fraud --rules payment.rules --events transactions.parquet --json

  vedette decide --rules payment.rules --events day.ndjson.gz      # rules only, a table of what they did

  vedette decide --model models/fraud --events day.csv --log .vedette/decisions --json

Without --log nothing is kept; with it, a second run gives the recorded decisions again.
A line of --json is what POST /v1/decisions answers. Refused events go to stderr as {"error": ..., "line": ...}."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="decide", epilog=EXAMPLES)(decide)


def decide(
    *,
    events: Annotated[list[Path], typer.Option(help="Parquet, CSV or NDJSON, plain or .gz; in log order.")],
    model: Annotated[Path | None, typer.Option(help="Model directory; without it rules decide alone.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Rules: a YAML list, or one rule a line.")] = None,
    lists: Annotated[Path | None, typer.Option(help="YAML file of the lists that rules name with @.")] = None,
    source: Annotated[str, typer.Option(help="Source of the events; the model's by default.")] = "",
    log: Annotated[Path | None, typer.Option(help="Folder to record in, and to go on from.")] = None,
    policy: Annotated[Policy, typer.Option(help="Answer when a part stalls and no rule decides.")] = Policy.OPEN,
    labels: Annotated[
        bool, typer.Option(help="Learn outcomes that the file carries, the model's label delay after each event.")
    ] = True,
    tenant: Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose events they are.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one decision a line.")] = False,
) -> None:
    """Decide on payments: features, rules and model give an action with its reasons."""
    scorer = load_model(model) if model else None
    chosen = find_source(load_sources(), source or (scorer.source if scorer else "card_transactions"))
    features = scorer.feature_set if scorer else _shipped(chosen)
    rule_set = _rules(rules, lists, features, chosen)
    if not scorer and not (features and _reads(rule_set, features)):
        features = None
    _advise(rule_set, chosen, features)
    run = _Run(chosen, scorer if labels else None, tenant=tenant, as_json=as_json)
    with (
        _folder(log) as folder,
        _books(folder, scorer, features, rule_set, kept=bool(log), tenant=tenant, policy=policy) as books,
        _bar(events) as bar,
    ):
        settle()
        task = bar.add_task("deciding", total=_total(events))
        for file in events:
            for group in run.groups(file):
                run.decide(group, books)
                bar.update(task, completed=run.read)
    if not as_json:
        run.show()


def _rules(rules: Path | None, lists: Path | None, features: FeatureSet | None, source: Source) -> PaymentRules:
    attributes = with_features(features.names if features else ())
    held = load_lists(lists) if lists else {}
    if rules is None:
        return PaymentRules()
    return load_rules(rules, attributes=attributes, lists=held, fields=binding_of(source.name).spelled())


def _shipped(source: Source) -> FeatureSet | None:
    """Features that come with the product, for rules that read them without a model."""
    try:
        return load_features(shipped(source.name))
    except DefinitionError:
        return None


def _reads(rules: PaymentRules, features: FeatureSet) -> bool:
    names = set(features.names)
    return any(field.space is Space.ATTRIBUTE and field.name in names for field in rules.fields)


def _advise(rules: PaymentRules, source: Source, features: FeatureSet | None) -> None:
    """Tells people what their rules wait for in vain."""
    provided = {":risk_level:", ":risk_score:", *(f":{name}:" for name in (features.names if features else ()))}
    names = binding_of(source.name).provides()
    if names and sys.stderr.isatty():
        for note in rules.check(provided | names):
            typer.echo(printable(f"note: {note.span}: rule {note.rule_id}: {note.message}"), err=True)


@contextmanager
def _folder(log: Path | None) -> Iterator[Path]:
    if log:
        yield log
    else:
        with tempfile.TemporaryDirectory(prefix="vedette-decide-") as folder:
            yield Path(folder)


@contextmanager
def _books(
    folder: Path,
    model: Model | None,
    features: FeatureSet | None,
    rules: PaymentRules,
    *,
    kept: bool,
    tenant: str,
    policy: Policy,
) -> Iterator[Books]:
    clock = SystemClock()
    books = open_books(
        folder,
        features=features,
        model=model,
        rules=rules,
        clock=clock,
        tenant=tenant,
        policy=policy,
        log=None if kept else PassingLog(clock),
    )
    try:
        yield books
    finally:
        books.close()


def _total(files: Sequence[Path]) -> int | None:
    counts = [count_rows(file) for file in files]
    return None if None in counts else sum(count or 0 for count in counts)


def _bar(files: Sequence[Path]) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty() or not files,
    )


@dataclass
class _Run:
    """One run over files: what was read, what came of it."""

    source: Source
    labels: Model | None
    """Whose label delay applies to outcomes in the files; None learns none."""
    tenant: str
    as_json: bool
    read: int = 0
    actions: Counter[Action] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    clock: SystemClock = field(default_factory=SystemClock)

    def groups(self, file: Path) -> Iterator[list[tuple[int, Event, Label | None]]]:
        """Events of a file with their line and label. A group ends before any label of it can be known."""
        group: list[tuple[int, Event, Label | None]] = []
        delay = self.labels.label_delay if self.labels else DAY
        for row in read_rows(file, self.source):
            self.read += 1
            try:
                found = self._event(row.data)
            except DataError as error:
                self._refuse(error, file, row.number)
                continue
            if group and (len(group) >= GROUP or found[0].event_time - group[0][1].event_time >= delay):
                yield group
                group = []
            group.append((row.number, *found))
        if group:
            yield group

    def _event(self, data: object) -> tuple[Event, Label | None]:
        if isinstance(data, DataError):
            raise data
        event = to_event(data, self.source, tenant=self.tenant, ingest_time=self.clock.now())
        if self.labels is None or not isinstance(data, dict):
            return event, None
        truth = self.labels.feature_set.label.path
        return event, to_label(data, event, truth=truth, delay=self.labels.label_delay)

    def decide(self, group: list[tuple[int, Event, Label | None]], books: Books) -> None:
        """Decides on a group and prints it."""
        wanted = [Wanted(event, label=label, checked=True) for _, event, label in group]
        answers = books.recorder.decide_many(wanted)
        out = []
        for (number, event, _), answer in zip(group, answers, strict=True):
            if isinstance(answer, Decision):
                self._count(answer)
                out.append(to_json(answer))
            else:
                self._refuse(answer, Path(event.raw_ref), number)
        if self.as_json and out:
            sys.stdout.buffer.write(b"\n".join(out) + b"\n")

    def _count(self, decision: Decision) -> None:
        self.actions[decision.action] += 1
        self.fired.update(rule.id for rule in decision.rules if rule.result == "fired")
        if decision.fallback:
            self.fallbacks[decision.fallback] += 1

    def _refuse(self, error: VedetteError, file: Path, number: int) -> None:
        self.refused[error.code] += 1
        if self.as_json:
            shape = {"error": error.to_dict(), "file": str(file), "line": number}
            typer.echo(printable(msgspec.json.encode(shape).decode()), err=True)

    def show(self) -> None:
        """A table of what happened."""
        total = sum(self.actions.values())
        table = Table("action", "decisions", "share", title=f"{total:,} decisions on {self.read:,} records")
        for column in table.columns[1:]:
            column.justify = "right"
        for action in Action:
            count = self.actions[action]
            table.add_row(action, f"{count:,}", f"{count / total:.2%}" if total else "")
        console = Console()
        console.print(table)
        for title, counts in (
            ("rules that fired", self.fired),
            ("refused", self.refused),
            ("by policy", self.fallbacks),
        ):
            if counts:
                more = Table(title, "events")
                for name, count in counts.most_common():
                    more.add_row(printable(name), f"{count:,}")
                console.print(more)
