from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace

import pytest

from vedette.core.errors import DataError
from vedette.core.signal import Level
from vedette.expr.matcher.build import Builder
from vedette.expr.printer import to_text
from vedette.judge.sigma import cache, files
from vedette.judge.sigma.cache import load_cached
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.load import build, load
from vedette.judge.sigma.logsources import Entry, LogSources, load_table
from vedette.judge.sigma.ready import Ready
from vedette.sense.definition import LogSource
from vedette.sense.sources import load_sources

NAMED = {
    "windows": LogSource(product="windows"),
    "cloudtrail": LogSource(product="aws", service="cloudtrail"),
    "zeek": LogSource(product="zeek", service_from="_path"),
    "auditd": LogSource(product="linux", service="auditd"),
    "syslog": LogSource(product="linux"),
    "web_access": LogSource(category="webserver"),
}
PLACES = LogSources(NAMED)
SHIPPED = LogSources({name: source.logsource for name, source in load_sources().items()})
GOOD = b"""title: Good
id: 11111111-1111-1111-1111-111111111111
status: deprecated
level: high
tags: [attack.t1078]
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: StopLogging}, condition: s}
"""


def rules(text, path="r.yml"):
    return build([RuleFile(path, text)], PLACES)


def logsource(text):
    return b"title: t\ndetection: {s: {a: x}, condition: s}\nlogsource: " + text


def test_a_rule_keeps_what_people_look_for():
    (rule,) = rules(GOOD).rules
    assert (rule.id, rule.title, rule.level) == ("11111111-1111-1111-1111-111111111111", "Good", Level.HIGH)
    assert (rule.status, rule.tags, rule.path) == ("deprecated", ("attack.t1078",), "r.yml")
    assert rule.version == hashlib.sha256(GOOD).hexdigest()
    assert list(rule.nodes) == ["cloudtrail"]


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (b"{product: aws, service: cloudtrail}", {"cloudtrail": 'known(a is "x")'}),
        (b"{product: aws}", {"cloudtrail": 'known(a is "x")'}),
        (b"{product: zeek, service: http}", {"zeek": 'known(_path is "http") and known(a is "x")'}),
        (b"{product: linux, service: auditd}", {"auditd": 'known(a is "x")', "syslog": 'known(a is "x")'}),
        (b"{product: linux, category: process_creation}", {"syslog": 'known(EventID is "1") and known(a is "x")'}),
        (b"{category: webserver}", {"web_access": 'known(a is "x")'}),
        (b"{category: dns}", {"zeek": 'known(_path is "dns") and known(a is "x")'}),
    ],
)
def test_log_sources_find_their_sources(text, sources):
    (rule,) = rules(logsource(text)).rules
    assert {name: to_text(node) for name, node in rule.nodes.items()} == sources


@pytest.mark.parametrize(
    "text",
    [
        b"{product: aws, service: guardduty}",
        b"{category: moon}",
        b"{service: cloudtrail, product: azure}",
        b"{product: windows, service: moon}",
        b"{product: windows, category: moon}",
        b"{product: windows, category: file_rename}",
    ],
)
def test_a_rule_without_a_source_neither_matches_everything_nor_vanishes(text):
    loaded = rules(logsource(text))
    assert not loaded.rules
    assert "[sigma.logsource.unmapped]" in loaded.skipped[0].reason


def test_field_names_may_differ_by_source():
    places = LogSources(NAMED, (Entry(source="zeek", category="dns", where={"_path": "dns"}, fields={"a": "b"}),))
    (rule,) = build([RuleFile("r.yml", logsource(b"{category: dns}"))], places).rules
    assert to_text(rule.nodes["zeek"]) == 'known(_path is "dns") and known(b is "x")'


def test_whole_values_may_be_spelled_otherwise_by_source():
    entry = Entry(source="zeek", category="dns", fields={"a": "b"}, values={"a": {"Success": 0}})
    text = b"title: t\nlogsource: {category: dns}\ndetection: {s: {a: [success, 'suc*', other], c: success}, condition: not s}"
    (rule,) = build([RuleFile("r.yml", text)], LogSources(NAMED, (entry,))).rules
    spelled = 'known(b is "0") or known(b startswith "suc") or known(b is "other")'
    assert to_text(rule.nodes["zeek"]) == f'not (({spelled}) and known(c is "success"))'


def test_windows_logs_that_the_pipelines_leave_out_have_their_channel():
    (rule,) = rules(logsource(b"{product: windows, service: iis-configuration}")).rules
    marked = 'known(Channel is "Microsoft-IIS-Configuration/Operational")'
    assert to_text(rule.nodes["windows"]) == f'{marked} and known(a is "x")'


