"""One installation under test with two tenants, and one object of each kind that a route can name."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace

import httpx
import msgspec
from fastapi.routing import iter_route_contexts

from vedette.act.bounty.rubric import Facts
from vedette.act.reviewing.tables import item_id
from vedette.core.clock import SystemClock, to_iso
from vedette.core.decision import Action, Decision
from vedette.core.event import Entity
from vedette.core.log import Record
from vedette.core.settings import load_settings
from vedette.core.signal import Level, Signal
from vedette.judge.payment.files import load_rules
from vedette.judge.payment.lists import ItemType
from vedette.prove.access import POLICY, Mode, Role
from vedette.prove.access.policy import Level as Reach
from vedette.run.investigation.hunts import Hunts, SavedHunt
from vedette.run.investigation.questions import Kind, Question
from vedette.run.investigation.searches import Search, Searches
from vedette.run.investigation.steps import Steps
from vedette.run.payments.scoring import Scoring
from vedette.run.platform import Platform
from vedette.sense.intel.attack import Attack, Group, Tactic, Technique
from vedette.sense.intel.bundle import Imported, keep_attack
from vedette.sense.intel.indicator import Indicator, indicator_id
from vedette.sense.intel.shelf import keep_status
from vedette.sense.intel.stix import Object
from vedette.serve.app import build_api, build_app

TENANT, OTHER = "acme", "globex"
HOST = "http://api"
MERCHANT, STRANGER = "m_9", "m_stranger"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
ALL_SCOPES = {resource: Reach.WRITE for (resource, _), need in POLICY.items() if need.key}
LENT_SCOPES = {resource: Reach.WRITE for (resource, _), need in POLICY.items() if need.app}
READ_SCOPES = dict.fromkeys(ALL_SCOPES, Reach.READ)
TRAIL = {
    "eventID": "e-1",
    "eventTime": "2026-03-02T10:00:00Z",
    "eventName": "GetCallerIdentity",
    "eventSource": "sts.amazonaws.com",
    "sourceIPAddress": "198.51.100.7",
}
TRAIL_TIME = 1_772_445_600_000_000
RULES = "block if :amount_in_usd: > 400\nchallenge if :amount_in_usd: > 250\n"


def fresh():
    """A new idempotency key."""
    return uuid.uuid4().hex


def card(number, amount=12.5, **changes):
    """An event that can be decided on."""
    event = {
        "TRANSACTION_ID": number,
        "TX_DATETIME": "2026-03-02 10:00:00",
        "CUSTOMER_ID": 7,
        "TERMINAL_ID": 9,
        "TX_AMOUNT": amount,
    }
    return {**event, **changes}


def charge(amount=1999, **changes):
    """A request for a charge."""
    wanted = {"amount_minor": amount, "currency": "EUR", "source": "tok_4f2a", "merchant": MERCHANT, "metadata": {}}
    return {**wanted, **changes}


def signal(number, key_id, account=MERCHANT, tenant=TENANT):
    return Signal(
        id=f"sig-{tenant}-{number}",
        tenant=tenant,
        rule_id=f"rule-{number}",
        rule_version="v1",
        title="API key used from a new place",
        level=Level.HIGH,
        event_id=f"ev-{number}",
        event_time=1_700_000_000_000_000,
        source="cloudtrail",
        entities=(Entity("key", key_id), Entity("account", account), Entity("ip", "198.51.100.7")),
        tags=("attack.t1078",),
        why={"sourceIPAddress": "198.51.100.7"},
    )


class World:
    """A platform with its application, not serving on any port.

    Args:
        home: Folder of its data.
        scoring: What decides; two rules by default.
        egress: Private addresses that may be reached.
        detection: Sigma rules that run on the stream; none by default.
        patience: Times the deadlines of decisions; 1 where a test looks at them.
        more: Further variables of the environment.
    """

    def __init__(self, home, scoring=None, egress="", detection=None, patience=1_000, **more):
        environ = {
            "VEDETTE_HOME": str(home),
            "VEDETTE_TENANT": TENANT,
            "VEDETTE_EGRESS_ALLOW": egress,
            "VEDETTE_ADDRESSES": HOST,
            "VEDETTE_PATIENCE": str(patience),
            **more,
        }
        settings = load_settings(None, environ)
        rules = home / "payment.rules"
        rules.write_text(RULES)
        scoring = scoring or Scoring(rules=load_rules(rules))
        self.platform = Platform(settings, clock=SystemClock(), scoring=scoring, detection=detection)
        self.platform.access.create_tenant(OTHER)
        for tenant in (TENANT, OTHER):
            self.platform.desk.open(tenant)
        self.app = build_app(self.platform)
        self.api = build_api(self.platform)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="server")
        self.thread.start()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=HOST)
        self.full = self.key(ALL_SCOPES)
        self.chief = self.staff(Role)
        self.send(
            "POST",
            "/v1/events",
            self.full,
            content=json.dumps(TRAIL).encode(),
            params={"source": "cloudtrail", "batch": "first"},
        )
        self.platform.drain()

    def close(self):
        self.wait(self.client.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.platform.close()

    def wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(240)

    # Callers

    def issue(self, scopes, tenant=TENANT, accounts=()):
        return self.platform.access.issue_key(tenant, scopes=scopes, mode=Mode.TEST, accounts=accounts)

    def key(self, scopes, tenant=TENANT, accounts=()):
        return self.issue(scopes, tenant, accounts).secret.reveal()

    def person(self, role, tenant=TENANT, accounts=()):
        """Id and personal token of somebody with a role."""
        person = self.platform.access.people.create(tenant, f"some {role}", accounts=accounts)
        self.platform.access.people.grant(tenant, person.id, Role(role), by="system")
        return person.id, self.token(tenant, person.id)

    def connect(self, scopes, platform=OTHER, account=TENANT, **more):
        """Lets a platform act in an account; gives the connection."""
        wanted = {"mode": Mode.TEST, "expires_s": 86_400, "by": "per_owner"} | more
        return self.platform.access.connections.give(account, platform, scopes=scopes, **wanted)

    def app_token(self, scopes, tenant=TENANT, account=""):
        """A token of a fresh app."""
        apps = self.platform.access.apps
        made = apps.create(tenant, "some app", scopes=scopes, mode=Mode.TEST, by="system")
        return apps.token(made.app.id, made.secret, account=account).token.reveal()

    def staff(self, roles, tenant=TENANT):
        """Personal token of somebody with several roles."""
        person = self.platform.access.people.create(tenant, "somebody")
        for role in roles:
            self.platform.access.people.grant(tenant, person.id, role, by="system")
        return self.token(tenant, person.id)

    def able(self, policy):
        """A secret that may use a route."""
        if policy.open:
            return ""
        return self.full if POLICY[policy.resource, policy.verb].key else self.chief

    def token(self, tenant, person_id):
        return self.platform.access.issue_token(tenant, person_id, by="system").secret.reveal()

    # Requests

    def send(self, method, path, secret="", *, json_body=None, content=None, headers=None, key=None, params=None):
        sent = dict(headers or {})
        if secret:
            sent["authorization"] = f"Bearer {secret}"
        if key is not None:
            sent["idempotency-key"] = key
        if json_body is not None:
            content = json.dumps(json_body).encode()
            sent.setdefault("content-type", "application/json")
        return self.wait(self.client.request(method, path, headers=sent, content=content, params=params))

    def post(self, path, secret, body=None, **more):
        return self.send("POST", path, secret, json_body=body, **more)

    # The route table

    def routes(self):
        """(method, path, operation of the OpenAPI description) of every route."""
        described = self.api.openapi()["paths"]
        for route in iter_route_contexts(self.api.routes):
            path = route.path_format
            if path in described:
                for method in sorted(route.methods):
                    yield method, path, described[path][method.lower()]

    def ask(self, method, path, operation, secret, ids, *, account=""):
        """Sends the route's own example with the ids put into its path; everything the description says is needed."""
        missing = [name for name in PLACEHOLDER.findall(path) if ids.get(name) is None]
        assert not missing, f"{path}: no object for {missing}: add it to Objects"
        params = {
            each["name"]: each["schema"]["examples"][0]
            for each in operation.get("parameters", [])
            if each["in"] == "query" and each["required"]
        }
        media = next(iter(operation.get("requestBody", {}).get("content", {}).items()), None)
        content, headers = None, {"idempotency-key": fresh()} | ({"vedette-account": account} if account else {})
        if media:
            kind, described = media
            example = ids.get(("body", method, path), described["example"])
            content = example if isinstance(example, str) else json.dumps(example)
            headers["content-type"] = kind
        return self.send(method, path.format_map(ids), secret, content=content, headers=headers, params=params)


