"""Ask stored events, save questions by name, keep them in a case as steps, and ask a colleague's steps again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable

if TYPE_CHECKING:
    from vedette.run.investigation.questions import Question, Rows

EXAMPLES = """Examples:

  vedette investigate ask value 198.51.100.7 --days 30

  vedette investigate ask sql "select id from cloudtrail where eventName = \\$name" -p name=StopLogging --case ca_17

  vedette investigate save address value 198.51.100.7 --shared --title "Where an address was seen"

  vedette investigate run address -p text=203.0.113.9 --case ca_17 --by ana

  vedette investigate steps ca_17

  vedette investigate again ca_17 st_5    # exit code 1: other rows than before

What can be asked: `sql`, `value` (text in a record), `entity` and `graph` (of `type:id`), `host` (its processes)."""

OTHER = 1
_CELL = 60
_SHOWN = 50

By = Annotated[str, typer.Option(help="Who.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="sql, value, entity, graph or host.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="The SELECT, value, `type:id` or host.")]
Days = Annotated[int, typer.Option(min=0, max=400, help="How far back; 0: seven days, of a host its newest one.")]
Limit = Annotated[int, typer.Option(min=1, max=5_000, help="Most rows.")]
Values = Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value; may be repeated.")]
Case = Annotated[str, typer.Option(help="Keep it in this case.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="investigate", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    for each in (ask, save, run, steps, again, delete):
        verb.command(each.__name__, epilog=EXAMPLES)(each)
    verb.command("list", epilog=EXAMPLES)(list_searches)
    app.add_typer(verb)


def ask(
    kind: Kind,
    text: Text,
    *,
    parameter: Values = None,
    days: Days = 0,
    limit: Limit = 1_000,
    case: Case = "",
    by: By = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask one question."""
    with Opened(home, tenant, config) as parts:
        _answer(parts, _question(kind, text, parameter, days, limit), case, by, as_json=as_json)


def save(
    name: str,
    kind: Kind,
    text: Text,
    *,
    parameter: Values = None,
    days: Days = 0,
    limit: Limit = 1_000,
    title: Annotated[str, typer.Option(help="What it is for.")] = "",
    shared: Annotated[bool, typer.Option("--shared", help="For all of the tenant.")] = False,
    by: By = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Save a question by name."""
    from vedette.run.investigation.searches import Search, Searches

    question = _question(kind, text, parameter, days, limit)
    with Opened(home, tenant, config) as parts:
        made = Search(name=name, question=question, title=title, owner=by, shared=shared)
        Searches(parts).save(parts.tenant, made)
    line(f"saved {name}")


def list_searches(
    *, by: By = "cli", tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False
) -> None:
    """List your saved searches and the shared ones."""
    from vedette.run.investigation.searches import Searches

    with Opened(home, tenant, config) as parts:
        found = Searches(parts).all(parts.tenant, by)
    if as_json:
        show_json(found)
        return
    for one in found:
        line(f"{one.name}: {one.title or one.question.kind} ({one.owner}{', shared' if one.shared else ''})")
    if not found:
        line("no saved search")


def run(
    name: str,
    *,
    parameter: Values = None,
    days: Days = 0,
    case: Case = "",
    by: By = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask a saved search."""
    from vedette.run.investigation.searches import Searches, filled

    with Opened(home, tenant, config) as parts:
        search = Searches(parts).get(parts.tenant, name, by)
        given = _values(parameter) | ({"days": days} if days else {})
        _answer(parts, filled(search, given), case, by, search=name, as_json=as_json)


def delete(name: str, *, by: By = "cli", tenant: Tenant = "", home: Home = None, config: Config = None) -> None:
    """Forget a saved search: yours, or a shared one."""
    from vedette.run.investigation.searches import Searches

    with Opened(home, tenant, config) as parts:
        Searches(parts).delete(parts.tenant, name, by)
    line(f"forgot {name}")


def steps(case: str, *, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the steps of a case."""
    from vedette.run.investigation.steps import Steps
    from vedette.sense.store import Store

    with Opened(home, tenant, config) as parts:
        found = Steps(parts, Store(parts.settings.store_folder)).all(parts.tenant, case)
    if as_json:
        show_json(found)
        return
    for one in found:
        asked = " ".join(printable(one.question.text).split())[:_CELL]
        line(f"{one.id} {to_iso(one.time)} {one.by}: {one.question.kind} {asked}: {one.rows:,} rows {one.digest[:12]}")
    if not found:
        line("no step")


def again(
    case: str,
    step: str,
    *,
    by: By = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask a step again, of the tables as they were and as they are."""
    from vedette.run.investigation.steps import Steps, Then
    from vedette.sense.store import Store

    with Opened(home, tenant, config) as parts:
        steps_of = Steps(parts, Store(parts.settings.store_folder))
        made, rows = steps_of.again(parts.tenant, case, step, operator=by)
    show_json({"again": made, "answer": rows}) if as_json else line(made.told)
    raise typer.Exit(0 if made.same or made.then is Then.SAME else OTHER)


def _question(kind: str, text: str, parameter: list[str] | None, days: int, limit: int) -> Question:
    from vedette.run.investigation.questions import Kind as Kinds
    from vedette.run.investigation.questions import Question

    if kind not in set(Kinds):
        raise DataError("questions.question.invalid", f"one of {', '.join(Kinds)} is asked", at="kind")
    return Question(kind=Kinds(kind), text=text, parameters=_values(parameter), days=days, limit=limit)


def _values(parameter: list[str] | None) -> dict[str, Any]:
    pairs = [each.partition("=") for each in parameter or ()]
    if bad := next((name for name, sign, _ in pairs if not sign or not name), None):
        raise DataError("searches.parameter.invalid", "a value is written name=value", at=bad[:64])
    return {name: value for name, _, value in pairs}


def _answer(parts: Opened, question: Question, case: str, by: str, *, search: str = "", as_json: bool) -> None:
    from vedette.run.investigation import questions
    from vedette.run.investigation.steps import Steps
    from vedette.sense.store import Store

    store = Store(parts.settings.store_folder)
    if case:
        step = Steps(parts, store).take(parts.tenant, case, question, operator=by, search=search)
        show_json(step) if as_json else line(f"step {step.id}: {step.rows:,} rows, sha256 {step.digest}")
        return
    answer = questions.ask(store, parts.tenant, question, now=parts.clock.now())
    show_json(answer) if as_json else _show(answer)


def _show(answer: Rows) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*(printable(name) for name in answer.columns))
    for row in answer.rows[:_SHOWN]:
        table.add_row(*(printable(str(row.get(name, "")))[:_CELL].replace("[", "\\[") for name in answer.columns))
    if answer.rows:
        Console().print(table)
    more = " and more" if answer.cut else ""
    line(f"{len(answer.rows):,} rows{more}, {min(len(answer.rows), _SHOWN)} shown; sha256 {answer.digest}")
