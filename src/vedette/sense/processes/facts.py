"""What one event says of one process: that it began, ended, or did something.

Read are Sysmon (by `ProcessGuid`), the Security log's 4688, 4689 and 5156 (by process id), and osquery's tables of
processes, sockets and files (by process id and start time). Everything else says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import MICROS
from vedette.core.event import Event


class Doing(StrEnum):
    """What a process did."""

    START = "start"
    END = "end"
    NETWORK = "network"
    DNS = "dns"
    FILE = "file"
    INJECT = "inject"
    """It began a thread in another process, or was tampered with."""
    ACCESS = "access"
    """It opened another process."""
    IMAGE = "image"
    REGISTRY = "registry"
    PIPE = "pipe"


SYSMON: Mapping[int, Doing] = {
    1: Doing.START,
    5: Doing.END,
    3: Doing.NETWORK,
    22: Doing.DNS,
    7: Doing.IMAGE,
    8: Doing.INJECT,
    25: Doing.INJECT,
    **dict.fromkeys((2, 9, 11, 15, 23, 26, 27, 28, 29), Doing.FILE),
    **dict.fromkeys((12, 13, 14), Doing.REGISTRY),
    **dict.fromkeys((17, 18), Doing.PIPE),
    10: Doing.ACCESS,
}
SECURITY: Mapping[int, Doing] = {4688: Doing.START, 4689: Doing.END, 5156: Doing.NETWORK}
KINDS = tuple(sorted({str(number) for number in (*SYSMON, *SECURITY)}))
"""Event ids of Windows that are read."""
_TARGETS: Mapping[Doing, tuple[str, ...]] = {
    Doing.DNS: ("QueryName",),
    Doing.FILE: ("TargetFilename", "Device"),
    Doing.IMAGE: ("ImageLoaded",),
    Doing.REGISTRY: ("TargetObject",),
    Doing.PIPE: ("PipeName",),
    Doing.INJECT: ("TargetImage", "Type"),
    Doing.ACCESS: ("TargetImage",),
}


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is told of one process. What is not told is empty, 0, or -1 for a process id."""

    event_id: str
    sensor: str
    """What told it: `sysmon`, `security`, `osquery`, `osquery_events`."""
    what: Doing
    time: int
    """When it happened, microseconds UTC; of a start, when the process began."""
    known: bool = True
    """False for a process that is told to be there, not when it began."""
    guid: str = ""
    pid: int = -1
    image: str = ""
    command: str = ""
    user: str = ""
    hashes: Mapping[str, str] = {}
    parent_guid: str = ""
    parent_pid: int = -1
    parent_image: str = ""
    parent_command: str = ""
    target: str = ""
    """Address and port, file, name or other process that it was done to."""


def read(event: Event) -> Iterator[Fact]:
    """What an event says of processes; nothing for most. Broken fields count as absent ones."""
    data = event.data
    if event.source == "osquery":
        yield from _osquery(event)
        return
    number = _number(data.get("EventID"))
    channel = f"{data.get('Channel', '')} {data.get('Provider_Name', '')} {data.get('SourceName', '')}"
    if "Sysmon" in channel and number in SYSMON:
        yield _sysmon(event, SYSMON[number])
    elif "Security" in channel and number in SECURITY:
        yield _security(event, SECURITY[number])


def _sysmon(event: Event, what: Doing) -> Fact:
    data = event.data
    own = "Source" if what in {Doing.INJECT, Doing.ACCESS} and "SourceImage" in data else ""
    started = what is Doing.START
    return Fact(
        event_id=event.id,
        sensor="sysmon",
        what=what,
        time=event.event_time,
        guid=_guid(data, f"{own}ProcessGuid") or _guid(data, f"{own}ProcessGUID"),
        pid=_number(data.get(f"{own}ProcessId")),
        image=_text(data, f"{own}Image"),
        command=_text(data, "CommandLine"),
        user=_text(data, "User"),
        hashes=_hashes(_text(data, "Hashes")) if started else {},
        parent_guid=_guid(data, "ParentProcessGuid"),
        parent_pid=_number(data.get("ParentProcessId")),
        parent_image=_text(data, "ParentImage"),
        parent_command=_text(data, "ParentCommandLine"),
        target=_address(data, "DestinationIp", "DestinationPort", "DestinationHostname")
        if what is Doing.NETWORK
        else _first(data, _TARGETS.get(what, ())),
    )


