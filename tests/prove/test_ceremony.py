"""Key ceremonies: split knowledge, dual control, transcripts that verify elsewhere."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import shamir_mnemonic
from hsm import empty_token
from shamir_mnemonic import MnemonicError
from tests.conftest import FakeClock

from vedette.core.errors import DataError, DefinitionError, VedetteError
from vedette.core.ids import Ids
from vedette.prove.custody.ceremony import Making, Rebuilding, plan_to_rebuild
from vedette.prove.custody.officers import make_officer, open_officer
from vedette.prove.custody.provider import KeyInfo, KeyProvider, KeyUse
from vedette.prove.custody.sealed import SealedFile, check_value
from vedette.prove.custody.transcript import (
    Goal,
    Plan,
    Transcript,
    hash_plan,
    hash_step,
    read_transcript,
    sign,
    verify_transcript,
)
from vedette.prove.keys import Signer
from vedette.prove.secrets import Secret

PEOPLE = ("Ada", "Bo", "Cy", "Di", "Eve")
PHRASE = Secret("a phrase of my own")


class World:
    """Two officers, a file of keys, and a plan of 3 of 5."""

    def __init__(self, folder: Path, clock: FakeClock, ids: Ids) -> None:
        self.clock, self.ids = clock, ids
        for name in ("ann", "ben", "mallory"):
            make_officer(folder / f"{name}.pem", f"{name}.example", PHRASE)
        self.officers = [open_officer(folder / f"{name}.pem", PHRASE) for name in ("ann", "ben")]
        self.stranger = open_officer(folder / "mallory.pem", PHRASE)
        self.provider: KeyProvider = SealedFile(folder / "keys.json", PHRASE, clock)

    def plan(self, **changes: object) -> Plan:
        keys = tuple(str(officer.verifier) for officer in self.officers)
        plan = Plan(
            goal=Goal.MAKE,
            label="vault:root:1",
            use=KeyUse.WRAP,
            threshold=3,
            custodians=PEOPLE,
            officers=keys,
            place="a file on the desk",
        )
        return msgspec.structs.replace(plan, **changes)

    def make(self, plan: Plan | None = None) -> tuple[Transcript, dict[str, Secret]]:
        making = Making(plan or self.plan(), self.officers, self.clock, self.ids)
        making.generate()
        shares = {}
        for name in making.plan.custodians:
            shares[name] = making.show(name)
            words = shares[name].reveal().split()
            making.acknowledge(name, [words[place - 1] for place in making.ask(name)], "I keep this share to myself")
        making.place(self.provider)
        return making.finish(), shares

    def rebuild(self, made: Transcript, label: str = "vault:root:2") -> Rebuilding:
        plan = plan_to_rebuild(made, self.officers, label=label, place="a new file")
        return Rebuilding(plan, made, self.officers, self.clock, self.ids)


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock, ids: Ids) -> World:
    return World(tmp_path, clock, ids)


def code(call: Callable[[], object]) -> str:
    with pytest.raises(VedetteError) as caught:
        call()
    return caught.value.code


def test_any_enough_custodians_bring_the_key_back(world: World) -> None:
    made, shares = world.make()
    sealed = world.provider.seal("vault:root:1", b"card", b"row")
    for n, three in enumerate(itertools.combinations(PEOPLE, 3), start=2):
        rebuilding = world.rebuild(made, f"vault:root:{n}")
        assert [rebuilding.give(name, shares[name]) for name in three] == [2, 1, 0]
        info = rebuilding.place(world.provider)
        assert info.check == made.check_value()
        assert world.provider.open(info.label, sealed, b"row") == b"card"
        verify_transcript(rebuilding.finish(), [officer.verifier for officer in world.officers])


def test_fewer_cannot(world: World) -> None:
    made, shares = world.make()
    for two in itertools.combinations(PEOPLE, 2):
        rebuilding = world.rebuild(made)
        for name in two:
            rebuilding.give(name, shares[name])
        rebuilding.give(two[0], shares[two[0]])
        assert code(lambda rebuilding=rebuilding: rebuilding.place(world.provider)) == "ceremony.step.order"
        with pytest.raises(MnemonicError):
            shamir_mnemonic.combine_mnemonics([shares[name].reveal() for name in two])


def test_fewer_reveal_nothing() -> None:
    """One share of a key of zeros and one of a key of ones look alike: each byte is as good as random in both."""
    from shamir_mnemonic import shamir

    def first_bytes(secret: bytes) -> list[int]:
        return [share.data[0] for share in (shamir._split_secret(2, 3, secret)[0] for _ in range(5_120))]

    for secret in (bytes(32), b"\xff" * 32):
        counts = [0] * 256
        for byte in first_bytes(secret):
            counts[byte] += 1
        # 255 degrees of freedom: above 380 once in a million draws.
        assert sum((count - 20) ** 2 / 20 for count in counts) < 380


def test_the_key_of_a_token(world: World, clock: FakeClock) -> None:
    token = empty_token(clock)
    world.provider = token
    made, shares = world.make()
    secret = shamir_mnemonic.combine_mnemonics([shares[name].reveal() for name in PEOPLE[:3]])
    assert token.list_keys()[0].check == made.check_value() == check_value(secret, KeyUse.WRAP)
    token.close()


def test_nothing_happens_out_of_order(world: World) -> None:
    making = Making(world.plan(), world.officers, world.clock, world.ids)
    assert code(lambda: making.show("Ada")) == "ceremony.step.order"
    assert code(lambda: making.place(world.provider)) == "ceremony.step.order"
    assert code(making.finish) == "ceremony.step.order"
    making.generate()
    assert code(making.generate) == "ceremony.step.order"
    assert code(lambda: making.acknowledge("Ada", [], "yes")) == "ceremony.step.order"
    words = making.show("Ada").reveal().split()
    assert code(lambda: making.show("Ada")) == "ceremony.step.order"
    assert code(lambda: making.show("Zoe")) == "ceremony.custodian.unknown"
    asked = making.ask("Ada")
    assert asked == making.ask("Ada")
    assert code(lambda: making.acknowledge("Ada", words[:3], "yes")) == "ceremony.words.differ"
    making.acknowledge("Ada", [words[place - 1].upper() for place in asked], "yes")
    assert code(lambda: making.place(world.provider)) == "ceremony.step.order"
    assert world.provider.list_keys() == []
    transcript = making.abort("Bo fell ill")
    verify_transcript(transcript, [officer.verifier for officer in world.officers])
    assert transcript.check_value() == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"threshold": 1}, "ceremony.plan.threshold"),
        ({"threshold": 6}, "ceremony.plan.threshold"),
        ({"custodians": tuple(f"p{n}" for n in range(17))}, "ceremony.plan.threshold"),
        ({"custodians": ("Ada", "Ada", "Bo")}, "ceremony.plan.custodians"),
        ({"custodians": ("Ada", " ", "Bo")}, "ceremony.plan.custodians"),
        ({"label": "Root key"}, "custody.key.label"),
        ({"officers": ("nonsense", "more")}, "ceremony.plan.officers"),
    ],
)
def test_a_plan_keeps_split_knowledge_and_dual_control(world: World, changes: dict[str, object], expected: str) -> None:
    assert code(world.plan(**changes).check) == expected


def test_one_officer_is_not_two(world: World) -> None:
    one = str(world.officers[0].verifier)
    assert code(world.plan(officers=(one,)).check) == "ceremony.plan.officers"
    assert code(world.plan(officers=(one, one)).check) == "ceremony.plan.officers"
    alone = lambda: Making(world.plan(), world.officers[:1], world.clock, world.ids)  # noqa: E731
    assert code(alone) == "ceremony.officer.unknown"
    stranger = [world.officers[0], world.stranger]
    assert code(lambda: Making(world.plan(), stranger, world.clock, world.ids)) == "ceremony.officer.unknown"


def test_a_wrong_share_is_named_at_once(world: World) -> None:
    made, shares = world.make()
    rebuilding = world.rebuild(made)
    slip = shares["Ada"].reveal().rsplit(" ", 1)[0] + " academic"
    for wrong in (shares["Bo"], Secret(slip), Secret("")):
        assert code(lambda wrong=wrong: rebuilding.give("Ada", wrong)) == "ceremony.share.differs"
    assert rebuilding.give("Ada", Secret(f"  {shares['Ada'].reveal().upper()}\n")) == 2


def test_a_provider_that_holds_another_key_is_noticed(world: World) -> None:
    class Faulty(SealedFile):
        def place(self, label: str, use: KeyUse, secret: bytes) -> KeyInfo:
            return super().place(label, use, bytes(32))

    held = world.provider
    assert isinstance(held, SealedFile)
    world.provider = Faulty(held._path, PHRASE, world.clock)
    assert code(world.make) == "ceremony.check.differs"
    assert held.list_keys() == []


def test_a_transcript_holds_no_secret_and_survives_its_file(world: World) -> None:
    made, shares = world.make()
    raw = msgspec.json.encode(made)
    secret = shamir_mnemonic.combine_mnemonics([shares[name].reveal() for name in PEOPLE[:3]])
    assert secret.hex().encode() not in raw
    for share in shares.values():
        pairs = zip(share.reveal().split(), share.reveal().split()[1:], strict=False)
        assert not any(f"{a} {b}".encode() in raw for a, b in pairs)
    assert read_transcript(raw) == made
    with pytest.raises(DataError):
        read_transcript(b"\xff{")


def resign(world: World, transcript: Transcript, by: list[Signer]) -> Transcript:
    """What somebody with those keys could make of it."""
    head = transcript.head()
    return msgspec.structs.replace(transcript, signatures=tuple(sign(head, officer) for officer in by))


def test_every_change_of_a_transcript_is_found(world: World) -> None:
    made, _ = world.make()
    trusted = [officer.verifier for officer in world.officers]
    verify_transcript(made, trusted)
    plain = json.loads(msgspec.json.encode(made))

    def leaves(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        if isinstance(value, dict):
            return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
        if isinstance(value, list):
            return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
        return [path]

    for path in leaves(plain):
        if path == ("version",):
            continue
        changed = json.loads(json.dumps(plain))
        place = changed
        for key in path[:-1]:
            place = place[key]
        old = place[path[-1]]
        place[path[-1]] = old + 1 if isinstance(old, int) else f"{old}x"
        try:
            transcript = read_transcript(json.dumps(changed).encode())
        except DataError:
            continue
        with pytest.raises(VedetteError):
            verify_transcript(transcript, trusted)
    for steps in (made.steps[:-1], made.steps[1:], (*made.steps[:3], *made.steps[4:]), made.steps[::-1]):
        with pytest.raises(DataError):
            verify_transcript(msgspec.structs.replace(made, steps=steps), trusted)


def test_officers_cannot_leave_a_person_out(world: World) -> None:
    """Even with both keys: a transcript without an acknowledgement is no whole ceremony."""
    made, _ = world.make()
    steps, previous = [], hash_plan(made.id, made.plan)
    for step in made.steps:
        if not (step.who == "Bo" and step.act == "acknowledged"):
            steps.append(msgspec.structs.replace(step, n=len(steps) + 1, previous=previous))
            previous = hash_step(steps[-1])
    forged = resign(world, msgspec.structs.replace(made, steps=tuple(steps)), world.officers)
    assert code(lambda: verify_transcript(forged, [])) == "ceremony.transcript.steps"


def test_keys_of_strangers_prove_nothing(world: World) -> None:
    made, _ = world.make()
    ann = world.officers[0].verifier
    assert code(lambda: verify_transcript(made, [ann])) == "ceremony.transcript.officer"
    one = resign(world, made, [world.officers[0], world.stranger])
    assert code(lambda: verify_transcript(one, [])) == "ceremony.transcript.signature"


def test_officers_keys(tmp_path: Path) -> None:
    path = tmp_path / "ann.pem"
    key = make_officer(path, "ann.example", PHRASE)
    assert open_officer(path, PHRASE).verifier == key
    assert b"ENCRYPTED" in path.read_bytes()
    for call in (
        lambda: open_officer(path, Secret("a wrong phrase")),
        lambda: open_officer(tmp_path / "none.pem", PHRASE),
    ):
        assert code(call) == "ceremony.officer.invalid"
    assert code(lambda: make_officer(path, "ann", PHRASE)) == "ceremony.officer.exists"
    assert code(lambda: make_officer(tmp_path / "b", "b c", PHRASE)) == "ceremony.officer.name"
    assert code(lambda: make_officer(tmp_path / "b", "b", Secret("short"))) == "ceremony.officer.passphrase"


def test_slip39_vectors(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "money/slip39/vectors.json").read_text())
    assert len(vectors) == 45
    for name, mnemonics, secret, _ in vectors:
        if secret:
            assert shamir_mnemonic.combine_mnemonics(mnemonics, b"TREZOR").hex() == secret, name
        else:
            with pytest.raises(MnemonicError):
                shamir_mnemonic.combine_mnemonics(mnemonics)


def test_drawn_ceremonies(world: World, rng: random.Random) -> None:
    for n in range(6):
        people = tuple(f"p{i}" for i in range(rng.randint(2, 16)))
        plan = world.plan(label=f"k:{n}", custodians=people, threshold=rng.randint(2, len(people)))
        made, shares = world.make(plan)
        rebuilding = world.rebuild(made, f"r:{n}")
        for name in rng.sample(people, plan.threshold):
            missing = rebuilding.give(name, shares[name])
        assert missing == 0
        assert rebuilding.place(world.provider).check == made.check_value()


def test_a_plan_must_fit_what_was_made(world: World) -> None:
    made, _ = world.make()
    plan = plan_to_rebuild(made, world.officers, place="x")
    for changed in (
        msgspec.structs.replace(plan, threshold=2),
        msgspec.structs.replace(plan, goal=Goal.MAKE),
        msgspec.structs.replace(plan, custodians=("Ada", "Bo", "Cy")),
    ):
        with pytest.raises(DefinitionError) as caught:
            Rebuilding(changed, made, world.officers, world.clock, world.ids)
        assert caught.value.code == "ceremony.plan.differs"
