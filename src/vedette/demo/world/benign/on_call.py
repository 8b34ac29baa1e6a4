"""On call at three in the morning: an engineer reads secrets and customers' records because something is broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from vedette.demo.world.deeds import Line
from vedette.demo.world.logs.cloud import called
from vedette.demo.world.logs.identity import FACTOR, START, signed
from vedette.demo.world.logs.product import viewed
from vedette.demo.world.places import HOUR, MINUTE
from vedette.demo.world.player import Scripted
from vedette.demo.world.staff import Employee

CALLS = (
    ("logs.amazonaws.com", "FilterLogEvents"),
    ("ecs.amazonaws.com", "DescribeServices"),
    ("secretsmanager.amazonaws.com", "GetSecretValue"),
    ("ecs.amazonaws.com", "UpdateService"),
    ("secretsmanager.amazonaws.com", "GetSecretValue"),
    ("logs.amazonaws.com", "FilterLogEvents"),
)


class OnCall(Scripted):
    """From home, with a second factor and an incident's number on everything."""

    kind: ClassVar[str] = "on_call"
    honest: ClassVar[bool] = True

    def _person(self) -> Employee:
        staff = self.stage.staff.of("engineer")
        person = staff[int(self.rng.integers(len(staff)))]
        self.own(f"user:{person.email}", f"user:{person.arn}", f"device:{person.laptop}")
        return person

    def lines(self) -> Iterable[Line]:
        """The night."""
        person = self._person()
        incident = f"INC-{self.rng.integers(1_000, 9_999)}"
        time = 3 * HOUR + int(self.rng.integers(-40, 40)) * MINUTE
        home, mint = person.home, self.props.mint
        for kind in (START, FACTOR):
            yield Line(time, "identity", signed(mint.uuid(), person, kind, home))
            time += MINUTE // 3
        opened = {"id": mint.id("evt"), "type": "emergency_access.opened", "user": person.email, "ticket": incident}
        yield Line(time, "product", {**opened, "ip": home, "device": person.laptop})
        for service, call in CALLS:
            time += int(self.rng.exponential(3 * MINUTE))
            secret = f"prod/ledger/{self.rng.choice(['database', 'queue'])}"
            wants = {"secretId": secret} if call == "GetSecretValue" else None
            record = called(mint.uuid(), person.arn, service, call, address=home, wants=wants)
            yield Line(time, "cloudtrail", record)
        for _ in range(int(self.rng.integers(18, 40))):
            time += int(self.rng.exponential(MINUTE))
            customer = self.stage.customers.ids[int(self.rng.integers(len(self.stage.customers)))]
            record = {**viewed(mint.id("evt"), person, customer, home), "ticket": incident}
            yield Line(time, "product", record)
