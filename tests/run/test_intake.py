"""Taking in, with a crash anywhere: each record of a stream is in the log once, in order; each event in the store once."""

import json
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock

from vedette.core.db import open_database
from vedette.core.errors import DataError
from vedette.core.log import SqliteLog
from vedette.run.metrics import Meters
from vedette.run.pipeline import storing as storing_module
from vedette.run.pipeline.intake import MAX_BATCH_ID, Intake, place_of
from vedette.run.pipeline.storing import storing, to_event
from vedette.sense.quarantine import Quarantine
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

SOURCES = load_sources()
NOW = 1_800_000_000_000_000
TENANTS = ("acme", "beta")


class Crash(Exception):
    """The process ends here."""


def record(number):
    """A good record with its own id, or one that no source can read."""
    if number % 7 == 6:
        return b"broken %d" % number
    day = 1 + number % 3
    return json.dumps(
        {"eventID": f"e{number}", "eventTime": f"2026-01-{day:02d}T00:00:00Z", "eventSource": "s", "eventName": "n"}
    ).encode()


def body(batch, count):
    """The first records of a batch: its content never depends on the tenant, so that ids collide."""
    return b"".join(record(batch * 1_000 + number) + b"\n" for number in range(count))


def crashing(intake, countdown):
    """Makes the n-th durable step of an intake end the process, before or after it is done."""
    left = [countdown]

    def around(owner, name):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            step(left)
            result = original(*args, **kwargs)
            step(left)
            return result

        return wrapped

    intake._move = around(intake, "_move")
    log, quarantine = intake._log, intake._quarantine
    intake._log = Proxy(log, append=around(log, "append"))
    intake._quarantine = Proxy(quarantine, append=around(quarantine, "append"))
    return intake


def step(left):
    left[0] -= 1
    if left[0] == 0:
        raise Crash


class Proxy:
    def __init__(self, inner, **own):
        self._inner = inner
        self.__dict__.update(own)

    def __getattr__(self, name):
        return getattr(self._inner, name)


pushes = st.lists(
    st.tuples(
        st.sampled_from(TENANTS), st.integers(0, 1), st.integers(0, 30), st.integers(0, 8), st.sampled_from([0, 0, 1])
    ),
    max_size=8,
)


