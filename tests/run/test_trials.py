"""A bad model, a bad rule and a bad feature, shipped on purpose through the real service: each is taken back by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from decided_history import FIRST, fast_history

from vedette.core.clock import DAY
from vedette.core.db import open_database
from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import SqliteLog
from vedette.judge.decisions.control import in_control
from vedette.judge.decisions.opening import BACKFILL, store_backfill
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.decisions.tally import Guard, Limits, Tally
from vedette.judge.models import training
from vedette.judge.models.history import to_history
from vedette.judge.models.learners import Recipe
from vedette.judge.models.model import Model, load_model
from vedette.judge.models.registry import KEY, PURPOSE, Registry
from vedette.judge.payment.files import load_rules
from vedette.judge.shipments import WHOLE, Kind, Shipments, among
from vedette.prove.keys import KeyRing
from vedette.run.metrics import Meters
from vedette.run.payments import scoring
from vedette.run.payments.scoring import Desk, Scoring
from vedette.run.payments.trials import GUARD, Part, Trials, file_document, model_document
from vedette.sense.features.backfill import backfill as replay_history
from vedette.sense.features.definition import load_features, shipped
from vedette.sense.sources import load_sources

TENANT = "acme"
RULES = "block if :risk_score: >= 50\nreview if :risk_score: >= 20\n"
GOOD = "block if :risk_score: >= 50\nreview if :risk_score: >= 15\n"
BAD = "block if :risk_score: >= 50\nblock if :amount_in_usd: > 40\n"
CHUNK = 100


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path, pa.Table]:
    """A good model, one that was taught noise in which most is fraud, and the days after their training."""
    folder = tmp_path_factory.mktemp("models")
    table = fast_history()
    features = load_features(shipped("card_transactions"))
    days = to_history(table, features).days
    noise = (np.random.default_rng(1).random(len(table)) < 0.7).astype(np.int8)
    noisy = table.set_column(5, "TX_FRAUD", pa.array(noise))
    before, training.FOLDS = training.FOLDS, 2
    try:
        for name, history in (("good", table), ("bad", noisy)):
            training.train(
                history,
                features,
                start=FIRST + 15,
                days=8,
                delay_days=7,
                out=folder / name,
                recipe=Recipe(rounds=20),
            )
    finally:
        training.FOLDS = before
    early = table.filter(pa.array(days < FIRST + 30))
    store_backfill(folder, replay_history(features, early, delay=7 * DAY, until=(FIRST + 30) * DAY))
    return folder / "good", folder / "bad", table.filter(pa.array(days >= FIRST + 30)).slice(0, 2_500)


class World:
    """An installation that decides, with its shipments."""

    def __init__(
        self,
        folder: Path,
        clock,
        models,
        *,
        control: float = 0.0,
        limits: Limits | None = None,
        apart: bool = False,
    ) -> None:
        self.folder, self.clock = folder, clock
        self.good, self.bad, table = models
        (folder / "base.rules").write_text(RULES)
        self.shipments = Shipments(open_database(folder / "state.db", schema="state"), clock, Kind.SCORING)
        self.registry = Registry(folder / "models", KeyRing(folder / "keys", PURPOSE, KEY), clock)
        self.log = SqliteLog(folder / "log", clock)
        home = folder / "decisions" / TENANT
        home.mkdir(parents=True)
        shutil.copy(self.good.parent / BACKFILL, home / BACKFILL)
        model = load_model(self.good)
        self.scoring = Scoring(model, self.rules(folder / "base.rules", model), remote=self.good if apart else None)
        self.told = []
        self.trials = Trials(
            self.scoring,
            self.shipments,
            self.registry,
            self.log,
            clock,
            folder=folder / "trials",
            limits=limits or Limits(),
            control=control,
            tell=self.told.append,
        )
        self.desk = Desk(
            folder / "decisions",
            self.log,
            scoring=self.scoring,
            sources=load_sources(),
            clock=clock,
            meters=Meters(),
            trials=self.trials,
        )
        self.rows = table.to_pylist()
        self.fraud = {str(row["TRANSACTION_ID"]): bool(row["TX_FRAUD"]) for row in self.rows}
        clock.micros = int(table["TX_DATETIME"].cast(pa.int64()).to_numpy().max()) + 1_000_000

    @staticmethod
    def rules(path: Path, model: Model):
        from vedette.judge.payment.attributes import with_features

        return load_rules(path, attributes=with_features(model.features))

    def events(self) -> list[Event]:
        found = []
        for row in self.rows:
            data = {name: value for name, value in row.items() if name != "TX_FRAUD"}
            data["TX_DATETIME"] = data["TX_DATETIME"].isoformat()
            found.append(self.desk.take(TENANT, data))
        return found

    def replay(self, events: list[Event]) -> list[Decision]:
        """Decides on them through the service, group by group; what follows shipments turns in between."""
        found: list[Decision] = []
        service = self.desk.service(TENANT)
        for at in range(0, len(events), CHUNK):
            answers = service.decide_many(events[at : at + CHUNK])
            assert all(isinstance(one, Decision) for one in answers), answers
            found += answers
            self.trials.turn()
        return found

    def ship(self, part: Part, percent: int) -> None:
        if part is Part.MODEL:
            document = model_document(self.registry.add(self.bad, operator="ines"))
        elif part is Part.RULES:
            (self.folder / "bad.rules").write_text(BAD)
            document = file_document(part, self.folder / "bad.rules")
        else:
            text = load_features(shipped("card_transactions")).text
            # The path is one that no payment has: everything about amounts is missing from now on.
            (self.folder / "features.yaml").write_text(text.replace("path: TX_AMOUNT", "path: TX_AMOUNT_USD"))
            document = file_document(part, self.folder / "features.yaml")
        self.shipments.ship(document, percent=percent, operator="ines")

    def close(self) -> None:
        assert self.desk.relist() == 0
        self.desk.close()
        self.log.close()


@pytest.fixture
def world(tmp_path, clock, models):
    made: list[World] = []

    def make(**options) -> World:
        made.append(World(tmp_path / str(len(made)), clock, models, **options))
        return made[-1]

    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    yield make
    for one in made:
        one.close()


GUARDS = {Part.MODEL: Guard.DECLINES, Part.RULES: Guard.DECLINES, Part.FEATURES: Guard.DRIFT}


@pytest.mark.parametrize(("part", "percent"), [(Part.MODEL, 20), (Part.RULES, WHOLE), (Part.FEATURES, 20)])
def test_what_is_bad_is_taken_back_by_itself_and_its_harm_is_told(world, part, percent):
    here, alone = world(), world()
    expected = alone.replay(alone.events())
    events = here.events()
    found = here.replay(events[:500])
    here.ship(part, percent)
    here.trials.turn()
    found += here.replay(events[500:])
    (ended,) = here.trials.ended()
    assert (ended.part, ended.breach.guard, ended.percent) == (part, GUARDS[part], percent)
    assert here.told == [ended]
    # Nobody asked for it, and it stands so.
    change = here.shipments.history(part)[0]
    assert (change.action, change.operator) == ("rollback", GUARD)
    assert here.trials.harm(TENANT) is None
    # Who was hurt is exactly who got another answer than the live version gives.
    differ = [one for one, other in zip(found, expected, strict=True) if one.action != other.action]
    stopped = {Action.BLOCK, Action.CHALLENGE}
    hurt = [
        one for one, other in zip(found, expected, strict=True) if one.action in stopped and other.action not in stopped
    ]
    missed = [
        one for one, other in zip(found, expected, strict=True) if one.action not in stopped and other.action in stopped
    ]
    assert (ended.harm.hurt, ended.harm.missed) == (len(hurt), len(missed))
    assert sum(ended.harm.hurt_minor.values()) == sum(round(one.event["TX_AMOUNT"] * 100) for one in hurt)
    # Bounded: the guard-rail speaks after `fewest` payments of the trial, or one look at drift; nothing after it differs.
    last = max((found.index(one) for one in differ), default=500)
    assert last < 500 + (500 if part is Part.FEATURES else 200)
    assert len(hurt) <= (last - 500 + 1) * (1.0 if percent == WHOLE else 0.45)
    if part is not Part.FEATURES:
        assert hurt
    assert [one.action for one in found[last + 1 :]] == [one.action for one in expected[last + 1 :]]


def test_without_the_guard_the_harm_goes_on(world):
    here = world(limits=Limits(declines=1.0, misses=1.0, drift=False, latency_us=10**9, failures=10**9))
    events = here.events()
    here.replay(events[:100])
    here.ship(Part.RULES, WHOLE)
    here.trials.turn()
    found = here.replay(events[100:1_000])
    assert here.trials.ended() == []
    assert sum(one.action is Action.BLOCK for one in found) > 500


def test_shadow_hurts_nobody_and_is_taken_back_too(world):
    here, alone = world(), world()
    expected = alone.replay(alone.events()[:900])
    events = here.events()[:900]
    here.desk.service(TENANT)
    here.ship(Part.MODEL, 0)
    here.trials.turn()
    found = here.replay(events)
    assert [one.action for one in found] == [one.action for one in expected]
    (ended,) = here.trials.ended()
    assert (ended.harm.answered, ended.harm.hurt, ended.harm.missed) == (0, 0, 0)
    assert ended.breach.guard is Guard.DECLINES


def test_a_good_change_goes_through_its_stages_and_stays(world, clock):
    here = world()
    events = here.events()
    (here.folder / "good.rules").write_text(GOOD)
    document = file_document(Part.RULES, here.folder / "good.rules")
    versions = set()
    start = 0
    for percent in (0, 30, WHOLE):
        here.shipments.ship(document, percent=percent, operator="ines")
        here.desk.service(TENANT)
        here.trials.turn()
        found = here.replay(events[start : start + 300])
        start += 300
        shares = {one.rules_version for one in found}
        assert len(shares) == (2 if percent == 30 else 1)
        if percent == 30:
            # The same customer always meets the same version.
            met: dict[str, set[str]] = {}
            for event, one in zip(events[start - 300 : start], found, strict=True):
                met.setdefault(event.entities[0].key, set()).add(one.rules_version)
            assert all(len(each) == 1 for each in met.values())
            assert all(
                (one.rules_version != here.scoring.rules.version) == among("rules", event.entities[0].key, 30)
                for event, one in zip(events[start - 300 : start], found, strict=True)
            )
        versions |= shares
        # Whatever version answered, it can be found again and gives the same decision to the bit.
        for one in found[:40]:
            assert rebuild(one, model=here.desk.scorer_of(one), rules=here.desk.rules_of(one)) == one
    assert here.trials.ended() == []
    clock.advance(2 * 86_400)
    here.trials.turn()
    assert here.trials.harm(TENANT) is None
    (after,) = {one.rules_version for one in here.replay(events[start : start + 100])}
    assert after != here.scoring.rules.version
    assert len(versions) == 2


def test_what_cannot_be_built_never_decides(world):
    here = world()
    here.desk.service(TENANT)
    entry = here.registry.add(here.bad, operator="ines")
    (here.registry.folder_of(entry) / "model.npz").write_bytes(b"not what was signed")
    here.shipments.ship(model_document(entry), percent=WHOLE, operator="ines")
    here.trials.turn()
    (ended,) = here.trials.ended()
    assert ended.breach.guard is Guard.FAILURES
    assert {one.model.sha256 for one in here.replay(here.events()[:100])} == {here.scoring.model.sha256}


def answering() -> list[int]:
    """Processes of this one that answer for a model."""
    told = (task / "children" for task in Path("/proc/self/task").iterdir())
    children = [child for each in told for child in each.read_text().split()]
    return [int(each) for each in children if b"decisions.remote" in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_shipped_models_answer_from_a_process_of_their_own(world, monkeypatch):
    monkeypatch.setattr(scoring, "MODEL_S", 10.0)
    limits = Limits(declines=1.0, misses=1.0, drift=False, latency_us=10**9, failures=10**9)
    apart, inside = world(apart=True, limits=limits), world(limits=limits)
    events, found = apart.events()[:300], []
    for each in (apart, inside):
        each.desk.service(TENANT)
        each.ship(Part.MODEL, WHOLE)
        each.trials.turn()
        found.append([(one.action, one.score, one.model.sha256) for one in each.replay(events[:200])])
    assert found[0] == found[1]
    assert {sha256 for *_, sha256 in found[0]} != {apart.scoring.model.sha256}
    # What is live and what it is compared with; the one of `inside` is in this process.
    assert len(answering()) == 2
    apart.shipments.rollback(Part.MODEL, operator="ines", note="enough")
    apart.trials.turn()
    assert {one.model.sha256 for one in apart.replay(events[200:])} == {apart.scoring.model.sha256}
    apart.shipments.ship(file_document(Part.RULES, apart.folder / "base.rules"), percent=WHOLE, operator="ines")
    apart.trials.turn()
    assert len(answering()) == 1
    apart.desk.close()
    assert answering() == []


def test_only_one_version_of_a_part_goes_live_twice(world):
    here = world()
    entry = here.registry.add(here.bad, operator="ines")
    here.shipments.ship(model_document(entry), percent=WHOLE, operator="ines")
    with pytest.raises(ConflictError) as refused:
        here.shipments.ship(model_document(entry), percent=10, operator="ines")
    assert refused.value.code == "model.ship.live"


def test_labels_say_later_whom_a_trial_hurt(world):
    here = world(limits=Limits(fewest=10_000))
    events = here.events()
    here.desk.service(TENANT)
    here.ship(Part.MODEL, WHOLE)
    here.trials.turn()
    found = here.replay(events[:300])
    recorder = here.desk._open[TENANT, ""][0].recorder
    recorder.learn(
        [
            Label(event_id=one.event_id, tenant=TENANT, fraud=here.fraud[one.event_id], observed_time=here.clock.now())
            for one in found
        ]
    )
    harm = here.trials.harm(TENANT)
    assert harm is not None
    assert 0 < harm.genuine <= harm.hurt
    assert harm.fraud <= harm.missed


def test_the_control_group_is_stable_recorded_and_rebuilt(world):
    here, alone = world(control=0.1), world()
    assert {one.propensity for one in alone.replay(alone.events()[:1_500])} == {1.0}
    found = here.replay(here.events()[:1_500])
    asked = [one for one in found if one.propensity < 1]
    let = [one for one in asked if one.action is Action.ALLOW]
    assert {one.propensity for one in asked} == {0.1}
    assert all(one.action is Action.BLOCK for one in asked if one not in let)
    assert all("control.released" in [reason.code for reason in one.reasons] for one in let)
    model = here.scoring.model
    for one in [*let, *asked[:20], *found[:20]]:
        assert rebuild(one, model=model, rules=here.scoring.rules) == one


def test_the_control_group_has_its_share():
    events = [
        Event(id=str(at), tenant="t", source="s", event_time=at, ingest_time=at, seq=at, data={})
        for at in range(20_000)
    ]
    assert np.mean([in_control(event, 0.05) for event in events]) == pytest.approx(0.05, abs=0.006)


def decided(action: Action, latency: int = 100) -> Decision:
    return Decision(
        event_id="e", tenant="t", action=action, score=0.5, risk_score=50, latency_us=latency, source="s", event={}
    )


def test_each_guard_rail_speaks_and_chance_does_not():
    limits = Limits()
    slow = Tally(limits)
    for _ in range(200):
        slow.add(decided(Action.ALLOW), decided(Action.ALLOW, 20_000), answered=True)
    assert slow.breach().guard is Guard.LATENCY
    late = Tally(limits)
    for _ in range(200):
        late.add(decided(Action.ALLOW, 20_000), decided(Action.ALLOW, 20_000), answered=True)
    assert late.breach() is None
    lax = Tally(limits)
    for at in range(2_000):
        lax.add(decided(Action.BLOCK if at % 20 == 0 else Action.ALLOW), decided(Action.ALLOW), answered=True)
    assert lax.breach().guard is Guard.MISSES
    failing = Tally(limits)
    for _ in range(3):
        failing.fail()
    assert failing.breach().guard is Guard.FAILURES
    alarms = 0
    for seed in range(60):
        rng, tally = np.random.default_rng(seed), Tally(limits)
        stops = rng.random(1_000) < 0.05
        flips = rng.random(1_000) < np.where(stops, 0.2, 0.01)
        for one, other in zip(stops, stops ^ flips, strict=True):
            actions = [Action.BLOCK if stop else Action.ALLOW for stop in (one, other)]
            tally.add(decided(actions[0]), decided(actions[1]), answered=True)
            alarms += tally.breach() is not None
    assert alarms == 0


def test_the_share_of_a_part_is_the_share_of_its_customers():
    assert np.mean([among("model", f"customer:{at}", 20) for at in range(5_000)]) == pytest.approx(0.2, abs=0.02)
