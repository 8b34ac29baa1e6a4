"""Two tenants through one platform never meet, though every id, batch and entity of one is also the other's."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock

from vedette.core.content import shipped
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity
from vedette.core.settings import Settings
from vedette.run.pipeline.detection import load_detection
from vedette.run.platform import Platform
from vedette.sense.query import run_query

NOW = 1_800_000_000_000_000
_NUMBER = itertools.count()


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tenants")
    opened = Platform(
        Settings(home=folder / "home"), clock=FakeClock(NOW), detection=load_detection([shipped("rules/sigma")])
    )
    yield opened
    opened.close()


def line(number, name, user):
    data = {"eventID": f"e{number}", "eventTime": "2026-01-01T00:00:00Z", "eventVersion": "1", "eventName": name}
    service = {"GetSecretValue": "secretsmanager", "StopLogging": "cloudtrail"}.get(name, "s3")
    person = {"type": "IAMUser", "userName": user}
    return json.dumps(data | {"eventSource": f"{service}.amazonaws.com", "userIdentity": person}).encode()


records = st.tuples(
    st.integers(0, 6), st.sampled_from(["GetSecretValue", "StopLogging", "GetObject"]), st.sampled_from(["ana", "bob"])
)
# Each push: whose, which batch, which records; a batch id always has the records it had first.
pushes = st.lists(
    st.tuples(st.booleans(), st.integers(0, 2), st.lists(records, min_size=1, max_size=6)), min_size=1, max_size=6
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(plan=pushes)
def test_tenants_never_meet(platform, plan):
    number = next(_NUMBER)
    names = (f"a{number}", f"b{number}")
    for name in names:
        platform.access.create_tenant(name)
    wanted = {name: {} for name in names}
    sent = {}
    for second, batch, given_records in plan:
        tenant = names[second]
        rows = sent.setdefault((tenant, batch), given_records)
        platform.intake(tenant).push("cloudtrail", f"b{batch}", b"\n".join(line(*row) for row in rows))
        for row in rows:
            wanted[tenant].setdefault(f"e{row[0]}", row)
    platform.drain()
    for name in names:
        check(platform, name, wanted[name])


def check(platform, tenant, wanted):
    """The store, the queries, the signals and the alerts of a tenant are what it would have had alone."""
    dataset = platform.store.table("cloudtrail").dataset([tenant])
    rows = dataset.to_table().to_pylist() if dataset else []
    assert {row["id"]: row["tenant"] for row in rows} == dict.fromkeys(wanted, tenant)
    answer = run_query(platform.store, tenant, "select id, data from cloudtrail") if rows else None
    found = {row["id"]: json.loads(row["data"]) for row in answer.table.to_pylist()} if answer else {}
    assert {name: (data["eventName"], data["userIdentity"]["userName"]) for name, data in found.items()} == {
        name: row[1:] for name, row in wanted.items()
    }
    alerts = platform.alerts.find(tenant, limit=1_000)
    assert {each.tenant for each in alerts} <= {tenant}
    signals = [signal for each in alerts for signal in platform.alerts.signals(tenant, each.id)]
    assert {signal.tenant for signal in signals} <= {tenant}
    fired = {name for name, row in wanted.items() if row[1] != "GetObject"}
    assert {signal.event_id for signal in signals} >= fired
    for user in ("ana", "bob"):
        risky = platform.alerts.risk(tenant, Entity("user", user), NOW) > 0
        had = any(row[2] == user and row[1] != "GetObject" for row in wanted.values())
        assert risky <= had


def test_alerts_of_another_are_not_found(platform):
    for name in ("mine", "yours"):
        platform.access.create_tenant(name)
    platform.intake("mine").push("cloudtrail", "1", line(1, "StopLogging", "ana"))
    platform.drain()
    (alert,) = platform.alerts.find("mine")
    assert platform.alerts.find("yours") == []
    with pytest.raises(NotFoundError):
        platform.alerts.get("yours", alert.id)


def test_an_unknown_tenant_cannot_push(platform):
    with pytest.raises(NotFoundError) as caught:
        platform.intake("nobody")
    assert caught.value.code == "access.tenant.unknown"
