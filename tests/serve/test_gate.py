"""Who keeps asking is looked up again before its memory is too old, in the background."""

from __future__ import annotations

import pytest
from serve_world import ALL_SCOPES, wait_for

from vedette.prove.access.tables import keys
from vedette.serve.gate import Gate


class Aging:
    """The clock of memory alone, moved by hand."""

    def __init__(self, clock):
        self._clock, self.at = clock, clock.monotonic()

    def now(self):
        return self._clock.now()

    def monotonic(self):
        return self.at


@pytest.fixture
def gate(world, monkeypatch):
    access = world.platform.access
    clock = Aging(access._clock)
    monkeypatch.setattr(access, "_clock", clock)
    looked, inner = [], access.authenticate
    monkeypatch.setattr(access, "authenticate", lambda *a, **n: looked.append(n) or inner(*a, **n))
    return Gate(access, pytest.fail), access, clock, looked


def test_who_keeps_asking_never_waits(world, gate):
    gate, access, clock, looked = gate
    secret = world.issue(ALL_SCOPES).secret.reveal()
    access.authenticate(secret)
    looked.clear()

    def ask():
        return gate.known(f"Bearer {secret}", "decisions", "write", "10.0.0.1")

    for turn in range(1, 6):
        clock.at += 0.4 * access.max_age
        assert ask()  # young enough
        assert len(looked) == turn - 1
        clock.at += 0.4 * access.max_age
        assert ask()  # still believed, and looked up beside
        wait_for(lambda: access.recall(secret, max_age=access.max_age / 2), bool)
        assert len(looked) == turn
    clock.at += access.max_age
    assert ask() is None  # nobody asked for so long


def test_what_another_process_takes_away_is_known_by_then(world, gate):
    gate, access, clock, looked = gate
    issued = world.issue(ALL_SCOPES)
    header = f"Bearer {issued.secret.reveal()}"
    access.authenticate(issued.secret)
    with world.platform.state.begin() as connection:  # as it would, past what this one remembers
        connection.execute(keys.update().where(keys.c.id == issued.key.id).values(revoked=1))
    clock.at += 0.6 * access.max_age
    assert gate.known(header, "decisions", "write", "10.0.0.1")
    wait_for(lambda: access.recall(issued.secret.reveal(), max_age=1e9), lambda found: found is None)
    assert gate.known(header, "decisions", "write", "10.0.0.1") is None
    assert looked[-1]["origin"] == "10.0.0.1"
