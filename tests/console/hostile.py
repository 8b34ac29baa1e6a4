"""Texts that attackers write into fields, and an installation in which every field of every source holds one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_world import MERCHANT, TENANT

from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.settings import load_settings
from vedette.core.signal import Level
from vedette.move.charges import ChargeItem
from vedette.run.pipeline.detection import load_detection
from vedette.run.platform import Platform

OWN = "document.documentElement.dataset.owned=1"
"""What a script that got through would leave behind."""

SCRIPTS = (
    f"<script>{OWN}</script>",
    f"</script><script>{OWN}</script>",
    f"<img src=x onerror={OWN}>",
    f"<svg onload={OWN}>",
    f'"><svg/onload={OWN}>',
    f"' onmouseover='{OWN}' autofocus onfocus='{OWN}",
    f'" onmouseover="{OWN}" autofocus onfocus="{OWN}" x="',
    f"javascript:{OWN}",
    f"</title><script>{OWN}</script>",
    f"</textarea><script>{OWN}</script>",
    f"</style><script>{OWN}</script>",
    f"--><script>{OWN}</script><!--",
    f"]]><script>{OWN}</script>",
    f"<iframe srcdoc='<script>parent.{OWN}</script>'></iframe>",
    f"<details open ontoggle={OWN}>",
    f"<math><mtext><img src=x onerror={OWN}></mtext></math>",
    f"<body onload={OWN}>",
    f"<a href=javascript:{OWN} id=owned>x</a>",
    f"<form action=javascript:{OWN}><button id=owned>x</button></form>",
    f"<div hx-get=/people hx-trigger=load hx-on::load='{OWN}' data-owned>x</div>",
    f"<div hx-vals='js:{{x:{OWN}}}' hx-trigger=load hx-get=/>x</div>",
    "<link rel=stylesheet href=//198.51.100.66/x.css>",
    "<meta http-equiv=refresh content='0;url=//198.51.100.66/'>",
    "<base href=//198.51.100.66/>",
    "{{7*7}}{% raw %}${7*7}#{7*7}<%= 7*7 %>",
    f"\\u003cscript\\u003e{OWN}\\u003c/script\\u003e",
    f"&lt;script&gt;{OWN}&lt;/script&gt;",
    f"<scr\x00ipt>{OWN}</scr\x00ipt>",
    f"%3Cscript%3E{OWN}%3C/script%3E",
    f"\ufeff<script>{OWN}</script>\u2028\u2029",
)
TERMINAL = (
    "\x1b[2J\x1b[H\x1b[31mALL CLEAR\x1b[0m",
    "\x1b]0;owned\x07\x1b]8;;http://198.51.100.66/\x1b\\x\x1b]8;;\x1b\\",
    "\x9b2J\x9d0;owned\x9c",
    "safe\rgone\x08\x08\x08\x7f",
    "\x1bP$q\x1b\\\x1b[6n\x05",
    "a\u202egnp.exe\u2066\u200f",
    "one\ntwo\tthree\x0b\x0c\x85",
)
CORPUS = (*SCRIPTS, *TERMINAL)
KEPT = ("id", "time", "type")
"""Parts of field names whose text has to stay what it is for the record to be read at all."""


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    """(source, record): every text of every source's samples holds a text of the corpus once; then all of them do."""
    turn = 0
    for path in sorted(shipped("sources").glob("tests/*.ndjson")):
        samples = [json.loads(line)["record"] for line in path.read_text().splitlines()]
        for sample in [each for each in samples if isinstance(each, dict)][:2]:
            for place in list(_texts(sample)):
                yield path.stem, _with(sample, [place], CORPUS[turn % len(CORPUS)])
                turn += 1
            yield path.stem, _with(sample, list(_texts(sample)), CORPUS[turn % len(CORPUS)])
            turn += 1


def _texts(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield place
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(each, (*place, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*place, index))


def _with(sample: dict[str, Any], places: list[tuple[Any, ...]], text: str) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(sample))
    for place in places:
        holder: Any = changed
        for step in place[:-1]:
            holder = holder[step]
        kept = any(part in str(place[-1]).lower() for part in KEPT) and len(places) > 1
        holder[place[-1]] = holder[place[-1]] if kept else text
    return changed


def rules(folder: Path) -> Path:
    """A Sigma rule for each source that fires on everything, with a hostile title."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(shipped("sources").glob("*.yaml"))):
        logsource = next(line for line in path.read_text().splitlines() if line.startswith("logsource:"))
        text = json.dumps(CORPUS[number % len(SCRIPTS)])
        (folder / f"all_{path.stem}.yml").write_text(
            f"title: {text}\nid: 00000000-0000-4000-8000-{number:012}\nstatus: test\ndescription: {text}\n"
            f"author: {text}\nreferences: [{text}]\nfalsepositives: [{text}]\nlevel: high\n{logsource}\n"
            "detection: {sel: {no_such_field: null}, condition: sel}\n"
        )
    return folder


def fill(home: Path, folder: Path) -> dict[str, Any]:
    """Takes the corpus in by every way there is; gives what was made of it."""
    settings = load_settings(None, {"VEDETTE_HOME": str(home), "VEDETTE_TENANT": TENANT})
    counts: dict[str, int] = {}
    with Platform(settings, clock=SystemClock(), detection=load_detection([rules(folder)])) as platform:
        by_source: dict[str, list[bytes]] = {}
        for source, record in records():
            by_source.setdefault(source, []).append(json.dumps(record).encode())
        for source, lines in by_source.items():
            for each in platform.intake(TENANT).push(source, "hostile", b"\n".join(lines)).values():
                counts["stored"] = counts.get("stored", 0) + each.stored
                counts["quarantined"] = counts.get("quarantined", 0) + each.quarantined
        wanted = {"amount_minor": 1_999, "currency": "USD", "merchant": MERCHANT}
        platform.charges.create_many(
            TENANT,
            [
                ChargeItem(
                    f"hostile-{number}",
                    {**wanted, "source": f"tok_{number}", "metadata": {"email": text, "device": text, "note": text}},
                )
                for number, text in enumerate(CORPUS)
            ],
        )
        platform.drain()
        alerts = platform.alerts.find(TENANT, limit=500)
        for number, text in enumerate(CORPUS):
            platform.access.people.create(TENANT, text)
            case = platform.cases.open(
                TENANT, text, operator="per_x", level=Level.HIGH, alert_id=alerts[number % len(alerts)].id
            )
            platform.cases.note(TENANT, case.id, text, operator="per_x")
        counts["alerts"] = len(alerts)
    return counts
