"""Key ceremonies: a key that no single person ever holds.

Split knowledge: the key is made at random, split by SLIP-39 into a share for each custodian, and shown to each alone.
Dual control: two officers or more authorise before anything happens. Each custodian proves that they wrote their share
down by repeating words of it. The key goes into its provider, whose check value must equal the one computed here; then
the officers sign the transcript. `Making` makes a key, `Rebuilding` brings one back from enough shares.

In between, the key is in the memory of this process: run a ceremony on a machine of its own. SLIP-39 shares are not
bound to people: who has seen a share is a custodian, whatever the transcript says.

Sources: SLIP-0039; PCI DSS 3.7.6 and 3.7.8.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence

import shamir_mnemonic
from shamir_mnemonic import MnemonicError

from vedette.core.clock import Clock
from vedette.core.errors import DataError, DefinitionError
from vedette.core.ids import Ids
from vedette.prove.custody.provider import KEY_BYTES, KeyInfo, KeyProvider
from vedette.prove.custody.sealed import check_value
from vedette.prove.custody.transcript import Act, Goal, Plan, Step, Transcript, commit, hash_plan, hash_step, sign
from vedette.prove.keys import Signer
from vedette.prove.secrets import Secret

SALT_BYTES = 16
ASKED = 3
"""How many words of their share a custodian repeats."""
CEREMONY = "ceremony"


class _Ceremony:
    """What both kinds share: the officers, the steps and their order.

    Args:
        plan: Checked here.
        officers: The officers' keys, each opened by its owner.
        clock: Time of the steps.
        ids: Makes the id of the ceremony.
        random_bytes: The operating system's generator, except in tests.

    Raises:
        DefinitionError: What `Plan.check` raises; `ceremony.officer.unknown` for a key that the plan does not name.
    """

    def __init__(
        self,
        plan: Plan,
        officers: Sequence[Signer],
        clock: Clock,
        ids: Ids,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        plan.check()
        if {str(officer.verifier) for officer in officers} != set(plan.officers):
            raise DefinitionError("ceremony.officer.unknown", "the officers are not those of the plan")
        self.plan = plan
        self.id = ids.new("cer")
        self._officers = tuple(officers)
        self._clock = clock
        self._random = random_bytes
        self._steps: list[Step] = []
        self._secret: bytes | None = None
        for officer in officers:
            # The officer opened their key for this plan: that is the authorisation, and it is signed over the plan.
            self._note(Act.AUTHORISED, officer.name, {"signature": sign(hash_plan(self.id, plan), officer).signature})

    def abort(self, reason: str) -> Transcript:
        """Ends it without a key. What was made is forgotten; shares that were shown are worth nothing."""
        self._note(Act.ABORTED, CEREMONY, {"reason": reason})
        return self._end()

    def place(self, provider: KeyProvider) -> KeyInfo:
        """Puts the key into its provider and compares check values.

        Raises:
            DefinitionError: `ceremony.step.order` before its time; `ceremony.check.differs`; what the provider raises.
        """
        secret = self._ready()
        wanted = check_value(secret, self.plan.use)
        info = provider.place(self.plan.label, self.plan.use, secret)
        if info.check != wanted:
            provider.destroy(self.plan.label)
            raise DefinitionError(
                "ceremony.check.differs",
                f"the provider holds key {info.check}, not {wanted}",
                hint="abort, look into it",
            )
        self._note(Act.PLACED, CEREMONY, {"check": info.check, "place": self.plan.place})
        return info

    def finish(self) -> Transcript:
        """The transcript, signed by every officer. The key is forgotten here.

        Raises:
            DefinitionError: `ceremony.step.order` when the key is not in its provider.
        """
        if not self._did(Act.PLACED):
            raise _too_early("place the key first")
        return self._end()

    def _ready(self) -> bytes:
        """The secret, when everything before placing it is done."""
        raise NotImplementedError

    def _end(self) -> Transcript:
        self._secret = None
        transcript = Transcript(id=self.id, plan=self.plan, steps=tuple(self._steps))
        signatures = tuple(sign(transcript.head(), officer) for officer in self._officers)
        return Transcript(id=self.id, plan=self.plan, steps=transcript.steps, signatures=signatures)

    def _note(self, act: Act, who: str, detail: dict[str, str] | None = None) -> None:
        previous = hash_step(self._steps[-1]) if self._steps else hash_plan(self.id, self.plan)
        n, now = len(self._steps) + 1, self._clock.now()
        self._steps.append(Step(n=n, time=now, act=act, who=who, detail=detail or {}, previous=previous))

    def _did(self, act: Act, who: str = "") -> bool:
        return any(step.act is act and (not who or step.who == who) for step in self._steps)

    def _know(self, custodian: str) -> None:
        if custodian not in self.plan.custodians:
            raise DefinitionError("ceremony.custodian.unknown", "not a custodian of the plan", at=custodian)


class Making(_Ceremony):
    """Makes a new key. In order: `generate`; for each custodian `show` and `acknowledge`; `place`; `finish`."""

    def generate(self) -> None:
        """Makes the key at random and splits it.

        Raises:
            DefinitionError: `ceremony.step.order` for a second time.
        """
        if self.plan.goal is not Goal.MAKE or self._did(Act.GENERATED):
            raise _too_early("a key is made once, by a plan to make one")
        self._secret = self._random(KEY_BYTES)
        group = (self.plan.threshold, len(self.plan.custodians))
        shares = shamir_mnemonic.generate_mnemonics(1, [group], self._secret)[0]
        self._shares = dict(zip(self.plan.custodians, shares, strict=True))
        self._note(Act.GENERATED, CEREMONY, {"method": "SLIP-39", "check": check_value(self._secret, self.plan.use)})

    def show(self, custodian: str) -> Secret:
        """A custodian's share, once: words split by spaces.

        Raises:
            DefinitionError: `ceremony.custodian.unknown`; `ceremony.step.order` before `generate` or a second time.
        """
        self._know(custodian)
        if not self._did(Act.GENERATED) or self._did(Act.SHARE_SHOWN, custodian):
            raise _too_early("a share is shown once, after the key is made")
        words, salt = self._shares[custodian], self._random(SALT_BYTES).hex()
        self._note(Act.SHARE_SHOWN, custodian, {"salt": salt, "commitment": commit(words, salt)})
        return Secret(words)

    def ask(self, custodian: str) -> tuple[int, ...]:
        """Places (from 1) of the words that a custodian is to repeat, the same ones each time they are asked."""
        self._know(custodian)
        count = len(self._shares[custodian].split())
        drawn = hmac.digest(self.id.encode(), custodian.encode(), "sha256")
        places: list[int] = []
        for byte in drawn:
            if byte % count + 1 not in places:
                places.append(byte % count + 1)
        return tuple(sorted(places[:ASKED]))

    def acknowledge(self, custodian: str, words: Sequence[str], statement: str) -> None:
        """A custodian repeats the words asked for and accepts the duty in words of the company (PCI DSS 3.7.8).

        Raises:
            DefinitionError: `ceremony.step.order` before `show`.
            DataError: `ceremony.words.differ`; ask again.
        """
        self._know(custodian)
        if not self._did(Act.SHARE_SHOWN, custodian) or self._did(Act.ACKNOWLEDGED, custodian):
            raise _too_early("a share is acknowledged once, after it was shown")
        held = self._shares[custodian].split()
        wanted = [held[place - 1] for place in self.ask(custodian)]
        if not hmac.compare_digest(" ".join(wanted).encode(), " ".join(words).lower().encode()):
            raise DataError(
                "ceremony.words.differ", "these are not the words of the share", hint="compare and try again"
            )
        del self._shares[custodian]
        self._note(Act.ACKNOWLEDGED, custodian, {"statement": statement})

    def _ready(self) -> bytes:
        if self._secret is None or not all(self._did(Act.ACKNOWLEDGED, name) for name in self.plan.custodians):
            raise _too_early("every custodian acknowledges a share first")
        return self._secret


class Rebuilding(_Ceremony):
    """Brings a key back. In order: `give` for enough custodians; `place`; `finish`.

    Args:
        plan: Of goal `rebuild`, with the label, threshold and custodians of the ceremony that made the key.
        made: Transcript of that ceremony, verified.
        officers: As for any ceremony.
        clock: Time of the steps.
        ids: Makes the id.
    """

    def __init__(self, plan: Plan, made: Transcript, officers: Sequence[Signer], clock: Clock, ids: Ids) -> None:
        same = ("use", "threshold", "custodians")
        if plan.goal is not Goal.REBUILD or any(getattr(plan, name) != getattr(made.plan, name) for name in same):
            raise DefinitionError("ceremony.plan.differs", "not a plan to rebuild the key of this transcript")
        super().__init__(plan, officers, clock, ids)
        self._made = made
        self._given: dict[str, str] = {}

    def give(self, custodian: str, share: Secret) -> int:
        """A custodian enters their share. Gives how many more are needed.

        Raises:
            DefinitionError: `ceremony.custodian.unknown`.
            DataError: `ceremony.share.differs` when it is not the share that the transcript commits to.
        """
        self._know(custodian)
        words = " ".join(share.reveal().lower().split())
        salt, commitment = self._made.commitments()[custodian]
        if not hmac.compare_digest(commit(words, salt), commitment):
            raise DataError("ceremony.share.differs", "not the share that was shown", hint="look for a slip of the pen")
        if custodian not in self._given:
            self._given[custodian] = words
            self._note(Act.SHARE_GIVEN, custodian)
        missing = max(0, self.plan.threshold - len(self._given))
        if not missing and not self._did(Act.REBUILT):
            self._secret = _combine(list(self._given.values()))
            self._note(Act.REBUILT, CEREMONY, {"check": check_value(self._secret, self.plan.use)})
        return missing

    def _ready(self) -> bytes:
        if self._secret is None:
            raise _too_early(f"{self.plan.threshold} custodians give their shares first")
        if check_value(self._secret, self.plan.use) != self._made.check_value():
            raise DefinitionError("ceremony.check.differs", "the shares make another key than the transcript tells of")
        return self._secret


def plan_to_rebuild(made: Transcript, officers: Sequence[Signer], *, label: str = "", place: str) -> Plan:
    """The plan that brings back the key of a transcript, under its own label or another."""
    return Plan(
        goal=Goal.REBUILD,
        label=label or made.plan.label,
        use=made.plan.use,
        threshold=made.plan.threshold,
        custodians=made.plan.custodians,
        officers=tuple(str(officer.verifier) for officer in officers),
        place=place,
    )


def _combine(shares: list[str]) -> bytes:
    try:
        return bytes(shamir_mnemonic.combine_mnemonics(shares))
    except MnemonicError as error:
        # Its messages name places and counts, never words.
        raise DataError("ceremony.share.invalid", f"the shares do not combine: {error}") from None


def _too_early(hint: str) -> DefinitionError:
    return DefinitionError("ceremony.step.order", "not now", hint=hint)
