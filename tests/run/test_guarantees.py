"""The page of guarantees names tests that exist, for every hop."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "guarantees.md"


def missing(text):
    """Rows of the table without a proof, and proofs that are no test."""
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Hop")]
    found = []
    for row in rows:
        proofs = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        if not proofs:
            found.append(row)
        for file, name in proofs:
            path = TESTS / file
            tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
            if name not in {
                each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }:
                found.append(f"{file}::{name}")
    return found, len(rows)


def test_every_hop_names_tests_that_exist():
    found, rows = missing(PAGE.read_text())
    assert (found, rows >= 13) == ([], True)


@pytest.mark.parametrize("name", ["test_as_the_model", "move/test_ledger_model.py"])
def test_a_wrong_name_is_seen(name):
    found, _ = missing(PAGE.read_text().replace(name, name.replace("model", "muddle")))
    assert found
