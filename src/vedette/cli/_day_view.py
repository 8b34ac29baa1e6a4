"""What a person sees while a day is played: stages with their bars, then the day with its clock and counters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from vedette.core.clock import DAY, SystemClock, to_datetime
from vedette.core.render import printable
from vedette.demo.day import Record
from vedette.demo.staff import Desk
from vedette.demo.world.nouns import Answer

SPOKEN = 4
"""Deeds of the people on duty that are shown."""
_ACTIONS = (
    (Answer.CAPTURED, "captured", "green"),
    (Answer.CHALLENGED, "challenged", "yellow"),
    (Answer.BLOCKED, "blocked", "red"),
    (Answer.UNAUTHORIZED, "key ended", "magenta"),
)


class View(Protocol):
    """Where the demo tells how far it is."""

    def stage(self, name: str, note: str = "") -> None:
        """A new stage begins; the one before is done."""

    def report(self, what: str, done: int, total: int) -> None:
        """Progress inside the stage."""

    def note(self, text: str) -> None:
        """What the stage came to."""

    def day(self, record: Record, desk: Desk) -> None:
        """The day, five minutes on."""

    def said(self, text: str) -> None:
        """What somebody on duty did."""


class Lines:
    """For logs and programs: a line for each stage, and one for each two hours of the day.

    Args:
        console: Where to; the error stream, so that output stays clean.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = SystemClock()
        self._begun = self._clock.monotonic()
        self._hour = -1
        self._record: Record | None = None

    def stage(self, name: str, note: str = "") -> None:
        """See `View`."""
        self._say(f"{name}{f': {note}' if note else ''}")

    def report(self, what: str, done: int, total: int) -> None:
        """Nothing: a line for each step would hide the stages."""

    def note(self, text: str) -> None:
        """See `View`."""
        self._say(f"  {text}")

    def day(self, record: Record, desk: Desk) -> None:
        """See `View`."""
        now = to_datetime(record.now)
        if now.hour // 2 != self._hour:
            self._hour = now.hour // 2
            counts = f"{record.events:,} log records, {record.payments:,} payments"
            self._say(f"  {now:%H:%M}  {counts}, {desk.alerts:,} alerts, {desk.cases} cases")

    def said(self, text: str) -> None:
        """See `View`."""
        self._say(f"  {text}")

    def _say(self, text: str) -> None:
        spent = self._clock.monotonic() - self._begun
        self._console.print(f"{spent:6.1f}s  {printable(text)}", markup=False, highlight=False, soft_wrap=True)


class Screen:
    """For people: bars that move, and the day as a board.

    Args:
        live: Redraws what this shows.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._clock = SystemClock()
        # What is long is cut, so that it never pushes the bars off the screen.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=22),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}", table_column=rest),
            console=live.console,
            expand=True,
        )
        self._stage: TaskID | None = None
        self._record: Record | None = None
        self._desk: Desk | None = None
        self._spoken: list[tuple[int, str]] = []
        self._day_began = 0.0
        self._draw()

    def stage(self, name: str, note: str = "") -> None:
        """See `View`."""
        if self._stage is not None:
            self._bars.update(self._stage, total=1, completed=1)
            self._bars.stop_task(self._stage)
        self._stage = self._bars.add_task(name, total=None, note=note)

    def report(self, what: str, done: int, total: int) -> None:
        """See `View`."""
        if self._stage is not None:
            self._bars.update(self._stage, total=total, completed=done, note=what)

    def note(self, text: str) -> None:
        """See `View`."""
        if self._stage is not None:
            self._bars.update(self._stage, note=printable(text))

    def day(self, record: Record, desk: Desk) -> None:
        """See `View`."""
        if self._record is None:
            self._day_began = self._clock.monotonic()
        self._record, self._desk = record, desk
        if self._stage is not None:
            self._bars.update(self._stage, total=DAY, completed=(record.now - 1) % DAY, note="")
        self._draw()

    def said(self, text: str) -> None:
        """See `View`."""
        self._spoken.append((self._record.now if self._record else 0, printable(text)))
        self._draw()

    def finish(self) -> None:
        """The last stage is done."""
        if self._stage is not None:
            self._bars.update(self._stage, total=1, completed=1)
            self._bars.stop_task(self._stage)
        self._record = None
        self._draw()

    def _draw(self) -> None:
        board = [self._board(self._record, self._desk)] if self._record and self._desk else []
        self._live.update(Group(self._bars, *board))

    def _board(self, record: Record, desk: Desk) -> Panel:
        spent = max(self._clock.monotonic() - self._day_began, 0.001)
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column(justify="right", min_width=12)
        grid.add_row(*(_figure(f"{count:,}", name) for count, name in _counts(record, desk)))
        rate = f"{(record.events + record.payments) / spent:,.0f} events a second"
        actions = Text("   ").join(
            Text(f"{record.answers.get(answer, 0):,} {name}", style=colour) for answer, name, colour in _ACTIONS
        )
        parts: list[RenderableType] = [grid, Text(), actions, Text(rate, style="dim")]
        if desk.newest:
            parts.append(Text.assemble(("newest alert  ", "dim"), (printable(desk.newest), "bold yellow")))
        parts += [
            Text.assemble((f"{to_datetime(time):%H:%M}  ", "dim"), (text, "cyan"))
            for time, text in self._spoken[-SPOKEN:]
        ]
        return Panel(
            Group(*parts), title=f"[bold]{to_datetime(record.now):%A %d %B  %H:%M} UTC", border_style="blue", width=76
        )


def _counts(record: Record, desk: Desk) -> tuple[tuple[int, str], ...]:
    return (record.events, "log records"), (record.payments, "payments"), (desk.alerts, "alerts"), (desk.cases, "cases")


def _figure(value: str, name: str) -> Text:
    return Text.assemble((value, "bold"), f"\n{name}", justify="right")


@contextmanager
def watching(console: Console, *, live: bool) -> Iterator[View]:
    """A view until the block ends: a screen where a person watches, lines where nobody does."""
    if not live:
        yield Lines(console)
        return
    with Live(console=console, refresh_per_second=8, transient=False) as drawn:
        screen = Screen(drawn)
        yield screen
        screen.finish()


def for_people(seconds: float | None) -> str:
    """A span of time in words of a clock: `4 min 05 s`."""
    if seconds is None:
        return "-"
    whole = timedelta(seconds=round(seconds))
    minutes, rest = divmod(int(whole.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
