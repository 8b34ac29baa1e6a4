"""The threat model holds: every route has its abuse cases, every abuse case a test that exists and runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vedette.core import egress
from vedette.core.egress import Egress
from vedette.core.errors import VedetteError
from vedette.serve import console, vault_app
from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PAGE = ROOT / "docs" / "threat-model.md"
CATEGORIES = {f"A{n:02}" for n in range(1, 11)}
_ROUTE = re.compile(r"`((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`")
_CASE = re.compile(r"\bT[0-9]{2}\b")


def part(text: str, title: str) -> str:
    """The text under a heading."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Cells of a table's rows, its head left out."""
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [row for row in found if row[0] not in {"Case", "OWASP", "Routes"} and not row[0].startswith("---")]


def proofs(row: list[str]) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1])


def missing_tests(text: str) -> list[str]:
    """Abuse cases and categories without a proof, and proofs that are no test."""
    found = []
    for row in rows(part(text, "Abuse cases")) + rows(part(text, "Each category would be missed")):
        named = proofs(row)
        if not named:
            found.append(row[0])
        for file, name in named:
            path = TESTS / file
            tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
            if name not in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}:
                found.append(f"{row[0]}: {file}::{name}")
    return found


def served() -> set[str]:
    """Every route that the product answers."""
    found = {f"{method} {path}" for router in (*ROUTERS, *console.ROUTERS) for method, path in policies(router.routes)}
    return found | vault_app.ROUTES


def missing_routes(text: str, routes: set[str]) -> list[str]:
    """Routes without an abuse case, and rows about what is no route or names no case."""
    cases = {row[0] for row in rows(part(text, "Abuse cases"))}
    told: set[str] = set()
    found = []
    for row in rows(part(text, "Routes")):
        named = set(_ROUTE.findall(row[0]))
        about = set(_CASE.findall(row[1]))
        if not about or not about <= cases or not named:
            found.append(row[0])
        told |= named
    return found + sorted(routes ^ told)


def test_every_route_has_abuse_cases() -> None:
    assert missing_routes(PAGE.read_text(), served()) == []


def test_a_new_route_is_seen() -> None:
    text = PAGE.read_text()
    assert missing_routes(text, {*served(), "POST /v1/backdoor"}) == ["POST /v1/backdoor"]
    assert missing_routes(text.replace("`POST /v1/charges`", "`POST /v1/charge`"), served())
    assert missing_routes(text.replace("| T13 |\n", "| T99 |\n"), served())


def test_every_abuse_case_names_tests_that_exist() -> None:
    text = PAGE.read_text()
    assert missing_tests(text) == []
    cases = rows(part(text, "Abuse cases"))
    assert [row[0] for row in cases] == [f"T{n:02}" for n in range(1, len(cases) + 1)]
    assert (
        {row[1] for row in cases} == {row[0] for row in rows(part(text, "Each category would be missed"))} == CATEGORIES
    )
    told = set(_CASE.findall(part(text, "Routes")))
    inner = {"T07", "T09", "T11", "T20", "T23", "T30", "T33", "T51"}
    assert {row[0] for row in cases} - told <= inner, "an abuse case that is about no route"


def test_a_wrong_name_is_seen() -> None:
    text = PAGE.read_text()
    assert missing_tests(text.replace("test_the_wall_refuses", "test_the_wall_shrugs"))
    assert missing_tests(text.replace("serve/test_stalls.py", "serve/test_stall.py"))


def unpinned(text: str) -> list[str]:
    """Requirements that are not pinned to one version with a hash."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [
        line
        for line in lines
        if not re.match(r"[\w.\[\]-]+==[^\s;]+(\s*;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$", line)
    ]


def test_every_dependency_is_pinned_by_hash() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert len(files) >= 3
    for path in files:
        assert unpinned(path.read_text()) == [], path.name
        assert "://" not in re.sub(r"#.*", "", path.read_text()), path.name
    scripts = (ROOT / "src/vedette/serve/console/vendor.sha256").read_text().split()
    assert all(re.fullmatch(r"[0-9a-f]{64}", word) for word in scripts[::2])


@pytest.mark.parametrize("planted", ["six==1.16.0\n", "six>=1 --hash=sha256:" + "0" * 64, "six @ file:///six.whl"])
def test_a_dependency_that_is_not_pinned_is_seen(planted: str) -> None:
    assert unpinned(planted)


def test_a_missing_check_of_addresses_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check a private address is dialled: nothing else stands in the way."""
    url = "https://127.0.0.1:1/"

    def code() -> str:
        with pytest.raises(VedetteError) as caught:
            Egress().request("GET", url)
        return caught.value.code

    refused = code()
    monkeypatch.setattr(egress, "is_public", lambda _address: True)
    assert code() != refused
