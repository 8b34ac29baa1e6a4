"""Alerts of one incident: joined by rare things, never by places or hubs; and rules that count without a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from act_world import make_signal
from hypothesis import given
from hypothesis import strategies as st
from serve_world import World

from vedette.act.cases.file import CaseFile
from vedette.act.grouping import to_alert
from vedette.core.content import shipped
from vedette.core.event import Entity
from vedette.judge.grouping import Grouping
from vedette.run.cases.gathering import HUB, join, to_name
from vedette.run.cases.incidents import Inside
from vedette.run.payments.scoring import load_scoring


@pytest.mark.parametrize(
    ("entity", "name"),
    [
        (Entity("user", "Ada@X"), "user:ada@x"),
        (Entity("user", "arn:aws:sts::1:assumed-role/Admin/ADA@x"), "user:ada@x"),
        (Entity("user", "arn:aws:sts::1:assumed-role/app/i-17"), "user:arn:aws:sts::1:assumed-role/app/i-17"),
        (Entity("ip", "203.0.113.7"), "ip:203.0.113.7"),
        (Entity("merchant", "m_9"), ""),
        (Entity("account", "111122223333"), ""),
    ],
)
def test_what_alerts_are_compared_by(entity, name):
    assert to_name(entity) == name


def test_alerts_are_joined_over_others():
    reached = {"a": {"ip:1", "user:x"}, "b": {"ip:1", "card:9"}, "c": {"card:9"}, "d": {"ip:2"}}
    about = {name: name for name in reached}
    assert join(["a"], {name: frozenset(held) for name, held in reached.items()}, about) == ["a", "b", "c"]


def test_what_many_alerts_name_joins_none():
    reached = {f"a{n}": frozenset({"ip:office", f"user:{n}"}) for n in range(HUB + 1)}
    assert join(["a0"], reached, {name: name for name in reached}) == ["a0"]
    # Many alerts about one thing are no hub.
    assert len(join(["a0"], reached, dict.fromkeys(reached, "user:x"))) == HUB + 1


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=1), st.frozensets(st.sampled_from("12345"), max_size=3))
)
def test_who_joins_whom_does_not_depend_on_where_one_begins(reached):
    about = dict.fromkeys(reached, "one")
    parts = {name: set(join([name], reached, about)) for name in reached}
    assert all(parts[other] == held for held in parts.values() for other in held)


def test_payment_rules_count_without_a_model(tmp_path):
    """The features that rules read are computed in a running platform, not only in a simulation."""
    world = World(tmp_path, scoring=load_scoring(None, shipped("rules/payment") / "charges.yaml"))
    try:
        door = Inside(world.platform)
        door.make_key("shop")
        body = {"amount_minor": 120, "currency": "EUR", "merchant": "m_1"}
        said = [
            door.charge("shop", body | {"source": f"tok_{n}", "metadata": {"device": "d1", "ip": "203.0.113.7"}})
            for n in range(7)
        ]
    finally:
        world.close()
    assert [one["status"] for one in said] == ["captured"] * 5 + ["challenged"] * 2


def test_the_course_of_a_case_takes_former_names_of_tactics_for_the_new_ones():
    tags = [("attack.defense-evasion",), ("attack.defense-impairment", "attack.initial-access"), ("attack.none",)]
    signals = [make_signal(number, tags=each) for number, each in enumerate(tags)]
    alerts = [to_alert(signal, Grouping(), signal.event_time) for signal in signals]
    assert CaseFile.tactics.fget(SimpleNamespace(alerts=alerts)) == ("stealth", "initial-access", "defense-impairment")
