"""An office moves: all who work there sign in from an address never seen before, and many mistype on new keyboards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from vedette.demo.world.deeds import Line
from vedette.demo.world.logs.identity import FACTOR, START, signed
from vedette.demo.world.places import HOUR, MINUTE
from vedette.demo.world.player import Scripted
from vedette.demo.world.staff import Employee


class OfficeMove(Scripted):
    """One address, many people, many wrong passwords: but each then comes in with a second factor."""

    kind: ClassVar[str] = "office_move"
    honest: ClassVar[bool] = True

    def lines(self) -> Iterable[Line]:
        """The morning."""
        address = self.stage.staff.offices[1]
        self.own(f"ip:{address}")
        for person in self.stage.staff.people:
            if person.office == 1 and not person.remote:
                yield from self._sign_in(person, address)

    def _sign_in(self, person: Employee, address: str) -> Iterable[Line]:
        time = int(self.rng.normal(8.6, 0.5) * HOUR)
        for _ in range(int(self.rng.choice(3, p=[0.45, 0.4, 0.15]))):
            yield Line(time, "identity", signed(self.props.mint.uuid(), person, START, address, failed=True))
            time += MINUTE // 3
        for kind in (START, FACTOR):
            yield Line(time, "identity", signed(self.props.mint.uuid(), person, kind, address))
            time += MINUTE // 6