def test_the_table_says_why_a_log_source_has_no_home():
    (skipped,) = rules(logsource(b"{product: windows, category: file_rename}")).skipped
    assert "a rename's kernel event names" in skipped.reason


def test_every_entry_of_the_table_names_a_shipped_source():
    table = load_table()
    assert {entry.source for entry in table if not entry.because} <= set(load_sources())
    assert all(bool(entry.source) != bool(entry.because) for entry in table)


def test_at_most_one_percent_of_public_rules_is_skipped(shared_data):
    loaded = load([shared_data / "sigma" / "rules.tar.gz"], SHIPPED)
    assert len(loaded.rules) + len(loaded.skipped) == 3_754
    codes = {rule.reason.rpartition(" ")[2] for rule in loaded.skipped}
    assert codes <= {"[sigma.logsource.unmapped]", "[sigma.placeholder.unresolved]"}
    assert len(loaded.skipped) <= 37


BOMB = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"title: [", "documents.yaml.invalid"),
        (BOMB, "documents.yaml.aliases"),
        (b"- a\n- b", "sigma.rule.not_mapping"),
        (b"title: x", "sigma.logsource.invalid"),
        (b"title: x\nlogsource: 3\ndetection: {s: {a: b}, condition: s}", "sigma.logsource.invalid"),
        (b"title: x\nlogsource: {category: webserver}", "sigma.detection.invalid"),
        (b"title: x\nlogsource: {category: webserver}\ndetection: {s: {1: 2}, condition: s}", "sigma."),
        (b"title: x\nlogsource: {category: webserver}\ndetection: {s: {a: 2024-01-31}, condition: s}", "sigma."),
        (b"title: x\nlogsource: {category: webserver}\ndetection: {s: [[1]], condition: 7}", "sigma."),
        (b"title: \xff\xfe", "documents.yaml.encoding"),
        (b"title: x\n" * 200_000, "sigma.file.unreadable"),
        (b"title: c\ncorrelation: {type: event_count, rules: [x], group-by: [a], timespan: 1h, condition: {gte: 2}}",
         "sigma.correlation.unknown_rule"),
    ],
)  # fmt: skip
def test_one_bad_file_never_stops_the_others(tmp_path, text, code):
    (tmp_path / "bad.yml").write_bytes(text)
    (tmp_path / "good.yaml").write_bytes(GOOD)
    loaded = load([tmp_path], PLACES)
    assert [rule.title for rule in loaded.rules] == ["Good"]
    assert f"[{code}" in loaded.skipped[0].reason
    assert loaded.skipped[0].path == "bad.yml"


def test_a_bad_document_does_not_take_its_neighbours_with_it():
    loaded = rules(GOOD + b"---\ntitle: [\n---\n" + GOOD.replace(b"Good", b"Other"))
    assert [rule.title for rule in loaded.rules] == ["Good", "Other"]
    assert "line 1" in loaded.skipped[0].reason


def test_wrong_trimmings_do_not_stop_a_rule():
    text = GOOD.replace(b"level: high", b"level: enormous").replace(b"deprecated", b"odd") + b"date: yesterday\n"
    (rule,) = rules(text).rules
    assert rule.level is Level.MEDIUM
    assert rules(GOOD.replace(b"11111111-1111-1111-1111-111111111111", b"not-a-uuid")).rules[0].id == "not-a-uuid"
    assert rules(GOOD.replace(b"id: 11111111-1111-1111-1111-111111111111", b"")).rules[0].id == "r.yml"


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_globs_select_in_folders_and_archives(tmp_path):
    names = ["rules/a.yml", "rules/windows/b.yml", "rules/windows/x/y/c.yml", "other/windows/d.yml", "rules/e.txt"]
    for name in names:
        (tmp_path / "dir" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dir" / name).write_bytes(GOOD)
    packed = archive(tmp_path / "rules.tar.gz", {"./" + name: GOOD for name in names})

    def found(only):
        lists = [[file.path for file in rule_files(root, only)] for root in (tmp_path / "dir", packed)]
        assert lists[0] == lists[1]
        return lists[0]

    assert found("") == sorted(names[:4])
    assert found("rules/windows/**") == names[1:3]
    assert found("rules/*") == ["rules/a.yml"]
    assert found("**/windows/*.yml") == ["other/windows/d.yml", "rules/windows/b.yml"]
    assert found("rules/?.yml") == ["rules/a.yml"]
    assert found("nothing/**") == []


def test_paths_that_cannot_be_opened_are_errors(tmp_path):
    with pytest.raises(DataError) as missing:
        list(rule_files(tmp_path / "no"))
    assert missing.value.code == "sigma.rules.missing"
    broken = tmp_path / "half.tar.gz"
    broken.write_bytes(archive(tmp_path / "whole.tar.gz", {"a.yml": os.urandom(50_000)}).read_bytes()[:20_000])
    with pytest.raises(DataError) as unreadable:
        list(rule_files(broken))
    assert unreadable.value.code == "sigma.rules.unreadable"


def test_an_archive_that_grows_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "TOTAL_BYTES", 10_000)
    with pytest.raises(DataError) as refused:
        list(rule_files(archive(tmp_path / "bomb.tar.gz", {"a.yml": b" " * 20_000})))
    assert refused.value.code == "sigma.rules.unreadable"


