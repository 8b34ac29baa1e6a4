"""One contract for every action on another system: declared whole, a look ahead touches nothing, a repeat has one
effect, an undo restores, a broken receiver gives coded errors, and no secret shows anywhere."""

from __future__ import annotations

import json
import logging
import re
import smtplib
import socket
import uuid
from contextlib import ExitStack, closing

import msgspec
import pytest
from aiosmtpd.controller import Controller
from remotes import FAULTS, SILENCE_S, Fleet, GitHub, Keyed, Okta, Pager, Remote, Scim, Splunk, serve

from vedette.act.actions import SIGNATURES as OWN
from vedette.act.actions import ActionCall, Repeats
from vedette.act.connectors import ALL, connector, mail
from vedette.act.connectors.connector import Action, Reach
from vedette.act.once import Once
from vedette.core.db import open_database
from vedette.core.egress import Egress
from vedette.core.errors import DataError, PermanentError, TransientError, VedetteError
from vedette.judge.payment.kept import KeptLists

AWS_SECRET = "aws+secret/9f8e7d6c5b4a"


class Bench:
    """What one action is tried with."""

    def __init__(self, arguments, remote="", *, undo=None, effects=1):
        self.arguments = arguments
        self.remote = remote
        self.undo = undo or {}
        self.effects = effects


_USER = {"connection": "there", "user": "u1"}
_AWS = {"connection": "aws", "user": "mallory"}
_BLOCK = {"list": "edge", "address": "203.0.113.7"}
_ZONE = {"zone": "corp", "domain": "Evil.Example."}
_ITEM = {"list": "bad_cards", "item": "4000"}
BENCHES = {
    "okta_suspend_user": Bench(_USER, "okta"),
    "okta_unsuspend_user": Bench(_USER, "okta", effects=0),
    "okta_revoke_sessions": Bench(_USER, "okta"),
    "scim_deactivate_user": Bench(_USER, "scim"),
    "scim_activate_user": Bench(_USER, "scim", effects=0),
    "github_revoke_token": Bench({"connection": "there", "token": "leaked"}, "github"),
    "fleet_query": Bench({"connection": "there", "host": "mac-1", "query": "select 1"}, "fleet", effects=0),
    "chat_post": Bench({"connection": "there", "text": "hi"}, "keyed"),
    "ticket_open": Bench({"connection": "there", "title": "look"}, "keyed"),
    "ticket_close": Bench({"connection": "there", "before": "k"}, "keyed", effects=0),
    "page_trigger": Bench({"connection": "there", "text": "wake up", "level": "critical"}, "pager"),
    "page_resolve": Bench({"connection": "there", "before": "k"}, "pager", effects=0),
    "splunk_export": Bench({"connection": "there", "text": "hi"}, "splunk"),
    "send_mail": Bench(
        {"connection": "mail", "to": ["a@x.example", "b@x.example"], "subject": "s", "text": "t"}, "mail"
    ),
    "firewall_block": Bench(_BLOCK, "files"),
    "firewall_unblock": Bench(_BLOCK, "files", effects=0),
    "dns_sinkhole": Bench(_ZONE, "files"),
    "dns_release": Bench(_ZONE, "files", effects=0),
    "list_add": Bench(_ITEM, "own"),
    "list_remove": Bench(_ITEM, "own", effects=0),
    "hold_account": Bench({"account": "m-1", "reason": "r"}, "own"),
    "release_account": Bench({"account": "m-1"}, "own", effects=0),
    "rescreen": Bench({"event": "e-1"}, "own", effects=0),
    "aws_disable_access_key": Bench(_AWS, "aws"),
    "aws_enable_access_key": Bench(_AWS, "aws", effects=0),
    "aws_quarantine_user": Bench(_AWS, "aws"),
    "aws_lift_quarantine": Bench(_AWS, "aws", effects=0),
    "aws_snapshot_volume": Bench({"connection": "aws"}, "aws"),
}
HTTP = [name for name, bench in BENCHES.items() if bench.remote not in ("files", "own", "mail", "aws")]
NAMES = sorted(ALL)
UNREAD = {"chat_post", "ticket_close", "github_revoke_token", "okta_revoke_sessions", "scim_activate_user"}
"""Those that need nothing of the answer and do not read it."""
REMOTES = {
    "okta": Okta,
    "scim": Scim,
    "github": GitHub,
    "fleet": Fleet,
    "keyed": Keyed,
    "pager": Pager,
    "splunk": Splunk,
}


