"""Phases as a machine, roles and privileged notes, tasks with deadlines, hypotheses, notices, the review."""

from __future__ import annotations

import random
from itertools import product

import msgspec
import pytest

from vedette.act.cases import CaseRole, Cases, CaseState, Circle, Clocks, Custody, Phase, Preservation, Reviews, Work
from vedette.act.cases.clocks import ClockState, load_notices
from vedette.act.cases.file import CaseFile, pace
from vedette.act.cases.nouns import Belief, CaseFilter, Stance
from vedette.act.cases.phases import next_phases
from vedette.act.cases.reports import Kind, make_report, to_html, to_markdown
from vedette.act.cases.review import Change, Part
from vedette.act.timeline import Noted, PreservationWaived, TaskReminded, Withheld
from vedette.core.content import shipped
from vedette.core.errors import ConflictError, DataError, DefinitionError, DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.core.signal import Level

HOUR = 3_600


class Desk:
    """Every part of the cases over one database."""

    def __init__(self, database, clock):
        ids = Ids(clock, random.Random(7).getrandbits)
        self.kept = {}
        self.clock = clock
        self.cases, self.work, self.circle = (part(database, clock, ids) for part in (Cases, Work, Circle))
        self.reviews, self.preservation = Reviews(database, clock, ids), Preservation(database, clock, ids)
        self.clocks = Clocks(database, clock, ids, load_notices(shipped("notifications")))
        self.custody = Custody(database, clock, ids, self.keep)
        self.id = self.cases.open("acme", "A key is loose", operator="ana", level=Level.HIGH).id

    def keep(self, name, tenant, kind, time, content):
        assert self.kept.setdefault(name, content) == content
        return name

    def bodies(self, reader=""):
        return [entry.body for entry in self.cases.timeline("acme", self.id, reader=reader)]

    def file(self, reader=""):
        return CaseFile(
            case=self.cases.get("acme", self.id),
            now=self.clock.now(),
            entries=tuple(self.cases.timeline("acme", self.id, reader=reader)),
            tasks=tuple(self.work.tasks("acme", self.id)),
            hypotheses=tuple(self.work.hypotheses("acme", self.id)),
            clocks=tuple(self.clocks.find("acme", self.id)),
            links=tuple(self.custody.links("acme", self.id)),
            review=self.reviews.get("acme", self.id),
            phases=self.cases.phases("acme", self.id),
        )


@pytest.fixture
def desk(database, clock):
    return Desk(database, clock)


def test_every_move_between_phases_is_allowed_or_refused_by_one_table(desk):
    """Each pair of phases, reached by allowed moves: what the table does not name is refused and changes nothing."""
    ways = {Phase.ANALYSIS: ()}
    while len(ways) < 5:
        ways |= {to: (*way, to) for at, way in list(ways.items()) for to in next_phases(at) if to not in ways}
    for start, target in product(ways, Phase):
        case = desk.cases.open("acme", f"{start} {target}", operator="ana", level=Level.LOW).id
        for step in ways[start]:
            desk.cases.set_phase("acme", case, step, operator="ana")
        if target is start or target in next_phases(start):
            assert desk.cases.set_phase("acme", case, target, operator="ana").phase is target
            continue
        with pytest.raises(ConflictError) as caught:
            desk.cases.set_phase("acme", case, target, operator="ana")
        assert caught.value.code == "cases.phase.forbidden"
        assert desk.cases.get("acme", case).phase is start
    assert Phase.RECOVERY not in next_phases(Phase.ANALYSIS)
    assert Phase.AFTER not in next_phases(Phase.CONTAINMENT)


