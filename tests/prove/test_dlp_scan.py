"""The scan: card numbers by context, secrets by rule, places in bytes, nothing kept, nothing quadratic."""

import base64
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.prove.dlp import find_pans, is_luhn, scan
from vedette.prove.dlp import scan as package_scan
from vedette.prove.dlp.runs import find_in
from vedette.prove.dlp.secret_rules import RULES

CARD = "4539578763621486"
RNG = random.Random(11)


def text(alphabet, count):
    return "".join(RNG.choice(alphabet) for _ in range(count))


ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
HEX, UPPER = "0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SECRETS = {
    "aws-access-token": "AKIA" + text(UPPER, 16),
    "aws-secret-access-key": 'aws_secret_access_key = "' + text(ALNUM + "/+", 40) + '"',
    "github-pat": "ghp_" + text(ALNUM, 36),
    "github-oauth": "gho_" + text(ALNUM, 36),
    "github-app-token": "ghs_" + text(ALNUM, 36),
    "github-refresh-token": "ghr_" + text(ALNUM, 36),
    "github-fine-grained-pat": "github_pat_" + text(ALNUM + "_", 82),
    "gitlab-pat": "glpat-" + text(ALNUM, 20),
    "gitlab-runner-authentication-token": "glrt-" + text(ALNUM, 20),
    "stripe-access-token": "sk_live_" + text(ALNUM, 24),
    "webhook-signing-secret": "whsec_" + base64.b64encode(RNG.randbytes(32)).decode(),
    "vedette-api-key": "vk_live_" + text(ALNUM, 43),
    "slack-bot-token": f"xoxb-{text('123456789', 12)}-{text('123456789', 12)}-{text(ALNUM, 24)}",
    "slack-user-token": f"xoxp-{text('123456789', 11)}-{text('123456789', 11)}-{text('123456789', 12)}-{text(HEX, 32)}",
    "slack-app-token": f"xapp-1-A{text(UPPER, 10)}-{text('123456789', 13)}-{text(HEX, 64)}",
    "slack-webhook-url": "https://hooks.slack.com/services/" + text(ALNUM, 44),
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\n"
    + "\n".join(text(ALNUM + "+/", 64) for _ in range(24))
    + "\n-----END RSA PRIVATE KEY-----",
    "jwt": f"eyJ{text(ALNUM, 33)}.eyJ{text(ALNUM, 90)}.{text(ALNUM + '_-', 43)}",
    "gcp-api-key": "AIza" + text(ALNUM, 35),
    "npm-access-token": "npm_" + text(ALNUM, 36),
    "pypi-upload-token": "pypi-AgEIcHlwaS5vcmc" + text(ALNUM, 150),
    "sendgrid-api-token": f"SG.{text(ALNUM, 22)}.{text(ALNUM, 43)}",
    "twilio-api-key": "SK" + text(HEX, 32),
    "mailchimp-api-key": f'mailchimp_key = "{text(HEX, 32)}-us12"',
    "shopify-access-token": "shpat_" + text(HEX, 32),
    "shopify-custom-access-token": "shpca_" + text(HEX, 32),
    "shopify-private-app-access-token": "shppa_" + text(HEX, 32),
    "shopify-shared-secret": "shpss_" + text(HEX, 32),
    "square-access-token": "sq0atp-" + text(ALNUM, 22),
    "digitalocean-pat": "dop_v1_" + text(HEX, 64),
    "databricks-api-token": "dapi" + text(HEX, 32),
    "vault-service-token": "hvs." + text(ALNUM, 95),
    "age-secret-key": "AGE-SECRET-KEY-1" + text("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "azure-ad-client-secret": f"{text(ALNUM, 3)}8Q~{text(ALNUM, 34)}",
    "huggingface-access-token": "hf_" + text(ALNUM, 34),
    "atlassian-api-token": "ATATT3" + text(ALNUM + "_-", 186),
    "linear-api-key": "lin_api_" + text(ALNUM, 40),
    "postman-api-token": f"PMAK-{text(HEX, 24)}-{text(HEX, 34)}",
    "doppler-api-token": "dp.pt." + text(ALNUM, 43),
    "1password-service-account-token": "ops_eyJ" + text(ALNUM, 300),
    "telegram-bot-api-token": f"telegram bot {text('123456789', 10)}:A{text(ALNUM, 34)}",
    "url-password": "postgres://app:" + text(ALNUM, 20) + "@db.internal:5432/money",
    "generic-api-key": 'api_key: "' + text(ALNUM, 40) + '"',
}


