"""The rollout of what decides on payments: models, rules and features, in shadow, for a share, for all, and back.

What was shipped stands in `Shipments`; here it becomes deciders. A part that is on trial decides beside the live one on
every payment. A part that has just gone live is watched for a day: what was live before decides beside it. In both
cases a broken guard-rail ends it at once, by itself: the change is taken back, what it did is written down, and people
are told.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from vedette.core.clock import DAY, Clock
from vedette.core.errors import ConflictError, DefinitionError, NotFoundError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Log
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.decider import Decider
from vedette.judge.decisions.opening import Books
from vedette.judge.decisions.parts import Features, Scorer
from vedette.judge.decisions.recorder import EVENTS, LABEL_SOURCE, REPLAY_RECORDS
from vedette.judge.decisions.remote import Remotes
from vedette.judge.decisions.tally import Breach, Guard, Harm, Limits, Tally
from vedette.judge.decisions.trial import Beside, Engines
from vedette.judge.models.model import Model
from vedette.judge.models.registry import Entry, Registry
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_rules
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.shipments import BASE, WHOLE, Document, Shipments, Shipped, Standing
from vedette.run.payments.scoring import CARDS, CHARGES, Relist, Scoring
from vedette.run.payments.shipped import set_for, shipped_sets
from vedette.sense.features.definition import FeatureSet, parse_features
from vedette.sense.features.engine import Engine

PROBATION = DAY
"""How long a part that went live is compared with what it replaced, microseconds."""
GUARD = "guard-rail"
"""Operator of a rollback that nobody asked for."""
MAX_REPORTS = 1_000
MOST_CONTROL = 0.1
"""Largest share of a control group: more would be giving money away."""


class Part(StrEnum):
    """What can be shipped by itself."""

    MODEL = "model"
    RULES = "rules"
    FEATURES = "features"


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A trial that was taken back by itself."""

    part: Part
    title: str
    version: str
    seq: int
    """The change that was taken back."""
    percent: int
    time: int
    """When, microseconds UTC."""
    tenant: str
    breach: Breach
    harm: Harm


def model_document(entry: Entry) -> Document:
    """What is shipped of a registered model: its entry; the arrays stay in the registry, under the hash it names."""
    content = msgspec.json.encode(entry, order="deterministic")
    return Document(ids=(Part.MODEL,), title=entry.id, files=(Shipped("entry.json", content),))


