"""Whole rule sets on random streams against the model: tenants, aliases, chains, late and doubled events, restarts."""

import random
import re

import pytest
from stream_model import KINDS, Model, identity, to_yaml

from vedette.core.clock import MICROS
from vedette.core.event import Event
from vedette.judge.correlation import correlator as correlator_module
from vedette.judge.correlation import patterns as patterns_module
from vedette.judge.correlation import window as window_module
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.correlation.window import Limits
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
START = 1_772_000_000
LATENESS = 40
BOUNDS = [{"gte": 2}, {"gt": 1}, {"gte": 3}, {"lt": 3}, {"lte": 2}, {"eq": 2}, {"neq": 3}, {"gte": 2, "lte": 3}]
TYPES = [
    "event_count", "value_count", "temporal", "temporal_ordered",
    "value_sum", "value_avg", "value_median", "value_percentile",
]  # fmt: skip


def random_text(rng, names):
    """An extended condition, and the alternatives it stands for."""
    alternatives = []
    for _ in range(rng.randint(1, 2)):
        some = rng.sample(range(len(names)), rng.randint(1, len(names)))
        wanted = set(some[: rng.randint(1, len(some))])
        alternatives.append((wanted, set(some) - wanted))
    parts = [
        " and ".join([names[one] for one in sorted(wanted)] + [f"not {names[one]}" for one in sorted(unwanted)])
        for wanted, unwanted in alternatives
    ]
    return " or ".join(f"({part})" for part in parts), alternatives


def random_correlation(rng, number, before):
    kind = rng.choice(TYPES)
    chain = [one for one in before if rng.random() < 0.6] if not kind.startswith("value") else []
    rules = rng.sample(sorted(KINDS), rng.randint(1, 3)) + [one["name"] for one in chain]
    rng.shuffle(rules)
    by, aliases = rng.choice([([], {}), (["ip"], {}), (["ip", "user"], {}), (["who"], {"r0": "ip", "r1": "user", "r2": "ip"})])  # fmt: skip
    if chain:
        common = set.intersection(*[set(one["by"]) for one in chain])
        by, aliases = [name for name in by if name in common], {}
    aliases = {"who": {rule: name for rule, name in aliases.items() if rule in rules}} if aliases else {}
    found = {"name": f"c{number}", "type": kind, "rules": rules, "by": by, "aliases": aliases}
    found |= {"timespan": rng.randint(5, 60), "condition": dict(rng.choice(BOUNDS)), "generate": rng.random() < 0.3}
    if kind.startswith("temporal"):
        found["condition"] = {"gte": rng.randint(1, len(rules))}
        if rng.random() < 0.6:
            found["text"], found["patterns"] = random_text(rng, rules)
            # A rule that the condition does not name is refused.
            named = sorted(set().union(*(wanted | unwanted for wanted, unwanted in found["patterns"])))
            found["rules"] = [rules[one] for one in named]
            found["patterns"] = [
                tuple({named.index(one) for one in part} for part in pair) for pair in found["patterns"]
            ]
    if kind.startswith("value"):
        found["condition"]["field"] = ["tool", "ip"] if rng.random() < 0.2 and kind == "value_count" else ["amount"]
    if kind == "value_percentile":
        found["condition"]["percentile"] = rng.choice([0, 33.3, 50, 90, 100])
    return found


def random_set(rng):
    found = []
    for number in range(rng.randint(1, 4)):
        found.append(random_correlation(rng, number, found))
    return found


def random_events(rng):
    """(id, tenant, time, data); some lack a field or have a list of it, many share a time."""
    found = []
    for number in range(rng.randint(0, 45)):
        data = {
            "type": rng.choice(["k0", "k1", "k2", "k3"]),
            "ip": rng.choice(["a", "a", "b", ["a", "b"], None, ""]),
            "user": rng.choice(["a", "b", "b"]),
            "tool": rng.choice(["x", "y"]),
            "amount": rng.choice([0, 1, 2, 2.5, 0.25, "odd", True, None]),
        }
        if rng.random() < 0.1:
            del data["user"]
        found.append((f"e{number}", rng.choice(["t", "t", "u"]), 5 * rng.randint(0, 40) + rng.randrange(2), data))
    return found


class Subject:
    """The correlator with a journal, as the stage drives it."""

    def __init__(self, rules, ready, restarts):
        self.rules, self.ready, self.restarts = rules, ready, restarts
        self.journal, self.lows, self.found = [], {}, []
        self.fresh()

    def fresh(self):
        self.correlator = Correlator(self.rules.correlations, SOURCES, Limits(lateness=LATENESS * MICROS))
        for tenant, low in self.lows.items():
            self.correlator.settled(tenant, low)
        for tenant, tide, held in self.journal:
            low = self.lows.get(tenant, 0)
            self.correlator.take(tenant, [one for one in held if self.correlator.until(one) > low])
            self.correlator.advance(tenant, tide)

    def batch(self, events):
        tides, brought = {}, {}
        for event in events:
            fired = [rule.id for rule, _ in self.ready.fired(event.source, event.data)]
            held = self.correlator.contributions(event, fired)
            self.found += self.correlator.take(event.tenant, held)
            brought.setdefault(event.tenant, []).extend(held)
            tides[event.tenant] = max(tides.get(event.tenant, 0), event.event_time)
        for tenant, tide in tides.items():
            self.found += self.correlator.advance(tenant, tide)
            if brought[tenant]:
                self.journal.append((tenant, tide, brought[tenant]))
            self.forget(tenant)
        if self.restarts:
            self.fresh()

    def forget(self, tenant):
        self.lows[tenant] = low = self.correlator.low(tenant)
        self.journal = [
            each for each in self.journal if each[0] != tenant or max(map(self.correlator.until, each[2])) > low
        ]

    def finish(self):
        for tenant in ("t", "u"):
            self.found += self.correlator.finish(tenant)
        return self.found


