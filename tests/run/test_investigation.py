"""Questions, saved searches and steps: the same rows for a colleague, and what is told when the data is not the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.clock import DAY, SystemClock, to_iso
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError
from vedette.core.settings import load_settings
from vedette.core.signal import Level
from vedette.run.investigation.hosts import keep_host, read_host
from vedette.run.investigation.hunts import Hunts, HuntState, SavedHunt
from vedette.run.investigation.questions import Kind, Question, ask, ask_at, digest, hashes
from vedette.run.investigation.searches import Search, Searches, filled
from vedette.run.investigation.steps import Steps, Then
from vedette.run.parts import Parts
from vedette.sense.history import Span
from vedette.sense.store import Store

TENANT = "default"
NOW = SystemClock().now()
HOST = "WS1"


def add(parts: Parts, number: int, *, tenant: str = TENANT, **data: Any) -> None:
    """One record of the audit trail."""
    record = {
        "eventID": f"e{number}",
        "eventTime": to_iso(NOW - number * 1_000_000),
        "eventName": "GetTrail",
        "eventSource": "cloudtrail.amazonaws.com",
        "sourceIPAddress": "198.51.100.7",
        **data,
    }
    source = parts.sources["cloudtrail"]
    event = source.to_event(record, tenant=tenant, stream="s", offset=number, ingest_time=NOW)
    Store(parts.settings.store_folder).append(source, [event])


def sysmon(parts: Parts, number: int, **data: Any) -> None:
    """One record of Sysmon."""
    record = {
        "EventID": 1,
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "Computer": HOST,
        "UtcTime": to_iso(NOW - DAY + number * 1_000_000),
        "ProcessGuid": f"{{P-{number}}}",
        "ProcessId": str(100 + number),
        "Image": f"C:\\{number}.exe",
        **data,
    }
    source = parts.sources["windows"]
    event = source.to_event(record, tenant=TENANT, stream="w", offset=number, ingest_time=NOW)
    Store(parts.settings.store_folder).append(source, [event])


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(load_settings(None, {"VEDETTE_HOME": str(tmp_path)}), clock=SystemClock()) as made:
        yield made


@pytest.fixture
def store(parts: Parts) -> Store:
    return Store(parts.settings.store_folder)


def test_every_kind_of_question(parts, store):
    add(parts, 1)
    add(parts, 2, sourceIPAddress="203.0.113.9", eventName='odd "Name"')
    add(parts, 3, tenant="other")
    sysmon(parts, 1)
    sysmon(parts, 2, ParentProcessGuid="{P-1}")

    def rows(kind: Kind, text: str, **more: Any) -> Any:
        return ask(store, TENANT, Question(kind=kind, text=text, **more), now=NOW).rows

    assert [row["id"] for row in rows(Kind.VALUE, "198.51.100.7")] == ["e1"]
    assert [row["id"] for row in rows(Kind.VALUE, 'ODD "name"')] == ["e2"]
    assert [row["id"] for row in rows(Kind.ENTITY, "ip:203.0.113.9")] == ["e2"]
    graph = rows(Kind.GRAPH, f"host:{HOST}")
    assert all(row["entity"] != f"host:{HOST}" for row in graph)
    assert [row["parent"] for row in rows(Kind.HOST, HOST)] == ["", "P-1"]
    named = Question(kind=Kind.SQL, text="select id from cloudtrail where id = $id;", parameters={"id": "e2"})
    assert ask(store, TENANT, named, now=NOW).rows == [{"id": "e2"}]
    assert rows(Kind.VALUE, "198.51.100.7", days=1, limit=1)
    assert rows(Kind.VALUE, "198.51.100.7", since=1, until=2) == []
    assert ask(Store(store.folder / "none"), TENANT, Question(kind=Kind.VALUE, text="x"), now=NOW).rows == []
    for bad in ({"text": " "}, {"limit": 0}, {"days": 500}, {"since": 2, "until": 1}, {"parameters": {"a": 1}}):
        with pytest.raises(DataError):
            ask(store, TENANT, Question(**{"kind": Kind.VALUE, "text": "x", **bad}), now=NOW)
    with pytest.raises(DataError):
        rows(Kind.GRAPH, "nobody")
    with pytest.raises(NotFoundError):
        rows(Kind.HOST, "nobody")


def test_a_colleague_gets_the_same_rows_and_is_told_of_what_came(parts, store):
    add(parts, 1)
    case = parts.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    steps = Steps(parts, store)
    step = steps.take(
        TENANT, case, Question(kind=Kind.VALUE, text="198.51.100.7", since=1, until=NOW + 1), operator="ana"
    )
    assert steps.all(TENANT, case) == [step]
    assert (step.rows, step.by, step.tables) == (1, "ana", {"cloudtrail": 0})
    assert [link.item for link in parts.custody.links(TENANT, case)] == [step.item]
    made, rows = Steps(parts, Store(store.folder)).again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.same, made.added, made.removed) == (Then.SAME, True, 0, 0)
    assert rows.digest == step.digest
    add(parts, 2)
    made, rows = steps.again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.same, made.rows, made.added, made.removed) == (Then.SAME, False, 2, 1, 0)
    assert (rows.digest, len(rows.rows)) == (step.digest, 1)
    assert "the data has changed since: 2 rows, 1 new" in made.told
    notes = [str(entry.body) for entry in parts.cases.timeline(TENANT, case) if "Asked again" in str(entry.body)]
    assert len(notes) == 2
    with pytest.raises(NotFoundError):
        steps.again(TENANT, case, "st_none", operator="bob")
    with pytest.raises(NotFoundError):
        steps.all("other", case)
    with pytest.raises(NotFoundError):
        steps.again("other", case, step.id, operator="eve")


def test_what_retention_erased_is_told(parts, store):
    for number in (1, 2):
        add(parts, number)
    add(parts, 3, eventTime=to_iso(NOW - 3 * DAY))
    case = parts.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    steps = Steps(parts, store)
    step = steps.take(
        TENANT, case, Question(kind=Kind.VALUE, text="198.51.100.7", since=1, until=NOW + 1), operator="ana"
    )
    delta = DeltaTable(str(store.folder / "cloudtrail"))
    delta.delete(f"date = '{to_iso(NOW - 3 * DAY)[:10]}'")
    made, _ = steps.again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.removed, made.added) == (Then.SAME, 1, 0)
    DeltaTable(str(store.folder / "cloudtrail")).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True
    )
    made, rows = steps.again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.same, made.rows, made.removed) == (Then.ERASED, False, 2, 1)
    assert len(rows.rows) == 2
    assert "erased" in made.told
    shutil.rmtree(store.folder / "cloudtrail")
    made, rows = Steps(parts, Store(store.folder)).again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.rows, made.removed) == (Then.ERASED, 0, 3)


def test_joining_files_keeps_the_rows(parts, store):
    for number in range(4):
        add(parts, number)
    case = parts.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    steps = Steps(parts, store)
    step = steps.take(TENANT, case, Question(kind=Kind.SQL, text="select id from cloudtrail"), operator="ana")
    Store(store.folder).compact()
    made, _ = steps.again(TENANT, case, step.id, operator="bob")
    assert (made.then, made.same, made.rows) == (Then.SAME, True, 4)


def test_a_question_of_chance_is_told(parts, store):
    add(parts, 1)
    case = parts.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    steps = Steps(parts, store)
    step = steps.take(TENANT, case, Question(kind=Kind.SQL, text="select random() as r"), operator="ana")
    made, _ = steps.again(TENANT, case, step.id, operator="ana")
    assert (made.then, made.same) == (Then.OTHER, False)
    assert "chance" in made.told


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), max_size=6), data=st.data())
def test_a_hash_is_of_the_rows_whatever_their_order(rows, data):
    other = data.draw(st.permutations(rows))
    assert digest(hashes(other)) == digest(hashes(rows))
    changed = [*rows, {"a": 3}]
    assert digest(hashes(changed)) != digest(hashes(rows))
    assert len(hashes(rows)) == len(rows)


def test_a_cut_answer_is_the_same_each_time(parts, store):
    for number in range(6):
        add(parts, number)
    question = Question(kind=Kind.SQL, text="select id from cloudtrail", limit=3)
    answer = ask(store, TENANT, question, now=NOW)
    assert (answer.cut, answer.rows) == (True, [{"id": "e0"}, {"id": "e1"}, {"id": "e2"}])
    assert ask_at(store, TENANT, question, answer.tables).digest == answer.digest


def test_saved_searches_have_owners(parts, store):
    add(parts, 1)
    searches = Searches(parts)
    question = Question(kind=Kind.SQL, text="select id from cloudtrail where id = $id", parameters={"id": "none"})
    mine = searches.save(TENANT, Search(name="by-id", question=question, owner="ana"))
    assert searches.all(TENANT, "ana") == [mine]
    assert searches.all(TENANT, "bob") == searches.all("other", "ana") == []
    for reader, tenant in (("bob", TENANT), ("ana", "other")):
        with pytest.raises(NotFoundError):
            searches.get(tenant, "by-id", reader)
    with pytest.raises(ConflictError):
        searches.save(TENANT, Search(name="by-id", question=question, owner="bob"))
    with pytest.raises(NotFoundError):
        searches.delete(TENANT, "by-id", "bob")
    shared = searches.save(TENANT, msgspec.structs.replace(mine, shared=True))
    assert searches.get(TENANT, "by-id", "bob") == shared
    assert ask(store, TENANT, filled(shared, {}), now=NOW).rows == []
    assert ask(store, TENANT, filled(shared, {"id": "e1"}), now=NOW).rows == [{"id": "e1"}]
    for bad in ({"other": 1}, {"days": "x"}, {"days": True}):
        with pytest.raises(DataError):
            filled(shared, bad)
    value = Search(name="v", question=Question(kind=Kind.VALUE, text="a", since=1, until=2), owner="ana")
    assert filled(value, {"text": "b", "days": 3}) == Question(kind=Kind.VALUE, text="b", days=3)
    for name in ("", "A", "a b", "x" * 70):
        with pytest.raises(DefinitionError):
            searches.save(TENANT, msgspec.structs.replace(mine, name=name))
    searches.delete(TENANT, "by-id", "ana")
    assert searches.all(TENANT, "ana") == []


def test_a_host_is_read_within_its_time_and_kept(parts, store, monkeypatch):
    for number in range(5):
        sysmon(parts, number, **({"ParentProcessGuid": f"{{P-{number - 1}}}"} if number else {}))
    first = NOW - DAY
    found = read_host(store, parts.alerts, TENANT, HOST, Span(first + 3_000_000, first + 4_000_000))
    assert [(node.id, node.before) for node in found.nodes] == [
        ("P-0", True),
        ("P-1", True),
        ("P-2", True),
        ("P-3", False),
    ]
    assert read_host(store, None, TENANT, HOST).processes == 5
    for span in (Span(5, 5), Span(0, 40 * DAY)):
        with pytest.raises(DataError):
            read_host(store, None, TENANT, HOST, span)
    for tenant, host in ((TENANT, "ws1"), ("other", HOST)):
        with pytest.raises(NotFoundError):
            read_host(store, None, tenant, host)
    case = parts.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    link = keep_host(parts, store, TENANT, case, found, operator="ana")
    assert (link.who, link.case) == ("ana", case)
    assert parts.custody.links(TENANT, case) == [link]
    monkeypatch.setattr("vedette.run.investigation.hosts.MAX_EVENTS", 2)
    few = read_host(store, None, TENANT, HOST)
    assert (few.unread, {node.id for node in few.nodes if node.seen}) == (3, {"P-3", "P-4"})


def test_what_becomes_of_a_hunt(parts, store):
    add(parts, 1)
    hunts = Hunts(parts, store)
    hunts.save(TENANT, SavedHunt(name="h", hypothesis="x", sql="select id from cloudtrail"))
    assert hunts.standing(TENANT, "h").state is HuntState.OPEN
    made, _ = hunts.run(TENANT, "h", operator="ana")
    with pytest.raises(DefinitionError):
        hunts.change(TENANT, "h", state=HuntState.CONFIRMED, operator="ana")
    with pytest.raises(NotFoundError):
        hunts.change(TENANT, "h", case="ca_none", operator="ana")
    hunts.change(TENANT, "h", state=HuntState.CONFIRMED, found="it was there", rule="r-1", operator="ana")
    held = hunts.change(TENANT, "h", rule="r-2", operator="bob")
    assert (held.state, held.found, held.by) == (HuntState.CONFIRMED, "it was there", "bob")
    assert (held.rules, held.cases) == (("r-1", "r-2"), (made.case,))
    with pytest.raises(NotFoundError):
        hunts.standing("other", "h")


def run(*words: str) -> Any:
    return CliRunner().invoke(build(words, verbs()), words)


def test_the_command_line(tmp_path):
    with Parts(load_settings(None, {"VEDETTE_HOME": str(tmp_path)}), clock=SystemClock()) as made:
        add(made, 1)
        sysmon(made, 1)
        case = made.cases.open(TENANT, "x", operator="ana", level=Level.LOW).id
    home = ("--home", str(tmp_path))
    asked = run("investigate", "ask", "value", "198.51.100.7", "--json", *home)
    assert len(json.loads(asked.stdout)["rows"]) == 1
    assert "e1" in run("investigate", "ask", "sql", "select id from cloudtrail", *home).stdout
    assert run("investigate", "save", "one", "value", "x", "--by", "ana", "--shared", *home).exit_code == 0
    assert "one: value (ana, shared)" in run("investigate", "list", *home).stdout
    kept = run("investigate", "run", "one", "-p", "text=198.51.100.7", "--case", case, "--by", "bob", *home)
    assert "1 rows" in kept.stdout
    (step,) = json.loads(run("investigate", "steps", case, "--json", *home).stdout)
    assert (step["search"], step["by"]) == ("one", "bob")
    again = run("investigate", "again", case, step["id"], "--by", "ana", *home)
    assert (again.exit_code, "the same rows" in again.stdout) == (0, True)
    shown = run("host", HOST, "--case", case, "--by", "ana", *home)
    assert "1.exe (101)" in shown.stdout
    assert f"kept in {case}" in shown.stdout
    assert "start" in run("host", HOST, "--timeline", *home).stdout
    assert run("investigate", "delete", "one", "--by", "ana", *home).exit_code == 0
    assert "no saved search" in run("investigate", "list", *home).stdout
