"""The log's file is begun anew when the disk is calm, and whatever the disk does when it has grown too large."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from vedette.core import _log_topic as topic
from vedette.core.clock import SystemClock
from vedette.core.log import SqliteLog

LARGE = topic.RESTART_BYTES + topic.PAGE_BYTES


class Copier:
    """Copies all there is but `left` at each look, and remembers what it was asked."""

    def __init__(self, pages, left):
        self.pages, self.left, self.asked = pages, left, []

    def execute(self, asked):
        self.asked.append(asked.removeprefix("pragma wal_checkpoint"))
        return SimpleNamespace(fetchone=lambda: (0, self.pages, self.pages - self.left))

    @contextmanager
    def paused(self):
        self.asked.append("pause")
        yield


@pytest.mark.parametrize(
    ("busy_s", "size", "left", "asked"),
    [
        (0.0, topic.RESTART_BYTES, 0, ["(passive)"]),
        (0.0, LARGE, 0, ["(passive)", "(passive)", "pause", "(passive)"]),
        (0.0, LARGE, 1, ["(passive)", "(passive)", "pause", "(passive)"]),
        (0.0, topic.KEPT_BYTES, 0, ["(passive)", "(passive)", "pause", "(passive)", "(restart)"]),
        (0.02, LARGE, 1, ["(passive)"] * topic.MOST_COPIES),
        (0.02, topic.KEPT_BYTES, 1, [*["(passive)"] * topic.MOST_COPIES, "(restart)"]),
    ],
)
def test_a_busy_disk_is_left_alone_until_the_file_is_too_large(monkeypatch, busy_s, size, left, asked):
    monkeypatch.setattr(topic, "_bring_to_disk", lambda _handle: time.sleep(busy_s))
    monkeypatch.setattr(topic, "CALM_S", topic.CALM_S if busy_s else 60.0)  # a busy machine is not what is looked at
    copier = Copier(size // topic.PAGE_BYTES, left)
    topic._checkpoint(copier, 0, copier.paused)
    assert copier.asked == asked


def test_a_log_that_is_written_all_the_time_is_begun_anew_without_stopping_writers(monkeypatch, tmp_path):
    monkeypatch.setattr(topic, "RESTART_BYTES", 1 << 20)
    monkeypatch.setattr(topic, "CHECKPOINT_BYTES", 1 << 18)
    monkeypatch.setattr(topic, "KEPT_BYTES", 1 << 40)  # so that nobody is stopped
    monkeypatch.setattr(topic, "CALM_S", 60.0)
    monkeypatch.setattr(topic, "PAUSE_S", 60.0)
    wal, until = tmp_path / "event.db-wal", time.monotonic() + 60
    with SqliteLog(tmp_path, SystemClock()) as log:
        number, salts = 0, set()
        while len(salts) < 3 and time.monotonic() < until:
            assert log.append("event", "k", [b"%d" % number]) == number
            number += 1
            if number % 20 == 0:
                with wal.open("rb") as file:
                    salts.add(file.read(24)[16:])
        assert len(salts) >= 3, "it was never begun anew"
        assert [record.value for record in log.read("event", 0, number - 1, 5)] == [b"%d" % (number - 1)]


def test_writers_go_on_when_the_disk_takes_its_time_at_the_last_moment(monkeypatch, tmp_path):
    monkeypatch.setattr(topic, "RESTART_BYTES", 0)
    monkeypatch.setattr(topic, "CHECKPOINT_BYTES", 0)
    monkeypatch.setattr(topic, "CALM_S", 60.0)
    stuck, go_on, looks = threading.Event(), threading.Event(), []
    copy = topic._copy

    def slow(connection):
        looks.append(connection)
        if len(looks) == 3:
            stuck.set()
            go_on.wait()
        return copy(connection)

    monkeypatch.setattr(topic, "_copy", slow)
    with SqliteLog(tmp_path, SystemClock()) as log:
        for _ in range(2_000):
            last = log.append("event", "k", [b"1"])
            if stuck.is_set():
                break
            time.sleep(0.001)
        try:
            assert stuck.is_set(), "the last copy never began"
            assert log.append("event", "k", [b"2"]) == last + 1
        finally:
            go_on.set()
