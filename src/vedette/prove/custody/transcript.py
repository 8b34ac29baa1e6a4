"""Transcripts of ceremonies: what was planned, each step in a chain of hashes, and the signatures of the officers.

A transcript holds no secret. Of each share it holds a commitment: the hash of the share's words and a salt. A share has
256 bits of entropy, so nobody finds its words from that, and a custodian can show that theirs is the one.

It verifies on any machine with the public keys of the officers, which are to be had from elsewhere than the transcript.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vedette.core.errors import DataError, DefinitionError
from vedette.prove.custody.provider import KeyUse, check_label
from vedette.prove.keys import Signer
from vedette.prove.verifier import Invalid, VerifierKey, parse_key

MIN_OFFICERS = 2
MIN_THRESHOLD = 2
MAX_CUSTODIANS = 16
"""SLIP-39 numbers shares with four bits."""

_CONTEXT = b"vedette.ceremony.v1\n"


class Goal(StrEnum):
    """What a ceremony is for."""

    MAKE = "make"
    """A new key, split among custodians."""
    REBUILD = "rebuild"
    """A key from the shares of enough custodians."""


class Act(StrEnum):
    """What happened in a step."""

    AUTHORISED = "authorised"
    GENERATED = "generated"
    SHARE_SHOWN = "share_shown"
    ACKNOWLEDGED = "acknowledged"
    SHARE_GIVEN = "share_given"
    REBUILT = "rebuilt"
    PLACED = "placed"
    ABORTED = "aborted"


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a ceremony is to do, agreed before it begins."""

    goal: Goal
    label: str
    """Of the key in its provider."""
    use: KeyUse
    threshold: int
    """How many custodians rebuild the key; fewer learn nothing."""
    custodians: tuple[str, ...]
    officers: tuple[str, ...]
    """Their verifier keys, in the form of C2SP signed-note."""
    place: str
    """The provider, in words."""

    def check(self) -> None:
        """Lets a plan pass that keeps split knowledge and dual control (PCI DSS 3.7.6).

        Raises:
            DefinitionError: `ceremony.plan.threshold`, `.custodians`, `.officers`, `custody.key.label`.
        """
        check_label(self.label)
        people = len(self.custodians)
        if not MIN_THRESHOLD <= self.threshold <= people <= MAX_CUSTODIANS:
            raise DefinitionError(
                "ceremony.plan.threshold",
                f"{self.threshold} of {people} custodians",
                hint=f"at least {MIN_THRESHOLD} of at most {MAX_CUSTODIANS}, or one person would hold the key",
            )
        if len(set(self.custodians)) < people or not all(name.strip() for name in self.custodians):
            raise DefinitionError("ceremony.plan.custodians", "each custodian is one person with a name of their own")
        keys = self.officer_keys()
        if len({key.public for key in keys}) < MIN_OFFICERS or len({key.name for key in keys}) < len(keys):
            raise DefinitionError(
                "ceremony.plan.officers", "two officers or more, each with their own key", hint="dual control"
            )

    def officer_keys(self) -> list[VerifierKey]:
        """The officers' keys.

        Raises:
            DefinitionError: `ceremony.plan.officers` for a text that is none.
        """
        try:
            return [parse_key(text) for text in self.officers]
        except Invalid as error:
            raise DefinitionError("ceremony.plan.officers", f"not the verifier key of an officer: {error}") from None


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was done."""

    n: int
    time: int
    """Microseconds UTC."""
    act: Act
    who: str
    """Custodian, officer, or `ceremony`."""
    detail: dict[str, str] = {}
    previous: str
    """Hash of the step before it, or of the plan."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An officer's signature over the whole."""

    officer: str
    """Verifier key."""
    signature: str
    """Ed25519, base64."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished ceremony."""

    version: int = 1
    id: str
    plan: Plan
    steps: tuple[Step, ...]
    signatures: tuple[Signature, ...] = ()

    def head(self) -> str:
        """Hash of everything but the signatures."""
        return hash_step(self.steps[-1]) if self.steps else hash_plan(self.id, self.plan)

    def of(self, act: Act) -> list[Step]:
        """The steps of one kind."""
        return [step for step in self.steps if step.act is act]

    def check_value(self) -> str:
        """Key check value of the key that was placed; empty when none was."""
        placed = self.of(Act.PLACED)
        return placed[-1].detail.get("check", "") if placed else ""

    def commitments(self) -> dict[str, tuple[str, str]]:
        """Custodian -> salt and hash of their share."""
        return {step.who: (step.detail["salt"], step.detail["commitment"]) for step in self.of(Act.SHARE_SHOWN)}


