"""Shipped rules: what stands after each change, and that every change can be taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.db import open_database
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.judge.shipments import BASE, NOTHING, Document, Shipments, Shipped, Stage

WHO = "per_1"


class Ticks:
    def __init__(self):
        self.time = 0

    def now(self):
        self.time += 1
        return self.time


@pytest.fixture
def shipments():
    return Shipments(open_database(":memory:"), Ticks())


def document(text, *ids):
    return Document(ids=ids or ("r1",), title="Rule", files=(Shipped("r.yml", text.encode()),))


def test_from_shadow_over_a_share_to_live(shipments):
    one = document("v1")
    assert shipments.ship(one, percent=0, operator=WHO).stage is Stage.SHADOW
    staged = shipments.ship(one, percent=10, operator=WHO)
    assert (staged.stage, staged.live, staged.trial, staged.percent) == (Stage.STAGED, BASE, one.version, 10)
    live = shipments.ship(one, percent=100, operator=WHO)
    assert (live.stage, live.live, live.trial) == (Stage.LIVE, one.version, "")
    with pytest.raises(ConflictError) as error:
        shipments.ship(one, percent=10, operator=WHO)
    assert error.value.code == "rules.ship.live"
    trial = shipments.ship(document("v2"), percent=0, operator=WHO)
    assert (trial.live, trial.stage) == (one.version, Stage.SHADOW)
    assert shipments.newest() == 4
    assert shipments.standings(2)["r1"].percent == 10
    assert shipments.standings()["r1"] == trial
    assert shipments.document(one.version) == one
    assert [one.seq for one in shipments.history("r1")] == [4, 3, 2, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["v1", "v2", "v3", "off", "back"]), max_size=20), st.data())
def test_rollbacks_are_an_undo(steps, data):
    """Against a plain stack of standings."""
    shipments = Shipments(open_database(":memory:"), Ticks())
    stack = [(BASE, "", 0)]
    for step in steps:
        live = stack[-1][0]
        if step == "back":
            if len(stack) == 1:
                with pytest.raises((ConflictError, NotFoundError)):
                    shipments.rollback("r1", operator=WHO)
                continue
            stack.pop()
            found = shipments.rollback("r1", operator=WHO)
        elif step == "off":
            found = shipments.switch_off("r1", operator=WHO)
            stack.append((NOTHING, "", 0))
        else:
            one, percent = document(step), data.draw(st.sampled_from([0, 50, 100]))
            if live == one.version:
                continue
            found = shipments.ship(one, percent=percent, operator=WHO)
            stack.append((one.version, "", 0) if percent == 100 else (live, one.version, percent))
        assert (found.live, found.trial, found.percent) == stack[-1]
        assert shipments.standings()["r1"] == found


def test_a_unit_keeps_its_rules_together(shipments):
    shipments.ship(document("v1", "r1", "r2"), percent=100, operator=WHO)
    assert shipments.ship(document("v2", "r2", "r3"), percent=0, operator=WHO).unit == "r1"
    assert shipments.ids() == {"r1": {"r1", "r2", "r3"}}
    assert shipments.rollback("r3", operator=WHO).unit == "r1"
    shipments.ship(document("w1", "r9"), percent=100, operator=WHO)
    with pytest.raises(ConflictError) as error:
        shipments.ship(document("w2", "r9", "r1"), percent=100, operator=WHO)
    assert error.value.code == "rules.ship.split"


def test_what_cannot_be_is_refused(shipments):
    with pytest.raises(DataError) as error:
        shipments.ship(document("v1"), percent=101, operator=WHO)
    assert error.value.code == "rules.ship.percent"
    for call in (lambda: shipments.rollback("nope", operator=WHO), lambda: shipments.document("nope")):
        with pytest.raises(NotFoundError):
            call()


def test_the_place_of_a_reader_is_kept(shipments):
    assert shipments.applied("detect") is None
    shipments.apply("detect", 3, "2026-03-01")
    shipments.apply("detect", 4, "2026-03-02")
    assert shipments.applied("detect") == (4, "2026-03-02")
