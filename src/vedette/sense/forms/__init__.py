"""The forms a record can have on the wire: one module each, `parse(raw) -> fields`.

A form knows syntax only. Which fields mean what is the source file's business.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from vedette.sense.forms import access, auditd, json, syslog


class Form(StrEnum):
    """What one line of a source holds. Every form also takes a line that is a JSON object."""

    JSON = "json"
    ACCESS = "access"
    AUDITD = "auditd"
    SYSLOG = "syslog"


PARSERS: dict[Form, Callable[[bytes], dict[str, Any]]] = {
    Form.JSON: json.parse,
    Form.ACCESS: access.parse,
    Form.AUDITD: auditd.parse,
    Form.SYSLOG: syslog.parse,
}
"""Form -> parser of one line; each raises `DataError` only."""
