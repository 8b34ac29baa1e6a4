"""Linux system logs as collectors ship them: a JSON envelope whose `SyslogMessage` may hold an audit or Sysmon record.

The inner record's fields join the envelope's, which keep their names; `SyslogMessage` stays as it was.
"""

from __future__ import annotations

import html
import re
from typing import Any

from vedette.core.errors import DataError
from vedette.sense.forms import auditd, json

_DATA = re.compile(r'<Data Name="([^"<>]{1,200})">([^<]*)</Data>')
_SYSTEM = re.compile(r"<(EventID|Channel|Computer|EventRecordID|Level|Task)>([^<]*)</\1>")
_PROVIDER = re.compile(r'<Provider Name="([^"]*)"')
_MESSAGE = "SyslogMessage"


def parse(raw: bytes) -> dict[str, Any]:
    """One record. A message that is neither an audit nor a Sysmon record is left alone.

    Raises:
        DataError: What `json.parse` raises.
    """
    data = json.parse(raw)
    message = data.get(_MESSAGE)
    if not isinstance(message, str):
        return data
    if message.startswith("<Event>"):
        return {**_sysmon(message), **data}
    if message.startswith("type="):
        try:
            return {**auditd.parse_text(message), **data}
        except DataError:
            return data
    return data


def _sysmon(xml: str) -> dict[str, Any]:
    """System and EventData of an event. Matched by pattern: no entity is expanded and no document is loaded."""
    fields: dict[str, Any] = {name: html.unescape(value) for name, value in _SYSTEM.findall(xml)}
    provider = _PROVIDER.search(xml)
    if provider:
        fields["Provider_Name"] = html.unescape(provider[1])
    fields.update((name, html.unescape(value)) for name, value in _DATA.findall(xml))
    return fields
