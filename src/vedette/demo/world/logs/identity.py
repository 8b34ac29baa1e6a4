"""The identity provider: staff who sign in, prove a second factor and open applications."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.demo.world.logs.book import Book
from vedette.demo.world.logs.columns import Columns
from vedette.demo.world.mint import generator, make_uuids
from vedette.demo.world.places import HOUR, MINUTE
from vedette.demo.world.staff import Employee
from vedette.demo.world.stage import Stage

START, FACTOR, SSO, END = (
    "user.session.start",
    "user.authentication.auth_via_mfa",
    "user.authentication.sso",
    "user.session.end",
)
APPS = ("Cloud console", "Support desk", "Code host", "Ledger admin", "Chat", "Mail", "Wiki", "Payroll")
OPENED = 11
"""Applications that somebody opens in a shift."""
WRONG = 0.06
"""Share of people who first type a wrong password."""
AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) Browser/17.4"


class IdentityLog:
    """A day of sign-ins."""

    def __init__(self, stage: Stage) -> None:
        rng = generator(stage.seed, "sign-ins")
        self._people = [person for person in stage.staff.people if rng.random() < 0.88]
        self._stage = stage
        rows: list[tuple[int, int, str, int]] = []
        for number, person in enumerate(self._people):
            at = person.begins * HOUR + int(rng.normal(0, 14) * MINUTE)
            if rng.random() < WRONG:
                rows.append((at - MINUTE // 2, number, START, -1))
            rows += [(at, number, START, 0), (at + MINUTE // 4, number, FACTOR, 0)]
            opened = (at + rng.integers(MINUTE, 8 * HOUR, rng.poisson(OPENED))).tolist()
            rows += [(time, number, SSO, int(rng.integers(len(APPS)))) for time in opened]
            rows.append((at + 8 * HOUR, number, END, 0))
        time, who, kind, app = zip(*rows, strict=True)
        ids = make_uuids(rng, len(rows))
        self._columns = Columns(np.array(time) % (24 * HOUR), np.array(who), list(kind), np.array(app), ids)

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        for time, who, kind, app, name in self._columns.rows(begin, end):
            person = self._people[who]
            record = signed(name, person, kind, self._stage.staff.address(person), failed=app < 0)
            if kind == SSO:
                record["target"].append({"alternateId": APPS[app], "type": "AppInstance"})
            book.note(time, "identity", record)


def signed(
    name: str, person: Employee, kind: str, address: str, *, failed: bool = False, reason: str = "", agent: str = AGENT
) -> dict[str, Any]:
    """Something that somebody did at the identity provider."""
    outcome = {"result": "FAILURE" if failed else "SUCCESS"}
    if failed or reason:
        outcome["reason"] = reason or "INVALID_CREDENTIALS"
    return {
        "uuid": name,
        "eventType": kind,
        "actor": {"id": person.uid, "alternateId": person.email, "displayName": person.name, "type": "User"},
        "client": {"ipAddress": address, "userAgent": {"rawUserAgent": agent}},
        "outcome": outcome,
        "target": [{"alternateId": person.email, "type": "User"}],
    }
