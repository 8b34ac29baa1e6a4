"""One tenant's money: every service over one database, a decision that the source token asks for."""

import json
import os
import random
import signal
from dataclasses import dataclass, field

from vedette.core.decision import Action, Decision
from vedette.core.errors import VedetteError
from vedette.core.ids import Ids
from vedette.move import chart
from vedette.move.charges import ChargeLimits, Charges
from vedette.move.disputes import Disputes
from vedette.move.idempotency import Idempotency
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.limits import Limits, Rate
from vedette.move.outbox import Dispatcher, Outbox
from vedette.move.payouts import Payouts

TENANT = "acme"
MERCHANT = "shop-1"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def decide(event):
    """Blocks `tok_block...`, challenges `tok_challenge...`, reviews `tok_review...`, allows the rest."""
    word = event.data["source"].split("_")[1]
    action = Action(word) if word in list(Action) else Action.ALLOW
    return Decision(event_id=event.id, tenant=event.tenant, action=action, score=0.25, risk_score=25)


def one_by_one(decide):
    """The port of a function that decides on one event."""

    def each(event):
        try:
            return decide(event)
        except VedetteError as error:
            return error

    return lambda events: [each(event) for event in events]


@dataclass
class Response:
    status: int
    headers: dict = field(default_factory=dict)


class World:
    """Everything over one database.

    Args:
        die_at: Name of the step at which the process kills itself.
        spool: File that takes what the dispatcher sends, a line a delivery.
    """

    def __init__(self, db, clock, *, die_at="", spool=None, rates=None, decide=decide, lease_s=30.0):
        self.db, self.clock, self.spool = db, clock, spool
        self.sent = []
        self.replies = []
        ids = Ids(clock)
        self.keys = Idempotency(db, clock, b"a secret of the test run", lease_s=lease_s)
        self.ledger = Ledgers(db, clock)
        self.outbox = Outbox(db, clock, ids)
        self.die_at = die_at
        parts = {"keys": self.keys, "ledger": self.ledger, "outbox": self.outbox, "step": self.step}
        self.limiter = Limits(clock)
        limits = (self.limiter, ChargeLimits(*rates, per_batch=Rate(1, 1, 2))) if rates else None
        self.charges = Charges(db, clock, ids, decide=one_by_one(decide), limits=limits, **parts)
        self.payouts = Payouts(db, clock, ids, **parts)
        self.disputes = Disputes(db, clock, ids, **parts)
        self.dispatcher = Dispatcher(
            db,
            clock,
            send=self.send,
            secrets_of=lambda tenant, endpoint: [SECRET],
            rng=random.Random(5),
            step=self.step,
        )
        self.steps = []

    def step(self, name):
        if name == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps.append(name)

    def send(self, post):
        if self.spool is not None:
            with self.spool.open("ab") as file:
                file.write(post.headers["webhook-id"].encode() + b" " + post.content + b"\n")
        self.sent.append(post)
        reply = self.replies.pop(0) if self.replies else 200
        if isinstance(reply, Exception):
            raise reply
        return Response(reply)

    def balance(self, kind=chart.Kind.MERCHANT, merchant=MERCHANT, currency="EUR", tenant=TENANT):
        """(debits pending, debits posted, credits pending, credits posted), zeros for an account not there."""
        found = self.ledger.lookup_accounts(tenant, [chart.account(kind, currency, merchant).id])
        a = found[0] if found else None
        return (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted) if a else (0, 0, 0, 0)

    def transfers(self):
        with self.db.read() as connection:
            return connection.exec_driver_sql("select count(*) from ledger_transfer").scalar_one()

    def events(self):
        """(type, id) of every webhook of the tenant."""
        bodies = [json.loads(delivery.body) for delivery in self.outbox.deliveries(TENANT)]
        return [(body["type"], body["id"]) for body in bodies]


def charge(amount=1999, **changed):
    wanted = {
        "amount_minor": amount,
        "currency": "EUR",
        "source": "tok_visa",
        "merchant": MERCHANT,
        "metadata": {"order": "o-1"},
    }
    return {**wanted, **changed}
