"""What every test may use: the shared public data, a fake clock, seeded ids."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
    """The folder of public data and oracles. Missing: skip, but fail where CI is set."""
    path = Path(os.environ.get("VEDETTE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        message = f"shared test data not found at {path}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
