"""A user's own actions: one Python file each family, with `ACTIONS`, as the shipped ones are.

The files are code and run with the product's rights: they belong to who runs it. A file that others may write is
refused.
"""

from __future__ import annotations

import importlib.util
import stat
from collections.abc import Mapping
from pathlib import Path

from vedette.act.actions import SIGNATURES as OWN
from vedette.act.connectors import ALL
from vedette.act.connectors.connector import Action
from vedette.core.errors import DefinitionError, Problems, VedetteError


def load_actions(folder: Path) -> dict[str, Action]:
    """The shipped actions and those in the files of a folder, by name.

    Raises:
        Problems: `action.file.writable`, `action.file.invalid`, `action.name.taken`, `action.undo.unknown`, all of
            them at once.
    """
    problems: list[VedetteError] = []
    found = dict(ALL)
    for path in sorted(folder.glob("*.py")) if folder.is_dir() else ():
        try:
            fresh = {action.signature.name: action for action in _read(path)}
        except DefinitionError as error:
            problems.append(error)
            continue
        for name in sorted(fresh.keys() & {*found, *OWN}):
            text = f"there is an action `{name}` already"
            problems.append(DefinitionError("action.name.taken", text, at=str(path)))
        found = {**fresh, **found}
    problems += _dangling(found)
    if problems:
        raise Problems(problems)
    return found


def _dangling(found: Mapping[str, Action]) -> list[VedetteError]:
    known = {**OWN, **found}
    return [
        DefinitionError("action.undo.unknown", f"`{name}` is undone by `{action.signature.undo}`, which is not there")
        for name, action in found.items()
        if action.signature.undo and action.signature.undo not in known
    ]


def _read(path: Path) -> tuple[Action, ...]:
    if stat.S_IMODE(path.stat().st_mode) & 0o022:
        hint = f"chmod go-w {path.name}"
        raise DefinitionError("action.file.writable", "others may write this code", at=str(path), hint=hint)
    spec = importlib.util.spec_from_file_location(f"vedette_action_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DefinitionError("action.file.invalid", "no Python file", at=str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, TypeError, ValueError, AttributeError) as error:
        text = f"the file cannot be imported: {type(error).__name__}"
        raise DefinitionError("action.file.invalid", text, at=str(path)) from error
    actions = getattr(module, "ACTIONS", None)
    if not isinstance(actions, tuple) or not all(isinstance(each, Action) for each in actions):
        hint = "ACTIONS = (Action(Signature(...), perform, preview),)"
        raise DefinitionError("action.file.invalid", "the file has no tuple `ACTIONS`", at=str(path), hint=hint)
    return actions
