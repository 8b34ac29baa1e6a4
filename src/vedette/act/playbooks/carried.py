"""What a run that is begun again from a step takes over from the run before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.playbooks.playbook import Playbook, PlaybookStep, Step, walk
from vedette.core.errors import NotFoundError
from vedette.core.execute import Outcome, StepRecord


def carry(book: Playbook, steps: Sequence[StepRecord], before: Mapping[str, Any], step: str) -> dict[str, Any]:
    """What the steps before one had found, in the run before or in those that it took over from.

    Args:
        book: The playbook that is begun again.
        steps: What the run before recorded.
        before: What that one had taken over itself.
        step: Id of the step to begin at.

    Raises:
        NotFoundError: `playbook.step.unknown`.
    """
    return _carried(book, steps, step) | _still(book, before, step)


def _names(steps: tuple[Step, ...], prefix: str = "") -> list[str]:
    """Names of steps in the order they are written, those inside other playbooks too."""
    found = []
    for step in walk(steps):
        found.append(f"{prefix}{step.id}")
        if isinstance(step, PlaybookStep):
            found += _names(step.steps, f"{prefix}{step.id}/")
    return found


def _before(book: Playbook, step: str) -> set[str]:
    names = _names(book.steps)
    if step not in names:
        raise NotFoundError("playbook.step.unknown", "the playbook has no such step", at=step[:64])
    return set(names[: names.index(step)])


def bare(name: str) -> str:
    """The id of a step without the rounds of its loops."""
    return "/".join(part.partition("#")[0] for part in name.split("/"))


def _carried(book: Playbook, steps: Sequence[StepRecord], step: str) -> dict[str, Any]:
    """What the steps before one had found."""
    before = _before(book, step)
    found = {}
    for record in steps:
        if bare(record.name) in before and isinstance(record.output, dict):
            outcome = msgspec.convert(record.output, Outcome)
            if outcome.ok:
                found[record.name] = outcome.value
    return found


def _still(book: Playbook, carried: Mapping[str, Any], step: str) -> dict[str, Any]:
    before = _before(book, step)
    return {name: value for name, value in carried.items() if bare(name) in before}
