"""What alerts say of a key, a customer or an address raises the risk of the payments that name it."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest

from vedette.act.grouping import AlertState
from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.settings import load_settings
from vedette.core.signal import Level, Signal
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.explain import explain_decision
from vedette.judge.payment.files import load_rules
from vedette.run.payments.scoring import Scoring
from vedette.run.platform import Platform

TENANT = "default"
RULES = "review if :key_risk: > 60\nblock if :customer_risk: > 90\nchallenge if :ip_risk: > 60\n"
KEY = "key_5"


@pytest.fixture
def platform(tmp_path):
    rules = tmp_path / "payment.rules"
    rules.write_text(RULES)
    settings = load_settings(None, {"VEDETTE_HOME": str(tmp_path / "home"), "VEDETTE_PATIENCE": "400"})
    with Platform(settings, clock=SystemClock(), scoring=Scoring(rules=load_rules(rules))) as made:
        made.desk.service(TENANT)
        yield made


def alert(platform, number, *entities, level=Level.CRITICAL, tenant=TENANT):
    signal = Signal(
        id=f"s-{number}",
        tenant=tenant,
        rule_id=f"rule-{number}",
        rule_version="v1",
        title="API key used from a new place",
        level=level,
        event_id=f"e-{number}",
        event_time=platform.clock.now(),
        source="cloudtrail",
        entities=entities,
    )
    platform.alerts.apply([(signal, signal.event_time)])


def charge(platform, key, asked_by=KEY, **metadata):
    wanted = {"amount_minor": 100, "currency": "EUR", "source": "tok_1", "merchant": "m_1", "metadata": metadata}
    answer = platform.charges.create(TENANT, key, wanted, api_key=asked_by)
    return platform.desk.find(TENANT, answer.json()["decision"]["event_id"])


def test_a_stolen_key_seen_elsewhere_raises_the_risk_of_its_charges(platform):
    before = charge(platform, "k1", customer="cus_1", ip="203.0.113.9")
    assert (before.action, before.risks) == ("allow", {"customer_risk": 0, "ip_risk": 0, "key_risk": 0})
    alert(platform, 1, Entity("key", KEY), Entity("user", "root"))
    after = charge(platform, "k2", customer="cus_1")
    assert (after.action, after.risks) == ("review", {"customer_risk": 0, "key_risk": 67})
    assert charge(platform, "k3", asked_by="key_6").action == "allow", "another key is not concerned"
    assert charge(platform, "k4", ip="203.0.113.9").action == "review"
    alert(platform, 2, Entity("ip", "203.0.113.9"))
    assert charge(platform, "k5", asked_by="key_6", ip="203.0.113.9").action == "challenge"


def test_a_decision_keeps_what_it_read(platform):
    alert(platform, 1, Entity("key", KEY))
    made = charge(platform, "k1")
    for found in platform.alerts.find(TENANT):
        platform.triage.change(TENANT, [found.id], state=AlertState.SUPPRESSED, operator="per_1")
    assert charge(platform, "k2").action == "allow", "noise counts no more"
    rules = platform.desk.scoring.rules
    assert rebuild(made, model=None, rules=rules) == made
    (fired,) = [rule for rule in explain_decision(made, rules).rules if rule.result == "fired"]
    assert [(read.field, read.value) for read in fired.clause.values] == [(":key_risk:", 67)]
    with pytest.raises(DataError, match=r"decision[.]rebuild[.]differs"):
        rebuild(msgspec.structs.replace(made, risks={"key_risk": 10}), model=None, rules=rules)


def test_a_batch_asks_once_for_many(platform):
    from vedette.move.charges import ChargeItem

    alert(platform, 1, Entity("key", KEY))
    asked = []
    look, platform.risks.look = platform.risks.look, lambda tenant, entities: asked.append(1) or look(tenant, entities)
    wanted = {"amount_minor": 100, "currency": "EUR", "source": "tok_1", "merchant": "m_1"}
    items = [ChargeItem(f"k{n}", wanted, None, KEY if n % 2 else "key_6") for n in range(60)]
    actions = [answer.json()["decision"]["action"] for answer in platform.charges.create_many(TENANT, items)]
    assert actions == ["allow", "review"] * 30
    assert len(asked) == 2, "once for each slice"


def test_another_tenants_alerts_say_nothing(platform):
    platform.access.create_tenant("other")
    alert(platform, 1, Entity("key", KEY), tenant="other")
    assert charge(platform, "k1").risks["key_risk"] == 0


def test_nobody_sends_us_our_own_risk(platform):
    data = {
        "id": "e1",
        "type": "charge",
        "time": 1_700_000_000,
        "merchant": "m_1",
        "key": KEY,
        "key_risk": 99,
        "customer": "c",
    }
    found = platform.desk.decide_charges([platform.desk.take(TENANT, data, "product")])[0]
    assert (found.action, found.risks["key_risk"]) == ("allow", 0)
    told = charge(platform, "k1", key_risk="99")
    assert (told.action, told.risks["key_risk"]) == ("allow", 0)


def test_a_locked_database_makes_the_risk_unknown_and_holds_nothing_up(platform):
    alert(platform, 1, Entity("key", KEY))
    charge(platform, "k0")
    other = sqlite3.connect(platform.settings.state_file, timeout=300, isolation_level=None)
    other.execute("pragma locking_mode=exclusive")
    platform.state.engine.dispose()
    other.execute("begin exclusive")
    try:
        made = charge(platform, "k1")
    finally:
        other.execute("rollback")
        other.close()
    assert (made.action, made.risks, made.fallback) == ("allow", {}, None)
    assert platform.meters.value("vedette_guard_failures_total", where="risks", code="decision.part.stalled") >= 1


@pytest.mark.parametrize("level", list(Level))
def test_the_risk_is_that_of_the_alerts(platform, level):
    entity, now = Entity("customer", "cus_1"), platform.clock.now()
    for number in range(3):
        alert(platform, number, entity, level=level)
    for later in (0, 86_400_000_000, 5 * 86_400_000_000):
        exact = platform.alerts.risk(TENANT, entity, now + later)
        assert abs(platform.alerts.risks(TENANT, [entity], now + later)[entity] - exact) <= 1.0
    assert platform.alerts.risks(TENANT, [Entity("key", "none")], now) == {}
    assert platform.alerts.risks(TENANT, [], now) == {}
