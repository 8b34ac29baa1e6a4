"""What people do in a case: tasks with an owner and a deadline, hypotheses with evidence, observables."""

from __future__ import annotations

import hashlib

import msgspec

from vedette.act.cases.nouns import Belief, Hypothesis, Observable, Stance, Task, Weight
from vedette.act.cases.store import Store, check_text, due_items, find_item, keep_item, load
from vedette.act.timeline import (
    HypothesisAdded,
    HypothesisSettled,
    HypothesisWeighed,
    ObservableAdded,
    TaskAdded,
    TaskDone,
    TaskReminded,
)
from vedette.core.clock import MICROS
from vedette.core.errors import ConflictError, DataError

SOON = 3_600 * MICROS
"""A reminder comes so long before a task is due, and another when it is overdue."""
MAX_WEIGHTS = 200
MAX_CONFIDENCE = 100


class Work(Store):
    """The work of people in cases."""

    # Tasks

    def tasks(self, tenant: str, case_id: str) -> list[Task]:
        """Its tasks, oldest first."""
        return self._items(tenant, case_id, "task", Task)

    def add_task(self, tenant: str, case_id: str, title: str, *, operator: str, owner: str = "", due: int = 0) -> Task:
        """Adds something to do.

        Args:
            tenant: Whose case.
            case_id: Which.
            title: What is to be done.
            operator: Who says so.
            owner: Id of the person who is to do it.
            due: By when, microseconds UTC; 0: without a deadline.

        Raises:
            DataError: `cases.text.invalid`, `cases.task.due`.
        """
        check_text(title)
        now = self._clock.now()
        if due and due <= now:
            raise DataError("cases.task.due", "a task is due in the future", at="$.due")
        task = Task(self._ids.new("tk"), title, done=False, time=now, owner=owner, due=due)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            keep_item(connection, tenant, case_id, "task", task.id, task, time=now, alarm=_first_alarm(task))
            self._add(connection, tenant, case_id, operator, TaskAdded(task.id, title, owner, due))
        return task

    def finish_task(self, tenant: str, case_id: str, task_id: str, *, operator: str) -> None:
        """Marks a task done; again changes nothing.

        Raises:
            NotFoundError: `cases.task.unknown`.
        """
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            task = find_item(connection, tenant, case_id, "task", task_id, Task)
            if not task.done:
                done = msgspec.structs.replace(task, done=True, done_time=self._clock.now())
                keep_item(connection, tenant, case_id, "task", task_id, done, time=task.time)
                self._add(connection, tenant, case_id, operator, TaskDone(task_id))

    def remind(self) -> int:
        """Writes the reminders that are due, of all tenants; gives how many. A kill in between repeats none."""
        now, count = self._clock.now(), 0
        with self._database.read() as connection:
            due = due_items(connection, "task", now)
        for tenant, case_id, task_id in due:
            with self._database.begin() as connection:
                load(connection, tenant, case_id, lock=True)
                task = find_item(connection, tenant, case_id, "task", task_id, Task)
                late = task.overdue(now)
                alarm = 0 if late or task.done else task.due + 1
                keep_item(connection, tenant, case_id, "task", task_id, task, time=task.time, alarm=alarm)
                if not task.done:
                    told = TaskReminded(task_id, task.title, task.owner, late)
                    key = f"task:{task_id}:{'late' if late else 'soon'}"
                    count += self._add(connection, tenant, case_id, "system", told, key=key)
        return count

    # Hypotheses

    def hypotheses(self, tenant: str, case_id: str) -> list[Hypothesis]:
        """What may explain it, oldest first."""
        return self._items(tenant, case_id, "hypothesis", Hypothesis)

    def suppose(self, tenant: str, case_id: str, title: str, *, operator: str) -> Hypothesis:
        """Adds a hypothesis."""
        check_text(title)
        made = Hypothesis(self._ids.new("hy"), title, self._clock.now(), operator)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            keep_item(connection, tenant, case_id, "hypothesis", made.id, made, time=made.time)
            self._add(connection, tenant, case_id, operator, HypothesisAdded(made.id, title))
        return made

    def weigh(
        self,
        tenant: str,
        case_id: str,
        hypothesis_id: str,
        *,
        speaks: Stance,
        reference: str,
        confidence: int,
        operator: str,
        text: str = "",
    ) -> Hypothesis:
        """Adds evidence for or against one, and says how sure its reader is then.

        Args:
            tenant: Whose case.
            case_id: Which.
            hypothesis_id: Of which hypothesis.
            speaks: For it or against it.
            reference: Id of an event, alert or artefact.
            confidence: 0 (surely not) to 100 (surely).
            operator: Who weighed it.
            text: Why.

        Raises:
            DataError: `cases.hypothesis.confidence`, `cases.hypothesis.full`.
            ConflictError: `cases.hypothesis.settled`.
        """
        check_text(reference)
        if not 0 <= confidence <= MAX_CONFIDENCE:
            raise DataError("cases.hypothesis.confidence", "confidence is 0 to 100", at="$.confidence")
        weight = Weight(speaks, reference, text, operator, self._clock.now())
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = find_item(connection, tenant, case_id, "hypothesis", hypothesis_id, Hypothesis)
            _check_open(held)
            if len(held.weights) >= MAX_WEIGHTS:
                raise DataError("cases.hypothesis.full", f"a hypothesis has at most {MAX_WEIGHTS} pieces of evidence")
            made = msgspec.structs.replace(held, weights=(*held.weights, weight), confidence=confidence)
            keep_item(connection, tenant, case_id, "hypothesis", held.id, made, time=held.time)
            told = HypothesisWeighed(held.id, speaks, reference, confidence)
            self._add(connection, tenant, case_id, operator, told)
        return made

    def settle(
        self, tenant: str, case_id: str, hypothesis_id: str, belief: Belief, *, operator: str, root: str = ""
    ) -> Hypothesis:
        """Confirms or refutes one; a confirmed cause names its first event.

        Raises:
            DataError: `cases.hypothesis.root`: a confirmed one rests on evidence for it and names its first event.
            ConflictError: `cases.hypothesis.settled`.
        """
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = find_item(connection, tenant, case_id, "hypothesis", hypothesis_id, Hypothesis)
            _check_open(held)
            backed = any(each.speaks is Stance.FOR for each in held.weights)
            if belief is Belief.OPEN or (belief is Belief.CONFIRMED and not (root and backed)):
                said = "a confirmed hypothesis has evidence for it and names the first event of the cause"
                raise DataError("cases.hypothesis.root", said, at="$.root")
            made = msgspec.structs.replace(held, state=belief, root=root)
            keep_item(connection, tenant, case_id, "hypothesis", held.id, made, time=held.time)
            self._add(connection, tenant, case_id, operator, HypothesisSettled(held.id, belief, root))
        return made

    # Observables

    def observables(self, tenant: str, case_id: str) -> list[Observable]:
        """What to look for elsewhere, oldest first."""
        return self._items(tenant, case_id, "observable", Observable)

    def observe(self, tenant: str, case_id: str, kind: str, value: str, *, operator: str) -> Observable:
        """Adds an observable; the same one again changes nothing."""
        check_text(kind)
        check_text(value)
        name = hashlib.sha256(msgspec.json.encode([kind, value])).hexdigest()[:26]
        made = Observable(f"ob_{name}", kind, value, self._clock.now(), operator)
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            if keep_item(connection, tenant, case_id, "observable", made.id, made, time=made.time):
                self._add(connection, tenant, case_id, operator, ObservableAdded(kind, value))
        return made


def _first_alarm(task: Task) -> int:
    return max(task.due - SOON, task.time + 1) if task.due else 0


def _check_open(hypothesis: Hypothesis) -> None:
    if hypothesis.state is not Belief.OPEN:
        raise ConflictError("cases.hypothesis.settled", f"it was {hypothesis.state} already", at=hypothesis.id)
