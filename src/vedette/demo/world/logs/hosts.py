"""Laptops and servers, as osquery reports them."""

from __future__ import annotations

from vedette.core.clock import MICROS
from vedette.demo.world.logs.book import Book
from vedette.demo.world.logs.columns import Columns
from vedette.demo.world.mint import generator
from vedette.demo.world.places import HOUR
from vedette.demo.world.stage import Stage

RESULTS = 52_000
"""Results on a day, at scale 1."""
LAPTOP = (
    ("mail", "/Applications/Mail"),
    ("browser", "/Applications/Browser"),
    ("chat", "/Applications/Chat"),
    ("zsh", "/bin/zsh"),
)
SERVER = (
    ("java", "/usr/bin/java"),
    ("nginx", "/usr/sbin/nginx"),
    ("cron", "/usr/sbin/cron"),
    ("sshd", "/usr/sbin/sshd"),
)
QUERIES = ("processes", "listening_ports", "logged_in_users")


class HostLog:
    """Results of scheduled queries."""

    def __init__(self, stage: Stage, scale: float) -> None:
        rng = generator(stage.seed, "hosts")
        self._hosts = [(person.laptop, person.email, LAPTOP) for person in stage.staff.people]
        self._hosts += [(server, "root", SERVER) for server in stage.staff.servers]
        count = max(200, round(RESULTS * scale))
        self._columns = Columns(
            rng.integers(0, 24 * HOUR, count),
            rng.integers(0, len(self._hosts), count),
            rng.choice(len(QUERIES), count, p=[0.7, 0.2, 0.1]),
            rng.integers(0, 4, count),
            rng.integers(300, 60_000, count),
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        lines = []
        for time, number, query, program, pid in self._columns.rows(begin, end):
            host, user, programs = self._hosts[number]
            name, path = programs[program]
            lines.append(
                (
                    time,
                    f'{{"name":"{QUERIES[query]}","hostIdentifier":"{host}","unixTime":"{book.epoch + time // MICROS}",'
                    f'"action":"added","columns":{{"name":"{name}","path":"{path}","cmdline":"{path}","pid":"{pid}",'
                    f'"username":"{user}"}}}}'.encode(),
                )
            )
        book.put("osquery", lines)
