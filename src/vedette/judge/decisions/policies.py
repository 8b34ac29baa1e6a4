"""Merchants' own policies for failure: a YAML file of merchant and `open`, `closed` or `review`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError
from vedette.judge.decisions.parts import Policy


def load_policies(path: Path) -> Mapping[str, Policy]:
    """Reads the file.

    Raises:
        DefinitionError: `decision.policies.unreadable`; `decision.policies.invalid` with the place of what is no
            policy; `documents.yaml.*`.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("decision.policies.unreadable", "cannot read the policies", at=str(path)) from error
    document = load_yaml(text, path=str(path))
    held = document.data or {}
    if not isinstance(held, dict):
        raise DefinitionError("decision.policies.invalid", "a mapping of merchants", span=document.span())
    for merchant, policy in held.items():
        if not isinstance(merchant, str) or policy not in list(Policy):
            hint = f"one of {', '.join(Policy)}, under the merchant's id as text"
            raise DefinitionError(
                "decision.policies.invalid", "no policy of a merchant", hint=hint, span=document.span()
            )
    return {merchant: Policy(policy) for merchant, policy in held.items()}
