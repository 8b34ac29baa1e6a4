"""The shipped Sigma rules on single events that the demo's company needs: each fires on its case and on nothing near it."""

import pytest

from vedette.core.content import shipped
from vedette.run.pipeline.detection import load_detection

NOW = 1_772_000_000_000_000
CLOUD = {
    "eventVersion": "1.09",
    "eventID": "e-1",
    "eventTime": "2026-02-25T03:00:00Z",
    "eventSource": "secretsmanager.amazonaws.com",
    "eventName": "GetSecretValue",
    "awsRegion": "eu-west-1",
    "sourceIPAddress": "10.20.0.4",
    "userAgent": "aws-cli/2.15",
    "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/onboarding/o-1"},
}
SIGNED = {
    "uuid": "u-1",
    "published": "2026-02-25T03:00:00Z",
    "eventType": "user.mfa.factor.deactivate",
    "actor": {"alternateId": "ada@example.test"},
    "outcome": {"result": "SUCCESS"},
}
PRODUCT = {"id": "p-1", "time": "2026-02-25T03:00:00Z", "user": "ada@example.test"}
BY_HAND = "Secret read by hand under a program's role"
FACTOR, OWN = "Second factor of another person removed", "Second factor removed by its owner"
GRANTED, ADDED = "Administrator's rights granted", "Factor added to an account"
OPENED, EXPORTED = "Emergency access opened without an incident", "Customers' records exported by the support desk"


def person(role):
    return {"type": "AssumedRole", "arn": f"arn:aws:sts::1:assumed-role/{role}/ada"}


CASES = [
    ("cloudtrail", CLOUD, {BY_HAND}),
    ("cloudtrail", CLOUD | {"userAgent": "aws-sdk-java/2.25"}, set()),
    ("cloudtrail", CLOUD | {"userIdentity": person("sso-engineer")}, set()),
    ("cloudtrail", CLOUD | {"errorCode": "AccessDenied"}, set()),
    ("cloudtrail", CLOUD | {"eventName": "ListSecrets"}, set()),
    ("identity", SIGNED, {FACTOR}),
    ("identity", SIGNED | {"target": [{"alternateId": "ada@example.test"}]}, {OWN}),
    ("identity", SIGNED | {"outcome": {"result": "FAILURE"}}, set()),
    ("identity", SIGNED | {"eventType": "user.mfa.factor.activate"}, {ADDED}),
    ("identity", SIGNED | {"eventType": "user.account.privilege.grant"}, {GRANTED}),
    ("product", PRODUCT | {"type": "emergency_access.opened"}, {OPENED}),
    ("product", PRODUCT | {"type": "emergency_access.opened", "ticket": "T-1"}, {OPENED}),
    ("product", PRODUCT | {"type": "emergency_access.opened", "ticket": "INC-1"}, set()),
    ("product", PRODUCT | {"type": "customers.exported", "role": "support"}, {EXPORTED}),
    ("product", PRODUCT | {"type": "customers.exported", "role": "finance"}, set()),
]


@pytest.fixture(scope="module")
def detection():
    return load_detection([shipped("rules/sigma")])


@pytest.mark.parametrize(("source", "record", "wanted"), CASES)
def test_a_single_event(detection, source, record, wanted):
    event = detection.sources[source].to_event(record, tenant="t", stream="s", offset=0, ingest_time=NOW)
    signals, _ = detection.judge(event)
    titles = {rule.title for rule in detection.rules.rules if rule.id in {signal.rule_id for signal in signals}}
    assert titles == wanted
