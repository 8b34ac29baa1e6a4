"""A program that was written against a published schema reads what is written now."""

from __future__ import annotations

import copy
import json

import jsonschema_rs
import msgspec
import pytest

from vedette.act.grouping import to_alert
from vedette.cli.main import main
from vedette.core.errors import NotFoundError
from vedette.core.event import Entity, Event
from vedette.core.label import Label
from vedette.core.signal import Level, Signal
from vedette.judge.grouping import Grouping
from vedette.run.schemas import SHAPES, breaks, published, schema_of

SIGNAL = Signal(
    id="s-1",
    tenant="acme",
    rule_id="r",
    rule_version="v1",
    title="t",
    level=Level.HIGH,
    event_id="e-1",
    event_time=1,
    source="cloudtrail",
    entities=(Entity("key", "k"),),
    why={"a": 1},
)
WRITTEN = {
    "event": Event(id="e", tenant="acme", source="x", event_time=1, ingest_time=2, data={"a": [1, None]}),
    "signal": SIGNAL,
    "alert": to_alert(SIGNAL, Grouping(), 3),
    "label": Label(event_id="e", tenant="acme", fraud=True, observed_time=1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_written_now_can_be_read_by_every_published_schema(name):
    kept = published(name)
    assert kept
    assert [broken for old in kept for broken in breaks(old, schema_of(name))] == []


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_fits(name):
    value = json.loads(msgspec.json.encode(WRITTEN[name]))
    for schema in (schema_of(name), *published(name)):
        jsonschema_rs.validate(schema, value)


def changed(change):
    """The alert's schema after a change of its parts."""
    new = copy.deepcopy(schema_of("alert"))
    change(new["$defs"])
    return breaks(schema_of("alert"), new)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda parts: parts["Alert"]["properties"].pop("title"), "$.title: is gone"),
        (
            lambda parts: parts["Alert"]["properties"].update(title={"type": "integer"}),
            "$.title: may be integer, which it never was",
        ),
        (
            lambda parts: parts["Alert"]["properties"].update(title={"anyOf": [{"type": "string"}, {"type": "null"}]}),
            "$.title: may be null, which it never was",
        ),
        (lambda parts: parts["Alert"]["required"].remove("title"), "$.title: may be left out, which it never was"),
        (lambda parts: parts["Level"]["enum"].append("dire"), "$.level: may be `dire`, which it never was"),
        (lambda parts: parts["Entity"]["properties"].pop("id"), "$.entity.id: is gone"),
        (
            lambda parts: parts["Alert"]["properties"]["tags"].update(items={"type": "integer"}),
            "$.tags[]: may be integer, which it never was",
        ),
        (
            lambda parts: parts["Alert"]["properties"].update(first_time={}),
            "$.first_time: may be any, which it never was",
        ),
    ],
)
def test_what_breaks_a_reader_is_named(change, told):
    assert told in changed(change)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts["Alert"]["properties"].update(more={"type": "string"}),
        lambda parts: parts["Alert"]["required"].append("tags"),
        lambda parts: parts["Level"]["enum"].remove("low"),
        lambda parts: parts["Alert"].update(description="another"),
    ],
)
def test_what_breaks_nobody_is_fine(change):
    assert changed(change) == []


def test_an_unknown_shape():
    with pytest.raises(NotFoundError, match=r"schema\.name\.unknown"):
        schema_of("nothing")


def test_the_command(tmp_path, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["schema", *map(str, words)])
        return stopped.value.code, capsys.readouterr().out

    code, out = run("alert")
    assert (code, json.loads(out)) == (0, json.loads(msgspec.json.encode(schema_of("alert"))))
    old = tmp_path / "old.json"
    held = json.loads(out)
    held["$defs"]["Alert"]["properties"]["gone"] = {"type": "string"}
    old.write_text(json.dumps(held))
    assert run("alert", "--against", old, "--json") == (1, '{"shape":"alert","breaks":["$.gone: is gone"]}\n')
    old.write_text(out)
    assert run("alert", "--against", old)[0] == 0
    assert run()[1].split() == list(SHAPES)
    assert run("alert", "--against", tmp_path / "none.json")[0] == 2
