"""What a case taught, as a test of a rule: the events of its alerts become the steps of a fixture.

A fixture holds the records as the sources deliver them, their times as distances from the first. It is a test as rule
files hold them (`vedette.tests`), so `vedette rules test` runs it: it fails while the rule misses the incident, and
from the fix on it keeps the rule from missing it again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from vedette.core.clock import MICROS
from vedette.core.documents import load_yaml_all
from vedette.core.errors import DataError, DefinitionError, NotFoundError
from vedette.core.event import Entity, Event
from vedette.run.cases.casefile import alerts_of
from vedette.run.investigation.seeing import Named, decisions_of, named, seen_again
from vedette.run.parts import Parts
from vedette.run.pipeline import decided
from vedette.sense.sources import Source

MAX_EVENTS = 500
MAX_SIGNALS = 200


def events_of(parts: Parts, tenant: str, case_id: str) -> list[Event]:
    """The events behind a case's alerts that are still at hand, by their time.

    Raises:
        NotFoundError: `cases.case.unknown`; `cases.fixture.events`: none of them is at hand.
    """
    case = parts.cases.get(tenant, case_id)
    wanted: dict[tuple[str, str], tuple[Named, tuple[Entity, ...]]] = {}
    for alert in alerts_of(parts, tenant, case.alerts):
        for signal in parts.alerts.signals(tenant, alert.id, limit=MAX_SIGNALS):
            for one in named(signal):
                wanted.setdefault((one.source, one.id), (one, (*signal.entities, *alert.entities)))
    asked = {event_id for source, event_id in wanted if source == decided.SOURCE}
    found = list(decisions_of(parts, tenant, asked).values())
    for one, entities in wanted.values():
        if one.source != decided.SOURCE:
            event = seen_again(parts, tenant, one, entities)
            found += [event] if event else []
    if not found:
        raise NotFoundError("cases.fixture.events", "no event of this case is at hand any more", at=case_id)
    return sorted(found, key=lambda event: (event.event_time, event.id))[:MAX_EVENTS]


def to_test(
    events: list[Event], sources: Collection[Source], name: str, *, only: Collection[str] = ()
) -> dict[str, Any]:
    """A test of a rule that must fire on the events.

    Args:
        events: In the order of their time.
        sources: The known sources: their ids and times are left out, as the tester fills them in.
        name: Of the test.
        only: Sources whose events are taken; empty: of all.

    Raises:
        DataError: `cases.fixture.empty`: nothing is left of the events.
    """
    known = {source.name: source for source in sources}
    chosen = [event for event in events if not only or event.source in only]
    if not chosen:
        raise DataError("cases.fixture.empty", "no event of the case is of a source that the rule reads")
    start = chosen[0].event_time
    steps = []
    for event in chosen:
        step: dict[str, Any] = {"source": event.source, "event": _bare(event, known.get(event.source))}
        if at := (event.event_time - start) // MICROS:
            step["at"] = f"{at}s"
        steps.append(step)
    return {"name": name, "fires": True, "steps": steps}


def _bare(event: Event, source: Source | None) -> dict[str, Any]:
    dropped = {*source.definition.time, source.definition.id} if source else set()
    return {name: value for name, value in event.data.items() if name not in dropped}


def to_line(test: dict[str, Any]) -> str:
    """The test as one line of YAML, as it stands in a list of tests."""
    return f"- {msgspec.json.encode(test).decode()}"


def add_to_rule(text: str, test: dict[str, Any], path: str = "") -> str:
    """The text of a rule file with one more test at its end.

    Raises:
        DataError: `cases.fixture.place`: the file does not end with the tests of its last rule.
    """
    before = load_yaml_all(text, path=path)
    for indent in (4, 2, 0):
        made = f"{text.rstrip()}\n{' ' * indent}{to_line(test)}\n"
        try:
            after = load_yaml_all(made, path=path)
        except DefinitionError:
            continue
        if _tests(after) == _tests(before) + 1:
            return made
    hint = "put `vedette: tests:` last in the rule, or take the line from `vedette case to-test` by hand"
    raise DataError("cases.fixture.place", "the file does not end with a list of tests", hint=hint, at=path)


def _tests(documents: list[Any]) -> int:
    last = documents[-1].data if documents else None
    card = last.get("vedette") if isinstance(last, dict) else None
    held = card.get("tests") if isinstance(card, dict) else None
    return len(held) if isinstance(held, list) else -1
