"""Indicators in: values, patterns, bundles, feeds; each kind of nonsense is refused by name and stops nothing else."""

from __future__ import annotations

import json
import lzma
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import stix2
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.sense.intel.feeds import Form, parse_feed, sniff_form
from vedette.sense.intel.indicator import FLOOR, HALF_LIFE, Indicator, Tlp, indicator_id
from vedette.sense.intel.patterns import format_pattern, parse_pattern
from vedette.sense.intel.stix import Default, parse_bundle, to_bundle, to_stix
from vedette.sense.intel.values import Kind, canonical, guess
from vedette.sense.intel.warninglists import List, Warninglists, load_warninglists

NOW = 1_780_000_000_000_000
DEFAULT = Default(now=NOW, collection="own")
MD5, SHA = "d41d8cd98f00b204e9800998ecf8427e", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def indicator(pattern: str, **more: Any) -> dict[str, Any]:
    """One as another tool would make it."""
    made = stix2.Indicator(pattern=pattern, pattern_type="stix", valid_from="2026-01-01T00:00:00Z", **more)
    return json.loads(made.serialize())


def bundle(*objects: Any) -> bytes:
    return json.dumps(
        {"type": "bundle", "id": "bundle--5d0092c5-5f74-4287-9642-33f4c354e56d", "objects": objects}
    ).encode()


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        (Kind.DOMAIN, "WWW.Evil[.]Example.", "www.evil.example"),
        (Kind.DOMAIN, "bücher.example", "xn--bcher-kva.example"),
        (Kind.IPV4, "203.0.113.9/24", "203.0.113.0/24"),
        (Kind.IPV4, "203.0.113.9/32", "203.0.113.9"),
        (Kind.IPV6, "2001:DB8:0::1", "2001:db8::1"),
        (Kind.IPV6, "::ffff:203.0.113.9", "203.0.113.9"),
        (Kind.URL, "https://Evil.example:443/A?b#c", "//evil.example/A?b"),
        (Kind.URL, "evil.example/a", "//evil.example/a"),
        (Kind.URL, "/gate.php", "/gate.php"),
        (Kind.EMAIL, "Bad@Evil.Example", "bad@evil.example"),
        (Kind.FILE, MD5.upper(), MD5),
    ],
)
def test_a_value_has_one_spelling(kind: Kind, text: str, found: str) -> None:
    assert canonical(kind, text) == found
    again = guess(found)
    assert again is not None
    assert again.value == found


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("text", ["", " ", "evil", "1.2.3", "a b.example/x", "@", "x" * 3_000, "'", "abc" * 11])
def test_what_is_no_value_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(DataError) as caught:
        canonical(kind, text)
    assert caught.value.code == "intel.value.invalid"


@pytest.mark.parametrize(
    ("pattern", "formula"),
    [
        ("[domain-name:value = 'evil.example']", (("evil.example",),)),
        (
            "[ipv4-addr:value ISSUBSET '203.0.113.0/24'] OR [ipv4-addr:value = '192.0.2.1']",
            (("203.0.113.0/24",), ("192.0.2.1",)),
        ),
        (f"[file:hashes.'SHA-256' = '{SHA}' AND file:hashes.MD5 = '{MD5}']", ((SHA, MD5),)),
        ("[url:value IN ('http://a.example/', 'http://b.example/x')]", (("//a.example/",), ("//b.example/x",))),
        (
            "[domain-name:value = 'a.example' AND (email-addr:value = 'x@y.example' OR ipv4-addr:value = '192.0.2.1')]",
            (("a.example", "x@y.example"), ("a.example", "192.0.2.1")),
        ),
        (
            "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '192.0.2.7']",
            (("192.0.2.7",),),
        ),
        ("([domain-name:value = 'a.example'] OR [domain-name:value = 'b.example'])", (("a.example",), ("b.example",))),
    ],
)
def test_patterns_that_are_matched(pattern: str, formula: Any) -> None:
    assert parse_pattern(pattern) == formula
    indicator(pattern)  # the other library takes it too


