from __future__ import annotations

import json

import pytest

from vedette.cli.main import main

GOOD = "title: A\nlogsource: {product: okta, service: okta}\ndetection: {s: {eventType: GET}, condition: s}\n"


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
    text = 'known(eventType is "GET")'
    assert json.loads(out) == {
        "loaded": [{"id": "a.yml", "title": "A", "path": "a.yml", "sources": {"identity": text}}],
        "skipped": [],
    }
    assert 'identity: known(eventType is "GET")' in run(tmp_path, "--show")[1]


def test_check_fails_when_a_rule_cannot_match(run, tmp_path):
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("product: okta", "product: moon"))
    code, out, _ = run(tmp_path)
    assert code == 1
    assert "1 rules can match, 1 cannot" in out
    assert "[sigma.logsource.unmapped]" in out.replace("\n", "").replace("│", "").replace(" ", "")
    assert run(tmp_path / "nowhere")[0] == 2
