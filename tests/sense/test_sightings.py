"""Sightings against a plain list: re-delivery, crashes between steps, hubs, names, tenants, and a planted fault."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import SystemClock
from vedette.core.event import Entity, Event
from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.judge.decisions.passing import PassingLog
from vedette.sense import sightings as module
from vedette.sense.sightings import Sightings

TENANTS = ("acme", "other")
ENTITIES = [Entity("card", "c1"), Entity("card", "c2"), Entity("ip", "c1"), Entity("user", 'x<script>\n"é')]


class Killed(BaseException):
    """Stands for the end of the process at this point."""


class Torn(Projection):
    """Dies after the effect and before the place is written."""

    dying = False

    @contextmanager
    def write(self):
        with super().write() as connection:
            yield connection
            if self.dying:
                raise Killed


class Careless(Torn):
    """The planted fault: the effect is committed before the place, in another transaction."""

    def _take(self, component, shard, records, apply):
        with Projection.write(self) as connection:
            apply(connection, shard, records)
        return super()._take(component, shard, records, lambda *_: None)


def event(number, tenant="acme", time=1, source="product", entities=(ENTITIES[0],)):
    return Event(
        id=f"e{number}", tenant=tenant, source=source, event_time=time, ingest_time=time, entities=tuple(entities)
    )


EVENTS = st.builds(
    event,
    st.integers(0, 9),
    st.sampled_from(TENANTS),
    st.integers(0, 6),
    st.sampled_from(["product", "okta"]),
    st.lists(st.sampled_from(ENTITIES), max_size=3),
)
STEPS = st.lists(
    st.one_of(EVENTS, st.sampled_from(["take", "take one", "crash", "open", "delete", "junk"])), max_size=40
)


def play(path, steps, kind=Torn):
    log, told = PassingLog(SystemClock()), []
    projection = kind(path)
    seen = Sightings(projection)
    for step in steps:
        if isinstance(step, Event):
            decided = step.id in {"e1", "e2"}
            told.append((log.end("event", 0), decided, step))
            log.append("event", f"decide:{step.tenant}" if decided else "pushed", [msgspec.json.encode(step)])
        elif step == "junk":
            log.append("event", "pushed", [b"no event"])
        elif step == "crash":
            projection.dying = True
            with suppress(Killed):
                seen.consume(log, limit=3)
            projection.dying = False
        elif step in {"open", "delete"}:
            projection.close()
            if step == "delete":
                path.unlink()
            projection = kind(path)
            seen = Sightings(projection)
        else:
            seen.consume(log, limit=1 if step == "take one" else 100)
    while seen.consume(log):
        pass
    return projection, seen, log, told


def check(seen, log, told, tenant, entity):
    wanted = sorted(
        (
            (each.event_time, offset, each.source, decided)
            for offset, decided, each in told
            if each.tenant == tenant and entity in each.entities
        ),
        reverse=True,
    )
    assert [tuple(one) for one in seen.timeline(tenant, entity, limit=1_000)] == wanted
    pages, before = [], None
    while page := seen.timeline(tenant, entity, before=before, limit=2):
        pages += page
        before = page[-1].cursor
    assert [tuple(one) for one in pages] == wanted
    only = seen.timeline(tenant, entity, source="okta", limit=1_000)
    assert [tuple(one) for one in only] == [one for one in wanted if one[2] == "okta"]
    known = seen.seen(tenant, entity)
    assert known.count == len(wanted) == sum(known.sources.values())
    assert known.decided == sum(one[3] for one in wanted)
    assert (known.first, known.last) == ((wanted[-1][0], wanted[0][0]) if wanted else (0, 0))
    assert sum(sum(counts.values()) for _, counts in seen.histogram(tenant, entity, bins=5)) == len(wanted)
    read = seen.events(log, tenant, entity, seen.timeline(tenant, entity, limit=1_000))
    assert [one.id for one in read] == [told_of(told, one[1]).id for one in wanted]
    assert (entity in seen.search(tenant, entity.id)) == bool(wanted)


def told_of(told, place):
    return next(each for offset, _, each in told if offset == place)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, tenant=st.sampled_from(TENANTS))
def test_they_equal_a_plain_list(tmp_path_factory, steps, tenant):
    projection, seen, log, told = play(tmp_path_factory.mktemp("seen") / "index.db", steps)
    try:
        for entity in ENTITIES:
            check(seen, log, told, tenant, entity)
    finally:
        projection.close()


def test_a_place_that_moves_by_itself_is_found(tmp_path):
    projection, seen, log, told = play(tmp_path / "index.db", [event(1), event(2), "crash", "open"], Careless)
    with pytest.raises(AssertionError):
        check(seen, log, told, "acme", ENTITIES[0])
    projection.close()


def test_two_entities_of_one_hash_are_told_apart_by_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "entity_hash", lambda *_: 77)
    told = [event(1), event(2, "other"), event(3, entities=[ENTITIES[1]])]
    projection, seen, log, _ = play(tmp_path / "index.db", told)
    page = seen.timeline("acme", ENTITIES[0])
    assert [one.id for one in seen.events(log, "acme", ENTITIES[0], page)] == ["e1"]
    projection.close()


def test_labels_are_found_by_their_event(tmp_path):
    def label(number, event_id, tenant="acme"):
        return msgspec.structs.replace(
            event(number, tenant, source="label", entities=()), data={"event_id": event_id, "fraud": True}
        )

    projection, seen, log, _ = play(tmp_path / "index.db", [label(1, "a"), label(2, "b"), label(3, "a", "other")])
    assert [one.id for one in seen.labels(log, "acme", "a")] == ["e1"]
    assert seen.labels(log, "acme", "none") == []
    projection.close()


def test_whole_ids_come_first(tmp_path):
    names = ["acard:c1", "card:c10", "card:c1", "ip:xc1"]
    entities = [Entity(*name.split(":")) for name in names]
    projection, seen, _, _ = play(tmp_path / "index.db", [event(1, entities=entities)])
    assert [one.key for one in seen.search("acme", "C1")] == ["acard:c1", "card:c1", "card:c10", "ip:xc1"]
    assert seen.search("other", "c1") == []
    assert seen.search("acme", " ") == []
    projection.close()


def test_names_are_kept_once(tmp_path):
    projection, _, _, _ = play(tmp_path / "index.db", [event(1), "take", event(2), "take", "open", event(3), "take"])
    with projection.read() as connection:
        kept = connection.execute("select names from sightings_name").fetchall()
    assert kept == [(b'["card:c1"]',)]
    projection.close()


def test_partitions_keep_apart(tmp_path):
    with SqliteLog(tmp_path / "log", SystemClock(), partitions=3) as log:
        for number in range(9):
            log.append("event", f"key{number}", [msgspec.json.encode(event(number, time=number))])
        projection = Projection(tmp_path / "index.db")
        seen = Sightings(projection)
        while seen.consume(log, limit=2):
            pass
        page = seen.timeline("acme", ENTITIES[0])
        assert [one.id for one in seen.events(log, "acme", ENTITIES[0], page)] == [f"e{n}" for n in range(8, -1, -1)]
        assert len({one.partition for one in page}) > 1
        projection.close()
