"""What was known when: versions, as-of reads, sightings, decay and warninglists, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vedette.core.clock import DAY
from vedette.core.db import Database, open_database
from vedette.core.errors import DataError, DefinitionError, NotFoundError
from vedette.sense.intel.asked import Asked, candidates
from vedette.sense.intel.indicator import Indicator, Tlp, indicator_id, kind_of
from vedette.sense.intel.library import Library, indicator_of
from vedette.sense.intel.library_tables import Kept
from vedette.sense.intel.shelf import Wanted, fetch_page
from vedette.sense.intel.stix import Object, Refused
from vedette.sense.intel.values import Kind, canonical, guess, host_of, networks, parents, url_keys
from vedette.sense.intel.warninglists import List, Warninglists
from vedette.sense.intel.watch import Watch

START = 1_780_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1e6


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = open_database(tmp_path / "intel.db")
    else:
        name = f"intel_{os.getpid()}_{abs(hash(request.node.name)):x}"
        opened = open_database(request.getfixturevalue("postgres_url"), schema=name)
    yield opened
    opened.close()


LISTS: dict[str, Warninglists] = {}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def library(database: Database, clock: Clock) -> Library:
    LISTS["now"] = Warninglists()
    return Library(database, clock, lambda: LISTS["now"])


def thing(value: str, collection: str = "own", **more: Any) -> Object:
    own = Indicator(**{"id": indicator_id(collection, value), "formula": ((value,),), "valid_from": START, **more})  # type: ignore[arg-type]
    return Object(id=own.id, type="indicator", version=own.version, indicator=own, tlp=own.tlp)


def values(found: list[Kept]) -> list[str]:
    return [indicator_of(one).value for one in found]


def test_what_was_known_at_a_time(library: Library, clock: Clock) -> None:
    first = library.put("acme", "own", [thing("a.example"), thing("b.example")])
    assert (first.added, first.changed, first.same, first.first, first.last) == (2, 0, 0, 1, 2)
    early = clock.now() + 10
    clock.time += DAY
    second = library.put("acme", "own", [thing("a.example"), thing("b.example", confidence=90), thing("c.example")])
    assert (second.added, second.changed, second.same) == (1, 1, 1)
    assert values(library.indicators("acme", Asked())) == ["a.example", "b.example", "c.example"]
    before = library.indicators("acme", Asked(as_of=early))
    assert [(indicator_of(one).value, indicator_of(one).confidence) for one in before] == [
        ("a.example", 50),
        ("b.example", 50),
    ]
    assert library.indicators("acme", Asked(as_of=START - 1)) == []
    own = indicator_id("own", "b.example")
    assert indicator_of(library.get("acme", own)).confidence == 90
    assert indicator_of(library.get("acme", own, as_of=early)).confidence == 50
    assert [one.superseded > one.added for one in library.versions("acme", own)] == [True, True]
    with pytest.raises(NotFoundError):
        library.get("acme", own, as_of=START - 1)


def test_tenants_never_meet(library: Library) -> None:
    library.put("acme", "own", [thing("a.example")])
    library.put("globex", "own", [thing("b.example")], [Refused("line 1", "x", "y")])
    assert values(library.indicators("acme", Asked())) == ["a.example"]
    assert values(library.indicators("globex", Asked(value="a.example"))) == []
    assert library.refused("acme") == []
    assert [one["at"] for one in library.refused("globex")] == ["line 1"]
    with pytest.raises(NotFoundError):
        library.get("globex", indicator_id("own", "a.example"))
    ids = {one.id for tenant in ("acme", "globex") for one in library.collections(tenant)}
    assert len(ids) == 4
    with pytest.raises(NotFoundError):
        library.find_collection("acme", library.collections("globex")[0].id)


def test_times_of_arrival_rise_strictly(library: Library) -> None:
    for turn in range(3):
        library.put("acme", "own", [thing(f"n{turn}-{each}.example") for each in range(50)])
    found = library.indicators("acme", Asked(), limit=1_000)
    times = [one.added for one in found]
    assert len(times) == 150
    assert times == sorted(set(times))
    assert [one.seq for one in found] == list(range(1, 151))


def test_filters_and_pages(library: Library, clock: Clock) -> None:
    library.put(
        "acme",
        "own",
        [
            thing("203.0.113.0/24", tlp=Tlp.RED),
            thing("evil.example", labels=("malware:rat", "x")),
            thing("//evil.example/a", valid_until=START + 5),
            thing("held.example", held="why"),
            thing("soon.example", valid_from=START + DAY),
        ],
    )
    ask = lambda **more: values(library.indicators("acme", Asked(**more)))  # noqa: E731
    assert ask(value="203.0.113.200") == ["203.0.113.0/24"]
    assert ask(value="http://login.evil.example/a?b") == ["evil.example"]
    assert ask(value="http://evil.example/a?b") == ["evil.example", "//evil.example/a"]
    assert ask(label="malware:rat") == ["evil.example"]
    assert ask(label="malware") == []
    assert ask(held=True) == ["held.example"]
    assert ask(kind="ipv4-addr", within=Tlp.AMBER) == []
    assert ask(valid_at=START + 10) == ["203.0.113.0/24", "evil.example"]
    page = library.indicators("acme", Asked(), limit=2)
    assert values(library.indicators("acme", Asked(), after=page[-1].seq, limit=2)) == [
        "//evil.example/a",
        "held.example",
    ]
    with pytest.raises(DataError):
        candidates("nonsense")
    with pytest.raises(DefinitionError):
        library.collection("acme", "../x")


def test_an_older_version_never_takes_the_place_of_a_newer(library: Library) -> None:
    for version, confidence in ((200, 60), (100, 10), (300, 70), (300, 99)):
        one = msgspec.structs.replace(
            thing("a.example", version=version, confidence=confidence), body=f'{{"v":{version}}}'
        )
        library.put("acme", "own", [one])
    own = indicator_id("own", "a.example")
    assert indicator_of(library.get("acme", own)).confidence == 70
    assert [one.object.version for one in library.versions("acme", own)] == [200, 100, 300]


def test_a_warninglist_holds_back_and_lets_go(library: Library) -> None:
    library.put("acme", "own", [thing("good.example"), thing("evil.example")])
    LISTS["now"] = Warninglists([List("hosts", "hostname", ("good.example",), frozenset(Kind))])
    assert library.recheck("acme").held == 1
    (held,) = library.indicators("acme", Asked(held=True))
    assert indicator_of(held).held == "good.example stands on the warninglist `hosts`"
    assert library.put("acme", "own", [thing("www.good.example")]).held == 1
    watch = Watch()
    for rows in library.changes("acme", 0):
        watch.take(rows)
    assert not watch.look(Kind.DOMAIN, "www.good.example")
    LISTS["now"] = Warninglists()
    assert library.recheck("acme").changed == 2
    for rows in library.changes("acme", watch.newest):
        watch.take(rows)
    assert watch.look(Kind.DOMAIN, "www.good.example")
    assert library.recheck("acme").changed == 0


def test_a_sighting_counts_once_and_renews(library: Library, clock: Clock) -> None:
    library.put("acme", "own", [thing("evil.example", confidence=80)])
    own = indicator_id("own", "evil.example")
    seen = [("s1", own, START + 5 * DAY, {"event_id": "e1"}), ("s2", own, START + 5 * DAY + 1, {})]
    assert library.sight("acme", seen) == 2
    assert library.sight("acme", seen) == 0
    assert library.sight("acme", [("s3", own, START + 5 * DAY + 2, {})]) == 1
    kept = indicator_of(library.get("acme", own))
    assert kept.seen == START + 5 * DAY + 1
    assert kept.score(START + 5 * DAY) == 80
    assert len(library.versions("acme", own)) == 2
    assert [one["id"] for one in library.sightings("acme", own)] == ["s3", "s2", "s1"]


def test_what_is_removed_matches_no_more(library: Library) -> None:
    library.put("acme", "own", [thing("evil.example")])
    watch = Watch()
    for rows in library.changes("acme", 0):
        watch.take(rows)
    assert watch.told([(slot, "f", "evil.example") for slot in watch.look(Kind.DOMAIN, "evil.example")], START)
    assert library.remove("acme", "own", indicator_id("own", "evil.example")) == 1
    for rows in library.changes("acme", watch.newest):
        watch.take(rows)
    assert not watch.told([(slot, "f", "evil.example") for slot in watch.look(Kind.DOMAIN, "evil.example")], START)
    assert library.indicators("acme", Asked()) == []


def test_what_is_removed_stays_known_of_the_time_before(library: Library) -> None:
    own = indicator_id("own", "evil.example")
    clock = library.clock
    library.put("acme", "own", [thing("evil.example", confidence=40)])
    clock.time += DAY  # type: ignore[attr-defined]
    library.put("acme", "own", [thing("evil.example", confidence=60)])
    clock.time += DAY  # type: ignore[attr-defined]
    assert library.remove("acme", "own", own) == 1
    clock.time += DAY  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError):
        library.get("acme", own)
    days = [[indicator_of(one).confidence for one in library.indicators("acme", Asked(as_of=START + day * DAY + 10))] for day in range(4)]  # fmt: skip
    assert days == [[40], [60], [], []]
    assert indicator_of(library.get("acme", own, as_of=START + DAY + 10)).confidence == 60
    # Others who follow the collection are given nothing of it, whichever version they ask for, until it comes again.
    for versions in (("last",), ("first",), ("all",)):
        assert fetch_page(library, "acme", "own", Wanted(versions=versions)) == ([], False)
    library.put("acme", "own", [thing("evil.example", confidence=70)])
    for versions in (("last",), ("first",), ("all",)):
        page, _ = fetch_page(library, "acme", "own", Wanted(versions=versions))
        assert [indicator_of(one).confidence for one in page] == [70]
    assert len(library.versions("acme", own)) == 3


def test_what_a_person_holds_back_stays_so(library: Library) -> None:
    own = indicator_id("own", "evil.example")
    library.put("acme", "own", [thing("evil.example")])
    with pytest.raises(DataError, match="not held back by hand"):
        library.hold("acme", own, "")
    held = library.hold("acme", own, "our own proxy")
    assert indicator_of(held).held == "by hand: our own proxy"
    library.put("acme", "own", [thing("evil.example", confidence=95)])
    kept = indicator_of(library.get("acme", own))
    assert (kept.confidence, kept.held) == (95, "by hand: our own proxy")
    assert library.recheck("acme").changed == 0
    assert library.indicators("acme", Asked(held=False)) == []
    assert indicator_of(library.hold("acme", own, "")).held == ""
    assert library.put("acme", "own", [thing("evil.example", confidence=95)]).same == 1
    assert [indicator_of(one).held for one in library.versions("acme", own)] == ["", held.object.indicator.held, held.object.indicator.held, ""]  # type: ignore[union-attr]  # fmt: skip


def model(held: list[tuple[tuple[tuple[str, ...], ...], int, int]], observed: list[str], at: int) -> set[int]:
    """What should match, in plain words: every value that an event holds, and all that stands above it."""
    present: set[str] = set()
    for text in observed:
        found = guess(text)
        if found is None:
            continue
        names = [found.value]
        if found.kind is Kind.URL:
            present |= set(url_keys(found.value))
            names = [host_of(found.value)] if found.value.startswith("//") else []
        for name in names:
            present |= set(networks(name)) if guess(name) and guess(name).kind in {Kind.IPV4, Kind.IPV6} else set(parents(name))  # type: ignore[union-attr]  # fmt: skip
    return {
        seq
        for seq, (formula, start, end) in enumerate(held, 1)
        if start <= at < end and any(set(each) <= present for each in formula)
    }


KINDS = {"ip": Kind.IPV4, "name": Kind.DOMAIN, "url": Kind.URL, "hash": Kind.FILE, "mail": Kind.EMAIL}


def draw(random_: random.Random) -> tuple[str, str]:
    """A field and a text that an event may hold."""
    digit = random_.randrange(6)
    name = random_.choice(["a", "b.a", "x.b.a", "WWW.B.a", "c"]) + ".example"
    return random_.choice([
        ("ip", f"203.0.113.{digit}"), ("ip", f"2001:db8::{digit}"), ("ip", f"2001:DB8:0:0::{digit}"), ("ip", "::ffff:203.0.113.2"),
        ("name", name), ("name", f"203.0.113.{digit}"), ("url", f"http://{name}/p{digit}?q=1"), ("url", f"https://203.0.113.{digit}/x"),
        ("hash", f"{digit}" * 32), ("mail", f"u{digit}@a.example"), ("name", "-"), ("ip", ""),
        ("name", random_.choice(["mx.Evil.x1", "c.example.", "WWW.Büro.example", "a.büro。example", "example"])),
        ("ip", random_.choice(["198.51.100.7", "198.51.200.7", "11.9.9.9", "12.9.9.9", "198.51.100", "1.2.3.4\0", "\ud800"])),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_a_watch_says_what_the_model_says(seed: int) -> None:
    random_ = random.Random(seed)
    pool = [
        *(f"203.0.113.{n}" for n in range(4)), "203.0.113.0/30", "203.0.113.4/31", "203.0.0.0/16", "2001:db8::/126", "2001:db8::2",
        "a.example", "b.a.example", "c.example", "//a.example/p1", "//b.a.example/p2?q=1", "/p3", "//203.0.113.1/x", "1" * 32, "u1@a.example",
        "evil.x1", "xn--bro-hoa.example", "198.51.100.7", "10.0.0.0/7",
    ]  # fmt: skip
    held: list[tuple[tuple[tuple[str, ...], ...], int, int]] = []
    watch = Watch()
    for seq in range(1, 30):
        formula = tuple(tuple(dict.fromkeys(random_.choices(pool, k=random_.choice([1, 1, 1, 2])))) for _ in range(random_.choice([1, 1, 2])))  # fmt: skip
        start = random_.randrange(10)
        held.append((formula, start, start + random_.randrange(1, 10)))
        watch.add(seq, *held[-1])
    watch.take(())

    class Fields:
        fields = tuple((name, kind, lambda data, name=name: data.get(name)) for name, kind in KINDS.items())

    records = [dict(draw(random_) for _ in range(3)) for _ in range(60)]
    records[0]["name"] = ["a.example", "c.example"]  # type: ignore[assignment]
    at = random_.randrange(20)
    each = watch.hits_each(Fields, records)  # type: ignore[arg-type]
    for place, data in enumerate(records):
        observed = [text for value in data.values() for text in ([value] if isinstance(value, str) else value)]
        wanted = model(held, observed, at)
        assert {hit.seq for hit in watch.hits(Fields, data, at)} == wanted, (data, wanted)  # type: ignore[arg-type]
        assert {hit.seq for hit in watch.told(each.get(place, []), at)} == wanted, (data, wanted)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("url_keys", lambda url: [url]),
        ("_root", lambda name: name),
        ("_upper", lambda _text: b""),
        ("_Networks.uppers", lambda _nets: set()),
        ("_ODD", frozenset("123456789:")),
    ],
)
def test_the_model_would_see_a_planted_mistake(monkeypatch: pytest.MonkeyPatch, place: str, wrong: object) -> None:
    monkeypatch.setattr(f"vedette.sense.intel.watch.{place}", wrong)
    with pytest.raises(AssertionError):
        list(map(test_a_watch_says_what_the_model_says, range(40)))


def test_a_canonical_value_tells_its_kind() -> None:
    texts = {
        Kind.IPV4: ("203.0.113.7", "203.0.113.0/24", "0.0.0.0/0"),
        Kind.IPV6: ("2001:db8::1", "::/0", "2001:db8::/32"),
        Kind.DOMAIN: ("evil.example", "_dmarc.Evil.Example.", "1.2.3.a1", "xn--80ak6aa92e.com", "büro.example"),
        Kind.URL: ("http://evil.example/a@b?c=1.2.3.4", "http://[2001:db8::1]/x", "/only/a.path", "//h.example"),
        Kind.EMAIL: ("A.B@Evil.Example", "x/y@evil.example"),
        Kind.FILE: ("d41d8cd98f00b204e9800998ecf8427e", "A" * 64, "1" * 40),
    }
    for kind, some in texts.items():
        assert {kind_of(canonical(kind, text)) for text in some} == {kind}


def test_canonical_kinds_never_collide() -> None:
    assert canonical(Kind.URL, "http://1.2.3.0/24") != canonical(Kind.IPV4, "1.2.3.0/24")
