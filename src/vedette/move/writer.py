"""What charges, payouts and disputes share: the stores of one database, and a write that happens once for its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, Migration
from vedette.core.ids import Ids
from vedette.move.idempotency import Answer, Claim, Idempotency, Request
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.outbox import Outbox
from vedette.move.told import Told

OK: Final = 200
CREATED: Final = 201
REFUSED: Final = 402
CONFLICT: Final = 409

Step = Callable[[str], None]


class Writer:
    """Writes money's own tables with their ledger movements, webhooks and events.

    Args:
        db: One database for keys, rows, ledger and outbox; migrated here.
        clock: For times.
        ids: For ids of what is made.
        keys: Idempotency keys, over `db`.
        ledger: Over `db`.
        outbox: Over `db`.
        step: Told the name of each moment of a write as it is reached; tests stop a process there.
    """

    COMPONENTS: ClassVar[Mapping[str, Sequence[Migration]]] = {}
    """Tables that are needed: component -> its migrations."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ids: Ids,
        *,
        keys: Idempotency,
        ledger: Ledgers,
        outbox: Outbox,
        step: Step = lambda _name: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._ledger = ledger
        self._outbox = outbox
        self._told = Told(db)
        self._step = step
        for component, migrations in self.COMPONENTS.items():
            db.migrate(component, migrations)

    def _once(
        self, what: str, request: Request, resource: str, effect: Callable[[Connection, Claim], Answer]
    ) -> Answer:
        """An effect, once for its key: `what.claimed` is told in its transaction, `what.finished` after the commit."""

        def watched(connection: Connection, claim: Claim) -> Answer:
            self._step(f"{what}.claimed")
            return effect(connection, claim)

        answer = self._keys.once(request, resource, watched)
        self._step(f"{what}.finished")
        return answer
