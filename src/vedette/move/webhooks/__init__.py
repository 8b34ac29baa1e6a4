"""Webhooks: how they are signed and verified, and how to receive them.

Sending them is `move.outbox`: an event is written with the effect it tells of, and delivered at least once.

Example:
    >>> body, secret = b'{"id":"evt_1"}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> headers = sign(body, secret=secret, timestamp=1_700_000_000, message_id="evt_1", scheme="standard")
    >>> verify(body, headers, scheme="standard", secrets=[secret], now=1_700_000_100)
    Verified(message_id='evt_1', timestamp=1700000000, secret_index=0)
"""

from vedette.move.webhooks.consumer import WebhookMiddleware
from vedette.move.webhooks.signature import Headers, Scheme, Verified, WebhookError, sign, sign_each, verify

__all__ = ["Headers", "Scheme", "Verified", "WebhookError", "WebhookMiddleware", "sign", "sign_each", "verify"]
