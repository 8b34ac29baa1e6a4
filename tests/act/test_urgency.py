"""The order of severity: what the page of an alert says is what the queue is sorted by, as time goes on."""

from __future__ import annotations

import random

import pytest
from act_world import TIME, make_signal

from vedette.act.alert_tables import urgency
from vedette.act.alerts import Alerts
from vedette.act.attention import Asset, Attention, Criticality, severity
from vedette.act.queue import AlertFilter, Sort
from vedette.act.urgency import Urgency
from vedette.core.event import Entity
from vedette.core.signal import Level

ATTENTION = Attention(
    ages={},
    routes=(),
    assets=(Asset("host:prod-*", Criticality.HIGH), Asset("host:lab-*", Criticality.LOW)),
)


def expected(alerts, now):
    """Severity, then risk in steps of ten, then age."""

    def place(alert):
        risks = {entity.key: alerts.risk("acme", entity, now) for entity in alert.entities}
        level = severity(alert, ATTENTION, risks).level
        return -level.severity_id, -int(max(risks.values(), default=0.0) // 10), alert.created_time, alert.id

    found = alerts.page("acme", AlertFilter(), limit=500).alerts
    return sorted(found, key=place)


def order(alerts):
    return [alert.id for alert in alerts.page("acme", AlertFilter(), sort=Sort.SEVERITY, limit=500).alerts]


@pytest.mark.parametrize("seed", range(3))
def test_the_queue_is_in_the_order_that_the_pages_say(database, clock, seed):
    rng, alerts = random.Random(seed), Alerts(database)
    clock.micros = TIME
    names = [Entity("host", name) for name in ("prod-1", "prod-2", "lab-1", "lab-2", "other")]
    for number in range(80):
        at = TIME - rng.randrange(3 * 86_400) * 1_000_000 - number
        about = tuple(rng.sample(names, rng.randint(1, 2)))
        made = make_signal(number, rule_id=f"r{number}", level=rng.choice(list(Level)), entities=about, event_time=at)
        alerts.apply([(made, at)])
    weigher = Urgency(database, clock, ATTENTION)
    assert order(alerts) != [alert.id for alert in expected(alerts, TIME)]
    assert weigher.weigh("acme") > 0
    assert order(alerts) == [alert.id for alert in expected(alerts, TIME)]
    assert weigher.weigh("acme") == 0
    clock.advance(86_400)
    assert weigher.weigh("acme") > 0
    assert order(alerts) == [alert.id for alert in expected(alerts, clock.now())]
    assert weigher.weigh("globex") == 0


def test_severity_goes_before_risk_and_risk_before_age():
    worst, risky, old = urgency(5, 0.0, TIME), urgency(4, 99.0, TIME), urgency(4, 90.0, TIME - 1)
    assert worst > old > risky > urgency(4, 89.9, 0) > urgency(1, 99.9, 0)
    assert len(str(urgency(5, 99.9, 0))) <= 18


def test_another_signal_changes_no_place_until_it_is_weighed(database, clock):
    alerts, weigher = Alerts(database), Urgency(database, clock, ATTENTION)
    clock.micros = TIME
    for number, name in enumerate(("other", "prod-1")):
        alerts.apply([(make_signal(number, rule_id=name, entities=(Entity("host", name),), event_time=TIME), TIME)])
    weigher.weigh("acme")
    before = order(alerts)
    alerts.apply([(make_signal(7, rule_id="prod-1", entities=(Entity("host", "prod-1"),), event_time=TIME), TIME + 1)])
    assert order(alerts) == before
