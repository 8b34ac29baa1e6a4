"""Processes of a host: simulated hosts whose truth is known, a model by brute force, and a real capture counted apart."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import MICROS
from vedette.core.event import Event
from vedette.sense.history import Span
from vedette.sense.processes import Doing, Fact, Mark, Process, cut, read, timeline, tree, weave
from vedette.sense.sources import load_sources

T0 = 1_700_000_000 * MICROS
IMAGES = ("a.exe", "b.exe", "C.exe")


def event(source: str, data: dict[str, Any], number: int = 0, time: int = T0) -> Event:
    return Event(id=f"e{number}", tenant="t", source=source, event_time=time, ingest_time=time, data=data)


@dataclass
class Real:
    """A process as it really was."""

    number: int
    pid: int
    image: str
    parent: Real | None
    start: int
    end: int = 0
    did: list[int] = field(default_factory=list)

    @property
    def guid(self) -> str:
        return f"G-{self.number}"


@st.composite
def hosts(draw: st.DrawFn) -> list[Real]:
    """A host over time: processes begin, do things, end, and their ids are taken again at once."""
    alive: list[Real] = []
    made: list[Real] = []
    time = T0
    for number in range(draw(st.integers(1, 25))):
        time += draw(st.integers(1, 30)) * MICROS
        for process in list(alive):
            act = draw(st.integers(0, 5))
            if act == 0 and len(alive) > 1:
                process.end = time
                alive.remove(process)
            elif act == 1:
                process.did.append(time)
        time += MICROS
        free = [pid for pid in range(4, 40, 4) if pid not in {process.pid for process in alive}]
        if not free:
            continue
        parent = draw(st.sampled_from(alive)) if alive else None
        process = Real(number, draw(st.sampled_from(free[:3])), draw(st.sampled_from(IMAGES)), parent, time)
        alive.append(process)
        made.append(process)
    return made


def facts_of(made: Sequence[Real], *, names: bool, lost: frozenset[int] = frozenset()) -> list[Fact]:
    """What a sensor tells of a host, but for the starts that it lost."""
    found = []
    for one in made:
        who: dict[str, Any] = {"pid": one.pid, "image": one.image, "guid": one.guid if names else ""}
        sensor = "sysmon" if names else "security"
        if one.number not in lost:
            parent: dict[str, Any] = {}
            if one.parent:
                parent = {"parent_pid": one.parent.pid, "parent_image": one.parent.image}
                parent |= {"parent_guid": one.parent.guid} if names else {}
            start = Fact(event_id=f"s{one.number}", sensor=sensor, what=Doing.START, time=one.start, **who, **parent)
            found.append(start)
        if one.end:
            found.append(Fact(event_id=f"x{one.number}", sensor=sensor, what=Doing.END, time=one.end, **who))
        for time in one.did:
            told = {"event_id": f"d{one.number}-{time}", "target": str(one.number)}
            found.append(Fact(sensor=sensor, what=Doing.NETWORK, time=time, **told, **who))
    return found


def shape(processes: Sequence[Process]) -> dict[str, tuple[str, int, list[str]]]:
    """Event of the start -> event of the parent's start, end, and what it did."""
    found = {}
    for one in processes:
        start = next((each for each in one.events if each.startswith("s")), "")
        if start:
            above = next((each for each in one.parent.events if each.startswith("s")), "unseen") if one.parent else ""
            found[start] = (above, one.end, [each.event_id for each in one.done])
    return found


def truth(made: Sequence[Real], lost: frozenset[int] = frozenset()) -> dict[str, tuple[str, int, list[str]]]:
    found = {}
    for one in made:
        if one.number not in lost:
            above = "" if not one.parent else "unseen" if one.parent.number in lost else f"s{one.parent.number}"
            found[f"s{one.number}"] = (above, one.end, [f"d{one.number}-{time}" for time in one.did])
    return found


@settings(max_examples=40, deadline=None)
@given(hosts(), st.booleans(), st.randoms(use_true_random=False))
def test_what_was_is_told_whatever_ids_were_taken_again(made, names, random):
    facts = facts_of(made, names=names)
    random.shuffle(facts)
    woven = weave(facts)
    assert shape(woven.processes) == truth(made)
    assert all(one.seen for one in woven.processes)


