"""What playbooks can do on other systems: one file a family, each action declared whole.

`ALL` is every shipped action of these families, `SIGNATURES` what is known of them and of the product's own. `load`
reads a user's: one Python file with `ACTIONS`. `bind` gives them what they reach the world with.
"""

from __future__ import annotations

from vedette.act.actions import SIGNATURES as OWN
from vedette.act.connectors import aws, files, fleet, github, identity, mail, messages, own
from vedette.act.connectors.connector import Action

__all__ = ["ALL", "SIGNATURES", "Action"]

FAMILIES = (aws, files, fleet, github, identity, mail, messages, own)
ALL: dict[str, Action] = {action.signature.name: action for family in FAMILIES for action in family.ACTIONS}
"""Name -> shipped action on another system."""

SIGNATURES = {**OWN, **{name: action.signature for name, action in ALL.items()}}
"""Everything that a playbook may call, as shipped."""
