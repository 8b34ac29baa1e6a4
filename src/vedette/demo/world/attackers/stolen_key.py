"""A stolen API key: read from the secret store under a program's role, then used to test cards (ATT&CK T1078)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from vedette.demo.world.attackers.card_tester import CardTester
from vedette.demo.world.charges import Draft
from vedette.demo.world.deeds import Deed, Line
from vedette.demo.world.logs.cloud import called
from vedette.demo.world.nouns import Answer, Outcome
from vedette.demo.world.staff import ACCOUNT
from vedette.demo.world.stage import Stage
from vedette.demo.world.tide import SECOND

SCOUTING = (
    ("sts.amazonaws.com", "GetCallerIdentity"),
    ("iam.amazonaws.com", "ListUsers"),
    ("secretsmanager.amazonaws.com", "ListSecrets"),
    ("secretsmanager.amazonaws.com", "GetSecretValue"),
)
TRIED_AFTER = 3
"""Requests after the key was ended, until the thief believes it."""


class StolenKey(CardTester):
    """Looks round in the cloud account from outside, reads a merchant's key, waits, and tests cards with it."""

    kind: ClassVar[str] = "stolen_key"

    def __init__(self, stage: Stage, rng: np.random.Generator, begin: float, name: str) -> None:
        super().__init__(stage, rng, begin, name)
        self.care = min(self.care, 0.5)
        self.left = int(rng.integers(90, 190))
        self.gap = float(rng.uniform(14, 40)) * SECOND
        self.patience = 40
        self.merchant = int(rng.choice(stage.senders))
        self.key = stage.key_of(self.merchant).name
        self.scouting = list(SCOUTING)
        self.role = f"arn:aws:sts::{ACCOUNT}:assumed-role/onboarding/onboarding-{rng.integers(8)}"
        self.spy = self.props.mint.address(self.props.place())
        self.servers = [self.props.mint.address(self.props.place()) for _ in range(int(rng.integers(2, 5)))]
        self.refused = 0
        self.entities = {
            f"key:{stage.key_id(self.key)}",
            f"merchant:{stage.merchants.ids[self.merchant]}",
            f"user:{self.role}",
            f"ip:{self.spy}",
            *(f"ip:{server}" for server in self.servers),
            f"device:{self.machine.device}",
        }

    def _new_merchant(self) -> None:
        """The key is of one merchant only."""

    def move(self, now: float) -> Iterable[Deed]:
        """Scouts, then tests."""
        if self.scouting:
            service, call = self.scouting.pop(0)
            secret = {"secretId": self.stage.key_id(self.key)} if call == "GetSecretValue" else None
            error = "AccessDenied" if call == "ListUsers" else ""
            record = called(
                self.props.mint.uuid(), self.role, service, call, address=self.spy, wants=secret, error=error
            )
            yield Line(self.stage.tide.moment(now), "cloudtrail", record)
            wait = 30 + self.rng.exponential(90) if self.scouting else 600 + self.rng.exponential(900)
            self.next = now + float(wait) * SECOND
            return
        for deed in super().move(now):
            if isinstance(deed, Draft):
                yield self._use(now)
                yield deed._replace(http=True, key=self.key)

    def _use(self, now: float) -> Line:
        return self.event(
            now,
            "api_key.used",
            merchant=self.stage.merchants.ids[self.merchant],
            key=self.stage.key_id(self.key),
            ip=self.servers[int(self.rng.integers(len(self.servers)))],
            user_agent="python-requests/2.32",
        )

    def observe(self, draft: Draft, payment: str, outcome: Outcome) -> None:
        """Goes on while the key works."""
        if outcome.status is Answer.UNAUTHORIZED:
            self.refused += 1
            self.done = self.done or self.refused >= TRIED_AFTER
        else:
            super().observe(draft, payment, outcome)
