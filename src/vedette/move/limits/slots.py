"""How many requests may run at a time, by leases: a slot that its holder lost comes back by itself.

`Slots` counts in this process, `RedisSlots` for all. A request takes a slot under every name, or under none.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from vedette.core.clock import MICROS, Clock
from vedette.core.errors import TransientError
from vedette.core.redis import Redis, Script

LEASE_S: Final = 60.0
"""How long a slot is held at most; longer than any request may take."""
RETRY_S: Final = 1.0
"""When a slot will be free nobody knows; this is what the refused are told."""

Places = Sequence[tuple[str, int]]
"""Names, each with how many may be held under it."""


class Lease(NamedTuple):
    """Slots that are held."""

    token: str
    names: tuple[str, ...]


class Slotted(Protocol):
    """Gives and takes slots."""

    def acquire(self, places: Places) -> Lease:
        """A slot under each name, or under none.

        Raises:
            TransientError: `limits.concurrency.exceeded`.
        """

    def release(self, lease: Lease) -> None:
        """Gives them back. What was given back, or ran out, is given back without effect."""


class Slots:
    """The slots of one process. Thread-safe.

    Args:
        clock: Its monotonic side ends leases.
        lease_s: When a slot comes back though nobody gave it back.
    """

    def __init__(self, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._held: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def acquire(self, places: Places) -> Lease:
        """See `Slotted`."""
        with self._lock:
            now = self._clock.monotonic()
            lines = {name: self._line(name, now) for name, _ in places}
            if any(len(lines[name]) >= most for name, most in places):
                for name, line in lines.items():
                    if not line:
                        del self._held[name]
                raise exceeded()
            token = secrets.token_hex(8)
            for line in lines.values():
                line[token] = now + self._lease_s
        return Lease(token, tuple(lines))

    def release(self, lease: Lease) -> None:
        """See `Slotted`."""
        with self._lock:
            for name in lease.names:
                line = self._held.get(name, {})
                line.pop(lease.token, None)
                if not line:
                    self._held.pop(name, None)

    def _line(self, name: str, now: float) -> dict[str, float]:
        line = self._held.setdefault(name, {})
        # Leases are as long as each other, so those that ran out stand in front.
        for token in [*line]:
            if line[token] > now:
                break
            del line[token]
        return line


_ACQUIRE: Final = Script("""
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
for i = 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[2 + i]) then return 0 end
end
local lease = tonumber(ARGV[2])
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], string.format('%.0f', now + lease), ARGV[1])
  redis.call('PEXPIRE', KEYS[i], math.ceil(lease / 1000) + 1)
end
return 1
""")
_RELEASE: Final = Script("for i = 1, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end return 1")


class RedisSlots:
    """Slots that all processes share; leases end by the server's clock.

    Args:
        redis: The server.
        lease_s: When a slot comes back though nobody gave it back.
        prefix: Of every key.
    """

    def __init__(self, redis: Redis, *, lease_s: float = LEASE_S, prefix: str = "vedette:slot:") -> None:
        self._redis = redis
        self._lease = round(lease_s * MICROS)
        self._prefix = prefix

    def acquire(self, places: Places) -> Lease:
        """See `Slotted`.

        Raises:
            TransientError: `limits.concurrency.exceeded`, `core.redis.unavailable`.
        """
        lease = Lease(secrets.token_hex(8), tuple(name for name, _ in places))
        if not self._redis.call(_ACQUIRE, self._keys(lease), [lease.token, self._lease, *(most for _, most in places)]):
            raise exceeded()
        return lease

    def release(self, lease: Lease) -> None:
        """See `Slotted`.

        Raises:
            TransientError: `core.redis.unavailable`: the slots come back when their lease ends.
        """
        self._redis.call(_RELEASE, self._keys(lease), [lease.token])

    def _keys(self, lease: Lease) -> list[str]:
        return [self._prefix + name for name in lease.names]


class Shedder:
    """Sheds load before it piles up: a share of the slots is kept for what is critical.

    With `RedisSlots` it counts the requests of a fleet, with `Slots` those of a worker.

    Args:
        slots: Who counts.
        capacity: Requests that may run at a time.
        reserved: Share of them that only critical requests may take, 0 to 1.
        name: Under which they are counted.
    """

    def __init__(self, slots: Slotted, capacity: int, *, reserved: float = 0.2, name: str = "load") -> None:
        self._slots = slots
        self._all = capacity
        self._rest = int(capacity * (1 - reserved))
        self._name = name

    def admit(self, *, critical: bool) -> Lease:
        """A slot for one request; `release` it.

        Raises:
            TransientError: `limits.load.shed` (503).
        """
        try:
            return self._slots.acquire([(self._name, self._all if critical else self._rest)])
        except TransientError as error:
            if error.code != "limits.concurrency.exceeded":
                raise
            hint = "retry after the time given, with jitter"
            raise TransientError("limits.load.shed", "too busy", hint=hint, retry_after=RETRY_S) from error

    def release(self, lease: Lease) -> None:
        """Gives the slot back."""
        self._slots.release(lease)


@contextmanager
def hold(slots: Slotted, places: Places) -> Iterator[Lease]:
    """Holds slots while the block runs.

    Raises:
        TransientError: `limits.concurrency.exceeded`.
    """
    lease = slots.acquire(places)
    try:
        yield lease
    finally:
        slots.release(lease)


def exceeded() -> TransientError:
    """What a request is told that finds no slot."""
    hint = "wait for one of your requests to end"
    return TransientError("limits.concurrency.exceeded", "too many at a time", hint=hint, retry_after=RETRY_S)
