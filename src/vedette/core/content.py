"""Shipped content: source files, rules, features and playbooks. Data only; nothing in it is ever executed."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """A folder of shipped content: inside the installed package, or beside `src` in a checkout.

    Args:
        name: Such as `sources` or `rules/sigma`.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "content" / name
    return installed if installed.is_dir() else package.parents[1] / "content" / name
