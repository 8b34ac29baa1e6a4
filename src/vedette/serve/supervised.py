"""`vedette serve --supervised`: a worker that is replaced when it ends or hangs, and what follows the log beside it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from vedette.core.clock import SystemClock
from vedette.core.errors import VedetteError
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.run.following import following
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.faults import Faults
from vedette.run.supervision import Supervisor
from vedette.serve.server import Inherited, listen
from vedette.serve.turns import step_back

_LOG = logging.getLogger("vedette.serve")

FLAG, INHERIT, FOLLOW = "--supervised", "--inherit", "follow"


def supervise(
    settings: Settings, arguments: Sequence[str], *, host: str, port: int, tell: Callable[[str], None]
) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        settings: Where signals of what happened to children go.
        arguments: Of this process, which the children get too.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        tell: Told of children that ended.

    Raises:
        DataError: `serve.address.refused`.
    """
    listener = listen(host, port)
    plain = [sys.executable, "-m", "vedette", *(one for one in arguments if one != FLAG)]
    commands = [
        ("worker", [*plain, INHERIT, "{listen}:{beat}"], True),
        ("follower", [*plain, INHERIT, FOLLOW], False),
    ]
    with SqliteLog(settings.log_folder, SystemClock(), partitions=settings.log_partitions) as log:
        faults = Faults(log, SystemClock())

        def told(name: str, what: str) -> None:
            if what != "started":
                tell(f"{name} {what}")
                try:
                    faults.tell(settings.tenant, f"{name}.{what}")
                except VedetteError as error:
                    _LOG.warning("supervisor: %s", error.code)

        Supervisor(commands, listener, told).run()


def inherited(text: str) -> Inherited | None:
    """What a supervisor handed over; None without one."""
    if not text:
        return None
    numbers, _, beat = text.partition(":")
    return Inherited(int(numbers), int(beat))


def follow(settings: Settings, detection: Detection | None) -> None:
    """Runs what follows the log until SIGTERM, or until the supervisor is gone."""
    step_back()
    stop = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda _signal, _frame: stop.set())
    parent = os.getppid()
    with following(settings, SystemClock(), detection):
        while not stop.wait(1.0) and os.getppid() == parent:
            pass
