"""The review queue: order by expected cost, leases against a model, four eyes, agreement, what is owed; both databases."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from vedette.act.reviewing import queue as module
from vedette.act.reviewing.agreement import kappa, pairs
from vedette.act.reviewing.intake import ReviewIntake
from vedette.act.reviewing.law import Law, load_law
from vedette.act.reviewing.nouns import ItemState, News
from vedette.act.reviewing.queue import MAX_HELD, ReviewQueue
from vedette.act.reviewing.tables import METADATA, MIGRATIONS
from vedette.core.content import shipped
from vedette.core.db import open_database, sa
from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, DefinitionError, DeniedError, NotFoundError, VedetteError
from vedette.core.event import Entity
from vedette.core.ids import Ids
from vedette.prove.audit import Audit

LAW = Law(rates={"USD": 0.5}, worth_minor={"default": 100, "sign_ups": 4_000}, four_eyes_minor=50_000, sample=0.0)
OLD = {
    "tenant": "acme", "id": "rv_1", "item_id": "rv_1", "state": "done", "holder": "",
    "body": '{"event_id":"e","source":"product","event_time":1}',
}  # fmt: skip
NOBODY_KNOWS = "rv_" + "0" * 26


class Record(NamedTuple):
    offset: int
    key: str
    value: bytes
    time: int


class DecisionLog:
    """Topic `decision` in memory."""

    def __init__(self, clock):
        self.clock, self.records = clock, []

    def add(self, event_id, action=Action.REVIEW, amount=1_000, score=0.5, tenant="acme", **more):
        event = {"amount_minor": amount, "currency": "EUR", "merchant": "m_1"} if amount is not None else {}
        made = Decision(
            event_id=event_id,
            tenant=tenant,
            action=action,
            score=score,
            risk_score=None,
            **({"source": "product", "event": event} | more),
        )
        self.records.append(
            Record(len(self.records), "", msgspec.json.encode(made), more.get("time") or self.clock.now())
        )

    def read(self, topic, partition, offset, limit):
        assert topic == "decision"
        return self.records[offset : offset + limit]

    def end(self, topic, partition):
        return len(self.records)

    def partitions(self, topic):
        return 1


class Room:
    def __init__(self, database, clock, law=LAW):
        self.clock, self.told, self.database = clock, [], database
        self.log = DecisionLog(clock)
        self.queue = ReviewQueue(database, clock, Audit(self.told.append, clock, Ids(clock)), law)
        self.intake = ReviewIntake(
            database, clock, law, lambda _source, data: (Entity("merchant", "m_1"),) * bool(data)
        )

    def fill(self, *wanted):
        for number, each in enumerate(wanted):
            self.log.add(f"ev-{len(self.log.records)}-{number}", **each)
        while self.intake.consume(self.log):
            pass
        return self.queue.find("acme")

    def judge(self, name, item_id, fraud, note=""):
        item = self.queue.claim("acme", name, item_id)
        return self.queue.judge("acme", item_id, name, item.fence, fraud=fraud, note=note)


@pytest.fixture
def room(database, clock):
    return Room(database, clock)


def code(call, *args, **more):
    with pytest.raises(VedetteError) as caught:
        call(*args, **more)
    return caught.value.code


def test_the_order_is_expected_cost_in_one_currency(room):
    found = room.fill(
        {"amount": 100_000, "score": 0.01},
        {"amount": 2_000, "score": 0.9},
        {"amount": 10_000, "score": 0.5, "event": {"amount_minor": 10_000, "currency": "USD"}},
        {"amount": None, "score": 0.5, "source": "sign_ups", "event": {}},
        {"amount": 1_500, "score": None},
        {"amount": None, "score": None, "source": "payouts", "event": {}},
    )
    assert [(item.cost_minor, item.exposure_minor) for item in found] == [
        (2_500, 5_000),
        (2_000, 4_000),
        (1_800, 2_000),
        (1_500, 1_500),
        (1_000, 100_000),
        (100, 100),
    ]
    assert [item.eyes for item in found] == [1, 1, 1, 1, 2, 1]
    first = room.queue.find("acme", limit=2)
    rest = room.queue.find("acme", after=(first[-1].cost_minor, first[-1].id))
    assert [*first, *rest] == found
    assert room.queue.waiting("acme").cost_minor == sum(item.cost_minor for item in found)


def test_only_reviews_come_each_once_and_a_later_answer_withdraws(room):
    for action in Action:
        room.log.add(str(action), action)
    room.log.add("review")
    room.log.add("bad")
    room.log.records.append(Record(len(room.log.records), "", b"{", room.clock.now()))
    room.log.add("old", time=room.clock.now() - LAW.horizon_us - 1)
    assert {item.about.event_id for item in room.fill()} == {"review", "bad"}
    assert room.intake.place(0) == len(room.log.records)
    room.log.add("bad", Action.BLOCK)
    assert [item.about.event_id for item in room.fill()] == ["review"]
    room.log.add("bad", Action.REVIEW)
    assert len(room.fill()) == 2
    item = next(item for item in room.queue.find("acme") if item.about.event_id == "bad")
    room.judge("ana", item.id, True)
    room.log.add("bad", Action.BLOCK)
    room.fill()
    assert room.queue.get("acme", item.id).state is ItemState.DONE


def test_a_lease_ends_and_who_wakes_late_is_refused(room):
    (item,) = room.fill({})
    mine = room.queue.claim("acme", "ana")
    assert (mine.id, mine.holder, mine.fence) == (item.id, "ana", 1)
    assert room.queue.claim("acme", "bob") is None
    assert code(room.queue.claim, "acme", "bob", item.id) == "reviews.lease.taken"
    room.clock.advance(500)
    assert room.queue.renew("acme", item.id, "ana", 1).lease_until == room.clock.now() + LAW.lease_us
    room.clock.advance(LAW.lease_us / 1e6)
    assert code(room.queue.judge, "acme", item.id, "ana", 1, fraud=True) == "reviews.lease.lost"
    theirs = room.queue.claim("acme", "bob")
    assert theirs.fence == 2
    assert code(room.queue.judge, "acme", item.id, "ana", 1, fraud=True) == "reviews.lease.lost"
    assert code(room.queue.judge, "acme", item.id, "ana", 2, fraud=True) == "reviews.lease.lost"
    assert code(room.queue.release, "acme", item.id, "bob", 1) == "reviews.lease.lost"
    done = room.queue.judge("acme", item.id, "bob", 2, fraud=False)
    assert (done.state, done.fraud, done.holder) == (ItemState.DONE, False, "")
    # An answer that was lost on its way is asked for again; another verdict is not.
    assert room.queue.judge("acme", item.id, "bob", 2, fraud=False) == done
    assert code(room.queue.judge, "acme", item.id, "bob", 2, fraud=True) == "reviews.lease.lost"
    assert code(room.queue.claim, "acme", "cy", item.id) == "reviews.item.done"
    assert [opinion.reviewer for opinion in room.queue.opinions("acme", item.id)] == ["bob"]


def test_four_eyes_a_dispute_and_what_each_is_told(room):
    (item,) = room.fill({"amount": 60_000})
    assert item.eyes == 2
    # Nobody goes past the second pair of eyes by a verdict beside the queue.
    assert code(room.queue.check_one_may, "acme", item.about.event_id) == "reviews.eyes.more"
    room.queue.check_one_may("other", item.about.event_id)
    once = room.judge("ana", item.id, True, "the card was new")
    assert (once.state, once.given, once.disputed) == (ItemState.OPEN, 1, False)
    assert room.queue.owed() == []
    assert room.queue.claim("acme", "ana") is None
    with pytest.raises(DeniedError):
        room.queue.claim("acme", "ana", item.id)
    assert room.queue.opinions("acme", item.id, reader="bob") == []
    assert len(room.queue.opinions("acme", item.id, reader="ana")) == 1
    twice = room.judge("bob", item.id, False)
    assert (twice.state, twice.disputed) == (ItemState.OPEN, True)
    assert len(room.queue.opinions("acme", item.id, reader="cy")) == 2
    done = room.judge("cy", item.id, True)
    assert (done.state, done.fraud, done.given) == (ItemState.DONE, True, 3)
    assert code(room.queue.check_one_may, "acme", item.about.event_id) == "reviews.eyes.more"
    (owed,) = room.queue.owed()
    assert (owed.event_id, owed.fraud, owed.time) == (item.about.event_id, True, room.clock.now())
    assert (owed.label.kind, owed.label.observed_time) == ("verdict", owed.time)
    room.queue.paid(owed)
    room.queue.paid(owed)
    assert room.queue.owed() == []
    assert [record.action for record in room.told] == ["reviews.claim", "reviews.verdict"] * 3


def test_a_verdict_taken_back_is_kept_and_a_later_label_corrects_it(room):
    (item,) = room.fill({})
    amending, event_id = room.queue.amending, item.about.event_id
    assert code(amending.take_back, "acme", item.id, "ana", why="x") == "reviews.verdict.none"
    room.judge("ana", item.id, True, "the card was new")
    assert code(amending.take_back, "acme", item.id, "bob", why=" ") == "reviews.why.missing"
    room.clock.advance(60)
    anew = amending.take_back("acme", item.id, "bob", why="the customer called")
    assert (anew.state, anew.fraud, anew.given, anew.taken_back) == (ItemState.OPEN, None, 0, 1)
    assert code(amending.take_back, "acme", item.id, "bob", why="again") == "reviews.verdict.none"
    # Neither a new decision nor our own label, come back from the log, is done with it.
    room.log.add(event_id, Action.BLOCK)
    room.fill()
    (first,) = room.queue.owed()
    assert amending.inform("acme", event_id, News("verdict", first.time, True), settles=True) is None
    assert room.queue.get("acme", item.id).state is ItemState.OPEN
    room.clock.advance(60)
    done = room.judge("ana", item.id, False, "it was them")
    assert (done.state, done.fraud, done.taken_back) == (ItemState.DONE, False, 1)
    assert [(owed.fraud, owed.time) for owed in room.queue.owed()] == [(True, first.time), (False, done.done_time)]
    room.queue.paid(first)
    assert [owed.fraud for owed in room.queue.owed()] == [False]
    (turn,) = amending.taken_back("acme", item.id)
    assert (turn.person, turn.why, turn.fraud, turn.done_time) == ("bob", "the customer called", True, first.time)
    assert [(each.reviewer, each.fraud, each.note) for each in turn.said] == [("ana", True, "the card was new")]
    told = next(record for record in room.told if record.action == "reviews.take_back")
    assert (told.actor, told.detail["fraud"]) == ("bob", "true")


def test_two_must_agree_anew_and_nobody_learns_of_a_word_taken_back_early(room):
    (item,) = room.fill({"amount": 60_000})
    amending = room.queue.amending
    room.judge("ana", item.id, True, "a slip of the key")
    assert code(amending.take_back, "acme", item.id, "bob", why="x") == "reviews.verdict.theirs"
    amending.take_back("acme", item.id, "ana", why="pressed f, meant b")
    assert [(each.said, each.why) for each in amending.taken_back("acme", item.id, reader="bob")] == [((), "")]
    assert amending.taken_back("acme", item.id, reader="ana")[0].said
    room.judge("ana", item.id, False)
    room.judge("bob", item.id, True)
    assert code(amending.take_back, "acme", item.id, "ana", why="x") == "reviews.verdict.disputed"
    room.judge("cy", item.id, True)
    assert room.queue.measure("acme").every.items == 0  # the first of the two knew their own earlier word
    amending.take_back("acme", item.id, "dee", why="a new fact")
    assert room.judge("dee", item.id, False).state is ItemState.OPEN
    assert room.judge("ana", item.id, False).fraud is False
    assert [owed.fraud for owed in room.queue.owed()] == [True, False]


def test_who_agreed_first_counts_though_it_was_taken_back(room):
    (item,) = room.fill({"amount": 60_000})
    room.judge("ana", item.id, True)
    room.judge("bob", item.id, True)
    before = room.queue.measure("acme")
    room.queue.amending.take_back("acme", item.id, "bob", why="a new fact")
    room.judge("ana", item.id, True)
    room.judge("bob", item.id, False)
    assert room.queue.measure("acme") == before
    assert before.every.items == 1


def test_a_label_from_elsewhere_is_done_with_an_item_of_one_and_told_to_those_of_two(room):
    small, large = sorted(room.fill({}, {"amount": 60_000}), key=lambda item: item.eyes)
    amending = room.queue.amending
    mine = room.queue.claim("acme", "ana", small.id)
    dispute = News("dispute", room.clock.now(), True)
    told = [amending.inform("acme", item.about.event_id, dispute, settles=True) for item in (small, large, large)]
    assert [each and each.state for each in told] == [ItemState.LABELLED, ItemState.OPEN, None]
    assert code(room.queue.judge, "acme", small.id, "ana", mine.fence, fraud=False) == "reviews.lease.lost"
    assert code(room.queue.claim, "acme", "ana", small.id) == "reviews.item.done"
    assert code(amending.take_back, "acme", small.id, "ana", why="x") == "reviews.verdict.none"
    assert room.queue.owed() == []
    # What a person said beside the queue is told to nobody who has yet to say their own.
    amending.inform("acme", large.about.event_id, News("verdict", room.clock.now(), True), settles=True)
    assert amending.news("acme", large.id, reader="bob") == [dispute]
    room.judge("bob", large.id, True)
    assert len(amending.news("acme", large.id, reader="bob")) == 2
    assert amending.inform("acme", "never seen", dispute, settles=True) is None
    assert amending.inform("globex", small.about.event_id, dispute, settles=True) is None
    refund = News("refund made", room.clock.now(), None)
    (third,) = [item for item in room.fill({}) if item.eyes == 1]
    assert amending.inform("acme", third.about.event_id, refund).state is ItemState.OPEN


def test_tables_of_before_are_carried_over(tmp_path, clock):
    database = open_database(tmp_path / "old.db")
    database.migrate("reviewing", MIGRATIONS[:1])
    with database.begin() as connection:
        connection.exec_driver_sql("alter table review_item drop column taken_back")
        for table in METADATA.sorted_tables:
            if table.name in {"review_item", "review_label"}:
                columns = [column for column in table.columns if column.name != "taken_back"]
                values = {column.name: OLD.get(column.name, 1) for column in columns}
                connection.execute(sa.insert(sa.table(table.name, *map(sa.column, values))).values(**values))
    room = Room(database, clock)
    (owed,) = room.queue.owed()
    assert (owed.item_id, owed.fraud, owed.fence) == ("rv_1", True, 1)
    assert room.queue.get("acme", "rv_1").taken_back == 0


def test_nobody_hoards_and_the_next_one_is_the_same_until_it_is_judged(room):
    found = room.fill(*({"amount": 1_000 + number} for number in range(MAX_HELD + 2)))
    assert room.queue.claim("acme", "ana").id == found[0].id
    assert room.queue.claim("acme", "ana").fence == 1
    assert room.queue.claim("acme", "bob").id == found[1].id
    for item in found[2 : MAX_HELD + 1]:
        room.queue.claim("acme", "ana", item.id)
    assert code(room.queue.claim, "acme", "ana", found[-1].id) == "reviews.lease.many"
    room.queue.release("acme", found[0].id, "ana", 1)
    assert room.queue.claim("acme", "cy").id == found[0].id
    assert {item.id for item in room.queue.find("acme", holder="ana")} == {i.id for i in found[2 : MAX_HELD + 1]}


def test_another_tenant_sees_and_claims_nothing(room):
    (item,) = room.fill({})
    assert room.queue.find("globex") == []
    assert room.queue.claim("globex", "eve") is None
    for call in (room.queue.get, room.queue.opinions):
        assert code(call, "globex", item.id) == "reviews.item.unknown"
    assert code(room.queue.claim, "globex", "eve", item.id) == "reviews.item.unknown"
    assert code(room.queue.judge, "globex", item.id, "eve", 1, fraud=True) == "reviews.item.unknown"
    assert room.queue.waiting("globex").open == 0
    assert room.queue.measure("globex").every.items == 0
    with pytest.raises(NotFoundError):
        room.queue.get("acme", NOBODY_KNOWS)


def test_what_waits_too_long_is_told_once(room):
    room.fill({}, {})
    assert room.queue.tell_overdue("acme") == []
    room.clock.advance(LAW.age_us / 1e6 + 1)
    assert room.queue.waiting("acme").overdue == 2
    assert room.queue.waiting("acme").oldest_s == LAW.age_us // 1_000_000 + 1
    assert len(room.queue.tell_overdue("acme")) == 2
    assert room.queue.tell_overdue("acme") == []
    assert [record.action for record in room.told] == ["reviews.overdue"] * 2


# Leases against a model


class Model:
    """What the pages say, in a few lines: one dictionary of an item."""

    def __init__(self, names, eyes):
        self.items = {name: {"eyes": eyes[name], "fence": 0, "holder": "", "until": 0, "said": {}} for name in names}

    def claim(self, name, who, now, lease):
        item = self.items[name]
        if self.done(name) is not None:
            return "reviews.item.done"
        if who in item["said"]:
            return "reviews.eyes.same"
        if item["until"] > now and item["holder"] != who:
            return "reviews.lease.taken"
        item["fence"] += not (item["until"] > now)
        item["holder"], item["until"] = who, now + lease
        return item["fence"]

    def judge(self, name, who, fence, fraud, now):
        item = self.items[name]
        if item["said"].get(who) == (fraud, fence):
            return "again"
        if (item["holder"], item["fence"]) != (who, fence) or now >= item["until"]:
            return "reviews.lease.lost"
        item["said"][who] = (fraud, fence)
        item["holder"], item["until"] = "", 0
        return "said"

    def done(self, name):
        item = self.items[name]
        answers = [fraud for fraud, _ in item["said"].values()]
        return next((side for side in (True, False) if answers.count(side) >= item["eyes"]), None)


def play(room, seed, steps=120):
    """Random people, claims, waits and late verdicts; every answer is the model's, and so is the end."""
    rng = random.Random(seed)
    items = room.fill(*({"amount": rng.choice([1_000, 60_000])} for _ in range(3)))
    model = Model([item.id for item in items], {item.id: item.eyes for item in items})
    fences = {}
    for _ in range(steps):
        name, who, now = rng.choice(items).id, rng.choice("abcd"), room.clock.now()
        match rng.choice(["claim", "judge", "judge", "wait", "release"]):
            case "claim":
                expected = model.claim(name, who, now, LAW.lease_us)
                try:
                    found = room.queue.claim("acme", who, name).fence
                except VedetteError as error:
                    found = error.code
                if isinstance(found, int):
                    fences[name, who] = found
            case "judge":
                fence, fraud = max(0, fences.get((name, who), 1) - rng.choice([0, 0, 0, 1])), rng.random() < 0.5
                expected = model.judge(name, who, fence, fraud, now)
                try:
                    before = len(room.told)
                    room.queue.judge("acme", name, who, fence, fraud=fraud)
                    found = "said" if len(room.told) > before else "again"
                except VedetteError as error:
                    found = error.code
            case "release":
                item = model.items[name]
                live = item["until"] > now and item["holder"] == who
                expected = "released" if live else "reviews.lease.lost"
                if live:
                    item["holder"], item["until"] = "", 0
                try:
                    room.queue.release("acme", name, who, fences.get((name, who), 0))
                    found = "released"
                except VedetteError as error:
                    found = error.code
            case _:
                room.clock.advance(rng.choice([1, 300, 599, 600, 601]))
                continue
        assert found == expected, (seed, name, who)
    for name in model.items:
        assert room.queue.get("acme", name).fraud == model.done(name)
    assert {owed.item_id for owed in room.queue.owed()} == {n for n in model.items if model.done(n) is not None}
    return sum(model.done(name) is not None for name in model.items)


