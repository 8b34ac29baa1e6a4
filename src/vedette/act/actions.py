"""What a playbook can do: typed actions, each idempotent by the key it is called with.

An `Action` is a signature (checked when a playbook is loaded) and a callable (bound by `run`). The same key means the
same effect once, however often a killed process makes the call happen again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.errors import DataError, UnsupportedError

MAX_TEXT = 4_000
MAX_ITEMS = 1_000
"""Longest list that an argument takes."""


class Repeats(StrEnum):
    """How the other side tells a call that comes again, after a kill between the effect and its record."""

    KEY = "key"
    """It is sent the idempotency key, and counts each once."""
    STATE = "state"
    """The call asks for a state: disabled is disabled, however often."""
    MARK = "mark"
    """The effect carries the key as a mark, and the call looks for it first."""
    READS = "reads"
    """It changes nothing."""


class ActionCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an action."""

    tenant: str
    run_id: str
    step: str
    key: str
    """Idempotency key: run and step. The same key must have its effect once."""
    operator: str
    """Who it is done for: the run."""
    arguments: dict[str, Any]
    alert_id: str = ""
    case_id: str = ""


class Artefact(msgspec.Struct, frozen=True):
    """Something kept as evidence."""

    digest: str
    """SHA-256 of the stored bytes, hex."""
    reference: str
    what: str


class ActionResult(msgspec.Struct, frozen=True):
    """What an action gives back: plain values that later steps may refer to, and what it kept as evidence."""

    values: dict[str, Any] = {}
    evidence: tuple[Artefact, ...] = ()


Perform = Callable[[ActionCall], ActionResult]
Preview = Callable[[ActionCall], dict[str, Any]]


class Argument(msgspec.Struct, frozen=True):
    """One argument of an action."""

    type: type
    """`str`, `int`, `bool`, or `list` of texts."""
    required: bool = True
    secret: bool = False
    """The argument is the name of a secret: a playbook writes `${secrets.<name>}`, never a value."""


class Signature(msgspec.Struct, frozen=True):
    """What is known of an action without being able to perform it."""

    name: str
    text: str
    """One line: what it does in the world."""
    arguments: Mapping[str, Argument]
    drastic: bool = False
    """It may not run without a person's approval."""
    contains: bool = False
    """It takes the scene apart: what can be snapshotted is to be snapshotted first."""
    touches: Mapping[str, str] = {}
    """Kind of thing, such as `user` -> the argument that names it: the blast radius, which is capped."""
    scopes: tuple[str, ...] = ()
    """What its credential must be allowed to do at the other side, and nothing more."""
    repeats: Repeats = Repeats.STATE
    undo: str = ""
    """The action that takes it back, with the arguments they share; empty: it cannot be taken back."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Its arguments that name secrets."""
        return tuple(name for name, spec in self.arguments.items() if spec.secret)


def touched(signature: Signature, arguments: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Kind -> the things that a call touches."""
    found: dict[str, tuple[str, ...]] = {}
    for kind, name in signature.touches.items():
        value = arguments.get(name)
        each = value if isinstance(value, list) else [] if value is None else [value]
        found[kind] = tuple(dict.fromkeys(str(one) for one in each))
    return found


CHANGED = Argument(bool, required=False)
"""Of an action that takes another back: whether that one changed anything; if not, there is nothing to take back."""

SIGNATURES: dict[str, Signature] = {
    signature.name: signature
    for signature in (
        Signature(
            "snapshot_evidence",
            "keeps the alert, its signals and the risk of its entities as they are now, with a digest",
            {"alert_id": Argument(str)},
        ),
        Signature(
            "revoke_key",
            "ends an API key for good",
            {"key_id": Argument(str), "reason": Argument(str, required=False)},
            drastic=True,
            contains=True,
            touches={"key": "key_id"},
        ),
        Signature(
            "freeze_payouts",
            "stops every payout of an account until it is lifted by hand",
            {"account": Argument(str), "reason": Argument(str)},
            drastic=True,
            contains=True,
            touches={"account": "account"},
            repeats=Repeats.KEY,
            undo="unfreeze_payouts",
        ),
        Signature(
            "unfreeze_payouts",
            "lets the payouts of an account go on",
            {"account": Argument(str), "reason": Argument(str, required=False), "changed": CHANGED},
            touches={"account": "account"},
            repeats=Repeats.KEY,
        ),
        Signature(
            "notify",
            "tells people: an entry in the notification list, and a webhook when a secret names its address",
            {
                "text": Argument(str),
                "channel": Argument(str, required=False),
                "webhook": Argument(str, required=False, secret=True),
            },
            repeats=Repeats.KEY,
        ),
    )
}
"""The product's own actions; those on other systems are in `connectors`."""


class Actions:
    """Signatures with what performs them.

    Args:
        perform: Action name -> callable.
        preview: Action name -> what the call would touch (its blast radius), without touching it.
        signatures: Known actions; the shipped ones by default.
    """

    def __init__(
        self,
        perform: Mapping[str, Perform],
        preview: Mapping[str, Preview] | None = None,
        signatures: Mapping[str, Signature] | None = None,
    ) -> None:
        self._perform = dict(perform)
        self._preview = dict(preview or {})
        self.signatures = dict(SIGNATURES if signatures is None else signatures)

    def perform(self, name: str, call: ActionCall) -> ActionResult:
        """Performs an action once per key.

        Raises:
            UnsupportedError: `action.unavailable`: nothing performs it in this installation.
            DataError: `action.argument.invalid`.
        """
        self.check(name, call.arguments)
        if name not in self._perform:
            raise UnsupportedError(
                "action.unavailable", f"nothing performs `{name}` here", hint="name it in the settings of the run"
            )
        return self._perform[name](call)

    def preview(self, name: str, call: ActionCall) -> dict[str, Any] | None:
        """What the call would touch; None when the action offers no look ahead."""
        return self._preview[name](call) if name in self._preview else None

    def check(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Raises `action.argument.invalid` unless the filled arguments fit the signature.

        Raises:
            UnsupportedError: `action.unknown`.
        """
        signature = self.signatures.get(name)
        if signature is None:
            raise UnsupportedError("action.unknown", f"no action `{name}` here", hint="is its file still there?")
        for argument, spec in signature.arguments.items():
            value = arguments.get(argument)
            if value is None and not spec.required:
                continue
            if type(value) is not spec.type or not _fits(value):
                raise DataError(
                    "action.argument.invalid",
                    f"`{argument}` of `{name}` must be a {spec.type.__name__}",
                    at=f"$.{argument}",
                )

    def touches(self, name: str, arguments: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """Kind -> the things that a call touches; of an unknown action none."""
        signature = self.signatures.get(name)
        return touched(signature, arguments) if signature else {}


def _fits(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_ITEMS and all(isinstance(each, str) and _fits(each) for each in value)
    return not isinstance(value, str) or 0 < len(value) <= MAX_TEXT
