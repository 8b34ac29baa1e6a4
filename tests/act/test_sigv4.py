"""Signatures compared with those of AWS's own client."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.act.connectors.sigv4 import sign


def theirs(url, headers, content, *, secret, region, service, now, monkeypatch):
    from botocore import auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    moment = datetime.fromtimestamp(now / 1e6, UTC).replace(microsecond=0)
    monkeypatch.setattr(auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))
    request = AWSRequest("POST", url, headers=dict(headers), data=content)
    auth.SigV4Auth(Credentials("AKID", secret), service, region).add_auth(request)
    return request.headers["Authorization"]


@settings(max_examples=60, deadline=None)
@given(
    url=st.sampled_from(["https://iam.example.com/", "https://x.example.com/a/b", "http://127.0.0.1:5/x-y_z~1"]),
    content=st.binary(max_size=200),
    secret=st.text("abcXYZ019+/", min_size=8, max_size=40),
    scope=st.tuples(st.sampled_from(["us-east-1", "eu-central-1"]), st.sampled_from(["iam", "ec2"])),
    now=st.integers(1_500_000_000_000_000, 2_000_000_000_000_000),
    value=st.text("ab c=;", max_size=10).map(str.strip),
)
def test_a_signature_is_that_of_the_vendor(url, content, secret, scope, *, now, value):
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "X-Note": value}
    keys = {"secret": secret, "region": scope[0], "service": scope[1]}
    with pytest.MonkeyPatch.context() as patch:
        wanted = theirs(url, headers, content, **keys, now=now, monkeypatch=patch)
    assert sign(url, headers, content, key_id="AKID", **keys, now=now)["Authorization"] == wanted