def _security(event: Event, what: Doing) -> Fact:
    data = event.data
    common: dict[str, Any] = {"event_id": event.id, "sensor": "security", "what": what, "time": event.event_time}
    if what is Doing.START:
        name = _text(data, "TargetUserName") or _text(data, "SubjectUserName")
        domain = _text(data, "TargetDomainName" if _text(data, "TargetUserName") else "SubjectDomainName")
        return Fact(
            **common,
            pid=_number(data.get("NewProcessId")),
            image=_text(data, "NewProcessName"),
            command=_text(data, "CommandLine"),
            user=f"{domain}\\{name}" if domain else name,
            parent_pid=_number(data.get("ProcessId")),
            parent_image=_text(data, "ParentProcessName"),
        )
    if what is Doing.END:
        return Fact(**common, pid=_number(data.get("ProcessId")), image=_text(data, "ProcessName"))
    pid = data.get("ProcessID", data.get("ProcessId"))
    # The image is written as a device's path here, which no other record can be compared with.
    return Fact(**common, pid=_number(pid), target=_address(data, "DestAddress", "DestPort"))


def _osquery(event: Event) -> Iterator[Fact]:
    rows = event.data.get("snapshot")
    removed = event.data.get("action") == "removed"
    for row in rows if isinstance(rows, list) else [event.data.get("columns")]:
        if isinstance(row, dict) and _number(row.get("pid")) >= 0 and (fact := _row(event, row, removed=removed)):
            yield fact


def _row(event: Event, row: Mapping[str, Any], *, removed: bool) -> Fact | None:
    """A row of `processes`, `process_events`, `process_open_sockets`, `socket_events` or `process_file_events`."""
    common: dict[str, Any] = {"event_id": event.id, "sensor": "osquery", "pid": _number(row.get("pid"))}
    told = _number(row.get("time"))
    then = told * MICROS if told > 0 else event.event_time
    if "remote_address" in row:
        target = _address(row, "remote_address", "remote_port")
        image = _text(row, "path")
        return (
            None if removed or not target else Fact(**common, what=Doing.NETWORK, time=then, image=image, target=target)
        )
    if "operation" in row:
        target = _text(row, "dest_path") or _text(row, "path") or _text(row, "target_path")
        return Fact(**common, what=Doing.FILE, time=then, image=_text(row, "executable"), target=target)
    if not {"parent", "cmdline", "start_time"} & row.keys():
        return None
    image = _text(row, "path") or _text(row, "name")
    if removed:
        return Fact(**common, what=Doing.END, time=event.event_time, image=image)
    start = _number(row.get("start_time"))
    common["sensor"] = "osquery" if start > 0 or told <= 0 else "osquery_events"
    return Fact(
        **common,
        what=Doing.START,
        time=start * MICROS if start > 0 else then,
        known=start > 0 or told > 0,
        image=image,
        command=_text(row, "cmdline"),
        user=_text(row, "username") or _text(row, "uid"),
        hashes={name: text for name in ("md5", "sha1", "sha256") if (text := _text(row, name).lower())},
        parent_pid=_number(row.get("parent")),
    )


def _number(value: Any) -> int:
    """A process id, event id or time, however it is written; -1 for none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        try:
            return int(text, 16) if text.startswith("0x") else int(text)
        except ValueError:
            return -1
    return -1


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) and value != "-" else ""


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := _text(data, name))), "")


def _guid(data: Mapping[str, Any], name: str) -> str:
    """Capital letters without braces; that of all zeros names nothing."""
    text = _text(data, name).strip("{} ").upper()
    return text if text.strip("0-") else ""


def _hashes(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip().lower(): value.strip().lower() for name, sign, value in pairs if sign and value.strip("0 ")}


def _address(data: Mapping[str, Any], ip: str, port: str, name: str = "") -> str:
    host = _text(data, ip)
    if not host:
        return ""
    where = f"[{host}]" if ":" in host else host
    number = _number(data.get(port))
    called = _text(data, name) if name else ""
    return f"{where}{f':{number}' if number >= 0 else ''}{f' {called}' if called else ''}"
