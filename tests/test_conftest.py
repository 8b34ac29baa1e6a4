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
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / name).write_text(MODULES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CI": ci}, check=False)
    assert done.returncode == code, done.stdout


def test_postgres_answers(postgres_url):
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
