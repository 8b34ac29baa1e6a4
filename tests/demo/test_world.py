"""The world: the same story from the same seed, on any day, in order, with what the platform needs to know."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from vedette.core.clock import DAY, from_datetime
from vedette.core.content import shipped
from vedette.demo.world import Answer, Outcome, World
from vedette.move.requests import parse_charge
from vedette.prove.dlp import refuse_pans
from vedette.sense.sources import load_sources

MONDAY, SATURDAY = datetime(2026, 3, 2, tzinfo=UTC), datetime(2024, 2, 24, tzinfo=UTC)
SCALE = 0.02


def played(seed=1, day=MONDAY, answer=Answer.CAPTURED):
    world = World(seed, day, SCALE)
    steps = []
    for step in world.steps():
        steps.append(step)
        world.observe({payment.id: Outcome(answer) for payment in step.payments})
    return world, steps


@pytest.fixture(scope="module")
def day():
    return played()


def shifted(steps, day):
    start = from_datetime(day)
    return [[(p.id, p.time - start, p.http, p.key, p.request) for p in step.payments] for step in steps]


def test_a_seed_tells_the_same_story_on_any_day(day):
    again = shifted(played(day=SATURDAY)[1], SATURDAY)
    assert again == shifted(day[1], MONDAY)
    assert again != shifted(played(seed=2)[1], MONDAY)


def test_history_is_the_same_on_any_day(day):
    table, other = (World(1, when, SCALE).history() for when in (MONDAY, SATURDAY))
    assert repr(table.drop_columns("time").to_pylist()) == repr(other.drop_columns("time").to_pylist())
    times = table["time"].cast("int64").to_numpy() - from_datetime(MONDAY)
    assert (times[1:] >= times[:-1]).all()
    assert times[0] >= -60 * DAY
    assert times[-1] < 0


def test_steps_follow_each_other_and_hold_what_happens_in_them(day):
    start = from_datetime(MONDAY)
    _, steps = day
    assert [step.until - start for step in steps] == [number * 300_000_000 for number in range(1, 289)]
    for step in steps:
        begin = step.until - 300_000_000
        for one in (*step.payments, *step.refunds, *step.payouts, *step.disputes):
            assert begin <= one.time < step.until
        assert step.payments == sorted(step.payments, key=lambda payment: payment.time)


def test_every_request_is_one_that_the_platform_takes(day):
    world, steps = day
    merchants = {merchant.id: merchant for merchant in world.merchants()}
    known = world.keys()
    keys = [key.name for key in known]
    for step in steps:
        for payment in step.payments:
            wanted = parse_charge(payment.id, payment.request)
            assert wanted.currency == merchants[wanted.merchant].currency
            assert not payment.http or payment.key in keys


def test_ids_come_once(day):
    ids = Counter(payment.id for step in day[1] for payment in step.payments)
    assert ids.most_common(1)[0][1] == 1


def test_labels_of_the_last_week_are_not_known(day):
    table = day[0].history()
    times = table["time"].cast("int64").to_numpy() - from_datetime(MONDAY)
    known = [value is not None for value in table["fraud"].to_pylist()]
    assert known == (times <= -7 * DAY).tolist()
    ids = set(table["id"].to_pylist())
    assert all(dispute.payment in ids for step in day[1] for dispute in step.disputes)


def test_every_line_of_the_logs_is_read_by_its_source(day):
    sources = load_sources(shipped("sources"))
    start = from_datetime(MONDAY)
    seen = Counter()
    for step in day[1]:
        for name, lines in step.logs.items():
            for line in lines:
                source = sources[name]
                event = source.to_event(source.parse(line), tenant="t", stream="s", offset=0, ingest_time=step.until)
                assert step.until - 301_000_000 <= event.event_time < step.until
                assert event.event_time >= start
                assert event.entities
                refuse_pans(event.data)
                seen[name] += 1
    assert set(seen) == {"cloudtrail", "identity", "osquery", "product", "web_access"}