@settings(max_examples=30, deadline=None)
@given(hosts(), st.sets(st.integers(0, 25)))
def test_with_names_a_lost_start_costs_nothing_else(made, lost):
    gone = frozenset(lost)
    woven = weave(facts_of(made, names=True, lost=gone))
    assert shape(woven.processes) == truth(made, gone)
    told = {one.number for one in made if one.number not in gone or one.end or one.did}
    told |= {one.parent.number for one in made if one.parent and one.number not in gone}
    assert {one.guid for one in woven.processes} == {f"G-{number}" for number in told}


def by_hand(facts: Sequence[Fact]) -> dict[str, tuple[str, list[str]]]:
    """The law of process ids, word by word: the last that began with it by then, not over, of no other image."""
    born = [one for one in facts if one.what is Doing.START]
    ends: dict[str, int] = {}

    def holder(pid: int, image: str, time: int, but: str = "") -> str:
        mine = [one for one in born if one.pid == pid and one.time <= time and one.event_id != but]
        if not mine:
            return "unseen"
        last = max(mine, key=lambda one: one.time)
        over = last.event_id in ends and ends[last.event_id] + tree.MEETING < time
        return "unseen" if over or last.image.casefold() != image.casefold() else last.event_id

    for one in sorted((one for one in facts if one.what is Doing.END), key=lambda one: (one.time, one.event_id)):
        found = holder(one.pid, one.image, one.time)
        if found != "unseen":
            ends.setdefault(found, one.time)
    told: dict[str, tuple[str, list[str]]] = {}
    for one in born:
        above = holder(one.parent_pid, one.parent_image, one.time, one.event_id) if one.parent_pid > 0 else ""
        did = [
            each.event_id
            for each in sorted(facts, key=lambda each: (each.time, each.event_id))
            if each.what is Doing.NETWORK and holder(each.pid, each.image, each.time) == one.event_id
        ]
        told[one.event_id] = (above, did)
    return told


@settings(max_examples=40, deadline=None)
@given(hosts(), st.sets(st.integers(0, 25)))
def test_without_names_lost_starts_are_told_by_the_law(made, lost):
    facts = facts_of(made, names=False, lost=frozenset(lost))
    found = {start: (above, did) for start, (above, _, did) in shape(weave(facts).processes).items()}
    assert found == by_hand(facts)


@pytest.mark.parametrize("planted", ["first", "any image"])
def test_a_planted_mistake_is_found(monkeypatch, planted):
    one = Real(0, 4, "a.exe", None, T0, end=T0 + MICROS)
    two = Real(1, 4, "b.exe", None, T0 + 2 * MICROS)
    child = Real(2, 8, "c.exe", two, T0 + 3 * MICROS)
    stray = Real(3, 12, "d.exe", Real(9, 4, "z.exe", None, T0), T0 + 4 * MICROS)
    facts = facts_of([one, two, child, stray], names=False)
    assert {start: above for start, (above, *_) in shape(weave(facts).processes).items()} == {
        "s0": "",
        "s1": "",
        "s2": "s1",
        "s3": "unseen",
    }
    if planted == "first":
        monkeypatch.setattr(tree, "bisect_right", lambda starts, _time: min(1, len(starts)))
    else:
        monkeypatch.setattr(tree, "_agree", lambda _one, _other: True)
    assert shape(weave(facts).processes)["s2" if planted == "first" else "s3"][0] != (
        "s1" if planted == "first" else "unseen"
    )


def test_two_sensors_tell_of_one_process():
    common = {"pid": 44, "image": r"C:\Windows\cmd.exe", "command": "cmd /c x"}
    sysmon = Fact(event_id="a", sensor="sysmon", what=Doing.START, time=T0, guid="G", **common)
    security = Fact(event_id="b", sensor="security", what=Doing.START, time=T0 + 3 * MICROS, **common)
    again = Fact(event_id="c", sensor="security", what=Doing.START, time=T0 + 6 * MICROS, **common)
    far = Fact(event_id="d", sensor="security", what=Doing.START, time=T0 + 60 * MICROS, **common)
    made = weave([far, again, security, sysmon]).processes
    assert [(one.guid, one.sensors, len(one.events)) for one in made] == [
        ("G", {"sysmon", "security"}, 2),
        ("", {"security"}, 1),
        ("", {"security"}, 1),
    ]


