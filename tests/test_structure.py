"""The architecture as a test: who may import whom, where each library lives, how long things may be.

Every check is a pure function from `{path under src/vedette: source}` to the breaches it found, so that each is run on
the real tree and on a planted breach that it must report.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Tree = Mapping[str, str]
Check = Callable[[Tree], list[str]]

ROOMS = "core expr prove sense judge move act assure run serve demo cli".split()
BESIDE = {
    "client": {"core", "client"},
    "demo": {"core", "client", "run", "serve", "demo"},
    "testing": {"core", "expr", "testing"},
}
"""Rooms with a law of their own: what they may import."""

EVERYWHERE = set("msgspec numpy numba llvmlite pyarrow vedette".split())
HOMES = {
    "core": "sqlalchemy psycopg redis dbos httpx yaml jinja2 opentelemetry",
    "expr": "ahocorasick_rs hyperscan re2 sqlglot",
    "prove": "argon2 cryptography pkcs11 shamir_mnemonic",
    "sense": "orjson deltalake duckdb stix2",
    "judge": "sigma lark lightgbm sklearn",
    "act": "boto3 botocore cvss pydantic_ai reportlab weasyprint",
    "run": "confluent_kafka pyspark prometheus_client opentelemetry",
    "serve": "fastapi segno starlette uvicorn uvloop",
    "cli": "typer rich",
}
"""Room -> libraries that only it imports; other rooms use them through it."""

BROAD_CATCH = {"run/guard.py", "serve/errors.py", "core/execute/steps.py", "core/execute/executor.py"}
"""The per-event guard, the outermost handler, the guards of a durable step and of a turn to execute: where an unknown
error may be caught."""

VAULT_READERS = {"serve/vault_app.py"}
FILE_LINES, FUNCTION_LINES = 800, 70

FEATURES, MODELS = "sense/features", "judge/models"
KERNELS = {
    f"{FEATURES}/kernel.py": [*(f"{FEATURES}/{name}.py" for name in ("layout", "scans", "ahead")), "core/prefetch.py"],
    f"{MODELS}/shap.py": [f"{MODELS}/blocks.py", "core/prefetch.py"],
    f"{MODELS}/trees.py": [f"{MODELS}/readings.py"],
    f"{MODELS}/folding.py": [f"{MODELS}/readings.py", f"{MODELS}/trees.py"],
}
"""Files with cached kernels, and what is compiled into them. The cache sees a change of the file alone: its `PARTS` is
the digest of the others, so that a change of one of those shows there."""


def room_of(path: str) -> str:
    """`core` for `core/db.py`; empty for the package's own `__init__.py`, which belongs to no room."""
    return path.split("/", maxsplit=1)[0] if "/" in path else ""


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, in functions and under TYPE_CHECKING too."""
    package = ["vedette", *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def import_direction(tree: Tree) -> list[str]:
    """Rooms import leftwards only; `client`, `demo` and `testing` only what their law names; nobody imports `testing`."""
    found = []
    for path, source in tree.items():
        room = room_of(path)
        allowed = BESIDE.get(room) or ({*ROOMS[: ROOMS.index(room) + 1], "client"} if room in ROOMS else set())
        for line, name in imports(path, source):
            target = [*name.split("."), ""][1] if name.startswith("vedette.") else ""
            known = target in ROOMS or target in {"client", "testing"}
            if room and known and target not in allowed:
                found.append(f"{path}:{line}: {room} imports {target}")
        if room and room not in {*ROOMS, "client", "testing"}:
            found.append(f"{path}: `{room}` is not a room")
    return found


def library_homes(tree: Tree) -> list[str]:
    """A library is imported in its home room only; one without a home is not imported at all."""
    home: dict[str, set[str]] = {}
    for room, names in HOMES.items():
        for name in names.split():
            home.setdefault(name, set()).add(room)
    found = []
    for path, source in tree.items():
        for line, name in imports(path, source):
            top = name.split(".")[0]
            if top in EVERYWHERE or top in sys.stdlib_module_names or room_of(path) in home.get(top, set()):
                continue
            where = " or ".join(sorted(home.get(top, {"no room"})))
            found.append(f"{path}:{line}: {top} lives in {where}; use it through that room")
    return found


def vault_readers(tree: Tree) -> list[str]:
    """Card numbers stay in the vault process: one module opens it."""
    return [
        f"{path}:{line}: imports prove.vault"
        for path, source in tree.items()
        for line, name in imports(path, source)
        if f"{name}.".startswith("vedette.prove.vault.") and path not in VAULT_READERS
        if not path.startswith("prove/vault")
    ]


def sizes(tree: Tree) -> list[str]:
    """No file above 800 lines, no function above 70."""
    found = [f"{path}: {n} lines" for path, source in tree.items() if (n := len(source.splitlines())) > FILE_LINES]
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return found


def broad_catches(tree: Tree) -> list[str]:
    """An unknown error is never swallowed: a handler that catches everything ends by raising it again."""
    return [
        f"{path}:{node.lineno}: catches everything"
        for path, source in tree.items()
        if path not in BROAD_CATCH
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]


def prints(tree: Tree) -> list[str]:
    """Output goes through the command line's own functions."""
    return [
        f"{path}:{node.lineno}: print"
        for path, source in tree.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def stale_kernels(tree: Tree) -> list[str]:
    """Compiled code that a cache holds is renewed when a part of it changes in another file."""
    found = []
    for path, parts in KERNELS.items():
        digest = hashlib.sha256("".join(tree.get(part, "") for part in parts).encode()).hexdigest()[:16]
        if path in tree and f'\nPARTS = "{digest}"\n' not in tree[path]:
            found.append(f'{path}: write PARTS = "{digest}"')
    return found


REGISTRIES = re.compile(r"pypi[.]org|python[h]osted[.]org|registry[.]npm[j]s|maven[.]org")


def registry_addresses(tree: Tree) -> list[str]:
    """No file names a package registry: which one is used is the installer's own setting."""
    return [
        f"{path}:{number}: a registry's address"
        for path, source in tree.items()
        for number, line in enumerate(source.splitlines(), 1)
        if REGISTRIES.search(line)
    ]


def real_tree() -> dict[str, str]:
    source = ROOT / "src" / "vedette"
    return {str(path.relative_to(source)): path.read_text() for path in sorted(source.rglob("*.py"))}


def repository_files() -> dict[str, str]:
    """Every file under version control that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        raw = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in raw:
            found[name] = raw.decode(errors="replace")
    return found


CHECKS: list[Check] = [import_direction, library_homes, vault_readers, sizes, broad_catches, prints, stale_kernels]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_real_tree(check: Check):
    assert check(real_tree()) == []


def test_no_registry_addresses():
    assert registry_addresses(repository_files()) == []


def test_other_files_are_short_enough():
    python = {name: text for name, text in repository_files().items() if name.endswith(".py")}
    assert [name for name, text in python.items() if len(text.splitlines()) > FILE_LINES] == []


PLANTED_HOST = "pypi.{}".format("org")
LATE = "def f():\n    from vedette.run import pipeline"
TYPED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vedette.serve.app import App"
PLANTED: list[tuple[Check, str, str]] = [
    (import_direction, "core/x.py", "import vedette.expr.nodes"),
    (import_direction, "core/x.py", "from vedette import expr"),
    (import_direction, "judge/sigma/x.py", LATE),
    (import_direction, "act/x.py", TYPED),
    (import_direction, "sense/x.py", "from ..judge import models"),
    (import_direction, "client/x.py", "from vedette.move import charges"),
    (import_direction, "demo/x.py", "from vedette.move import charges"),
    (import_direction, "run/x.py", "from vedette.testing import faults"),
    (import_direction, "serve/x.py", "from vedette.cli import main"),
    (import_direction, "testing/x.py", "from vedette.serve import app"),
    (import_direction, "extras/x.py", ""),
    (library_homes, "expr/x.py", "import duckdb"),
    (library_homes, "move/x.py", "def f():\n    import sqlalchemy as sa"),
    (library_homes, "judge/x.py", "import left_pad"),
    (library_homes, "core/x.py", "from sigma.pipelines.sysmon import sysmon_pipeline"),
    (vault_readers, "move/x.py", "from vedette.prove.vault import Vault"),
    (vault_readers, "move/x.py", "from vedette.prove import vault"),
    (sizes, "core/x.py", "#\n" * 801),
    (sizes, "core/x.py", "def f():\n" + "    pass\n" * 70),
    (broad_catches, "core/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (broad_catches, "core/x.py", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    raise X from e"),
    (broad_catches, "core/x.py", "try:\n    f()\nexcept:\n    pass"),
    (prints, "core/x.py", "def f():\n    print(1)"),
    (stale_kernels, "judge/models/shap.py", '\nPARTS = "55dfb8852ab8ebce"\n'),
    (registry_addresses, "requirements/x.txt", f"--index-url https://{PLANTED_HOST}/simple"),
]


@pytest.mark.parametrize(("check", "path", "source"), PLANTED)
def test_planted_breach_is_found(check: Check, path: str, source: str):
    assert len(check({path: source})) == 1


HARMLESS: list[tuple[Check, str, str]] = [
    (import_direction, "cli/x.py", "from vedette.core import db"),
    (import_direction, "testing/x.py", "from vedette.expr import nodes"),
    (import_direction, "core/x.py", "from vedette.core.errors import Span"),
    (library_homes, "sense/x.py", "import json, numpy, orjson"),
    (library_homes, "run/x.py", "from opentelemetry.sdk import trace"),
    (vault_readers, "serve/vault_app.py", "from vedette.prove.vault import Vault"),
    (sizes, "core/x.py", "def f():\n" + "    pass\n" * 69),
    (broad_catches, "core/x.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (broad_catches, "run/guard.py", "try:\n    f()\nexcept Exception:\n    pass"),
]


@pytest.mark.parametrize(("check", "path", "source"), HARMLESS)
def test_lawful_code_passes(check: Check, path: str, source: str):
    assert check({path: source}) == []


def test_importing_the_package_loads_no_engine():
    homes = [*" ".join(HOMES.values()).split(), "numpy", "numba", "pyarrow"]
    code = f"import sys, vedette; print([m for m in {homes!r} if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "[]\n"
