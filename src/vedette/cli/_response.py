"""The parts behind `alerts`, `case` and `playbook`, opened from the settings; what the three show in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from vedette.act.alerts import Alerts
from vedette.act.playbooks.interpreter import make_interpreters
from vedette.cli._settings import environment, settings_of
from vedette.core.clock import MICROS, SystemClock
from vedette.core.errors import ConflictError, DataError
from vedette.core.execute import Executor, Runs
from vedette.core.render import printable
from vedette.run.parts import Parts

Config = Annotated[Path | None, typer.Option(help="Settings file.")]
Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; that of the settings by default.")]
Tenant = Annotated[str, typer.Option(help="Whose; that of the settings by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Opened(Parts):
    """The parts, with the home and the tenant that the command line names.

    Args:
        home: Overrides the settings when given.
        tenant: Overrides the settings when not empty.
        config: Settings file, may be missing.
    """

    def __init__(self, home: Path | None, tenant: str, config: Path | None = None) -> None:
        settings = settings_of(home, config)
        super().__init__(settings, clock=SystemClock(), environ=environment())
        self.tenant = tenant or settings.tenant

    @cached_property
    def alerts(self) -> Alerts:
        """The alerts, up to the end of the signal log."""
        alerts = Alerts(self.state)
        if self.settings.log_folder.is_dir():
            while alerts.consume(self.log).read:
                pass
        return alerts

    @contextmanager
    def execute(self) -> Iterator[tuple[Runs, bool]]:
        """The runs, and whether this process executes them: another one (a server) may be doing so."""
        try:
            opened: Runs = Executor(self.runs_target, make_interpreters(self.world))
        except ConflictError as error:
            if error.code != "execute.executor.busy":
                raise
            opened = Runs(self.runs_target)
        with opened as runs:
            yield runs, isinstance(runs, Executor)

    @contextmanager
    def watch(self) -> Iterator[Runs]:
        """The runs, without executing any.

        Raises:
            DataError: `playbook.runs.none`: nothing was ever run here.
        """
        target = self.runs_target
        if isinstance(target, Path) and not target.is_file():
            raise DataError("playbook.runs.none", "no playbook was run here yet", at=str(target))
        with Runs(target) as runs:
            yield runs


def show_json(value: Any) -> None:
    """One JSON value on one line."""
    typer.echo(msgspec.json.encode(value).decode())


def span(micros: int) -> str:
    """A time span for people: `45s`, `12m`, `3h`, `8d`."""
    seconds = micros // MICROS
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def line(text: str) -> None:
    """One line of text in which nothing an attacker wrote can move the cursor."""
    typer.echo(printable(text))
