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

ROOT = Path(__file__).resolve().parents[2]
START_S = 120


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
    """Serves from `home` on a port that stays the same over restarts.

    Args:
        home: Folder of the data; its `stderr` file is beside it.
        port: On loopback; 0 takes a free one.
        options: More options of the verb.
        environ: More variables.
        before: Words of a command that runs the program.
    """

    def __init__(self, home, port, *options, environ=None, before=()):
        self.before = before
        self.home, self.port, self.options, self.environ = Path(home), port, options, environ or {}
        self.url = f"http://127.0.0.1:{port}"
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
        self.url = line.split()[-1]
        return self

    def kill(self):
        """As a power cut of the process: nothing of it runs any more when this returns."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self, sent=signal.SIGTERM):
        """As an operator stops it; gives the exit code."""
        self.process.send_signal(sent)
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.process.poll() is None:
            self.kill()
            raise AssertionError("the server did not stop")
        self.process.stdout.close()
        return self.process.returncode
