"""Whole playbooks and STIX bundles as Hypothesis draws them: mostly right, then broken in a few places."""

from __future__ import annotations

import copy
import json
import uuid
from datetime import date

from hypothesis import strategies as st

from vedette.act.connectors import SIGNATURES

# Junk

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["${", "${inputs.}", "${steps.a.b}", "${secrets.x}", "{{7*7}}", "\x00", "1e999", "\ud800", "30s"])
)
junk = st.recursive(
    leaves,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=6), each, max_size=3),
    max_leaves=6,
)
short_texts = st.text(max_size=6)
odd_keys = st.none() | st.booleans() | st.integers() | st.floats() | st.just(date(2026, 1, 1)) | st.text(max_size=4)


def places(value, path=()):
    """Every place of a document."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in pairs:
        yield from places(each, (*path, name))


@st.composite
def broken(draw, documents, *, keys=short_texts, values=junk):
    """A document with up to three places changed, taken out, doubled or renamed."""
    made = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        found = [path for path in places(made) if path]
        if not found:
            return made
        *above, name = draw(st.sampled_from(found))
        holder = made
        for step in above:
            holder = holder[step]
        match draw(st.sampled_from(["change", "drop", "double", "rename", "deepen"])):
            case "change":
                holder[name] = draw(values)
            case "drop":
                del holder[name]
            case "double" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[name]))
            case "rename" if isinstance(holder, dict):
                holder[draw(keys)] = holder.pop(name)
            case "deepen":
                for _ in range(draw(st.sampled_from([1, 9, 70]))):
                    holder[name] = [holder[name]]
    return made


# Playbooks

words = st.text("abcdefgh", min_size=1, max_size=6)
spans = st.sampled_from(["1s", "30s", "5m", "2h", "1d", 3, 0.5])
references = st.sampled_from(
    ["${alert.id}", "${alert.title}", "${inputs.who}", "${run.id}", "${alert.entities.key}", "${trigger.data.x}"]
)
comparisons = st.tuples(
    references | words | st.integers(0, 9), st.sampled_from(["=", "!=", ">", "<", ">=", "<="]), references | words
).map(list)
conditions = st.recursive(
    comparisons | references.map(lambda each: {"exists": each}),
    lambda each: (
        each.map(lambda one: {"not": one})
        | st.lists(each, min_size=1, max_size=3).map(lambda many: {"all": many})
        | st.lists(each, min_size=1, max_size=3).map(lambda many: {"any": many})
    ),
    max_leaves=4,
)
retries = st.fixed_dictionaries(
    {}, optional={"attempts": st.integers(1, 3), "delay": spans, "backoff": st.integers(1, 4), "max_delay": spans}
)
CALM = sorted(name for name, each in SIGNATURES.items() if not each.drastic)
DRASTIC = sorted(name for name, each in SIGNATURES.items() if each.drastic)


def arguments_of(draw, name):
    given = {}
    for argument, spec in SIGNATURES[name].arguments.items():
        if not spec.required and draw(st.booleans()):
            continue
        kinds = {
            str: references | words,
            int: st.integers(0, 9),
            bool: st.booleans(),
            list: st.lists(words, max_size=3),
        }
        given[argument] = "${secrets.there}" if spec.secret else draw(kinds[spec.type])
    return given


class Drawer:
    """Draws steps with ids that differ."""

    def __init__(self, draw):
        self.draw = draw
        self.count = 0

    def name(self):
        self.count += 1
        return f"s{self.count}"

    def steps(self, depth, most=3):
        return [each for _ in range(self.draw(st.integers(1, most))) for each in self.some(depth)]

    def some(self, depth):
        kinds = ["action", "guarded", "wait"] + (["if", "while", "parallel", "nested"] if depth < 3 else [])
        return getattr(self, self.draw(st.sampled_from(kinds)))(depth)

    def action(self, depth, name=None):
        draw = self.draw
        chosen = name or draw(st.sampled_from(CALM))
        step = {"id": self.name(), "type": "action", "action": chosen, "arguments": arguments_of(draw, chosen)}
        if draw(st.booleans()):
            step["retry"] = draw(retries)
        if draw(st.booleans()):
            step["timeout"] = draw(spans)
        if draw(st.booleans()):
            step["on_failure"] = draw(st.sampled_from(["stop", "continue"]))
        if SIGNATURES[chosen].undo and draw(st.booleans()):
            step["compensation"] = "undo"
        elif draw(st.integers(0, 4)) == 0:
            step["compensation"] = {"action": "notify", "arguments": {"text": "undone"}}
        if depth < 3 and draw(st.integers(0, 4)) == 0:
            step["on_error"] = self.action(depth + 1)
        return [step]

    def guarded(self, depth):
        """An approval, and what it covers."""
        (covered,) = self.action(3, self.draw(st.sampled_from(DRASTIC)))
        (seen,) = self.action(3, "snapshot_evidence")
        seen["arguments"] = {"alert_id": "${alert.id}"}
        ask = {"id": self.name(), "type": "approval", "title": "May it?", "covers": [covered["id"]]}
        ask |= {"deadline": self.draw(spans), "evidence": [seen["id"]]}
        if self.draw(st.booleans()):
            ask["escalate"] = {"after": "100ms", "to": "chief"}
        if self.draw(st.booleans()):
            ask["valid"] = self.draw(spans)
        if self.draw(st.booleans()):
            ask["on_denied"] = self.action(3)
        return [seen, ask, covered]

    def wait(self, _depth):
        return [{"id": self.name(), "type": "wait", "for": self.draw(spans)}]

    def nested(self, _depth):
        inputs = {"key_id": "k", "account": "a"} if self.draw(st.booleans()) else {}
        return [{"id": self.name(), "type": "playbook-action", "playbook": "compromised_api_key", "inputs": inputs}]

    def _if(self, depth):
        step = {"id": self.name(), "type": "if-condition", "condition": self.draw(conditions)}
        return [step | {"on_true": self.steps(depth + 1, 2), "on_false": self.steps(depth + 1, 1)}]

    def _while(self, depth):
        step = {"id": self.name(), "type": "while-condition", "condition": self.draw(conditions)}
        return [step | {"steps": self.steps(depth + 1, 2), "limit": self.draw(st.integers(1, 5)), "delay": "1s"}]

    def parallel(self, depth):
        branches = [self.steps(depth + 1, 1) for _ in range(self.draw(st.integers(2, 3)))]
        return [{"id": self.name(), "type": "parallel", "branches": branches}]


setattr(Drawer, "if", Drawer._if)
setattr(Drawer, "while", Drawer._while)
triggers = st.sampled_from(
    [
        {"type": "alert", "levels": ["high"]},
        {"type": "case"},
        {"type": "schedule", "every": "5m"},
        {"type": "webhook"},
    ]
)


@st.composite
def playbooks(draw):
    """A playbook that mostly loads."""
    drawer = Drawer(draw)
    book = {
        "id": "drawn",
        "version": draw(st.integers(1, 9)),
        "title": "Drawn",
        "owner": "team",
        "inputs": {
            "who": {
                "required": False,
                "from": "${alert.entities.user}",
                "type": draw(st.sampled_from(["text", "list"])),
            }
        },
        "secrets": ["there"],
        "steps": drawer.steps(0),
    }
    if draw(st.booleans()):
        book["triggers"] = draw(st.lists(triggers, max_size=2))
    if draw(st.booleans()):
        book["on_error"] = drawer.action(2)
    if draw(st.booleans()):
        book["caps"] = {"user": draw(st.integers(0, 9))}
    return book


# STIX

TYPES = (
    "indicator identity malware threat-actor attack-pattern campaign relationship sighting marking-definition report "
    "domain-name ipv4-addr file url extension-definition language-content x-own observed-data"
).split()
IDS = [str(uuid.UUID(int=number, version=4)) for number in range(6)]
patterns = st.sampled_from(
    [
        "[domain-name:value = 'evil.example']",
        "[ipv4-addr:value ISSUBSET '203.0.113.0/24'] OR [ipv6-addr:value = '2001:db8::1']",
        "[file:hashes.'SHA-256' = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
        "([url:value = 'http://a.example/x' AND email-addr:value = 'a@b.example']) START t'2026-01-01T00:00:00Z'",
        "[domain-name:value = 'a.example'] FOLLOWEDBY [domain-name:value = 'b.example'] WITHIN 5 SECONDS",
        "[a:b = '" + "x" * 200 + "']",
        "[" * 60 + "domain-name:value = 'a.example'" + "]" * 60,
        "(" * 90 + "[domain-name:value = 'a.example']" + ")" * 90,
    ]
) | st.text("[]()'=.:-\\ ANDORTabc%*^1", max_size=40)
times = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
) | st.sampled_from(["2026-13-01T00:00:00Z", "2026-01-01", "", "2026-01-01T00:00:00+05:00", "275760-09-13T00:00:00Z"])
named = st.builds(lambda kind, each: f"{kind}--{each}", st.sampled_from(TYPES), st.sampled_from(IDS))


@st.composite
def stix_objects(draw):
    kind = draw(st.sampled_from(TYPES))
    made = {"type": kind, "id": f"{kind}--{draw(st.sampled_from(IDS))}", "spec_version": "2.1"}
    made |= {"created": draw(times), "modified": draw(times)}
    match kind:
        case "indicator":
            made |= {"pattern": draw(patterns), "pattern_type": draw(st.sampled_from(["stix", "sigma", "yara"]))}
            made |= {"valid_from": draw(times), "confidence": draw(st.integers(-1, 101))}
            if draw(st.booleans()):
                made["valid_until"] = draw(times)
        case "relationship":
            made |= {"relationship_type": "indicates", "source_ref": draw(named), "target_ref": draw(named)}
        case "sighting":
            made |= {"sighting_of_ref": draw(named), "count": draw(st.integers(-1, 2**40)), "last_seen": draw(times)}
        case "marking-definition":
            made |= {"definition_type": "tlp", "definition": {"tlp": draw(st.sampled_from(["red", "green", "x"]))}}
        case "domain-name" | "ipv4-addr" | "url":
            made["value"] = draw(st.sampled_from(["evil.example", "203.0.113.7", "http://a.example/", "", "\x00"]))
        case "file":
            made["hashes"] = draw(st.dictionaries(st.sampled_from(["MD5", "SHA-256", "x"]), words, max_size=2))
    if draw(st.booleans()):
        made["object_marking_refs"] = draw(st.lists(named, max_size=2))
    if draw(st.booleans()):
        made["labels"] = draw(st.lists(words, max_size=2))
    if draw(st.booleans()):
        made["revoked"] = draw(st.booleans())
    return made


bundles = st.fixed_dictionaries(
    {"type": st.just("bundle"), "id": st.sampled_from(IDS).map("bundle--{}".format)},
    optional={"objects": st.lists(stix_objects(), max_size=6), "spec_version": st.just("2.1")},
)


@st.composite
def stix_bytes(draw):
    """A bundle or an envelope as it is sent: whole, broken as a document, or broken as text."""
    document = draw(bundles | broken(bundles) | broken(bundles))
    if draw(st.booleans()) and isinstance(document, dict):
        document = {"objects": document.get("objects", [])}
    raw = json.dumps(document).encode()
    if draw(st.integers(0, 5)) == 0 and raw:
        place = draw(st.integers(0, len(raw) - 1))
        raw = raw[:place] + draw(st.binary(max_size=4)) + raw[place + draw(st.integers(0, 3)) :]
    return raw
