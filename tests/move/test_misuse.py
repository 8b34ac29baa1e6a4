"""Signs of misuse: gathered, bounded, told once, read by the shipped detections."""

from vedette.core.ids import Ids
from vedette.move import misuse as room
from vedette.move.misuse import Misuse, MisuseKind, Misuses
from vedette.move.told import Told

LIMIT = Misuse("acme", MisuseKind.LIMIT, "limits.rate.exceeded", asked_by="key_1", ip="203.0.113.9")


def told(db, clock, noted):
    misuses, there = Misuses(clock, Ids(clock)), Told(db)
    for one in noted:
        misuses.note(one)
    made = misuses.tell(there)
    assert misuses.tell(there) == 0, "once"
    waiting = [each.event for each in there.waiting(10_000)]
    assert len(waiting) == made
    return waiting


def test_a_flood_is_one_event(db, clock):
    (event,) = told(db, clock, [LIMIT] * 5_000)
    assert event.tenant == "acme"
    assert event.source == "product"
    wanted = {
        "type": "limit.exceeded",
        "reason": "limits.rate.exceeded",
        "count": 5_000,
        "key": "key_1",
        "ip": "203.0.113.9",
    }
    assert {name: event.data[name] for name in wanted} == wanted
    assert {(each.type, each.id) for each in event.entities} == {("key", "key_1"), ("ip", "203.0.113.9")}
    assert event.event_time == clock.now()


def test_who_is_known_by_more_names_than_fit_is_counted_together(db, clock, monkeypatch):
    monkeypatch.setattr(room, "MAX_NOTED", 3)
    many = [Misuse("acme", MisuseKind.WEBHOOK, "webhooks.signature.mismatch", ip=f"203.0.113.{n}") for n in range(10)]
    events = told(db, clock, many)
    assert sorted(event.data["count"] for event in events) == [1, 1, 1, 7]
    assert len({event.id for event in events}) == 4


def test_a_person_is_a_user(db, clock):
    (event,) = told(db, clock, [Misuse("acme", MisuseKind.TENANT, "access.denied", asked_by="per_7", merchant="m-1")])
    assert (event.data["user"], event.data["merchant"], "key" in event.data) == ("per_7", "m-1", False)
