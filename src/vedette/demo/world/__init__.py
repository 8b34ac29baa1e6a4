"""A seeded payments company: sixty days of payments, and a day that is told in steps of five minutes.

Attackers and unusual honest people are among those who act. Nothing that this package hands out says who is who; what
really happened goes to a file that only the score board reads.

    world = World(seed=7, day=datetime(2026, 3, 2, tzinfo=UTC), scale=0.01)
    table = world.history()
    for step in world.steps():
        world.observe({payment.id: send(payment) for payment in step.payments})
    world.write_truth(Path("truth.ndjson"))
"""

from vedette.demo.world.nouns import (
    Answer,
    Dispute,
    Key,
    Merchant,
    Outcome,
    Payment,
    Payout,
    Person,
    Refund,
    Step,
)
from vedette.demo.world.world import World

__all__ = ["Answer", "Dispute", "Key", "Merchant", "Outcome", "Payment", "Payout", "Person", "Refund", "Step", "World"]
