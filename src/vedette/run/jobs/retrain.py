"""Retraining: a challenger on a sliding window, judged, registered and put in shadow, step by step, as a job.

The steps are parts of a job in the ledger. A process that is killed goes on where it was; the same data, window and
code are the same job and give the same model, byte for byte. Nothing here promotes: a challenger goes further through
`vedette model ship` and its gates, and through the guard-rails of its trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.judge.models import training
from vedette.judge.models.evaluation import Asked, evaluate
from vedette.judge.models.history import Extras, Report, silent
from vedette.judge.models.learners import Recipe
from vedette.judge.models.model import Model, load_model
from vedette.judge.shipments import Standing
from vedette.run.jobs.ledger import Job, Ledger, Part, Spec
from vedette.run.parts import Parts
from vedette.run.payments.trials import model_document
from vedette.run.rules.gates import Obstacle, model_obstacles
from vedette.sense.features.definition import FeatureSet
from vedette.sense.features.table import event_times

CAUSE = "retrain"
STEPS = ("train", "judge", "register", "shadow")
OPERATOR = "retraining"


class Cadence(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and on what."""

    window_days: int = 30
    """Training days."""
    test_days: int = 7
    """Newest days whose labels are known: the challenger is judged on them."""
    delay_days: int = 7
    """Days until a label is known."""
    every_days: int = 7
    """A challenger is due when the last one's window ended so long ago."""


class Challenger(msgspec.Struct, frozen=True, kw_only=True):
    """What a retraining gave."""

    job: Job
    model: str
    """Id."""
    sha256: str
    ap: float
    obstacles: tuple[Obstacle, ...]
    """What its report says against it; with any of them it is not put on trial."""
    standing: Standing | None
    """What stands after it was put in shadow; None when it was not."""


class Retraining:
    """Retraining in an installation.

    Args:
        parts: Its registry, shipments and state.
        features: Definitions.
        cadence: How often, and on what.
        recipe: How the model is made.
        extras: Further columns of the history.
    """

    def __init__(
        self,
        parts: Parts,
        features: FeatureSet,
        *,
        cadence: Cadence = Cadence(),  # noqa: B008 - a frozen value
        recipe: Recipe = Recipe(),  # noqa: B008 - a frozen value
        extras: Extras = Extras(),  # noqa: B008 - a frozen value
    ) -> None:
        self._parts = parts
        self._features = features
        self._cadence = cadence
        self._recipe = recipe
        self._extras = extras
        self.ledger = Ledger(parts.state, parts.clock)

    def due(self, table: pa.Table) -> bool:
        """Whether the last challenger is old enough for a new one."""
        last = [job.spec.end for job in self.ledger.jobs(self._parts.settings.tenant, 1_000) if self._mine(job)]
        return not last or self._end(table) * DAY - max(last) >= self._cadence.every_days * DAY

    def _mine(self, job: Job) -> bool:
        return job.spec.cause == CAUSE and job.spec.sources == (self._features.source,)

    def _end(self, table: pa.Table) -> int:
        """Day after the last one of the history."""
        times = event_times(table, self._features)
        if not len(times):
            raise DataError("model.train.rows", "the history is empty")
        return int(times.max()) // DAY + 1

    def run(self, table: pa.Table, *, report: Report = silent) -> Challenger:
        """Makes a challenger from history, or goes on making it; one that is made is given again.

        Args:
            table: From `read_table`, up to now.
            report: Called with progress.

        Raises:
            DataError: `model.train.rows`, `model.test.rows`.
        """
        cadence, end = self._cadence, self._end(table)
        tested = end - cadence.delay_days - cadence.test_days
        start = tested - cadence.delay_days - cadence.window_days
        spec = self._spec(table, start, end)
        job_id = hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()
        parts = [Part(number=at, source=step, start=spec.start, end=spec.end) for at, step in enumerate(STEPS)]
        self.ledger.open(job_id, spec, parts)
        folder = self._parts.settings.home / "jobs" / job_id[:16]
        done = {part.source for part in self.ledger.parts(job_id) if part.done}

        def step(name: str, work: Callable[[], Any]) -> None:
            if name not in done:
                work()
                self.ledger.finish(job_id, parts[STEPS.index(name)])

        step("train", lambda: self._train(table, start, folder, report))
        step("judge", lambda: self._judge(table, tested, folder, report))
        model = load_model(folder / "model")
        step("register", lambda: self._parts.models.add(folder / "model", operator=OPERATOR, note=f"job {job_id[:16]}"))
        found = msgspec.json.decode((folder / "report.json").read_bytes(), type=dict[str, Any])
        obstacles = tuple(model_obstacles(model.id, found, sha256=model.sha256, serving=self._serving()))
        step("shadow", lambda: None if obstacles else self._shadow(model))
        self.ledger.close(job_id)
        return Challenger(
            job=self.ledger.job(job_id),
            model=model.id,
            sha256=model.sha256,
            ap=found["metrics"]["ap"]["value"],
            obstacles=obstacles,
            standing=self._parts.scoring_shipments.standings().get("model"),
        )

    def _spec(self, table: pa.Table, start: int, end: int) -> Spec:
        known = (
            *(self._features.version, training.code_hash(), self._recipe.to_card(), self._cadence),
            *(len(table), table.nbytes, self._serving()),
        )
        digest = hashlib.sha256(msgspec.json.encode(known, order="deterministic"))
        return Spec(
            tenant=self._parts.settings.tenant,
            rules=(),
            digest=digest.hexdigest(),
            start=start * DAY,
            end=end * DAY,
            sources=(self._features.source,),
            cause=CAUSE,
        )

    def _train(self, table: pa.Table, start: int, folder: Path, report: Report) -> None:
        training.train(
            table,
            self._features,
            start=start,
            days=self._cadence.window_days,
            delay_days=self._cadence.delay_days,
            out=folder / "model",
            recipe=self._recipe,
            extras=self._extras,
            report=report,
        )

    def _judge(self, table: pa.Table, tested: int, folder: Path, report: Report) -> None:
        """Beside the model that serves, when it was trained for the same label delay."""
        models = [load_model(folder / "model")]
        if serving := self._serving():
            champion = self._parts.models.load(serving)
            if champion.label_delay == models[0].label_delay and champion.source == models[0].source:
                models.append(champion)
        asked = Asked(start=tested, days=self._cadence.test_days, extras=self._extras)
        found = evaluate(models, table, asked, report=report)
        (folder / "report.json").write_bytes(msgspec.json.encode(found) + b"\n")

    def _serving(self) -> str:
        """SHA-256 of the model that was shipped live; empty when none was."""
        shipments = self._parts.scoring_shipments
        standing = shipments.standings().get("model")
        if standing is None or len(standing.live) != hashlib.sha256().digest_size * 2:
            return ""
        content = msgspec.json.decode(shipments.document(standing.live).files[0].content, type=dict[str, Any])
        return str(content["sha256"])

    def _shadow(self, model: Model) -> None:
        """In shadow, unless something else is on trial or this very model is live."""
        standings = self._parts.scoring_shipments.standings().values()
        if any(one.trial for one in standings) or self._serving() == model.sha256:
            return
        entry = self._parts.models.find(model.sha256)
        self._parts.scoring_shipments.ship(model_document(entry), percent=0, operator=OPERATOR, note="retrained")
