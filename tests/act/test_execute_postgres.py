"""The executor on PostgreSQL: the same port, one executor a database, a wait that survives its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

STORY = """
import subprocess, sys
from vedette.core.execute import Executor, Runs

def story(steps, definition, inputs):
    return [steps.step("once", lambda: 1).value, steps.wait("go", timeout_s=600)]

url = sys.argv[1]
with Executor(url, {"story": story}) as runs:
    runs.start("r1", "story", {}, {})
    runs.wait("r1", timeout_s=240, until=lambda _: len(runs.history("r1")) >= 2)
    second = "import sys; from vedette.core.execute import Executor; Executor(sys.argv[1], {})"
    done = subprocess.run([sys.executable, "-c", second, url], capture_output=True, text=True)
    print("execute.executor.busy" in done.stderr)
with Executor(url, {"story": story}) as runs, Runs(url) as other:
    other.send("r1", "go", "first", key="k")
    other.send("r1", "go", "second", key="k")
    other.start("r2", "story", {}, {})
    other.send("r2", "go", "queued", key="k2")
    print(runs.wait("r1", timeout_s=240).result, runs.wait("r2", timeout_s=240).result)
"""


@pytest.mark.postgres
@pytest.mark.kill
def test_the_port_on_postgresql(postgres_url):
    done = subprocess.run(
        [sys.executable, "-c", STORY, postgres_url], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout.split("\n")[:2], done.stderr) == (["True", "[1, 'first'] [1, 'queued']"], "")
