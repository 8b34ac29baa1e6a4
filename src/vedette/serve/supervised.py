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
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vedette.core.clock import SystemClock
from vedette.core.errors import VedetteError
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.core.turns import Shares, let_others_pass, step_back
from vedette.run.following import following
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.faults import Faults
from vedette.run.supervision import Supervisor
from vedette.serve.door.door import BACKLOG
from vedette.serve.server import Inherited, listen

_LOG = logging.getLogger("vedette.serve")

FLAG, INHERIT = "--supervised", "--inherit"
FOLLOW, INSIST = "follow", "insist"
"""What a follower is told, last."""
LONGEST = 64
"""A socket's name has 107 bytes at most."""
WATCH_S = 10.0
"""How often a follower looks whether it gets what it needs of the processors."""
LOOK_S = 1.0
"""How often it looks whether its parent lives."""
WAITED_S, LEAST_SHARE = 1.0, 0.2
"""It does not when it waited so long meanwhile, and ran for less than that part of the time for which it wanted to."""
INSIST_S = 600.0
"""How long it then takes turns as everybody else before it tries again."""


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


def follow(settings: Settings, detection: Detection | None, *, insists: bool = False) -> None:
    """Runs what follows the log until SIGTERM, or until the supervisor is gone.

    It takes what nobody else wants of the processors, as long as that is enough for it. When it is not, the process
    begins anew in its place and insists on its part for a while: a thread that lets others pass can do nothing else.

    Args:
        settings: Whose log.
        detection: Rules on the stream.
        insists: Whether it takes turns as everybody else.
    """
    step_back()
    stop = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda _signal, _frame: stop.set())
    parent, until = os.getppid(), time.monotonic() + INSIST_S

    def ended(seconds: float) -> bool:
        """Waits; at once when nobody wants this process any more."""
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            if stop.wait(LOOK_S) or os.getppid() != parent:
                return True
        return False

    with following(settings, SystemClock(), detection):
        if not insists:
            let_others_pass()
        shares = Shares()
        while not ended(WATCH_S):
            if time.monotonic() > until if insists else _starves(*shares.look()):
                _LOG.warning("follower: %s", "lets others pass again" if insists else "others want all processors")
                # As after a kill: to finish what is in hand would take as long as whatever starves.
                os.execv(sys.executable, [*sys.orig_argv[:-1], FOLLOW if insists else INSIST])  # noqa: S606 - ours


def _starves(ran: float, waited: float) -> bool:
    return waited > WAITED_S and ran < LEAST_SHARE * (ran + waited)
