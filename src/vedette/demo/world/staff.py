"""People and programs of the company: roles, machines, shifts, what they may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from vedette.demo.world.mint import generator
from vedette.demo.world.places import FIRST_OCTET

DOMAIN: Final = "northpay.example"
ACCOUNT: Final = "483920175566"
REGION: Final = "eu-west-1"
_FIRST: Final = (
    "amina bruno chen dagny emeka farah goran hana ines jonas kofi lena mateo nadia omar priya quentin rosa sven tariq "
    "uma viktor wanda xavier yara zeno alva bodil ciara dario elif femi greta hugo ida joon kaia luca mira niko"
).split()
_LAST: Final = (
    "okafor lindqvist moreau tanaka silva novak haddad berg rossi kaya ortiz petrov quinn walsh zhang".split()
)
ROLES: Final = {"support": 60, "engineer": 40, "operations": 14, "risk": 12, "finance": 10, "sales": 16, "executive": 8}
_SHIFTS: Final = {"support": (6, 14, 21), "operations": (6, 14, 22), "engineer": (8,), "risk": (7, 9)}
ROBOTS: Final = ("deploy", "backup", "autoscaler", "inventory")
SERVICES: Final = ("payments-api", "ledger", "webhooks", "reports", "onboarding")


class Employee(NamedTuple):
    """Somebody who works here."""

    name: str
    email: str
    role: str
    begins: int
    """First hour of the shift, UTC; it has eight."""
    laptop: str
    home: str
    """Address at home."""
    remote: bool
    uid: str
    """At the identity provider."""
    office: int
    """Which of the offices."""

    @property
    def arn(self) -> str:
        """In the cloud: a session of the role's permission set."""
        return f"arn:aws:sts::{ACCOUNT}:assumed-role/sso-{self.role}/{self.email}"


@dataclass(frozen=True, slots=True)
class Staff:
    """All of them, and the addresses of the offices."""

    people: tuple[Employee, ...]
    offices: tuple[str, ...]
    """The second one moves on the day: this is its new address."""
    servers: tuple[str, ...]

    def address(self, person: Employee) -> str:
        """Where somebody works from today."""
        return person.home if person.remote else self.offices[person.office]

    def of(self, *roles: str) -> list[Employee]:
        """Who has one of the roles."""
        return [person for person in self.people if person.role in roles]


def make_staff(seed: int) -> Staff:
    """The staff of a seed; as many whatever the scale, since few people run a company of many payments."""
    rng = generator(seed, "staff")
    names = [f"{first}.{last}" for first in _FIRST for last in _LAST]
    rng.shuffle(names)
    people = [_employee(rng, names.pop(), role) for role, count in ROLES.items() for _ in range(count)]
    offices = tuple(f"{FIRST_OCTET}.{a}.{b}.{c}" for a, b, c in rng.integers(1, 250, (2, 3)).tolist())
    servers = tuple(f"{service}-{number}" for service in SERVICES for number in range(8))
    return Staff(tuple(people), offices, servers)


def _employee(rng: np.random.Generator, name: str, role: str) -> Employee:
    a, b, c = rng.integers(1, 250, 3).tolist()
    return Employee(
        name=name.replace(".", " ").title(),
        email=f"{name}@{DOMAIN}",
        role=role,
        begins=int(rng.choice(_SHIFTS.get(role, (8, 9)))),
        laptop=f"lt-{name.replace('.', '-')}",
        home=f"{240 + int(rng.integers(0, 6))}.{a}.{b}.{c}",
        remote=bool(rng.random() < 0.35),
        uid=f"00u{rng.integers(0, 1 << 40):011x}",
        office=int(rng.random() < 0.4),
    )
