"""What a source file may say: its fields and their meaning."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from vedette.sense.forms import Form
from vedette.sense.times import TimeFormat


class Origin(StrEnum):
    """What a source file was checked against."""

    SAMPLES = "real samples"
    DOCUMENTATION = "built from documentation"


class LogSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the records come from, in Sigma's words; an empty word says nothing."""

    product: str = ""
    category: str = ""
    service: str = ""
    service_from: str = ""
    """Field whose value is the service, such as Zeek's `_path`."""


class Flatten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step that brings a nested form to the flat one. Applied only to records that have the field `when`."""

    when: str
    decode: tuple[str, ...] = ()
    """Texts that are JSON objects and are taken for them, as where a collector wraps a record; others stay texts."""
    lift: tuple[str, ...] = ()
    """Objects whose fields move to the top; a field that is already there keeps its value."""
    rename: dict[str, str] = {}
    """Old name -> new name, after lifting; the renamed field wins over one of the same name."""


class ByField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A constant chosen by the value of a field, compared as text."""

    by: str
    of: dict[str | int, int | str]
    otherwise: int | str | None = None


Observed = Literal["ip", "domain", "url", "email", "hash"]
"""What a field holds that indicators may name."""


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source file as it is written."""

    name: str
    about: str
    origin: Origin
    logsource: LogSource
    detect: tuple[tuple[str, ...], ...]
    """Each a set of field names; a record that has all names of one set is taken for this source."""
    time: dict[str, TimeFormat]
    """Field -> format; the first field that is present and not empty is the event time."""
    form: Form = Form.JSON
    records: str = ""
    """Field of a delivered document whose list holds the records, such as CloudTrail's `Records`."""
    id: str = ""
    """Field of the record's own id; empty where ids repeat, as Windows record numbers do after a log is cleared."""
    entities: dict[str, tuple[str, ...]] = {}
    """Entity type -> fields that hold an id of it."""
    class_uid: int | ByField = 0
    ocsf: dict[str, str | int | tuple[str, ...] | ByField] = {}
    """OCSF attribute -> field, fields (first present one), constant, or choice."""
    observables: dict[Observed, tuple[str, ...]] = {}
    """Further fields that hold what threat intelligence names, beside those that `entities` and `ocsf` tell of."""
    promote: tuple[str, ...] = ()
    """Fields the store also keeps as text columns of their own."""
    flatten: tuple[Flatten, ...] = ()
    quiet_s: int = 0
    """How long it may be quiet, seconds, before that is told; 0: as long as it is wont to be."""
    squeeze: bool = False
    """Take spaces out of field names, as the Windows event schema does."""