class Payouts:
    def __init__(self):
        self.frozen = {}

    def freeze(self, tenant, account, reason, key):
        self.frozen[account] = True
        return self

    def unfreeze(self, tenant, account, reason, key):
        self.frozen[account] = False
        return self

    def is_frozen(self, tenant, account):
        return self.frozen.get(account, False)

    status = 200

    def json(self):
        return {"payouts": []}


class Files:
    """Files and rooms as a remote: their state is what is in them."""

    def __init__(self, look):
        self.look = look
        self.begin = look()

    @property
    def effects(self):
        return [] if self.look() == self.begin else ["changed"]

    def state(self):
        return self.look()


class Inbox(Remote):
    """A mail server that drops what has a `Message-ID` it has seen, as mail systems do."""

    def __init__(self):
        super().__init__()
        self.refuse = ""

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - the server asks for it by this name
        if self.refuse:
            return self.refuse
        text = envelope.content.decode()
        key = next(line for line in text.splitlines() if line.lower().startswith("message-id"))
        self.once(key, tuple(envelope.rcpt_tos), text)
        return "250 taken"

    def state(self):
        return list(self.effects)


class Cloud:
    """AWS as moto plays it; its state is what its own client sees."""

    def __init__(self, url):
        import boto3

        keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": AWS_SECRET, "region_name": "eu-central-1"}
        self.iam = boto3.client("iam", endpoint_url=url, **keys)
        self.ec2 = boto3.client("ec2", endpoint_url=url, **keys)
        self.user = f"mallory-{uuid.uuid4()}"
        self.iam.create_user(UserName=self.user)
        self.key = self.iam.create_access_key(UserName=self.user)["AccessKey"]["AccessKeyId"]
        self.volume = self.ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
        self.begin = self.state()

    def state(self):
        (key,) = self.iam.list_access_keys(UserName=self.user)["AccessKeyMetadata"]
        names = self.iam.list_user_policies(UserName=self.user)["PolicyNames"]
        snapshots = self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        mine = [each["SnapshotId"] for each in snapshots if each.get("VolumeId") == self.volume]
        return key["Status"], names, mine

    @property
    def effects(self):
        now = self.state()
        return [1] * (
            sum(a != b for a, b in zip(self.begin[:2], now[:2], strict=True)) + len(now[2]) - len(self.begin[2])
        )

    def close(self):
        self.iam.close()
        self.ec2.close()


class Site:
    """One action with the system it acts on."""

    def __init__(self, stack, name, tmp_path, clock, aws_url):
        self.name, self.bench, self.action = name, BENCHES[name], ALL[name]
        self.secrets = {}
        self.arguments = dict(self.bench.arguments)
        self.database = stack.enter_context(closing(open_database(tmp_path / "state.db")))
        self.lists, self.payouts = KeptLists(self.database, clock), Payouts()
        self.seen = {"action": "block"}
        ports = {"lists": self.lists, "payouts": self.payouts, "rescreen": lambda _tenant, _event: dict(self.seen)}
        self.reach = Reach(Egress(("127.0.0.1",)), self.secrets.__getitem__, clock, tmp_path / "feeds", ports)
        self.remote = self._open(stack, tmp_path, aws_url)
        self.clock = clock

    def _open(self, stack, tmp_path, aws_url):
        kind = self.bench.remote
        if kind in REMOTES:
            remote = REMOTES[kind]()
            self.secrets["there"] = json.dumps(remote.connection(stack.enter_context(serve(remote))))
            self.secrets["leaked"] = GitHub.leaked
            return remote
        if kind == "mail":
            inbox = Inbox()
            controller = Controller(inbox, hostname="127.0.0.1", port=_free_port())
            controller.start()
            stack.callback(controller.stop)
            told = {"host": "127.0.0.1", "port": str(controller.port), "from": "v@corp.example", "tls": "none"}
            self.secrets["mail"] = json.dumps(told)
            return inbox
        if kind == "aws":
            cloud = Cloud(aws_url)
            stack.callback(cloud.close)
            told = {"url": aws_url + "/", "key_id": "AKIDEXAMPLE", "secret": AWS_SECRET, "region": "eu-central-1"}
            self.secrets["aws"] = json.dumps(told)
            known = {"access_key": cloud.key, "volume": cloud.volume, "user": cloud.user}
            wanted = self.action.signature.arguments
            self.arguments |= {name: value for name, value in known.items() if name in wanted}
            return cloud
        if kind == "files":
            return Files(lambda: _entries(tmp_path / "feeds"))
        if self.name == "list_add":
            from vedette.judge.payment.lists import ItemType

            self.lists.add("acme", "bad_cards", ["1"], operator="t", item_type=ItemType.STRING)
        return Files(lambda: (self._held(), {name for name, frozen in self.payouts.frozen.items() if frozen}))

    def _held(self):
        return {
            name: held.items for name, held in self.lists.held("acme", self.reach.clock.now()).items() if held.items
        }

    def call(self, key="run_1:step", **arguments):
        known = {"tenant": "acme", "run_id": "run_1", "step": "step", "operator": "run_1"}
        return ActionCall(**known, key=key, arguments=self.arguments | arguments)

    def perform(self, key="run_1:step", **arguments):
        return self.action.perform(self.call(key, **arguments), self.reach)


