"""Recorded runs of playbooks against the code of now: what an update would do to the runs that wait."""

from __future__ import annotations

import dataclasses

from vedette.act.playbooks.interpreter import make_interpreters
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.world import World
from vedette.core.execute import Run, Runs
from vedette.core.replaying import Replayed, replay


class _Silent(Pulses):
    """Writes nothing: a replay is no run."""

    def __init__(self) -> None:
        """Needs no database."""

    def beat(self, tenant: str, run_id: str, branch: str, step: str, within_s: float) -> None:
        """Nothing."""

    def end(self, tenant: str, run_id: str, branch: str = "") -> None:
        """Nothing."""


def replay_runs(world: World, runs: Runs, wanted: list[Run]) -> list[Replayed]:
    """Walks recorded runs and their branches again; changes nothing.

    Args:
        world: Its definitions are read; nothing of it is acted on.
        runs: Where the records are.
        wanted: Which of them, without branches.
    """
    interpreters = make_interpreters(dataclasses.replace(world, pulses=_Silent()))
    every = [each for run in wanted for each in (run, *runs.branches(run.id))]
    return [replay(each, runs.history(each.id), interpreters[each.kind]) for each in every if each.kind in interpreters]
