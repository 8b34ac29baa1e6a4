"""The durable executor port, on SQLite; kills are in test_execute_kill."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vedette.core import execute
from vedette.core.db import sa
from vedette.core.errors import ConflictError, NotFoundError, PermanentError, TransientError
from vedette.core.execute import Executor, Outcome, Retry, Runs, State, attempt
from vedette.core.execute.turn import open_turn


def story(steps, definition, inputs):
    tries = []

    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("other.side.busy", "later", retry_after=0.01)
        return len(tries)

    def refused():
        tries.append(1)
        raise PermanentError("other.side.refused", "no")

    first = steps.step("flaky", flaky, retry=Retry(attempts=5, delay_s=0.001))
    second = steps.step("refused", refused, retry=Retry(attempts=5, delay_s=0.001))
    answer = steps.wait("go", timeout_s=inputs["patience"])
    return {
        "first": [first.ok, first.value, first.attempts],
        "second": [second.ok, second.code, second.attempts],
        "answer": answer,
        "word": definition["word"],
    }


def broken(steps, definition, inputs):
    raise PermanentError("story.is.over", "nothing to tell")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "runs.db"
    with Executor(path, {"story": story, "broken": broken}) as executor:
        yield executor


def test_a_run_with_retries_a_refusal_and_a_message(runs):
    runs.start("r-1", "story", {"word": "w"}, {"patience": 20})
    runs.send("r-1", "go", {"yes": True}, key="k")
    runs.send("r-1", "go", {"yes": False}, key="k")  # the same key: ignored
    run = runs.wait("r-1", timeout_s=240)
    assert run.state is State.SUCCEEDED
    assert run.result == {
        "first": [True, 3, 3],
        "second": [False, "other.side.refused", 1],
        "answer": {"yes": True},
        "word": "w",
    }
    assert [step.name for step in runs.history("r-1") if not step.name.startswith("DBOS")] == ["flaky"] * 3 + [
        "refused"
    ]


def test_start_is_idempotent_and_refuses_another_content(runs):
    for _ in range(3):
        runs.start("r-2", "story", {"word": "w"}, {"patience": 0})
    assert runs.wait("r-2", timeout_s=240).result["answer"] is None
    with pytest.raises(ConflictError) as caught:
        runs.start("r-2", "story", {"word": "other"}, {"patience": 0})
    assert caught.value.code == "execute.run.conflict"
    assert sum(run.id == "r-2" for run in runs.list_runs()) == 1


def test_concurrent_starts_run_once(runs):
    ready = threading.Barrier(8)

    def begin():
        ready.wait()
        runs.start("r-3", "story", {"word": "w"}, {"patience": 0})

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs.wait("r-3", timeout_s=240)
    assert [step.name for step in runs.history("r-3")].count("refused") == 1


def test_a_failed_run_says_why_and_an_unknown_one_is_not_found(runs):
    runs.start("r-4", "broken", {}, {})
    run = runs.wait("r-4", timeout_s=240)
    assert (run.state, run.error) == (State.FAILED, "nothing to tell [story.is.over]")
    assert runs.list_runs(states=[State.FAILED])[0].id == "r-4"
    with pytest.raises(NotFoundError):
        runs.send("r-none", "go", 1, key="k")


def test_another_process_may_start_and_watch_but_not_execute(runs):
    with Runs(runs.target) as other:
        other.start("r-5", "story", {"word": "w"}, {"patience": 0})
        assert other.wait("r-5", timeout_s=240).state is State.SUCCEEDED
    assert not open_turn(runs.target, "local").take()


def test_a_process_has_one_executor(runs, tmp_path):
    with pytest.raises(ConflictError) as caught:
        Executor(tmp_path / "runs.db", {})
    assert caught.value.code == "execute.executor.second"


def test_cancel_then_resume(runs):
    runs.start("r-6", "story", {"word": "w"}, {"patience": 600})
    runs.wait("r-6", timeout_s=240, until=lambda run: len(runs.history("r-6")) >= 4)
    runs.cancel("r-6")
    assert runs.status("r-6").state is State.CANCELLED
    runs.send("r-6", "go", "late", key="k")
    runs.resume("r-6")
    run = runs.wait("r-6", timeout_s=240)
    assert (run.state, run.result["answer"]) == (State.SUCCEEDED, "late")


def test_nothing_is_pickled(runs):
    runs.start("r-7", "story", {"word": "é"}, {"patience": 0})
    runs.wait("r-7", timeout_s=240)
    with runs._engine.connect() as connection:
        rows = connection.exec_driver_sql("select distinct serialization from workflow_status").scalars().all()
        rows += connection.exec_driver_sql("select distinct serialization from operation_outputs").scalars().all()
        mode = connection.exec_driver_sql("pragma journal_mode").scalar()
        sync = connection.exec_driver_sql("pragma synchronous").scalar()
    assert set(rows) <= {"portable_json", None}
    assert (mode, sync) == ("wal", 2)


def test_a_step_that_is_late_or_gives_no_json_fails_with_a_code():
    gate = threading.Event()
    late = attempt(gate.wait, timeout_s=0.02)
    gate.set()
    assert (late.code, late.retryable) == ("execute.step.timeout", True)
    assert attempt(object).code == "execute.step.crashed"
    database = sa.create_engine("sqlite://")
    missing = attempt(lambda: database.connect().exec_driver_sql("select * from nothing where x = 'sk_live'"))
    assert missing == Outcome(False, None, "execute.step.unavailable", "a database or connection failed", True)
    database.dispose()
    secret = attempt(lambda: {}["sk_live_secret"])
    assert secret == Outcome(False, None, "execute.step.crashed", "the step raised KeyError")


def test_the_waits_between_attempts_are_bounded():
    retry = Retry(attempts=20, delay_s=1, backoff=10, max_delay_s=60)
    assert [retry.delay(n) for n in (1, 2, 3, 19)] == [1, 10, 60, 60]
    assert retry.delay(1, retry_after=7) == 7


def test_only_this_package_imports_the_library():
    home = Path(execute.__file__).parent
    users = [
        path
        for path in home.parent.parent.rglob("*.py")
        if "import dbos" in (text := path.read_text()) or "from dbos" in text
    ]
    assert {path.parent for path in users} == {home}


LEAVE = """
import sys, time
from pathlib import Path
from vedette.core.execute import Executor, Retry
from vedette.core.errors import TransientError

def again():
    raise TransientError("a.b", "later", retry_after=600)

def wait(steps, definition, inputs):
    if inputs == "sleep":
        return steps.step("again", again, retry=Retry(attempts=2)).code
    return [steps.step("once", lambda: 1).value, steps.wait("go", timeout_s=600)]

path = Path(sys.argv[1])
for number in range(2):
    with Executor(path, {"wait": wait}) as runs:
        runs.start("w", "wait", {}, "wait")
        runs.start("s", "wait", {}, "sleep")
        runs.wait("w", timeout_s=240, until=lambda _: len(runs.history("w")) >= 2)
        runs.wait("s", timeout_s=240, until=lambda _: len(runs.history("s")) >= 2)
with Executor(path, {"wait": wait}) as runs:
    runs.send("w", "go", "now", key="k")
    print(runs.wait("w", timeout_s=240).result, runs.status("s").state, len(runs.history("s")), len(runs.history("w")))
"""


@pytest.mark.kill
def test_a_process_leaves_at_once_though_its_runs_wait_and_the_next_goes_on(tmp_path):
    command = [sys.executable, "-c", LEAVE, str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[1, 'now'] running 2 3", "")
