"""Signatures: the vectors, both sides of the tolerance, rotation, and what must be refused."""

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.move.webhooks import Verified, WebhookError, sign, sign_each, verify

PLAIN, OTHER = "a secret of the tests", "another secret of them"
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SECRETS = {"timestamped": (PLAIN, OTHER), "standard": (KEY, NEXT)}
SCHEMES = pytest.mark.parametrize("scheme", ["timestamped", "standard"])
NOW = 1_700_000_000
BODY = b'{"id":"evt_1","type":"charge.captured"}'


def signed(scheme, at=NOW, body=BODY, which=0):
    return sign(body, secret=SECRETS[scheme][which], timestamp=at, message_id="evt_1", scheme=scheme)


def code(headers, scheme, body=BODY, **options):
    with pytest.raises(WebhookError) as refused:
        verify(body, headers, **{"scheme": scheme, "secrets": SECRETS.get(scheme, [PLAIN])[:1], "now": NOW, **options})
    return refused.value.code.removeprefix("webhooks.")


def test_the_published_vectors(shared_data):
    vectors = json.loads((shared_data / "money" / "webhooks" / "vectors.json").read_text())
    for vector in vectors["stripe"]:
        body, time = vector["body"].encode(), vector["timestamp"]
        headers = {"Webhook-Signature": f"t={time},v1={vector['v1']}"}
        assert sign(body, secret=vector["secret"], timestamp=time) == headers
        found = verify(body, headers, scheme="timestamped", secrets=[vector["secret"]], now=time)
        assert found == Verified("evt_test_webhook", time, 0)
    for vector in vectors["standard"]:
        body, time = vector["body"].encode(), vector["timestamp"]
        named = {"secret": vector["secret"], "timestamp": time, "message_id": vector["id"], "scheme": "standard"}
        headers = sign(body, **named)
        assert headers == {
            "webhook-id": vector["id"],
            "webhook-timestamp": str(time),
            "webhook-signature": vector["signature"],
        }
        found = verify(body, headers, scheme="standard", secrets=[vector["secret"]], now=time)
        assert found == Verified(vector["id"], time, 0)


@SCHEMES
def test_the_tolerance_has_two_sides(scheme):
    for age, verdict in ((300, None), (301, "signature.stale"), (-300, None), (-301, "signature.early")):
        headers = signed(scheme, NOW - age)
        if verdict is None:
            found = verify(BODY, headers, scheme=scheme, secrets=SECRETS[scheme][:1], now=NOW)
            assert found == Verified("evt_1", NOW - age, 0)
        else:
            assert code(headers, scheme) == verdict
    assert code(signed(scheme, NOW - 3_601), scheme, tolerance=3_600) == "signature.stale"


@SCHEMES
@pytest.mark.parametrize("tolerance", [0, -1, 3_601, True, None, 1.5])
def test_the_age_check_cannot_be_switched_off(scheme, tolerance):
    assert code(signed(scheme), scheme, tolerance=tolerance) == "tolerance.invalid"


@SCHEMES
def test_secrets_rotate(scheme):
    old, new = SECRETS[scheme]
    both = sign_each(BODY, secrets=[new, old], timestamp=NOW, message_id="evt_1", scheme=scheme)
    for secrets, index in (([old], 0), ([new], 0), ([old, new], 0)):
        assert verify(BODY, both, scheme=scheme, secrets=secrets, now=NOW).secret_index == index
    late = signed(scheme, which=1)
    assert verify(BODY, late, scheme=scheme, secrets=[old, new], now=NOW).secret_index == 1
    assert code(late, scheme, secrets=[old]) == "signature.mismatch"


