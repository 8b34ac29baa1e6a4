"""One id leads from the request to everything it caused, whichever id is asked for."""

from __future__ import annotations

import msgspec
import pytest

from vedette.core.clock import SystemClock
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.core.hop import HopKind
from vedette.core.settings import load_settings
from vedette.core.signal import Level, Signal
from vedette.judge.decisions.recorded import find_recorded
from vedette.judge.payment.files import load_rules
from vedette.run.investigation.tracing import follow
from vedette.run.payments.scoring import Scoring
from vedette.run.platform import Platform

TENANT, OTHER = "default", "globex"
KEY = "key_5"


@pytest.fixture
def platform(tmp_path):
    rules = tmp_path / "payment.rules"
    rules.write_text("block if :amount_in_usd: > 4000\n")
    settings = load_settings(None, {"VEDETTE_HOME": str(tmp_path / "home"), "VEDETTE_PATIENCE": "1000"})
    with Platform(settings, clock=SystemClock(), scoring=Scoring(rules=load_rules(rules))) as made:
        made.access.create_tenant(OTHER)
        for tenant in (TENANT, OTHER):
            made.desk.service(tenant)
        made.outbox.add_endpoint(TENANT, "https://merchant.example/hook")
        yield made


def charge(platform, key, amount=1999, tenant=TENANT):
    wanted = {"amount_minor": amount, "currency": "USD", "source": "tok_1", "merchant": "m_1", "metadata": {}}
    return platform.charges.create(tenant, key, wanted, api_key=KEY).json()


def alert_on(platform, made, number=1, event_time=None):
    """A signal on the charge's decided event, and its alert in a case with a note."""
    decision = platform.desk.find(TENANT, made["decision"]["event_id"])
    signal = Signal(
        id=f"s-{number}",
        tenant=TENANT,
        rule_id=f"rule-{number}",
        rule_version="v1",
        title="Card testing",
        level=Level.HIGH,
        event_id=decision.event_id,
        event_time=event_time or decision.time,
        source="product",
        entities=(Entity("key", KEY),),
    )
    platform.alerts.apply([(signal, signal.event_time)])
    alert = next(one for one in platform.alerts.find(TENANT) if one.rule_id == signal.rule_id)
    case = platform.cases.open(TENANT, alert.title, operator="per_ana", level=alert.level, alert_id=alert.id)
    platform.cases.note(TENANT, case.id, "what a person wrote: 4111", operator="per_ana")
    return alert, case


def ask(platform, name, tenant=TENANT):
    return follow(platform, platform.desk.find, tenant, name)


def test_every_id_leads_to_the_same_way(platform):
    made = charge(platform, "k1")
    refund = platform.charges.refund(TENANT, "k2", made["id"], {"amount_minor": 500}).json()
    alert, case = alert_on(platform, made)
    found = ask(platform, made["id"])
    assert found.trace_id == made["decision"]["event_id"]
    kinds = [hop.kind for hop in found.hops]
    assert [kinds.count(kind) for kind in (HopKind.REQUEST, HopKind.DECISION, HopKind.SIGNAL, HopKind.ALERT)] == [1] * 4
    assert kinds.count(HopKind.TRANSFER) == 3
    assert kinds.count(HopKind.REFUND) == 1
    assert kinds.count(HopKind.WEBHOOK) == 2
    assert kinds.count(HopKind.CASE) == 3
    assert [hop.time for hop in found.hops] == sorted(hop.time for hop in found.hops)
    webhooks = [hop.id for hop in found.hops if hop.kind is HopKind.WEBHOOK]
    ways = [refund["id"], found.trace_id, alert.id, case.id, *webhooks]
    ways += [made["ledger"]["hold"], made["ledger"]["capture"], refund["ledger"]["transfer"]]
    for name in ways:
        assert msgspec.structs.replace(ask(platform, name), asked=made["id"]) == found, name


def test_what_people_wrote_is_not_repeated(platform):
    alert, _ = alert_on(platform, charge(platform, "k1"))
    assert "4111" not in msgspec.json.encode(ask(platform, alert.id)).decode()


def test_a_signal_on_another_event_of_the_same_key_is_not_on_the_way(platform):
    first, second = charge(platform, "k1"), charge(platform, "k2")
    alert_on(platform, second)
    assert not [hop for hop in ask(platform, first["id"]).hops if hop.kind in (HopKind.SIGNAL, HopKind.ALERT)]
    assert [hop for hop in ask(platform, second["id"]).hops if hop.kind is HopKind.ALERT]


def test_an_alert_about_several_payments_names_them(platform):
    first, second = charge(platform, "k1"), charge(platform, "k2")
    alert, _ = alert_on(platform, first)
    other = platform.desk.find(TENANT, second["decision"]["event_id"])
    (held,) = platform.alerts.signals(TENANT, alert.id)
    more = msgspec.structs.replace(held, id="s-2", event_id=other.event_id, event_time=other.time)
    platform.alerts.apply([(more, more.event_time)])
    found = ask(platform, alert.id)
    assert found.trace_id == ""
    named = {hop.text.split()[-1] for hop in found.hops if hop.kind is HopKind.SIGNAL}
    assert named == {first["decision"]["event_id"], second["decision"]["event_id"]}


def test_a_blocked_charge_has_no_transfer(platform):
    kinds = [hop.kind for hop in ask(platform, charge(platform, "k1", 900_000)["id"]).hops]
    assert HopKind.DECISION in kinds
    assert HopKind.TRANSFER not in kinds


@pytest.mark.parametrize("name", ["nothing", "0" * 32, "f" * 32, "zz" * 16, "al_1", "ch_1", ""])
def test_an_unknown_id_and_that_of_another_tenant_are_refused_alike(platform, name):
    made = charge(platform, "k1")
    _, case = alert_on(platform, made)
    for asked in (name, made["id"], made["decision"]["event_id"], made["ledger"]["hold"], case.id):
        with pytest.raises(NotFoundError, match=r"trace\.id\.unknown"):
            ask(platform, asked, OTHER)


def test_the_log_alone_gives_the_same(platform):
    made = charge(platform, "k1")
    index = platform.settings.home / "decisions" / TENANT / "seen.db"

    def find(tenant, event_id):
        return find_recorded(platform.log, index, tenant, event_id)

    assert follow(platform, find, TENANT, made["decision"]["event_id"]) == ask(platform, made["decision"]["event_id"])
