"""The verifier beside the service: a real process over a real tree."""

from __future__ import annotations

import threading

import pytest

from vedette.core.clock import SystemClock
from vedette.core.errors import ConflictError
from vedette.core.settings import Settings
from vedette.run.platform import Platform
from vedette.run.verifying import Verifier

PEOPLE = 20


@pytest.fixture
def platform(tmp_path):
    with Platform(Settings(home=tmp_path), clock=SystemClock()) as made:
        made.access.create_tenant("acme")
        for number in range(PEOPLE):
            made.access.people.create("acme", f"person {number}")
        yield made


def wait(verifier):
    tick = threading.Event()
    for _ in range(3_000):
        if verifier.newest.ended:
            return verifier.newest
        tick.wait(0.1)
    raise AssertionError("the verifier did not end")


def collect(platform):
    tick = threading.Event()
    # What is younger than a quarter of a second is not settled, and no evidence yet.
    for _ in range(6_000):
        platform.collector.collect()
        if platform.evidence.size() >= PEOPLE:
            break
        tick.wait(0.05)
    platform.evidence.checkpoint()


def test_tells_that_nothing_was_changed(platform):
    collect(platform)
    verifier = platform.verifier
    assert verifier.newest is None
    verifier.start(by="per_1")
    with pytest.raises(ConflictError) as caught:
        verifier.start(by="per_2")
    assert caught.value.code == "audit.verify.running"
    done = wait(verifier)
    assert done.error == ""
    assert (done.report["state"], done.by) == ("ok", "per_1")
    assert done.report["records"] >= PEOPLE


def test_finds_what_was_changed(platform):
    collect(platform)
    with platform.state.begin() as connection:
        connection.exec_driver_sql("update evidence_records set digest = zeroblob(32) where seq = 2")
    platform.verifier.start(by="per_1")
    report = wait(platform.verifier).report
    assert report["state"] == "tampered"
    assert report["findings"][0]["first"] == 2


def test_a_run_that_cannot_read_says_why(tmp_path):
    settings = Settings(home=tmp_path)
    settings.state_file.write_bytes(b"this is no database at all, and long enough to be looked at" * 40)
    verifier = Verifier(settings, SystemClock())
    verifier.start(by="per_1")
    done = wait(verifier)
    assert done.report is None
    assert done.error
    verifier.close()
