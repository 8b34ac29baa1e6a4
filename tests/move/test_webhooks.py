"""Signatures: the vectors, both sides of the tolerance, rotation, and what must be refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DefinitionError, DeniedError
from vedette.move.webhooks import sign, verify

SECRET, OTHER = b"whsec_0123456789abcdef", b"whsec_fedcba9876543210"
NOW = 1_700_000_000


def code(header, body=b"{}", secrets=(SECRET,), **options):
    with pytest.raises(DeniedError) as refused:
        verify(header, body, secrets, now=NOW, **options)
    return refused.value.code.rpartition(".")[2]


def test_the_published_vectors(shared_data):
    vectors = json.loads((shared_data / "money" / "webhooks" / "vectors.json").read_text())["stripe"]
    assert vectors
    for vector in vectors:
        secret, body, time = vector["secret"].encode(), vector["body"].encode(), vector["timestamp"]
        header = f"t={time},v1={vector['v1']}"
        assert sign([secret], body, time) == header
        assert verify(header, body, [secret], now=time) == time


def test_the_tolerance_has_two_sides():
    for age, verdict in ((300, None), (301, "stale"), (-300, None), (-301, "early")):
        header = sign([SECRET], b"{}", NOW - age)
        if verdict is None:
            assert verify(header, b"{}", [SECRET], now=NOW) == NOW - age
        else:
            assert code(header) == verdict


@pytest.mark.parametrize("tolerance", [0, -1])
def test_the_age_check_cannot_be_switched_off(tolerance):
    with pytest.raises(DefinitionError):
        verify(sign([SECRET], b"{}", NOW), b"{}", [SECRET], now=NOW, tolerance_s=tolerance)


def test_secrets_rotate():
    header = sign([OTHER, SECRET], b"{}", NOW)
    assert verify(header, b"{}", [SECRET], now=NOW)
    assert verify(header, b"{}", [OTHER], now=NOW)
    assert verify(sign([SECRET], b"{}", NOW), b"{}", [OTHER, SECRET], now=NOW)
    assert code(sign([SECRET], b"{}", NOW), secrets=[OTHER]) == "mismatch"


def test_what_is_refused():
    good = sign([SECRET], b"{}", NOW)
    mac = good.split("v1=")[1]
    assert code(good, b"{ }") == "mismatch"
    assert code(f"t={NOW},v1={mac.upper()}") == "mismatch"
    assert code(f"t={NOW + 1},v1={mac}") == "mismatch"
    assert code(f"t={NOW},v1={mac}é") == "mismatch"
    for header in (
        "",
        "v1=" + mac,
        f"t={NOW}",
        f"t=x,v1={mac}",
        f"t=-1,v1={mac}",
        f"t={NOW},v0={mac}",
        "t=1" + "0" * 20,
    ):
        assert code(header) == "malformed"


def test_other_schemes_and_repeats_are_ignored():
    mac = sign([SECRET], b"{}", NOW).split("v1=")[1]
    assert verify(f"v0=zz,t={NOW},v1=00,v1={mac},t=5", b"{}", [SECRET], now=NOW) == NOW


@pytest.mark.parametrize("secrets", [[], [b""], [b"short"], [SECRET, b"abc"]])
def test_weak_secrets_are_refused(secrets):
    for act in (lambda: sign(secrets, b"", NOW), lambda: verify("t=1,v1=x", b"", secrets, now=NOW)):
        with pytest.raises(DefinitionError):
            act()


@given(st.text(max_size=200), st.binary(max_size=50))
def test_no_header_crashes_or_passes(header, body):
    with pytest.raises(DeniedError):
        verify(header, body, [SECRET], now=NOW)
