"""The score board: what really happened against what the product said, and nothing else.

This is the only reader of the truth. Everything on the other side comes from the answers of the API: alerts, cases,
keys, and how each payment ended. The figures:

- An attack is *found* when an alert made between its first deed and an hour after its last names one of its entities.
- *recall* is attacks found among attacks; *precision* is alerts that concern an attack, or one of the small frauds of
  every day, among all alerts.
- *money_saved_minor* is what attackers and thieves asked for and did not get (blocked, challenged, or refused because
  their key was ended), in euro cents at the fixed rates below.
- *good_users_hurt* is the share of honest customers with a payment that was blocked, or refused with an ended key.
- *latency_ms* is of single charges over HTTP, from sending to the answer, as the sender sees it.
- *time_to_detect_s* is the median over found attacks, from the first deed to the alert.
- *time_to_contain_s* is the median over contained stolen keys, from the first deed to the end of the key; null when
  none was contained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from vedette.core.clock import MICROS
from vedette.demo.day import Paid
from vedette.demo.truth import Attack, Benign, Fraud, Truth, read_truth
from vedette.demo.world.nouns import Answer

GRACE: Final = 3_600 * MICROS
"""An alert this long after an attack's last deed still finds it, microseconds."""
EURO: Final = {"EUR": 1.0, "GBP": 1.15, "USD": 0.92, "CAD": 0.68, "AUD": 0.60}
"""What a unit is worth in euro on the board, fixed; a currency that is not here is refused."""
_STOPPED: Final = (Answer.BLOCKED, Answer.CHALLENGED, Answer.UNAUTHORIZED)
_HURT: Final = (Answer.BLOCKED, Answer.UNAUTHORIZED)
_STOLEN_KEY: Final = "stolen_key"


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the product answered."""

    events: int
    """Log records it took."""
    paid: Sequence[Paid]
    """Every payment request and its answer."""
    alerts: Sequence[Mapping[str, Any]]
    """All of `GET /v1/alerts`."""
    cases: int
    """Cases of `GET /v1/cases`."""
    revoked: Mapping[str, int]
    """Id of an API key -> when it was ended, from `GET /v1/keys`."""
    latencies: Sequence[float]
    """Seconds of each single charge."""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One attack of the day and what became of it."""

    id: str
    kind: str
    found: bool
    alert: str
    """Id of the alert that found it first; empty when none did."""
    by: str
    """That alert's title."""
    seconds: float | None
    """From the first deed to that alert."""
    payments: int
    stopped: int
    """Payments of it that took no money."""
    contained_s: float | None = None
    """From the first deed to the end of its key; of stolen keys only."""


class Unusual(msgspec.Struct, frozen=True):
    """Something odd and honest, and how many alerts were made about it."""

    kind: str
    alerts: int


class ScoreBoard(msgspec.Struct, frozen=True, kw_only=True):
    """The figures, as `--json` prints them."""

    events: int
    payments: int
    alerts: int
    cases: int
    precision: float
    recall: float
    money_saved_minor: int
    good_users_hurt: float
    latency_ms: Latency
    time_to_detect_s: float | None
    time_to_contain_s: float | None
    seed: int
    money_lost_minor: int
    """What attackers and thieves got, euro cents."""
    currency: str = "EUR"
    good_users: int
    good_users_challenged: float
    """Share of honest customers who were asked for more proof."""
    attacks: tuple[Found, ...]
    unusual: tuple[Unusual, ...]


def score(truth: Path, answers: Answers, *, seed: int) -> ScoreBoard:
    """Compares the truth of a day with what the product answered.

    Args:
        truth: `truth.ndjson` of the world.
        answers: From the API.
        seed: Of the world, for the board.
    """
    return judge(read_truth(truth), answers, seed=seed)


