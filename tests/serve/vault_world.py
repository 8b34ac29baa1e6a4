"""A vault process with its own folder, for the tests that talk to it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from vedette.prove.dlp import is_luhn

NUMBER = "4000056655665556"
CARD = {"number": NUMBER, "exp_month": 12, "exp_year": 2030, "merchant": "m-1", "purposes": ["charge"]}
PAGE = "https://shop.example"


def new_number(rng: random.Random) -> str:
    """A card number that nobody has published."""
    body = "5" + str(rng.randrange(1, 6)) + "".join(str(rng.randrange(10)) for _ in range(13))
    return next(body + str(last) for last in range(10) if is_luhn(body + str(last)))


class Served:
    """A vault process with its folder, and a client with a key that may do everything."""

    def __init__(self, home: Path, page: str, *, before: Sequence[str] = ()) -> None:
        self.home, self.page, self.before = home, page, before
        environ = {"VEDETTE_SECRET_CUSTODY_PASSPHRASE": "a phrase of the vault"}
        self.environ = dict(os.environ) | environ
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "vedette", "vault", "serve", "--port", "0", "--origin", self.page]
        self.process = subprocess.Popen(
            [*self.before, *command, "--home", self.home],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on "), self.process.stderr and self.process.stderr.read()
        self.url = line.split()[-1]

    def verb(self, *arguments: str, said: str = "") -> str:
        """Output of a verb of the command line."""
        command = [sys.executable, "-m", "vedette", *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=self.environ, input=said.encode())
        return done.stdout.decode()

    def key(self, *scopes: str, account: str = "") -> str:
        """Secret of a new key."""
        wanted = [word for scope in scopes for word in ("--scope", scope)] + (["--account", account] if account else [])
        return json.loads(self.verb("keys", "create", "--json", "--home", str(self.home), *wanted))["secret"]

    def call(self, method: str, path: str, key: str = "", **options: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.request(method, self.url + path, headers=headers, timeout=300, **options)

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.said = b"".join(self.process.communicate())
