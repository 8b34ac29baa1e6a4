"""Our own types against models that look at all moments at once: any order within the lateness, duplicates, restarts."""

import math
import random
import statistics

import pytest

from vedette.core.clock import MICROS, to_iso
from vedette.judge.correlation import beaconing as beaconing_module
from vedette.judge.correlation import course as course_module
from vedette.judge.correlation import usual as usual_module
from vedette.judge.correlation.beaconing import even
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.correlation.course import Course, make_window
from vedette.judge.correlation.definition import Condition, Kind, Knobs, Measure, Weight
from vedette.judge.correlation.deviating import deviation
from vedette.judge.correlation.moments import Moment
from vedette.judge.correlation.window import Limits
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})
LATENESS = 40
SPAN = 300
GRAIN = SPAN // 30


# Models: (group, event time, value) of everything that is to be told.


def first_seen(measure, moments):
    found = set()
    for n, (key, one) in enumerate(moments):
        step = one.time // GRAIN
        before = [other for group, other in moments[:n] if group == key and other.time // GRAIN >= step - 30]
        taught = any(other.time // GRAIN <= step - math.ceil(measure.knobs.learn / GRAIN) for other in before)
        if taught and all(other.value != one.value for other in before):
            found.add((key, one.time, one.value))
    return found


def rare_value(measure, moments):
    found, told = set(), set()
    for n, (key, one) in enumerate(moments):
        step = one.time // GRAIN
        lately = [(group, other) for group, other in moments[: n + 1] if other.time // GRAIN >= step - 30]
        if any((group, other.value, other.time // GRAIN) == (key, one.value, step) for group, other in moments[:n]):
            continue
        everybody = {group for group, _ in lately}
        share = 100 * len({group for group, other in lately if other.value == one.value}) / len(everybody)
        place = key, one.value, one.time // SPAN
        if len(everybody) >= measure.knobs.population and measure.condition.holds(share) and place not in told:
            told.add(place)
            found.add((key, one.time, one.value))
    return found


def deviates(measure, moments):
    found = set()
    knobs, span = measure.knobs, measure.span
    counts = {}
    for key, one in moments:
        counts.setdefault((key, one.time // span), set()).add(one.value)
    counts = {place: len(values) for place, values in counts.items()}
    for key, step in counts:
        past = {other: n for (group, other), n in counts.items() if group == key and step - knobs.baseline <= other < step}  # fmt: skip
        usual = []
        if past and (step - min(past)) * span >= knobs.learn:
            usual.append([past.get(other, 0) for other in range(min(past), step)])
        peers = [n for (_, other), n in counts.items() if step - knobs.baseline <= other < step]
        if len(peers) >= 20:
            usual.append(peers)
        seen = set()
        for group, one in moments:
            if (group, one.time // span) != (key, step):
                continue
            seen.add(one.value)
            score = min((spreads(len(seen), each) for each in usual), default=None)
            if score is not None and len(seen) >= knobs.least and measure.condition.holds(score):
                found.add((key, one.time, str(len(seen))))
                break
    return found


def spreads(amount, usual):
    middle = statistics.median(usual)
    wide = 1.4826 * statistics.median(abs(one - middle) for one in usual)
    return (amount - middle) / max(wide, math.sqrt(middle), 1)


def beacons(measure, moments):
    found, told = set(), set()
    knobs = measure.knobs
    for n, (key, one) in enumerate(moments):
        step = one.time // GRAIN
        own = [other.time for group, other in moments[: n + 1] if group == key]
        beats = [time for place, time in enumerate(own) if place == 0 or time - own[place - 1] >= knobs.burst]
        beats = [time for time in beats if time > one.time - measure.span][-120:]
        if not beats or beats[-1] != one.time or (len(own) > 1 and own[-1] - own[-2] < knobs.burst):
            continue
        lately = {group for group, other in moments[: n + 1] if other.time // GRAIN >= step - 30}
        others = {group[:-1] for group in lately if group[-1] == key[-1]}
        common = len(others) > 2 and 100 * len(others) > knobs.spread * len({group[:-1] for group in lately})
        place = key, one.time // measure.span
        if (
            place in told
            or common
            or beats[-1] - beats[0] < measure.span / 60
            or not measure.condition.holds(len(beats))
            or not steady(beats, knobs.jitter / 100)
        ):
            continue
        told.add(place)
        found.add((key, one.time, ""))
    return found


def steady(beats, jitter):
    gaps = [beats[n + 1] - beats[n] for n in range(len(beats) - 1)]
    middle = statistics.median(gaps) if gaps else 0
    near = [gap for gap in gaps if abs(gap - middle) <= jitter * middle]
    if not gaps or 2 * len(near) < len(gaps):
        return False
    period = statistics.fmean(near)
    short = [gap for gap in gaps if gap <= 4.5 * period]
    fitting = [gap for gap in short if round(gap / period) >= 1 and abs(gap - round(gap / period) * period) <= jitter * period * round(gap / period) ** 0.5]  # fmt: skip
    single = [gap for gap in short if abs(gap - period) <= jitter * period]
    return len(gaps) - len(short) <= 0.1 * len(gaps) and len(fitting) >= 0.85 * len(short) and 2 * len(single) >= len(short)  # fmt: skip


MODELS = {
    Kind.FIRST_SEEN: first_seen, Kind.RARE_VALUE: rare_value, Kind.DEVIATION: deviates, Kind.BEACONING: beacons,
}  # fmt: skip


def random_measure(rng, kind):
    match kind:
        case Kind.FIRST_SEEN:
            return Measure(kind, SPAN, Condition(), 1, knobs=Knobs(learn=rng.choice([10, 55, 150])))
        case Kind.RARE_VALUE:
            share = rng.choice([{"lte": 30}, {"lt": 50}, {"gte": 40, "lte": 60}])
            return Measure(kind, SPAN, Condition(**share), 1, knobs=Knobs(population=rng.randint(2, 4)))
        case Kind.DEVIATION:
            knobs = Knobs(learn=rng.choice([30, 90]), baseline=rng.randint(2, 6), least=rng.randint(1, 3))
            return Measure(kind, 30, Condition(gte=rng.choice([1, 2])), 1, knobs=knobs)
    knobs = Knobs(jitter=rng.choice([10, 35]), burst=3, spread=rng.choice([5, 40]))
    return Measure(kind, SPAN, Condition(gte=rng.randint(4, 8)), 1, knobs=knobs)


def random_moments(rng, kind):
    keys = [(one, place) for one in "abc" for place in "xy"] if kind is Kind.BEACONING else [(one,) for one in "abcd"]
    found = [
        (rng.choice(keys), Moment(rng.randint(0, 150) * 5, f"e{number}", 0, f"v{rng.randint(0, 5)}"))
        for number in range(rng.randint(1, 60))
    ]
    if kind is Kind.BEACONING:
        for key in rng.sample(keys, 2):
            begin, period = rng.randint(0, 100), rng.choice([17, 40])
            times = [begin + n * period + rng.randint(-2, 2) for n in range(20) if rng.random() < 0.9]
            found += [(key, Moment(time, f"b{key}{time}", 0, "v")) for time in times]
    return found


def run(measure, stream, cuts, *, restarts):
    """Told (group, time, value), in batches; with restarts from a journal of what was needed."""
    limits = Limits(lateness=LATENESS)
    course, found, journal, low = Course(measure, limits), [], [], 0
    tides = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        batch = [one for one in stream[begin:end] if course.needs(*one)]
        for key, moment in batch:
            found += course.add(key, moment)
        if begin == end:
            continue
        tides.append(max(moment.time for _, moment in stream[begin:end]))
        low = min(tides[-64:])
        found += course.advance(tides[-1], low)
        journal.append((tides[-1], batch))
        if restarts:
            journal = [(tide, held) for tide, held in journal if any(one.time + course.keep > low for _, one in held)]
            course = Course(measure, limits)
            course.settled(low)
            for tide, held in journal:
                for key, moment in held:
                    if moment.time + course.keep > low:
                        course.add(key, moment)
                course.advance(tide, tide)
    found += course.finish()
    return [(one.group, one.end, "" if measure.kind is Kind.BEACONING else one.value) for one in found]


def named(measure, group, time, value):
    """What a signal's id is made of: one that is told again after a restart counts once."""
    valued = measure.kind in {Kind.FIRST_SEEN, Kind.RARE_VALUE}
    return group, time // measure.span, value if valued else ""


def check(seed):
    rng = random.Random(seed)
    kind = rng.choice(list(MODELS))
    measure = random_measure(rng, kind)
    moments = sorted(set(random_moments(rng, kind)), key=lambda one: (*one[1][:4], one[0]))
    wanted = MODELS[kind](measure, moments)
    stream = [*moments, *(one for one in moments if rng.random() < 0.2)]
    stream.sort(key=lambda one: one[1].time + rng.randint(0, LATENESS))
    cuts = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 8)))
    assert set(run(measure, stream, cuts, restarts=False)) == wanted, kind
    if rng.random() < 0.4:
        again = run(measure, stream, cuts, restarts=True)
        assert {named(measure, *one) for one in again} == {named(measure, *one) for one in wanted}, kind
    assert set(run(measure, moments, [], restarts=False)) == wanted, "history says the same"
    return kind, len(wanted)


def check_all(seeds):
    found = dict.fromkeys(MODELS, 0)
    for seed in seeds:
        kind, count = check(seed)
        found[kind] += count
    assert all(found.values()), "each type has streams that fire"


def test_our_types_say_what_the_models_say():
    check_all(range(800))


@pytest.mark.soak
def test_our_types_say_what_the_models_say_of_10_000_streams():
    check_all(range(10_000, 20_000))


# Planted mistakes


def order_is_that_of_arrival(monkeypatch):
    monkeypatch.setattr(Course, "add", lambda self, key, moment: self._fold_now(key, moment))

    def fold_now(self, key, moment):
        self._waiting.append((moment, key))
        return self._take()

    monkeypatch.setattr(Course, "_fold_now", fold_now, raising=False)


def all_is_needed_no_more(monkeypatch):
    monkeypatch.setattr(usual_module.FirstSeen, "needs", lambda self, key, moment: key not in self._known)


def swept_too_early(monkeypatch):
    original = Course.__init__

    def init(self, *args, **named):
        original(self, *args, **named)
        sweep = self._law.sweep
        self._law.sweep = lambda time: sweep(time + SPAN)

    monkeypatch.setattr(course_module.Course, "__init__", init)


def looks_back_too_short(monkeypatch):
    monkeypatch.setattr(usual_module, "STEPS", 20)


def pauses_do_not_matter(monkeypatch):
    monkeypatch.setattr(beaconing_module, "PAUSES", 1.0)


@pytest.mark.parametrize(
    "plant",
    [order_is_that_of_arrival, all_is_needed_no_more, swept_too_early, looks_back_too_short, pauses_do_not_matter],
)
def test_a_planted_mistake_is_noticed(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - a wrong answer, or a shape it cannot hold
        check_all(range(2_000))


# Risk


def risk_model(measure, moments):
    """(group, spell) where the points of a window reach the threshold."""
    found = set()
    for key, end in {(key, one.time) for key, one in moments}:
        total = 0.0
        window = [one for group, one in moments if group == key and end - measure.span < one.time <= end]
        for rule in {one.value for one in window}:
            times = [one.time for one in window if one.value == rule]
            factor = min(1 + math.log2(len(times)), 4)
            total += measure.weights[rule].points * factor * 0.5 ** ((end - max(times)) / measure.knobs.half_life)
        if measure.condition.holds(round(total, 2)):
            found.add((key, end // measure.span))
    return found


def check_risk(seed):
    rng = random.Random(seed)
    weights = {f"r{n}": Weight(rng.choice([1, 5, 20, 50]), f"R{n}") for n in range(4)}
    measure = Measure(Kind.RISK, 100, Condition(gte=rng.choice([40, 70, 100])), 0, knobs=Knobs(half_life=rng.choice([20, 60, 500])), weights=weights)  # fmt: skip
    moments = list({(key, Moment(5 * rng.randint(0, 60), f"e{n}", 0, f"r{rng.randint(0, 3)}")) for n in range(rng.randint(1, 40)) for key in [(rng.choice(["user:a", "user:b"]),)]})  # fmt: skip
    wanted = risk_model(measure, moments)
    for _ in range(3):
        stream = sorted([*moments, *rng.sample(moments, len(moments) // 3)], key=lambda one: one[1].time + rng.randint(0, LATENESS))  # fmt: skip
        window = make_window(measure, Limits(lateness=LATENESS))
        told = []
        for key, moment in stream:
            told += [(one.group, one.spell) for one in window.add(key, moment) if one.fresh]
            window.advance(moment.time, moment.time)
        assert len(told) == len(set(told))
        assert set(told) == wanted
    return len(wanted)


def test_risk_is_the_same_in_any_order():
    assert sum(map(check_risk, range(400))) > 100


@pytest.mark.soak
def test_risk_is_the_same_in_any_order_of_10_000_streams():
    assert sum(map(check_risk, range(10_000))) > 1_000


# Documents


START = 1_772_000_000
BASE = """
title: Entered
id: 00000000-0000-4000-8000-000000000001
name: entered
level: low
tags: [attack.initial-access, attack.t1078]
logsource: {product: payments, category: product}
detection: {s: {type: login.succeeded}, condition: s}
---
title: Exported
id: 00000000-0000-4000-8000-000000000002
name: exported
level: high
tags: [attack.collection]
logsource: {product: payments, category: product}
detection: {s: {type: customers.exported}, condition: s}
"""


def load(*bodies):
    documents = [
        f"---\ntitle: C{n}\nid: 00000000-0000-4000-8000-0000000001{n:02d}\nname: c{n}\nlevel: medium\ntags: [attack.exfiltration]\ncorrelation: {body}\n"
        for n, body in enumerate(bodies, 1)
    ]
    return build([RuleFile("r.yml", (BASE + "".join(documents)).encode())], PLACES)


def product(number, at, kind="login.succeeded", **data):
    time = (START + at) * MICROS
    record = {"id": f"p{number}", "type": kind, "time": to_iso(time), **data}
    return SOURCES["product"].to_event(record, tenant="t", stream="s", offset=0, ingest_time=time)


def signals_of(rules, events, stage=None):
    correlator, ready, found = Correlator(rules.correlations, SOURCES, stage=stage), Ready(rules), []
    for event in events:
        fired = [rule.id for rule, _ in ready.fired(event.source, event.data)]
        found += correlator.take("t", correlator.contributions(event, fired))
    return found + correlator.finish("t")


def test_a_new_value_is_told_with_what_it_is():
    rules = load(
        "{type: first_seen, rules: [entered], group-by: [user], timespan: 30d, learn: 7d, condition: {field: ip}}"
    )
    assert not rules.skipped, rules.skipped
    day = 86_400
    home = [product(n, n * day, user="ada", ip="203.0.113.1") for n in range(10)]
    (signal,) = signals_of(rules, [*home, product(98, 5 * day, user="eve", ip="x"), product(99, 10 * day, user="ada", ip="198.51.100.7")])  # fmt: skip
    assert signal.why["values"] == ["198.51.100.7"]
    assert signal.why["first_seen"] == 1
    assert [one.key for one in signal.entities] == ["user:ada"]
    assert signal.event_id == "p99"


RISK = "{type: risk, group-by: [user], timespan: 1d, half-life: 12h, condition: {gte: 100}}"
BURST = "{type: event_count, rules: [exported], group-by: [user], timespan: 1h, generate: true, condition: {gte: 3}}"


def test_the_risk_of_an_entity_is_one_alert_with_its_signals_in_the_order_of_an_attack():
    order = ["attack.initial-access", "attack.collection", "attack.exfiltration"]

    def stage(tags):
        return next((place for place, tag in enumerate(order) if tag in tags), None)

    rules = load(RISK, BURST)
    assert not rules.skipped, rules.skipped
    exports = [product(n, n * 60, "customers.exported", user="ada", ip="203.0.113.1") for n in range(3)]
    events = [*exports, product(9, 200, user="ada"), product(8, 30, user="bob")]
    found = signals_of(rules, events, stage)
    assert [(signal.title, [one.key for one in signal.entities]) for signal in found if signal.title == "C1"] == [("C1", ["user:ada"])]  # fmt: skip
    (signal,) = [signal for signal in found if signal.title == "C1"]
    assert signal.why["entity"] == "user:ada"
    assert signal.why["risk"] >= 100
    told = [(one["rule"], one["id"]) for one in signal.why["events"]]
    assert told == [("Exported", "p0"), ("Exported", "p1")], "the first that reach the threshold, as soon as they do"
    late = signals_of(rules, [*exports[:1], product(9, 30, user="ada"), *exports[1:]], stage)
    (signal,) = [signal for signal in late if signal.title == "C1"]
    assert next(one["rule"] for one in signal.why["events"]) == "Entered", "first by stage, though not by time"


@pytest.mark.parametrize(
    "body",
    [
        "{type: first_seen, rules: [entered], group-by: [user], timespan: 30d, condition: {gte: 2, field: ip}}",
        "{type: first_seen, rules: [entered], group-by: [user], timespan: 30d, condition: {gte: 2}}",
        "{type: rare_value, rules: [entered], group-by: [user], timespan: 30d, condition: {field: ip}}",
        "{type: deviation, rules: [entered], group-by: [user], timespan: 1d, baseline: 0, condition: {gte: 3}}",
        "{type: deviation, rules: [entered], group-by: [user], timespan: 1d, baseline: 2.5, condition: {gte: 3}}",
        "{type: beaconing, rules: [entered], group-by: [user], timespan: 1d, condition: {gte: 3, field: ip}}",
        "{type: beaconing, rules: [entered], group-by: [user], timespan: 1d, jitter: -1, condition: {gte: 3}}",
        "{type: beaconing, rules: [entered], group-by: [user], timespan: 1d, learn: 2d, condition: {gte: 3}}",
        "{type: risk, group-by: [user], timespan: 1d, condition: {lte: 3}}",
        "{type: risk, timespan: 1d, condition: {gte: 3}}",
        "{type: risk, group-by: [user], timespan: 1d, half-life: long, condition: {gte: 3}}",
    ],
)
def test_what_cannot_run_is_refused(body):
    rules = load(body)
    assert [one.reason[-27:] for one in rules.skipped] == ["[sigma.correlation.invalid]"], rules.skipped


def test_a_learning_time_that_never_ends_is_refused():
    rules = load(
        "{type: first_seen, rules: [entered], group-by: [user], timespan: 1d, learn: 2d, condition: {field: ip}}"
    )
    assert "[sigma.correlation.unreachable]" in rules.skipped[0].reason


# Laws in numbers


def test_how_far_above_what_is_usual():
    assert deviation(20, [4, 5, 6, 5, 5, 4, 6]) == pytest.approx(15 / math.sqrt(5))
    assert deviation(3, [0, 0, 0]) == 3, "a spread is at least 1"


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("missing", [0.0, 0.15, 0.3])
def test_a_beacon_is_even_in_spite_of_jitter_and_missing_beats(jitter, missing):
    found = 0
    for seed in range(40):
        rng = random.Random(seed)
        time, beats = 0.0, []
        for _ in range(60):
            time += 60 * MICROS * rng.uniform(1 - jitter, 1 + jitter)
            if rng.random() >= missing:
                beats.append(round(time))
        found += even(beats, 0.35) is not None
    assert found >= 38


def test_chance_and_people_are_not_even():
    for seed in range(300):
        rng = random.Random(seed)
        time, chance, people = 0.0, [], []
        for _ in range(60):
            chance.append(round(time))
            time += rng.expovariate(1 / (60 * MICROS))
        time = 0.0
        for _ in range(60):
            people.append(round(time))
            time += rng.lognormvariate(0, 1.2) * 30 * MICROS
        assert even(chance, 0.35) is None
        assert even(people, 0.35) is None


def test_what_is_held_is_bounded_and_told():
    course = Course(Measure(Kind.FIRST_SEEN, SPAN, Condition(), 1, knobs=Knobs(learn=10)), Limits(10, groups=50, moments=400))  # fmt: skip
    for number in range(20_000):
        course.add((f"g{number % 5_000}",), Moment(number // 40, f"e{number}", 0, f"v{number}"))
        if number % 100 == 99:
            course.advance(number // 40, number // 40)
    assert course.groups <= 50
    assert course.held <= 900
    assert course.counts["evicted"] > 0
