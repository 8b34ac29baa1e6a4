"""The shipped actions in the world: evidence, keys, payouts, notices. Each is its room's own idempotent call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from vedette.act.actions import ActionCall, ActionResult, Artefact, Perform, Preview
from vedette.act.alerts import Alerts
from vedette.core.clock import Clock
from vedette.core.db import LONG, Database, Migration, create, insert_new, sa
from vedette.core.errors import PermanentError, TransientError

MAX_LIST = 1_000
MAX_SIGNALS = 1_000
"""Most signals that one snapshot holds."""

_METADATA = sa.MetaData()
_SNAPSHOT = sa.Table(
    "action_snapshot",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sqlite_strict=True,
)
_NOTICE = sa.Table(
    "action_notice",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Index("action_notice_newest", "tenant", "time"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "actions", create(_METADATA)),)

Keep = Callable[[str, str, str, int, bytes], str]
"""(id, tenant, kind, time, content) -> reference: puts an artefact under the evidence tree; the same id and content
again change nothing."""

Post = Callable[[str, Mapping[str, str], bytes], int]
"""(url, headers, body) -> HTTP status: the guarded way out."""


class Keys(Protocol):
    """What is needed of the access room."""

    def revoke_key(self, tenant: str, key_id: str, *, by: str) -> Any:
        """Ends a key; again changes nothing."""

    def key(self, tenant: str, key_id: str) -> Any:
        """One key."""


class Freezer(Protocol):
    """What is needed of the payouts."""

    def freeze(self, tenant: str, account: str, reason: str, key: str) -> Any:
        """Freezes; the same key again gives the same answer."""

    def unfreeze(self, tenant: str, account: str, reason: str, key: str) -> Any:
        """Lets payouts go on; the same key again gives the same answer."""

    def is_frozen(self, tenant: str, account: str) -> bool:
        """Whether it is frozen already."""


def keep_nowhere(record_id: str, _tenant: str, _kind: str, _time: int, _content: bytes) -> str:
    """Without an evidence tree the artefact stays in the product's database only."""
    return record_id


