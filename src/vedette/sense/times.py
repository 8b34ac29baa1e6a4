"""Event times: from what sources write to microseconds UTC, exactly."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from vedette.core.clock import DAY, from_datetime, to_datetime, to_iso
from vedette.core.errors import DataError

FUTURE_LIMIT = DAY
"""How far past its ingest time an event may claim to have happened: one day, which covers a wrong time zone."""


class TimeFormat(StrEnum):
    """How a source writes times. A time without a zone is taken as UTC."""

    ISO = "iso"
    """ISO 8601 or RFC 3339, with `T` or a space, any number of digits of a second (cut to six), any offset, a
    space before the offset (as Snowflake writes it), and the words `UTC` and `GMT` (as PostgreSQL does)."""
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    EPOCH_US = "epoch_us"
    EPOCH_NS = "epoch_ns"
    ISO_OR_EPOCH_S = "iso_or_epoch_s"
    """A number is seconds since 1970, a text is ISO."""
    CLF = "clf"
    """Common log format: `10/Oct/2000:13:55:36 -0700`."""
    AUDIT = "audit"
    """Linux audit: `audit(1604996384.965:93777)`."""


_MICROS = {
    TimeFormat.EPOCH_S: Decimal(1_000_000),
    TimeFormat.EPOCH_MS: Decimal(1_000),
    TimeFormat.EPOCH_US: Decimal(1),
    TimeFormat.EPOCH_NS: Decimal("0.001"),
}
_AUDIT = re.compile(r"audit\((\d{1,12}\.\d{1,9}):\d{1,20}\)")
_LOOSE_ZONE = re.compile(r" (?:(?:UTC|GMT)\Z|(?=[+-]\d\d:?\d\d\Z))")
_CLF = "%d/%b/%Y:%H:%M:%S %z"
_ISO_LONGEST = 64
_LAST = from_datetime(datetime(9999, 12, 31, tzinfo=UTC))


def parse_time(value: Any, form: TimeFormat) -> int:
    """Microseconds since 1970-01-01 UTC; finer digits are cut.

    Args:
        value: A text, or a number where the format is an epoch. Booleans are not numbers.
        form: How to read it.

    Raises:
        DataError: `event.time.unparsable` for another type, an impossible date, a time before 1970 or after 9999.
    """
    try:
        micros = _parse(value, form)
    except (ValueError, OverflowError, InvalidOperation) as error:
        raise _unparsable(value, form) from error
    if not 0 <= micros <= _LAST:
        raise _unparsable(value, form)
    return micros


def check_future(event_time: int, ingest_time: int) -> None:
    """Refuses an event from the future, which would push every watermark ahead.

    Raises:
        DataError: `event.time.future` when it is more than `FUTURE_LIMIT` past `ingest_time`.
    """
    if event_time > ingest_time + FUTURE_LIMIT:
        days = (event_time - ingest_time) / DAY
        raise DataError(
            "event.time.future", f"event time is {days:.1f} days ahead of ingest", hint="set the clock of the source"
        )


def _parse(value: Any, form: TimeFormat) -> int:
    if form is TimeFormat.ISO_OR_EPOCH_S:
        form = TimeFormat.ISO if isinstance(value, str) else TimeFormat.EPOCH_S
    if form in _MICROS:
        return _epoch(value, _MICROS[form])
    if not isinstance(value, str) or len(value) > _ISO_LONGEST:
        raise ValueError
    if form is TimeFormat.ISO:
        return from_datetime(datetime.fromisoformat(_LOOSE_ZONE.sub("", value)))
    if form is TimeFormat.CLF:
        return from_datetime(datetime.strptime(value, _CLF))  # noqa: DTZ007 - the format has the zone
    found = _AUDIT.match(value)
    if not found:
        raise ValueError
    return _epoch(found.group(1), _MICROS[TimeFormat.EPOCH_S])


def _epoch(value: Any, micros: Decimal) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > _ISO_LONGEST:
        raise ValueError
    # A float's shortest text is what the source wrote: 1604996384.965 must not become ...384964999.
    number = Decimal(str(value)) * micros
    if not number.is_finite() or number < 0:
        raise ValueError
    return int(number)


def _unparsable(value: Any, form: TimeFormat) -> DataError:
    # The value itself may be anything, a card number too: only its type and size are told.
    shown = f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
    return DataError("event.time.unparsable", f"{shown} is no time in the format `{form}`")


def write_time(micros: int, form: TimeFormat) -> str | int | float:
    """A time as a source writes it, so that `parse_time` gives it back; CLF has whole seconds, audit milliseconds.

    Args:
        micros: Microseconds UTC.
        form: How the source writes times.
    """
    if form in _MICROS:
        number = micros * _MICROS[form] ** -1
        return int(number) if number == int(number) else float(number)
    if form is TimeFormat.CLF:
        return to_datetime(micros).strftime(_CLF)
    if form is TimeFormat.AUDIT:
        return f"audit({micros // 1_000_000}.{micros // 1_000 % 1_000:03d}:1)"
    return to_iso(micros)
