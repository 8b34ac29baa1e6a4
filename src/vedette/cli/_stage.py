"""Sets a demo's stage: history, model, features, people. The same code as the verbs for each run here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow.parquet

from vedette.cli._settings import OPERATOR
from vedette.core.clock import DAY, Clock, from_datetime
from vedette.core.settings import Settings
from vedette.demo.folder import Folder
from vedette.demo.staff import Badges
from vedette.demo.world import World
from vedette.judge.models import training
from vedette.judge.models.model import Model
from vedette.prove.access import Role
from vedette.run.parts import Parts
from vedette.run.payments.backfill import Backfilled, backfill
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.table import read_table

DELAY_DAYS: Final = 7
"""Days until a dispute is known."""
TEST_DAYS: Final = 7
TRAIN_DAYS: Final = 21
TOKEN_S: Final = 2 * 86_400.0
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """What history gave."""

    model: Model
    quality: dict[str, Any]
    """Of the model on the last days whose truth is known."""
    filled: Backfilled


def write_history(world: World, folder: Folder) -> int:
    """Writes the sixty days before; gives how many payments they hold."""
    table = world.history()
    pyarrow.parquet.write_table(table, folder.history)
    return len(table)


def learn(folder: Folder, features: FeatureSet, day: datetime, report: Report) -> Learned:
    """Trains and judges the model, and fills the online features meanwhile.

    The model is judged on the last week whose disputes are all in, and trained on the days before it whose disputes
    were in when that week began.
    """
    midnight = from_datetime(day)
    today = midnight // DAY
    tested = today - DELAY_DAYS - TEST_DAYS
    settings = Settings(home=folder.home)
    delay = DELAY_DAYS * DAY
    # Half of the training is in a library that leaves the interpreter to others.
    with ThreadPoolExecutor(1) as beside:
        filling = beside.submit(
            backfill, settings, settings.tenant, [folder.history], features, delay=delay, until=midnight
        )
        table = read_table([folder.history], features)
        model = training.train(
            table,
            features,
            start=tested - DELAY_DAYS - TRAIN_DAYS,
            days=TRAIN_DAYS,
            delay_days=DELAY_DAYS,
            out=folder.model,
            report=report,
        )
        report("judging", 0, 1)
        quality = training.judge(model, table, start=tested, days=TEST_DAYS)
        report("judging", 1, 1)
        report("features", 0, 1)
        filled = filling.result()
        report("features", 1, 1)
    return Learned(model, quality, filled)


@dataclass(frozen=True, slots=True)
class Crew:
    """Ids of the people on duty."""

    admin: str
    analyst: str
    responder: str


def hire(folder: Folder, clock: Clock) -> Crew:
    """Makes the company and the people on duty."""
    with Parts(Settings(home=folder.home), clock=clock) as parts:
        parts.access.create_tenant(parts.settings.tenant, "Northpay")
        return Crew(
            admin=_person(parts, "Platform team", Role.ADMIN),
            analyst=_person(parts, "Ines Haddad", Role.ANALYST),
            responder=_person(parts, "Jonas Berg", Role.RESPONDER),
        )


def _person(parts: Parts, name: str, *roles: Role) -> str:
    tenant, people = parts.settings.tenant, parts.access.people
    person = people.create(tenant, name)
    for role in roles:
        people.grant(tenant, person.id, role, by=OPERATOR)
    return person.id


def give_badges(folder: Folder, clock: Clock, crew: Crew) -> Badges:
    """A token for each of them, that lasts for the day."""

    def token(person: str) -> str:
        return parts.access.issue_token(parts.settings.tenant, person, expires_s=TOKEN_S, by=OPERATOR).secret.reveal()

    with Parts(Settings(home=folder.home), clock=clock) as parts:
        return Badges(admin=token(crew.admin), analyst=token(crew.analyst), responder=token(crew.responder))


@dataclass(frozen=True, slots=True)
class Visitor:
    """How a visitor logs in. Shown once."""

    login: str
    password: str
    codes: tuple[str, ...]


def welcome(folder: Folder, clock: Clock, crew: Crew) -> Visitor:
    """Adds a person who may look at everything and decide what needs deciding; ends the tokens of the shift."""
    with Parts(Settings(home=folder.home), clock=clock) as parts:
        tenant, access = parts.settings.tenant, parts.access
        for person in (crew.admin, crew.analyst, crew.responder):
            for token in access.tokens(tenant, person):
                access.revoke_token(tenant, token.id)
        visitor = _person(
            parts, "visitor", Role.ANALYST, Role.RESPONDER, Role.RISK, Role.MODEL, Role.COMPLIANCE, Role.ADMIN
        )
        issued = access.logins.issue(tenant, visitor, by=OPERATOR)
        codes = access.factors.issue_codes(tenant, visitor, by=OPERATOR)
        return Visitor(issued.login, issued.password.reveal(), tuple(code.reveal() for code in codes))