def indicator_of_value(world, tenant):
    """The id of a fresh indicator of the tenant."""
    name = f"n{fresh()[:8]}.evil.example"
    own = indicator_id("own", name)
    made = Indicator(id=own, formula=((name,),), valid_from=1)
    world.platform.library.put(tenant, "own", [Object(id=own, type="indicator", indicator=made)])
    return own


def actor_of_attack(world):
    """The id of a group of an imported ATT&CK, which is every tenant's."""
    brute = Technique("T1110", "Brute Force", ("credential-access",))
    tactic = Tactic("TA0006", "Credential Access", "credential-access")
    group = Group("G0016", "Some Bear", ("Another Bear",), ("T1110",))
    attack = Attack("18.1", "", {brute.id: brute}, (tactic,), {group.id: group})
    keep_attack(world.platform.settings.home, Imported(attack, "here", 1))
    return group.id


def exchanged(world, tenant, indicator):
    """What the paths of TAXII name."""
    keep_status(world.platform.library, tenant, "status-1", b'{"id":"status-1"}')
    return {"root": tenant, "collection": "own", "object_id": indicator, "status_id": "status-1"}


class Fresh(dict):
    """Objects by their names; those that nobody has asked for are not made yet."""

    def __init__(self, objects):
        super().__init__()
        self.objects = objects

    def __missing__(self, name):
        self.update(self.objects.names()[name](self.objects, self))
        return self[name]

    def get(self, name, default=None):
        return self[name] if name in self.objects.names() else default


