"""The store keeps every event once: within a batch, between batches, between processes, and through SIGKILL."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sense import log_worker

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.core.event import Entity, Event
from vedette.sense.sources import load_sources
from vedette.sense.store import DEDUP_SLACK, ENVELOPE, Appended, Store
from vedette.sense.tables import Mark

SOURCE = load_sources()["cloudtrail"]
TIME = 1_700_000_000_000_000


def event(name: str, *, tenant: str = "acme", time: int = TIME, **data: object) -> Event:
    return Event(id=name, tenant=tenant, source="cloudtrail", event_time=time, ingest_time=TIME, data=dict(data))


def rows(store: Store, tenant: str = "acme", table: str = "cloudtrail") -> pa.Table:
    dataset = store.table(table).dataset([tenant])
    return ENVELOPE.empty_table() if dataset is None else dataset.to_table()


def test_a_row_holds_the_whole_event(tmp_path: Path) -> None:
    store = Store(tmp_path)
    data = {"eventName": "ListBuckets", "errorCode": None, "awsRegion": 7, "deep": {"x": [1, "é"]}}
    whole = Event(
        id="e1", tenant="acme", source="cloudtrail", event_time=TIME, ingest_time=TIME + 5, seq=3, class_uid=6003,
        entities=(Entity("user", "ada"), Entity("ip", "10.0.0.1")), raw_ref="f#1@9", data=data,
    )  # fmt: skip
    assert store.append(SOURCE, [whole]) == Appended(1, 0)
    row = rows(store).to_pylist()[0]
    assert json.loads(row["data"]) == data
    assert row["entities"] == ["user:ada", "ip:10.0.0.1"]
    assert (row["eventName"], row["errorCode"], row["awsRegion"], row["sourceIPAddress"]) == (
        "ListBuckets",
        None,
        "7",
        None,
    )
    assert (row["seq"], row["class_uid"], row["raw_ref"], row["date"].isoformat()) == (3, 6003, "f#1@9", "2023-11-14")
    assert round(row["event_time"].timestamp() * 1e6) == TIME
    assert round(row["ingest_time"].timestamp() * 1e6) == TIME + 5
    assert store.names() == ["cloudtrail"]


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["acme", "other"]), st.integers(0, 3)), max_size=8),
    max_size=4,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=20, deadline=None
)
@given(given_batches=batches)
def test_each_id_of_a_tenant_is_stored_once(
    tmp_path_factory: pytest.TempPathFactory, given_batches: list[list[tuple[int, str, int]]]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    model: dict[tuple[str, str], int] = {}
    for batch in given_batches:
        # The day follows from the id: an event keeps its time whenever it is read again.
        events = [event(f"e{n}", tenant=tenant, time=TIME + n * DAY, v=v) for n, tenant, v in batch]
        before = len(model)
        for each in events:
            model.setdefault((each.tenant, each.id), each.data["v"])
        fresh = len(model) - before
        assert store.append(SOURCE, events) == Appended(fresh, len(events) - fresh)
    for tenant in ("acme", "other"):
        stored = {row["id"]: json.loads(row["data"])["v"] for row in rows(store, tenant).to_pylist()}
        assert stored == {name: v for (owner, name), v in model.items() if owner == tenant}
        assert rows(store, tenant).num_rows == len(stored)


def test_the_window_of_duplicates_is_as_stated(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(SOURCE, [event("a")])
    assert store.append(SOURCE, [event("a", time=TIME + DEDUP_SLACK)]).duplicates == 1
    assert store.append(SOURCE, [event("a", time=TIME + DEDUP_SLACK + 1)]).stored == 1


def test_a_replayed_mark_adds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = Mark("store/event/0", 10), Mark("store/event/0", 20)
    assert store.append(SOURCE, [event("a")], mark=first) == Appended(1, 0)
    assert store.append(SOURCE, [event("b")], mark=first) == Appended(0, 1, replayed=True)
    assert store.append(SOURCE, [], mark=second) == Appended(0, 0)
    assert Store(tmp_path).table("cloudtrail").holds(second)
    assert not Store(tmp_path).table("cloudtrail").holds(Mark("store/event/1", 1))
    assert rows(store)["id"].to_pylist() == ["a"]


@pytest.mark.parametrize("tenant", ["", "../x", "a/b", "A", "x" * 64, "a=b", "a\0"])
def test_a_tenant_cannot_lead_out_of_its_folder(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(DataError) as caught:
        Store(tmp_path).append(SOURCE, [event("ok"), event("a", tenant=tenant)])
    assert caught.value.code == "store.tenant.name"
    assert not list(tmp_path.iterdir())


def test_two_stores_on_one_folder_take_turns(tmp_path: Path) -> None:
    events = [event(f"e{n}", time=TIME + n) for n in range(40)]
    stored: list[int] = []

    def work(seed: int) -> None:
        store = Store(tmp_path)
        order = random.Random(seed).sample(events, len(events))
        stored.extend(store.append(SOURCE, order[at : at + 10]).stored for at in range(0, 40, 10))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == 40
    assert Counter(rows(Store(tmp_path))["id"].to_pylist()) == {f"e{n}": 1 for n in range(40)}


def test_compaction_changes_no_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for n in range(12):
        store.append(SOURCE, [event(f"e{n}", time=TIME + n, n=n)], mark=Mark("m", n))
    before = sorted(rows(store).to_pylist(), key=lambda row: row["id"])
    metrics = store.compact()["cloudtrail"]
    assert (metrics["removed"], metrics["added"]) == (12, 1)
    assert sorted(rows(Store(tmp_path)).to_pylist(), key=lambda row: row["id"]) == before
    assert store.table("cloudtrail").holds(Mark("m", 11))
    assert store.append(SOURCE, [event("e3", time=TIME + 3)]).duplicates == 1


def run_until(command: list[str], kill_after: float | None) -> bool:
    """Runs a worker; kills it so long after it began. True when it came to its end."""
    environment = {"PYTHONPATH": os.pathsep.join(("src", ".")), "PATH": "/usr/bin:/bin"}
    worker = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    try:
        return "done" in worker.communicate(timeout=kill_after)[0]
    except subprocess.TimeoutExpired:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        return False


@pytest.mark.kill
def test_sigkill_between_log_and_store_loses_and_repeats_nothing(tmp_path: Path, rng: random.Random) -> None:
    command = ["-m", "tests.sense.log_worker", str(tmp_path)]
    kills = sum(not run_until(command, rng.uniform(0.01, 0.15)) for _ in range(8))
    assert run_until(command, None)
    assert kills >= 3
    stored = Counter(rows(Store(tmp_path), table="product")["id"].to_pylist())
    assert stored == {f"{b}-{n}": 1 for b in range(log_worker.BATCHES) for n in range(log_worker.SIZE)}


@pytest.mark.kill
def test_sigkill_while_ingesting_loses_and_repeats_nothing(tmp_path: Path, rng: random.Random) -> None:
    lines = [
        b"broken" if n % 50 == 7 else b'{"eventTime": "2024-01-%02dT00:00:00Z", "n": %d}' % (n % 3 + 1, n)
        for n in range(3_000)
    ]
    (tmp_path / "f.ndjson").write_bytes(b"\n".join(lines))
    home = tmp_path / "store"
    command = ["-m", "tests.sense.ingest_worker", str(home), "200", str(tmp_path / "f.ndjson")]
    kills = sum(not run_until(command, rng.uniform(0.01, 0.3)) for _ in range(8))
    assert run_until(command, None)
    assert kills >= 3
    stored = Counter(json.loads(text)["n"] for text in rows(Store(home))["data"].to_pylist())
    refused = Counter(rows(Store(home), table="quarantine")["line"].to_pylist())
    assert stored == {n: 1 for n in range(3_000) if n % 50 != 7}
    assert refused == {n + 1: 1 for n in range(3_000) if n % 50 == 7}
