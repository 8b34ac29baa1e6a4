"""Indicators on the stream and in the past: as of event time, each hit once, one case for a hunt, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from vedette.cli.main import build, verbs
from vedette.core.clock import DAY, SystemClock, to_iso
from vedette.core.event import Event
from vedette.core.settings import load_settings
from vedette.core.signal import Signal
from vedette.judge.indicators import RULE
from vedette.run.following import Followers
from vedette.run.intel import indicators as intel
from vedette.run.intel.hunting import Hunt, hunt_new
from vedette.run.intel.indicators import make_lookout
from vedette.run.metrics import Meters
from vedette.run.parts import Parts
from vedette.sense.history import Span
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.indicator import Indicator, indicator_id
from vedette.sense.intel.library import indicator_of
from vedette.sense.intel.segments import FOLDER
from vedette.sense.intel.stix import Object
from vedette.sense.store import Store

TENANT = "default"
DETECTS = {"detect", "detect_decisions"}
NOW = SystemClock().now()
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def opened(home: Path) -> Parts:
    return Parts(load_settings(None, {"VEDETTE_HOME": str(home)}), clock=SystemClock())


def thing(value: str, **more: Any) -> Object:
    own = Indicator(**{"id": indicator_id("own", value), "formula": ((value,),), "valid_from": NOW - 30 * DAY, "confidence": 90, **more})  # type: ignore[arg-type]  # fmt: skip
    return Object(id=own.id, type="indicator", indicator=own, tlp=own.tlp)


def proxy(parts: Parts, number: int, host: str, *, days: float = 0, ip: str = "192.0.2.1") -> Event:
    time = NOW - int(days * DAY)
    data = {"time": to_iso(time), "c-ip": ip, "c-uri": f"http://{host}/p{number}", "cs-host": host, "cs-method": "GET", "sc-status": 200}  # fmt: skip
    return parts.sources["proxy"].to_event(data, tenant=TENANT, stream="s", offset=number, ingest_time=NOW)


def send(parts: Parts, events: list[Event]) -> None:
    parts.log.append("event", TENANT, [msgspec.json.encode(one) for one in events])


def turn(parts: Parts, followers: Followers) -> None:
    while sum(stage.step() for stage in followers.stages):
        pass


def signals(parts: Parts) -> list[Signal]:
    found = [msgspec.json.decode(each.value, type=Signal) for each in parts.log.read("signal", 0, 0, 10_000)]
    return [one for one in found if one.rule_id == RULE]


@pytest.fixture
def parts(tmp_path: Path):
    with opened(tmp_path) as made:
        yield made


def test_the_stream_asks_as_of_event_time(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intel, "LOOK_S", 0.0)
    followers = Followers(parts, Store(parts.settings.store_folder), Meters())
    assert DETECTS.isdisjoint(stage.name for stage in followers.stages)
    parts.library.put(
        TENANT,
        "own",
        [thing("evil.example", labels=("attack.t1566",)), thing("old.example", valid_until=NOW - 2 * DAY)],
    )
    parts.library.put("other", "own", [thing("good.example")])
    send(parts, [
        proxy(parts, 0, "login.evil.example"),
        proxy(parts, 1, "good.example"),
        proxy(parts, 2, "old.example"),
        proxy(parts, 3, "old.example", days=3),
        proxy(parts, 4, "evil.example", days=40),
    ])  # fmt: skip
    turn(parts, followers)
    found = signals(parts)
    assert [(one.event_time // DAY, one.why["indicator.value"]) for one in found] == [(NOW // DAY, "evil.example"), ((NOW - 3 * DAY) // DAY, "old.example")]  # fmt: skip
    assert found[0].tags == ("attack.t1566",)
    assert (found[0].level, found[0].why["cs-host"]) == ("high", "login.evil.example")
    assert parts.alerts.count(TENANT) == 2
    (seen,) = parts.library.sightings(TENANT, indicator_id("own", "evil.example"))
    assert seen["event_id"] == found[0].event_id
    # What is learned while the stream runs counts; what ends matches no more.
    parts.library.put(TENANT, "own", [thing("evil.example", held="a mistake", version=NOW), thing("new.example")])
    send(parts, [proxy(parts, 5, "evil.example"), proxy(parts, 6, "a.new.example")])
    turn(parts, followers)
    assert [one.why["indicator.value"] for one in signals(parts)[2:]] == ["new.example"]


def test_a_hunt_finds_what_was_there_before_and_opens_one_case(parts: Parts) -> None:
    store = Store(parts.settings.store_folder)
    followers = Followers(parts, store, Meters())
    events = [proxy(parts, number, f"h{number}.bad.example" if number % 10 == 0 else f"h{number}.example", days=number % 20, ip=f"203.0.113.{number % 200}") for number in range(200)]  # fmt: skip
    send(parts, events)
    turn(parts, followers)
    parts.library.put(TENANT, "own", [thing("bad.example", valid_from=NOW), thing("203.0.113.8/29", valid_from=NOW), thing(MD5), thing("h3.example", held="why")])  # fmt: skip
    hunt = Hunt(parts, store, make_lookout(parts.library, parts.clock, parts.sources))
    wanted = {one.id for number, one in enumerate(events) if number % 10 == 0 or 8 <= number % 200 < 16}
    done = hunt_new(parts, hunt, TENANT)
    assert done is not None
    assert (done.indicators, done.found, done.hits, done.fresh) == (3, 2, 28, 28)
    assert {one.event_id for one in signals(parts)} == wanted
    assert done.events == 200
    cases = parts.cases.find(TENANT)
    assert [one.id for one in cases] == [done.case]
    alert_ids = cases[0].alerts
    assert len(alert_ids) == 1
    assert parts.alerts.count(TENANT) == 1
    assert sum("28 hits" in str(entry.body) for entry in parts.cases.timeline(TENANT, done.case)) == 1
    assert hunt_new(parts, hunt, TENANT) is None
    again = hunt.run(TENANT, parts.library.indicators(TENANT, Asked()), Span(done.start, done.end))
    assert (again.hits, again.fresh, again.case) == (28, 0, done.case)
    assert len(parts.cases.find(TENANT)) == 1
    assert len(signals(parts)) == 28
    nothing = hunt.run(TENANT, parts.library.indicators(TENANT, Asked()), Span(NOW + 5 * DAY, NOW + 6 * DAY))
    assert (nothing.hits, nothing.case) == (0, "")
    nobody = hunt.run("other", parts.library.indicators(TENANT, Asked()), Span(done.start, done.end))
    assert (nobody.hits, nobody.events) == (0, 0)


def test_segments_follow_the_data_files(parts: Parts) -> None:
    store = Store(parts.settings.store_folder)
    source = parts.sources["proxy"]
    for batch in range(4):
        store.append(source, [proxy(parts, batch * 10 + number, f"n{batch}{number}.example") for number in range(10)])
    hunt = Hunt(parts, store, make_lookout(parts.library, parts.clock, parts.sources))
    span = Span(NOW - DAY, NOW + DAY)
    files = hunt.segments.files(TENANT, span)
    assert hunt.segments.prepare(files) == len(files) >= 4
    assert hunt.segments.prepare(files) == 0
    store.compact()
    joined = hunt.segments.files(TENANT, span)
    assert sum(one.rows for one in joined) == 40
    assert hunt.segments.prepare(joined) == len(joined)
    folder = parts.settings.store_folder / "proxy" / FOLDER
    (folder / ".left.2.77").write_bytes(b"half")
    assert hunt.segments.tidy(SystemClock().now()) == len(files)
    assert hunt.segments.tidy(SystemClock().now() + DAY) == 1
    parts.library.put(TENANT, "own", [thing("n27.example"), thing("192.0.2.1")])
    wanted = parts.library.indicators(TENANT, Asked())
    assert hunt.run(TENANT, wanted[:1], span).hits == 1
    (made,) = folder.iterdir()
    whole = made.read_bytes()
    for damage in (b"", whole[:-9], whole.replace(whole[5_000:5_009], b"\x00" * 8 + b"\x01"), None):
        made.write_bytes(damage) if damage is not None else made.unlink()
        assert hunt.run(TENANT, wanted, span).hits == 41
        assert made.read_bytes() == whole


CHILD = """
import sys, os, signal
from vedette.run.intel import hunting
from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.run.parts import Parts
from vedette.run.intel.indicators import make_lookout
from vedette.sense.store import Store
home, moment = sys.argv[1:]
parts = Parts(load_settings(None, {"VEDETTE_HOME": home}), clock=SystemClock())
hunt = hunting.Hunt(parts, Store(parts.settings.store_folder), make_lookout(parts.library, parts.clock, parts.sources))
die = lambda *_a, **_k: os.kill(os.getpid(), signal.SIGKILL)
if moment == "segment": hunt.segments._make = die
if moment == "signals": parts.log.append = die
if moment == "consume": parts.alerts.consume = die
if moment == "case": parts.cases.open = die
if moment == "note": parts.cases.note = die
if moment == "place": parts.library.follow = die
print(hunting.hunt_new(parts, hunt, "default"))
"""


def test_a_hunt_killed_at_every_step_is_one_hunt(tmp_path: Path) -> None:
    with opened(tmp_path) as parts:
        store = Store(parts.settings.store_folder)
        store.append(
            parts.sources["proxy"],
            [proxy(parts, number, f"h{number % 3}.example", days=number % 5) for number in range(30)],
        )
        parts.library.put(TENANT, "own", [thing("h1.example")])
    for moment in ("segment", "signals", "consume", "case", "note", "place", "never"):
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path), moment],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (0 if moment == "never" else -signal.SIGKILL), done.stderr
    with opened(tmp_path) as parts:
        while parts.alerts.consume(parts.log).read:
            pass
        assert len({one.id for one in signals(parts)}) == 10
        assert len(parts.alerts.known(TENANT, [one.id for one in signals(parts)])) == 10
        (case,) = parts.cases.find(TENANT)
        assert sum("10 hits" in str(entry.body) for entry in parts.cases.timeline(TENANT, case.id)) == 1
        assert parts.alerts.count(TENANT) == 1


def run(*words: str) -> Any:
    return CliRunner().invoke(build(words, verbs()), words)


def test_the_command_line_and_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    feed = tmp_path / "bad.csv"
    feed.write_text("value,name,confidence\nevil.example,rat,90\nnonsense,,\n203.0.113.0/24,net,80\n")
    done = run("intel", "import", "indicators", str(feed), "--collection", "own", "--home", str(home), "--json")
    assert json.loads(done.stdout)["added"] == 2, done.output
    assert json.loads(done.stdout)["refused"] == 1
    (found,) = run("intel", "find", "a.evil.example", "--home", str(home), "--json").stdout.splitlines()
    assert json.loads(found)["name"] == "rat"
    assert run("intel", "find", "evil.example", "--as-of", "2020-01-01", "--home", str(home), "--json").stdout == ""
    bundle = json.loads(run("intel", "export", "--home", str(home)).stdout)
    assert [one["name"] for one in bundle["objects"]] == ["rat", "net"]
    assert "nonsense" in run("intel", "refused", "--home", str(home)).stdout
    assert "own" in run("intel", "collections", "--home", str(home)).stdout
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "r.yml").write_text("title: t\nid: 0b7e1e3a-0000-4000-8000-000000000001\nlogsource: {category: proxy}\ndetection: {a: {cs-method: PUT}, condition: a}\nlevel: low\n")  # fmt: skip
    with opened(home) as parts:
        lines = [proxy(parts, number, host, ip=ip).data for number, (host, ip) in enumerate([("x.evil.example", "192.0.2.1"), ("good.example", "203.0.113.77"), ("good.example", "192.0.2.1")])]  # fmt: skip
        Store(parts.settings.store_folder).append(
            parts.sources["proxy"], [proxy(parts, number, "evil.example", days=2) for number in range(3)]
        )
    events = tmp_path / "events.ndjson"
    # Confidence counts from the import: what happened before it is for a hunt.
    events.write_text(
        "\n".join(json.dumps({**line, "time": to_iso(SystemClock().now() + DAY // 2)}) for line in lines) + "\n"
    )
    words = (
        "detect",
        "--rules",
        str(tmp_path / "rules"),
        "--indicators",
        str(home),
        "--no-cache",
        "--json",
        str(events),
    )
    shown = [json.loads(line) for line in run(*words).stdout.splitlines()]
    assert [(one["rule_id"], one["why"]["indicator.value"]) for one in shown] == [
        (RULE, "evil.example"),
        (RULE, "203.0.113.0/24"),
    ]
    hunted = run("intel", "hunt", "--value", "evil.example", "--home", str(home), "--json")
    assert hunted.exit_code == 1, hunted.output
    assert json.loads(hunted.stdout)["hits"] == 3
    assert run("intel", "hunt", "--value", "nothing.example", "--home", str(home)).exit_code != 0


def test_an_actor_is_told_by_technique(tmp_path: Path, shared_data: Path) -> None:
    home = str(tmp_path)
    bundle = shared_data / "intel" / "attack-enterprise-18.1-trim.stix21.json.gz"
    assert run("intel", "import", "attack", str(bundle), "--home", home).exit_code == 0
    shown = json.loads(run("intel", "actor", "APT29", "--home", home, "--json").stdout)
    assert shown["id"] == "G0016"
    assert len(shown["techniques"]) > 20
    missing = run("intel", "actor", "Nobody", "--home", home)
    assert getattr(missing.exception, "code", "") == "intel.actor.unknown"


def test_a_value_is_one_indicator_of(parts: Parts) -> None:
    parts.library.put(TENANT, "own", [thing("evil.example")])
    (one,) = parts.library.indicators(TENANT, Asked(value="http://www.evil.example/x"))
    assert indicator_of(one).value == "evil.example"
