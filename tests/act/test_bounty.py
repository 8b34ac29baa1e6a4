"""Reports of weaknesses: four that sound alike are weighed differently and say why; clocks; duplicates; the thread."""

from __future__ import annotations

import pytest

from vedette.act.bounty.report import ReportState
from vedette.act.bounty.reports import Bounty
from vedette.act.bounty.rubric import Facts, load_rubric, score_of, weigh
from vedette.core.clock import DAY, MICROS
from vedette.core.content import shipped
from vedette.core.errors import DefinitionError, VedetteError
from vedette.core.ids import Ids
from vedette.core.signal import Level
from vedette.prove.audit import Audit

RUBRIC = load_rubric(shipped("response") / "bounty.yaml")
XSS = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"
TEXT = {"title": "Notes of others", "text": "Change the id.", "reporter": "mira", "asset": "api"}
BY = {"operator": "ana"}


@pytest.fixture
def told():
    return []


@pytest.fixture
def bounty(database, clock, told):
    return Bounty(database, clock, Ids(clock), Audit(told.append, clock, Ids(clock)), RUBRIC)


def code(call, *args, **more):
    with pytest.raises(VedetteError) as caught:
        call(*args, **more)
    return caught.value.code


def test_four_reports_that_sound_alike_are_told_apart():
    found = {
        "self-XSS": weigh(Facts(cwe="CWE-79", verified=True, self_only=True, vector=XSS), RUBRIC),
        "another tenant": weigh(Facts(cwe="CWE-639", verified=True, other_tenant=True, vector=XSS), RUBRIC),
        "misuse": weigh(Facts(cwe="CWE-799", verified=True, by_design=True, vector=XSS), RUBRIC),
        "stored XSS": weigh(Facts(cwe="CWE-79", verified=True, vector=XSS), RUBRIC),
    }
    assert {name: each.level for name, each in found.items()} == {
        "self-XSS": Level.INFORMATIONAL,
        "another tenant": Level.CRITICAL,
        "misuse": Level.LOW,
        "stored XSS": Level.MEDIUM,
    }
    assert [each.reasons[0].partition(":")[0] for each in found.values()] == ["CWE-79", "CWE-639", "CWE-799", "CWE-79"]
    assert all("CVSS 6.1" in each.reasons for each in found.values())
    assert [each.line for each in found.values()] == ["only oneself", "another tenant is reached", "by design", ""]


def test_what_nobody_could_reproduce_is_never_grave():
    assert weigh(Facts(cwe="CWE-89", verified=False, other_tenant=True), RUBRIC).level is Level.INFORMATIONAL
    worst = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"
    assert weigh(Facts(cwe="CWE-89", verified=False, vector=worst), RUBRIC).level is Level.LOW
    assert weigh(Facts(cwe="CWE-89", verified=True, vector=worst), RUBRIC).level is Level.CRITICAL


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        # FIRST's own examples for 3.1 and 4.0.
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
    ],
)
def test_scores_are_those_of_the_standard(vector, score):
    assert score_of(vector) == score


@pytest.mark.parametrize(
    "vector",
    ["", "CVSS:2.0/x", "CVSS:3.1/AV:N", f"{XSS}/AV:N", "CVSS:4.0/AV:N/AC:L", XSS + "/E:X" * 200, "CVSS:3.1/\x00"],
)
def test_what_is_no_vector_is_refused(vector):
    assert code(score_of, vector) == "bounty.vector.invalid"


@pytest.mark.parametrize("cwe", ["CWE-0", "79", "CWE-9999", "cwe-79", "x" * 500])
def test_a_weakness_that_nobody_knows_is_refused(cwe):
    assert code(weigh, Facts(cwe=cwe, verified=True), RUBRIC) == "bounty.cwe.unknown"


def test_the_clocks_and_what_an_extension_moves(bounty, clock):
    since = clock.now()
    report = bounty.file("acme", **TEXT, **BY)
    assert report.clock == ("triage", since + 5 * DAY)
    assert report.disclose_due == since + 90 * DAY
    clock.advance(86_400)
    high = bounty.triage("acme", report.id, Facts(cwe="CWE-79", verified=True, vector=XSS), root="", **BY)
    assert high.clock == ("disclose", since + 90 * DAY)  # a medium fix is due a day later than that
    assert high.fix_due == since + 91 * DAY
    grave = bounty.triage("acme", report.id, Facts(cwe="CWE-639", verified=True, other_tenant=True), root="", **BY)
    assert grave.clock == ("fix", since + 8 * DAY)
    assert bounty.extend("acme", report.id, 20, reason="agreed", **BY).disclose_due == since + 110 * DAY
    assert code(bounty.extend, "acme", report.id, 11, reason="agreed", **BY) == "bounty.extension.size"
    assert bounty.extend("acme", report.id, 10, reason="agreed", **BY).extended == 30 * DAY
    assert code(bounty.extend, "acme", report.id, 1, reason=" ", **BY) == "bounty.reason.missing"
    fixed = bounty.move("acme", report.id, ReportState.FIXED, **BY)
    assert fixed.clock == ("disclose", since + 120 * DAY)
    assert bounty.move("acme", report.id, ReportState.DISCLOSED, **BY).clock == ("", 0)
    assert code(bounty.extend, "acme", report.id, 1, reason="x", **BY) == "bounty.state.forbidden"
    standing = bounty.standing("acme")
    assert (standing.states, standing.triage_s, standing.fix_s) == ({"disclosed": 1}, 86_400, 86_400)


