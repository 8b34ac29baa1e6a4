"""Sessions: they end when idle, when old, when their person changes, and their secrets are shown nowhere."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.conftest import FakeClock

from vedette.core.db import Database, open_database
from vedette.core.errors import DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access import Access, Person, Role
from vedette.prove.access.sessions import ABSOLUTE_S, FRESH_S, IDLE_S, KEPT_S, MAX_SESSIONS, TOUCH_S, csrf_token
from vedette.prove.audit import AuditRecord


@pytest.fixture
def seen() -> list[AuditRecord]:
    return []


@pytest.fixture
def access(db: Database, clock, ids: Ids, seen: list[AuditRecord]) -> Access:
    made = Access(db, clock, ids, observe=seen.append)
    made.create_tenant("acme")
    return made


@pytest.fixture
def ada(access: Access) -> Person:
    person = access.people.create("acme", "Ada")
    return access.people.grant("acme", person.id, Role.RISK, by="system")


def test_a_session_is_idle_after_half_an_hour_and_over_after_half_a_day(access: Access, ada: Person, clock) -> None:
    secret = access.sessions.open("acme", ada.id).secret.reveal()
    begun = clock.now()
    while clock.now() - begun < (ABSOLUTE_S - IDLE_S) * 1_000_000:
        clock.advance(IDLE_S - TOUCH_S - 1)
        assert access.sessions.find(secret)
    clock.advance(IDLE_S)
    assert access.sessions.find(secret) is None
    busy = access.sessions.open("acme", ada.id).secret.reveal()
    for _ in range(round(ABSOLUTE_S / 600) - 1):
        clock.advance(600)
        assert access.sessions.find(busy)
    clock.advance(600)
    assert access.sessions.find(busy) is None


def test_what_a_page_asks_by_itself_keeps_no_session_alive(access: Access, ada: Person, clock) -> None:
    secret = access.sessions.open("acme", ada.id).secret.reveal()
    for _ in range(29):
        clock.advance(60)
        assert access.sessions.find(secret, touch=False)
    clock.advance(60)
    assert access.sessions.find(secret, touch=False) is None


def test_roles_are_those_held_now(access: Access, ada: Person) -> None:
    secret = access.sessions.open("acme", ada.id).secret.reveal()
    access.people.grant("acme", ada.id, Role.ANALYST, by="system")
    assert access.sessions.find(secret).person.roles == {Role.RISK, Role.ANALYST}
    access.people.withdraw("acme", ada.id, Role.MODEL, by="system")
    assert access.sessions.find(secret), "nothing was taken away"
    access.people.withdraw("acme", ada.id, Role.RISK, by="system")
    assert access.sessions.find(secret) is None


def test_a_disabled_person_has_no_session(access: Access, ada: Person) -> None:
    secret = access.sessions.open("acme", ada.id).secret.reveal()
    access.people.disable("acme", ada.id, by="system")
    assert access.sessions.find(secret) is None
    assert access.sessions.list("acme", ada.id) == [], "ended, not only refused"
    with pytest.raises(DeniedError):
        access.sessions.open("acme", ada.id)


def test_renewing_ends_the_old_secret_at_once(access: Access, ada: Person, clock) -> None:
    first = access.sessions.open("acme", ada.id)
    clock.advance(60)
    second = access.sessions.renew(first.session.id, proven=True)
    assert access.sessions.find(first.secret.reveal()) is None
    live = access.sessions.find(second.secret.reveal())
    assert live.fresh
    assert live.session.expires == first.session.expires
    clock.advance(FRESH_S)
    assert not access.sessions.find(second.secret.reveal()).fresh
    with pytest.raises(DeniedError):
        access.sessions.renew(first.session.id)
    with pytest.raises(DeniedError):
        access.sessions.renew("ses_none")


def test_people_end_their_own_sessions_and_nobody_elses(access: Access, ada: Person) -> None:
    other = access.people.create("acme", "Bob")
    mine = access.sessions.open("acme", ada.id, origin="198.51.100.7")
    assert [session.origin for session in access.sessions.list("acme", ada.id)] == ["198.51.100.7"]
    with pytest.raises(NotFoundError):
        access.sessions.end("acme", other.id, mine.session.id, by=other.id)
    for _ in range(2):
        access.sessions.end("acme", ada.id, mine.session.id, by=ada.id)
    assert access.sessions.find(mine.secret.reveal()) is None
    assert access.sessions.list("acme", ada.id) == []


def test_a_person_has_so_many_sessions_and_the_oldest_goes(access: Access, ada: Person, clock) -> None:
    opened = []
    for _ in range(MAX_SESSIONS + 2):
        clock.advance(1)
        opened.append(access.sessions.open("acme", ada.id).secret.reveal())
    assert [access.sessions.find(secret) is not None for secret in opened] == [False] * 2 + [True] * MAX_SESSIONS


def test_secrets_are_shown_nowhere(access: Access, ada: Person, db: Database, seen) -> None:
    opened = access.sessions.open("acme", ada.id)
    secret = opened.secret.reveal()
    assert len(secret) == 43
    with db.read() as connection:
        rows = repr(connection.exec_driver_sql("select * from access_sessions").all())
    for shown in (rows, repr(opened), repr(seen), repr(access.sessions.find(secret)), csrf_token(secret)):
        assert secret not in shown
    assert csrf_token(secret) != csrf_token(access.sessions.open("acme", ada.id).secret.reveal())


@pytest.mark.parametrize("forged", ["", "x", "A" * 43, "A" * 42 + "!", "é" * 43, "A" * 10_000, "' or 1=1 --"])
def test_what_is_no_session(access: Access, ada: Person, forged: str) -> None:
    access.sessions.open("acme", ada.id)
    assert access.sessions.find(forged) is None


def test_old_ones_are_swept(access: Access, ada: Person, clock) -> None:
    access.sessions.open("acme", ada.id)
    clock.advance(ABSOLUTE_S + KEPT_S)
    assert access.sweep() == 0
    clock.advance(1)
    assert access.sweep() == 1


class Machine(RuleBasedStateMachine):
    """Any order of opening, using, renewing and ending against a model of three lines."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.db = open_database(Path(self.folder.name) / "state.db")
        self.access = Access(self.db, self.clock, Ids(self.clock))
        self.access.create_tenant("acme")
        self.person = self.access.people.create("acme", "Ada").id
        self.model: dict[str, list] = {}
        """Secret -> [id, seen, expires, alive]."""

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    def holds(self, secret: str) -> bool:
        _, last, expires, alive = self.model[secret]
        return alive and self.clock.now() < expires and self.clock.now() - last < IDLE_S * 1e6

    @precondition(lambda self: sum(map(self.holds, self.model)) < MAX_SESSIONS - 1)
    @rule()
    def open(self) -> None:
        opened = self.access.sessions.open("acme", self.person)
        now = self.clock.now()
        self.model[opened.secret.reveal()] = [opened.session.id, now, now + ABSOLUTE_S * 1e6, True]

    @rule(seconds=st.sampled_from([1, 29, 31, 1_000, 1_799, 1_800, 40_000]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def use(self, data) -> None:
        secret = data.draw(st.sampled_from(list(self.model)))
        held = self.holds(secret)
        assert (self.access.sessions.find(secret) is not None) is held
        if held and self.clock.now() - self.model[secret][1] >= TOUCH_S * 1e6:
            self.model[secret][1] = self.clock.now()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def renew(self, data) -> None:
        secret = data.draw(st.sampled_from(list(self.model)))
        if self.holds(secret):
            opened = self.access.sessions.renew(self.model[secret][0])
            self.model[secret][3] = False
            self.model[opened.secret.reveal()] = [
                opened.session.id,
                self.clock.now(),
                self.model[secret][2],
                True,
            ]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def end(self, data) -> None:
        secret = data.draw(st.sampled_from(list(self.model)))
        self.access.sessions.end("acme", self.person, self.model[secret][0], by=self.person)
        self.model[secret][3] = False

    @invariant()
    def the_same_hold(self) -> None:
        listed = {session.id for session in self.access.sessions.list("acme", self.person)}
        assert listed == {held[0] for secret, held in self.model.items() if self.holds(secret)}


TestSessions = Machine.TestCase
TestSessions.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
