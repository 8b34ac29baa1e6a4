"""A service that starts from backfilled history against one that took the history itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vedette.cli.main import main
from vedette.core.clock import DAY, from_datetime
from vedette.core.errors import DataError
from vedette.core.label import Label
from vedette.core.settings import Settings
from vedette.demo.transactions import write_transactions
from vedette.judge.decisions.files import read_rows
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.opening import BACKFILL, CHECKPOINT, open_books
from vedette.judge.decisions.recorder import Wanted
from vedette.judge.models.training import train
from vedette.judge.payment.rules import PaymentRules
from vedette.run.payments.backfill import backfill
from vedette.sense.features.definition import load_features, shipped
from vedette.sense.features.table import read_table
from vedette.sense.sources import load_sources

FEATURES = load_features(shipped("card_transactions"))
START = datetime(2026, 3, 2, tzinfo=UTC)
NOW = from_datetime(START) + 400 * DAY
DELAY = 2 * DAY


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("history") / "cards.csv"
    write_transactions(path, seed=3, days=6, start=START)
    return path


def books(folder: Path, clock):
    return open_books(folder, features=FEATURES, model=None, rules=PaymentRules(), clock=clock)


def wanted(path: Path):
    source = load_sources()["card_transactions"]
    for row in read_rows(path, source):
        event = to_event(row.data, source, tenant="default", ingest_time=NOW)
        known = event.event_time + DELAY
        fraud = bool(row.data["TX_FRAUD"])
        yield Wanted(event, label=Label(event_id=event.id, tenant="default", fraud=fraud, observed_time=known))


def test_a_service_that_starts_from_history_equals_one_that_took_it(tmp_path, history, clock):
    clock.micros = NOW
    lived = books(tmp_path / "lived", clock)
    everything = list(wanted(history))
    for start in range(0, len(everything), 500):
        lived.recorder.decide_many(everything[start : start + 500])

    settings = Settings(home=tmp_path / "home")
    done = backfill(settings, "default", [history], FEATURES, delay=DELAY, until=NOW)
    started = books(settings.home / "decisions" / "default", clock)
    assert done.rows == len(everything)
    assert done.entities == started.engine.entities
    assert started.engine.checksum() == lived.engine.checksum()

    # It goes on from there, and a lost checkpoint costs nothing but a replay of the log.
    more = [one.event for one in everything[-5:]]
    for number, event in enumerate(more):
        data = {**event.data, "TRANSACTION_ID": f"new-{number}"}
        started.recorder.decide(to_event(data, load_sources()["card_transactions"], tenant="default", ingest_time=NOW))
    after = started.engine.checksum()
    started.close()
    (settings.home / "decisions" / "default" / CHECKPOINT).unlink()
    again = books(settings.home / "decisions" / "default", clock)
    assert again.engine.checksum() == after
    again.close()
    lived.close()


def test_files_without_rows_are_refused(tmp_path):
    empty = tmp_path / "empty.csv"
    empty.write_text("TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n1,never,1,1,1.0,0\n")
    with pytest.raises(DataError) as refused:
        backfill(Settings(home=tmp_path), "default", [empty], FEATURES, delay=0, until=NOW)
    assert refused.value.code == "backfill.rows.missing"


def test_the_verb_takes_the_models_own_features(tmp_path, history, capsys):
    table = read_table([history], FEATURES)
    day = from_datetime(START) // DAY
    train(table, FEATURES, start=day + 1, days=2, delay_days=2, out=tmp_path / "model")
    line = ["features", "backfill", "--model", str(tmp_path / "model"), "--events", str(history)]
    with pytest.raises(SystemExit) as stop:
        main([*line, "--home", str(tmp_path / "home"), "--until", "2026-03-07", "--json"])
    assert stop.value.code == 0
    done = json.loads(capsys.readouterr().out)
    assert done["rows"] == len(table)
    assert (tmp_path / "home" / "decisions" / "default" / BACKFILL).exists()
    with pytest.raises(SystemExit) as stop:
        main([*line, "--until", "soon"])
    assert stop.value.code == 2