@pytest.mark.parametrize("seed", range(6))
def test_leases_are_those_of_the_model(room, seed):
    play(room, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
def test_leases_are_those_of_the_model_at_length(room, seed):
    play(room, seed, 400)


def test_the_model_sees_a_lease_that_is_not_fenced(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "_check_lease", lambda *_: None)
    rooms = [Room(open_database(tmp_path / f"{seed}.db"), clock) for seed in range(8)]
    with pytest.raises(AssertionError):
        [play(room, seed) for seed, room in enumerate(rooms)]


# Agreement


def test_kappa_is_cohens():
    table = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert kappa(table).kappa == pytest.approx(0.4)
    assert kappa([]).observed is None
    same = kappa([(True, True)] * 7)
    assert (same.observed, same.kappa) == (1.0, None)
    for counts in itertools.product(range(4), repeat=4):
        answers = [
            pair
            for pair, count in zip(itertools.product([True, False], repeat=2), counts, strict=True)
            for _ in range(count)
        ]
        found, size = kappa(answers), len(answers)
        if not size:
            continue
        equal = sum(a == b for a, b in answers) / size
        chance = (
            sum(sum(a is side for a, _ in answers) * sum(b is side for _, b in answers) for side in (True, False))
            / size**2
        )
        assert found.observed == pytest.approx(equal)
        if chance == 1:
            assert found.kappa is None
        else:
            assert found.kappa == pytest.approx((equal - chance) / (1 - chance))
            assert -1 <= found.low <= found.high <= 1


def test_a_pair_is_the_same_in_either_order():
    told = [(("bob", True), ("ana", False)), (("ana", True), ("bob", True)), (("ana", True), ("cy", True))]
    first, second = pairs(told)
    assert (first.reviewers, first.agreement.items, first.agreement.second_fraud) == (("ana", "bob"), 2, 1)
    assert second.reviewers == ("ana", "cy")


def test_agreement_is_measured_over_the_sample_without_the_third(database, clock):
    room = Room(database, clock, msgspec.structs.replace(LAW, sample=0.5))
    found = room.fill(*({"amount": 60_000 if number % 2 else 1_000} for number in range(40)))
    drawn = [item for item in found if LAW_SAMPLE.sampled(item.id)]
    assert 10 < len(drawn) < 30
    assert all(item.eyes == 2 for item in drawn)
    expected = []
    for number, item in enumerate(item for item in found if item.eyes == 2):
        first, second = number % 3 > 0, number % 4 > 0
        room.judge("ana", item.id, first)
        room.judge("bob", item.id, second)
        if first != second:
            room.judge("cy", item.id, True)
        expected.append((item.id, (first, second)))
    measured = room.queue.measure("acme")
    assert measured.every == kappa(answers for _, answers in expected)
    ids = {item.id for item in drawn}
    assert measured.sample == kappa(answers for name, answers in expected if name in ids)
    assert [pair.reviewers for pair in measured.pairs] == [("ana", "bob")]
    assert room.queue.measure("acme", since=clock.now() + 1).every.items == 0


LAW_SAMPLE = msgspec.structs.replace(LAW, sample=0.5)


# The law


def test_the_shipped_law_is_read():
    law = load_law(shipped("response") / "review.yaml")
    assert (law.lease_us, law.four_eyes_minor) == (600 * 1_000_000, 100_000)
    assert law.exposure(1_000, "JPY", "") == 620  # yen have no minor unit


@pytest.mark.parametrize(
    "text",
    [
        "lease: soon",
        "sample: 2",
        "rates: {USD: 0}",
        "currency: XXX",
        "four_eyes_minor: -1",
        "what: 1",
        "worth_minor: 3",
    ],
)
def test_a_law_that_is_none_is_refused_with_its_place(tmp_path: Path, text):
    path = tmp_path / "review.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_law(path)
    assert caught.value.code == "reviews.law.invalid"
    assert caught.value.span


def test_of_two_who_ask_at_once_each_gets_another_item(room):
    room.fill({}, {"amount": 2_000})
    assert {room.queue.claim("acme", name).fence for name in ("ana", "bob")} == {1}
    assert len({item.holder for item in room.queue.find("acme")}) == 2
    with pytest.raises(ConflictError):
        room.queue.renew("acme", room.queue.find("acme")[0].id, "cy", 1)


def test_answers_that_are_no_review_walk_through_no_open_items(room):
    """One update of all of them would: the queue is the longer, the dearer every payment."""
    room.fill(*[{"action": Action.REVIEW}] * 3)
    updates = []

    def note(_connection, _cursor, statement, *_more):
        updates.extend([statement] * statement.upper().startswith("UPDATE REVIEW_ITEM"))

    sa.event.listen(room.database.engine, "before_cursor_execute", note)
    room.fill(*[{"action": Action.ALLOW}] * 5)
    assert updates == []
    room.log.add("ev-0-0", Action.ALLOW)  # answered again, by policy
    room.intake.consume(room.log)
    assert len(updates) == 1
    assert {item.about.event_id for item in room.queue.find("acme")} == {"ev-1-1", "ev-2-2"}
