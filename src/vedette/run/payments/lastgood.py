"""The last good copy of what decides: a registry or rule store that was damaged stops no payment.

Each time a worker has loaded a model and rules it keeps a copy of the files. A worker that is started again by its
supervisor and finds them damaged goes on with the copy, and says so; a person who starts a server is told what is
wrong.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from vedette.core.errors import VedetteError
from vedette.judge.decisions.parts import Policy, Reasoning
from vedette.run.payments.scoring import Scoring, load_scoring

FOLDER = "lastgood"


def load_or_last(
    home: Path,
    files: Mapping[str, Path | None],
    policy: Policy,
    *,
    again: bool,
    reasoning: Reasoning = Reasoning.ALWAYS,
    apart: bool = False,
) -> tuple[Scoring, VedetteError | None]:
    """What decides, and what was wrong with it when the copy was taken instead.

    Args:
        home: Folder of the data; copies are in `lastgood/`.
        files: `model`, `rules`, `lists` and `policies`; None where there is none.
        policy: Answers when a part stalls.
        again: Whether the copy may be taken.
        reasoning: For which decisions the model's reasons are recorded.
        apart: Whether the model gets a process of its own.

    Raises:
        VedetteError: What is wrong, when there is no copy or it may not be taken.
    """
    folder = home / FOLDER

    def load(paths: Mapping[str, Path | None]) -> Scoring:
        model, rules, lists = paths["model"], paths["rules"], paths["lists"]
        own = paths["policies"]
        return load_scoring(model, rules, lists, policy, policies=own, reasoning=reasoning, apart=apart)

    try:
        scoring = load(files)
    except VedetteError as error:
        copies = {name: folder / name if path else None for name, path in files.items()}
        if not again or any(copy is not None and not copy.exists() for copy in copies.values()):
            raise
        return load(copies), error
    for name, path in files.items():
        if path is not None:
            _copy(path, folder / name)
    return scoring, None


def _copy(path: Path, copy: Path) -> None:
    """Whole or not at all."""
    part = copy.with_name(f".{copy.name}.part")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(path, part)
        shutil.rmtree(copy, ignore_errors=True)
    else:
        shutil.copyfile(path, part)
    part.rename(copy)
