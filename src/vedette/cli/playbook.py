"""Check, plan, run, approve and show playbooks: durable answers to an alert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from vedette.act.approvals import Approval
from vedette.act.playbooks.checks import near
from vedette.act.playbooks.loader import load_playbook
from vedette.act.playbooks.plan import PlannedStep, plan_for, radius
from vedette.act.playbooks.playbook import Playbook, walk
from vedette.act.playbooks.replay import replay_runs
from vedette.act.playbooks.responder import Responder, RunView, run_identity
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.core.clock import MICROS, to_iso
from vedette.core.content import shipped
from vedette.core.errors import DataError, NotFoundError

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

CANCEL_EXAMPLES = """Example:

  vedette playbook cancel run_5f0c..."""

RESUME_EXAMPLES = """Example:

  vedette playbook resume run_5f0c..."""

RERUN_EXAMPLES = """Example:

  vedette playbook rerun run_5f0c... --from freeze --by ana

What the steps before `--from` found is carried into the new run and not done again."""

REPLAY_EXAMPLES = """Examples:

  vedette playbook replay

  vedette playbook replay run_5f0c... --json

Walks recorded runs with the program of now, doing nothing. Exit code 1 when one of them would go another way: before an
update, that is a run that would not survive it."""

ACTIONS_EXAMPLES = """Examples:

  vedette playbook actions

  vedette playbook actions okta_suspend_user --json"""

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
    verb.command("cancel", epilog=CANCEL_EXAMPLES)(cancel)
    verb.command("resume", epilog=RESUME_EXAMPLES)(resume)
    verb.command("rerun", epilog=RERUN_EXAMPLES)(rerun)
    verb.command("replay", epilog=REPLAY_EXAMPLES)(replay)
    verb.command("actions", epilog=ACTIONS_EXAMPLES)(list_actions)
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
    given = _inputs(inputs or [])
    with Opened(home, tenant, config) as parts:
        book = load_playbook(_shipped(file), parts.signatures)
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
    step: Annotated[str, typer.Option(help="Which of several that the run asks for.")] = "",
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
                parts.tenant, run, by=_person(by), approve=not deny, seen=seen, step=step, reason=reason
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
    state: Annotated[
        list[str] | None, typer.Option(help="Only these, such as waiting, failed or overdue; repeat it.")
    ] = None,
    playbook: Annotated[str, typer.Option(help="Only the runs of this playbook.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with Opened(home, tenant, config) as parts, parts.watch() as runs:
        views = parts.responder_on(runs).find(parts.tenant, playbook=playbook, states=state or (), limit=limit)
    if as_json:
        show_json(views)
        return
    for view in views:
        about = f"alert {view.alert_id}" if view.alert_id else str(view.trigger.get("type", ""))
        late = f"  overdue at {view.overdue}" if view.overdue else ""
        error = f"  {view.error}" if view.error else ""
        name = f"{view.playbook} v{view.version}"
        line(f"{view.id}  {view.state:<10} {name}  {about}  by {view.requester}{late}{error}")


def cancel(run: Run, *, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """Stop a run before its next step; what it did stays done."""
    with Opened(home, tenant, config) as parts, parts.watch() as runs:
        view = parts.responder_on(runs).cancel(parts.tenant, run)
    _show(view, as_json=as_json)


def resume(
    run: Run,
    *,
    wait: Wait = 60.0,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a cancelled or stuck run go on."""
    with Opened(home, tenant, config) as parts, parts.execute() as (runs, _executing):
        responder = parts.responder_on(runs)
        responder.resume(parts.tenant, run)
        view = _follow(responder, runs, parts.tenant, run, wait)
    _show(view, as_json=as_json)


