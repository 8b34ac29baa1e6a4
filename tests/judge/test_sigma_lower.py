"""The traps of Sigma's meaning, each on the reference evaluator and on the matcher."""

from __future__ import annotations

import base64
import json

import pytest

from vedette.expr.matcher import Matcher
from vedette.expr.printer import to_text
from vedette.expr.reference import evaluate
from vedette.expr.truth import Truth
from vedette.expr.values import leaves, reader
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.sense.definition import LogSource

PLACES = LogSources({"any": LogSource(category="any"), "windows": LogSource(product="windows")}, ())


def load(detection, logsource=None):
    rule = {"title": "t", "logsource": logsource or {"category": "any"}, "detection": detection}
    return build([RuleFile("rule.yml", json.dumps(rule).encode())], PLACES)


def node_of(detection, logsource=None):
    loaded = load(detection, logsource)
    assert not loaded.skipped, loaded.skipped
    (node,) = loaded.rules[0].nodes.values()
    return node


def fires(detection, event, logsource=None):
    node = node_of(detection, logsource)
    answer = evaluate(node, reader(event), list(leaves(event)))
    assert answer is not Truth.UNKNOWN, "Sigma knows two answers"
    assert Matcher([node]).match(event) == ((0,) if answer is Truth.TRUE else ())
    return answer is Truth.TRUE


def one(selection, event):
    return fires({"s": selection, "condition": "s"}, event)


def test_absent_null_and_empty_differ():
    wanted = {"s": {"a": "x"}, "f": {"b": "y"}, "condition": "s and not f"}
    assert fires(wanted, {"a": "X"})
    assert fires(wanted, {"a": "x", "b": None})
    assert not fires(wanted, {"a": "x", "b": "Y"})
    assert [one({"a": None}, event) for event in ({}, {"a": None}, {"a": ""})] == [True, True, False]
    assert [one({"a": ""}, event) for event in ({}, {"a": None}, {"a": ""})] == [False, False, True]
    assert [one({"a|exists": True}, event) for event in ({}, {"a": None}, {"a": ""})] == [False, True, True]
    assert [one({"a|exists": False}, event) for event in ({}, {"a": None})] == [True, False]
    assert [one({"a": "*"}, event) for event in ({}, {"a": None}, {"a": ""}, {"a": 0})] == [False, False, True, True]


def test_case_folding_is_full_and_names_are_cased():
    assert one({"a|contains": "STRASSE"}, {"a": "große Straße"})
    assert not one({"a": "x"}, {"A": "x"})
    assert not one({"a|cased": "x"}, {"a": "X"})
    assert [one({"a|re": "^ab"}, {"a": text}) for text in ("abc", "ABC")] == [True, False]
    assert one({"a|re|i": "^ab"}, {"a": "ABC"})


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"C:\Windows\*", r"c:\windows\x", False),
        (r"C:\Windows\*", r"c:\windows*", True),
        (r"C:\Windows\\*", "c:\\windows\\x", True),
        (r"a\\b", r"a\b", True),
        (r"a\b", r"a\b", True),
        (r"a\?c", "a?c", True),
        (r"a\?c", "abc", False),
        ("a?c", "a\nc", True),
        ("100%_x", "100%_x", True),
        ("100%_x", "100aax", False),
        ("a%c", "abc", False),
        ("\\", "\\", True),
    ],
)
def test_backslash_escapes_only_wildcards_and_itself(pattern, text, answer):
    assert one({"a": pattern}, {"a": text}) is answer


def test_numbers_and_truth_values_meet_their_texts():
    assert all(one({"EventID": 1}, {"EventID": value}) for value in (1, "1", 1.0, [2, "1"]))
    assert not one({"EventID": 1}, {"EventID": True})
    assert one({"a": True}, {"a": True})
    assert one({"a": True}, {"a": "True"})
    assert one({"a": "true"}, {"a": True})


def test_a_list_of_values_matches_by_any_element():
    assert one({"a|endswith": ".exe"}, {"a": ["x.dll", "y.EXE"]})
    assert not one({"a|endswith": ".exe"}, {"a": []})


def test_lists_and_maps_join_as_they_should():
    maps = [{"a": "1", "b": "2"}, {"c": "3"}]
    assert [one(maps, event) for event in ({"a": "1"}, {"a": "1", "b": "2"}, {"c": "3"})] == [False, True, True]
    assert one({"a": ["1", "2"]}, {"a": "2"})
    assert not one({"a|contains|all": ["x", "y"]}, {"a": "x"})
    assert one({"a|contains|all": ["x", "y"]}, {"a": "yx"})


def test_selectors_keep_all_inside_and_skip_private_names():
    detection = {
        "sel_1": {"a|contains|all": ["x", "y"]},
        "sel_2": {"a": "z"},
        "_private": {"a": "p"},
        "condition": "1 of sel_*",
    }
    assert [fires(detection, {"a": text}) for text in ("x", "xy", "z")] == [False, True, True]
    everything = {**detection, "condition": "1 of them"}
    assert [fires(everything, {"a": text}) for text in ("p", "z")] == [False, True]
    assert fires({**detection, "condition": "all of sel_*"}, {"a": "z"}) is False
    assert fires({"s": {"a": "x"}, "t": {"a": "y"}, "condition": ["s", "t"]}, {"a": "y"}), "conditions are alternatives"


