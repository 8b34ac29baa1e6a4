"""Web access logs in the common and combined formats; fields get the W3C names that Sigma's web rules use."""

from __future__ import annotations

import re
from typing import Any

from vedette.core.errors import DataError
from vedette.sense.forms import json

# Each part excludes its own delimiter, so matching is linear in the line's length.
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(
    rf"(\S+) (\S+) ([^\[]*?) ?\[([^\]]+)\] {_QUOTED} (\d{{3}}|-) (\d+|-)"
    rf"(?: {_QUOTED} {_QUOTED})?(.*)"
)
_REQUEST = re.compile(r"(?P<method>\S+) (?P<uri>.*?)(?: (?P<version>HTTP/[\d.]+))?$", re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')


def parse(raw: bytes) -> dict[str, Any]:
    """One line of an access log. `-` is an absent value; bytes that are no UTF-8 stay visible as escapes.

    Raises:
        DataError: `sources.access.syntax` when the line is in neither format; what `json.parse` raises when it begins
            with `{`.
    """
    if raw[:1] == b"{":
        return json.parse(raw)
    line = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
    found = _LINE.fullmatch(line)
    if not found:
        raise DataError("sources.access.syntax", "not a line in common or combined log format")
    ip, _ident, user, time, request, status, size, referer, agent, _rest = found.groups()
    fields = {
        "c-ip": ip,
        "cs-username": user,
        "time": time,
        **_request(_unescape(request)),
        "sc-status": status,
        "sc-bytes": size,
        "cs-referer": _unescape(referer or "-"),
        "cs-user-agent": _unescape(agent or "-"),
    }
    kept: dict[str, Any] = {name: value for name, value in fields.items() if value not in ("", "-")}
    for name in ("sc-status", "sc-bytes"):
        if name in kept:
            kept[name] = int(kept[name])
    return kept


def _request(request: str) -> dict[str, str]:
    found = _REQUEST.match(request)
    if not found:
        return {"cs-request": request}
    stem, _, query = found["uri"].partition("?")
    return {
        "cs-method": found["method"],
        "cs-uri": found["uri"],
        "cs-uri-stem": stem,
        "cs-uri-query": query,
        "cs-version": found["version"] or "",
    }


def _unescape(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)