def rerun(
    run: Run,
    *,
    step: Annotated[str, typer.Option("--from", help="Id of the step to begin at.")],
    by: By = "",
    wait: Wait = 60.0,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Begin a run that is over again from a step, as a new run."""
    with Opened(home, tenant, config) as parts, parts.execute() as (runs, _executing):
        responder = parts.responder_on(runs)
        fresh = responder.rerun(parts.tenant, run, step=step, requester=_person(by))
        view = _follow(responder, runs, parts.tenant, fresh.id, wait)
    _show(view, as_json=as_json)


def replay(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids of runs; none: the newest.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Walk recorded runs with the program of now, doing nothing, and tell where it would go another way."""
    with Opened(home, tenant, config) as parts, parts.watch() as runs:
        responder = parts.responder_on(runs)
        ids = [responder.show(parts.tenant, each).id for each in run or ()]
        ids = ids or [view.id for view in responder.find(parts.tenant, limit=limit)]
        found = replay_runs(parts.world, runs, list(runs.find(ids).values()))
    if as_json:
        show_json(found)
    else:
        for each in found:
            how = each.divergence or ("the same to its end" if each.finished else "the same so far")
            line(f"{each.run_id}  {each.operations} operations: {how}")
        line(f"{len(found)} replayed, {sum(bool(each.divergence) for each in found)} would go another way")
    if any(each.divergence for each in found):
        raise typer.Exit(1)


def list_actions(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One action.")] = "",
    *,
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List what playbooks can do here: shipped actions, and those in the files of `actions/` under home."""
    with Opened(home, "", config) as parts:
        known = parts.signatures
    if name and name not in known:
        raise NotFoundError("action.unknown", "no such action", hint=near(name, known), at=name[:64])
    chosen = [known[name]] if name else [known[each] for each in sorted(known)]
    if as_json:
        show_json([msgspec.to_builtins(each, enc_hook=lambda kind: kind.__name__) for each in chosen])
        return
    for each in chosen:
        mark = "approval" if each.drastic else ""
        line(f"{each.name:<24} {mark:<9} {each.text}")
        if name:
            for key, spec in each.arguments.items():
                kind = "name of a secret" if spec.secret else spec.type.__name__
                line(f"  {key}: {kind}{'' if spec.required else ', may be left out'}")
            line(
                f"  touches {', '.join(each.touches) or 'nothing that is counted'}; a repeat is told by {each.repeats}"
            )
            line(f"  scopes {', '.join(each.scopes) or 'none'}; taken back by {each.undo or 'nothing'}")


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
    alert = parts.alerts.get(parts.tenant, alert_id)
    steps = plan_for(alert, book, tenant=parts.tenant, requester=by, given=given, actions=parts.actions)
    blast = radius(steps, book.caps)
    if as_json:
        show_json(
            {
                "run": run_identity(parts.tenant, alert_id, book),
                "playbook": book.id,
                "version": book.version,
                "steps": steps,
                "blast": blast,
            }
        )
        return
    line(f"plan of {book.id} version {book.version} for alert {alert_id}; nothing is done")
    for number, step in enumerate(steps, 1):
        for text in _planned(step):
            line(f"{number:>3}  {text}" if text.startswith(("  " * step.depth) + step.id) else f"     {text}")
    listed = "; ".join(f"{kind} {', '.join(things)}" for kind, things in blast.touches.items() if things)
    line(f"blast radius: {listed or 'nothing that is known by now'}")
    if blast.problem:
        line(f"would be stopped: {blast.problem}")


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
    about = f"alert {view.alert_id}" if view.alert_id else f"started by {view.trigger.get('type', 'hand')}"
    line(f"{about}, case {view.case_id or 'none'}, asked for by {view.requester}")
    for step in view.steps:
        output = step.output if isinstance(step.output, dict) else {}
        code = output.get("code") or "done"
        line(f"  {to_iso(step.ended_time)} {step.name}: {code}")
    for asked in view.approvals:
        _ask(asked)
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
    step = f" --step {approval.step}" if "/" in approval.step or approval.listener else ""
    line(f"  vedette playbook approve {approval.run_id} --by NAME{step}")