def test_windash_has_five_dashes():
    for dash in "-/–—―":
        assert one({"a|contains|windash": " -enc "}, {"a": f"x {dash}enc y"})
    assert not one({"a|contains|windash": " -enc "}, {"a": "x +enc y"})
    both = {"a|contains|all|windash": ["-a", "-b"]}
    assert [one(both, {"a": text}) for text in ("/a –b", "/a /a")] == [True, False]


def test_encodings():
    hidden = "IEX (New-Object"
    for pad in range(3):
        encoded = base64.b64encode(b"x" * pad + hidden.encode() + b"yyy").decode()
        assert one({"a|base64offset|contains": hidden}, {"a": f"-e {encoded}"})
    wide = base64.b64encode(hidden.encode("utf-16le")).decode()
    assert one({"a|wide|base64": hidden}, {"a": wide.lower()}), "folded as other texts are"
    assert one({"a|wide|base64offset|contains": hidden}, {"a": f"-e {wide}"})
    assert not one({"a|base64|cased": hidden}, {"a": base64.b64encode(hidden.encode()).decode().lower()})

    accented = base64.b64encode("xé ü".encode()).decode()
    assert one({"a|base64offset|contains": "é ü"}, {"a": accented}), "shifts are of bytes"
    assert one({"a|base64": r"a\*b\?"}, {"a": base64.b64encode(b"a*b?").decode()}), "an escape is not encoded"
    for modifier, codec, mark in (
        ("utf16le", "utf-16-le", b""),
        ("utf16be", "utf-16-be", b""),
        ("utf16", "utf-16-le", b"\xff\xfe"),
    ):
        encoded = base64.b64encode(mark + "né".encode(codec)).decode()
        assert one({f"a|{modifier}|base64": "né"}, {"a": encoded})
    assert one({"a|wide|contains": "ab"}, {"a": "xa\0b\0"})


def test_cased_holds_wherever_it_stands():
    for key in ("a|cased|contains|windash", "a|windash|cased|contains", "a|contains|cased|windash"):
        assert [one({key: "-Enc"}, {"a": text}) for text in ("/Enc", "/enc")] == [True, False]
    assert not one({"a|cased|base64": "x"}, {"a": base64.b64encode(b"x").decode().lower()})
    for key in ("a|cased|fieldref", "a|fieldref|cased"):
        assert [one({key: "b"}, {"a": "X", "b": each}) for each in ("X", "x")] == [True, False]


def test_words_of_a_condition_are_not_the_first_letters_of_a_name():
    both = {"x": {"a": "1"}, "notx": {"a": "2"}, "orb": {"a": "3"}, "sel-1": {"a": "4"}}
    answers = {
        "notx": ["2"],
        "NOT notx and Not x": ["3", "4"],
        "x or orb": ["1", "3"],
        "1 of sel-*": ["4"],
        "(x)or(orb)": ["1", "3"],
        "not (x or notx) and not orb": ["4"],
    }
    for condition, wanted in answers.items():
        assert [text for text in "1234" if fires({**both, "condition": condition}, {"a": text})] == wanted


def test_numbers_are_exact():
    number = 2**53 + 1
    assert [one({"a": number}, {"a": value}) for value in (number, number - 1, str(number))] == [True, False, True]
    assert [one({"a|gte": number}, {"a": value}) for value in (number, number - 1)] == [True, False]


def test_parts_of_a_time():
    late = {"s": {"t|hour|gte": 22}, "e": {"t|hour|lt": 6}, "w": {"t|week": 9}, "condition": "(s or e) and w"}
    times = ("2026-02-25T23:59:00Z", "2026-02-25T12:00:00Z", "2026-02-25T23:30:00-02:00", 1772150400, "x", None)
    assert [fires(late, {"t": time}) for time in times] == [True, False, True, True, False, False]
    assert fires({"s": {"t|minute": [0, 30]}, "condition": "s"}, {"t": "2026-02-25 23:30"})
    assert [one({"t|year|neq": 2026}, event) for event in ({"t": "2026-01-01"}, {"t": "2025-01-01"}, {})] == [
        False,
        True,
        True,
    ]
    assert [one({"t|day": 31, "t|month": 12}, {"t": time}) for time in ("2026-12-31", "2026-12-30")] == [True, False]


def test_negation_of_any_value():
    assert [one({"a|neq": ["x", "y*"]}, event) for event in ({"a": "X"}, {"a": "yes"}, {"a": "z"}, {})] == [
        False, False, True, True,
    ]  # fmt: skip


