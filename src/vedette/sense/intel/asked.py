"""Questions to the library: which indicators, as of when; and which of them would match a value."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vedette.core.db import sa
from vedette.core.errors import DataError
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library_tables import FURTHER, NEVER, OBJECT
from vedette.sense.intel.values import Kind, guess, host_of, networks, parents, url_keys


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which indicators. Empty means all."""

    value: str = ""
    """A value that they would match: an address finds its networks, a name the names above it."""
    kind: str = ""
    collection: str = ""
    label: str = ""
    as_of: int = 0
    """What was known then, microseconds UTC; 0: now."""
    valid_at: int = 0
    """Only what would match an event of this time, microseconds UTC; 0: whatever is known."""
    held: bool | None = None
    """True: only what is held back; False: only what is not."""
    within: Tlp = Tlp.RED
    """What may go where this may go."""


def conditions(tenant: str, asked: Asked) -> Iterator[sa.ColumnElement[bool]]:
    """The conditions of a question on rows of indicators."""
    column = OBJECT.c
    if asked.as_of:
        yield column.added <= asked.as_of
        yield column.superseded > asked.as_of
    else:
        yield column.superseded == NEVER
    if asked.value:
        wanted = candidates(asked.value)
        others = sa.select(FURTHER.c.seq).where(FURTHER.c.tenant == tenant, FURTHER.c.value.in_(wanted))
        yield column.value.in_(wanted) | column.seq.in_(others)
    for name in ("kind", "collection"):
        if told := getattr(asked, name):
            yield column[name] == told
    if asked.label:
        yield (sa.literal("\n") + column.labels + sa.literal("\n")).contains(f"\n{asked.label}\n", autoescape=True)
    if asked.valid_at:
        yield column.valid_from <= asked.valid_at
        yield column.until > asked.valid_at
        yield column.held == ""
    if asked.held is not None:
        yield (column.held != "") if asked.held else (column.held == "")
    yield column.tlp.in_([str(tlp) for tlp in Tlp if tlp.within(asked.within)])


def candidates(text: str) -> list[str]:
    """The values of indicators that would match an observed value.

    Raises:
        DataError: `intel.value.invalid`.
    """
    found = guess(text)
    if found is None:
        raise DataError("intel.value.invalid", f"no value that can be looked for: `{text[:80]}`")
    kind, value = found
    if kind in {Kind.IPV4, Kind.IPV6} and "/" not in value:
        return networks(value)
    if kind is Kind.DOMAIN:
        return parents(value)
    if kind is Kind.URL:
        host = host_of(value)
        about = guess(host) if host else None
        return [*url_keys(value), *(candidates(host) if about and about.kind is not Kind.URL else [])]
    return [value]