def kinds(data, **options):
    return [found.kind for found in scan(data if isinstance(data, bytes) else data.encode(), **options)]


def test_every_rule_finds_its_secret_and_only_that():
    assert set(SECRETS) == {rule.id for rule in RULES}
    for rule, secret in SECRETS.items():
        for shape in ("{}", "\nconfig {} # end\n", '{{"value": "{}"}}', "x=1\n  {}\n"):
            if rule == "aws-secret-access-key" and shape.startswith("{{"):
                continue
            assert kinds(shape.format(secret)) == [f"secret.{rule}"], (rule, shape)


def test_placeholders_are_no_secrets():
    for harmless in (
        "api_key = your-api-key-goes-here",
        "password: ${DATABASE_PASSWORD}",
        "token = aaaaaaaaaaaaaaaaaaaaaaaa",
        "postgres://app:$PASSWORD@db/money",
        "AKIAAAAAAAAAAAAAAAAA",
        "ghp_" + "x" * 36,
        "the secret of good tokens is patience",
        "eyJ is how tokens begin",
    ):
        assert kinds(harmless) == [], harmless


def test_published_test_numbers_are_told_apart(shared_data):
    oracle = json.loads((shared_data / "money" / "pan" / "test_pans.json").read_text())
    for case in oracle["positive"]:
        assert kinds(f"card {case['pan']}") == ["pan.test"], case
    assert kinds(f"card {CARD}") == ["pan"]
    assert kinds("card 4242-4242-4242-4242") == ["pan.test"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{}", 1),
        ("card={}", 1),
        ('{{"card_number": "{}"}}', 1),
        ("paid with {} yesterday", 1),
        ("order_id={}", 0),
        ('{{"traceId":"{}"}}', 0),
        ("id {}", 0),
        ("ts={} card=tok_1", 0),
        ("visa order_id={}", 0),
        ("order card_no={}", 1),
        ("customer asked to charge {} exp 12/27", 1),
        ("tracking no. {}", 0),
        ("company {}", 1),
    ],
)
def test_context_decides_what_a_number_is(line, found):
    data = line.format(CARD)
    assert len(kinds(data)) == found
    assert len(kinds(data, context=False)) == 1
    assert len(kinds(f"pan {CARD}\n{data}\ncard\n")) == found + 1, "other lines say nothing"


def test_columns_have_names():
    table = f"order_id,card,amount\n{CARD},{CARD},5\n{CARD},{CARD},6\n"
    assert [(found.start, found.kind) for found in scan(table.encode())] == [(38, "pan"), (74, "pan")]
    assert len(kinds(f"a,b\n1,{CARD}\n")) == 1


@given(st.text(alphabet="0123456789 -.x:\n٣é", max_size=300))
def test_bytes_are_read_as_text_is(drawn):
    raw = drawn.encode()
    want = [(found.start, found.end) for line in [raw] for found in find_pans(line)]
    assert [(found.start, found.end) for found in find_in(raw)] == want
    end = 0
    for found in scan(raw, context=False):
        digits = "".join(str(int(char)) for char in raw[found.start : found.end].decode() if char.isdecimal())
        assert found.start >= end
        assert is_luhn(digits)
        end = found.end


def test_places_hold_in_large_data():
    filler = ("é" if False else "x") * 99 + "\n"
    head, tail = filler * 12_000, filler * 5_000
    for lines in (f"card {CARD}\n", f"é card {CARD}\n"):
        data = (head + lines + tail).encode()
        (found,) = scan(data)
        assert data[found.start : found.end] == CARD.encode()
    long = b"x" * 1_048_570 + CARD.encode() + b"y" * 2_000_000
    (found,) = scan(long)
    assert long[found.start : found.end] == CARD.encode(), "also across the end of a block"


def test_findings_hold_nothing():
    (found,) = scan(f"card {CARD}".encode())
    assert repr(found) == "Finding(kind='pan', start=5, end=21)"
    assert package_scan(b"") == []


def test_hostile_input_takes_no_longer():
    for hostile in (b"token=" * 100_000, b"ey" * 300_000, b"1" * 600_000, b"4242 " * 100_000, b"-----BEGIN " * 50_000):
        start = time.process_time()
        scan(hostile)
        assert time.process_time() - start < 8
