"""Secrets do not show, and are found by name only."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.core.errors import DefinitionError, NotFoundError
from vedette.prove.secrets import Secret, Secrets


def test_secret_is_masked() -> None:
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {secret!s:>20} {[secret]} {vars} {secret.__class__}"
    assert "hunter2" not in shown
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert secret != "hunter2"
    assert secret.reveal() == "hunter2"


def test_resolved_from_file_first_then_environment(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"VEDETTE_SECRET_SMTP_PASSWORD": "from-environment"})
    assert secrets.resolve("smtp.password").reveal() == "from-environment"
    path = tmp_path / "smtp.password"
    path.write_text("from-file\n")
    path.chmod(0o600)
    assert secrets.resolve("smtp.password").reveal() == "from-file"
    path.chmod(0o640)
    with pytest.raises(DefinitionError) as caught:
        secrets.resolve("smtp.password")
    assert caught.value.code == "secrets.file.readable"
    assert "from-file" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a..b", "a\n", "x" * 400])
def test_wrong_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(DefinitionError):
        Secrets(tmp_path, {}).resolve(name)


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Secrets(tmp_path, {}).resolve("smtp.password")
    with pytest.raises(NotFoundError):
        Secrets(None, {}).resolve("smtp.password")
