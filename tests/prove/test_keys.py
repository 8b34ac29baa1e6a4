"""Signing keys: made once, private to their owner, rotated without losing old proofs, never shown."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from vedette.core.errors import DefinitionError
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import Checkpoint, Invalid, verify_note

NAME = "vedette.local/evidence"
HEAD = Checkpoint(NAME, 0, b"\x00" * 32)


def ring(folder: Path) -> KeyRing:
    return KeyRing(folder / "keys", "evidence", NAME)


def test_made_once_with_private_mode(tmp_path: Path) -> None:
    first = ring(tmp_path).signer()
    assert ring(tmp_path).signer().key_id == first.key_id
    assert stat.S_IMODE((tmp_path / "keys" / "evidence.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert [str(key) for key in ring(tmp_path).verifiers()] == [str(first.verifier)]


def test_two_at_once_agree(tmp_path: Path) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(ring(tmp_path).signer().key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_rotation_keeps_old_proofs(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    notes = [keys.signer().sign_note(HEAD.text()), *(keys.rotate().sign_note(HEAD.text()) for _ in range(3))]
    assert len(keys.verifiers()) == 4
    for note, key in zip(notes, keys.verifiers(), strict=True):
        assert verify_note(note, keys.verifiers()) == HEAD
        assert verify_note(note, [key]) == HEAD
        with pytest.raises(Invalid):
            verify_note(note, [other for other in keys.verifiers() if other != key])


def test_crash_between_the_two_files_is_healed(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.signer()
    listed = (tmp_path / "keys" / "evidence.keys").read_bytes()
    fresh = keys.rotate()
    (tmp_path / "keys" / "evidence.keys").write_bytes(listed)
    assert keys.signer().key_id == fresh.key_id
    assert fresh.verifier in keys.verifiers()


def test_refusals_name_the_file_and_show_nothing(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    signer = keys.signer()
    path = tmp_path / "keys" / "evidence.key"
    pem = path.read_text()
    path.chmod(0o644)
    with pytest.raises(DefinitionError) as caught:
        keys.signer()
    assert caught.value.code == "keys.file.readable"
    path.chmod(0o600)
    path.write_text(pem[:60])
    with pytest.raises(DefinitionError) as caught:
        keys.signer()
    assert caught.value.code == "keys.file.invalid"
    assert caught.value.__cause__ is None
    secret = pem.split("\n")[1]
    assert secret not in repr(signer) + str(caught.value) + repr(vars(signer))
