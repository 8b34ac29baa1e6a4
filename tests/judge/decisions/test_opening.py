"""A folder of decisions opened again: checkpoints that help, checkpoints that are broken, events left undecided."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.conftest import FakeClock
from tests.judge.decisions.parts import transactions

from vedette.core.decision import Decision
from vedette.core.errors import DataError, TransientError
from vedette.core.log import Log, SqliteLog
from vedette.judge.decisions import passing
from vedette.judge.decisions.opening import Books, open_books
from vedette.judge.decisions.recorder import DECISIONS, EVENTS
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.rules import PaymentRules, parse_rule
from vedette.sense.features.definition import FeatureSet, load_features, parse_features, shipped

CLOCK = FakeClock(1_600_000_000_000_000)


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    return load_features(shipped("card_transactions"))


def open_at(folder: Path, features: FeatureSet | None, log: Log | None = None) -> Books:
    table = with_features(features.names if features else ())
    texts = ["block if :amount_in_usd: > 300", *(["review if :customer_count_1d: > 3"] if features else [])]
    rules = PaymentRules([parse_rule(text, attributes=table) for text in texts])
    return open_books(folder, features=features, model=None, rules=rules, clock=CLOCK, log=log)


@pytest.mark.parametrize("damage", ["none", "corrupt", "missing", "other definitions"])
def test_the_checkpoint_is_only_a_shortcut(tmp_path, features, damage) -> None:
    events = transactions(120)
    alone = open_at(tmp_path / "alone", features)
    told = [alone.recorder.decide(event) for event in events]
    books = open_at(tmp_path / "books", features)
    assert [books.recorder.decide(event).action for event in events[:60]] == [d.action for d in told[:60]]
    books.close()
    checkpoint = tmp_path / "books" / "features.npz"
    if damage == "corrupt":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    elif damage == "missing":
        checkpoint.unlink()
    elif damage == "other definitions":
        other = parse_features(features.text.replace("lateness: 1h", "lateness: 2h"))
        open_at(tmp_path / "books", other).close()
    again = open_at(tmp_path / "books", features)
    assert [again.recorder.decide(event).features for event in events] == [d.features for d in told]
    assert again.engine.checksum() == alone.engine.checksum()
    again.close()
    alone.close()


class Refusing(SqliteLog):
    """A log whose decisions do not fit any more."""

    full = False

    def append(self, topic, key, values, **how):
        if self.full and topic == DECISIONS:
            raise TransientError("log.append.failed", "disk full")
        return super().append(topic, key, values, **how)


@pytest.mark.parametrize("with_engine", [True, False])
def test_an_event_left_undecided_is_decided_at_the_next_start(tmp_path, features, with_engine) -> None:
    chosen = features if with_engine else None
    events = transactions(20)
    log = Refusing(tmp_path / "log", CLOCK)
    books = open_at(tmp_path / "books", chosen, log)
    told = [books.recorder.decide(event) for event in events[:10]]
    log.full = True
    with pytest.raises(TransientError):
        books.recorder.decide(events[10])
    log.close()
    # The process is gone here: nothing of it is closed in order.
    fresh = SqliteLog(tmp_path / "log", CLOCK)
    again = open_at(tmp_path / "books", chosen, fresh)
    assert again.recorder.recovered == 1
    assert [again.recorder.decide(event) for event in events[:10]] == told
    assert again.recorder.decide(events[10]).seq == 11
    assert fresh.end(EVENTS, 0) == 11
    again.close()
    fresh.close()


def test_a_passing_log_keeps_the_newest_and_counts_all(tmp_path, features, monkeypatch) -> None:
    monkeypatch.setattr(passing, "KEPT_RECORDS", 50)
    events = transactions(120)
    books = open_at(tmp_path / "passing", features, passing.PassingLog(CLOCK))
    whole = open_at(tmp_path / "whole", features)
    told = [books.recorder.decide(event) for event in events]
    assert [plain(decision) for decision in told] == [plain(whole.recorder.decide(event)) for event in events]
    assert books.recorder.decide(events[100]) == told[100]
    with pytest.raises(DataError) as gone:
        books.recorder.decide(events[3])
    assert gone.value.code == "decision.event.passed"
    assert (books.log.end(EVENTS, 0), len(books.log.read(DECISIONS, 0, 70, 1_000))) == (120, 50)
    books.close()
    whole.close()


def plain(decision: Decision) -> Decision:
    return msgspec.structs.replace(decision, latency_us=0)
