"""Incidents to play: scripts of raw records and payments, as an attack leaves them in the logs and at the payment API.

A script is data (`content/incidents`). Its records go in by the same door as any other and its payments are charges
like any other; what is made of them is not written down in it. Playing one into an installation shows detection,
grouping, the case and its money on something known.

    story = load_story("card_testing")
    played = play(story, Inside(platform), platform.sources, now=platform.clock.now())
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vedette.core.clock import MICROS, seconds_of
from vedette.core.content import shipped
from vedette.core.documents import load_yaml
from vedette.core.errors import DataError, DefinitionError, NotFoundError
from vedette.prove.access import Mode
from vedette.prove.access.policy import Level as Reach
from vedette.run.platform import Platform
from vedette.run.rules.rule_tests import as_delivered, filled
from vedette.sense.sources import Source

MAX_COUNT = 1_000
"""Most records or payments of one step."""
SCOPES = {"charges": Reach.WRITE, "refunds": Reach.WRITE}


class Scene(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some records of one source, some payments, or some that are given back. `{n}` in texts is its number from 0."""

    name: str = ""
    source: str = ""
    event: dict[str, Any] | None = None
    """The record, in the source's own field names; time and id are filled in where it has none."""
    at: str = "0s"
    """Event time of the first, from the start of the story; `-10d` is before it. Payments happen when played."""
    count: int = 1
    every: str = "0s"
    charge: dict[str, Any] | None = None
    """Body of a charge."""
    key: str = "shop"
    """Which key of the story pays."""
    refund: str = ""
    """Name of an earlier scene: the first `count` of its payments that went through are given back."""
    reason: str = "requested_by_customer"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What people do about it."""

    playbook: str
    about: str
    """Type of the entity whose alert it is started from."""
    inputs: dict[str, str] = {}


class Story(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One incident."""

    id: str
    title: str
    told: str
    """What happened, for people."""
    lasts: str
    """How long its records take; the last of them is now."""
    keys: tuple[str, ...] = ("shop",)
    """API keys that are made for it. `{key.NAME}` in a text is the id of one, `{play}` differs each time."""
    scenes: tuple[Scene, ...]
    answer: Answer


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that was asked for, and what was answered."""

    scene: str
    request: dict[str, Any]
    answer: dict[str, Any]


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent."""

    story: str
    play: str
    """What `{play}` was."""
    start: int
    """Microseconds UTC."""
    records: dict[str, int]
    """Source -> how many."""
    payments: tuple[Paid, ...] = ()
    returned: tuple[Paid, ...] = ()
    """Payments that were given back."""
    keys: dict[str, str] = {}
    """Name -> id."""


