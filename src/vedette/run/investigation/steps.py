"""Steps of an investigation: questions that a case keeps with their answers, and that colleagues ask again.

A step holds the exact question, the versions of the tables that were read, and a hash of each row; its rows are
evidence of the case. Asked again, it is asked twice: of the tables as they were, which must give the same rows, and as
they are, which tells what came and went since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from vedette.core.clock import to_iso
from vedette.core.db import LONG, Migration, create, insert_new, sa
from vedette.core.errors import NotFoundError
from vedette.prove.dlp import scrub
from vedette.run.investigation.questions import Question, Rows, ask, ask_at, hashes
from vedette.run.parts import Parts
from vedette.sense.store import Store

HOW = "question to stored events"
MAX_STEPS = 1_000
_METADATA = sa.MetaData()
_STEP = sa.Table(
    "case_step",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("hashes", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "steps of cases", create(_METADATA)),)


class Then(StrEnum):
    """What the tables as they were gave."""

    SAME = "same"
    OTHER = "other"
    """The question itself depends on chance or on the clock."""
    ERASED = "erased"
    """That version is no longer there."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a case, and what pins its answer."""

    id: str
    case: str
    by: str
    time: int
    """Microseconds UTC."""
    question: Question
    tables: Mapping[str, int]
    """Table -> version."""
    rows: int
    cut: bool
    digest: str
    item: str
    """SHA-256 of the evidence that holds the rows."""
    search: str = ""
    """Saved search that it came from."""


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was asked again."""

    step: str
    by: str
    time: int
    then: Then
    same: bool
    """The tables as they are give the same rows."""
    rows: int
    """That they give now."""
    added: int
    """Rows that were not there."""
    removed: int
    """Rows that are no longer there."""
    told: str


class Steps:
    """The steps of all cases of an installation.

    Args:
        parts: The installation.
        store: Its event store.
    """

    def __init__(self, parts: Parts, store: Store) -> None:
        self._parts = parts
        self._store = store
        parts.state.migrate("steps", MIGRATIONS)

    def take(self, tenant: str, case_id: str, question: Question, *, operator: str, search: str = "") -> Step:
        """Asks a question and keeps it in a case with its rows.

        Raises:
            NotFoundError: `cases.case.unknown`; as `ask`.
            DataError, TransientError: As `ask`; `cases.evidence.size`.
        """
        self._parts.cases.get(tenant, case_id)
        answer = ask(self._store, tenant, question, now=self._parts.clock.now())
        now = self._parts.clock.now()
        content = msgspec.json.encode({"v": 1, "tenant": tenant, "taken": now, "answer": answer}, order="sorted")
        name = scrub(f"{question.kind}: {' '.join(question.text.split())}")[:200]
        link = self._parts.custody.collect(tenant, case_id, name=name, content=content, how=HOW, operator=operator)
        step = Step(
            id=self._parts.ids.new("st"),
            case=case_id,
            by=operator,
            time=now,
            question=answer.question,
            tables=answer.tables,
            rows=len(answer.rows),
            cut=answer.cut,
            digest=answer.digest,
            item=link.item,
            search=search,
        )
        row = {"id": step.id, "time": now, "body": msgspec.json.encode(step).decode()}
        with self._parts.state.begin() as connection:
            insert_new(connection, _STEP, tenant=tenant, case_id=case_id, hashes="\n".join(hashes(answer.rows)), **row)
        return step

    def all(self, tenant: str, case_id: str) -> list[Step]:
        """The steps of a case, oldest first.

        Raises:
            NotFoundError: `cases.case.unknown`.
        """
        self._parts.cases.get(tenant, case_id)
        mine = (_STEP.c.tenant == tenant) & (_STEP.c.case_id == case_id)
        query = sa.select(_STEP.c.body).where(mine).order_by(_STEP.c.time, _STEP.c.id).limit(MAX_STEPS)
        with self._parts.state.read() as connection:
            return [msgspec.json.decode(body, type=Step) for body in connection.execute(query).scalars()]

    def again(self, tenant: str, case_id: str, step_id: str, *, operator: str) -> tuple[Again, Rows]:
        """Asks a step again, of the tables as they were and as they are; what came of it is noted in the case.

        Returns:
            What came of it, and the rows: as they were, or as they are where those are erased.

        Raises:
            NotFoundError: `steps.step.unknown`, `cases.case.unknown`.
            DataError, TransientError: As `ask`.
        """
        step, known = self._find(tenant, case_id, step_id)
        try:
            was = ask_at(self._store, tenant, step.question, step.tables)
        except NotFoundError as error:
            if error.code != "store.version.erased":
                raise
            was = None
        current = self._store.versions()
        is_now = was if was is not None and current == step.tables else self._now(tenant, step.question, current)
        before, after = Counter(known), Counter(hashes(is_now.rows))
        made = Again(
            step=step.id,
            by=operator,
            time=self._parts.clock.now(),
            then=Then.ERASED if was is None else Then.SAME if was.digest == step.digest else Then.OTHER,
            same=is_now.digest == step.digest,
            rows=len(is_now.rows),
            added=(after - before).total(),
            removed=(before - after).total(),
            told="",
        )
        made = msgspec.structs.replace(made, told=_told(made))
        text = f"Asked again: {step.question.kind} of {to_iso(step.time)[:19]}Z, step {step.id}: {made.told}"
        self._parts.cases.note(tenant, case_id, scrub(text), operator=operator)
        return made, was if was is not None else is_now

    def _now(self, tenant: str, question: Question, tables: Mapping[str, int]) -> Rows:
        try:
            return ask_at(self._store, tenant, question, tables)
        except NotFoundError:
            # Nothing is left of what was asked for.
            return Rows(question=question, tables=tables, columns=(), rows=(), cut=False, digest="")

    def _find(self, tenant: str, case_id: str, step_id: str) -> tuple[Step, Sequence[str]]:
        self._parts.cases.get(tenant, case_id)
        mine = (_STEP.c.tenant == tenant) & (_STEP.c.case_id == case_id) & (_STEP.c.id == step_id)
        with self._parts.state.read() as connection:
            row = connection.execute(sa.select(_STEP.c.body, _STEP.c.hashes).where(mine)).first()
        if row is None:
            raise NotFoundError("steps.step.unknown", "the case has no such step", at=step_id[:64])
        return msgspec.json.decode(row.body, type=Step), [each for each in row.hashes.split("\n") if each]


def _told(made: Again) -> str:
    """What came of it, in words."""
    then = {
        Then.SAME: "the same rows from the tables as they were",
        Then.OTHER: "other rows from the tables as they were: the question depends on chance or on the clock",
        Then.ERASED: "the tables as they were are erased",
    }[made.then]
    if made.same:
        return f"{then}; the same rows from the tables as they are"
    gone = f", {made.removed:,} erased or changed" if made.removed else ""
    return f"{then}; the data has changed since: {made.rows:,} rows, {made.added:,} new{gone}"