def hash_plan(ceremony: str, plan: Plan) -> str:
    """Where the chain of a ceremony begins."""
    return hashlib.sha256(_CONTEXT + ceremony.encode() + b"\n" + msgspec.json.encode(plan, order="sorted")).hexdigest()


def hash_step(step: Step) -> str:
    """The link to the next one."""
    return hashlib.sha256(_CONTEXT + msgspec.json.encode(step, order="sorted")).hexdigest()


def commit(words: str, salt: str) -> str:
    """Commitment to a share."""
    return hashlib.sha256(_CONTEXT + bytes.fromhex(salt) + words.encode()).hexdigest()


def sign(head: str, officer: Signer) -> Signature:
    """An officer's signature over a hash of the chain."""
    raw = officer.sign(_CONTEXT + head.encode())
    return Signature(str(officer.verifier), base64.b64encode(raw).decode())


def read_transcript(raw: bytes) -> Transcript:
    """A transcript from its file.

    Raises:
        DataError: `ceremony.transcript.unreadable`.
    """
    try:
        return msgspec.json.decode(raw, type=Transcript)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError("ceremony.transcript.unreadable", f"not a transcript: {error}") from None


def verify_transcript(transcript: Transcript, trusted: Sequence[VerifierKey]) -> None:
    """Checks the plan, the chain of steps, that what was done fits the plan, and every officer's signature.

    Args:
        transcript: As read.
        trusted: Keys of the officers, from elsewhere. Empty: those that the plan names, which proves only that
            nobody changed it since those keys signed it.

    Raises:
        DataError: `ceremony.transcript.chain`, `.steps`, `.signature`, `.officer` (a key that is not trusted).
        DefinitionError: What `Plan.check` raises.
    """
    plan = transcript.plan
    plan.check()
    previous = hash_plan(transcript.id, plan)
    for n, step in enumerate(transcript.steps, start=1):
        if step.n != n or step.previous != previous:
            raise DataError("ceremony.transcript.chain", "a step was changed, left out or moved", at=f"step {n}")
        previous = hash_step(step)
    _check_steps(transcript)
    signed = {signature.officer: signature.signature for signature in transcript.signatures}
    authorised = {step.who: step.detail.get("signature", "") for step in transcript.of(Act.AUTHORISED)}
    for key in plan.officer_keys():
        if trusted and key not in trusted:
            raise DataError("ceremony.transcript.officer", f"the key of `{key.name}` is not one you trust")
        if not _holds(key, authorised.get(key.name, ""), hash_plan(transcript.id, plan)):
            raise DataError("ceremony.transcript.signature", f"not authorised by `{key.name}`")
        if not _holds(key, signed.get(str(key), ""), transcript.head()):
            raise DataError("ceremony.transcript.signature", f"not signed by `{key.name}`")


def _check_steps(transcript: Transcript) -> None:
    """What a whole ceremony must have in it."""
    plan = transcript.plan
    if transcript.of(Act.ABORTED):
        return
    officers = {key.name for key in plan.officer_keys()}
    custodians = set(plan.custodians)

    def people(act: Act) -> set[str]:
        return {step.who for step in transcript.of(act)}

    if plan.goal is Goal.MAKE:
        whole = people(Act.SHARE_SHOWN) == people(Act.ACKNOWLEDGED) == custodians and people(Act.GENERATED) != set()
    else:
        given = people(Act.SHARE_GIVEN)
        whole = given <= custodians and len(given) >= plan.threshold and people(Act.REBUILT) != set()
    if not whole or people(Act.AUTHORISED) != officers or not transcript.check_value():
        raise DataError("ceremony.transcript.steps", "a person who had to act did not", hint="it is no whole ceremony")


def _holds(key: VerifierKey, signature: str, head: str) -> bool:
    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw, _CONTEXT + head.encode())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
