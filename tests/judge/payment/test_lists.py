"""Kept lists: items come, go, expire and are undone; rules are asked with the lists as they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import FakeClock

from vedette.core.db import open_database
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError
from vedette.judge.payment.kept import KeptLists, ListAction
from vedette.judge.payment.lists import CARD_BLOCKLIST, EMAIL_BLOCKLIST, MAX_LIST_ITEMS, ItemType, ValueList
from vedette.judge.payment.relist import relist
from vedette.judge.payment.rules import MAX_RULES, PaymentRules, parse_rule


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lists(tmp_path: Path, clock: FakeClock):
    database = open_database(tmp_path / "state.db", schema="state")
    yield KeptLists(database, clock)
    database.close()


def items(lists: KeptLists, clock: FakeClock, alias: str = CARD_BLOCKLIST, tenant: str = "a") -> tuple[str, ...]:
    held = lists.held(tenant, clock.now())
    return held[alias].items if alias in held else ()


def test_items_come_and_go_and_each_change_can_be_undone(lists, clock) -> None:
    added = lists.add("a", CARD_BLOCKLIST, ["x", "y", "x"], operator="ann", reason="seen twice")
    assert [change.item for change in added] == ["x", "y"]
    assert lists.add("a", CARD_BLOCKLIST, ["x"], operator="bob") == []
    assert items(lists, clock) == ("x", "y")
    gone = lists.remove("a", CARD_BLOCKLIST, ["x", "z"], operator="bob")
    assert [(change.item, change.action) for change in gone] == [("x", ListAction.REMOVE)]
    assert items(lists, clock) == ("y",)
    lists.undo("a", gone[0].seq, operator="ann")
    assert items(lists, clock) == ("x", "y")
    with pytest.raises(ConflictError) as wrong:
        lists.undo("a", added[0].seq, operator="ann")
    assert wrong.value.code == "payment.list.changed_since"
    with pytest.raises(NotFoundError):
        lists.undo("b", added[1].seq, operator="eve")
    assert [change.reason for change in lists.changes("a")][-1] == "seen twice"


def test_tenants_do_not_meet(lists, clock) -> None:
    lists.add("a", CARD_BLOCKLIST, ["x"], operator="ann")
    lists.add("b", CARD_BLOCKLIST, ["y"], operator="bob")
    assert (items(lists, clock), items(lists, clock, tenant="b")) == (("x",), ("y",))
    assert lists.remove("b", CARD_BLOCKLIST, ["x"], operator="eve") == []
    assert lists.changes("b")[0].item == "y"


def test_items_expire(lists, clock) -> None:
    soon, later = clock.now() + 10_000_000, clock.now() + 20_000_000
    lists.add("a", CARD_BLOCKLIST, ["x", "y"], operator="ann", expires=soon)
    lists.add("a", CARD_BLOCKLIST, ["y"], operator="ann", expires=later)
    assert lists.add("a", CARD_BLOCKLIST, ["y"], operator="ann", expires=soon) == []
    clock.advance(10)
    assert items(lists, clock) == ("y",)
    clock.advance(10)
    assert items(lists, clock) == ()
    assert [change.item for change in lists.add("a", CARD_BLOCKLIST, ["x"], operator="ann")] == ["x"]
    clock.advance(1e6)
    assert items(lists, clock) == ("x",)


def test_a_list_keeps_its_type(lists) -> None:
    for call, code in (
        (lambda: lists.add("a", "vips", ["x"], operator="ann"), "payment.list.unknown"),
        (lambda: lists.add("a", EMAIL_BLOCKLIST, ["x"], operator="ann"), "payment.list.item"),
        (
            lambda: lists.add("a", EMAIL_BLOCKLIST, ["x"], operator="ann", item_type=ItemType.STRING),
            "payment.list.retyped",
        ),
        (lambda: lists.add("a", "a b", ["x"], operator="ann", item_type=ItemType.STRING), "payment.list.alias"),
    ):
        with pytest.raises((DataError, DefinitionError)) as wrong:
            call()
        assert wrong.value.code == code
    lists.add("a", "vips", ["x"], operator="ann", item_type=ItemType.CUSTOMER_ID)
    lists.add("a", "vips", ["y"], operator="ann")


def test_a_list_is_bounded(lists, clock) -> None:
    lists.add("a", "big", [f"{n}" for n in range(MAX_LIST_ITEMS)], operator="ann", item_type=ItemType.STRING)
    with pytest.raises(DataError) as wrong:
        lists.add("a", "big", ["one more"], operator="ann")
    assert wrong.value.code == "payment.list.full"
    lists.remove("a", "big", ["7"], operator="ann")
    lists.add("a", "big", ["one more"], operator="ann")
    assert len(items(lists, clock, "big")) == MAX_LIST_ITEMS


def test_what_was_learned_from_a_payment_is_forgotten_with_it(lists, clock) -> None:
    lists.add("a", CARD_BLOCKLIST, ["x"], operator="labels", event_id="e1")
    lists.add("a", EMAIL_BLOCKLIST, ["m@example.com"], operator="labels", event_id="e1")
    lists.add("a", CARD_BLOCKLIST, ["y"], operator="labels", event_id="e2")
    gone = lists.forget("a", "e1", operator="labels", reason="verdict: it was no fraud")
    assert {change.item for change in gone} == {"x", "m@example.com"}
    assert items(lists, clock) == ("y",)
    assert lists.forget("a", "e1", operator="labels", reason="again") == []
    assert lists.forget("b", "e2", operator="labels", reason="another's") == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "undo"]), st.sampled_from("xyz"), st.integers(0, 3)), max_size=25
    )
)
def test_any_course_equals_a_set(tmp_path_factory, course) -> None:
    """Items with their time of expiry, as a dictionary; and the lists as of every change are what they were then."""
    clock = FakeClock()
    database = open_database(tmp_path_factory.mktemp("lists") / "state.db", schema="state")
    lists = KeptLists(database, clock)
    model: dict[str, int] = {}
    before: list[tuple[int, int, tuple[str, ...]]] = []

    def there() -> tuple[str, ...]:
        return tuple(sorted(item for item, expires in model.items() if expires == 0 or expires > clock.now()))

    for verb, item, span in course:
        expires = clock.now() + span * 2_000_000 if span else 0
        if verb == "add":
            if lists.add("a", CARD_BLOCKLIST, [item], operator="ann", expires=expires):
                model[item] = expires
        elif verb == "remove":
            lists.remove("a", CARD_BLOCKLIST, [item], operator="ann")
            model.pop(item, None)
        elif newest := lists.changes("a", limit=1):
            change = lists.undo("a", newest[0].seq, operator="ann")
            if change.action is ListAction.ADD:
                model[change.item] = 0
            else:
                model.pop(change.item, None)
        assert items(lists, clock) == there()
        before.append((lists.newest("a"), clock.now(), there()))
        clock.advance(1)
    for seq, now, wanted in before:
        held = lists.held("a", now, seq)
        assert (held[CARD_BLOCKLIST].items if CARD_BLOCKLIST in held else ()) == wanted
    database.close()


# Rules and lists


def kept(**named: tuple[ItemType, tuple[str, ...]]) -> dict[str, ValueList]:
    return {alias: ValueList(alias, kind, held) for alias, (kind, held) in named.items()}


def rules_of(*texts: str, lists: dict[str, ValueList] | None = None) -> PaymentRules:
    return PaymentRules([parse_rule(text, id=f"r{n}", lists=lists) for n, text in enumerate(texts)])


def test_rules_are_asked_with_what_was_added() -> None:
    started = kept(cards=(ItemType.CARD_FINGERPRINT, ("aB",)))
    rules = rules_of("block if :is_checkout: and not (:card_fingerprint: in @cards)", lists=started)
    more = relist(rules, kept(cards=(ItemType.CARD_FINGERPRINT, ("cD",))))
    for card, before, after in (("aB", "quiet", "quiet"), ("cD", "fired", "quiet"), ("eF", "fired", "fired")):
        values = {":card_fingerprint:": card, ":is_checkout:": True}
        assert (rules.rules[0].result(values), more.rules[0].result(values)) == (before, after)
    assert more.version != rules.version
    assert more.levels == rules.levels
    assert relist(rules, kept(others=(ItemType.STRING, ("x",)))) is rules
    assert relist(rules, {}) is rules


def test_default_block_lists_block_while_they_hold_something() -> None:
    rules = rules_of("allow if :card_fingerprint: in @card_fingerprint_blocklist and :is_recurring:")
    empty = kept(card_fingerprint_blocklist=(ItemType.CARD_FINGERPRINT, ()))
    assert relist(rules, empty) is rules
    full = relist(rules, kept(card_fingerprint_blocklist=(ItemType.CARD_FINGERPRINT, ("tok_1",))))
    assert [rule.id for rule in full.rules] == ["r0", "builtin.highest_risk", "builtin.card_blocklist"]
    assert full.rules[2].result({":card_fingerprint:": "tok_1"}) == "fired"
    assert full.rules[0].result({":card_fingerprint:": "tok_1", ":is_recurring:": True}) == "fired"
    assert (
        relist(rules, kept(card_fingerprint_blocklist=(ItemType.CARD_FINGERPRINT, ("t",))), blocklists=False)
        .rules[0]
        .version
    )


def test_an_address_stands_for_its_hash() -> None:
    hashed = hashlib.sha256(b"mule@example.com").hexdigest()
    by_hand = relist(rules_of(), kept(email_blocklist=(ItemType.EMAIL, ("Mule@Example.com",))))
    learned = relist(rules_of(), kept(email_blocklist=(ItemType.EMAIL, (hashed,))))
    for rules in (by_hand, learned):
        assert rules.rules[-1].result({":email:": hashed}) == "fired"
        assert rules.rules[-1].result({":email:": hashlib.sha256(b"x@y.z").hexdigest()}) == "quiet"
    assert by_hand.rules[-1].result({":email:": "mule@example.com"}) == "fired"


def test_the_products_own_rules_do_not_count_as_the_authors() -> None:
    texts = [f"block if :amount_in_usd: > {n}" for n in range(MAX_RULES)]
    full = relist(rules_of(*texts), kept(card_fingerprint_blocklist=(ItemType.CARD_FINGERPRINT, ("t",))))
    assert len(full.rules) == MAX_RULES + 2
