"""What documents say of one another: collections, filters, pipelines and lists."""

from __future__ import annotations

from datetime import date

import pytest
import yaml

from vedette.core.errors import DefinitionError, Problems
from vedette.expr.printer import to_text
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import leaves, reader
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.pipelines import Pipelines, load_pipelines
from vedette.sense.definition import LogSource

NAMED = {"any": LogSource(category="any", product="shop"), "windows": LogSource(product="windows")}
ID = "11111111-1111-1111-1111-111111111111"


def rule(detection=None, **more):
    return {
        "title": "t",
        "id": ID,
        "name": "base",
        "logsource": {"category": "any"},
        "detection": detection or {"s": {"user": "eve"}, "condition": "s"},
        **more,
    }


def exception(condition="not robots", rules=(ID,), logsource=None, **card):
    return {
        "title": "f",
        "id": "22222222-2222-2222-2222-222222222222",
        "logsource": logsource or {"category": "any"},
        "filter": {
            "rules": rules if isinstance(rules, str) else list(rules),
            "robots": {"host": "ci"},
            "condition": condition,
        },
        "vedette": card,
    }


def file(*documents, path="r.yml"):
    return RuleFile(path, yaml.safe_dump_all(documents, sort_keys=False).encode())


def loaded(*files, pipelines=None, today=None):
    return build(files, LogSources(NAMED, (), pipelines or Pipelines()), today)


def texts(rules, source="any"):
    return [to_text(one.nodes[source]) for one in rules.rules]


def fires(node, event):
    return evaluate(node, reader(event), list(leaves(event))) is Truth.TRUE


def test_what_is_global_adds_up_and_ends():
    detection = {"s": {"a": "1"}, "condition": "s"}
    found = loaded(
        file(
            {"action": "global", "logsource": {"category": "any"}, "detection": {"condition": "s and g"}},
            {"action": "global", "detection": {"g": {"b": "2"}}},
            {"title": "one", "detection": detection},
            {"title": "two", "detection": {"s": {"a": "3"}}},
            {"action": "repeat", "title": "three", "detection": {"s": {"a": "4"}}},
            {"action": "reset"},
            {"title": "four", "logsource": {"category": "any"}, "detection": detection},
            {"action": "odd"},
        )
    )
    assert [(one.title, text) for one, text in zip(found.rules, texts(found), strict=True)] == [
        ("one", 'known(a is "1") and known(b is "2")'),
        ("two", 'known(a is "3") and known(b is "2")'),
        ("three", 'known(a is "4") and known(b is "2")'),
        ("four", 'known(a is "1")'),
    ]
    assert [one.reason for one in found.skipped] == ["there is no action `odd` [sigma.rule.invalid]"]


def test_nothing_before_it_cannot_be_repeated():
    assert "sigma.rule.invalid" in loaded(file({"action": "repeat", "title": "x"})).skipped[0].reason


@pytest.mark.parametrize(
    ("named", "logsource", "applies"),
    [
        ((ID,), None, True),
        ((ID.upper(),), None, True),
        (("base",), None, True),
        (("other", "base"), None, True),
        ("any", None, True),
        ((), None, True),
        (("other",), None, False),
        (("BASE",), None, False),
        ((ID,), {"category": "process_creation"}, False),
        ("any", {"product": "windows"}, False),
    ],
)
def test_a_filter_of_any_file_narrows_the_rules_it_takes(named, logsource, applies):
    found = loaded(file(exception(rules=named, logsource=logsource), path="a.yml"), file(rule(), path="b.yml"))
    (node,) = found.rules[0].nodes.values()
    assert fires(node, {"user": "eve", "host": "web"})
    assert fires(node, {"user": "eve", "host": "CI"}) is not applies
    assert found.filters[0].rules == ((ID,) if applies else ())
    assert found.filters[0].applies
    plain = loaded(file(rule(), path="b.yml")).rules[0]
    assert (found.rules[0].version != plain.version) is applies, "another rule, another version"


