"""People at their desks: they look at the queue, open cases, start playbooks and approve, as anyone would over the API.

They follow written habits and know nothing but what the API shows them. An analyst takes the worst new alert; when it
is about one of the company's API keys, the analyst starts the playbook for it; a responder, somebody else, looks at
what it asks for a few minutes later and approves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from vedette.core.clock import DAY, MICROS
from vedette.core.errors import TransientError
from vedette.demo.wire import Wire

CASES_A_TURN: Final = 1
"""Alerts an analyst can look into in five minutes."""
LOOK_AT: Final = 50
"""Alerts of the queue that are looked through for one worth taking."""
WORTH: Final = ("critical", "high")
"""Levels that somebody gets up for; the others wait in the queue."""
THINKING: Final = 6 * 60 * MICROS
"""How long a responder looks at a request before approving it, microseconds."""
KEY_PLAYBOOK, MERCHANT_PLAYBOOK = "compromised_api_key", "suspect_merchant"
EVENING: Final = 20 * 3_600 * MICROS
"""From then on until midnight only keys are worth getting up for; the rest waits for the morning."""
FIVE, HALF_HOUR = 5 * 60 * MICROS, 30 * 60 * MICROS
"""A turn, and how often somebody looks at the board on the wall."""
ENDED: Final = ("completed", "incomplete", "denied", "expired", "failed", "cancelled")
RUN_S: Final = 30.0
"""Real seconds that an approved run may take."""
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Badges:
    """Tokens of the people on duty."""

    admin: str
    """Makes keys."""
    analyst: str
    responder: str


@dataclass(slots=True)
class Containment:
    """One run of a playbook, as its people saw it. Times are of the day, microseconds UTC."""

    run: str
    alert: str
    playbook: str
    target: str
    asked: int
    approved: int = 0
    contained: int = 0
    state: str = ""


@dataclass(slots=True)
class Desk:
    """What happened at the desks so far."""

    alerts: int = 0
    """Alerts so far, as of the last look."""
    newest: str = ""
    """Title of the newest alert."""
    cases: int = 0
    runs: list[Containment] = field(default_factory=list)


class Staff:
    """The people on duty.

    Args:
        wire: To the product.
        badges: Their tokens.
        tell: Hears what they did, for whoever watches.
    """

    def __init__(self, wire: Wire, badges: Badges, tell: Callable[[str], None] = lambda _text: None) -> None:
        self._wire = wire
        self._badges = badges
        self._tell = tell
        self._keys: dict[str, str] = {}
        self.desk = Desk()

    def turn(self, now: int) -> None:
        """What they do in five minutes of the day that end at `now`."""
        self._approve(now)
        evening = now % DAY > EVENING or not now % DAY
        wanted = [alert for alert in self._queue(WORTH) if not evening or _about(alert) == "key"]
        for alert in wanted[:CASES_A_TURN]:
            self._take(alert, now)
        if now // HALF_HOUR != (now - FIVE) // HALF_HOUR:
            self.look()

    def look(self) -> None:
        """A glance at the board on the wall."""
        newest = self._wire.get("/v1/alerts?sort=newest&limit=1", bearer=self._badges.analyst)["data"]
        if newest and newest[0]["title"] != self.desk.newest:
            self.desk.newest = newest[0]["title"]
        self.desk.alerts = self._wire.get("/v1/alerts/facets", bearer=self._badges.analyst)["total"]

    def hand_over(self, now: int) -> None:
        """The last thing before the shift ends: the case of a suspect merchant, up to the approval that it needs."""
        named = [(alert, _entity(alert, "merchant")) for alert in self._everything()]
        found = [(alert, merchant) for alert, merchant in named if merchant]
        found.sort(key=lambda pair: _about(pair[0]) != "merchant")
        for alert, merchant in found[:1]:
            self._start(alert, MERCHANT_PLAYBOOK, {"merchant": merchant}, merchant, now)

    def _queue(self, levels: tuple[str, ...]) -> list[dict[str, Any]]:
        wanted = "".join(f"&level={level}" for level in levels)
        page = self._wire.get(f"/v1/alerts?state=new&limit={LOOK_AT}{wanted}", bearer=self._badges.analyst)
        found: list[dict[str, Any]] = page["data"]
        return found

    def _everything(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._wire.get("/v1/alerts?limit=500", bearer=self._badges.analyst)["data"]
        return found

    def _take(self, alert: dict[str, Any], now: int) -> None:
        """Opens the case; starts the playbook when the alert is about a key that can be ended."""
        title, alert_id = alert["title"], alert["id"]
        wanted = {"title": title, "level": alert["level"], "alert_id": alert_id}
        self._wire.post("/v1/cases", wanted, bearer=self._badges.analyst)
        self._wire.post(
            f"/v1/alerts/{quote(alert_id)}", {"state": "in_progress"}, bearer=self._badges.analyst, method="PATCH"
        )
        self.desk.cases += 1
        key = _entity(alert, "key")
        if key and _about(alert) == "key":
            account = _entity(alert, "merchant") or self._owner(key)
            if account:
                self._start(alert, KEY_PLAYBOOK, {"key_id": key, "account": account}, key, now)

    def _start(self, alert: dict[str, Any], playbook: str, inputs: dict[str, str], target: str, now: int) -> None:
        if any(run.target == target for run in self.desk.runs):
            return
        wanted = {"playbook": playbook, "alert_id": alert["id"], "inputs": inputs}
        run = self._wire.post("/v1/playbooks/runs", wanted, bearer=self._badges.analyst)
        self.desk.runs.append(Containment(run["id"], alert["id"], playbook, target, now))
        self._wait(run["id"], lambda state: state not in ("queued", "running"))
        self._tell(f"{playbook} asks for approval: {target}")

    def _approve(self, now: int) -> None:
        """The responder's part: what was asked some minutes ago and is about a key."""
        for run in self.desk.runs:
            if run.approved or run.playbook != KEY_PLAYBOOK or now - run.asked < THINKING:
                continue
            view = self._wire.get(f"/v1/playbooks/runs/{run.run}", bearer=self._badges.responder)
            asked = view["approval"]
            if asked is None:
                run.approved, run.state = now, view["state"]
                continue
            said = {"approve": True, "seen": asked["hash"], "reason": "the merchant does not know these requests"}
            self._wire.post(f"/v1/playbooks/runs/{run.run}/approvals", said, bearer=self._badges.responder)
            run.approved = now
            run.state = self._wait(run.run, lambda state: state in ENDED)
            run.contained = now if run.state in ("completed", "incomplete") else 0
            self._tell(f"approved: {run.target} is contained")

    def _owner(self, key: str) -> str:
        """Merchant that an API key of the company is bound to; empty for keys of other systems."""
        if key not in self._keys:
            page = self._wire.get("/v1/keys", bearer=self._badges.responder)
            self._keys = {held["id"]: next(iter(held["accounts"]), "") for held in page["data"]}
        return self._keys.get(key, "")

    def _wait(self, run: str, enough: Callable[[str], bool]) -> str:
        """State of a run once it is there. Runs go on by themselves, in real time."""
        until = time.monotonic() + RUN_S
        while time.monotonic() < until:
            state: str = self._wire.get(f"/v1/playbooks/runs/{run}", bearer=self._badges.analyst)["state"]
            if enough(state):
                return state
            time.sleep(POLL_S)
        raise TransientError("demo.run.slow", "a playbook run does not go on", at=run)


def _about(alert: dict[str, Any]) -> str:
    """Type of the entity that the alert is about."""
    entity = alert.get("entity") or {}
    return str(entity.get("type", ""))


def _entity(alert: dict[str, Any], kind: str) -> str:
    """Id of the alert's first entity of a type; the one it is about goes first."""
    about = alert.get("entity") or {}
    if about.get("type") == kind:
        return str(about["id"])
    return next((str(each["id"]) for each in alert["entities"] if each["type"] == kind), "")