@SCHEMES
def test_headers_in_the_forms_that_servers_give(scheme):
    headers = signed(scheme)
    loud = {name.upper(): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    for form in (loud, list(headers.items()), raw, {"Host": "shop.example", **headers}):
        assert verify(BODY, form, scheme=scheme, secrets=SECRETS[scheme][:1], now=NOW).message_id == "evt_1"
    for name in headers:
        assert code([*headers.items(), (name.title(), headers[name])], scheme) == "signature.repeated"
        assert code({key: value for key, value in headers.items() if key != name}, scheme) == "signature.missing"
        assert code({**headers, name: headers[name] + "," + "x" * 5_000}, scheme) == "signature.malformed"


def test_what_is_refused_timestamped():
    mac = signed("timestamped")["Webhook-Signature"].split("v1=")[1]

    def told(header, body=BODY):
        return code({"webhook-signature": header}, "timestamped", body)

    for header in (f"t={NOW},v1={mac.upper()}", f"t={NOW + 1},v1={mac}", f"t={NOW},v1={mac}0"):
        assert told(header) == "signature.mismatch"
    assert told(f"t={NOW},v1={mac}", BODY + b" ") == "signature.mismatch"
    for header in (f"v1={mac}", f"t={NOW}", f"t=x,v1={mac}", f"t=-1,v1={mac}", f"t={NOW},v0={mac}", f"t=1.5,v1={mac}"):
        assert told(header) == "signature.malformed"
    for header in (
        f"t={NOW}, v1={mac}",
        f" t={NOW},v1={mac}",
        f"t={NOW},v1={mac},",
        f"t={NOW},v1={mac}é",
        f"t={NOW},v1={mac}\xa0",
    ):
        assert told(header) == "signature.malformed", "white space and empty items are no part of the form"
    assert told("t=1" + "0" * 20 + f",v1={mac}") == "signature.malformed"
    assert told(f"t={NOW}," + ",".join(["v1=00"] * 17)) == "signature.malformed"


def test_what_is_refused_standard():
    headers = signed("standard")
    mac = headers["webhook-signature"]

    def told(**changed):
        return code(headers | {f"webhook-{name}": value for name, value in changed.items()}, "standard")

    assert told(signature=f"v1a,{mac[3:]}") == "signature.malformed", "another kind of signature is not ours"
    assert told(signature=f"v1a,{mac[3:]} v1,AAAA") == "signature.mismatch"
    assert told(signature=mac.rstrip("=")) == "signature.mismatch"
    assert told(signature=mac[3:]) == "signature.malformed"
    assert told(signature="v1,notbase64!") == "signature.mismatch"
    for odd in (f"{mac} ", f" {mac}", f"{mac}  {mac}", f"{mac},", f"{mac}\xa0", f"{mac} v1"):
        assert told(signature=odd) == "signature.malformed"
    assert told(timestamp=str(NOW) + ".0") == "signature.malformed"
    assert told(timestamp="-5") == "signature.malformed"
    assert told(timestamp=str(NOW + 1)) == "signature.mismatch"
    assert told(id="evt_2") == "signature.mismatch"


def test_a_part_of_the_body_is_not_taken_for_the_time():
    body = b"1700000001." + BODY
    headers = sign(body, secret=KEY, timestamp=NOW, message_id="evt_1", scheme="standard")
    moved = headers | {"webhook-id": f"evt_1.{NOW}", "webhook-timestamp": "1700000001"}
    assert code(moved, "standard") == "id.invalid"


def test_other_kinds_and_repeats_are_ignored():
    mac = signed("timestamped")["Webhook-Signature"].split("v1=")[1]
    many = {"Webhook-Signature": f"v0=zz,t={NOW},v1=00,v1={mac},t=5"}
    assert verify(BODY, many, scheme="timestamped", secrets=[PLAIN], now=NOW).timestamp == NOW
    headers = signed("standard")
    headers["webhook-signature"] = f"v1a,zz v2,xx v1,AA== {headers['webhook-signature']}"
    assert verify(BODY, headers, scheme="standard", secrets=[KEY], now=NOW).message_id == "evt_1"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id":7}', b'{"id":""}', b"\xff", b"[" * 5_000, b'{"id":"a b"}', b'{"id":"\\u0000"}'])  # fmt: skip
def test_a_body_without_an_id_is_refused_after_its_signature(body):
    headers = sign(body, secret=PLAIN, timestamp=NOW)
    assert code(headers, "timestamped", body) == "id.invalid"
    assert code(headers, "timestamped", body + b" ") == "signature.mismatch"


def weak():
    short, long = (base64.b64encode(bytes(size)).decode() for size in (23, 65))
    yield from (
        ("standard", secret) for secret in ("", "whsec_", "whsec_" + short, "whsec_" + long, KEY[6:], KEY + "é")
    )
    yield from (("standard", secret) for secret in (PLAIN, "whsec_abc", None, b"x" * 30))
    yield from (("timestamped", secret) for secret in ("", "short", "x" * 513, None, 7))


@pytest.mark.parametrize(("scheme", "secret"), list(weak()))
def test_weak_secrets_are_refused_and_never_shown(scheme, secret):
    for act in (
        lambda: sign(BODY, secret=secret, timestamp=NOW, message_id="e", scheme=scheme),
        lambda: verify(BODY, signed(scheme), scheme=scheme, secrets=[SECRETS[scheme][0], secret], now=NOW),
    ):
        with pytest.raises(WebhookError) as refused:
            act()
        error = refused.value
        assert error.code == "webhooks.secret.invalid"
        assert error.__cause__ is None
        assert not secret or not isinstance(secret, str) or len(secret) < 9 or secret not in f"{error!r} {error}"


def test_the_callers_own_mistakes_have_codes():
    headers = signed("standard")
    for options, want in (
        ({"secrets": []}, "secret.invalid"),
        ({"secrets": KEY}, "secret.invalid"),
        ({"scheme": "v1"}, "scheme.unknown"),
        ({"body": "text"}, "body.invalid"),
    ):
        assert code(headers, options.pop("scheme", "standard"), **{"secrets": [KEY], **options}) == want
    for options, want in (
        ({"message_id": None}, "id.invalid"),
        ({"message_id": "a.b"}, "id.invalid"),
        ({"message_id": "a\nb"}, "id.invalid"),
        ({"timestamp": -1}, "time.invalid"),
        ({"timestamp": 1.5}, "time.invalid"),
        ({"scheme": "hmac"}, "scheme.unknown"),
    ):
        named = {"secret": KEY, "timestamp": NOW, "message_id": "evt_1", "scheme": "standard", **options}
        with pytest.raises(WebhookError) as refused:
            sign(BODY, **named)
        assert refused.value.code == f"webhooks.{want}"


@given(st.text(max_size=200), st.binary(max_size=50), st.sampled_from(["timestamped", "standard"]))
def test_no_header_crashes_or_passes(header, body, scheme):
    headers = {"webhook-signature": header, "webhook-id": header, "webhook-timestamp": header}
    with pytest.raises(WebhookError):
        verify(body, headers, scheme=scheme, secrets=SECRETS[scheme], now=NOW)


def mutated(rng, body, headers):
    """A delivery in which something that is signed was changed: a bit, a byte more or less, two swapped."""
    parts = {"": body, **{name: value.encode() for name, value in headers.items()}}
    while True:
        name = rng.choice(list(parts))
        raw = bytearray(parts[name])
        place = rng.randrange(len(raw))
        match rng.randrange(5):
            case 0:
                raw[place] ^= 1 << rng.randrange(8)
            case 1:
                del raw[place]
            case 2:
                raw.insert(place, rng.randrange(256))
            case 3:
                raw[place] = rng.randrange(256)
            case 4:
                other = rng.randrange(len(raw))
                raw[place], raw[other] = raw[other], raw[place]
        if bytes(raw) != parts[name]:
            changed = parts | {name: bytes(raw)}
            return changed.pop(""), {key: value.decode("latin-1") for key, value in changed.items()}


def mutations(count, seed):
    rng = random.Random(seed)
    for n in range(count):
        scheme = ("timestamped", "standard")[n % 2]
        body = json.dumps({"id": f"evt_{n}", "data": {"amount_minor": rng.randrange(10_000)}}).encode()
        headers = sign(body, secret=SECRETS[scheme][0], timestamp=NOW, message_id=f"evt_{n}", scheme=scheme)
        changed, sent = mutated(rng, body, headers)
        with pytest.raises(WebhookError):
            verify(changed, sent, scheme=scheme, secrets=SECRETS[scheme][:1], now=NOW)


def test_mutated_deliveries_are_refused():
    mutations(4_000, 1)


@pytest.mark.soak
def test_a_hundred_thousand_mutated_deliveries_are_refused():
    mutations(102_000, 2)
