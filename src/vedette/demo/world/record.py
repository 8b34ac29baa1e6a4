"""What really happened: kept apart, written to a file at the end, and read by the score board alone."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Attack(msgspec.Struct, frozen=True, tag="attack"):
    """One attack of the day."""

    id: str
    kind: str
    """`card_testing`, `account_takeover`, `refund_abuse`, `bust_out`, `insider`, `stolen_key`, `password_spray`."""
    start: int
    """First deed, microseconds UTC."""
    end: int
    """Last deed."""
    entities: tuple[str, ...]
    """Its own and its victims, `type:id`: an alert that names one of them has found it."""
    payments: tuple[str, ...]
    """Ids of its payments."""


class Fraud(msgspec.Struct, frozen=True, tag="fraud"):
    """A small fraud of every day, such as one stolen card: no attack to be counted, but no false alarm either."""

    kind: str
    start: int
    end: int
    entities: tuple[str, ...]
    payments: tuple[str, ...]


class Benign(msgspec.Struct, frozen=True, tag="benign"):
    """Something unusual that was honest."""

    kind: str
    start: int
    end: int
    entities: tuple[str, ...]


class Good(msgspec.Struct, frozen=True, tag="good"):
    """The honest customers who paid on the day."""

    customers: tuple[str, ...]
    payments: int
    """Their payments."""


Record = Attack | Fraud | Benign | Good
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def write_records(path: Path, records: list[Record]) -> None:
    """Writes one JSON object a line."""
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Reads what `write_records` wrote."""
    return [_decoder.decode(line) for line in path.read_bytes().splitlines()]