class Door(Protocol):
    """How records and payments come in."""

    def make_key(self, name: str) -> str:
        """Makes an API key; gives its id."""

    def push(self, source: str, lines: bytes) -> None:
        """Records of a source, a line each."""

    def charge(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Asks for a payment with the key of that name; gives the answer's body."""

    def refund(self, charge_id: str, body: dict[str, Any]) -> None:
        """Gives a payment back."""


class Inside:
    """The doors of a platform in this process.

    Args:
        platform: Where it is played.
        tenant: Whose; that of the settings by default.
    """

    def __init__(self, platform: Platform, tenant: str = "") -> None:
        self._platform = platform
        self._tenant = tenant or platform.settings.tenant
        self._keys: dict[str, str] = {}

    def make_key(self, name: str) -> str:
        """Makes an API key of test mode; nobody is told its secret."""
        issued = self._platform.access.issue_key(self._tenant, scopes=SCOPES, mode=Mode.TEST, name=f"story: {name}")
        self._keys[name] = issued.key.id
        return issued.key.id

    def push(self, source: str, lines: bytes) -> None:
        """Records, by the intake."""
        self._platform.intake(self._tenant).push(source, secrets.token_hex(16), lines)

    def charge(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """A charge, by the path of all charges."""
        made = self._platform.charges.create(self._tenant, secrets.token_hex(16), body, api_key=self._keys[key])
        answer: dict[str, Any] = msgspec.json.decode(made.body)
        return answer

    def refund(self, charge_id: str, body: dict[str, Any]) -> None:
        """A refund, likewise."""
        self._platform.charges.refund(self._tenant, secrets.token_hex(16), charge_id, body)


def stories() -> dict[str, Story]:
    """The shipped stories by their ids."""
    found = (read_story(path) for path in sorted(shipped("incidents").glob("*.yaml")))
    return {story.id: story for story in found}


def load_story(name: str) -> Story:
    """A shipped story.

    Raises:
        NotFoundError: `incident.story.unknown`.
    """
    known = stories()
    if name not in known:
        hint = f"one of {', '.join(known)}"
        raise NotFoundError("incident.story.unknown", "no such incident to play", hint=hint, at=name[:64])
    return known[name]


def read_story(path: Path) -> Story:
    """A story of a file.

    Raises:
        DefinitionError: `incident.story.invalid`; `documents.yaml.*`.
    """
    document = load_yaml(path.read_bytes(), path=str(path))
    try:
        story = msgspec.convert(document.data, Story)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `")
        span = document.span(place.removesuffix("`") or "$")
        raise DefinitionError("incident.story.invalid", text, span=span) from error
    problem = _problem(story)
    if problem:
        raise DefinitionError("incident.story.invalid", problem, span=document.span())
    return story


def _problem(story: Story) -> str:
    names = {scene.name for scene in story.scenes if scene.charge}
    for number, scene in enumerate(story.scenes, 1):
        kinds = (bool(scene.source and scene.event), scene.charge is not None, bool(scene.refund))
        if sum(kinds) != 1:
            return f"scene {number} must be records of a source, charges or refunds"
        if not 1 <= scene.count <= MAX_COUNT:
            return f"scene {number} must have 1 to {MAX_COUNT} of them"
        if scene.refund and scene.refund not in names:
            return f"scene {number} gives back payments of `{scene.refund}`, which there is not"
        if scene.charge and scene.key not in story.keys:
            return f"scene {number} pays with the key `{scene.key}`, which the story does not make"
        if seconds_of(scene.at.removeprefix("-")) is None or seconds_of(scene.every) is None:
            return f"scene {number} has a time that is none"
    return "" if seconds_of(story.lasts) else "`lasts` is no span of time"


def play(story: Story, door: Door, sources: Mapping[str, Source], *, now: int) -> Played:
    """Plays a story: its scenes in their order, the last record now.

    Args:
        story: Which.
        door: Where to.
        sources: The known sources.
        now: Microseconds UTC.

    Raises:
        DataError: `sources.name.unknown`; what the doors refuse.
    """
    token = secrets.token_hex(4)
    keys = {name: door.make_key(name) for name in story.keys}
    start = now - (seconds_of(story.lasts) or 0) * MICROS
    records: dict[str, int] = {}
    payments: list[Paid] = []
    returned: list[Paid] = []
    for scene in _with_names(story, token, keys):
        if scene.event is not None:
            if scene.source not in sources:
                raise DataError("sources.name.unknown", f"the story names the source `{scene.source}`, which is none")
            door.push(scene.source, b"\n".join(_lines(scene, sources[scene.source], start)))
            records[scene.source] = records.get(scene.source, 0) + scene.count
        elif scene.charge is not None:
            for number in range(scene.count):
                body = filled(scene.charge, number)
                payments.append(Paid(scene=scene.name, request=body, answer=door.charge(scene.key, body)))
        else:
            through = [one for one in payments if one.scene == scene.refund and one.answer["status"] == "captured"]
            for one in through[: scene.count]:
                door.refund(one.answer["id"], {"reason": scene.reason})
                returned.append(one)
    return Played(
        story=story.id,
        play=token,
        start=start,
        records=records,
        payments=tuple(payments),
        returned=tuple(returned),
        keys=keys,
    )


def with_names(value: Any, token: str, keys: Mapping[str, str]) -> Any:
    """A value whose texts say `{play}` and `{key.NAME}`, with those of a play."""
    match value:
        case str():
            for name, held in (("play", token), *((f"key.{each}", key) for each, key in keys.items())):
                value = value.replace(f"{{{name}}}", held)
            return value
        case dict():
            return {name: with_names(each, token, keys) for name, each in value.items()}
        case list():
            return [with_names(each, token, keys) for each in value]
    return value


def _with_names(story: Story, token: str, keys: Mapping[str, str]) -> Sequence[Scene]:
    named: list[Scene] = [
        msgspec.convert(with_names(msgspec.to_builtins(scene), token, keys), Scene) for scene in story.scenes
    ]
    return named


def _lines(scene: Scene, source: Source, start: int) -> Iterator[bytes]:
    before = scene.at.startswith("-")
    first = start + (-1 if before else 1) * (seconds_of(scene.at.removeprefix("-")) or 0) * MICROS
    for number in range(scene.count):
        time = first + number * (seconds_of(scene.every) or 0) * MICROS
        yield as_delivered(source, filled(scene.event, number), time, secrets.token_hex(16))
