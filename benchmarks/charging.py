"""A server of charges that tells what its CPU went to; `steady.py` starts it.

    python benchmarks/charging.py --home DIR --tenant acme --port 8830 --model DIR --rules FILE [--postgres URL]
    python benchmarks/charging.py --home DIR --tenant acme --follow [--postgres URL]

It is `vedette serve` over a platform whose steps carry clocks; what follows the log runs beside it (`--follow`), as
under `--supervised`. It prints its API keys once it listens, and at each SIGUSR1 a line of JSON: CPU seconds since the
start of the process, of all of it, of each thread, and of each step in the thread that makes charges.
"""

# ruff: noqa: SLF001 - what is measured are the steps inside

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.clock import SystemClock
from vedette.core.settings import Settings, load_settings
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.service import settle
from vedette.prove.access.policy import Level, Mode
from vedette.run.payments.scoring import load_scoring
from vedette.run.platform import Platform
from vedette.serve import charging as serving
from vedette.serve.server import run_server
from vedette.serve.supervised import follow

KEYS = 8
"""API keys that share the load: one may make 100 charges a second."""


class Steps:
    """CPU of each step, by the thread that does it; a step inside another one counts only for itself."""

    def __init__(self) -> None:
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._inside = threading.local()

    def clock(self, owner: Any, name: str, step: str) -> None:
        """Puts a clock around `owner.name`."""
        setattr(owner, name, self.timed(step, getattr(owner, name)))

    def timed(self, step: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """`act`, its CPU added to a step."""

        def run(*arguments: Any, **named: Any) -> Any:
            outer, began = getattr(self._inside, "spent", 0.0), time.thread_time()
            self._inside.spent = 0.0
            try:
                return act(*arguments, **named)
            finally:
                took = time.thread_time() - began
                self.cpu[step] += took - self._inside.spent
                self._inside.spent = outer + took

        return run


def watch(platform: Platform) -> Steps:
    """Clocks around the steps of a charge."""
    steps, charges = Steps(), platform.charges
    steps.clock(serving, "write_all", "audit record")
    steps.clock(serving, "_read", "read and scan the body")
    steps.clock(charges, "_checked", "check the request")
    steps.clock(charges._keys, "look", "look the key up")
    steps.clock(charges, "_decide_each", "wait for the decision")
    steps.clock(charges._ledger, "create_transfers", "ledger")
    steps.clock(charges._outbox, "emit_many", "outbox")
    steps.clock(charges._keys, "finish_many", "store the answer")
    charges._claiming._work = steps.timed("claim the key", charges._claiming._work)
    charges._settling._work = steps.timed("effect: rows, answer, commit", charges._settling._work)
    return steps


def threads() -> dict[str, float]:
    """CPU seconds by thread, those of a pool together."""
    found: defaultdict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        try:
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        name = thread.name.rstrip("0123456789").rstrip("_-")
        found[name] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return dict(found)


def serve(settings: Settings, port: int, model: Path, rules: Path) -> None:
    scoring = load_scoring(model, rules, None, Policy.OPEN)
    with Platform(settings, clock=SystemClock(), scoring=scoring, apart=True) as platform:
        keys = [
            platform.access.issue_key(settings.tenant, mode=Mode.LIVE, scopes={"charges": Level.WRITE}).secret.reveal()
            for _ in range(KEYS)
        ]
        steps = watch(platform)
        platform.desk.service(settings.tenant)
        settle()

        def tell(*_: object) -> None:
            fallbacks = {code: count for counts in platform.desk.faults().values() for code, count in counts.items()}
            cpu = {"all": time.process_time(), "threads": threads(), "steps": dict(steps.cpu), "fallbacks": fallbacks}
            print(json.dumps(cpu), flush=True)

        signal.signal(signal.SIGUSR1, tell)
        run_server(
            platform, host="127.0.0.1", port=port, tell=lambda _line: print(json.dumps({"keys": keys}), flush=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rules", type=Path)
    parser.add_argument("--postgres", default="")
    parser.add_argument("--follow", action="store_true")
    given = parser.parse_args()
    settings = load_settings(None, {"VEDETTE_HOME": str(given.home), "VEDETTE_TENANT": given.tenant})
    if given.postgres:
        # Services of one database: each has a home and a name, and they have their secrets in common.
        shared = given.home.parent / "shared"
        settings = msgspec.structs.replace(settings, database_url=given.postgres, service=given.tenant, shared=shared)
    if given.follow:
        follow(settings, None)
    else:
        serve(settings, given.port, given.model, given.rules)


if __name__ == "__main__":
    main()
