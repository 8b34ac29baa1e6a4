"""`python -m vedette.serve.door LISTEN BEAT WORKER`: started by the supervisor, with numbers of open files."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from functools import partial
from pathlib import Path

import uvloop

from vedette.core.turns import come_first
from vedette.run.supervision import give_sign
from vedette.serve.door.door import run_door
from vedette.serve.hardening import forbid_dumps


def main() -> None:
    """Runs the door."""
    forbid_dumps()
    come_first()
    listener, beat, worker = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
    os.set_blocking(beat, False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_door(listener, worker, partial(give_sign, beat)))


if __name__ == "__main__":
    main()
