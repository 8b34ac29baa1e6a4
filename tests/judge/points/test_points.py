"""Decision points: what a file may say, what is wrong with one, and that one decides as payments are decided on."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.conftest import FakeClock

from vedette.core.decision import Action
from vedette.core.errors import DefinitionError, Problems
from vedette.core.log import SqliteLog
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.opening import open_books
from vedette.judge.decisions.rebuild import rebuild
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.points.loader import MAX_LINES, load_points, read_point
from vedette.judge.points.point import Point

NOW = 1_772_000_000_000_000
SMALL = """point: loans
about: A request for credit
id: id
time: {asked: epoch_us}
entities: {person: [person]}
attributes: {person: cased, income: number, country: text}
features:
  - {name: asked, aggregation: count, by: person, windows: [1d]}
score:
  base: 0.05
  odds:
    - {id: poor, if: ":income: < 100", times: 19, reason: the income is low}
    - {id: often, if: ":asked_1d: >= 2", times: 4}
rules:
  - {id: unlikely, text: "block if :risk_score: >= 80", reason: too risky}
  - {id: look, text: "review if :risk_score: >= 40", reason: have a look}
"""


@pytest.fixture
def point() -> Point:
    return read_point(SMALL, path="loans.yaml")


def request(number: int, **values):
    return {"id": f"l{number}", "asked": NOW + number, "person": "ann", "income": 50, **values}


def books_of(point: Point, folder: Path, log=None):
    clock = FakeClock(NOW + 1_000_000)
    return open_books(folder, features=point.features, model=None, rules=point.rules, clock=clock, lane=point, log=log)


def decided(point: Point, books, data):
    event = to_event(data, point.source, tenant="default", ingest_time=NOW + 500_000)
    return books.recorder.decide(event)


def test_the_shipped_points_are_short_and_complete() -> None:
    points = load_points()
    assert {"payouts", "sign_ups"} <= points.keys()
    for point in points.values():
        text = Path(point.path).read_text()
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= MAX_LINES
        assert not list(point.notes()), point.name
        assert point.card
        assert point.features
        assert all(rule.reason for rule in point.rules.rules[:-1])


def test_score_rules_review_and_reasons(point: Point, tmp_path: Path) -> None:
    books = books_of(point, tmp_path)
    first, second, third = (decided(point, books, request(n)) for n in range(3))
    # 0.05 is odds of 1 to 19; a low income makes that evens; asking a third time makes it 4 to 1.
    assert (first.score, first.action) == (pytest.approx(0.5), Action.REVIEW)
    assert second.action is Action.REVIEW
    assert (third.score, third.action) == (pytest.approx(0.8), Action.BLOCK)
    assert first.features == {"asked_1d": 0.0, "holds_poor": 1.0, "holds_often": 0.0}
    assert [(reason.code, reason.text) for reason in third.reasons] == [
        ("model.holds_poor", "the income is low"),
        ("model.holds_often", "holds often is 1, which raises the risk"),
        ("rule.unlikely", "too risky"),
        ("rule.look", "have a look"),
        ("rule.builtin.highest_risk", "rule builtin.highest_risk fired: block if :risk_level: = 'highest'"),
    ]
    books.close()


def test_contributions_add_up_and_the_record_rebuilds(point: Point, tmp_path: Path) -> None:
    books = books_of(point, tmp_path)
    made = [decided(point, books, request(n, income=income)) for n, income in enumerate((50, 500, 50, 50))]
    for record in made:
        assert rebuild(record, model=point.card, rules=point.rules) == record
        inputs = np.array([record.features[name] for name in point.card.features])
        raw = point.card.bias + point.card.contributions(inputs).sum()
        assert record.score == 1 / (1 + math.exp(-raw))
        assert raw == point.card.bias + sum(reason.weight for reason in record.reasons)
    books.close()


def test_a_restart_goes_on_where_it_was(point: Point, tmp_path: Path) -> None:
    books = books_of(point, tmp_path)
    made = [decided(point, books, request(n)) for n in range(2)]
    books.recorder.close()
    books.log.close()  # without a checkpoint: everything comes from the log
    again = books_of(point, tmp_path)
    assert decided(point, again, request(1)) == made[1]
    assert decided(point, again, request(2)).features["asked_1d"] == 2.0
    again.close()


def test_lanes_of_one_log_do_not_meet(point: Point, tmp_path: Path) -> None:
    """A payment and a loan of one id are two decisions, whoever starts anew."""
    log = SqliteLog(tmp_path / "log", FakeClock(NOW))
    other = read_point(SMALL.replace("loans", "leases").replace("0.05", "0.5"), path="leases.yaml")
    loans, leases = books_of(point, tmp_path / "a", log), books_of(other, tmp_path / "b", log)
    one, two = decided(point, loans, request(1)), decided(other, leases, request(1))
    assert (one.score, two.score) == (pytest.approx(0.5), pytest.approx(0.95))
    loans.close()
    leases.close()
    for each, folder, made in ((point, "c", one), (other, "d", two)):
        fresh = books_of(each, tmp_path / folder, log)
        assert fresh.recorder.recovered == 0
        assert decided(each, fresh, request(1)) == made
        assert decided(each, fresh, request(2)).features["asked_1d"] == 1.0
        fresh.close()
    payments = open_books(
        tmp_path / "e", features=None, model=None, rules=PaymentRules(), clock=FakeClock(NOW), log=log
    )
    assert payments.recorder.find("l1") is None
    payments.close()
    log.close()


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        ("point: loans", "point: Loans", "point.value.invalid", "Loans"),
        ("about: A request for credit\n", "", "point.key.missing", "point: loans"),
        ("rules:", "rulez:", "point.key.unknown", "rulez"),
        ("{asked: epoch_us}", "{asked: noon}", "point.value.invalid", "noon"),
        ("income: number", "income: money", "point.attribute.type", "money"),
        ("country: text", "card_country: text", "point.attribute.type", "text}"),
        ("country: text", "risk_score: number", "point.attribute.ours", "risk_score: number"),
        ("aggregation: count", "aggregation: guess", "features.aggregation.unknown", "{name: asked"),
        ("base: 0.05", "base: 5", "point.score.base", "5\n"),
        ("times: 19", "times: 0", "point.score.times", "0, reason"),
        (":income: < 100", ":incom: < 100", "payment.name.unknown", ":incom:"),
        (":asked_1d: >= 2", ":asked_1d: >= '2'", "payment.type.not_number", "'2'"),
        ("id: often", "id: poor", "point.score.duplicate", "- {id: poor"),
        ("id: look", "id: unlikely", "payment.rules.duplicate_id", "review if"),
        ("review if :risk_score:", "review if :risk_scor:", "payment.name.unknown", ":risk_scor:"),
        ("rules:", "model: here\nrules:", "point.score.twice", "score:"),
        ("rules:", "policy: maybe\nrules:", "point.value.invalid", "maybe"),
        ("rules:", "levels: {high: 1}\nrules:", "point.value.invalid", "{high"),
        ("rules:", "\n".join(f"# {n}\nx{n}: 1" for n in range(9)) + "\nrules:", "point.file.too_long", "point:"),
    ],
)
def test_what_is_wrong_has_its_place(old: str, new: str, code: str, place: str) -> None:
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    with pytest.raises(Problems) as wrong:
        read_point(text, path="p")
    before = text[: text.index(place)]
    where = f"p:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    found = [(each.code, each.place) for each in wrong.value.problems]
    assert (code, where) in found


def test_names_that_nothing_provides_are_told() -> None:
    text = SMALL.replace(":income: < 100", ":email: = 'x'").replace("review if", "review if :is_anonymous_ip: or")
    assert sorted((note.rule_id, note.message) for note in read_point(text).notes()) == [
        ("look", "nothing provides `:is_anonymous_ip:`, so it is always false"),
        ("poor", "nothing provides `:email:`, so this never holds"),
    ]


def test_two_files_may_not_have_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SMALL)
    with pytest.raises(Problems) as wrong:
        load_points([tmp_path])
    assert [each.code for each in wrong.value.problems] == ["point.name.duplicate"]
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    with pytest.raises(Problems) as wrong:
        load_points([tmp_path])
    assert [each.code for each in wrong.value.problems] == ["point.file.unreadable"]


@pytest.mark.parametrize("text", ["", "[]", "point", "point: [", "point: {a: b}\nrules: 5\nabout: 1\nid: 2\ntime: 3"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(DefinitionError):
        read_point(text)


def test_the_version_says_what_decides(point: Point) -> None:
    assert read_point("# a comment\n" + SMALL).version == point.version
    for old, new in (("times: 19", "times: 18"), ("[1d]", "[2d]"), (">= 40", ">= 41"), ("have a look", "look")):
        changed = SMALL.replace(old, new).replace("asked_1d", "asked_2d" if new == "[2d]" else "asked_1d")
        assert read_point(changed).version != point.version
    assert msgspec.json.encode(point.words)
