"""The rules the test run itself keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
MODULES = {
    "test_skips.py": "import pytest\n\ndef test_it():\n    pytest.skip('no data')\n",
    "test_module.py": "import pytest\npytest.skip('no engine', allow_module_level=True)\n",
    "test_left.py": """
import os, subprocess
pids = []
def test_fails():
    pids.append(subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE).pid)
    assert not pids
def test_nothing_runs():
    assert not os.path.exists(f"/proc/{pids[0]}")
""",
    "test_expected.py": "import pytest\n\n@pytest.mark.xfail(reason='known')\ndef test_it():\n    assert False\n",
}


@pytest.mark.parametrize(
    ("ci", "name", "code"),
    [
        ("true", "test_skips.py", 1),
        ("true", "test_module.py", 2),
        ("true", "test_expected.py", 0),
        ("", "test_skips.py", 0),
    ],
)
def test_a_skip_fails_where_ci_is_set(tmp_path, ci, name, code):
    done = run(tmp_path / "tests", name, ci)
    assert done.returncode == code, done.stdout


def test_no_process_outlives_a_test_that_failed(tmp_path):
    told = run(tmp_path / "tests", "test_left.py").stdout
    assert "1 failed, 1 passed" in told, told


def run(folder, name, ci=""):
    (folder / "core").mkdir(parents=True)
    for file in (CONFTEST, CONFTEST.with_name("core") / "processes.py"):
        (folder / file.relative_to(CONFTEST.parent)).write_text(file.read_text())
    (folder / name).write_text(MODULES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "error"]
    return subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, env={**os.environ, "CI": ci}, check=False
    )


def test_postgres_answers(postgres_url):
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
