"""Starts and stops the served processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vedette.core.errors import PermanentError
from vedette.demo.served import Plan, write_plan

END_S = 30.0
"""Seconds that the process has to end when asked to; then it is killed."""
_SAYS = "listening on http://"


@contextmanager
def serving(plan: Plan, folder: Path) -> Iterator[int]:
    """Serves a plan in processes of their own until the block ends; gives the port.

    Args:
        plan: What is served.
        folder: Where the plan and what the processes complain of are written.

    Raises:
        PermanentError: `demo.server.failed` with the last line of the server's complaints.
    """
    path, complaints = folder / "plan.json", folder / "server.log"
    write_plan(plan, path)
    with complaints.open("wb") as errors:
        server = _start(path, "serve", errors)
        try:
            port = _port(server, complaints)
            follower = _start(path, "follow", errors)
            try:
                yield port
            finally:
                _end(follower)
        finally:
            _end(server)


def _start(plan: Path, part: str, errors: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own module with a path made here
        [sys.executable, "-m", "vedette.demo.served", str(plan), part],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def _port(process: subprocess.Popen[str], complaints: Path) -> int:
    """The port it listens on, once it does."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    for line in process.stdout:
        if line.startswith(_SAYS):
            return int(line.strip().rpartition(":")[2])
    process.wait()
    said = complaints.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    raise PermanentError("demo.server.failed", f"the served process ended: {said[-1]:.300}", at=str(complaints))


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
