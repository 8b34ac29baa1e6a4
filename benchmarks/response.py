"""Durable runs beside the library as it ships (pickle, rollback journal), and signals grouped into alerts.

The peer of grouping is the usual way: one transaction a signal.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vedette.act.alerts import Alerts
from vedette.core.db import open_database
from vedette.core.event import Entity
from vedette.core.execute import Executor
from vedette.core.signal import Level, Signal

RUNS, STEPS = 40, 5
SIGNALS = 5_000
TIME = 1_750_000_000_000_000

SHIPPED = """
import sys, time
from dbos import DBOS
DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{sys.argv[1]}", "log_level": "CRITICAL"})
@DBOS.workflow()
def story():
    return [DBOS.run_step({"name": "s"}, lambda: 1) for _ in range(int(sys.argv[3]))]
DBOS.launch()
story()
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[2])):
    story()
print(time.perf_counter() - wall, time.process_time() - cpu)
DBOS.destroy()
"""


def ours(folder: Path) -> tuple[float, float]:
    def story(steps, _definition, _inputs):
        return [steps.step(f"s{number}", lambda: 1).value for number in range(STEPS)]

    with Executor(folder / "runs.db", {"story": story}) as runs:
        runs.start("warm", "story", {}, {})
        runs.wait("warm", timeout_s=30)
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(RUNS):
            runs.start(f"r{number}", "story", {}, {})
        for number in range(RUNS):
            runs.wait(f"r{number}", timeout_s=60)
        return time.perf_counter() - wall, time.process_time() - cpu


def shipped(folder: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", SHIPPED, str(folder / "peer.db"), str(RUNS), str(STEPS)]
    wall, cpu = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(wall), float(cpu)


def signals() -> list[tuple[Signal, int]]:
    return [
        (
            Signal(
                id=f"s{number}",
                tenant="acme",
                rule_id=f"rule-{number % 20}",
                rule_version="1",
                title="Something odd",
                level=Level.MEDIUM,
                event_id=f"e{number}",
                event_time=TIME + number * 1_000_000,
                source="audit",
                entities=(Entity("user", f"u{number % 50}"), Entity("ip", "198.51.100.7")),
            ),
            TIME,
        )
        for number in range(SIGNALS)
    ]


def grouped(folder: Path, size: int, count: int) -> tuple[float, float]:
    database = open_database(folder / f"state-{size}.db")
    alerts, made = Alerts(database), signals()[:count]
    wall, cpu = time.perf_counter(), time.process_time()
    for at in range(0, count, size):
        alerts.apply(made[at : at + size])
    taken = time.perf_counter() - wall, time.process_time() - cpu
    database.close()
    return taken


def main() -> None:
    print(f"{platform.platform()}\n")
    print(f"{f'{RUNS} runs of {STEPS} steps':<44} {'runs/s':>8} {'CPU ms/run':>11}")
    with tempfile.TemporaryDirectory(dir=".") as name:
        for label, measure in (
            ("core.execute (WAL, FULL, JSON)", ours),
            ("library as shipped, one by one (peer)", shipped),
        ):
            wall, cpu = measure(Path(name))
            print(f"{label:<44} {RUNS / wall:>8.1f} {cpu / RUNS * 1e3:>11.1f}")
        print(f"\n{'signals into alerts':<44} {'per s':>8} {'CPU us each':>11}")
        for size, count, label in ((500, SIGNALS, "500 a transaction"), (1, 500, "one a transaction (peer)")):
            wall, cpu = grouped(Path(name), size, count)
            print(f"{label:<44} {count / wall:>8,.0f} {cpu / count * 1e6:>11.0f}")


if __name__ == "__main__":
    main()
