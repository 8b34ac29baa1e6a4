"""What is told to people and to other systems: chat, paging, tickets, a SIEM.

Each request carries the idempotency key where its receiver looks for it: the events API's `dedup_key`, a field of a
Splunk event, and the header `Idempotency-Key` with `id` in the body elsewhere. A plain chat webhook looks at neither;
there the local record alone keeps a repeat away, except for a kill between the answer and that record.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from vedette.act.actions import ActionCall, ActionResult, Argument, Repeats, Signature
from vedette.act.connectors.connector import CONNECTION, Action, Reach, Remote, cut, read_json
from vedette.core.clock import MICROS

_SEVERITIES = {"informational": "info", "low": "info", "medium": "warning", "high": "error", "critical": "critical"}
_MAX_DEDUP = 255


def short(key: str) -> str:
    """A key that fits everywhere: itself, or its hash when it is long."""
    return key if len(key) <= _MAX_DEDUP else hashlib.sha256(key.encode()).hexdigest()


def _post(call: ActionCall, reach: Reach, body: dict[str, Any]) -> Any:
    remote = Remote(reach, call.arguments["connection"], "url")
    return remote.send("POST", body=body, headers={"Idempotency-Key": short(call.key)} | _bearer(remote))


def _bearer(remote: Remote) -> dict[str, str]:
    token = remote.get("token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _chat(call: ActionCall, reach: Reach) -> ActionResult:
    _post(call, reach, {"text": call.arguments["text"]})
    return ActionResult({"sent": True})


def _page(call: ActionCall, reach: Reach, event: str, dedup: str) -> str:
    remote = Remote(reach, call.arguments["connection"], "url", "routing_key")
    body: dict[str, Any] = {"routing_key": remote["routing_key"], "event_action": event, "dedup_key": dedup}
    if event == "trigger":
        severity = _SEVERITIES.get(call.arguments.get("level") or "high", "error")
        details = {"run": call.run_id, "alert": call.alert_id, "case": call.case_id}
        summary = call.arguments["text"][:1_000]
        body["payload"] = {"summary": summary, "source": "vedette", "severity": severity, "custom_details": details}
    return cut(read_json(remote.send("POST", "/v2/enqueue", body=body)).get("dedup_key", dedup))


def _trigger(call: ActionCall, reach: Reach) -> ActionResult:
    return ActionResult({"before": _page(call, reach, "trigger", short(call.key))})


def _resolve(call: ActionCall, reach: Reach) -> ActionResult:
    return ActionResult({"resolved": _page(call, reach, "resolve", call.arguments["before"])})


def _open_ticket(call: ActionCall, reach: Reach) -> ActionResult:
    told = {"title": call.arguments["title"], "text": call.arguments.get("text") or "", "state": "open"}
    links = {"run": call.run_id, "alert": call.alert_id, "case": call.case_id}
    answer = _post(call, reach, {"id": short(call.key), **told, **links})
    found = read_json(answer) if answer.body.strip() else {}
    return ActionResult({"before": short(call.key), "ticket": cut(found.get("id", ""))})


def _close_ticket(call: ActionCall, reach: Reach) -> ActionResult:
    _post(call, reach, {"id": call.arguments["before"], "state": "closed", "run": call.run_id})
    return ActionResult({"closed": call.arguments["before"]})


def _export(call: ActionCall, reach: Reach) -> ActionResult:
    remote = Remote(reach, call.arguments["connection"], "url", "token")
    known = {"key": short(call.key), "run": call.run_id, "alert": call.alert_id, "case": call.case_id}
    event = {"text": call.arguments["text"], **known}
    body = {"time": reach.clock.now() / MICROS, "source": "vedette", "sourcetype": "vedette:response", "event": event}
    # A channel of its own for each key: an indexer that acknowledges does so for this event alone.
    channel = str(uuid.UUID(hashlib.sha256(call.key.encode()).hexdigest()[:32]))
    headers = {"Authorization": f"Splunk {remote['token']}", "X-Splunk-Request-Channel": channel}
    read_json(remote.send("POST", "/services/collector/event", body=body, headers=headers))
    return ActionResult({"key": short(call.key)})


def _look(call: ActionCall, _reach: Reach) -> dict[str, Any]:
    return {name: value for name, value in call.arguments.items() if name != "connection"}


_TEXT = {"connection": CONNECTION, "text": Argument(str)}

ACTIONS = (
    Action(
        Signature(
            "chat_post",
            "posts a message to a chat channel's webhook",
            _TEXT,
            scopes=("incoming-webhook",),
            repeats=Repeats.KEY,
        ),
        _chat,
        _look,
    ),
    Action(
        Signature(
            "page_trigger",
            "pages whoever is on call",
            {**_TEXT, "level": Argument(str, required=False)},
            scopes=("events:write",),
            repeats=Repeats.KEY,
            undo="page_resolve",
        ),
        _trigger,
        _look,
    ),
    Action(
        Signature(
            "page_resolve",
            "resolves a page",
            {"connection": CONNECTION, "before": Argument(str)},
            scopes=("events:write",),
        ),
        _resolve,
        _look,
    ),
    Action(
        Signature(
            "ticket_open",
            "opens a ticket by webhook",
            {"connection": CONNECTION, "title": Argument(str), "text": Argument(str, required=False)},
            scopes=("tickets:write",),
            repeats=Repeats.KEY,
            undo="ticket_close",
        ),
        _open_ticket,
        _look,
    ),
    Action(
        Signature(
            "ticket_close",
            "closes a ticket by webhook",
            {"connection": CONNECTION, "before": Argument(str)},
            scopes=("tickets:write",),
        ),
        _close_ticket,
        _look,
    ),
    Action(
        Signature(
            "splunk_export",
            "sends an event to Splunk's HTTP event collector",
            _TEXT,
            scopes=("hec:event",),
            repeats=Repeats.KEY,
        ),
        _export,
        _look,
    ),
)
