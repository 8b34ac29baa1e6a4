"""Log lines of an office and a cloud account: a working day, with an intrusion in the afternoon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

_PEOPLE = ("amina", "bruno", "chen", "dagny", "emeka", "farah", "goran", "hana")
_PROGRAMS = (
    (r"C:\Program Files\Mail\mail.exe", "mail.exe --check"),
    (r"C:\Windows\System32\svchost.exe", "svchost.exe -k netsvcs -p"),
    (r"C:\Program Files\Editor\editor.exe", r"editor.exe C:\Users\report.txt"),
    (r"C:\Windows\System32\cmd.exe", "cmd.exe /c dir"),
    (r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", "powershell.exe -File backup.ps1"),
)
_INTRUSION = (
    (
        r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe",
        "powershell.exe -NoP -W Hidden -EncodedCommand SQBFAFgAIAAoAE4AZQB3AC0ATwBiAGoAZQBjAHQAKQA=",
    ),
    (r"C:\Windows\System32\rundll32.exe", r"rundll32.exe C:\Windows\System32\comsvcs.dll, MiniDump 612 C:\t.dmp full"),
    (r"C:\Windows\System32\vssadmin.exe", "vssadmin.exe delete shadows /all /quiet"),
)
_CALLS = (
    ("s3.amazonaws.com", "GetObject"),
    ("ec2.amazonaws.com", "DescribeInstances"),
    ("sts.amazonaws.com", "GetCallerIdentity"),
    ("s3.amazonaws.com", "ListBuckets"),
)
_CAMPAIGN = (
    ("secretsmanager.amazonaws.com", "GetSecretValue"),
    ("iam.amazonaws.com", "CreateAccessKey"),
    ("cloudtrail.amazonaws.com", "StopLogging"),
)


def write_windows(path: Path, *, seed: int, events: int, start: datetime) -> None:
    """Writes Sysmon process creations as NDJSON; the last tenth of the day holds the intrusion."""
    _write(path, _windows(Random(seed), events, start))  # noqa: S311 - a seeded generator is the point


def write_cloudtrail(path: Path, *, seed: int, events: int, start: datetime) -> None:
    """Writes CloudTrail records as NDJSON; a stolen credential is used near the end."""
    _write(path, _cloudtrail(Random(seed), events, start))  # noqa: S311 - a seeded generator is the point


def _write(path: Path, records: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def _moments(start: datetime, events: int) -> Iterator[datetime]:
    return (start + timedelta(seconds=86_400 * number / events) for number in range(events))


def _windows(rng: Random, events: int, start: datetime) -> Iterator[dict[str, Any]]:
    planted = dict(zip(range(events * 9 // 10, events, 7), _INTRUSION, strict=False))
    for number, moment in enumerate(_moments(start, events)):
        person = "bruno" if number in planted else rng.choice(_PEOPLE)
        image, command = planted.get(number) or rng.choice(_PROGRAMS)
        yield {
            "Channel": "Microsoft-Windows-Sysmon/Operational",
            "Provider_Name": "Microsoft-Windows-Sysmon",
            "EventID": 1,
            "UtcTime": moment.strftime("%Y-%m-%d %H:%M:%S.000"),
            "Computer": f"{person}-pc.example.test",
            "User": f"OFFICE\\{person}",
            "Image": image,
            "CommandLine": command,
            "ParentImage": r"C:\Windows\explorer.exe",
            "ProcessId": str(rng.randrange(1_000, 9_000)),
        }


def _cloudtrail(rng: Random, events: int, start: datetime) -> Iterator[dict[str, Any]]:
    planted = dict(zip(range(events * 9 // 10, events, 5), _CAMPAIGN, strict=False))
    for number, moment in enumerate(_moments(start, events)):
        person = "hana" if number in planted else rng.choice(_PEOPLE)
        service, call = planted.get(number) or rng.choice(_CALLS)
        yield {
            "eventVersion": "1.08",
            "eventID": f"{rng.getrandbits(128):032x}",
            "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": service,
            "eventName": call,
            "awsRegion": "eu-central-1",
            "sourceIPAddress": "203.0.113.66" if number in planted else f"198.51.100.{rng.randrange(1, 20)}",
            "userAgent": "cli/2.1",
            "userIdentity": {"type": "IAMUser", "userName": person, "accountId": "111122223333"},
        }