def _entries(folder):
    """What stands in the files, without the head of a zone and its serial."""
    head = re.compile(r"\$TTL|@ ")
    texts = {path.name: path.read_text().splitlines() for path in folder.glob("[!.]*")}
    held = {name: [line for line in lines if not head.match(line)] for name, lines in texts.items()}
    return {name: lines for name, lines in held.items() if lines}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def aws_url():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def site(request, tmp_path, clock):
    name = request.getfixturevalue("name")
    with ExitStack() as stack:
        url = request.getfixturevalue("aws_url") if BENCHES[name].remote == "aws" else ""
        yield Site(stack, name, tmp_path, clock, url)


each = pytest.mark.parametrize("name", NAMES)


def test_every_action_is_tried():
    assert sorted(BENCHES) == NAMES


@each
def test_it_is_declared_whole(name):
    signature = ALL[name].signature
    assert signature.text
    assert not signature.text.endswith(".")
    assert signature.touches.keys() == {
        kind for kind in signature.touches if signature.touches[kind] in signature.arguments
    }
    assert isinstance(signature.repeats, Repeats)
    assert ALL[name].preview, "every action looks ahead"
    remote = "connection" in signature.arguments
    assert name == "github_revoke_token" or bool(signature.scopes) == remote
    assert all(signature.arguments[secret].type is str for secret in signature.secrets)
    if signature.undo:
        inverse = {**OWN, **{other: each.signature for other, each in ALL.items()}}[signature.undo]
        needed = {key for key, spec in inverse.arguments.items() if spec.required}
        assert needed <= signature.arguments.keys() | {"before"}
        assert not inverse.drastic
    if signature.contains:
        assert signature.drastic


@each
def test_a_look_ahead_touches_nothing(site, name):
    before = site.remote.state()
    found = site.action.preview(site.call(key=""), site.reach)
    assert isinstance(msgspec.json.decode(msgspec.json.encode(found)), dict)
    assert site.remote.state() == before
    assert site.remote.effects == []
    assert getattr(site.remote, "writes", list)() == []


@each
def test_a_repeat_has_one_effect_with_and_without_our_own_record(site, name):
    first = site.perform()
    again = site.perform()
    assert len(site.remote.effects) == site.bench.effects
    if site.bench.effects and site.action.signature.repeats is not Repeats.STATE:
        assert again.values.get("changed", True) is not None
    once = Once(site.database, site.clock)
    guarded = once.guard(name, lambda call: site.action.perform(call, site.reach))
    kept = guarded(site.call("run_1:other"))
    count = len(getattr(site.remote, "requests", ()))
    assert guarded(site.call("run_1:other")) == kept
    assert len(getattr(site.remote, "requests", ())) == count
    assert msgspec.json.encode(first.values)


