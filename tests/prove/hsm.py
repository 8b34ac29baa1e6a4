"""A SoftHSM of our own: one token in a folder of this process, emptied for each test."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from vedette.core.clock import Clock
from vedette.prove.custody.token import Token
from vedette.prove.secrets import Secret

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
LABEL = "vedette"
PIN = "87654321"
_SO_PIN = "12345678"
_started: list[Path] = []


def start_hsm() -> None:
    """Makes the token. Not installed: skip, which fails where CI is set."""
    if not Path(MODULE).exists():
        pytest.skip("SoftHSM is not installed")
    if _started:
        return
    folder = Path(tempfile.mkdtemp(prefix="vedette-hsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    # The library reads this when it is first loaded, once in the life of a process.
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", _SO_PIN, "--pin", PIN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    _started.append(folder)


def empty_token(clock: Clock) -> Token:
    """The token without keys."""
    start_hsm()
    token = Token(MODULE, LABEL, Secret(PIN), clock)
    for info in token.list_keys():
        token.destroy(info.label)
    return token
