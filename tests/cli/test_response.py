"""`alerts`, `case` and `playbook` beside a server that executes, and their errors. The good way is docs/response.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vedette.core.clock import SystemClock
from vedette.core.event import Entity
from vedette.core.log import SqliteLog
from vedette.core.signal import Level, Signal

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "content" / "playbooks" / "compromised_api_key.yaml"


def vedette(home, *words, code=0, **env):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "VEDETTE_HOME": str(home), "COLUMNS": "120", **env}
    command = [sys.executable, "-m", "vedette", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def home(tmp_path):
    signal = Signal(
        id="s",
        tenant="default",
        rule_id="r",
        rule_version="1",
        title="odd\x1b[2J title",
        level=Level.HIGH,
        event_id="e",
        event_time=SystemClock().now(),
        source="audit",
        entities=(Entity("key", "key_missing"),),
    )
    with SqliteLog(tmp_path / "log", SystemClock()) as log:
        log.append("signal", "s", [msgspec.json.encode(signal)])
    return tmp_path


def error(home, *words, **env):
    return json.loads(vedette(home, *words, "--json", code=2, **env))["error"]["code"]


def test_errors_are_coded(home, tmp_path):
    (alert,) = json.loads(vedette(home, "alerts", "--json"))
    assert alert["risk"] == 50.0
    assert "\x1b" not in vedette(home, "alerts") + vedette(home, "alerts", alert["id"])
    assert error(home, "alerts", "al_none") == "alerts.alert.unknown"
    assert error(home, "alerts", alert["id"], VEDETTE_TENANT="other") == "alerts.alert.unknown"
    assert error(home, "alerts", "--entity", "key") == "alerts.entity.invalid"
    assert error(home, "case", "show", "cs_none") == "cases.case.unknown"
    assert error(home, "playbook", "show", "run_none") == "playbook.runs.none"
    run = ("playbook", "run", str(SHIPPED), "--alert", alert["id"], "--by", "ana")
    assert error(home, *run) == "core.definitions.invalid"  # no account in the alert
    assert error(home, *run, "--input", "account") == "playbook.input.invalid"
    broken = tmp_path / "broken.yaml"
    broken.write_text("id: x\nsteps: [{type: do}]\n")
    text = vedette(home, "playbook", "check", str(broken), code=2)
    assert f"{broken}:2:9: unknown step type `do` [playbook.step.type]" in text


SERVER = """
import sys
from pathlib import Path
from vedette.cli._response import Opened
with Opened(Path(sys.argv[1]), "") as parts, parts.execute() as (runs, executing):
    print(executing, flush=True)
    sys.stdin.readline()
"""


def test_beside_a_server_that_executes(home):
    (alert,) = json.loads(vedette(home, "alerts", "--json"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert server.stdout.readline() == "True\n"
        run = ("playbook", "run", str(SHIPPED), "--alert", alert["id"], "--by", "ana", "--input", "account=m-1")
        view = json.loads(vedette(home, *run, "--json", "--wait", "240"))
        assert view["state"] == "waiting"
        assert vedette(home, "playbook", "list").startswith(view["id"])
        assert view["approval"]["actions"][0]["preview"] == {"problem": "access.key.unknown"}
        # The key does not exist here: the approved step fails for good, the payouts are frozen, and the run says so.
        done = json.loads(vedette(home, "playbook", "approve", view["id"], "--by", "bob", "--json"))
        assert (done["state"], done["error"]) == ("incomplete", "step `revoke` failed with access.key.unknown")
    finally:
        server.communicate("stop\n", timeout=300)
    assert server.returncode == 0


def test_a_playbook_that_is_not_there(tmp_path):
    told = vedette(tmp_path, "playbook", "check", "nowhere.yaml", code=2)
    assert "[playbook.file.unreadable]" in told
    told = vedette(tmp_path, "playbook", "run", "nowhere", "--alert", "al_1", "--by", "ana", code=2)
    assert "[playbook.file.unreadable]" in told


def test_a_shipped_playbook_by_its_id(tmp_path):
    told = vedette(tmp_path, "playbook", "run", "compromised_api_key", "--alert", "al_1", "--by", "ana", code=2)
    assert "Traceback" not in told
    assert "playbook.file" not in told
