"""A detector from a notebook: the same interface over the past and on the stream, and the same answers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import DAY, MICROS, to_iso
from vedette.core.errors import DefinitionError
from vedette.core.signal import Level
from vedette.judge import detectors as module
from vedette.judge.detectors import Detector, installed
from vedette.judge.grouping import Grouping, Suppression
from vedette.judge.sigma.card import Card
from vedette.judge.sigma.load import RuleSet
from vedette.run.pipeline.detection import Detection
from vedette.run.rules.backtest import Trial, backtest
from vedette.run.rules.records import Batch
from vedette.sense.sources import load_sources

SOURCES = load_sources()
START = 20_500 * DAY


def odd_name(data):
    """A stand-in for a model: an account whose name has few vowels."""
    who = data.get("actor", {}).get("alternateId", "")
    share = sum(letter in "aeiou" for letter in who) / max(1, len(who))
    return {"vowels": share} if who and share < 0.25 else None


CARD = Card(owner="data", budget=5, group=Grouping(window_s=600), suppress=Suppression(span_s=3_600))
FOUND = Detector(
    id="odd_name", version="1", title="Odd name", level=Level.LOW, sources=("identity",), judge=odd_name, card=CARD
)


def events(rows):
    source = SOURCES["identity"]
    for number, (minute, who) in enumerate(rows):
        data = {
            "uuid": f"u{number}",
            "published": to_iso(START + minute * 60 * MICROS),
            "eventType": "user.session.start",
            "actor": {"alternateId": who},
        }
        yield source.to_event(data, tenant="default", stream="s", offset=number, ingest_time=1 << 60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["ada", "xkcd", "qwrt", "ioan"])), max_size=30))
def test_offline_and_online_agree(rows):
    """Signal for signal: what the backtest counts is what the stream writes."""
    rules, held = RuleSet((), detectors=(FOUND,)), list(events(rows))
    online = {signal.id: signal for event in held for signal in Detection(rules, SOURCES).judge(event)[0]}
    offline = {}
    trial = Trial(rules, SOURCES)
    take = trial._take
    trial._take = lambda signals: take(one for one in signals if offline.setdefault(one.id, one) is one)
    trial.feed(Batch(SOURCES["identity"], [event.data for event in held], held.__getitem__))
    trial.finish()
    assert offline == online
    assert {signal.event_id for signal in online.values()} == {
        event.id for event in held if event.data["actor"]["alternateId"] in {"xkcd", "qwrt"}
    }


def test_it_is_grouped_suppressed_and_compared_like_a_rule():
    held = list(events([(0, "xkcd"), (1, "xkcd"), (30, "xkcd"), (0, "qwrt")]))
    batch = Batch(SOURCES["identity"], [event.data for event in held], held.__getitem__)
    stricter = msgspec.structs.replace(CARD, suppress=None)
    old = RuleSet(
        (), detectors=(Detector(**{**fields(), "version": "0", "judge": lambda _data: None, "card": stricter}),)
    )
    report = backtest(RuleSet((), detectors=(FOUND,)), [batch], SOURCES, old=old)
    (row,) = report.rules
    assert (row.now.signals, row.now.alerts, row.now.suppressed, row.gained, row.change) == (4, 2, 1, 2, "changed")


def fields():
    return {name: getattr(FOUND, name) for name in Detector.__dataclass_fields__}


class Point:
    def __init__(self, name, value):
        self.name, self.value, self._held = name, f"pack:{name}", value

    def load(self):
        return self._held


def test_installed_packages_offer_them(monkeypatch):
    monkeypatch.setattr(module, "entry_points", lambda group: [Point("a", FOUND)])
    assert installed() == (FOUND,)
    for bad in ([Point("a", odd_name)], [Point("a", FOUND), Point("b", FOUND)]):
        monkeypatch.setattr(module, "entry_points", lambda group, bad=bad: bad)
        with pytest.raises(DefinitionError) as error:
            installed()
        assert error.value.code == "detectors.entry.invalid"
