from __future__ import annotations

import json

import pytest

from vedette.cli.main import main

GOOD = "title: A\nlogsource: {category: webserver}\ndetection: {s: {cs-method: GET}, condition: s}\n"


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rules", "check", *map(str, arguments)])
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


def test_check_says_what_a_rule_becomes(run, tmp_path):
    (tmp_path / "a.yml").write_text(GOOD)
    code, out, _ = run(tmp_path, "--json")
    assert code == 0
    text = 'known(cs-method is "GET")'
    said = json.loads(out)
    (loaded,) = said["loaded"]
    assert loaded["sources"].pop("web_access") == text
    assert set(loaded["sources"]) == {"ecs"}, "servers' access logs may come in another form too"
    assert (loaded["id"], loaded["title"], loaded["path"]) == ("a.yml", "A", "a.yml")
    assert (said["skipped"], said["filters"]) == ([], [])
    assert {one["severity"] for one in said["findings"]} <= {"note"}
    assert 'web_access: known(cs-method is "GET")' in run(tmp_path, "--show")[1]


def test_check_fails_when_a_rule_cannot_match(run, tmp_path):
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("category: webserver", "category: moon"))
    code, out, _ = run(tmp_path)
    assert code == 1
    assert "1 rules can match, 1 cannot" in out
    assert "[sigma.logsource.unmapped]" in out.replace("\n", "").replace("│", "").replace(" ", "")
    assert run(tmp_path / "nowhere")[0] == 2


FILTER = """
title: Maintenance
id: 22222222-2222-4222-8222-222222222222
logsource: {category: webserver}
filter: {rules: any, robots: {cs-uri-stem|expand: '%%paths%%'}, condition: not robots}
vedette: {owner: web, reason: health checks, expires: %s}
"""


def test_check_lists_filters_and_takes_pipelines_and_lists(run, tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(GOOD)
    (tmp_path / "rules" / "f.yml").write_text(FILTER % "2999-01-31")
    (tmp_path / "rules" / "g.yml").write_text(
        FILTER.replace("2222-4222-8222-222222222222", "3333-4333-8333-333333333333").replace("22222222-", "33333333-")
        % "2020-01-31"
    )
    (tmp_path / "lists.json").write_text('{"paths": ["/health"]}')
    (tmp_path / "p.yml").write_text("transformations: [{type: field_name_mapping, mapping: {cs-method: verb}}]")
    assert run(tmp_path / "rules")[0] == 1, "the placeholder of the filter has no value"
    given = [tmp_path / "rules", "--pipeline", tmp_path / "p.yml", "--lists", tmp_path / "lists.json"]
    code, out, _ = run(*given)
    assert code == 0
    assert "filter f.yml: Maintenance: applies until 2999-01-31 to 1 rules" in out
    assert "filter g.yml: Maintenance: expired on 2020-01-31, was applied to 1 rules" in out
    found = json.loads(run(*given, "--json")[1])
    asked = 'known(verb is "GET") and not known(cs-uri-stem is "/health")'
    assert found["loaded"][0]["sources"]["web_access"] == asked
    assert found["filters"][1] == {
        "id": "33333333-3333-4333-8333-333333333333",
        "path": "g.yml",
        "owner": "web",
        "reason": "health checks",
        "expires": "2020-01-31",
        "applies": False,
        "rules": ["a.yml"],
    }
    assert run(tmp_path / "rules", "--pipeline", tmp_path / "nowhere.yml")[0] == 2


@pytest.mark.parametrize("verb", ["check", "test", "backtest", "diff", "profile", "explain"])
def test_verbs_that_load_rules_take_pipelines(capsys, verb):
    with pytest.raises(SystemExit):
        main(["rules", verb, "--help"])
    assert "--pipeline" in capsys.readouterr().out
