"""Play a day at a payments company: attacks, decisions, a case; then the score board and the console."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from vedette.cli._board import show_board
from vedette.cli._day_view import View, watching
from vedette.cli._stage import Visitor, give_badges, hire, learn, welcome, write_history
from vedette.core.clock import DAY, SystemClock, from_datetime, to_datetime
from vedette.core.content import shipped
from vedette.core.errors import DataError
from vedette.demo.clock import DayClock
from vedette.demo.day import Day, Record
from vedette.demo.folder import Folder, check_folder, make_folder
from vedette.demo.opening import make_keys
from vedette.demo.score import ScoreBoard, read_answers, score
from vedette.demo.served import Plan
from vedette.demo.server import serving
from vedette.demo.staff import Badges, Staff
from vedette.demo.wire import Wire, free
from vedette.demo.world import World
from vedette.sense.features.definition import load_features

HOST = "127.0.0.1"
FEATURES = shipped("features") / "charges.yaml"
RULES = shipped("rules/payment") / "charges.yaml"
CODES = 4
"""Approval codes that are shown."""
BEFORE = 3_600_000_000
"""People and keys are made an hour before midnight, microseconds."""
INVITATION = """The password lets you in once, to choose your own; each code confirms one approval.
A merchant's payouts wait for your decision. Ctrl-C ends the demo."""
EXAMPLES = """Examples:

  vedette demo                            # a few minutes, then the console on http://127.0.0.1:8700

  vedette demo --seed 7 --no-serve        # another day; the score board only

  vedette demo --no-serve --json          # the score board as one JSON object

Everything is made from the seed and goes through the product's own routes. Ctrl-C ends it."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="demo", epilog=EXAMPLES)(demo)


def demo(
    *,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same day.")] = 1,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the score board.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the score board as one JSON object.")] = False,
    scale: Annotated[float, typer.Option(min=0.005, max=2.0, help="Size of the company; 1 is 100,000 cards.")] = 1.0,
    day: Annotated[str, typer.Option("--date", metavar="DATE", help="Day to play, UTC; yesterday by default.")] = "",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder; an earlier demo's is replaced.")] = Path(
        ".vedette/demo"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the console; 0 takes a free one.")] = 8700,
) -> None:
    """Play a day at a payments company: attacks, decisions, a case; then the score board and the console."""
    midnight = to_midnight(day)
    check_folder(out)
    if port and not free(HOST, port):
        raise DataError(
            "demo.port.used", "something listens there already", hint="name another with --port", at=f"{HOST}:{port}"
        )
    told = Console(stderr=True)
    with stopping():
        try:
            _run(told, World(seed, midnight, scale), midnight, out, port, serve=not no_serve, as_json=as_json)
        except KeyboardInterrupt:
            told.print("stopped; what was made is in", str(out), style="dim")
            raise typer.Exit(130) from None


def to_midnight(text: str) -> datetime:
    """Midnight UTC of an ISO date; of yesterday when there is none.

    Raises:
        DataError: `demo.date.invalid`.
    """
    if not text:
        return to_datetime((SystemClock().now() // DAY - 1) * DAY)
    try:
        chosen = date.fromisoformat(text)
    except ValueError as error:
        raise DataError("demo.date.invalid", f"`{text:.40}` is no date", hint="write 2026-11-20") from error
    midnight = datetime(chosen.year, chosen.month, chosen.day, tzinfo=UTC)
    if from_datetime(midnight) + DAY > SystemClock().now():
        raise DataError("demo.date.future", "the day is not over yet", hint="choose one before today", at=text)
    return midnight


def _run(told: Console, world: World, midnight: datetime, out: Path, port: int, *, serve: bool, as_json: bool) -> None:
    folder = make_folder(out)
    clock = DayClock(folder.clock)
    clock.set(from_datetime(midnight) - BEFORE)
    with ExitStack() as stack:
        with watching(told, live=told.is_terminal and not as_json) as view:
            plan = _prepare(view, world, folder, midnight, port)
            crew = hire(folder, clock)
            view.stage("start", "the service loads the model and its features")
            listening = stack.enter_context(serving(plan, out))
            wire = Wire(HOST, listening)
            stack.callback(wire.close)
            view.stage("the day", f"{midnight:%A %d %B %Y}")
            badges = give_badges(folder, clock, crew)
            staff = Staff(wire, badges, view.said)
            record = _play(view, world, wire=wire, clock=clock, badges=badges, staff=staff)
            board = _score(world, wire, badges, record, folder)
            view.stage("close", "the clock goes on with real time")
            clock.release()
            Staff(wire, give_badges(folder, SystemClock(), crew), view.said).hand_over(SystemClock().now())
            visitor = welcome(folder, SystemClock(), crew)
        _show(board, as_json=as_json)
        if serve:
            _invite(told, listening, visitor)
            with suppress(KeyboardInterrupt):
                _wait()
            told.print("the demo ends; what it made is in", str(out), style="dim")


def _prepare(view: View, world: World, folder: Folder, midnight: datetime, port: int) -> Plan:
    view.stage("history", "sixty days of payments")
    count = write_history(world, folder)
    view.note(f"{count:,} payments of sixty days")
    view.stage("model", "training")
    learned = learn(folder, load_features(FEATURES), midnight, view.report)
    quality = learned.quality
    found = f"finds {quality['recall_at_fpr']['0.01']:.0%} of the fraud at 1 % false alarms"
    view.note(f"{found}; {learned.filled.entities:,} entities known")
    return Plan(
        home=folder.home,
        clock=folder.clock,
        model=folder.model,
        rules=RULES,
        sigma=(shipped("rules/sigma"),),
        host=HOST,
        port=port,
    )


def _play(view: View, world: World, *, wire: Wire, clock: DayClock, badges: Badges, staff: Staff) -> Record:
    passes, ids = make_keys(wire, badges.admin, world.keys())
    world.bind(ids)
    day = Day(
        world,
        wire=wire,
        clock=clock,
        passes=passes,
        staff=staff,
        tell=lambda record: view.day(record, staff.desk),
    )
    return day.play()


def _score(world: World, wire: Wire, badges: Badges, record: Record, folder: Folder) -> ScoreBoard:
    def get(path: str) -> Any:
        return wire.get(path, bearer=badges.responder)

    answers = read_answers(get, events=record.events, paid=record.paid, latencies=record.latencies)
    world.write_truth(folder.truth)
    board = score(folder.truth, answers, seed=world.seed)
    folder.score.write_bytes(msgspec.json.encode(board))
    return board


def _show(board: ScoreBoard, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(board).decode())
    else:
        show_board(Console(), board)


def _invite(told: Console, port: int, visitor: Visitor) -> None:
    text = Text("The console is open: ").append(f"http://{HOST}:{port}\n", "bold underline")
    shown = (
        ("name", visitor.login),
        ("one-time password", visitor.password),
        ("approval codes", "  ".join(visitor.codes[:CODES])),
    )
    for name, value in shown:
        text.append(f"\n{name:<19}", "dim").append(value, "bold")
    text.append(f"\n\n{INVITATION}", "dim")
    told.print(Panel(text, border_style="blue", padding=1, width=100))


def _wait() -> None:
    """Until somebody interrupts."""
    while True:
        signal.pause()


@contextmanager
def stopping() -> Iterator[None]:
    """A request to end ends the demo as Ctrl-C does, so that nothing it started is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
