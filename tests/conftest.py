"""What every test may use: the shared public data, a fake clock, seeded ids, a private PostgreSQL."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis

ROOT = Path(__file__).resolve().parent.parent

# Helper modules stand beside the tests that use them and are imported by their own name, which is unique.
sys.path[:0] = [str(folder) for folder in sorted((ROOT / "tests").iterdir()) if folder.is_dir()]

from processes import free_port, none_left  # noqa: E402

# How quick a machine is decides nothing.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("patient")
# A busy machine must not turn an answer into one by policy; tests that look at deadlines set their own.
os.environ["VEDETTE_PATIENCE"] = "1000"


class FakeClock:
    """A clock that moves only when told. Wall time in microseconds, monotonic in seconds."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self.micros = now

    def now(self) -> int:
        return self.micros

    def monotonic(self) -> float:
        return self.micros / 1e6

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * 1e6)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data and oracles. Missing: skip, which fails where CI is set."""
    path = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"shared test data not found at {path}")
    return path


def strict(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under CI a part that was not run is a part that is not proved: a skip is a failure."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {reason}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that the threat model names with their OWASP category: `pytest -m owasp` runs them."""
    named: dict[tuple[str, str], str] = {}
    page = ROOT / "docs" / "threat-model.md"
    for line in page.read_text().splitlines() if page.exists() else ():
        if match := re.match(r"\| T[0-9]{2} \| (A[0-9]{2}) \|", line):
            named |= dict.fromkeys(re.findall(r"`([\w/]+\.py)::(\w+)`", line), match[1])
    for item in items:
        file = item.path.relative_to(ROOT / "tests").as_posix() if item.path.is_relative_to(ROOT / "tests") else ""
        if category := named.get((file, getattr(item, "originalname", ""))):
            item.add_marker(pytest.mark.owasp(category))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with none_left():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    strict(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    strict(report)
    return report


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=30).close()
    except psycopg.OperationalError:
        return False
    return True


def _pongs(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


class PostgresServer:
    """A server of our own: its data in `folder`, on loopback. `url` is good until the next `start`."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        # PostgreSQL refuses to run as root; its package brings a user for it.
        account: dict[str, object] = {}
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            account = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **account}
        arguments = ["-D", folder / "data", "-U", "vedette", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run([binaries / "initdb", *arguments], check=True, **self._quiet)
        self.start()

    def start(self) -> None:
        """Retries when another run takes the port first, or what was killed is not quite gone."""
        for _ in range(50):
            port = free_port()
            settings = [f"-cport={port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={self._folder}"]
            command = [self._binaries / "postgres", "-D", self._folder / "data", *settings]
            self._process = subprocess.Popen(command, **self._quiet)
            self.url = f"postgresql://vedette@127.0.0.1:{port}/postgres"
            while self._process.poll() is None:
                if _answers(self.url):
                    return
                time.sleep(0.05)
            time.sleep(0.1)
        pytest.fail("PostgreSQL did not start")

    def kill(self) -> None:
        """SIGKILL of all its processes."""
        pid = self._process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        children = listed.read_text().split() if listed.exists() else []
        self._process.kill()
        self._process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def stop(self) -> None:
        """In order."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=300)


def _postgres() -> Iterator[PostgresServer]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="vedette-pg-"))
    try:
        server = PostgresServer(found[-1].parent, folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a fresh PostgreSQL server, stopped at the end. Not installed: skip, which fails where CI is set."""
    for server in _postgres():
        yield server.url


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A fresh PostgreSQL server for one test, to be killed and started again."""
    yield from _postgres()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """URL and process of a fresh Redis without persistence, stopped at the end. Not installed: skip, a failure in CI."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Redis is not installed")
    folder = Path(tempfile.mkdtemp(prefix="vedette-redis-"))
    try:
        for _ in range(5):
            port = free_port()
            server = subprocess.Popen(
                [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            url = f"redis://127.0.0.1:{port}/0"
            while server.poll() is None:
                if _pongs(url):
                    yield url, server
                    server.terminate()
                    server.wait(timeout=300)
                    return
                time.sleep(0.02)
        pytest.fail("Redis did not start")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server: tuple[str, subprocess.Popen[bytes]]) -> str:
    """URL of an empty Redis."""
    url, _ = redis_server
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url
