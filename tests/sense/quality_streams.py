"""Streams of records as real sources send them: by day and night, at weekends, in batches; from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from vedette.sense.paths import compile_path
from vedette.sense.quality.profile import Arrival, Problem, Profile

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MONDAY = 1_767_571_200 * SECOND
"""2026-01-05 00:00 UTC."""


class One(NamedTuple):
    """A record as it comes in."""

    ingest: int
    event: int
    data: dict[str, Any]


Change = Callable[[One], One | None]
FIELDS = {name: compile_path(name) for name in ("user", "code", "nested.ip", "rare")}


def record(rng: random.Random, ingest: int, *, lag: float) -> One:
    """A record with a field that all have, a number, one that half have and one that few have."""
    data: dict[str, Any] = {"user": rng.choice("abc"), "code": rng.randrange(500)}
    if rng.random() < 0.5:
        data["nested"] = {"ip": "192.0.2.1"}
    if rng.random() < 0.01:
        data["rare"] = rng.choice(["x", 7])
    return One(ingest, ingest - round(lag * SECOND * rng.uniform(0.2, 1.8)), data)


def busy(rng: random.Random, days: int) -> Iterator[One]:
    """Day and night, in waves, a few seconds late."""
    at = MONDAY
    while at < MONDAY + days * DAY:
        night = 0.2 if at // HOUR % 24 < 6 else 1.0
        at += round(rng.expovariate(night / 20) * SECOND)
        yield record(rng, at, lag=3)


def office(rng: random.Random, days: int) -> Iterator[One]:
    """Monday to Friday, from about eight to about six, with lunch; one bank holiday."""
    for day in range(days):
        if day % 7 > 4 or day == 14:
            continue
        at = MONDAY + day * DAY + round(rng.uniform(7.5, 8.5) * HOUR)
        end = MONDAY + day * DAY + round(rng.uniform(17, 18.5) * HOUR)
        while at < end:
            slow = 300 if 12 <= at // HOUR % 24 < 13 else 30
            at += round(rng.expovariate(1 / slow) * SECOND)
            yield record(rng, at, lag=10)


def hourly(rng: random.Random, days: int) -> Iterator[One]:
    """A file an hour with what happened in that hour, sometimes ten minutes late."""
    for hour in range(days * 24):
        at = MONDAY + hour * HOUR + round(rng.choice([0, 0, 0, 10]) * MINUTE)
        for number in range(60):
            one = record(rng, at + number, lag=0)
            yield one._replace(event=at - HOUR + number * MINUTE)


def sparse(rng: random.Random, days: int) -> Iterator[One]:
    """A handful a day at any time."""
    at = MONDAY
    while at < MONDAY + days * DAY:
        at += round(rng.expovariate(1 / 4) * HOUR)
        yield record(rng, at, lag=60)


KINDS = {"busy": busy, "office": office, "hourly": hourly, "sparse": sparse}


def run(
    kind: str, days: int, *, seed: int = 1, change: Change = lambda one: one, from_day: float = 1e9, batch: int = 1
) -> tuple[list[Problem], Profile]:
    """What a profile tells of a stream that is changed from a day on; listened to every five minutes.

    Records are taken so and so many together, and whatever waits before each listening.
    """
    profile = Profile("s")
    found: list[Problem] = []
    heard = MONDAY
    end = MONDAY + days * DAY

    waiting: list[Arrival] = []

    def take() -> None:
        found.extend(profile.take(waiting, msgspec.json.decode, FIELDS))
        waiting.clear()

    def listen(until: int) -> None:
        nonlocal heard
        while heard + 5 * MINUTE <= until:
            take()
            heard += 5 * MINUTE
            silence = profile.quiet(heard, since=MONDAY)
            if silence:
                found.append(silence)

    for one in KINDS[kind](random.Random(seed), days):
        changed = change(one) if one.ingest >= MONDAY + from_day * DAY else one
        if changed is not None:
            listen(changed.ingest)
            waiting.append((changed.ingest, changed.event, msgspec.json.encode(changed.data)))
            if len(waiting) >= batch:
                take()
    take()
    listen(end)
    return found, profile
