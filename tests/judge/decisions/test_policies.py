"""The file of merchants' own policies: what it may say, and where it is wrong."""

from __future__ import annotations

import pytest

from vedette.core.errors import DefinitionError
from vedette.core.settings import load_settings
from vedette.judge.decisions.parts import Policy
from vedette.judge.decisions.policies import load_policies


def test_a_policy_for_each_merchant(tmp_path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("m_1: closed\nm_2: review\n")
    assert load_policies(path) == {"m_1": Policy.CLOSED, "m_2": Policy.REVIEW}
    path.write_text("")
    assert load_policies(path) == {}


@pytest.mark.parametrize("text", ["- m_1", "m_1: shut", "7: open", "m_1: [open]"])
def test_what_is_no_policy_is_refused(tmp_path, text) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as wrong:
        load_policies(path)
    assert wrong.value.code == "decision.policies.invalid"
    assert str(path) in wrong.value.place
    with pytest.raises(DefinitionError) as missing:
        load_policies(tmp_path / "none.yaml")
    assert missing.value.code == "decision.policies.unreadable"


def test_the_address_of_redis_is_shown_nowhere() -> None:
    settings = load_settings(None, {"VEDETTE_REDIS_URL": "redis://:secret@localhost/0"})
    assert "secret" not in repr(settings)
    assert settings.redis_url.endswith("@localhost/0")
