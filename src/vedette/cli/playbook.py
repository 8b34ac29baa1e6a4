"""Check, plan, run, approve and show playbooks: durable answers to an alert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from vedette.act.approvals import Approval
from vedette.act.playbooks.loader import load_playbook
from vedette.act.playbooks.plan import PlannedStep, make_plan
from vedette.act.playbooks.playbook import Playbook, walk
from vedette.act.playbooks.responder import Responder, RunView, alert_scope, bind, run_identity
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.core.clock import MICROS, to_iso
from vedette.core.content import shipped
from vedette.core.errors import DataError

CHECK_EXAMPLES = """Example:

  vedette playbook check content/playbooks/*.yaml"""

RUN_EXAMPLES = """Examples:

  vedette playbook run content/playbooks/compromised_api_key.yaml --alert al_5f0c... --dry-run

  vedette playbook run content/playbooks/compromised_api_key.yaml --alert al_5f0c... --by ana --input account=m-17

The same alert and playbook version have one run: asked again, it goes on where it is."""

APPROVE_EXAMPLES = """Examples:

  vedette playbook approve run_5f0c... --by bob

  vedette playbook approve run_5f0c... --by bob --deny --reason "the key is ours"

The approver is neither the requester nor the owner of the rule or the playbook."""

SHOW_EXAMPLES = """Example:

  vedette playbook show run_5f0c... --json"""

LIST_EXAMPLES = """Example:

  vedette playbook list --limit 10 --json"""

Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
By = Annotated[str, typer.Option(envvar=["VEDETTE_OPERATOR", "USER"], help="Who is acting.")]
Wait = Annotated[float, typer.Option(min=0, max=3_600, help="Seconds to follow the run.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="playbook", no_args_is_help=True, help=__doc__, epilog=RUN_EXAMPLES)
    verb.command("check", epilog=CHECK_EXAMPLES)(check)
    verb.command("run", epilog=RUN_EXAMPLES)(run)
    verb.command("approve", epilog=APPROVE_EXAMPLES)(approve)
    verb.command("show", epilog=SHOW_EXAMPLES)(show)
    verb.command("list", epilog=LIST_EXAMPLES)(list_runs)
    app.add_typer(verb)


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Playbooks.")], *, as_json: AsJson = False
) -> None:
    """Check playbooks and name every problem with its place."""
    books = [load_playbook(path) for path in files]
    if as_json:
        show_json([{"id": book.id, "version": book.version, "digest": book.digest} for book in books])
        return
    for path, book in zip(files, books, strict=True):
        line(f"{path}: {book.id} version {book.version}, {len(list(walk(book.steps)))} steps, no problem")


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The playbook, or the id of a shipped one.")],
    *,
    alert: Annotated[str, typer.Option(help="Id of the alert it answers.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=VALUE; repeat it.")] = None,
    by: By = "",
    author: Annotated[list[str] | None, typer.Option(help="Owner of the alert's rule: may not approve.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    wait: Wait = 60.0,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Answer an alert with a playbook; goes on until it waits for an approval or is done."""
    book = load_playbook(_shipped(file))
    given = _inputs(inputs or [])
    with Opened(home, tenant, config) as parts:
        if dry_run:
            _plan(parts, book, alert, given, by, as_json=as_json)
            return
        with parts.execute() as (runs, _executing):
            responder = parts.responder_on(runs)
            owners = tuple(author or ())
            view = responder.start(parts.tenant, book, alert, requester=_person(by), inputs=given, authors=owners)
            view = _follow(responder, runs, parts.tenant, view.id, wait)
    _show(view, as_json=as_json)


def _shipped(file: Path) -> Path:
    """The file itself, or the shipped playbook of that id when there is no such file."""
    known = shipped("playbooks") / f"{file.name}.yaml"
    return known if file.name == str(file) and not file.exists() and known.is_file() else file


def approve(
    run: Run,
    *,
    by: By = "",
    deny: Annotated[bool, typer.Option("--deny", help="Refuse instead.")] = False,
    seen: Annotated[str, typer.Option("--hash", help="Hash of the request you looked at.")] = "",
    reason: Annotated[str, typer.Option(help="Your own words.")] = "",
    wait: Wait = 60.0,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Approve or deny what a run waits for; then it goes on."""
    with Opened(home, tenant, config) as parts:
        with parts.watch() as runs:
            parts.responder_on(runs).decide(
                parts.tenant, run, by=_person(by), approve=not deny, seen=seen, reason=reason
            )
        with parts.execute() as (runs, _executing):
            view = _follow(parts.responder_on(runs), runs, parts.tenant, run, wait)
    _show(view, as_json=as_json)


def show(run: Run, *, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show a run: its steps, what it waits for, how it ended."""
    with Opened(home, tenant, config) as parts, parts.watch() as runs:
        view = parts.responder_on(runs).show(parts.tenant, run)
    _show(view, as_json=as_json)


def list_runs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with Opened(home, tenant, config) as parts, parts.watch() as runs:
        views = parts.responder_on(runs).find(parts.tenant, limit=limit)
    if as_json:
        show_json(views)
        return
    for view in views:
        line(f"{view.id}  {view.state:<10} {view.playbook} v{view.version}  alert {view.alert_id}  by {view.requester}")


def _person(by: str) -> str:
    if not by.strip():
        raise DataError("playbook.operator.missing", "say who is acting", hint="--by NAME")
    return by


def _inputs(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if any(not (name and sign) for name, sign, _value in split):
        raise DataError("playbook.input.invalid", "an input is written NAME=VALUE")
    return {name: value for name, _sign, value in split}


def _follow(responder: Responder, runs: Any, tenant: str, run_id: str, wait: float) -> RunView:
    def rests(_run: object) -> bool:
        view = responder.show(tenant, run_id)
        # The request is stored a moment before the run has recorded that, and only then does it wait.
        asked = f"{view.approval.step}.request" if view.approval else ""
        return view.state not in ("queued", "running") and (not asked or asked in {step.name for step in view.steps})

    runs.wait(run_id, timeout_s=wait, until=rests)
    return responder.show(tenant, run_id)


def _plan(parts: Opened, book: Playbook, alert_id: str, given: dict[str, str], by: str, *, as_json: bool) -> None:
    alert = alert_scope(parts.alerts.get(parts.tenant, alert_id))
    run_id = run_identity(parts.tenant, alert_id, book)
    steps = make_plan(
        book,
        tenant=parts.tenant,
        run_id=run_id,
        requester=by,
        alert=alert,
        inputs=bind(book, alert, given),
        actions=parts.actions,
    )
    if as_json:
        show_json({"run": run_id, "playbook": book.id, "version": book.version, "steps": steps})
        return
    line(f"plan of {book.id} version {book.version} for alert {alert_id}; nothing is done")
    for number, step in enumerate(steps, 1):
        for text in _planned(step):
            line(f"{number:>3}  {text}" if text.startswith(("  " * step.depth) + step.id) else f"     {text}")


def _planned(step: PlannedStep) -> list[str]:
    pad = "  " * step.depth
    branch = f" ({step.branch})" if step.branch else ""
    lines = [f"{pad}{step.id}{branch}: {step.action or step.type}"]
    if step.text:
        lines.append(f"{pad}  {step.text}")
    lines += [f"{pad}  {name} = {value}" for name, value in step.arguments.items()]
    if step.needs_approval:
        lines.append(f"{pad}  only when `{step.needs_approval}` is approved")
    if step.covers:
        lines.append(f"{pad}  asks about {', '.join(step.covers)}; waits {span(round(step.deadline_s * MICROS))}")
    if step.condition is not None:
        holds = {True: "holds", False: "does not hold", None: "known when the run is there"}[step.holds]
        lines.append(f"{pad}  {msgspec.json.encode(step.condition).decode()}: {holds}")
    if step.preview is not None:
        lines.append(f"{pad}  touches {msgspec.json.encode(step.preview).decode()}")
    if step.problem:
        lines.append(f"{pad}  would fail: {step.problem}")
    return lines


def _show(view: RunView, *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    line(f"{view.id}  {view.state}  {view.playbook} version {view.version}")
    line(f"alert {view.alert_id}, case {view.case_id}, asked for by {view.requester}")
    for step in view.steps:
        output = step.output if isinstance(step.output, dict) else {}
        code = output.get("code") or "done"
        line(f"  {to_iso(step.ended_time)} {step.name}: {code}")
    if view.approval:
        _ask(view.approval)
    if view.error:
        line(f"error {view.error}")


def _ask(approval: Approval) -> None:
    line(f"waits for an approval until {to_iso(approval.deadline)}: {approval.title}")
    for action in approval.actions:
        arguments = " ".join(f"{name}={value!r}" for name, value in action.arguments.items())
        line(f"  {action.action} {arguments}")
        if action.preview is not None:
            line(f"    touches {msgspec.json.encode(action.preview).decode()}")
    line(f"  hash {approval.hash}")
    line(f"  vedette playbook approve {approval.run_id} --by NAME")
