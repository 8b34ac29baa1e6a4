"""A process in which a person judges a payment, and which kills itself at a named moment. Usage: HOME MOMENT."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.judge.payment.files import load_rules
from vedette.run.payments.scoring import Scoring
from vedette.run.platform import Platform

EVENT = {
    "TRANSACTION_ID": 1,
    "TX_DATETIME": "2026-03-02 10:00:00",
    "CUSTOMER_ID": 7,
    "TERMINAL_ID": 9,
    "TX_AMOUNT": 120.0,
}


def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)


def plant(platform, moment):
    """Dies before or after a part's call, or makes a mistake that a test must see."""
    desk, queue = platform.desk, platform.reviewing
    learn, paid, judge = desk.learn, queue.paid, queue.judge

    async def dying(label):
        await learn(label)
        die()

    match moment:
        case "before verdict":
            queue.judge = die
        case "after verdict":
            queue.judge = lambda *args, **more: die(judge(*args, **more))
        case "before handing":
            desk.learn = die
        case "after handing":
            desk.learn = dying
        case "before paying":
            queue.paid = die
        case "after paying":
            queue.paid = lambda owed: die(paid(owed))
        case "forgetful":
            # The old way: what was handed over counts as learned.
            platform.handing.hand = lambda label: asyncio.run(desk.learn(label)) or True
            queue.paid = lambda owed: die(paid(owed))
            # The writer has not come to it when the process dies.
            desk.service("default")._recorder.learn = lambda *_args: time.sleep(60)


def main():
    home, moment = sys.argv[1:3]
    rules = Path(home) / "payment.rules"
    (Path(home) / "review.yaml").write_text("sample: 0\n")
    rules.write_text("review if :amount_in_usd: > 100\n")
    settings = load_settings(None, {"VEDETTE_HOME": home, "VEDETTE_PATIENCE": "1000"})
    platform = Platform(settings, clock=SystemClock(), scoring=Scoring(rules=load_rules(rules)))
    desk, queue = platform.desk, platform.reviewing
    desk.open("default")
    decision = asyncio.run(desk.decide(desk.take("default", EVENT, "card_transactions")))
    assert decision.action == "review", decision
    platform.drain()
    plant(platform, moment)
    item = queue.claim("default", "ana")
    if item is not None:
        queue.judge("default", item.id, "ana", item.fence, fraud=True)
    until = time.monotonic() + 240
    while queue.owed() and time.monotonic() < until:
        platform._teach()
        platform.drain()
        time.sleep(0.01)
    assert not queue.owed()
    platform.close()


if __name__ == "__main__":
    main()
