"""The queue against a brute-force model: filters, counts, order, pages; on both databases."""

from __future__ import annotations

import random

import msgspec
import pytest
from act_world import TIME, make_signal

from vedette.act import queue
from vedette.act.alert_tables import ALERT, MIGRATIONS, cut, entity_key, to_row, urgency
from vedette.act.alerts import Alerts
from vedette.act.grouping import AlertState
from vedette.act.queue import NOBODY, Age, AlertFilter, Sort
from vedette.act.risk import points
from vedette.core.clock import DAY, MICROS
from vedette.core.db import sa
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.signal import Level

NOW = TIME + 10 * DAY
TAGS = ("attack.t1078", "attack.t1110", "attack.impact")
ENTITIES = (Entity("key", "k-1"), Entity("user", "Ana"), Entity("ip", "198.51.100.7"), Entity("card", "50%_off"))


def fill(store, database, count=60, seed=3):
    """Alerts that differ in everything the queue looks at, some of them touched by people."""
    rng = random.Random(seed)
    for number in range(count):
        at = NOW - rng.choice([1, 40, 1_000, 100_000, 700_000]) * MICROS - number
        changes = {
            "rule_id": f"r{number}" if number % 3 else "r0",
            "title": rng.choice(["Burst of failures", "New country", "100% odd_title"]),
            "level": rng.choice(list(Level)),
            "source": rng.choice(["cloudtrail", "identity"]),
            "entities": tuple(rng.sample(ENTITIES, rng.randint(0, 2))),
            "tags": tuple(rng.sample(TAGS, rng.randint(0, 2))),
            "event_time": at,
        }
        store.apply([(make_signal(number, **changes), at)])
    with database.begin() as connection:
        for alert in store.find("acme", limit=1_000):
            touched = msgspec.structs.replace(
                alert, state=rng.choice(list(AlertState)), assignee=rng.choice(["", "per_1", "per_2"])
            )
            connection.execute(ALERT.update().where(ALERT.c.id == alert.id).values(**to_row(touched)))
    store.apply([(make_signal(1, tenant="other", event_time=NOW), NOW)])
    return store.find("acme", limit=1_000)


def values(alert, facet):
    """What an alert is counted under, by the documentation."""
    return {
        "state": [str(alert.state)],
        "level": [str(alert.level)],
        "rule": [alert.rule_id],
        "source": [alert.source],
        "entity_type": [alert.entity.type if alert.entity else NOBODY],
        "assignee": [alert.assignee or NOBODY],
        "tag": list(alert.tags),
        "age": [str(age) for age in Age if alert.created_time > NOW - age.micros],
    }[facet]


FACETS = ("state", "level", "rule", "source", "entity_type", "assignee", "tag", "age")


def chosen(wanted, facet):
    held = getattr(wanted, facet)
    return ([str(held)] if held else []) if facet == "age" else [str(value) for value in held]


def fits(alert, wanted, but=""):
    """Whether the filter leaves an alert; `but` names a facet that is not asked."""
    text = "\n".join([alert.title, alert.rule_id, *(each.key for each in alert.entities)]).casefold()
    return (
        all(
            set(chosen(wanted, facet)) & set(values(alert, facet))
            for facet in FACETS
            if facet != but and chosen(wanted, facet)
        )
        and all(term in text for term in wanted.text.casefold().split())
        and (wanted.entity is None or wanted.entity in alert.entities)
    )


FILTERS = [
    AlertFilter(),
    AlertFilter(state=(AlertState.NEW, AlertState.IN_PROGRESS)),
    AlertFilter(level=(Level.HIGH, Level.CRITICAL), age=Age.DAY),
    AlertFilter(rule=("r0",), source=("identity",)),
    AlertFilter(entity_type=(NOBODY,)),
    AlertFilter(entity_type=("key", "ip"), assignee=(NOBODY, "per_1")),
    AlertFilter(tag=("attack.t1078",)),
    AlertFilter(tag=("attack.t107",)),
    AlertFilter(tag=("attack.t1110", "attack.impact"), state=(AlertState.RESOLVED,)),
    AlertFilter(text="BURST k-1"),
    AlertFilter(text="100% odd_"),
    AlertFilter(text="50%_off"),
    AlertFilter(entity=ENTITIES[1], age=Age.WEEK),
    AlertFilter(assignee=("per_9",), level=(Level.LOW,)),
]


def check(store, alerts):
    for wanted in FILTERS:
        expected = {alert.id for alert in alerts if fits(alert, wanted)}
        facets = store.facets("acme", wanted, now=NOW)
        assert facets.total == len(expected), wanted
        for facet in FACETS:
            found = {}
            for alert in alerts:
                if fits(alert, wanted, but=facet):
                    for value in values(alert, facet):
                        found[value] = found.get(value, 0) + 1
            assert facets.counts[facet] == found, (wanted, facet)
        for sort in Sort:
            assert {alert.id for alert in walk(store, wanted, sort)} == expected, (wanted, sort)


def walk(store, wanted, sort, size=7):
    """Every page, one after the other."""
    found, after = [], ""
    while True:
        page = store.page("acme", wanted, sort=sort, after=after, limit=size, now=NOW)
        found += page.alerts
        assert len(page.alerts) <= size
        if not page.next:
            return found
        after = page.next


def test_filters_and_counts_are_those_of_brute_force(database):
    store = Alerts(database)
    check(store, fill(store, database))