def test_a_filter_has_its_own_selections():
    """Names of the rule and `1 of them` mean what they meant."""
    one = rule({"robots": {"user": "eve"}, "t": {"user": "bob"}, "condition": "1 of them"})
    many = exception("not 1 of robot*")
    (node,) = loaded(file(one, many)).rules[0].nodes.values()
    events = [{"user": "eve"}, {"user": "bob"}, {"user": "eve", "host": "ci"}, {"host": "ci"}]
    assert [fires(node, event) for event in events] == [True, True, False, False]


def test_a_filter_is_read_as_its_rule_is():
    windows = {"product": "windows", "category": "process_creation"}
    narrowed = exception(logsource=windows)
    narrowed["filter"]["robots"] = {"Parent Image|endswith": "\\\\ci.exe"}
    found = loaded(file(rule({"s": {"Image": "x"}, "condition": "s"}, logsource=windows), narrowed))
    (text,) = texts(found, "windows")
    assert text.endswith(
        'and known(EventID is "1") and known(Image is "x") and not known(ParentImage endswith "\\\\ci.exe")'
    )


def test_an_expired_filter_does_not_apply_and_is_listed(tmp_path):
    held = file(rule(), exception(owner="shop", reason="migration", expires=date(2027, 1, 31)))
    places = LogSources(NAMED, ())
    for folder in (None, tmp_path, tmp_path):
        for today, applies in (
            (None, True),
            (date(2027, 1, 31), True),
            (date(2027, 2, 1), False),
            (date(2027, 1, 1), True),
        ):
            found = load_cached([held], places, folder, today)
            assert [(one.applies, one.card.expires, one.rules) for one in found.filters] == [
                (applies, date(2027, 1, 31), (ID,))
            ]
            assert ("not" in texts(found)[0]) is applies


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"filter": "x"}, "sigma.filter.invalid"),
        ({"filter": {"s": {"a": "b"}, "condition": "s"}}, "sigma.filter.invalid"),
        ({"filter": {"rules": [3], "s": {"a": "b"}, "condition": "s"}}, "sigma.filter.invalid"),
        ({"filter": {"rules": "any", "condition": "s"}}, "sigma.detection.invalid"),
        ({"filter": {"rules": "any", "s": {"a|nonsense": "b"}, "condition": "s"}}, "sigma.detection.invalid"),
        ({"filter": {"rules": "any", "s": {"a": "b"}}}, "sigma.condition.invalid"),
        ({"logsource": 3}, "sigma.logsource.invalid"),
    ],
)
def test_a_filter_that_is_wrong_is_named(change, code):
    found = loaded(file(rule(), {**exception(), **change}))
    assert [one.title for one in found.rules] == ["t"]
    assert f"[{code}]" in found.skipped[0].reason


def test_a_rule_goes_on_without_a_filter_that_cannot_be_applied():
    wanting = exception()
    wanting["filter"]["robots"] = {"host|expand": "%robots%"}
    wrong, plain, sound = file(exception("not robot"), path="a.yml"), file(rule()), file(exception(), path="c.yml")
    found = loaded(wrong, plain, file(wanting, path="b.yml"), sound)
    assert [one.path for one in found.skipped] == ["a.yml", "b.yml"]
    for one, code in zip(
        found.skipped, ("sigma.condition.unknown_selection", "sigma.placeholder.unresolved"), strict=True
    ):
        assert one.reason.startswith("this filter does not apply: ")
        assert f"[{code}]" in one.reason
    assert [one.rules for one in found.filters] == [(), (), (ID,)]
    (node,) = found.rules[0].nodes.values()
    assert fires(node, {"user": "eve", "host": "web"})
    assert not fires(node, {"user": "eve", "host": "ci"}), "the sound one still narrows"
    assert found.rules[0].version == loaded(plain, sound).rules[0].version, "what does not apply is no part"
    given = loaded(plain, file(wanting, path="b.yml"), pipelines=Pipelines(lists={"robots": ["web"]}))
    assert not given.skipped
    assert not fires(next(iter(given.rules[0].nodes.values())), {"user": "eve", "host": "web"})