def test_osquery_tells_by_id_and_start():
    def row(pid, start, **more):
        return {"pid": str(pid), "start_time": str(start), "parent": "1", "path": "/bin/sh", "cmdline": "sh"} | more

    base = {"name": "processes", "hostIdentifier": "h"}
    first = T0 // MICROS
    events = [
        event("osquery", base | {"action": "snapshot", "snapshot": [row(9, first), row(10, first)]}, 1, T0 + MICROS),
        event("osquery", base | {"action": "snapshot", "snapshot": [row(9, first)]}, 2, T0 + 60 * MICROS),
        event("osquery", base | {"action": "removed", "columns": row(9, first)}, 3, T0 + 90 * MICROS),
        event("osquery", base | {"action": "added", "columns": row(9, first + 100)}, 4, T0 + 101 * MICROS),
        event(
            "osquery",
            {
                "name": "s",
                "action": "added",
                "columns": {"pid": "9", "remote_address": "198.51.100.7", "remote_port": "443"},
            },
            5,
            T0 + 105 * MICROS,
        ),
        event("osquery", {"name": "x", "action": "added", "columns": {"pid": "9", "state": "?"}}, 6),
        event("osquery", {"name": "x", "action": "added", "columns": "?"}, 7),
    ]
    made = weave(fact for each in events for fact in read(each)).processes
    seen = {(one.pid, one.start): one for one in made if one.seen}
    assert set(seen) == {(9, T0), (10, T0), (9, T0 + 100 * MICROS)}
    assert seen[9, T0].end == T0 + 90 * MICROS
    assert [each.target for each in seen[9, T0 + 100 * MICROS].done] == ["198.51.100.7:443"]
    assert seen[9, T0].done == []
    assert [(one.pid, one.seen) for one in made if not one.seen] == [(1, False)]


def test_fields_of_the_records():
    (start,) = read(
        event(
            "windows",
            {
                "EventID": "1",
                "Channel": "Microsoft-Windows-Sysmon/Operational",
                "ProcessGuid": "{aB-1}",
                "ProcessId": "7",
                "Hashes": "SHA1=AB,MD5=CD,IMPHASH=00",
                "ParentProcessGuid": "{00000000-0000}",
                "ParentProcessId": 4,
            },
        )
    )
    assert (start.guid, start.pid, start.hashes) == ("AB-1", 7, {"sha1": "ab", "md5": "cd"})
    assert (start.parent_guid, start.parent_pid) == ("", 4)
    security = {
        "EventID": 4688,
        "Channel": "Security",
        "NewProcessId": "0x7d8",
        "ProcessId": "0x2b8",
        "TargetUserName": "-",
    }
    (start,) = read(event("windows", security | {"SubjectUserName": "ana", "SubjectDomainName": "D"}))
    assert (start.pid, start.parent_pid, start.user) == (2008, 696, "D\\ana")
    for broken in ({}, {"EventID": True}, {"EventID": "x"}, {"EventID": 1}, security | {"EventID": None}):
        assert list(read(event("windows", broken))) == []
    (odd,) = read(event("windows", security | {"NewProcessId": ["?"], "CommandLine": 7}))
    assert (odd.pid, odd.command) == (-1, "")
    assert weave([odd]).lost == 1


def test_a_circle_is_cut():
    facts = [
        Fact(event_id="s1", sensor="sysmon", what=Doing.START, time=T0, guid="A", parent_guid="B"),
        Fact(event_id="s2", sensor="sysmon", what=Doing.START, time=T0 + 1, guid="B", parent_guid="A"),
        Fact(event_id="s3", sensor="sysmon", what=Doing.START, time=T0 + 2, guid="C", parent_guid="C"),
    ]
    woven = weave(facts)
    assert [(one.guid, one.torn) for one in woven.processes] == [("A", True), ("B", False), ("C", True)]
    assert len(cut(woven, "h", Span(T0, T0 + 9)).nodes) == 3


