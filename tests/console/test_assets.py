"""Static files: pinned, complete, kept by browsers under the address of their content; and templates that mark nothing safe."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vedette.core.errors import PermanentError
from vedette.serve.console import assets as module

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = ROOT / "src" / "vedette" / "serve" / "console"


def test_libraries_are_the_pinned_ones():
    module.check_assets()
    for name, digest in module.expected().items():
        assert hashlib.sha256((CONSOLE / "static" / "vendor" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("breach", ["missing", "changed"])
def test_a_wrong_library_keeps_the_server_from_starting(breach, monkeypatch):
    held = dict(module.assets())
    name = "vendor/htmx.min.js"
    held[name] = module.Asset(b"other", "text/javascript", hashlib.sha256(b"other").hexdigest())
    if breach == "missing":
        del held[name]
    monkeypatch.setattr(module, "assets", lambda: held)
    with pytest.raises(PermanentError) as caught:
        module.check_assets()
    assert caught.value.code == f"console.assets.{breach}"
    assert "scripts/assets" in caught.value.hint


def test_the_lock_pins_every_package_by_hash_and_names_no_registry():
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert not any("resolved" in each for each in packages.values())
    wanted = json.loads((ROOT / "package.json").read_text())
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert packages[f"node_modules/{name}"]["version"] == version


def test_no_library_is_committed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [name for name in listed.splitlines() if name.endswith(".min.js") or "node_modules" in name]


MARKED = re.compile(r"\|\s*safe\b|\bMarkup\b|autoescape\s+false|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)")


def marked(text: str) -> list[str]:
    """Places of a template that could make script out of text, or that the policy would refuse."""
    return MARKED.findall(text)


def test_templates_mark_nothing_safe_and_hold_no_script_and_no_style():
    files = [*CONSOLE.rglob("*.html"), *CONSOLE.rglob("*.py")]
    assert len(files) > 5
    assert {path.name: found for path in files if (found := marked(path.read_text()))} == {}


@pytest.mark.parametrize(
    "planted", ["{{ x|safe }}", "Markup(x)", '<p style="color:red">', '<a onclick="x()">', "<script>x()</script>"]
)
def test_what_marks_text_safe_is_found(planted):
    assert marked(planted)


def test_scripts_evaluate_nothing():
    for path in (CONSOLE / "static").glob("*.js"):
        text = path.read_text()
        assert not re.search(r"\beval\(|new Function|\.innerHTML\s*=[^=]|insertAdjacentHTML|document\.write", text), (
            path.name
        )


@pytest.mark.soak
def test_a_built_wheel_carries_them(tmp_path):
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
    for name in module.expected():
        assert f"vedette/serve/console/static/vendor/{name}" in names
    assert "vedette/serve/console/templates/base.html" in names
