"""What `rules check` finds: each law on a planted fault, and silent beside it."""

from __future__ import annotations

import json

import pytest

from vedette.cli.main import main
from vedette.core.content import shipped
from vedette.judge.sigma.documents import Written, read
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.lints import Names, Severity, lint
from vedette.judge.sigma.lints.fields import known_names, names_of
from vedette.judge.sigma.lints.regexes import dear
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.intel.attack import Attack, Tactic, Technique
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
KNOWN = {name: Names(known_names(source.definition)) for name, source in SOURCES.items()}
TECHNIQUES = [
    Technique("T1078", "Valid Accounts"),
    Technique("T1685", "Disable or Modify Tools"),
    Technique("T1562", "Impair Defenses", revoked_by="T1685"),
    Technique("T1086", "PowerShell", deprecated=True),
]
ATTACK = Attack("19.0", "", {one.id: one for one in TECHNIQUES}, (Tactic("TA0005", "Stealth", "stealth"),))
RULE = """title: {title}
id: {id}
logsource: {{product: aws, service: cloudtrail}}
detection: {{s: {detection}, condition: s}}
tags: {tags}
"""
CARD = """falsepositives: [none]
vedette:
  owner: cloud
  runbook: Ask.
  tests:
    - {name: a, event: {eventName: StopLogging}}
    - {name: b, fires: false, event: {eventName: Describe}}
"""


def rule(title="t", detection="{eventName: StopLogging}", tags="[attack.t1078]", more="", number=1):
    name = f"00000000-0000-0000-0000-{number:012}"
    return RULE.format(title=title, id=name, detection=detection, tags=tags) + more


def found(*texts, attack=ATTACK, sources=KNOWN):
    files = [RuleFile(f"{number}.yml", text.encode()) for number, text in enumerate(texts)]
    written = [one for file in files for one in read(file) if isinstance(one, Written)]
    findings = lint(written, build(files, PLACES), sources=sources, attack=attack)
    return [(str(one.severity), one.code.removeprefix("sigma.lint.")) for one in findings], findings


def test_a_whole_rule_has_nothing_to_mend():
    assert found(rule(more=CARD)) == ([], ())


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("attack.t9999", ("error", "attack_unknown")),
        ("attack.t1078.099", ("warning", "attack_unknown")),
        ("attack.t1x", ("error", "attack_unknown")),
        ("attack.t1562", ("warning", "attack_revoked")),
        ("attack.t1086", ("warning", "attack_deprecated")),
        ("attack.defense-evasion", ("note", "attack_tactic")),
        ("attack.stealth", None),
        ("attack.g0016", None),
        ("cve.2020-1", None),
    ],
)
def test_tags_are_judged_by_the_imported_attack(tag, said):
    kinds, findings = found(rule(tags=f"[attack.t1078, {tag}]", more=CARD))
    assert kinds == ([said] if said else [])
    if said == ("warning", "attack_revoked"):
        assert findings[0].hint == "it is `T1685` now"


def test_without_attack_a_note_says_that_ids_were_not_judged():
    assert found(rule(tags="[attack.t9999]", more=CARD), attack=None)[0] == [("note", "attack_missing")]


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("eventname", "did you mean `eventName`?"),
        ("source_ip_address", "did you mean `sourceIPAddress`?"),
        ("evntName", "did you mean `eventName`?"),
        ("eventNmae", "did you mean `eventName`?"),
        ("requestParameters.name", None),
        ("eventName", None),
    ],
)
def test_a_slip_in_a_field_name_is_told(field, hint):
    kinds, findings = found(rule(detection=f"{{{field}: x}}"))
    assert [one.hint for one in findings if one.code == "sigma.lint.field_unknown"] == ([hint] if hint else [])
    assert kinds[-1] == ("note", "card_missing")


def test_events_at_hand_decide_which_fields_there_are():
    seen = Names(KNOWN["cloudtrail"].known, frozenset(names_of({"a": [{"b": 1}]})), events=9)
    assert "a.b" in seen.seen
    assert ("warning", "field_unknown") not in found(rule(detection="{a.b: 1}"), sources={"cloudtrail": seen})[0]
    kinds, (first, *_) = found(rule(detection="{a.c: 1}"), sources={"cloudtrail": seen})
    assert kinds[0] == ("warning", "field_unknown")
    assert "none of 9 events" in first.message


def test_a_field_of_a_firing_test_is_known():
    plain = "{eventname: StopLogging}"
    assert ("warning", "field_unknown") in found(rule(detection=plain, more=CARD))[0]
    tested = CARD.replace("{eventName: StopLogging}", "{eventname: StopLogging}")
    assert found(rule(detection=plain, more=tested))[0] == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("curl", None),
        ("curl.{0,20}http", None),
        ("(curl|wget) http", None),
        ("(?:curl)+", None),
        ("a(bcd)?efg", None),
        (".*curl", "warning"),
        ("(.+)curl", "warning"),
        (".+", "warning"),
        ("[0-9]+", "note"),
        ("(curl|x).", "note"),
        ("curl.{300}", "warning"),
        ("curl(?:.{20}){20}", "warning"),
        (r"\pL+", None),
    ],
)
def test_dear_patterns_are_seen_by_their_structure(pattern, said):
    assert [str(severity) for severity, _, _ in dear(pattern)] == ([said] if said else [])


