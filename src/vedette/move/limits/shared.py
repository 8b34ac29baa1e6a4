"""Rate limits by GCRA for any number of processes: the same arithmetic as `Limits`, in Redis.

One script decides on all buckets of a request in one round trip, by the server's clock. A bucket is the arrival time in
whole microseconds and the rest as a fraction over `count`, so nothing is rounded; it expires when it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vedette.core.redis import Call, Redis, Script
from vedette.move.limits.rate import Bucket, Verdict

# Numbers are written with %.0f: Lua would write 1.7e+15 for a time.
_DECIDE: Final = Script("""
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local held = redis.call('MGET', unpack(KEYS))
local wait, at, rest, ahead = 0, {}, {}, {}
for i = 1, #KEYS do
  local count, period, burst = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
  at[i], rest[i] = now, 0
  if held[i] then
    local colon = string.find(held[i], ':', 1, true)
    local until_ = tonumber(string.sub(held[i], 1, colon - 1))
    if until_ >= now then at[i], rest[i] = until_, tonumber(string.sub(held[i], colon + 1)) end
  end
  ahead[i] = (at[i] - now) * count + rest[i]
  local over = ahead[i] - (burst - 1) * period
  if over > 0 then
    local w = math.ceil(over / count)
    if w > wait then wait = w end
  end
end
if wait == 0 then
  for i = 1, #KEYS do
    local count, period = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1])
    local whole = math.floor(period / count)
    local a, r = at[i] + whole, rest[i] + period - whole * count
    if r >= count then a, r = a + 1, r - count end
    redis.call('SET', KEYS[i], string.format('%.0f:%.0f', a, r), 'PX', math.ceil((a - now) / 1000) + 1)
    ahead[i] = ahead[i] + period
  end
end
return {wait, now, unpack(ahead)}
""")


class RedisLimits:
    """Buckets that all processes share.

    Args:
        redis: The server. All buckets of one request must be on it: with a cluster, give names a common hash tag.
        prefix: Of every key.
    """

    def __init__(self, redis: Redis, *, prefix: str = "vedette:limit:") -> None:
        self._redis = redis
        self._prefix = prefix

    def ask(self, buckets: Sequence[Bucket]) -> Verdict:
        """Passes one request through every bucket, or through none, in one round trip.

        Raises:
            TransientError: `core.redis.unavailable`, `core.redis.full`: whoever asks decides what that means.
        """
        _, keys, args = self._call(buckets)
        return self._verdict(buckets, self._redis.call(_DECIDE, keys, args))

    def ask_many(self, requests: Sequence[Sequence[Bucket]]) -> list[Verdict]:
        """Decides on several requests, one after the other, in one round trip.

        Raises:
            TransientError: As `ask`.
        """
        answers = self._redis.call_many([self._call(buckets) for buckets in requests])
        return [self._verdict(buckets, answer) for buckets, answer in zip(requests, answers, strict=True)]

    def take(self, buckets: Sequence[Bucket]) -> None:
        """As `ask`, and raises when the request does not pass.

        Raises:
            TransientError: `limits.rate.exceeded` with `retry_after`; as `ask`.
        """
        self.ask(buckets).demand()

    def _call(self, buckets: Sequence[Bucket]) -> Call:
        keys = [f"{self._prefix}{name}:{rate.count}/{rate.period_s}/{rate.burst}" for name, rate in buckets]
        args = [number for _, rate in buckets for number in (rate.count, rate.step, rate.burst)]
        return Call(_DECIDE, keys, args)

    def _verdict(self, buckets: Sequence[Bucket], answer: Sequence[int]) -> Verdict:
        wait, now, *ahead = answer
        until = [now * rate.count + gap for (_, rate), gap in zip(buckets, ahead, strict=True)]
        return Verdict(wait, buckets, until, now)