@pytest.mark.parametrize("name", [name for name in NAMES if ALL[name].signature.undo])
def test_an_undo_restores_what_was_changed_and_only_that(site, name):
    inverse = ALL[site.action.signature.undo]

    def undo(values):
        given = {key: value for key, value in (site.arguments | values).items() if key in inverse.signature.arguments}
        call = msgspec.structs.replace(site.call("run_1:step.compensate"), arguments=given)
        inverse.perform(call, site.reach)

    before = site.remote.state()
    done = site.perform()
    assert site.remote.state() != before
    undo(done.values)
    assert site.remote.state() == before
    if "changed" in done.values:
        site.perform("run_1:by-hand")
        standing = site.remote.state()
        second = site.perform("run_1:second")
        assert second.values["changed"] is False
        undo(second.values)
        assert site.remote.state() == standing


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", HTTP)
def test_a_broken_receiver_gives_a_coded_error_that_may_pass(site, name, fault, monkeypatch):
    site.remote.faults = [fault] * 3
    codes = {
        "500": {"action.remote.unavailable"},
        "429": {"action.remote.busy"},
        "garbage": {"action.remote.garbled"},
        "silence": {"egress.time.exceeded", "egress.connection.failed"},
    }
    if fault == "garbage" and name in UNREAD:
        site.perform()
    else:
        with monkeypatch.context() as impatient:
            if fault == "silence":
                impatient.setattr(connector, "TIMEOUT_S", SILENCE_S / 4)
            with pytest.raises(TransientError) as caught:
                site.perform()
        assert caught.value.code in codes[fault]
        assert caught.value.retry_after == (7 if fault == "429" else 0)
    site.remote.faults = []
    site.perform()
    assert len(site.remote.effects) == site.bench.effects


@pytest.mark.parametrize("name", HTTP)
def test_an_answer_that_is_lost_after_the_effect_is_no_second_effect(site, name):
    site.remote.faults = ["", "lost"] if name in ("okta_suspend_user", "scim_deactivate_user") else ["lost"]
    with pytest.raises(TransientError):
        site.perform()
    site.perform()
    assert len(site.remote.effects) == site.bench.effects


