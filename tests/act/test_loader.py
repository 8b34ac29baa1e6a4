"""The loader: shipped content loads, broken content is told all at once, with places."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest
from act_world import SHIPPED
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.act.actions import SIGNATURES
from vedette.act.playbooks.conditions import decide, parse_condition
from vedette.act.playbooks.loader import load_playbook, read_playbook
from vedette.act.playbooks.playbook import ActionStep, ApprovalStep, from_definition, to_definition, walk
from vedette.act.playbooks.references import fill
from vedette.core.documents import load_yaml
from vedette.core.errors import DataError, DefinitionError, Problems

GOLDEN = Path(__file__).parent / "playbook_errors.txt"


def cases():
    text = GOLDEN.read_text()
    for block in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        head, _, answer = block.partition("---->\n")
        name, _, playbook = head.partition("\n")
        yield name, playbook, answer.strip()


def answer(text):
    try:
        read_playbook(load_yaml(text, path="x.yaml"))
    except Problems as problems:
        return "\n".join(str(problem) for problem in problems.problems)
    return "loads"


def test_refresh_the_golden_file():
    if not os.environ.get("VEDETTE_REFRESH"):
        return
    head = GOLDEN.read_text().partition("== ")[0]
    blocks = [f"== {name}\n{text}---->\n{answer(text)}\n" for name, text, _ in cases()]
    GOLDEN.write_text(head + "\n".join(blocks))


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*rest, id=name) for name, *rest in cases()])
def test_every_problem_is_told_with_its_place(text, expected):
    assert expected
    assert answer(text) == expected


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_playbooks(path):
    playbook = load_playbook(path)
    assert playbook.id == path.stem
    assert from_definition(to_definition(playbook)) == playbook
    asks = any(isinstance(step, ApprovalStep) for step in walk(playbook.steps))
    assert asks == any(isinstance(step, ActionStep) and step.drastic for step in walk(playbook.steps))


@pytest.mark.parametrize("text", ["", "a: [", "a: &x [*x]", "\x00", "!!python/object:os.system {}"])
def test_no_readable_yaml_is_a_coded_error(text, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_playbook(path)
    assert re.match(r"(documents|core|playbook)\.", caught.value.code)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=8,
)
names = st.sampled_from("id version title owner steps inputs secrets type action arguments covers condition".split())
shape = st.dictionaries(names, json | st.lists(st.dictionaries(names, json), max_size=3), max_size=8)


class Plain:
    def __init__(self, data):
        self.data = data

    def span(self, json_path):
        return None


@settings(max_examples=60, deadline=None)
@given(shape | json)
def test_no_shape_breaks_the_loader(data):
    with pytest.raises(Problems):
        read_playbook(Plain(data))


@settings(max_examples=60, deadline=None)
@given(json)
def test_no_condition_runs_code_or_breaks(data):
    with contextlib.suppress(DefinitionError):
        parse_condition(data)


def test_conditions_are_three_valued():
    scope = {"alert": {"level": "high", "severity_id": 4}}
    assert decide(["${alert.level}", "=", "high"], scope)
    assert not decide(["${alert.level}", "=", "HIGH"], scope)
    assert decide({"any": [["${alert.none}", "=", 1], ["${alert.severity_id}", ">=", 4]]}, scope)
    assert not decide({"exists": "${alert.none}"}, scope)
    with pytest.raises(DataError):
        decide({"not": ["${alert.none}", "=", 1]}, scope)


def test_references_keep_types_and_never_reach_attributes():
    scope = {"inputs": {"n": 3, "deep": {"list": [1]}, "flag": True}}
    assert fill(["${inputs.n}", "n=${inputs.n} ${inputs.flag}", {"x": "${inputs.deep.list}"}], scope) == [
        3,
        "n=3 true",
        {"x": [1]},
    ]
    for path in ("inputs.gone", "inputs.n.real", "inputs.__class__", "inputs.deep.list.0"):
        with pytest.raises(DataError) as caught:
            fill(f"${{{path}}}", scope)
        assert caught.value.code == "playbook.reference.missing"
    with pytest.raises(DataError):
        fill("a ${inputs.deep}", scope)
    with pytest.raises(DataError):
        fill("${inputs.n}" * 4_001, scope)


def test_drastic_actions_are_marked_by_the_product_not_by_the_author():
    assert {name for name, signature in SIGNATURES.items() if signature.drastic} == {"revoke_key", "freeze_payouts"}
    definition = to_definition(load_playbook(SHIPPED))
    assert [step["drastic"] for step in definition["steps"] if step["type"] == "action"] == [False, True, True, False]
