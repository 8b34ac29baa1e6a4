"""The served processes of a day, on its clock: the platform as `vedette serve` runs it, and what follows its log.

Run as `python -m vedette.demo.served PLAN serve` and `... PLAN follow`. Each ends when it is asked to, or when the
process that started it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from vedette.core.settings import Settings
from vedette.demo.clock import DayClock
from vedette.run.following import following
from vedette.run.payments.scoring import load_scoring
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.run.platform import Platform
from vedette.serve.server import run_server

PATIENCE = 1_000.0
"""A busy machine must change no figure of the board but the latency: decisions wait for their parts."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and where."""

    home: Path
    clock: Path
    model: Path
    rules: Path
    sigma: tuple[Path, ...]
    host: str
    port: int


def write_plan(plan: Plan, path: Path) -> None:
    """Writes the file that `main` reads."""
    path.write_bytes(msgspec.json.encode(plan, enc_hook=str))


def read_plan(path: Path) -> Plan:
    """Reads it."""
    return msgspec.json.decode(path.read_bytes(), type=Plan, dec_hook=lambda kind, text: kind(text))


def serve(plan: Plan) -> None:
    """Serves until asked to stop."""
    settings = Settings(home=plan.home, patience=PATIENCE)
    platform = Platform(
        settings,
        clock=DayClock(plan.clock),
        scoring=load_scoring(plan.model, plan.rules),
        detection=_detection(plan),
        apart=True,
    )
    with platform:
        run_server(platform, host=plan.host, port=plan.port, tell=_tell)


def follow(plan: Plan) -> None:
    """Runs rules and keeps alerts, event store, index and evidence until asked to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Which alerts join a case in time hangs on real seconds; one seed is to give one board.
    with following(Settings(home=plan.home), DayClock(plan.clock), _detection(plan), joins=False):
        stop.wait()


def _detection(plan: Plan) -> Detection | None:
    return load_detection(plan.sigma, cache=plan.home / "cache") if plan.sigma else None


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """Our input ends when the process that holds its other end does."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    {"serve": serve, "follow": follow}[sys.argv[2]](read_plan(Path(sys.argv[1])))