@pytest.mark.parametrize("column", ["entity_type", "assignee", "tag", "source"])
def test_the_check_sees_a_facet_that_is_read_from_another_column(database, monkeypatch, column):
    store = Alerts(database)
    alerts = fill(store, database)
    monkeypatch.setitem(queue._COLUMNS, column, "rule_id")
    with pytest.raises(AssertionError):
        check(store, alerts)


def test_pages_repeat_and_skip_nothing_and_keep_their_order(database):
    store = Alerts(database)
    alerts = fill(store, database)
    for sort in Sort:
        found = walk(store, AlertFilter(), sort)
        assert len({alert.id for alert in found}) == len(found) == len(alerts)
    assert [a.created_time for a in found] == sorted((a.created_time for a in found), reverse=True)


def test_an_alert_that_comes_while_somebody_pages_shifts_nothing(database):
    store = Alerts(database)
    fill(store, database)
    first = store.page("acme", AlertFilter(), sort=Sort.NEWEST, limit=7)
    expected = walk(store, AlertFilter(), Sort.NEWEST)[7:14]
    store.apply([(make_signal(999, rule_id="late", event_time=NOW), NOW)])
    assert store.page("acme", AlertFilter(), sort=Sort.NEWEST, after=first.next, limit=7).alerts == expected


@pytest.mark.parametrize("later", [0, 3_600 * MICROS, 9 * DAY])
def test_the_order_by_risk_is_that_of_the_points_at_any_moment(database, later):
    store = Alerts(database)
    fill(store, database)
    found = [a for a in walk(store, AlertFilter(), Sort.RISK) if a.state is not AlertState.SUPPRESSED]
    shown = [points(alert, NOW + later) for alert in found]
    assert shown == pytest.approx(sorted(shown, reverse=True), rel=1e-6)
    assert len(set(shown)) > 20


@pytest.mark.parametrize("after", ["x", "1", ".al_1", "1.", "9" * 19 + ".al_1", "1.al_1' or 1=1", "--1.al_1"])
def test_a_place_that_is_none_is_refused(database, after):
    with pytest.raises(DataError) as caught:
        Alerts(database).page("acme", AlertFilter(), after=after)
    assert caught.value.code == "alerts.cursor.invalid"


def test_what_is_new_is_counted_under_the_filter(database):
    store = Alerts(database)
    fill(store, database)
    seen = store.newest("acme")
    assert store.count_since("acme", AlertFilter(), now=NOW, since=seen) == 0
    for number in range(3):
        late = make_signal(900 + number, rule_id=f"late{number}", level=Level.CRITICAL, event_time=NOW)
        store.apply([(late, seen + 1 + number)])
    assert store.count_since("acme", AlertFilter(), now=NOW, since=seen) == 3
    assert store.count_since("acme", AlertFilter(rule=("late1",)), now=NOW, since=seen) == 1
    assert store.newest("nobody") == 0


def test_what_strangers_wrote_fits_into_every_index(database):
    store = Alerts(database)
    long = "\x00\N{GRINNING FACE}" * 5_000
    signal = make_signal(1, rule_id=long, source=long, entities=(Entity("user", long), Entity(long, "x")), tags=(long,))
    assert store.apply([(signal, TIME)]) == 1
    (alert,) = store.find("acme", entity=Entity("user", long))
    assert store.find("acme", entity=Entity("user", long + "x")) == []
    assert store.page("acme", AlertFilter(rule=(alert.rule_id,)), now=NOW).alerts == [alert]
    assert len(entity_key(Entity("user", long)).encode()) < 700
    assert len(cut(long).encode()) <= 200


def test_a_database_of_before_gets_the_order_of_severity(database):
    store = Alerts(database)
    alerts = fill(store, database)
    with database.begin() as connection:
        for name in ("alert_urgent", "alert_changed"):
            connection.exec_driver_sql(f"drop index {name}")
        for name in ("updated_time", "urgency"):
            connection.exec_driver_sql(f"alter table alert drop column {name}")
        connection.exec_driver_sql("update schema_version set version = 3 where component = 'alerts'")
    again = Alerts(database)
    check(again, alerts)
    with database.read() as connection:
        rows = connection.execute(sa.select(ALERT.c.id, ALERT.c.updated_time, ALERT.c.urgency)).all()
    held = {row.id: (row.updated_time, row.urgency) for row in rows}
    for alert in alerts:
        assert held[alert.id] == (alert.updated_time, urgency(alert.severity_id, 0.0, alert.created_time))


def test_a_database_of_before_gets_the_columns_of_the_queue(database):
    store = Alerts(database)
    alerts = fill(store, database)
    with database.begin() as connection:
        if database.is_sqlite:
            for name in ("alert_counted", "alert_recounted", "alert_uncounted"):
                connection.exec_driver_sql(f"drop trigger {name}")
            connection.exec_driver_sql("drop table alert_cell")
        for name in ("alert_riskiest", "alert_newest", "alert_created", "alert_urgent", "alert_changed"):
            connection.exec_driver_sql(f"drop index {name}")
        names = ("rule_id", "source", "entity_type", "assignee", "tags", "created_time", "fades", "words")
        for name in (*names, "updated_time", "urgency"):
            connection.exec_driver_sql(f"alter table alert drop column {name}")
        connection.exec_driver_sql("create index alert_queue on alert (tenant, state, severity_id, last_time)")
        connection.exec_driver_sql("update schema_version set version = 1 where component = 'alerts'")
    again = Alerts(database)
    check(again, alerts)
    with database.read() as connection:
        names = {index["name"] for index in sa.inspect(connection).get_indexes("alert")}
    assert {"alert_riskiest", "alert_newest", "alert_created"} <= names
    assert "alert_queue" not in names
    database.migrate("alerts", MIGRATIONS)
