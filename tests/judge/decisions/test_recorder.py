"""Events and decisions in the log: one decision an event, whatever repeats, fails or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock
from tests.judge.decisions.parts import DAY, CountingFeatures, FormulaModel, some_rules, transaction, transactions

from vedette.core.decision import Decision
from vedette.core.errors import ConflictError, DataError, DefinitionError, TransientError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import SqliteLog
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.recorder import DECISIONS, EVENTS, Recorder, Wanted
from vedette.judge.decisions.seen import FLUSH_ENTRIES, Seen, key_of


class Rig:
    """A recorder over a folder, as a process has it."""

    def __init__(
        self, folder: Path, *, log: SqliteLog | None = None, features: CountingFeatures | None = None, after: int = 0
    ) -> None:
        self.clock = FakeClock(1_600_000_000_000_000)
        self.log = log or SqliteLog(folder / "log", self.clock)
        self.features = features or CountingFeatures()
        decider = Decider(features=self.features, model=FormulaModel(), rules=some_rules(), clock=self.clock)
        self.recorder = Recorder(self.log, decider, Seen(folder / "seen.db"), clock=self.clock, features_next=after)

    def decisions(self) -> list[Decision]:
        return [msgspec.json.decode(r.value, type=Decision) for r in self.log.read(DECISIONS, 0, 0, 100_000)]

    def close(self) -> None:
        self.recorder.close()
        self.log.close()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def expected(events: list[Event]) -> list[Decision]:
    """One event at a time through the decider alone."""
    features, clock = CountingFeatures(), FakeClock()
    decider = Decider(features=features, model=FormulaModel(), rules=some_rules(), clock=clock)
    decisions = []
    for seq, event in enumerate(events, 1):
        decisions.append(decider.decide(msgspec.structs.replace(event, seq=seq)))
        features.apply(event)
    return decisions


def test_one_at_a_time(rig) -> None:
    events = transactions(50)
    assert [rig.recorder.decide(event) for event in events] == expected(events) == rig.decisions()
    assert [msgspec.json.decode(r.value, type=Event).id for r in rig.log.read(EVENTS, 0, 0, 100)] == [
        e.id for e in events
    ]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_grouping_and_any_repeats_give_the_same(tmp_path_factory, sizes, rng) -> None:
    events = transactions(sum(sizes))
    rig = Rig(tmp_path_factory.mktemp("rig"))
    told: dict[str, Decision] = {}
    at = 0
    for size in sizes:
        group = events[at : at + size] + rng.sample(events[: at + size], k=min(2, at + size))
        for event, answer in zip(group, rig.recorder.decide_many([Wanted(e) for e in group]), strict=True):
            assert told.setdefault(event.id, answer) == answer
        at += size
    assert [told[event.id] for event in events] == expected(events) == rig.decisions()
    rig.close()


def test_a_repeat_after_a_restart_gets_the_recorded_decision(tmp_path) -> None:
    events = transactions(FLUSH_ENTRIES + 30)
    first = Rig(tmp_path)
    told = first.recorder.decide_many([Wanted(event) for event in events])
    first.close()
    again = Rig(tmp_path)
    assert again.recorder.recovered == 0
    assert [again.recorder.decide(event) for event in events[::100]] == told[::100]
    assert again.features.customers == first.features.customers
    assert again.log.end(EVENTS, 0) == len(events)
    again.close()
    # The index is only an index.
    (tmp_path / "seen.db").unlink()
    rebuilt = Rig(tmp_path)
    assert rebuilt.recorder.decide(events[0]) == told[0]
    rebuilt.close()


def test_the_same_id_with_other_data_is_a_conflict(rig) -> None:
    rig.recorder.decide(transaction(1, amount=5.0))
    other = transaction(1, amount=6.0)
    with pytest.raises(ConflictError) as wrong:
        rig.recorder.decide(other)
    assert wrong.value.code == "decision.event.conflict"
    both = rig.recorder.decide_many(
        [Wanted(transaction(2)), Wanted(transaction(2, amount=1.5)), Wanted(transaction(2))]
    )
    assert isinstance(both[1], ConflictError)
    assert both[0] == both[2]
    assert len(rig.decisions()) == 2


@pytest.mark.parametrize(
    ("event", "code", "at"),
    [
        (transaction(1, amount="20"), "decision.event.type", "$.TX_AMOUNT"),
        (transaction(1, amount=True), "decision.event.type", "$.TX_AMOUNT"),
        (transaction(1, amount=float("nan")), "decision.event.type", "$.TX_AMOUNT"),
        (transaction(1, amount=None), "decision.event.type", "$.TX_AMOUNT"),
        (transaction(1, amount=-0.01), "decision.event.negative", "$.TX_AMOUNT"),
        (transaction(1, customer=[1]), "decision.event.type", "$.CUSTOMER_ID"),
        (transaction(1, terminal=""), "decision.event.type", "$.TERMINAL_ID"),
        (transaction(1, customer="4242424242424242"), "request.pan_refused", "$.CUSTOMER_ID"),
        (transaction(1, time=10 * 365 * 86_400), "event.time.future", ""),
        (msgspec.structs.replace(transaction(1), tenant="other"), "decision.event.tenant", "$.tenant"),
        (msgspec.structs.replace(transaction(1), id=""), "decision.event.no_id", "$.id"),
        (
            Event(
                id="c",
                tenant="default",
                source="charge",
                event_time=1,
                ingest_time=1,
                data={"amount_minor": -1, "currency": "EUR"},
            ),
            "money.amount.invalid",
            "$.amount_minor",
        ),
        (
            Event(
                id="c",
                tenant="default",
                source="charge",
                event_time=1,
                ingest_time=1,
                data={"amount_minor": 1, "currency": "XXQ"},
            ),
            "money.currency.unknown",
            "$.currency",
        ),
    ],
)
def test_bad_events_are_refused_and_the_rest_goes_on(rig, event, code, at) -> None:
    rig.clock.micros = transaction(1).event_time + DAY
    good = [transaction(n) for n in (10, 11)]
    answers = rig.recorder.decide_many([Wanted(good[0]), Wanted(event), Wanted(good[1])])
    assert isinstance(answers[1], DataError)
    assert (answers[1].code, answers[1].at) == (code, at)
    assert [answers[0], answers[2]] == expected(good)
    assert rig.log.end(EVENTS, 0) == 2


@pytest.mark.parametrize("bug", ["applied twice", "not applied", "decided after"])
def test_the_comparison_sees_planted_bugs(rig, monkeypatch, bug) -> None:
    apply, decide = rig.features.apply, rig.recorder.decider.decide
    if bug == "applied twice":
        monkeypatch.setattr(rig.features, "apply", lambda event: (apply(event), apply(event)))
    elif bug == "not applied":
        monkeypatch.setattr(rig.features, "apply", lambda event: None)
    else:
        monkeypatch.setattr(
            rig.recorder.decider, "decide", lambda event, risks: (apply(event), decide(event, risks))[1]
        )
    events = transactions(50)
    assert [rig.recorder.decide(event) for event in events] != expected(events)


class FailingLog(SqliteLog):
    """A log whose disk is full when told so."""

    broken = ""

    def append(self, topic, key, values, **how):
        if topic == self.broken:
            raise TransientError("log.append.failed", "disk full")
        return super().append(topic, key, values, **how)


@pytest.mark.parametrize("topic", [EVENTS, DECISIONS])
def test_a_log_that_refuses_loses_nothing(tmp_path, topic) -> None:
    log = FailingLog(tmp_path / "log", FakeClock())
    rig = Rig(tmp_path, log=log)
    events = transactions(6)
    assert rig.recorder.decide_many([Wanted(event) for event in events[:2]]) == expected(events)[:2]
    log.broken = topic
    with pytest.raises(TransientError):
        rig.recorder.decide(events[2])
    log.broken = ""
    assert [rig.recorder.decide(event) for event in events] == expected(events) == rig.decisions()
    rig.close()


def test_events_of_others_feed_the_features_in_log_order(rig) -> None:
    events = transactions(6)
    rig.recorder.decide(events[0])
    rig.log.append(EVENTS, "ingest", [msgspec.json.encode(events[1])])
    answers = [rig.recorder.decide(event) for event in events[2:]]
    assert answers == [expected(events)[place] for place in (2, 3, 4, 5)]
    assert len(rig.decisions()) == 5


def test_labels_keep_their_place_over_a_restart(tmp_path) -> None:
    events = transactions(40)

    def run(rig: Rig, part: list[Event]) -> list[Decision]:
        told = []
        for event in part:
            told.append(rig.recorder.decide(event))
            if int(event.id) % 3 == 0:
                rig.recorder.learn(
                    [Label(event_id=event.id, tenant="default", fraud=True, observed_time=event.event_time)]
                )
        return told

    whole = Rig(tmp_path / "a")
    told = run(whole, events)
    parts = Rig(tmp_path / "b")
    run(parts, events[:20])
    parts.close()
    rest = Rig(tmp_path / "b")
    assert run(rest, events[20:]) == told[20:]
    assert rest.features.customers == whole.features.customers
    assert any(decision.features["known_frauds"] for decision in told)
    whole.close()
    rest.close()


def test_an_answer_by_policy_is_what_the_log_holds(rig) -> None:
    event = transaction(1)
    mine = rig.recorder.decider.fall_back(event, "log")
    assert rig.recorder.decide_many([Wanted(event, mine)])[0] == msgspec.structs.replace(mine, seq=1)
    assert rig.features.customers["1"][0] == 1
    late = transaction(2)
    rig.recorder.decide(late)
    rig.recorder.amend(
        [rig.recorder.decider.fall_back(late, "log"), rig.recorder.decider.fall_back(transaction(9), "log")]
    )
    again = rig.recorder.decide(late)
    assert (again.fallback, again.seq) == ("fallback.log", 2)
    assert len(rig.decisions()) == 3


def test_a_log_of_several_partitions_is_refused(tmp_path) -> None:
    log = SqliteLog(tmp_path, FakeClock(), partitions=4)
    with pytest.raises(DefinitionError, match="one partition"):
        Rig(tmp_path, log=log)
    log.close()


def test_seen_keeps_the_newest_and_tells_tenants_apart(tmp_path) -> None:
    seen = Seen(tmp_path / "seen.db")
    keys = [key_of("t", str(n)) for n in range(3 * FLUSH_ENTRIES + 5)]
    for place, key in enumerate(keys):
        seen.add(key, place)
    seen.add(keys[0], 999_999)
    assert seen.get(keys[0]) == 999_999
    assert all(seen.get(key) == place for place, key in enumerate(keys) if place)
    assert seen.get(key_of("u", "1")) is None
    assert key_of("ab", "c") != key_of("a", "bc")
    seen.close()
    again = Seen(tmp_path / "seen.db")
    assert (again.get(keys[0]), again.get(keys[-1]), again.next) == (999_999, len(keys) - 1, 1_000_000)
    again.close()


PROGRAM = """
import sys
from pathlib import Path
from tests.judge.decisions.parts import transactions
from tests.judge.decisions.test_recorder import Rig
rig = Rig(Path(sys.argv[1]))
for event in transactions(int(sys.argv[2])):
    rig.recorder.decide(event)
    print(event.id, flush=True)
rig.close()
"""


@pytest.mark.kill
def test_a_killed_process_loses_and_doubles_nothing(tmp_path, rng) -> None:
    count, kills = 600, 4
    root = Path(__file__).resolve().parents[3]
    environ = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    answered = 0
    for attempt in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(count)], stdout=subprocess.PIPE, env=environ, cwd=root
        )
        stop_after = rng.randrange(20, 130) + answered if attempt < kills else count
        for _ in range(stop_after):
            if process.stdout.readline():
                continue
            break
        answered = max(answered, min(stop_after, count))
        if attempt < kills:
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(300) == (-signal.SIGKILL if attempt < kills else 0)
    rig = Rig(tmp_path)
    events = transactions(count)
    plain = [msgspec.structs.replace(decision, latency_us=0) for decision in rig.decisions()]
    assert plain == expected(events)
    once = CountingFeatures()
    for event in events:
        once.apply(event)
    assert rig.features.customers == once.customers
    assert rig.recorder.decide(events[5]) == rig.decisions()[5]
    rig.close()
