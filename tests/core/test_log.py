"""The log against a list, from several threads and processes, killed, full and damaged."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vedette
from vedette.core import _log_topic, log
from vedette.core.clock import SystemClock
from vedette.core.errors import DataError, DefinitionError, PermanentError, TransientError
from vedette.core.log import Durability, SqliteLog

ENV = {**os.environ, "PYTHONPATH": str(Path(vedette.__file__).parent.parent)}
WRITER = Path(__file__).with_name("log_writer.py")

consume = list
"""Runs a generator to its end or its first error."""

appends = st.tuples(
    st.sampled_from(["event", "signal"]),
    st.sampled_from(["a", "b", "card:ü", ""]),
    st.lists(st.binary(max_size=20), max_size=4),
    st.sampled_from(Durability),
)
reads = st.tuples(st.sampled_from(["event", "signal"]), st.integers(0, 2), st.integers(0, 30), st.integers(0, 12))
reopen = st.just("reopen")


def check_against_lists(steps) -> None:
    """Runs the steps on a log and on lists, which must agree after each."""
    model: dict[tuple[str, int], list[tuple[str, bytes, int]]] = defaultdict(list)
    clock = SystemClock()
    clock.now = lambda: sum(map(len, model.values()))
    # the stack closes the log before its folder goes, also when an assertion fails
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subject = stack.enter_context(SqliteLog(folder, clock, partitions=3))
        for topic in ("event", "signal"):
            subject.append(topic, "", [])
            assert subject.partitions(topic) == 3
        for step in steps:
            if step == "reopen":
                subject.close()
                subject = stack.enter_context(SqliteLog(folder, clock, partitions=7))
            elif isinstance(step[1], str):
                topic, key, values, durability = step
                now = clock.now()
                first = subject.append(topic, key, values, durability=durability)
                (shard,) = {s for s in range(3) if subject.end(topic, s) > len(model[topic, s])} or {None}
                if shard is not None:
                    assert first == len(model[topic, shard])
                    model[topic, shard] += [(key, value, now) for value in values]
                assert (shard is None) == (not values)
            else:
                topic, shard, offset, limit = step
                want = [
                    (at, key, value, time)
                    for at, (key, value, time) in enumerate(model[topic, shard])
                    if offset <= at < offset + limit
                ]
                assert [tuple(record) for record in subject.read(topic, shard, offset, limit)] == want
                assert subject.end(topic, shard) == len(model[topic, shard])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(appends, appends, reads, reopen), max_size=25))
def test_agrees_with_a_list(steps):
    check_against_lists(steps)


@pytest.mark.parametrize("bug", ["end", "unpack"])
def test_agreement_is_seen_to_fail(bug, monkeypatch):
    if bug == "end":
        skips = _log_topic._APPEND.replace("place + count", "place + count + (place + count = 3)")
        assert skips != _log_topic._APPEND
        monkeypatch.setattr(_log_topic, "_APPEND", skips)
    else:
        right = _log_topic._unpack
        monkeypatch.setattr(_log_topic, "_unpack", lambda f, r, p, offset, n: right(f, r, p, f, n))
    steps = [("event", "a", [b"1", b"2"], Durability.WRITTEN), ("event", "a", [b"3"], Durability.SYNCED)]
    steps += [("event", "a", [b"4", b"5"], Durability.WRITTEN)]
    steps += [("event", shard, offset, 3) for shard in range(3) for offset in range(5)]
    with pytest.raises(AssertionError):
        check_against_lists(steps)


def test_a_key_stays_in_its_partition(tmp_path, clock):
    with SqliteLog(tmp_path, clock, partitions=4) as subject:
        for number in range(40):
            subject.append("event", f"k{number % 7}", [str(number).encode()])
        seen = {
            shard: [(r.key, int(r.value)) for r in subject.read("event", shard, 0, 100)]
            for shard in range(subject.partitions("event"))
        }
    homes = defaultdict(set)
    for shard, records in seen.items():
        for key, _ in records:
            homes[key].add(shard)
    assert all(len(shards) == 1 for shards in homes.values())
    assert len(set.union(*homes.values())) > 1
    for records in seen.values():
        assert [number for _, number in records] == sorted(number for _, number in records)


def test_threads_share_commits(tmp_path, clock):
    with SqliteLog(tmp_path, clock) as subject, ThreadPoolExecutor(8) as pool:
        firsts = list(pool.map(lambda n: subject.append("event", "k", [b"%d" % n] * 2), range(400)))
        values = [int(record.value) for record in subject.read("event", 0, 0, 1_000)]
        assert sorted(firsts) == list(range(0, 800, 2))
        assert all(values[first] == values[first + 1] == number for number, first in enumerate(firsts))


def test_large_groups_become_several_rows(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_log_topic, "GROUP_RECORDS", 10)
    with SqliteLog(tmp_path, clock) as subject:
        futures = [subject.submit("event", "k", [b"%d" % n] * 4) for n in range(100)]
        assert [future.result() for future in futures] == list(range(0, 400, 4))
        assert [r.offset for r in subject.read("event", 0, 7, 300)] == list(range(7, 307))
    with sqlite3.connect(tmp_path / "event.db") as connection:
        assert connection.execute("select max(count) from batch").fetchone()[0] <= 10
    connection.close()


def test_cursors_are_kept_per_group(tmp_path, clock):
    with SqliteLog(tmp_path, clock, partitions=2) as subject:
        subject.commit("features", "event", 1, 42)
        subject.commit("features", "event", 1, 17)
        subject.commit("rules", "event", 1, 5)
    with SqliteLog(tmp_path, clock) as subject:
        assert subject.committed("features", "event", 1) == 17
        assert subject.committed("rules", "event", 1) == 5
        assert subject.committed("features", "event", 0) == 0


def test_the_wal_starts_again_under_load(tmp_path, clock, monkeypatch):
    """Its header holds two salts that change when it is written from its start again (SQLite file format, 4.1)."""
    monkeypatch.setattr(_log_topic, "CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(_log_topic, "RESTART_BYTES", 256 * 1024)

    def salts() -> bytes:
        return (tmp_path / "event.db-wal").read_bytes()[16:24]

    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"first"])
        before = salts()
        turns = next(n for n in range(20_000) if subject.append("event", "k", [bytes(10_000)]) and salts() != before)
        assert turns > 5
        assert subject.end("event", 0) == turns + 2


# Faults


def test_refusals(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(log, "MAX_VALUE_BYTES", 100)
    with SqliteLog(tmp_path, clock) as subject:
        with pytest.raises(DataError) as large:
            subject.append("event", "k", [bytes(101)])
        with pytest.raises(DefinitionError) as name:
            subject.append("../event", "k", [b""])
        with pytest.raises(DefinitionError) as shard:
            subject.read("event", 1, 0, 1)
    with pytest.raises(PermanentError) as closed:
        subject.append("event", "k", [b""])
    codes = [error.value.code for error in (large, name, shard, closed)]
    assert codes == ["log.record.too_large", "log.topic.name", "log.partition.unknown", "log.closed"]


def test_a_cancelled_append_is_not_written(tmp_path, clock):
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"first"])
        other = sqlite3.connect(tmp_path / "event.db", isolation_level=None)
        other.execute("begin immediate")
        running = subject.submit("event", "k", [b"second"])
        while not running.running():
            pass
        waiting = subject.submit("event", "k", [b"third"])
        assert waiting.cancel()
        other.execute("rollback")
        other.close()
        assert running.result() == 1
        assert subject.append("event", "k", [b"fourth"]) == 2
        assert [r.value for r in subject.read("event", 0, 0, 9)] == [b"first", b"second", b"fourth"]


def test_too_much_waiting_is_refused(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_log_topic, "WAITING_BYTES", 1_000)
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"first"])
        other = sqlite3.connect(tmp_path / "event.db", isolation_level=None)
        other.execute("begin immediate")
        accepted = []
        submit = lambda: accepted.append(subject.submit("event", "k", [bytes(300)]))  # noqa: E731
        with pytest.raises(TransientError) as refused:
            consume(submit() for _ in range(100))
        other.execute("rollback")
        other.close()
        assert refused.value.code == "log.append.overloaded"
        assert [future.result() for future in accepted] == list(range(1, 1 + len(accepted)))


FULL = """
import os, resource, sys
from pathlib import Path
from vedette.core.clock import SystemClock
from vedette.core.errors import TransientError
from vedette.core.log import SqliteLog
log = SqliteLog(Path(sys.argv[1]), SystemClock())
log.append("event", "k", [b"before"])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
refused = 0
for number in range(30):
    try:
        log.append("event", "k", [b"%d" % number, os.urandom(20_000)])
    except TransientError as error:
        assert error.code == "log.append.failed", error.code
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
end = log.end("event", 0)
assert log.append("event", "k", [b"after"]) == end
log.close()
sys.stdout.write(f"{refused} {end}")
"""


def test_a_full_disk_refuses_whole_appends(tmp_path, clock):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, env=ENV, check=False
    )
    assert done.stderr == ""
    refused, end = map(int, done.stdout.split())
    assert 0 < refused < 30
    assert end == 1 + 2 * (30 - refused)
    with SqliteLog(tmp_path, clock) as subject:
        values = [record.value for record in subject.read("event", 0, 0, 100)]
    assert values[0] == b"before"
    assert values[-1] == b"after"
    assert list(map(len, values[2:-1:2])) == [20_000] * (30 - refused)


def test_an_unconfirmed_write_is_told_and_stops_the_topic(tmp_path, clock, monkeypatch):
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"1"], durability=Durability.SYNCED)
        with monkeypatch.context() as broken:
            broken.setattr(_log_topic.os, "fdatasync", lambda _handle: (_ for _ in ()).throw(OSError(5, "planted")))
            with pytest.raises(TransientError) as unconfirmed:
                subject.append("event", "k", [b"2"], durability=Durability.SYNCED)
        with pytest.raises(TransientError) as later:
            subject.append("event", "k", [b"3"])
    assert [unconfirmed.value.code, later.value.code] == ["log.sync.failed", "log.append.failed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_writer_leaves_nobody_waiting(tmp_path, clock, monkeypatch):
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"1"])
        monkeypatch.setattr(_log_topic.Topic, "_write", lambda _self, _group: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            subject.append("event", "k", [b"2"])
        with pytest.raises(TransientError) as later:
            subject.append("event", "k", [b"3"])
    assert later.value.code == "log.append.failed"


def test_synced_waits_for_the_disk(tmp_path, clock, monkeypatch):
    calls = []
    sync = os.fdatasync
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"1"], durability=Durability.SYNCED)
        wal = (tmp_path / "event.db-wal").stat().st_ino
        monkeypatch.setattr(
            _log_topic.os, "fdatasync", lambda handle: (calls.append(os.fstat(handle).st_ino), sync(handle))
        )
        subject.append("event", "k", [b"2"], durability=Durability.SYNCED)
        assert wal in calls


def test_a_damaged_file_is_told(tmp_path, clock):
    (tmp_path / "event.db").write_bytes(b"not a database" * 1_000)
    with SqliteLog(tmp_path, clock) as subject, pytest.raises(PermanentError) as damaged:
        subject.append("event", "k", [b""])
    assert damaged.value.code == "log.file.damaged"


@pytest.mark.parametrize(
    "change",
    [
        "payload = x'c1'",  # no msgpack, and nothing packed
        "payload = x'c1ffffffff0f00'",  # far more than it holds
        "payload = x'90'",  # fewer values than the runs say
        "payload = x'93c40130c40131c40132'",  # more values than the runs say
        "runs = x'c1'",
        "runs = x'9193a1610202'",  # the right shape, of another count
        "runs = x'9193a16102ff'",  # a negative count
        "runs = x'9193a161a16202'",  # a text for a time
    ],
)
def test_a_damaged_batch_is_told_with_its_place(change, tmp_path, clock):
    with SqliteLog(tmp_path, clock) as subject:
        for number in range(3):
            subject.append("event", "k", [b"%d" % number])
    with sqlite3.connect(tmp_path / "event.db") as connection:
        assert connection.execute(f"update batch set {change} where place = 1").rowcount == 1
    connection.close()
    with SqliteLog(tmp_path, clock) as subject:
        for _ in range(2):
            with pytest.raises(DataError) as damaged:
                subject.read("event", 0, 0, 10)
            assert (damaged.value.code, damaged.value.at) == ("log.file.damaged", "event/0/1")
        assert [record.value for record in subject.read("event", 0, 0, 1)] == [b"0"]
        assert [record.value for record in subject.read("event", 0, 2, 10)] == [b"2"]
        assert subject.append("event", "k", [b"3"]) == subject.end("event", 0) - 1 == 3


def test_a_damaged_page_is_told(tmp_path, clock):
    with SqliteLog(tmp_path, clock) as subject:
        for number in range(3):
            subject.append("event", "k", [b"%d" % number * 9_000])
    raw = (tmp_path / "event.db").read_bytes()
    told = []
    for page in range(1, len(raw) // _log_topic.PAGE_BYTES):
        start = page * _log_topic.PAGE_BYTES
        (tmp_path / "event.db").write_bytes(raw[:start] + b"\xff" * 4_096 + raw[start + 4_096 :])
        for extra in ("-wal", "-shm"):
            (tmp_path / f"event.db{extra}").unlink(missing_ok=True)
        told.append(read_or_code(tmp_path, clock))
    assert set(told) <= {3, "log.file.damaged"}
    assert "log.file.damaged" in told


def read_or_code(folder, clock):
    """How many records there are, or the code of the refusal."""
    with SqliteLog(folder, clock) as subject:
        try:
            return len(subject.read("event", 0, 0, 10))
        except (DataError, PermanentError) as refused:
            return refused.code


def test_looking_makes_no_topic(tmp_path, clock):
    with SqliteLog(tmp_path, clock, partitions=3) as subject, SqliteLog(tmp_path, clock, partitions=2) as other:
        files = sorted(tmp_path.iterdir())
        assert (subject.read("event", 2, 0, 9), subject.end("event", 2), subject.partitions("event")) == ([], 0, 3)
        subject.commit("group", "event", 2, 0)
        for partition in (-1, 3):
            with pytest.raises(DefinitionError):
                subject.read("event", partition, 0, 9)
        assert sorted(tmp_path.iterdir()) == files
        other.append("event", "k", [b"1"])
        assert subject.partitions("event") == 2
        assert sum(len(subject.read("event", shard, 0, 9)) for shard in range(2)) == 1
        with pytest.raises(DefinitionError):
            subject.end("event", 2)
    for call in (
        subject.partitions,
        lambda topic: subject.read(topic, 0, 0, 1),
        lambda topic: subject.read("e", 0, 0, 1),
    ):
        with pytest.raises(PermanentError) as closed:
            call("event")
        assert closed.value.code == "log.closed"


def test_an_offset_beyond_every_offset_is_the_end(tmp_path, clock):
    with SqliteLog(tmp_path, clock, partitions=2) as subject:
        subject.append("event", "k", [b"1"])
        assert [subject.read("event", shard, 10**30, 5) for shard in range(2)] == [[], []]


def test_large_records_take_less_room(tmp_path, clock):
    values = [b'{"event_id":"%d","features":{"customer_count_1d":2.0}}' % number * 100 for number in range(50)]
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", values)
    with SqliteLog(tmp_path, clock) as subject:
        assert [record.value for record in subject.read("event", 0, 0, 100)] == values
    assert (tmp_path / "event.db").stat().st_size < sum(map(len, values)) / 3


def test_a_file_of_the_first_format_is_read_and_written(tmp_path, clock):
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"1"])
    with sqlite3.connect(tmp_path / "event.db") as connection:
        connection.execute("pragma user_version = 1")
    connection.close()
    with SqliteLog(tmp_path, clock) as subject:
        subject.append("event", "k", [b"2" * 5_000])
        assert [record.value for record in subject.read("event", 0, 0, 10)] == [b"1", b"2" * 5_000]
    with sqlite3.connect(tmp_path / "event.db") as connection:
        assert connection.execute("pragma user_version").fetchone()[0] == _log_topic.FORMAT
    connection.close()


def test_a_newer_file_is_refused(tmp_path, clock):
    with sqlite3.connect(tmp_path / "event.db") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with SqliteLog(tmp_path, clock) as subject, pytest.raises(DefinitionError) as newer:
        subject.append("event", "k", [b""])
    assert newer.value.code == "log.file.newer"


# Processes


def run_and_kill(folder: Path, seed: int, plant: str = "none", rounds: int = 4) -> dict[int, str]:
    """Two writers at a time on one folder, killed at a random moment, several times; offset -> acknowledged value."""
    rng = random.Random(seed)
    acknowledged: dict[int, str] = {}
    for turn in range(rounds):
        command = [sys.executable, str(WRITER), str(folder)]
        children = [
            subprocess.Popen(
                [*command, f"w{turn}{side}", plant], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV
            )
            for side in "ab"
        ]
        lines = []
        for child in children:
            assert child.stdout
            lines += [child.stdout.readline() for _ in range(rng.randrange(1, 150))]
        for child in children:
            child.kill()
        for child in children:
            assert child.stdout
            lines += child.stdout.readlines()
            child.stdout.close()
            child.wait()
        for line in filter(lambda line: line.endswith(b"\n"), lines):
            offset, value = line.decode().split()
            assert int(offset) not in acknowledged, "two records were told the same offset"
            acknowledged[int(offset)] = value
    return acknowledged


def check_kept(folder: Path, acknowledged: dict[int, str]) -> None:
    """Every acknowledged record is where it was said to be; no gap, no duplicate, whole appends only."""
    with SqliteLog(folder, SystemClock()) as subject:
        records = subject.read("event", 0, 0, 1_000_000)
        assert subject.append("event", "k", [b"x"]) == len(records)
    assert [record.offset for record in records] == list(range(len(records)))
    values = [record.value.decode() for record in records]
    assert len(set(values)) == len(values)
    for offset, value in acknowledged.items():
        assert values[offset] == value
    parts = defaultdict(list)
    for value in values:
        writer, number, part = value.split("-")
        parts[writer, int(number)].append(int(part))
    assert all(found == list(range(1 + number % 3)) for (_, number), found in parts.items())


@pytest.mark.kill
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost(tmp_path, seed):
    acknowledged = run_and_kill(tmp_path, seed)
    assert len(acknowledged) > 20
    check_kept(tmp_path, acknowledged)


@pytest.mark.kill
@pytest.mark.parametrize("plant", ["early", "torn"])
def test_the_kill_test_finds_planted_bugs(tmp_path, plant):
    def attempt(seed):
        check_kept(tmp_path / str(seed), run_and_kill(tmp_path / str(seed), seed, plant, rounds=2))

    with pytest.raises((AssertionError, IndexError)):
        consume(attempt(seed) for seed in range(8))


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_often(tmp_path):
    for seed in range(100):
        folder = tmp_path / str(seed)
        check_kept(folder, run_and_kill(folder, seed, rounds=6))
