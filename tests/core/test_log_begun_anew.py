"""The log's file is begun anew when the disk is calm, and whatever the disk does when it has grown too large."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from vedette.core import _log_topic as topic


class Copier:
    """Copies all there is at each look, and remembers what it was asked."""

    def __init__(self, pages):
        self.pages, self.asked = pages, []

    def execute(self, asked):
        self.asked.append(asked.removeprefix("pragma wal_checkpoint"))
        return SimpleNamespace(fetchone=lambda: (0, self.pages, self.pages))


@pytest.mark.parametrize(
    ("busy_s", "size", "asked"),
    [
        (0.0, topic.RESTART_BYTES, ["(passive)"]),
        (0.0, topic.RESTART_BYTES + topic.PAGE_BYTES, ["(passive)", "(passive)", "(restart)"]),
        (0.02, topic.RESTART_BYTES + topic.PAGE_BYTES, ["(passive)"] * topic.MOST_COPIES),
        (0.02, topic.KEPT_BYTES, [*["(passive)"] * topic.MOST_COPIES, "(restart)"]),
    ],
)
def test_a_busy_disk_is_left_alone_until_the_file_is_too_large(monkeypatch, busy_s, size, asked):
    monkeypatch.setattr(topic, "_bring_to_disk", lambda _handle: time.sleep(busy_s))
    monkeypatch.setattr(topic, "CALM_S", topic.CALM_S if busy_s else 60.0)  # a busy machine is not what is looked at
    copier = Copier(size // topic.PAGE_BYTES)
    topic._checkpoint(copier, 0)
    assert copier.asked == asked