def test_a_hub_is_bounded_and_an_alert_is_kept():
    facts = [Fact(event_id="s", sensor="sysmon", what=Doing.START, time=T0, guid="HUB")]
    for number in range(900):
        time = T0 + (number + 1) * MICROS
        start = Fact(
            event_id=f"s{number}", sensor="sysmon", what=Doing.START, time=time, guid=f"K{number}", parent_guid="HUB"
        )
        did = Fact(event_id=f"d{number}", sensor="sysmon", what=Doing.DNS, time=time, guid="HUB", target=str(number))
        facts += [start, did]
    mark = Mark(alert="al", title="x", level="high", event_id="s899", time=T0)
    other = Mark(alert="al", title="y", level="high", event_id="elsewhere", time=T0)
    span = Span(T0, T0 + 2_000 * MICROS)
    made = cut(weave(facts), "h", span, marks=[mark, other], limit=30, fan=10)
    assert made.processes == 901
    assert made.left_out + len(made.nodes) == 901
    assert [node.id for node in made.nodes if node.alerts] == ["K899"]
    assert made.unplaced == (other,)
    hub = made.nodes[0]
    assert (hub.children, hub.children_left_out) == (900, 890)
    assert (hub.counts, len(hub.deeds) + hub.deeds_left_out) == ({"dns": 900}, 900)
    assert len(cut(weave(facts), "h", span, limit=5).nodes) == 5
    times = [time for time, *_ in timeline(made)]
    assert times == sorted(times)


def test_time_bounds_keep_where_things_come_from():
    made = [Real(0, 4, "a", None, T0), Real(1, 8, "b", None, T0 + 1)]
    made += [Real(2, 12, "c", made[0], T0 + 100, end=T0 + 200)]
    found = cut(weave(facts_of(made, names=True)), "h", Span(T0 + 100, T0 + 150))
    assert [(node.id, node.before, node.depth) for node in found.nodes] == [("G-0", True, 0), ("G-2", False, 1)]


HOST = "WORKSTATION5.theshire.local"
TOLD = re.compile(rb'"EventID":(1|2|3|5|9|11|15|23|26|27|28|29)\b')


@pytest.fixture(scope="module")
def capture(shared_data) -> list[dict[str, Any]]:
    """All that the captures hold of one host's starts, ends, connections and files."""
    with gzip.open(shared_data / "windows" / "captures.ndjson.gz") as file:
        return [json.loads(line) for line in file if HOST.encode() in line and b"Sysmon" in line and TOLD.search(line)]


def test_a_real_capture_counted_apart(capture):
    """What the records say, counted from their plain JSON, is what the tree holds."""
    sysmon = [one for one in capture if "Sysmon" in one["Channel"] and one["Hostname"] == HOST]

    def guid(one: dict[str, Any], name: str = "ProcessGuid") -> str:
        return one.get(name, "").strip("{}").upper()

    born = {guid(one): one for one in sysmon if one["EventID"] == 1}
    over = {guid(one) for one in sysmon if one["EventID"] == 5}
    met = Counter(guid(one) for one in sysmon if one["EventID"] == 3 and guid(one).strip("0-"))
    files = Counter(guid(one) for one in sysmon if one["EventID"] in {2, 9, 11, 15, 23, 26, 27, 28, 29} and guid(one))
    assert len(born) > 100
    source = load_sources()["windows"]
    facts = [
        fact
        for number, one in enumerate(capture)
        for fact in read(source.to_event(one, tenant="t", stream="s", offset=number, ingest_time=2 * T0))
    ]
    woven = weave(facts)
    held = {one.guid: one for one in woven.processes if one.guid}
    assert {name for name, one in held.items() if "sysmon" in one.sensors and one.start} == set(born)
    assert {name for name, one in held.items() if one.end and "sysmon" in one.sensors} >= over
    for name, record in born.items():
        process = held[name]
        assert (process.command, str(process.pid)) == (record["CommandLine"], record.get("ProcessId", "-1"))
        assert process.parent is not None
        assert process.parent.guid == guid(record, "ParentProcessGuid")
        assert process.parent.start > 0 or process.parent.guid not in born
    assert {name: one.counts[Doing.NETWORK] for name, one in held.items() if one.counts[Doing.NETWORK]} == met
    assert {name: one.counts[Doing.FILE] for name, one in held.items() if one.counts[Doing.FILE]} == files
    orphans = {name for name, record in born.items() if guid(record, "ParentProcessGuid") not in born}
    found = cut(woven, HOST, Span(0, 2 * T0), limit=5_000, fan=5_000)
    assert {node.id for node in found.nodes if node.id in born and node.parent not in born} == orphans
    assert found.left_out == 0
