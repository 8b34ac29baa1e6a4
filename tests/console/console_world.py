"""A small installation as a person would find it, made through the product's own parts, and the browser that looks at it.

It holds a day of decisions, charges, alerts of every level, a case with a run that waits for an approval, and texts that
an attacker wrote. `Installation.known` names what tests ask for.
"""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from serve_world import ALL_SCOPES, MERCHANT, TENANT, World, charge, fresh, wait_for
from server_process import Server

from vedette.core.content import shipped
from vedette.core.event import Entity
from vedette.core.signal import Level, Signal
from vedette.judge.payment.files import load_rules
from vedette.prove.access import Mode, Role
from vedette.prove.access.policy import Level as Reach
from vedette.run.payments.scoring import Scoring

RULES = "block if :amount_in_usd: > 400\nchallenge if :amount_in_usd: > 250\nreview if :amount_in_usd: > 200\n"
WHO = ("analyst", "responder", "risk", "model", "compliance", "admin")
CHIEF = "chief"
"""A person with every role."""
HOSTILE = '<img src=x onerror="document.title=1">\'"</script>{{7*7}}'
"""A text that must stay text."""
MICROS = 1_000_000
DECISIONS = 240


class Seed:
    """Fills a home folder.

    Args:
        home: An empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = datetime.now(UTC)
        self.rng = random.Random(11)
        self.known: dict[str, str] = {}
        self.people: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        (home / "seed.rules").write_text(RULES)

    def fill(self) -> None:
        """Makes everything, and writes what tests ask for to `known.json`."""
        self.world = World(self.home, Scoring(rules=load_rules(self.home / "seed.rules")))
        try:
            self.platform = self.world.platform
            self._people()
            self._decisions()
            self._charges()
            self._alerts()
            self._case()
            self.platform.drain()
        finally:
            self.world.close()
        kept = {"known": self.known, "people": self.people, "sessions": self.sessions}
        (self.home / "known.json").write_text(json.dumps(kept))

    def _people(self) -> None:
        access = self.platform.access
        names = dict(
            zip(WHO, ("Ana Silva", "Ravi Patel", "Rosa Lind", "Mo Diallo", "Cleo Baum", "Ada Moreau"), strict=True)
        )
        for who in (*WHO, CHIEF):
            person = access.people.create(TENANT, names.get(who, "Ada Byron"))
            for role in Role if who == CHIEF else (Role(who),):
                access.people.grant(TENANT, person.id, role, by="system")
            self.people[who] = person.id
            self.sessions[who] = access.sessions.open(TENANT, person.id, proven=True).secret.reveal()

    def _decisions(self) -> None:
        """Card payments over the last day, more by day than by night."""
        desk = self.platform.desk
        for number in range(DECISIONS):
            back = self.rng.betavariate(1.2, 1.6) * 86_000
            event = {
                "TRANSACTION_ID": 1_000 + number,
                "TX_DATETIME": (self.now - timedelta(seconds=back)).strftime("%Y-%m-%d %H:%M:%S"),
                "CUSTOMER_ID": self.rng.randrange(40),
                "TERMINAL_ID": self.rng.randrange(12),
                "TX_AMOUNT": round(self.rng.lognormvariate(4, 1), 2),
            }
            decided = self.world.wait(desk.decide(desk.take(TENANT, event)))
            if decided.action == "block":
                self.known["decision"] = decided.event_id

    def _charges(self) -> None:
        secret = self.world.key({"charges": Reach.WRITE})
        for number in range(8):
            body = charge(1_900 + 700 * number, source=f"tok_{number:04d}", metadata={"note": HOSTILE})
            answer = self.world.post("/v1/charges", secret, body, key=fresh())
            assert answer.status_code == 201, answer.text
            self.known["charge"] = answer.json()["id"]

    def _signal(self, number: int, level: Level, title: str, entities: tuple[Entity, ...], back_s: int) -> None:
        at = round(self.now.timestamp() * MICROS) - back_s * MICROS
        signal = Signal(
            id=f"sig-{number}",
            tenant=TENANT,
            rule_id=f"rule-{number % 5}",
            rule_version="v1",
            title=title,
            level=level,
            event_id=f"ev-{number}",
            event_time=at,
            source="cloudtrail",
            entities=entities,
            tags=("attack.t1078", "attack.initial_access"),
            why={"sourceIPAddress": "198.51.100.7", "userAgent": HOSTILE, "eventName": "GetSecretValue"},
        )
        self.platform.alerts.apply([(signal, at)])

    def _alerts(self) -> None:
        titles = (
            "Password spray",
            "Secret read from a new place",
            "Cards tested in small amounts",
            "Refund to another card",
        )
        for number in range(18):
            level = list(Level)[number % 5]
            entities = (
                Entity("user", f"person-{number % 6}@acme.example"),
                Entity("ip", f"198.51.100.{number}"),
                Entity("merchant", MERCHANT),
            )
            self._signal(number, level, titles[number % len(titles)], entities, 1_200 * number)
        self._signal(90, Level.MEDIUM, HOSTILE, (Entity("user", f"a/b?c#d {HOSTILE}"),), 60)
        self.known["entity"] = "merchant:" + MERCHANT
        self.known["hostile_entity"] = f"user:a/b?c#d {HOSTILE}"

    def _case(self) -> None:
        """A stolen key: its alert, its case, and the run that waits for a person."""
        stolen = self.platform.access.issue_key(
            TENANT, scopes={"charges": Reach.WRITE}, mode=Mode.TEST, name="Shop till"
        )
        entities = (Entity("key", stolen.key.id), Entity("account", MERCHANT), Entity("ip", "198.51.100.7"))
        self._signal(99, Level.CRITICAL, "API key used from a new place", entities, 300)
        alerts = self.platform.alerts.find(TENANT, limit=500)
        alert = next(each for each in alerts if each.title.startswith("API key"))
        playbook = self.platform.playbook("compromised_api_key")
        run = self.platform.responder.start(TENANT, playbook, alert.id, requester=self.people["analyst"])
        wait_for(lambda: self.platform.responder.show(TENANT, run.id), lambda one: one.approval)
        case = self.platform.cases.of_alert(TENANT, alert.id)
        full = self.world.key(ALL_SCOPES)
        wanted = {"amount_minor": 500, "currency": "EUR", "merchant": MERCHANT}
        payout = self.world.post("/v1/payouts", full, wanted, key=fresh()).json()
        self.known |= {"alert": alert.id, "case": case or "", "run": run.id, "key": stolen.key.id}
        self.known |= {"stolen": stolen.secret.reveal(), "full": full, "payout": payout["id"]}


class Installation:
    """A copy of the seeded home, served by the real command on a free port.

    Args:
        seeded: Home that `Seed` filled.
        home: Where the copy goes.
    """

    def __init__(self, seeded: Path, home: Path) -> None:
        shutil.copytree(seeded, home)
        self.home = home
        kept = json.loads((home / "known.json").read_text())
        self.known, self.people, self.sessions = kept["known"], kept["people"], kept["sessions"]
        self.server = Server(
            home,
            "--rules",
            home / "seed.rules",
            "--sigma",
            shipped("rules/sigma"),
            environ={"VEDETTE_TENANT": TENANT},
        ).start()
        self.url = self.server.url
        self.host = urlsplit(self.url).hostname

    def cookie(self, who: str) -> dict[str, str]:
        """The session of somebody, as a browser keeps it."""
        return {"name": "vedette", "value": self.sessions[who], "domain": self.host, "path": "/"}

    def close(self) -> None:
        """Stops the server; it must end well."""
        assert self.server.stop() == 0, self.server.errors.read_text()
