"""`vedette serve --supervised`: a door that holds connections, a worker that answers, a follower of the log.

Each is replaced when it ends; door and worker also when they hang.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.errors import VedetteError
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.core.turns import step_back
from vedette.run.following import following
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.faults import Faults
from vedette.run.supervision import Supervisor
from vedette.serve.door.door import BACKLOG
from vedette.serve.server import Inherited, listen

_LOG = logging.getLogger("vedette.serve")

FLAG, INHERIT, FOLLOW = "--supervised", "--inherit", "follow"
LONGEST = 64
"""A socket's name has 107 bytes at most."""


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
    with (
        tempfile.TemporaryDirectory(prefix="vedette-", dir=_short()) as folder,
        SqliteLog(settings.log_folder, SystemClock(), partitions=settings.log_partitions) as log,
    ):
        faults = Faults(log, SystemClock())

        def told(name: str, what: str) -> None:
            if what != "started":
                tell(f"{name} {what}")
                try:
                    faults.tell(settings.tenant, f"{name}.{what}")
                except VedetteError as error:
                    _LOG.warning("supervisor: %s", error.code)

        # Nobody else may come there: the folder is this user's alone.
        worker = Path(folder) / "worker"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.bind(str(worker))
            door.listen(BACKLOG)
            commands = [
                ("worker", [*plain, INHERIT, "{listen}:{beat}:{door}"], True),
                ("follower", [*plain, INHERIT, FOLLOW], False),
                ("door", [sys.executable, "-m", "vedette.serve.door", "{listen}", "{beat}", str(worker)], True),
            ]
            Supervisor(commands, {"listen": listener, "door": door}, told).run()


def _short() -> str | None:
    """A folder for temporary files under which the name of a socket is not too long; None: the usual one."""
    return "/tmp" if len(tempfile.gettempdir()) > LONGEST else None  # noqa: S108 - a folder of our own is made there


def inherited(text: str) -> Inherited | None:
    """What a supervisor handed over; None without one."""
    if not text:
        return None
    return Inherited(*map(int, text.split(":")))


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
