"""The demo replaces no folder but its own; one clock for two processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vedette.core.clock import SystemClock
from vedette.core.errors import DataError
from vedette.demo.clock import DayClock
from vedette.demo.folder import make_folder


def test_another_folder_is_never_replaced(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError) as refused:
        make_folder(mine)
    assert refused.value.code == "demo.folder.other"
    assert (mine / "thesis.txt").exists()


def test_an_earlier_demo_is_replaced(tmp_path):
    folder = make_folder(tmp_path / "new" / "demo")
    folder.score.write_text("{}")
    assert not make_folder(folder.path).score.exists()


def test_another_process_reads_the_time_that_is_set(tmp_path):
    clock = DayClock(tmp_path / "clock")
    clock.set(1_700_000_000_000_000)
    clock.set(1_600_000_000_000_000)
    code = "import sys; from pathlib import Path; from vedette.demo.clock import DayClock as C;"
    ask = [sys.executable, "-c", f"{code} print(C(Path(sys.argv[1])).now())", str(tmp_path / "clock")]
    assert int(subprocess.run(ask, capture_output=True, check=True, text=True).stdout) == 1_700_000_000_000_000
    clock.release()
    assert abs(clock.now() - SystemClock().now()) < 60_000_000
    clock.close()