class Objects:
    """One object of each kind that a path can name, all of them a tenant's."""

    def __init__(self, world, tenant=TENANT):
        self.world, self.tenant = world, tenant
        self.secret = world.key(ALL_SCOPES, tenant)
        self.requester, _ = world.person("analyst", tenant)
        self.parts, self.looked_at = {}, {}

    def of(self, method):
        """The same ones for every look, which changes none of them; for what may, fresh ones of what is asked for."""
        self.names()
        return self.looked_at if method == "GET" else Fresh(self)

    def host(self):
        """Its host of which events of processes are stored; the same one each time."""
        name = f"host-of-{self.tenant}"
        data = {
            "EventID": 1,
            "Channel": "Microsoft-Windows-Sysmon/Operational",
            "Computer": name,
            "ProcessGuid": "{A-1}",
        }
        data |= {"UtcTime": "2026-03-02 10:00:00.000", "ProcessId": "7", "Image": "a.exe", "CommandLine": f"a {name}"}
        source = self.world.platform.sources["windows"]
        event = source.to_event(data, tenant=self.tenant, stream=name, offset=0, ingest_time=TRAIL_TIME)
        self.world.platform.store.append(source, [event])
        return name

    def asked(self, made):
        """A saved search, a hunt and a step of a case."""
        platform, tenant, me = self.world.platform, self.tenant, self.requester
        case, number = made["case_id"], uuid.uuid4().int >> 90
        question = Question(kind=Kind.SQL, text="select 1 as one")
        search, hunt = f"search-{number:x}", f"hunt-{number:x}"
        Searches(platform).save(tenant, Search(name=search, question=question, owner=me, shared=True))
        saved = SavedHunt(name=hunt, hypothesis="x", sql="select 1 as one where false", author=me)
        hunts = Hunts(platform, platform.store)
        hunts.save(tenant, saved)
        hunts.run(tenant, hunt, operator=me)
        step = Steps(platform, platform.store).take(tenant, case, question, operator=me)
        return {
            "search": search,
            "hunt": hunt,
            "step_id": step.id,
            ("body", "POST", "/v1/hunts"): {"name": f"{hunt}-more", "hypothesis": "x", "sql": "select 1 as one"},
            ("body", "POST", "/v1/searches"): {
                "name": f"{search}-more",
                "question": {"kind": "value", "text": "198.51.100.7"},
            },
        }

    def make(self):
        """Fresh ones of all kinds, by the name of the path's parameter; bodies by `("body", method, path)`."""
        made = Fresh(self)
        for part in PARTS:
            made.update(part(self, made))
        return dict(made)

    def names(self):
        """What each part makes."""
        if not self.parts:
            self.looked_at = Fresh(self)
            for part in PARTS:
                found = part(self, self.looked_at)
                self.parts |= dict.fromkeys(found, part)
                self.looked_at.update(found)
        return self.parts

    def money(self, _made):
        """A charge with its dispute, a payout, and a decision."""
        world, secret = self.world, self.secret
        charged = world.post("/v1/charges", secret, charge(200_000), key=fresh()).json()
        payout = world.post(
            "/v1/payouts", secret, {"amount_minor": 10, "currency": "EUR", "merchant": MERCHANT}, key=fresh()
        ).json()
        number = uuid.uuid4().int >> 90  # at most 12 digits: a longer one is a card number now and then
        decided = world.post(
            "/v1/decisions", secret, {"event": card(number, CUSTOMER_ID=number, merchant=MERCHANT)}
        ).json()
        world.platform.sightings.consume(world.platform.log)
        return {
            "charge_id": charged["id"],
            "payout_id": payout["id"],
            "dispute_id": self.dispute(),
            "merchant": MERCHANT,
            "event_id": decided["event_id"],
            "trace_id": charged["id"],
            "type": "customer",
            "id": str(number),
            ("body", "POST", "/v1/disputes"): self.disputed(charged["id"]),
            ("body", "POST", "/v1/decisions"): {"event": card(number + 1)},
            ("body", "POST", "/v1/labels"): {"event_id": decided["event_id"], "fraud": True},
        }

    def access(self, _made):
        """A person, its token, an app and a connection; a list."""
        world, tenant = self.world, self.tenant
        person = world.platform.access.people.create(tenant, "somebody")
        app = world.platform.access.apps.create(tenant, "some app", scopes=LENT_SCOPES, mode=Mode.TEST, by="system")
        alias = f"list_{uuid.uuid4().hex[:12]}"
        return {
            "person_id": person.id,
            "token_id": world.platform.access.issue_token(tenant, person.id, by="system").id,
            "app_id": app.app.id,
            "connection_id": world.connect(LENT_SCOPES, platform="nobody", account=tenant).id,
            "role": "analyst",
            "tenant": tenant,
            "alias": alias,
            "seq": world.platform.lists.add(
                tenant, alias, ["a@b.example"], operator="system", item_type=ItemType.EMAIL
            )[0].seq,
            ("body", "POST", "/v1/oauth/token"): "grant_type=client_credentials&"
            f"client_id={app.app.id}&client_secret={app.secret.reveal()}",
        }

    def response(self, _made):
        """A stolen key, its alert with a run that waits for an approval, and the case with its work."""
        world, tenant = self.world, self.tenant
        doomed = world.issue(READ_SCOPES, tenant)
        alert_id, run = self.run(doomed.key.id)
        case = world.platform.cases.of_alert(tenant, alert_id)
        work = {"operator": self.requester}
        other_alert, _ = self.run(world.issue(READ_SCOPES, tenant).key.id)
        both = [alert_id, other_alert]
        world.platform.merging.merge(tenant, both, title="One key", **work)
        task = world.platform.work.add_task(tenant, case, "call them", **work)
        hypothesis = world.platform.work.suppose(tenant, case, "a build log", **work)
        world.platform.clocks.start(tenant, case, "gdpr_33", **work)
        changed = world.platform.triage.change(tenant, [alert_id], operator=self.requester, assignee=self.requester)
        return {
            "key_id": doomed.key.id,
            "alert_id": alert_id,
            "change_id": changed.id,
            "case_id": case,
            "run_id": run.id,
            "playbook": "compromised_api_key",
            "task_id": task.id,
            "hypothesis_id": hypothesis.id,
            "notice": "gdpr_33",
            "case_role": "analyst",
            "part": "found",
            ("body", "POST", "/v1/cases/{case_id}/alerts"): {"alert_id": alert_id},
            ("body", "POST", "/v1/playbooks/runs/{run_id}/approvals"): {"approve": True, "seen": run.approval.hash},
            ("body", "POST", "/v1/alerts/changes"): {"alerts": [alert_id], "state": "in_progress"},
            ("body", "POST", "/v1/alert-merges"): {"alerts": both, "title": "One key"},
            ("body", "POST", "/v1/alert-merges/undo"): {"alerts": both},
            ("body", "POST", "/v1/alert-snoozes"): {
                "alerts": both,
                "until": world.platform.clock.now() + 60_000_000,
                "reason": "known",
            },
            ("body", "POST", "/v1/playbooks/runs"): {"playbook": "compromised_api_key", "alert_id": alert_id},
        }

    def knowledge(self, _made):
        """A host of the logs, an indicator, and a group of ATT&CK."""
        bad = indicator_of_value(self.world, self.tenant)
        return {
            "host": self.host(),
            "indicator_id": bad,
            "actor": actor_of_attack(self.world),
            **exchanged(self.world, self.tenant, bad),
        }

    def reported(self):
        """A report of a weakness that was triaged."""
        bounty = self.world.platform.bounty
        text = {"title": "Notes of others", "text": "Change the id.", "reporter": "mira", "asset": "api"}
        made = bounty.file(self.tenant, operator=self.requester, **text)
        return bounty.triage(
            self.tenant, made.id, Facts(cwe="CWE-639", verified=True), root="", operator=self.requester
        ).id

    def review(self):
        """A decision that somebody has to look at."""
        platform, event_id = self.world.platform, uuid.uuid4().hex
        event = {"amount_minor": 5_000, "currency": "EUR", "merchant": MERCHANT}
        made = Decision(
            event_id=event_id,
            tenant=self.tenant,
            action=Action.REVIEW,
            score=0.5,
            risk_score=50,
            source="product",
            event=event,
        )
        platform.review_intake.apply([Record(0, "", msgspec.json.encode(made), platform.clock.now())])
        return item_id(self.tenant, event_id)

    def disputed(self, charge_id):
        """What the card network tells of a charge."""
        due = to_iso(self.world.platform.clock.now() + 10 * 86_400_000_000)
        return {"charge": charge_id, "reason": "fraudulent", "evidence_due": due}

    def dispute(self):
        charged = self.world.post("/v1/charges", self.secret, charge(3_000), key=fresh()).json()
        opened = self.world.post("/v1/disputes", self.secret, self.disputed(charged["id"]), key=fresh())
        return opened.json()["id"]

    def dead_letter(self):
        """A webhook endpoint, and a delivery to it that is dead."""
        platform = self.world.platform
        endpoint, _ = platform.add_endpoint(self.tenant, "https://merchant.example/hook")
        with platform.money.begin() as connection:
            platform.outbox.emit(connection, self.tenant, "test.event", {"id": "one"})
        held = next(each for each in platform.dispatcher.lease(100_000) if each.endpoint_id == endpoint)
        assert platform.dispatcher.settle(replace(held, attempts=99), 500)
        return {"endpoint_id": endpoint, "message_id": held.event_id}

    def run(self, key_id):
        """An alert about a key, and the run that answers it, once it waits for its approval."""
        platform = self.world.platform
        number = uuid.uuid4().hex
        # On an event that is at hand: a case turns into a test of its events.
        raised = msgspec.structs.replace(
            signal(number, key_id, tenant=self.tenant), event_id=TRAIL["eventID"], event_time=TRAIL_TIME
        )
        platform.alerts.apply([(raised, TRAIL_TIME)])
        alert = next(a for a in platform.alerts.find(self.tenant, limit=500) if a.rule_id == f"rule-{number}")
        playbook = platform.playbook("compromised_api_key")
        run = platform.responder.start(self.tenant, playbook, alert.id, requester=self.requester)
        return alert.id, wait_for(lambda: platform.responder.show(self.tenant, run.id), lambda one: one.approval)


PARTS = (
    Objects.money,
    Objects.access,
    Objects.response,
    Objects.asked,
    Objects.knowledge,
    lambda objects, _made: {"review_id": objects.review()},
    lambda objects, _made: {"report_id": objects.reported()},
    lambda objects, _made: objects.dead_letter(),
)
"""What makes objects; each is given those that there are."""


def wait_for(look, done, seconds=240.0):
    """What `look` gives once `done` says so: for work that other threads do."""
    deadline = time.monotonic() + seconds
    while not done(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def code_of(response):
    """The error code of an answer; empty when it is none."""
    with suppress(ValueError, TypeError, AttributeError):
        return response.json().get("error", {}).get("code", "")
    return ""