def test_a_dear_pattern_is_told_once_a_rule():
    kinds, _ = found(rule(detection='{a|re: ".*curl", b|re: ".*curl"}', more=CARD))
    assert kinds == [("warning", "regex_dear")]


def test_the_same_id_and_the_same_meaning():
    one = rule(detection="{eventName: [A, B], eventSource: c}", more=CARD)
    other = rule(detection="{eventSource: c, eventName: [B, A]}", more=CARD, number=2)
    assert found(one, other)[0] == [("warning", "same_meaning")]
    assert ("error", "same_id") in found(one, rule(more=CARD))[0]
    assert found(one, rule(detection="{eventSource: c, eventName: [B, C]}", more=CARD, number=2))[0] == []


@pytest.mark.parametrize(
    ("before", "after", "lack"),
    [
        ("owner: cloud", "goal: x", "has no owner"),
        ("runbook: Ask.", "runbook: ' '", "has no runbook"),
        ("    - {name: b, fires: false, event: {eventName: Describe}}\n", "", "has no test that leaves it quiet"),
        ("falsepositives: [none]\n", "", "has no falsepositives"),
    ],
)
def test_what_a_rule_of_ones_own_lacks(before, after, lack):
    kinds, (first,) = found(rule(more=CARD.replace(before, after)))
    assert kinds == [("warning", "card")]
    assert first.message == lack


def test_a_rule_needs_a_technique_and_a_filter_an_end():
    assert found(rule(tags="[]", more=CARD))[1][0].message == "has no ATT&CK technique"
    exception = "title: f\nlogsource: {product: aws}\nfilter: {rules: any, s: {a: b}, condition: not s}\n"
    kinds, findings = found(exception + "vedette: {owner: x}\n")
    assert [one.message for one in findings] == ["has no reason", "has no day on which it expires"]
    assert {severity for severity, _ in kinds} == {"warning"}


@pytest.fixture
def check(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rules", "check", *map(str, arguments)])
        return stop.value.code or 0, capsys.readouterr().out

    return call


def test_strict_fails_on_a_warning_and_notes_never_do(check, tmp_path):
    (tmp_path / "a.yml").write_text(rule(detection="{a|re: '.*curl'}"))
    home = ("--home", tmp_path / "none")
    assert check(tmp_path, *home)[0] == 0
    code, out = check(tmp_path, *home, "--strict", "--json")
    assert code == 1
    assert [one["code"] for one in json.loads(out)["findings"]] == [
        "sigma.lint.regex_dear", "sigma.lint.attack_missing", "sigma.lint.card_missing"
    ]  # fmt: skip
    assert "leave it out" in check(tmp_path, *home)[1].replace("\n", " ")


def test_events_can_be_given(check, tmp_path):
    (tmp_path / "a.yml").write_text(rule(detection="{nowhere: x}"))
    (tmp_path / "e.ndjson").write_text('{"eventVersion": "1", "eventSource": "s", "eventName": "n"}\n')
    assert check(tmp_path / "a.yml", "--events", tmp_path / "e.ndjson", "--strict", "--home", tmp_path)[0] == 1
    assert check(tmp_path / "a.yml", "--strict", "--home", tmp_path)[0] == 0


def test_public_rules_give_few_findings_and_true_ones(check, shared_data):
    intel = shared_data / "intel"
    code, out = check(
        shared_data / "sigma" / "rules.tar.gz", "--json",
        "--attack", intel / "attack-enterprise-18.1-trim.stix21.json.gz",
        "--crosswalk", intel / "attack-v19-crosswalk.tsv",
    )  # fmt: skip
    findings = json.loads(out)["findings"]
    assert code == 1
    assert {one["code"] for one in findings if one["severity"] == "error"} == {"sigma.lint.skipped"}
    slips = {(one["path"].rpartition("/")[2], one["hint"]) for one in findings if one["code"].endswith("field_unknown")}
    assert ("zeek_http_executable_download_from_webdav.yml", "did you mean `user_agent`?") in slips
    assert len(slips) <= 10


def test_shipped_rules_have_nothing_to_mend(check, shared_data):
    intel = shared_data / "intel"
    code, out = check(
        shipped("rules/sigma"), "--strict", "--json",
        "--attack", intel / "attack-enterprise-18.1-trim.stix21.json.gz",
        "--crosswalk", intel / "attack-v19-crosswalk.tsv",
    )  # fmt: skip
    findings = [one for one in json.loads(out)["findings"] if one["severity"] != Severity.NOTE]
    assert [(one["path"], one["message"]) for one in findings] == []
    assert code == 0
