"""An installation that explains itself: a model trained on a month of payments, decisions of it, labels and logs."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from console_world import CHIEF, HOSTILE, MICROS, WHO, Installation, Seed
from serve_world import TENANT, World, charge, fresh
from server_process import Server

from vedette.core.event import Entity
from vedette.core.label import Label
from vedette.core.signal import Level
from vedette.judge.decisions.parts import Policy
from vedette.judge.models import training
from vedette.judge.models.learners import Recipe
from vedette.prove.access.policy import Level as Reach
from vedette.run.payments.scoring import Scoring, load_scoring
from vedette.run.platform import Platform
from vedette.sense.features.definition import load_features, shipped

RULES = """\
block if :risk_score: > 70
review if :risk_score: > 30
block if :amount_in_usd: > 900
challenge if :customer_count_1h: >= 6 and not :card_country: = 'US'
"""
DAYS, A_DAY, SHOWN = 40, 150, 400
ROUNDS, FOLDS = 60, 2
__all__ = ["CHIEF", "WHO", "Explained", "ExploreSeed", "Scoring"]


class ExploreSeed(Seed):
    """As `Seed`, with a model; what its tests ask for is in `known.json` too."""

    def fill(self) -> None:
        rng = np.random.default_rng(4)
        self._train(rng)
        (self.home / "seed.rules").write_text(RULES)
        scoring = load_scoring(self.home / "model", self.home / "seed.rules", None, Policy.OPEN)
        self.world = World(self.home, scoring)
        try:
            self.platform: Platform = self.world.platform
            self._people()
            self._payments(rng)
            self._charges()
            self._alerts()
            self._logs()
            self.platform.drain()
        finally:
            self.world.close()
        kept = {"known": self.known, "people": self.people, "sessions": self.sessions}
        (self.home / "known.json").write_text(json.dumps(kept))

    def _record(self, number: int, back_s: float, rng: np.random.Generator) -> tuple[dict, bool]:
        """A payment so long ago; thieves spend much, at a few terminals."""
        stolen = bool(rng.random() < 0.05)
        record = {
            "TRANSACTION_ID": number,
            "TX_DATETIME": (self.now - timedelta(seconds=back_s)).strftime("%Y-%m-%d %H:%M:%S"),
            "CUSTOMER_ID": int(rng.integers(0, 30)),
            "TERMINAL_ID": int(rng.integers(0, 4)) if stolen else int(rng.integers(0, 25)),
            "TX_AMOUNT": round(float(rng.lognormal(5.2 if stolen else 3.4, 0.6)), 2),
        }
        return record, stolen

    def _train(self, rng: np.random.Generator) -> None:
        records = []
        for number in range(DAYS * A_DAY):
            record, stolen = self._record(number, (DAYS * A_DAY - number) * 86_400 / A_DAY, rng)
            records.append(record | {"TX_FRAUD": int(stolen)})
        table = pa.Table.from_pylist(records)
        times = pa.array([each["TX_DATETIME"] for each in records])
        table = table.set_column(1, "TX_DATETIME", times.cast(pa.timestamp("us")))
        first = int(self.now.timestamp()) // 86_400 - DAYS
        before = training.FOLDS
        training.FOLDS = FOLDS
        try:
            features = load_features(shipped("card_transactions"))
            recipe = Recipe(rounds=ROUNDS)
            training.train(
                table, features, start=first + 8, days=24, delay_days=7, out=self.home / "model", recipe=recipe
            )
        finally:
            training.FOLDS = before

    def _payments(self, rng: np.random.Generator) -> None:
        """The last two days, in order; the truth about some of them."""
        desk, found = self.platform.desk, {}
        for number in range(SHOWN):
            record, stolen = self._record(1_000_000 + number, (SHOWN - number) * 172_000 / SHOWN, rng)
            decided = self.world.wait(desk.decide(desk.take(TENANT, record)))
            found.setdefault(str(decided.action), []).append((decided.event_id, record, stolen))
            if stolen and number % 2:
                at = round(self.now.timestamp() * MICROS)
                label = Label(event_id=decided.event_id, tenant=TENANT, fraud=True, observed_time=at, kind="dispute")
                self.world.wait(desk.learn(label))
                self.known["labelled"] = decided.event_id
        self.known |= {action: each[-1][0] for action, each in found.items()}
        self.known["actions"] = json.dumps({action: len(each) for action, each in found.items()})
        _, record, _ = found["block"][-1]
        self.known["customer"] = f"customer:{record['CUSTOMER_ID']}"

    def _charges(self) -> None:
        secret = self.world.key({"charges": Reach.WRITE})
        body = charge(4_200, source="tok_explore", metadata={"note": HOSTILE})
        answer = self.world.post("/v1/charges", secret, body, key=fresh()).json()
        self.known["charged"] = answer["decision"]["event_id"]

    def _logs(self) -> None:
        """What other sources say of the customer, with texts that an attacker wrote."""
        customer = self.known["customer"].partition(":")[2]
        lines = []
        for number in range(60):
            at = (self.now - timedelta(minutes=number * 40)).strftime("%Y-%m-%dT%H:%M:%SZ")
            event = {"id": f"log-{number}", "type": "login.succeeded", "time": at, "customer": customer}
            lines.append(json.dumps(event | {"ip": f"198.51.100.{number % 5}", "device": HOSTILE, "user": "u1"}))
        intake = self.platform.intake(TENANT)
        intake.push("product", "explore", "\n".join(lines).encode())
        entities = (Entity("customer", customer), Entity("ip", "198.51.100.1"))
        self._signal(700, Level.HIGH, "Account taken over", entities, 600)


class Explained(Installation):
    """The installation, served with its model."""

    def __init__(self, seeded, home) -> None:
        shutil.copytree(seeded, home)
        self.home = home
        kept = json.loads((home / "known.json").read_text())
        self.known, self.people, self.sessions = kept["known"], kept["people"], kept["sessions"]
        options = ("--rules", home / "seed.rules", "--model", home / "model")
        self.server = Server(home, *options, environ={"VEDETTE_TENANT": TENANT}).start()
        self.url = self.server.url
        self.host = urlsplit(self.url).hostname
