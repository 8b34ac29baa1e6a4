"""The score board as people read it."""

from __future__ import annotations

from collections import Counter

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vedette.cli._day_view import for_people
from vedette.core.render import printable
from vedette.demo.score import Found, ScoreBoard

WIDTH = 100
_NAMES = {
    "card_testing": "Card testing",
    "account_takeover": "Account takeover",
    "refund_abuse": "Refund abuse",
    "bust_out": "Merchant bust-out",
    "insider": "Insider reading customers",
    "stolen_key": "Stolen API key",
    "password_spray": "Password spray",
}


def show_board(console: Console, board: ScoreBoard) -> None:
    """Prints the board."""
    parts = Group(_figures(board), _volume(board), Text(), _attacks(board), Text(), _unusual(board))
    title = f"[bold]Score board[/]  seed {board.seed}"
    console.print(Panel(parts, title=title, border_style="green", width=WIDTH, padding=1))


def _figures(board: ScoreBoard) -> Table:
    found = sum(attack.found for attack in board.attacks)
    figures = (
        (f"{found} of {len(board.attacks)}", "attacks found", "green"),
        (f"{board.precision:.0%}", "of alerts were right", "green"),
        (_money(board.money_saved_minor, board.currency), "saved", "green"),
        (_money(board.money_lost_minor, board.currency), "lost", "red"),
        (f"{board.good_users_hurt:.2%}", "good customers hurt", "yellow"),
        (for_people(board.time_to_detect_s), "to detect", "cyan"),
        (for_people(board.time_to_contain_s), "to contain the key", "cyan"),
        (f"{board.latency_ms.p50:.0f} / {board.latency_ms.p99:.0f} ms", "latency p50 / p99", "cyan"),
    )
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(4):
        table.add_column(ratio=1)
    for start in range(0, len(figures), 4):
        table.add_row(
            *(
                Text.assemble((value, f"bold {colour}"), f"\n{name}\n")
                for value, name, colour in figures[start : start + 4]
            )
        )
    return table


def _volume(board: ScoreBoard) -> Text:
    counts = (
        f"{board.events:,} log records",
        f"{board.payments:,} payments",
        f"{board.alerts:,} alerts",
        f"{board.cases} cases",
    )
    return Text(" · ".join(counts), style="dim")


def _attacks(board: ScoreBoard) -> Table:
    table = Table("attack", "", "detected after", "stopped", "found by", box=None, header_style="dim", expand=True)
    for number in (2, 3):
        table.columns[number].justify = "right"
    for attack in sorted(board.attacks, key=lambda one: (one.kind, one.id)):
        mark = Text("found", style="green") if attack.found else Text("missed", style="red")
        table.add_row(
            _NAMES.get(attack.kind, attack.kind),
            mark,
            for_people(attack.seconds),
            f"{attack.stopped} of {attack.payments}" if attack.payments else "",
            Text(printable(_by(attack)), overflow="ellipsis", no_wrap=True),
        )
    return table


def _by(attack: Found) -> str:
    contained = f" · contained after {for_people(attack.contained_s)}" if attack.contained_s is not None else ""
    return f"{attack.by}{contained}"


def _unusual(board: ScoreBoard) -> Text:
    quiet = Counter(_named(one.kind) for one in board.unusual if not one.alerts)
    loud = Counter(_named(one.kind) for one in board.unusual if one.alerts)
    parts = [("odd but honest, and left alone: ", quiet), ("alerts about honest: ", loud)]
    return Text("; ".join(f"{told}{_counted(names)}" for told, names in parts if names), style="dim")


def _named(kind: str) -> str:
    return kind.replace("_", " ")


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())


def _money(minor: int, currency: str) -> str:
    return f"{minor / 100:,.0f} {currency}"