class Effects:
    """Performs the shipped actions that need a store of their own: snapshots and notices.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of what is kept.
        alerts: What is snapshotted.
        keep: Puts snapshots under the evidence tree.
        post: Sends a webhook; None: notices with a webhook fail with `action.webhook.unavailable`.
        secret: Name of a secret -> its value, at the moment of use.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        alerts: Alerts,
        *,
        keep: Keep = keep_nowhere,
        post: Post | None = None,
        secret: Callable[[str], str] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._alerts = alerts
        self._keep = keep
        self._post = post
        self._secret = secret
        database.migrate("actions", MIGRATIONS)

    def snapshot_evidence(self, call: ActionCall) -> ActionResult:
        """Keeps the alert as it is at the first call of the key; later calls give the same artefact."""
        tenant, key = call.tenant, call.key
        now = self._clock.now()
        content = self._snapshot(call, now)
        row = {"digest": hashlib.sha256(content).hexdigest(), "time": now, "content": content}
        here = (_SNAPSHOT.c.tenant == tenant) & (_SNAPSHOT.c.key == key)
        with self._database.begin() as connection:
            insert_new(connection, _SNAPSHOT, tenant=tenant, key=key, **row)
            kept = connection.execute(_SNAPSHOT.select().where(here)).one()
        reference = self._keep(f"snapshot/{key}", tenant, "snapshot", kept.time, kept.content)
        values = {"digest": kept.digest, "reference": reference, "bytes": len(kept.content)}
        return ActionResult(values, (Artefact(kept.digest, reference, "alert_snapshot"),))

    def _snapshot(self, call: ActionCall, now: int) -> bytes:
        alert = self._alerts.get(call.tenant, call.arguments["alert_id"])
        signals = self._alerts.signals(call.tenant, alert.id, limit=MAX_SIGNALS)
        risks = {entity.key: self._alerts.risk(call.tenant, entity, now) for entity in alert.entities}
        return msgspec.json.encode(
            {"alert": alert, "signals": signals, "risk": risks, "time": now, "run": call.run_id}, order="sorted"
        )

    def artefact(self, tenant: str, digest: str) -> bytes | None:
        """The stored bytes of a snapshot, None when the tenant has none of that digest."""
        query = sa.select(_SNAPSHOT.c.content).where(_SNAPSHOT.c.tenant == tenant, _SNAPSHOT.c.digest == digest)
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).scalar()

    def notify(self, call: ActionCall) -> ActionResult:
        """Writes the notice, then posts it. The receiver sees the same `Idempotency-Key` at every retry."""
        arguments = call.arguments
        channel = arguments.get("channel") or "response"
        row = {"run_id": call.run_id, "channel": channel, "text": arguments["text"], "time": self._clock.now()}
        with self._database.begin() as connection:
            insert_new(connection, _NOTICE, tenant=call.tenant, key=call.key, **row)
        if arguments.get("webhook"):
            self._send(arguments["webhook"], call, channel)
        return ActionResult({"channel": channel})

    def _send(self, name: str, call: ActionCall, channel: str) -> None:
        if self._post is None or self._secret is None:
            raise PermanentError("action.webhook.unavailable", "no way out of this installation is set up")
        headers = {"Content-Type": "application/json", "Idempotency-Key": call.key}
        body = msgspec.json.encode({"channel": channel, "run": call.run_id, "text": call.arguments["text"]})
        status = self._post(self._secret(name), headers, body)
        if status == 429 or status >= 500:  # noqa: PLR2004 - HTTP
            raise TransientError("action.webhook.busy", f"the receiver answered {status}")
        if status >= 300:  # noqa: PLR2004 - HTTP
            raise PermanentError("action.webhook.refused", f"the receiver answered {status}")

    def notices(self, tenant: str, *, limit: int = 100) -> list[dict[str, Any]]:
        """Notices, newest first: key, run_id, channel, text, time."""
        query = _NOTICE.select().where(_NOTICE.c.tenant == tenant)
        query = query.order_by(_NOTICE.c.time.desc(), _NOTICE.c.key).limit(min(limit, MAX_LIST))
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def revoke_key(keys: Keys) -> Perform:
    """Ends an API key; ended is ended, however often."""

    def perform(call: ActionCall) -> ActionResult:
        keys.revoke_key(call.tenant, call.arguments["key_id"], by=call.operator)
        return ActionResult({"key_id": call.arguments["key_id"]})

    return perform


def preview_key(keys: Keys) -> Preview:
    """Which key it is, and when it was last used."""

    def preview(call: ActionCall) -> dict[str, Any]:
        key = keys.key(call.tenant, call.arguments["key_id"])
        known = {name: getattr(key, name, None) for name in ("id", "mode", "account", "last_used", "revoked")}
        return {name: msgspec.to_builtins(value) for name, value in known.items() if value is not None}

    return preview


def freeze_payouts(payouts: Freezer) -> Perform:
    """Freezes an account's payouts; the ledger room's own idempotency holds the key."""

    def perform(call: ActionCall) -> ActionResult:
        account, before = call.arguments["account"], payouts.is_frozen(call.tenant, call.arguments["account"])
        held = _answered(payouts.freeze(call.tenant, account, call.arguments["reason"], call.key))
        return ActionResult({"account": account, "payouts": held.get("payouts", []), "changed": not before})

    return perform


def unfreeze_payouts(payouts: Freezer) -> Perform:
    """Lets an account's payouts go on."""

    def perform(call: ActionCall) -> ActionResult:
        account, reason = call.arguments["account"], call.arguments.get("reason") or f"taken back by {call.run_id}"
        if call.arguments.get("changed", True):
            _answered(payouts.unfreeze(call.tenant, account, reason, call.key))
        return ActionResult({"account": account})

    return perform


def _answered(answer: Any) -> Any:
    if answer.status >= 500:  # noqa: PLR2004 - HTTP
        raise TransientError("action.freeze.busy", f"the payouts answered {answer.status}")
    if answer.status >= 300:  # noqa: PLR2004 - HTTP
        raise PermanentError("action.freeze.refused", f"the payouts answered {answer.status}")
    return answer.json()


def preview_freeze(payouts: Freezer) -> Preview:
    """Whether it is frozen already."""

    def preview(call: ActionCall) -> dict[str, Any]:
        account = call.arguments["account"]
        return {"account": account, "frozen_already": payouts.is_frozen(call.tenant, account)}

    return preview