def test_lists_and_maps_inside_one_another():
    nested = [[{"a": "1"}, {"b|contains": ["2", "3"]}], "word"]
    assert [one(nested, event) for event in ({"a": "1"}, {"b": "x3"}, {"c": "a word"}, {"b": "1"})] == [
        True, True, True, False,
    ]  # fmt: skip


def test_field_references():
    assert one({"a|fieldref": "b"}, {"a": "X", "b": "x"})
    assert not one({"a|fieldref": "b"}, {"a": "x"})
    assert [one({"a|fieldref|startswith": "b"}, {"a": "xy", "b": each}) for each in ("X", "y")] == [True, False]
    assert one({"a|fieldref|contains": "b"}, {"a": "xyz", "b": "Y"})


def test_networks_of_both_versions():
    assert one({"ip|cidr": "10.0.0.0/8"}, {"ip": "10.9.8.7"})
    assert one({"ip|cidr": "2001:db8::/32"}, {"ip": "2001:DB8::1"})
    assert not one({"ip|cidr": "10.0.0.0/8"}, {"ip": "ten"})
    assert fires({"s": {"ip|cidr": "10.0.0.0/8"}, "condition": "not s"}, {})


def test_comparisons():
    assert [one({"n|gte": 10}, {"n": value}) for value in (10, "10", 9, "x", None, [1, 11])] == [
        True, True, False, False, False, True,
    ]  # fmt: skip
    assert [one({"n|neq": 10}, event) for event in ({"n": 10}, {"n": 11}, {})] == [False, True, True]


def test_keywords_search_every_value():
    detection = {"k": ["mimikatz", "*.kirbi"], "condition": "k"}
    assert fires(detection, {"Data": ["ran MIMIKATZ.exe"]})
    assert fires(detection, {"x": {"y": "a.kirbi"}})
    assert not fires(detection, {"mimikatz": "x"})
    everything = {"k": {"|all": ["a", "b"]}, "condition": "k"}
    assert [fires(everything, event) for event in ({"x": "a", "y": "b"}, {"x": "a"})] == [True, False]


def test_spaces_in_windows_field_names_do_not_count():
    logsource = {"product": "windows", "service": "windefend"}
    event = {"Channel": "Microsoft-Windows-Windows Defender/Operational", "ThreatName": "x"}
    assert fires({"s": {"Threat Name": "x"}, "condition": "s"}, event, logsource)


def test_windows_log_sources_become_conditions():
    node = node_of({"s": {"Image": "x"}, "condition": "s"}, {"product": "windows", "category": "process_creation"})
    assert to_text(node) == (
        'known(Channel is "Microsoft-Windows-Sysmon/Operational") and known(EventID is "1") and known(Image is "x")'
    )


@pytest.mark.parametrize(
    ("detection", "code"),
    [
        ({"s": {"a|expand": "%admins%"}, "condition": "s"}, "sigma.placeholder.unresolved"),
        ({"s": {"a|re": "(?=x)"}, "condition": "s"}, "sigma.regex.refused"),
        ({"s": {"a|re": "("}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|hour": 3.5}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|wide": "é"}, "condition": "s"}, "sigma.value.unsupported"),
        ({"s": {"a|base64offset|contains": "a"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|base64": "a*"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|expand|base64": "%admins%"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|expand|windash": "%admins%"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|expand|fieldref": "%admins%"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a|windash": "-a -b -c -d -e -f"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a": []}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"|startswith": "x"}, "condition": "s"}, "sigma.value.unsupported"),
        ({"s": {"a": "x"}, "timeframe": "5m", "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a": "x"}, "condition": "((s)"}, "sigma.condition.invalid"),
        ({"s": {"a": "x"}, "condition": "s s"}, "sigma.condition.invalid"),
        ({"s": {"a": "x"}, "condition": "not " * 100 + "s"}, "sigma.condition.invalid"),
        ({"s": {"a": "x"}, "condition": "2 of s*"}, "sigma.condition."),
        ({"s": {"a": "x"}, "condition": 3}, "sigma.condition.invalid"),
        ({"s": {"a|nonsense": 3}, "condition": "s"}, "sigma.detection.invalid"),
        ({"s": {"a": "x"}, "condition": "t"}, "sigma.condition.unknown_selection"),
        ({"s": {"a": "x"}, "condition": "1 of t*"}, "sigma.condition.empty"),
        ({"s": {"a": "x"}, "condition": "s and"}, "sigma.condition.invalid"),
        ({"s": {"a": "x"}, "condition": "s | count() > 3"}, "sigma.condition.invalid"),
        ({"s": {"a": {"b": "c"}}, "condition": "s"}, "sigma."),
        ({"s": {"a|cidr": "10.0.0.0/33"}, "condition": "s"}, "sigma.detection.invalid"),
        ({"condition": "s"}, "sigma."),
        ([], "sigma."),
    ],
)
def test_what_cannot_run_is_named_with_its_reason(detection, code):
    loaded = load(detection)
    assert not loaded.rules
    assert f"[{code}" in loaded.skipped[0].reason
