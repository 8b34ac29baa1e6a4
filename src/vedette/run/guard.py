"""Work that happens by itself: each beat in its own thread, guarded and counted, ended together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vedette.core.errors import VedetteError
from vedette.run.metrics import Meters

T = TypeVar("T")

_LOG = logging.getLogger("vedette.run")


@dataclass(frozen=True, slots=True)
class Beat:
    """Something to do again and again."""

    name: str
    every_s: float
    """Wait after a turn that found less than `enough` to do; after one that found more, the next follows at once."""
    turn: Callable[[], int]
    """Does a bounded piece of work and says how much that was. Idempotent: a turn that failed is simply done again."""
    enough: int = 1
    """Above 1 where a turn costs much however little it does: then what trickles in is gathered for `every_s`."""


@contextmanager
def beating(beats: Sequence[Beat], meters: Meters) -> Iterator[None]:
    """Runs the beats until the block ends; turns in hand are finished first."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_run, args=(beat, stop, meters), name=f"beat-{beat.name}", daemon=True)
        for beat in beats
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _run(beat: Beat, stop: threading.Event, meters: Meters) -> None:
    while not stop.is_set():
        done = guarded(beat.name, beat.turn, meters, 0)
        if done < beat.enough:
            stop.wait(beat.every_s)


def guarded(name: str, turn: Callable[[], T], meters: Meters, otherwise: T) -> T:
    """One turn, or one event; an error is counted and told, and the work goes on: one bad turn must not end a service.

    Args:
        name: Where, in counts and messages.
        turn: What may fail.
        meters: Count the error by its code, or by its type when it was not foreseen.
        otherwise: The answer when it failed.
    """
    try:
        return turn()
    except VedetteError as error:
        meters.failure(name, error.code)
        _LOG.warning("%s: %s", name, error.code)
    except Exception as error:  # noqa: BLE001 - run's guard: counted by type, and the next turn tries again
        meters.failure(name, type(error).__name__)
        _LOG.exception("%s: unforeseen", name)
    return otherwise
