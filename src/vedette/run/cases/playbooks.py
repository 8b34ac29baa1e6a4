"""Playbooks of a running installation: started by what triggers them, handed over when lost, told of when late."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from vedette.act.actions import Signature
from vedette.act.playbooks.loader import load_playbook
from vedette.act.playbooks.playbook import Playbook
from vedette.act.playbooks.pulses import Overdue
from vedette.act.playbooks.responder import Responder
from vedette.act.playbooks.triggers import Triggers
from vedette.core.clock import Clock
from vedette.core.content import shipped
from vedette.core.errors import DefinitionError
from vedette.core.event import Entity
from vedette.core.log import Log
from vedette.core.signal import Level, Signal

RULE = "operations.playbooks.overdue"
SIGNALS = "signal"


def load_playbooks(folder: Path, signatures: Mapping[str, Signature]) -> dict[str, Playbook]:
    """The shipped playbooks and those in a folder, by their ids; a file is named by its id.

    Raises:
        DefinitionError: `playbook.id.taken`, `playbook.id.file`.
        Problems: What is wrong with one.
    """
    found: dict[str, Playbook] = {}
    own = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    for path in (*sorted(shipped("playbooks").glob("*.yaml")), *own):
        playbook = load_playbook(path, signatures)
        if playbook.id != path.stem:
            raise DefinitionError("playbook.id.file", f"`{playbook.id}` stands in `{path.name}`", at=str(path))
        if playbook.id in found:
            raise DefinitionError("playbook.id.taken", f"`{playbook.id}` is the id of a shipped one", at=str(path))
        found[playbook.id] = playbook
    return found


class Watch:
    """Keeps runs going, and tells of those that do not.

    Args:
        responder: Starts and hands over runs.
        triggers: What starts them.
        log: Signals go to its topic `signal`.
        clock: Times of signals.
        count: Counts a failure by its code.
    """

    def __init__(
        self, responder: Responder, triggers: Triggers, *, log: Log, clock: Clock, count: Callable[[str], None]
    ) -> None:
        self._responder = responder
        self._triggers = triggers
        self._log = log
        self._clock = clock
        self._count = count
        self._told: set[tuple[str, str, int]] = set()

    def turn(self, tenants: list[str], playbooks: Mapping[str, Playbook]) -> int:
        """Starts what is due."""
        return self._triggers.turn(tenants, playbooks)

    def look(self) -> int:
        """Hands over what was lost and tells of what is overdue, each once; gives how many were told of."""
        self._responder.recover()
        late = self._responder.overdue()
        fresh = [each for each in late if (each.run_id, each.branch, each.due) not in self._told]
        for each in fresh:
            self._tell(each)
        self._told = {(each.run_id, each.branch, each.due) for each in late}
        return len(fresh)

    def _tell(self, late: Overdue) -> None:
        """One signal, which becomes an alert as every other does; after a restart the same one again."""
        self._count("playbook.run.overdue")
        identity = msgspec.json.encode([late.tenant, late.run_id, late.branch, late.due])
        signal = Signal(
            id=hashlib.sha256(identity).hexdigest()[:32],
            tenant=late.tenant,
            rule_id=RULE,
            rule_version="1",
            title="A playbook run is not heard of",
            level=Level.HIGH,
            event_id=f"{late.run_id}@{late.due}",
            event_time=self._clock.now(),
            source="playbooks",
            entities=(Entity("run", late.run_id),),
            why={"step": late.step, "branch": late.branch, "due": late.due},
        )
        self._log.append(SIGNALS, late.tenant, [msgspec.json.encode(signal)])