def test_a_clock_that_ran_out_is_told_once_each(bounty, clock, told):
    report = bounty.file("acme", **TEXT, **BY)
    clock.advance(5 * 86_400 + 1)
    assert (bounty.tell_overdue("acme"), bounty.tell_overdue("acme"), bounty.standing("acme").overdue) == (1, 0, 1)
    bounty.triage("acme", report.id, Facts(cwe="CWE-639", verified=True, other_tenant=True), root="", **BY)
    assert bounty.tell_overdue("acme") == 0
    clock.advance(7 * 86_400 + 1)
    assert bounty.tell_overdue("acme") == 1
    assert [each.detail["clock"] for each in told if each.action == "bounty.overdue"] == ["triage", "fix"]


def test_what_shares_a_root_cause_is_a_duplicate_of_the_first(bounty, clock):
    reports = []
    for number in range(3):
        clock.advance(1)
        reports.append(bounty.file("acme", **TEXT | {"title": f"Report {number}"}, **BY).id)
    facts = Facts(cwe="CWE-639", verified=True, other_tenant=True)
    first = bounty.triage("acme", reports[0], facts, root="Notes  by id ALONE", **BY)
    assert first.state is ReportState.TRIAGED
    for each in reports[1:]:
        twin = bounty.triage("acme", each, facts, root="notes by id alone", **BY)
        assert (twin.state, twin.original, twin.clock) == (ReportState.DUPLICATE, first.id, ("", 0))
    assert bounty.duplicates("acme", first.id) == reports[1:]
    # Found to be something else after all: it is worked on again.
    other = bounty.triage("acme", reports[2], facts, root="an index that lists all", **BY)
    assert (other.state, other.original) == (ReportState.TRIAGED, "")
    assert bounty.triage("acme", first.id, facts, root="notes by id alone", **BY).state is ReportState.TRIAGED
    assert bounty.duplicates("acme", first.id) == reports[1:2]


def test_states_go_where_they_may(bounty):
    report = bounty.file("acme", **TEXT, **BY)
    assert code(bounty.move, "acme", report.id, ReportState.FIXED, **BY) == "bounty.state.forbidden"
    assert code(bounty.move, "acme", report.id, ReportState.CLOSED, **BY) == "bounty.reason.missing"
    closed = bounty.move("acme", report.id, ReportState.CLOSED, reason="no weakness", **BY)
    assert bounty.moves(closed) == []
    facts = Facts(cwe="CWE-79", verified=True)
    assert code(bounty.triage, "acme", report.id, facts, root="", **BY) == "bounty.state.forbidden"


def test_one_that_is_sent_in_twice_comes_once_and_belongs_to_its_tenant(bounty, clock):
    once = bounty.file("acme", **TEXT, **BY, external_id="h1-7", time=clock.now() - MICROS)
    assert bounty.file("acme", **TEXT | {"title": "changed"}, **BY, external_id="h1-7") == once
    assert once.created_time == clock.now() - MICROS
    assert bounty.file("globex", **TEXT, **BY, external_id="h1-7").id != once.id
    assert [each.id for each in bounty.find("acme")] == [once.id]
    for call in (bounty.get, bounty.thread):
        assert code(call, "globex", once.id) == "bounty.report.unknown"
    assert bounty.duplicates("globex", once.id) == []


def test_the_thread_keeps_its_order_and_who_said_what(bounty):
    report = bounty.file("acme", **TEXT, **BY)
    bounty.say("acme", report.id, "We can see it.", author="ana")
    bounty.say("acme", report.id, "Thank you.", author="mira", ours=False)
    bounty.say("acme", report.id, "pay them well", author="bob", internal=True)
    thread = bounty.thread("acme", report.id)
    assert [(each.seq, each.author, each.ours, each.internal) for each in thread] == [
        (1, "ana", True, False),
        (2, "mira", False, False),
        (3, "bob", True, True),
    ]
    assert code(bounty.say, "acme", report.id, " ", author="ana") == "bounty.text.size"


@pytest.mark.parametrize("field", ["title", "text", "reporter", "asset"])
def test_a_report_that_says_nothing_is_refused(bounty, field):
    assert code(bounty.file, "acme", **TEXT | {field: " "}, **BY) == "bounty.text.size"


@pytest.mark.parametrize(
    "change", [("triage: 5d", "triage: soon"), ("low: 180d, ", ""), ("CWE-20:", "CWE-x:"), ("lines:", "rows:")]
)
def test_a_rubric_that_is_none_is_refused(tmp_path, change):
    path = tmp_path / "bounty.yaml"
    path.write_text((shipped("response") / "bounty.yaml").read_text().replace(*change))
    with pytest.raises(DefinitionError) as caught:
        load_rubric(path)
    assert caught.value.code == "bounty.rubric.invalid"