def judge(truth: Truth, answers: Answers, *, seed: int) -> ScoreBoard:
    """The same from the truth itself; a pure function."""
    bad: tuple[Attack | Fraud, ...] = (*truth.attacks, *truth.frauds)
    named = [(alert, _entities(alert)) for alert in answers.alerts]
    found = tuple(_find(attack, named, answers) for attack in truth.attacks)
    right = sum(any(_concerns(alert, entities, one) for one in bad) for alert, entities in named)
    theirs = truth.bad_payments
    customers = frozenset(truth.good.customers)
    delays = [one.seconds for one in found if one.seconds is not None]
    contained = [one.contained_s for one in found if one.contained_s is not None]
    return ScoreBoard(
        events=answers.events,
        payments=len(answers.paid),
        alerts=len(answers.alerts),
        cases=answers.cases,
        precision=_share(right, len(answers.alerts)),
        recall=_share(sum(one.found for one in found), len(found)),
        money_saved_minor=_worth(p for p in answers.paid if p.id in theirs and p.answer in _STOPPED),
        money_lost_minor=_worth(p for p in answers.paid if p.id in theirs and p.answer is Answer.CAPTURED),
        good_users=len(customers),
        good_users_hurt=_share(len(_met(answers.paid, theirs, customers, _HURT)), len(customers)),
        good_users_challenged=_share(len(_met(answers.paid, theirs, customers, (Answer.CHALLENGED,))), len(customers)),
        latency_ms=Latency(_quantile(answers.latencies, 0.5), _quantile(answers.latencies, 0.99)),
        time_to_detect_s=median(delays) if delays else None,
        time_to_contain_s=median(contained) if contained else None,
        seed=seed,
        attacks=found,
        unusual=tuple(
            Unusual(one.kind, sum(_concerns(alert, entities, one) for alert, entities in named)) for one in truth.benign
        ),
    )


Named = tuple[Mapping[str, Any], frozenset[str]]
"""An alert and the entities it names, `type:id`."""


def _find(attack: Attack, named: Sequence[Named], answers: Answers) -> Found:
    mine = set(attack.payments)
    first = min(
        (alert for alert, entities in named if _concerns(alert, entities, attack)),
        key=lambda alert: (alert["created_time"], alert["id"]),
        default=None,
    )
    ended = [answers.revoked[name] for name in _ids(attack.entities, "key") if name in answers.revoked]
    contained = [time - attack.start for time in ended if time >= attack.start and attack.kind == _STOLEN_KEY]
    return Found(
        id=attack.id,
        kind=attack.kind,
        found=first is not None,
        alert=first["id"] if first else "",
        by=first["title"] if first else "",
        seconds=(first["created_time"] - attack.start) / MICROS if first else None,
        payments=len(mine),
        stopped=sum(paid.id in mine and paid.answer in _STOPPED for paid in answers.paid),
        contained_s=min(contained) / MICROS if contained else None,
    )


def _concerns(alert: Mapping[str, Any], entities: frozenset[str], deed: Attack | Fraud | Benign) -> bool:
    """Whether an alert is about a deed: made while it went on or within the grace, and naming one of its entities."""
    return deed.start <= alert["created_time"] <= deed.end + GRACE and not entities.isdisjoint(deed.entities)


def _entities(alert: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(f"{each['type']}:{each['id']}" for each in alert["entities"])


def _ids(entities: Iterable[str], kind: str) -> list[str]:
    return [name.partition(":")[2] for name in entities if name.startswith(f"{kind}:")]


def _met(
    paid: Iterable[Paid], theirs: frozenset[str], customers: frozenset[str], answers: Sequence[Answer]
) -> frozenset[str]:
    """Honest customers with a payment of their own that was answered so."""
    return customers & {one.customer for one in paid if one.answer in answers and one.id not in theirs}


def _worth(paid: Iterable[Paid]) -> int:
    return round(sum(one.amount_minor * EURO[one.currency] for one in paid))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _quantile(seconds: Sequence[float], share: float) -> float:
    """Milliseconds; 0 of nothing."""
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1_000, 2) if ordered else 0.0


def read_answers(
    get: Callable[[str], Any], *, events: int, paid: Sequence[Paid], latencies: Sequence[float]
) -> Answers:
    """Asks the API for what the board needs.

    Args:
        get: Decoded answer of a path, as somebody who may read alerts, cases and keys.
        events: Log records that the API said it took.
        paid: Payments with the API's answers.
        latencies: Seconds of each single charge.
    """
    keys = get("/v1/keys")["data"]
    return Answers(
        events=events,
        paid=paid,
        alerts=tuple(_all(get, "/v1/alerts")),
        cases=sum(1 for _ in _all(get, "/v1/cases")),
        revoked={key["id"]: key["revoked"] for key in keys if key["revoked"] is not None},
        latencies=latencies,
    )


def _all(get: Callable[[str], Any], path: str) -> Iterable[Mapping[str, Any]]:
    after = ""
    while True:
        page = get(f"{path}?limit=500{after}")
        yield from page["data"]
        if not page.get("next"):
            return
        after = f"&after={page['next']}"