def as_event(one):
    name, tenant, time, data = one
    at = (START + time) * MICROS
    return Event(id=name, tenant=tenant, source="product", event_time=at, ingest_time=at, data=data)


def run(rules, ready, stream, cuts, *, restarts):
    subject = Subject(rules, ready, restarts)
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if begin < end:
            subject.batch([as_event(one) for one in stream[begin:end]])
    return subject.finish()


def told(correlations, signals):
    """(tenant, correlation, group, spell) of signals."""
    names = {identity(one["name"]): one for one in correlations}
    found = set()
    for signal in signals:
        one = names[signal.rule_id]
        group = tuple(signal.why[name] for name in one["by"])
        found.add((signal.tenant, one["name"], group, signal.event_time // MICROS // one["timespan"]))
    return found


def shifted(events):
    """Spells are cut from the epoch on."""
    return [(name, tenant, START + time, data) for name, tenant, time, data in events]


def check(seed):
    rng = random.Random(seed)
    correlations, events = random_set(rng), random_events(rng)
    documents = [*correlations]
    rng.shuffle(documents)
    rules = build([RuleFile("r.yml", to_yaml(documents).encode())], PLACES)
    assert not rules.skipped, rules.skipped
    model = Model(correlations, shifted(events))
    wanted = model.signals()
    stream = [*events, *(one for one in events if rng.random() < 0.2)]
    stream.sort(key=lambda one: one[2] + rng.randint(0, LATENESS))
    cuts = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 6)))
    ready = Ready(rules)
    quiet = Correlator(rules.correlations, SOURCES).quiet
    assert quiet == {identity(name) for name in model.quiet_rules()}
    signals = run(rules, ready, stream, cuts, restarts=rng.random() < 0.3)
    assert told(correlations, signals) == wanted
    if seed % 4 == 0:
        history = run(rules, ready, sorted(events, key=lambda one: one[2]), [], restarts=False)
        assert told(correlations, history) == wanted
        assert {signal.id for signal in history} == {signal.id for signal in signals}
    return len(wanted)


def check_all(seeds):
    assert sum(map(check, seeds)) > len(seeds) // 2, "streams that fire"


def test_rule_sets_say_what_the_model_says():
    check_all(range(400))


@pytest.mark.soak
def test_rule_sets_say_what_the_model_says_of_10_000_streams():
    check_all(range(1_000, 11_000))


# Planted mistakes: each is noticed by the same check.


def order_is_that_of_arrival(monkeypatch):
    monkeypatch.setattr(
        window_module, "chain", lambda moments, parts: list({one.part: one for one in moments}.values())
    )


def what_must_not_follow_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(window_module.Window, "_over", lambda self, horizon: horizon)


def what_is_unwanted_is_forgotten(monkeypatch):
    original = patterns_module.matched
    monkeypatch.setattr(
        window_module, "matched",
        lambda pattern, *more, **named: original(patterns_module.Pattern(pattern.wanted), *more, **named),
    )  # fmt: skip


def chains_do_not_wait_for_what_waits(monkeypatch):
    original = window_module.Window.__init__
    monkeypatch.setattr(
        correlator_module.Window, "__init__",
        lambda self, measure, limits, *, every=False, lag=0: original(self, measure, limits, every=every, lag=0),
    )  # fmt: skip


def a_journal_as_short_as_the_inner_timespan(monkeypatch):
    original = Correlator._times

    def times(self):
        lags, beyond, keeps = original(self)
        return lags, dict.fromkeys(beyond, 0), {name: keep - beyond[name] for name, keep in keeps.items()}

    monkeypatch.setattr(Correlator, "_times", times)


def tenants_share(monkeypatch):
    original = Correlator._window
    monkeypatch.setattr(Correlator, "_window", lambda self, tenant, name: original(self, "", name))


def aliases_are_names(monkeypatch):
    original = Correlator._combined
    monkeypatch.setattr(Correlator, "_combined", lambda self, event, fields: original(self, event, [re.sub("^user$", "ip", name) for name in fields]))  # fmt: skip


@pytest.mark.parametrize(
    "plant",
    [
        order_is_that_of_arrival,
        what_must_not_follow_is_not_waited_for,
        what_is_unwanted_is_forgotten,
        chains_do_not_wait_for_what_waits,
        a_journal_as_short_as_the_inner_timespan,
        tenants_share,
        aliases_are_names,
    ],
)
def test_a_planted_mistake_is_noticed(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - a wrong answer, or a shape it cannot hold
        check_all(range(3_000))
