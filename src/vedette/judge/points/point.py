"""A decision point, ready to decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vedette.core.event import Event
from vedette.expr.nodes import Space
from vedette.judge.decisions.parts import Policy
from vedette.judge.payment.attributes import ATTRIBUTES, RISKS, Attribute
from vedette.judge.payment.rules import Note, PaymentRules
from vedette.judge.payment.velocity import backed
from vedette.judge.points.scorecard import Scorecard
from vedette.sense.features.definition import FeatureSet
from vedette.sense.sources import Source


@dataclass(frozen=True, slots=True)
class Point:
    """What one file says. Everything in it is immutable, so any thread may use it."""

    name: str
    """Also the source of its events, and its lane in the log."""
    about: str
    source: Source
    """How its events are read: id, time, entities."""
    attributes: Mapping[str, Attribute]
    """Everything its rules may name."""
    carried: frozenset[str]
    """Names of the attributes that its events carry."""
    rules: PaymentRules
    features: FeatureSet | None = None
    """What is counted; a model's own when there is a model."""
    card: Scorecard | None = None
    """Scores without a model."""
    model: Path | None = None
    """Directory of a trained model; never beside a scorecard."""
    policy: Policy = Policy.OPEN
    queue: str = ""
    """Where its reviews are looked at; the point's name by default."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Rule id, `holds_<id>` or feature -> what a reason says in plain words."""
    path: str = ""

    @property
    def version(self) -> str:
        """Content hash of everything that decides."""
        card, features = self.card, self.features
        content = [
            self.name,
            self.rules.version,
            card.sha256 if card else "",
            features.version if features else "",
            str(self.model or ""),
            self.policy.value,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def covers(self, event: Event) -> bool:
        """Whether an event is one of this point."""
        return event.source == self.name

    def provided(self) -> frozenset[str]:
        """What its rules can count on, as they write it."""
        counted = self.features.names if self.features else ()
        names = {*self.carried, *counted, *backed(counted), *RISKS, "risk_level", "risk_score"}
        amounts = (
            {name for name in ATTRIBUTES if name.startswith("amount_in_")} if "amount_minor" in self.carried else ()
        )
        return frozenset(f":{name}:" for name in {*names, *amounts})

    def notes(self) -> Iterator[Note]:
        """What its author should look at."""
        provided = self.provided()
        yield from self.rules.check(provided)
        for one in self.card.odds if self.card else ():
            for each in sorted(one.rule.fields, key=lambda each: each.name):
                if each.space is Space.ATTRIBUTE and f":{each.name}:" not in provided:
                    message = f"nothing provides `:{each.name}:`, so this never holds"
                    yield Note("payment.note.not_provided", one.rule.id, message, each.span)
