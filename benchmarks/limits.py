"""Limits: decisions a second in one process and in Redis, beside the `limits` package.

    python benchmarks/limits.py [--redis redis://127.0.0.1:6379/0]

A decision asks the API key's bucket and the account's together. The peer has no decision over two, so it is asked
twice, and a refusal by the second has taken from the first. In one process: the best of three, in CPU time. Redis: wall
time; a server is started when none is named. The peer runs in an environment of its own (`benchmarks/peers.py`).
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import peers
from vedette.core.clock import SystemClock
from vedette.core.errors import TransientError
from vedette.core.redis import Redis
from vedette.move.limits import Bucket, Limits, Rate, RedisLimits, Slots

KEY, ACCOUNT = Rate(100, 1, 200), Rate(500, 1, 1_000)
REQUESTS: list[list[Bucket]] = [[(f"key:k{n % 1_000}", KEY), (f"account:a{n % 100}", ACCOUNT)] for n in range(10_000)]
PEER = """
import json, sys, time
import limits
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
key, account = limits.parse("100/second"), limits.parse("500/second")
rates = {}
kinds = {"fixed": FixedWindowRateLimiter, "sliding": SlidingWindowCounterRateLimiter, "moving": MovingWindowRateLimiter}
def measure(name, limiter, clock, count):
    best = 0
    for _ in range(3 if clock is time.process_time else 1):
        start = clock()
        for n in range(count):
            limiter.hit(key, name, f"k{n % 1000}") and limiter.hit(account, name, f"a{n % 100}")
        best = max(best, count / (clock() - start))
    rates[name] = best
for name, kind in kinds.items():
    measure(f"limits, {name} window", kind(MemoryStorage()), time.process_time, 20000)
for name, kind in kinds.items():
    measure(f"limits, {name} window, Redis", kind(RedisStorage(sys.argv[1])), time.perf_counter, 1500)
print(json.dumps(rates))
"""


def measure(act: Callable[[], int], clock: Callable[[], float], times: int = 3) -> float:
    best = 0.0
    for _ in range(times):
        start = clock()
        count = act()
        best = max(best, count / (clock() - start))
    return best


@contextmanager
def server(url: str) -> Iterator[str]:
    if url:
        yield url
        return
    binary = shutil.which("redis-server")
    if binary is None:
        print("  Redis is not installed")
        yield ""
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def show(name: str, rate: float) -> None:
    print(f"  {name:<36}{rate:>12,.0f}", flush=True)


def in_process() -> None:
    def ask(limits: Limits, requests: list[list[Bucket]]) -> int:
        for buckets in requests:
            limits.ask(buckets)
        return len(requests)

    print("decisions a CPU second, in one process")
    limits = Limits(SystemClock())
    show("vedette, key and account", measure(lambda: ask(limits, REQUESTS * 5), time.process_time))
    wide = Rate(10**6, 1, 10**6)
    passing = [[(name, wide) for name, _ in buckets] for buckets in REQUESTS]
    limits = Limits(SystemClock())
    show("vedette, key and account, all pass", measure(lambda: ask(limits, passing * 5), time.process_time))
    limits, ones = Limits(SystemClock()), [buckets[:1] for buckets in passing]
    show("vedette, one bucket", measure(lambda: ask(limits, ones * 5), time.process_time))
    slots = Slots(SystemClock())

    def hold() -> int:
        for _ in range(50_000):
            slots.release(slots.acquire([("key:k1", 10), ("account:a1", 100)]))
        return 50_000

    show("vedette, slots taken and given back", measure(hold, time.process_time))


def in_redis(url: str) -> None:
    print("decisions a second, in Redis")
    store = Redis(url, timeout_s=10)
    limits = RedisLimits(store)

    def one_by_one() -> int:
        for buckets in REQUESTS[:3_000]:
            limits.ask(buckets)
        return 3_000

    def batched(size: int) -> int:
        for start in range(0, 10_000, size):
            limits.ask_many(REQUESTS[start : start + size])
        return 10_000

    show("vedette, one by one", measure(one_by_one, time.perf_counter, 2))
    for size in (16, 100, 500):
        show(f"vedette, {size} in a round trip", measure(lambda size=size: batched(size), time.perf_counter, 3))
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="", help="URL of a server whose keys may be written")
    args = parser.parse_args()
    in_process()
    with server(args.redis) as url:
        if url:
            try:
                in_redis(url)
            except TransientError as error:
                print(f"  {error}")
        for name, rate in peers.ask(PEER, url or "redis://127.0.0.1:1/0").items():
            show(name, rate)


if __name__ == "__main__":
    main()
