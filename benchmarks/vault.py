"""Cards in and out of the vault, by kind of key provider, beside the bare cipher: `python benchmarks/vault.py`.

The bare row is AES-GCM of a card under a fresh data key and of that key, without database, record or check.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.prove.audit import to_log
from vedette.prove.custody.provider import KeyProvider
from vedette.prove.custody.sealed import SealedFile, seal_with
from vedette.prove.custody.token import Token
from vedette.prove.dlp import is_luhn
from vedette.prove.secrets import Secret
from vedette.prove.vault.cards import Purpose
from vedette.prove.vault.vault import Vault

MODULE = "/usr/lib/softhsm/libsofthsm2.so"


def numbers(count: int) -> list[Secret]:
    made = []
    for n in range(count):
        body = f"4{n:014d}"
        made.append(Secret(next(body + str(last) for last in range(10) if is_luhn(body + str(last)))))
    return made


def timed(call: Callable[[int], object], count: int) -> tuple[float, float, float, float]:
    """Calls a second, p50 and p99 in milliseconds, CPU microseconds a call."""
    took = []
    cpu, begun = time.process_time(), time.perf_counter()
    for n in range(count):
        start = time.perf_counter()
        call(n)
        took.append(time.perf_counter() - start)
    whole, cpu = time.perf_counter() - begun, time.process_time() - cpu
    took.sort()
    return count / whole, 1e3 * took[count // 2], 1e3 * took[count * 99 // 100], 1e6 * cpu / count


def providers(folder: Path) -> dict[str, KeyProvider]:
    clock = SystemClock()
    found: dict[str, KeyProvider] = {"encrypted file": SealedFile(folder / "keys.json", Secret("benchmark"), clock)}
    if Path(MODULE).exists():
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
        os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
        init = ["softhsm2-util", "--init-token", "--free", "--label", "b", "--so-pin", "1234", "--pin", "1234"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
        found["SoftHSM"] = Token(MODULE, "b", Secret("1234"), clock)
    return found


def bare(_: int) -> None:
    data_key = secrets.token_bytes(32)
    seal_with(data_key, b"x" * 64, b"card")
    seal_with(b"k" * 32, data_key, b"key")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=1_000)
    count = parser.parse_args().cards
    table = Table("", "a second", "p50 ms", "p99 ms", "CPU us", title=f"{count:,} cards, one thread, synced")
    cards, clock = numbers(count), SystemClock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table.add_row("bare cipher", *(f"{value:,.2f}" for value in timed(bare, count)))
        for label, provider in providers(folder).items():
            place = folder / label.replace(" ", "-")
            log = SqliteLog(place / "log", clock)
            vault = Vault(open_database(place / "vault.db"), provider, clock, Ids(clock), to_log(log))
            tokens: list[str] = []

            def store(n: int, vault: Vault = vault, tokens: list[str] = tokens) -> None:
                made = vault.store("t", cards[n], 12, 2030, merchant="m", purposes=[Purpose.CHARGE], by="k")
                tokens.append(made.token)

            def take(n: int, vault: Vault = vault, tokens: list[str] = tokens) -> None:
                vault.detokenise("t", tokens[n], merchant="m", purpose=Purpose.CHARGE, reason="r", by="k")

            table.add_row(f"{label}: store", *(f"{value:,.2f}" for value in timed(store, count)))
            table.add_row(f"{label}: detokenise", *(f"{value:,.2f}" for value in timed(take, count)))
            vault.rotate("t", by="k")
            begun, cpu, done = time.perf_counter(), time.process_time(), 0
            while more := vault.rewrap("t"):
                done += more
            whole, cpu = time.perf_counter() - begun, time.process_time() - cpu
            table.add_row(f"{label}: rewrap", f"{done / whole:,.2f}", "", "", f"{1e6 * cpu / done:,.2f}")
            log.close()
    Console().print(table)


if __name__ == "__main__":
    main()