def file_document(part: Part, path: Path) -> Document:
    """What is shipped of a rules file or of feature definitions: the file.

    Raises:
        DefinitionError: `model.ship.unreadable`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DefinitionError("model.ship.unreadable", f"cannot read `{path}`") from error
    return Document(ids=(part,), title=path.name, files=(Shipped(path.name, content),))


class Versions:
    """Turns what was shipped into what decides.

    Args:
        base: What decides where nothing was shipped.
        shipments: Of scoring.
        registry: Holds the models.
        folder: Where rules are written to be read.
    """

    def __init__(self, base: Scoring, shipments: Shipments, registry: Registry, folder: Path) -> None:
        self._base = base
        self._shipments = shipments
        self._registry = registry
        self._folder = folder

    def build(self, versions: Mapping[Part, str]) -> tuple[Scoring, FeatureSet | None]:
        """The parts of some versions, checked against each other.

        Raises:
            VedetteError: What loading one of them refuses; `model.ship.features` when the features lack what the model
                reads.
        """
        model, rules, remote = self._base.model, self._base.rules, self._base.remote
        if version := versions.get(Part.MODEL):
            entry = msgspec.json.decode(self._content(version), type=Entry)
            model = self._registry.load(entry.sha256)
            remote = self._registry.folder_of(entry) if remote else None
        features = model.feature_set if model else None
        if version := versions.get(Part.FEATURES):
            features = parse_features(self._content(version).decode())
            missing = sorted(set(model.features) - set(features.names)) if model else []
            if missing:
                hint = "ship a model that was trained with these features"
                raise ConflictError("model.ship.features", f"the model reads `{missing[0]}`, which is gone", hint=hint)
        if version := versions.get(Part.RULES):
            rules = self._rules(version, model, features)
        if features is None:
            # Without a model the features are those that the rules read, as when the platform opens.
            features = set_for([rules], CHARGES)
        return dataclasses.replace(self._base, model=model, rules=rules, remote=remote), features

    def rules(self) -> list[PaymentRules]:
        """Every set of rules that was ever shipped and can still be read, newest first."""
        changes = self._shipments.history(Part.RULES)
        versions = dict.fromkeys(version for one in changes for version in one.versions)
        found = []
        for version in versions:
            with suppress(VedetteError):
                found.append(self.build({Part.RULES: version})[0].rules)
        return found

    def model(self, sha256: str) -> Model | None:
        """A registered model by its hash, else what the installation began with."""
        own = self._base.model
        if own and own.sha256 == sha256:
            return own
        with suppress(NotFoundError):
            return self._registry.load(sha256)
        return own

    def title(self, version: str) -> str:
        """What a version is called."""
        return self._shipments.document(version).title if version else "what the installation began with"

    def _content(self, version: str) -> bytes:
        return self._shipments.document(version).files[0].content

    def _rules(self, version: str, model: Model | None, features: FeatureSet | None) -> PaymentRules:
        shipped = self._shipments.document(version).files[0]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{version[:16]}-{Path(shipped.path).name}"
        path.write_bytes(shipped.content)
        fields = binding_of(model.source if model else CARDS).spelled()
        sets = [features] if features else shipped_sets(CHARGES)
        attributes = with_features(name for each in sets for name in each.names)
        return load_rules(path, attributes=attributes, fields=fields)


class Trials:
    """The trials of an installation: one part at a time, for all its tenants.

    Args:
        base: What decides where nothing was shipped.
        shipments: Of scoring.
        registry: Holds the models.
        log: Of events; a new version of the features catches up from it.
        clock: For probations and reports.
        folder: Where reports of ended trials are kept.
        limits: Guard-rails.
        control: Share of what the score would block that is let through all the same, 0..`MOST_CONTROL`.
        tell: Called with each trial that was taken back.
    """

    def __init__(
        self,
        base: Scoring,
        shipments: Shipments,
        registry: Registry,
        log: Log,
        clock: Clock,
        *,
        folder: Path,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        control: float = 0.0,
        tell: Callable[[Ended], None] = lambda _ended: None,
    ) -> None:
        self._versions = Versions(base, shipments, registry, folder / "rules")
        self._shipments = shipments
        self._log = log
        self._clock = clock
        self._folder = folder
        self._limits = limits
        self._control = max(0.0, min(control, MOST_CONTROL))
        self._tell = tell
        self._seen = -1
        self._watched: Standing | None = None
        self._tenants: dict[str, _Tenant] = {}
        self._broken: queue.SimpleQueue[tuple[str, Breach]] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def attach(
        self, tenant: str, books: Books, features: FeatureSet | None, lists: Relist, remotes: Remotes | None = None
    ) -> None:
        """Takes a tenant's recorder over, before it decides on anything."""
        with self._lock:
            held = _Tenant(tenant, books, features, log=self._log, control=self._control, lists=lists, remotes=remotes)
            self._tenants[tenant] = held
            self._put(held)

    def refresh(self, tenant: str) -> bool:
        """Lets a tenant's deciders ask with the lists as they are now; whether their rules changed."""
        with self._lock:
            return self._tenants[tenant].relist()

    def rules(self) -> list[PaymentRules]:
        """Every set of rules that was ever shipped, newest first."""
        return self._versions.rules()

    def model(self, sha256: str) -> Model | None:
        """A model by the hash of its arrays; what the installation began with when there is no such model."""
        return self._versions.model(sha256)

    def turn(self) -> int:
        """Ends trials that broke a guard-rail, and takes over what was shipped; gives how many trials were ended."""
        with self._lock:
            ended = 0
            for held in self._tenants.values():
                held.look()
            while not self._broken.empty():
                tenant, breach = self._broken.get()
                ended += self._end(tenant, breach)
            watched = self._watched
            over = watched is not None and watched.stage == "live" and self._past(watched)
            if over or self._shipments.newest() != self._seen:
                for held in self._tenants.values():
                    self._put(held)
            return ended

    def harm(self, tenant: str) -> Harm | None:
        """What the trial that runs did so far; None without one."""
        held = self._tenants.get(tenant)
        return held.beside.tally.harm() if held and held.beside else None

    def ended(self) -> list[Ended]:
        """Trials that were taken back by themselves, newest first."""
        return reports(self._folder)

    def _put(self, held: _Tenant) -> None:
        """Gives a tenant what is live and what is on trial now."""
        self._seen = self._shipments.newest()
        standings = self._shipments.standings()
        live, tried, watched = _sides(standings, self._shipments.history, self._past)
        self._watched = watched
        try:
            built = [self._versions.build(side) for side in (live, tried or live)]
            decider, other = held.deciders(*built)
        except VedetteError as error:
            # What cannot be built never decides: the last good version goes on, and the change is taken back.
            if watched is not None:
                self._close(held.name, watched, _unbuilt(error), NO_HARM)
                self._put(held)
                return
            raise
        if watched is None or tried is None:
            held.use(decider, None)
            return
        scoring = built[1][0]
        profile = scoring.model.profile if scoring.model else None
        names = scoring.model.features if scoring.model else ()
        beside = Beside(
            other,
            unit=watched.unit,
            percent=watched.percent if watched.trial else WHOLE,
            tally=Tally(self._limits, profile, names),
            broken=lambda breach: self._broken.put((held.name, breach)),
        )
        held.use(decider, beside)

    def _past(self, standing: Standing) -> bool:
        return self._clock.now() - standing.time >= PROBATION

    def _end(self, tenant: str, breach: Breach) -> bool:
        watched, held = self._watched, self._tenants[tenant]
        if watched is None or held.beside is None or held.beside.breach is not breach:
            return False
        self._close(tenant, watched, breach, held.beside.tally.harm())
        return True

    def _close(self, tenant: str, watched: Standing, breach: Breach, harm: Harm) -> None:
        note = f"{breach.guard}: {breach.text}; {harm.hurt} payments hurt, {harm.missed} missed"
        self._shipments.rollback(watched.unit, operator=GUARD, note=note[:200])
        version = watched.trial or watched.live
        ended = Ended(
            part=Part(watched.unit),
            title=self._versions.title(version),
            version=version,
            seq=watched.seq,
            percent=watched.percent if watched.trial else WHOLE,
            time=self._clock.now(),
            tenant=tenant,
            breach=breach,
            harm=harm,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{watched.seq:08d}.json").write_bytes(msgspec.json.encode(ended) + b"\n")
        self._tell(ended)


NO_HARM = Harm(seen=0, answered=0, hurt=0, hurt_minor={}, missed=0, missed_minor={}, failures=0, genuine=0, fraud=0)


def reports(folder: Path) -> list[Ended]:
    """Reports of trials that were taken back by themselves, newest first."""
    if not folder.is_dir():
        return []
    paths = sorted(folder.glob("*.json"), reverse=True)[:MAX_REPORTS]
    return [msgspec.json.decode(path.read_bytes(), type=Ended) for path in paths]


def _unbuilt(error: VedetteError) -> Breach:
    return Breach(Guard.FAILURES, 1.0, 0.0, str(error)[:200])


Side = dict[Part, str]
Built = tuple[Scoring, FeatureSet | None]


def _sides(
    standings: Mapping[str, Standing], history: Callable[[str], Sequence[Standing]], past: Callable[[Standing], bool]
) -> tuple[Side, Side | None, Standing | None]:
    """Versions that are live, those that stand beside them, and the standing that is watched.

    Of a part on probation the version before it is live and the new one stands beside it with every answer its own: so
    both go through the same comparison.
    """
    live: Side = {Part(unit): one.live for unit, one in standings.items() if one.live != BASE}
    trials = sorted((one for one in standings.values() if one.trial), key=lambda one: -one.seq)
    if trials:
        return live, {**live, Part(trials[0].unit): trials[0].trial}, trials[0]
    for unit, one in sorted(standings.items(), key=lambda item: -item[1].seq):
        if one.live == BASE or one.action != "ship" or past(one):
            continue
        before = next((each for each in history(unit) if each.seq < one.seq), None)
        old = {part: version for part, version in live.items() if part != unit}
        if before and before.live != BASE:
            old[Part(unit)] = before.live
        return old, live, one
    return live, None, None


class _Tenant:
    """What decides for one tenant."""

    def __init__(
        self,
        name: str,
        books: Books,
        features: FeatureSet | None,
        *,
        log: Log,
        control: float,
        lists: Relist,
        remotes: Remotes | None,
    ) -> None:
        self.name = name
        self._remotes = remotes
        self._plain = (PaymentRules(), PaymentRules())
        self._read: set[str] = set()
        self._lists = lists
        self._control = control
        self._books = books
        self._log = log
        self._base = books.recorder.decider
        self._covers = features.covers if features else None
        self.beside: Beside | None = None
        self._engines: Engines | None = None
        if features is not None and books.features is not None:
            self._engines = Engines(features.version, books.features, self._catch_up)
            self._engines.heard = self._hear

    def deciders(self, live: Built, tried: Built) -> tuple[Decider, Decider]:
        """Those of the version that is live and of the one beside it."""
        found = self._decider(*live), self._decider(*tried)
        self._plain = live[0].rules, tried[0].rules
        # A decision in hand may still read what was there before this change: that goes with the next one.
        now = {features.version for _, features in (live, tried) if features}
        now |= {scoring.model.sha256 for scoring, _ in (live, tried) if scoring.model}
        if self._engines:
            self._engines.keep(now | self._read)
        if self._remotes:
            self._remotes.keep(now | self._read)
        self._read = now
        return found

    def _decider(self, scoring: Scoring, features: FeatureSet | None) -> Decider:
        view: Features | None = None
        if features is not None and self._engines is not None:
            self._engines.add(features.version, lambda: self._fresh(features))
            view = self._engines.view(features.version)
        return self._base.over(
            features=view,
            model=self._scorer(scoring),
            rules=self._lists(scoring.rules),
            features_version=features.version if features else "",
            control=self._control,
        )

    def _scorer(self, scoring: Scoring) -> Scorer | None:
        if scoring.model is None:
            return None
        if self._remotes and scoring.remote:
            return self._remotes.of(scoring.remote, scoring.model.sha256)
        own = self._base.model
        return own if own and own.sha256 == scoring.model.sha256 else scoring.model

    def _fresh(self, features: FeatureSet) -> Engine:
        engine = Engine(features)
        engine.warm()
        return engine

    def relist(self) -> bool:
        """Both versions with the lists as they are now."""
        live = self._books.recorder.decider
        rules = self._lists(self._plain[0])
        changed = rules.state != live.rules.state
        if self.beside:
            self.beside.decider = self.beside.decider.with_rules(self._lists(self._plain[1]))
        if changed:
            self._books.recorder.decider = live.with_rules(rules)
        return changed

    def use(self, decider: Decider, beside: Beside | None) -> None:
        """Decides with these from the next payment on."""
        decider.trial = beside
        self.beside = beside
        self._books.recorder.decider = decider

    def _catch_up(self, engine: Features, place: int) -> None:
        """Feeds an engine the log up to a place, as the recorder's own replay does."""
        at = 0
        while at < place:
            records = self._log.read(EVENTS, 0, at, min(REPLAY_RECORDS, place - at))
            if not records:
                return
            for record in records:
                at = record.offset + 1
                event = msgspec.structs.replace(msgspec.json.decode(record.value, type=Event), seq=at)
                if event.tenant != self.name:
                    continue
                if event.source == LABEL_SOURCE:
                    engine.learn(msgspec.convert(event.data, Label))
                elif self._covers is None or self._covers(event):
                    engine.apply(event)

    def look(self) -> None:
        """Looks for drift of what is on trial."""
        if self.beside and self.beside.breach is None:
            self.beside.tally.look()
            self.beside.check()

    def _hear(self, label: Label) -> None:
        if self.beside:
            self.beside.tally.learn(label)
