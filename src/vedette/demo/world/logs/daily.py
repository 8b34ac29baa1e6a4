"""What is written on any day, whoever attacks."""

from __future__ import annotations

from typing import Protocol

from vedette.demo.world.charges import Charges
from vedette.demo.world.logs.book import Book
from vedette.demo.world.logs.cloud import EngineerLog, ProgramLog
from vedette.demo.world.logs.hosts import HostLog
from vedette.demo.world.logs.identity import IdentityLog
from vedette.demo.world.logs.product import CustomerLog, KeyLog, ViewLog
from vedette.demo.world.logs.web import WebLog
from vedette.demo.world.stage import Stage


class Log(Protocol):
    """A day of one kind of records."""

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""


def daily_logs(stage: Stage, payments: Charges, *, scale: float) -> list[Log]:
    """All of them."""
    by_payment: list[Log] = [make(stage, payments) for make in (WebLog, CustomerLog, KeyLog, ViewLog)]
    return [*by_payment, IdentityLog(stage), EngineerLog(stage), ProgramLog(stage, scale), HostLog(stage, scale)]
