"""GitHub: revoke a token that leaked. What is revoked is revoked; nobody can take that back."""

from __future__ import annotations

from typing import Any

from vedette.act.actions import ActionCall, ActionResult, Argument, Signature
from vedette.act.connectors.connector import CONNECTION, Action, Reach, Remote, cut, read_json

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_GONE = 401


def _whose(call: ActionCall, reach: Reach) -> str:
    """Login of the token's owner; empty when the token opens nothing any more."""
    remote = Remote(reach, call.arguments["connection"], "url")
    token = reach.secret(call.arguments["token"])
    answer = remote.send("GET", "/user", headers={**_HEADERS, "Authorization": f"Bearer {token}"}, accept=(_GONE,))
    return "" if answer.status == _GONE else cut(read_json(answer).get("login", ""))


def _revoke(call: ActionCall, reach: Reach) -> ActionResult:
    remote = Remote(reach, call.arguments["connection"], "url")
    token = reach.secret(call.arguments["token"])
    remote.send("POST", "/credentials/revoke", body={"credentials": [token]}, headers=_HEADERS)
    return ActionResult({"token": call.arguments["token"]})


def _look(call: ActionCall, reach: Reach) -> dict[str, Any]:
    login = _whose(call, reach)
    return {"token": call.arguments["token"], "live": bool(login), "login": login}


ACTIONS = (
    Action(
        Signature(
            "github_revoke_token",
            "revokes a GitHub token for good",
            # A token that leaked is a secret still: it stands in a file of its own and is named here.
            {"connection": CONNECTION, "token": Argument(str, secret=True)},
            drastic=True,
            contains=True,
            touches={"token": "token"},
            scopes=(),
        ),
        _revoke,
        _look,
    ),
)
