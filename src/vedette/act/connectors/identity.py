"""People's accounts at an identity provider: Okta's users API, and SCIM 2.0 (RFC 7644) for the others.

Suspending asks for a state, so a call that comes again finds it and changes nothing. Results say whether anything
changed, and the inverse restores only what was changed.
"""

from __future__ import annotations

from typing import Any

from vedette.act.actions import CHANGED, ActionCall, ActionResult, Argument, Signature
from vedette.act.connectors.connector import CONNECTION, Action, Reach, Remote, cut, read_json, segment

_USER = {"connection": CONNECTION, "user": Argument(str)}
_SCIM = {"Content-Type": "application/scim+json", "Accept": "application/scim+json"}
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class _Okta:
    def __init__(self, call: ActionCall, reach: Reach) -> None:
        self._remote = Remote(reach, call.arguments["connection"], "url", "token")
        self._path = f"/api/v1/users/{segment(call.arguments['user'])}"

    def send(self, method: str, path: str = "") -> Any:
        return self._remote.send(method, self._path + path, headers={"Authorization": f"SSWS {self._remote['token']}"})

    def status(self) -> str:
        return cut(read_json(self.send("GET")).get("status", ""))


def _suspend(call: ActionCall, reach: Reach) -> ActionResult:
    okta = _Okta(call, reach)
    before = okta.status()
    if before != "SUSPENDED":
        okta.send("POST", "/lifecycle/suspend")
    return ActionResult({"user": call.arguments["user"], "before": before, "changed": before != "SUSPENDED"})


def _unsuspend(call: ActionCall, reach: Reach) -> ActionResult:
    okta = _Okta(call, reach)
    if call.arguments.get("changed", True) and okta.status() == "SUSPENDED":
        okta.send("POST", "/lifecycle/unsuspend")
    return ActionResult({"user": call.arguments["user"]})


def _clear_sessions(call: ActionCall, reach: Reach) -> ActionResult:
    _Okta(call, reach).send("DELETE", "/sessions?oauthTokens=true")
    return ActionResult({"user": call.arguments["user"]})


def _look(call: ActionCall, reach: Reach) -> dict[str, Any]:
    return {"user": call.arguments["user"], "status": _Okta(call, reach).status()}


class _Scim:
    def __init__(self, call: ActionCall, reach: Reach) -> None:
        self._remote = Remote(reach, call.arguments["connection"], "url", "token")
        self._path = f"/Users/{segment(call.arguments['user'])}"
        self._headers = {**_SCIM, "Authorization": f"Bearer {self._remote['token']}"}

    def active(self) -> bool:
        return bool(read_json(self._remote.send("GET", self._path, headers=self._headers)).get("active", True))

    def set_active(self, *, active: bool) -> None:
        change = {"schemas": [_PATCH], "Operations": [{"op": "replace", "path": "active", "value": active}]}
        self._remote.send("PATCH", self._path, body=change, headers=self._headers)


def _deactivate(call: ActionCall, reach: Reach) -> ActionResult:
    scim = _Scim(call, reach)
    before = scim.active()
    if before:
        scim.set_active(active=False)
    return ActionResult({"user": call.arguments["user"], "changed": before})


def _activate(call: ActionCall, reach: Reach) -> ActionResult:
    if call.arguments.get("changed", True):
        _Scim(call, reach).set_active(active=True)
    return ActionResult({"user": call.arguments["user"]})


def _look_scim(call: ActionCall, reach: Reach) -> dict[str, Any]:
    return {"user": call.arguments["user"], "active": _Scim(call, reach).active()}


ACTIONS = (
    Action(
        Signature(
            "okta_suspend_user",
            "suspends a person at the identity provider: nobody logs in as them until it is taken back",
            _USER,
            drastic=True,
            contains=True,
            touches={"user": "user"},
            scopes=("okta.users.manage",),
            undo="okta_unsuspend_user",
        ),
        _suspend,
        _look,
    ),
    Action(
        Signature(
            "okta_unsuspend_user",
            "lets a suspended person log in again",
            {**_USER, "changed": CHANGED},
            touches={"user": "user"},
            scopes=("okta.users.manage",),
        ),
        _unsuspend,
        _look,
    ),
    Action(
        Signature(
            "okta_revoke_sessions",
            "ends every session and token of a person at the identity provider",
            _USER,
            drastic=True,
            contains=True,
            touches={"user": "user"},
            scopes=("okta.users.manage", "okta.sessions.manage"),
        ),
        _clear_sessions,
        _look,
    ),
    Action(
        Signature(
            "scim_deactivate_user",
            "deactivates a person over SCIM 2.0",
            _USER,
            drastic=True,
            contains=True,
            touches={"user": "user"},
            scopes=("Users:write",),
            undo="scim_activate_user",
        ),
        _deactivate,
        _look_scim,
    ),
    Action(
        Signature(
            "scim_activate_user",
            "activates a person over SCIM 2.0",
            {**_USER, "changed": CHANGED},
            touches={"user": "user"},
            scopes=("Users:write",),
        ),
        _activate,
        _look_scim,
    ),
)
