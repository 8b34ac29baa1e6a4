"""Signing secrets of endpoints: good for both schemes, rotated with an overlap, private on disk."""

import stat

import pytest

from vedette.core.errors import DefinitionError, NotFoundError
from vedette.move.webhooks import WebhookError, sign_each, verify
from vedette.prove.secrets import Secrets
from vedette.run.webhooks import SigningSecrets

BODY = b'{"id":"evt_1"}'


def test_rotation_overlaps_and_ends(tmp_path, clock):
    signing = SigningSecrets(tmp_path, Secrets(tmp_path, {}), clock)
    old = signing.make("we_1")
    new = signing.rotate("we_1", overlap_s=3_600)
    assert old != new
    assert signing.of("acme", "we_1") == [new, old]
    now = clock.now() // 1_000_000
    for scheme in ("standard", "timestamped"):
        at = {"timestamp": now, "message_id": "evt_1", "scheme": scheme}
        headers = sign_each(BODY, secrets=signing.of("acme", "we_1"), **at)
        for secret in (old, new):
            assert verify(BODY, headers, scheme=scheme, secrets=[secret], now=now).message_id == "evt_1"
    clock.advance(3_600)
    assert signing.of("acme", "we_1") == [new]
    headers = sign_each(BODY, secrets=signing.of("acme", "we_1"), timestamp=now, message_id="evt_1", scheme="standard")
    with pytest.raises(WebhookError):
        verify(BODY, headers, scheme="standard", secrets=[old], now=now)
    third = signing.rotate("we_1", overlap_s=0)
    assert signing.of("acme", "we_1") == [third], "no overlap, when a secret is known to others"
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_what_is_refused(tmp_path, clock):
    signing = SigningSecrets(tmp_path, Secrets(tmp_path, {}), clock)
    with pytest.raises(NotFoundError):
        signing.rotate("we_1")
    signing.make("we_1")
    for overlap in (-1, 8 * 86_400):
        with pytest.raises(DefinitionError):
            signing.rotate("we_1", overlap_s=overlap)