@pytest.mark.parametrize(
    "pattern",
    [
        "[domain-name:value LIKE '%.example']",
        "[domain-name:value MATCHES 'x']",
        "[domain-name:value != 'a.example']",
        "[domain-name:value NOT = 'a.example']",
        "[file:name = 'a.exe']",
        f"[file:hashes.MD5 = '{MD5}' AND file:name = 'a.exe']",
        "[network-traffic:dst_port = 443]",
        "[domain-name:value = 'a.example'] AND [domain-name:value = 'b.example']",
        "[domain-name:value = 'a.example'] FOLLOWEDBY [domain-name:value = 'b.example']",
        "[domain-name:value = 'a.example'] WITHIN 5 SECONDS",
        "[file:hashes.SSDEEP = 'x']",
    ],
)
def test_patterns_beyond_are_kept_and_held_back(pattern: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_pattern(pattern)
    assert caught.value.code == "intel.pattern.unsupported"
    (one,), refused = parse_bundle(bundle(indicator(pattern)), DEFAULT)
    assert one.indicator is not None
    assert not refused
    assert not one.indicator.formula
    assert "intel.pattern.unsupported" in one.indicator.held


@given(st.text(alphabet="[]()'=:. aAdomin-vluefshORND,\\\n0123456789/", max_size=80))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    with suppress(DataError):
        formula = parse_pattern(text)
        assert formula
        kinds = [[guess(value).kind for value in each] for each in formula]  # type: ignore[union-attr]
        assert parse_pattern(format_pattern(formula, kinds)) == formula


def test_a_pattern_cannot_nest_or_multiply_without_end() -> None:
    for text in ("[" + "(" * 500, "(" * 500 + "[domain-name:value = 'a.example'", "x" * 40_000):
        with pytest.raises(DataError):
            parse_pattern(text)
    either = "({})".format(" OR ".join(f"domain-name:value = 'a{n}.example'" for n in range(20)))
    with pytest.raises(DataError) as caught:
        parse_pattern(f"[{either} AND {either} AND {either}]")
    assert caught.value.code == "intel.pattern.unsupported"


def test_a_bundle_of_another_tool_comes_and_goes_whole() -> None:
    malware = stix2.Malware(name="Grey Rat", is_family=True)
    attack = stix2.AttackPattern(
        name="Phishing", external_references=[{"source_name": "mitre-attack", "external_id": "T1566"}]
    )
    bad = indicator(
        "[domain-name:value = 'evil.example']", object_marking_refs=[stix2.TLP_GREEN.id], confidence=80, name="n"
    )
    relations = [stix2.Relationship(bad["id"], "indicates", one.id) for one in (malware, attack)]
    plain = [json.loads(one.serialize()) for one in (malware, attack, *relations)]
    objects, refused = parse_bundle(bundle(bad, *plain, {"type": "indicator"}, 3), DEFAULT)
    assert [one.code for one in refused] == ["intel.object.invalid", "intel.object.invalid"]
    own = objects[0].indicator
    assert own is not None
    assert (own.tlp, own.confidence, own.labels) == (Tlp.GREEN, 80, ("malware:Grey Rat", "attack.t1566"))
    again = stix2.parse(
        to_bundle((to_stix(one, created=NOW) for one in objects), "5d0092c5-5f74-4287-9642-33f4c354e56d")
    )
    assert [one.id for one in again.objects] == [one.id for one in objects]
    assert json.loads(again.objects[0].serialize()) == bad


@pytest.mark.parametrize(
    "change",
    [{"id": "indicator--x"}, {"id": "malware--5d0092c5-5f74-4287-9642-33f4c354e56d"}, {"modified": "soon"}, {"type": 3},
     {"x": [[[[[]]]]] * 30}, {"valid_from": "2026-13-01T00:00:00Z"}, {"pattern": 7}],
)  # fmt: skip
def test_a_bad_object_stops_no_other(change: dict[str, Any]) -> None:
    good = indicator("[domain-name:value = 'evil.example']")
    deep: Any = []
    for _ in range(70):
        deep = [deep]
    change = {"x": deep} if "x" in change else change
    objects, refused = parse_bundle(bundle({**good, **change}, good), DEFAULT)
    assert [one.id for one in objects] == [good["id"]]
    assert len(refused) == 1
    assert refused[0].at == "objects[0]"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["type", "id", "objects", "pattern", "modified", "valid_from", "x"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_json_is_a_bundle_or_refused(value: Any) -> None:
    for content in (json.dumps(value).encode(), bundle(value), bundle({**indicator("[url:value='/a']"), "x": value})):
        with suppress(DataError):
            parse_bundle(content, DEFAULT)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"type":"bindle"}', b"\xff", b'{"objects":' + b"[" * 100_000])
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse_bundle(content, DEFAULT)
    assert caught.value.code == "intel.stix.invalid"


def test_csv_takes_good_lines_and_names_bad_ones() -> None:
    text = (
        "indicator,type,comment,valid_until,confidence,tags\r\n"
        'evil.example,domain,"a, b",2026-12-01,90,"tlp:green, apt"\r\n'
        "203.0.113.9|443,ip-dst|port,,,,\r\n"
        "nonsense,,,,,\r\n"
        "x.example,domain,,,900,\r\n"
        f"a.exe|{MD5},filename|md5,,,,\r\n"
        "S-1-5,windows-sid,,,,\r\n"
    )
    assert sniff_form(text.encode()) is Form.CSV
    objects, refused = parse_feed(text.encode(), Form.CSV, DEFAULT)
    found = [one.indicator for one in objects if one.indicator]
    assert [one.value for one in found] == ["evil.example", "203.0.113.9", MD5]
    assert (found[0].tlp, found[0].confidence, found[0].labels) == (Tlp.GREEN, 90, ("apt",))
    assert [(one.at, one.code) for one in refused] == [
        ("line 4", "intel.value.invalid"),
        ("line 5", "intel.feed.confidence"),
        ("line 7", "intel.feed.type"),
    ]
    with pytest.raises(DataError) as caught:
        parse_feed(b"a,b\n1,2\n", Form.CSV, DEFAULT)
    assert caught.value.code == "intel.csv.head"


def test_a_misp_event_becomes_indicators() -> None:
    event = {
        "Event": {
            "info": "campaign",
            "Tag": [{"name": "tlp:amber"}],
            "Attribute": [
                {"type": "domain", "value": "evil.example", "to_ids": True, "timestamp": "1767225600"},
                {"type": "ip-dst", "value": "203.0.113.9", "to_ids": False},
                {"type": "comment", "value": "words"},
            ],
            "Object": [{"Attribute": [{"type": "sha256", "value": SHA, "Tag": [{"name": "tlp:red"}]}]}],
        }
    }
    content = json.dumps(event).encode()
    assert sniff_form(content) is Form.MISP
    objects, refused = parse_feed(content, Form.MISP, DEFAULT)
    found = [one.indicator for one in objects if one.indicator]
    assert [(one.value, one.tlp, bool(one.held)) for one in found] == [
        ("evil.example", Tlp.AMBER, False),
        ("203.0.113.9", Tlp.AMBER, True),
        (SHA, Tlp.RED, False),
    ]
    assert found[0].valid_from == 1_767_225_600_000_000
    assert [one.code for one in refused] == ["intel.feed.type"]
    assert parse_feed(json.dumps({"response": [event]}).encode(), Form.MISP, DEFAULT) == (objects, refused)
    with pytest.raises(DataError) as caught:
        parse_feed(b"{}", Form.MISP, DEFAULT)
    assert caught.value.code == "intel.misp.invalid"


@given(st.binary(max_size=60), st.sampled_from(list(Form)))
def test_any_bytes_are_a_feed_or_refused(content: bytes, form: Form) -> None:
    with suppress(DataError):
        parse_feed(content, form, DEFAULT)


def test_a_real_list_is_taken_nearly_whole(shared_data: Path) -> None:
    content = lzma.decompress((shared_data / "intel" / "maltrail-malware-subset.tsv.xz").read_bytes())
    some = b"".join(content.splitlines(keepends=True)[::40])
    objects, refused = parse_feed(some, Form.LIST, DEFAULT)
    assert len(objects) > 2_000
    assert len(refused) < 3
    assert indicator_id("own", "x") == indicator_id("own", "x") != indicator_id("other", "x")
    bundled = to_bundle((to_stix(one, created=NOW) for one in objects[::20]), "5d0092c5-5f74-4287-9642-33f4c354e56d")
    again, none = parse_bundle(bundled, DEFAULT)
    assert not none
    assert [one.indicator.formula for one in again if one.indicator] == [one.indicator.formula for one in objects[::20] if one.indicator]  # fmt: skip
    assert len(stix2.parse(bundled).objects) == len(again)


def test_warninglists_are_compared_each_its_own_way(shared_data: Path) -> None:
    lists = load_warninglists(shared_data / "intel" / "misp-warninglists-subset.tar.xz", only="*[cdr][nf][sc]*")
    assert any(one.type == "cidr" for one in lists)
    every = frozenset(Kind)
    own = Warninglists([
        List("hosts", "hostname", ("good.example",), every),
        List("nets", "cidr", ("10.0.0.0/8", "2001:db8::/32", "9.9.9.9"), every),
        List("whole", "string", ("exact.example", MD5), every),
        List("part", "substring", ("throwaway",), every),
        List("regex", "regex", ("/^abuse@/i", "/(bad/"), frozenset({Kind.EMAIL})),
    ])  # fmt: skip
    for kind, value, name in [
        (Kind.DOMAIN, "www.good.example", "hosts"), (Kind.DOMAIN, "notgood.example", ""), (Kind.URL, "//a.good.example/x", "hosts"),
        (Kind.IPV4, "10.1.2.3", "nets"), (Kind.IPV4, "10.64.0.0/10", "nets"), (Kind.IPV4, "11.0.0.0/8", ""),
        (Kind.IPV6, "2001:db8::7", "nets"), (Kind.IPV4, "9.9.9.9", "nets"), (Kind.URL, "//10.2.3.4/x", "nets"),
        (Kind.DOMAIN, "exact.example", "whole"), (Kind.DOMAIN, "sub.exact.example", ""), (Kind.FILE, MD5, "whole"),
        (Kind.DOMAIN, "my-throwaway-mail.example", "part"), (Kind.EMAIL, "abuse@evil.example", "regex"), (Kind.EMAIL, "x@y.example", ""),
    ]:  # fmt: skip
        assert own.holds(kind, value) == name, value


def test_confidence_halves_and_ends() -> None:
    one = Indicator(id="x", formula=(("evil.example",),), valid_from=NOW, confidence=80)
    half = HALF_LIFE[Kind.DOMAIN]
    assert one.score(NOW - 1) == 0
    assert one.score(NOW) == 80
    assert one.score(NOW + half) == pytest.approx(40)
    assert one.score(one.until - 2) == pytest.approx(FLOOR, abs=0.01)
    assert one.until == NOW + 3 * half + 1
    seen = Indicator(id="x", formula=(("evil.example",),), valid_from=NOW, confidence=80, seen=NOW + half)
    assert seen.score(NOW + half) == 80
    short = Indicator(id="x", formula=(("evil.example",),), valid_from=NOW, valid_until=NOW + 5)
    assert (short.until, short.score(NOW + 5)) == (NOW + 5, 0)
