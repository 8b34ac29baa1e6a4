"""Settings: the file, the environment over it, and every wrong key at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vedette.core.errors import DefinitionError, Problems
from vedette.core.log import Durability
from vedette.core.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


def test_defaults():
    assert load_settings(None, {"PATH": "/bin"}) == Settings()
    assert Settings().log_folder == Path(".vedette/log")


def test_the_environment_wins_over_the_file(tmp_path):
    path = tmp_path / "vedette.toml"
    path.write_text('tenant = "file"\nlog_partitions = 4\nhome = "/srv"\ndecision_durability = "synced"\n')
    settings = load_settings(path, {"VEDETTE_TENANT": "env", "VEDETTE_EGRESS_ALLOW": "10.0.0.0/8, hooks.example"})
    assert settings == Settings(
        home=Path("/srv"),
        tenant="env",
        log_partitions=4,
        decision_durability=Durability.SYNCED,
        egress_allow=("10.0.0.0/8", "hooks.example"),
    )
    assert load_settings(None, {"VEDETTE_LOG_PARTITIONS": "8"}).log_partitions == 8


def test_variables_that_are_no_settings_are_left_alone():
    """Every variable that an option or a secret is read from; found in the program's text."""
    text = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    options = set(re.findall(r'envvar=\[?"(VEDETTE_[A-Z_]+)"', text))
    assert {"VEDETTE_OPERATOR", "VEDETTE_CACHE", "VEDETTE_VAULT_HOME"} <= options
    settings = {f"VEDETTE_{name.upper()}" for name in Settings.__struct_fields__}
    environ = dict.fromkeys((*(options - settings), "VEDETTE_SECRET_SMTP_PASSWORD"), "x")
    assert load_settings(None, environ) == Settings()


def test_every_wrong_key_is_told_with_its_place(tmp_path):
    path = tmp_path / "vedette.toml"
    path.write_text('tenant = "a"\ntenent = "b"\nlog_partitions = "many"\nhome = 5\n[section]\nx = 1\n')
    with pytest.raises(Problems) as refused:
        load_settings(path, {"VEDETTE_DATABASE_ULR": "x", "VEDETTE_DECISION_DURABILITY": "secret-value"})
    found = [(problem.code, problem.place.removeprefix(f"{path}:")) for problem in refused.value.problems]
    assert found == [
        ("settings.key.unknown", "2:1"),
        ("settings.value.invalid", "3:1"),
        ("settings.value.invalid", "4:1"),
        ("settings.key.unknown", "5:1"),
        ("settings.key.unknown", "VEDETTE_DATABASE_ULR:1:1"),
        ("settings.value.invalid", "VEDETTE_DECISION_DURABILITY:1:1"),
    ]
    assert "`tenant`" in str(refused.value)
    assert "`database_url`" in str(refused.value)
    assert "secret-value" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a = = b", "settings.file.invalid"), (b"\xff", "settings.file.unreadable"), (None, "settings.file.unreadable")],
)
def test_unreadable_files(tmp_path, content, code):
    path = tmp_path / "vedette.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DefinitionError) as refused:
        load_settings(path, {})
    assert refused.value.code == code


def test_a_password_is_not_shown():
    settings = load_settings(None, {"VEDETTE_DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert settings.database_url.endswith("hunter2@h/d")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
