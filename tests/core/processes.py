"""Processes that tests start: on ports of their own, and none of them outlives a test that failed."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PORTS = range(20_000, 32_000)
"""Below those that the system gives to connections: a port of these stays free while its server is down."""


def free_port() -> int:
    """A port that nobody listens on. By the system's randomness: test processes beside this one draw others."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no free port")


def end(process: subprocess.Popen[Any]) -> None:
    """Nothing of it runs any more, and its pipes are closed."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


@contextmanager
def none_left() -> Iterator[None]:
    """Ends every process that was started meanwhile, when what is done here fails."""
    started: list[subprocess.Popen[Any]] = []
    begin = subprocess.Popen.__init__

    def remembered(self: subprocess.Popen[Any], *words: Any, **more: Any) -> None:
        begin(self, *words, **more)
        started.append(self)

    subprocess.Popen.__init__ = remembered  # type: ignore[method-assign]
    try:
        yield
    except BaseException:
        for process in started:
            end(process)
        raise
    finally:
        subprocess.Popen.__init__ = begin  # type: ignore[method-assign]