def test_a_compiled_set_comes_back_equal_and_damage_costs_only_time(tmp_path, monkeypatch):
    held = [RuleFile("a.yml", GOOD), RuleFile("b.yml", b"title: [")]
    fresh = build(held, PLACES)
    assert load_cached(held, PLACES, tmp_path) == fresh
    (path,) = tmp_path.iterdir()
    builds = []
    monkeypatch.setattr(cache, "build", lambda *args: builds.append(1) or build(*args))
    assert load_cached(held, PLACES, tmp_path) == fresh
    assert builds == []
    raw = path.read_bytes()
    for bad in (b"", raw[:100], raw[:-1] + b"x", hashlib.sha256(b"\x93\x90").digest() + b"\x93\x90", os.urandom(500)):
        path.write_bytes(bad)
        assert load_cached(held, PLACES, tmp_path) == fresh
        assert path.read_bytes() == raw, "built again"
    assert len(builds) == 5
    assert load_cached([RuleFile("a.yml", GOOD + b"#")], PLACES, tmp_path).rules != fresh.rules
    assert load_cached(held, LogSources({}), tmp_path).rules == ()
    unwritable = tmp_path / "file"
    unwritable.write_bytes(b"")
    assert load_cached(held, PLACES, unwritable) == fresh


def test_old_cache_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 2)
    for number in range(4):
        load_cached([RuleFile(f"{number}.yml", GOOD)], PLACES, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_every_rule_of_sigmahq_is_loaded_or_named(shared_data):
    places = LogSources({name: source.logsource for name, source in load_sources().items()})
    loaded = load([shared_data / "sigma" / "rules.tar.gz"], places)
    assert len(loaded.rules) + len(loaded.skipped) == 3_754
    assert len(loaded.rules) >= 3_280
    allowed = ("[sigma.logsource.unmapped]", "[sigma.placeholder.unresolved]")
    assert all(one.reason.endswith(allowed) for one in loaded.skipped)


@pytest.mark.parametrize("text", [b"", b"# nothing here\n", b"---\n---\n"])
def test_a_file_without_a_rule_is_named(text):
    found = build([RuleFile("empty.yml", text)], PLACES)
    assert [(one.id, one.reason) for one in found.skipped] == [("empty.yml", "holds no rule [sigma.file.empty]")]


def test_a_cached_set_brings_its_matchers(tmp_path, monkeypatch):
    text = b"{title: t, id: x, logsource: {product: aws, service: cloudtrail},"
    text += b" detection: {s: {eventName|endswith: Logging}, condition: s}}"
    files = [RuleFile("t.yml", text)]
    load_cached(files, PLACES, tmp_path)
    warm = load_cached(files, PLACES, tmp_path)
    monkeypatch.setattr(Builder, "__init__", lambda *_: pytest.fail("a plan was made again"))
    event = {"eventName": "StopLogging"}
    assert [rule.id for rule, _ in Ready(warm).fired("cloudtrail", event)] == ["x"]


def test_a_set_with_other_rules_does_not_use_the_plan(tmp_path):
    files = [
        RuleFile(
            f"{name}.yml",
            f"{{title: {name}, id: {name}, logsource: {{product: aws, service: cloudtrail}},"
            f" detection: {{s: {{eventName: {name}}}, condition: s}}}}".encode(),
        )
        for name in ("one", "two")
    ]
    load_cached(files, PLACES, tmp_path)
    warm = load_cached(files, PLACES, tmp_path)
    fewer = replace(warm, rules=warm.rules[1:])
    assert [rule.id for rule, _ in Ready(fewer).fired("cloudtrail", {"eventName": "two"})] == ["two"]
    assert list(Ready(fewer).fired("cloudtrail", {"eventName": "one"})) == []