def test_a_filter_is_not_to_blame_for_a_wrong_rule():
    wrong = rule({"s": {"user|re": "(?<=x)y"}, "condition": "s"})
    found = loaded(file(wrong), file(exception(), path="b.yml"))
    assert [one.path for one in found.skipped] == ["r.yml"]
    assert "does not apply" not in found.skipped[0].reason


MAPPED = {
    "name": "renames",
    "priority": 20,
    "transformations": [
        {"type": "field_name_mapping", "mapping": {"user": "actor.name", "host": ["src", "dst"]}},
        {
            "type": "add_condition",
            "conditions": {"stage": "live"},
            "rule_conditions": [{"type": "logsource", "category": "any"}],
        },
    ],
    "finalizers": [{"type": "concat"}],
}


def test_pipelines_change_rules_and_filters_by_priority():
    first = {"priority": 5, "transformations": [{"type": "field_name_mapping", "mapping": {"who": "user"}}]}
    found = loaded(
        file(rule({"s": {"who|fieldref|contains": "user"}, "condition": "s"}), exception()),
        pipelines=Pipelines([MAPPED, first]),
    )
    wanted = 'known(stage is "live") and known(actor.name contains actor.name) and not '
    assert texts(found) == [wanted + '(known(src is "ci") or known(dst is "ci"))']


def test_a_pipeline_may_say_where_a_rule_is_read():
    moved = {"transformations": [{"type": "change_logsource", "category": "any"}]}
    found = loaded(file(rule(logsource={"product": "moon"})), pipelines=Pipelines([moved]))
    assert list(found.rules[0].nodes) == ["any"]


SPRAY = {
    "title": "spray",
    "correlation": {
        "type": "value_count",
        "rules": ["base"],
        "group-by": ["src", "who"],
        "aliases": {"who": {"base": "user"}},
        "timespan": "10m",
        "condition": {"gte": 2, "field": "place"},
    },
}


def test_pipelines_also_name_the_fields_of_correlations():
    mapping = {"user": "actor.name", "src": "client.ip", "place": "geo.city"}
    renamed = {"transformations": [{"type": "field_name_mapping", "mapping": mapping}]}
    found = loaded(file(rule(), SPRAY), pipelines=Pipelines([renamed]))
    (part,) = found.correlations[0].parts
    assert part.fields["any"] == ("client.ip", "actor.name")
    assert part.values["any"] == ("geo.city",)
    several = {"transformations": [{"type": "field_name_mapping", "mapping": {"src": ["a", "b"]}}]}
    refused = loaded(file(rule(), SPRAY), pipelines=Pipelines([several])).skipped
    assert "[sigma.pipeline.failed]" in refused[0].reason


def test_a_rule_that_a_pipeline_does_not_take_is_named():
    refusing = {"transformations": [{"type": "rule_failure", "message": "not here"}]}
    found = loaded(file(rule()), pipelines=Pipelines([refusing]))
    assert "not here [sigma.pipeline.failed]" in found.skipped[0].reason


