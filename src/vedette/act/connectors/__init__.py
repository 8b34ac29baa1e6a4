"""What playbooks can do on other systems: one file a family, each action declared whole."""

from __future__ import annotations

from vedette.act.actions import SIGNATURES

__all__ = ["SIGNATURES"]
