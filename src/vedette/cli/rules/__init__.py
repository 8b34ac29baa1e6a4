"""Write, check, test, ship and tune rules."""

from __future__ import annotations

EXAMPLES = """Examples:

  vedette rules check my-rules/

  vedette rules check --help"""
