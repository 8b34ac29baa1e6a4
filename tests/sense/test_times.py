"""Times: exact in every format, refused when they are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.clock import DAY, from_datetime
from vedette.core.errors import DataError
from vedette.sense.times import FUTURE_LIMIT, TimeFormat, check_future, parse_time

MICROS = st.integers(0, from_datetime(datetime(9999, 1, 1, tzinfo=UTC)))


@given(MICROS)
def test_epochs_are_exact(micros: int) -> None:
    assert parse_time(micros, TimeFormat.EPOCH_US) == micros
    assert parse_time(str(micros), TimeFormat.EPOCH_US) == micros
    assert parse_time(micros * 1_000 + 999, TimeFormat.EPOCH_NS) == micros
    assert parse_time(f"{micros // 10**6}.{micros % 10**6:06d}", TimeFormat.EPOCH_S) == micros
    assert parse_time(micros // 1_000, TimeFormat.EPOCH_MS) == micros // 1_000 * 1_000


@given(st.integers(0, 4_000_000_000_000))
def test_a_float_of_seconds_means_its_digits(millis: int) -> None:
    assert parse_time(millis / 1_000, TimeFormat.EPOCH_S) == millis * 1_000


FIRST, LAST = (datetime(year, 1, 2, tzinfo=UTC).replace(tzinfo=None) for year in (1970, 9998))


@given(st.datetimes(FIRST, LAST), st.integers(-14 * 60, 14 * 60))
def test_iso_with_any_offset(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_time(local.isoformat(), TimeFormat.ISO) == from_datetime(local)
    assert parse_time(local.isoformat(" "), TimeFormat.ISO) == from_datetime(local)


@pytest.mark.parametrize(
    ("value", "form", "iso"),
    [
        ("2022-05-11T18:10:20.399931999Z", TimeFormat.ISO, "2022-05-11T18:10:20.399931+00:00"),
        ("2022-05-11T18:10:20.4Z", TimeFormat.ISO, "2022-05-11T18:10:20.400000+00:00"),
        ("2015-03-29T11:01:38.221126-0600", TimeFormat.ISO, "2015-03-29T17:01:38.221126+00:00"),
        ("2020-06-09 22:50:54", TimeFormat.ISO, "2020-06-09T22:50:54+00:00"),
        ("2020-06-09 22:50:54.5 UTC", TimeFormat.ISO, "2020-06-09T22:50:54.500000+00:00"),
        ("2020-06-09 22:50:54.061 -0700", TimeFormat.ISO, "2020-06-10T05:50:54.061000+00:00"),
        ("10/Oct/2000:13:55:36 -0700", TimeFormat.CLF, "2000-10-10T20:55:36+00:00"),
        ("audit(1604996384.965:93777):", TimeFormat.AUDIT, "2020-11-10T08:19:44.965000+00:00"),
        (1521911720.613421, TimeFormat.ISO_OR_EPOCH_S, "2018-03-24T17:15:20.613421+00:00"),
    ],
)
def test_formats(value: Any, form: TimeFormat, iso: str) -> None:
    assert parse_time(value, form) == from_datetime(datetime.fromisoformat(iso))


@pytest.mark.parametrize("form", list(TimeFormat))
@pytest.mark.parametrize(
    "value", [True, None, [], {}, "", "x", "9" * 500, -1, float("nan"), float("inf"), 10**30, "-5", "1e99"]
)
def test_what_is_no_time_is_refused(value: Any, form: TimeFormat) -> None:
    with pytest.raises(DataError) as caught:
        parse_time(value, form)
    assert caught.value.code == "event.time.unparsable"


def test_refusals_do_not_repeat_the_value() -> None:
    with pytest.raises(DataError) as caught:
        parse_time("4111111111111111x", TimeFormat.ISO)
    assert "4111" not in str(caught.value)


def test_the_future_ends_after_a_day() -> None:
    check_future(100 + FUTURE_LIMIT, 100)
    with pytest.raises(DataError) as caught:
        check_future(101 + FUTURE_LIMIT, 100)
    assert caught.value.code == "event.time.future"
    with pytest.raises(DataError):
        check_future(3_650 * DAY, 0)
