"""Key providers: one suite on the encrypted file and on a PKCS#11 token."""

from __future__ import annotations

import hmac
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hsm import LABEL, MODULE, PIN, empty_token
from tests.conftest import FakeClock

from vedette.core.errors import DefinitionError, NotFoundError, VedetteError
from vedette.prove.custody.provider import CHECK_INPUT, KeyProvider, KeyUse
from vedette.prove.custody.sealed import SealedFile, check_value, open_with, seal_with
from vedette.prove.custody.token import Token
from vedette.prove.secrets import Secret

PASSPHRASE = Secret("correct horse battery staple")


@pytest.fixture(params=["sealed", "token"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[KeyProvider]:
    if request.param == "sealed":
        yield SealedFile(tmp_path / "keys" / "vault.json", PASSPHRASE, clock)
        return
    token = empty_token(clock)
    yield token
    token.close()


def code(call: Callable[[], object]) -> str:
    with pytest.raises(VedetteError) as caught:
        call()
    return caught.value.code


def test_it_opens_what_it_sealed_and_nothing_else(provider: KeyProvider) -> None:
    provider.create("a:1", KeyUse.WRAP)
    provider.create("a:2", KeyUse.WRAP)
    sealed = provider.seal("a:1", b"data", b"row 1")
    assert provider.open("a:1", sealed, b"row 1") == b"data"
    assert b"data" not in sealed
    assert provider.seal("a:1", b"data", b"row 1") != sealed
    wrong = {
        "another place": lambda: provider.open("a:1", sealed, b"row 2"),
        "another key": lambda: provider.open("a:2", sealed, b"row 1"),
        "cut": lambda: provider.open("a:1", sealed[:20], b"row 1"),
        "empty": lambda: provider.open("a:1", b"", b"row 1"),
    }
    for place in range(0, len(sealed), 5):
        changed = bytes([*sealed[:place], sealed[place] ^ 1, *sealed[place + 1 :]])
        wrong[f"byte {place}"] = lambda changed=changed: provider.open("a:1", changed, b"row 1")
    for what, call in wrong.items():
        assert code(call) == "custody.sealed.invalid", what


def test_a_key_has_one_use(provider: KeyProvider) -> None:
    provider.create("wrap", KeyUse.WRAP)
    provider.create("mac", KeyUse.MAC)
    assert len(provider.mac("mac", b"x")) == 32
    assert provider.mac("mac", b"x") != provider.mac("mac", b"y")
    assert code(lambda: provider.mac("wrap", b"x")) == "custody.key.use"
    assert code(lambda: provider.seal("mac", b"x", b"")) == "custody.key.use"


def test_labels(provider: KeyProvider) -> None:
    provider.create("a:1", KeyUse.WRAP)
    assert code(lambda: provider.create("a:1", KeyUse.WRAP)) == "custody.key.exists"
    assert code(lambda: provider.place("a:1", KeyUse.MAC, bytes(32))) == "custody.key.exists"
    for bad in ("", "A", "a:", "a b", "a:1:2:3:4", "é"):
        assert code(lambda bad=bad: provider.create(bad, KeyUse.WRAP)) == "custody.key.label"
    for call in (lambda: provider.seal("b", b"", b""), lambda: provider.open("b", bytes(40), b"")):
        assert code(call) == "custody.key.unknown"


def test_a_placed_key_is_the_key(provider: KeyProvider) -> None:
    secret = bytes(range(32))
    wrap, mac = provider.place("w", KeyUse.WRAP, secret), provider.place("m", KeyUse.MAC, secret)
    assert open_with(secret, provider.seal("w", b"data", b"aad"), b"aad") == b"data"
    assert provider.open("w", seal_with(secret, b"data", b"aad"), b"aad") == b"data"
    assert provider.mac("m", b"data") == hmac.digest(secret, b"data", "sha256")
    assert wrap.check == check_value(secret, KeyUse.WRAP)
    assert mac.check == check_value(secret, KeyUse.MAC) == hmac.digest(secret, CHECK_INPUT, "sha256")[:3].hex()
    assert code(lambda: provider.place("s", KeyUse.WRAP, b"short")) == "custody.key.size"


def test_the_list_tells_age_and_check_value(provider: KeyProvider, clock: FakeClock) -> None:
    first = provider.create("b", KeyUse.WRAP)
    clock.advance(86_400)
    second = provider.create("a", KeyUse.MAC)
    assert provider.list_keys() == [second, first]
    assert second.created - first.created == 86_400_000_000
    assert first.check != second.check


def test_a_destroyed_key_opens_nothing(provider: KeyProvider) -> None:
    provider.create("a", KeyUse.WRAP)
    sealed = provider.seal("a", b"data", b"")
    provider.destroy("a")
    provider.destroy("a")
    assert code(lambda: provider.open("a", sealed, b"")) == "custody.key.unknown"
    assert provider.list_keys() == []
    provider.create("a", KeyUse.WRAP)
    assert code(lambda: provider.open("a", sealed, b"")) == "custody.sealed.invalid"


def test_keys_show_nowhere(provider: KeyProvider) -> None:
    info = provider.create("a", KeyUse.WRAP)
    assert PIN not in repr(provider)
    assert PASSPHRASE.reveal() not in f"{provider!r}{info!r}"


def test_a_key_cannot_be_taken_out_of_a_token(clock: FakeClock) -> None:
    from pkcs11 import Attribute, Mechanism
    from pkcs11.exceptions import PKCS11Error

    token = empty_token(clock)
    token.create("a", KeyUse.WRAP)
    token.place("b", KeyUse.WRAP, bytes(32))
    token.create("wrapper", KeyUse.WRAP)
    for label in ("a", "b"):
        key = token._find(label, KeyUse.WRAP)
        assert key[Attribute.EXTRACTABLE] is False
        with pytest.raises(PKCS11Error):
            key[Attribute.VALUE]
        with pytest.raises((PKCS11Error, AttributeError)):
            token._find("wrapper", KeyUse.WRAP).wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP)
    assert token._find("a", KeyUse.WRAP)[Attribute.NEVER_EXTRACTABLE] is True
    token.close()


def test_a_token_says_what_is_wrong(clock: FakeClock) -> None:
    empty_token(clock).close()
    for module, name, pin, expected in (
        ("/no/such.so", LABEL, PIN, "custody.token.module"),
        (MODULE, "nobody", PIN, "custody.token.unknown"),
        (MODULE, LABEL, "000000", "custody.token.pin"),
    ):
        with pytest.raises(DefinitionError) as caught:
            Token(module, name, Secret(pin), clock)
        assert caught.value.code == expected
        assert pin not in str(caught.value)


def test_a_session_is_refused_in_a_child(clock: FakeClock) -> None:
    token = empty_token(clock)
    token.create("a", KeyUse.WRAP)
    results = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        try:
            token.seal("a", b"x", b"")
        except DefinitionError as error:
            results.put(error.code)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert results.get() == "custody.token.forked"
    token.close()


def test_the_file_holds_no_key_and_opens_by_its_passphrase_only(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "vault.json"
    held = SealedFile(path, PASSPHRASE, clock)
    secret = os.urandom(32)
    held.place("a", KeyUse.WRAP, secret)
    raw = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in raw
    assert secret.hex().encode() not in raw
    assert code(lambda: SealedFile(path, Secret("another"), clock)) == "custody.passphrase.wrong"
    entries = json.loads(raw)
    entries["keys"][0]["label"] = "b"
    path.write_text(json.dumps(entries))
    assert code(lambda: SealedFile(path, PASSPHRASE, clock).list_keys()) == "custody.sealed.invalid"
    path.write_text("{")
    assert code(lambda: SealedFile(path, PASSPHRASE, clock)) == "custody.file.invalid"


def test_processes_share_the_file(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "vault.json"
    held = SealedFile(path, PASSPHRASE, clock)
    held.create("a", KeyUse.WRAP)
    child = (
        "import sys; from pathlib import Path; from vedette.core.clock import SystemClock\n"
        "from vedette.prove.custody.sealed import SealedFile; from vedette.prove.custody.provider import KeyUse\n"
        "from vedette.prove.secrets import Secret\n"
        f"held = SealedFile(Path(sys.argv[1]), Secret({PASSPHRASE.reveal()!r}), SystemClock())\n"
        "for n in range(10): held.create(f'{sys.argv[2]}:{n}', KeyUse.WRAP)\n"
        "held.destroy('a')\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", child, path, name]) for name in ("x", "y")]
    assert [process.wait() for process in children] == [0, 0]
    assert [info.label for info in held.list_keys()] == sorted(f"{name}:{n}" for name in "xy" for n in range(10))
    with pytest.raises(NotFoundError):
        held.seal("a", b"", b"")
