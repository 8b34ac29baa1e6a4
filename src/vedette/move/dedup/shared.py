"""The filter that processes share without a database: in Redis, by its clock."""

from __future__ import annotations

import secrets
from typing import Final

from vedette.core.errors import ConflictError, DefinitionError
from vedette.core.redis import Redis, Script
from vedette.move.dedup.port import WINDOW_S, Effect, check, in_flight

LEASE_S: Final = 60.0
"""How long an effect may take; then another may begin it again."""

_CLAIM: Final = Script("""
local held = redis.call('GET', KEYS[1])
if held == '+' then return -1 end
if held then return redis.call('PTTL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
""")
_SETTLE: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], '+', 'PX', ARGV[2]) end
return 1
""")


class RedisDedup:
    """Ids that all processes share.

    The effect is not part of Redis's step: a process that dies after the effect and before the mark lets it happen
    again once the lease is over. For money use `SqlDedup`, with this one in front of it if need be.

    Args:
        redis: The server; it must not evict keys, and keeps them over a restart only if it persists.
        window_s: How long an id is known.
        lease_s: How long an effect may take.
        prefix: Of every key; different senders, different prefixes.

    Raises:
        DefinitionError: `dedup.redis.evicts`: a full server would forget ids, and duplicates would pass.
        TransientError: `core.redis.unavailable`.
    """

    def __init__(
        self, redis: Redis, *, window_s: float = WINDOW_S, lease_s: float = LEASE_S, prefix: str = "vedette:dedup:"
    ) -> None:
        if redis.evicts():
            raise DefinitionError(
                "dedup.redis.evicts",
                "this server forgets keys when it is full",
                hint="set `maxmemory-policy noeviction`",
            )
        self._redis = redis
        self._window = round(window_s * 1_000)
        self._lease = round(lease_s * 1_000)
        self._prefix = prefix

    def once(self, id_: str, effect: Effect) -> bool:
        """See `Dedup`.

        Raises:
            ConflictError: `dedup.lease.lost`: the effect took longer than its lease, another may have begun it too.
            TransientError: `core.redis.unavailable`, `core.redis.full`.
        """
        key, token = self._prefix + check(id_), secrets.token_hex(8)
        held = self._redis.call(_CLAIM, [key], [token, self._lease])
        if held:
            if held < 0:
                return False
            raise in_flight(held / 1_000)
        try:
            effect(None)
        except BaseException:
            self._redis.call(_SETTLE, [key], [token, 0])
            raise
        if not self._redis.call(_SETTLE, [key], [token, self._window]):
            raise ConflictError("dedup.lease.lost", "the effect outlived its lease", at=id_)
        return True

    def admit(self, id_: str) -> bool:
        """See `Dedup`."""
        held = self._redis.call(_ADMIT, [self._prefix + check(id_)], [self._window])
        if held > 0:
            raise in_flight(held / 1_000)
        return bool(held == 0)


_ADMIT: Final = Script("""
local held = redis.call('GET', KEYS[1])
if held == '+' then return -1 end
if held then return redis.call('PTTL', KEYS[1]) end
redis.call('SET', KEYS[1], '+', 'PX', ARGV[1])
return 0
""")
