"""Values as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.event import Entity
from vedette.core.money import EXPONENTS
from vedette.serve.console import format as text

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("minor", "currency", "told"),
    [
        (123456, "EUR", "1,234.56"),
        (-5, "USD", "\N{MINUS SIGN}0.05"),
        (1234567, "JPY", "1,234,567"),
        (1234, "KWD", "1.234"),
        (0, "EUR", "0.00"),
    ],
)
def test_money(minor, currency, told):
    assert text.money(minor, currency) == f"{told}{NBSP}{currency}"


def test_money_that_is_none_is_a_dash():
    assert text.money(None, "EUR") == text.NONE


@given(st.integers(-(10**14), 10**14), st.sampled_from(sorted(EXPONENTS)))
def test_money_loses_nothing(minor, currency):
    told = text.money(minor, currency).removesuffix(f"{NBSP}{currency}")
    digits = told.replace(",", "").replace(".", "").replace("\N{MINUS SIGN}", "-")
    assert int(digits) == minor


@pytest.mark.parametrize(
    ("minor", "told"),
    [(99_949, "999.49"), (100_000, "1,000"), (123_456_789, "1,234,568"), (-150_000, "\N{MINUS SIGN}1,500")],
)
def test_money_on_a_tile(minor, told):
    assert text.whole_money(minor, "EUR") == told


@pytest.mark.parametrize(
    ("micros", "told"),
    [
        (0, "now"),
        (999_999, "now"),
        (1_000_000, f"1{NBSP}s ago"),
        (61_000_000, f"1{NBSP}min ago"),
        (7_300_000_000, f"2{NBSP}h ago"),
        (-90_000_000, f"in 1{NBSP}min"),
    ],
)
def test_since(micros, told):
    assert text.since(1_000_000_000_000, 1_000_000_000_000 + micros) == told


def test_entities_lead_to_a_path_whatever_they_are_called():
    for given_as in (Entity("user", "a/b?c#d"), {"type": "user", "id": "a/b?c#d"}, "user:a/b?c#d"):
        assert text.entity_url(given_as) == "/entities/user/a%2Fb%3Fc%23d"


def test_shares_and_counts():
    assert text.percent(0.1234) == f"12.3{NBSP}%"
    assert text.percent(None) == text.NONE
    assert text.count(1234567) == "1,234,567"
    assert text.count(1.25) == "1.2"
    assert text.words("in_progress") == "in progress"
