"""Redis: state that several processes share and that may be lost. What must not be lost is in SQL.

Everything that reads and then writes is a Lua script, so that it is one step for everybody; times in scripts are the
server's own (`TIME`), never a client's. This module is the one door to the Redis library, which is imported when it is
first used: it takes a tenth of a second, and most commands never need it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vedette.core.errors import DataError, DefinitionError, TransientError

if TYPE_CHECKING:
    import redis

TIMEOUT_S: Final = 1.0
"""How long one answer is waited for."""

Value = str | bytes | int | float


class Script:
    """A Lua script, sent once and called by its hash from then on.

    Args:
        text: Gets `KEYS` and `ARGV`; must name every key it touches in `KEYS`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """One call of a script."""

    script: Script
    keys: Sequence[Value]
    args: Sequence[Value]


@contextmanager
def passing() -> Iterator[None]:
    """Around plain commands: what may pass, and keys that somebody else wrote, as errors of ours.

    Raises:
        TransientError: `core.redis.unavailable`, `core.redis.full`.
        DataError: `core.redis.damaged`.
    """
    import redis

    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError) as error:
        message = "the Redis server does not answer"
        raise TransientError("core.redis.unavailable", message, retry_after=1.0) from error
    except redis.exceptions.OutOfMemoryError as error:
        raise TransientError("core.redis.full", "the Redis server has no memory left", retry_after=1.0) from error
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        raise DataError("core.redis.damaged", "a key of ours holds something else") from error


class Redis:
    """One Redis server. Safe to share between threads; a connection is made when it is first needed.

    Args:
        url: `redis://host:port/db`, `rediss://` with TLS, `unix://path`.
        timeout_s: For each answer.

    Raises:
        DefinitionError: `core.redis.url`.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        import redis

        try:
            self.client: redis.Redis = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
            )
        except ValueError as error:
            raise DefinitionError("core.redis.url", "not the address of a Redis server") from error
        """The library's client, for plain commands inside `passing`."""

    def call(self, script: Script, keys: Sequence[Value], args: Sequence[Value] = ()) -> Any:
        """Calls a script in one round trip.

        Raises:
            TransientError: `core.redis.unavailable`, `core.redis.full`. The script ran wholly or not at all; after the
                first nobody can say which.
        """
        import redis

        with passing():
            try:
                return self.client.evalsha(script.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self.client.eval(script.text, len(keys), *keys, *args)

    def call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Calls several scripts in one round trip; each is a step of its own.

        Raises:
            TransientError: As `call`.
        """
        import redis

        with passing():
            found = self._pipe(calls)
            missing = [place for place, each in enumerate(found) if isinstance(each, redis.exceptions.NoScriptError)]
            if missing:
                for script in {calls[place].script for place in missing}:
                    self.client.script_load(script.text)
                again = self._pipe([calls[place] for place in missing])
                for place, each in zip(missing, again, strict=True):
                    found[place] = each
            for each in found:
                if isinstance(each, Exception):
                    raise each
            return found

    def _pipe(self, calls: Sequence[Call]) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipe:
            for script, keys, args in calls:
                pipe.evalsha(script.sha, len(keys), *keys, *args)
            return list(pipe.execute(raise_on_error=False))

    def evicts(self) -> bool:
        """True when the server, once full, would forget keys before their time.

        Raises:
            TransientError: `core.redis.unavailable`.
        """
        with passing():
            memory: Any = self.client.info("memory")
        return bool(memory.get("maxmemory")) and memory.get("maxmemory_policy") != "noeviction"

    def close(self) -> None:
        """Ends the connections."""
        self.client.close()
