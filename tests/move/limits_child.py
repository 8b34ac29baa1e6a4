"""A process that asks a shared limiter as fast as it can, for a while; prints how often it passed and how often it asked."""

import sys
import time

from vedette.core.redis import Redis
from vedette.move.limits import Rate, RedisLimits

url, key, seconds, count, period, burst = sys.argv[1], sys.argv[2], float(sys.argv[3]), *map(int, sys.argv[4:7])
store = Redis(url, timeout_s=30)
limits = RedisLimits(store)
buckets = [(f"key:{key}", Rate(100_000, 1, 100_000)), ("account:acme", Rate(count, period, burst))]
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + seconds
passed = asked = 0
while time.monotonic() < until:
    passed += limits.ask(buckets).passed
    asked += 1
store.close()
print(passed, asked)