def check_pushes(plan, partitions, kind=Intake):
    """Runs a plan of pushes with crashes, repeats what was told to a client as failed, and compares with the model."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        state = open_database(home / "state.db")
        with SqliteLog(home / "log", FakeClock(NOW), partitions=partitions) as log:

            def intake(tenant):
                quarantine = Quarantine(home / "store")
                return kind(log, state, quarantine, SOURCES, tenant=tenant, clock=FakeClock(NOW), locks=home / "locks")

            longest = defaultdict(int)
            for tenant, batch, count, countdown, noise in plan:
                if noise:
                    log.append("event", f"intake:{tenant}", [b"no event"])
                longest[tenant, batch] = max(longest[tenant, batch], count)
                with suppress(Crash):
                    crashing(intake(tenant), countdown).push("cloudtrail", str(batch), body(batch, count))
            for (tenant, batch), count in longest.items():
                answer = intake(tenant).push("cloudtrail", str(batch), body(batch, count))
                for each in answer.values():
                    assert each.read == each.stored + each.quarantined + each.duplicate == count
                again = intake(tenant).push("cloudtrail", str(batch), body(batch, count))
                assert all(each.duplicate == each.read for each in again.values())
            compare(home, log, longest)
        state.close()


def compare(home, log, longest):
    found = defaultdict(list)
    for part in range(log.partitions("event")):
        for entry in log.read("event", part, 0, 10_000):
            event = to_event(entry)
            if not isinstance(event, DataError):
                stream, offset = place_of(event)
                found[event.tenant, int(stream.split(":")[2].split("#")[0])].append((offset, event.id))
    dataset = Quarantine(home / "store").table.dataset(TENANTS)
    rows = dataset.to_table().to_pylist() if dataset else []
    for (tenant, batch), count in longest.items():
        wanted, refused, offset = [], set(), 0
        for number in range(count):
            line = record(batch * 1_000 + number)
            if line.startswith(b"{"):
                wanted.append((offset, json.loads(line)["eventID"]))
            else:
                refused.add(offset)
            offset += len(line) + 1
        assert found.pop((tenant, batch), []) == wanted
        kept = [row["offset"] for row in rows if row["tenant"] == tenant and f":{batch}#" in row["stream"]]
        assert sorted(kept) == sorted(refused)
    assert not found


@pytest.mark.parametrize("partitions", [1, 3])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=pushes)
def test_each_record_once_whatever_crashes(partitions, plan):
    check_pushes(plan, partitions)


class CursorFirst(Intake):
    def append(self, source, events):
        stream, last = place_of(events[-1])
        self._move(stream, last + 1, self._log.end("event", self._log.partition_of("event", self._key)))
        return super().append(source, events)


class FirstPartition(Intake):
    def _resume(self, stream):
        whole, self._log = self._log, Proxy(self._log, partition_of=lambda _topic, _key: 0)
        try:
            return super()._resume(stream)
        finally:
            self._log = whole


class NoScan(Intake):
    def _resume(self, stream):
        whole, self._log = self._log, Proxy(self._log, read=lambda *_: [])
        try:
            return super()._resume(stream)
        finally:
            self._log = whole


@pytest.mark.parametrize(("kind", "partitions"), [(CursorFirst, 1), (NoScan, 1), (FirstPartition, 3)])
def test_a_planted_mistake_is_noticed(kind, partitions):
    def at_every_step():
        for countdown in range(1, 9):
            check_pushes([(tenant, 0, 20, countdown, 0) for tenant in TENANTS], partitions, kind)

    with pytest.raises(AssertionError):
        at_every_step()


steps = st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["", "before", "after", "place"])), max_size=6)


def check_storing(plan, monkeypatch):
    """Events come in, the stage dies around its commit, more events come in: each is stored once."""
    with tempfile.TemporaryDirectory() as folder:
        home, meters, ids = Path(folder), Meters(), []
        store = Store(home / "store")
        with SqliteLog(home / "log", FakeClock(NOW)) as log:
            for count, crash in plan:
                for _ in range(count):
                    ids.append(len(ids))
                    source = "cloudtrail" if len(ids) % 3 else "product"
                    raw = b'{"eventID": "i%d", "eventTime": "2026-01-01T00:00:00Z"}' % ids[-1]
                    data = json.loads(raw) | {"event_id": f"i{ids[-1]}", "timestamp": "2026-01-01T00:00:00Z"}
                    event = {"id": f"i{ids[-1]}", "tenant": "acme", "source": source, "event_time": NOW - ids[-1]}
                    log.append("event", "k", [json.dumps({**event, "ingest_time": NOW, "data": data}).encode()])
                dying, given_log = Store(home / "store"), log
                append = dying.append

                def die(*args, append=append, crash=crash, **kwargs):
                    if crash == "before":
                        raise Crash
                    append(*args, **kwargs)
                    raise Crash

                if crash in ("before", "after"):
                    dying.append = die
                elif crash == "place":
                    given_log = Proxy(log, commit=lambda *_: step([1]))
                with suppress(Crash):
                    storing(given_log, dying, SOURCES, meters).step()
            stage = storing(log, store, SOURCES, meters)
            while stage.step():
                pass
            assert stage.lag(log) == 0
            found = []
            for name in ("cloudtrail", "product"):
                dataset = store.table(name).dataset(["acme"])
                found += dataset.to_table()["id"].to_pylist() if dataset else []
            assert sorted(found) == sorted(f"i{each}" for each in ids)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(plan=steps)
def test_each_event_is_stored_once_whatever_crashes(plan, monkeypatch):
    check_storing(plan, monkeypatch)


def test_marks_are_what_stores_once(monkeypatch):
    """Without the mark and without the look at stored ids, a repeated batch is stored twice, and that is seen."""
    monkeypatch.setattr(storing_module, "_after", lambda _store, _name, events, _mark: events)
    monkeypatch.setattr("vedette.sense.tables.Table.holds", lambda _self, _mark: False)
    check_storing([(5, "place"), (3, "")], monkeypatch)
    monkeypatch.setattr("vedette.sense.store._fresh", lambda _table, events: list(events))
    with pytest.raises(AssertionError):
        check_storing([(5, "place"), (3, "")], monkeypatch)


def test_marks_alone_store_once(monkeypatch):
    """Each of the two walls holds by itself."""
    monkeypatch.setattr("vedette.sense.store._fresh", lambda _table, events: list(events))
    for crash in ("before", "after", "place"):
        check_storing([(5, crash), (3, crash), (4, "")], monkeypatch)


@pytest.fixture
def intake(tmp_path, clock):
    state = open_database(tmp_path / "state.db")
    with SqliteLog(tmp_path / "log", clock) as log:
        quarantine = Quarantine(tmp_path / "store")
        yield Intake(log, state, quarantine, SOURCES, tenant="acme", clock=FakeClock(NOW), locks=tmp_path / "locks")
    state.close()


def one(number):
    return b'{"eventID": "%d", "eventTime": "2026-01-01T00:00:00Z", "eventSource": "s", "eventName": "n"}\n' % number


def test_batches_are_told_apart_by_their_whole_id(intake):
    for batch in ("a/b", "a//b", "a/./b", ".", "x" * MAX_BATCH_ID, "x" * (MAX_BATCH_ID - 1)):
        assert intake.push("cloudtrail", batch, one(1))["cloudtrail"].stored == 1, batch
    with pytest.raises(DataError) as caught:
        intake.push("cloudtrail", "x" * (MAX_BATCH_ID + 1), one(1))
    assert (caught.value.code, caught.value.at) == ("intake.batch.too_long", "$query.batch")


def test_a_batch_id_belongs_to_a_source(intake):
    both = (
        b'{"eventID": "1", "eventTime": "2026-01-01T00:00:00Z", "timestamp": "2026-01-01T00:00:00Z", "event_id": "1"}\n'
    )
    assert intake.push("cloudtrail", "1", both)["cloudtrail"].stored == 1
    assert intake.push("product", "1", both)["product"].duplicate == 0


def test_a_record_that_the_log_cannot_hold_is_refused(intake, monkeypatch, tmp_path):
    monkeypatch.setattr("vedette.run.pipeline.intake.MAX_VALUE_BYTES", 2 << 20)
    big = one(2).replace(b'"n"', b'"%s"' % (b"n" * (2 << 20)))
    counts = intake.push("cloudtrail", "big", one(1) + big + one(3))["cloudtrail"]
    assert (counts.read, counts.stored, counts.quarantined) == (3, 2, 1)
    rows = Quarantine(tmp_path / "store").table.dataset(["acme"]).to_table().to_pylist()
    assert [(row["code"], row["line"]) for row in rows] == [("log.record.too_large", 2)]


def test_a_file_that_grows_gives_no_half_line(intake, tmp_path):
    path = tmp_path / "growing.ndjson"
    path.write_bytes(one(1) + one(2)[:40])
    assert intake.files([path], growing=True)["cloudtrail"].stored == 1
    path.write_bytes(one(1) + one(2) + one(3))
    counts = intake.files([path], growing=True)["cloudtrail"]
    assert (counts.read, counts.duplicate, counts.stored, counts.quarantined) == (3, 1, 2, 0)
