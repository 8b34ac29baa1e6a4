"""Lines that are ruled out before they are decoded hold nothing that an indicator names."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.judge.test_sigma_skim import SET, SOURCES, WINDOWS, lines

from vedette.expr.matcher.flat import Flat
from vedette.judge.indicators import Lookout
from vedette.judge.sigma.detect import judge_chunk
from vedette.judge.sigma.ready import Ready
from vedette.sense.files import Limits, read_lines
from vedette.sense.intel.indicator import FOREVER
from vedette.sense.intel.watch import Watch

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
NAMED = ("evil.example", "203.0.113.0/24", MD5, "2001:db8::1")
observed = st.fixed_dictionaries(
    {},
    optional={
        "EventID": st.sampled_from([1, 3, 22]),
        "QueryName": st.sampled_from(["login.EVIL.example.", "good.example", "", "\u00e9vil.example", None, ["evil.example"]]),
        "Hashes": st.sampled_from([f"SHA256={'0' * 64},MD5={MD5.upper()}", MD5, "MD5=" + "1" * 32, 7]),
        "DestinationIp": st.sampled_from(["203.0.113.9", "198.51.100.1", "2001:DB8::1", "::ffff:203.0.113.1", True]),
        "Image": st.sampled_from(["C:\\x\\CMD.exe", "C:\\y.exe"]),
    },
)  # fmt: skip
shaped = st.one_of(observed, observed.map(lambda one: {"winlog": {"event_data": one}}), observed.map(lambda one: {"event_id": 1, "event_data": one}))  # fmt: skip
records = st.lists(st.one_of(shaped.map(lambda one: json.dumps(one).encode())), min_size=1, max_size=12)


def watch_of(values):
    made = Watch()
    for seq, value in enumerate(values, 1):
        made.add(seq, ((value,),), 0, FOREVER)
    made.take(())
    made.newest = len(values)
    return made


def lookout_of(watch):
    return Lookout(lambda _tenant: watch, lambda _tenant, _seq: None, SOURCES)


def found(ready, path, size):
    parts = [judge_chunk(ready, WINDOWS, chunk) for chunk in read_lines(path, limits=Limits(chunk_bytes=size))]
    return [(hit.line, hit.data, hit.numbers, sorted(hit.seen)) for part in parts for hit in part.hits]


def changes_nothing(folder):
    watch = watch_of(NAMED)

    def check(raw, size):
        path = folder / "lines.ndjson"
        path.write_bytes(raw)
        plainly, skims = Ready(SET, lookout_of(watch)), Ready(SET, lookout_of(watch))
        skims.skims = True
        wanted = found(plainly, path, size)
        for _ in range(3):
            assert found(skims, path, size) == wanted

    return check


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("indicators")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_skimming_loses_no_indicator(data, folder):
    raw = data.draw(st.one_of(records.map(b"\n".join), lines))
    changes_nothing(folder)(raw, data.draw(st.sampled_from([60, 1 << 18])))


def test_a_field_that_is_not_asked_is_caught(folder, monkeypatch):
    beside = Flat._beside
    monkeypatch.setattr(Flat, "_beside", lambda self, asked: beside(self, {name: asked[name] for name in asked if name != "Hashes"}))  # fmt: skip
    quick = settings(
        max_examples=300,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        quick(given(records.map(b"\n".join), st.just(1 << 18))(changes_nothing(folder)))()


def test_what_is_learned_counts_from_the_next_chunk_on(folder):
    path = folder / "again.ndjson"
    path.write_bytes(b'{"QueryName":"late.example"}\n' * 3)
    watch = watch_of(NAMED)
    ready = Ready(SET, lookout_of(watch))
    ready.skims = True
    assert [found(ready, path, 1 << 18) for _ in range(3)] == [[], [], []]
    learned = {"replaces": 0, "held": "", "superseded": FOREVER, "formula": "", "valid_from": 0, "until": FOREVER}
    watch.take([SimpleNamespace(seq=9, value="late.example", **learned)])
    assert len(found(ready, path, 1 << 18)) == 3