@pytest.mark.parametrize("name", HTTP)
def test_no_secret_shows(site, name, caplog, tmp_path, monkeypatch):
    """In results, errors, logs, what is stored, and the trace of an error."""
    caplog.set_level(logging.DEBUG)
    secrets = [site.remote.token] + ([GitHub.leaked] if name == "github_revoke_token" else [])
    once = Once(site.database, site.clock)
    guarded = once.guard(name, lambda call: site.action.perform(call, site.reach))
    told = [repr(guarded(site.call())), repr(site.call()), repr(site.action)]
    site.remote.faults = ["500"]
    for broken in ("500", "{", '{"url": "http://127.0.0.1:1"}', json.dumps({"url": "https://x", "token": secrets[0]})):
        if broken != "500":
            site.secrets["there"] = broken
        try:
            site.perform("run_1:again")
        except VedetteError as error:
            told += [str(error), repr(error), repr(error.to_dict())]
    told += [caplog.text, *(str(path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())]
    assert not [secret for secret in secrets for text in told if secret in text]


@pytest.mark.parametrize("name", ["okta_suspend_user", "send_mail", "aws_disable_access_key"])
def test_a_connection_that_is_none_or_another_user_is_told(site, name):
    place = site.arguments["connection"]
    held = json.loads(site.secrets[place])
    for broken in ("", "[]", '{"url": 5}', "{}"):
        site.secrets[place] = broken
        with pytest.raises(VedetteError) as caught:
            site.perform()
        assert caught.value.code == "action.connection.invalid"
    site.secrets[place] = json.dumps(held)
    if "user" in site.arguments:
        with pytest.raises(PermanentError) as caught:
            site.perform(user="nobody")
        assert caught.value.code == "action.remote.missing"
        # A text of a playbook stays one segment of a path.
        with pytest.raises(VedetteError):
            site.perform(user="../../admin?x=1")


@pytest.mark.parametrize("name", ["okta_suspend_user"])
def test_a_private_address_is_not_reached_unless_it_is_named(site, name):
    site.reach = Reach(Egress(), site.secrets.__getitem__, site.clock, site.reach.folder, {})
    with pytest.raises(VedetteError) as caught:
        site.perform()
    assert caught.value.code == "egress.scheme.refused"
    assert site.remote.requests == []


@pytest.mark.parametrize("name", ["send_mail"])
def test_mail(site, name):
    done = site.perform(subject="line\r\nBcc: eve@x.example")
    ((_, to, text),) = site.remote.effects
    assert to == ("a@x.example", "b@x.example")
    assert "subject: line bcc: eve@x.example" in text.lower()
    assert done.values["message_id"] == mail.message_id("run_1:step", "v@corp.example")
    for bad in (["a@x.example\r\nRCPT TO:<e@e>"], [], ["a"] * 51):
        with pytest.raises(DataError):
            site.perform(to=bad)
    site.remote.refuse = "451 come again"
    with pytest.raises(TransientError) as caught:
        site.perform()
    assert caught.value.code == "action.remote.busy"
    site.remote.refuse = "554 no"
    with pytest.raises(PermanentError) as caught:
        site.perform()
    assert caught.value.code == "action.remote.refused"
    site.secrets["mail"] = json.dumps(json.loads(site.secrets["mail"]) | {"port": "1"})
    with pytest.raises(TransientError) as caught:
        site.perform()
    assert caught.value.code == "action.remote.unavailable"
    assert issubclass(smtplib.SMTPException, OSError)


@pytest.mark.parametrize("name", ["firewall_block"])
@pytest.mark.parametrize("bad", ["0.0.0.0/0", "10.0.0.0/8", "127.0.0.1", "::/0", "a", "1.2.3.4\n5.6.7.8", "224.0.0.1"])
def test_what_would_block_too_much_is_refused(site, name, bad):
    with pytest.raises(DataError) as caught:
        site.perform(address=bad)
    assert caught.value.code == "action.entry.invalid"
    with pytest.raises(DataError):
        site.perform(list="../../etc/passwd")


@pytest.mark.parametrize("name", ["dns_sinkhole"])
def test_the_zone_is_one_that_resolvers_load(site, name, tmp_path):
    site.perform()
    site.perform("run_1:two", domain="worse.example", to="sink.corp.example")
    lines = (tmp_path / "feeds" / "corp.rpz").read_text().splitlines()
    serial = int(lines[1].split("(")[1].split()[0])
    assert lines[3:] == [
        "evil.example CNAME .",
        "*.evil.example CNAME .",
        "worse.example CNAME sink.corp.example.",
        "*.worse.example CNAME sink.corp.example.",
    ]
    ALL["dns_release"].perform(site.call("run_1:undo"), site.reach)
    after = (tmp_path / "feeds" / "corp.rpz").read_text().splitlines()
    assert after[3:] == lines[5:]
    assert int(after[1].split("(")[1].split()[0]) > serial
    for bad in ("com", "a b.example", "*.example", "x.example\nevil CNAME .", ""):
        with pytest.raises(DataError):
            site.perform(domain=bad)


@pytest.mark.parametrize("name", ["fleet_query"])
@pytest.mark.parametrize(
    "bad", ["delete from x", "select 1; select 2", "select * from curl where url='http://x'", "attach 'x'", "x" * 3_000]
)
def test_only_one_reading_query_is_sent(site, name, bad):
    with pytest.raises(DataError) as caught:
        site.perform(query=bad)
    assert caught.value.code == "action.query.refused"
    assert site.remote.requests == []


@pytest.mark.parametrize("name", ["rescreen"])
def test_a_room_that_is_not_open_here_is_told(site, name):
    site.reach = Reach(site.reach.egress, site.reach.secret, site.clock, site.reach.folder, {})
    with pytest.raises(VedetteError) as caught:
        site.perform()
    assert caught.value.code == "action.unavailable"


def test_the_contract_sees_an_action_that_ignores_its_key(tmp_path, clock):
    """A planted bug: a chat message under a new key at every call."""
    with ExitStack() as stack:
        site = Site(stack, "chat_post", tmp_path, clock, "")
        honest = site.action

        def careless(call, reach):
            return honest.perform(msgspec.structs.replace(call, key=f"{call.key}{len(site.remote.effects)}"), reach)

        site.action = Action(honest.signature, careless, honest.preview)
        with pytest.raises(AssertionError):
            test_a_repeat_has_one_effect_with_and_without_our_own_record(site, "chat_post")
