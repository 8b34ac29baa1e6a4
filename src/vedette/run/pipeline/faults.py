"""Faults of the decision service as signals: what was answered by policy is counted, and somebody is told.

A signal becomes an alert as every other does. It says what happened in a span of time, so a fault that lasts gives one
signal a minute and kind, not one a payment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from vedette.core.clock import MICROS, Clock
from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.core.signal import Level, Signal

RULE = "operations.decisions."
"""Before the kind: `operations.decisions.fallback.log`, `operations.decisions.worker.hung`."""
SIGNALS = "signal"
SPAN = 60 * MICROS
"""One signal of a kind in so many microseconds."""
_TITLES = {
    "fallback": "Payments are answered by policy: {part} does not answer",
    "refused": "Payments are turned away: too many wait",
    "worker": "A decision worker {part}",
    "registry": "Model or rules are damaged; payments are decided with the last good copy",
}


class Faults:
    """Tells of faults, each kind once a minute.

    Args:
        log: Signals go to its topic `signal`.
        clock: Time of the signals.
    """

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._seen: dict[tuple[str, str], int] = {}
        self._told: dict[tuple[str, str], int] = {}

    def watch(self, tenant: str, counts: Mapping[str, int]) -> int:
        """Tells of the kinds whose count rose since the last look; gives how many signals that made.

        Args:
            tenant: Whose payments.
            counts: Kind, such as `fallback.log`, -> how often since the process started.
        """
        found = 0
        for kind, count in counts.items():
            key = tenant, kind
            more = count - self._seen.get(key, 0)
            span = self._clock.now() // SPAN
            if more > 0 and self._told.get(key) != span:
                self.tell(tenant, kind, more)
                self._told[key] = span
                self._seen[key] = count
                found += 1
        return found

    def tell(self, tenant: str, kind: str, count: int = 1) -> None:
        """One signal.

        Raises:
            TransientError: `log.append.*`; a beat tries again.
        """
        now = self._clock.now()
        name, _, part = kind.partition(".")
        signal = Signal(
            id=hashlib.sha256(msgspec.json.encode([tenant, kind, now // SPAN])).hexdigest()[:32],
            tenant=tenant,
            rule_id=RULE + kind,
            rule_version="1",
            title=_TITLES.get(name, "The decision service has a fault").format(part=part),
            level=Level.HIGH,
            event_id=f"{kind}@{now // SPAN * SPAN}",
            event_time=now,
            source="decisions",
            entities=(Entity("service", "decisions"),),
            why={"kind": kind, "count": count},
        )
        self._log.append(SIGNALS, tenant, [msgspec.json.encode(signal)])
