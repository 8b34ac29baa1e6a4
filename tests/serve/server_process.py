"""A real `vedette serve` in its own process, started and killed at will."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from processes import end, free_port

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S, PATIENCE_S = 300, 180, 120
"""How long a server may take to begin, to end, and to answer: bounds of a test that hangs, not of what is looked at."""


def vedette(home, *arguments, check=True):
    """Runs a verb to its end over the same data."""
    environ = {**os.environ, "VEDETTE_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "vedette", *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


def make_key(home, *scopes):
    """A key of the default tenant, made by the command line."""
    wanted = [word for scope in scopes for word in ("--scope", scope)]
    return json.loads(vedette(home, "keys", "create", *wanted, "--json").stdout)["secret"]


class Server:
    """Serves from `home` on a free port that stays the same over restarts.

    Args:
        home: Folder of the data; its `stderr` file is beside it.
        options: More options of the verb.
        environ: More variables.
        before: Words of a command that runs the program.
    """

    def __init__(self, home, *options, environ=None, before=()):
        self.before = before
        self.home, self.options, self.environ = Path(home), options, environ or {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.errors = self.home.with_suffix(".stderr")

    def start(self):
        environ = {**os.environ, "VEDETTE_HOME": str(self.home), "PYTHONPATH": str(ROOT / "src"), **self.environ}
        verb = [sys.executable, "-m", "vedette", "serve", "--port", str(self.port), *map(str, self.options)]
        command = [*self.before, *verb]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=errors)
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline().decode() if ready else ""
        if not line.startswith("listening on"):
            self.kill()
            raise AssertionError(self.errors.read_text())
        assert line.split()[-1] == self.url
        return self

    def ask(self, method, path, secret, **more):
        """The answer to a request; one that is told to come again comes again."""
        headers = {"authorization": f"Bearer {secret}"} | more.pop("headers", {})
        for _ in range(600):
            answer = httpx.request(method, self.url + path, headers=headers, timeout=PATIENCE_S, **more)
            if answer.status_code not in {429, 503}:
                break
            time.sleep(0.1)
        return answer

    def kill(self):
        """As a power cut of the process: nothing of it runs any more when this returns."""
        end(self.process)

    def stop(self, sent=signal.SIGTERM):
        """As an operator stops it; gives the exit code."""
        self.process.send_signal(sent)
        try:
            return self.process.wait(STOP_S)
        finally:
            self.kill()
