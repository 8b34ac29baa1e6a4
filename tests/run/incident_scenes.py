"""What every scripted incident is held to: a table of what each must show, and one installation with people in it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from remotes import Okta, serve
from serve_world import TENANT, World, fresh, wait_for

from vedette.core.content import shipped
from vedette.judge.sigma.files import RuleFile
from vedette.judge.sigma.logsources import LogSources
from vedette.prove.access import Mode
from vedette.run.cases.incidents import SCOPES, load_story, play, with_names
from vedette.run.payments.scoring import load_scoring
from vedette.run.pipeline.detection import load_detection
from vedette.run.rules.rule_tests import RuleTests
from vedette.sense.sources import load_sources

SOURCES = load_sources()
PLACES = LogSources({name: source.logsource for name, source in SOURCES.items()})


@dataclass(frozen=True)
class Expected:
    """What an incident must come to."""

    about: set[str]
    """Types of what its groups are about."""
    stages: list[str]
    """Techniques, in the order in which they must be seen."""
    gaps: set[str]
    """Some of the tactics between of which nothing is seen."""
    root: str
    """Field and value of the event that is its cause."""
    source: str
    rule: str
    """The detection of the rule that a case is to teach; `MENDED` stands for what its mending adds."""
    broken: str
    mended: str
    answers: set[str] = field(default_factory=lambda: {"captured"})
    """What payments are answered with."""
    honest: set[str] = field(default_factory=set)
    """Scenes whose payments are nobody's harm."""


EXPECTED = {
    "stolen_api_key": Expected(
        about={"key", "user", "ip", "merchant"},
        stages=["attack.t1555.006", "attack.t1657"],
        gaps={"persistence", "exfiltration"},
        root="eventName=GetSecretValue",
        source="cloudtrail",
        rule="{eventName: GetSecretValue, userAgent|startswith: MENDED}",
        broken="[curl/, python-requests/]",
        mended="[curl/, python-requests/, aws-cli/]",
        answers={"captured", "blocked"},
    ),
    "card_testing": Expected(
        about={"device", "ip", "key", "merchant"},
        stages=["attack.t1657"],
        gaps={"execution"},
        root="cvc_check=fail",
        source="decision",
        rule="{cvc_check: MENDED}",
        broken="unavailable",
        mended="[unavailable, fail]",
        answers={"captured", "challenged", "blocked"},
        honest={"honest", "late"},
    ),
    "insider_export": Expected(
        about={"user"},
        stages=["attack.t1213", "attack.t1213.006", "attack.t1567.002", "attack.t1567"],
        gaps={"command-and-control"},
        root="type=customers.exported",
        source="postgres",
        rule="{message|contains: MENDED}",
        broken="pg_read_file",
        mended="[pg_read_file, TO STDOUT]",
        honest={"honest"},
    ),
    "phishing_to_cloud_admin": Expected(
        about={"user", "key"},
        stages=[
            *("attack.t1566.002", "attack.t1078.004", "attack.t1098.003", "attack.t1136.003", "attack.t1098.001"),
            "attack.t1685.002",
        ],
        gaps={"execution", "stealth"},
        root="Operation=TIUrlClickData",
        source="m365",
        rule="{Operation: TIUrlClickData, URLClickAction: MENDED}",
        broken="5",
        mended="[4, 5]",
        honest={"honest"},
    ),
}

RULE = """\
title: What the case taught
id: 7d0a1c1e-3a8e-4a53-8d60-1f6f0d0a6a01
status: test
logsource: LOGSOURCE
detection:
  selection: SELECTION
  condition: selection
level: high
vedette:
  owner: security
  tests:
    - name: nothing of it
      fires: false
      event: {note: none}
"""


def rule_of(expected, values):
    """The text of the rule a case is to teach."""
    place = {name: value for name, value in vars_of(SOURCES[expected.source].logsource).items() if value}
    selection = expected.rule.replace("MENDED", values)
    return RULE.replace("LOGSOURCE", json.dumps(place)).replace("SELECTION", selection)


def vars_of(place):
    return {name: getattr(place, name, "") for name in ("product", "category", "service")}


def unmet(text):
    """What is wrong with the tests of a rule file."""
    results = list(RuleTests([RuleFile("rule.yml", text.encode())], PLACES, SOURCES).run())
    assert results
    return [one.problem for one in results if not one.passed]