@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ({"postprocessing": [{"type": "template", "template": "x"}]}, "sigma.pipeline.refused"),
        (
            {"postprocessing": [{"type": "nest", "items": [{"type": "template", "template": "x"}]}]},
            "sigma.pipeline.refused",
        ),
        ({"finalizers": [{"type": "template", "template": "x", "vars": "x.py"}]}, "sigma.pipeline.refused"),
        ({"transformations": [{"type": "file_placeholders", "path": "/etc/passwd"}]}, "sigma.pipeline.refused"),
        ({"transformations": [{"type": "http_placeholders", "url": "http://x"}]}, "sigma.pipeline.refused"),
        ({"transformations": [{"type": "command_placeholders", "command": "ls"}]}, "sigma.pipeline.refused"),
        ({"transformations": [{"type": "nonsense"}]}, "sigma.pipeline.invalid"),
        ({"transformations": 3}, "sigma.pipeline.invalid"),
        ({"odd": 3}, "sigma.pipeline.invalid"),
        ({"priority": "first"}, "sigma.pipeline.invalid"),
    ],
)
def test_pipelines_that_reach_out_or_are_none_are_refused(pipeline, code, tmp_path):
    with pytest.raises(DefinitionError) as refused:
        Pipelines([pipeline])
    assert refused.value.code == code
    path = tmp_path / "p.yml"
    path.write_text(yaml.safe_dump(pipeline))
    with pytest.raises(DefinitionError) as refused:
        load_pipelines([path])
    assert (refused.value.code, str(path) in str(refused.value)) == (code, True)
    with pytest.raises(Problems):
        load_pipelines([path, path])


EXPANDED = {"s": {"user|expand": "%admins%"}, "condition": "s"}


def test_placeholders_take_their_values_from_lists_and_from_pipelines(tmp_path):
    (tmp_path / "lists.yml").write_text("admins: [root, 'adm*', 7]\n")
    lists = load_pipelines(lists=[tmp_path / "lists.yml"])
    held = 'known(user is "root") or known(user startswith "adm") or known(user is "7")'
    assert texts(loaded(file(rule(EXPANDED)), pipelines=lists)) == [held]
    variables = {"vars": {"admins": ["ada"]}, "transformations": [{"type": "value_placeholders"}]}
    assert texts(loaded(file(rule(EXPANDED)), pipelines=Pipelines([variables]))) == ['known(user is "ada")']
    both = lists.with_lists({"admins": ["eve"]})
    assert texts(loaded(file(rule(EXPANDED)), pipelines=both)) == ['known(user is "eve")']
    for pipelines in (None, Pipelines(lists={"others": ["x"]})):
        found = loaded(file(rule(EXPANDED)), pipelines=pipelines)
        assert "[sigma.placeholder.unresolved]" in found.skipped[0].reason


def test_nothing_is_among_the_values_of_an_empty_list():
    found = loaded(file(rule(EXPANDED)), pipelines=Pipelines(lists={"admins": []}))
    (node,) = found.rules[0].nodes.values()
    assert not any(fires(node, event) for event in ({}, {"user": None}, {"user": ""}, {"user": "x"}))


def test_values_of_a_list_stay_cased():
    detection = {"s": {"user|cased|contains|expand": "%admins%"}, "condition": "s"}
    found = loaded(file(rule(detection)), pipelines=Pipelines(lists={"admins": ["Root"]}))
    assert texts(found) == ['known(user contains cased "Root")']


@pytest.mark.parametrize("text", ["admins: root", "admins: [[x]]", "admins: [true]", "- x", "3: [x]"])
def test_lists_that_are_none_are_refused(text, tmp_path):
    (tmp_path / "lists.yml").write_text(text)
    with pytest.raises(DefinitionError) as refused:
        load_pipelines(lists=[tmp_path / "lists.yml"])
    assert refused.value.code == "sigma.lists.invalid"


def test_compiled_sets_depend_on_pipelines_and_lists(tmp_path):
    held = [file(rule(EXPANDED))]

    def of(pipelines):
        return load_cached(held, LogSources(NAMED, (), pipelines), tmp_path)

    assert texts(of(Pipelines(lists={"admins": ["a"]}))) == ['known(user is "a")']
    assert texts(of(Pipelines(lists={"admins": ["b"]}))) == ['known(user is "b")']
    assert texts(of(Pipelines([MAPPED], {"admins": ["b"]}))) == ['known(stage is "live") and known(actor.name is "b")']
    assert of(Pipelines()).rules == ()
