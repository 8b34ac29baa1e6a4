"""The register against a plain list: re-delivery, crashes between steps, other logs, and planted faults."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager, suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import MICROS, SystemClock
from vedette.core.decision import Action, Decision, Reason
from vedette.core.event import Entity
from vedette.core.projection import Projection
from vedette.judge.decisions.passing import PassingLog
from vedette.judge.decisions.register import (
    COUNTED_MINOR,
    LATENCY_MS,
    MINUTE,
    Filters,
    Place,
    Register,
    quantile,
    to_amount,
)

TENANTS = ("acme", "other")
MERCHANTS = ("m1", "m2")


def entities(source, data):
    return tuple(Entity(kind, str(data[kind])) for kind in ("merchant", "card") if kind in data)


def decision(seq, tenant, *rest, fallback=None, latency=700):
    minute, action, score, amount, reasons, card = rest
    return Decision(
        event_id=f"e{seq}",
        tenant=tenant,
        action=action,
        score=score,
        risk_score=None if score is None else int(score * 100),
        reasons=tuple(Reason(code, code, 1.0) for code in reasons),
        fallback=fallback,
        seq=seq,
        time=minute * MINUTE + seq % 3 * MICROS,
        latency_us=latency,
        source="charges",
        event={"amount_minor": amount, "currency": "EUR", "merchant": MERCHANTS[amount % 2], "card": card},
    )


DECISIONS = st.builds(
    decision,
    st.integers(1, 25),
    st.sampled_from(TENANTS),
    st.integers(0, 3),
    st.sampled_from(Action),
    st.none() | st.sampled_from([0.0, 0.5, 0.99]),
    st.integers(0, 5),
    st.lists(st.sampled_from(["rule.a", "model.b", "model.c"]), unique=True),
    st.sampled_from(["c1", "c2"]),
    fallback=st.none() | st.just("fallback.model"),
    latency=st.sampled_from([400, 1_000, 7_000, 2_000_000]),
)
FILTERS = st.builds(
    Filters,
    actions=st.lists(st.sampled_from(Action), max_size=2, unique=True).map(tuple),
    since=st.none() | st.just(MINUTE),
    until=st.none() | st.just(3 * MINUTE + MICROS),
    entity=st.none() | st.sampled_from([Entity("card", "c1"), Entity("merchant", "m2"), Entity("card", "none")]),
    reason=st.sampled_from(["", "", "rule.a", "rule.none"]),
    fallback=st.none() | st.booleans(),
    risk_at_least=st.none() | st.sampled_from([0, 50]),
    amount_at_least=st.none() | st.just(2),
    currency=st.sampled_from(["", "EUR", "USD"]),
    merchants=st.sampled_from([(), ("m1",), ("m1", "m2")]),
)
STEPS = st.lists(
    st.one_of(DECISIONS, st.sampled_from(["take", "take one", "crash", "open", "delete", "junk"])), max_size=40
)


class Killed(BaseException):
    """Stands for the end of the process at this point."""


class Torn(Projection):
    """Dies after the effect and before the place is written."""

    dying = False

    @contextmanager
    def write(self):
        with super().write() as connection:
            yield connection
            if self.dying:
                raise Killed


class Careless(Register):
    """The planted fault: what an earlier record of the same event was counted as stays counted."""

    def _take_out(self, connection, seqs, minutes):
        super()._take_out(connection, seqs, defaultdict(lambda: [0] * 99))


def expected(told, tenant, filters):
    """Newest first, the last record of an event only; by plain Python."""
    last = {each.seq: each for each in told}
    found = []
    for each in last.values():
        data = each.event
        keep = (
            each.tenant == tenant
            and (not filters.actions or each.action in filters.actions)
            and (filters.since is None or each.time >= filters.since)
            and (filters.until is None or each.time < filters.until)
            and (filters.entity is None or filters.entity in entities("", data))
            and (not filters.reason or any(reason.code == filters.reason for reason in each.reasons))
            and (filters.fallback is None or (each.fallback is not None) == filters.fallback)
            and (
                filters.risk_at_least is None
                or (each.risk_score is not None and each.risk_score >= filters.risk_at_least)
            )
            and (filters.amount_at_least is None or data["amount_minor"] >= filters.amount_at_least)
            and (not filters.currency or data["currency"] == filters.currency)
            and (not filters.merchants or data["merchant"] in filters.merchants)
        )
        if keep:
            found.append(each)
    return sorted(found, key=lambda each: (each.time, each.seq), reverse=True)


def minutes_of(told):
    counts, amounts, latency = Counter(), Counter(), {}
    for each in {each.seq: each for each in told}.values():
        key = each.tenant, each.time // MINUTE * MINUTE, each.action
        counts[key] += 1
        amounts[key] += each.event["amount_minor"]
        place = sum(each.latency_us / 1000 > bound for bound in LATENCY_MS)
        latency.setdefault(key, [0] * (len(LATENCY_MS) + 1))[place] += 1
    return {key: (counts[key], amounts[key], tuple(latency[key])) for key in counts}


def play(path, steps, kind=Register):
    """Runs the steps; gives the register and what was told to the log."""
    log, told = PassingLog(SystemClock()), []
    projection = Torn(path)
    register = kind(projection, entities)
    for step in steps:
        if isinstance(step, Decision):
            told.append(step)
            log.append("decision", f"decide:{step.tenant}", [msgspec.json.encode(step)])
        elif step == "junk":
            log.append("decision", "decide:acme", [b'{"nothing": 1}'])
        elif step == "crash":
            projection.dying = True
            with suppress(Killed):
                register.consume(log, limit=3)
            projection.dying = False
        elif step in {"open", "delete"}:
            projection.close()
            if step == "delete":
                path.unlink()
            projection = Torn(path)
            register = kind(projection, entities)
        else:
            register.consume(log, limit=1 if step == "take one" else 100)
    while register.consume(log):
        pass
    return projection, register, told


def check(register, told, tenant, filters):
    wanted = expected(told, tenant, filters)
    found = register.find(tenant, filters, limit=1_000)
    assert [row.event_id for row in found] == [each.event_id for each in wanted]
    assert [row.action for row in found] == [each.action for each in wanted]
    assert register.count(tenant, filters) == len(wanted)
    pages, after = [], None
    while page := register.find(tenant, filters, after=after, limit=2):
        pages += page
        after = Place(page[-1].time, page[-1].seq)
    assert pages == found
    kept = minutes_of(told)
    for each in TENANTS:
        shown = {
            (each, one.time, one.action): (one.count, one.amount_minor, one.latency)
            for one in register.minutes(each, 0, 10 * MINUTE)
        }
        assert shown == {key: value for key, value in kept.items() if key[0] == each}


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, tenant=st.sampled_from(TENANTS), filters=st.lists(FILTERS, min_size=1, max_size=4))
def test_it_equals_a_plain_list(tmp_path_factory, steps, tenant, filters):
    projection, register, told = play(tmp_path_factory.mktemp("register") / "index.db", steps)
    try:
        for each in filters:
            check(register, told, tenant, each)
    finally:
        projection.close()


def one(seq=1, action=Action.ALLOW, **changes):
    base = decision(seq, "acme", 1, action, 0.5, 4, ["rule.a"], "c1")
    return msgspec.structs.replace(base, **changes)


def test_a_register_that_counts_twice_is_found(tmp_path):
    steps = [one(1), "take", one(1, Action.BLOCK)]
    projection, register, told = play(tmp_path / "index.db", steps, Careless)
    with pytest.raises(AssertionError):
        check(register, told, "acme", Filters())
    projection.close()


def test_another_log_begins_anew(tmp_path):
    projection, register, _ = play(tmp_path / "index.db", [one(1), one(2), one(3)])
    other = PassingLog(SystemClock())
    other.append("decision", "decide:acme", [msgspec.json.encode(one(1, Action.BLOCK))])
    register.consume(other)
    assert [row.action for row in register.find("acme")] == [Action.BLOCK]
    projection.close()


def test_a_damaged_file_begins_anew(tmp_path):
    path = tmp_path / "index.db"
    path.write_bytes(b"no database" * 1_000)
    projection, register, told = play(path, [one(1)])
    check(register, told, "acme", Filters())
    projection.close()


def test_sums_of_great_amounts_do_not_stop_it(tmp_path):
    great = {"amount_minor": (1 << 62), "currency": "EUR", "merchant": "m1", "card": "c1"}
    beyond = {**great, "amount_minor": 1 << 80}
    steps = [one(1, event=great), one(2, event=great), one(3, event=great), one(4, event=beyond)]
    projection, register, _ = play(tmp_path / "index.db", steps)
    assert sorted((row.seq, row.amount_minor) for row in register.find("acme")) == [
        (1, 1 << 62),
        (2, 1 << 62),
        (3, 1 << 62),
        (4, None),
    ]
    assert sum(each.amount_minor for each in register.minutes("acme", 0, 10 * MINUTE)) == 3 * COUNTED_MINOR
    projection.close()


def test_amounts():
    assert to_amount("charges", {"amount_minor": 5, "currency": "JPY"}) == (5, "JPY")
    assert to_amount("card_transactions", {"TX_AMOUNT": 12.34}) == (1234, "USD")
    assert to_amount("card_transactions", {}) == (None, "")
    assert to_amount("charges", {"amount_minor": 1 << 80, "currency": "EUR"}) == (None, "EUR")


def test_quantiles_are_bounds():
    latency = [0] * (len(LATENCY_MS) + 1)
    assert quantile(latency, 0.5) is None
    latency[2], latency[-1] = 99, 1
    assert (quantile(latency, 0.5), quantile(latency, 0.99), quantile(latency, 1.0)) == (5.0, 5.0, float("inf"))


def test_usual_values_are_those_before(tmp_path):
    """A hundred decisions of one card, value n at the n-th; what comes later or has other definitions does not count."""

    def valued(seq, card, value, version="v"):
        features = {"a": float(value), "b": None if seq % 2 else 1e300}
        event = {"amount_minor": 1, "currency": "EUR", "merchant": "m1", "card": card}
        return one(seq, time=seq * MICROS, features=features, features_version=version, event=event)

    steps = [valued(seq, "c1", seq) for seq in range(1, 102)]
    steps += [valued(200, "c2", 7_000), valued(201, "c1", 9_000, "other")]
    projection, register, _ = play(tmp_path / "index.db", steps)
    card = Entity("card", "c1")
    found = register.usual("acme", Place(101 * MICROS, 101), "v", entity=card)
    assert [abs(each - want) <= 1 for each, want in zip(found["a"], (5, 50, 95, 100), strict=True)] == [True] * 4
    assert (found["a"].seen, found["b"].seen) == (100, 50)
    assert register.usual("acme", Place(101 * MICROS, 101), "v", entity=card, limit=1)["a"] == (100.0, 100.0, 100.0, 1)
    assert register.usual("acme", Place(202 * MICROS, 202), "v", limit=3)["a"].high == 7_000
    assert register.usual("acme", Place(101 * MICROS, 101), "other", entity=card) == {}
    assert register.usual("other", Place(101 * MICROS, 101), "v", entity=card) == {}
    projection.close()
