"""What came of a decision another way reaches the item of the review queue that is about it.

Labels, refunds and disputes are heard in the order of the log. A decision is in the log before anything can come of
it, so the queue takes what was decided first; then the item is there, or there is none. Hearing again changes nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from vedette.act.reviewing.amending import Amending
from vedette.act.reviewing.intake import ReviewIntake
from vedette.act.reviewing.nouns import News
from vedette.core.errors import NotFoundError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log
from vedette.judge.decisions.recorder import LABEL_SOURCE
from vedette.move.charges import Charges
from vedette.move.events import DISPUTE, REFUND

MAX_KIND = 40
_FRAUDULENT: Final = "fraudulent"


class Informing:
    """Tells the review queue.

    Args:
        amending: Told.
        intake: Brings what was decided into the queue.
        log: Of the decisions.
        charges: Say on which event they were decided.
    """

    def __init__(self, amending: Amending, intake: ReviewIntake, log: Log, charges: Charges) -> None:
        self._amending = amending
        self._intake = intake
        self._log = log
        self._charges = charges

    def hear(self, event: Event) -> None:
        """Takes a label, or an event of what money did.

        Raises:
            msgspec.MsgspecError: It is no label.
        """
        if event.source == LABEL_SOURCE:
            label = msgspec.convert(event.data, Label)
            news = News(label.kind[:MAX_KIND], label.observed_time, label.fraud)
            self._inform(event.tenant, label.event_id, news, settles=True)
        elif event.data.get("type") == REFUND:
            self._paid(event, f"{REFUND} made")
        elif event.data.get("type") == DISPUTE:
            self._paid(event, f"{DISPUTE} {event.data.get('status', '')}"[:MAX_KIND])

    def _paid(self, event: Event, kind: str) -> None:
        try:
            charge = self._charges.get(event.tenant, str(event.data.get("charge", "")))
        except NotFoundError:
            return  # made elsewhere
        fraud = True if event.data.get("reason") == _FRAUDULENT else None
        self._inform(event.tenant, charge.decision.event_id, News(kind, event.event_time, fraud))

    def _inform(self, tenant: str, event_id: str, news: News, *, settles: bool = False) -> None:
        while self._intake.consume(self._log):
            pass
        self._amending.inform(tenant, event_id, news, settles=settles)
