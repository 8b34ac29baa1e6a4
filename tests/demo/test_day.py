"""A small day, whole: history, model, backfill, served processes, staff, score board. And what the player may touch."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "vedette" / "demo"
PLAYER = ("day.py", "staff.py", "opening.py", "wire.py", "score.py")
"""The player's own modules: they speak HTTP and read the clock, and know no room of the product."""
MAY = ("vedette.core.", "vedette.demo.")
PROMISED = {
    *"events payments alerts cases precision recall money_saved_minor good_users_hurt latency_ms".split(),
    *"time_to_detect_s time_to_contain_s seed".split(),
}


def imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(f"{node.module}.")
    return {name for name in found if name.startswith("vedette")}


@pytest.mark.parametrize("name", PLAYER)
def test_the_player_speaks_http_and_nothing_else(name: str):
    breaches = {each for each in imported((SOURCE / name).read_text()) if not each.startswith(MAY)}
    assert not breaches


def test_a_player_that_reaches_into_the_product_is_seen():
    assert imported("from vedette.act.alerts import Alerts\n") == {"vedette.act.alerts."}


def play(folder: Path, *, scale: float, seed: int) -> dict[str, Any]:
    line = ["demo", "--no-serve", "--json", "--port", "0", "--date", "2026-03-02"]
    line += ["--scale", str(scale), "--seed", str(seed), "--out", str(folder)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_")}
    done = subprocess.run(
        [sys.executable, "-m", "vedette", *line], capture_output=True, text=True, check=False, env=environ
    )
    log = folder / "server.log"
    assert done.returncode == 0, done.stderr[-2_000:] + (log.read_text()[-2_000:] if log.exists() else "")
    board: dict[str, Any] = json.loads(done.stdout)
    return board


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> dict[str, Any]:
    return play(tmp_path_factory.mktemp("day") / "one", scale=0.02, seed=3)


def test_the_board_has_every_promised_key(board):
    assert set(board) >= PROMISED
    assert board["seed"] == 3
    assert board["payments"] > 1_000
    assert board["events"] > 5_000
    assert board["latency_ms"]["p50"] > 0


def test_the_stolen_key_is_contained(board):
    stolen = [attack for attack in board["attacks"] if attack["kind"] == "stolen_key"]
    assert stolen
    assert all(attack["found"] and attack["contained_s"] for attack in stolen)
    assert board["time_to_contain_s"] > 0


def test_the_loop_closes(board):
    assert board["recall"] > 0
    assert board["precision"] > 0.5
    assert board["money_saved_minor"] > 0
    assert 0 < board["cases"] <= board["alerts"]


def test_the_same_seed_gives_the_same_board(board, tmp_path):
    again = play(tmp_path / "again", scale=0.02, seed=3)
    assert again | {"latency_ms": None} == board | {"latency_ms": None}


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_day(tmp_path, seed: int):
    figures = play(tmp_path / "day", scale=1.0, seed=seed)
    assert figures["payments"] >= 100_000
    assert figures["events"] >= 400_000
    assert figures["recall"] >= 0.8
    assert figures["good_users_hurt"] <= 0.01
    assert figures["time_to_contain_s"] is not None
