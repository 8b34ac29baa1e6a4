"""What is written on any day, whoever attacks."""

from __future__ import annotations

from typing import Protocol

from vedette.demo.world.charges import Charges
from vedette.demo.world.logs.book import Book
from vedette.demo.world.logs.web import WebLog
from vedette.demo.world.stage import Stage


class Log(Protocol):
    """A day of one source."""

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""


def daily_logs(stage: Stage, payments: Charges) -> list[Log]:
    """All of them."""
    return [WebLog(stage, payments)]
