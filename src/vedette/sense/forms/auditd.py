"""Linux audit records: `type=EXECVE msg=audit(1604996384.965:93777): argc=2 a0="arp" a1="-a"`."""

from __future__ import annotations

import re
from typing import Any

from vedette.core.errors import DataError
from vedette.sense.forms import json

_FIELD = re.compile(r"""([A-Za-z_][\w-]{0,63})=("[^"]*"|'[^']*'|\{[^}]{0,4096}\}|[^\s,]*)""")
_STAMP = re.compile(r"audit\(\d{1,12}\.\d{1,9}:\d{1,20}\)")
_TYPE = re.compile(r"(?:node=(\S+) )?type=([A-Z0-9_\[\]]+)\s")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_ENCODED = frozenset({"proctitle", "name", "cwd", "exe", "comm", "acct", "cmd", "data", "path", "key"})
"""Fields whose text the kernel writes as hexadecimal, unquoted, when it holds a space or a control character."""
_ARGUMENT = re.compile(r"a\d+(?:\[\d+\])?")


def parse(raw: bytes) -> dict[str, Any]:
    """One audit record; hexadecimal text is decoded (NUL becomes a space), quotes are taken off.

    Raises:
        DataError: `sources.auditd.syntax` when it is no audit record; what `json.parse` raises when it begins with `{`.
    """
    if raw[:1] == b"{":
        return json.parse(raw)
    return parse_text(raw.decode("utf-8", "backslashreplace"))


def parse_text(line: str) -> dict[str, Any]:
    """The same for decoded text.

    Raises:
        DataError: `sources.auditd.syntax`.
    """
    head = _TYPE.match(line)
    stamp = _STAMP.search(line, 0, 400)
    if not head or not stamp:
        raise DataError("sources.auditd.syntax", "not an audit record: `type=` and `audit(time:serial)` are missing")
    kind = head[2]
    fields: dict[str, Any] = {"type": kind, "msg": f"{stamp[0]}:"}
    if head[1]:
        fields["node"] = head[1]
    for name, value in _FIELD.findall(line, stamp.end()):
        # User-space records nest their own fields in msg='...'.
        pairs = _FIELD.findall(value[1:-1]) if name == "msg" and value[:1] == "'" else [(name, value)]
        for inner, text in pairs:
            fields.setdefault(inner, _decode(kind, inner, text))
    return fields


def _decode(kind: str, name: str, value: str) -> str:
    if value[:1] in ("'", '"'):
        return value[1:-1]
    encoded = name in _ENCODED or (kind == "EXECVE" and _ARGUMENT.fullmatch(name) is not None)
    if encoded and _HEX.fullmatch(value):
        return bytes.fromhex(value).replace(b"\0", b" ").decode("utf-8", "backslashreplace")
    return value
