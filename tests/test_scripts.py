"""`scripts/tests`: what fails beside others is run once more, alone; what fails again is red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "tests"
UNSTEADY = """
from pathlib import Path


def test_passes_from_the_second_time_on():
    seen = Path("seen")
    again = seen.exists()
    seen.touch()
    assert again
"""
BROKEN = "def test_fails_each_time():\n    assert False\n"
MANY = "import pytest\n\n\n@pytest.mark.parametrize('n', range(6))\ndef test_fails(n):\n    assert False\n"
SOUND = "def test_passes():\n    pass\n"


@pytest.mark.parametrize(
    ("body", "code", "turns"),
    [(SOUND, 0, 1), (UNSTEADY, 0, 2), (BROKEN, 1, 2), (UNSTEADY + BROKEN, 1, 2), (MANY, 1, 1)],
    ids=["sound", "unsteady", "broken", "both", "many"],
)
def test_a_second_turn_saves_only_what_passes_alone(tmp_path, body, code, turns):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(body)
    command = [str(SCRIPT), sys.executable, "-p", "no:randomly"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("once more, alone" in done.stdout) == (turns == 2)
    named = done.stdout.partition("UNSTEADY")[2].split()
    wanted = ["test_it.py::test_passes_from_the_second_time_on"] if body == UNSTEADY else []
    assert [word for word in named if "::" in word] == wanted
