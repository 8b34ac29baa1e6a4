"""The demo's command line: what it refuses before any work starts, and what it shows."""

from __future__ import annotations

import io
import socket
from datetime import UTC, datetime

import pytest
from rich.console import Console

from vedette.cli._board import show_board
from vedette.cli._day_view import for_people, watching
from vedette.cli.demo import to_midnight
from vedette.cli.main import main
from vedette.core.errors import DataError
from vedette.demo.day import Record
from vedette.demo.score import Found, Latency, ScoreBoard, Unusual
from vedette.demo.staff import Desk
from vedette.demo.world.nouns import Answer


def refused(capsys, *line: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["demo", *line])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_port_in_use_is_told_before_the_work_starts(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(capsys, "--port", str(port), "--out", str(tmp_path / "day"))
    assert "demo.port.used" in told
    assert not (tmp_path / "day").exists()


def test_somebody_elses_folder_is_told_before_the_work_starts(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years")
    assert "demo.folder.other" in refused(capsys, "--port", "0", "--out", str(tmp_path))
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(("text", "code"), [("soon", "demo.date.invalid"), ("2999-01-01", "demo.date.future")])
def test_a_wrong_date_is_told(text: str, code: str):
    with pytest.raises(DataError) as wrong:
        to_midnight(text)
    assert wrong.value.code == code


def test_a_date_is_midnight_utc():
    assert to_midnight("2026-03-02") == datetime(2026, 3, 2, tzinfo=UTC)
    assert to_midnight("").hour == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (9.4, "9 s"), (245, "4 min 05 s"), (7_500, "2 h 05 min"), (0, "0 s")]
)
def test_spans_read_as_a_clock(seconds, text):
    assert for_people(seconds) == text


def board(**changes) -> ScoreBoard:
    found = Found(
        id="a1",
        kind="stolen_key",
        found=True,
        alert="al",
        by="Key\x1b[2Jread",
        seconds=65.0,
        payments=3,
        stopped=2,
        contained_s=900.0,
    )
    missed = Found(id="a2", kind="insider", found=False, alert="", by="", seconds=None, payments=0, stopped=0)
    figures = {
        "events": 400_123,
        "payments": 100_456,
        "alerts": 31,
        "cases": 7,
        "precision": 0.9,
        "recall": 0.5,
        "money_saved_minor": 1_234_500,
        "good_users_hurt": 0.0042,
        "latency_ms": Latency(9.0, 31.0),
        "time_to_detect_s": 65.0,
        "time_to_contain_s": 900.0,
        "seed": 4,
        "money_lost_minor": 100,
        "good_users": 9,
        "good_users_challenged": 0.01,
        "attacks": (found, missed),
        "unusual": (Unusual("flash_sale", 0), Unusual("flash_sale", 0), Unusual("on_call", 2)),
    }
    return ScoreBoard(**{**figures, **changes})


def shown(draw) -> str:
    text = io.StringIO()
    draw(Console(file=text, width=110, force_terminal=False))
    return text.getvalue()


def test_the_board_says_what_was_found_and_moves_no_cursor():
    text = shown(lambda console: show_board(console, board()))
    for said in ("1 of 2", "12,345 EUR", "0.42%", "15 min 00 s", "missed", "2 x flash sale", "400,123 log records"):
        assert said in text
    assert "alerts about honest: on call" in text
    assert "\x1b" not in text


def test_the_board_of_nothing_can_be_shown():
    empty = board(attacks=(), unusual=(), time_to_detect_s=None, time_to_contain_s=None)
    assert "0 of 0" in shown(lambda console: show_board(console, empty))


@pytest.mark.parametrize("live", [False, True])
def test_both_views_tell_the_day(live: bool):
    record = Record(events=12, payments=3, answers={Answer.CAPTURED: 3}, now=1_772_460_300_000_000)

    def draw(console: Console) -> None:
        with watching(console, live=live) as view:
            view.stage("history", "sixty days")
            view.report("reading", 1, 2)
            view.note("5 payments")
            view.stage("the day")
            view.day(record, Desk(alerts=2, newest="Key\x1b[2J", cases=1))
            view.said("approved: key is contained")

    text = shown(draw)
    assert "the day" in text
    assert "\x1b[2J" not in text
    if not live:
        assert "12 log records, 3 payments, 2 alerts, 1 cases" in text
        assert "approved: key is contained" in text
