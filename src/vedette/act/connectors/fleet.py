"""osquery through Fleet: one live query on one host. It reads; what it found goes to the steps that follow."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, ActionResult, Argument, Repeats, Signature
from vedette.act.connectors.connector import CONNECTION, Action, Reach, Remote, cut, read_json, segment
from vedette.core.errors import DataError, PermanentError

MAX_ROWS = 100
"""Most rows that a result keeps; `count` tells how many there were."""
MAX_QUERY = 2_000
_FORBIDDEN = re.compile(r"\b(curl|curl_certificate|carves|attach|pragma)\b", re.IGNORECASE)
"""Tables that reach beyond the host or change it."""


def check_query(query: str) -> None:
    """Raises `action.query.refused` unless it is one reading query over the host's own tables."""
    text = query.strip()
    one = ";" not in text.rstrip(";") and re.match(r"(select|with)\b", text, re.IGNORECASE)
    if not one or len(text) > MAX_QUERY or _FORBIDDEN.search(text):
        raise DataError("action.query.refused", "only one `select` over the host's own tables is sent")


class _Fleet:
    def __init__(self, call: ActionCall, reach: Reach) -> None:
        self._remote = Remote(reach, call.arguments["connection"], "url", "token")
        self._path = f"/api/v1/fleet/hosts/identifier/{segment(call.arguments['host'])}"
        self._headers = {"Authorization": f"Bearer {self._remote['token']}"}

    def host(self) -> Any:
        return read_json(self._remote.send("GET", self._path, headers=self._headers)).get("host", {})

    def query(self, text: str) -> Any:
        return read_json(self._remote.send("POST", f"{self._path}/query", body={"query": text}, headers=self._headers))


def _query(call: ActionCall, reach: Reach) -> ActionResult:
    check_query(call.arguments["query"])
    answer = _Fleet(call, reach).query(call.arguments["query"])
    if answer.get("error"):
        raise PermanentError("action.query.failed", "the host refused the query", at=call.arguments["host"])
    found = answer.get("rows") or []
    try:
        rows = msgspec.convert(found, list[dict[str, str | int | float | None]])
    except msgspec.ValidationError:
        raise PermanentError("action.remote.garbled", "the rows are not of the expected shape") from None
    kept = [{cut(name): cut(value) for name, value in row.items()} for row in rows[:MAX_ROWS]]
    return ActionResult({"host": call.arguments["host"], "rows": kept, "count": len(rows)})


def _look(call: ActionCall, reach: Reach) -> dict[str, Any]:
    check_query(call.arguments["query"])
    host = _Fleet(call, reach).host()
    return {name: cut(host.get(name, "")) for name in ("hostname", "platform", "status")}


ACTIONS = (
    Action(
        Signature(
            "fleet_query",
            "asks one host a question with osquery",
            {"connection": CONNECTION, "host": Argument(str), "query": Argument(str)},
            touches={"host": "host"},
            scopes=("observer_plus",),
            repeats=Repeats.READS,
        ),
        _query,
        _look,
    ),
)
