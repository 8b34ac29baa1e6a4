"""Simulation: files of past payments through the real decider, so that rules can be tried on them.

Features, score and rules come from the parts that serve, in the order of the files; a truth that a record carries is
taken out before anything sees it, and becomes known the label delay after its payment. Nothing is kept.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vedette.core.clock import DAY, Clock
from vedette.core.decision import Decision
from vedette.core.errors import DataError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.judge.backtest.outcomes import Outcomes, Past
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.files import read_rows
from vedette.judge.decisions.intake import to_event, to_label
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.passing import PassingLog
from vedette.judge.decisions.recorder import Recorder, Wanted
from vedette.judge.models.model import Model
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.points.point import Point
from vedette.sense.features.definition import FeatureSet
from vedette.sense.sources import Source

GROUP = 256
"""Payments decided on at a time."""


@dataclass
class Simulation:
    """What decides, and what was refused.

    Args:
        source: Of the records.
        features: To compute; a model's own when there is a model.
        model: Scores.
        rules: Those that stand for what was live then.
        clock: For ingest times.
        tenant: Whose payments they are.
        point: When they are events of a decision point.
        tell: Hears how many records were read.
    """

    source: Source
    features: FeatureSet | None
    model: Model | None
    rules: PaymentRules
    clock: Clock
    tenant: str = "default"
    point: Point | None = None
    tell: Callable[[int], None] = lambda _count: None
    refused: Counter[str] = field(default_factory=Counter)
    """Records that could not be decided on, by error code."""

    def run(self, files: Sequence[Path]) -> Iterator[Past]:
        """The payments of some files, each with what became of it as far as the records tell."""
        with tempfile.TemporaryDirectory(prefix="vedette-simulate-") as folder:
            books = open_books(
                Path(folder),
                features=self.features,
                model=self.model,
                rules=self.rules,
                clock=self.clock,
                tenant=self.tenant,
                log=PassingLog(self.clock),
                lane=self.point,
            )
            try:
                for group in self._groups(files):
                    yield from self._decide(books.recorder, group)
            finally:
                books.recorder.close()

    def _decide(self, recorder: Recorder, group: Sequence[tuple[Event, Label | None]]) -> Iterator[Past]:
        outcomes = Outcomes()
        for _, label in group:
            if label:
                outcomes.learn(label)
        answers = recorder.decide_many([Wanted(event, label=label, checked=True) for event, label in group])
        for answer in answers:
            if isinstance(answer, Decision):
                yield outcomes.of(answer)
            else:
                self.refused[answer.code] += 1

    def _groups(self, files: Sequence[Path]) -> Iterator[list[tuple[Event, Label | None]]]:
        """A group ends before any label of it can be known."""
        delay = self.model.label_delay if self.model else DAY
        group: list[tuple[Event, Label | None]] = []
        for one in self._events(files, delay):
            if group and (len(group) >= GROUP or one[0].event_time - group[0][0].event_time >= delay):
                yield group
                group = []
            group.append(one)
        if group:
            yield group

    def _events(self, files: Sequence[Path], delay: int) -> Iterator[tuple[Event, Label | None]]:
        count = 0
        truth = self._truth
        for file in files:
            for row in read_rows(file, self.source):
                count += 1
                self.tell(count)
                try:
                    event = self._event(row.data)
                except DataError as error:
                    self.refused[error.code] += 1
                    continue
                yield event, to_label(row.data, event, truth=truth, delay=delay)  # type: ignore[arg-type] # no error

    def _event(self, data: dict[str, Any] | DataError) -> Event:
        if isinstance(data, DataError):
            raise data
        plain = {name: value for name, value in data.items() if name != self._truth}
        return to_event(plain, self.source, tenant=self.tenant, ingest_time=self.clock.now())

    @property
    def _truth(self) -> str:
        """Field that tells the outcome, in files that do."""
        named = self.features.label.path if self.features else ""
        return named or next(iter(binding_of(self.source.name).truth), "fraud")
