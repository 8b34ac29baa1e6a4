"""Supervision: a parent that holds the listening sockets, and replaces children that ended or hang.

A child writes a byte into its pipe ten times a second. One that was silent for `SILENCE_S` is killed with SIGKILL and
started again; connections wait in the parent's sockets meanwhile, so none is refused. A child that only waits for its
turn on a busy machine (it is runnable and had no processor time) is given `STARVED_S`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SILENCE_S = 0.6
"""After this long without a sign of life a child hangs."""
STARVED_S = 5.0
"""The same for one that would run, if the machine let it."""
START_S = 180.0
"""How long a child may take until its first sign of life: it compiles, loads and replays before."""
LOOK_S = 0.05
DRAIN_S = 20.0
"""How long children have to end when asked to; then they are killed."""
PAUSES_S = (0.0, 0.5, 2.0, 5.0)
"""Waits before a child that ends at once again and again is started."""
STEADY_S = 10.0

Tell = Callable[[str, str], None]
"""Told the child's name and what happened: `started`, `ended`, `hung`."""


@dataclass(slots=True)
class _Child:
    name: str
    command: Sequence[str]
    beats: bool
    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    started: float = 0.0
    beat: float = 0.0
    used: float = 0.0
    """Processor seconds at the last sign of life."""
    alive: bool = False
    """Whether it gave a sign of life since it started."""
    failures: int = 0
    again: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: {"started": 0, "ended": 0, "hung": 0})


class Supervisor:
    """Keeps children alive until it is asked to stop.

    Args:
        commands: Name, command and whether it gives signs of life. `{beat}` in a command becomes the number of the
            child's end of its pipe, `{NAME}` that of a socket.
        sockets: Handed to every child, by their names.
        tell: Told what happens.
    """

    def __init__(
        self, commands: Iterable[tuple[str, Sequence[str], bool]], sockets: Mapping[str, socket.socket], tell: Tell
    ) -> None:
        self._sockets = {name: each.fileno() for name, each in sockets.items()}
        self._tell = tell
        self._children = [_Child(name, command, beats) for name, command, beats in commands]
        self._ending = False

    def run(self) -> None:
        """Starts the children and watches them until SIGTERM or SIGINT; then lets them end."""
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, self._end)
        try:
            while not self._ending:
                for child in self._children:
                    self._look(child)
                pipes = [child.pipe for child in self._children if child.pipe >= 0]
                ready, _, _ = select.select(pipes, [], [], LOOK_S)
                for child in self._children:
                    if child.pipe in ready:
                        self._hear(child)
        finally:
            self._stop()

    def _end(self, _signal: int, _frame: object) -> None:
        self._ending = True

    def _look(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.again:
                self._start(child, now)
        elif child.process.poll() is not None:
            self._gone(child, "ended", now)
        elif child.beats and self._hangs(child, now):
            child.process.kill()
            child.process.wait()
            self._gone(child, "hung", now)

    @staticmethod
    def _hangs(child: _Child, now: float) -> bool:
        if not child.alive:
            return now - child.started > START_S
        silent = now - child.beat
        if silent <= SILENCE_S or child.process is None:
            return False
        state, used = usage(child.process.pid)
        # Runnable, and for all the silence hardly ever run: the machine is busy, not the child hung.
        starved = state == "R" and used - child.used < SILENCE_S / 4
        return not starved or silent > STARVED_S

    def _start(self, child: _Child, now: float) -> None:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        numbers = {**self._sockets, "beat": theirs}
        command = [_filled(part, numbers) for part in child.command]
        child.process = subprocess.Popen(command, pass_fds=tuple(numbers.values()))  # noqa: S603 - our own module
        os.close(theirs)
        child.pipe, child.started, child.beat, child.alive = ours, now, now, False
        self._note(child, "started")

    def _hear(self, child: _Child) -> None:
        with suppress(BlockingIOError):
            if os.read(child.pipe, 4_096) and child.process is not None:
                child.beat, child.alive = time.monotonic(), True
                child.used = usage(child.process.pid)[1]

    def _gone(self, child: _Child, how: str, now: float) -> None:
        os.close(child.pipe)
        steady = child.alive and now - child.started > STEADY_S
        child.failures = 0 if steady else child.failures + 1
        child.process, child.pipe = None, -1
        child.again = now + PAUSES_S[min(child.failures, len(PAUSES_S) - 1)]
        self._note(child, how)

    def _note(self, child: _Child, how: str) -> None:
        child.counts[how] += 1
        self._tell(child.name, how)

    def _stop(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            # A stopped process cannot hear that it should end.
            process.send_signal(signal.SIGCONT)
            process.terminate()
        until = time.monotonic() + DRAIN_S
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def give_sign(beat: int) -> bool:
    """A child's sign of life; False when the supervisor is gone.

    Args:
        beat: The number that stood in the place of `{beat}`.
    """
    try:
        os.write(beat, b".")
    except BlockingIOError:  # it has not read the last ones
        pass
    except BrokenPipeError:
        return False
    return True


def _filled(part: str, numbers: Mapping[str, int]) -> str:
    """A word of a command with the numbers of files in place of their names."""
    for name, number in numbers.items():
        part = part.replace(f"{{{name}}}", str(number))
    return part


def usage(pid: int) -> tuple[str, float]:
    """State letter and processor seconds of a process; `X` and 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
