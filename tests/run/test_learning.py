"""Lists learn from verdicts and refunds, through the log, audited, undoable, and rules ask them within a turn."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from vedette.act.reviewing.tables import item_id
from vedette.core.clock import SystemClock
from vedette.core.decision import Action, Decision
from vedette.core.errors import NotFoundError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Durability
from vedette.core.settings import Settings
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.payment.lists import CARD_BLOCKLIST, EMAIL_BLOCKLIST
from vedette.move.events import product
from vedette.prove.audit import TOPIC, AuditRecord
from vedette.run.pipeline.informing import Informing
from vedette.run.platform import Platform

EMAIL = "b" * 64


@pytest.fixture
def platform(tmp_path):
    platform = Platform(Settings(home=tmp_path), clock=SystemClock())
    platform.desk.open("default")
    yield platform
    platform.close()


def charge(platform: Platform, number: int, card: str = "tok_1", email: str = EMAIL):
    now = platform.clock.now()
    data = {
        "id": f"evt_{number}", "type": "charge", "time": now / 1e6, "charge": f"ch_{number}", "merchant": "m",
        "amount_minor": 500, "currency": "EUR", "source": card, "email": email, "metadata": {},
    }  # fmt: skip
    event = product().to_event(data, tenant="default", stream="t", offset=number, ingest_time=now)
    [decision] = platform.desk.service("default").decide_many([event])
    return decision


def teach(platform: Platform, number: int, *, fraud: bool = True, kind: str = "verdict") -> None:
    label = Label(
        event_id=f"evt_{number}", tenant="default", fraud=fraud, observed_time=platform.clock.now(), kind=kind
    )
    event = Event(
        id=f"label:{label.event_id}", tenant="default", source="label", event_time=label.observed_time,
        ingest_time=label.observed_time, data=msgspec.to_builtins(label),
    )  # fmt: skip
    platform.log.append("event", "label", [msgspec.json.encode(event)], durability=Durability.WRITTEN)


def told(source: str, data: dict[str, object]) -> Event:
    return Event(id="x", tenant="default", source=source, event_time=5, ingest_time=5, data=data)


class Charged:
    """Knows one charge."""

    def get(self, tenant: str, name: str) -> SimpleNamespace:
        if (tenant, name) != ("default", "ch_b"):
            raise NotFoundError("charge.id.unknown", "no such charge")
        return SimpleNamespace(decision=SimpleNamespace(event_id="b"))


def relisted(platform: Platform) -> int:
    """What a turn of both beats learns."""
    learned = platform.learning.step()
    platform.desk.relist()
    return learned


def held(platform: Platform) -> dict[str, tuple[str, ...]]:
    lists = platform.lists.held("default", platform.clock.now())
    return {alias: one.items for alias, one in lists.items() if one.items}


def test_a_verdict_blocks_the_card_and_the_address(platform) -> None:
    first = charge(platform, 1)
    assert first.action == "allow"
    teach(platform, 1)
    assert relisted(platform) == 2
    assert held(platform) == {CARD_BLOCKLIST: ("tok_1",), EMAIL_BLOCKLIST: (EMAIL,)}
    by_card, by_email = charge(platform, 2, email="c" * 64), charge(platform, 3, card="tok_9")
    assert (by_card.action, by_card.reasons[0].code) == ("block", "rule.builtin.card_blocklist")
    assert (by_email.action, by_email.reasons[0].text) == ("block", "a payment with this e-mail address was fraud")
    assert charge(platform, 4, card="tok_9", email="c" * 64).action == "allow"
    # Decisions of before and after rebuild, each with the lists of its time.
    for record in (first, by_card, by_email):
        assert rebuild(record, model=None, rules=platform.desk.rules_of(record)) == record


def test_a_verdict_that_is_taken_back_takes_its_items_out(platform) -> None:
    blocked_by = charge(platform, 1)
    teach(platform, 1)
    relisted(platform)
    seen = charge(platform, 2)
    assert seen.action == "block"
    teach(platform, 1, fraud=False)
    assert relisted(platform) == 2
    assert held(platform) == {}
    again = charge(platform, 3)
    assert again.action == "allow"
    assert again.rules_version == blocked_by.rules_version
    assert rebuild(seen, model=None, rules=platform.desk.rules_of(seen)) == seen


def test_what_teaches_and_what_does_not(platform) -> None:
    charge(platform, 1)
    teach(platform, 1, kind="dispute")
    teach(platform, 77)
    assert relisted(platform) == 0
    teach(platform, 1, kind="refund")
    assert relisted(platform) == 2
    data = {
        "id": "evt_r", "type": "refund", "time": platform.clock.now() / 1e6, "refund": "re_1", "charge": "ch_5",
        "merchant": "m", "amount_minor": 5, "currency": "EUR", "source": "tok_5", "reason": "fraudulent",
    }  # fmt: skip
    for change in ({}, {"reason": "requested_by_customer", "source": "tok_6"}):
        event = product().to_event(
            data | change, tenant="default", stream="t", offset=1, ingest_time=platform.clock.now()
        )
        platform.log.append("event", "x", [msgspec.json.encode(event)], durability=Durability.WRITTEN)
    assert relisted(platform) == 1
    assert held(platform)[CARD_BLOCKLIST] == ("tok_1", "tok_5")


def test_what_came_another_way_reaches_the_review_queue(platform) -> None:
    """A label that is heard before its decision was queued finds its item all the same; money only informs."""
    for name in ("a", "b"):
        made = Decision(
            event_id=name, tenant="default", action=Action.REVIEW, score=0.5, risk_score=50, source="product",
            event={"amount_minor": 500, "currency": "EUR"}, time=platform.clock.now(),
        )  # fmt: skip
        platform.log.append("decision", name, [msgspec.json.encode(made)], durability=Durability.WRITTEN)
    label = Label(event_id="a", tenant="default", fraud=True, observed_time=platform.clock.now())
    informing = Informing(platform.reviewing.amending, platform.review_intake, platform.log, Charged())
    informing.hear(told("label", msgspec.to_builtins(label)))
    for _ in range(2):
        informing.hear(told("product", {"type": "refund", "charge": "ch_b", "reason": "fraudulent"}))
        informing.hear(told("product", {"type": "dispute", "charge": "ch_b", "status": "opened"}))
        informing.hear(told("product", {"type": "refund", "charge": "elsewhere"}))
    items = {name: platform.reviewing.get("default", item_id("default", name)) for name in "ab"}
    assert [(item.state, item.fraud) for item in items.values()] == [("labelled", True), ("open", None)]
    news = platform.reviewing.amending.news("default", items["b"].id)
    assert sorted((each.kind, each.fraud) for each in news) == [("dispute opened", None), ("refund made", True)]


def test_the_platform_hears_labels_for_its_queue(platform) -> None:
    made = Decision(
        event_id="evt_7", tenant="default", action=Action.REVIEW, score=0.5, risk_score=50, source="product",
        event={"amount_minor": 500, "currency": "EUR"}, time=platform.clock.now(),
    )  # fmt: skip
    platform.log.append("decision", "x", [msgspec.json.encode(made)], durability=Durability.WRITTEN)
    teach(platform, 7, kind="dispute")
    relisted(platform)
    assert platform.reviewing.get("default", item_id("default", "evt_7")).state == "labelled"


def test_every_change_is_audited_and_can_be_undone(platform) -> None:
    charge(platform, 1)
    teach(platform, 1)
    relisted(platform)
    records = [msgspec.json.decode(record.value, type=AuditRecord) for record in platform.log.read(TOPIC, 0, 0, 100)]
    told = [one for one in records if one.action == "lists.add"]
    assert {(one.actor, one.target, one.detail["event"]) for one in told} == {
        ("labels", f"@{CARD_BLOCKLIST}", "evt_1"),
        ("labels", f"@{EMAIL_BLOCKLIST}", "evt_1"),
    }
    for one in told:
        platform.lists.undo("default", int(one.detail["change"]), operator="ann", reason="an honest payer")
    relisted(platform)
    assert charge(platform, 2).action == "allow"
    assert platform.lists.changes("default")[0].reason == "an honest payer"


def test_reading_twice_after_a_kill_changes_nothing(platform) -> None:
    charge(platform, 1)
    teach(platform, 1)
    assert relisted(platform) == 2
    platform.lists.move(0)
    platform.learning._next = 0
    assert relisted(platform) == 0
    assert len(platform.lists.changes("default")) == 2