def money_of(played, honest):
    """Currency -> what was attempted, stopped, moved and returned: from the requests and their answers alone."""
    sums = {}
    for one in played.payments:
        if one.scene in honest:
            continue
        held = sums.setdefault(one.request["currency"], Counter())
        amount = one.request["amount_minor"]
        held["payments"] += 1
        held["attempted"] += amount
        held["stopped"] += amount if one.answer["status"] in {"blocked", "challenged"} else 0
        held["moved"] += amount if one.answer["status"] == "captured" else 0
    for one in played.returned:
        sums[one.request["currency"]]["returned"] += one.request["amount_minor"]
    return sums


class Incident:
    """An installation with the shipped rules, into whose API an incident is played, and people who answer it."""

    def __init__(self, folder, name, secrets):
        scoring = load_scoring(None, shipped("rules/payment") / "charges.yaml")
        detection = load_detection([shipped("rules/sigma")])
        self.world = World(folder, scoring=scoring, detection=detection, egress="127.0.0.1")
        self.platform = self.world.platform
        for secret, value in secrets.items():
            path = folder / "secrets" / secret
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(value))
            path.chmod(0o600)
        self.story = load_story(name)
        self.ana, self.ana_token = self.world.person("responder")
        self.bob, self.bob_token = self.world.person("risk")
        self.secrets = {}
        self.played = play(self.story, self, self.platform.sources, now=self.platform.clock.now())
        self.platform.drain()

    # The doors of a story, over HTTP

    def make_key(self, name):
        issued = self.platform.access.issue_key(TENANT, scopes=SCOPES, mode=Mode.LIVE)
        self.secrets[name] = issued.secret.reveal()
        return issued.key.id

    def push(self, source, lines):
        sent = {"source": source, "batch": fresh()}
        answer = self.world.send("POST", "/v1/events", self.world.full, content=lines, params=sent)
        assert answer.is_success, answer.text
        assert "quarantined" not in answer.text or not answer.json().get("quarantined"), answer.text

    def charge(self, key, body):
        answer = self.world.post("/v1/charges", self.secrets[key], body, key=fresh())
        assert answer.status_code == 201, answer.text
        return answer.json()

    def refund(self, charge_id, body):
        answer = self.world.post(f"/v1/charges/{charge_id}/refunds", self.world.full, body, key=fresh())
        assert answer.status_code == 201, answer.text

    # What people do

    def ask(self, method, path, who, body=None, status=(200, 201)):
        answer = self.world.send(method, path, who, json_body=body)
        assert answer.status_code in status, (path, answer.status_code, answer.text[:500])
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def answer(self, alerts):
        """Starts the story's playbook, sees it wait, has somebody else approve it; gives the finished run."""
        chosen = self.story.answer
        alert = next(each for each in alerts if each.entity and each.entity.type == chosen.about)
        given = with_names(chosen.inputs, self.played.play, self.played.keys)
        book = self.platform.playbook(chosen.playbook)
        responder = self.platform.responder
        run = responder.start(TENANT, book, alert.id, requester=self.ana, inputs=given)
        over = {"completed", "failed", "incomplete", "denied"}
        while True:
            now = wait_for(lambda: responder.show(TENANT, run.id), lambda one: one.approval or one.state in over)
            if not now.approval:
                return now, alert
            body = {"approve": True, "seen": now.approval.hash, "reason": "it is not theirs"}
            path = f"/v1/playbooks/runs/{run.id}/approvals"
            self.ask("POST", path, self.ana_token, body, (403, 409))
            self.ask("POST", path, self.bob_token, body)
            seen = now.approval.hash
            wait_for(
                lambda: responder.show(TENANT, run.id),
                lambda one, seen=seen: not one.approval or one.approval.hash != seen,
            )

    def close(self):
        self.world.close()


class Directory(Okta):
    """The identity provider, and the cloud account beside it, each on its own port."""

    def __init__(self, *people):
        super().__init__()
        self.users = dict.fromkeys(people, "ACTIVE")
        self.sessions = dict.fromkeys(people, 2)

    def handle(self, method, path, headers, body):
        return super().handle(method, unquote(path), headers, body)


@contextmanager
def systems(*people):
    """The other systems, as servers on loopback; gives them and the secrets that lead there."""
    from moto.server import ThreadedMotoServer

    okta = Directory(*people)
    with ExitStack() as stack:
        url = stack.enter_context(serve(okta))
        cloud = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        cloud.start()
        stack.callback(cloud.stop)
        host, port = cloud.get_host_and_port()
        aws = {"key_id": "AKIDEXAMPLE", "secret": "s3cr3t", "region": "eu-central-1", "url": f"http://{host}:{port}"}
        yield okta, aws, {"okta": okta.connection(url), "aws": aws}