def test_time_in_each_phase_adds_up(desk, clock):
    desk.clock.advance(60)
    for phase, seconds in ((Phase.CONTAINMENT, 30), (Phase.ANALYSIS, 10), (Phase.CONTAINMENT, 5)):
        desk.cases.set_phase("acme", desk.id, phase, operator="ana")
        clock.advance(seconds)
    spent = {phase: micros // 1_000_000 for phase, micros in desk.cases.phases("acme", desk.id).items()}
    assert spent == {Phase.ANALYSIS: 70, Phase.CONTAINMENT: 35}
    assert all(phase.functions for phase in Phase)


def test_an_incident_is_closed_by_its_review_alone(desk):
    tenant, case = "acme", desk.id
    for phase in (Phase.CONTAINMENT, Phase.ERADICATION, Phase.RECOVERY):
        desk.cases.set_phase(tenant, case, phase, operator="ana")
    desk.cases.set_state(tenant, case, CaseState.RESOLVED, operator="ana")

    def refused():
        with pytest.raises(ConflictError) as caught:
            desk.cases.set_state(tenant, case, CaseState.CLOSED, operator="ana")
        return caught.value.code, caught.value.hint

    assert refused()[0] == "cases.review.phase"
    desk.cases.set_phase(tenant, case, Phase.AFTER, operator="ana")
    for number, part in enumerate(Part):
        assert refused() == (
            "cases.review.missing",
            f"missing: {', '.join([*list(Part)[number:], 'a structural change, or a reason for none'])}",
        )
        desk.reviews.write(tenant, case, part, f"what was {part}", operator="ana")
    assert refused()[1] == "missing: a structural change, or a reason for none"
    for what, reference in ((Change.NONE, "no need"), (Change.DETECTION, "a rule, some day"), (Change.TEST, "")):
        with pytest.raises(DataError):
            desk.reviews.change(tenant, case, what, reference, operator="ana")
    desk.reviews.change(tenant, case, Change.DETECTION, "secret_read_from_new_place", operator="ana")
    closed = desk.cases.set_state(tenant, case, CaseState.CLOSED, operator="ana")
    assert closed.state is CaseState.CLOSED
    with pytest.raises(ConflictError):
        desk.cases.set_phase(tenant, case, Phase.ANALYSIS, operator="ana")


def test_what_was_no_incident_needs_no_review(desk):
    desk.cases.set_state("acme", desk.id, CaseState.RESOLVED, operator="ana")
    assert desk.cases.set_state("acme", desk.id, CaseState.CLOSED, operator="ana").state is CaseState.CLOSED


SECRET = "counsel says zebra"


def test_privileged_notes_are_hidden_everywhere(desk):
    with pytest.raises(DeniedError) as caught:
        desk.cases.note("acme", desk.id, SECRET, operator="ana", privileged=True)
    assert caught.value.code == "cases.note.privileged"
    desk.circle.give("acme", desk.id, "lea", CaseRole.LEGAL, operator="ana")
    desk.circle.give("acme", desk.id, "ana", CaseRole.ANALYST, operator="ana")
    desk.cases.note("acme", desk.id, SECRET, operator="lea", privileged=True)
    desk.cases.note("acme", desk.id, "for all: yak", operator="lea")
    assert Noted(SECRET, privileged=True) in desk.bodies("lea")
    for reader in ("ana", "", "cid"):
        assert SECRET not in str(desk.bodies(reader))
        assert Withheld() in desk.bodies(reader)
        for kind in Kind:
            report = make_report(desk.file(reader), kind)
            assert SECRET not in to_markdown(report) + to_html(report)
        assert desk.cases.page("acme", CaseFilter(text="zebra"), reader=reader).cases == []
        assert desk.cases.counts("acme", CaseFilter(text="zebra"), reader=reader)["state"] == {}
        assert len(desk.cases.page("acme", CaseFilter(text="yak"), reader=reader).cases) == 1
    assert len(desk.cases.page("acme", CaseFilter(text="zebra"), reader="lea").cases) == 1
    assert SECRET in to_markdown(make_report(desk.file("lea"), Kind.TECHNICAL))


def test_nobody_lets_themselves_in(desk):
    desk.circle.give("acme", desk.id, "lea", CaseRole.LEGAL, operator="ana")
    for role in (CaseRole.LEGAL, CaseRole.COMMANDER):
        with pytest.raises(DeniedError):
            desk.circle.give("acme", desk.id, "eve", role, operator="eve")
    with pytest.raises(DeniedError):
        desk.circle.take("acme", desk.id, "lea", CaseRole.LEGAL, operator="eve")
    with pytest.raises(DeniedError) as caught:
        desk.circle.take("acme", desk.id, "lea", CaseRole.LEGAL, operator="lea")
    assert caught.value.code == "cases.role.last"
    desk.circle.give("acme", desk.id, "cat", CaseRole.COMMANDER, operator="lea")
    desk.circle.take("acme", desk.id, "lea", CaseRole.LEGAL, operator="cat")
    assert not desk.circle.holds("acme", desk.id, "lea", *CaseRole)


def test_tasks_have_owners_deadlines_and_two_reminders(desk, clock):
    due = clock.now() + 2 * HOUR * 1_000_000
    task = desk.work.add_task("acme", desk.id, "call them", operator="ana", owner="bob", due=due)
    with pytest.raises(DataError):
        desk.work.add_task("acme", desk.id, "too late", operator="ana", due=clock.now())
    assert desk.work.remind() == 0
    clock.advance(HOUR + 1)
    assert (desk.work.remind(), desk.work.remind()) == (1, 0)
    clock.advance(HOUR)
    assert (desk.work.remind(), desk.work.remind()) == (1, 0)
    told = [body for body in desk.bodies() if isinstance(body, TaskReminded)]
    assert told == [TaskReminded(task.id, "call them", "bob", late) for late in (False, True)]
    assert desk.work.tasks("acme", desk.id)[0].overdue(clock.now())
    assert "OVERDUE" in to_markdown(make_report(desk.file(), Kind.HANDOVER))
    desk.work.finish_task("acme", desk.id, task.id, operator="bob")
    assert desk.work.remind() == 0


def test_a_hypothesis_is_weighed_and_its_cause_is_an_event(desk):
    found = desk.work.suppose("acme", desk.id, "taken from a build log", operator="ana")
    for root in ("", "ev-1"):
        with pytest.raises(DataError):
            desk.work.settle("acme", desk.id, found.id, Belief.CONFIRMED, operator="ana", root=root)
    for speaks, confidence in ((Stance.AGAINST, 30), (Stance.FOR, 90)):
        desk.work.weigh(
            "acme", desk.id, found.id, speaks=speaks, reference="ev-1", confidence=confidence, operator="ana"
        )
    with pytest.raises(DataError):
        desk.work.weigh("acme", desk.id, found.id, speaks=Stance.FOR, reference="ev-2", confidence=101, operator="ana")
    with pytest.raises(DataError):
        desk.work.settle("acme", desk.id, found.id, Belief.CONFIRMED, operator="ana")
    done = desk.work.settle("acme", desk.id, found.id, Belief.CONFIRMED, operator="ana", root="ev-1")
    assert (done.confidence, done.root, len(done.weights)) == (90, "ev-1", 2)
    with pytest.raises(ConflictError):
        desk.work.settle("acme", desk.id, found.id, Belief.REFUTED, operator="ana")
    assert "Found to be so: taken from a build log" in to_markdown(make_report(desk.file(), Kind.BRIEF))


def test_a_notice_runs_from_awareness_and_leaves_by_its_gate(desk, clock):
    aware = clock.now() - 10 * HOUR * 1_000_000
    clock_of = desk.clocks.start("acme", desk.id, "gdpr_33", operator="ana", aware=aware)
    assert clock_of.due == aware + 72 * HOUR * 1_000_000
    assert desk.clocks.start("acme", desk.id, "gdpr_33", operator="bob") == clock_of
    with pytest.raises(DataError):
        desk.clocks.start("acme", desk.id, "nis2_early", operator="ana", aware=clock.now() + 1)
    with pytest.raises(NotFoundError):
        desk.clocks.start("acme", desk.id, "no_such", operator="ana")
    with pytest.raises(ConflictError):
        desk.clocks.send("acme", desk.id, "gdpr_33", reference="R-1", operator="ana")
    drafted = desk.clocks.draft("acme", desk.id, "gdpr_33", {"what": "a key was taken"}, operator="ana")
    assert "a key was taken" in drafted.text
    assert "[entities]" in drafted.text
    for person in ("ana", "eve"):
        with pytest.raises(DeniedError) as caught:
            desk.clocks.approve("acme", desk.id, "gdpr_33", operator=person)
        assert caught.value.code == "cases.clock.approval"
    desk.circle.give("acme", desk.id, "lea", CaseRole.LEGAL, operator="ana")
    approved = desk.clocks.approve("acme", desk.id, "gdpr_33", operator="lea", text="final words")
    assert (approved.text, approved.approved_by) == ("final words", "lea")
    with pytest.raises(ConflictError):
        desk.clocks.draft("acme", desk.id, "gdpr_33", {}, operator="ana")
    clock.advance(39 * HOUR)
    assert (desk.clocks.warn(), desk.clocks.warn()) == (1, 0)
    clock.advance(24 * HOUR)
    assert (desk.clocks.warn(), desk.clocks.warn()) == (1, 0)
    assert desk.clocks.find("acme", desk.id)[0].overdue(clock.now())
    sent = desk.clocks.send("acme", desk.id, "gdpr_33", reference="R-1", operator="ana")
    assert (sent.state, sent.late, sent.overdue(clock.now())) == (ClockState.SENT, True, False)


def test_shipped_notices_are_whole_and_bad_ones_are_refused(tmp_path):
    notices = load_notices(shipped("notifications"))
    assert len(notices) >= 8
    good = (shipped("notifications") / "gdpr_33.yaml").read_text()
    for change in (
        ("deadline: 72h", "deadline: soon"),
        ("warn: 24h", "warn: 80h"),
        ("id: gdpr_33", "id: other"),
        ("${recipient}", "${whoever}"),
        ("approval: legal", "approval: nobody"),
        ("law:", "lore:"),
    ):
        (tmp_path / "gdpr_33.yaml").write_text(good.replace(*change))
        with pytest.raises(DefinitionError) as caught:
            load_notices(tmp_path)
        assert caught.value.code.startswith("notices."), change


def test_containment_waits_for_evidence_or_for_a_name(desk):
    with pytest.raises(ConflictError) as caught:
        desk.preservation.require("acme", desk.id, "revoke_key")
    assert caught.value.code == "containment.evidence.missing"
    with pytest.raises(DataError):
        desk.preservation.waive("acme", desk.id, operator="ana", reason="hurry")
    reason = "money leaves with every minute that we wait"
    desk.preservation.waive("acme", desk.id, operator="ana", reason=reason, action="freeze_payouts")
    desk.preservation.require("acme", desk.id, "freeze_payouts")
    with pytest.raises(ConflictError):
        desk.preservation.require("acme", desk.id, "revoke_key")
    assert PreservationWaived("freeze_payouts", reason) in desk.bodies()
    desk.custody.collect("acme", desk.id, name="memory.img", content=b"...", how="by hand", operator="ana")
    desk.preservation.require("acme", desk.id, "revoke_key")


def test_reports_escape_what_others_wrote(desk):
    hostile = "<script>alert(1)</script> | `x` [a](b)\x1b[2J"
    desk.cases.note("acme", desk.id, hostile, operator="ana")
    report = make_report(desk.file(), Kind.TECHNICAL)
    assert "<script>" not in to_html(report)
    assert "<script>" not in to_markdown(report)
    assert "\x1b" not in to_html(report) + to_markdown(report)


def test_pace_is_computed_from_what_happened(desk, clock):
    from act_world import make_signal

    from vedette.act.grouping import DEFAULT, to_alert

    signal = make_signal(event_time=clock.now() - 60_000_000)
    alert = to_alert(signal, DEFAULT, clock.now())
    assert pace([], desk.file().entries).detect_s is None
    clock.advance(120)
    desk.cases.set_owner("acme", desk.id, "ana", operator="ana")
    clock.advance(60)
    desk.cases.set_phase("acme", desk.id, Phase.CONTAINMENT, operator="run_1")
    clock.advance(60)
    desk.cases.set_phase("acme", desk.id, Phase.RECOVERY, operator="ana")
    found = pace([alert], desk.file().entries)
    assert msgspec.structs.astuple(found) == (60.0, 120.0, 240.0)


def test_parts_are_walled(desk):
    calls = [
        desk.work.tasks,
        desk.work.hypotheses,
        desk.work.observables,
        desk.circle.members,
        desk.clocks.find,
        desk.custody.links,
        desk.reviews.get,
        desk.cases.phases,
        lambda t, c: desk.work.suppose(t, c, "x", operator="eve"),
        lambda t, c: desk.work.observe(t, c, "ip", "x", operator="eve"),
        lambda t, c: desk.circle.give(t, c, "eve", CaseRole.LEGAL, operator="eve"),
        lambda t, c: desk.clocks.start(t, c, "gdpr_33", operator="eve"),
        lambda t, c: desk.custody.collect(t, c, name="x", content=b"x", how="x", operator="eve"),
        lambda t, c: desk.custody.export(t, c, to="x", operator="eve"),
        lambda t, c: desk.preservation.require(t, c, "x"),
        lambda t, c: desk.preservation.waive(t, c, operator="eve", reason="x" * 30),
        lambda t, c: desk.reviews.write(t, c, Part.FOUND, "x", operator="eve"),
        lambda t, c: desk.reviews.change(t, c, Change.TEST, "abc", operator="eve"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call("other", desk.id)
        assert caught.value.code == "cases.case.unknown"
    assert not desk.kept
