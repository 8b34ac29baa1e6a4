"""Money, errors, ids and time: small, and everything stands on them."""

from __future__ import annotations

import datetime as dt
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core import clock as clocks
from vedette.core import errors
from vedette.core.clock import from_datetime, seconds_of, to_datetime, to_iso
from vedette.core.decision import to_risk_score
from vedette.core.errors import DataError, DefinitionError, Problems, Span, TransientError, VedetteError
from vedette.core.ids import Ids
from vedette.core.money import EXPONENTS, MAX_MINOR, Money
from vedette.core.render import printable
from vedette.core.signal import Level

# Money


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1999, "EUR", "19.99 EUR"),
        (5, "USD", "0.05 USD"),
        (0, "JPY", "0 JPY"),
        (1999, "JPY", "1999 JPY"),
        (1001, "KWD", "1.001 KWD"),
        (MAX_MINOR, "EUR", f"{str(MAX_MINOR)[:-2]}.{str(MAX_MINOR)[-2:]} EUR"),
    ],
)
def test_money_is_written_with_its_own_decimals(minor, currency, text):
    assert str(Money(minor, currency)) == text


@pytest.mark.parametrize("amount", [-1, 1.0, "1", None, True, MAX_MINOR + 1, float("nan")])
def test_amounts_that_are_refused(amount):
    with pytest.raises(DataError) as refused:
        Money(amount, "EUR")
    assert (refused.value.code, refused.value.at) == ("money.amount.invalid", "$.amount_minor")


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "XXX", "XAU", "E\x1b[2J" * 50])
def test_currencies_that_are_refused(currency):
    with pytest.raises(DataError) as refused:
        Money(1, currency)
    assert refused.value.code == "money.currency.unknown"
    assert len(str(refused.value)) < 200


@given(st.integers(0, MAX_MINOR), st.sampled_from(sorted(EXPONENTS)))
def test_money_text_holds_the_whole_amount(minor, currency):
    digits = str(Money(minor, currency)).removesuffix(f" {currency}").replace(".", "")
    assert int(digits) == minor


# Errors


def test_an_error_names_code_place_and_hint():
    error = DefinitionError("a.b.c", "no", hint="turn", span=Span("f.yml", 3, 7))
    assert str(error) == "f.yml:3:7: no [a.b.c] (turn)"
    assert error.to_dict() == {"code": "a.b.c", "message": "no", "hint": "turn", "place": "f.yml:3:7"}
    assert TransientError("a.b.c", "later", retry_after=2.0).to_dict()["retryable"] is True
    assert str(DataError("a.b.c", "no")) == "no [a.b.c]"


def test_problems_list_all():
    text = str(Problems([DataError("a.b.c", "one", at="$.x"), DataError("d.e.f", "two")]))
    assert "2 problem(s)" in text
    assert "$.x: one [a.b.c]" in text
    assert "two [d.e.f]" in text


def test_every_error_is_one_of_ours():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    assert all(issubclass(kind, VedetteError) for kind in kinds)


# Ids


def test_ids_sort_by_their_millisecond(clock, rng):
    ids = Ids(clock, rng.getrandbits)
    made = []
    for _ in range(50):
        made.append(ids.new("ch"))
        clock.advance(0.001)
    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(len(name) == 29 and name.startswith("ch_") for name in made)
    assert set("".join(name[3:] for name in made)) <= set(string.digits + "abcdefghjkmnpqrstvwxyz")


def test_ids_of_one_moment_differ(clock):
    assert len({Ids(clock).new("x") for _ in range(1_000)}) == 1_000


# Time

moments = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31), timezones=st.timezones() | st.none())


@given(moments)
def test_times_are_exact(moment):
    micros = from_datetime(moment)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    assert micros == (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


@given(st.integers(from_datetime(dt.datetime(1, 1, 1)), from_datetime(dt.datetime(9999, 12, 31, 23, 59, 59, 999_999))))
def test_times_come_back(micros):
    assert from_datetime(to_datetime(micros)) == micros
    assert dt.datetime.fromisoformat(to_iso(micros)) == to_datetime(micros)
    assert to_iso(micros).endswith("Z")


def test_the_machine_s_clock_is_microseconds():
    clock = clocks.SystemClock()
    assert abs(clock.now() - dt.datetime.now(dt.UTC).timestamp() * 1e6) < 60e6
    assert clock.monotonic() <= clock.monotonic()


# Scores and levels


@pytest.mark.parametrize(("score", "risk"), [(0.0, 0), (0.009, 0), (0.01, 1), (0.5, 50), (0.999, 99), (1.0, 99)])
def test_risk_score(score, risk):
    assert to_risk_score(score) == risk


def test_levels_are_ocsf_severities():
    assert [level.severity_id for level in Level] == [1, 2, 3, 4, 5]


# Text on a terminal


@given(st.text())
def test_nothing_printable_moves_a_cursor(text):
    shown = printable(text)
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in shown)
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("\u202efdp.exe", "\\u202efdp.exe"),
        ("a\u200bb\x9b1m", "a\\u200bb\\x9b1m"),
        ("Zoë 東京 🙂", "Zoë 東京 🙂"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_lines_are_kept_where_asked():
    assert printable("a\nb\x07", lines=True) == "a\nb\\x07"


def test_timespans():
    assert [seconds_of(text) for text in ("30s", "10m", "1h", "7d", "2w")] == [30, 600, 3_600, 604_800, 1_209_600]
    assert {seconds_of(text) for text in ("", "10", "m", "1.5h", "-1h", 60, None)} == {None}
