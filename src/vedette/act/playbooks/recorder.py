"""The hands of a run: recorded steps, lines of the timeline, and the moments until which it must be heard of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from vedette.act.playbooks.world import OWN, Request, World
from vedette.act.timeline import Body
from vedette.core.errors import PermanentError, VedetteError
from vedette.core.execute import Json, Outcome, Retry, Steps

OWN_S = 60.0
"""How long one of the interpreter's own writes may take before the run counts as overdue."""


class Recorder:
    """Does what has an effect for one run, or for one branch of it.

    Args:
        world: What is acted on.
        steps: The durable executor's side of it.
        request: What the run is about.
        run_id: The run; a branch has its own identity on the executor and belongs to this run.
        branch: Empty for the run itself.
        caps: What the playbook says of how much it may touch.
    """

    def __init__(
        self, world: World, steps: Steps, request: Request, *, run_id: str, branch: str, caps: dict[str, int]
    ) -> None:
        self.world = world
        self.steps = steps
        self.request = request
        self.run_id = run_id
        self.branch = branch
        self.caps = caps

    def step(self, name: str, body: Callable[[], Json], retry: Retry = OWN, timeout_s: float = 0.0) -> Outcome:
        """A recorded step."""
        probe = self.world.probe

        def probed() -> Json:
            probe(name, "before")
            value = body()
            probe(name, "after")
            return value

        waits = sum(retry.delay(number) for number in range(1, retry.attempts))
        self.pulse(name, waits + retry.attempts * (timeout_s or OWN_S))
        outcome = self.steps.step(name, probed, retry=retry, timeout_s=timeout_s)
        probe(name, "recorded")
        return outcome

    def write(self, name: str, body: Body) -> None:
        """A recorded step that only writes a line of the timeline."""
        outcome = self.step(name, lambda: self.journal(name, body))
        if not outcome.ok:
            raise PermanentError(outcome.code, outcome.message)

    def journal(self, name: str, body: Body) -> None:
        """A line of the case's timeline, once; within the body of a recorded step."""
        request, run_id = self.request, self.run_id
        if request.case_id:
            cases = self.world.cases
            cases.record(request.tenant, request.case_id, body, operator=run_id, key=f"{run_id}:{name}")

    def pulse(self, name: str, within_s: float, *, branch: str | None = None) -> None:
        """Says until when this is to be heard of."""
        # Not recorded: written again by a restart, and a run goes on without it.
        with suppress(VedetteError):
            place = self.branch if branch is None else branch
            self.world.pulses.beat(self.request.tenant, self.run_id, place, name, within_s)

    def over(self) -> None:
        """Nothing more is expected."""
        with suppress(VedetteError):
            self.world.pulses.end(self.request.tenant, self.run_id, self.branch)
