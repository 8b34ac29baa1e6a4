"""Where the environment enters the program, and the settings that it and the options give."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from vedette.core.settings import Settings, load_settings

OPERATOR = "system"
"""Actor of what is done on the machine itself: who may write the home's files needs no key."""


def environment() -> dict[str, str]:
    """The process's environment, as it was passed in: settings and secrets may stand in it."""
    return dict(os.environ)  # noqa: TID251 - the one place that hands the environment on


def settings_of(home: Path | None = None, config: Path | None = None) -> Settings:
    """The settings, with the home that was named.

    Raises:
        DefinitionError, Problems: As `load_settings`.
    """
    settings = load_settings(config, environment())
    return msgspec.structs.replace(settings, home=home) if home else settings
